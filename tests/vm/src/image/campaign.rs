//! Power cuts by the thousand, from one recording: the disk after every flush, and after any part of the writes that
//! no flush has yet made durable, whole or torn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::check::{Boot, Checker, Verdict, Version};
use crate::log::{Kind, Log};
use crate::replay::Disk;
use crate::say;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Faults that are told in full.
const TOLD_MAX: usize = 20;

/// What was recorded, and what the box said meanwhile; `recording.json` in its folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recording {
    /// The disk before.
    pub base: PathBuf,
    /// The writes.
    pub log: PathBuf,
    /// Folders of the versions (`root`, `verity`, `kernel`), by name.
    pub versions: BTreeMap<String, PathBuf>,
    /// The ledger's folder on the state file system.
    pub ledger: String,
    /// Receipts that the box said, each with the entries that the recording had by then.
    pub receipts: Vec<(u64, String)>,
    /// From here on receipts of before are not asked for: the factory reset.
    pub forgiven: Vec<u64>,
    /// What happened when, for people.
    pub marks: Vec<(u64, String)>,
}

impl Recording {
    /// Reads the one in a folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("recording.json");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
    }
}

/// Where the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// After this many entries of the recording.
    pub entry: usize,
    /// None: with all writes before; otherwise which of those since the last flush, drawn from this seed.
    pub torn: Option<u64>,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.torn {
            None => write!(f, "{}", self.entry),
            Some(seed) => write!(f, "{}:{seed}", self.entry),
        }
    }
}

impl std::str::FromStr for Point {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        let (entry, torn) = match text.split_once(':') {
            None => (text, None),
            Some((entry, seed)) => (entry, Some(seed.parse().context("the seed is no number")?)),
        };
        Ok(Self { entry: entry.parse().context("the entry is no number")?, torn })
    }
}

/// A defect that is put into the recording, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Defect {
    /// Flushes do nothing between the first write to a root partition and the end.
    NoFlush,
    /// One bit of the first large write to each root partition arrives wrong.
    FlippedBit,
    /// Writes to the state partition in the second half of the recording are lost, all of them.
    LostState,
}

/// How to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Torn variants of the writes between two flushes.
    pub torn: u32,
    /// Where they are drawn from.
    pub seed: u64,
    /// At most so many points; 0: all.
    pub limit: u64,
    /// A defect.
    pub defect: Option<Defect>,
    /// Only this one.
    pub only: Option<Point>,
    /// Only points of these entries, so that several judges can share a recording.
    pub entries: std::ops::Range<usize>,
}

