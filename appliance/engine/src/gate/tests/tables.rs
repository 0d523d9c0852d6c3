//! The daily life of a lane, as tables.

use super::oracle::{ALICE, BOB, Bench, START, admitted, settings, staff};
use crate::admission::Admitted;
use crate::gate::*;
use crate::message::{
    Authority, DenyReason, Direction, GateFact, GateStatus, Incident, Notice, PassageRecord, Witness,
};
use crate::units::LaneId;

pub(super) fn passed(bench: &Bench) -> Passed {
    let passed = bench.out.iter().find_map(|command| match command {
        Command::Passed(passed) => Some(passed.clone()),
        _ => None,
    });
    passed.expect("somebody passed")
}

pub(super) fn facts(bench: &Bench) -> Vec<GateFact> {
    let facts = bench.out.iter().filter_map(|command| match command {
        Command::Report(fact) => Some(fact.clone()),
        _ => None,
    });
    facts.collect()
}

pub(super) fn incident(bench: &Bench) -> Option<Incident> {
    facts(bench).into_iter().find_map(|fact| match fact {
        GateFact::Incident { incident } => Some(incident),
        _ => None,
    })
}

pub(super) fn record(bench: &Bench) -> Option<PassageRecord> {
    facts(bench).into_iter().find_map(|fact| match fact {
        GateFact::Passage { passage } => Some(passage),
        _ => None,
    })
}

#[test]
fn a_grant_is_a_pulse_and_a_passage() {
    let mut bench = Bench::new();
    assert_eq!(bench.gate.view().notice, Notice::Idle);
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!(bench.out[0], Command::Signal(Signal::Good));
    assert!(bench.lines().unlock_entry && bench.lines().beacon_green);
    assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining: 1 });
    bench.wait(Millis(299));
    assert!(bench.lines().unlock_entry);
    bench.wait(Millis(1));
    assert!(!bench.lines().unlock_entry && bench.lines().beacon_green);
    bench.wait(Millis(1_500));
    bench.go_through(Direction::Entry);
    assert_eq!((bench.live(), bench.gate.view().entries, bench.gate.view().unlocks), (0, 1, 1));
    assert_eq!(bench.gate.view().status, GateStatus::Closed);
    bench.wait(Millis::from_seconds(2));
    assert_eq!(bench.gate.view().notice, Notice::Idle);
}

#[test]
fn a_grant_not_taken_lapses() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(7_999));
    assert_eq!(bench.live(), 1);
    bench.wait(Millis(1));
    assert_eq!(bench.live(), 0);
    assert_eq!(bench.gate.view().notice, Notice::ScanHere);
    bench.wait(LATE);
    bench.input(Input::PassageLine(Direction::Entry, true));
    assert_eq!(bench.gate.view().notice, Notice::StepBack);
    assert_eq!(
        (passed(&bench).authority, incident(&bench)),
        (Authority::None, Some(Incident::Forced { passage: 1 }))
    );
}

#[test]
fn a_second_person_on_one_grant_is_told_to_step_back() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(900));
    bench.go_through(Direction::Entry);
    bench.wait(Millis(400));
    bench.input(Input::PassageLine(Direction::Entry, true));
    assert_eq!(passed(&bench).authority, Authority::None);
    let tailgating =
        Incident::Tailgating { passage: 2, member: Some(ALICE), by: Witness::Sensors, people: 1 };
    assert_eq!(incident(&bench), Some(tailgating));
    assert!(bench.lines().beacon_red);
    assert_eq!(bench.gate.view().notice, Notice::StepBack);
}

#[test]
fn a_contact_that_bounces_is_one_person() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 2)));
    bench.wait(Millis(900));
    for _ in 0..3 {
        // The oracle lets a silent edge be silent; what counts is the total.
        bench.go_through(Direction::Entry);
        bench.wait(Millis(10));
    }
    assert_eq!((bench.live(), bench.gate.view().entries), (1, 1));
}

#[test]
fn a_party_counts_down_with_a_pulse_for_each() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 3)));
    for (place, remaining) in [(0, 2), (1, 1), (2, 0)] {
        bench.wait(Millis(700));
        bench.input(Input::PassageLine(Direction::Entry, true));
        let Authority::Grant(grant) = passed(&bench).authority else { panic!("by the grant") };
        assert_eq!(grant.party_member, place);
        assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining });
        bench.input(Input::PassageLine(Direction::Entry, false));
    }
    bench.wait(Millis(700));
    assert_eq!((bench.gate.view().unlocks, bench.gate.view().status), (3, GateStatus::Closed));
}

