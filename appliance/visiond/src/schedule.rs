//! When a view of the floor is due, and which frames go into it: in the order of capture, and with every
//! frame that was captured in time, as long as its detections do not take too long.

use std::collections::{BTreeMap, BTreeSet};

use engine::floor::Sighting;
use engine::time::{Instant, Millis};
use engine::units::CameraId;

/// Ten views a second.
pub const PERIOD: Millis = Millis(100);
/// A frame reaches us a little after its capture; a view waits this long to hear of it.
pub const GRACE: Millis = Millis(20);
/// Detections of a frame that is known to exist are awaited this long.
pub const WAIT: Millis = Millis(300);
/// Frames kept for a view; two seconds of sixteen cameras. More means that views are not taken.
const READY_MAX: usize = 320;

pub struct Schedule {
    next: Instant,
    pending: BTreeSet<(Instant, CameraId)>,
    ready: BTreeMap<(Instant, CameraId), Sighting>,
}

impl Schedule {
    pub fn new(start: Instant) -> Self {
        Self { next: grid(start).after(PERIOD), pending: BTreeSet::new(), ready: BTreeMap::new() }
    }

    /// A frame was captured; its detections will follow.
    pub fn expect(&mut self, camera: CameraId, at: Instant) {
        if self.pending.len() < READY_MAX {
            self.pending.insert((at, camera));
        }
    }

    /// They are here.
    pub fn arrived(&mut self, sighting: Sighting) {
        self.give_up(sighting.camera, sighting.at);
        if self.ready.len() < READY_MAX {
            self.ready.insert((sighting.at, sighting.camera), sighting);
        }
    }

    /// They will not come.
    pub fn give_up(&mut self, camera: CameraId, at: Instant) {
        self.pending.remove(&(at, camera));
    }

    /// When [`Self::due`] is worth asking again without news.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.next.after(if self.waits() { WAIT } else { GRACE }))
    }

    /// The view that is due now, and the frames to observe before it. Views missed by more than the longest
    /// wait are left out.
    pub fn due(&mut self, now: Instant) -> Option<(Instant, Vec<Sighting>)> {
        if self.deadline().is_some_and(|deadline| now < deadline) {
            return None;
        }
        let at = self.next.max(grid(now.before(WAIT)));
        self.next = at.after(PERIOD);
        let later = (Instant(at.0 + 1), CameraId(0));
        self.pending = self.pending.split_off(&later);
        let later = self.ready.split_off(&later);
        Some((at, std::mem::replace(&mut self.ready, later).into_values().collect()))
    }

    fn waits(&self) -> bool {
        self.pending.first().is_some_and(|(at, _)| *at <= self.next)
    }
}

fn grid(at: Instant) -> Instant {
    Instant(at.0 - at.0 % PERIOD.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(camera: u16, at: u64) -> Sighting {
        Sighting { camera: CameraId(camera), at: Instant(at), people: Vec::new() }
    }

    fn frames(due: Option<(Instant, Vec<Sighting>)>) -> Option<(u64, Vec<(u64, u16)>)> {
        due.map(|(at, frames)| (at.0, frames.iter().map(|frame| (frame.at.0, frame.camera.0)).collect()))
    }

    #[test]
    fn a_view_takes_the_frames_captured_before_it_in_their_order() {
        let mut schedule = Schedule::new(Instant(1_000));
        for (camera, at) in [(2, 1_070), (1, 1_100), (3, 1_101), (1, 1_020)] {
            schedule.expect(CameraId(camera), Instant(at));
            schedule.arrived(sighting(camera, at));
        }
        assert_eq!(frames(schedule.due(Instant(1_119))), None);
        let first = Some((1_100, vec![(1_020, 1), (1_070, 2), (1_100, 1)]));
        assert_eq!(frames(schedule.due(Instant(1_120))), first);
        assert_eq!(frames(schedule.due(Instant(1_120))), None);
        assert_eq!(frames(schedule.due(Instant(1_220))), Some((1_200, vec![(1_101, 3)])));
    }

    #[test]
    fn a_view_waits_for_detections_but_not_for_ever() {
        let mut schedule = Schedule::new(Instant(1_000));
        schedule.expect(CameraId(1), Instant(1_090));
        schedule.expect(CameraId(2), Instant(1_150));
        assert_eq!(frames(schedule.due(Instant(1_399))), None);
        assert_eq!(schedule.deadline(), Some(Instant(1_400)));
        assert_eq!(frames(schedule.due(Instant(1_400))), Some((1_100, vec![])));
        schedule.give_up(CameraId(2), Instant(1_150));
        schedule.arrived(sighting(1, 1_090));
        assert_eq!(frames(schedule.due(Instant(1_400))), Some((1_200, vec![(1_090, 1)])));
    }

    #[test]
    fn views_that_nobody_took_are_left_out() {
        let mut schedule = Schedule::new(Instant(1_000));
        assert_eq!(frames(schedule.due(Instant(9_950))), Some((9_600, vec![])));
        assert_eq!(frames(schedule.due(Instant(9_950))), Some((9_700, vec![])));
    }
}
