//! How well each person fits a change on a plate by where their hands are: for key points that are nearly
//! always right, as those of recordings are. Detected hands are not, see `who.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::cart::Near;
use crate::cart::near::{History, listed};
use crate::message::Person;
use crate::store::Plate;
use crate::time::{Instant, Millis};
use crate::units::TrackId;

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

impl History {
    /// Everyone who may have changed `plate` between `from` and `to`, best first, by their hands.
    pub(super) fn near_by_hands(&self, plate: &Plate, from: Instant, to: Instant) -> Vec<Near> {
        let (from, to) = (from.before(BEFORE), to.after(AFTER));
        let mut best: BTreeMap<TrackId, f64> = BTreeMap::new();
        let mut unseen: BTreeMap<TrackId, (f64, f64)> = BTreeMap::new();
        let mut tangled: BTreeMap<TrackId, BTreeSet<TrackId>> = BTreeMap::new();
        for view in self.since(from).take_while(|view| view.at <= to) {
            for person in &view.people {
                let (seen, hidden) = score(plate, person);
                let entry = best.entry(person.track).or_insert(f64::NEG_INFINITY);
                *entry = entry.max(seen);
                let (sum, views) = unseen.entry(person.track).or_default();
                (*sum, *views) = (*sum + hidden, *views + 1.0);
                tangled.entry(person.track).or_default().extend(&person.tangled);
            }
        }
        // One moment with a hand on the plate is enough; a hand that stays unseen does so all the while.
        for (track, (sum, views)) in unseen {
            let entry = best.entry(track).or_insert(f64::NEG_INFINITY);
            *entry = entry.max(sum / views);
        }
        let mut last: BTreeMap<TrackId, (Instant, &Person)> = BTreeMap::new();
        for view in self.since(Instant(0)).take_while(|view| view.at < from) {
            last.extend(view.people.iter().map(|person| (person.track, (view.at, person))));
        }
        for (track, (at, person)) in last {
            best.entry(track).or_insert_with(|| {
                let gap = from.since(at).as_seconds();
                let beyond = (reach(plate, person.position) - REACH - LOST_SPEED * gap).max(0.0) / 0.4;
                LOST.0 + LOST.1 * gap - 0.5 * beyond * beyond
            });
        }
        listed(&best, &tangled)
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
    // A hand that may be anywhere is poor evidence of being here: the density falls as the spread grows, in
    // the two directions along which a plate does not contain it.
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
}
