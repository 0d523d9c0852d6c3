//! A turnstile as its terminal strip shows it: six outputs that we drive, seven inputs that we watch.
//!
//! It deliberately knows no policy and no time: pulse lengths, debounce and what is entry or exit belong to
//! the engine and the manifest. Only the simulator is here by now; the GPIO character device and the
//! Raspberry Pi peer come with the real transports.

pub mod conformance;
pub mod sim;

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
    /// The operating system refused for another reason.
    Io,
}

/// A failure of the device.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the turnstile: {}", .kind.text())]
pub struct Error {
    kind: ErrorKind,
    doing: &'static str,
    #[source]
    source: Option<std::io::Error>,
}

impl Error {
    /// A failure of `kind` while `doing` ("open", "drive", "watch").
    #[must_use]
    pub fn new(kind: ErrorKind, doing: &'static str, source: Option<std::io::Error>) -> Self {
        Self { kind, doing, source }
    }

    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "no such device",
            Self::Busy => "lines are held by another process",
            Self::Disconnected => "device went away",
            Self::Io => "the operating system refused",
        }
    }
}
