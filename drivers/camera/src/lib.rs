//! Ceiling cameras as Video4Linux shows them: a stream of numbered frames, their pixel codecs, and a
//! simulator that hands out the same bytes.
//!
//! It deliberately does not look at what is in a picture, keep a history of frames or know where a camera
//! hangs.

pub mod codec;
pub mod conformance;
pub mod sim;
pub mod v4l2;

use std::fmt;
use std::future::Future;

use serde::{Deserialize, Serialize};

/// How the bytes of a [`Frame`] describe its pixels, named after the V4L2 four-character codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `YUYV`: 4:2:2, two bytes a pixel, BT.601 with limited range (what V4L2 means where a driver says
    /// nothing else).
    Yuyv,
    /// `MJPG`: one baseline JPEG a frame.
    Mjpeg,
    /// `GREY`: one byte a pixel, full range.
    Grey,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yuyv => "YUYV",
            Self::Mjpeg => "MJPG",
            Self::Grey => "GREY",
        })
    }
}

/// One dequeued buffer of a camera.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// When the sensor was exposed, in milliseconds on the box's time line.
    pub captured_ms: u64,
    /// Counts every exposure since the stream was switched on; a gap means lost frames.
    pub sequence: u32,
    /// Pixels a line, as negotiated with the device.
    pub width: u32,
    /// Lines, as negotiated with the device.
    pub height: u32,
    /// What `data` is.
    pub format: Format,
    /// The bytes as they came; nothing about their length is promised before [`codec::decode`].
    pub data: Vec<u8>,
}

/// Leaves the picture out: people are on it.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("captured_ms", &self.captured_ms)
            .field("sequence", &self.sequence)
            .field("width", &self.width)
            .field("height", &self.height)
            .field("format", &self.format)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// A picture of 8-bit red, green and blue, row by row from the top left, without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub data: Vec<u8>,
}

impl Rgb {
    /// A black picture.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, height, data: vec![0; width as usize * height as usize * 3] }
    }
}

/// Leaves the picture out: people are on it.
impl fmt::Debug for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rgb")
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

/// Why a camera gave no picture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is gone from its bus.
    #[error("camera is disconnected")]
    Disconnected,
    /// There is no such device.
    #[error("there is no camera at {path}")]
    NotFound {
        /// The device.
        path: String,
    },
    /// Somebody else streams from it.
    #[error("camera at {path} is used by somebody else")]
    Busy {
        /// The device.
        path: String,
    },
    /// It is no camera, or does not offer what was asked.
    #[error("camera at {path} cannot be used: {what}")]
    Unsupported {
        /// The device.
        path: String,
        /// What it cannot do, and what it can.
        what: String,
    },
    /// It stopped to send frames.
    #[error("camera at {path} has sent nothing for {seconds} s")]
    Stalled {
        /// The device.
        path: String,
        /// How long nothing came.
        seconds: u64,
    },
    /// The operating system refused.
    #[error("{doing} the camera at {path} failed")]
    Io {
        /// The device.
        path: String,
        /// What was tried, as "opening".
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A side is zero or longer than [`codec::SIDE_MAX`].
    #[error("{width}x{height} pixels is no size of a frame: each side must be 1 to {}", codec::SIDE_MAX)]
    Side {
        /// Pixels a line that the frame claims.
        width: u32,
        /// Lines that the frame claims.
        height: u32,
    },
    /// The buffer does not hold what its format and size need.
    #[error("{format} frame of {width}x{height} holds {found} bytes instead of {expected}")]
    Length {
        /// The format of the frame.
        format: Format,
        /// Pixels a line.
        width: u32,
        /// Lines.
        height: u32,
        /// Bytes that such a frame has.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// The JPEG stops before its end marker.
    #[error("MJPG frame of {width}x{height} is cut off after {found} bytes")]
    Truncated {
        /// Pixels a line.
        width: u32,
        /// Lines.
        height: u32,
        /// Bytes that came.
        found: usize,
    },
    /// The JPEG is of another size than the stream.
    #[error("MJPG frame of {width}x{height} holds a picture of {found_width}x{found_height}")]
    Picture {
        /// Pixels a line that were negotiated.
        width: u32,
        /// Lines that were negotiated.
        height: u32,
        /// Pixels a line of the JPEG.
        found_width: usize,
        /// Lines of the JPEG.
        found_height: usize,
    },
    /// The JPEG is damaged inside.
    #[error("MJPG frame of {width}x{height} in {found} bytes does not decode")]
    Jpeg {
        /// Pixels a line.
        width: u32,
        /// Lines.
        height: u32,
        /// Bytes that came.
        found: usize,
        /// What the decoder says.
        source: zune_jpeg::errors::DecodeErrors,
    },
    /// A picture cannot be written as JPEG.
    #[error("picture of {width}x{height} cannot be encoded as JPEG")]
    Encode {
        /// Pixels a line.
        width: u32,
        /// Lines.
        height: u32,
        /// What the encoder says.
        source: jpeg_encoder::EncodingError,
    },
}

/// What a shell can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Wait, then ask for a frame again: the device is opened anew.
    Disconnected,
    /// There is no such device now.
    NotFound,
    /// Somebody else streams from it.
    Busy,
    /// The operating system refused for another reason.
    Io,
    /// Skip this frame; the next one may be good.
    BadFrame,
    /// The caller asked for something that this camera cannot do.
    Unsupported,
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Disconnected | Self::Stalled { .. } => ErrorKind::Disconnected,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Io { .. } => ErrorKind::Io,
            Self::Side { .. }
            | Self::Length { .. }
            | Self::Truncated { .. }
            | Self::Picture { .. }
            | Self::Jpeg { .. } => ErrorKind::BadFrame,
            Self::Encode { .. } | Self::Unsupported { .. } => ErrorKind::Unsupported,
        }
    }
}

/// A camera that streams.
pub trait Camera: Send {
    /// The next frame, waiting for it as long as it takes. Where the caller is slower than the camera, the
    /// oldest frames are lost and their numbers are missing from [`Frame::sequence`].
    ///
    /// Cancel-safe: a frame is taken only when the future is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Disconnected`] at once while the device is gone. The next call tries to open it again, so a
    /// caller waits between calls.
    fn next_frame(&mut self) -> impl Future<Output = Result<Frame, Error>> + Send;
}
