//! The steps of one card.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::feed::{Feed, Taken};
use super::piece::{self, Pages, Piece, Pieces};
use super::resume::{self, Resume};
use super::{Asked, Ends, FlashError, Flashed, Job, Phase, Progress, Start, Watch, mark};
use crate::medium::{Medium, read_exact_at, write_all_at};
use crate::{ALIGNMENT, CHUNK};

/// A card that is being written.
pub(super) struct Card<'a> {
    job: &'a Job,
    start: &'a Start,
    medium: Box<dyn Medium>,
    /// What goes into the partition `provision`, and where that is.
    provision: Option<(u64, Vec<u8>)>,
    watch: &'a Watch,
    tell: &'a dyn Fn(Progress),
    size: u64,
    /// Bytes done of writing and of reading back.
    done: u64,
    /// Which stretches of the block map are on the card and were read back.
    good: Vec<bool>,
    /// Stretches, from the first, that are written and flushed.
    flushed: usize,
    /// Pieces of the image for its first and last MiB.
    kept_back: Vec<Arc<Piece>>,
    written: u64,
}

impl<'a> Card<'a> {
    pub(super) fn new(
        job: &'a Job,
        start: &'a Start,
        medium: Box<dyn Medium>,
        watch: &'a Watch,
        tell: &'a dyn Fn(Progress),
    ) -> Self {
        Self {
            job,
            start,
            medium,
            provision: None,
            watch,
            tell,
            size: 0,
            done: 0,
            good: vec![false; job.bmap.ranges.len()],
            flushed: 0,
            kept_back: Vec::new(),
            written: 0,
        }
    }

    /// Writes the card with the pieces of `feed`, as the card of this `number`.
    pub(super) fn write(
        mut self,
        feed: &Feed,
        number: usize,
        provision: Option<Vec<u8>>,
    ) -> Result<Flashed, FlashError> {
        if let Some(file) = provision {
            self.provision = Some((self.start.provision_at(file.len())?, file));
        }
        self.size = self.ask("measure", 0, |medium| medium.size())?;
        let image = self.job.bmap.image_size;
        if self.size < image {
            return Err(FlashError::TooSmall { target: self.size, image });
        }
        let result = self.write_all(feed, number);
        if let Err(error) = &result {
            // What a lying or worn-out card has is worth nothing; all else can be gone on with.
            if matches!(error, FlashError::Lies { .. } | FlashError::ReadBack { .. }) {
                self.flushed = 0;
            }
            // The first error is the one to tell; a card that cannot be wiped either has no tables mostly.
            let _ = self.wipe_ends();
        }
        result
    }

    fn write_all(&mut self, feed: &Feed, number: usize) -> Result<Flashed, FlashError> {
        self.check_earlier_run()?;
        self.wipe_ends()?;
        self.mark()?;
        let resumed = self.ranges().filter(|(index, _)| self.good[*index]).map(|(_, length)| length).sum();
        self.write_pieces(feed, number)?;
        self.read_back()?;
        self.check_marks()?;
        self.wipe_marks()?;
        let fitted = self.finish()?;
        Ok(Flashed { size: self.size, written: self.written, resumed, fitted })
    }

    /// Reads back what a record on the card says is there already.
    fn check_earlier_run(&mut self) -> Result<(), FlashError> {
        let mut record = Pages::zeroed(resume::LENGTH);
        if !self.keeps_record() {
            return Ok(());
        }
        self.read_at(resume::AT, &mut record)?;
        let ranges = Resume::ranges_of(&record, self.job.image, self.size).min(self.good.len());
        let places: Vec<_> = self.ranges().take(ranges).filter(|(index, _)| !self.is_late(*index)).collect();
        let (mut done, total) = (0, places.iter().map(|(_, length)| length).sum());
        let mut buffer = Pages::zeroed(CHUNK);
        let bmap = Arc::clone(&self.job.bmap);
        for (index, _) in places {
            let mut digest = Sha256::new();
            for place in piece::places(&bmap, &bmap.ranges[index]) {
                let bytes = &mut buffer[..place.length()];
                self.read_at(place.start, bytes)?;
                digest.update(&*bytes);
                done += bytes.len() as u64;
                self.progress(Phase::Resume, done, total);
            }
            self.good[index] = <[u8; 32]>::from(digest.finalize()) == bmap.ranges[index].sha256;
        }
        // The first stretch that has to be written bounds what the record may go on to say.
        let bad = |index: usize| !self.good[index] && !self.is_late(index);
        self.flushed = (0..ranges).find(|index| bad(*index)).unwrap_or(ranges);
        Ok(())
    }

    /// Zeros over the first and last MiB of the card: no firmware finds an old or half a partition table.
    /// What is known to be on the card is put on record there.
    fn wipe_ends(&mut self) -> Result<(), FlashError> {
        let length = self.size.min(ALIGNMENT);
        let mut zeros = Pages::zeroed(length as usize);
        let tail_at = self.size - length;
        if tail_at >= length {
            self.write_at("wipe", tail_at, &zeros)?;
        }
        if self.flushed > 0 && self.keeps_record() {
            zeros[resume::AT as usize..][..resume::LENGTH].copy_from_slice(&self.record().encode());
        }
        self.write_at("wipe", 0, &zeros)?;
        self.sync(0)
    }