#[test]
fn a_quick_party_member_still_gets_an_own_pulse() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 2)));
    bench.wait(Millis(150));
    bench.go_through(Direction::Entry);
    assert!(!bench.lines().unlock_entry, "the pulse of the first ends with the passage");
    bench.wait(Millis(199));
    assert!(!bench.lines().unlock_entry);
    bench.wait(Millis(1));
    assert!(bench.lines().unlock_entry);
}

#[test]
fn slow_people_keep_their_grant() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(7_000));
    bench.input(Input::Detector(true));
    bench.wait(Millis(20_000));
    assert_eq!(bench.live(), 1, "somebody is still in the passage");
    bench.input(Input::Detector(false));
    bench.wait(Millis(1_900));
    bench.go_through(Direction::Entry);
    assert_eq!(bench.gate.view().entries, 1);
    assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining: 0 });

    let mut wide = Bench::new();
    let grant = crate::message::Grant { wide: true, ..admitted(BOB, 1).grant };
    wide.input(Input::Grant(Admitted { grant, passages: 1 }));
    assert!(wide.lines().wide);
    wide.wait(Millis(15_999));
    assert_eq!(wide.live(), 1);
}

#[test]
fn exits_need_nothing() {
    let mut bench = Bench::new();
    bench.go_through(Direction::Exit);
    assert_eq!((bench.gate.view().exits, bench.gate.view().notice), (1, Notice::Goodbye));
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(500));
    bench.go_through(Direction::Exit);
    assert_eq!(bench.live(), 1, "somebody leaving takes no grant");
    bench.input(Input::Ready(false));
    bench.wait(Millis(500));
    bench.go_through(Direction::Exit);
    assert_eq!(bench.gate.view().exits, 3);
}

#[test]
fn a_fire_alarm_ends_everything_and_frees_everybody() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 2)));
    bench.input(Input::FireAlarm(true));
    assert_eq!((bench.lines(), bench.live()), (Outputs::default(), 0));
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneClosed));
    for direction in [Direction::Exit, Direction::Entry] {
        bench.input(Input::PassageLine(direction, true));
        assert_eq!(passed(&bench).authority, Authority::Free);
    }
    bench.input(Input::Lost);
    bench.input(Input::Found);
    bench.input(Input::Ready(true));
    assert_eq!(bench.gate.view().notice, Notice::Evacuate, "an alarm outlives a lost cable");
    bench.input(Input::FireAlarm(false));
    assert_eq!(bench.gate.refuses(), None);
}

#[test]
fn a_broken_turnstile_is_out_of_order() {
    for broken in [Input::Lost, Input::Ready(false)] {
        let mut bench = Bench::new();
        bench.input(Input::Grant(admitted(ALICE, 1)));
        bench.input(broken);
        assert_eq!(bench.live(), 0);
        let view = bench.gate.view();
        assert_eq!((view.status, view.notice), (GateStatus::Malfunction, Notice::OutOfOrder));
        assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneFaulty));
        bench.heal();
    }
}

#[test]
fn lines_that_were_active_when_opened_are_no_passages() {
    let mut bench = Bench::closed();
    bench.input(Input::Found);
    assert_eq!(
        bench.out,
        [Command::Drive(Outputs::default())],
        "an opened turnstile is driven to the safe state"
    );
    bench.input(Input::PassageLine(Direction::Entry, true));
    bench.input(Input::Ready(true));
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneFaulty), "the fire line is not known yet");
    bench.input(Input::FireAlarm(false));
    assert_eq!((bench.gate.view().entries, bench.gate.refuses()), (0, None));
}

#[test]
fn somebody_in_the_passage_blocks_it() {
    let mut bench = Bench::new();
    bench.input(Input::Detector(true));
    bench.wait(Millis(2_999));
    assert_eq!(bench.gate.view().status, GateStatus::Closed);
    bench.wait(Millis(1));
    assert_eq!((bench.gate.view().status, bench.gate.view().notice), (GateStatus::Blocked, Notice::StepBack));
    bench.input(Input::Detector(false));
    assert_eq!((bench.gate.view().status, bench.gate.view().notice), (GateStatus::Closed, Notice::Idle));
}

