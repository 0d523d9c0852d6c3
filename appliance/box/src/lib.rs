//! All of Stile's services in one process against the simulated store: a laptop's gate, floor, carts and screens.
//!
//! It is deliberately not how a shop runs: there each service is a process of its own.

pub mod day;
pub mod live;
pub mod report;
pub mod services;
