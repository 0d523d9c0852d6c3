//! Kernel interfaces that no safe library wraps.

pub mod close_range;
pub mod sched_setscheduler;
