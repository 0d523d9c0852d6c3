//! Every sequence of inputs up to a depth, from several beginnings. States that will behave alike (the same
//! but for the time of day) are explored once, so that the depth grows with what the lane can remember, not
//! with the number of sequences.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::oracle::{ALICE, BOB, Bench, START, admitted, order, settings, staff};
use crate::gate::{Control, Crossing, Input, Settings};
use crate::message::{DenyReason, Direction, GateMode, GateService, GateTask};
use crate::time::{Instant, Millis};
use crate::units::TrackId;

#[derive(Clone, Debug)]
enum Symbol {
    /// After 120 ms.
    Input(Input),
    /// The same as an input, but with the time in it set when it is used.
    Order(&'static str, GateTask),
    Crossed(Direction),
    Wait(Millis),
}

impl Symbol {
    fn apply(&self, bench: &mut Bench) {
        match self {
            Self::Wait(span) => return bench.wait(*span),
            Self::Input(_) | Self::Order(..) | Self::Crossed(_) => bench.wait(Millis(120)),
        }
        let now = bench.now;
        match self {
            Self::Input(input) => bench.input(input.clone()),
            Self::Order(id, task) => bench.input(order(id, now, *task)),
            Self::Crossed(direction) => {
                let (at, direction) = (now.before(Millis(500)), *direction);
                bench.input(Input::Crossed(Crossing { at, direction, track: TrackId(1) }));
            }
            Self::Wait(_) => {}
        }
    }
}

/// The life of the lines and of grants.
fn lines() -> Vec<Symbol> {
    let inputs = [
        Input::Grant(admitted(ALICE, 1)),
        Input::Grant(admitted(BOB, 2)),
        Input::Deny(DenyReason::Stale),
        Input::PassageLine(Direction::Entry, true),
        Input::PassageLine(Direction::Entry, false),
        Input::PassageLine(Direction::Exit, true),
        Input::PassageLine(Direction::Exit, false),
        Input::Ready(true),
        Input::Ready(false),
        Input::Detector(true),
        Input::Detector(false),
        Input::FireAlarm(true),
        Input::FireAlarm(false),
        Input::EmergencyButton(true),
        Input::EmergencyButton(false),
        Input::ExitRequest,
        Input::Lost,
        Input::Found,
    ];
    let waits = [Symbol::Wait(Millis(1_900)), Symbol::Wait(Millis(9_000))];
    inputs.into_iter().map(Symbol::Input).chain(waits).collect()
}

/// The life of modes and orders, with the inputs that matter to them.
fn modes() -> Vec<Symbol> {
    let mode = |direction, mode| GateTask::SetMode { direction, mode };
    let orders = [
        ("open-entry", GateTask::Open { direction: Direction::Entry, wide: false }),
        ("open-exit", GateTask::Open { direction: Direction::Exit, wide: false }),
        ("free", mode(Direction::Entry, GateMode::Free)),
        ("locked", mode(Direction::Entry, GateMode::Locked)),
        ("controlled", mode(Direction::Entry, GateMode::Controlled)),
        ("single", mode(Direction::Entry, GateMode::Single)),
        ("exit-locked", mode(Direction::Exit, GateMode::Locked)),
        ("exit-controlled", mode(Direction::Exit, GateMode::Controlled)),
        ("staff", GateTask::SetService { service: GateService::Staff }),
        ("maintenance", GateTask::SetService { service: GateService::Maintenance }),
        ("shopping", GateTask::SetService { service: GateService::Shopping }),
    ];
    let inputs = [
        Input::Grant(admitted(BOB, 2)),
        Input::Grant(staff(ALICE)),
        Input::PassageLine(Direction::Entry, true),
        Input::PassageLine(Direction::Entry, false),
        Input::PassageLine(Direction::Exit, true),
        Input::Detector(true),
        Input::Detector(false),
        Input::FireAlarm(true),
        Input::FireAlarm(false),
        Input::Ready(false),
        Input::ExitRequest,
        Input::Tamper(true),
        Input::Hours { open: false, until: None },
        Input::Inside(2),
        Input::Lost,
    ];
    let waits = [Symbol::Crossed(Direction::Entry), Symbol::Wait(Millis(1_900)), Symbol::Wait(Millis(9_000))];
    let orders = orders.into_iter().map(|(id, task)| Symbol::Order(id, task));
    orders.chain(inputs.into_iter().map(Symbol::Input)).chain(waits).collect()
}

/// Equal for benches that will behave alike.
fn key(bench: &Bench) -> u64 {
    let now = bench.now.0;
    // Times relative to now, counted from a moment that all of them are after.
    let mut relative = |at: &mut Instant| *at = Instant((at.0 + START.0).saturating_sub(now));
    let mut hasher = DefaultHasher::new();
    bench.gate.moved(&mut relative).hash(&mut hasher);
    bench.model.moved(&mut relative).hash(&mut hasher);
    hasher.finish()
}

#[derive(Clone, Copy, Debug, Default)]
struct Explored {
    states: u64,
    steps: u64,
    /// How many sequences that is without leaving any out.
    sequences: u64,
}

fn explore(beginnings: Vec<Bench>, alphabet: &[Symbol], depth: u32) -> Explored {
    let mut seen: HashSet<u64> = beginnings.iter().map(key).collect();
    let mut explored = Explored { states: seen.len() as u64, ..Explored::default() };
    explored.sequences =
        beginnings.len() as u64 * (0..=depth).map(|d| (alphabet.len() as u64).pow(d)).sum::<u64>();
    let mut frontier: Vec<_> =
        beginnings.into_iter().enumerate().map(|(n, bench)| (bench, vec![n])).collect();
    for level in 1..=depth {
        let mut next = Vec::new();
        for (bench, path) in &frontier {
            for (place, symbol) in alphabet.iter().enumerate() {
                let mut after = bench.clone();
                let broken = catch_unwind(AssertUnwindSafe(|| symbol.apply(&mut after)));
                if let Err(broken) = broken {
                    let way: Vec<_> = path[1..].iter().map(|place| &alphabet[*place]).collect();
                    eprintln!("beginning {}, then {way:?}, then {symbol:?} breaks a rule", path[0]);
                    resume_unwind(broken);
                }
                explored.steps += 1;
                if seen.insert(key(&after)) {
                    explored.states += 1;
                    if level < depth {
                        next.push((after, [&path[..], &[place]].concat()));
                    }
                }
            }
        }
        frontier = next;
    }
    explored
}

/// Lanes of every kind, at rest and at work.
fn beginnings() -> Vec<Bench> {
    let lane = |control, exit, by_controller, capacity| {
        Bench::with(&Settings {
            control,
            exit,
            exit_released_by_controller: by_controller,
            capacity,
            ..settings()
        })
    };
    let mut granted = Bench::new();
    granted.input(Input::Grant(admitted(BOB, 2)));
    vec![
        Bench::new(),
        Bench::closed(),
        granted,
        lane(Control::Pulse, GateMode::Free, false, Some(2)),
        lane(Control::Level, GateMode::Controlled, false, None),
    ]
}

fn check(depth_lines: u32, depth_modes: u32) {
    for (name, alphabet, depth) in [("lines", lines(), depth_lines), ("modes", modes(), depth_modes)] {
        let explored = explore(beginnings(), &alphabet, depth);
        let Explored { states, steps, sequences } = explored;
        assert!(states > 1_000, "the lane must go somewhere to prove anything: {explored:?}");
        eprintln!(
            "gate: {name}: all {sequences} sequences of up to {depth} of {} inputs, \
             by {steps} steps from {states} states: violations 0",
            alphabet.len()
        );
    }
}

#[test]
fn every_short_sequence_is_safe() {
    check(4, 4);
}

/// `cargo test -p engine every_long_sequence -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn every_long_sequence_is_safe() {
    check(6, 5);
}

#[test]
fn alike_states_are_recognised_and_different_ones_are_not() {
    let mut late = Bench::new();
    late.wait(Millis::from_seconds(3_600));
    assert_eq!(key(&Bench::new()), key(&late), "the time of day does not matter");
    for symbol in lines().iter().take(2) {
        let mut other = Bench::new();
        symbol.apply(&mut other);
        assert_ne!(key(&other), key(&late));
        let mut older = other.clone();
        older.wait(Millis(100));
        assert_ne!(key(&other), key(&older), "how long somebody waits matters");
    }
}
