//! One run of the machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vm::report::{Line, Step};

use crate::say;

/// From power to the first process. Two emulated processors that share two real ones with other work took 40 s.
const BOOT_MAX: Duration = Duration::from_secs(180);
/// The guest ends a step at its limit; only a machine that hangs as a whole is this much later.
const GRACE: Duration = Duration::from_secs(60);

/// What the machine's clocks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Time {
    /// The instructions that it has run, 2 ns each; it has one processor.
    Instructions,
    /// The host's clock; it has two processors.
    Host,
}

/// What to boot.
pub struct Machine {
    /// The kernel.
    pub kernel: PathBuf,
    /// The root file system.
    pub initramfs: PathBuf,
    /// Where the first serial port (kernel, output of all programs) is logged.
    pub console: PathBuf,
    /// What its clocks follow.
    pub time: Time,
}

/// QEMU, stopped when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended by itself, which is how every good run ends.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Boots, shows what comes out, and says whether all steps went well.
    ///
    /// # Errors
    /// When QEMU does not start, or the machine goes silent or off before it is done.
    pub fn run(&self, steps: &[Step]) -> Result<bool> {
        let mut qemu = Running(self.command().spawn().context("cannot start qemu-system-x86_64")?);
        let output = qemu.0.stdout.take().context("QEMU has no output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut failed = BTreeMap::new();
        let mut ended = 0;
        let mut wait = BOOT_MAX;
        let began = Instant::now();
        loop {
            let line = match lines.recv_timeout(wait) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return self.died(&format!("nothing came out for {} s", wait.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => return self.died("it went off too early"),
            };
            match serde_json::from_str(line.trim()) {
                Ok(Line::Up { seconds, kernel }) => {
                    say(&format!("up after {seconds:.1} s of its time, Linux {kernel}"));
                    wait = GRACE;
                }
                Ok(Line::Began { step }) => {
                    say(&format!("-- {step}"));
                    let limit = steps.iter().find(|known| known.name == step).map(|step| step.limit);
                    wait = GRACE + limit.unwrap_or_default();
                }
                Ok(Line::Said { text, .. }) => say(&format!("   {text}")),
                Ok(Line::Ended { step, seconds, failure: None }) => {
                    say(&format!("   ok, {seconds:.1} s: {step}"));
                    ended += 1;
                }
                Ok(Line::Ended { step, seconds, failure: Some(why) }) => {
                    say(&format!("   FAILED after {seconds:.1} s: {step}: {why}"));
                    ended += 1;
                    failed.insert(step, why);
                }
                Ok(Line::Done) => break,
                Err(_) => say(&format!("   (not a report: {})", line.trim())),
            }
        }
        drop(qemu);
        let took = began.elapsed().as_secs_f64();
        let verdict = format!("{} of {} steps went well, {took:.0} s", ended - failed.len(), steps.len());
        if failed.is_empty() && ended == steps.len() {
            say(&verdict);
            return Ok(true);
        }
        let names: Vec<&str> = failed.keys().map(String::as_str).collect();
        say(&format!("{verdict}; failed: {}; console: {}", names.join(", "), self.console.display()));
        Ok(false)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024"])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none"])
            .args(["-rtc", "base=utc"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            // A kernel that panics reboots at once, and QEMU ends instead.
            .args(["-append", "console=ttyS0 panic=-1 loglevel=5 mitigations=off nokaslr"])
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args(["-serial", "stdio"])
            .args(match self.time {
                // Two processors that are counted take turns, milliseconds each: nothing would be on time.
                Time::Instructions => &["-smp", "1", "-icount", "shift=1,sleep=off"][..],
                Time::Host => &["-smp", "2"],
            })
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    fn died(&self, how: &str) -> Result<bool> {
        let log = std::fs::read(&self.console).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        anyhow::bail!("the machine: {how}\n{tail}\nwhole console: {}", self.console.display())
    }
}
