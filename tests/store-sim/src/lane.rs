//! The gate as shoppers meet it: a queue, a reader, a barrier that opens for one, a passage line.

use std::collections::VecDeque;

use engine::message::Direction;
use engine::units::LaneId;

use crate::layout::{FENCE_Y, MOUTH_Y};

/// A turnstile stays unlocked this long for somebody who does not come (manuals: waiting time 5 or 8 s).
const WAIT_SECONDS: f64 = 5.0;
/// The passage sensor reports for this long.
const SENSE_SECONDS: f64 = 0.25;
/// Shoppers hold their code here, this far before the passage line.
const READER_BEFORE: f64 = 0.55;
/// Distance of people in a queue, metres.
const QUEUE_GAP: f64 = 0.6;

/// A lane of the gate.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its name.
    pub id: LaneId,
    /// Middle of the passage line.
    pub x: f64,
    /// People in front of it on the street, first first.
    pub queue: VecDeque<u32>,
    /// People on their way out through it, first first.
    pub leaving: VecDeque<u32>,
    /// The unlock output, as last told.
    unlocked: bool,
    /// When it last became active, unless somebody has used it.
    permit: Option<f64>,
    inward_until: f64,
    outward_until: f64,
    built_in: Option<f64>,
}

/// A code held to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The reader's lane.
    pub lane: LaneId,
    /// What the reader reads.
    pub text: String,
}

impl Lane {
    /// A lane at rest.
    #[must_use]
    pub fn new(id: LaneId, x: f64) -> Self {
        Self {
            id,
            x,
            queue: VecDeque::new(),
            leaving: VecDeque::new(),
            unlocked: false,
            permit: None,
            inward_until: -1.0,
            outward_until: -1.0,
            built_in: None,
        }
    }

    /// The unlock output of the entry direction is so, at `now` seconds. Its rise lets one person in.
    pub fn unlock(&mut self, active: bool, now: f64) {
        if active && !self.unlocked {
            self.permit = Some(now);
        }
        self.unlocked = active;
    }

    /// The built-in gate: opens for everybody a moment after a code is shown.
    pub fn open_soon(&mut self, now: f64) {
        self.built_in = Some(now + 0.1);
    }

    /// Advances to `now`.
    pub fn step(&mut self, now: f64) {
        if self.permit.is_some_and(|since| now - since > WAIT_SECONDS) {
            self.permit = None;
        }
        if self.built_in.is_some_and(|at| now >= at) {
            self.built_in = None;
            self.permit = Some(now);
        }
    }

    /// When the barrier unlocked for whoever comes next.
    #[must_use]
    pub fn permit(&self) -> Option<f64> {
        self.permit
    }

    /// Somebody goes through.
    pub fn pass(&mut self, direction: Direction, now: f64) {
        match direction {
            Direction::Entry => {
                self.permit = None;
                self.inward_until = now + SENSE_SECONDS;
            }
            Direction::Exit => self.outward_until = now + SENSE_SECONDS,
        }
    }

    /// Whether the passage sensor of a direction reports somebody.
    #[must_use]
    pub fn senses(&self, direction: Direction, now: f64) -> bool {
        match direction {
            Direction::Entry => now < self.inward_until,
            Direction::Exit => now < self.outward_until,
        }
    }

    /// Place in the queue on the street, metres.
    #[must_use]
    pub fn queue_place(&self, index: usize) -> [f64; 2] {
        [self.x, FENCE_Y - READER_BEFORE - QUEUE_GAP * index as f64]
    }

    /// Place in the queue to leave, metres.
    #[must_use]
    pub fn leave_place(&self, index: usize) -> [f64; 2] {
        [self.x, MOUTH_Y + QUEUE_GAP * index as f64]
    }

    /// Where a phone is held to, metres.
    #[must_use]
    pub fn reader(&self) -> [f64; 3] {
        [self.x + 0.42, FENCE_Y - 0.3, 1.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlock_lets_one_person_in_and_lapses() {
        let mut lane = Lane::new(LaneId::from("entry-1"), 2.0);
        lane.unlock(true, 1.0);
        lane.unlock(true, 1.5);
        assert_eq!(lane.permit(), Some(1.0));
        lane.pass(Direction::Entry, 2.0);
        assert_eq!(lane.permit(), None);
        assert!(lane.senses(Direction::Entry, 2.1) && !lane.senses(Direction::Exit, 2.1));
        lane.unlock(false, 2.1);
        lane.unlock(true, 3.0);
        lane.step(8.1);
        assert_eq!(lane.permit(), None);
    }
}
