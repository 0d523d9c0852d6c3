//! Levels at which plates rest, kept for the next start.

use std::collections::BTreeMap;

use engine::time::{Instant, Millis};
use engine::units::{Mass, PlateId};

use crate::lines::PlateReading;

/// A plate that stayed this long within [`SPREAD`] has no step on it that sensing has still to report.
const REST: Millis = Millis(30_000);

/// Half the width of rest, tenths of a gram: five times the worst usual noise of 1 g, below the lightest
/// goods.
const SPREAD: f64 = 50.0;

/// A level is worth a write when it moved by this much since it was kept, tenths of a gram.
const WORTH: i64 = 5;

/// Readings that the running mean looks back over.
const MEMORY: f64 = 100.0;

/// Follows every plate's readings.
#[derive(Debug, Default)]
pub(crate) struct Levels {
    plates: BTreeMap<PlateId, Rest>,
    kept: BTreeMap<PlateId, Mass>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    mean: f64,
    readings: f64,
    since: Instant,
}

impl Levels {
    pub(crate) fn read(&mut self, reading: &PlateReading) {
        let Some(mass) = reading.mass.filter(|_| reading.at_rest) else {
            self.plates.remove(&reading.plate);
            return;
        };
        let tenths = mass.0 as f64;
        let fresh = Rest { mean: tenths, readings: 1.0, since: reading.at };
        let rest = self.plates.entry(reading.plate).or_insert(fresh);
        if (tenths - rest.mean).abs() > SPREAD {
            *rest = fresh;
        } else {
            rest.readings = (rest.readings + 1.0).min(MEMORY);
            rest.mean += (tenths - rest.mean) / rest.readings;
        }
    }

    /// Levels at rest that differ from those kept.
    pub(crate) fn news(&self, now: Instant) -> Vec<(PlateId, Mass, Instant)> {
        self.plates
            .iter()
            .filter(|(_, rest)| now.since(rest.since) >= REST)
            .map(|(plate, rest)| (*plate, Mass(rest.mean.round() as i64)))
            .filter(|(plate, level)| {
                self.kept.get(plate).is_none_or(|kept| (kept.0 - level.0).abs() >= WORTH)
            })
            .map(|(plate, level)| (plate, level, now))
            .collect()
    }

    pub(crate) fn kept(&mut self, levels: &[(PlateId, Mass, Instant)]) {
        self.kept.extend(levels.iter().map(|(plate, level, _)| (*plate, *level)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATE: PlateId = PlateId { gondola: 1, shelf: 2, plate: 3 };

    fn read(levels: &mut Levels, seconds: std::ops::Range<u64>, tenths: i64) {
        for at in (seconds.start * 1000..seconds.end * 1000).step_by(100) {
            let at = Instant(at);
            levels.read(&PlateReading { plate: PLATE, at, mass: Some(Mass(tenths)), at_rest: true });
        }
    }

    #[test]
    fn a_level_is_news_after_it_has_rested_and_once() {
        let mut levels = Levels::default();
        read(&mut levels, 0..20, 1000);
        assert_eq!(levels.news(Instant(20_000)), vec![]);
        read(&mut levels, 20..31, 1003);
        let news = levels.news(Instant(31_000));
        assert!(matches!(news.as_slice(), [(PLATE, Mass(1000..=1003), Instant(31_000))]), "{news:?}");
        levels.kept(&news);
        assert_eq!(levels.news(Instant(32_000)), vec![]);
    }

    #[test]
    fn a_step_starts_the_rest_afresh() {
        let mut levels = Levels::default();
        read(&mut levels, 0..40, 1000);
        read(&mut levels, 40..41, 400);
        assert_eq!(levels.news(Instant(41_000)), vec![]);
        levels.read(&PlateReading { plate: PLATE, at: Instant(41_000), mass: None, at_rest: false });
        read(&mut levels, 42..60, 400);
        assert_eq!(levels.news(Instant(60_000)), vec![]);
    }
}
