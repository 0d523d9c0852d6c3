//! When a box may take an update, and when it may restart. Pure.

use std::time::Duration;

use engine::message::{GateStatus, GateView, Notice};
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

/// Share of all boxes, in 1/10000, that may take an update this many hours after its release.
const WAVES: [(u64, u32); 7] =
    [(0, 100), (12, 500), (24, 1500), (48, 4000), (72, 6000), (96, 9000), (144, 10_000)];
/// A lane is quiet when nobody has been served for this long.
pub const QUIET: Duration = Duration::from_secs(60);

/// Where a box stands among all, from 0 to 9999: another place for each release, so that not the same shops are first
/// every time.
#[must_use]
pub fn place_of(identity: &str, version: &str) -> u32 {
    let digest = Sha256::new().chain_update(identity).chain_update([0]).chain_update(version).finalize();
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    // Below 10,000 by the modulus.
    number % 10_000
}

/// Whether a box may take an update that was released at a time; both in seconds since 1970. A clock that is behind
/// the release has not been set: wait.
#[must_use]
pub fn is_its_turn(place: u32, released: u64, now: u64) -> bool {
    let Some(since) = now.checked_sub(released) else { return false };
    let share = WAVES.iter().rev().find(|(hours, _)| since >= hours * 3600).map_or(0, |(_, share)| *share);
    place < share
}

/// A daily window, as `02:00-05:00`; it may go over midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
    zone: TimeZone,
}

/// A window that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    /// No two times of a day.
    #[error("{0:?} is no window: two times of a day, as 02:00-05:00")]
    Times(String),
    /// No zone of the database.
    #[error("{0:?} is no time zone, as Asia/Seoul")]
    Zone(String),
}

impl Window {
    /// Reads a window and the name of its zone; UTC without one.
    ///
    /// # Errors
    /// When either is none.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, BadWindow> {
        let time = |text: &str| {
            let text = text.trim();
            let (hour, minute) = text.split_once(':')?;
            let plain =
                [hour, minute].iter().all(|it| it.len() == 2 && it.bytes().all(|b| b.is_ascii_digit()));
            let (hour, minute) =
                if plain { (hour.parse().ok()?, minute.parse().ok()?) } else { return None };
            // The end of a day is the start of the next.
            Time::new(if (hour, minute) == (24, 0) { 0 } else { hour }, minute, 0, 0).ok()
        };
        let bad = || BadWindow::Times(text.to_owned());
        let (from, to) = text.split_once('-').ok_or_else(bad)?;
        let (from, to) = time(from).zip(time(to)).ok_or_else(bad)?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| BadWindow::Zone(name.to_owned()))?,
        };
        Ok(Self { from, to, zone })
    }

    /// Whether a moment, in seconds since 1970, is in it.
    #[must_use]
    pub fn has(&self, now: u64) -> bool {
        let Some(now) = i64::try_from(now).ok().and_then(|now| Timestamp::from_second(now).ok()) else {
            return false;
        };
        let time = self.zone.to_datetime(now).time();
        if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }
}

/// Whether somebody is at a lane, or it must not go away for another reason.
#[must_use]
pub fn in_use(view: &GateView) -> bool {
    match (&view.status, &view.notice) {
        // Somebody stands in the way.
        (GateStatus::Blocked, _) => true,
        // A lane that is out of order serves nobody; a restart may mend it.
        (_, Notice::OutOfOrder) => false,
        // Also an evacuation is no time to restart.
        (_, notice) => !notice.at_rest(),
    }
}

/// What keeps a box from restarting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Nothing.
    Now,
    /// This, for people.
    Later(String),
}

/// What is known of the lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// Lanes at which somebody is.
    pub busy: Vec<String>,
    /// How long all have been quiet.
    pub quiet_for: Duration,
    /// Lanes of the role that have said nothing on the bus while the gate runs.
    pub silent: Vec<String>,
}

/// Whether the box may restart for an update.
#[must_use]
pub fn restart(lanes: &Lanes, window: Option<&Window>, now: u64, at_once: bool) -> Restart {
    if !lanes.busy.is_empty() {
        return Restart::Later(format!("somebody is at {}", lanes.busy.join(", ")));
    }
    if !lanes.silent.is_empty() {
        return Restart::Later(format!("nobody says whether {} is in use", lanes.silent.join(", ")));
    }
    if lanes.quiet_for < QUIET {
        return Restart::Later(format!("the lanes are quiet for {} s only", lanes.quiet_for.as_secs()));
    }
    match window {
        Some(window) if !at_once && !window.has(now) => Restart::Later("its hours have not come".to_owned()),
        Some(_) | None => Restart::Now,
    }
}

