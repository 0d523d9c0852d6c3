//! A few seconds of floor views, and how well each person in them fits a change on a plate.

use std::collections::{BTreeMap, VecDeque};

use crate::cart::Near;
use crate::message::{FloorView, Person};
use crate::store::Plate;
use crate::time::{Instant, Millis};
use crate::units::TrackId;

/// Views are kept this long: a burst may last 15 s before it is valued.
const HISTORY: Millis = Millis(20_000);
/// Most views kept, for views that come faster than ten a second.
const VIEWS_MAX: usize = 800;
/// The hand is there this long before the level moves, and until this long after it has settled: about one
/// view.
const BEFORE: Millis = Millis(400);
const AFTER: Millis = Millis(100);
/// Depth of a plate, and the height above it where a hand holds what stands there, metres.
const PLATE_DEPTH: f64 = 0.40;
const GRIP_HEIGHT: f64 = 0.24;
/// Error of "the hand is where the item is", metres: key points sit on the wrist.
const GRIP_SD: f64 = 0.09;
/// A person's ground position is at most this far from a shelf's edge when reaching into it, metres.
const REACH: f64 = 0.85;
/// Nats for doing it with a hand that no camera sees while none, one or two hands are seen elsewhere.
const UNSEEN: [f64; 3] = [-3.0, -4.5, -6.5];
/// Nats, and nats a second, for a person whom no camera saw at the time, within reach of where they were last
/// seen.
const LOST: (f64, f64) = (-3.0, -0.3);
/// Walking speed while unseen, metres a second.
const LOST_SPEED: f64 = 1.2;
/// Chance that somebody tangled with one other, or with more, has really been swapped. Measured on simulated days with
/// the trained detector: 88 of 4,799 and 138 of 765 views of tangled people were of another than at the entry.
const SWAPPED: [f64; 2] = [0.03, 0.15];
/// Scores below this many nats are left out: the person cannot have done it.
const SCORE_MIN: f64 = -14.0;
/// Most people listed for a step.
const PEOPLE_MAX: usize = 8;

/// The newest floor views.
#[derive(Debug, Default)]
pub(super) struct History {
    views: VecDeque<FloorView>,
}

impl History {
    pub(super) fn push(&mut self, view: &FloorView) {
        self.views.push_back(view.clone());
        while self.views.len() > VIEWS_MAX
            || self.views.front().is_some_and(|first| view.at.since(first.at) > HISTORY)
        {
            self.views.pop_front();
        }
    }

    /// Views from `from` on, oldest first.
    pub(super) fn since(&self, from: Instant) -> impl DoubleEndedIterator<Item = &FloorView> {
        self.views.iter().filter(move |view| view.at >= from)
    }

    pub(super) fn newest(&self) -> Option<&FloorView> {
        self.views.back()
    }

    /// Everyone who may have changed `plate` between `from` and `to`, best first.
    pub(super) fn near(&self, plate: &Plate, from: Instant, to: Instant) -> Vec<Near> {
        let (from, to) = (from.before(BEFORE), to.after(AFTER));
        let mut best: BTreeMap<TrackId, f64> = BTreeMap::new();
        let mut unseen: BTreeMap<TrackId, (f64, f64)> = BTreeMap::new();
        let mut tangled: BTreeMap<TrackId, Vec<TrackId>> = BTreeMap::new();
        for view in self.views.iter().filter(|view| view.at >= from && view.at <= to) {
            for person in &view.people {
                let (seen, hidden) = score(plate, person);
                let entry = best.entry(person.track).or_insert(f64::NEG_INFINITY);
                *entry = entry.max(seen);
                let (sum, views) = unseen.entry(person.track).or_default();
                (*sum, *views) = (*sum + hidden, *views + 1.0);
                let others = tangled.entry(person.track).or_default();
                let new: Vec<TrackId> =
                    person.tangled.iter().filter(|other| !others.contains(other)).copied().collect();
                others.extend(new);
            }
        }
        // One moment with a hand on the plate is enough; a hand that stays unseen does so all the while.
        for (track, (sum, views)) in unseen {
            let entry = best.entry(track).or_insert(f64::NEG_INFINITY);
            *entry = entry.max(sum / views);
        }
        let mut last: BTreeMap<TrackId, (Instant, &Person)> = BTreeMap::new();
        for view in self.views.iter().filter(|view| view.at < from) {
            last.extend(view.people.iter().map(|person| (person.track, (view.at, person))));
        }
        for (track, (at, person)) in last {
            best.entry(track).or_insert_with(|| {
                let gap = from.since(at).as_seconds();
                let beyond = (reach(plate, person.position) - REACH - LOST_SPEED * gap).max(0.0) / 0.4;
                LOST.0 + LOST.1 * gap - 0.5 * beyond * beyond
            });
        }
        let mut near: Vec<(TrackId, f64)> = best
            .iter()
            .map(|(track, own)| {
                let others = tangled.get(track).map_or(&[][..], Vec::as_slice);
                let swapped =
                    others.iter().filter_map(|other| best.get(other)).copied().fold(f64::MIN, f64::max);
                // Whoever may have been swapped with another shares the other's evidence.
                let share = SWAPPED[others.len().clamp(1, 2) - 1];
                let mixed = (1.0 - share) * own.exp() + share * swapped.exp();
                let score = if swapped > *own { mixed.ln() } else { *own };
                (*track, score)
            })
            .filter(|(_, score)| *score > SCORE_MIN)
            .collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        near.truncate(PEOPLE_MAX);
        near.into_iter().map(|(track, score)| Near { track, score: (score * 100.0).round() as i32 }).collect()
    }
}

