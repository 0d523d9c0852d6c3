//! Modes, hours, capacity, orders, and how unlock lines behave under level control.

use super::oracle::{ALICE, BOB, Bench, admitted, order, settings, staff};
use super::tables::{facts, incident, passed};
use crate::gate::*;
use crate::message::{
    Authority, DenyReason, Direction, GateFact, GateMode, GateOrder, GateOutcome, GateService, GateStatus,
    GateTask, Notice, OrderRefusal,
};
use crate::units::MessageId;

const OPEN: GateTask = GateTask::Open { direction: Direction::Entry, wide: false };
const OPEN_EXIT: GateTask = GateTask::Open { direction: Direction::Exit, wide: false };

fn mode(mode: GateMode) -> GateTask {
    GateTask::SetMode { direction: Direction::Entry, mode }
}

fn ordered(bench: &mut Bench, id: &str, task: GateTask) -> GateOutcome {
    bench.input(order(id, bench.now, task));
    let outcome = facts(bench).into_iter().find_map(|fact| match fact {
        GateFact::Ordered { outcome, .. } => Some(outcome),
        _ => None,
    });
    outcome.expect("an order has an outcome")
}

fn refused(reason: OrderRefusal) -> GateOutcome {
    GateOutcome::Refused { reason }
}

/// When the entry line was active, from now on for so long: beginnings and lengths, in milliseconds.
fn pulses(bench: &mut Bench, span: u64, line: impl Fn(Outputs) -> bool) -> Vec<(u64, u64)> {
    let (begin, mut found, mut since) = (bench.now, Vec::new(), None);
    for at in 0..=span {
        let active = line(bench.lines());
        match (since, active) {
            (None, true) => since = Some(at),
            (Some(from), false) => {
                found.push((from, at - from));
                since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
        bench.wait(Millis(1));
    }
    assert_eq!(bench.now, begin.after(Millis(span + 1)));
    found
}

#[test]
fn a_slow_shopper_gets_the_next_pulse_when_the_controller_has_forgotten_the_first() {
    let mut bench = Bench::with(&Settings { controller_waiting: Millis(5_000), ..settings() });
    bench.input(Input::Grant(admitted(ALICE, 1)));
    let found = pulses(&mut bench, 9_000, |lines| lines.unlock_entry);
    assert_eq!(found, [(0, 300), (5_000, 300)]);
}

#[test]
fn nobody_gets_a_second_pulse_while_they_are_using_the_first() {
    let mut bench = Bench::with(&Settings { controller_waiting: Millis(5_000), ..settings() });
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(4_900));
    bench.input(Input::Detector(true));
    assert_eq!(pulses(&mut bench, 3_000, |lines| lines.unlock_entry), []);
    bench.input(Input::Detector(false));
    assert!(bench.lines().unlock_entry, "they turned back, and may try again");
}

#[test]
fn the_next_shopper_does_not_add_to_a_pulse_that_nobody_used() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(7_900));
    bench.input(Input::Detector(true));
    bench.wait(Millis(200));
    bench.input(Input::Detector(false));
    assert!(bench.lines().unlock_entry, "the controller's eight seconds were over");
    bench.wait(Millis(2_000));
    assert_eq!(bench.live(), 0);
    bench.input(Input::Grant(admitted(BOB, 1)));
    // Bob may pass by what is stored; his own pulse comes when that is over.
    assert_eq!(pulses(&mut bench, 7_000, |lines| lines.unlock_entry), [(6_000, 300)]);
}

#[test]
fn level_control_is_a_row_of_activations() {
    let mut bench = Bench::with(&Settings { control: Control::Level, ..settings() });
    bench.input(Input::Grant(admitted(ALICE, 1)));
    let found = pulses(&mut bench, 9_000, |lines| lines.unlock_entry);
    assert_eq!(found, [(0, 1_500), (1_700, 1_500), (3_400, 1_500), (5_100, 1_500), (6_800, 1_200)]);
    bench.input(Input::Grant(admitted(BOB, 1)));
    bench.wait(Millis(700));
    bench.go_through(Direction::Entry);
    assert!(!bench.lines().unlock_entry, "the passage closes it at once");
}

