//! Gates that are broken on purpose: the oracle must catch each, or it proves nothing of the others.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::oracle::{Bench, START, Subject};
use super::walks::{self, Count};
use crate::gate::{Command, Gate, Input, Outputs, Settings};
use crate::message::{Authority, DenyReason, GateFact, GateView, Incident};
use crate::time::{Instant, Millis};
use crate::units::MessageId;

/// What is wrong with a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Nothing: the comparison.
    None,
    ForgetsToEndAPulse,
    NeverAsksToBeWoken,
    EndsPulsesLate,
    OpensWithoutAGrant,
    StaysOpenAfterThePassage,
    TwoPulsesForOne,
    IgnoresTheFireAlarm,
    IgnoresReady,
    DrivesWhileLost,
    LosesALapse,
    LapsesTwice,
    ReportsAPassageTwice,
    HidesTailgating,
    TakesTailgatersForGuests,
    LosesRecords,
    DeafToTheExitButton,
    LocksTheExit,
    HidesTheOpenCabinet,
    ActsTwiceOnAnOrder,
    CountsNobodyOut,
}

const FLAWS: [Flaw; 20] = [
    Flaw::ForgetsToEndAPulse,
    Flaw::NeverAsksToBeWoken,
    Flaw::EndsPulsesLate,
    Flaw::OpensWithoutAGrant,
    Flaw::StaysOpenAfterThePassage,
    Flaw::TwoPulsesForOne,
    Flaw::IgnoresTheFireAlarm,
    Flaw::IgnoresReady,
    Flaw::DrivesWhileLost,
    Flaw::LosesALapse,
    Flaw::LapsesTwice,
    Flaw::ReportsAPassageTwice,
    Flaw::HidesTailgating,
    Flaw::TakesTailgatersForGuests,
    Flaw::LosesRecords,
    Flaw::DeafToTheExitButton,
    Flaw::LocksTheExit,
    Flaw::HidesTheOpenCabinet,
    Flaw::ActsTwiceOnAnOrder,
    Flaw::CountsNobodyOut,
];

#[derive(Clone)]
struct Mutant {
    gate: Gate,
    flaw: Flaw,
    outputs: Outputs,
    renamed: u64,
}

impl Mutant {
    fn new(settings: &Settings, flaw: Flaw) -> Self {
        Self { gate: Gate::new(settings, START), flaw, outputs: Outputs::default(), renamed: 0 }
    }

    /// The input as this gate understands it.
    fn misheard(&mut self, input: Input) -> Input {
        match (self.flaw, input) {
            (Flaw::IgnoresTheFireAlarm, Input::FireAlarm(_)) => Input::FireAlarm(false),
            (Flaw::IgnoresReady, Input::Ready(_)) => Input::Ready(true),
            (Flaw::DeafToTheExitButton, Input::ExitRequest | Input::EmergencyButton(_)) => Input::Tick,
            (Flaw::ActsTwiceOnAnOrder, Input::Order(mut order)) => {
                self.renamed += 1;
                order.id = MessageId(format!("{}#{}", order.id.0, self.renamed));
                Input::Order(order)
            }
            (_, input) => input,
        }
    }

