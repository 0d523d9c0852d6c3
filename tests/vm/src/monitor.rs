//! QEMU's machine protocol (docs/interop/qmp-spec of QEMU): what tests do to a machine from outside.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// QEMU makes its sockets within this, also on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(30);
/// It answers a question within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// A process, ended when this is dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Connects to a socket that QEMU, which this is, was told to make, as soon as it has.
    ///
    /// # Errors
    /// When QEMU has ended, or makes none in 30 s.
    pub fn connect(&mut self, socket: &Path) -> Result<UnixStream> {
        let began = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                return Ok(stream);
            }
            if let Some(status) = self.0.try_wait().context("cannot wait for QEMU")? {
                bail!("QEMU ended with {status}");
            }
            ensure!(began.elapsed() < STARTS_WITHIN, "QEMU makes no {}", socket.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A connection.
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to the socket that QEMU was told to make.
    ///
    /// # Errors
    /// When QEMU has ended or does not answer.
    pub fn connect(qemu: &mut Running, socket: &Path) -> Result<Self> {
        let stream = qemu.connect(socket)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN)).context("cannot set the monitor's time limit")?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.call("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command; its return value.
    ///
    /// # Errors
    /// QEMU's own words.
    pub fn call(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let asked = json!({ "execute": command, "arguments": arguments });
        writeln!(self.0.get_mut(), "{asked}").context("QEMU's monitor is closed")?;
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).context("QEMU's monitor is silent")?;
            ensure!(read > 0, "QEMU's monitor is closed");
            let mut answer: Value = serde_json::from_str(&line).context("QEMU's answer")?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            // Greetings and events come in between.
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Four bytes at a physical address.
    ///
    /// # Errors
    /// When there is nothing.
    pub fn word(&mut self, at: u64) -> Result<u32> {
        let said =
            self.call("human-monitor-command", &json!({ "command-line": format!("xp /1wx {at:#x}") }))?;
        let text = said.as_str().unwrap_or_default();
        let word = text.rsplit_once("0x").and_then(|(_, word)| u32::from_str_radix(word.trim(), 16).ok());
        word.with_context(|| format!("QEMU shows {text:?} at {at:#x}"))
    }
}
