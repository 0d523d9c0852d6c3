//! Whether the gate's time can be right: what the box has seen and what signed lists say bound it from below,
//! and the monotonic clock tells a jump from the passing of time.

use std::fmt;

use crate::time::{Instant, Millis};

/// A difference between the time line and the monotonic clock that slewing, rounding and a slow loop explain;
/// more would judge codes wrongly, whose window is 35 s.
pub const JUMP_MAX: Millis = Millis::from_seconds(10);
/// How far the time may be behind what is known: an issuer's clock is not the gate's.
pub const BEHIND_MAX: Millis = Millis::from_seconds(60);

/// What is wrong with the gate's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockFault {
    /// It went back while the box ran, by about so much.
    JumpedBack(Millis),
    /// It went ahead while the box ran, by about so much.
    JumpedAhead(Millis),
    /// It is before what was known already: before the restart, or by a signed list.
    Behind(Millis),
}

/// What is known about time.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// Time line and monotonic clock when they last were known to agree.
    reference: Option<(Instant, Millis)>,
    /// By this box's own reckoning, the true time is not before this.
    reckoned: Instant,
    /// By a signed list or an earlier life of this box, the true time is not before this.
    proven: Instant,
    /// Monotonic clock at the newest observation.
    observed: Option<Millis>,
    synchronised: bool,
    jump: Option<ClockFault>,
}

impl Watch {
    pub fn starting_from(proven: Instant) -> Self {
        Self { proven, ..Self::default() }
    }

    /// What the shell sees every second or so. A synchronised clock is right by definition, whatever it was
    /// before.
    pub fn observe(&mut self, now: Instant, uptime: Millis, synchronised: bool) {
        self.synchronised = synchronised;
        let last = self.observed.replace(uptime).unwrap_or(uptime);
        if synchronised {
            self.reference = Some((now, uptime));
            (self.reckoned, self.proven) = (now, Instant(0));
            self.jump = None;
            return;
        }
        if self.proven > Instant(0) {
            self.proven = self.proven.after(Millis(uptime.0.saturating_sub(last.0)));
        }
        let Some((from, since)) = self.reference else {
            if self.behind(now).is_none() {
                self.reference = Some((now, uptime));
                self.reckoned = now;
            }
            return;
        };
        let expected = from.after(Millis(uptime.0.saturating_sub(since.0)));
        self.reckoned = expected;
        let (ahead, back) = (now.since(expected), expected.since(now));
        self.jump = if ahead > JUMP_MAX {
            Some(ClockFault::JumpedAhead(ahead))
        } else if back > JUMP_MAX {
            Some(ClockFault::JumpedBack(back))
        } else {
            None
        };
    }

    /// Somebody whom we trust signed something at this time, so it is not earlier.
    pub fn evidence(&mut self, at: Instant) {
        if !self.synchronised {
            self.proven = self.proven.max(at);
        }
    }

    /// The time was taken for true at this moment. Where the shell observes the clock, that says it better.
    pub fn trusted_at(&mut self, now: Instant) {
        if self.reference.is_none() {
            self.reckoned = self.reckoned.max(now);
        }
    }

    pub const fn synchronised(&self) -> bool {
        self.synchronised
    }

    /// The true time is not before this.
    pub fn floor(&self) -> Instant {
        self.reckoned.max(self.proven)
    }

    pub fn fault(&self, now: Instant) -> Option<ClockFault> {
        self.jump.or_else(|| self.behind(now))
    }

    fn behind(&self, now: Instant) -> Option<ClockFault> {
        let by = self.floor().since(now);
        (by > BEHIND_MAX).then_some(ClockFault::Behind(by))
    }
}

impl fmt::Display for ClockFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JumpedBack(by) => write!(f, "the clock jumped back by {} s", by.0 / 1000),
            Self::JumpedAhead(by) => write!(f, "the clock jumped ahead by {} s", by.0 / 1000),
            Self::Behind(by) => write!(f, "the clock is {} s behind what is known", by.0 / 1000),
        }
    }
}
