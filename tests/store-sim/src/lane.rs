//! The gate as shoppers meet it: a queue, a reader, a barrier that opens for one, a passage line.

use std::collections::VecDeque;

use engine::message::Direction;
use engine::units::LaneId;

use crate::layout::{FENCE_Y, MOUTH_Y};

/// A turnstile stays unlocked this long for somebody who does not come (manuals: waiting time 5 or 8 s).
const WAIT_SECONDS: f64 = 8.0;
/// Somebody this near to the passage line is seen by the detector between the wings, metres.
const DETECTOR_REACH: f64 = 0.3;
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
    /// When the unlock output became active, once for each person it still lets in: controllers count pulses.
    permits: VecDeque<f64>,
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
            permits: VecDeque::new(),
            inward_until: -1.0,
            outward_until: -1.0,
            built_in: None,
        }
    }

    /// A pulse on the unlock output of the entry direction at `now` seconds lets one more person in.
    pub fn unlock(&mut self, now: f64) {
        self.permits.push_back(now);
    }

    /// The built-in gate: opens for everybody a moment after a code is shown.
    pub fn open_soon(&mut self, now: f64) {
        self.built_in = Some(now + 0.1);
    }

    /// Advances to `now`.
    pub fn step(&mut self, now: f64) {
        if self.permits.back().is_some_and(|since| now - since > WAIT_SECONDS) {
            self.permits.clear();
        }
        if self.built_in.is_some_and(|at| now >= at) {
            self.built_in = None;
            self.permits.push_back(now);
        }
    }

    /// When the barrier last unlocked for whoever comes next.
    #[must_use]
    pub fn permit(&self) -> Option<f64> {
        self.permits.back().copied()
    }

    /// Somebody goes through.
    pub fn pass(&mut self, direction: Direction, now: f64) {
        match direction {
            Direction::Entry => {
                self.permits.pop_front();
                // Who is not through within the waiting time of the newest pulse stays out.
                self.permits.iter_mut().for_each(|since| *since = now);
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

    /// Whether somebody at `y` stands between the wings.
    #[must_use]
    pub fn detects(y: f64) -> bool {
        (y - FENCE_Y).abs() < DETECTOR_REACH
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
        lane.unlock(1.0);
        assert_eq!(lane.permit(), Some(1.0));
        lane.pass(Direction::Entry, 2.0);
        assert_eq!(lane.permit(), None);
        assert!(lane.senses(Direction::Entry, 2.1) && !lane.senses(Direction::Exit, 2.1));
        lane.unlock(3.0);
        lane.step(11.1);
        assert_eq!(lane.permit(), None);
    }

    #[test]
    fn two_pulses_let_two_people_in() {
        let mut lane = Lane::new(LaneId::from("entry-1"), 2.0);
        lane.unlock(1.0);
        lane.unlock(1.5);
        lane.pass(Direction::Entry, 2.0);
        lane.step(9.0);
        assert!(lane.permit().is_some());
        lane.pass(Direction::Entry, 9.0);
        assert_eq!(lane.permit(), None);
    }
}
