//! From what the kernel reports to what happened: pure bookkeeping shared by the drivers of real lines.
//!
//! The kernel numbers its edge events, keeps a bounded number of them and drops the oldest; it may hand over
//! two lines' events in another order than it numbered them; and without debouncing it reads a line's level
//! only after its interrupt, so that a short pulse can arrive as two events of the same level, or as one
//! (`drivers/gpio/gpiolib-cdev.c`: `edge_irq_handler`, `edge_irq_thread`, `linereq_put_event`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::{Edge, Line};

/// A moment on both clocks: the kernel stamps events in nanoseconds of `CLOCK_MONOTONIC`, which is the clock
/// behind [`Instant`], but an `Instant` cannot be made from a number.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    instant: Instant,
    monotonic_ns: u64,
}

impl Anchor {
    /// Reads both clocks. The instant is taken last, so that a converted stamp is never before its event.
    pub fn now() -> Self {
        let monotonic_ns = monotonic_ns();
        Self { instant: Instant::now(), monotonic_ns }
    }

    /// A kernel stamp as an instant.
    fn instant(&self, stamp_ns: u64) -> Instant {
        if stamp_ns >= self.monotonic_ns {
            self.instant.checked_add(Duration::from_nanos(stamp_ns - self.monotonic_ns))
        } else {
            self.instant.checked_sub(Duration::from_nanos(self.monotonic_ns - stamp_ns))
        }
        // A stamp that no instant can hold is nonsense; the edge still counts.
        .unwrap_or(self.instant)
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative on this clock.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// An event of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub line: Line,
    /// The level that the kernel saw.
    pub active: bool,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Its number among the events of its request, from 1.
    pub number: u32,
}

/// An event this close behind a reading of the levels is part of it: the kernel stamps an event when its
/// interrupt runs, and the level changed before. Nanoseconds; interrupts of a small board under load are
/// late by less than a millisecond.
const READING_NS: u64 = 2_000_000;

/// Follows the lines of one request. After each batch of events that emptied the kernel's buffer, call
/// [`Tracker::drained`].
#[derive(Debug)]
pub struct Tracker {
    anchor: Anchor,
    levels: [Option<Level>; Line::ALL.len()],
    /// Levels read then are known to include everything before.
    read_at_ns: u64,
    numbers: Numbers,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// As reported.
    active: bool,
    /// As the kernel saw it at its last event, when that contradicts what was reported.
    seen: Option<(bool, u64)>,
}

/// Which event numbers are missing. Late ones are no loss; those that are still missing when the buffer is
/// empty are, even if one is on its way: reporting the levels once too often does no harm.
#[derive(Debug, Default)]
struct Numbers {
    highest: u32,
    missing: u32,
    made_up_for: u32,
}

impl Numbers {
    fn saw(&mut self, number: u32) {
        // Numbers wrap; a distance of more than half the range is a step back.
        let ahead = number.wrapping_sub(self.highest);
        if ahead != 0 && ahead < u32::MAX / 2 {
            self.missing = self.missing.saturating_add(ahead - 1);
            self.highest = number;
        } else {
            self.missing = self.missing.saturating_sub(1);
            self.made_up_for = self.made_up_for.min(self.missing);
        }
    }

    fn lost(&mut self) -> bool {
        let lost = self.missing > self.made_up_for;
        self.made_up_for = self.missing;
        lost
    }
}

impl Tracker {
    pub fn new(anchor: Anchor) -> Self {
        Self { anchor, levels: [None; Line::ALL.len()], read_at_ns: 0, numbers: Numbers::default() }
    }

    /// Reports levels that were read at `at_ns`, whether they changed or not.
    pub fn read(&mut self, levels: impl Iterator<Item = (Line, bool)>, at_ns: u64, out: &mut VecDeque<Edge>) {
        self.read_at_ns = at_ns;
        let at = self.anchor.instant(at_ns);
        for (line, active) in levels {
            self.levels[line as usize] = Some(Level { active, seen: None });
            out.push_back(Edge { line, active, at });
        }
    }

