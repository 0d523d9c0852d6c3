//! The gate's campaign: long random days of a lane under the safety oracle of its tests, at least ten million
//! steps. It prints what it walked through and how often a rule was broken, and fails when one was.
//!
//! `cargo bench -p engine --bench gate_walks [-- STEPS [FIRST_SEED]]`

#![expect(clippy::print_stdout, reason = "a campaign prints its result")]

// The oracle and the walks are shared with the engine's tests; they name their types from the crate's root.
use engine::{admission, gate, message, time, units};

#[path = "../src/gate/tests/oracle.rs"]
#[expect(dead_code, reason = "the tables use the rest of it")]
mod oracle;
#[path = "../src/gate/tests/walks.rs"]
mod walks;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant as RealInstant;

use walks::Count;

const STEPS: u64 = 10_000_000;
const STEPS_PER_WALK: u64 = 1_000;

fn main() -> ExitCode {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u64>().ok());
    let steps = numbers.next().unwrap_or(STEPS);
    let first = numbers.next().unwrap_or(1);
    let (began, mut count, mut violations) = (RealInstant::now(), Count::default(), 0_u64);
    for seed in first..first + steps.div_ceil(STEPS_PER_WALK) {
        let walked = catch_unwind(|| {
            let mut walked = Count::default();
            walks::walk(seed, STEPS_PER_WALK, walks::gate, &mut walked);
            walked
        });
        match walked {
            Ok(walked) => count.add(walked),
            Err(_) => {
                violations += 1;
                println!("gate: the walk of seed {seed} broke a rule (above)");
            }
        }
    }
    let Count { walks, steps, inputs, entries, exits, unlocks, denials, incidents } = count;
    println!(
        "gate walks: {walks} random days, {steps} steps, {inputs} inputs, {entries} entries, {exits} exits, \
         {unlocks} unlocks, {denials} denials, {incidents} incidents: violations {violations} ({:.0} s)",
        began.elapsed().as_secs_f64()
    );
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
