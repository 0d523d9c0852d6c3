//! Card readers: OSDP with its secure channel, Wiegand as input, and a simulated reader that speaks real OSDP.
//!
//! It deliberately knows no member, no lane and no policy: it says which bits a card showed and how the reader
//! is, and never opens a link that is not encrypted where the protocol can encrypt.

pub mod codec;
pub mod conformance;
mod error;
pub mod osdp;
pub mod sim;
pub mod wiegand;

use std::fmt;
use std::future::Future;
use std::time::Instant;

pub use error::{Cause, Error, ErrorKind};

use codec::{Bits, Format};

/// A card that was shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Card {
    /// The bits as the reader sent them, parity included.
    pub bits: Bits,
    /// The layout that their count and parity fit.
    pub format: Format,
    /// Facility (site) code, where the format has one.
    pub facility: Option<u32>,
    /// Card number, where the format has one.
    pub number: Option<u32>,
    /// When the last of it arrived; real time, for latency figures only.
    pub reported: Instant,
}

/// Leaves the bits and numbers out: they are the credential.
impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("bits", &self.bits.len())
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// How the reader is. `None` where a reader of its kind cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// It answers. A Wiegand reader cannot be asked, so its wires count as one that does.
    pub online: bool,
    /// What it sends is encrypted and authenticated with a key of its own.
    pub secure: bool,
    /// Its housing was opened.
    pub tamper: Option<bool>,
    /// Its supply is failing.
    pub power_failing: Option<bool>,
}

/// What a reader tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A card was shown.
    Card(Card),
    /// The status, once after opening and then whenever it changes.
    Status(Status),
}

/// What the person in front of the reader should notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Accepted: one short tone, green.
    Good,
    /// Refused: three short tones, red.
    Bad,
}

/// A card reader.
pub trait CardReader: Send {
    /// The next card or change of status. Cancel-safe: a report is either returned or still there for the next
    /// call.
    ///
    /// # Errors
    /// `Garbled` for what makes no card (the next call goes on with the next one); any other kind means that
    /// the reader is gone until it is opened again.
    fn next_report(&mut self) -> impl Future<Output = Result<Report, Error>> + Send;

    /// Tells the person, without waiting for the reader: what it cannot take now is dropped.
    ///
    /// # Errors
    /// `Unsupported` where the reader has no way to be told, `Disconnected` when it is gone.
    fn signal(&mut self, signal: Signal) -> Result<(), Error>;
}
