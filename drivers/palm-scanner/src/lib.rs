//! A palm scanner with a vendor bulk endpoint: near-infrared pictures of a palm come in, its illumination and
//! its light ring go out.
//!
//! It deliberately neither finds the palm in a picture nor knows whose it is, and keeps no picture: that is
//! the business of the palm matcher. The USB transport is not part of the crate yet; the simulator sends the
//! same bulk bytes.

pub mod codec;
pub mod conformance;
pub mod sim;

use std::future::Future;
use std::time::Instant;

use zeroize::Zeroizing;

/// Which light-emitting diodes are on while the sensor is exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Illumination {
    /// None: ambient light only, to subtract it and to tell a screen or a print from a hand.
    Unlit,
    /// 850 nm: the wavelength with the lowest published error rates.
    Nm850,
    /// 940 nm: invisible, and less disturbed by daylight.
    Nm940,
}

/// What the light ring tells the shopper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ready: hold the palm over the scanner.
    Idle,
    /// Accepted.
    Good,
    /// Refused.
    Bad,
}

/// One near-infrared picture, eight bits a pixel. It has no `Debug`, and its pixels are overwritten when it
/// is dropped: a palm is a biometric.
pub struct Frame {
    /// Counts the frames that the device sent since it was armed; a gap means lost frames.
    pub sequence: u32,
    /// Milliseconds on the device's own clock, which starts anywhere and wraps.
    pub device_ms: u32,
    /// Pixels a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// The light in which it was taken.
    pub illumination: Illumination,
    /// `width * height` bytes, row by row from the top left.
    pub data: Zeroizing<Vec<u8>>,
    /// When its last byte arrived; real time, for latency figures only.
    pub reported: Instant,
}

/// Why a palm scanner gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is gone from its bus.
    #[error("palm scanner is disconnected")]
    Disconnected,
    /// A frame was asked of a device that is not armed: it has just been opened or plugged in.
    #[error("palm scanner is not armed")]
    NotArmed,
    /// The bytes of the bulk endpoint are no frame.
    #[error("palm scanner sent a bad frame")]
    BadFrame(#[from] codec::BadFrame),
}

/// What a shell can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Wait, then arm it again: the device is opened anew.
    Disconnected,
    /// Arm it.
    NotArmed,
    /// Ask for the next frame: it may be good.
    BadFrame,
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Disconnected => ErrorKind::Disconnected,
            Self::NotArmed => ErrorKind::NotArmed,
            Self::BadFrame(_) => ErrorKind::BadFrame,
        }
    }
}

/// A palm scanner.
pub trait PalmScanner: Send {
    /// Switches this light on and lets the sensor send a frame whenever something covers it. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::Disconnected`] while the device is gone; each call tries to open it again.
    fn arm(&mut self, illumination: Illumination) -> Result<(), Error>;

    /// The next frame, waiting for it as long as it takes. Where the caller is slow, the oldest frames are
    /// lost.
    ///
    /// Cancel-safe: what arrived of a frame is kept for the next call.
    ///
    /// # Errors
    ///
    /// [`Error::NotArmed`] before [`PalmScanner::arm`], [`Error::BadFrame`] once for each frame that arrived
    /// damaged, [`Error::Disconnected`] when the device goes away.
    fn next_frame(&mut self) -> impl Future<Output = Result<Frame, Error>> + Send;

    /// Shows `signal` on the light ring until the next one.
    ///
    /// # Errors
    ///
    /// [`Error::Disconnected`] while the device is gone.
    fn signal(&mut self, signal: Signal) -> Result<(), Error>;
}
