//! Writes an image to cards so that each card is either whole or does not start.
//!
//! The first MiB of a card and its last are wiped before anything else, and the first and last MiB of the
//! image, which hold the partition tables, are kept back until everything in between is written, flushed and
//! read back. Only mapped blocks are written. One thread reads the image, one a card writes.

mod card;
mod feed;
mod mark;
mod piece;
mod resume;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bmap::{Bmap, BmapError};
use crate::gpt::{Partition, Table};
use crate::medium::Medium;
use crate::source::Source;
use crate::{ALIGNMENT, SECTOR, provision};

use card::Card;
use feed::Feed;
use piece::{Pages, Pieces};

/// Opens the image once more, from its start.
pub type Opener = dyn Fn() -> io::Result<Source> + Send + Sync;

/// An image to be flashed.
#[derive(Clone)]
pub struct Job {
    /// Its block map.
    pub bmap: Arc<Bmap>,
    /// SHA-256 of the block map's text: the identity of the image.
    pub image: [u8; 32],
    /// Opens it.
    pub open: Arc<Opener>,
    /// How long a card may take for one write, read or flush before it is given up.
    pub patience: Duration,
    /// Bytes between two records of progress on the card, each of which costs a flush.
    pub record_step: u64,
}

impl Job {
    /// The usual patience: longer than the kernel's own retries of one command.
    pub const PATIENCE: Duration = Duration::from_secs(90);
    /// The usual record step: a flush costs little against this many bytes.
    pub const RECORD_STEP: u64 = 64 << 20;
}

/// A card to be written.
pub struct Target {
    /// The card.
    pub medium: Box<dyn Medium>,
    /// What goes into its partition `provision`.
    pub provision: Option<Vec<u8>>,
}

/// What the flashing does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Reading back what an earlier run wrote.
    Resume,
    /// Writing.
    Write,
    /// Reading back.
    Verify,
    /// Writing the kept-back parts.
    Finish,
}

impl Phase {
    /// For people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Write => "write",
            Self::Verify => "verify",
            Self::Finish => "finish",
        }
    }
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

/// A card that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Flashed {
    /// Bytes of the card.
    pub size: u64,
    /// Bytes that were written now.
    pub written: u64,
    /// Bytes that an earlier run had written.
    pub resumed: u64,
    /// Whether the partition table was made for the length of the card.
    pub fitted: bool,
}

