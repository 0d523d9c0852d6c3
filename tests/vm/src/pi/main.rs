//! A turnstile on an emulated Raspberry Pi 3: `rppal` writes the chip's registers, and what the chip's pins are is
//! read from outside of the machine, by QEMU's monitor.
//!
//! What it cannot show: inputs (the emulated pins cannot be pulled), interrupts, a Raspberry Pi 4 or 5, and the
//! firmware's part of booting.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use vm::initramfs::Initramfs;
use vm::monitor::{Monitor, Running};

/// A turnstile's registers on an emulated Raspberry Pi 3.
#[derive(Parser)]
struct Arguments {
    /// Where the arm64 programs are: `raspberry_pi` (example of turnstile) and `gate-failsafe`.
    #[arg(long)]
    programs: PathBuf,
    /// The kernel, unpacked.
    #[arg(long)]
    kernel: PathBuf,
    /// The device tree of a Raspberry Pi 3 B.
    #[arg(long)]
    device_tree: PathBuf,
    /// Where the C library for arm64 is.
    #[arg(long, default_value = "/usr/aarch64-linux-gnu/lib")]
    libraries: PathBuf,
    /// Where the console's log and the machine's files go.
    #[arg(long, default_value = "out/vm-pi")]
    out: PathBuf,
}

/// Registers of BCM2837's GPIO (Broadcom, BCM2835 ARM Peripherals, 6.1), where the processor sees them.
const FUNCTION_SELECT: u64 = 0x3f20_0000;
const LEVELS: u64 = 0x3f20_0034;
/// Function select of an output.
const OUTPUT: u32 = 0b001;

/// The outputs: name, pin, whether its active level is low.
const OUTPUTS: [(&str, u32, bool); 6] = [
    ("unlock_a", 17, false),
    ("unlock_b", 18, false),
    ("stop", 27, false),
    ("beacon_red", 22, true),
    ("beacon_green", 23, false),
    ("wide", 24, false),
];
/// From power to the first line, and between two: software emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(300);
const PROGRAM: &str = "raspberry_pi";

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("vm-pi: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let out = &arguments.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let initramfs = out.join("initramfs.cpio");
    pack(arguments, &initramfs)?;
    let socket = std::path::absolute(out.join("monitor"))?;
    let _ = std::fs::remove_file(&socket);
    let began = Instant::now();
    let mut machine = Machine::start(arguments, &initramfs, &socket)?;
    let mut checked = 0;
    loop {
        let line = machine.line()?;
        // The line may begin with what the port made of being switched on.
        let Some((_, told)) = line.split_once("stile-pi: ") else { continue };
        ensure!(!told.starts_with("failed"), "{told}");
        let (what, names) = told.rsplit_once(':').context("a line without outputs")?;
        let active: Vec<&str> = names.split_whitespace().collect();
        // Before anything is taken, the pins are what the chip makes them.
        if !what.starts_with("up on") {
            let wrong = machine.wrong(&active)?;
            ensure!(wrong.is_empty(), "{what} {active:?}: {}", wrong.join(", "));
            checked += 1;
        }
        say(&format!("   {what}{}{}", if active.is_empty() { "" } else { ", active: " }, active.join(", ")));
        if what == "done" {
            break;
        }
        machine.answer()?;
    }
    ensure!(checked >= OUTPUTS.len() + 6, "only {checked} states were looked at");
    say(&format!(
        "{checked} states of the pins were what they must be, {:.0} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The machine's root file system: two programs, the libraries that they need, a manifest.
fn pack(arguments: &Arguments, to: &Path) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut archive = Initramfs::new(BufWriter::new(file));
    let programs = &arguments.programs;
    archive.copy("init", true, &programs.join("examples").join(PROGRAM))?;
    archive.copy("bin/gate-failsafe", true, &programs.join("gate-failsafe"))?;
    for library in ["ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1"] {
        archive.copy(&format!("lib/{library}"), true, &arguments.libraries.join(library))?;
    }
    let outputs: String = OUTPUTS
        .iter()
        .map(|(name, pin, low)| format!("{name} = {{ pin = {pin}, active_low = {low} }}\n"))
        .collect();
    let inputs: String = [("passage_a", 5), ("passage_b", 6), ("fire_alarm", 13)]
        .map(|(name, pin)| format!("{name} = {{ pin = {pin}, debounce_us = 5000 }}\n"))
        .concat();
    let manifest = format!(
        "[[lanes]]\nid = \"entry-1\"\n[lanes.turnstile]\nkind = \"rpi\"\n\
         [lanes.turnstile.outputs]\n{outputs}[lanes.turnstile.inputs]\n{inputs}"
    );
    archive.file("manifest.toml", false, manifest.as_bytes())?;
    archive.folder("dev")?;
    archive.finish()?;
    Ok(())
}

struct Machine {
    qemu: Running,
    lines: mpsc::Receiver<String>,
    monitor: Monitor,
}

impl Machine {
    fn start(arguments: &Arguments, initramfs: &Path, socket: &Path) -> Result<Self> {
        let mut qemu = Command::new("qemu-system-aarch64")
            .args(["-machine", "raspi3b", "-accel", "tcg,thread=single", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none"])
            .arg("-kernel")
            .arg(&arguments.kernel)
            .arg("-dtb")
            .arg(&arguments.device_tree)
            .arg("-initrd")
            .arg(initramfs)
            // A driver of the kernel holds the registers, too; a Raspberry Pi's own kernel has a device for them.
            .args(["-append", "console=ttyS1,115200 iomem=relaxed panic=-1 loglevel=4"])
            .args(["-serial", "null", "-serial", "stdio", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-aarch64")?;
        let output = qemu.stdout.take().context("QEMU has no output")?;
        let mut log =
            File::create(arguments.out.join("console.log")).context("cannot write the console's log")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let _ = writeln!(log, "{line}");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut qemu = Running(qemu);
        Ok(Self { monitor: Monitor::connect(&mut qemu, socket)?, qemu, lines })
    }

    fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("nothing came out of the machine: see console.log")
    }

    fn answer(&mut self) -> Result<()> {
        let input = self.qemu.0.stdin.as_mut().context("QEMU has no input")?;
        input.write_all(b"\n").and_then(|()| input.flush()).context("the machine does not listen")
    }

    /// What is not as it must be with these outputs active and no other.
    fn wrong(&mut self, active: &[&str]) -> Result<Vec<String>> {
        let levels = self.monitor.word(LEVELS)?;
        let mut wrong = Vec::new();
        for (name, pin, low) in OUTPUTS {
            let function =
                self.monitor.word(FUNCTION_SELECT + u64::from(pin / 10) * 4)? >> (pin % 10 * 3) & 0b111;
            let high = levels >> pin & 1 == 1;
            let is = high != low;
            // After its process has gone a pin may be an input again, and then nothing drives it.
            if function == OUTPUT && is != active.contains(&name) {
                wrong.push(format!("{name} (pin {pin}) is {}", if high { "high" } else { "low" }));
            }
            if function != OUTPUT && active.contains(&name) {
                wrong.push(format!("{name} (pin {pin}) is no output"));
            }
        }
        Ok(wrong)
    }
}

fn say(text: &str) {
    // Nobody is left to tell when standard output is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
}
