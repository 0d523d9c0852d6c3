//! An image in pieces, as they go from the reader to the cards.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::FlashError;
use crate::bmap::{self, Bmap, BmapError};
use crate::source::Source;
use crate::{ALIGNMENT, CHUNK};

/// What direct writes to any device are aligned to in memory, bytes.
pub(super) const PAGE: usize = 4096;

/// Bytes that start on a page, as direct input and output wants them.
pub(super) struct Pages {
    room: Vec<u8>,
    start: usize,
    length: usize,
}

impl Pages {
    pub(super) fn zeroed(length: usize) -> Self {
        let room = vec![0; length + PAGE];
        let start = room.as_ptr().align_offset(PAGE).min(PAGE);
        Self { room, start, length }
    }
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.room[self.start..][..self.length]
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..][..self.length]
    }
}

/// Where a piece of the image lies, at most [`CHUNK`] long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Kept back until all else is on the card: in the first or last MiB of the image.
    pub(super) late: bool,
}

impl Place {
    pub(super) fn length(&self) -> usize {
        (self.end - self.start) as usize
    }
}

/// The pieces of a stretch of the block map.
pub(super) fn places(bmap: &Bmap, range: &bmap::Range) -> impl Iterator<Item = Place> + use<> {
    let (mut start, end) = (bmap.start(range), bmap.start(range) + bmap.length(range));
    let (head, tail) = late_borders(bmap.image_size);
    std::iter::from_fn(move || {
        let border = [head, tail].into_iter().find(|border| *border > start).unwrap_or(end);
        let late = start < head || start >= tail;
        let place = Place { start, end: end.min(border).min(start + CHUNK as u64), late };
        start = place.end;
        (place.start < place.end).then_some(place)
    })
}

/// The end of the first MiB of an image and the start of its last: the parts with the partition tables.
pub(super) fn late_borders(image_size: u64) -> (u64, u64) {
    let head = ALIGNMENT.min(image_size);
    (head, image_size.saturating_sub(ALIGNMENT).max(head))
}

/// A piece with its bytes.
pub(super) struct Piece {
    /// The stretch of the block map that it belongs to.
    pub(super) range: usize,
    /// Which of all pieces.
    pub(super) index: usize,
    pub(super) place: Place,
    /// Whether it is the last one of its stretch.
    pub(super) last: bool,
    pub(super) bytes: Pages,
}

#[cfg(test)]
impl Piece {
    pub(super) fn for_test(index: usize) -> Self {
        let place = Place { start: 0, end: 0, late: false };
        Self { range: 0, index, place, last: true, bytes: Pages::zeroed(0) }
    }
}

/// Reads an image piece by piece and compares each stretch with its hash.
pub(super) struct Pieces {
    source: Source,
    bmap: Arc<Bmap>,
    range: usize,
    rest: Vec<Place>,
    index: usize,
    digest: Sha256,
}

impl Pieces {
    /// All pieces from the stretch `range` on.
    pub(super) fn new(source: Source, bmap: Arc<Bmap>, range: usize) -> Self {
        let index = bmap.ranges.iter().take(range).map(|range| places(&bmap, range).count()).sum();
        let mut pieces = Self { source, bmap, range, rest: Vec::new(), index, digest: Sha256::new() };
        pieces.fill();
        pieces
    }

    fn fill(&mut self) {
        if let Some(range) = self.bmap.ranges.get(self.range) {
            self.rest = places(&self.bmap, range).collect();
            self.rest.reverse();
        }
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece, FlashError>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.rest.pop()?;
        let mut bytes = Pages::zeroed(place.length());
        if let Err(source) = self.source.read_at(place.start, &mut bytes) {
            self.rest.clear();
            return Some(Err(FlashError::Image(BmapError::Read { at: place.start, source })));
        }
        self.digest.update(&*bytes);
        let last = self.rest.is_empty();
        let piece = Piece { range: self.range, index: self.index, place, last, bytes };
        self.index += 1;
        if last {
            let found: [u8; 32] = std::mem::take(&mut self.digest).finalize().into();
            let range = &self.bmap.ranges[self.range];
            if found != range.sha256 {
                return Some(Err(FlashError::Image(bmap::damage(range, &found))));
            }
            self.range += 1;
            self.fill();
        }
        Some(Ok(piece))
    }
}
