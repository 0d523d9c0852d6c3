//! Scanners on a USB cable: gadgets of the kernel (`f_hid`, `f_acm`) on its dummy controller, whose other end is
//! a host controller of the same machine (Documentation/usb/gadget_configfs.rst).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nusb::transfer::{ControlIn, ControlOut, ControlType, Direction, Recipient};
use nusb::{Interface, MaybeFuture};
use qr_scanner::codec::report::{DESCRIPTOR, Layout};
use qr_scanner::conformance::Bench;
use qr_scanner::select::Select;
use qr_scanner::{Error, ErrorKind, QrScanner, Signal, hid, serial};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::{open, pty, retry, uhid};

/// How a HID POS scanner is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The kernel's driver holds it.
    Kernel,
    /// It is taken from the kernel's driver.
    Detach,
    /// The kernel's driver is told to leave it, before it is opened.
    Undriven,
}

/// The vendor id that the Linux Foundation lends to gadgets.
const VENDOR: u16 = 0x1d6b;
const PRODUCT_HID: u16 = 0x8c04;
const PRODUCT_ACM: u16 = 0x8c06;
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
        let controller = free_controller()?;
        let folder = Path::new(GADGETS).join(format!("stile-{name}"));
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

fn free_controller() -> io::Result<String> {
    let gadgets = fs::read_dir(GADGETS)?.flatten();
    let taken: Vec<String> =
        gadgets.filter_map(|gadget| fs::read_to_string(gadget.path().join("UDC")).ok()).collect();
    let all = fs::read_dir("/sys/class/udc")?.flatten();
    let mut names = all.filter_map(|controller| controller.file_name().into_string().ok());
    names.find(|name| taken.iter().all(|taken| taken.trim() != name)).ok_or(io::ErrorKind::NotFound.into())
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

/// Where the host has it: `1-1`.
fn host_port(name: &str) -> Option<String> {
    let devices = fs::read_dir("/sys/bus/usb/devices").ok()?.flatten();
    let mut ports = devices.filter(|device| {
        fs::read_to_string(device.path().join("serial")).is_ok_and(|serial| serial.trim() == name)
    });
    ports.next()?.file_name().into_string().ok()
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match look() {
            Some(found) => return Ok(found),
            None if began.elapsed() > NODE => return Err(io::Error::new(io::ErrorKind::TimedOut, what)),
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// A HID POS scanner.
pub struct HidPos {
    port: Option<File>,
    gadget: Gadget,
    name: &'static str,
    way: Way,
    layout: Layout,
    settings: hid::Settings,
}

impl HidPos {
    /// With an endpoint for output reports, or with the control pipe only.
    pub fn new(name: &'static str, way: Way, output: bool) -> io::Result<Self> {
        let no_output: &[u8] = if output { b"0" } else { b"1" };
        let functions: [(&str, &[u8]); 3] =
            [("report_length", b"64"), ("report_desc", DESCRIPTOR), ("no_out_endpoint", no_output)];
        let gadget = Gadget::new(name, PRODUCT_HID, "hid.pos", &functions)?;
        let layout = Layout::parse(DESCRIPTOR).expect("the common descriptor is a scanner's");
        let select = select(name, PRODUCT_HID);
        let settings = hid::Settings { select, detach: way == Way::Detach, ..Default::default() };
        let mut bench = Self { port: None, gadget, name, way, layout, settings };
        bench.connect()?;
        Ok(bench)
    }

    fn connect(&mut self) -> io::Result<()> {
        self.gadget.plug()?;
        self.port = Some(open_port(&self.gadget.port("dev", "hidg")?)?);
        if self.way == Way::Undriven {
            let port = wait("the host to see the scanner", || host_port(self.name))?;
            let interface = format!("{port}:1.0");
            let driver = Path::new("/sys/bus/usb/drivers/usbhid");
            wait("the host's driver", || driver.join(&interface).exists().then_some(()))?;
            fs::write(driver.join("unbind"), &interface)?;
        }
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
    pub fn new() -> io::Result<Self> {
        let gadget = Gadget::new("acm", PRODUCT_ACM, "acm.line", &[])?;
        let settings = pty::settings(select("acm", PRODUCT_ACM));
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

/// A scanner whose endpoint is halted when it is opened: the host clears it and reads on.
pub async fn a_stall_is_cleared(bench: &mut HidPos) {
    const SET_FEATURE: u8 = 3;
    const ENDPOINT_HALT: u16 = 0;
    for round in 0..3 {
        let (interface, input) = claim(bench.name);
        let halt = ControlOut {
            control_type: ControlType::Standard,
            recipient: Recipient::Endpoint,
            request: SET_FEATURE,
            value: ENDPOINT_HALT,
            index: input,
            data: &[],
        };
        interface.control_out(halt, NODE).wait().expect("the endpoint is halted");
        drop(interface);
        assert!(is_halted(bench.name), "what the scanner is opened with");
        let mut scanner = open(bench).await;
        let text = format!("after stall {round}");
        let ((), scan) = tokio::join!(bench.show(text.as_bytes()), scanner.next_scan());
        assert_eq!(scan.expect("a code").text, text.as_bytes());
        drop(scanner);
        assert!(!is_halted(bench.name), "the device was told to go on");
    }
}

/// Takes the interface from whoever has it, with the address of its input endpoint.
fn claim(name: &str) -> (Interface, u16) {
    let port = host_port(name).expect("it is plugged in");
    let mut devices = nusb::list_devices().wait().expect("devices");
    let found = devices.find(|device| device.sysfs_path().ends_with(&port)).expect("the scanner");
    let device = found.open().wait().expect("usbfs");
    // Who had it before gives it back when the last of the transfers that it cancelled has ended.
    let interface = wait("its interface", || device.detach_and_claim_interface(0).wait().ok());
    let interface = interface.expect("its interface");
    let descriptor = interface.descriptor().expect("a descriptor");
    let input = descriptor.endpoints().find(|endpoint| endpoint.direction() == Direction::In);
    let address = input.expect("an endpoint").address().into();
    (interface, address)
}

fn is_halted(name: &str) -> bool {
    const GET_STATUS: u8 = 0;
    let (interface, index) = claim(name);
    let status = ControlIn {
        control_type: ControlType::Standard,
        recipient: Recipient::Endpoint,
        request: GET_STATUS,
        value: 0,
        index,
        length: 2,
    };
    interface.control_in(status, NODE).wait().expect("a status")[0] & 1 != 0
}

/// Two scanners with the same ids: by their ports each code comes to its own lane; by their ids alone neither is
/// opened.
pub async fn like_scanners_keep_their_lanes(left: &mut HidPos, right: &mut HidPos) {
    for bench in [&mut *left, &mut *right] {
        let port = wait("the host to see the scanner", || host_port(bench.name)).expect("a port");
        bench.settings.select = Select { usb_port: Some(port), ..Select::default() };
    }
    let (mut left_scanner, mut right_scanner) = (open(left).await, open(right).await);
    for _ in 0..3 {
        let ((), (), left_scan, right_scan) = tokio::join!(
            left.show(b"left"),
            right.show(b"right"),
            left_scanner.next_scan(),
            right_scanner.next_scan()
        );
        assert_eq!(left_scan.expect("a code").text, b"left");
        assert_eq!(right_scan.expect("a code").text, b"right");
    }
    let by_ids = Select { vendor: Some(VENDOR), product: Some(PRODUCT_HID), ..Select::default() };
    for (select, detach) in [(by_ids.clone(), false), (by_ids, true), (Select::default(), false)] {
        let error = hid::open(&hid::Settings { select, detach, ..Default::default() }).expect_err("neither");
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
    }
    // The one that is gone does not make the other one its lane's.
    right.unplug().await;
    drop(right_scanner);
    let gone = async {
        while right.open().err().map(|error| error.kind()) != Some(ErrorKind::NotFound) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(NODE, gone).await.expect("the right lane has no scanner");
    let ((), scan) = tokio::join!(left.show(b"still left"), left_scanner.next_scan());
    assert_eq!(scan.expect("a code").text, b"still left");
}
