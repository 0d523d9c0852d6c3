//! A scanner on a serial line: the other end of a pseudo-terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use qr_scanner::codec::serial::{Terminator, encode};
use qr_scanner::codec::text::Framing;
use qr_scanner::conformance::Bench;
use qr_scanner::select::Select;
use qr_scanner::{Error, Signal, serial};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::retry;

const GOOD: u8 = 0x07;
const BAD: u8 = 0x15;

pub struct Pty {
    line: Option<File>,
    link: PathBuf,
    settings: serial::Settings,
    _folder: tempfile::TempDir,
}

/// A scanner that tells the symbology, between a prefix and a suffix.
pub fn settings(select: Select) -> serial::Settings {
    serial::Settings {
        select,
        terminator: Terminator::CrLf,
        prefix: vec![0x02],
        suffix: vec![0x03],
        aim: true,
        good: vec![GOOD],
        bad: vec![BAD],
        ..serial::Settings::default()
    }
}

/// What that scanner sends for a code.
pub fn line_of(text: &[u8], settings: &serial::Settings) -> Vec<u8> {
    let framing = Framing {
        prefix: settings.prefix.clone(),
        suffix: settings.suffix.clone(),
        aim: settings.aim,
        ..Framing::default()
    };
    encode(text, *b"]Q1", settings.terminator, &framing)
}

pub async fn send(line: &mut Option<File>, bytes: &[u8]) {
    let Some(line) = line else { return };
    let mut sent = 0;
    while sent < bytes.len() {
        sent += retry(|| line.write(&bytes[sent..])).await.expect("the scanner's end takes bytes");
    }
}

/// What came to the scanner's end since the last call.
pub fn heard(line: &mut Option<File>) -> Vec<Signal> {
    let mut bytes = [0; 64];
    let got = line.as_mut().map_or(0, |line| line.read(&mut bytes).unwrap_or(0));
    let signal = |byte: &u8| match *byte {
        GOOD => Signal::Good,
        BAD => Signal::Bad,
        other => panic!("the scanner was told {other:#04x}"),
    };
    bytes[..got].iter().map(signal).collect()
}

impl Pty {
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let link = folder.path().join("scanner");
        let settings = settings(Select { path: Some(link.clone()), ..Select::default() });
        let mut pty = Self { line: None, link, settings, _folder: folder };
        pty.connect()?;
        Ok(pty)
    }

    fn connect(&mut self) -> io::Result<()> {
        let line: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&line)?;
        unlockpt(&line)?;
        let name = ptsname(&line, Vec::new())?;
        rustix::fs::fcntl_setfl(&line, rustix::fs::OFlags::NONBLOCK)?;
        symlink(name.to_str().expect("a name"), &self.link)?;
        self.line = Some(line.into());
        Ok(())
    }
}

impl Bench for Pty {
    type Scanner = serial::Device;

    fn open(&mut self) -> Result<Self::Scanner, Error> {
        serial::open(&self.settings)
    }

    async fn show(&mut self, text: &[u8]) {
        send(&mut self.line, &line_of(text, &self.settings)).await;
    }

    async fn show_half(&mut self, text: &[u8]) {
        let line = line_of(text, &self.settings);
        send(&mut self.line, &line[..line.len() / 2]).await;
    }

    async fn unplug(&mut self) {
        std::fs::remove_file(&self.link).expect("the link goes");
        self.line = None;
    }

    async fn plug(&mut self) {
        self.connect().expect("another pseudo-terminal");
    }

    async fn signals(&mut self) -> Option<Vec<Signal>> {
        Some(heard(&mut self.line))
    }

    fn tells_aim(&self) -> bool {
        true
    }
}