#[test]
fn the_emergency_button_releases_the_exit() {
    let mut bench = Bench::new();
    bench.input(Input::EmergencyButton(true));
    assert!(bench.lines().unlock_exit);
    bench.wait(Millis(300));
    assert!(!bench.lines().unlock_exit);
}

#[test]
fn refusals_are_shown_but_never_over_a_welcome() {
    let mut bench = Bench::new();
    bench.input(Input::Deny(DenyReason::Stale));
    assert_eq!(bench.gate.view().notice, Notice::Refused { reason: DenyReason::Stale });
    bench.wait(Millis(4_000));
    assert_eq!(bench.gate.view().notice, Notice::ScanHere);
    bench.wait(Millis(6_000));
    assert_eq!(bench.gate.view().notice, Notice::Idle);
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneBusy));
    bench.input(Input::Deny(DenyReason::LaneBusy));
    assert_eq!((bench.out.len(), bench.gate.view().denials), (0, 1));
    assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining: 1 });
}

#[test]
fn an_exit_lane_takes_no_entries() {
    let mut bench = Bench::with(&Settings::new(LaneId::from("exit-1"), false));
    assert_eq!(bench.gate.view().notice, Notice::ExitOnly);
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneClosed));
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!((bench.live(), bench.lines().unlock_entry), (0, false));
    bench.input(Input::PassageLine(Direction::Entry, true));
    assert_eq!(incident(&bench), Some(Incident::WrongWay { passage: 1 }));
    assert_eq!(bench.gate.view().notice, Notice::WrongWay);
}

#[test]
fn a_late_passage_is_its_grants_if_nothing_else_happened() {
    let lapsed = || {
        let mut bench = Bench::new();
        bench.input(Input::Grant(admitted(ALICE, 1)));
        bench.wait(Millis(WAITING.0 + 500));
        assert_eq!(bench.live(), 0);
        bench
    };
    let mut bench = lapsed();
    bench.input(Input::PassageLine(Direction::Entry, true));
    let late = passed(&bench);
    assert!(late.late && matches!(late.authority, Authority::Grant(grant) if grant.member == ALICE));
    assert_eq!(incident(&bench), None);
    for between in [Input::Deny(DenyReason::Stale), Input::PassageLine(Direction::Exit, true), Input::Lost] {
        let mut bench = lapsed();
        bench.input(between);
        bench.input(Input::Found);
        bench.input(Input::PassageLine(Direction::Entry, false));
        bench.input(Input::PassageLine(Direction::Entry, true));
        assert_eq!(passed(&bench).authority, Authority::None);
    }
}

#[test]
fn who_stands_in_the_passage_when_the_grant_lapses_may_still_come() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(5_000));
    bench.input(Input::Detector(true));
    bench.wait(Millis(WAITING_MAX.0 + 10_000));
    assert_eq!(bench.live(), 0);
    bench.input(Input::PassageLine(Direction::Entry, true));
    assert!(passed(&bench).late);
}

#[test]
fn who_turns_round_between_the_sensors_is_outside_again() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(900));
    bench.input(Input::Detector(true));
    bench.wait(Millis(400));
    bench.go_through(Direction::Entry);
    assert_eq!(bench.gate.view().modes.inside, 1);
    bench.wait(Millis(2_500));
    bench.input(Input::PassageLine(Direction::Exit, true));
    assert_eq!(passed(&bench).undoes, Some(1));
    let Some(GateFact::WalkedBack { entry: 1, exit: 2, authority: Authority::Grant(grant) }) =
        facts(&bench).pop()
    else {
        panic!("a walk-back names its grant")
    };
    assert_eq!((grant.member, bench.gate.view().modes.inside), (ALICE, 0));
    assert_ne!(bench.gate.view().notice, Notice::Goodbye);
}

#[test]
fn who_leaves_after_somebody_came_in_is_somebody_else() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.input(Input::Detector(true));
    bench.wait(Millis(400));
    bench.go_through(Direction::Entry);
    bench.wait(Millis(300));
    bench.input(Input::Detector(false));
    bench.wait(Millis(900));
    bench.input(Input::Detector(true));
    bench.wait(Millis(600));
    bench.input(Input::PassageLine(Direction::Exit, true));
    assert_eq!((passed(&bench).undoes, bench.gate.view().notice), (None, Notice::Goodbye));
}