#[test]
fn free_mode_lets_everybody_in_one_pulse_at_a_time() {
    let mut bench = Bench::with(&Settings { entry: GateMode::Free, ..settings() });
    assert_eq!((bench.gate.view().notice, bench.gate.view().status), (Notice::Free, GateStatus::Open));
    let found = pulses(&mut bench, 17_000, |lines| lines.unlock_entry);
    assert_eq!(found, [(0, 300), (8_000, 300), (16_000, 300)]);
    for _ in 0..3 {
        bench.go_through(Direction::Entry);
        assert!(bench.lines().unlock_entry, "for the next one");
        bench.wait(Millis(500));
    }
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.input(Input::PassageLine(Direction::Entry, true));
    assert!(matches!(passed(&bench).authority, Authority::Grant(_)), "who shows a code is known");
    bench.input(Input::PassageLine(Direction::Entry, false));
    bench.wait(Millis(700));
    assert_eq!(ordered(&mut bench, "1", mode(GateMode::Group)), GateOutcome::Done);
    bench.input(Input::PassageLine(Direction::Entry, true));
    let late = passed(&bench);
    assert_eq!((late.authority, late.late, incident(&bench)), (Authority::Free, true, None));
}

#[test]
fn free_level_mode_never_holds_the_line_for_long() {
    let free = Settings { entry: GateMode::Free, control: Control::Level, ..settings() };
    let mut bench = Bench::with(&free);
    let found = pulses(&mut bench, 20_000, |lines| lines.unlock_entry);
    assert!(found.len() > 10 && found.iter().all(|(_, length)| *length == HOLD.0));
}

#[test]
fn single_mode_takes_one_of_a_party() {
    let mut bench = Bench::with(&Settings { entry: GateMode::Single, ..settings() });
    bench.input(Input::Grant(admitted(ALICE, 3)));
    let given_back = Command::Lapsed { member: ALICE, passages: 2, cause: Cause::Mode };
    assert!(bench.out.contains(&given_back));
    assert_eq!(bench.live(), 1);
}

#[test]
fn a_locked_lane_ends_a_grant_but_not_an_exit() {
    let mut bench = Bench::with(&Settings {
        exit_released_by_controller: false,
        exit: GateMode::Controlled,
        ..settings()
    });
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(400));
    assert_eq!(ordered(&mut bench, "1", mode(GateMode::Locked)), GateOutcome::Done);
    let ended = Command::Lapsed { member: ALICE, passages: 1, cause: Cause::Mode };
    assert!(bench.out.contains(&ended));
    assert_eq!(
        (bench.gate.refuses(), bench.gate.view().notice),
        (Some(DenyReason::LaneClosed), Notice::LaneClosed)
    );
    bench.input(Input::ExitRequest);
    assert!(bench.lines().unlock_exit);
    let locked = GateTask::SetMode { direction: Direction::Exit, mode: GateMode::Locked };
    assert_eq!(ordered(&mut bench, "2", locked), refused(OrderRefusal::ExitNeverLocked));
}

#[test]
fn an_exit_that_the_controller_releases_is_not_ours_to_change() {
    let mut bench = Bench::new();
    let controlled = GateTask::SetMode { direction: Direction::Exit, mode: GateMode::Controlled };
    assert_eq!(ordered(&mut bench, "1", controlled), refused(OrderRefusal::ExitByController));
    assert!(!bench.lines().unlock_exit);
    assert_eq!(ordered(&mut bench, "2", OPEN_EXIT), GateOutcome::Done);
    assert!(bench.lines().unlock_exit);
}

#[test]
fn an_exit_of_ours_is_released_again_for_everybody() {
    let mut bench = Bench::with(&Settings { exit_released_by_controller: false, ..settings() });
    assert_eq!(pulses(&mut bench, 9_000, |lines| lines.unlock_exit), [(0, 300), (8_000, 300)]);
    bench.go_through(Direction::Exit);
    bench.wait(UNLOCK_GAP);
    assert!(bench.lines().unlock_exit);
}

#[test]
fn an_exit_is_released_although_the_controller_says_it_is_not_ready() {
    let mut bench = Bench::new();
    bench.input(Input::Ready(false));
    bench.input(Input::EmergencyButton(true));
    assert!(bench.lines().unlock_exit);
    bench.wait(Millis::from_seconds(30));
    assert!(bench.gate.deadline().is_some(), "as long as it is pressed");
    bench.input(Input::EmergencyButton(false));
    assert_eq!((bench.lines(), bench.gate.deadline()), (Outputs::default(), None));
}

