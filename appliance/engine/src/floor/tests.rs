//! The tracker against simulated walkers: seeds, pixel noise, missed detections, false alarms, hidden people.

mod walkers;

use std::collections::BTreeMap;

use self::walkers::{Options, Walkers, map};
use super::{LATE_MAX, Outcome, Seen, Sighting, Tracker};
use crate::message::FloorView;
use crate::time::{Instant, Millis};
use crate::units::{CameraId, TrackId};

/// What a run against the truth found.
#[derive(Debug, Default)]
struct Score {
    /// A person's track changed although it had claimed to be certain.
    swaps: u32,
    /// A person's track changed to one that it was tangled with.
    tangled_swaps: u32,
    /// Squared errors of people whom a camera saw of late, and their count.
    squares: f64,
    places: u32,
    /// Person-views without a track within a metre, and all.
    missed: u32,
    total: u32,
    /// Tracks without a person within a metre, summed over views.
    ghosts: u32,
    /// Person-views marked as tangled.
    tangled: u32,
    hand_squares: f64,
    hands: u32,
    hands_wild: u32,
}

impl Score {
    fn rmse(&self) -> f64 {
        (self.squares / f64::from(self.places.max(1))).sqrt()
    }

    fn hand_rmse(&self) -> f64 {
        (self.hand_squares / f64::from(self.hands.max(1))).sqrt()
    }
}

fn run(options: &Options) -> Score {
    let map = map();
    let mut walkers = Walkers::new(options);
    let mut tracker = Tracker::new(&map);
    let mut score = Score::default();
    let mut owned: BTreeMap<usize, TrackId> = BTreeMap::new();
    let mut sightings = Vec::new();
    for step in 1..=options.seconds * 20 {
        let now = Instant(1_000_000 + step * 50);
        sightings.clear();
        walkers.step(&map, now, &mut sightings);
        for sighting in &sightings {
            assert_ne!(tracker.observe(sighting), Outcome::UnknownCamera);
        }
        if step % 2 == 0 {
            judge(&walkers, &tracker.view(now), now, &mut owned, &mut score);
        }
    }
    score
}

fn judge(
    walkers: &Walkers,
    view: &FloorView,
    now: Instant,
    owned: &mut BTreeMap<usize, TrackId>,
    score: &mut Score,
) {
    let inside: Vec<usize> = walkers.inside().collect();
    let distance = |person: usize, track: usize| {
        let [x, y] = walkers.people[person].position;
        (x - view.people[track].position[0]).hypot(y - view.people[track].position[1])
    };
    let costs: Vec<Vec<f64>> = inside
        .iter()
        .map(|person| {
            (0..view.people.len())
                .map(|track| {
                    let away = distance(*person, track);
                    // Keep what was right before unless it is far off.
                    let kept = owned.get(person) == Some(&view.people[track].track);
                    if away < 1.0 { away - if kept { 0.4 } else { 0.0 } } else { f64::INFINITY }
                })
                .collect()
        })
        .collect();
    let found = super::assign::assign(&costs, view.people.len(), 2.0);
    for (person, track) in inside.iter().zip(&found) {
        score.total += 1;
        let Some(track) = track else {
            score.missed += 1;
            continue;
        };
        let seen = &view.people[*track];
        score.tangled += u32::from(!seen.tangled.is_empty());
        if let Some(before) = owned.insert(*person, seen.track)
            && before != seen.track
        {
            if seen.tangled.contains(&before) {
                score.tangled_swaps += 1;
            } else {
                score.swaps += 1;
                if std::env::var_os("FLOOR_TRACE").is_some() {
                    eprintln!("{} person {person} was {before} is {} at {:?}", now.0, seen.track, seen.position);
                }
            }
        }
        let truth = &walkers.people[*person];
        if now.since(truth.seen) < Millis(300) {
            score.squares += distance(*person, *track).powi(2);
            score.places += 1;
        }
        for hand in seen.hands.iter().filter(|hand| hand.sd < 0.1) {
            let error = truth
                .hands()
                .iter()
                .map(|at| (0..3).map(|axis| (at[axis] - hand.position[axis]).powi(2)).sum::<f64>())
                .fold(f64::INFINITY, f64::min);
            score.hands_wild += u32::from(error > 0.09);
            score.hand_squares += error;
            score.hands += 1;
        }
    }
    for (index, ghost) in view.people.iter().enumerate() {
        let [x, y] = ghost.position;
        let real = found.contains(&Some(index))
            || walkers.people.iter().any(|person| {
                person.here && (person.position[0] - x).hypot(person.position[1] - y) < 1.0
            });
        if !real {
            score.ghosts += 1;
        }
    }
}

#[test]
fn identities_survive_crossing_misses_false_alarms_and_gaps() {
    let mut sum = Score::default();
    for seed in 1..=seeds() {
        let score = run(&Options { seed, people: 6, seconds: 120, ..Options::default() });
        eprintln!("seed {seed}: rmse {:.3} m, {score:?}", score.rmse());
        sum.swaps += score.swaps;
        sum.tangled_swaps += score.tangled_swaps;
        sum.squares += score.squares;
        sum.places += score.places;
        sum.missed += score.missed;
        sum.total += score.total;
        sum.ghosts += score.ghosts;
        sum.tangled += score.tangled;
        sum.hand_squares += score.hand_squares;
        sum.hands += score.hands;
        sum.hands_wild += score.hands_wild;
    }
    let share = |count: u32| 100.0 * f64::from(count) / f64::from(sum.total);
    eprintln!(
        "floor: {} person-views, rmse {:.3} m, {} swaps unannounced, {} announced, missed {:.2} %, ghosts {:.2} %, \
         tangled {:.2} %, hands rmse {:.3} m over {} ({} wild)",
        sum.total,
        sum.rmse(),
        sum.swaps,
        sum.tangled_swaps,
        share(sum.missed),
        share(sum.ghosts),
        share(sum.tangled),
        sum.hand_rmse(),
        sum.hands,
        sum.hands_wild,
    );
    assert_eq!(sum.swaps, 0);
    assert!(sum.rmse() < 0.15, "rmse {}", sum.rmse());
    assert!(share(sum.missed) < 3.0 && share(sum.ghosts) < 3.0);
}

/// More seeds than a quick run has, by `FLOOR_SEEDS`.
fn seeds() -> u64 {
    std::env::var("FLOOR_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}
