//! What the shelves and the floor say about carts: weight events found in load-cell readings, who was near
//! them, and what may have moved.

mod hands;
mod near;
mod passages;
mod plate;
pub mod sense;
#[cfg(test)]
mod tests;
mod weights;
pub mod who;

use serde::{Deserialize, Serialize};

use crate::message::Passage;
use crate::time::Instant;
use crate::units::{Mass, MessageId, PlateId, TrackId};

/// What [`sense::Sensing`] has found and the ledger stores before [`crate::session::Store`] handles it. All
/// numbers are integers, so that a stored and re-read evidence is the same to the bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// Mass on the shelf changed for good.
    Shelf(ShelfEvent),
    /// A person came in. `track` is `None` while nobody on the floor fits; [`Evidence::Bound`] may follow.
    Entered {
        /// The gate's event; the store handles each passage id once.
        passage: Passage,
        /// Who on the floor came in by it.
        track: Option<TrackId>,
    },
    /// A person left. `track` is `None` while nobody on the floor fits; [`Evidence::Bound`] may follow.
    Left {
        /// The gate's event; the store handles each passage id once.
        passage: Passage,
        /// Who on the floor left by it.
        track: Option<TrackId>,
    },
    /// The person of an earlier passage, found later; `None`: given up, nobody on the floor fits.
    Bound {
        /// The passage's id.
        passage: MessageId,
        /// Who went through.
        track: Option<TrackId>,
    },
    /// A track that was lost in the middle of the floor goes on under a new number: people appear only at
    /// doors.
    Continued {
        /// The lost track.
        from: TrackId,
        /// Its continuation.
        to: TrackId,
    },
    /// No evidence from before this time is still to come.
    Watermark {
        /// The time.
        at: Instant,
    },
}

/// Masses that changed together at one place: one or more steps of one plate or of neighbouring plates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShelfEvent {
    /// The steps in order of time, then plate; at least one. How many things moved, and by whom, is the
    /// store's to decide: an item may straddle two plates, and two hands may reach into one shelf.
    pub steps: Vec<Step>,
}

/// One plate's change from one settled level to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub plate: PlateId,
    /// By how much: negative when something was taken.
    pub delta: Mass,
    /// Standard deviation of `delta` from the plate's noise and drift.
    pub sd: Mass,
    /// When the level began to change: the hand came about now.
    pub from: Instant,
    /// When the new level was reached.
    pub to: Instant,
    /// The level afterwards.
    pub level: Mass,
    /// How well each person on the floor fits, best first.
    pub near: Vec<Near>,
}

/// How well a person fits as the one who changed a plate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// Who.
    pub track: TrackId,
    /// Log-probability in hundredths of a nat: 0 for who must have done it, less for anybody else.
    pub score: i32,
}

impl ShelfEvent {
    /// Sum of the steps.
    #[must_use]
    pub fn delta(&self) -> Mass {
        Mass(self.steps.iter().map(|step| step.delta.0).sum())
    }

    /// When the first step began.
    #[must_use]
    pub fn from(&self) -> Instant {
        self.steps.iter().map(|step| step.from).min().unwrap_or_default()
    }

    /// When the last step had settled.
    #[must_use]
    pub fn to(&self) -> Instant {
        self.steps.iter().map(|step| step.to).max().unwrap_or_default()
    }
}