    /// Takes the next event.
    pub fn event(&mut self, event: Event, out: &mut VecDeque<Edge>) {
        self.numbers.saw(event.number);
        let Event { line, active, at_ns, number: _ } = event;
        let Some(level) = &mut self.levels[line as usize] else { return };
        if active == level.active
            && level.seen.is_none()
            && at_ns <= self.read_at_ns.saturating_add(READING_NS)
        {
            // The levels were read after this event: it has been reported.
            return;
        }
        // Edges alternate. An event of the level that the line already has is the edge away from it, whose
        // level was read too late; whether the line came back is known when the next event or none comes.
        level.active = !level.active;
        level.seen = (level.active != active).then_some((active, at_ns));
        out.push_back(Edge { line, active: level.active, at: self.anchor.instant(at_ns) });
    }

    /// The kernel's buffer is empty: settles what is open. True when events were lost; then the caller reads
    /// the levels again.
    pub fn drained(&mut self, out: &mut VecDeque<Edge>) -> bool {
        for line in Line::ALL {
            let Some(level) = &mut self.levels[line as usize] else { continue };
            if let Some((active, at_ns)) = level.seen.take() {
                level.active = active;
                out.push_back(Edge { line, active, at: self.anchor.instant(at_ns) });
            }
        }
        self.numbers.lost()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: Line = Line::PassageA;
    const READ_AT_NS: u64 = 1_000;
    /// So long after opening that no event is part of the reading.
    const LATER_NS: u64 = READ_AT_NS + READING_NS + 1;

    fn tracker(levels: &[(Line, bool)]) -> Tracker {
        let mut tracker = Tracker::new(Anchor { instant: Instant::now(), monotonic_ns: 1_000_000 });
        let mut out = VecDeque::new();
        tracker.read(levels.iter().copied(), READ_AT_NS, &mut out);
        assert_eq!(out.len(), levels.len());
        tracker
    }

    /// Feeds batches of (level seen, stamp, number) of one line, stamps before or well after the reading;
    /// returns the levels reported and whether any batch ended with a loss.
    fn feed(tracker: &mut Tracker, batches: &[&[(bool, u64, u32)]]) -> (Vec<bool>, bool) {
        let mut out = VecDeque::new();
        let mut lost = false;
        for batch in batches {
            for &(active, at_ns, number) in *batch {
                let at_ns = if at_ns < READ_AT_NS { at_ns } else { at_ns + LATER_NS };
                tracker.event(Event { line: LINE, active, at_ns, number }, &mut out);
            }
            lost |= tracker.drained(&mut out);
        }
        (out.iter().map(|edge| edge.active).collect(), lost)
    }

    #[test]
    fn edges_pass_as_they_are() {
        let (edges, lost) = feed(
            &mut tracker(&[(LINE, false)]),
            &[&[(true, 2_000, 1), (false, 3_000, 2)], &[(true, 4_000, 3)]],
        );
        assert_eq!((edges, lost), (vec![true, false, true], false));
    }

    #[test]
    fn events_from_before_the_levels_were_read_are_not_told_twice() {
        let batch: &[_] = &[(true, 500, 1)];
        assert_eq!(feed(&mut tracker(&[(LINE, true)]), &[batch]).0, [] as [bool; 0]);
        let pulse: &[_] = &[(true, 500, 1), (false, 600, 2)];
        assert_eq!(feed(&mut tracker(&[(LINE, false)]), &[pulse]).0, [true, false], "a pulse is not lost");
        let back: &[_] = &[(true, 500, 1), (false, 600, 2), (true, 700, 3)];
        assert_eq!(feed(&mut tracker(&[(LINE, true)]), &[back]).0, [false, true]);
    }

    #[test]
    fn a_pulse_that_the_kernel_read_too_late_is_two_edges() {
        let two: &[_] = &[(false, 2_000, 1), (false, 2_100, 2)];
        assert_eq!(feed(&mut tracker(&[(LINE, false)]), &[two]).0, [true, false]);
        let one: &[_] = &[(false, 2_000, 1)];
        assert_eq!(feed(&mut tracker(&[(LINE, false)]), &[one]).0, [true, false]);
        let gap: &[_] = &[(true, 2_000, 1)];
        assert_eq!(feed(&mut tracker(&[(LINE, true)]), &[gap]).0, [false, true]);
    }

    #[test]
    fn a_gap_in_the_numbers_is_a_loss_and_told_once() {
        let mut tracker = tracker(&[(LINE, false)]);
        assert!(feed(&mut tracker, &[&[(true, 2_000, 5)]]).1, "four are missing");
        assert!(!feed(&mut tracker, &[&[(false, 3_000, 6)]]).1, "the levels were read since");
        assert!(feed(&mut tracker, &[&[(true, 4_000, 8)]]).1);
    }

    #[test]
    fn events_in_another_order_are_no_loss() {
        let mut tracker = tracker(&[(LINE, false), (Line::Detector, false)]);
        let mut out = VecDeque::new();
        for (line, number) in [(LINE, 2), (Line::Detector, 1), (Line::Detector, 4), (LINE, 3)] {
            let active = number < 3;
            tracker.event(Event { line, active, at_ns: LATER_NS + u64::from(number), number }, &mut out);
        }
        assert!(!tracker.drained(&mut out));
        assert_eq!(out.len(), 4);
    }

    #[test]
    fn numbers_wrap() {
        let mut numbers = Numbers { highest: u32::MAX - 1, ..Numbers::default() };
        numbers.saw(u32::MAX);
        numbers.saw(0);
        numbers.saw(1);
        assert!(!numbers.lost());
        numbers.saw(4);
        assert!(numbers.lost());
    }

    #[test]
    fn lines_of_no_interest_are_ignored() {
        let mut tracker = tracker(&[(LINE, false)]);
        let mut out = VecDeque::new();
        tracker.event(Event { line: Line::Tamper, active: true, at_ns: 2_000, number: 1 }, &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn stamps_become_instants() {
        let anchor = Anchor::now();
        let stamp = monotonic_ns();
        let (before, after) = (anchor.instant(stamp), Instant::now());
        assert!(before >= anchor.instant && before <= after + Duration::from_millis(1));
        assert_eq!(anchor.instant - anchor.instant(anchor.monotonic_ns - 5_000), Duration::from_micros(5));
        let _ = anchor.instant(u64::MAX);
        let _ = anchor.instant(0);
    }

    /// A kernel with a bounded buffer that drops the oldest, and a reader that comes at random.
    fn kernel(steps: &[(usize, bool)], capacity: usize) -> (Tracker, VecDeque<Edge>, [bool; 2]) {
        let lines = [LINE, Line::FireAlarm];
        let mut tracker = tracker(&[(LINE, false), (Line::FireAlarm, false)]);
        let mut levels = [false; 2];
        let mut kept: VecDeque<Event> = VecDeque::new();
        let mut out = VecDeque::new();
        let steps = steps.iter().copied().chain(std::iter::once((0, true)));
        for (number, (line, reads)) in (1_u32..).zip(steps) {
            let at_ns = LATER_NS + 10 * u64::from(number);
            levels[line] = !levels[line];
            if kept.len() == capacity {
                kept.pop_front();
            }
            kept.push_back(Event { line: lines[line], active: levels[line], at_ns, number });
            if reads {
                for event in kept.drain(..) {
                    tracker.event(event, &mut out);
                }
                if tracker.drained(&mut out) {
                    let now = lines.into_iter().zip(levels);
                    tracker.read(now, at_ns + 5, &mut out);
                }
            }
        }
        (tracker, out, levels)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: proptest::test_runner::RngSeed::Fixed(3),
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_reader_ends_with_the_levels_of_the_lines(
            steps in prop::collection::vec((0_usize..2, prop::bool::weighted(0.2)), 0..200),
            capacity in 1_usize..20,
        ) {
            let (_, out, levels) = kernel(&steps, capacity);
            for (line, active) in [LINE, Line::FireAlarm].into_iter().zip(levels) {
                let last = out.iter().rev().find(|edge| edge.line == line).is_some_and(|edge| edge.active);
                prop_assert_eq!(last, active);
            }
        }

        #[test]
        fn any_events_end_with_the_level_seen_last(
            events in prop::collection::vec(
                (any::<bool>(), 0..2 * LATER_NS, any::<u32>(), any::<bool>()),
                1..50,
            ),
            start in any::<bool>(),
        ) {
            let mut tracker = tracker(&[(LINE, start)]);
            let mut out = VecDeque::new();
            let mut reported = start;
            for &(active, at_ns, number, drains) in &events {
                tracker.event(Event { line: LINE, active, at_ns, number }, &mut out);
                if drains {
                    tracker.drained(&mut out);
                }
            }
            tracker.drained(&mut out);
            for edge in &out {
                prop_assert_ne!(edge.active, reported, "edges alternate");
                reported = edge.active;
            }
            prop_assert_eq!(reported, events[events.len() - 1].0);
        }
    }
}
