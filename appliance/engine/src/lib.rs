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
