//! Sensing as a whole: scripts of people and plates, and the evidence they give.

use std::collections::BTreeMap;

use crate::cart::sense::Sensing;
use crate::cart::{Evidence, ShelfEvent};
use crate::message::{Authority, Direction, FloorView, Passage, Person};
use crate::store::{Lane, Plate, StoreMap};
use crate::time::{Instant, Millis};
use crate::units::{LaneId, Mass, MessageId, PlateId, TrackId};

const START: u64 = 1_000_000;

fn id(number: u16) -> PlateId {
    PlateId { gondola: 1, shelf: 1, plate: number }
}

fn map() -> StoreMap {
    let plate = |n: u16| Plate {
        id: id(n),
        position: [f64::from(n) * 0.1, 5.0, 1.0],
        front: [0.0, -1.0],
        width: 0.1,
    };
    StoreMap {
        name: "test".to_owned(),
        bounds: [-5.0, -5.0, 10.0, 10.0],
        gondolas: Vec::new(),
        lanes: vec![Lane {
            id: LaneId::from("door"),
            position: [0.0, 0.0],
            inward: [0.0, 1.0],
            entry: true,
            exit: true,
        }],
        cameras: Vec::new(),
        plates: (1..=5).map(plate).collect(),
        products: Vec::new(),
        facings: Vec::new(),
    }
}

/// Runs ten times a second: people (seconds, track) -> place, plates (seconds, plate) -> grams.
fn run(
    seconds: u64,
    people: impl Fn(f64, u64) -> Option<[f64; 2]>,
    grams: impl Fn(f64, u16) -> f64,
    passages: &[(f64, Direction)],
) -> Vec<(f64, Evidence)> {
    let mut sensing = Sensing::new(&map(), &BTreeMap::new());
    let mut out = Vec::new();
    for tick in 0..seconds * 10 {
        let t = tick as f64 / 10.0;
        let now = Instant(START + tick * 100);
        let person = |track| {
            Some(Person {
                track: TrackId(track),
                position: people(t, track)?,
                position_sd: 0.1,
                velocity: [0.0; 2],
                head: 1.7,
                hands: Vec::new(),
                tangled: Vec::new(),
            })
        };
        sensing.floor(&FloorView {
            at: now,
            people: (1..=4).filter_map(person).collect(),
            cameras: Vec::new(),
        });
        for plate in 1..=5 {
            let wobble = f64::from((tick as u32 * 7 + u32::from(plate)) % 5) * 0.4 - 0.8;
            sensing.weight(now, id(plate), Some(Mass::from_grams(grams(t, plate) + wobble)));
        }
        for (index, (at, direction)) in passages.iter().enumerate() {
            // The gate repeats itself until acknowledged.
            if t >= *at && t < *at + 4.0 {
                sensing.passage(&Passage {
                    id: MessageId(format!("gate/{index}")),
                    lane: LaneId::from("door"),
                    at: Instant(START + (at * 1000.0) as u64),
                    direction: *direction,
                    authority: Authority::Free,
                });
            }
        }
        out.extend(sensing.poll(now).into_iter().map(|evidence| (t, evidence)));
    }
    out
}

fn bound(evidence: &[(f64, Evidence)]) -> Vec<(String, Option<u64>)> {
    let bound = |(_, evidence): &(f64, Evidence)| match evidence {
        Evidence::Bound { passage, track } => Some((passage.to_string(), track.map(|track| track.0))),
        _ => None,
    };
    evidence.iter().filter_map(bound).collect()
}

fn events(evidence: &[(f64, Evidence)]) -> Vec<ShelfEvent> {
    let event = |(_, evidence): &(f64, Evidence)| match evidence {
        Evidence::Shelf(event) => Some(event.clone()),
        _ => None,
    };
    evidence.iter().filter_map(event).collect()
}

