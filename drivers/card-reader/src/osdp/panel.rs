//! The control panel's thread: libosdp's state machine, its line, and what becomes of its events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libosdp::{
    ControlPanel, ControlPanelBuilder, OsdpCommand, OsdpCommandBuzzer, OsdpCommandLed, OsdpEvent, OsdpFlag,
    OsdpLedColor, OsdpLedParams, OsdpStatusReport, OsdpStatusReportType, PdInfoBuilder,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc::Sender;

use super::line::Line;
use super::{Desk, Key, Settings, clock, srand};

use crate::codec::{self, Bits, Format};
use crate::{Card, Cause, Error, ErrorKind, Report, Signal, Status};

/// Longest time between two looks at the line, milliseconds. libosdp wants one every 50.
const LOOK_MS: i64 = 10;
/// Steps of libosdp's state machine at one look: choose a command, send it, take the reply, go on.
const STEPS: usize = 4;
/// How long a reader stays offline before it is tried again, milliseconds.
const RETRY_MS: i64 = 3000;
/// libosdp's own pause before it tries an offline reader again (`OSDP_ONLINE_RETRY_WAIT_MAX_MS`), milliseconds.
const LIBRARY_RETRY_MS: i64 = 300_000;
/// Units of LED and buzzer times: 100 ms.
const TENTHS_LIT: u16 = 10;

/// The control panel of one line. [`super::Osdp`] runs one in a thread; a fuzzer steps its own.
pub struct Panel {
    panel: ControlPanel,
    line: Line,
    events: Arc<Mutex<VecDeque<OsdpEvent>>>,
    status: Status,
    told: Option<Status>,
    offline_since: i64,
}

impl Panel {
    /// A panel for the reader of `settings`.
    ///
    /// # Errors
    /// `Unsupported` when libosdp refuses the settings.
    pub fn new(line: Line, key: Key, settings: &Settings) -> Result<Self, Error> {
        let refused = |error| Error::new(ErrorKind::Unsupported, "open", Some(Cause::Osdp(error)));
        let baud = i32::try_from(settings.baud).unwrap_or_default();
        let reader = PdInfoBuilder::new()
            .address(settings.address.into())
            .and_then(|reader| reader.baud_rate(baud))
            .map_err(refused)?
            .secure_channel_key(key.bytes())
            .flag(OsdpFlag::IgnoreUnsolicited);
        // Without this flag libosdp falls back to the factory's key and then to no encryption at all.
        let reader = if settings.install { reader } else { reader.flag(OsdpFlag::EnforceSecure) };
        let mut panel =
            ControlPanelBuilder::new().add_channel(line.channel(), vec![reader]).build().map_err(refused)?;
        let events = Arc::new(Mutex::new(VecDeque::new()));
        // libosdp never frees the closure.
        let weak = Arc::downgrade(&events);
        panel.set_event_callback(move |_, event| {
            if let Some(events) = weak.upgrade() {
                events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
            }
            0
        });
        Ok(Self { panel, line, events, status: Status::default(), told: None, offline_since: clock::now() })
    }

