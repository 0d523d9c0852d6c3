//! The turnstile on the kernel's GPIO character device (uAPI v2): any board, any chip.
//!
//! ```toml
//! [lanes.turnstile]
//! kind = "cdev"
//! chip = "pinctrl-bcm2711"
//!
//! [lanes.turnstile.outputs]
//! unlock_a = { line = 17 }
//! unlock_b = { line = 18 }
//! stop = { line = 23, active_low = true }
//!
//! [lanes.turnstile.inputs]
//! passage_a = { line = "PASS_A", active_low = true, bias = "pull-up", debounce_us = 5000 }
//! passage_b = { line = "PASS_B", active_low = true, bias = "pull-up", debounce_us = 5000 }
//! ready = { line = 24, bias = "pull-down" }
//! fire_alarm = { line = 25, active_low = true, bias = "pull-up", debounce_us = 20000 }
//! tamper = "unwired"
//! ```
//!
//! What a line does when its holder dies is the kernel's business: upstream it becomes what the chip and its
//! resistors make of it, on a Raspberry Pi kernel it keeps its level. Dropping a [`Cdev`] drives the outputs
//! inactive before it lets them go; [`Release`] does so for a process that could not.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gpiocdev::Chip;
use gpiocdev::line::{EdgeDetection, EdgeKind, Offset, Value, Values};
use gpiocdev::request::{Config, Request};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::edges::{Anchor, Event, Tracker, monotonic_ns};
use crate::wiring::{InputWiring, OutputWiring};
use crate::{Edge, Error, ErrorKind, Line, Output, Outputs, Turnstile};

/// Who holds the lines, as `gpioinfo` shows it.
pub const CONSUMER: &str = "stile-gated";

/// Longest debounce period, microseconds: a second. More would swallow people.
pub const DEBOUNCE_US_MAX: u32 = 1_000_000;

/// Events that the kernel keeps for us: a second of a contact that chatters at 250 Hz. The kernel allows
/// 1024.
const EVENTS_KEPT: u32 = 256;

/// Events taken in one go before the caller gets them; a line that storms cannot hold the loop.
const EVENTS_AT_ONCE: usize = 1024;

/// 64-bit words of one event of uAPI v2 (`struct gpio_v2_line_event`, 48 bytes).
const EVENT_WORDS: usize = 6;

/// Events per system call.
const EVENTS_PER_READ: usize = 16;

/// Longest line name, bytes (`GPIO_MAX_NAME_SIZE` with its end).
const NAME_BYTES_MAX: usize = 31;

/// Where the lines of a lane are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The chip of all lines that name none: `"gpiochip0"`, a path, or its label (`"pinctrl-bcm2711"`), which
    /// unlike the number stays the same. Left out, lines are found by their names on every chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// What we drive.
    #[serde(default)]
    pub outputs: OutputWiring<OutputLine>,
    /// What we watch.
    pub inputs: InputWiring<InputLine>,
}

/// A line as its chip knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the name of a line, or its offset on the chip")]
pub enum LineRef {
    /// By offset on its chip, from 0.
    Offset(Offset),
    /// By name; the name must be on one line only.
    Name(String),
}

/// A line that we drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputLine {
    /// Which line.
    pub line: LineRef,
    /// Its chip, when it is not the lane's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// Active is the low level. Then the line must have a pull-up: it is low, active, before we come
    /// otherwise.
    #[serde(default)]
    pub active_low: bool,
}

/// A line that we watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputLine {
    /// Which line.
    pub line: LineRef,
    /// Its chip, when it is not the lane's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// Active is the low level: a contact that pulls to ground.
    #[serde(default)]
    pub active_low: bool,
    /// The chip's own resistor.
    #[serde(default)]
    pub bias: Bias,
    /// Shorter changes are no edges, microseconds, up to [`DEBOUNCE_US_MAX`]; 0 reports all. The kernel does
    /// it, in the chip where that can.
    #[serde(default)]
    pub debounce_us: u32,
}

/// The chip's own resistor on an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// As the board's firmware set it.
    #[default]
    AsIs,
    /// To the supply.
    PullUp,
    /// To ground.
    PullDown,
    /// None.
    Disabled,
}

