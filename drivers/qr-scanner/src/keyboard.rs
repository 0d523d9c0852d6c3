//! Scanners that pose as a keyboard, the last resort: the device is grabbed (`EVIOCGRAB`), so that no key of it
//! reaches a screen or a console, and nobody else's key reaches the lane.
//!
//! Anybody can plug a keyboard in and type a code. That it is a scanner is known by its place and its ids alone,
//! so the selection must name one; it is as good as the box's lock.

use std::io;
use std::time::{Duration, Instant};

use evdev::raw_stream::{EventStream, RawDevice};
use evdev::{EventSummary, KeyCode, SynchronizationCode};
use serde::{Deserialize, Serialize};

use crate::codec::TEXT_MAX;
use crate::codec::keymap::{Decoder, Event, Terminator};
use crate::codec::text::Framing;
use crate::select::Select;
use crate::sysfs::{self, Sysfs};
use crate::{Error, ErrorKind, QrScanner, Scan, Signal};

/// How the scanner is found and what it is configured to type. The defaults fit one that types the text and
/// Enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which device it is; must not be empty.
    pub select: Select,
    /// What ends a code.
    pub terminator: Terminator,
    /// Shift means nothing on the row of digits: for a scanner set to a country that types digits with it.
    pub digits_only: bool,
    /// Characters before each code.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Characters after each code, before the terminator.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// An AIM identifier (`]Q1`) stands between prefix and text.
    pub aim: bool,
    /// Longest text, bytes.
    pub text_max: usize,
    /// Longest pause between two keys of one code, ms. Scanners take 1 to 8 ms a key.
    pub gap_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            select: Select::default(),
            terminator: Terminator::Either,
            digits_only: false,
            prefix: String::new(),
            suffix: String::new(),
            aim: false,
            text_max: TEXT_MAX,
            gap_ms: 250,
        }
    }
}

/// An open scanner that poses as a keyboard.
pub struct Device {
    events: EventStream,
    decoder: Decoder,
    /// An event that is not decoded yet, because what came before it had to be told first.
    pending: Option<Event>,
    /// When the newest event came.
    last: Instant,
}

/// Opens and grabs the scanner. To be called in a tokio runtime.
///
/// # Errors
/// `NotFound`, `Ambiguous`; `Busy` when somebody else has grabbed it; `Unsupported` for a device without digits
/// and Enter; `Misconfigured` for settings without a selection; `Io` for the rest.
pub fn open(settings: &Settings) -> Result<Device, Error> {
    if settings.select.is_empty() || settings.text_max == 0 {
        return Err(Error::new(ErrorKind::Misconfigured, "open", None));
    }
    let path = Sysfs::new().choose("input", &settings.select, |node| {
        node.name.starts_with("event") && types_digits(&key_bits(node))
    })?;
    let mut device = RawDevice::open(path).map_err(Error::opening)?;
    let keys = device.supported_keys();
    if !keys.is_some_and(|keys| keys.contains(KeyCode::KEY_1) && keys.contains(KeyCode::KEY_ENTER)) {
        return Err(Error::new(ErrorKind::Unsupported, "open", None));
    }
    device.grab().map_err(Error::opening)?;
    let events = device.into_event_stream().map_err(Error::opening)?;
    let framing = Framing {
        prefix: settings.prefix.clone().into_bytes(),
        suffix: settings.suffix.clone().into_bytes(),
        aim: settings.aim,
        text_max: settings.text_max.min(TEXT_MAX),
        gap_max: Duration::from_millis(settings.gap_ms.into()),
        gap_ends: false,
    };
    Ok(Device {
        events,
        decoder: Decoder::new(settings.terminator, framing).digits_only(settings.digits_only),
        pending: None,
        last: Instant::now(),
    })
}

/// A scanner often has a second input device for media keys, which types no digits.
fn types_digits(bits: &str) -> bool {
    // Hexadecimal words, the highest first; keys 1 to 0 are bits 2 to 11, Enter is bit 28.
    let lowest = bits.split_whitespace().next_back().and_then(|word| u64::from_str_radix(word, 16).ok());
    let wanted = 0x0ffc | 1 << 28;
    lowest.is_some_and(|lowest| lowest & wanted == wanted)
}