#[test]
fn a_record_tells_all_that_is_known_of_a_passage() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(1_000));
    bench.input(Input::Detector(true));
    bench.wait(Millis(500));
    bench.input(Input::PassageLine(Direction::Entry, true));
    let at = bench.now;
    bench.wait(Millis(250));
    bench.input(Input::PassageLine(Direction::Entry, false));
    bench.wait(Millis(150));
    bench.input(Input::Detector(false));
    bench.wait(Millis(RECORD_AFTER.0 - 401));
    assert_eq!(record(&bench), None);
    bench.wait(Millis(1));
    let record = record(&bench).expect("told when its time has come");
    let edges = Edges {
        detector_on: Some(at.before(Millis(500))),
        passage_on: at,
        passage_off: Some(at.after(Millis(250))),
        detector_off: Some(at.after(Millis(400))),
    };
    assert_eq!((record.number, record.edges, record.people), (1, edges, None));
    assert!(matches!(record.authority, Authority::Grant(_)));
}

#[test]
fn what_stands_in_the_passage_for_long_is_told_once() {
    let mut bench = Bench::new();
    let since = bench.now;
    bench.input(Input::Detector(true));
    bench.wait(Millis(HELD_AFTER.0 - 1));
    assert_eq!(incident(&bench), None);
    bench.wait(Millis(1));
    assert_eq!(incident(&bench), Some(Incident::Held { since }));
    bench.wait(Millis::from_seconds(600));
    assert_eq!(bench.gate.deadline(), None, "once is enough");
}

#[test]
fn an_opened_cabinet_is_told_and_a_lost_cable_does_not_repeat_it() {
    let mut bench = Bench::new();
    bench.input(Input::Tamper(true));
    assert_eq!(incident(&bench), Some(Incident::Tamper { open: true }));
    bench.input(Input::Lost);
    bench.input(Input::Found);
    bench.input(Input::Tamper(true));
    assert_eq!(incident(&bench), None);
    bench.input(Input::Tamper(false));
    assert_eq!(incident(&bench), Some(Incident::Tamper { open: false }));
}

#[test]
fn staff_come_and_go_when_shoppers_may_not() {
    let mut bench = Bench::new();
    bench.input(Input::Hours { open: false, until: None });
    assert_eq!(bench.gate.refuses(), None, "it may be staff");
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!(bench.gate.view().notice, Notice::Refused { reason: DenyReason::StoreClosed });
    bench.input(Input::Grant(staff(BOB)));
    assert!(bench.lines().unlock_entry);
}

#[test]
fn a_journal_replays_to_the_same_commands() {
    let mut gate = Gate::new(&settings(), START);
    let (mut journal, mut said) = (Vec::new(), Vec::new());
    let mut random = super::walks::Random(7);
    let mut now = START;
    for step in 0..3_000 {
        let end = now.after(Millis(random.below(900)));
        let tick = gate.deadline().filter(|deadline| *deadline <= end).map(|at| (at.max(now), Input::Tick));
        let (at, input) = tick.unwrap_or_else(|| (end, super::walks::any_input(&mut random, end, step)));
        now = at;
        journal.push(serde_json::to_string(&(at, &input)).unwrap());
        gate.handle(at, input, &mut said);
    }
    let (mut again, mut repeated) = (Gate::new(&settings(), START), Vec::new());
    for line in &journal {
        let (at, input): (Instant, Input) = serde_json::from_str(line).unwrap();
        again.handle(at, input, &mut repeated);
    }
    assert!(said.len() > 1_000, "a walk that says something: {}", said.len());
    assert_eq!(said, repeated);
    assert_eq!(gate, again);
}

#[test]
fn who_asks_to_leave_while_the_cable_is_loose_leaves_when_it_is_not() {
    let mut bench = Bench::new();
    bench.input(Input::Lost);
    bench.input(Input::ExitRequest);
    bench.wait(Millis(3_000));
    bench.input(Input::Found);
    assert!(bench.lines().unlock_exit);
    bench.wait(WAITING);
    assert!(!bench.lines().unlock_exit);
}
