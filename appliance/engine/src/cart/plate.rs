//! One plate's readings become steps: a robust level, a noise estimate, and bursts of movement between
//! settled levels.

use std::collections::VecDeque;

use crate::time::{Instant, Millis};

/// A level counts as reached when this much time stays within the noise.
const PLATEAU: Millis = Millis(450);
/// A burst ends when its last level has held this long, so that a hand that rests for a moment is no event.
const SETTLE: Millis = Millis(1200);
/// A burst longer than this is valued as it stands: a broken plate must not hold up receipts.
const BURST_MAX: Millis = Millis(15_000);
/// Readings kept of a burst; at ten a second this is more than `BURST_MAX`.
const READINGS_MAX: usize = 400;
/// Readings in a row that agree to the tenth of a gram before a plate is called stuck: real plates have noise
/// of 0.5 g and more (field-notes/recognition.md section 2).
const STUCK_READINGS: u32 = 150;
/// A plate that did not answer for this long is faulty and no longer holds up the watermark.
const SILENT: Millis = Millis(3000);
/// Least and greatest noise believed, grams (measured: median 0.5-1.1, worst 5.4).
const NOISE: (f64, f64) = (0.3, 8.0);
/// Smallest change that is an event, grams.
const STEP_MIN: f64 = 2.0;
/// Smallest change against a level from before a restart that is an event, grams: plates drift.
const RESTART_STEP_MIN: f64 = 10.0;
/// Error of a settled level beyond its white noise, grams: vibration of the shelf is not white.
const LEVEL_ERROR: f64 = 0.5;

/// A change between two settled levels, grams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub delta: f64,
    pub sd: f64,
    pub from: Instant,
    pub to: Instant,
    pub level: f64,
}

#[derive(Debug)]
pub(super) struct Plate {
    /// Settled level, grams; `None` before the first.
    level: Option<f64>,
    /// Readings behind `level`, saturating.
    weight: f64,
    /// Standard deviation of one reading.
    noise: f64,
    /// The level comes from before a restart.
    restarted: bool,
    burst: Option<Burst>,
    /// Newest readings while quiet.
    recent: VecDeque<(Instant, f64)>,
    last: Option<Instant>,
    started: Option<Instant>,
    same: u32,
}

#[derive(Debug)]
struct Burst {
    from: Instant,
    readings: VecDeque<(Instant, f64)>,
    plateaus: Vec<Plateau>,
    /// The last of `plateaus` still holds.
    holds: bool,
}

#[derive(Clone, Copy, Debug)]
struct Plateau {
    from: Instant,
    to: Instant,
    mean: f64,
    readings: f64,
}

impl Plate {
    pub(super) fn new(baseline: Option<f64>) -> Self {
        Self {
            level: baseline,
            weight: 5.0,
            noise: 1.0,
            restarted: baseline.is_some(),
            burst: None,
            recent: VecDeque::new(),
            last: None,
            started: None,
            same: 0,
        }
    }

    /// One reading in grams; steps found are pushed to `out`. Readings that are not finite or not newer are
    /// dropped.
    pub(super) fn reading(&mut self, at: Instant, grams: f64, out: &mut Vec<Change>) {
        if !grams.is_finite() || self.last.is_some_and(|last| at <= last) {
            return;
        }
        self.started.get_or_insert(at);
        let same = self.recent.back().is_some_and(|(_, reading)| reading.to_bits() == grams.to_bits());
        self.same = if same { self.same.saturating_add(1) } else { 0 };
        let previous = self.last.replace(at).unwrap_or(at);
        self.recent.push_back((at, grams));
        while self.recent.len() > 5 {
            self.recent.pop_front();
        }
        match (&mut self.burst, self.level) {
            (None, Some(level)) => {
                if let Some(from) = self.moved(level, previous) {
                    let readings = self.recent.iter().copied().filter(|(t, _)| *t > from || *t == at);
                    self.burst = Some(Burst {
                        from,
                        readings: readings.collect(),
                        plateaus: Vec::new(),
                        holds: false,
                    });
                } else {
                    self.quiet(level, grams);
                }
            }
            (None, None) => {
                let readings = VecDeque::from([(at, grams)]);
                self.burst = Some(Burst { from: at, readings, plateaus: Vec::new(), holds: false });
            }
            (Some(burst), _) => {
                burst.reading(at, grams, self.noise);
                self.close(at, out);
            }
        }
    }

