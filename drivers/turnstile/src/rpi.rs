//! The turnstile on a Raspberry Pi's own registers, by `rppal`.
//!
//! ```toml
//! [lanes.turnstile]
//! kind = "rpi"
//!
//! [lanes.turnstile.outputs]
//! unlock_a = { pin = 17 }
//! unlock_b = { pin = 18 }
//!
//! [lanes.turnstile.inputs]
//! passage_a = { pin = 22, active_low = true, pull = "up", debounce_us = 5000 }
//! passage_b = { pin = 23, active_low = true, pull = "up", debounce_us = 5000 }
//! fire_alarm = { pin = 24, active_low = true, pull = "up", debounce_us = 20000 }
//! ```
//!
//! Pins are BCM numbers, not places on the header. `rppal` writes levels in a register, without a system
//! call, and watches inputs through the kernel. Its development ended on 1 July 2025 with 0.22: it knows the
//! boards up to the Raspberry Pi 5, so [`cdev`](crate::cdev) is the first choice on any board, and the only
//! one on newer ones. Outputs are no kernel requests here: another process that takes the same pin is not
//! noticed.
//!
//! A pin that is driven stays driven when its process dies. Choose gate pins from 9 to 27 (0 to 8 have
//! pull-ups while the board starts) with a pull-down of their own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rppal::gpio::{Gpio, Level, Trigger};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::cdev::{self, DEBOUNCE_US_MAX};
use crate::edges::{Anchor, Event, Tracker, monotonic_ns};
use crate::wiring::{InputWiring, OutputWiring};
use crate::{Edge, Error, ErrorKind, Line, Output, Outputs, Turnstile};

/// Events kept for a reader that does not come; the kernel keeps 1024 a line before that.
const EVENTS_MAX: usize = 256;

/// What the drivers of Raspberry Pi pins call their chips, as `rppal` knows them.
const CHIPS: [&str; 3] = ["pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"];

/// How `rppal` calls itself as the holder of a line.
const CONSUMER: &str = "RPPAL";

/// How often, a millisecond apart, we look whether the threads of `rppal` hold their lines.
const ARMING_TRIES: u32 = 1_000;

/// Which pins a lane has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What we drive.
    #[serde(default)]
    pub outputs: OutputWiring<OutputPin>,
    /// What we watch.
    pub inputs: InputWiring<InputPin>,
}

/// A pin that we drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputPin {
    /// BCM number.
    pub pin: u8,
    /// Active is the low level. Then the pin must have a pull-up: it is low, active, before we come
    /// otherwise.
    #[serde(default)]
    pub active_low: bool,
}

/// A pin that we watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputPin {
    /// BCM number.
    pub pin: u8,
    /// Active is the low level: a contact that pulls to ground.
    #[serde(default)]
    pub active_low: bool,
    /// The chip's own resistor.
    #[serde(default)]
    pub pull: Pull,
    /// Shorter changes are no edges, microseconds, up to [`DEBOUNCE_US_MAX`]; 0 reports all.
    #[serde(default)]
    pub debounce_us: u32,
}

/// The chip's own resistor on an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// None.
    #[default]
    Off,
    /// To 3.3 V.
    Up,
    /// To ground.
    Down,
}

/// A turnstile's pins, in use.
#[derive(Debug)]
pub struct Rpi {
    outputs: Vec<(Output, OutputPin, rppal::gpio::OutputPin)>,
    inputs: Vec<Watched>,
    edges: VecDeque<Edge>,
    shared: Arc<Shared>,
    /// Looks left until the lines must be held; none when they are.
    arming: Option<u32>,
}

#[derive(Debug)]
struct Watched {
    line: Line,
    active_low: bool,
    pin: rppal::gpio::InputPin,
    /// One each: `rppal` numbers the events of each pin by themselves.
    tracker: Tracker,
}

/// What the threads of `rppal` tell us.
#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    events: VecDeque<(Line, rppal::gpio::Event)>,
    /// Events did not fit.
    overflowed: bool,
    /// A thread ended, and with it the watching of its line.
    ended: Option<Line>,
}

/// Lives in the thread of one pin; its end is the thread's end.
struct Reporter {
    line: Line,
    shared: Arc<Shared>,
}

