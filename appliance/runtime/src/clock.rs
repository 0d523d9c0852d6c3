//! The box's time line, and waiting on it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::time::{Instant, Millis};

/// Wall clocks that show less than this (2026-01-01) were never set: no network time, empty clock battery.
const PLAUSIBLE_FROM: Instant = Instant(1_767_225_600_000);
/// The time line is slewed towards wall time by at most one part in this many, so that a deadline is never off by
/// more than 5 %.
const SLEW_DIVISOR: i64 = 20;
/// Wall time ahead by more than this is taken at once: the clock was set after boot.
const STEP_MS: i64 = 2_000;

/// The one time line of a process. It starts at wall time, follows tokio's monotonic clock, is steered towards wall
/// time, and never runs backwards.
#[derive(Clone)]
pub struct Clock {
    base: Instant,
    started: tokio::time::Instant,
    steering: Option<Arc<Wheel>>,
}

/// Steering, and the wall clock that it follows.
struct Wheel {
    steering: Mutex<Steering>,
    wall: Box<dyn Fn() -> Instant + Send + Sync>,
}

#[derive(Debug, Default)]
struct Steering {
    /// Added to `base + elapsed`, milliseconds.
    offset: i64,
    /// Monotonic milliseconds when `offset` was last changed.
    steered_at: i64,
}

impl Clock {
    /// Starts at the machine's wall time and is steered by it.
    #[must_use]
    pub fn system() -> Self {
        Self::steered_by(wall)
    }

    /// Starts at what `wall` shows and is steered by it, as [`Clock::system`] is by the machine's: for tests of
    /// wall clocks that jump.
    #[must_use]
    pub fn steered_by(wall: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        let base = wall();
        let wheel = Wheel { steering: Mutex::default(), wall: Box::new(wall) };
        Self { steering: Some(Arc::new(wheel)), ..Self::starting_at(base) }
    }

    /// Starts at `base` and follows tokio's clock alone, as in simulations.
    #[must_use]
    pub fn starting_at(base: Instant) -> Self {
        Self { base, started: tokio::time::Instant::now(), steering: None }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let free_running = self.base.0 as i64 + elapsed;
        let offset = self.steering.as_ref().map_or(0, |wheel| {
            let mut steering = wheel.steering.lock().unwrap_or_else(PoisonError::into_inner);
            steering.steer(free_running, elapsed, (wheel.wall)().0 as i64);
            steering.offset
        });
        Instant((free_running + offset).max(0) as u64)
    }

    /// What the wall clock shows, jumps and all; a clock that follows none says its own time. For whatever another
    /// clock than ours is compared with: the time line may take hours to follow a wall clock that was set back.
    #[must_use]
    pub fn wall(&self) -> Instant {
        self.steering.as_ref().map_or_else(|| self.now(), |wheel| (wheel.wall)())
    }

    /// How long this time line runs already, by the monotonic clock: no jump of the wall clock shows here.
    #[must_use]
    pub fn uptime(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Waits until `deadline`; `None` waits for ever. Cancel-safe.
    pub async fn until(&self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else {
            return std::future::pending().await;
        };
        loop {
            let left = deadline.since(self.now());
            if left == Millis(0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(left.0)).await;
        }
    }

    /// Whether the time can be believed at all (a simulated clock always can).
    #[must_use]
    pub fn trusted(&self) -> bool {
        self.steering.is_none() || self.wall() >= PLAUSIBLE_FROM
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clock").field("base", &self.base).field("steered", &self.steering.is_some()).finish()
    }
}

impl Steering {
    fn steer(&mut self, free_running: i64, elapsed: i64, wall: i64) {
        let error = wall - (free_running + self.offset);
        if error > STEP_MS {
            self.offset += error;
            self.steered_at = elapsed;
            return;
        }
        let step_max = (elapsed - self.steered_at) / SLEW_DIVISOR;
        if step_max > 0 {
            self.offset += error.clamp(-step_max, step_max);
            self.steered_at = elapsed;
        }
    }
}

fn wall() -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Instant(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_after_boot_is_followed_at_once() {
        let mut steering = Steering::default();
        steering.steer(1_000, 1_000, 900_000);
        assert_eq!(steering.offset, 899_000);
    }

    #[test]
    fn a_clock_set_back_is_followed_slowly_and_never_backwards() {
        let mut steering = Steering::default();
        let mut before = 0;
        for elapsed in (0..200_000).step_by(100) {
            steering.steer(elapsed, elapsed, elapsed - 5_000);
            let now = elapsed + steering.offset;
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
        assert_eq!(steering.offset, -5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_follows_virtual_time() {
        let clock = Clock::starting_at(Instant(5_000));
        clock.until(Some(Instant(65_000))).await;
        assert_eq!(clock.now(), Instant(65_000));
    }
}
