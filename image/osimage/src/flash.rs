//! Writes an image to a card so that a card is either whole or does not start.
//!
//! The first MiB of the card and its last are wiped before anything else, and the first and last MiB of the
//! image, which hold the partition tables, are kept back until everything in between is written, flushed and
//! read back. Only mapped blocks are written.

use std::io::{self, Read, Seek, SeekFrom, Write};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::bmap::{self, Bmap, BmapError};
use crate::{ALIGNMENT, CHUNK};

/// Where an image is written to.
pub trait Target: Read + Write + Seek {
    /// Makes sure that what was written is on the medium, and that reading fetches it from there.
    ///
    /// # Errors
    ///
    /// When the medium says so.
    fn sync(&mut self) -> io::Result<()>;
}

/// What the flashing does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Writing.
    Write,
    /// Reading back.
    Verify,
    /// Writing the kept-back parts.
    Finish,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes of this phase.
    pub total: u64,
}

/// Why a card is not usable now.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// The card is too small; nothing was written.
    #[error("target has {target} bytes, the image needs {image}")]
    TooSmall {
        /// Bytes of the card.
        target: u64,
        /// Bytes of the image.
        image: u64,
    },
    /// The image is not what its block map says.
    #[error("use image")]
    Image(#[source] BmapError),
    /// The card could not be written.
    #[error("{doing} target at byte {at}")]
    Target {
        /// Measure, wipe, write, flush or read back.
        doing: &'static str,
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// The card gives back other bytes than were written: it is worn out, or smaller than it says.
    #[error("target reads back other bytes than were written, between bytes {start} and {end}")]
    ReadBack {
        /// First byte of the stretch.
        start: u64,
        /// Byte after the stretch.
        end: u64,
    },
}

/// Writes the mapped blocks of `image` to `target` and reads them back, telling `progress`. After an error
/// the target has no partition table, if it still takes writes at all.
///
/// # Errors
///
/// [`FlashError`].
pub fn flash(
    image: &mut (impl Read + Seek),
    bmap: &Bmap,
    target: &mut impl Target,
    progress: impl FnMut(Progress),
) -> Result<(), FlashError> {
    let size = target.seek(SeekFrom::End(0)).map_err(fail("measure", 0))?;
    if size < bmap.image_size {
        return Err(FlashError::TooSmall { target: size, image: bmap.image_size });
    }
    let result = write_all(image, bmap, target, size, progress);
    if result.is_err() {
        // The first error is the one to tell; a card that cannot be wiped either stays without its tables
        // mostly.
        let _ = wipe_ends(target, size);
    }
    result
}

fn write_all(
    image: &mut (impl Read + Seek),
    bmap: &Bmap,
    target: &mut impl Target,
    size: u64,
    mut progress: impl FnMut(Progress),
) -> Result<(), FlashError> {
    wipe_ends(target, size)?;

    let mut tell = |phase, done, total| progress(Progress { phase, done, total });
    let total = bmap.mapped();
    let mut kept_back: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    for range in &bmap.ranges {
        let mut digest = Sha256::new();
        for piece in pieces(bmap, range) {
            let bytes = &mut buffer[..(piece.end - piece.start) as usize];
            let read = image.seek(SeekFrom::Start(piece.start)).and_then(|_| image.read_exact(bytes));
            read.map_err(|source| FlashError::Image(BmapError::Read { at: piece.start, source }))?;
            digest.update(&*bytes);
            if piece.late {
                kept_back.push((piece.start, bytes.to_vec()));
            } else {
                write_at(target, piece.start, bytes, "write")?;
            }
            done += bytes.len() as u64;
            tell(Phase::Write, done, total);
        }
        let found: [u8; 32] = digest.finalize().into();
        if found != range.sha256 {
            return Err(FlashError::Image(bmap::damage(range, &found)));
        }
    }
    target.sync().map_err(fail("flush", size))?;

    done = 0;
    for range in &bmap.ranges {
        let mut digest = Sha256::new();
        for piece in pieces(bmap, range) {
            let late = kept_back.iter().find(|(start, _)| *start == piece.start);
            let length = (piece.end - piece.start) as usize;
            match late {
                Some((_, bytes)) => digest.update(bytes),
                None => {
                    read_at(target, piece.start, &mut buffer[..length])?;
                    digest.update(&buffer[..length]);
                }
            }
            done += length as u64;
            tell(Phase::Verify, done, total);
        }
        if <[u8; 32]>::from(digest.finalize()) != range.sha256 {
            let start = bmap.start(range);
            return Err(FlashError::ReadBack { start, end: start + bmap.length(range) });
        }
    }

    // The backup table first: once the primary one is there, the card is whole.
    kept_back.sort_by_key(|(start, _)| std::cmp::Reverse(*start));
    let total = kept_back.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    done = 0;
    for (start, bytes) in &kept_back {
        write_at(target, *start, bytes, "write")?;
        target.sync().map_err(fail("flush", *start))?;
        let back = &mut buffer[..bytes.len()];
        read_at(target, *start, back)?;
        if back != &bytes[..] {
            return Err(FlashError::ReadBack { start: *start, end: start + bytes.len() as u64 });
        }
        done += bytes.len() as u64;
        tell(Phase::Finish, done, total);
    }
    Ok(())
}

/// A part of a stretch, at most [`CHUNK`] long.
struct Piece {
    start: u64,
    end: u64,
    /// Kept back: in the first or last MiB of the image.
    late: bool,
}

fn pieces(bmap: &Bmap, range: &bmap::Range) -> impl Iterator<Item = Piece> {
    let (mut start, end) = (bmap.start(range), bmap.start(range) + bmap.length(range));
    let head = ALIGNMENT.min(bmap.image_size);
    let tail = bmap.image_size.saturating_sub(ALIGNMENT).max(head);
    std::iter::from_fn(move || {
        let border = [head, tail].into_iter().find(|border| *border > start).unwrap_or(end);
        let piece = Piece {
            start,
            end: end.min(border).min(start + CHUNK as u64),
            late: start < head || start >= tail,
        };
        start = piece.end;
        (piece.start < piece.end).then_some(piece)
    })
}

/// Zeros over the first and last MiB of the target: no firmware finds an old or half a partition table.
fn wipe_ends(target: &mut impl Target, size: u64) -> Result<(), FlashError> {
    let length = size.min(ALIGNMENT);
    let zeros = vec![0; length as usize];
    write_at(target, 0, &zeros, "wipe")?;
    write_at(target, size - length, &zeros, "wipe")?;
    target.sync().map_err(fail("flush", 0))
}

fn write_at(target: &mut impl Target, at: u64, bytes: &[u8], doing: &'static str) -> Result<(), FlashError> {
    target.seek(SeekFrom::Start(at)).and_then(|_| target.write_all(bytes)).map_err(fail(doing, at))
}

fn read_at(target: &mut impl Target, at: u64, bytes: &mut [u8]) -> Result<(), FlashError> {
    target.seek(SeekFrom::Start(at)).and_then(|_| target.read_exact(bytes)).map_err(fail("read back", at))
}

fn fail(doing: &'static str, at: u64) -> impl FnOnce(io::Error) -> FlashError {
    move |source| FlashError::Target { doing, at, source }
}