#[test]
fn entry_and_exit_find_their_tracks() {
    // 1 comes in at 3 s and leaves at 14 s; 2 comes in at 5 s and stays.
    let people = |t: f64, track: u64| match track {
        1 if (2.5..14.3).contains(&t) => Some([0.1, if t < 10.0 { t - 3.0 } else { 14.0 - t }]),
        2 if t >= 4.6 => Some([-0.1, (t - 5.0).min(4.0)]),
        _ => None,
    };
    let passages = [(3.0, Direction::Entry), (5.0, Direction::Entry), (14.0, Direction::Exit)];
    let evidence = run(25, people, |_, _| 1000.0, &passages);
    let expect = [("gate/0", Some(1)), ("gate/1", Some(2)), ("gate/2", Some(1))];
    assert_eq!(bound(&evidence), expect.map(|(passage, track)| (passage.to_owned(), track)));
    let told =
        |entered: fn(&Evidence) -> bool| evidence.iter().filter(|(_, evidence)| entered(evidence)).count();
    assert_eq!(told(|evidence| matches!(evidence, Evidence::Entered { .. })), 2, "repeats are dropped");
    assert_eq!(told(|evidence| matches!(evidence, Evidence::Left { .. })), 1);
    let last = evidence.iter().rev().find_map(|(t, evidence)| match evidence {
        Evidence::Watermark { at } => Some((*t, *at)),
        _ => None,
    });
    let (t, mark) = last.unwrap();
    assert!(
        mark > Instant(START + 14_000) && t < 20.0,
        "a watermark past the exit, in time for the receipt: {last:?}"
    );
}

#[test]
fn the_next_in_the_queue_is_not_who_came_in() {
    // Nobody sees the first person; track 1 queues half a metre behind and comes in three seconds later.
    let people = |t: f64, track: u64| (track == 1).then(|| [0.0, (t - 6.0).clamp(-0.5, 4.0)]);
    let passages = [(3.0, Direction::Entry), (6.0, Direction::Entry)];
    let tracks: Vec<Option<u64>> =
        bound(&run(15, people, |_, _| 1000.0, &passages)).into_iter().map(|(_, track)| track).collect();
    assert_eq!(tracks, [None, Some(1)], "the first stays unknown");
    let evidence = run(15, people, |_, _| 1000.0, &passages[1..]);
    assert_eq!(bound(&evidence)[0].1, Some(1), "their own passage is theirs");
}

#[test]
fn an_empty_floor_binds_nobody() {
    let evidence = run(15, |_, _| None, |_, _| 1000.0, &[(3.0, Direction::Entry), (9.0, Direction::Exit)]);
    assert_eq!(bound(&evidence), [("gate/0".to_owned(), None), ("gate/1".to_owned(), None)]);
}

#[test]
fn a_lost_track_goes_on_under_its_new_number() {
    let people = |t: f64, track: u64| match track {
        1 if (2.8..8.0).contains(&t) => Some([0.0, (t - 3.0).min(4.0)]),
        3 if t >= 10.0 => Some([0.5, 4.3]),
        _ => None,
    };
    let evidence = run(20, people, |_, _| 1000.0, &[(3.0, Direction::Entry), (16.0, Direction::Exit)]);
    let continued = evidence
        .iter()
        .any(|(_, evidence)| *evidence == Evidence::Continued { from: TrackId(1), to: TrackId(3) });
    assert!(continued, "{evidence:?}");
}

#[test]
fn neighbours_that_change_together_are_one_event() {
    let at = |t: f64, from: f64, before: f64, after: f64| if t < from { before } else { after };
    let grams = |t: f64, plate: u16| match plate {
        1 => at(t, 6.0, 1000.0, 700.0),
        2 => at(t, 6.2, 1000.0, 900.0),
        4 => at(t, 12.0, 1000.0, 800.0),
        _ => 1000.0,
    };
    let events = events(&run(20, |_, track| (track == 1).then_some([0.1, 4.3]), grams, &[]));
    let plates: Vec<Vec<u16>> =
        events.iter().map(|event| event.steps.iter().map(|step| step.plate.plate).collect()).collect();
    assert_eq!(plates, [vec![1, 2], vec![4]]);
    assert!((events[0].delta().grams() + 400.0).abs() < 2.0);
    assert_eq!(events[0].steps[0].near[0].track, TrackId(1));
}

#[test]
fn an_open_burst_holds_the_watermark() {
    // Somebody leans on plate 3 from 5 s on; another leaves at 6 s.
    let grams = |t: f64, plate: u16| match plate {
        3 if t >= 5.0 => 1500.0 + 200.0 * (t * 7.0).sin(),
        _ => 1000.0,
    };
    let evidence = run(30, |_, _| None, grams, &[(6.0, Direction::Exit)]);
    let past = evidence.iter().find_map(|(t, evidence)| match evidence {
        Evidence::Watermark { at } if *at > Instant(START + 6000) => Some(*t),
        _ => None,
    });
    let past = past.expect("a broken plate must not hold receipts for ever");
    assert!(past > 15.0 && Millis((past * 1000.0) as u64) < Millis(6000 + 30_000), "{past}");
}
