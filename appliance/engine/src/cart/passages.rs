//! Which track went through a lane, and which track goes on after another: people appear and vanish only at
//! doors.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cart::Evidence;
use crate::cart::near::History;
use crate::message::{Direction, FloorView, Passage};
use crate::store::Lane;
use crate::time::{Instant, Millis};
use crate::units::{MessageId, TrackId};

/// A passage's track is looked for from this long before it ...
const LOOK_BACK: Millis = Millis(2500);
/// ... until this long after it when nobody fits at once.
const LOOK_AHEAD: Millis = Millis(4000);
/// Both ways, a moment is waited so that the right person is at the line.
const LOOK_AT_ONCE: Millis = Millis(1000);
/// Walking speed through a lane, metres a second.
const WALK: f64 = 1.0;
/// Greatest cost of an entry's track at once, and when the wait is over: beyond it, it is the next in the
/// queue.
const COST_ENTRY: [f64; 2] = [0.8, 1.5];
/// Where somebody who came in is known this long: they walk straight out of the lane.
const STRAIGHT: f64 = 1.5;
/// Greatest cost (metres, and half a metre a second) of a good fit, and of any fit at the end of the wait.
const COST_GOOD: f64 = 1.2;
const COST_MAX: f64 = 3.0;
/// A lost track may go on within this time, and this far (metres, plus metres a second).
const LOST: Millis = Millis(20_000);
const LOST_REACH: (f64, f64) = (0.9, 1.3);
/// Whom nobody saw coming in is found within this time.
const UNMATCHED: Millis = Millis(20_000);
/// A new track is watched this long before it is called the continuation of a lost one.
const NEW: Millis = Millis(600);
/// Who appears this near to an entry lane comes in by it, metres.
const DOORSTEP: f64 = 2.0;
/// ... and is bound to their passage within this time.
const ENTERING: Millis = Millis(5_000);
/// A track that is missing for this long is lost.
const MISSING: Millis = Millis(500);
/// Most passage ids remembered; a gate repeats one for seconds.
const SEEN_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Passages {
    lanes: Vec<Lane>,
    seen: BTreeSet<MessageId>,
    seen_order: VecDeque<MessageId>,
    fresh: Vec<Passage>,
    waiting: Vec<Passage>,
    /// Entries of whom nobody on the floor was found.
    unmatched: Vec<Passage>,
    people: BTreeMap<TrackId, Followed>,
    /// Tracks that came in before this began.
    inside: BTreeSet<TrackId>,
}

/// A track on the floor, or just lost.
#[derive(Clone, Debug)]
struct Followed {
    born: Instant,
    born_at: [f64; 2],
    last: Instant,
    last_at: [f64; 2],
    /// Since when they have been behind the passage line of every entry; `None`: they are on the street.
    inside: Option<Instant>,
    /// Came in by a passage, or continues such a track.
    bound: bool,
}

impl Passages {
    pub(super) fn new(lanes: &[Lane]) -> Self {
        Self {
            lanes: lanes.to_vec(),
            seen: BTreeSet::new(),
            seen_order: VecDeque::new(),
            fresh: Vec::new(),
            waiting: Vec::new(),
            unmatched: Vec::new(),
            people: BTreeMap::new(),
            inside: BTreeSet::new(),
        }
    }

    pub(super) fn inside(&mut self, tracks: impl IntoIterator<Item = TrackId>) {
        self.inside.extend(tracks);
    }

    pub(super) fn passage(&mut self, passage: &Passage) {
        if !self.seen.insert(passage.id.clone()) {
            return;
        }
        self.seen_order.push_back(passage.id.clone());
        if self.seen_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.fresh.push(passage.clone());
    }

    pub(super) fn floor(&mut self, view: &FloorView) {
        for person in &view.people {
            let followed = self.people.entry(person.track).or_insert(Followed {
                born: view.at,
                born_at: person.position,
                last: view.at,
                last_at: person.position,
                inside: None,
                bound: self.inside.contains(&person.track),
            });
            followed.last = view.at;
            followed.last_at = person.position;
            let street = self.lanes.iter().any(|lane| lane.entry && inside(lane, person.position) < 0.0);
            followed.inside = followed.inside.or(Some(view.at)).filter(|_| !street);
        }
        self.people.retain(|_, followed| view.at.since(followed.last) <= LOST);
    }

