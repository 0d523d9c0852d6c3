//! Volatile sensing: plate readings become steps, floor views become a short history, passages find their
//! track.

use std::collections::BTreeMap;

use crate::cart::near::History;
use crate::cart::passages::Passages;
use crate::cart::plate;
use crate::cart::{Evidence, ShelfEvent, Step};
use crate::message::{FloorView, Passage};
use crate::store::{Plate, StoreMap};
use crate::time::{Instant, Millis};
use crate::units::{Mass, PlateId, TrackId};

/// Readings and floor views may come this late.
const LAG: Millis = Millis(700);
/// Steps of neighbouring plates closer in time than this belong together.
const TOGETHER: Millis = Millis(300);
/// Steps wait this long for their neighbours at most: a plate that never settles must not hold up receipts.
const WAIT_MAX: Millis = Millis(17_000);
/// Most steps of one event; more are told as several.
const STEPS_MAX: usize = 8;

/// Finds evidence in raw readings. It holds nothing that a restart may not lose: what it returned from
/// [`Sensing::poll`] is for the ledger, and the ledger's last levels ([`crate::session::Store::levels`])
/// start it again.
#[derive(Debug)]
pub struct Sensing {
    plates: BTreeMap<PlateId, Watched>,
    history: History,
    passages: Passages,
    /// Steps that may still have neighbours.
    steps: Vec<Step>,
    /// A watermark past this time is owed; `None` when nothing came since the last.
    owed: Option<Instant>,
    started: Option<Instant>,
    by_hands: bool,
}

#[derive(Debug)]
struct Watched {
    place: Plate,
    readings: plate::Plate,
}

impl Sensing {
    /// Starts for the plates of `map`. `baselines` are the last known levels; a plate that first answers with
    /// another level gives an event, a plate without a baseline starts from its first settled reading.
    #[must_use]
    pub fn new(map: &StoreMap, baselines: &BTreeMap<PlateId, Mass>) -> Self {
        let watch = |place: &Plate| {
            let readings = plate::Plate::new(baselines.get(&place.id).map(|mass| mass.grams()));
            (place.id, Watched { place: place.clone(), readings })
        };
        Self {
            plates: map.plates.iter().map(watch).collect(),
            history: History::default(),
            passages: Passages::new(&map.lanes),
            steps: Vec::new(),
            owed: None,
            started: None,
            by_hands: false,
        }
    }

    /// Views come from key points that are nearly always right (recordings): hands alone say who it was.
    #[must_use]
    pub fn with_sure_hands(mut self) -> Self {
        self.by_hands = true;
        self
    }

    /// Tells which tracks are inside when sensing starts in the middle of a day: their exits are theirs then.
    pub fn inside(&mut self, tracks: impl IntoIterator<Item = TrackId>) {
        self.passages.inside(tracks);
    }

    /// Who is where. Views must come in order of time, and before the poll of their time.
    pub fn floor(&mut self, view: &FloorView) {
        if self.history.newest().is_some_and(|newest| view.at <= newest.at) {
            return;
        }
        self.history.push(view);
        self.passages.floor(view);
    }

    /// A plate's reading at `at`; `None` when it did not answer. Ten or more a second and plate; readings of
    /// one plate come in order of time. Plates that the map does not list are ignored.
    pub fn weight(&mut self, at: Instant, plate: PlateId, reading: Option<Mass>) {
        self.grams(at, plate, reading.map_or(f64::NAN, Mass::grams));
    }

    /// The same for a reading finer than a tenth of a gram (recordings carry such means); NaN: no answer.
    pub fn grams(&mut self, at: Instant, plate: PlateId, grams: f64) {
        let Some(watched) = self.plates.get_mut(&plate) else { return };
        let mut changes = Vec::new();
        watched.readings.reading(at, grams, &mut changes);
        for change in changes {
            self.steps.push(Step {
                plate,
                delta: Mass::from_grams(change.delta),
                sd: Mass::from_grams(change.sd),
                from: change.from,
                to: change.to,
                level: Mass::from_grams(change.level),
                near: Vec::new(),
            });
        }
    }