    /// Start of an open burst: evidence from then is still to come.
    pub(super) fn open_since(&self, now: Instant) -> Option<Instant> {
        if self.silent(now) || self.level.is_none() {
            return None;
        }
        self.burst.as_ref().map(|burst| burst.from)
    }

    /// No answer for long, or readings that do not move by their own noise.
    pub(super) fn faulty(&self, now: Instant) -> bool {
        self.silent(now) || self.same >= STUCK_READINGS
    }

    fn silent(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.since(last) > SILENT)
    }

    /// When the level began to change, if the newest readings say that it does.
    fn moved(&self, level: f64, previous: Instant) -> Option<Instant> {
        let (_, newest) = *self.recent.back()?;
        if (newest - level).abs() > (4.0 * self.noise).max(3.0) {
            return Some(previous);
        }
        // A light item: five readings in a row that agree on another level.
        if self.recent.len() < 5 {
            return None;
        }
        let mean = self.recent.iter().map(|(_, grams)| grams).sum::<f64>() / 5.0;
        let bound = (4.0 * self.noise / 5.0_f64.sqrt()).max(STEP_MIN * 0.9);
        ((mean - level).abs() > bound).then(|| self.recent[0].0)
    }

    /// Follows drift and noise while nothing moves.
    fn quiet(&mut self, level: f64, grams: f64) {
        self.weight = (self.weight + 1.0).min(40.0);
        let off = grams - level;
        self.level = Some(level + off / self.weight);
        let capped = off.abs().min(3.0 * self.noise);
        let variance = self.noise * self.noise * 0.98 + capped * capped * 0.02;
        // Capping at three sigmas takes 3 % off a Gaussian's variance; the noise may also only grow when seen
        // large.
        self.noise = (variance * 1.0006).sqrt().clamp(NOISE.0, NOISE.1);
    }

    fn close(&mut self, at: Instant, out: &mut Vec<Change>) {
        let Some(burst) = &self.burst else { return };
        let settled =
            burst.holds && burst.plateaus.last().is_some_and(|plateau| at.since(plateau.from) >= SETTLE);
        let overdue = at.since(burst.from) >= BURST_MAX;
        if !settled && !overdue {
            return;
        }
        let mut plateaus = burst.plateaus.clone();
        let mut error = LEVEL_ERROR;
        if !settled {
            let tail: Vec<f64> = burst.readings.iter().rev().take(10).map(|(_, grams)| *grams).collect();
            let (mean, sd) = mean_sd(&tail);
            error += sd;
            self.noise = self.noise.max(sd.min(NOISE.1));
            plateaus.push(Plateau { from: at, to: at, mean, readings: tail.len() as f64 });
        }
        let Some(last) = plateaus.last().copied() else { return };
        let from = burst.from;
        self.burst = None;
        self.recent.clear();
        let Some(before) = self.level.replace(last.mean) else {
            self.weight = last.readings;
            return;
        };
        let least = if self.restarted { RESTART_STEP_MIN } else { STEP_MIN };
        self.restarted = false;
        let noise = self.noise;
        let sd = |n: f64, m: f64| (noise * noise * (1.0 / n + 1.0 / m) + error * error).sqrt();
        let total_sd = sd(self.weight.max(1.0), last.readings);
        if (last.mean - before).abs() <= least.max(3.0 * total_sd) {
            // Back where it was: a hand rested, or the shelf was bumped.
            self.weight = last.readings;
            return;
        }
        let (mut level, mut readings, mut since) = (before, self.weight.max(1.0), from);
        for (index, plateau) in plateaus.iter().enumerate() {
            let sd = sd(readings, plateau.readings);
            let delta = plateau.mean - level;
            // A level that the next one undoes is a resting hand too.
            let undone = plateaus.get(index + 1..).is_some_and(|later| {
                later.iter().any(|next| (next.mean - level).abs() < least.max(3.0 * sd))
            });
            if delta.abs() <= least.max(3.0 * sd) || undone {
                continue;
            }
            out.push(Change { delta, sd, from: since, to: plateau.from, level: plateau.mean });
            (level, readings, since) = (plateau.mean, plateau.readings, plateau.to);
        }
        self.weight = last.readings;
    }
}

