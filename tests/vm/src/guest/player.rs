//! The player: in the tested image it is everything around the box, and does what the host asks for.

mod bus;
mod programs;
mod shelf;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::mount::MountFlags;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use turnstile::gpiosim::{CONFIGFS, GpioSim, Wiring};
use turnstile::{Line as Input, Output};
use vm::player::{Command, Line, PORT, Request, Shown};
use vm::shop;

use crate::gadget::Scanner;
use crate::{lines, say};

use self::bus::Uplink;
use self::shelf::Shelf;

/// Longest unlock pulse there may be (engine::gate::UNLOCK_MAX), and what the emulator may be late.
const PULSE_MAX: Duration = Duration::from_secs(3);
/// How long a passage sensor sees somebody.
const PASSING: Duration = Duration::from_millis(150);

/// Writes lines for the host, from any thread.
#[derive(Clone)]
struct Port(Arc<Mutex<File>>);

impl Port {
    fn tell(&self, line: &Line) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a host there is nobody to tell.
        let _ = file.write_all(&text);
    }

    fn answer(&self, id: u64, answer: Result<Value>) {
        self.tell(&match answer {
            Ok(value) => Line::Done { id, value },
            Err(error) => Line::Failed { id, why: format!("{error:#}") },
        });
    }
}

/// The devices; each may be missing, and then what needs it says why.
struct Player {
    strip: Result<GpioSim>,
    scanner: Result<Scanner>,
    shelf: Result<Shelf>,
    uplink: Uplink,
    members: u64,
    last: Option<String>,
}

/// Runs until it is killed.
pub fn run() -> Result<()> {
    let file =
        File::options().read(true).write(true).open(PORT).with_context(|| format!("cannot open {PORT}"))?;
    let mut settings = tcgetattr(&file).context("cannot read the port's settings")?;
    settings.make_raw();
    tcsetattr(&file, OptionalActions::Now, &settings).context("cannot set the port")?;
    let port = Port(Arc::new(Mutex::new(file.try_clone().context("cannot share the port")?)));
    // A player that died left its devices; they go with it, or the next one cannot make its own.
    let _ = fs::write(Path::new(CONFIGFS).join(shop::STRIP).join("live"), "0");
    for folder in ["bank0/line0", "bank0", ""] {
        let _ = fs::remove_dir(Path::new(CONFIGFS).join(shop::STRIP).join(folder));
    }
    let (asks, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(file).lines() {
            let Ok(line) = line else { return };
            if asks.send(line).is_err() {
                return;
            }
        }
    });
    let mut player = Player {
        strip: GpioSim::create(shop::STRIP, Wiring::default()).context("cannot make the terminal strip"),
        scanner: Scanner::new("lane"),
        shelf: Shelf::new(),
        uplink: Uplink::start(port.clone())?,
        members: 0,
        last: None,
    };
    port.tell(&player.up());
    while let Ok(line) = asked.recv() {
        // What is no request is noise of a line that was cut.
        let Ok(Request { id, command }) = serde_json::from_str(line.trim()) else { continue };
        say(&format!("player: {command:?}"));
        if matches!(command, Command::Run { .. } | Command::Hunt { .. }) {
            // Shoppers come also while a program runs.
            let port = port.clone();
            std::thread::spawn(move || port.answer(id, beside(command)));
            continue;
        }
        port.answer(id, player.answer(command));
    }
    bail!("the port has closed")
}

impl Player {
    fn up(&self) -> Line {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let fault = |error: Option<&anyhow::Error>| error.map(|error| format!("{error:#}"));
        let faults = [
            fault(self.strip.as_ref().err()),
            fault(self.scanner.as_ref().err()),
            fault(self.shelf.as_ref().err()),
        ];
        let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Line::Up {
            seconds: uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            version: field(
                &fs::read_to_string("/etc/os-release").unwrap_or_default(),
                '\n',
                "IMAGE_VERSION=",
            ),
            slot: slot(&command_line),
            faults: faults.into_iter().flatten().collect(),
        }
    }

