//! Long random walks: days with shoppers, faults, misuse, orders and a late floor tracker, under the oracle.
//!
//! It is shared with the campaign in `benches/gate_walks.rs` and names its types from the crate's root.

use super::oracle::{Bench, START, Subject, admitted, order, settings, staff};
use crate::gate::{Control, Crossing, Gate, Input, Settings};
use crate::message::{DenyReason, Direction, GateMode, GateService, GateTask};
use crate::time::{Instant, Millis};
use crate::units::{MemberHandle, TrackId};

/// A small generator of pseudo-random numbers (xorshift): the same numbers from the same seed, everywhere.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % below
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What a campaign walked through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub walks: u64,
    pub steps: u64,
    /// What the gate was told in all, ticks included.
    pub inputs: u64,
    pub entries: u64,
    pub exits: u64,
    pub unlocks: u64,
    pub denials: u64,
    pub incidents: u64,
}

impl Count {
    pub fn add(&mut self, other: Self) {
        let Self { walks, steps, inputs, entries, exits, unlocks, denials, incidents } = self;
        *walks += other.walks;
        *steps += other.steps;
        *inputs += other.inputs;
        *entries += other.entries;
        *exits += other.exits;
        *unlocks += other.unlocks;
        *denials += other.denials;
        *incidents += other.incidents;
    }
}

const MODES: [GateMode; 5] =
    [GateMode::Single, GateMode::Group, GateMode::Free, GateMode::Controlled, GateMode::Locked];
const SERVICES: [GateService; 4] =
    [GateService::Shopping, GateService::Staff, GateService::Cleaning, GateService::Maintenance];
const DIRECTIONS: [Direction; 2] = [Direction::Entry, Direction::Exit];

/// Any lane that an installer may set up.
fn any_settings(random: &mut Random) -> Settings {
    Settings {
        control: random.pick(&[Control::Pulse, Control::Pulse, Control::Level]),
        controller_waiting: Millis(random.pick(&[5_000, 8_000, 8_000])),
        entry: random.pick(&[GateMode::Group, GateMode::Group, GateMode::Single, GateMode::Free]),
        exit: random.pick(&[GateMode::Free, GateMode::Free, GateMode::Controlled, GateMode::Locked]),
        exit_released_by_controller: random.below(2) == 0,
        capacity: random.pick(&[None, None, Some(3)]),
        ..settings()
    }
}

fn any_task(random: &mut Random) -> GateTask {
    let direction = random.pick(&DIRECTIONS);
    match random.below(4) {
        0 | 1 => GateTask::Open { direction, wide: random.below(4) == 0 },
        2 => GateTask::SetMode { direction, mode: random.pick(&MODES) },
        _ => GateTask::SetService { service: random.pick(&SERVICES) },
    }
}

/// Anything that a lane may be told.
pub fn any_input(random: &mut Random, now: Instant, step: u64) -> Input {
    let level = random.below(2) == 0;
    let direction = random.pick(&DIRECTIONS);
    match random.below(24) {
        0..4 => Input::Grant(admitted(MemberHandle(random.below(5)), 1 + random.below(4) as u8)),
        4 => Input::Grant(staff(MemberHandle(90))),
        5 => Input::Deny(DenyReason::Stale),
        6..10 => Input::PassageLine(direction, level),
        10 => Input::Ready(random.below(8) > 0),
        11..14 => Input::Detector(level),
        14 => Input::FireAlarm(random.below(4) == 0),
        15 => Input::EmergencyButton(level),
        16 => Input::Tamper(level),
        17 => Input::ExitRequest,
        18 => {
            let at = now.before(Millis(random.below(4_000)));
            Input::Crossed(Crossing { at, direction, track: TrackId(step) })
        }
        19 => {
            let until = (random.below(2) == 0).then(|| now.after(Millis(random.below(20_000))));
            Input::Hours { open: random.below(4) > 0, until }
        }
        20 => Input::Inside(random.below(4) as u32),
        // Few ids, so that some come again.
        21 | 22 => order(&format!("order-{}", step / 3), now, any_task(random)),
        _ => random.pick(&[Fault::Lost, Fault::Found]).input(),
    }
}

#[derive(Clone, Copy)]
enum Fault {
    Lost,
    Found,
}

impl Fault {
    fn input(self) -> Input {
        match self {
            Self::Lost => Input::Lost,
            Self::Found => Input::Found,
        }
    }
}

/// Somebody walks through a lane, with what the sensors and the floor tracker make of it.
fn stroll<S: Subject>(bench: &mut Bench<S>, random: &mut Random, step: u64) {
    let direction = if random.below(4) == 0 { Direction::Exit } else { Direction::Entry };
    let seen = random.below(4) > 0;
    if seen {
        bench.input(Input::Detector(true));
        bench.wait(Millis(random.below(1_200)));
    }
    bench.go_through(direction);
    if random.below(8) == 0 {
        // Somebody follows, or turns round.
        bench.wait(Millis(random.below(2_000)));
        bench.go_through(random.pick(&DIRECTIONS));
    }
    if random.below(2) == 0 {
        for person in 0..=u64::from(random.below(6) == 0) {
            let track = TrackId(step * 2 + person);
            bench.input(Input::Crossed(Crossing { at: bench.now, direction, track }));
        }
    }
    if seen {
        bench.wait(Millis(random.below(800)));
        bench.input(Input::Detector(false));
    }
}

/// One random day of so many steps, then the world heals and the lane must serve again.
pub fn walk<S: Subject>(seed: u64, steps: u64, subject: impl Fn(&Settings) -> S, count: &mut Count) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let settings = any_settings(&mut random);
    let mut bench = Bench::of(&settings, subject(&settings)).opened();
    let calm = random.below(3) > 0;
    for step in 0..steps {
        bench.wait(Millis(random.pick(&[0, 3, 40, 99, 100, 150, 300, 700, 2_500, 9_000])));
        match random.below(4) {
            0 => {
                bench.input(Input::Grant(admitted(MemberHandle(random.below(5)), 1 + random.below(4) as u8)))
            }
            1 => stroll(&mut bench, &mut random, step),
            _ if calm && random.below(30) > 0 => bench.input(Input::Detector(random.below(2) == 0)),
            _ => {
                let input = any_input(&mut random, bench.now, step);
                bench.input(input);
            }
        }
    }
    let view = bench.gate.view();
    count.add(Count {
        walks: 1,
        steps,
        inputs: bench.inputs,
        entries: view.entries,
        exits: view.exits,
        unlocks: view.unlocks,
        denials: view.denials,
        incidents: bench.incidents,
    });
    bench.heal();
}

/// A gate as it is.
pub fn gate(settings: &Settings) -> Gate {
    Gate::new(settings, START)
}