/// A turnstile's lines, held.
#[derive(Debug)]
pub struct Cdev {
    outputs: Vec<HeldOutputs>,
    inputs: Vec<HeldInputs>,
    edges: VecDeque<Edge>,
}

/// The outputs on one chip.
#[derive(Debug)]
struct HeldOutputs {
    request: Request,
    lines: Vec<(Output, Offset)>,
    /// What is written next; kept, so that driving allocates nothing.
    values: Values,
}

/// The inputs on one chip.
#[derive(Debug)]
struct HeldInputs {
    request: AsyncFd<Request>,
    lines: Vec<(Line, Offset)>,
    values: Values,
    tracker: Tracker,
    buffer: Box<[u64]>,
}

/// Takes the lines of a turnstile: outputs first, inactive, then inputs. Call it inside a tokio runtime with
/// its I/O driver.
///
/// # Errors
/// `NotFound` without the chip or a line, `Busy` when another process holds one, `Settings` when the settings
/// contradict themselves; each names the line.
pub fn open(settings: &Settings) -> Result<Cdev, Error> {
    let plan = Plan::new(settings, &Directory::read()?)?;
    let outputs = plan
        .outputs
        .into_iter()
        .map(|(path, lines)| HeldOutputs::request(&path, lines))
        .collect::<Result<Vec<_>, Error>>()?;
    let anchor = Anchor::now();
    let mut edges = VecDeque::with_capacity(EVENTS_PER_READ);
    // A constant is a line of no request.
    let constants = settings.inputs.unwired().map(|line| (line, line.at_rest()));
    Tracker::new(anchor).read(constants, monotonic_ns(), &mut edges);
    let mut inputs = Vec::new();
    for (path, lines) in plan.inputs {
        inputs.push(HeldInputs::request(&path, &lines, anchor, &mut edges)?);
    }
    Ok(Cdev { outputs, inputs, edges })
}

impl Turnstile for Cdev {
    fn drive(&mut self, outputs: Outputs) -> Result<(), Error> {
        // Every chip is driven even when one is gone.
        let mut first = Ok(());
        for held in &mut self.outputs {
            first = first.and(held.drive(outputs));
        }
        first
    }

    async fn next_edge(&mut self) -> Result<Edge, Error> {
        poll_fn(|context| self.poll_edge(context)).await
    }
}

impl Cdev {
    fn poll_edge(&mut self, context: &mut Context<'_>) -> Poll<Result<Edge, Error>> {
        if let Some(edge) = self.edges.pop_front() {
            return Poll::Ready(Ok(edge));
        }
        // All chips are asked each time: one that storms does not hide the others.
        for inputs in &mut self.inputs {
            if let Poll::Ready(Err(error)) = inputs.poll_fill(context, &mut self.edges) {
                return Poll::Ready(Err(error));
            }
        }
        self.edges.pop_front().map_or(Poll::Pending, |edge| Poll::Ready(Ok(edge)))
    }
}

impl Drop for Cdev {
    fn drop(&mut self) {
        // Where it fails the chip is gone, and its lines with it.
        let _ = self.drive(Outputs::INACTIVE);
    }
}

impl HeldOutputs {
    fn request(path: &Path, lines: Vec<(Output, Offset, bool)>) -> Result<Self, Error> {
        let request = request_outputs(path, &lines)?;
        let values = lines.iter().map(|(_, offset, _)| (*offset, Value::Inactive)).collect();
        let lines = lines.into_iter().map(|(output, offset, _)| (output, offset)).collect();
        Ok(Self { request, lines, values })
    }

    fn drive(&mut self, outputs: Outputs) -> Result<(), Error> {
        for (output, offset) in &self.lines {
            self.values.set(*offset, Value::from(output.of(outputs)));
        }
        self.request.set_values(&self.values).map_err(|error| failed("drive", error))
    }
}

