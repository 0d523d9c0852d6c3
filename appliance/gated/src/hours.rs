//! Opening hours as the manifest gives them, in the store's own time zone.

use engine::time::{Instant, Millis};
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use runtime::manifest::OpeningHours;

/// Days looked ahead for the next change: a week and the day it is.
const DAYS_AHEAD: i64 = 8;

/// A week's hours.
#[derive(Clone, Debug)]
pub struct Hours {
    zone: TimeZone,
    /// From Monday to Sunday: from and until.
    days: [Vec<(Time, Until)>; 7],
}

/// When an interval ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    At(Time),
    Midnight,
}

/// What is wrong with opening hours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such zone in the system's time zone database.
    #[error("time zone {zone} is not known")]
    Zone {
        /// As written.
        zone: String,
        /// Why.
        #[source]
        source: jiff::Error,
    },
    /// Not two times of day.
    #[error("{day}: {text:?} is not like 07:00-23:00, with the end behind the start (24:00 is midnight)")]
    Interval {
        /// Which day.
        day: &'static str,
        /// As written.
        text: String,
    },
}

impl Hours {
    /// Reads them.
    ///
    /// # Errors
    /// Names the zone or the interval at fault.
    pub fn new(settings: &OpeningHours) -> Result<Self, Error> {
        let zone = TimeZone::get(&settings.zone)
            .map_err(|source| Error::Zone { zone: settings.zone.clone(), source })?;
        let days = settings.days();
        let mut out: [Vec<(Time, Until)>; 7] = Default::default();
        for (intervals, (day, texts)) in out.iter_mut().zip(days) {
            for text in texts {
                let bad = || Error::Interval { day, text: text.clone() };
                intervals.push(interval(text).ok_or_else(bad)?);
            }
        }
        Ok(Self { zone, days: out })
    }

    /// Whether the store is open at `now`, and when that next changes (`None`: not within a week).
    #[must_use]
    pub fn at(&self, now: Instant) -> (bool, Option<Instant>) {
        let open = self.open(now);
        let mut changes: Vec<Instant> = self.changes(now).filter(|at| *at > now).collect();
        changes.sort_unstable();
        (open, changes.into_iter().find(|at| self.open(*at) != open))
    }

    fn open(&self, now: Instant) -> bool {
        let Some(local) = self.local(now) else { return true };
        self.days[day_index(local.weekday())].iter().any(|(from, until)| {
            let time = local.time();
            *from <= time
                && match until {
                    Until::At(until) => time < *until,
                    Until::Midnight => true,
                }
        })
    }

    /// Every start and end of the days ahead.
    fn changes(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let today = self.local(now).map(|local| local.date());
        let dates = (0..=DAYS_AHEAD).filter_map(move |days| today?.checked_add(days.days()).ok());
        dates.flat_map(move |date| {
            let edges = self.days[day_index(date.weekday())].iter().flat_map(move |(from, until)| {
                let end = match until {
                    Until::At(until) => Some(date.to_datetime(*until)),
                    Until::Midnight => date.tomorrow().ok().map(|next| next.to_datetime(Time::midnight())),
                };
                [Some(date.to_datetime(*from)), end]
            });
            edges.flatten().filter_map(|at| at.to_zoned(self.zone.clone()).ok().map(|at| instant(&at)))
        })
    }

    fn local(&self, now: Instant) -> Option<Zoned> {
        let at = Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

fn day_index(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

fn instant(at: &Zoned) -> Instant {
    Instant::default().after(Millis(u64::try_from(at.timestamp().as_millisecond()).unwrap_or(0)))
}

fn interval(text: &str) -> Option<(Time, Until)> {
    let (from, until) = text.split_once('-')?;
    let from = time(from)?;
    if until.trim() == "24:00" {
        return Some((from, Until::Midnight));
    }
    let until = time(until)?;
    (from < until).then_some((from, Until::At(until)))
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let two = |digits: &str| if digits.len() == 2 { digits.parse().ok() } else { None };
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(mon: &[&str], tue: &[&str]) -> Hours {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let settings = OpeningHours {
            zone: "Asia/Seoul".to_owned(),
            mon: list(mon),
            tue: list(tue),
            ..OpeningHours::default()
        };
        Hours::new(&settings).expect("good hours")
    }

    /// Seoul, Monday 2026-11-23 and the days after it.
    fn seoul(day: u64, hour: u64, minute: u64) -> Instant {
        const MONDAY: u64 = 1_795_359_600_000;
        Instant(MONDAY + ((day * 24 + hour) * 60 + minute) * 60_000)
    }

    #[test]
    fn a_week() {
        let hours = hours(&["07:00-12:30", "13:30-24:00"], &["00:00-02:00"]);
        let table = [
            (seoul(0, 6, 59), false, Some(seoul(0, 7, 0))),
            (seoul(0, 7, 0), true, Some(seoul(0, 12, 30))),
            (seoul(0, 12, 30), false, Some(seoul(0, 13, 30))),
            // Open over midnight: one interval that two days name.
            (seoul(0, 23, 0), true, Some(seoul(1, 2, 0))),
            (seoul(1, 1, 0), true, Some(seoul(1, 2, 0))),
            (seoul(1, 2, 0), false, Some(seoul(7, 7, 0))),
        ];
        for (now, open, until) in table {
            assert_eq!(hours.at(now), (open, until), "{now:?}");
        }
    }

    #[test]
    fn no_hours_is_closed_and_nonsense_is_named() {
        assert_eq!(hours(&[], &[]).at(seoul(0, 12, 0)), (false, None));
        for text in ["7:00-12:00", "12:00-12:00", "13:00-12:00", "12:00", "25:00-26:00", "00:00-24:01"] {
            let settings = OpeningHours {
                zone: "Asia/Seoul".to_owned(),
                sun: vec![text.to_owned()],
                ..OpeningHours::default()
            };
            let refused = Hours::new(&settings).expect_err("refused").to_string();
            assert!(refused.contains("sun") && refused.contains(text), "{refused}");
        }
        let settings = OpeningHours { zone: "Asia/Atlantis".to_owned(), ..OpeningHours::default() };
        assert!(Hours::new(&settings).expect_err("refused").to_string().contains("Atlantis"));
    }
}