/// Takes the pins of a turnstile: outputs first, inactive, then inputs.
///
/// # Errors
/// `NotFound` where this is no Raspberry Pi or it has no such pin, `Busy` when another process watches one,
/// `Settings` when the settings contradict themselves; each names the line.
pub fn open(settings: &Settings) -> Result<Rpi, Error> {
    settings.check()?;
    let gpio = Gpio::new().map_err(|error| failed("open", error))?;
    let mut outputs = Vec::new();
    for (output, wire) in settings.outputs.wired() {
        let mut pin = inactive(&gpio, output, wire)?;
        pin.set_reset_on_drop(true);
        outputs.push((output, wire.clone(), pin));
    }
    let anchor = Anchor::now();
    let shared = Arc::new(Shared::default());
    let mut inputs = Vec::new();
    for (line, wire) in settings.inputs.wired() {
        inputs.push(Watched::open(&gpio, line, wire, anchor, &shared).map_err(|error| {
            let subject = format!("{} (pin {})", line.name(), wire.pin);
            failed("open", error).of(subject)
        })?);
    }
    let mut edges = VecDeque::new();
    let constants = settings.inputs.unwired().map(|line| (line, line.at_rest()));
    Tracker::new(anchor).read(constants, monotonic_ns(), &mut edges);
    Ok(Rpi { outputs, inputs, edges, shared, arming: Some(ARMING_TRIES) })
}

/// Drives the outputs inactive and leaves them so: what a process needs that acts in place of one that died.
/// A pin that fails does not keep the others up. Returns what failed. Needs no tokio runtime.
#[must_use]
pub fn make_inactive(outputs: &OutputWiring<OutputPin>) -> Vec<(Output, Error)> {
    let gpio = Gpio::new();
    let mut failures = Vec::new();
    for (output, wire) in outputs.wired() {
        let done = match &gpio {
            Ok(gpio) => inactive(gpio, output, wire).map(|mut pin| pin.set_reset_on_drop(false)),
            Err(error) => {
                Err(Error::new(kind(error), "open", Some(std::io::Error::other(error.to_string())))
                    .of(subject(output, wire)))
            }
        };
        failures.extend(done.err().map(|error| (output, error)));
    }
    failures
}

fn inactive(gpio: &Gpio, output: Output, wire: &OutputPin) -> Result<rppal::gpio::OutputPin, Error> {
    let pin = gpio.get(wire.pin).map_err(|error| failed("open", error).of(subject(output, wire)))?;
    // The level is set before the pin becomes an output: no glitch.
    Ok(match level(false, wire.active_low) {
        Level::Low => pin.into_output_low(),
        Level::High => pin.into_output_high(),
    })
}

fn subject(output: Output, wire: &OutputPin) -> String {
    format!("{} (pin {})", output.name(), wire.pin)
}

impl Settings {
    /// Finds contradictions before any pin is touched.
    fn check(&self) -> Result<(), Error> {
        let wrong = |what| Err(Error::new(ErrorKind::Settings, "open", None).of(what));
        let outputs = self.outputs.wired().map(|(output, wire)| (wire.pin, output.name()));
        let inputs = self.inputs.wired().map(|(line, wire)| (wire.pin, line.name()));
        let mut taken = BTreeMap::new();
        for (pin, name) in outputs.chain(inputs) {
            if let Some(other) = taken.insert(pin, name) {
                return wrong(format!("{name} and {other} are the same pin, {pin}"));
            }
        }
        match self.inputs.wired().find(|(_, wire)| wire.debounce_us > DEBOUNCE_US_MAX) {
            Some((line, _)) => wrong(format!("{}: debounce_us is above {DEBOUNCE_US_MAX}", line.name())),
            None => Ok(()),
        }
    }
}

impl Turnstile for Rpi {
    fn drive(&mut self, outputs: Outputs) -> Result<(), Error> {
        for (output, wire, pin) in &mut self.outputs {
            pin.write(level(output.of(outputs), wire.active_low));
        }
        Ok(())
    }

    async fn next_edge(&mut self) -> Result<Edge, Error> {
        loop {
            if let Some(edge) = self.edges.pop_front() {
                return Ok(edge);
            }
            if let Some(tries) = self.arming {
                if self.armed()? {
                    self.arming = None;
                    self.read_levels();
                } else if tries == 0 {
                    return Err(
                        Error::new(ErrorKind::Io, "watch", None).of("the kernel watches no line for us")
                    );
                } else {
                    self.arming = Some(tries - 1);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                continue;
            }
            // Taken before looking, so that nothing slips between the look and the wait.
            let shared = Arc::clone(&self.shared);
            let changed = shared.changed.notified();
            if !self.take_events()? {
                changed.await;
            }
        }
    }
}

impl Drop for Rpi {
    fn drop(&mut self) {
        // Writing a register cannot fail. The pins then go back to what they were.
        let _ = self.drive(Outputs::INACTIVE);
    }
}

impl Rpi {
    /// Whether the kernel watches every pin: `rppal` asks it in threads that tell nobody when they are done,
    /// and levels that are read before would miss a change.
    fn armed(&self) -> Result<bool, Error> {
        if self.inputs.is_empty() {
            return Ok(true);
        }
        self.shared.lock().check()?;
        let pins: Vec<u32> = self.inputs.iter().map(|input| input.pin.pin().into()).collect();
        cdev::are_held_by(&CHIPS, &pins, CONSUMER)
    }

