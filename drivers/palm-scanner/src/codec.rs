//! The framing of the bulk endpoint. Pure; any bytes give frames or errors.
//!
//! Every frame is a header of 16 bytes, little-endian, and the pixels:
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 2 | magic, `PV` |
//! | 2 | 1 | sequence number, wraps |
//! | 3 | 1 | low nibble: pixel format (0 = GREY); high nibble: light (0 none, 1 850 nm, 2 940 nm) |
//! | 4 | 4 | device clock in milliseconds, wraps |
//! | 8 | 2 | pixels a line |
//! | 10 | 2 | lines |
//! | 12 | 4 | CRC-32 (IEEE 802.3) of the first twelve bytes and the pixels |

use zeroize::{Zeroize, Zeroizing};

use crate::Illumination;

/// Bytes before the pixels.
pub const HEADER_LEN: usize = 16;

/// Pixels of a frame at most, 1280 x 1024: bounds what a device can make us hold.
pub const PIXELS_MAX: usize = 1280 * 1024;

/// Bytes of one bulk transfer at most, as such sensors use (32 KiB).
pub const TRANSFER_MAX: usize = 32 * 1024;

const MAGIC: [u8; 2] = *b"PV";
const GREY: u8 = 0;

/// A frame as the bulk endpoint carries it.
pub struct BulkFrame {
    /// Lowest byte of the device's frame count.
    pub sequence: u8,
    /// Milliseconds on the device's clock.
    pub device_ms: u32,
    /// Pixels a line.
    pub width: u16,
    /// Lines.
    pub height: u16,
    /// The light in which it was taken.
    pub illumination: Illumination,
    /// `width * height` bytes.
    pub data: Zeroizing<Vec<u8>>,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Bytes that belong to no frame were skipped up to the next magic.
    #[error("{bytes} bytes belong to no frame")]
    Stray {
        /// How many.
        bytes: usize,
    },
    /// The header names a pixel format or a light that this codec does not know.
    #[error("frame {sequence} is of unknown format {format:#04x}")]
    Format {
        /// Its number.
        sequence: u8,
        /// The format byte.
        format: u8,
    },
    /// The header names a size that cannot be.
    #[error("frame {sequence} claims {width}x{height} pixels, allowed are 1 to {PIXELS_MAX} in all")]
    Size {
        /// Its number.
        sequence: u8,
        /// Pixels a line.
        width: u16,
        /// Lines.
        height: u16,
    },
    /// The checksum does not match: bytes were damaged or lost.
    #[error("frame {sequence} of {width}x{height} has checksum {found:#010x} instead of {expected:#010x}")]
    Checksum {
        /// Its number.
        sequence: u8,
        /// Pixels a line.
        width: u16,
        /// Lines.
        height: u16,
        /// Checksum of the bytes that came.
        found: u32,
        /// Checksum that the header tells.
        expected: u32,
    },
}

/// Writes `frame` as the device sends it.
///
/// # Panics
///
/// When `frame.data` is not `width * height` bytes.
#[must_use]
pub fn encode(frame: &BulkFrame) -> Zeroizing<Vec<u8>> {
    let pixels = usize::from(frame.width) * usize::from(frame.height);
    assert_eq!(frame.data.len(), pixels, "a GREY frame has one byte a pixel");
    let light: u8 = match frame.illumination {
        Illumination::Unlit => 0,
        Illumination::Nm850 => 1,
        Illumination::Nm940 => 2,
    };
    let mut out = Zeroizing::new(Vec::with_capacity(HEADER_LEN + pixels));
    out.extend(MAGIC);
    out.extend([frame.sequence, light << 4 | GREY]);
    out.extend(frame.device_ms.to_le_bytes());
    out.extend(frame.width.to_le_bytes());
    out.extend(frame.height.to_le_bytes());
    let checksum = checksum(&out, &frame.data);
    out.extend(checksum.to_le_bytes());
    out.extend_from_slice(&frame.data);
    out
}