impl HeldInputs {
    fn request(
        path: &Path,
        lines: &[(Line, Offset, InputLine)],
        anchor: Anchor,
        edges: &mut VecDeque<Edge>,
    ) -> Result<Self, Error> {
        let request = Request::from_config(input_config(path, lines))
            .with_consumer(CONSUMER)
            .with_kernel_event_buffer_size(EVENTS_KEPT)
            .request()
            .map_err(|error| {
                let named = lines.iter().map(|(line, offset, _)| (line.name(), *offset));
                refused(path, named.collect(), error)
            })?;
        let refused = |error: std::io::Error| failed("open", gpiocdev::Error::from(error));
        let flags = fcntl_getfl(&request).map_err(|errno| refused(errno.into()))?;
        fcntl_setfl(&request, flags | OFlags::NONBLOCK).map_err(|errno| refused(errno.into()))?;
        let request = watched(request).map_err(refused)?;
        let values = lines.iter().map(|(_, offset, _)| (*offset, Value::Inactive)).collect();
        let lines = lines.iter().map(|(line, offset, _)| (*line, *offset)).collect();
        let buffer = vec![0; EVENT_WORDS * EVENTS_PER_READ].into_boxed_slice();
        let mut held = Self { request, lines, values, tracker: Tracker::new(anchor), buffer };
        held.read_levels("open", edges)?;
        Ok(held)
    }