impl Burst {
    fn reading(&mut self, at: Instant, grams: f64, noise: f64) {
        self.readings.push_back((at, grams));
        if self.readings.len() > READINGS_MAX {
            self.readings.pop_front();
        }
        if self.holds
            && let Some(plateau) = self.plateaus.last_mut()
        {
            if (grams - plateau.mean).abs() <= (4.0 * noise).max(3.0) {
                plateau.to = at;
                plateau.readings += 1.0;
                plateau.mean += (grams - plateau.mean) / plateau.readings;
            } else {
                self.holds = false;
            }
        }
        if self.holds && self.drifted(noise) {
            // The level creeps: it was no level yet.
            self.plateaus.pop();
            self.holds = false;
        }
        if self.holds {
            return;
        }
        let start = at.before(PLATEAU);
        let after = self.plateaus.last().map(|plateau| plateau.to);
        let window: Vec<(Instant, f64)> = self
            .readings
            .iter()
            .rev()
            .take_while(|(t, _)| *t >= start && after.is_none_or(|after| *t > after))
            .copied()
            .collect();
        let span = window.last().map_or(Millis(0), |(t, _)| at.since(*t));
        if window.len() < 4 || span.0 + 110 < PLATEAU.0 {
            return;
        }
        let values: Vec<f64> = window.iter().rev().map(|(_, grams)| *grams).collect();
        let (mean, sd) = mean_sd(&values);
        let half = values.len() / 2;
        let slope = mean_sd(&values[half..]).0 - mean_sd(&values[..half]).0;
        if sd > (2.0 * noise).max(1.2) || slope.abs() > (2.5 * noise).max(1.5) {
            return;
        }
        let from = window.last().map_or(at, |(t, _)| *t);
        let plateau = Plateau { from, to: at, mean, readings: values.len() as f64 };
        match self.plateaus.last_mut() {
            // A blip in a level does not end it.
            Some(last) if (last.mean - mean).abs() <= (2.0 * noise).max(STEP_MIN) => {
                let total = last.readings + plateau.readings;
                last.mean = (last.mean * last.readings + mean * plateau.readings) / total;
                last.readings = total;
                last.to = at;
                last.from = from;
            }
            _ => self.plateaus.push(plateau),
        }
        self.holds = true;
    }

    /// The newest readings have left the held level by more than their noise allows.
    fn drifted(&self, noise: f64) -> bool {
        let Some(plateau) = self.plateaus.last() else { return false };
        if self.readings.len() < 5 || plateau.readings < 6.0 {
            return false;
        }
        let mean = self.readings.iter().rev().take(5).map(|(_, grams)| grams).sum::<f64>() / 5.0;
        (mean - plateau.mean).abs() > (4.0 * noise / 5.0_f64.sqrt()).max(STEP_MIN)
    }
}

