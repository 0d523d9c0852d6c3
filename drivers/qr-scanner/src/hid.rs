//! HID POS scanners (usage page 0x8C): through hidraw where the kernel's driver holds the interface, through
//! usbfs where it does not or is told to let go.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::beeper::Beeper;
use crate::codec::report::{Decoder, Fixed, Layout, Output};
use crate::hidraw::Hidraw;
use crate::select::Select;
use crate::sysfs::{self, Sysfs};
use crate::usb::Usb;
use crate::{Error, ErrorKind, QrScanner, Scan, Signal};

/// How the scanner is found and read. The defaults fit the one HID POS scanner of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which device it is; empty: the only HID POS scanner there is.
    pub select: Select,
    /// Takes the interface from the kernel's driver and reads it through usbfs; `select` must not name a path.
    pub detach: bool,
    /// Longest pause between two reports of one code, ms.
    pub gap_ms: u32,
    /// Pulls the scanner's trigger at opening and after each code, for one that is set to read on command.
    pub trigger: bool,
    /// Where the fields of the report lie, if the scanner's own descriptor does not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Fixed>,
    /// Output report for "accepted", its id first (0 for none); else what the descriptor offers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub good: Vec<u8>,
    /// Output report for "refused", likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<u8>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            select: Select::default(),
            detach: false,
            gap_ms: 250,
            trigger: false,
            layout: None,
            good: Vec::new(),
            bad: Vec::new(),
        }
    }
}

/// An open HID POS scanner.
#[derive(Debug)]
pub struct Device {
    settings: Settings,
    pipe: Pipe,
    beeper: Beeper,
    /// None until the descriptor of a device on usbfs is read.
    decoder: Option<Decoder>,
}

#[derive(Debug)]
enum Pipe {
    Hidraw(Hidraw),
    Usb(Usb),
}

/// Opens the scanner. To be called in a tokio runtime; the kernel takes 50 ms for the first opening of a hidraw
/// node, so a caller with something else to do calls it on the blocking pool.
///
/// # Errors
/// `NotFound`, `Ambiguous`, `Busy`; `Unsupported` for a device whose descriptor is no scanner's; `Misconfigured`
/// for settings that contradict themselves; `Io` for the rest, a missing permission above all.
pub fn open(settings: &Settings) -> Result<Device, Error> {
    if settings.detach && settings.select.path.is_some() {
        return Err(Error::new(ErrorKind::Misconfigured, "open", None));
    }
    if settings.detach {
        return Device::usb(settings);
    }
    match choose(&Sysfs::new(), settings) {
        Ok(path) => Device::hidraw(settings, &path),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // No driver holds it, or it is not there; the error of usbfs says no more than the first.
            Device::usb(settings).map_err(|other| if other.kind() == ErrorKind::Io { error } else { other })
        }
        Err(error) => Err(error),
    }
}

fn choose(sysfs: &Sysfs, settings: &Settings) -> Result<PathBuf, Error> {
    sysfs.choose("hidraw", &settings.select, |node| {
        // Of a scanner with a keyboard, a POS and a vendor interface only one is meant. With a layout given the
        // descriptor does not matter, but then the selection has to.
        let device = node.directory.ancestors().nth(2);
        let descriptor = device.and_then(|device| sysfs::bytes(device, "report_descriptor"));
        settings.layout.is_some() || descriptor.is_some_and(|descriptor| Layout::parse(&descriptor).is_ok())
    })
}

impl Device {
    fn hidraw(settings: &Settings, path: &Path) -> Result<Self, Error> {
        let raw = Hidraw::open(path)?;
        let decoder = decoder(settings, &raw.descriptor()?)?;
        let beeper = Beeper::new(raw.writer()?);
        let device =
            Self { settings: settings.clone(), pipe: Pipe::Hidraw(raw), beeper, decoder: Some(decoder) };
        device.pull_trigger()?;
        Ok(device)
    }

    fn usb(settings: &Settings) -> Result<Self, Error> {
        let usb = Usb::open(&settings.select, settings.detach)?;
        let beeper = Beeper::new(usb.writer()?);
        Ok(Self { settings: settings.clone(), pipe: Pipe::Usb(usb), beeper, decoder: None })
    }

    fn pull_trigger(&self) -> Result<(), Error> {
        let trigger = self.decoder.as_ref().and_then(|decoder| decoder.layout().trigger());
        match trigger.filter(|_| self.settings.trigger) {
            Some(output) => self.beeper.write(output),
            None => Ok(()),
        }
    }
}

