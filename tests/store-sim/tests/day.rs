//! Whole days of the simulated store, run alone behind its built-in gate.

use std::collections::BTreeMap;

use engine::time::Millis;
use engine::units::ProductId;
use store_sim::shelf::Place;
use store_sim::truth::{EventKind, fnv};
use store_sim::{Options, World};

/// Longest a day of 50 may take, simulated seconds.
const DAY_MAX: u64 = 1_500;

fn day(options: Options) -> (World, u64) {
    let mut world = World::new(options);
    world.open_gate();
    let mut digest = 0_u64;
    let mut now = options.start;
    while !world.finished() {
        now = now.after(Millis(100));
        world.step(now);
        let bytes: Vec<u8> = world.counts().iter().flat_map(|count| count.to_le_bytes()).collect();
        digest = digest.rotate_left(5) ^ fnv(&bytes);
        assert!(
            now.since(options.start) < Millis::from_seconds(DAY_MAX.max(u64::from(options.shoppers) * 25)),
            "seed {} never ends; replay: cargo run --release -p store-sim -- --seed {} --shoppers {}",
            options.seed,
            options.seed,
            options.shoppers
        );
    }
    let truth = world.truth().digest().expect("truth is JSON");
    (world, digest ^ truth)
}

#[test]
fn the_same_seed_gives_the_same_day() {
    let options = Options { seed: 5, shoppers: 20, ..Options::default() };
    let (_, once) = day(options);
    let (_, again) = day(options);
    assert_eq!(once, again);
    let (_, other) = day(Options { seed: 6, ..options });
    assert_ne!(once, other);
}

#[test]
fn everyone_leaves_and_every_pack_is_somewhere() {
    for seed in 0..6 {
        let options = Options { seed, shoppers: 50, ..Options::default() };
        let (world, _) = day(options);
        let replay = format!("cargo run --release -p store-sim -- --seed {seed} --shoppers 50");
        let minutes = world.now().since(options.start).as_seconds() / 60.0;
        assert!((8.0..18.0).contains(&minutes), "the day took {minutes} minutes; {replay}");
        let truth = world.truth();
        let mut out: BTreeMap<ProductId, u32> = BTreeMap::new();
        for visit in &truth.visits {
            assert!(visit.entered.is_some() && visit.left.is_some(), "{visit:?}; {replay}");
            assert!(!visit.turned_away);
            for (product, count) in &visit.out {
                *out.entry(product.clone()).or_default() += count;
            }
            // The events tell the same story as the packs.
            let mut held: BTreeMap<ProductId, u32> = BTreeMap::new();
            for person in &visit.people {
                for (product, count) in truth.held(*person, world.now()) {
                    *held.entry(product).or_default() += count;
                }
            }
            assert_eq!(held, visit.out, "{replay}");
        }
        let mut gone: BTreeMap<ProductId, u32> = BTreeMap::new();
        for item in world.shelves().items() {
            match item.place {
                Place::Out(_) => {
                    let product = world.map().products[item.product].id.clone();
                    *gone.entry(product).or_default() += 1;
                }
                Place::Plate { .. } => {}
                Place::Person(person) => panic!("person {person} still has a pack; {replay}"),
            }
        }
        assert_eq!(out, gone, "{replay}");
    }
}

#[test]
fn the_mix_is_that_of_ordinary_shoppers() {
    let (mut picks, mut away, mut puts, mut wrong, mut taken) = (0, 0, 0, 0, 0);
    for seed in 10..16 {
        let (world, _) = day(Options { seed, shoppers: 50, ..Options::default() });
        for event in &world.truth().events {
            match event.kind {
                EventKind::PickUp { home, .. } => {
                    picks += 1;
                    away += u32::from(!home);
                }
                EventKind::PutBack { home, .. } => {
                    puts += 1;
                    wrong += u32::from(!home);
                }
                EventKind::Touch { .. } | EventKind::HandOver { .. } | EventKind::Passage { .. } => {}
            }
        }
        taken += world.truth().visits.iter().map(|visit| visit.out.values().sum::<u32>()).sum::<u32>();
    }
    let a_head = f64::from(taken) / 300.0;
    assert!((2.0..7.0).contains(&a_head), "{a_head} a visit");
    let share = f64::from(puts) / f64::from(picks);
    assert!((0.04..0.20).contains(&share), "{puts} put-backs on {picks} picks");
    let misplaced = f64::from(wrong) / f64::from(puts);
    assert!((0.15..0.65).contains(&misplaced), "{wrong} of {puts} put-backs in wrong places");
    assert!(away > 0, "nobody takes misplaced goods");
}

#[test]
fn nobody_walks_through_shelves_or_others() {
    let options = Options { seed: 3, shoppers: 50, ..Options::default() };
    let mut world = World::new(options);
    world.open_gate();
    let mut now = options.start;
    let mut close = 0_u32;
    let mut pairs = 0_u32;
    while !world.finished() {
        now = now.after(Millis(200));
        world.step(now);
        let bodies = world.bodies();
        for (index, (id, body)) in bodies.iter().enumerate() {
            let at = body.foot();
            for gondola in &world.map().gondolas {
                let [left, near, right, far] = gondola.footprint;
                let inside = (left..right).contains(&at[0]) && (near..far).contains(&at[1]);
                assert!(!inside, "person {id} stands in gondola {} at {at:?}", gondola.id);
            }
            for (_, other) in &bodies[index + 1..] {
                let there = other.foot();
                pairs += 1;
                close += u32::from((at[0] - there[0]).hypot(at[1] - there[1]) < 0.25);
            }
        }
    }
    assert!(close * 200 < pairs, "{close} of {pairs} pairs are closer than shoulders allow");
}

#[test]
fn hands_reach_the_plates_they_use() {
    let options = Options { seed: 4, shoppers: 50, ..Options::default() };
    let mut world = World::new(options);
    world.open_gate();
    let mut seen = 0;
    let mut misses: Vec<f64> = Vec::new();
    while !world.finished() {
        world.step(world.now().after(Millis(50)));
        let events = world.truth().events.len();
        for event in &world.truth().events[seen..events] {
            let (EventKind::PickUp { plate, .. } | EventKind::PutBack { plate, .. }) = event.kind else {
                continue;
            };
            let spot = world.map().plates.iter().find(|other| other.id == plate).expect("in the map");
            let bodies = world.bodies();
            let (_, body) = bodies.iter().find(|(id, _)| *id == event.person).expect("in the store");
            let miss = body.wrists.iter().map(|wrist| {
                let square = |axis: usize| (wrist[axis] - spot.position[axis]).powi(2);
                (square(0) + square(1) + square(2)).sqrt()
            });
            misses.push(miss.fold(f64::INFINITY, f64::min));
        }
        seen = events;
    }
    misses.sort_by(f64::total_cmp);
    let at = |share: f64| misses[(share * (misses.len() - 1) as f64) as usize];
    // A pack is taken at up to 0.2 m from the middle of its plate; children do not reach the top shelf.
    assert!(at(0.5) < 0.2 && at(0.95) < 0.35, "median {} m, 95 % {} m", at(0.5), at(0.95));
}