fn key_bits(node: &sysfs::Node) -> String {
    let capabilities = node.directory.parent().map(|device| device.join("capabilities"));
    capabilities.and_then(|folder| sysfs::text(&folder, "key")).unwrap_or_default()
}

impl Device {
    /// The next event that matters, or none when the code begun so far has paused too long. Cancel-safe.
    async fn wait(&mut self) -> Result<Option<Event>, Error> {
        let event = match self.decoder.deadline() {
            None => self.events.next_event().await,
            // Reading keeps nothing while it waits, so a time-out loses nothing.
            Some(deadline) => {
                match tokio::time::timeout_at(deadline.into(), self.events.next_event()).await {
                    Ok(event) => event,
                    Err(_elapsed) => return Ok(None),
                }
            }
        };
        let event = match event {
            Ok(event) => event,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) => return Err(Error::lost("read", error)),
        };
        let event = match event.destructure() {
            // A repeat (2) is the kernel's doing, not the scanner's.
            EventSummary::Key(_, key, value @ (0 | 1)) => Event::Key(key.code(), value == 1),
            EventSummary::Synchronization(_, SynchronizationCode::SYN_DROPPED, _) => Event::Dropped,
            _ => return Ok(None),
        };
        self.last = Instant::now();
        Ok(Some(event))
    }
}

impl QrScanner for Device {
    async fn next_scan(&mut self) -> Result<Scan, Error> {
        loop {
            if self.pending.is_none() {
                self.pending = self.wait().await?;
            }
            let reported = self.last;
            let now = if self.pending.is_some() { reported } else { Instant::now() };
            let mut code = self.decoder.expire(now)?;
            if code.is_none()
                && let Some(event) = self.pending.take()
            {
                code = self.decoder.push(event, now)?;
            }
            if let Some(code) = code {
                return Ok(Scan { text: code.text, aim: code.aim, reported });
            }
        }
    }

    /// A keyboard has nothing to say good or bad with; the scanner's own beep means only that it read.
    fn signal(&mut self, _: Signal) -> Result<(), Error> {
        match self.events.device().get_key_state() {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::lost("signal", error)),
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.events.device().name().unwrap_or_default();
        formatter.debug_struct("Device").field("name", &name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::tests::Tree;

    #[test]
    fn settings_read_and_write() {
        let text = "terminator = 'tab'\nprefix = '#'\nselect = { vendor = 0x05f9, usb_port = '1-1' }\n";
        let read: Settings = toml::from_str(text).unwrap();
        assert_eq!((read.terminator, read.gap_ms, read.prefix.as_str()), (Terminator::Tab, 250, "#"));
        assert_eq!(toml::from_str::<Settings>(&toml::to_string(&read).unwrap()).unwrap(), read);
    }

    #[test]
    fn of_a_scanner_the_keys_with_digits_are_meant() {
        let tree = Tree::new();
        let device = tree.usb("1-1", "05f9", "2204", "");
        let table = [
            ("event3", "input3", "1 0 0 0\n", false),
            ("event4", "input4", "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe\n", true),
            ("event5", "input5", "\n", false),
            ("mouse0", "input4", "", false),
        ];
        for (name, input, bits, _) in table {
            let folder = format!("{device}/1-1:1.0/0003:05F9:2204.0001/input/{input}");
            if !bits.is_empty() {
                tree.write(&format!("{folder}/capabilities/key"), bits);
            }
            tree.node("input", name, &format!("{folder}/{name}"));
        }
        let nodes = tree.sysfs().nodes("input", |_| true);
        for (name, _, _, want) in table {
            let node = nodes.iter().find(|node| node.name == name).unwrap();
            assert_eq!(name.starts_with("event") && types_digits(&key_bits(node)), want, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_no_keyboard_is_refused() {
        let kind = |select: Select| open(&Settings { select, ..Settings::default() }).unwrap_err().kind();
        let path = |path: &str| Select { path: Some(path.into()), ..Select::default() };
        assert_eq!(kind(Select::default()), ErrorKind::Misconfigured);
        assert_eq!(kind(path("/dev/input/event250")), ErrorKind::NotFound);
        assert_eq!(kind(path("/dev/null")), ErrorKind::Unsupported);
    }
}
