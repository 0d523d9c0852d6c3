//! Scanners on a serial line: RS-232, or USB as a CDC-ACM modem. ModemManager must be told to leave them alone
//! (`ENV{ID_MM_DEVICE_IGNORE}="1"`): it writes to whatever looks like a modem.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{self, ControlModes, InputModes, OptionalActions, QueueSelector};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::codec::TEXT_MAX;
use crate::codec::serial::{Decoder, Terminator};
use crate::codec::text::Framing;
use crate::select::Select;
use crate::sysfs::Sysfs;
use crate::{Error, ErrorKind, QrScanner, Scan, Signal, epoll};

/// How the scanner is found and what it is configured to send. The defaults fit a scanner on USB that ends its
/// codes with a carriage return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which line it is; must not be empty. `usb_port` and ids are those of its USB device or adapter.
    pub select: Select,
    /// Baud; means nothing to a scanner on USB.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// Data bits, 7 or 8.
    pub data_bits: u8,
    /// RTS and CTS stop the sender.
    pub rtscts: bool,
    /// What ends a code.
    pub terminator: Terminator,
    /// Bytes before each code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<u8>,
    /// Bytes after each code, before the terminator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub suffix: Vec<u8>,
    /// An AIM identifier (`]Q1`) stands between prefix and text.
    pub aim: bool,
    /// Longest text, bytes.
    pub text_max: usize,
    /// Longest pause inside a code, ms.
    pub gap_ms: u32,
    /// Bytes to send for "accepted"; empty: nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub good: Vec<u8>,
    /// Bytes to send for "refused"; empty: nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<u8>,
}

/// Parity of a serial line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// Even; a byte with the wrong parity reads as zero.
    Even,
    /// Odd, likewise.
    Odd,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            select: Select::default(),
            baud: 115_200,
            parity: Parity::None,
            data_bits: 8,
            rtscts: false,
            terminator: Terminator::Line,
            prefix: Vec::new(),
            suffix: Vec::new(),
            aim: false,
            text_max: TEXT_MAX,
            gap_ms: 250,
            good: Vec::new(),
            bad: Vec::new(),
        }
    }
}

/// Most bytes that wait for a line which takes none; more of them say nothing any more.
const UNSENT_MAX: usize = 256;
/// Bytes asked for at once: the kernel's own buffer.
const READ_MAX: usize = 4096;

/// An open scanner on a serial line.
#[derive(Debug)]
pub struct Device {
    settings: Settings,
    fd: AsyncFd<OwnedFd>,
    decoder: Decoder,
    /// Bytes read and not decoded yet, and when they came.
    read: VecDeque<u8>,
    read_at: Instant,
    unsent: Vec<u8>,
}

/// Opens the scanner's line for this process alone. To be called in a tokio runtime.
///
/// # Errors
/// `NotFound`, `Ambiguous`, `Busy`; `Unsupported` for what is no serial line or cannot be set as told;
/// `Misconfigured` for settings without a selection or with impossible numbers; `Io` for the rest.
pub fn open(settings: &Settings) -> Result<Device, Error> {
    let impossible = settings.baud == 0 || ![7, 8].contains(&settings.data_bits) || settings.text_max == 0;
    if settings.select.is_empty() || impossible {
        return Err(Error::new(ErrorKind::Misconfigured, "open", None));
    }
    // Of the lines that a selection by ids means, those of the board itself have no USB port.
    let path = Sysfs::new().choose("tty", &settings.select, |node| {
        node.identity.usb_port.is_some() || settings.select.path.is_some()
    })?;
    let fd = open_line(&path, settings).map_err(Error::opening)?;
    let fd = epoll::register(fd).map_err(Error::opening)?;
    let framing = Framing {
        prefix: settings.prefix.clone(),
        suffix: settings.suffix.clone(),
        aim: settings.aim,
        text_max: settings.text_max.min(TEXT_MAX),
        gap_max: Duration::from_millis(settings.gap_ms.into()),
        gap_ends: false,
    };
    Ok(Device {
        settings: settings.clone(),
        fd,
        decoder: Decoder::new(settings.terminator, framing),
        read: VecDeque::new(),
        read_at: Instant::now(),
        unsent: Vec::new(),
    })
}

fn open_line(path: &Path, settings: &Settings) -> Result<OwnedFd, Errno> {
    // Without NONBLOCK the opening of an RS-232 line waits for its carrier.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let mut line = termios::tcgetattr(&fd)?;
    // TIOCEXCL keeps all but root out, the lock keeps out whoever asks for it, root too.
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    termios::ioctl_tiocexcl(&fd)?;
    line.make_raw();
    line.control_modes -= ControlModes::CSIZE | ControlModes::PARENB | ControlModes::PARODD;
    line.control_modes -= ControlModes::CSTOPB | ControlModes::CRTSCTS;
    line.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    line.control_modes |= if settings.data_bits == 7 { ControlModes::CS7 } else { ControlModes::CS8 };
    match settings.parity {
        Parity::None => {}
        Parity::Even => line.control_modes |= ControlModes::PARENB,
        Parity::Odd => line.control_modes |= ControlModes::PARENB | ControlModes::PARODD,
    }
    if settings.parity != Parity::None {
        line.input_modes |= InputModes::INPCK;
    }
    if settings.rtscts {
        line.control_modes |= ControlModes::CRTSCTS;
    }
    line.set_speed(settings.baud)?;
    termios::tcsetattr(&fd, OptionalActions::Now, &line)?;
    // What was shown to nobody opens nothing.
    termios::tcflush(&fd, QueueSelector::IFlush)?;
    Ok(fd)
}

