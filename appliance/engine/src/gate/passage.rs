//! Passages and what is known of them: numbers, bounces, who came in late, who turned round, who followed
//! whom, and how many people the floor tracker saw cross.
//!
//! A passage is reported when its contact says so; its record follows when all that belongs to it must have
//! arrived.

use serde::{Deserialize, Serialize};

use super::{CROSSED_AFTER, CROSSED_BEFORE, LATE, PASSAGE_DEBOUNCE, QUICK, RECORD_AFTER, TAILGATE};
use crate::message::{Authority, Direction, Edges, GateFact, Incident, PassageRecord, Witness};
use crate::time::Instant;
use crate::units::{MemberHandle, TrackId};

/// Most records that wait for their rest; beyond it the oldest is told as it is.
const OPEN_MAX: usize = 32;
/// Most crossings that wait for their passage; beyond it the oldest is dropped.
const CROSSINGS_MAX: usize = 64;

/// The floor tracker saw somebody cross the lane's passage line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Crossing {
    /// When.
    pub at: Instant,
    /// Which way.
    pub direction: Direction,
    /// Who.
    pub track: TrackId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Passages {
    /// Newest rising edge of each contact, while it may still bounce.
    bouncing: [Option<Instant>; 2],
    numbered: u64,
    open: Vec<Open>,
    crossings: Vec<Crossing>,
    came_in: Option<CameIn>,
    let_in: Option<LetIn>,
    late: Option<Late>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Open {
    record: PassageRecord,
    closes: Instant,
}

/// The newest entry, while whoever made it may still be between the sensors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct CameIn {
    number: u64,
    authority: Authority,
    /// The detector has seen somebody ever since.
    seen_since: bool,
    quick_until: Instant,
}

/// Somebody was let in just now: who follows is a tailgater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct LetIn {
    member: Option<MemberHandle>,
    until: Instant,
}

/// What lapsed just now: the next passage, if nothing else happens before it, is its late one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Late {
    authority: Authority,
    /// None while somebody is still in the passage.
    until: Option<Instant>,
}

impl Passages {
    /// True for a rising edge that is a passage and no bounce.
    pub(super) fn rises(&mut self, now: Instant, direction: Direction) -> bool {
        let last = self.bouncing[direction as usize].replace(now);
        last.is_none_or(|last| now.since(last) >= PASSAGE_DEBOUNCE)
    }

    pub(super) fn falls(&mut self, now: Instant, direction: Direction) {
        let newest = self.open.iter_mut().rev().find(|open| open.record.direction == direction);
        if let Some(open) = newest {
            open.record.edges.passage_off.get_or_insert(now);
        }
    }

    /// Somebody comes between the wings, or is gone.
    pub(super) fn detector(&mut self, now: Instant, active: bool) {
        if let Some(came_in) = &mut self.came_in {
            came_in.seen_since = active && (came_in.seen_since || now < came_in.quick_until);
        }
        if let Some(late) = &mut self.late {
            late.until = match (active, late.until) {
                (true, Some(until)) if now >= until => late.until,
                (true, _) => None,
                (false, until) => until.or(Some(now.after(LATE))),
            };
        }
        if !active {
            for open in &mut self.open {
                if open.record.edges.detector_on.is_some() {
                    open.record.edges.detector_off.get_or_insert(now);
                }
            }
        }
    }

    /// A grant, order or free mode ended unused, with or without somebody in the passage.
    pub(super) fn lapsed(&mut self, now: Instant, authority: Authority, occupied: bool) {
        self.late = Some(Late { authority, until: (!occupied).then(|| now.after(LATE)) });
    }

    /// Something happened that makes the next passage somebody else's.
    pub(super) fn nobody_is_late(&mut self) {
        self.late = None;
    }

    /// What a late passage now would be entitled by.
    pub(super) fn late(&mut self, now: Instant) -> Option<Authority> {
        self.late.take().filter(|late| late.until.is_none_or(|until| now < until)).map(|late| late.authority)
    }

    /// The entry that an exit now undoes: whoever made it never left the sensors.
    pub(super) fn undone(&mut self, now: Instant) -> Option<(u64, Authority)> {
        let came_in = self.came_in.take()?;
        (came_in.seen_since || now < came_in.quick_until).then_some((came_in.number, came_in.authority))
    }

    /// What staff should know of an entry that nothing entitles.
    pub(super) fn unauthorised(&self, now: Instant, number: u64) -> Incident {
        match self.let_in {
            Some(LetIn { member, until }) if now < until => {
                Incident::Tailgating { passage: number, member, by: Witness::Sensors, people: 1 }
            }
            _ => Incident::Forced { passage: number },
        }
    }

