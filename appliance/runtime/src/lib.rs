//! The kit that Stile's services share: clock, bus, outbox, role manifest, telemetry, watchdog.
//!
//! It is deliberately not a place for decisions (those are the engine's) nor for devices (those are the drivers').

pub mod bus;
pub mod clock;
pub mod manifest;
pub mod outbox;
pub mod shutdown;
pub mod telemetry;
pub mod watchdog;