impl Plan {
    fn wants(&self, point: Point) -> bool {
        self.only.is_none_or(|only| only == point) && self.entries.contains(&point.entry)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Points judged.
    pub points: u64,
    /// Of them torn ones.
    pub torn: u64,
    /// Nothing whole boots.
    pub bricks: u64,
    /// Something whole boots after tries of something that is not.
    pub falls_back: u64,
    /// State file system or ledger not sound.
    pub state: u64,
    /// Identity not sound.
    pub identity: u64,
    /// Points with a promised receipt gone.
    pub lost_receipts: u64,
    /// What boots, how often.
    pub boots: BTreeMap<String, u64>,
    /// The first points that are not sound.
    pub failed: Vec<String>,
}

/// Judges the points of a recording.
///
/// # Errors
/// When the recording cannot be read, or the check itself fails.
pub fn run(recording: &Recording, plan: &Plan) -> Result<Outcome> {
    let log = Log::open(&recording.log)?;
    let mut disk = Disk::open(&recording.base)?;
    let scratch = tempfile::Builder::new().prefix("stile-cuts-").tempdir_in(scratch_root())?;
    let versions =
        recording.versions.iter().map(|(name, folder)| Version::read(name, folder)).collect::<Result<_>>()?;
    let checker = Checker::new(&mut disk, versions, scratch.path(), &recording.ledger)?;
    let mut run =
        Run { recording, plan, log, disk, checker, outcome: Outcome::default(), told: Instant::now() };
    run.all()?;
    Ok(run.outcome)
}

/// The disk after a point.
///
/// # Errors
/// When the recording cannot be read.
pub fn disk_at(recording: &Recording, point: Point, seed: u64) -> Result<Disk> {
    let log = Log::open(&recording.log)?;
    let mut disk = Disk::open(&recording.base)?;
    let mut window = Vec::new();
    ensure!(point.entry <= log.entries.len(), "the recording has {} entries", log.entries.len());
    for entry in &log.entries[..point.entry] {
        match *entry {
            Kind::Write { start, length, at, .. } => window.push((start, log.data(at, length)?)),
            Kind::Flush => {
                for (start, data) in window.drain(..) {
                    disk.write(start, &data)?;
                }
            }
            Kind::Discard => {}
        }
    }
    let window = match point.torn {
        None => window,
        Some(torn) => tear(&window, seed, point.entry, torn),
    };
    for (start, data) in window {
        disk.write(start, &data)?;
    }
    Ok(disk)
}

/// Memory where there is some: the copies are made thousands of times.
fn scratch_root() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

type Write = (u64, Vec<u8>);

/// A part of the writes: each is there, is not, or is there in some of its sectors. Order is kept: of two writes to a
/// sector the later one wins where both are there, and a disk may well lose the later one only.
fn tear(window: &[Write], seed: u64, entry: usize, torn: u64) -> Vec<Write> {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ (entry as u64) << 20 ^ torn);
    // Some cuts lose most, some lose little.
    let keep = random.random_range(0.05..0.95);
    let mut left = Vec::new();
    for (start, data) in window {
        if !random.random_bool(keep) {
            continue;
        }
        let sectors = data.len() / SECTOR;
        match random.random_range(0..4) {
            // The first of its sectors only.
            0 if sectors > 1 => {
                let count = random.random_range(1..sectors);
                left.push((*start, data[..count * SECTOR].to_vec()));
            }
            // Any of its sectors, in runs.
            1 if sectors > 1 => runs(&mut random, *start, data, &mut left),
            _ => left.push((*start, data.clone())),
        }
    }
    left
}

fn runs(random: &mut impl Rng, start: u64, data: &[u8], to: &mut Vec<Write>) {
    let mut at = 0;
    while at < data.len() {
        let run = SECTOR << random.random_range(0..8);
        let end = data.len().min(at + run);
        if random.random_bool(0.5) {
            to.push((start + at as u64, data[at..end].to_vec()));
        }
        at = end;
    }
}

struct Run<'a> {
    recording: &'a Recording,
    plan: &'a Plan,
    log: Log,
    disk: Disk,
    checker: Checker,
    outcome: Outcome,
    told: Instant,
}

