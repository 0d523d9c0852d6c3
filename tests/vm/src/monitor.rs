//! QEMU's machine protocol (docs/interop/qmp-spec of QEMU): what tests do to a machine from outside.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// QEMU makes its socket within this.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A connection.
pub struct Monitor {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to the socket that QEMU was told to make.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn connect(socket: &Path) -> Result<Self> {
        let began = Instant::now();
        let to = loop {
            match UnixStream::connect(socket) {
                Ok(to) => break to,
                Err(error) if began.elapsed() > STARTS_WITHIN => {
                    return Err(error).context("QEMU's monitor does not answer");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let mut monitor = Self { from: BufReader::new(to.try_clone()?), to };
        monitor.call("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command; its return value.
    ///
    /// # Errors
    /// QEMU's own words.
    pub fn call(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        writeln!(self.to, "{}", json!({ "execute": command, "arguments": arguments }))?;
        loop {
            let mut line = String::new();
            ensure!(self.from.read_line(&mut line)? > 0, "QEMU has ended");
            let mut answer: Value = serde_json::from_str(&line)?;
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