    fn mark(&mut self) -> Result<(), FlashError> {
        for at in mark::places(&self.job.bmap, self.size) {
            let mut bytes = Pages::zeroed(mark::LENGTH);
            bytes.copy_from_slice(&mark::mark(&self.job.image, at));
            self.write_at("write", at, &bytes)?;
        }
        self.sync(0)?;
        self.check_marks()
    }

    fn check_marks(&mut self) -> Result<(), FlashError> {
        let places = mark::places(&self.job.bmap, self.size);
        let mut bytes = Pages::zeroed(mark::LENGTH);
        for at in &places {
            self.read_at(*at, &mut bytes)?;
            if bytes[..] != mark::mark(&self.job.image, *at)[..] {
                let other = places.iter().find(|other| bytes[..] == mark::mark(&self.job.image, **other)[..]);
                return Err(FlashError::Lies { size: self.size, at: *at, found: other.copied() });
            }
        }
        Ok(())
    }

    fn wipe_marks(&mut self) -> Result<(), FlashError> {
        let zeros = Pages::zeroed(mark::LENGTH);
        for at in mark::places(&self.job.bmap, self.size) {
            self.write_at("wipe", at, &zeros)?;
        }
        self.sync(0)
    }

    fn write_pieces(&mut self, feed: &Feed, number: usize) -> Result<(), FlashError> {
        let mut unrecorded = 0;
        let mut next = 0;
        loop {
            match feed.take(number) {
                Taken::Piece(piece) => {
                    next = piece.index + 1;
                    self.write_piece(&piece, &mut unrecorded)?;
                }
                Taken::End => break,
                Taken::CutOff => {
                    self.write_alone(next, &mut unrecorded)?;
                    break;
                }
                Taken::Failed(error) => return Err(FlashError::SharedImage(error)),
            }
        }
        self.sync(self.size)?;
        self.flushed = self.good.len();
        self.write_record()
    }

    /// Goes on with a reader of its own after the others went ahead.
    fn write_alone(&mut self, next: usize, unrecorded: &mut u64) -> Result<(), FlashError> {
        let bmap = Arc::clone(&self.job.bmap);
        let mut first = 0;
        let before = bmap.ranges.iter().take_while(|range| {
            first += piece::places(&bmap, range).count();
            first <= next
        });
        let range = before.count();
        let source = (self.job.open)().map_err(FlashError::Open)?;
        for piece in Pieces::new(source, bmap, range) {
            let piece = Arc::new(piece?);
            // The stretch is read from its start for its hash.
            if piece.index >= next {
                self.write_piece(&piece, unrecorded)?;
            }
        }
        Ok(())
    }

    fn write_piece(&mut self, piece: &Arc<Piece>, unrecorded: &mut u64) -> Result<(), FlashError> {
        let length = piece.bytes.len() as u64;
        if piece.place.late {
            self.kept_back.push(Arc::clone(piece));
        } else if !self.good[piece.range] {
            self.write_at("write", piece.place.start, &piece.bytes)?;
            self.written += length;
            *unrecorded += length;
        }
        self.done += length;
        self.progress(Phase::Write, self.done, self.job.bmap.mapped());
        if piece.last && *unrecorded >= self.job.record_step {
            self.sync(piece.place.end)?;
            self.flushed = piece.range + 1;
            self.write_record()?;
            *unrecorded = 0;
        }
        Ok(())
    }

    fn record(&self) -> Resume {
        Resume { image: self.job.image, size: self.size, ranges: self.flushed }
    }

    /// Whether the record lies in what is written last.
    fn keeps_record(&self) -> bool {
        self.job.bmap.image_size >= ALIGNMENT
    }

    fn write_record(&mut self) -> Result<(), FlashError> {
        if !self.keeps_record() {
            return Ok(());
        }
        let mut bytes = Pages::zeroed(resume::LENGTH);
        bytes.copy_from_slice(&self.record().encode());
        self.write_at("write", resume::AT, &bytes)
    }

    fn read_back(&mut self) -> Result<(), FlashError> {
        let bmap = Arc::clone(&self.job.bmap);
        let total = bmap.mapped();
        let mut buffer = Pages::zeroed(CHUNK);
        let mut done = 0;
        self.sync(0)?;
        for (index, range) in bmap.ranges.iter().enumerate() {
            if self.good[index] {
                done += bmap.length(range);
                self.done += bmap.length(range);
                continue;
            }
            let mut digest = Sha256::new();
            for place in piece::places(&bmap, range) {
                let length = place.length();
                match self.kept_back.iter().find(|piece| piece.place == place) {
                    Some(piece) => digest.update(&*piece.bytes),
                    None => {
                        self.read_at(place.start, &mut buffer[..length])?;
                        digest.update(&buffer[..length]);
                    }
                }
                done += length as u64;
                self.done += length as u64;
                self.progress(Phase::Verify, done, total);
            }
            if <[u8; 32]>::from(digest.finalize()) != range.sha256 {
                let start = bmap.start(range);
                return Err(FlashError::ReadBack { start, end: start + bmap.length(range) });
            }
        }
        Ok(())
    }

