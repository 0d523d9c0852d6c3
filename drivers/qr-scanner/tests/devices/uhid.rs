//! A HID POS scanner without a USB bus: a device made by uhid (`linux/uhid.h`), which hidraw serves.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use qr_scanner::codec::report::{DESCRIPTOR, Layout};
use qr_scanner::conformance::Bench;
use qr_scanner::select::Select;
use qr_scanner::{Error, Signal, hid};

const VENDOR: u16 = 0x1d6b;
const PRODUCT: u16 = 0x8c02;

const DESTROY: u32 = 1;
const OUTPUT: u32 = 6;
const CREATE2: u32 = 11;
const INPUT2: u32 = 12;
const BUS_BLUETOOTH: u16 = 5;
const DATA_MAX: usize = 4096;
/// `struct uhid_event`: a type and the largest of its unions, `uhid_create2_req`.
const EVENT: usize = 4 + 128 + 64 + 64 + 2 + 2 + 4 * 4 + DATA_MAX;

pub struct Uhid {
    port: File,
    layout: Layout,
    settings: hid::Settings,
}

impl Uhid {
    pub fn new() -> io::Result<Self> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let port = File::options().read(true).write(true).custom_flags(nonblocking).open("/dev/uhid")?;
        let select = Select {
            vendor: Some(VENDOR),
            product: Some(PRODUCT),
            serial: Some("U1".into()),
            ..Select::default()
        };
        let layout = Layout::parse(DESCRIPTOR).expect("the common descriptor is a scanner's");
        let mut bench = Self { port, layout, settings: hid::Settings { select, ..Default::default() } };
        bench.create()?;
        Ok(bench)
    }

    fn create(&mut self) -> io::Result<()> {
        let mut event = vec![0; EVENT];
        event[..4].copy_from_slice(&CREATE2.to_ne_bytes());
        event[4..24].copy_from_slice(b"scanner of the tests");
        event[4 + 128 + 64..][..2].copy_from_slice(b"U1");
        let at = 4 + 128 + 64 + 64;
        event[at..][..2].copy_from_slice(&(DESCRIPTOR.len() as u16).to_ne_bytes());
        event[at + 2..][..2].copy_from_slice(&BUS_BLUETOOTH.to_ne_bytes());
        event[at + 4..][..4].copy_from_slice(&u32::from(VENDOR).to_ne_bytes());
        event[at + 8..][..4].copy_from_slice(&u32::from(PRODUCT).to_ne_bytes());
        event[at + 20..][..DESCRIPTOR.len()].copy_from_slice(DESCRIPTOR);
        self.port.write_all(&event)
    }

    fn send(&mut self, reports: &[Vec<u8>]) {
        for report in reports {
            let mut event = INPUT2.to_ne_bytes().to_vec();
            event.extend((report.len() as u16).to_ne_bytes());
            event.extend(report);
            // While it is unplugged there is nobody to take it.
            let _ = self.port.write(&event);
        }
    }
}

impl Bench for Uhid {
    type Scanner = hid::Device;

    fn open(&mut self) -> Result<Self::Scanner, Error> {
        hid::open(&self.settings)
    }

    async fn show(&mut self, text: &[u8]) {
        self.send(&self.layout.encode(text, *b"]Q1"));
    }

    async fn show_half(&mut self, text: &[u8]) {
        let reports = self.layout.encode(text, *b"]Q1");
        self.send(&reports[..reports.len() / 2]);
    }

    async fn unplug(&mut self) {
        self.port.write_all(&DESTROY.to_ne_bytes()).expect("uhid takes its device away");
    }

    async fn plug(&mut self) {
        self.create().expect("uhid makes a device");
    }

    async fn signals(&mut self) -> Option<Vec<Signal>> {
        let mut all = Vec::new();
        let mut event = vec![0; EVENT];
        while self.port.read(&mut event).is_ok() {
            if event[..4] == OUTPUT.to_ne_bytes() {
                let size = usize::from(u16::from_ne_bytes([event[4 + DATA_MAX], event[5 + DATA_MAX]]));
                all.push(heard(&self.layout, &event[4..4 + size]));
            }
        }
        Some(all)
    }

    fn tells_aim(&self) -> bool {
        true
    }
}

/// What an output report means to a scanner of this layout.
pub fn heard(layout: &Layout, report: &[u8]) -> Signal {
    let is = |signal| layout.signal(signal).is_some_and(|output| output.bytes == report);
    match [Signal::Good, Signal::Bad].into_iter().find(|signal| is(*signal)) {
        Some(signal) => signal,
        None => panic!("the scanner was told {report:02x?}"),
    }
}
