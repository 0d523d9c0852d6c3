//! Tables for the gate, and its safety rules checked over every short sequence of inputs, over long random
//! ones, and against gates that are broken on purpose.

mod exhaustive;
mod floor;
mod modes;
mod mutants;
mod oracle;
mod tables;
mod walks;

#[test]
fn random_days_are_safe_and_heal() {
    let mut count = walks::Count::default();
    for seed in 1..=600 {
        walks::walk(seed, 400, walks::gate, &mut count);
    }
    assert!(count.entries > 10_000, "the walk must go through the gate to prove anything: {count:?}");
    eprintln!("gate: {count:?}: violations 0, every day heals");
}
