//! A HID POS scanner without a USB bus: a device made by uhid (`linux/uhid.h`), which hidraw serves.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use qr_scanner::codec::report::Layout;
use qr_scanner::conformance::Bench;
use qr_scanner::select::Select;
use qr_scanner::{Error, QrScanner, Signal, hid};

use crate::{open, retry};

const VENDOR: u16 = 0x1d6b;
const PRODUCT: u16 = 0x8c02;

const DESTROY: u32 = 1;
const OUTPUT: u32 = 6;
const CREATE2: u32 = 11;
const INPUT2: u32 = 12;
const BUS_BLUETOOTH: u16 = 5;
const SET_REPORT: u32 = 13;
const SET_REPORT_REPLY: u32 = 14;
const DATA_MAX: usize = 4096;
/// `struct uhid_event`: a type and the largest of its unions, `uhid_create2_req`.
const EVENT: usize = 4 + 128 + 64 + 64 + 2 + 2 + 4 * 4 + DATA_MAX;

/// Text of 8 bytes without a report id, and a feature of one bit: good read beep, seven bits unused.
pub const BEEPS_BY_FEATURE: &[u8] = &[
    0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 0x08, 0x09, 0xfe,
    0x81, 0x02, 0x25, 0x01, 0x75, 0x01, 0x95, 0x01, 0x09, 0x86, 0xb1, 0x02, 0x95, 0x07, 0xb1, 0x03, 0xc0,
];

/// What the host wrote: whether as a feature, and the report.
type Written = (bool, Vec<u8>);

pub struct Uhid {
    port: File,
    serial: &'static str,
    descriptor: &'static [u8],
    layout: Layout,
    settings: hid::Settings,
}

impl Uhid {
    pub fn new(serial: &'static str, descriptor: &'static [u8]) -> io::Result<Self> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let port = File::options().read(true).write(true).custom_flags(nonblocking).open("/dev/uhid")?;
        let select = Select {
            vendor: Some(VENDOR),
            product: Some(PRODUCT),
            serial: Some(serial.into()),
            ..Select::default()
        };
        let layout = Layout::parse(descriptor).expect("a scanner's descriptor");
        let settings = hid::Settings { select, ..Default::default() };
        let mut bench = Self { port, serial, descriptor, layout, settings };
        bench.create()?;
        Ok(bench)
    }

    fn create(&mut self) -> io::Result<()> {
        let mut event = vec![0; EVENT];
        event[..4].copy_from_slice(&CREATE2.to_ne_bytes());
        event[4..24].copy_from_slice(b"scanner of the tests");
        event[4 + 128 + 64..][..self.serial.len()].copy_from_slice(self.serial.as_bytes());
        let at = 4 + 128 + 64 + 64;
        event[at..][..2].copy_from_slice(&(self.descriptor.len() as u16).to_ne_bytes());
        event[at + 2..][..2].copy_from_slice(&BUS_BLUETOOTH.to_ne_bytes());
        event[at + 4..][..4].copy_from_slice(&u32::from(VENDOR).to_ne_bytes());
        event[at + 8..][..4].copy_from_slice(&u32::from(PRODUCT).to_ne_bytes());
        event[at + 20..][..self.descriptor.len()].copy_from_slice(self.descriptor);
        self.port.write_all(&event)
    }

    /// What the host wrote since the last call; a feature is acknowledged.
    fn written(&mut self) -> Vec<Written> {
        let mut all = Vec::new();
        let mut event = vec![0; EVENT];
        while self.port.read(&mut event).is_ok() {
            let kind = u32::from_ne_bytes([event[0], event[1], event[2], event[3]]);
            if kind == OUTPUT {
                let size = usize::from(u16::from_ne_bytes([event[4 + DATA_MAX], event[5 + DATA_MAX]]));
                all.push((false, event[4..4 + size].to_vec()));
            }
            if kind == SET_REPORT {
                let size = usize::from(u16::from_ne_bytes([event[10], event[11]]));
                all.push((true, event[12..12 + size].to_vec()));
                let reply = [&SET_REPORT_REPLY.to_ne_bytes()[..], &event[4..8], &[0, 0]].concat();
                self.port.write_all(&reply).expect("uhid takes an answer");
            }
        }
        all
    }

    /// Waits for one report.
    async fn next_written(&mut self) -> Written {
        let taken = retry(|| self.written().pop().ok_or_else(|| io::ErrorKind::WouldBlock.into()));
        taken.await.expect("a report from the host")
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
        Some(self.written().iter().map(|(_, report)| heard(&self.layout, report)).collect())
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

/// A scanner without report ids whose beep is a feature.
pub async fn a_feature_is_a_beep(bench: &mut Uhid) {
    let mut scanner = open(bench).await;
    let ((), scan) = tokio::join!(bench.show(b"12345678"), scanner.next_scan());
    assert_eq!(scan.expect("a code").text, b"12345678");
    scanner.signal(Signal::Bad).expect("it has none, and is none the worse");
    scanner.signal(Signal::Good).expect("signal");
    assert_eq!(bench.next_written().await, (true, vec![0, 1]), "report id 0, then one bit");
}

/// At opening, and after each code.
pub async fn the_trigger_is_pulled(bench: &mut Uhid) {
    bench.settings.trigger = true;
    let mut scanner = open(bench).await;
    assert_eq!(bench.next_written().await, (false, vec![4, 2]));
    let ((), scan) = tokio::join!(bench.show(b"1"), scanner.next_scan());
    assert_eq!(scan.expect("a code").text, b"1");
    assert_eq!(bench.next_written().await, (false, vec![4, 2]));
}