    fn answer(&mut self, command: Command) -> Result<Value> {
        Ok(match command {
            Command::Hello => serde_json::to_value(self.up())?,
            Command::Show { again, wait } => serde_json::to_value(self.show(again, wait)?)?,
            Command::Pass { entry } => self.pass(entry)?,
            Command::Lines => {
                let active = lines::active(self.strip()?)?;
                json!(active.into_iter().map(Output::name).collect::<Vec<_>>())
            }
            Command::Pull { line, active } => {
                let line = Input::ALL.into_iter().find(|known| known.name() == line);
                let line = line.context("there is no such line")?;
                self.strip()?.pull(GpioSim::input_offset(line), active)?;
                Value::Null
            }
            Command::Plate { address, channel, tenths } => {
                present(&self.shelf)?.load(address, channel, tenths);
                Value::Null
            }
            Command::Run { .. } | Command::Hunt { .. } => beside(command)?,
            Command::Read { path } => json!(programs::read(&path)?),
            Command::Write { path, text } => {
                if let Some(folder) = Path::new(&path).parent() {
                    fs::create_dir_all(folder)
                        .with_context(|| format!("cannot make {}", folder.display()))?;
                }
                let mut file = File::create(&path).with_context(|| format!("cannot create {path}"))?;
                file.write_all(text.as_bytes()).with_context(|| format!("cannot write {path}"))?;
                file.sync_all().with_context(|| format!("cannot sync {path}"))?;
                Value::Null
            }
            Command::Mount { device, kind, at } => {
                fs::create_dir_all(&at).with_context(|| format!("cannot make {at}"))?;
                rustix::mount::mount(&device, &at, &kind, MountFlags::RDONLY, None)
                    .with_context(|| format!("cannot mount {device} at {at}"))?;
                Value::Null
            }
            Command::Sql { file, statements } => {
                let database =
                    rusqlite::Connection::open(&file).with_context(|| format!("cannot open {file}"))?;
                database.execute_batch(&statements).with_context(|| format!("cannot change {file}"))?;
                Value::Null
            }
            Command::Fill { folder, keep } => json!(programs::fill(&folder, keep)?),
            Command::Receipts => serde_json::to_value(self.uplink.receipts())?,
            Command::View => {
                self.uplink.retained(&format!("{}/{}", engine::message::topic::GATE_VIEW, shop::LANE))
            }
            Command::Retained { topic } => self.uplink.retained(&topic),
            Command::Kill { comm } => json!(programs::kill_all(&comm)?),
        })
    }

    fn strip(&self) -> Result<&GpioSim> {
        present(&self.strip)
    }

    fn show(&mut self, again: bool, wait: Duration) -> Result<Shown> {
        let code = match self.last.clone().filter(|_| again) {
            Some(code) => code,
            None => {
                self.members += 1;
                // Another boot must not meet its own codes in the gate's memory.
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                shop::code(now.as_secs() << 24 | self.members)
            }
        };
        self.last = Some(code.clone());
        let scanner = match &mut self.scanner {
            Ok(scanner) => scanner,
            Err(error) => bail!("no scanner: {error:#}"),
        };
        if scanner.show(code.as_bytes()).is_err() {
            // A gate that is not there reads nothing; the shopper stands there all the same.
            std::thread::sleep(Duration::from_millis(500));
            return Ok(Shown { opened_ms: None, pulse_ms: None });
        }
        let shown = Instant::now();
        let strip = present(&self.strip)?;
        let Some(high) = lines::seen_now_and_then(strip, Output::UnlockA, true, wait)? else {
            return Ok(Shown { opened_ms: None, pulse_ms: None });
        };
        let low = lines::seen_now_and_then(strip, Output::UnlockA, false, PULSE_MAX)?;
        let low = low.with_context(|| format!("the unlock line stays active for {PULSE_MAX:?}"))?;
        let ms = |time: Duration| Some(time.as_secs_f64() * 1e3);
        Ok(Shown { opened_ms: ms(high - shown), pulse_ms: ms(low - high) })
    }

    fn pass(&self, entry: bool) -> Result<Value> {
        let line = GpioSim::input_offset(if entry { Input::PassageA } else { Input::PassageB });
        let strip = self.strip()?;
        strip.pull(line, true).context("cannot switch the passage line")?;
        std::thread::sleep(PASSING);
        strip.pull(line, false).context("cannot switch the passage line")?;
        Ok(Value::Null)
    }
}

/// What takes its time and needs none of the devices.
fn beside(command: Command) -> Result<Value> {
    match command {
        Command::Run { argv, limit, kill_on, kill_after } => {
            Ok(serde_json::to_value(programs::run(&argv, limit, kill_on.as_deref(), kill_after)?)?)
        }
        Command::Hunt { comm, spare, after, limit } => Ok(json!(programs::hunt(&comm, spare, after, limit)?)),
        other => bail!("{other:?} needs the devices"),
    }
}

/// Takes every processor for ever: with a real-time policy nothing else runs, and a watchdog must bite.
pub fn hang() -> Result<()> {
    // The kernel leaves a twentieth to others otherwise.
    fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1").context("cannot take all of the time")?;
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 1..count {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    loop {
        std::hint::spin_loop();
    }
}

fn present<T>(device: &Result<T>) -> Result<&T> {
    device.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
}

/// The slot that runs: from the command line, or as the caretaker says; empty when neither knows.
fn slot(command_line: &str) -> String {
    let named = field(command_line, ' ', "stile.slot=");
    if !named.is_empty() {
        return named;
    }
    let argv = ["/usr/bin/caretaker", "slot"].map(str::to_owned);
    let ran = programs::run(&argv, Duration::from_secs(30), None, None);
    ran.ok().filter(|ran| ran.status == Some(0)).map_or_else(String::new, |ran| ran.output.trim().to_owned())
}

/// The value of the first field that begins with `key`.
fn field(text: &str, between: char, key: &str) -> String {
    let found = text.split(between).find_map(|part| part.trim().strip_prefix(key));
    found.unwrap_or_default().trim_matches('"').to_owned()
}
