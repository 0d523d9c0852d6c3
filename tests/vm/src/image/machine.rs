//! A virtual PC with UEFI that boots a disk image: its disk, its sticks, its wires to the outside.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vm::monitor::{Monitor, Running};
use vm::player::{Command as Ask, Line, Ran, Request};

use crate::log;

/// OVMF: the firmware, and the variables it starts with (no keys, so no secure boot).
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The one that can Secure Boot; with the same variables it waits for a key (setup mode).
const SECURE_FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// The TPM has made its socket by then.
const TPM_MAX: Duration = Duration::from_secs(10);
/// The USB stick, to QEMU.
const PLUGGED: &str = "plugged";
/// A device is gone by then.
const PULLED_MAX: Duration = Duration::from_secs(10);

/// The screen's own size, upright.
pub const SCREEN: (usize, usize) = (1080, 1920);

/// What the machine's clocks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Time {
    /// The instructions that it has run, 2 ns each: other work on the host does not show, idle time is skipped.
    Instructions,
    /// The host's clock.
    Host,
}

/// What to boot, and with what around it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where its logs, sockets and variables are.
    pub folder: PathBuf,
    /// The disk, raw.
    pub disk: PathBuf,
    /// Writes go to the disk itself; otherwise they are dropped with the machine.
    pub keep: bool,
    /// Writes are recorded here.
    pub record: Option<PathBuf>,
    /// A second disk, raw, with bundles.
    pub stick: Option<PathBuf>,
    /// More for the kernel's command line (systemd-stub takes it from SMBIOS while secure boot is off).
    pub command_line: String,
    /// The staff page is on this port of the host; 0: not at all.
    pub console_port: u16,
    /// The operator's update server is on this port of the host; 0: there is none.
    pub server_port: u16,
    /// Where a person sees it: QEMU's `-display`.
    pub display: String,
    /// Memory, MiB.
    pub memory: u32,
    /// What its clocks follow.
    pub time: Time,
    /// It has no caretaker: its files are made for it after the start.
    pub stand_in: bool,
    /// With firmware that can Secure Boot, and a TPM whose memory is in this folder.
    pub secure: Option<PathBuf>,
}

/// A picture of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Width and height.
    pub size: (usize, usize),
    /// Red, green, blue, line by line.
    pixels: Vec<[u8; 3]>,
}

impl Screen {
    /// Reads a PPM of QEMU's.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.splitn(4, u8::is_ascii_whitespace);
        let (kind, width, height) = (fields.next()?, fields.next()?, fields.next()?);
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        let size = (number(width)?, number(height)?);
        let pixels: Vec<[u8; 3]> = fields.next()?.strip_prefix(b"255\n")?.as_chunks::<3>().0.to_vec();
        (kind == b"P6" && pixels.len() == size.0 * size.1).then_some(Self { size, pixels })
    }

    /// The part that is not black, 0 to 1.
    pub fn lit(&self) -> f64 {
        let lit = self.pixels.iter().filter(|pixel| pixel.iter().any(|part| *part > 24)).count();
        lit as f64 / self.pixels.len().max(1) as f64
    }

    /// The part that another picture has otherwise, 0 to 1; all of it where the sizes differ.
    pub fn differs(&self, other: &Self) -> f64 {
        if self.size != other.size {
            return 1.0;
        }
        let other = self.pixels.iter().zip(&other.pixels).filter(|(own, other)| own != other).count();
        other as f64 / self.pixels.len().max(1) as f64
    }
}

/// What the player said at its start.
#[derive(Clone, Debug)]
pub struct Up {
    /// Seconds since the kernel started.
    pub seconds: f64,
    /// The image's version.
    pub version: String,
    /// The slot that runs.
    pub slot: String,
    /// Devices that could not be made.
    pub faults: Vec<String>,
}

/// What the player was asked and has not answered yet.
#[derive(Debug)]
pub struct Asked {
    id: u64,
    command: Ask,
}