    /// The gate's passage; repeats with a known id are ignored. [`Evidence::Entered`] or [`Evidence::Left`]
    /// comes with the next poll: acknowledge the passage when that is stored.
    pub fn passage(&mut self, passage: &Passage) {
        self.passages.passage(passage);
    }

    /// What is found by `now`, in order; about ten calls a second. Every evidence is given once.
    pub fn poll(&mut self, now: Instant) -> Vec<Evidence> {
        let mut out = Vec::new();
        if self.started.is_none() {
            // Sessions that had left before a restart wait for a first watermark.
            self.started = Some(now);
            self.owed = Some(now);
        }
        self.passages.poll(now, &self.history, &mut out);
        for evidence in &out {
            if let Evidence::Entered { passage, .. } | Evidence::Left { passage, .. } = evidence {
                self.owe(passage.at);
            }
        }
        for mut steps in self.take_groups(now) {
            for step in &mut steps {
                if let Some(watched) = self.plates.get(&step.plate) {
                    let near = if self.by_hands { History::near_by_hands } else { History::near };
                    step.near = near(&self.history, &watched.place, step.from, step.to);
                }
            }
            let event = ShelfEvent { steps };
            self.owe(event.from());
            out.push(Evidence::Shelf(event));
        }
        let mark = self.mark(now);
        if self.owed.is_some_and(|owed| mark > owed) {
            self.owed = None;
            out.push(Evidence::Watermark { at: mark });
        }
        out
    }

    /// Plates that have not answered, or have not moved by their own noise, for long enough to call them
    /// faulty.
    #[must_use]
    pub fn faulty(&self, now: Instant) -> Vec<PlateId> {
        self.plates.iter().filter(|(_, watched)| watched.readings.faulty(now)).map(|(id, _)| *id).collect()
    }

    fn owe(&mut self, at: Instant) {
        self.owed = Some(self.owed.map_or(at, |owed| owed.max(at)));
    }

    /// No evidence from before this is still to come.
    fn mark(&self, now: Instant) -> Instant {
        let bursts = self.plates.values().filter_map(|watched| watched.readings.open_since(now));
        let steps = self.steps.iter().map(|step| step.from);
        bursts.chain(steps).chain(self.passages.open_since()).chain([now.before(LAG)]).min().unwrap_or(now)
    }

    /// Groups of steps whose neighbours have settled too, oldest first.
    fn take_groups(&mut self, now: Instant) -> Vec<Vec<Step>> {
        self.steps.sort_by_key(|step| (step.from, step.plate));
        let mut groups: Vec<Vec<Step>> = Vec::new();
        for step in self.steps.drain(..) {
            let fits = |group: &&mut Vec<Step>| {
                group.len() < STEPS_MAX && group.iter().any(|other| together(other, &step))
            };
            match groups.iter_mut().find(fits) {
                Some(group) => group.push(step),
                None => groups.push(vec![step]),
            }
        }
        let (ready, waiting): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| {
            let start = group.iter().map(|step| step.from).min().unwrap_or(now);
            let end = group.iter().map(|step| step.to).max().unwrap_or(now);
            // A neighbour's burst that began by then may bring steps of this group; the floor's last views
            // too.
            let settled = now >= end.after(LAG)
                && !group.iter().any(|step| {
                    self.plates.iter().any(|(id, watched)| {
                        let open = watched.readings.open_since(now);
                        neighbours(*id, step.plate) && open.is_some_and(|from| from <= end.after(TOGETHER))
                    })
                });
            settled || now.since(start) >= WAIT_MAX
        });
        self.steps = waiting.into_iter().flatten().collect();
        ready
    }
}

fn neighbours(a: PlateId, b: PlateId) -> bool {
    a.gondola == b.gondola && a.shelf == b.shelf && a.plate.abs_diff(b.plate) <= 1
}

/// Steps of one plate in a row, or of neighbouring plates at one time.
fn together(a: &Step, b: &Step) -> bool {
    neighbours(a.plate, b.plate)
        && a.from.before(TOGETHER) <= b.to.after(TOGETHER)
        && b.from.before(TOGETHER) <= a.to.after(TOGETHER)
}
