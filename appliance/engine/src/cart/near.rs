//! A few seconds of floor views, and how well each person in them fits a change on a plate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::cart::{Near, weights, who};
use crate::message::{FloorView, Person};
use crate::store::Plate;
use crate::time::{Instant, Millis};
use crate::units::TrackId;

/// Views are kept this long: a burst may last 15 s before it is valued.
const HISTORY: Millis = Millis(22_000);
/// Most views kept, for views that come faster than ten a second.
const VIEWS_MAX: usize = 800;
/// Who is tangled with whom counts from this long before a step until this long after it.
const BEFORE: Millis = Millis(400);
const AFTER: Millis = Millis(100);
/// A person's ground position is at most this far from a plate's middle when reaching into it, metres.
const REACH: f64 = 1.05;
/// Share of the steps that somebody else near has done, whatever the numbers say.
const DOUBT: f64 = 0.004;
/// Nats against somebody whom no track follows, and nats a second, for a person who was in no view at the
/// time, within reach of where they were last seen.
const LOST: (f64, f64) = (1.0, -0.3);
/// Walking speed while unseen, metres a second.
const LOST_SPEED: f64 = 1.2;
/// Chance that somebody tangled with one other, two, three, or more has really been swapped with a certain
/// one of them. On fourteen simulated days with the trained detector 9 of 428, 8 of 109, 2 of 43 and 8 of
/// 37 things taken by tangled people were taken by somebody else, one of those they were tangled with.
const SWAPPED: [f64; 4] = [0.02, 0.035, 0.035, 0.06];
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
        let mut last: BTreeMap<TrackId, (Instant, &Person)> = BTreeMap::new();
        let mut tangled: BTreeMap<TrackId, BTreeSet<TrackId>> = BTreeMap::new();
        for view in self.views.iter().filter(|view| view.at <= to.after(AFTER)) {
            last.extend(view.people.iter().map(|person| (person.track, (view.at, person))));
            if view.at >= from.before(BEFORE) {
                for person in &view.people {
                    tangled.entry(person.track).or_default().extend(&person.tangled);
                }
            }
        }
        let mut odds: BTreeMap<TrackId, f64> = BTreeMap::new();
        for (track, (at, person)) in last {
            let found = match who::features(plate, self.views.iter(), track, from, to) {
                Some(features) => Some(who::log_odds(&features)),
                None => missing(plate, person, from.before(BEFORE).since(at).as_seconds()),
            };
            odds.extend(found.map(|found| (track, found)));
        }
        // One of these has done it, or somebody whom no track follows.
        let best = odds.values().copied().fold(weights::NOBODY, f64::max);
        let sum = odds.values().chain([&weights::NOBODY]).map(|odds| (odds - best).exp()).sum::<f64>();
        let chances: BTreeMap<TrackId, f64> = odds
            .iter()
            .map(|(track, own)| {
                let chance = (1.0 - DOUBT) * (own - best).exp() / sum + DOUBT / odds.len() as f64;
                (*track, chance.ln())
            })
            .collect();
        listed(&chances, &tangled)
    }
}

/// The best of them, best first. Whoever may have been swapped with another shares the other's evidence.
pub(super) fn listed(
    scores: &BTreeMap<TrackId, f64>,
    tangled: &BTreeMap<TrackId, BTreeSet<TrackId>>,
) -> Vec<Near> {
    let mut near: Vec<(TrackId, f64)> = scores
        .iter()
        .map(|(track, own)| {
            let others = tangled.get(track).into_iter().flatten();
            let swapped = others.filter_map(|other| scores.get(other)).copied().fold(f64::MIN, f64::max);
            let many = tangled.get(track).map_or(0, BTreeSet::len);
            let share = SWAPPED[many.clamp(1, SWAPPED.len()) - 1];
            let mixed = (1.0 - share) * own.exp() + share * swapped.exp();
            (*track, if swapped > *own { mixed.ln() } else { *own })
        })
        .filter(|(_, score)| *score > SCORE_MIN)
        .collect();
    near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    near.truncate(PEOPLE_MAX);
    near.into_iter().map(|(track, score)| Near { track, score: (score * 100.0).round() as i32 }).collect()
}

/// Log odds of somebody who was in no view at the time, within reach of where they were last seen; `None`
/// when they were seen, elsewhere.
fn missing(plate: &Plate, person: &Person, gap: f64) -> Option<f64> {
    if gap <= 0.0 {
        return None;
    }
    let away = (person.position[0] - plate.position[0]).hypot(person.position[1] - plate.position[1]);
    let beyond = (away - REACH - LOST_SPEED * gap).max(0.0) / 0.4;
    Some(weights::NOBODY + LOST.0 + LOST.1 * gap - 0.5 * beyond * beyond)
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
        for near in [History::near, History::near_by_hands] {
            let alone = near(&history, &plate(), Instant(5000), Instant(5200));
            assert_eq!(alone[0].track, TrackId(1));
            assert!(alone[0].score > -20 && alone[0].score - alone[1].score > 300, "{alone:?}");
            let [a, b] = [0, 1].map(|_| near(&history, &plate(), Instant(9800), Instant(9800)));
            assert_eq!(a, b);
            assert!(a[0].score - a[1].score <= 400, "no surer than swaps are rare: {a:?}");
        }
    }
}
