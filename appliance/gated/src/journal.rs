//! What every lane was told and what it decided, as JSON lines in two files of bounded size: to see what
//! happened at the gate, and to replay it into the engine. Best effort: a lane never waits for it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use engine::gate::{Command, Gate, Input};
use engine::time::{Instant, Millis};
use engine::units::LaneId;
use runtime::clock::Clock;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Entries on their way to the file: minutes of the busiest box.
pub(crate) const ENTRIES_MAX: usize = 4096;
/// Entries written at once.
const BATCH_MAX: usize = 256;
/// Size at which a file is put aside and a new one begun; the one put aside before goes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// How long the file is left alone after it failed.
const RETRY: Millis = Millis(5_000);

/// A line of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Entry {
    /// A lane's whole state: when it started, and at the head of each file.
    State {
        /// Which lane.
        lane: LaneId,
        /// When.
        at: Instant,
        /// Its state then.
        gate: Box<Gate>,
    },
    /// One step of a lane.
    Step {
        /// Which lane.
        lane: LaneId,
        /// When.
        at: Instant,
        /// What it was told.
        told: Input,
        /// What it decided.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        decided: Vec<Command>,
        /// Steps before this one that are not in the journal, because storage was too slow.
        #[serde(default, skip_serializing_if = "is_zero")]
        missed: u64,
    },
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The writer's end; runs where blocking is allowed.
pub(crate) struct Writer {
    path: Option<PathBuf>,
    entries: mpsc::Receiver<Entry>,
    clock: Clock,
    pages: Pages,
}

/// The open file, and what its successor must begin with.
#[derive(Default)]
struct Pages {
    file: Option<(BufWriter<File>, u64)>,
    retry_at: Instant,
    lanes: BTreeMap<LaneId, Gate>,
    broken: bool,
}

impl Writer {
    pub(crate) fn new(path: Option<PathBuf>, clock: Clock, entries: mpsc::Receiver<Entry>) -> Self {
        Self { path, entries, clock, pages: Pages::default() }
    }

    /// Writes until the last lane has ended.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.entries.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let Some(path) = self.path.clone() else {
                batch.clear();
                continue;
            };
            let (mut pages, now) = (std::mem::take(&mut self.pages), self.clock.now());
            let work = tokio::task::spawn_blocking(move || {
                for entry in &batch {
                    pages.write(&path, now, entry);
                }
                pages.flush(now);
                batch.clear();
                (pages, batch)
            });
            let Ok((pages, emptied)) = work.await else { return };
            (self.pages, batch) = (pages, emptied);
        }
    }
}

impl Pages {
    fn write(&mut self, path: &Path, now: Instant, entry: &Entry) {
        // Followed here, so that every file can begin with the state of all lanes.
        self.follow(entry);
        if now < self.retry_at {
            return;
        }
        match self.try_write(path, now, entry) {
            Ok(()) => self.broken = false,
            Err(error) => self.give_up(now, &error),
        }
    }

    fn try_write(&mut self, path: &Path, now: Instant, entry: &Entry) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, length)| *length >= FILE_BYTES_MAX) {
            if let Some((mut file, _)) = self.file.take() {
                file.flush()?;
            }
            fs::rename(path, aside(path))?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            let length = file.metadata()?.len();
            self.file = Some((BufWriter::new(file), length));
            let heads: Vec<Entry> = self
                .lanes
                .iter()
                .map(|(lane, gate)| Entry::State {
                    lane: lane.clone(),
                    at: now,
                    gate: Box::new(gate.clone()),
                })
                .collect();
            for head in heads {
                self.append(&head)?;
            }
            // The states say it already.
            return Ok(());
        }
        self.append(entry)
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let Some((file, length)) = &mut self.file else { return Ok(()) };
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        file.write_all(&line)?;
        *length += line.len() as u64;
        Ok(())
    }

    /// Keeps each lane's state current.
    fn follow(&mut self, entry: &Entry) {
        match entry {
            Entry::State { lane, gate, .. } => {
                self.lanes.insert(lane.clone(), (**gate).clone());
            }
            Entry::Step { lane, at, told, .. } => {
                if let Some(gate) = self.lanes.get_mut(lane) {
                    gate.handle(*at, told.clone(), &mut Vec::new());
                }
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        if let Some(Err(error)) = self.file.as_mut().map(|(file, _)| file.flush()) {
            self.give_up(now, &error);
        }
    }

    fn give_up(&mut self, now: Instant, error: &io::Error) {
        self.file = None;
        self.retry_at = now.after(RETRY);
        if !std::mem::replace(&mut self.broken, true) {
            tracing::warn!(%error, "the gate's journal cannot be written; the lanes go on without it");
        }
    }
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Steps that were decided again.
    pub steps: u64,
    /// Of these, steps that are decided otherwise now.
    pub different: u64,
    /// Steps that could not be decided again: no state of their lane before them.
    pub skipped: u64,
    /// The last line was cut off, as by a power cut.
    pub cut_off: bool,
}

/// Why a journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not one of this journal.
    #[error("{path}, line {line}, is not a journal line of this version")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Gives journals, oldest first, to the engine again. `each` sees every step with what the engine decides now
/// (`None` when it cannot be said).
///
/// # Errors
/// Names the file and the line at fault.
pub fn replay(
    files: &[PathBuf],
    mut each: impl FnMut(&Entry, Option<&[Command]>),
) -> Result<Replayed, Error> {
    let mut out = Replayed::default();
    let mut lanes: BTreeMap<LaneId, Gate> = BTreeMap::new();
    for path in files {
        let read = |source| Error::Read { path: path.clone(), source };
        let mut reader = BufReader::new(File::open(path).map_err(read)?);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            if reader.read_until(b'\n', &mut text).map_err(read)? == 0 {
                break;
            }
            let entry: Entry = match serde_json::from_slice(&text) {
                Ok(entry) => entry,
                Err(_) if !text.ends_with(b"\n") => {
                    out.cut_off = true;
                    break;
                }
                Err(source) => return Err(Error::Line { path: path.clone(), line, source }),
            };
            again(&entry, &mut lanes, &mut out, &mut each);
        }
    }
    Ok(out)
}

fn again(
    entry: &Entry,
    lanes: &mut BTreeMap<LaneId, Gate>,
    out: &mut Replayed,
    each: &mut impl FnMut(&Entry, Option<&[Command]>),
) {
    let Entry::Step { lane, at, told, decided, missed } = entry else {
        if let Entry::State { lane, gate, .. } = entry {
            lanes.insert(lane.clone(), (**gate).clone());
        }
        return;
    };
    if *missed > 0 {
        lanes.remove(lane);
    }
    let Some(gate) = lanes.get_mut(lane) else {
        out.skipped += 1;
        return each(entry, None);
    };
    let mut now = Vec::new();
    gate.handle(*at, told.clone(), &mut now);
    out.steps += 1;
    out.different += u64::from(now != *decided);
    each(entry, Some(&now));
}

/// Where the file before `path` lies.
fn aside(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}