    /// Earliest passage whose track is still looked for.
    pub(super) fn open_since(&self) -> Option<Instant> {
        self.waiting.iter().chain(&self.fresh).map(|passage| passage.at).min()
    }

    pub(super) fn poll(&mut self, now: Instant, history: &History, out: &mut Vec<Evidence>) {
        for passage in self.fresh.drain(..) {
            let evidence = passage.clone();
            out.push(match passage.direction {
                Direction::Entry => Evidence::Entered { passage: evidence, track: None },
                Direction::Exit => Evidence::Left { passage: evidence, track: None },
            });
            self.waiting.push(passage);
        }
        let mut later = Vec::new();
        for passage in std::mem::take(&mut self.waiting) {
            match self.bind(now, &passage, history) {
                Some(track) => {
                    out.push(Evidence::Bound { passage: passage.id.clone(), track });
                    if track.is_none() && passage.direction == Direction::Entry {
                        self.unmatched.push(passage);
                    }
                }
                None => later.push(passage),
            }
        }
        self.waiting = later;
        self.continued(now, out);
    }

    /// The passage's track once that can be said: `Some(None)` gives up.
    fn bind(&mut self, now: Instant, passage: &Passage, history: &History) -> Option<Option<TrackId>> {
        let waited = now.since(passage.at);
        if waited < LOOK_AT_ONCE {
            return None;
        }
        let Some(lane) = self.lanes.iter().find(|lane| lane.id == passage.lane).cloned() else {
            return Some(None);
        };
        let entry = passage.direction == Direction::Entry;
        let best = self
            .costs(now, passage, &lane, history)
            .into_iter()
            .filter(|(track, _)| self.people.get(track).is_some_and(|followed| followed.bound != entry))
            .min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        let over = waited >= LOOK_AHEAD;
        let found = match best {
            Some((track, cost)) if entry && cost <= COST_ENTRY[usize::from(over)] => Some(track),
            Some((track, cost)) if !entry && cost <= if over { COST_MAX } else { COST_GOOD } => Some(track),
            _ if over && !entry => self.lost_nearest(now, lane.position),
            _ => None,
        };
        let Some(track) = found else { return over.then_some(None) };
        if let Some(followed) = self.people.get_mut(&track) {
            followed.bound = entry;
        }
        Some(Some(track))
    }

    /// How badly each track of the views about the passage fits it.
    fn costs(
        &self,
        now: Instant,
        passage: &Passage,
        lane: &Lane,
        history: &History,
    ) -> BTreeMap<TrackId, f64> {
        if passage.direction == Direction::Entry {
            return entry_costs(passage, lane, history);
        }
        let mut costs = BTreeMap::new();
        for view in history.since(passage.at.before(LOOK_BACK)) {
            if view.at > passage.at.after(LOOK_AHEAD) {
                break;
            }
            let apart = view.at.0.abs_diff(passage.at.0) as f64 / 1000.0;
            for person in &view.people {
                let cost = distance(person.position, lane.position) + 0.5 * apart;
                let least = costs.entry(person.track).or_insert(f64::INFINITY);
                *least = least.min(cost);
            }
        }
        for (track, cost) in &mut costs {
            let Some(followed) = self.people.get(track) else { continue };
            // Who is still there well inside the line has not left by it.
            if now.since(followed.last) < MISSING && inside(lane, followed.last_at) > 0.5 {
                *cost += 2.0;
            }
        }
        costs
    }

    /// Nobody was at the line: whoever inside was lost nearest to it.
    fn lost_nearest(&self, now: Instant, to: [f64; 2]) -> Option<TrackId> {
        self.people
            .iter()
            .filter(|(_, followed)| followed.bound && now.since(followed.last) >= MISSING)
            .min_by(|a, b| distance(a.1.last_at, to).total_cmp(&distance(b.1.last_at, to)))
            .map(|(track, _)| *track)
    }

