//! Scanners on a USB cable: gadgets of the kernel (`f_hid`, `f_acm`) on its dummy controller, whose other end is
//! a host controller of the same machine (Documentation/usb/gadget_configfs.rst).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qr_scanner::codec::report::{DESCRIPTOR, Layout};
use qr_scanner::conformance::Bench;
use qr_scanner::select::Select;
use qr_scanner::{Error, Signal, hid, serial};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::{pty, retry, uhid};

/// The vendor id that the Linux Foundation lends to gadgets.
const VENDOR: u16 = 0x1d6b;
const GADGETS: &str = "/sys/kernel/config/usb_gadget";
/// Time for the kernel to make or remove a device node.
const NODE: Duration = Duration::from_secs(10);

/// Taken by each test for its whole time: they share the controller.
pub static CONTROLLER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Gadget {
    folder: PathBuf,
    function: &'static str,
    controller: String,
}

impl Gadget {
    fn new(name: &str, product: u16, function: &'static str, settings: &[(&str, &[u8])]) -> io::Result<Self> {
        let mut controllers = fs::read_dir("/sys/class/udc")?.flatten();
        let controller = controllers.next().ok_or(io::ErrorKind::NotFound)?.file_name();
        let folder = Path::new(GADGETS).join(format!("stile-{name}"));
        let controller = controller.to_string_lossy().into_owned();
        let gadget = Self { folder, function, controller };
        for folder in ["", "strings/0x409", "configs/c.1"] {
            fs::create_dir_all(gadget.at(folder))?;
        }
        let functions = gadget.at("functions").join(function);
        fs::create_dir_all(&functions)?;
        fs::write(gadget.at("idVendor"), format!("{VENDOR:#06x}"))?;
        fs::write(gadget.at("idProduct"), format!("{product:#06x}"))?;
        fs::write(gadget.at("strings/0x409/serialnumber"), name)?;
        for (key, value) in settings {
            fs::write(functions.join(key), value)?;
        }
        symlink(&functions, gadget.at("configs/c.1").join(function))?;
        Ok(gadget)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn plug(&self) -> io::Result<()> {
        fs::write(self.at("UDC"), &self.controller)
    }

    fn unplug(&self) -> io::Result<()> {
        fs::write(self.at("UDC"), "\n")
    }

    /// The gadget's own end, by the last number of an attribute of its function.
    fn port(&self, attribute: &str, prefix: &str) -> io::Result<PathBuf> {
        let numbers = fs::read_to_string(self.at("functions").join(self.function).join(attribute))?;
        let number = numbers.trim().rsplit(':').next().unwrap_or_default();
        Ok(PathBuf::from(format!("/dev/{prefix}{number}")))
    }
}

impl Drop for Gadget {
    fn drop(&mut self) {
        // What fails here is gone already.
        let _ = self.unplug();
        let _ = fs::remove_file(self.at("configs/c.1").join(self.function));
        for folder in ["configs/c.1", "strings/0x409"] {
            let _ = fs::remove_dir(self.at(folder));
        }
        let _ = fs::remove_dir(self.at("functions").join(self.function));
        let _ = fs::remove_dir(&self.folder);
    }
}

fn open_port(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits() as i32;
    let began = Instant::now();
    loop {
        match File::options().read(true).write(true).custom_flags(flags).open(path) {
            Err(_) if began.elapsed() < NODE => std::thread::sleep(Duration::from_millis(2)),
            other => break other,
        }
    }
}

fn select(name: &str, product: u16) -> Select {
    Select { vendor: Some(VENDOR), product: Some(product), serial: Some(name.into()), ..Select::default() }
}

/// A HID POS scanner.
pub struct HidPos {
    port: Option<File>,
    gadget: Gadget,
    layout: Layout,
    settings: hid::Settings,
}

impl HidPos {
    pub fn new(name: &str, product: u16, detach: bool) -> io::Result<Self> {
        let functions: [(&str, &[u8]); 2] = [("report_length", b"64"), ("report_desc", DESCRIPTOR)];
        let gadget = Gadget::new(name, product, "hid.pos", &functions)?;
        let layout = Layout::parse(DESCRIPTOR).expect("the common descriptor is a scanner's");
        let settings = hid::Settings { select: select(name, product), detach, ..Default::default() };
        let mut bench = Self { port: None, gadget, layout, settings };
        bench.connect()?;
        Ok(bench)
    }

