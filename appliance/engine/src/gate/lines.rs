//! Levels of a turnstile's input lines, as far as known since it was opened.

use serde::{Deserialize, Serialize};

use super::SEEN_BEFORE;
use crate::message::{Direction, Edges};
use crate::time::Instant;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Lines {
    passage: [Option<bool>; 2],
    pub(super) ready: bool,
    /// An alarm is kept while the turnstile is lost: it ends only when its line says so.
    pub(super) fire_alarm: Option<bool>,
    pub(super) emergency: bool,
    tamper: bool,
    /// Since when the detector sees somebody.
    pub(super) detected: Option<Instant>,
    /// When it last saw somebody come and go.
    seen: Option<(Instant, Instant)>,
}

/// What a change of a level means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    None,
    Rise,
    Fall,
}

fn change(level: &mut bool, active: bool) -> Change {
    match (std::mem::replace(level, active), active) {
        (false, true) => Change::Rise,
        (true, false) => Change::Fall,
        (false, false) | (true, true) => Change::None,
    }
}

impl Lines {
    /// The first level since the turnstile was opened is no edge: what it says may be long past.
    pub(super) fn passage(&mut self, direction: Direction, active: bool) -> Change {
        match (self.passage[direction as usize].replace(active), active) {
            (Some(false), true) => Change::Rise,
            (Some(true), false) => Change::Fall,
            (None, _) | (Some(false), false) | (Some(true), true) => Change::None,
        }
    }

    pub(super) fn detector(&mut self, now: Instant, active: bool) -> Change {
        match (active, self.detected) {
            (true, None) => {
                self.detected = Some(now);
                Change::Rise
            }
            (false, Some(since)) => {
                self.detected = None;
                self.seen = Some((since, now));
                Change::Fall
            }
            (true, Some(_)) | (false, None) => Change::None,
        }
    }

    pub(super) fn fire_alarm(&mut self, active: bool) -> Change {
        let mut level = self.fire_alarm.unwrap_or(false);
        let change = change(&mut level, active);
        self.fire_alarm = Some(active);
        change
    }

    /// A button found pressed counts as pressed: it may have been while nobody could hear it.
    pub(super) fn emergency(&mut self, active: bool) -> Change {
        change(&mut self.emergency, active)
    }

    pub(super) fn tamper(&mut self, active: bool) -> Change {
        change(&mut self.tamper, active)
    }

    /// The edges of a passage now.
    pub(super) fn edges(&self, now: Instant) -> Edges {
        let (on, off) = match (self.detected, self.seen) {
            (Some(since), _) => (Some(since), None),
            (None, Some((since, until))) => (Some(since), Some(until)),
            (None, None) => (None, None),
        };
        Edges { detector_on: on, passage_on: now, passage_off: None, detector_off: off }
    }

    /// Nothing is known any more but what must not be forgotten.
    pub(super) fn lose(&mut self) {
        let fire_alarm = self.fire_alarm.filter(|active| *active);
        *self = Self { fire_alarm, tamper: self.tamper, ..Self::default() };
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.seen.take_if(|(_, until)| now.since(*until) >= SEEN_BEFORE);
    }

    #[cfg(test)]
    pub(super) fn each_time(&mut self, change: &mut impl FnMut(&mut Instant)) {
        self.detected.iter_mut().for_each(&mut *change);
        if let Some((since, until)) = &mut self.seen {
            // When somebody came is only passed on.
            *since = Instant(0);
            change(until);
        }
    }
}