impl Device {
    /// Decodes what was read; `None` when more is needed.
    fn decode(&mut self) -> Result<Option<Scan>, Error> {
        while let Some(byte) = self.read.pop_front() {
            if let Some(code) = self.decoder.push(byte, self.read_at)? {
                return Ok(Some(Scan { text: code.text, aim: code.aim, reported: self.read_at }));
            }
        }
        Ok(None)
    }

    /// Ends or drops what paused too long.
    fn expire(&mut self, now: Instant) -> Result<Option<Scan>, Error> {
        let last = self.read_at;
        let code = self.decoder.expire(now)?;
        Ok(code.map(|code| Scan { text: code.text, aim: code.aim, reported: last }))
    }

    /// Waits for bytes, or until the line takes what is unsent. Cancel-safe.
    async fn work(&mut self) -> Result<(), Error> {
        let lost = |error: io::Error| Error::lost("read", error);
        let is_sending = !self.unsent.is_empty();
        tokio::select! {
            biased;
            guard = self.fd.readable() => {
                let mut buffer = [0; READ_MAX];
                let mut guard = guard.map_err(lost)?;
                let got = guard.try_io(|fd| Ok(rustix::io::read(fd, &mut buffer)?));
                match got {
                    Ok(Ok(0)) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                    Ok(Ok(length)) => {
                        self.read.extend(&buffer[..length]);
                        self.read_at = Instant::now();
                    }
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return Err(lost(error)),
                    Err(_would_block) => {}
                }
            }
            guard = self.fd.writable(), if is_sending => {
                let mut guard = guard.map_err(lost)?;
                match guard.try_io(|fd| Ok(rustix::io::write(fd, &self.unsent)?)) {
                    Ok(Ok(length)) => drop(self.unsent.drain(..length)),
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return Err(lost(error)),
                    Err(_would_block) => {}
                }
            }
        }
        Ok(())
    }
}

impl QrScanner for Device {
    async fn next_scan(&mut self) -> Result<Scan, Error> {
        loop {
            if let Some(scan) = self.decode()? {
                return Ok(scan);
            }
            match self.decoder.deadline() {
                None => self.work().await?,
                // `work` keeps nothing while it waits, so a time-out loses nothing.
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), self.work()).await {
                    Ok(worked) => worked?,
                    Err(_elapsed) => {}
                },
            }
            let now = if self.read.is_empty() { Instant::now() } else { self.read_at };
            if let Some(scan) = self.expire(now)? {
                return Ok(scan);
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        let bytes = match signal {
            Signal::Good => &self.settings.good,
            Signal::Bad => &self.settings.bad,
        };
        if self.unsent.len() + bytes.len() > UNSENT_MAX {
            return Ok(());
        }
        self.unsent.extend(bytes);
        if self.unsent.is_empty() {
            return Ok(());
        }
        match rustix::io::write(&self.fd, &self.unsent) {
            Ok(length) => drop(self.unsent.drain(..length)),
            // The rest goes out while the next code is awaited.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(Error::lost("signal", error)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_and_write() {
        let text = "baud = 9600\nparity = 'even'\ndata_bits = 7\nterminator = 'crlf'\nprefix = [2]\naim = true\n\
                    good = [0x16, 0x07, 0x0d]\nselect = { path = '/dev/ttyS0' }\n";
        let read: Settings = toml::from_str(text).unwrap();
        assert_eq!((read.parity, read.terminator, read.gap_ms), (Parity::Even, Terminator::CrLf, 250));
        assert_eq!(toml::from_str::<Settings>(&toml::to_string(&read).unwrap()).unwrap(), read);
        assert!(toml::from_str::<Settings>("bauds = 1").is_err());
    }

    #[tokio::test]
    async fn what_is_no_line_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let kind = |settings: Settings| open(&settings).unwrap_err().kind();
        let at = |path: &Path| Settings {
            select: Select { path: Some(path.into()), ..Select::default() },
            ..Settings::default()
        };
        assert_eq!(kind(at(&file)), ErrorKind::Unsupported);
        assert_eq!(kind(at(Path::new("/dev/null"))), ErrorKind::Unsupported);
        assert_eq!(kind(at(&folder.path().join("none"))), ErrorKind::NotFound);
        assert_eq!(kind(Settings::default()), ErrorKind::Misconfigured);
        assert_eq!(kind(Settings { data_bits: 9, ..at(&file) }), ErrorKind::Misconfigured);
    }
}
