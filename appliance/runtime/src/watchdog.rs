//! The service manager's watchdog, fed by finished steps of work and never by a timer.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

/// Feeds systemd's watchdog when the unit sets `WatchdogSec=`; elsewhere it does nothing.
#[derive(Debug)]
pub struct Watchdog {
    interval: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    /// Reads the interval that the service manager set for this process.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { interval: sd_notify::watchdog_enabled(), fed: None }
    }

    /// Tells the service manager that the service is ready.
    pub fn ready(&self) {
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    /// A step of the service's loop is finished; feeds the watchdog when a third of its interval has passed.
    pub fn step_done(&mut self) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        if self.fed.is_none_or(|fed| now.duration_since(fed) >= interval / 3) {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            self.fed = Some(now);
        }
    }
}