    /// What this gate does in place of a command.
    fn misdone(&mut self, passed: bool, command: Command, out: &mut Vec<Command>) {
        let before = self.outputs;
        if let Command::Drive(outputs) = &command {
            self.outputs = *outputs;
        }
        match (self.flaw, command) {
            (Flaw::ForgetsToEndAPulse, Command::Drive(outputs))
                if before.unlock_entry && !outputs.unlock_entry => {}
            (Flaw::StaysOpenAfterThePassage, Command::Drive(outputs))
                if passed && before.unlock_entry && !outputs.unlock_entry =>
            {
                out.push(Command::Drive(Outputs { unlock_entry: true, ..outputs }));
            }
            (Flaw::TwoPulsesForOne, Command::Drive(outputs))
                if before.unlock_entry && !outputs.unlock_entry && outputs.beacon_green =>
            {
                out.push(Command::Drive(outputs));
                out.push(Command::Drive(Outputs { unlock_entry: true, ..outputs }));
            }
            (Flaw::OpensWithoutAGrant, Command::Drive(outputs)) => {
                out.push(Command::Drive(Outputs {
                    unlock_entry: outputs.unlock_entry || outputs.beacon_red,
                    ..outputs
                }));
            }
            (Flaw::LocksTheExit, Command::Drive(outputs)) => {
                out.push(Command::Drive(Outputs { unlock_exit: false, ..outputs }));
            }
            (Flaw::LosesALapse, Command::Lapsed { .. }) => {}
            (Flaw::LapsesTwice, command @ Command::Lapsed { .. }) => {
                out.extend([command.clone(), command]);
            }
            (Flaw::ReportsAPassageTwice, command @ Command::Passed(_)) => {
                out.extend([command.clone(), command]);
            }
            (
                Flaw::HidesTailgating,
                Command::Report(GateFact::Incident { incident: Incident::Tailgating { .. } }),
            ) => {}
            (Flaw::TakesTailgatersForGuests, Command::Passed(mut passed)) => {
                if passed.authority == Authority::None {
                    passed.authority = Authority::Free;
                }
                out.push(Command::Passed(passed));
            }
            (Flaw::LosesRecords, Command::Report(GateFact::Passage { .. })) => {}
            (
                Flaw::HidesTheOpenCabinet,
                Command::Report(GateFact::Incident { incident: Incident::Tamper { .. } }),
            ) => {}
            (Flaw::ActsTwiceOnAnOrder, Command::Report(GateFact::Ordered { order, outcome })) => {
                let id = order.0.split('#').next().unwrap_or_default();
                let order = MessageId(id.to_owned());
                out.push(Command::Report(GateFact::Ordered { order, outcome }));
            }
            (_, command) => out.push(command),
        }
    }
}

impl Subject for Mutant {
    fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Command>) {
        let lost = matches!(input, Input::Lost);
        let input = self.misheard(input);
        let mut done = Vec::new();
        self.gate.handle(now, input, &mut done);
        let passed = done.iter().any(|command| matches!(command, Command::Passed(_)));
        for command in done {
            self.misdone(passed, command, out);
        }
        if self.flaw == Flaw::DrivesWhileLost && lost {
            out.push(Command::Drive(Outputs::default()));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.flaw {
            Flaw::NeverAsksToBeWoken => None,
            Flaw::EndsPulsesLate => self.gate.deadline().map(|at| at.after(Millis(1_700))),
            _ => self.gate.deadline(),
        }
    }

    fn refuses(&self) -> Option<DenyReason> {
        self.gate.refuses()
    }

    fn view(&self) -> GateView {
        let mut view = self.gate.view();
        if self.flaw == Flaw::CountsNobodyOut {
            view.modes.inside += view.exits as u32;
        }
        view
    }
}

fn caught(flaw: Flaw) -> Option<String> {
    for seed in 1..=60 {
        let walked = catch_unwind(AssertUnwindSafe(|| {
            let mut count = Count::default();
            walks::walk(seed, 300, |settings| Mutant::new(settings, flaw), &mut count);
        }));
        if let Err(panic) = walked {
            let text = panic.downcast_ref::<String>().cloned();
            return Some(
                text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default(),
            );
        }
    }
    None
}

#[test]
fn the_oracle_catches_every_broken_gate() {
    assert_eq!(caught(Flaw::None), None, "a sound gate passes");
    for flaw in FLAWS {
        let why = caught(flaw).unwrap_or_else(|| panic!("{flaw:?} is not caught"));
        eprintln!("{flaw:?}: {}", why.lines().next().unwrap_or_default());
    }
}

#[test]
fn a_mutant_is_a_gate_to_the_bench() {
    let settings = super::oracle::settings();
    let bench = Bench::of(&settings, Mutant::new(&settings, Flaw::None)).opened();
    bench.heal();
}
