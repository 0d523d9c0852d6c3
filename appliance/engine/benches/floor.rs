//! What tracking costs: eight cameras at ten frames a second and ten views a second. A time of 500 ms for ten
//! seconds of store is 5 % of one core (design.md section 5).

// The walkers are shared with the engine's tests; they name their types from the crate's root.
use engine::{floor, store, time, units};

#[path = "../src/floor/tests/walkers.rs"]
mod walkers;

use divan::Bencher;
use floor::{Sighting, Tracker};
use time::Instant;
use walkers::{Options, Walkers};

const START: u64 = 1_000_000;

fn main() {
    divan::main();
}

/// Ten seconds with `people` in the store, after half a minute for them to come in.
#[divan::bench(args = [1, 6, 12])]
fn ten_seconds(bencher: Bencher, people: usize) {
    let map = walkers::map();
    let mut walkers = Walkers::new(&Options { people, stay: true, ..Options::default() });
    let mut tracker = Tracker::new(&map);
    let mut second = 0;
    let mut spend = |seconds: u64| {
        let mut sightings: Vec<Sighting> = Vec::new();
        for step in 1..=seconds * 20 {
            walkers.step(&map, Instant(START + second * 1000 + step * 50), &mut sightings);
        }
        second += seconds;
        sightings
    };
    for sighting in spend(60) {
        tracker.observe(&sighting);
    }
    let sightings = spend(10);
    assert_eq!(tracker.view(Instant(START + 60_000)).people.len(), people);
    bencher.with_inputs(|| tracker.clone()).bench_local_refs(|tracker| {
        let mut due = START + 60_100;
        for sighting in &sightings {
            tracker.observe(sighting);
            while sighting.at.0 >= due {
                divan::black_box(tracker.view(Instant(due)));
                due += 100;
            }
        }
    });
}