/// Cuts the bytes of a bulk endpoint into frames, whatever the transfers were, and finds its place again
/// after damage.
pub struct Deframer {
    buffer: Zeroizing<Vec<u8>>,
    stray: usize,
}

impl Default for Deframer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deframer {
    /// Nothing received yet.
    #[must_use]
    pub fn new() -> Self {
        // All that can ever be held, at once: a growing buffer would leave copies of palms in freed memory.
        let buffer = Zeroizing::new(Vec::with_capacity(HEADER_LEN + PIXELS_MAX + TRANSFER_MAX));
        Self { buffer, stray: 0 }
    }

    /// Forgets what was received, as after a new start of the device.
    pub fn clear(&mut self) {
        self.buffer.zeroize();
        self.stray = 0;
    }

    /// Adds one transfer, of at most [`TRANSFER_MAX`] bytes. Ask for [`Deframer::next_frame`] until it has
    /// none before the next transfer.
    ///
    /// # Panics
    ///
    /// When the transfer is longer, or frames were left in.
    pub fn push(&mut self, transfer: &[u8]) {
        assert!(transfer.len() <= TRANSFER_MAX, "a transfer has at most 32 KiB");
        assert!(
            self.buffer.len() + transfer.len() <= self.buffer.capacity(),
            "frames are taken out before the next transfer"
        );
        self.buffer.extend_from_slice(transfer);
    }

    /// The next whole frame or the next thing wrong; `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Option<Result<BulkFrame, BadFrame>> {
        self.skip_stray();
        if self.buffer.len() < HEADER_LEN {
            return None;
        }
        if self.stray > 0 {
            return Some(Err(BadFrame::Stray { bytes: std::mem::take(&mut self.stray) }));
        }
        let header: [u8; HEADER_LEN] = self.buffer.first_chunk().copied()?;
        let [_, _, sequence, format, a, b, c, d, w0, w1, h0, h1, k0, k1, k2, k3] = header;
        let illumination = match format {
            0x00 => Illumination::Unlit,
            0x10 => Illumination::Nm850,
            0x20 => Illumination::Nm940,
            _ => {
                self.drop_first(MAGIC.len());
                return Some(Err(BadFrame::Format { sequence, format }));
            }
        };
        let (width, height) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]));
        let pixels = usize::from(width) * usize::from(height);
        if pixels == 0 || pixels > PIXELS_MAX {
            self.drop_first(MAGIC.len());
            return Some(Err(BadFrame::Size { sequence, width, height }));
        }
        let data = self.buffer.get(HEADER_LEN..HEADER_LEN + pixels)?;
        let expected = u32::from_le_bytes([k0, k1, k2, k3]);
        let found = checksum(&header[..12], data);
        if found != expected {
            // A lost byte moves the next frame into this one: only the magic is given up, not the whole
            // length.
            self.drop_first(MAGIC.len());
            return Some(Err(BadFrame::Checksum { sequence, width, height, found, expected }));
        }
        let data = Zeroizing::new(data.to_vec());
        self.drop_first(HEADER_LEN + pixels);
        let device_ms = u32::from_le_bytes([a, b, c, d]);
        Some(Ok(BulkFrame { sequence, device_ms, width, height, illumination, data }))
    }

    /// Drops what stands before the next magic. A last byte that may be its first half stays.
    fn skip_stray(&mut self) {
        let found = self.buffer.windows(MAGIC.len()).position(|pair| pair == MAGIC);
        let stray = found.unwrap_or_else(|| {
            let half = usize::from(self.buffer.last() == Some(&MAGIC[0]));
            self.buffer.len() - half
        });
        self.stray += stray;
        self.drop_first(stray);
    }

    fn drop_first(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let left = self.buffer.len() - count;
        self.buffer.copy_within(count.., 0);
        self.buffer[left..].zeroize();
        self.buffer.truncate(left);
    }
}

fn checksum(header: &[u8], data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(data);
    hasher.finalize()
}
