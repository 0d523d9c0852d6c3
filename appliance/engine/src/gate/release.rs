//! One unlock output: how a wish to let somebody pass becomes activations of a line, each far shorter than
//! what a controller would take for "hold open".
//!
//! Under pulse control an activation is an authorisation that the controller keeps until it is used or until
//! its own waiting time ends. Some controllers add them up, so there is never a second one while the first
//! may still be unused. Under level control the direction is open exactly as long as the line is active; a
//! wish that lasts longer is a row of activations, with a gap that the controller sees.

use serde::{Deserialize, Serialize};

use super::{HOLD, UNLOCK, UNLOCK_GAP, UNLOCK_MIN};
use crate::time::{Instant, Millis};

/// How the controller reads its unlock inputs. Its manual says so, and usually a jumper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// A pulse opens for one passage ("pulse control"). Every controller knows it.
    #[default]
    Pulse,
    /// Open while the line is active ("potential control"). Only for controllers whose manual says so: under
    /// it a gate may close as soon as the line does, guarded by nothing but its own sensors.
    Level,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Release {
    control: Control,
    /// The controller's own waiting time.
    waiting: Millis,
    wanted: bool,
    /// Since when the line is active.
    since: Option<Instant>,
    next: Option<Next>,
    /// The line must stay inactive until then, so that the controller counts two.
    free_at: Option<Instant>,
    /// The controller may hold an unused authorisation until then.
    stored: Option<Instant>,
}

/// The activation to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Next {
    at: Instant,
    /// Another one for the same wish.
    renewal: bool,
}

impl Release {
    pub(super) fn new(control: Control, waiting: Millis) -> Self {
        Self { control, waiting, wanted: false, since: None, next: None, free_at: None, stored: None }
    }

    pub(super) fn active(&self) -> bool {
        self.since.is_some()
    }

    /// Whether somebody could still pass by what was released.
    pub(super) fn unused(&self) -> bool {
        self.active() || self.stored.is_some()
    }

    /// Somebody may pass from now on.
    pub(super) fn want(&mut self, now: Instant) {
        if !self.wanted {
            self.wanted = true;
            self.next = Some(Next { at: self.earliest(now).max(self.stored.unwrap_or(now)), renewal: false });
        }
    }

    /// Somebody asks, and gets an activation of their own at once, whatever may be stored: for exits, where
    /// one too many harms nobody.
    pub(super) fn ask(&mut self, now: Instant) {
        self.wanted = true;
        if self.since.is_none() {
            self.next = Some(Next { at: self.earliest(now), renewal: false });
        }
    }

    /// Somebody passed; whoever may pass next gets an activation of their own.
    pub(super) fn used(&mut self, now: Instant) {
        self.cut(now);
        self.stored = None;
        self.next = self.wanted.then(|| Next { at: self.earliest(now), renewal: false });
    }

    /// Nobody may pass any more.
    pub(super) fn end(&mut self, now: Instant) {
        self.wanted = false;
        self.next = None;
        self.cut(now);
    }

    /// The controller was lost or reset, and its memory with it.
    pub(super) fn reset(&mut self, now: Instant) {
        self.end(now);
        self.stored = None;
    }

    fn cut(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.free_at = Some(now.after(UNLOCK_GAP));
            if now.since(since) < UNLOCK_MIN {
                self.stored = None;
            }
        }
    }

    fn earliest(&self, now: Instant) -> Instant {
        self.free_at.map_or(now, |free_at| free_at.max(now))
    }

    fn length(&self) -> Millis {
        match self.control {
            Control::Pulse => UNLOCK,
            Control::Level => HOLD,
        }
    }

    /// A renewal waits for whoever is in the passage: they are using the authorisation before.
    fn due(&self, busy: bool) -> Option<Instant> {
        let postponed = |next: &Next| next.renewal && busy && self.control == Control::Pulse;
        self.next.filter(|next| !postponed(next)).map(|next| next.at)
    }

    pub(super) fn deadline(&self, busy: bool) -> Option<Instant> {
        self.since.map(|since| since.after(self.length())).or_else(|| self.due(busy))
    }

    /// Begins or ends what is due; true when an activation begins. `busy`: somebody is in the passage.
    pub(super) fn advance(&mut self, now: Instant, busy: bool) -> bool {
        if self.since.is_some_and(|since| now >= since.after(self.length())) {
            self.cut(now);
            if self.control == Control::Level && self.wanted {
                self.next = Some(Next { at: now.after(UNLOCK_GAP), renewal: true });
            }
        }
        self.free_at = self.free_at.filter(|free_at| now < *free_at);
        self.stored = self.stored.filter(|stored| now < *stored);
        if self.since.is_some() || self.due(busy).is_none_or(|due| now < due) {
            return false;
        }
        self.since = Some(now);
        self.next = None;
        if self.control == Control::Pulse {
            let renewal = now.after(self.waiting.max(Millis(UNLOCK.0 + UNLOCK_GAP.0)));
            self.stored = Some(renewal);
            self.next = Some(Next { at: renewal, renewal: true });
        }
        true
    }

    #[cfg(test)]
    pub(super) fn each_time(&mut self, change: &mut impl FnMut(&mut Instant)) {
        let Self { control: _, waiting: _, wanted: _, since, next, free_at, stored } = self;
        [since, free_at, stored].into_iter().flatten().for_each(&mut *change);
        next.iter_mut().for_each(|next| change(&mut next.at));
    }
}