    /// Takes a passage; its record follows.
    pub(super) fn take(
        &mut self,
        edges: Edges,
        direction: Direction,
        authority: Authority,
        late: bool,
        out: &mut Vec<GateFact>,
    ) -> u64 {
        let now = edges.passage_on;
        self.numbered += 1;
        let number = self.numbered;
        self.late = None;
        if direction == Direction::Entry {
            let seen_since = edges.detector_on.is_some() && edges.detector_off.is_none();
            let quick_until = now.after(QUICK);
            self.came_in = Some(CameIn { number, authority: authority.clone(), seen_since, quick_until });
            if matches!(authority, Authority::Grant(_) | Authority::Order { .. }) {
                self.let_in = Some(LetIn { member: member(&authority), until: now.after(TAILGATE) });
            }
        }
        let record =
            PassageRecord { number, direction, authority, late, edges, people: None, tracks: Vec::new() };
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.remove(0);
            self.close(oldest, out);
        }
        self.open.push(Open { record, closes: now.after(RECORD_AFTER) });
        number
    }

    pub(super) fn crossed(&mut self, crossing: Crossing) {
        // Who steps to and fro on the line has crossed it once.
        let known = self
            .crossings
            .iter()
            .any(|other| (other.track, other.direction) == (crossing.track, crossing.direction));
        if known {
            return;
        }
        if self.crossings.len() >= CROSSINGS_MAX {
            self.crossings.remove(0);
        }
        let place = self.crossings.partition_point(|other| other.at <= crossing.at);
        self.crossings.insert(place, crossing);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.first().map(|open| open.closes)
    }

    /// Closes the records that are due, and forgets what no longer matters.
    pub(super) fn advance(&mut self, now: Instant, out: &mut Vec<GateFact>) {
        while self.open.first().is_some_and(|open| now >= open.closes) {
            let due = self.open.remove(0);
            self.close(due, out);
        }
        self.crossings.retain(|crossing| now < crossing.at.after(RECORD_AFTER).after(CROSSED_BEFORE));
        for bouncing in &mut self.bouncing {
            *bouncing = bouncing.filter(|last| now.since(*last) < PASSAGE_DEBOUNCE);
        }
        self.came_in.take_if(|came_in| !came_in.seen_since && now >= came_in.quick_until);
        self.let_in.take_if(|let_in| now >= let_in.until);
        self.late.take_if(|late| late.until.is_some_and(|until| now >= until));
    }

    /// Crossings are matched to passages in their order, so that a sensor that lies before or behind the line
    /// shifts nothing; who is left over at the end of a row of passages had none.
    fn close(&mut self, open: Open, out: &mut Vec<GateFact>) {
        let mut record = open.record;
        let (at, direction) = (record.edges.passage_on, record.direction);
        let next = self.open.iter().find(|next| next.record.direction == direction);
        let end = match next.map(|next| next.record.edges.passage_on.before(CROSSED_BEFORE)) {
            Some(end) if end <= at.after(CROSSED_AFTER) => end,
            _ => at.after(CROSSED_AFTER),
        };
        let mut people: u8 = 0;
        self.crossings.retain(|crossing| {
            let first = people == 0 && crossing.at <= at.after(CROSSED_AFTER);
            let ours = crossing.direction == direction
                && crossing.at >= at.before(CROSSED_BEFORE)
                && (first || crossing.at <= end);
            if ours {
                people = people.saturating_add(1);
                record.tracks.push(crossing.track);
            }
            !ours
        });
        record.people = (people > 0).then_some(people);
        let entitled = matches!(record.authority, Authority::Grant(_) | Authority::Order { .. });
        if people > 1 && entitled && direction == Direction::Entry {
            let (passage, member) = (record.number, member(&record.authority));
            let incident = Incident::Tailgating { passage, member, by: Witness::Floor, people: people - 1 };
            out.push(GateFact::Incident { incident });
        }
        out.push(GateFact::Passage { passage: record });
    }

    /// As if every time were changed, and counted from zero.
    #[cfg(test)]
    pub(super) fn each_time(&mut self, change: &mut impl FnMut(&mut Instant)) {
        let Self { bouncing, numbered, open, crossings, came_in, let_in, late } = self;
        bouncing.iter_mut().flatten().for_each(&mut *change);
        for Open { record, closes } in open {
            record.number = 0;
            change(closes);
            change(&mut record.edges.passage_on);
            let Edges { detector_on, passage_on: _, passage_off, detector_off } = &mut record.edges;
            // Known edges are only passed on.
            for edge in [detector_on, passage_off, detector_off].into_iter().flatten() {
                *edge = Instant(0);
            }
        }
        crossings.iter_mut().for_each(|crossing| change(&mut crossing.at));
        if let Some(came_in) = came_in {
            came_in.number = 0;
            change(&mut came_in.quick_until);
        }
        let_in.iter_mut().for_each(|let_in| change(&mut let_in.until));
        late.iter_mut().filter_map(|late| late.until.as_mut()).for_each(&mut *change);
        *numbered = 0;
    }
}

fn member(authority: &Authority) -> Option<MemberHandle> {
    match authority {
        Authority::Grant(grant) => Some(grant.member),
        Authority::Free | Authority::Order { .. } | Authority::None => None,
    }
}