    fn connect(&mut self) -> io::Result<()> {
        self.gadget.plug()?;
        self.port = Some(open_port(&self.gadget.port("dev", "hidg")?)?);
        Ok(())
    }

    async fn send(&mut self, reports: &[Vec<u8>]) {
        let Some(port) = &mut self.port else { return };
        for report in reports {
            retry(|| port.write(report)).await.expect("the gadget takes a report");
        }
    }
}

impl Bench for HidPos {
    type Scanner = hid::Device;

    fn open(&mut self) -> Result<Self::Scanner, Error> {
        hid::open(&self.settings)
    }

    async fn show(&mut self, text: &[u8]) {
        self.send(&self.layout.encode(text, *b"]Q1")).await;
    }

    async fn show_half(&mut self, text: &[u8]) {
        let reports = self.layout.encode(text, *b"]Q1");
        self.send(&reports[..reports.len() / 2]).await;
    }

    async fn unplug(&mut self) {
        self.port = None;
        self.gadget.unplug().expect("the gadget is pulled");
    }

    async fn plug(&mut self) {
        self.connect().expect("the gadget is plugged in");
    }

    async fn signals(&mut self) -> Option<Vec<Signal>> {
        let mut all = Vec::new();
        let mut report = [0; 64];
        let port = self.port.as_mut()?;
        while let Ok(length @ 1..) = port.read(&mut report) {
            all.push(uhid::heard(&self.layout, &report[..length]));
        }
        Some(all)
    }

    fn tells_aim(&self) -> bool {
        true
    }
}

/// A scanner that poses as a modem.
pub struct Acm {
    line: Option<File>,
    gadget: Gadget,
    settings: serial::Settings,
}

impl Acm {
    pub fn new(product: u16) -> io::Result<Self> {
        let gadget = Gadget::new("acm", product, "acm.line", &[])?;
        let settings = pty::settings(select("acm", product));
        let mut bench = Self { line: None, gadget, settings };
        bench.connect()?;
        Ok(bench)
    }

    fn connect(&mut self) -> io::Result<()> {
        self.gadget.plug()?;
        let line = open_port(&self.gadget.port("port_num", "ttyGS")?)?;
        let mut raw = tcgetattr(&line)?;
        raw.make_raw();
        tcsetattr(&line, OptionalActions::Now, &raw)?;
        self.line = Some(line);
        Ok(())
    }
}

impl Bench for Acm {
    type Scanner = serial::Device;

    fn open(&mut self) -> Result<Self::Scanner, Error> {
        serial::open(&self.settings)
    }

    async fn show(&mut self, text: &[u8]) {
        pty::send(&mut self.line, &pty::line_of(text, &self.settings)).await;
    }

    async fn show_half(&mut self, text: &[u8]) {
        let line = pty::line_of(text, &self.settings);
        pty::send(&mut self.line, &line[..line.len() / 2]).await;
        // Bytes that are still on the scanner's side would be sent after the cable is back.
        let drained = self.line.as_ref().and_then(|line| line.try_clone().ok());
        let drained = tokio::task::spawn_blocking(move || drained.map(rustix::termios::tcdrain));
        let _ = drained.await;
    }

    async fn unplug(&mut self) {
        self.line = None;
        self.gadget.unplug().expect("the gadget is pulled");
    }

    async fn plug(&mut self) {
        self.connect().expect("the gadget is plugged in");
    }

    async fn signals(&mut self) -> Option<Vec<Signal>> {
        Some(pty::heard(&mut self.line))
    }

    fn tells_aim(&self) -> bool {
        true
    }
}