/// What is told while cards are written.
pub enum Event<'a> {
    /// A card is so far.
    Progress(Progress),
    /// A card is done.
    Done(&'a Result<Flashed, FlashError>),
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
    /// The image has no place for a provisioning file; nothing was written.
    #[error("image has no partition \"provision\" with room for a provisioning file of {length} bytes")]
    NoProvision {
        /// Length of the file.
        length: usize,
    },
    /// The image is not what its block map says.
    #[error("use image")]
    Image(#[source] BmapError),
    /// As [`FlashError::Image`], for the other cards that were being written.
    #[error("{0}: {source}", source = cause(.0))]
    SharedImage(Arc<FlashError>),
    /// The image cannot be opened again.
    #[error("open image")]
    Open(#[source] io::Error),
    /// The card takes no writes.
    #[error("target is write-protected")]
    WriteProtected(#[source] io::Error),
    /// The card is not there any more.
    #[error("pulled out at {percent} %")]
    Gone {
        /// How much of writing and reading back was done.
        percent: u64,
        /// What the operating system says.
        source: io::Error,
    },
    /// The card could not be written or read.
    #[error("{doing} target at byte {at}")]
    Target {
        /// Measure, wipe, write, flush or read back.
        doing: &'static str,
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// The card does not answer.
    #[error("target does not answer: {doing} at byte {at} takes longer than {seconds} s")]
    Stalled {
        /// What it was asked for.
        doing: &'static str,
        /// Where.
        at: u64,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The card is smaller than it says.
    #[error("card lies about its size: it says {size} bytes, but what was written at byte {at} is {}",
        .found.map_or_else(|| "lost".to_owned(), |other| format!("what was written at byte {other}")))]
    Lies {
        /// Bytes that it says it has.
        size: u64,
        /// Where a mark was written.
        at: u64,
        /// Where the mark that came back was written.
        found: Option<u64>,
    },
    /// The card gives back other bytes than were written: it is worn out.
    #[error("target reads back other bytes than were written, between bytes {start} and {end}")]
    ReadBack {
        /// First byte of the stretch.
        start: u64,
        /// Byte after the stretch.
        end: u64,
    },
    /// The thread that wrote the card ended by a fault of this program.
    #[error("writing stopped by a fault of this program")]
    Fault,
}

fn cause(error: &FlashError) -> String {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// What kind of trouble it is: what a script, or the exit status, can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The target was refused before anything was written.
    Refused,
    /// The image is damaged or cannot be read.
    Image,
    /// The card is write-protected.
    WriteProtected,
    /// The card was pulled out.
    Gone,
    /// The card gives an error.
    Io,
    /// The card does not answer.
    Stalled,
    /// The card is smaller than it says.
    Lies,
    /// The card does not keep what is written.
    ReadBack,
    /// A fault of this program.
    Fault,
}

impl FlashError {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::TooSmall { .. } | Self::NoProvision { .. } => FailureKind::Refused,
            Self::Image(_) | Self::SharedImage(_) | Self::Open(_) => FailureKind::Image,
            Self::WriteProtected(_) => FailureKind::WriteProtected,
            Self::Gone { .. } => FailureKind::Gone,
            Self::Target { .. } => FailureKind::Io,
            Self::Stalled { .. } => FailureKind::Stalled,
            Self::Lies { .. } => FailureKind::Lies,
            Self::ReadBack { .. } => FailureKind::ReadBack,
            Self::Fault => FailureKind::Fault,
        }
    }
}

/// What a card is doing, for the one who watches it.
#[derive(Default)]
struct Watch {
    asked: Mutex<Option<Asked>>,
    given_up: AtomicBool,
}

#[derive(Clone, Copy)]
struct Asked {
    since: Instant,
    doing: &'static str,
    at: u64,
}

impl Watch {
    fn set(&self, asked: Option<Asked>) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }

    /// Gives the card up when it was asked for something longer than `patience` ago.
    fn stalled(&self, patience: Duration) -> Option<FlashError> {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let Asked { doing, at, .. } = asked.filter(|asked| asked.since.elapsed() > patience)?;
        // Should it answer after all, its thread writes nothing more.
        self.given_up.store(true, Ordering::Relaxed);
        Some(FlashError::Stalled { doing, at, seconds: patience.as_secs() })
    }
}

enum Told {
    Progress(Progress),
    Done(Result<Flashed, FlashError>),
}

/// Writes the mapped blocks of an image to `targets`, all at once, reads them back, and tells how it goes: the
/// number of the target and what happened. After an error a card has no partition table, if it still takes
/// writes at all, and says how far it is: flashing the same image again goes on from there. A card that
/// does not answer is left to its thread.
pub fn flash(
    job: &Job,
    targets: Vec<Target>,
    mut tell: impl FnMut(usize, Event<'_>),
) -> Vec<Result<Flashed, FlashError>> {
    let start = match Start::read(job) {
        Ok(start) => Arc::new(start),
        Err(error) => {
            let error = Arc::new(error);
            let shared = |_| Err(FlashError::SharedImage(Arc::clone(&error)));
            let results: Vec<_> = targets.iter().map(shared).collect();
            results.iter().enumerate().for_each(|(card, result)| tell(card, Event::Done(result)));
            return results;
        }
    };
    let count = targets.len();
    let feed = Arc::new(Feed::new(count));
    let (sender, receiver) = mpsc::channel();
    let watches: Vec<Arc<Watch>> = (0..count).map(|_| Arc::default()).collect();
    for (number, target) in targets.into_iter().enumerate() {
        let (job, start, feed) = (job.clone(), Arc::clone(&start), Arc::clone(&feed));
        let (watch, sender) = (Arc::clone(&watches[number]), sender.clone());
        std::thread::spawn(move || {
            let tell = |progress| {
                // Nobody listens any more when the medium was given up.
                let _ = sender.send((number, Told::Progress(progress)));
            };
            let card = Card::new(&job, &start, target.medium, &watch, &tell);
            let result = card.write(&feed, number, target.provision);
            feed.leave(number);
            let _ = sender.send((number, Told::Done(result)));
        });
    }
    drop(sender);
    let reader = {
        let (job, feed) = (job.clone(), Arc::clone(&feed));
        std::thread::spawn(move || feed.end(read(&job, &feed)))
    };

    let mut results: Vec<Option<Result<Flashed, FlashError>>> = (0..count).map(|_| None).collect();
    while results.iter().any(Option::is_none) {
        match receiver.recv_timeout(job.patience.min(Duration::from_secs(1))) {
            Ok((number, told)) if results[number].is_none() => match told {
                Told::Progress(progress) => tell(number, Event::Progress(progress)),
                Told::Done(result) => {
                    tell(number, Event::Done(&result));
                    results[number] = Some(result);
                }
            },
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                for (number, result) in results.iter_mut().enumerate().filter(|(_, r)| r.is_none()) {
                    let fault = Err(FlashError::Fault);
                    tell(number, Event::Done(&fault));
                    *result = Some(fault);
                }
            }
        }
        for (number, watch) in watches.iter().enumerate() {
            if results[number].is_none()
                && let Some(error) = watch.stalled(job.patience)
            {
                feed.leave(number);
                let stalled = Err(error);
                tell(number, Event::Done(&stalled));
                results[number] = Some(stalled);
            }
        }
    }
    // Every card has left the feed, so the reader ends at its next piece; what it reads interests nobody.
    drop(reader);
    results.into_iter().map(|result| result.unwrap_or(Err(FlashError::Fault))).collect()
}