    /// Ready when `edges` has new ones.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        edges: &mut VecDeque<Edge>,
    ) -> Poll<Result<(), Error>> {
        let known = edges.len();
        loop {
            let empty = {
                let mut guard = ready!(self.request.poll_read_ready(context))
                    .map_err(|error| failed("watch", gpiocdev::Error::from(error)))?;
                let empty = take(guard.get_inner(), &self.lines, &mut self.buffer, |event| {
                    self.tracker.event(event, edges);
                })?;
                if empty {
                    guard.clear_ready();
                }
                empty
            };
            if empty && self.tracker.drained(edges) {
                self.read_levels("watch", edges)?;
            }
            if edges.len() > known {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn read_levels(&mut self, doing: &'static str, edges: &mut VecDeque<Edge>) -> Result<(), Error> {
        self.request.get_ref().values(&mut self.values).map_err(|error| failed(doing, error))?;
        let values = &self.values;
        let levels =
            self.lines.iter().map(|(line, offset)| (*line, values.get(*offset) == Some(Value::Active)));
        self.tracker.read(levels, monotonic_ns(), edges);
        Ok(())
    }
}

#[expect(unsafe_code, reason = "tokio's only way to wait for a descriptor of our own")]
fn watched(request: Request) -> std::io::Result<AsyncFd<Request>> {
    // SAFETY: a `Request` owns the file that its descriptor belongs to, opens no other in its place and
    // closes it when it is dropped, which the `AsyncFd` does last.
    Ok(unsafe { AsyncFd::register_with_interest(request, Interest::READABLE) }?)
}

/// Takes events until there are none, which is true, or there were very many.
fn take(
    request: &Request,
    lines: &[(Line, Offset)],
    buffer: &mut [u64],
    mut each: impl FnMut(Event),
) -> Result<bool, Error> {
    for _ in 0..EVENTS_AT_ONCE / EVENTS_PER_READ {
        // Not `read_edge_event`: in gpiocdev 0.8 without uAPI v1 it reads eight events and returns one.
        let words = match request.read_edge_events_into_slice(buffer) {
            Ok(words) => words,
            Err(error) if errno(&error) == Some(rustix::io::Errno::AGAIN.raw_os_error()) => return Ok(true),
            Err(error) => return Err(failed("watch", error)),
        };
        for event in buffer[..words].chunks_exact(EVENT_WORDS) {
            let event = request.edge_event_from_slice(event).map_err(|error| failed("watch", error))?;
            let Some((line, _)) = lines.iter().find(|(_, offset)| *offset == event.offset) else { continue };
            each(Event {
                line: *line,
                active: event.kind == EdgeKind::Rising,
                at_ns: event.timestamp_ns,
                number: event.seqno,
            });
        }
    }
    Ok(false)
}

/// The outputs of a turnstile, found but not held: what a process needs that drives them inactive in place of
/// one that died. Needs no tokio runtime.
#[derive(Clone, Debug)]
pub struct Release {
    chips: Groups<(Output, Offset, bool)>,
}

impl Release {
    /// Finds the outputs; a line that cannot be found does not hide the others.
    #[must_use]
    pub fn find(chip: Option<&str>, outputs: &OutputWiring<OutputLine>) -> (Self, Vec<(Output, Error)>) {
        let mut release = Self { chips: BTreeMap::new() };
        let mut failures = Vec::new();
        let directory = match Directory::read() {
            Ok(directory) => directory,
            Err(error) => {
                let (kind, text) = (error.kind(), error.to_string());
                for (output, _) in outputs.wired() {
                    failures.push((output, Error::new(kind, "open", None).of(text.clone())));
                }
                return (release, failures);
            }
        };
        for (output, line) in outputs.wired() {
            match directory.find(&line.line, line.chip.as_deref().or(chip), output.name()) {
                Ok((path, offset)) => {
                    release.chips.entry(path).or_default().push((output, offset, line.active_low));
                }
                Err(error) => failures.push((output, error)),
            }
        }
        (release, failures)
    }

    /// How many lines were found.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.chips.values().map(Vec::len).sum()
    }

    /// Takes the lines, inactive, and lets them go. All lines of a chip in one system call; when that fails,
    /// each by itself, so that one bad line does not keep the others up. Returns what failed.
    #[must_use]
    pub fn make_inactive(&self) -> Vec<(Output, Error)> {
        let mut failures = Vec::new();
        for (path, lines) in &self.chips {
            if request_outputs(path, lines).is_ok() {
                continue;
            }
            for line in lines {
                if let Err(error) = request_outputs(path, std::slice::from_ref(line)) {
                    failures.push((line.0, error));
                }
            }
        }
        failures
    }
}

fn request_outputs(path: &Path, lines: &[(Output, Offset, bool)]) -> Result<Request, Error> {
    Request::from_config(output_config(path, lines)).with_consumer(CONSUMER).request().map_err(|error| {
        let named = lines.iter().map(|(output, offset, _)| (output.name(), *offset));
        refused(path, named.collect(), error)
    })
}

fn output_config(path: &Path, lines: &[(Output, Offset, bool)]) -> Config {
    let mut config = Config::default();
    config.on_chip(path);
    for (_, offset, active_low) in lines {
        config.with_line(*offset).as_output(Value::Inactive);
        if *active_low {
            config.as_active_low();
        } else {
            config.as_active_high();
        }
    }
    config
}

fn input_config(path: &Path, lines: &[(Line, Offset, InputLine)]) -> Config {
    let mut config = Config::default();
    config.on_chip(path);
    for (_, offset, line) in lines {
        config.with_line(*offset).as_input().with_edge_detection(EdgeDetection::BothEdges);
        if line.active_low {
            config.as_active_low();
        } else {
            config.as_active_high();
        }
        config.with_bias(match line.bias {
            Bias::AsIs => None,
            Bias::PullUp => Some(gpiocdev::line::Bias::PullUp),
            Bias::PullDown => Some(gpiocdev::line::Bias::PullDown),
            Bias::Disabled => Some(gpiocdev::line::Bias::Disabled),
        });
        if line.debounce_us > 0 {
            config.with_debounce_period(Duration::from_micros(line.debounce_us.into()));
        }
    }
    config
}

type Groups<T> = BTreeMap<PathBuf, Vec<T>>;

/// Which lines are asked of which chip.
#[derive(Debug)]
struct Plan {
    outputs: Groups<(Output, Offset, bool)>,
    inputs: Groups<(Line, Offset, InputLine)>,
}

impl Plan {
    fn new(settings: &Settings, directory: &Directory) -> Result<Self, Error> {
        let mut plan = Self { outputs: BTreeMap::new(), inputs: BTreeMap::new() };
        let mut taken: BTreeMap<(PathBuf, Offset), &'static str> = BTreeMap::new();
        let mut find = |line: &LineRef, chip: &Option<String>, name: &'static str| {
            let chip = chip.as_deref().or(settings.chip.as_deref());
            let place = directory.find(line, chip, name)?;
            match taken.insert(place.clone(), name) {
                None => Ok(place),
                Some(other) => Err(wrong(format!("{name} and {other} are the same line"))),
            }
        };
        for (output, line) in settings.outputs.wired() {
            let (path, offset) = find(&line.line, &line.chip, output.name())?;
            plan.outputs.entry(path).or_default().push((output, offset, line.active_low));
        }
        for (input, line) in settings.inputs.wired() {
            if line.debounce_us > DEBOUNCE_US_MAX {
                let name = input.name();
                return Err(wrong(format!("{name}: debounce_us is above {DEBOUNCE_US_MAX}")));
            }
            let (path, offset) = find(&line.line, &line.chip, input.name())?;
            plan.inputs.entry(path).or_default().push((input, offset, line.clone()));
        }
        Ok(plan)
    }
}