    /// Writes the provisioning file and the partition tables, the one at the start last.
    fn finish(&mut self) -> Result<bool, FlashError> {
        let mut parts: Vec<(u64, Pages)> = Vec::new();
        if let Some((at, file)) = &self.provision {
            let mut bytes = Pages::zeroed(file.len().next_multiple_of(piece::PAGE));
            bytes[..file.len()].copy_from_slice(file);
            parts.push((*at, bytes));
        }
        let ends = self.start.for_card(self.size);
        let fitted = ends.is_some();
        let (head, tail) = match ends {
            Some(Ends { head, tail, tail_at }) => {
                // Where the image ends on a longer card there is no table, and nothing of before.
                let image_end = self.job.bmap.image_size;
                if image_end < self.size && image_end >= 2 * ALIGNMENT {
                    parts.push((image_end - ALIGNMENT, Pages::zeroed(ALIGNMENT as usize)));
                }
                (head, Some((tail_at, tail)))
            }
            None => self.own_ends(),
        };
        // The backup table first: once the primary one is there, the card is whole.
        parts.extend(tail);
        // Of the first MiB all but its first page, so that a cut leaves no header over half a table.
        let page = piece::PAGE.min(head.len());
        let (mut first, mut rest) = (Pages::zeroed(page), Pages::zeroed(head.len() - page));
        first.copy_from_slice(&head[..page]);
        rest.copy_from_slice(&head[page..]);
        parts.push((page as u64, rest));
        parts.push((0, first));

        let total = parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let mut done = 0;
        for (at, bytes) in &parts {
            self.write_at("write", *at, bytes)?;
            // In this order on the medium, too.
            self.sync(*at)?;
            let mut back = Pages::zeroed(bytes.len());
            self.read_at(*at, &mut back)?;
            if back[..] != bytes[..] {
                return Err(FlashError::ReadBack { start: *at, end: at + bytes.len() as u64 });
            }
            done += bytes.len() as u64;
            self.progress(Phase::Finish, done, total);
        }
        Ok(fitted)
    }

    /// First and last MiB as the image has them; what is not mapped there stays zero.
    fn own_ends(&self) -> (Pages, Option<(u64, Pages)>) {
        let image = self.job.bmap.image_size;
        let (head_end, tail_at) = piece::late_borders(image);
        let mut head = Pages::zeroed(head_end as usize);
        let mut tail = Pages::zeroed((image - tail_at) as usize);
        for Piece { place, bytes, .. } in self.kept_back.iter().map(AsRef::as_ref) {
            let (part, from) = if place.start < head_end { (&mut head, 0) } else { (&mut tail, tail_at) };
            part[(place.start - from) as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        (head, (!tail.is_empty()).then_some((tail_at, tail)))
    }

    /// Number and length of each stretch of the block map.
    fn ranges(&self) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bmap = Arc::clone(&self.job.bmap);
        (0..bmap.ranges.len()).map(move |index| (index, bmap.length(&bmap.ranges[index])))
    }

    /// Whether a part of the stretch is kept back, so that it cannot be read back before the end.
    fn is_late(&self, index: usize) -> bool {
        piece::places(&self.job.bmap, &self.job.bmap.ranges[index]).any(|place| place.late)
    }

    fn progress(&self, phase: Phase, done: u64, total: u64) {
        (self.tell)(Progress { phase, done, total });
    }

    fn write_at(&mut self, doing: &'static str, at: u64, bytes: &[u8]) -> Result<(), FlashError> {
        self.ask(doing, at, |medium| write_all_at(medium, at, bytes))
    }

    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.ask("read back", at, |medium| read_exact_at(medium, at, bytes))
    }

    fn sync(&mut self, at: u64) -> Result<(), FlashError> {
        self.ask("flush", at, |medium| medium.sync())
    }

    /// Asks the medium for something, lets the watch know, and finds the name of what went wrong.
    fn ask<T>(
        &mut self,
        doing: &'static str,
        at: u64,
        ask: impl FnOnce(&mut dyn Medium) -> io::Result<T>,
    ) -> Result<T, FlashError> {
        if self.watch.given_up.load(Ordering::Relaxed) {
            return Err(FlashError::Fault);
        }
        self.watch.set(Some(Asked { since: Instant::now(), doing, at }));
        let answer = ask(&mut *self.medium);
        self.watch.set(None);
        answer.map_err(|source| {
            let gone = [Errno::NODEV, Errno::NXIO, Errno::NOMEDIUM];
            let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
            if gone.into_iter().any(is) || !self.medium.is_present() {
                let percent = self.done * 100 / (2 * self.job.bmap.mapped()).max(1);
                FlashError::Gone { percent, source }
            } else if is(Errno::ROFS) || is(Errno::PERM) || is(Errno::ACCESS) {
                FlashError::WriteProtected(source)
            } else {
                FlashError::Target { doing, at, source }
            }
        })
    }
}