/// Log-likelihood, in nats, of where `person` is if they changed `plate` just now with a hand that is seen,
/// and with one that is not.
fn score(plate: &Plate, person: &Person) -> (f64, f64) {
    let ground = reach(plate, person.position);
    let beyond = (ground - REACH).max(0.0) / (0.2 + person.position_sd.max(0.0));
    let body = -0.5 * beyond * beyond;
    let hand =
        person.hands.iter().map(|hand| grip(plate, hand.position, hand.sd)).fold(f64::NEG_INFINITY, f64::max);
    let unseen = UNSEEN[person.hands.len().min(2)] - 0.8 * ground;
    (body + hand, body + unseen)
}

/// Distance on the floor from a person to the plate's front edge, metres.
fn reach(plate: &Plate, position: [f64; 2]) -> f64 {
    let edge = [
        plate.position[0] + plate.front[0] * PLATE_DEPTH / 2.0,
        plate.position[1] + plate.front[1] * PLATE_DEPTH / 2.0,
    ];
    (position[0] - edge[0]).hypot(position[1] - edge[1])
}

/// Log-likelihood of a hand's place if it holds what stands on `plate`.
fn grip(plate: &Plate, hand: [f64; 3], sd: f64) -> f64 {
    let away = [hand[0] - plate.position[0], hand[1] - plate.position[1]];
    let depth = away[0] * plate.front[0] + away[1] * plate.front[1];
    let along = away[1] * plate.front[0] - away[0] * plate.front[1];
    let outside = |value: f64, least: f64, most: f64| (least - value).max(value - most).max(0.0);
    let off = [
        outside(along, -plate.width / 2.0, plate.width / 2.0),
        // The wrist stays some 8 cm in front of what the hand holds.
        outside(depth, -PLATE_DEPTH / 2.0, PLATE_DEPTH / 2.0 + 0.08),
        outside(hand[2] - plate.position[2], -0.05, GRIP_HEIGHT),
    ];
    let distance2 = off.iter().map(|value| value * value).sum::<f64>();
    let variance = sd.clamp(0.0, 0.5).powi(2) + GRIP_SD * GRIP_SD;
    // A hand that may be anywhere is poor evidence of being here: the density falls as the spread grows, in the two
    // directions along which a plate does not contain it.
    let density = GRIP_SD * GRIP_SD / variance;
    // A key point is sometimes badly wrong: a wide tail of two per cent.
    (0.98 * density * (-0.5 * distance2 / variance).exp() + 0.02 * (-0.5 * distance2 / 0.16).exp()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Hand;
    use crate::units::PlateId;

    fn plate() -> Plate {
        let id = PlateId { gondola: 1, shelf: 1, plate: 1 };
        Plate { id, position: [2.0, 0.2, 1.0], front: [0.0, -1.0], width: 0.1 }
    }

    fn person(track: u64, position: [f64; 2], hands: &[[f64; 3]]) -> Person {
        Person {
            track: TrackId(track),
            position,
            position_sd: 0.05,
            velocity: [0.0; 2],
            head: 1.7,
            hands: hands.iter().map(|position| Hand { position: *position, sd: 0.03 }).collect(),
            tangled: Vec::new(),
        }
    }

    #[test]
    fn order_of_fit() {
        let plate = plate();
        let table = [
            ("hand on the plate", person(1, [2.0, -0.5], &[[2.0, 0.1, 1.1]])),
            ("hand on the next plate", person(1, [2.1, -0.5], &[[2.15, 0.1, 1.1]])),
            ("close by, hands unseen", person(1, [2.0, -0.4], &[])),
            ("close by, one hand elsewhere", person(1, [2.0, -0.4], &[[2.6, -0.3, 1.0]])),
            ("close by, both hands elsewhere", person(1, [2.0, -0.4], &[[2.6, -0.3, 1.0], [2.5, -0.5, 0.8]])),
            ("two metres away", person(1, [4.0, -0.6], &[])),
        ];
        let scores: Vec<f64> = table
            .iter()
            .map(|(_, person)| score(&plate, person))
            .map(|(seen, unseen)| seen.max(unseen))
            .collect();
        for (pair, names) in scores.windows(2).zip(table.windows(2)) {
            assert!(pair[0] > pair[1], "{} {:?} over {} {:?}", names[0].0, pair[0], names[1].0, pair[1]);
        }
        assert!(scores[0] > -0.2 && scores[5] < -10.0, "{scores:?}");
    }

    #[test]
    fn best_moment_counts_and_tangled_people_share() {
        let mut history = History::default();
        for tick in 0..100_u64 {
            let reach = (48..53).contains(&tick);
            let hand = if reach { [2.0, 0.1, 1.1] } else { [2.0, -0.5, 0.9] };
            let mut a = person(1, [2.0, -0.5], &[hand, [2.3, -0.5, 0.9]]);
            let mut b = person(2, [2.6, -0.6], &[[2.6, -0.6, 0.9], [2.8, -0.6, 0.9]]);
            if tick > 90 {
                (a.tangled, b.tangled) = (vec![b.track], vec![a.track]);
            }
            let at = Instant(tick * 100);
            history.push(&FloorView { at, people: vec![a, b], cameras: Vec::new() });
        }
        let near = history.near(&plate(), Instant(5000), Instant(5200));
        assert_eq!(near[0].track, TrackId(1));
        assert!(near[0].score > -20 && near[0].score - near[1].score > 300, "{near:?}");
        let near = history.near(&plate(), Instant(9800), Instant(9800));
        assert!(near[0].score - near[1].score < 200, "{near:?}");
    }
}