/// The chips of this machine and the names of their lines.
#[derive(Debug, Default)]
struct Directory {
    chips: Vec<ChipLines>,
    /// A chip that we may not open or that went away meanwhile.
    unreadable: Option<(PathBuf, gpiocdev::Error)>,
}

#[derive(Debug)]
struct ChipLines {
    path: PathBuf,
    label: String,
    lines: Vec<String>,
}

impl Directory {
    fn read() -> Result<Self, Error> {
        let refused = |error: std::io::Error| failed("open", error.into()).of("folder /dev");
        let mut directory = Self::default();
        // Not `gpiocdev::chip::chips`, which asks every file in the folder what it is.
        for entry in std::fs::read_dir("/dev").map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            if !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"gpiochip")) {
                continue;
            }
            match ChipLines::read(&path) {
                // Old names of a chip that was renumbered are links.
                Ok(chip) if directory.chips.iter().any(|known| known.path == chip.path) => {}
                Ok(chip) => directory.chips.push(chip),
                Err(error) => directory.unreadable = Some((path, error)),
            }
        }
        Ok(directory)
    }

    /// Where a line is. `purpose` is what the manifest calls it.
    fn find(&self, line: &LineRef, chip: Option<&str>, purpose: &str) -> Result<(PathBuf, Offset), Error> {
        let chips = match chip {
            Some(chip) => vec![self.chip(chip, purpose)?],
            None => self.chips.iter().collect(),
        };
        let name = match line {
            LineRef::Offset(offset) => {
                let [chip] = chips[..] else {
                    if chip.is_none() {
                        return Err(wrong(format!("{purpose}: line {offset} needs a chip")));
                    }
                    return Err(self.missing(format!("{purpose}: line {offset}")));
                };
                if usize::try_from(*offset).is_ok_and(|offset| offset < chip.lines.len()) {
                    return Ok((chip.path.clone(), *offset));
                }
                let (count, path) = (chip.lines.len(), chip.path.display());
                return Err(not_found(format!("{purpose}: line {offset} of {path}, which has {count}")));
            }
            LineRef::Name(name) => name,
        };
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(wrong(format!("{purpose}: a line's name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let mut places = chips.iter().flat_map(|chip| {
            let offsets = (0..).zip(&chip.lines).filter(|(_, known)| *known == name);
            offsets.map(|(offset, _)| (chip.path.clone(), offset))
        });
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some((one, _)), Some((other, _))) => {
                let (one, other) = (one.display(), other.display());
                Err(wrong(format!("{purpose}: there are two lines {name:?}, on {one} and {other}")))
            }
            (None, _) => match chip {
                Some(chip) => Err(not_found(format!("{purpose}: line {name:?} of {chip}"))),
                None => Err(self.missing(format!("{purpose}: line {name:?}"))),
            },
        }
    }

    fn chip(&self, wanted: &str, purpose: &str) -> Result<&ChipLines, Error> {
        // A link that udev made for the chip, perhaps.
        let path = Path::new(wanted).canonicalize().unwrap_or_else(|_| wanted.into());
        let mut found = self.chips.iter().filter(|chip| {
            chip.label == wanted
                || chip.path.file_name().is_some_and(|name| name == wanted)
                || chip.path == path
        });
        match (found.next(), found.next()) {
            (Some(chip), None) => Ok(chip),
            (Some(one), Some(other)) => {
                let (one, other) = (one.path.display(), other.path.display());
                Err(wrong(format!("{purpose}: chip {wanted:?} may be {one} or {other}")))
            }
            (None, _) => Err(self.missing(format!("{purpose}: chip {wanted:?}"))),
        }
    }

    /// Something is not there, or it is where we may not look.
    fn missing(&self, what: String) -> Error {
        match &self.unreadable {
            None => not_found(what),
            Some((path, error)) => {
                let error = failed("open", error.clone());
                error.of(format!("{what} (perhaps on {}, which cannot be read)", path.display()))
            }
        }
    }
}

