//! The time that libosdp sees, which is a thread's own.
//!
//! By itself libosdp reads the wall clock: one step back when the box learns the time, and no reader is polled
//! until the old time comes again. Here it reads the monotonic clock. A thread can move its own ahead, which is
//! how a reader that went away is tried again before libosdp's five minutes, or fix it, as a fuzzer does.

use std::cell::Cell;

use rustix::time::{ClockId, clock_gettime};

#[derive(Clone, Copy)]
enum Clock {
    Ahead(i64),
    Fixed(i64),
}

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::Ahead(0)) };
}

/// Moves this thread's clock ahead by `ms`.
pub fn skip(ms: i64) {
    CLOCK.with(|clock| {
        clock.set(match clock.get() {
            Clock::Ahead(ahead) => Clock::Ahead(ahead.saturating_add(ms)),
            Clock::Fixed(now) => Clock::Fixed(now.saturating_add(ms)),
        });
    });
}

/// Stops this thread's clock at `ms`; [`skip`] moves it.
pub fn fix(ms: i64) {
    CLOCK.with(|clock| clock.set(Clock::Fixed(ms)));
}

/// This thread's time, milliseconds from an unknown start.
#[must_use]
pub fn now() -> i64 {
    match CLOCK.with(Cell::get) {
        Clock::Fixed(now) => now,
        Clock::Ahead(ahead) => {
            let now = clock_gettime(ClockId::Monotonic);
            (now.tv_sec * 1000 + now.tv_nsec / 1_000_000).saturating_add(ahead)
        }
    }
}