#[cfg(test)]
mod tests {
    use engine::message::DenyReason;
    use engine::time::Instant;
    use engine::units::LaneId;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waves_grow_and_end_with_everybody() {
        let boxes: Vec<u32> = (0..2000).map(|number| place_of(&format!("box-{number}"), "7")).collect();
        let share =
            |hours: u64| boxes.iter().filter(|place| is_its_turn(**place, 1000, 1000 + hours * 3600)).count();
        let shares: Vec<usize> = [0, 12, 24, 48, 72, 96, 144].map(share).into();
        for (found, want) in shares.iter().zip([20, 100, 300, 800, 1200, 1800, 2000]) {
            assert!(found.abs_diff(want) <= 60, "{found} boxes of 2000 where {want} are meant");
        }
        assert_eq!(shares[6], 2000);
        assert!(shares.is_sorted());
        assert!(!is_its_turn(0, 1000, 999), "the clock is behind the release");
        assert!(is_its_turn(0, 1000, 1000));
        let first = |version: &str| {
            (0..2000).filter(|it| place_of(&format!("box-{it}"), version) < 100).collect::<Vec<_>>()
        };
        assert_ne!(first("7"), first("8"), "the same boxes are not first every time");
    }

    #[test]
    fn windows() {
        // 1970-01-01 02:30 UTC is 11:30 in Seoul.
        let now = 2 * 3600 + 1800;
        for (text, zone, want) in [
            ("02:00-05:00", None, true),
            ("02:00-05:00", Some("Asia/Seoul"), false),
            ("11:30-11:31", Some("Asia/Seoul"), true),
            ("11:00-11:30", Some("Asia/Seoul"), false),
            ("22:00-03:00", None, true),
            ("22:00-02:30", None, false),
            ("00:00-24:00", None, true),
        ] {
            assert_eq!(Window::parse(text, zone).map(|window| window.has(now)), Ok(want), "{text} {zone:?}");
        }
        for text in ["", "02:00", "2:00-5:00", "02:00-25:00", "02:60-03:00", "a-b", "+2:00-05:00"] {
            assert_eq!(Window::parse(text, None), Err(BadWindow::Times(text.to_owned())));
        }
        assert_eq!(Window::parse("02:00-05:00", Some("Mars/1")), Err(BadWindow::Zone("Mars/1".to_owned())));
    }

    fn view(status: GateStatus, notice: Notice) -> GateView {
        GateView {
            lane: LaneId("entry-1".to_owned()),
            at: Instant(0),
            status,
            notice,
            modes: Default::default(),
            unlocks: 0,
            entries: 0,
            exits: 0,
            denials: 0,
            latency_us: Vec::new(),
        }
    }

    #[test]
    fn lanes_in_use() {
        use GateStatus::{Blocked, Closed, Malfunction, Open};
        for (status, notice, want) in [
            (Closed, Notice::Idle, false),
            (Open, Notice::Free, false),
            (Closed, Notice::StoreClosed { opens: None }, false),
            (Closed, Notice::ScanHere, true),
            (Open, Notice::Welcome { remaining: 1 }, true),
            (Closed, Notice::Refused { reason: DenyReason::Stale }, true),
            (Blocked, Notice::Idle, true),
            (Open, Notice::Evacuate, true),
            (Malfunction, Notice::OutOfOrder, false),
        ] {
            assert_eq!(in_use(&view(status, notice.clone())), want, "{status:?} {notice:?}");
        }
    }

    #[test]
    fn restarts() {
        let quiet = Lanes { quiet_for: QUIET, ..Lanes::default() };
        let busy = Lanes { busy: vec!["entry-1".to_owned()], ..quiet.clone() };
        let silent = Lanes { silent: vec!["exit-1".to_owned()], ..quiet.clone() };
        let restless = Lanes { quiet_for: QUIET - Duration::from_secs(1), ..Lanes::default() };
        let night = Window::parse("02:00-05:00", None).unwrap();
        let (by_night, by_day) = (3 * 3600, 12 * 3600);
        for (lanes, window, now, at_once, want) in [
            (&quiet, None, by_day, false, None),
            (&quiet, Some(&night), by_night, false, None),
            (&quiet, Some(&night), by_day, false, Some("hours")),
            (&quiet, Some(&night), by_day, true, None),
            (&busy, Some(&night), by_night, true, Some("somebody is at entry-1")),
            (&silent, None, by_night, true, Some("nobody says whether exit-1")),
            (&restless, None, by_night, true, Some("59 s")),
        ] {
            match (restart(lanes, window, now, at_once), want) {
                (Restart::Now, None) => {}
                (Restart::Later(why), Some(says)) => assert!(why.contains(says), "{why}"),
                (other, _) => panic!("{lanes:?}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_window(
            text in "\\PC{0,16}",
            near in "[0-9]{1,2}:[0-9]{1,2}-[0-9]{1,2}:[0-9]{1,2}",
            now in any::<u64>(),
        ) {
            for text in [text, near] {
                if let Ok(window) = Window::parse(&text, None) {
                    let _ = window.has(now);
                }
            }
        }
    }
}