impl ChipLines {
    fn read(path: &Path) -> Result<Self, gpiocdev::Error> {
        let chip = Chip::from_path(path)?;
        let label = chip.info()?.label;
        let lines =
            chip.line_info_iter()?.map(|info| Ok(info?.name)).collect::<Result<_, gpiocdev::Error>>()?;
        Ok(Self { path: chip.path().to_owned(), label, lines })
    }
}

/// Whether every line in `offsets` of the chip with one of `labels` is held by `consumer`.
pub(crate) fn are_held_by(labels: &[&str], offsets: &[Offset], consumer: &str) -> Result<bool, Error> {
    let directory = Directory::read()?;
    let Some(chip) = directory.chips.iter().find(|chip| labels.contains(&chip.label.as_str())) else {
        return Err(directory.missing(format!("chip {}", labels.join(" or "))));
    };
    let chip = Chip::from_path(&chip.path).map_err(|error| failed("watch", error))?;
    for offset in offsets {
        let info = chip.line_info(*offset).map_err(|error| failed("watch", error))?;
        if !info.used || info.consumer != consumer {
            return Ok(false);
        }
    }
    Ok(true)
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::Settings, "open", None).of(what)
}

fn not_found(what: String) -> Error {
    Error::new(ErrorKind::NotFound, "open", None).of(what)
}

/// Why lines were refused, with the one at fault when another process holds it.
fn refused(path: &Path, lines: Vec<(&'static str, Offset)>, error: gpiocdev::Error) -> Error {
    let error = failed("open", error);
    let holders = match error.kind() {
        ErrorKind::Busy => holders(path, &lines),
        _ => None,
    };
    error.of(holders.unwrap_or_else(|| {
        let names: Vec<_> = lines.iter().map(|(name, offset)| format!("{name} (line {offset})")).collect();
        format!("{} of {}", names.join(", "), path.display())
    }))
}

fn holders(path: &Path, lines: &[(&'static str, Offset)]) -> Option<String> {
    let chip = Chip::from_path(path).ok()?;
    let held = lines.iter().filter_map(|(name, offset)| {
        let info = chip.line_info(*offset).ok().filter(|info| info.used)?;
        Some(format!("{name} (line {offset} of {}, held by {:?})", path.display(), info.consumer))
    });
    let held: Vec<_> = held.collect();
    (!held.is_empty()).then(|| held.join(", "))
}

/// A failure of the library in our words.
fn failed(doing: &'static str, error: gpiocdev::Error) -> Error {
    let errno = errno(&error);
    let kind = match (&error, ErrorKind::of_errno(errno)) {
        (gpiocdev::Error::AbiLimitation(..) | gpiocdev::Error::InvalidArgument(_), _) => ErrorKind::Settings,
        (gpiocdev::Error::GpioChip(..) | gpiocdev::Error::NoGpioChips(), _) => ErrorKind::NotFound,
        // What is gone before we had it was not there.
        (_, ErrorKind::Disconnected) if doing == "open" => ErrorKind::NotFound,
        (_, kind) => kind,
    };
    let source = match errno {
        Some(errno) => std::io::Error::from_raw_os_error(errno),
        None => std::io::Error::other(error),
    };
    Error::new(kind, doing, Some(source))
}

fn errno(error: &gpiocdev::Error) -> Option<i32> {
    match error {
        gpiocdev::Error::Os(errno) | gpiocdev::Error::Uapi(_, gpiocdev_uapi::Error::Os(errno)) => {
            Some(errno.0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