#[test]
fn a_lane_that_staff_open_one_by_one() {
    let mut bench = Bench::with(&Settings { entry: GateMode::Controlled, ..settings() });
    assert_eq!(bench.gate.view().notice, Notice::AskStaff);
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!(bench.gate.view().notice, Notice::Refused { reason: DenyReason::AskStaff });
    assert_eq!(ordered(&mut bench, "1", OPEN), GateOutcome::Done);
    assert!(bench.lines().unlock_entry);
    assert_eq!(ordered(&mut bench, "2", OPEN), refused(OrderRefusal::LaneBusy));
    bench.go_through(Direction::Entry);
    bench.wait(Millis(500));
    assert_eq!(ordered(&mut bench, "1", OPEN), GateOutcome::Done, "told again, not done again");
    assert!(!bench.lines().unlock_entry);
    bench.input(Input::PassageLine(Direction::Entry, true));
    assert_eq!(passed(&bench).authority, Authority::None);
}

#[test]
fn an_order_is_for_one_lane_and_one_minute() {
    let mut bench = Bench::new();
    let Input::Order(good) = order("1", bench.now, OPEN) else { panic!("an order") };
    bench.input(Input::Order(GateOrder { lane: "entry-9".into(), ..good.clone() }));
    assert_eq!(facts(&bench), []);
}

#[test]
fn an_order_that_comes_late_does_nothing() {
    let mut bench = Bench::new();
    let Input::Order(good) = order("1", bench.now, OPEN) else { panic!("an order") };
    bench.wait(Millis::from_seconds(60));
    bench.input(Input::Order(good.clone()));
    let expired = GateFact::Ordered { order: MessageId("1".to_owned()), outcome: GateOutcome::Expired };
    assert_eq!((facts(&bench), bench.lines().unlock_entry), (vec![expired], false));
    let forever = GateOrder { id: MessageId("2".to_owned()), expires: Instant(u64::MAX), ..good };
    bench.input(Input::Order(forever.clone()));
    let outcome = refused(OrderRefusal::LivesTooLong);
    assert_eq!(facts(&bench), [GateFact::Ordered { order: forever.id, outcome }]);
}

#[test]
fn too_many_orders_are_refused_rather_than_forgotten() {
    let mut bench = Bench::new();
    let group = mode(GateMode::Group);
    for place in 0..orders::ORDERS_MAX {
        assert_eq!(ordered(&mut bench, &format!("{place}"), group), GateOutcome::Done);
    }
    assert_eq!(ordered(&mut bench, "more", OPEN), refused(OrderRefusal::TooMany));
    bench.wait(Millis::from_seconds(60));
    assert_eq!(ordered(&mut bench, "later", OPEN), GateOutcome::Done);
}

#[test]
fn in_an_evacuation_or_with_a_fault_orders_open_nothing() {
    let mut bench = Bench::new();
    bench.input(Input::Ready(false));
    assert_eq!(ordered(&mut bench, "1", OPEN), refused(OrderRefusal::LaneFaulty));
    assert_eq!(ordered(&mut bench, "2", OPEN_EXIT), GateOutcome::Done);
    bench.input(Input::FireAlarm(true));
    assert_eq!(ordered(&mut bench, "3", OPEN), refused(OrderRefusal::Evacuation));
    assert_eq!(ordered(&mut bench, "4", OPEN_EXIT), refused(OrderRefusal::Evacuation));
    assert_eq!(ordered(&mut bench, "5", mode(GateMode::Locked)), GateOutcome::Done, "for afterwards");
    assert_eq!(bench.lines(), Outputs::default());
}

#[test]
fn the_store_closes_and_opens_by_itself() {
    let mut bench = Bench::new();
    let closes = bench.now.after(Millis::from_seconds(10));
    bench.input(Input::Hours { open: true, until: Some(closes) });
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(7_000));
    bench.input(Input::Detector(true));
    bench.wait(Millis(4_000));
    assert_eq!(bench.live(), 1, "who was let in before may still come");
    bench.input(Input::PassageLine(Direction::Entry, true));
    bench.wait(Millis(2_000));
    bench.input(Input::Detector(false));
    let opens = Some(bench.now.after(Millis::from_seconds(3_600)));
    bench.input(Input::Hours { open: false, until: opens });
    assert_eq!(bench.gate.view().notice, Notice::StoreClosed { opens });
    bench.wait(Millis::from_seconds(3_600));
    assert_eq!(bench.gate.view().notice, Notice::Idle);
}

