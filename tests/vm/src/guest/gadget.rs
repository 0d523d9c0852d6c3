//! A USB scanner made of the kernel's own gadget parts (`f_hid` on `dummy_hcd`): the host side of the same kernel
//! sees a device on a bus, with descriptors, enumeration, polling and unplugging.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::wait;

/// USB ids of no real product: the vendor id that the Linux Foundation lends to gadgets, and a free number.
pub const VENDOR: u16 = 0x1d6b;
/// See [`VENDOR`].
pub const PRODUCT: u16 = 0x8c01;

const GADGETS: &str = "/sys/kernel/config/usb_gadget";
/// A report that is not fetched by then is never fetched.
const FETCHED_MAX: Timespec = Timespec { tv_sec: 4, tv_nsec: 0 };
/// Data bytes of one report.
const CHUNK: usize = 56;
/// Report id, count, AIM identifier, data, flags.
const REPORT: usize = 62;
/// USB HID POS usage page (0x8C): the layout that Honeywell's scanners have, by usages: count 01:3B, AIM identifier
/// 8C:FB to FD, decoded data 8C:FE, decoded data continued 8C:FF (HID Point of Sale Usage Tables 1.02).
const DESCRIPTOR: [u8; 62] = [
    0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x85, 0x02, 0x09, 0x12, 0xa1, 0x02, 0x15, 0x00, 0x26, 0xff, 0x00,
    0x75, 0x08, 0x95, 0x01, 0x05, 0x01, 0x09, 0x3b, 0x81, 0x02, 0x95, 0x03, 0x05, 0x8c, 0x09, 0xfb, 0x09,
    0xfc, 0x09, 0xfd, 0x81, 0x02, 0x95, 0x38, 0x09, 0xfe, 0x82, 0x02, 0x01, 0x25, 0x01, 0x75, 0x01, 0x95,
    0x01, 0x09, 0xff, 0x81, 0x02, 0x75, 0x07, 0x81, 0x03, 0xc0, 0xc0,
];

/// A scanner on a cable. Dropping it takes it away.
pub struct Scanner {
    folder: PathBuf,
    controller: String,
    port: Option<File>,
}

impl Scanner {
    /// Makes it and plugs it in.
    pub fn new(serial: &str) -> Result<Self> {
        let folder = Path::new(GADGETS).join(format!("scanner-{serial}"));
        let controller = free_controller()?;
        let made = Self { folder, controller, port: None };
        made.make(serial).with_context(|| format!("cannot make the gadget {}", made.folder.display()))?;
        let mut made = made;
        made.plug()?;
        Ok(made)
    }

    fn make(&self, serial: &str) -> Result<()> {
        let at = |name: &str| self.folder.join(name);
        for folder in ["", "strings/0x409", "configs/c.1", "functions/hid.pos"] {
            fs::create_dir_all(at(folder))?;
        }
        fs::write(at("idVendor"), format!("{VENDOR:#06x}"))?;
        fs::write(at("idProduct"), format!("{PRODUCT:#06x}"))?;
        fs::write(at("strings/0x409/serialnumber"), serial)?;
        fs::write(at("strings/0x409/product"), "scanner of the tests")?;
        fs::write(at("functions/hid.pos/report_length"), REPORT.to_string())?;
        fs::write(at("functions/hid.pos/report_desc"), DESCRIPTOR)?;
        symlink(at("functions/hid.pos"), at("configs/c.1/hid.pos"))?;
        Ok(())
    }

    /// Plugs it in and waits until the host side has made a hidraw device of it.
    pub fn plug(&mut self) -> Result<()> {
        let before = hidraws()?.len();
        fs::write(self.folder.join("UDC"), &self.controller).context("cannot plug the scanner in")?;
        let port = self.port_path()?;
        self.port = Some(wait("the gadget's own device", Duration::from_secs(5), || {
            let mut options = File::options();
            options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
            Ok(options.open(&port).ok())
        })?);
        wait("a hidraw device", Duration::from_secs(10), || Ok((hidraws()?.len() > before).then_some(())))
    }

    /// Pulls the cable.
    pub fn unplug(&mut self) -> Result<()> {
        let before = hidraws()?.len();
        self.port = None;
        fs::write(self.folder.join("UDC"), "\n").context("cannot pull the scanner")?;
        wait("the hidraw device to go", Duration::from_secs(5), || {
            Ok((hidraws()?.len() < before).then_some(()))
        })
    }

    /// Sends a code as the reports that a scanner makes of it. Returns when the last one is with the controller.
    pub fn show(&mut self, text: &[u8]) -> Result<()> {
        let reports = reports(text);
        reports.iter().try_for_each(|report| self.send(report))
    }

    /// Sends one report. Waits only while the one before is not yet fetched, and not for ever: reports are fetched
    /// while somebody has the hidraw device open.
    pub fn send(&mut self, report: &[u8]) -> Result<()> {
        let port = self.port.as_mut().context("the scanner is not plugged in")?;
        loop {
            match port.write(report) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(&*port, PollFlags::OUT)];
                    let count =
                        poll(&mut ready, Some(&FETCHED_MAX)).context("cannot wait for the scanner")?;
                    ensure!(count > 0, "nobody reads the scanner");
                }
                Err(error) => return Err(error).context("cannot report"),
            }
        }
    }

    fn port_path(&self) -> Result<PathBuf> {
        // "MAJOR:MINOR"; the first gadget function has minor 0 and is /dev/hidg0.
        let numbers = fs::read_to_string(self.folder.join("functions/hid.pos/dev"))?;
        let minor = numbers.trim().rsplit(':').next().unwrap_or_default().to_owned();
        Ok(PathBuf::from(format!("/dev/hidg{minor}")))
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.port = None;
        // What fails here fails because it is gone already.
        let _ = fs::write(self.folder.join("UDC"), "\n");
        let _ = fs::remove_file(self.folder.join("configs/c.1/hid.pos"));
        for folder in ["configs/c.1", "functions/hid.pos", "strings/0x409", ""] {
            let _ = fs::remove_dir(self.folder.join(folder));
        }
    }
}

/// The reports of a code.
pub fn reports(text: &[u8]) -> Vec<Vec<u8>> {
    let chunks: Vec<&[u8]> = text.chunks(CHUNK).collect();
    let last = chunks.len().saturating_sub(1);
    let of = |(index, chunk): (usize, &&[u8])| {
        let mut report = vec![0; REPORT];
        report[..5].copy_from_slice(&[2, chunk.len() as u8, b']', b'Q', b'1']);
        report[5..5 + chunk.len()].copy_from_slice(chunk);
        report[REPORT - 1] = u8::from(index < last);
        report
    };
    chunks.iter().enumerate().map(of).collect()
}

/// The hidraw devices that there are.
pub fn hidraws() -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir("/sys/class/hidraw") {
        // There is no such class before the first device.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context("cannot list hidraw devices")?,
    };
    Ok(entries.flatten().map(|entry| Path::new("/dev").join(entry.file_name())).collect())
}

fn free_controller() -> Result<String> {
    let used: Vec<String> = fs::read_dir(GADGETS)
        .with_context(|| format!("cannot list {GADGETS}"))?
        .flatten()
        .filter_map(|gadget| fs::read_to_string(gadget.path().join("UDC")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    let mut all: Vec<String> = fs::read_dir("/sys/class/udc")
        .context("cannot list USB device controllers")?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    all.sort();
    ensure!(!all.is_empty(), "there is no USB device controller");
    all.into_iter().find(|name| !used.contains(name)).context("every USB device controller is taken")
}