    fn continued(&mut self, now: Instant, out: &mut Vec<Evidence>) {
        let new: Vec<TrackId> = self
            .people
            .iter()
            .filter(|(_, followed)| {
                // Who appears at an entry comes in: the passage that binds them may be some seconds away.
                let entering = self
                    .lanes
                    .iter()
                    .any(|lane| lane.entry && distance(followed.born_at, lane.position) < DOORSTEP);
                let wait = if entering { ENTERING } else { NEW };
                !followed.bound
                    && now.since(followed.last) < MISSING
                    && followed.inside.is_some_and(|inside| now.since(inside) >= wait)
            })
            .map(|(track, _)| *track)
            .collect();
        let oldest = now.before(UNMATCHED).before(ENTERING);
        self.unmatched.retain(|passage| passage.at >= oldest);
        for to in new {
            let Some(fresh) = self.people.get(&to).cloned() else { continue };
            // Who came in unseen and is found now: the newest such before.
            let since = fresh.inside.unwrap_or(fresh.born);
            let came = (0..self.unmatched.len())
                .filter(|index| {
                    let at = self.unmatched[*index].at;
                    at <= since.after(LOOK_AT_ONCE) && since.since(at) <= UNMATCHED
                })
                .max_by_key(|index| self.unmatched[*index].at);
            if let Some(index) = came {
                let passage = self.unmatched.remove(index);
                if let Some(followed) = self.people.get_mut(&to) {
                    followed.bound = true;
                }
                out.push(Evidence::Bound { passage: passage.id, track: Some(to) });
                continue;
            }
            let lost = self
                .people
                .iter()
                .filter(|(track, followed)| {
                    let gap = fresh.born.since(followed.last).as_seconds();
                    **track != to
                        && followed.bound
                        && now.since(followed.last) >= MISSING
                        && fresh.born >= followed.last.before(MISSING)
                        && distance(followed.last_at, fresh.born_at) <= LOST_REACH.0 + LOST_REACH.1 * gap
                })
                .min_by(|a, b| {
                    distance(a.1.last_at, fresh.born_at).total_cmp(&distance(b.1.last_at, fresh.born_at))
                })
                .map(|(track, _)| *track);
            let Some(from) = lost else { continue };
            self.people.remove(&from);
            if let Some(followed) = self.people.get_mut(&to) {
                followed.bound = true;
            }
            out.push(Evidence::Continued { from, to });
        }
    }
}

/// How badly each track fits an entry: by when it crossed the passage line, and how far from its middle.
/// Who stands in the queue behind has not crossed it yet, however near they are. A track that begins behind
/// the line was found late: it should be where somebody has got to who crossed it then.
fn entry_costs(passage: &Passage, lane: &Lane, history: &History) -> BTreeMap<TrackId, f64> {
    let mut outside: BTreeSet<TrackId> = BTreeSet::new();
    let mut crossed: BTreeSet<TrackId> = BTreeSet::new();
    // Inside before the passage.
    let mut before: BTreeSet<TrackId> = BTreeSet::new();
    let mut costs: BTreeMap<TrackId, f64> = BTreeMap::new();
    for view in history.since(passage.at.before(LOOK_BACK)) {
        if view.at > passage.at.after(LOOK_AHEAD) {
            break;
        }
        let since = (view.at.0 as f64 - passage.at.0 as f64) / 1000.0;
        for person in &view.people {
            let depth = inside(lane, person.position);
            if depth < 0.0 {
                outside.insert(person.track);
                continue;
            }
            let aside = across(lane, person.position);
            if outside.contains(&person.track) {
                if crossed.insert(person.track) {
                    costs.insert(person.track, aside + WALK * since.abs());
                }
            } else if since < -0.3 {
                before.insert(person.track);
            } else if since <= STRAIGHT && !before.contains(&person.track) {
                let off = aside.hypot(depth - WALK * since.max(0.0));
                let cost = off + 0.3 * since.abs() + 0.3;
                let least = costs.entry(person.track).or_insert(f64::INFINITY);
                *least = least.min(cost);
            }
        }
    }
    costs
}

/// How far from the middle of a lane a place is, along its passage line, metres.
fn across(lane: &Lane, at: [f64; 2]) -> f64 {
    ((at[1] - lane.position[1]) * lane.inward[0] - (at[0] - lane.position[0]) * lane.inward[1]).abs()
}

/// How far behind a lane's passage line a place is, metres; negative on the street.
fn inside(lane: &Lane, at: [f64; 2]) -> f64 {
    (at[0] - lane.position[0]) * lane.inward[0] + (at[1] - lane.position[1]) * lane.inward[1]
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}
