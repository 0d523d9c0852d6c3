//! What the emulation costs without any of our code: the floor under every latency that is measured here.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use turnstile::gpiosim::{GpioSim, Wiring};
use turnstile::{Output, Outputs, Turnstile};

use crate::figure::Figure;
use crate::gadget::{Scanner, hidraws, reports};
use crate::{lines, say};

const ROUNDS: u32 = 2_000;

/// Prints the floor.
pub fn run() -> Result<()> {
    say(&Figure::of("pipe to another process and back", ping_pong()?).line());
    say(&Figure::of("report at the gadget to its reader at hidraw", hid()?).line());
    say(&Figure::of("output driven to its level seen", gpio()?).line());
    Ok(())
}

/// Two processes that hand one byte to each other.
fn ping_pong() -> Result<Vec<Duration>> {
    let mut child = Command::new("/proc/self/exe")
        .arg("echo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the echo")?;
    let mut to = child.stdin.take().context("no pipe to the echo")?;
    let mut from = child.stdout.take().context("no pipe from the echo")?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        to.write_all(b"x")?;
        from.read_exact(&mut [0])?;
        times.push(began.elapsed());
    }
    drop(to);
    child.wait()?;
    Ok(times)
}

/// The other process of the ping-pong.
pub fn echo() -> Result<()> {
    let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
    while from.read(&mut [0])? == 1 {
        to.write_all(b"x")?;
        to.flush()?;
    }
    Ok(())
}

/// One report through the whole of the kernel's USB, read by a thread that does nothing else.
fn hid() -> Result<Vec<Duration>> {
    let before = hidraws()?;
    let mut scanner = Scanner::new("floor")?;
    let path = hidraws()?.into_iter().find(|path| !before.contains(path)).context("no hidraw device")?;
    let mut reader = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let (sender, arrived) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut report = [0; 64];
        while let Ok(length) = reader.read(&mut report) {
            if sender.send((Instant::now(), length)).is_err() {
                return;
            }
        }
    });
    let report = &reports(b"0123456789")[0];
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        scanner.send(report)?;
        let (at, length) = arrived.recv_timeout(Duration::from_secs(5)).context("a report was lost")?;
        ensure!(length == report.len(), "a report of {} bytes came as {length}", report.len());
        times.push(at - began);
    }
    Ok(times)
}

/// One level through the character device and back through the simulated chip's far side, in one thread.
fn gpio() -> Result<Vec<Duration>> {
    let strip = GpioSim::create("floor", Wiring::default()).context("cannot make the simulated chip")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let mut turnstile = turnstile::cdev::open(&strip.settings()).context("cannot open the lines")?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let active = round % 2 == 0;
        let began = Instant::now();
        turnstile.drive(Outputs { unlock_a: active, ..Outputs::INACTIVE })?;
        ensure!(lines::is_active(&strip, Output::UnlockA)? == active, "a driven line has its level at once");
        times.push(began.elapsed());
    }
    Ok(times)
}
