//! A turnstile as its terminal strip shows it: six outputs that we drive, seven inputs that we watch.
//!
//! Three peers stand behind one trait: the kernel's GPIO character device ([`cdev`], on any board), the
//! registers of a Raspberry Pi ([`rpi`]) and a simulator ([`sim`]).
//!
//! It deliberately knows no policy and no time: pulse lengths and what is entry or exit belong to the engine
//! and the manifest, debouncing to the kernel, opening again after a loss to the shell.

pub mod cdev;
pub mod conformance;
mod edges;
#[cfg(feature = "gpiosim")]
pub mod gpiosim;
pub mod rpi;
pub mod sim;
pub mod wiring;

use std::future::Future;
use std::time::Instant;

/// What the output lines should be: levels, not edges. `true` is active. The default, everything inactive, is
/// the safe state: a turnstile whose lines are all inactive keeps its own fail-safe behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    /// Release direction A. Pulse control: the engine keeps it below two seconds.
    pub unlock_a: bool,
    /// Release direction B.
    pub unlock_b: bool,
    /// Stop: close the lane for both directions.
    pub stop: bool,
    /// Red light.
    pub beacon_red: bool,
    /// Green light.
    pub beacon_green: bool,
    /// Open wide for the passages to come (wheelchair, pram).
    pub wide: bool,
}

impl Outputs {
    /// Every line inactive.
    pub const INACTIVE: Self = Self {
        unlock_a: false,
        unlock_b: false,
        stop: false,
        beacon_red: false,
        beacon_green: false,
        wide: false,
    };
}

/// An output line of the terminal strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Release direction A.
    UnlockA,
    /// Release direction B.
    UnlockB,
    /// Close the lane.
    Stop,
    /// Red light.
    BeaconRed,
    /// Green light.
    BeaconGreen,
    /// Open wide.
    Wide,
}

impl Output {
    /// All output lines; the unlock lines come first, so that they also fall first.
    pub const ALL: [Self; 6] =
        [Self::UnlockA, Self::UnlockB, Self::Stop, Self::BeaconRed, Self::BeaconGreen, Self::Wide];

    /// Its key in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnlockA => "unlock_a",
            Self::UnlockB => "unlock_b",
            Self::Stop => "stop",
            Self::BeaconRed => "beacon_red",
            Self::BeaconGreen => "beacon_green",
            Self::Wide => "wide",
        }
    }

    /// Its level in `outputs`.
    #[must_use]
    pub fn of(self, outputs: Outputs) -> bool {
        match self {
            Self::UnlockA => outputs.unlock_a,
            Self::UnlockB => outputs.unlock_b,
            Self::Stop => outputs.stop,
            Self::BeaconRed => outputs.beacon_red,
            Self::BeaconGreen => outputs.beacon_green,
            Self::Wide => outputs.wide,
        }
    }
}

/// An input line of the terminal strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Line {
    /// PASS A: somebody has gone through in direction A.
    PassageA,
    /// PASS B: somebody has gone through in direction B.
    PassageB,
    /// READY: the controller works and takes commands.
    Ready,
    /// DETECTOR: the intrusion sensor sees somebody between the wings.
    Detector,
    /// FIRE ALARM, a contact that also releases the turnstile in hardware.
    FireAlarm,
    /// The cabinet is open.
    Tamper,
    /// Somebody pressed the emergency exit button.
    EmergencyButton,
}

impl Line {
    /// All input lines.
    pub const ALL: [Self; 7] = [
        Self::PassageA,
        Self::PassageB,
        Self::Ready,
        Self::Detector,
        Self::FireAlarm,
        Self::Tamper,
        Self::EmergencyButton,
    ];

    /// Its key in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PassageA => "passage_a",
            Self::PassageB => "passage_b",
            Self::Ready => "ready",
            Self::Detector => "detector",
            Self::FireAlarm => "fire_alarm",
            Self::Tamper => "tamper",
            Self::EmergencyButton => "emergency_button",
        }
    }

    /// Its level when nothing happens, which is also what a line without a wire has: only READY is active.
    #[must_use]
    pub fn at_rest(self) -> bool {
        self == Self::Ready
    }
}

/// An input line has this level now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which line.
    pub line: Line,
    /// Its level after the edge.
    pub active: bool,
    /// When the kernel (or the simulator) saw it; real time, for latency figures only.
    pub at: Instant,
}

/// A turnstile.
///
/// Dropping it leaves every output inactive.
pub trait Turnstile: Send {
    /// Makes the output lines equal to `outputs`; calling it twice with the same levels changes nothing.
    ///
    /// # Errors
    /// When the device does not take the levels; what the lines are then is the hardware's fail-safe state.
    fn drive(&mut self, outputs: Outputs) -> Result<(), Error>;

    /// The next edge. After opening, every line is reported once with its level, so that the receiver knows
    /// them all; the same happens when edges were lost because nobody asked for them. Cancel-safe: an edge is
    /// either returned or still there for the next call.
    ///
    /// # Errors
    /// When the device is gone; it stays gone until it is opened again.
    fn next_edge(&mut self) -> impl Future<Output = Result<Edge, Error>> + Send;
}

/// What a shell can act on when a turnstile fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such device now.
    NotFound,
    /// Somebody else holds its lines.
    Busy,
    /// It went away while in use.
    Disconnected,
    /// The settings contradict themselves or ask for what no chip can do; opening again will not help.
    Settings,
    /// The operating system refused for another reason.
    Io,
}

/// A failure of the device.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the turnstile{}: {}", In(.subject.as_deref()), .kind.text())]
pub struct Error {
    kind: ErrorKind,
    doing: &'static str,
    subject: Option<String>,
    #[source]
    source: Option<std::io::Error>,
}

impl Error {
    /// A failure of `kind` while `doing` ("open", "drive", "watch").
    #[must_use]
    pub fn new(kind: ErrorKind, doing: &'static str, source: Option<std::io::Error>) -> Self {
        Self { kind, doing, subject: None, source }
    }

    /// The same failure, with the line or the chip that it concerns.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// The part of an error's text that names the line.
struct In<'a>(Option<&'a str>);

impl std::fmt::Display for In<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |subject| write!(formatter, ", {subject}"))
    }
}

impl ErrorKind {
    /// The kind that an error number of a GPIO system call means.
    fn of_errno(errno: Option<i32>) -> Self {
        use rustix::io::Errno;
        match errno.map(Errno::from_raw_os_error) {
            Some(Errno::BUSY) => Self::Busy,
            // The chip's driver was unbound or its cable pulled while we held lines of it.
            Some(Errno::NODEV) => Self::Disconnected,
            Some(Errno::NOENT | Errno::NXIO) => Self::NotFound,
            _ => Self::Io,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "no such device",
            Self::Busy => "lines are held by another process",
            Self::Disconnected => "device went away",
            Self::Settings => "the settings cannot be carried out",
            Self::Io => "the operating system refused",
        }
    }
}
