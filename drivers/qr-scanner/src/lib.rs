//! A bar code scanner as the USB HID POS standard (usage page 0x8C) describes it: decoded text comes in, a
//! good or bad signal goes out.
//!
//! It deliberately does not look into the text: what an entry code is and who may pass belong to the engine.
//! Only the codec and the simulator are here by now; hidraw, tty and camera transports come with the real
//! transports.

pub mod codec;
pub mod conformance;
pub mod sim;

use std::future::Future;
use std::time::Instant;

/// A code that the scanner read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The decoded bytes, as they are in the symbol.
    pub text: Vec<u8>,
    /// AIM symbology identifier (ISO/IEC 15424), `]Q1` for a QR code; zeros when the scanner tells none.
    pub aim: [u8; 3],
    /// When its last report arrived; real time, for latency figures only.
    pub reported: Instant,
}

/// What the person in front of the scanner should notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Accepted: high tone, green.
    Good,
    /// Refused: low tone, red.
    Bad,
}

/// A scanner.
pub trait QrScanner: Send {
    /// The next code. Cancel-safe: a code is either returned or still there (with its reports so far) for the
    /// next call.
    ///
    /// # Errors
    /// `Garbled` for reports that make no code (the next call goes on with the next code); any other kind
    /// means that the scanner is gone until it is opened again.
    fn next_scan(&mut self) -> impl Future<Output = Result<Scan, Error>> + Send;

    /// Tells the shopper.
    ///
    /// # Errors
    /// When the scanner is gone.
    fn signal(&mut self, signal: Signal) -> Result<(), Error>;
}

/// What a shell can act on when a scanner fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such scanner now.
    NotFound,
    /// Somebody else reads it.
    Busy,
    /// It went away while in use.
    Disconnected,
    /// It sent what makes no sense; it may well go on.
    Garbled,
    /// Its report descriptor is not that of a bar code scanner.
    Unsupported,
    /// The operating system refused for another reason.
    Io,
}

/// A failure of the scanner.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the scanner: {}", .kind.text())]
pub struct Error {
    kind: ErrorKind,
    doing: &'static str,
    #[source]
    source: Option<Cause>,
}

/// What a failure of the scanner comes from.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The operating system.
    #[error("the operating system refused")]
    Io(#[source] std::io::Error),
    /// A report.
    #[error("report refused")]
    Report(#[source] codec::BadReport),
    /// The report descriptor.
    #[error("report descriptor refused")]
    Descriptor(#[source] codec::BadDescriptor),
}

impl Error {
    /// A failure of `kind` while `doing` ("open", "read", "signal").
    #[must_use]
    pub fn new(kind: ErrorKind, doing: &'static str, source: Option<Cause>) -> Self {
        Self { kind, doing, source }
    }

    /// What kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<codec::BadReport> for Error {
    fn from(bad: codec::BadReport) -> Self {
        Self::new(ErrorKind::Garbled, "read", Some(Cause::Report(bad)))
    }
}

impl From<codec::BadDescriptor> for Error {
    fn from(bad: codec::BadDescriptor) -> Self {
        Self::new(ErrorKind::Unsupported, "open", Some(Cause::Descriptor(bad)))
    }
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "no such device",
            Self::Busy => "another process reads it",
            Self::Disconnected => "device went away",
            Self::Garbled => "what it sent makes no sense",
            Self::Unsupported => "not a HID bar code scanner",
            Self::Io => "the operating system refused",
        }
    }
}
