//! A place for a device that may come and go: opens it, and opens it again after a pause when it was lost.

use engine::time::{Instant, Millis};

use crate::Open;

/// First pause before a lost device is opened again.
const PAUSE_MIN: Millis = Millis(100);
/// Longest pause: a technician who puts a cable back does not wait longer.
const PAUSE_MAX: Millis = Millis(5_000);

/// The device, or when to try for it.
pub struct Slot<D, E> {
    /// `None`: there is no such device here, and nothing to wait for.
    open: Option<Open<D, E>>,
    device: Option<D>,
    retry_at: Instant,
    pause: Millis,
}

impl<D, E> Slot<D, E> {
    /// Empty; the first try is due at once.
    pub fn new(open: Option<Open<D, E>>, now: Instant) -> Self {
        Self { open, device: None, retry_at: now, pause: PAUSE_MIN }
    }

    /// The device, when there is one.
    pub fn device(&mut self) -> Option<&mut D> {
        self.device.as_mut()
    }

    /// When to try next; `None` while there is a device, or none to come.
    pub fn due(&self) -> Option<Instant> {
        (self.open.is_some() && self.device.is_none()).then_some(self.retry_at)
    }

    /// Tries to open it.
    ///
    /// # Errors
    /// The device's; the next try is due after a pause that doubles each time.
    pub fn try_open(&mut self, now: Instant) -> Result<(), E> {
        let Some(open) = &mut self.open else { return Ok(()) };
        match open() {
            Ok(device) => {
                self.device = Some(device);
                self.pause = PAUSE_MIN;
                Ok(())
            }
            Err(error) => {
                self.retry_at = now.after(self.pause);
                self.pause = Millis((self.pause.0 * 2).min(PAUSE_MAX.0));
                Err(error)
            }
        }
    }

    /// Lets go of a device that failed.
    pub fn lose(&mut self, now: Instant) {
        self.device = None;
        self.retry_at = now.after(self.pause);
    }
}
