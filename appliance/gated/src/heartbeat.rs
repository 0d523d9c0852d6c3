//! The watchdog of several loops: the service manager is told that we live only while every lane finishes its
//! steps, so that one hung lane is noticed beside a lively one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runtime::watchdog::Watchdog;
use tokio::time::Instant;

/// A lane that has finished no step for so long is hung: its loop comes round four times a second. With the unit's
/// `WatchdogSec=1200ms` a hung lane's lines fall before 2 s, from when controllers take an unlock as "hold open".
const HUNG: Duration = Duration::from_millis(600);

pub struct Heartbeat {
    shared: Arc<Mutex<Shared>>,
}

/// One lane's part of it.
pub struct Pulse {
    shared: Arc<Mutex<Shared>>,
    lane: usize,
}

struct Shared {
    watchdog: Watchdog,
    steps: Vec<Instant>,
}

impl Heartbeat {
    pub fn new(watchdog: Watchdog, lanes: usize) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { watchdog, steps: vec![Instant::now(); lanes] })) }
    }

    /// Tells the service manager that all lanes serve.
    pub fn ready(&self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).watchdog.ready();
    }

    pub fn pulse(&self, lane: usize) -> Pulse {
        Pulse { shared: Arc::clone(&self.shared), lane }
    }
}

impl Pulse {
    /// This lane has finished a step.
    pub fn step_done(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(step) = shared.steps.get_mut(self.lane) {
            *step = now;
        }
        if all_alive(now, &shared.steps) {
            shared.watchdog.step_done();
        }
    }
}

fn all_alive(now: Instant, steps: &[Instant]) -> bool {
    steps.iter().all(|step| now.duration_since(*step) < HUNG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hung_lane_is_enough() {
        let now = Instant::now();
        let (fresh, hung) = (now - Duration::from_millis(300), now - Duration::from_secs(3));
        assert!(all_alive(now, &[fresh, now]));
        assert!(!all_alive(now, &[fresh, hung]));
    }
}