fn read(job: &Job, feed: &Feed) -> Result<(), FlashError> {
    let source = (job.open)().map_err(FlashError::Open)?;
    for piece in Pieces::new(source, Arc::clone(&job.bmap), 0) {
        if !feed.put(Arc::new(piece?)) {
            break;
        }
    }
    Ok(())
}

/// What the first MiB of an image says.
struct Start {
    head: Pages,
    /// The partition table, when it is one that this tool writes: then it can be made for another disk.
    table: Option<Table>,
}

impl Start {
    fn read(job: &Job) -> Result<Self, FlashError> {
        let size = job.bmap.image_size;
        let mut head = Pages::zeroed(ALIGNMENT.min(size) as usize);
        let mut source = (job.open)().map_err(FlashError::Open)?;
        let read = source.read_at(0, &mut head);
        read.map_err(|source| FlashError::Image(BmapError::Read { at: 0, source }))?;
        let table = Table::read_head(&head, size / SECTOR).ok().filter(|table| {
            if !table.can_be_encoded() || size < 3 * ALIGNMENT {
                return false;
            }
            let again = table.encode().head;
            head.get(BOOT_CODE..again.len()) == Some(&again[BOOT_CODE..])
        });
        Ok(Self { head, table })
    }

    /// Where a provisioning file of `length` bytes goes.
    fn provision_at(&self, length: usize) -> Result<u64, FlashError> {
        let mut partitions = self.table.iter().flat_map(|table| &table.partitions);
        let fits = |partition: &&Partition| {
            partition.name == provision::PARTITION && partition.len() >= length as u64
        };
        Ok(partitions.find(fits).ok_or(FlashError::NoProvision { length })?.start())
    }

    /// The first MiB and the last of a card of `size` bytes, with a partition table for that length; `None`
    /// when the image's own must be taken as it is.
    fn for_card(&self, size: u64) -> Option<Ends> {
        let table = self.table.as_ref()?.on_disk_of(size).encode();
        let mut head = Pages::zeroed(self.head.len());
        head.copy_from_slice(&self.head);
        // What a boot loader put before the partitions of the master boot record stays.
        head[BOOT_CODE..table.head.len()].copy_from_slice(&table.head[BOOT_CODE..]);
        let tail_at = size / SECTOR * SECTOR - ALIGNMENT;
        let mut tail = Pages::zeroed(ALIGNMENT as usize);
        let start = (table.tail_at - tail_at) as usize;
        tail[start..start + table.tail.len()].copy_from_slice(&table.tail);
        Some(Ends { head, tail, tail_at })
    }
}

/// Bytes of a master boot record before its partitions.
const BOOT_CODE: usize = 446;

/// The kept-back parts of a card, made for its length.
struct Ends {
    head: Pages,
    tail: Pages,
    tail_at: u64,
}