impl QrScanner for Device {
    async fn next_scan(&mut self) -> Result<Scan, Error> {
        if let (None, Pipe::Usb(usb)) = (&self.decoder, &self.pipe) {
            let descriptor = usb.descriptor().await?;
            self.decoder = Some(decoder(&self.settings, &descriptor)?);
            self.pull_trigger()?;
        }
        loop {
            let code = match &mut self.pipe {
                Pipe::Hidraw(raw) => take(&mut self.decoder, raw.read().await?)?,
                Pipe::Usb(usb) => take(&mut self.decoder, &usb.read().await?)?,
            };
            if let Some(scan) = code {
                self.pull_trigger()?;
                return Ok(scan);
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        let given = match signal {
            Signal::Good => &self.settings.good,
            Signal::Bad => &self.settings.bad,
        };
        if !given.is_empty() {
            return self.beeper.write(&Output { feature: false, bytes: given.clone() });
        }
        match self.decoder.as_ref().and_then(|decoder| decoder.layout().signal(signal)) {
            Some(output) => self.beeper.write(output),
            None => Ok(()),
        }
    }
}

fn take(decoder: &mut Option<Decoder>, report: &[u8]) -> Result<Option<Scan>, Error> {
    let reported = Instant::now();
    let Some(decoder) = decoder else { return Ok(None) };
    let code = decoder.push(report, reported)?;
    Ok(code.map(|code| Scan { text: code.text, aim: code.aim, reported }))
}

fn decoder(settings: &Settings, descriptor: &[u8]) -> Result<Decoder, Error> {
    let layout = match &settings.layout {
        Some(fixed) => Layout::fixed(fixed, descriptor)?,
        None => Layout::parse(descriptor)?,
    };
    Ok(Decoder::new(layout).with_gap(Duration::from_millis(settings.gap_ms.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::fuzz::newland_fixed;
    use crate::codec::report::DESCRIPTOR;
    use crate::sysfs::tests::Tree;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn only_the_pos_interface_of_a_scanner_is_meant() {
        let tree = Tree::new();
        let device = tree.usb("1-1", "0c2e", "0b6a", "");
        let keyboard = [0x05, 0x01, 0x09, 0x06, 0xa1, 0x01, 0xc0];
        for (name, interface, descriptor) in
            [("hidraw0", "1-1:1.0", &keyboard[..]), ("hidraw1", "1-1:1.1", DESCRIPTOR)]
        {
            let folder = format!("{device}/{interface}/0003:0C2E:0B6A.0001");
            tree.write(&format!("{folder}/report_descriptor"), descriptor);
            tree.node("hidraw", name, &format!("{folder}/hidraw/{name}"));
        }
        let name = |settings: &Settings| {
            let path = choose(&tree.sysfs(), settings).map_err(|error| error.kind())?;
            Ok::<_, ErrorKind>(path.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(name(&Settings::default()), Ok("hidraw1".into()));
        assert_eq!(name(&settings("select = { vendor = 0x0c2e }")), Ok("hidraw1".into()));
        assert_eq!(name(&settings("select = { vendor = 0x1eab }")), Err(ErrorKind::NotFound));
        let given = Settings { layout: Some(newland_fixed()), ..Settings::default() };
        assert_eq!(name(&given), Ok("hidraw0".into()), "with a layout given no descriptor is asked");
    }

    #[test]
    fn settings_read_and_write() {
        let text = "detach = true\ngood = [0xfd, 1, 7]\n[select]\nusb_port = '1-1.2'\n[layout]\nreport_id = 2\n\
                    data_at = 2\ndata_bytes = 56\ncount_at = 1\ncontinued_at = 63\n";
        let read = settings(text);
        assert_eq!(read.layout, Some(newland_fixed()));
        assert_eq!((read.detach, read.gap_ms, read.good.as_slice()), (true, 250, &[0xfd, 1, 7][..]));
        assert_eq!(settings(&toml::to_string(&read).unwrap()), read);
        assert_eq!(settings(""), Settings::default());
        assert!(toml::from_str::<Settings>("gap = 1").is_err());
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let kind = |text: &str| open(&settings(text)).unwrap_err().kind();
        assert_eq!(kind("select = { path = '/dev/hidraw250' }"), ErrorKind::NotFound);
        assert_eq!(kind("detach = true\nselect = { path = '/dev/hidraw0' }"), ErrorKind::Misconfigured);
        assert_eq!(kind("select = { path = '/dev/null' }"), ErrorKind::Unsupported);
    }
}