/// A running machine; it is killed when this is dropped.
pub struct Machine {
    qemu: Running,
    // After QEMU, which it serves.
    _tpm: Option<Running>,
    monitor: Monitor,
    port: UnixStream,
    lines: Receiver<String>,
    record: Option<PathBuf>,
    asked: u64,
    answers: BTreeMap<u64, Result<Value, String>>,
    waiting: VecDeque<Up>,
    /// Receipts that the player saw, each with the entries of the recording by then.
    pub receipts: Vec<(u64, String)>,
    /// What the lane showed, newest last.
    pub notices: Vec<String>,
    /// When it was switched on.
    pub began: Instant,
    console: PathBuf,
}

impl Setup {
    /// Nothing but what is handed on, in both directions.
    fn network(&self) -> String {
        let mut network = "user,id=net,restrict=on".to_owned();
        if self.console_port != 0 {
            network += &format!(",hostfwd=tcp:127.0.0.1:{}-:8480", self.console_port);
        }
        if self.server_port != 0 {
            let address = crate::server::ADDRESS;
            network += &format!(",guestfwd=tcp:{address}:443-cmd:nc 127.0.0.1 {}", self.server_port);
        }
        network
    }

    /// The usual machine for a disk.
    pub fn new(folder: &Path, disk: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            disk: disk.to_owned(),
            keep: true,
            record: None,
            stick: None,
            command_line: "console=ttyS0".to_owned(),
            console_port: 0,
            server_port: 0,
            display: "none".to_owned(),
            memory: 1536,
            time: Time::Host,
            stand_in: false,
            secure: None,
        }
    }

    /// Switches it on.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn start(&self) -> Result<Machine> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let at = |name: &str| self.folder.join(name);
        // The firmware keeps its boot order in there, as a board does.
        if !at("variables.fd").exists() {
            std::fs::copy(VARIABLES, at("variables.fd"))
                .with_context(|| format!("cannot copy {VARIABLES}"))?;
        }
        for socket in ["monitor", "player", "tpm"] {
            let _ = std::fs::remove_file(at(socket));
        }
        let tpm = self.secure.as_deref().map(|memory| tpm(memory, &at("tpm"))).transpose()?;
        let console = at("console.log");
        let child = self.command(&console)?.spawn().context("cannot start qemu-system-x86_64")?;
        let mut qemu = Running(child);
        let connected = Monitor::connect(&mut qemu, &at("monitor"))
            .and_then(|monitor| Ok((monitor, qemu.connect(&at("player"))?)));
        let (monitor, port) = connected.with_context(|| {
            let said = std::fs::read_to_string(at("qemu.log")).unwrap_or_default();
            format!("no machine; QEMU says: {}", said.trim())
        })?;
        let (sender, lines) = mpsc::channel();
        let reader = port.try_clone().context("cannot share the player's port")?;
        std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut line = Vec::new();
            while let Ok(1..) = reader.read_until(b'\n', &mut line) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Ok(Machine {
            qemu,
            _tpm: tpm,
            monitor,
            port,
            lines,
            record: self.record.clone(),
            asked: 0,
            answers: BTreeMap::new(),
            waiting: VecDeque::new(),
            receipts: Vec::new(),
            notices: Vec::new(),
            began: Instant::now(),
            console,
        })
    }

    fn command(&self, console: &Path) -> Result<Command> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let disk = self.disk.display();
        let mut command = Command::new("qemu-system-x86_64");
        let firmware = match self.secure {
            None => {
                command.args(["-machine", "q35"]);
                FIRMWARE
            }
            Some(_) => {
                // Only the firmware's own code writes its variables.
                command
                    .args(["-machine", "q35,smm=on"])
                    .args(["-global", "driver=cfi.pflash01,property=secure,value=on"])
                    .args(["-chardev", &format!("socket,id=tpm,path={}", at("tpm"))])
                    .args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm"]);
                SECURE_FIRMWARE
            }
        };
        command
            // One processor in one thread: with more, this emulator's kernels die of code that patches itself.
            .args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1"])
            .args(match self.time {
                // 500 million instructions a second, a small board; idle time is skipped.
                Time::Instructions => &["-icount", "shift=1,sleep=off"][..],
                Time::Host => &[],
            })
            .args(["-uuid", "57494c45-0000-4000-8000-000000000001"])
            .args(["-m", &self.memory.to_string(), "-nodefaults", "-no-user-config"])
            .args(["-rtc", "base=utc", "-display", &self.display])
            .args(["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={firmware}")])
            .args(["-drive", &format!("if=pflash,format=raw,unit=1,file={}", at("variables.fd"))])
            // On a sparse file; what the guest discards stays as it is, as on a card.
            .args(["-blockdev", &format!("driver=file,node-name=file,filename={disk},discard=ignore")]);
        let mut top = "file";
        if !self.keep {
            let overlay = self.folder.join("overlay.qcow2");
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .arg(std::fs::canonicalize(&self.disk).context("the disk is gone")?)
                .arg(&overlay)
                .status()
                .context("cannot start qemu-img")?;
            ensure!(made.success(), "qemu-img could not make {}", overlay.display());
            command
                .args(["-blockdev", &format!("driver=file,node-name=over,filename={}", overlay.display())]);
            command.args(["-blockdev", "driver=qcow2,node-name=top,file=over"]);
            top = "top";
        }
        if let Some(record) = &self.record {
            // A head of zeros is no recording: QEMU starts a new one.
            std::fs::write(record, []).with_context(|| format!("cannot make {}", record.display()))?;
            command.args(["-blockdev", &format!("driver=file,node-name=log,filename={}", record.display())]);
            let filter =
                format!("driver=blklogwrites,node-name=recorded,file={top},log=log,log-sector-size=512");
            command.args(["-blockdev", &filter]);
            top = "recorded";
        }
        command
            .args(["-device", &format!("virtio-blk-pci,drive={top},bootindex=0,serial=stile")])
            .args(["-device", &format!("virtio-vga,xres={},yres={}", SCREEN.0, SCREEN.1)])
            .args(["-device", "virtio-tablet-pci"])
            .args(["-device", "virtio-rng-pci", "-device", "qemu-xhci"])
            // A board's watchdog: it resets the machine.
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .args(["-device", "virtio-net-pci,netdev=net"])
            .args(["-netdev", &self.network()])
            .args(["-chardev", &format!("file,id=console,path={},append=on", console.display())])
            .args(["-serial", "chardev:console"])
            .args(["-chardev", &format!("socket,id=player,path={},server=on,wait=off", at("player"))])
            .args(["-serial", "chardev:player"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", at("monitor"))])
            .args(["-smbios", "type=1,manufacturer=Stile,product=Virtual,serial=VM0001"]);
        if !self.command_line.is_empty() {
            let text = self.command_line.replace(',', ",,");
            command.args(["-smbios", &format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={text}")]);
        }
        if let Some(stick) = &self.stick {
            command.args([
                "-drive",
                &format!("if=none,id=stick,format=raw,readonly=on,file={}", stick.display()),
            ]);
            // Not a USB stick: 0.5 MB/s came through the emulated controller.
            command.args(["-device", "virtio-blk-pci,drive=stick,serial=bundles"]);
        }
        let errors = std::fs::File::create(self.folder.join("qemu.log")).context("cannot make qemu.log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        Ok(command)
    }
}

/// A TPM in software; it ends with the machine.
fn tpm(memory: &Path, socket: &Path) -> Result<Running> {
    std::fs::create_dir_all(memory).with_context(|| format!("cannot make {}", memory.display()))?;
    let child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--terminate", "--tpmstate", &format!("dir={}", memory.display())])
        .args(["--ctrl", &format!("type=unixio,path={}", socket.display())])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start swtpm")?;
    let mut running = Running(child);
    let began = Instant::now();
    while !socket.exists() {
        if let Some(status) = running.0.try_wait().context("cannot wait for swtpm")? {
            bail!("swtpm ended with {status}");
        }
        ensure!(began.elapsed() < TPM_MAX, "swtpm makes no {}", socket.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(running)
}

impl Machine {
    /// Waits until the player says that it is up.
    ///
    /// # Errors
    /// After the limit, with the end of the console.
    pub fn up(&mut self, limit: Duration) -> Result<Up> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(up) = self.waiting.pop_front() {
                // Steps compare slots; one that nobody knows would equal any other that nobody knows.
                ensure!(matches!(up.slot.as_str(), "a" | "b"), "which slot runs is not known: {:?}", up.slot);
                return Ok(up);
            }
            if self.line(deadline)?.is_none() {
                bail!("not up after {} s; console ends with\n{}", limit.as_secs(), self.console_end());
            }
        }
    }

    /// Asks the player, and waits for its answer.
    ///
    /// # Errors
    /// What the player says, or that it says nothing.
    pub fn ask(&mut self, command: Ask, limit: Duration) -> Result<Value> {
        let asked = self.send(command)?;
        self.answer(asked, limit)
    }

    /// Asks the player for something that takes its time.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn send(&mut self, command: Ask) -> Result<Asked> {
        self.asked += 1;
        let id = self.asked;
        let mut text = serde_json::to_vec(&Request { id, command: command.clone() })?;
        text.push(b'\n');
        self.port.write_all(&text).context("the player's port is closed")?;
        Ok(Asked { id, command })
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// What the player says, or that it says nothing.
    pub fn answer(&mut self, asked: Asked, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        let Asked { id, command } = asked;
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return answer.map_err(|why| anyhow::anyhow!("{command:?}: {why}"));
            }
            if self.line(deadline)?.is_none() {
                bail!("no answer to {command:?} in {} s", limit.as_secs());
            }
        }
    }

    /// Whether the answer is there.
    pub fn has_answered(&self, asked: &Asked) -> bool {
        self.answers.contains_key(&asked.id)
    }

    /// Whether the player has started anew since somebody waited for that.
    pub fn has_started(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Runs a program in there.
    ///
    /// # Errors
    /// When it cannot be started or is not done in time.
    pub fn run(&mut self, argv: &[&str], limit: Duration) -> Result<Ran> {
        let argv = argv.iter().map(|part| (*part).to_owned()).collect();
        let ask = Ask::Run { argv, limit, kill_on: None, kill_after: None };
        let value = self.ask(ask, limit + Duration::from_secs(60))?;
        serde_json::from_value(value).context("the player's answer")
    }

    /// Takes in what the player says until then; for events that nobody asked for.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while self.line(deadline)?.is_some() {}
        Ok(())
    }

    /// The next line, taken note of; none at the deadline.
    fn line(&mut self, deadline: Instant) -> Result<Option<Line>> {
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            let text = match self.lines.recv_timeout(wait) {
                Ok(text) => text,
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => bail!("the machine is off"),
            };
            // A line that a reset cut in two is none.
            let Ok(line) = serde_json::from_str::<Line>(text.trim()) else { continue };
            match &line {
                Line::Up { seconds, version, slot, faults, .. } => self.waiting.push_back(Up {
                    seconds: *seconds,
                    version: version.clone(),
                    slot: slot.clone(),
                    faults: faults.clone(),
                }),
                Line::Receipt { receipt } => {
                    let entries = self.record.as_deref().map_or(0, log::entries_so_far);
                    self.receipts.push((entries, receipt.id.0.clone()));
                }
                Line::View { view } => self.notices.push(format!("{:?}", view.notice)),
                Line::Done { id, value } => drop(self.answers.insert(*id, Ok(value.clone()))),
                Line::Failed { id, why } => drop(self.answers.insert(*id, Err(why.clone()))),
            }
            return Ok(Some(line));
        }
    }

    /// Plugs a USB stick in.
    ///
    /// # Errors
    /// What QEMU says.
    pub fn plug(&mut self, stick: &Path) -> Result<()> {
        let stick = std::fs::canonicalize(stick).context("there is no such stick")?;
        let block = json!({ "driver": "raw", "node-name": PLUGGED,
                            "file": { "driver": "file", "filename": stick } });
        self.monitor.call("blockdev-add", &block)?;
        let device = json!({ "driver": "usb-storage", "id": PLUGGED, "drive": PLUGGED });
        self.monitor.call("device_add", &device)?;
        Ok(())
    }

    /// Pulls it out; its file is whole then.
    ///
    /// # Errors
    /// What QEMU says.
    pub fn pull(&mut self) -> Result<()> {
        self.monitor.call("device_del", &json!({ "id": PLUGGED }))?;
        let began = Instant::now();
        while let Err(error) = self.monitor.call("blockdev-del", &json!({ "node-name": PLUGGED })) {
            ensure!(began.elapsed() < PULLED_MAX, "the stick stays: {error:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Takes a picture of the screen.
    ///
    /// # Errors
    /// When QEMU cannot.
    pub fn picture(&mut self, to: &Path) -> Result<()> {
        let _ = std::fs::remove_file(to);
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let to = std::fs::canonicalize(folder)
            .context("no folder for the picture")?
            .join(to.file_name().context("the picture has no name")?);
        self.monitor.call("screendump", &json!({ "filename": to, "format": "png" }))?;
        Ok(())
    }

    /// What the screen shows.
    ///
    /// # Errors
    /// When QEMU cannot say.
    pub fn screen(&mut self) -> Result<Screen> {
        let file = tempfile::NamedTempFile::new().context("no room for the picture")?;
        self.monitor.call("screendump", &json!({ "filename": file.path(), "format": "ppm" }))?;
        Screen::parse(&std::fs::read(file.path()).context("no picture")?).context("no picture that is known")
    }

    /// The power is gone: nothing is written any more, nothing is said.
    ///
    /// # Errors
    /// When QEMU cannot be killed.
    pub fn cut(mut self) -> Result<Vec<(u64, String)>> {
        self.qemu.0.kill().context("cannot kill QEMU")?;
        self.qemu.0.wait().context("cannot wait for QEMU")?;
        Ok(std::mem::take(&mut self.receipts))
    }

    /// Waits until it goes off by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn off(&mut self, limit: Duration) -> Result<()> {
        let began = Instant::now();
        while self.qemu.0.try_wait().context("cannot wait for QEMU")?.is_none() {
            ensure!(began.elapsed() < limit, "not off after {} s\n{}", limit.as_secs(), self.console_end());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The end of what the kernel and the services said.
    pub fn console_end(&self) -> String {
        let log = std::fs::read(&self.console).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Entries of the recording so far.
    pub fn recorded(&self) -> u64 {
        self.record.as_deref().map_or(0, log::entries_so_far)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures() {
        let black = Screen::parse(b"P6\n2 1\n255\n\0\0\0\x09\x0a\x20").unwrap();
        assert_eq!(black.size, (2, 1));
        assert_eq!(black.lit(), 0.5);
        let other = Screen::parse(b"P6\n2 1\n255\n\0\0\0\0\0\0").unwrap();
        assert_eq!((other.lit(), black.differs(&other), black.differs(&black)), (0.0, 0.5, 0.0));
        for bytes in [&b""[..], b"P6\n2 1\n255\n\0", b"P6\n2 1\n65535\n\0\0\0\0\0\0", b"P5\n0 0\n255\n"] {
            assert_eq!(Screen::parse(bytes), None);
        }
    }
}
