//! What the floor tracker adds to the sensors.

use super::oracle::{ALICE, Bench, admitted};
use super::tables::{facts, incident};
use crate::gate::*;
use crate::message::{Direction, GateFact, Incident, PassageRecord, Witness};
use crate::units::TrackId;

/// Passages by a party's grant and crossings, by their times; what the records say in the end.
fn watched(passages: &[u64], crossings: &[(u64, u64)]) -> (Vec<PassageRecord>, Vec<Incident>) {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, passages.len() as u8)));
    let begin = bench.now.after(Millis(1_000));
    let (mut records, mut incidents) = (Vec::new(), Vec::new());
    for at in 0..15_000 {
        let now = begin.after(Millis(at));
        bench.wait(Millis(now.0.saturating_sub(bench.now.0)));
        let mut told = facts(&bench);
        if passages.contains(&at) {
            bench.go_through(Direction::Entry);
        }
        for (crossed, track) in crossings {
            // A tracker speaks a second late.
            if crossed + 1_000 == at {
                let crossing = Crossing {
                    at: begin.after(Millis(*crossed)),
                    direction: Direction::Entry,
                    track: TrackId(*track),
                };
                bench.input(Input::Crossed(crossing));
            }
        }
        bench.out.clear();
        for fact in told.drain(..) {
            match fact {
                GateFact::Passage { passage } => records.push(passage),
                GateFact::Incident { incident } => incidents.push(incident),
                GateFact::WalkedBack { .. } | GateFact::Ordered { .. } => {}
            }
        }
    }
    (records, incidents)
}

#[test]
fn a_passage_has_the_track_that_crossed_with_it() {
    let (records, incidents) = watched(&[500], &[(700, 7)]);
    assert_eq!((records[0].people, &records[0].tracks[..]), (Some(1), &[TrackId(7)][..]));
    assert_eq!(incidents, []);
}

#[test]
fn without_a_tracker_the_sensors_stand_alone() {
    let (records, incidents) = watched(&[500], &[]);
    assert_eq!((records[0].people, records[0].tracks.len(), incidents), (None, 0, vec![]));
}

#[test]
fn two_who_cross_on_one_passage_are_tailgating() {
    let (records, incidents) = watched(&[500], &[(600, 7), (900, 8)]);
    assert_eq!(records[0].people, Some(2));
    let tailgating = Incident::Tailgating { passage: 1, member: Some(ALICE), by: Witness::Floor, people: 1 };
    assert_eq!(incidents, [tailgating]);
}

#[test]
fn a_party_in_a_row_is_no_tailgating_wherever_the_line_lies() {
    for shift in [-900_i64, -400, 0, 400, 900] {
        let passages = [1_500, 2_300, 3_400];
        let crossings: Vec<(u64, u64)> =
            passages.iter().enumerate().map(|(n, at)| ((*at as i64 + shift) as u64, n as u64)).collect();
        let (records, incidents) = watched(&passages, &crossings);
        assert_eq!(records.iter().map(|record| record.people).collect::<Vec<_>>(), [Some(1); 3], "{shift}");
        assert_eq!(incidents, [], "{shift}");
    }
}

#[test]
fn one_too_many_in_a_row_is_found() {
    let (records, incidents) = watched(&[500, 1_500], &[(600, 1), (900, 2), (1_600, 3)]);
    assert_eq!(records.iter().map(|record| record.people).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(incidents.len(), 1);
}

#[test]
fn who_trembles_on_the_line_is_one_person() {
    let (records, incidents) = watched(&[500], &[(600, 7), (1_200, 7)]);
    assert_eq!((records[0].people, incidents), (Some(1), vec![]));
}

#[test]
fn the_tracker_cannot_flood_the_gate() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    for track in 0..10_000 {
        let crossing = Crossing { at: bench.now, direction: Direction::Entry, track: TrackId(track) };
        bench.input(Input::Crossed(crossing));
    }
    bench.go_through(Direction::Entry);
    bench.wait(RECORD_AFTER);
    assert!(
        matches!(incident(&bench), Some(Incident::Tailgating { people: 63, .. })),
        "{:?}",
        incident(&bench)
    );
}