#[test]
fn a_full_store_takes_nobody_until_somebody_leaves() {
    let mut bench = Bench::with(&Settings { capacity: Some(3), ..settings() });
    bench.input(Input::Inside(2));
    bench.input(Input::Grant(admitted(ALICE, 2)));
    let full = Cause::Refused(DenyReason::StoreFull);
    let given_back = Command::Lapsed { member: ALICE, passages: 2, cause: full };
    assert!(bench.out.contains(&given_back), "a family is not torn apart");
    bench.input(Input::Grant(admitted(BOB, 1)));
    bench.go_through(Direction::Entry);
    bench.wait(Millis(3_000));
    assert_eq!(bench.gate.view().notice, Notice::StoreFull);
    bench.input(Input::Grant(staff(ALICE)));
    assert!(bench.lines().unlock_entry, "staff work in a full store");
    bench.wait(Millis(20_000));
    bench.go_through(Direction::Exit);
    bench.wait(Millis(3_000));
    assert_eq!(bench.gate.view().notice, Notice::Idle);
}

#[test]
fn a_free_lane_locks_when_the_store_is_full() {
    let free = Settings { entry: GateMode::Free, capacity: Some(1), ..settings() };
    let mut bench = Bench::with(&free);
    bench.wait(Millis(500));
    bench.go_through(Direction::Entry);
    bench.wait(Millis(3_000));
    assert_eq!((bench.gate.view().status, bench.gate.view().notice), (GateStatus::Closed, Notice::StoreFull));
    assert_eq!(pulses(&mut bench, 9_000, |lines| lines.unlock_entry), []);
}

#[test]
fn who_cleans_the_lane_is_left_alone() {
    let mut bench = Bench::new();
    let service = GateTask::SetService { service: GateService::Cleaning };
    assert_eq!(ordered(&mut bench, "1", service), GateOutcome::Done);
    bench.input(Input::Detector(true));
    bench.wait(Millis::from_seconds(60));
    assert_eq!(bench.gate.view().notice, Notice::Cleaning);
    bench.input(Input::PassageLine(Direction::Entry, true));
    assert_eq!((passed(&bench).authority, incident(&bench)), (Authority::Free, None));
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!(bench.live(), 0);
    bench.input(Input::Grant(staff(BOB)));
    assert!(bench.lines().unlock_entry);
}

#[test]
fn a_lane_under_maintenance_says_so_even_when_it_is_unplugged() {
    let mut bench = Bench::new();
    let service = GateTask::SetService { service: GateService::Maintenance };
    assert_eq!(ordered(&mut bench, "1", service), GateOutcome::Done);
    assert_eq!(bench.gate.refuses(), Some(DenyReason::UnderMaintenance));
    bench.input(Input::Lost);
    assert_eq!(
        (bench.gate.view().status, bench.gate.view().notice),
        (GateStatus::Malfunction, Notice::Maintenance)
    );
}

#[test]
fn an_order_opens_wide() {
    let mut bench = Bench::new();
    let wide = GateTask::Open { direction: Direction::Entry, wide: true };
    assert_eq!(ordered(&mut bench, "1", wide), GateOutcome::Done);
    assert!(bench.lines().wide);
    bench.wait(Millis(WAITING_WIDE.0 - 1));
    assert_eq!(bench.gate.view().status, GateStatus::Open);
    bench.wait(Millis(1));
    assert_eq!(bench.gate.view().status, GateStatus::Closed);
}

#[test]
fn settings_are_read_as_an_installer_writes_them() {
    let written = r#"{"control":"level","controller_waiting":5000,"entry":"single","capacity":40}"#;
    let read: Settings = serde_json::from_str(written).unwrap();
    let expected = Settings {
        control: Control::Level,
        controller_waiting: Millis(5_000),
        entry: GateMode::Single,
        capacity: Some(40),
        ..Settings::new("".into(), false)
    };
    assert_eq!(read, expected);
    assert!(serde_json::from_str::<Settings>(r#"{"pulse":9}"#).is_err());
}
