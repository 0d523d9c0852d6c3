//! Every decision that Stile takes, as pure functions of (state, time, input): who may pass the gate, where people
//! are on the floor, what each shopper carries, when a visit settles, what the kiosk shows.
//!
//! It is deliberately not a program: no input or output, no clock, no randomness, no threads, no logging. Shells
//! (`gated`, `cartd`, `visiond`, `kiosk`, `console`) feed it and perform what it returns; the same inputs always give
//! the same outputs, so that a recorded day can be replayed.

pub mod admission;
pub mod cart;
pub mod floor;
pub mod gate;
pub mod kiosk;
pub mod message;
pub mod session;
pub mod store;
pub mod time;
pub mod units;

/// How property tests run: the same cases each time, so that a failing one fails again. Other cases:
/// `PROPTEST_RNG_SEED=7 PROPTEST_CASES=20000 cargo test -p engine`.
#[cfg(test)]
fn properties(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    let asked = Config { failure_persistence: None, ..Config::default() };
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { cases };
    let rng_seed = if asked.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { asked.rng_seed };
    Config { cases, rng_seed, ..asked }
}
