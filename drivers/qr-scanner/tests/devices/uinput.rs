//! A scanner that poses as a keyboard: an input device made by uinput.

use std::io;
use std::time::Duration;

use evdev::uinput::VirtualDevice;
use evdev::{AttributeSet, BusType, EventType, InputEvent, InputId, KeyCode};
use qr_scanner::codec::keymap::{self, Event};
use qr_scanner::conformance::Bench;
use qr_scanner::select::Select;
use qr_scanner::{Error, QrScanner, Signal, keyboard};

const VENDOR: u16 = 0x1d6b;
/// Pause between two keys. The kernel keeps 64 events, 16 strokes, for a reader that is slow.
const KEY: Duration = Duration::from_millis(1);

pub struct Keyboard {
    device: Option<VirtualDevice>,
    settings: keyboard::Settings,
}

impl Keyboard {
    pub fn new(product: u16) -> io::Result<Self> {
        let select = Select { vendor: Some(VENDOR), product: Some(product), ..Select::default() };
        let mut bench = Self { device: None, settings: keyboard::Settings { select, ..Default::default() } };
        bench.connect()?;
        Ok(bench)
    }

    fn connect(&mut self) -> io::Result<()> {
        let keys: AttributeSet<KeyCode> = (1..=126).map(KeyCode).collect();
        let id = InputId::new(BusType::BUS_USB, VENDOR, self.settings.select.product.unwrap_or(0), 1);
        let builder = VirtualDevice::builder()?.name("scanner of the tests").input_id(id);
        self.device = Some(builder.with_keys(&keys)?.build()?);
        Ok(())
    }

    async fn type_keys(&mut self, events: &[Event]) {
        let Some(device) = &mut self.device else { return };
        for event in events {
            let Event::Key(key, down) = *event else { continue };
            let event = InputEvent::new(EventType::KEY.0, key, i32::from(down));
            device.emit(&[event]).expect("uinput takes keys");
            if !down {
                tokio::time::sleep(KEY).await;
            }
        }
    }
}

impl Bench for Keyboard {
    type Scanner = keyboard::Device;

    fn open(&mut self) -> Result<Self::Scanner, Error> {
        keyboard::open(&self.settings)
    }

    async fn show(&mut self, text: &[u8]) {
        self.type_keys(&keymap::encode(text)).await;
    }

    async fn show_half(&mut self, text: &[u8]) {
        let events = keymap::encode(text);
        self.type_keys(&events[..events.len() / 2]).await;
    }

    async fn unplug(&mut self) {
        self.device = None;
    }

    async fn plug(&mut self) {
        self.connect().expect("another keyboard");
    }

    async fn signals(&mut self) -> Option<Vec<Signal>> {
        None
    }

    fn tells_aim(&self) -> bool {
        false
    }
}

/// While the scanner is open, another reader of the same device sees none of its keys.
pub async fn keys_reach_nobody_else(bench: &mut Keyboard) {
    let mut scanner = crate::open(bench).await;
    let nodes = bench.device.as_mut().expect("plugged in").enumerate_dev_nodes_blocking().expect("nodes");
    let node = nodes.flatten().find(|path| path.to_string_lossy().contains("event")).expect("an event node");
    let mut spy = evdev::Device::open(node).expect("another reader");
    spy.set_nonblocking(true).expect("another reader that does not wait");
    let ((), scan) = tokio::join!(bench.show(b"0123456789"), scanner.next_scan());
    assert_eq!(scan.expect("a code").text, b"0123456789");
    let seen = spy.fetch_events().map(Iterator::count);
    assert_eq!(seen.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock), "keys of a code leak");
    drop(scanner);
    bench.show(b"7").await;
    assert!(spy.fetch_events().expect("keys after it is closed").count() > 0, "the other reader does read");
}
