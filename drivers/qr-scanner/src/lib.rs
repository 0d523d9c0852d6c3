//! A bar code scanner as the USB HID POS standard (usage page 0x8C) describes it, as a serial line or as a
//! keyboard: decoded text comes in, a good or bad signal goes out.
//!
//! It deliberately does not look into the text: what an entry code is and who may pass belong to the engine.
//! It deliberately never opens a scanner again by itself either: a lost one is the caller's to reopen, at once
//! when [`arrivals`] tells, or after a pause. Scanners that speak the vendor's own protocol (IBM OEM, SNAPI)
//! are to be set to one of the three ways here.

mod arrivals;
#[cfg(feature = "hid")]
mod beeper;
pub mod codec;
pub mod conformance;
mod epoll;
#[cfg(feature = "hid")]
pub mod hid;
#[cfg(feature = "hid")]
mod hidraw;
#[cfg(feature = "keyboard")]
pub mod keyboard;
pub mod select;
#[cfg(feature = "serial")]
pub mod serial;
pub mod sim;
#[cfg(any(feature = "hid", feature = "serial", feature = "keyboard"))]
mod sysfs;
#[cfg(feature = "hid")]
mod usb;

use std::future::Future;
use std::io;
use std::time::Instant;

pub use arrivals::{Arrivals, arrivals};

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

    /// Tells the shopper, as far as the scanner can: one without beeper and lamp does nothing. It never waits.
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
    /// Several devices fit the settings, and which one is this lane's cannot be guessed.
    Ambiguous,
    /// Somebody else reads it.
    Busy,
    /// It went away while in use.
    Disconnected,
    /// It sent what makes no sense; it may well go on.
    Garbled,
    /// It is no scanner of the kind that the settings tell.
    Unsupported,
    /// The settings name no device, or what no device can do.
    Misconfigured,
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
    Io(#[source] io::Error),
    /// A report.
    #[error("report refused")]
    Report(#[source] codec::report::BadReport),
    /// A code of a stream.
    #[error("code refused")]
    Text(#[source] codec::text::BadText),
    /// The report descriptor.
    #[error("report descriptor refused")]
    Descriptor(#[source] codec::descriptor::BadDescriptor),
    /// What fits the settings, by name.
    #[error("these fit: {0}")]
    Candidates(String),
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

#[cfg(any(feature = "hid", feature = "serial", feature = "keyboard"))]
impl Error {
    /// The operating system's refusal of opening.
    pub(crate) fn opening(error: impl Into<io::Error>) -> Self {
        use rustix::io::Errno;
        let error = error.into();
        let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::NOTDIR) => ErrorKind::NotFound,
            Some(Errno::BUSY | Errno::AGAIN) => ErrorKind::Busy,
            Some(Errno::NOTTY | Errno::INVAL) => ErrorKind::Unsupported,
            // A device that leaves while it is being opened.
            Some(Errno::IO | Errno::PIPE | Errno::SHUTDOWN) => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self::new(kind, "open", Some(Cause::Io(error)))
    }

    /// The operating system's refusal of using what was open: with a device that only means that it is gone.
    pub(crate) fn lost(doing: &'static str, error: impl Into<io::Error>) -> Self {
        Self::new(ErrorKind::Disconnected, doing, Some(Cause::Io(error.into())))
    }
}

impl From<codec::report::BadReport> for Error {
    fn from(bad: codec::report::BadReport) -> Self {
        Self::new(ErrorKind::Garbled, "read", Some(Cause::Report(bad)))
    }
}

impl From<codec::text::BadText> for Error {
    fn from(bad: codec::text::BadText) -> Self {
        Self::new(ErrorKind::Garbled, "read", Some(Cause::Text(bad)))
    }
}

impl From<codec::descriptor::BadDescriptor> for Error {
    fn from(bad: codec::descriptor::BadDescriptor) -> Self {
        Self::new(ErrorKind::Unsupported, "open", Some(Cause::Descriptor(bad)))
    }
}

impl ErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "no such device",
            Self::Ambiguous => "several devices fit its settings",
            Self::Busy => "another process reads it",
            Self::Disconnected => "device went away",
            Self::Garbled => "what it sent makes no sense",
            Self::Unsupported => "not a scanner of this kind",
            Self::Misconfigured => "its settings name no device",
            Self::Io => "the operating system refused",
        }
    }
}