impl Run<'_> {
    fn all(&mut self) -> Result<()> {
        let mut window: Vec<Write> = Vec::new();
        let mut roots_written = false;
        let mut flipped = BTreeSet::new();
        let count = self.log.entries.len();
        for index in 0..count {
            match self.log.entries[index] {
                Kind::Discard => {}
                Kind::Write { start, length, at, durable } => {
                    let mut data = self.log.data(at, length)?;
                    let partition = self.partition_of(start);
                    let root = partition.as_deref().is_some_and(|name| name.starts_with("root-"));
                    roots_written |= root;
                    match self.plan.defect {
                        Some(Defect::FlippedBit)
                            if root && data.len() >= 4096 && flipped.insert(partition.clone()) =>
                        {
                            data[1000] ^= 4;
                        }
                        Some(Defect::LostState)
                            if index > count / 2 && partition.as_deref() == Some("state") =>
                        {
                            continue;
                        }
                        _ => {}
                    }
                    window.push((start, data));
                    if durable {
                        self.cut(index + 1, &mut window)?;
                    }
                }
                Kind::Flush => {
                    if self.plan.defect == Some(Defect::NoFlush) && roots_written && index + 1 < count {
                        // Torn variants then reach back over everything since.
                        if index % 64 == 0 {
                            self.torn(index + 1, &window)?;
                        }
                        continue;
                    }
                    self.cut(index + 1, &mut window)?;
                }
            }
            if self.plan.limit > 0 && self.outcome.points >= self.plan.limit {
                return Ok(());
            }
        }
        self.cut(count, &mut window)
    }

    fn partition_of(&self, at: u64) -> Option<String> {
        let holds = |part: &&osimage::gpt::Partition| (part.start()..part.start() + part.len()).contains(&at);
        self.disk.partitions.values().find(holds).map(|part| part.name.clone())
    }

    /// The power fails before the flush is done, then after it.
    fn cut(&mut self, entry: usize, window: &mut Vec<Write>) -> Result<()> {
        if window.is_empty() {
            return Ok(());
        }
        self.torn(entry, window)?;
        for (start, data) in window.drain(..) {
            self.disk.write(start, &data)?;
        }
        self.judge(Point { entry, torn: None })
    }

    fn torn(&mut self, entry: usize, window: &[Write]) -> Result<()> {
        // One small write has few ways to be torn.
        let sectors: usize = window.iter().map(|(_, data)| data.len() / SECTOR).sum();
        let variants = u64::from(self.plan.torn).min(sectors as u64);
        for torn in 0..variants {
            let point = Point { entry, torn: Some(torn) };
            if !self.plan.wants(point) {
                continue;
            }
            self.disk.begin();
            for (start, data) in tear(window, self.plan.seed, entry, torn) {
                self.disk.write(start, &data)?;
            }
            self.judge(point)?;
            self.disk.take_back()?;
        }
        Ok(())
    }

    fn judge(&mut self, point: Point) -> Result<()> {
        if !self.plan.wants(point) {
            return Ok(());
        }
        let now = point.entry as u64;
        let forgiven = self.recording.forgiven.iter().filter(|at| **at <= now).max().copied();
        // A receipt was said when the recording had `at` entries, the last of them a flush: what ends there or later
        // is certain to have it, and what is torn after it.
        let due = if point.torn.is_none() { now } else { now.saturating_sub(1) };
        let promised: BTreeSet<String> = self
            .recording
            .receipts
            .iter()
            .filter(|(at, _)| *at <= due && forgiven.is_none_or(|forgiven| *at > forgiven))
            .map(|(_, id)| id.clone())
            .collect();
        let verdict = self.checker.judge(&self.disk, &promised, point.torn.is_none())?;
        self.note(point, &verdict);
        if self.told.elapsed().as_secs() >= 20 {
            self.told = Instant::now();
            let Outcome { points, bricks, lost_receipts, .. } = &self.outcome;
            say(&format!(
                "   {points} points, {bricks} bricks, {lost_receipts} with lost receipts, at {point}"
            ));
        }
        Ok(())
    }

    fn note(&mut self, point: Point, verdict: &Verdict) {
        let outcome = &mut self.outcome;
        outcome.points += 1;
        outcome.torn += u64::from(point.torn.is_some());
        let boots = match &verdict.boot {
            Boot::Whole(what) => what.clone(),
            Boot::FallsBack(_) => "falls back".to_owned(),
            Boot::Brick(_) => "nothing".to_owned(),
        };
        *outcome.boots.entry(boots).or_default() += 1;
        outcome.bricks += u64::from(matches!(verdict.boot, Boot::Brick(_)));
        outcome.falls_back += u64::from(matches!(verdict.boot, Boot::FallsBack(_)));
        outcome.state += u64::from(verdict.state.is_some());
        outcome.identity += u64::from(verdict.identity.is_some());
        outcome.lost_receipts += u64::from(!verdict.lost.is_empty());
        if !verdict.sound() && outcome.failed.len() < TOLD_MAX {
            outcome.failed.push(format!("{point}: {verdict:?}"));
        }
    }
}

#[cfg(test)]
#[path = "campaign_tests.rs"]
mod tests;