fn mean_sd(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic noise with about unit standard deviation.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            let sum: f64 = (0..12)
                .map(|_| {
                    self.0 = self
                        .0
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (self.0 >> 11) as f64 / (1_u64 << 53) as f64
                })
                .sum();
            sum - 6.0
        }
    }

    /// Feeds (seconds, grams) levels, held until the next, at 10 Hz with noise; returns the changes.
    fn run(levels: &[(f64, f64)], sd: f64, seed: u64, until: f64) -> Vec<Change> {
        let mut noise = Noise(seed);
        let mut plate = Plate::new(None);
        let mut out = Vec::new();
        for tick in 0..(until * 10.0) as u64 {
            let t = tick as f64 / 10.0;
            let level = levels.iter().rev().find(|(from, _)| t >= *from).map_or(0.0, |(_, grams)| *grams);
            let reading = ((level + sd * noise.next()) * 10.0).round() / 10.0;
            plate.reading(Instant(1_000_000 + tick * 100), reading, &mut out);
        }
        out
    }

    fn deltas(changes: &[Change]) -> Vec<i64> {
        changes.iter().map(|change| change.delta.round() as i64).collect()
    }

    #[test]
    fn table() {
        type Case = (&'static str, &'static [(f64, f64)], &'static [i64], f64);
        let cases: &[Case] = &[
            ("nothing", &[(0.0, 1000.0)], &[], 0.0),
            ("one pick", &[(0.0, 1000.0), (10.0, 700.0)], &[-300], 3.0),
            ("a hand rests", &[(0.0, 1000.0), (10.0, 1400.0), (11.0, 1000.0)], &[], 0.0),
            ("a bump", &[(0.0, 1000.0), (10.0, 1100.0), (10.1, 950.0), (10.2, 1000.0)], &[], 0.0),
            ("hand, then pick", &[(0.0, 1000.0), (10.0, 1200.0), (10.2, 600.0)], &[-400], 3.0),
            ("two picks in a row", &[(0.0, 1000.0), (10.0, 700.0), (11.0, 400.0)], &[-300, -300], 3.0),
            ("pick and put back later", &[(0.0, 900.0), (9.0, 650.0), (14.0, 900.0)], &[-250, 250], 3.0),
            ("a rest between two levels", &[(0.0, 900.0), (9.0, 950.0), (9.8, 700.0)], &[50, -250], 3.0),
        ];
        for (name, levels, expect, tolerance) in cases {
            for seed in 0..20 {
                let changes = run(levels, 0.9, seed, 20.0);
                let got = deltas(&changes);
                assert_eq!(got.len(), expect.len(), "{name}, seed {seed}: {got:?}");
                for (got, expect) in got.iter().zip(*expect) {
                    assert!(
                        (*got - *expect).abs() as f64 <= *tolerance,
                        "{name}, seed {seed}: {got} {expect}"
                    );
                }
            }
        }
    }

    #[test]
    fn light_item_on_a_quiet_plate() {
        for seed in 0..20 {
            let got = deltas(&run(&[(0.0, 800.0), (10.0, 794.0)], 0.5, seed, 20.0));
            assert_eq!(got.len(), 1, "seed {seed}: {got:?}");
            assert!((got[0] + 6).abs() <= 1, "seed {seed}: {got:?}");
        }
    }

    #[test]
    fn noisy_plate_is_silent_for_ten_minutes() {
        for (sd, seed) in [(0.5, 1), (1.1, 2), (2.9, 3), (5.4, 4)] {
            let got = run(&[(0.0, 3000.0)], sd, seed, 600.0);
            assert!(got.is_empty(), "sd {sd}: {got:?}");
        }
    }

    #[test]
    fn drift_is_no_event() {
        let levels: Vec<(f64, f64)> =
            (0..600).map(|s| (f64::from(s), 2000.0 + f64::from(s) * 0.05)).collect();
        assert!(run(&levels, 0.8, 5, 600.0).is_empty());
    }

    #[test]
    fn times_bracket_the_change() {
        let change = run(&[(0.0, 1000.0), (10.0, 700.0)], 0.9, 3, 20.0)[0];
        assert!(change.from.0.abs_diff(1_010_000) <= 150, "{change:?}");
        assert!(change.to.0.abs_diff(1_010_000) <= 400, "{change:?}");
        assert!(change.sd < 2.0);
    }

    #[test]
    fn missing_readings_and_nonsense_do_not_hurt() {
        let mut plate = Plate::new(Some(500.0));
        let mut out = Vec::new();
        for tick in 0..400_u64 {
            let at = Instant(tick * 100);
            match tick {
                100..150 => plate.reading(at, f64::NAN, &mut out),
                200..240 => {}
                _ => {
                    let wobble = if tick % 2 == 0 { 0.5 } else { -0.4 };
                    plate.reading(at, if tick < 220 { 500.0 } else { 350.0 } + wobble, &mut out);
                }
            }
        }
        assert_eq!(deltas(&out), [-150]);
        assert_eq!(out[0].from, Instant(19_900));
    }

    #[test]
    fn restart_compares_with_the_ledger() {
        for (baseline, expect) in [(500.0, 0), (506.0, 0), (800.0, 1)] {
            let mut plate = Plate::new(Some(baseline));
            let mut out = Vec::new();
            for tick in 0..60_u64 {
                let wobble = if tick % 2 == 0 { 0.5 } else { -0.4 };
                plate.reading(Instant(tick * 100), 500.0 + wobble, &mut out);
            }
            assert_eq!(out.len(), expect, "baseline {baseline}: {out:?}");
        }
    }

    #[test]
    fn stuck_and_silent_plates_are_faulty() {
        let mut plate = Plate::new(Some(500.0));
        let mut out = Vec::new();
        for tick in 0..200_u64 {
            plate.reading(Instant(tick * 100), 500.0, &mut out);
        }
        assert!(plate.faulty(Instant(20_000)));
        let plate = Plate::new(None);
        assert!(plate.faulty(Instant(5_000)));
    }
}