    /// Until the line is lost or the driver dropped.
    pub(super) fn run(mut self, desk: &Desk, reports: &Sender<Result<Report, Error>>) {
        loop {
            let orders = desk.take();
            if orders.stop {
                return;
            }
            if !self.fill() {
                // The shell reads what came before; when its queue is full it sees the end of the channel.
                let _ = reports.try_send(Err(Error::new(ErrorKind::Disconnected, "read", None)));
                return;
            }
            if !self.status.secure {
                srand::reseed();
            }
            self.step(reports);
            for signal in orders.signals {
                self.signal(signal);
            }
            self.line.with_fd(|line| {
                let mut wait =
                    [PollFd::from_borrowed_fd(line, PollFlags::IN), PollFd::new(&desk.bell, PollFlags::IN)];
                let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK_MS * 1_000_000 };
                // An interrupted wait is a short one.
                let _ = poll(&mut wait, Some(&timeout));
            });
            desk.hush();
        }
    }

    /// Takes in what has arrived; `false` once the other end is gone.
    #[must_use]
    pub fn fill(&self) -> bool {
        self.line.fill()
    }

    /// Lets libosdp work on what has arrived, and tells what came of it.
    pub fn step(&mut self, reports: &Sender<Result<Report, Error>>) {
        for _ in 0..STEPS {
            self.panel.refresh();
            self.look(reports);
            let events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
            for event in events {
                self.event(event, reports);
            }
        }
    }

    /// Notices how the reader is.
    fn look(&mut self, reports: &Sender<Result<Report, Error>>) {
        let online = self.panel.is_online(0);
        // In install mode a reader may be online without encryption: it is told so, and its cards count nothing.
        let secure = online && self.panel.is_sc_active(0);
        let now = clock::now();
        if online {
            self.offline_since = now;
        } else if now - self.offline_since > RETRY_MS {
            // Only the pause of a reader that is offline is that long, and the line has but one.
            clock::skip(LIBRARY_RETRY_MS);
            self.offline_since = clock::now();
        }
        if secure && !self.status.secure {
            let local =
                OsdpStatusReport { type_: OsdpStatusReportType::Local, nr_entries: 0, report: [0; 64] };
            // Its queue was empty until now; a reader that does not answer this goes offline and comes back.
            let _ = self.panel.send_command(0, OsdpCommand::Status(local));
        }
        self.status.online = online;
        self.status.secure = secure;
        if !online {
            self.status.tamper = None;
            self.status.power_failing = None;
        }
        self.tell(reports);
    }

    fn tell(&mut self, reports: &Sender<Result<Report, Error>>) {
        // When the queue is full the status is told later, as it is then.
        if self.told != Some(self.status) && reports.try_send(Ok(Report::Status(self.status))).is_ok() {
            self.told = Some(self.status);
        }
    }

    fn event(&mut self, event: OsdpEvent, reports: &Sender<Result<Report, Error>>) {
        if !self.status.secure {
            return;
        }
        match event {
            OsdpEvent::CardRead(read) => {
                let Some(bits) = Bits::from_bytes(&read.data, read.nr_bits).filter(|bits| !bits.is_empty())
                else {
                    return;
                };
                // The channel is authenticated, so odd parity means another layout, not a broken wire.
                let raw = codec::Fields { format: Format::Raw, facility: None, number: None };
                let codec::Fields { format, facility, number } = codec::decode(&bits).unwrap_or(raw);
                let card = Card { bits, format, facility, number, reported: Instant::now() };
                // A shell that left 64 reports lying wants no 65th: the person shows the card again.
                let _ = reports.try_send(Ok(Report::Card(card)));
            }
            OsdpEvent::Status(report) if matches!(report.type_, OsdpStatusReportType::Local) => {
                self.status.tamper = Some(report.report[0] != 0);
                self.status.power_failing = Some(report.report[1] != 0);
                self.tell(reports);
            }
            // Keypads, vendors' own replies and spare contacts are not for entering a store.
            OsdpEvent::Status(_) | OsdpEvent::KeyPress(_) | OsdpEvent::MfgReply(_) => {}
        }
    }

    fn signal(&mut self, signal: Signal) {
        let (color, tones) = match signal {
            Signal::Good => (OsdpLedColor::Green, 1),
            Signal::Bad => (OsdpLedColor::Red, 3),
        };
        let lit = OsdpLedParams {
            control_code: 2,
            on_count: 1,
            off_count: 0,
            on_color: color,
            off_color: color,
            timer_count: TENTHS_LIT,
        };
        let led =
            OsdpCommandLed { reader: 0, led_number: 0, temporary: lit, permanent: OsdpLedParams::default() };
        let buzzer =
            OsdpCommandBuzzer { reader: 0, control_code: 2, on_count: 1, off_count: 1, rep_count: tones };
        // A reader that is offline, or whose four places for commands are taken, goes without.
        let _ = self.panel.send_command(0, OsdpCommand::Led(led));
        let _ = self.panel.send_command(0, OsdpCommand::Buzzer(buzzer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::osdp::answers::packet;
    use crate::sim;

    fn settings() -> Settings {
        toml::from_str("path = \"\"\nkey_file = \"\"").expect("settings")
    }

    fn key() -> Key {
        Key::new(*b"a key of 16 byte").expect("a key")
    }

    /// Steps for `ms` of a clock that stands still otherwise, and gives the last status told.
    fn run(panel: &mut Panel, reader: &mut Option<sim::Peripheral>, ms: i64) -> Option<Status> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
        let mut last = None;
        for _ in 0..ms / 5 {
            assert!(panel.fill());
            panel.step(&sender);
            if let Some(reader) = reader {
                assert!(reader.step());
            }
            clock::skip(5);
            while let Ok(report) = receiver.try_recv() {
                if let Ok(Report::Status(status)) = report {
                    last = Some(status);
                }
            }
        }
        last
    }

    #[test]
    fn a_silent_reader_is_offline_and_is_tried_again_within_seconds() {
        clock::fix(1_000_000);
        let (ours, theirs) = sim::line();
        let mut panel = Panel::new(Line::panel(Box::new(ours)), key(), &settings()).expect("a panel");
        let (reader, _handle) = sim::stepped(Box::new(theirs), 0, Some(key()));
        let mut reader = Some(reader);
        let status = run(&mut panel, &mut reader, 2000).expect("it comes up");
        assert!(status.online && status.secure, "{status:?}");

        // Its supply fails: libosdp gives a command nine tries in some nine seconds.
        let mut away = None;
        let status = run(&mut panel, &mut away, 12_000).expect("it goes away");
        assert_eq!(status, Status::default());
        run(&mut panel, &mut away, 60_000);
        let status = run(&mut panel, &mut reader, 16_000).expect("it comes back");
        assert!(status.online && status.secure, "{status:?}");
    }

    #[test]
    fn somebody_on_the_wire_cannot_show_a_card() {
        use std::io::{Read, Write};
        // Every security block that a packet can carry, and none.
        for block in
            [&[][..], &[3, 0x11, 1], &[3, 0x12, 1], &[3, 0x13, 1], &[3, 0x14, 1], &[2, 0x15], &[2, 0x16]]
        {
            clock::fix(1_000_000);
            let ((ours, mut near), (theirs, mut far)) = (sim::line(), sim::line());
            let mut panel = Panel::new(Line::panel(Box::new(ours)), key(), &settings()).expect("a panel");
            let (mut reader, handle) = sim::stepped(Box::new(theirs), 0, Some(key()));
            let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
            let mut injected = 0;
            for step in 0..1000 {
                assert!(panel.fill() && reader.step());
                panel.step(&sender);
                clock::skip(5);
                let mut bytes = [0; 512];
                if let Ok(count) = near.read(&mut bytes) {
                    let sent = &bytes[..count];
                    let start = sent.iter().position(|byte| *byte == 0x53).expect("a command");
                    // By then there are polls only, and the forged card comes in the place of the answer to one.
                    if handle.secure() && step > 300 && injected < 20 {
                        let card = [0, 0, 26, 0, 0xde, 0xad, 0xbe, 0xc0];
                        near.write_all(&packet(sent[start + 4], block, 0x50, &card)).expect("written");
                        injected += 1;
                    } else {
                        far.write_all(sent).expect("written");
                    }
                }
                if let Ok(count) = far.read(&mut bytes) {
                    near.write_all(&bytes[..count]).expect("written");
                }
                while let Ok(report) = receiver.try_recv() {
                    assert!(!matches!(report, Ok(Report::Card(_))), "a forged card with block {block:02x?}");
                }
            }
            assert!(injected > 0, "the channel never stood");
        }
    }
}