    fn read_levels(&mut self) {
        for input in &mut self.inputs {
            let active = is_active(input.pin.read(), input.active_low);
            input.tracker.read(std::iter::once((input.line, active)), monotonic_ns(), &mut self.edges);
        }
    }

    /// Whether there was any.
    fn take_events(&mut self) -> Result<bool, Error> {
        let (events, overflowed) = {
            let mut inbox = self.shared.lock();
            inbox.check()?;
            (std::mem::take(&mut inbox.events), std::mem::take(&mut inbox.overflowed))
        };
        let any = !events.is_empty();
        for (line, event) in events {
            let Some(input) = self.inputs.iter_mut().find(|input| input.line == line) else { continue };
            input.tracker.event(seen(line, &event, input.active_low), &mut self.edges);
        }
        let mut lost = overflowed;
        for input in &mut self.inputs {
            lost |= input.tracker.drained(&mut self.edges);
        }
        if lost {
            self.read_levels();
            self.edges.extend(self.constants());
        }
        Ok(any)
    }

    /// Lines without a wire, for a report of all levels.
    fn constants(&self) -> Vec<Edge> {
        let wired = |line| self.inputs.iter().any(|input| input.line == line);
        let mut edges = VecDeque::new();
        let constants = Line::ALL.into_iter().filter(|line| !wired(*line)).map(|line| (line, line.at_rest()));
        Tracker::new(Anchor::now()).read(constants, monotonic_ns(), &mut edges);
        edges.into()
    }
}

impl Watched {
    fn open(
        gpio: &Gpio,
        line: Line,
        wire: &InputPin,
        anchor: Anchor,
        shared: &Arc<Shared>,
    ) -> rppal::gpio::Result<Self> {
        let pin = gpio.get(wire.pin)?;
        let mut pin = match wire.pull {
            Pull::Off => pin.into_input(),
            Pull::Up => pin.into_input_pullup(),
            Pull::Down => pin.into_input_pulldown(),
        };
        let debounce = (wire.debounce_us > 0).then(|| Duration::from_micros(wire.debounce_us.into()));
        // Asked for and given back at once, because only this way says why it is refused; a thread that is
        // refused ends in silence.
        pin.set_interrupt(Trigger::Both, debounce)?;
        let reporter = Reporter { line, shared: Arc::clone(shared) };
        pin.set_async_interrupt(Trigger::Both, debounce, move |event| reporter.report(event))?;
        Ok(Self { line, active_low: wire.active_low, pin, tracker: Tracker::new(anchor) })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    fn check(&self) -> Result<(), Error> {
        let Some(line) = self.ended else { return Ok(()) };
        Err(Error::new(ErrorKind::Disconnected, "watch", None).of(line.name()))
    }
}

impl Reporter {
    fn report(&self, event: rppal::gpio::Event) {
        let mut inbox = self.shared.lock();
        if inbox.events.len() == EVENTS_MAX {
            inbox.events.pop_front();
            inbox.overflowed = true;
        }
        inbox.events.push_back((self.line, event));
        drop(inbox);
        self.shared.changed.notify_one();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.shared.lock().ended = Some(self.line);
        self.shared.changed.notify_one();
    }
}

fn level(active: bool, active_low: bool) -> Level {
    Level::from(active != active_low)
}

fn is_active(level: Level, active_low: bool) -> bool {
    (level == Level::High) != active_low
}

/// An interrupt as an event of the strip.
fn seen(line: Line, event: &rppal::gpio::Event, active_low: bool) -> Event {
    Event {
        line,
        active: (event.trigger == Trigger::RisingEdge) != active_low,
        at_ns: u64::try_from(event.timestamp.as_nanos()).unwrap_or(u64::MAX),
        number: event.seqno,
    }
}

fn kind(error: &rppal::gpio::Error) -> ErrorKind {
    match error {
        rppal::gpio::Error::UnknownModel | rppal::gpio::Error::PinNotAvailable(_) => ErrorKind::NotFound,
        rppal::gpio::Error::PinUsed(_) => ErrorKind::Busy,
        rppal::gpio::Error::Io(error) => ErrorKind::of_errno(error.raw_os_error()),
        rppal::gpio::Error::PermissionDenied(_) | rppal::gpio::Error::ThreadPanic => ErrorKind::Io,
    }
}

/// A failure of the library in our words.
fn failed(doing: &'static str, error: rppal::gpio::Error) -> Error {
    let kind = kind(&error);
    let source = match error {
        rppal::gpio::Error::Io(error) => error,
        error => std::io::Error::other(error.to_string()),
    };
    Error::new(kind, doing, Some(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: &str = r#"
        [outputs]
        unlock_a = { pin = 17 }
        unlock_b = { pin = 18, active_low = true }
        [inputs]
        passage_a = { pin = 22, active_low = true, pull = "up", debounce_us = 5000 }
        passage_b = { pin = 23 }
        fire_alarm = "unwired"
    "#;

    fn event(trigger: Trigger, seqno: u32) -> rppal::gpio::Event {
        rppal::gpio::Event { timestamp: Duration::from_millis(5), seqno, trigger }
    }

    #[test]
    fn settings_are_read_and_written() {
        let settings: Settings = toml::from_str(LANE).unwrap();
        assert_eq!(settings.outputs.unlock_b, Some(OutputPin { pin: 18, active_low: true }));
        let passage = settings.inputs.get(Line::PassageA).unwrap();
        let wanted = InputPin { pin: 22, active_low: true, pull: Pull::Up, debounce_us: 5000 };
        assert_eq!(*passage, wanted);
        assert_eq!(toml::from_str::<Settings>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        settings.check().unwrap();
    }

    #[test]
    fn garbage_is_refused() {
        for (from, to, named) in [
            ("pin = 22", "pin = 300", "300"),
            ("pin = 22", "pin = -1", "-1"),
            ("pin = 22", "pin = \"GPIO22\"", "GPIO22"),
            ("pull = \"up\"", "pull = \"high\"", "high"),
            ("debounce_us = 5000", "debounce_us = 99999999999", "99999999999"),
            ("debounce_us", "debounce_ms", "debounce_ms"),
            ("unlock_a", "unlock_c", "unlock_c"),
        ] {
            let error = toml::from_str::<Settings>(&LANE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(named), "{to}: {error}");
        }
        for (from, to, named) in [
            ("pin = 23", "pin = 17", "passage_b and unlock_a are the same pin, 17"),
            ("debounce_us = 5000", "debounce_us = 1000001", "passage_a: debounce_us is above 1000000"),
        ] {
            let settings: Settings = toml::from_str(&LANE.replace(from, to)).unwrap();
            let error = open(&settings).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn levels_are_inverted_where_active_is_low() {
        for (active, active_low, wanted) in [
            (true, false, Level::High),
            (false, false, Level::Low),
            (true, true, Level::Low),
            (false, true, Level::High),
        ] {
            assert_eq!(level(active, active_low), wanted);
            assert_eq!(is_active(wanted, active_low), active);
        }
    }

    #[test]
    fn interrupts_become_events() {
        let wanted = Event { line: Line::Tamper, active: true, at_ns: 5_000_000, number: 7 };
        assert_eq!(seen(Line::Tamper, &event(Trigger::RisingEdge, 7), false), wanted);
        assert_eq!(seen(Line::Tamper, &event(Trigger::FallingEdge, 7), true), wanted);
        let other = Event { active: false, ..wanted };
        assert_eq!(seen(Line::Tamper, &event(Trigger::FallingEdge, 7), false), other);
        let late = rppal::gpio::Event { timestamp: Duration::MAX, ..event(Trigger::RisingEdge, 7) };
        assert_eq!(seen(Line::Tamper, &late, false).at_ns, u64::MAX);
    }

    #[test]
    fn a_thread_that_ends_is_a_lost_device() {
        let shared = Arc::new(Shared::default());
        let reporter = Reporter { line: Line::Ready, shared: Arc::clone(&shared) };
        reporter.report(event(Trigger::RisingEdge, 1));
        assert!(shared.lock().check().is_ok());
        drop(reporter);
        let error = shared.lock().check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().contains("ready"), "{error}");
    }

    #[test]
    fn a_full_inbox_keeps_the_newest_and_says_so() {
        let shared = Arc::new(Shared::default());
        let reporter = Reporter { line: Line::Ready, shared: Arc::clone(&shared) };
        for number in 1..=EVENTS_MAX as u32 + 3 {
            reporter.report(event(Trigger::RisingEdge, number));
        }
        let inbox = shared.lock();
        assert_eq!((inbox.events.len(), inbox.overflowed), (EVENTS_MAX, true));
        assert_eq!(inbox.events[0].1.seqno, 4);
        drop(inbox);
    }

    #[test]
    #[cfg(not(any(target_arch = "arm", target_arch = "aarch64")))]
    fn elsewhere_there_is_no_such_device() {
        let settings: Settings = toml::from_str(LANE).unwrap();
        let error = open(&settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        let failures = make_inactive(&settings.outputs);
        assert_eq!(failures.len(), 2);
        for (output, error) in failures {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(output.name()), "{error}");
        }
    }
}
