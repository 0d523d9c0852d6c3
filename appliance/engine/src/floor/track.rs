//! The life of a track: candidate, followed, unseen, gone; and the rules of the place that decide between
//! them.

use std::collections::BTreeMap;

use nalgebra::Vector2;

use super::camera::CameraModel;
use super::filter::{Expectation, Filter, HEAD_PRIOR, HEAD_RANGE};
use super::hands::HandRay;
use super::{FRESH, GATE, SD_MIN, Seen, Sighting};
use crate::store::{Gondola, Lane, StoreMap};
use crate::time::{Instant, Millis};
use crate::units::{CameraId, TrackId};

/// Unseen for longer, a person is taken to slow down.
const COASTS_AFTER: Millis = Millis(400);
/// A candidate unseen for longer was a false alarm.
const CANDIDATE_PATIENCE: Millis = Millis(600);
/// Detections that happen to agree for a moment are no person yet.
const CANDIDATE_AGE: Millis = Millis(150);
/// Shoppers do not run faster, m/s; a candidate that does mixes two people's detections.
const SPEED_MAX: f64 = 2.5;
/// Explanations of a newcomer that are this much less likely (in log likelihood) are still kept in mind.
const DOUBT: f64 = 4.0;
/// Least share of the frames that should show a person in which the detector finds them. It finds more than
/// two in three of real heads, hidden ones included; false alarms rarely come again in half of the frames.
const HIT_RATE: f64 = 0.45;
/// Weight of the newest chance in a track's rate of hits.
const RATE_GAIN: f64 = 0.05;
/// Corrections after which a track may be found again when it is lost.
const FOLLOWED: u32 = 20;
/// Corrections after which a track is a person beyond doubt, and waits for ever when unseen.
const ESTABLISHED: u32 = 60;
/// Nobody is found for the first time with the head lower than this, metres; who is followed may bow deeper.
const HEAD_BIRTH: f64 = 1.2;
/// Nor in the lane, where children come in.
const HEAD_BIRTH_LANE: f64 = 0.95;
/// Heads lean over the edge of a shelf unit that is lower than they are by no more than this, metres.
const LEAN: f64 = 0.2;
/// Where somebody new is the likeliest, less doubt is kept: most who come in are new.
const DOUBT_NEW: f64 = 1.0;
/// Half the width of a lane's zone, metres: the passage line and those who queue beside it.
const LANE_REACH: f64 = 1.5;
/// Who moves faster than this walks, m/s.
const WALKS: f64 = 0.35;
/// People do not stand closer than this, head to head, metres: a second track there is the same person.
const BODY: f64 = 0.3;
/// Within this distance of a followed person a newcomer must be seen beside them in the same frames.
const CROWD: f64 = 0.8;

/// One person's filter and what is known about them.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub filter: Filter,
    pub stature: Stature,
    pub born: Instant,
    pub seen: Instant,
    /// Where they were when last seen.
    pub seen_at: Vector2<f64>,
    /// Corrections, and frames of cameras that should have seen this person while they were followed.
    pub hits: u32,
    pub chances: u32,
    /// Share of the last twenty or so of those chances that were hits.
    pub rate: f64,
    /// Since when another track has been where this one is.
    pub overlaps: Option<Instant>,
    /// Near another person, whose height the detections may belong to; set by the tangles.
    pub crowded: bool,
    pub rays: Vec<HandRay>,
    by: BTreeMap<CameraId, Instant>,
}

/// Head height when standing, learnt slowly and from above, since people bow but do not grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stature {
    pub mean: f64,
    /// Corrections that went in.
    pub count: u32,
}

/// A track that may still be a false alarm.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub track: Track,
    birthplace: [f64; 2],
    /// Frames in which a followed person close by was seen as well.
    beside: u32,
    /// Frames in which no other living camera covered the place.
    alone: u32,
    /// Corrections of each track when this candidate began.
    before: BTreeMap<TrackId, u32>,
}

/// What to do with a candidate.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ruling {
    /// Not enough is known.
    Wait,
    /// A false alarm.
    Drop,
    /// Somebody new, or, less likely, one of those who wait to be seen again.
    New { perhaps: Vec<TrackId> },
    /// A track that was waiting to be seen again, and others nearly as likely.
    Again { track: TrackId, perhaps: Vec<TrackId> },
}

/// Where people can be, come and go.
#[derive(Clone, Debug)]
pub(super) struct Place {
    bounds: [f64; 4],
    gondolas: Vec<Gondola>,
    lanes: Vec<Lane>,
}

impl Stature {
    pub const UNKNOWN: Self = Self { mean: HEAD_PRIOR, count: 0 };

    pub fn learn(&mut self, height: f64) {
        self.count = self.count.saturating_add(1);
        // A mean at first, later a window of a hundred frames (a few seconds of several cameras).
        let gain = 1.0 / f64::from(self.count.min(100));
        let above = if height > self.mean { 1.5 } else { 0.5 };
        let gain = if self.count < 10 { gain } else { gain * above };
        self.mean += gain * (height - self.mean);
    }
}

impl Track {
    pub fn born(model: &CameraModel, seen: &Seen, sighting: &Sighting) -> Option<Self> {
        let filter = Filter::born(model, seen.head, seen.head_sd.max(SD_MIN), sighting.at)?;
        let mut track = Self {
            seen_at: filter.position(),
            filter,
            stature: Stature::UNKNOWN,
            born: sighting.at,
            seen: sighting.at,
            hits: 1,
            chances: 1,
            rate: 1.0,
            overlaps: None,
            crowded: false,
            rays: Vec::new(),
            by: BTreeMap::from([(sighting.camera, sighting.at)]),
        };
        track.correct_foot(model, sighting, seen);
        Some(track)
    }

    pub fn predict(&mut self, to: Instant) {
        let coasting = to.since(self.seen) > COASTS_AFTER;
        self.filter.predict(to, self.stature.mean, coasting);
    }

    /// The filter at `now`, which may lie a little before or after the newest frame.
    pub fn at(&self, now: Instant) -> Filter {
        let mut filter = self.filter.clone();
        let back = self.filter.at.since(now).as_seconds();
        if back > 0.0 {
            filter.mean[0] -= back * filter.mean[2];
            filter.mean[1] -= back * filter.mean[3];
            filter.at = now;
        } else {
            filter.predict(now, self.stature.mean, now.since(self.seen) > COASTS_AFTER);
        }
        filter
    }

    pub fn correct(
        &mut self,
        model: &CameraModel,
        sighting: &Sighting,
        seen: &Seen,
        head: &Expectation,
        place: &Place,
    ) {
        self.filter.update(head, seen.head, seen.head_sd.max(SD_MIN));
        self.correct_foot(model, sighting, seen);
        if place.is_no_person(self) {
            // Not a person, whoever's track it has caught; unseen, the track is free to be found elsewhere.
            return;
        }
        self.hits = self.hits.saturating_add(1);
        self.rate += RATE_GAIN;
        self.seen = self.seen.max(sighting.at);
        self.seen_at = self.filter.position();
        self.by.insert(sighting.camera, sighting.at);
        // A height that is still coupled to the place along one camera's ray says little.
        if self.is_upright() && self.filter.covariance[(4, 4)] < 0.01 {
            self.stature.learn(self.filter.mean[4]);
        }
        self.rays.retain(|ray| ray.camera != sighting.camera);
        self.rays.extend(seen.hands.iter().take(2).filter_map(|hand| HandRay::new(model, sighting, *hand)));
    }

    fn correct_foot(&mut self, model: &CameraModel, sighting: &Sighting, seen: &Seen) {
        let Some(foot) = seen.foot else { return };
        let sd = seen.foot_sd.max(SD_MIN);
        let Some(expectation) = self.filter.expect_foot(model, sighting.at) else { return };
        if expectation.distance(foot, sd).is_some_and(|(distance, _)| distance <= GATE) {
            self.filter.update(&expectation, foot, sd);
        }
    }

    /// Notes that a camera should see this person in the frame at hand; [`Self::correct`] follows when it
    /// does.
    pub fn expect(&mut self) {
        self.chances = self.chances.saturating_add(1);
        self.rate -= RATE_GAIN * self.rate;
    }

    /// Whether the head is as high as this person is tall: who walks does not bow, and nobody else is near
    /// enough to lend their height.
    pub fn is_upright(&self) -> bool {
        !self.crowded && self.filter.velocity().norm() > WALKS
    }

    /// From now on this track waits to be found again: what it followed was somebody else.
    pub fn lose(&mut self, now: Instant) {
        self.seen = self.seen.min(now.before(Millis(FRESH.0 + 1)));
        self.overlaps = None;
        self.rays.clear();
    }

    /// Whether this is a person beyond doubt.
    fn is_established(&self) -> bool {
        self.hits >= ESTABLISHED && f64::from(self.hits) >= HIT_RATE * f64::from(self.chances)
    }

    /// When that camera last saw this person.
    pub fn seen_by(&self, camera: CameraId) -> Option<Instant> {
        self.by.get(&camera).copied()
    }

    /// This person has been found again as `other`.
    pub fn resume(&mut self, other: Self) {
        let Self { filter, seen, seen_at, hits, chances, rate, rays, by, .. } = other;
        self.hits = self.hits.saturating_add(hits);
        self.chances = self.chances.saturating_add(chances);
        (self.filter, self.seen, self.seen_at, self.rate) = (filter, seen, seen_at, rate);
        (self.rays, self.by, self.overlaps) = (rays, by, None);
    }
}

impl Candidate {
    pub fn new(track: Track, coverage: usize, tracks: &BTreeMap<TrackId, Track>) -> Self {
        let before = tracks.iter().map(|(id, track)| (*id, track.hits)).collect();
        let birthplace = track.filter.position().into();
        Self { track, birthplace, beside: 0, alone: u32::from(coverage <= 1), before }
    }

    /// Whether this candidate may be a track's person: the track has hardly been seen since the candidate
    /// began (a few false alarms in its wide gate do not count), or it was lost where the candidate began, as
    /// when a detector sees two heads on one who bends down.
    fn may_be(&self, id: TrackId, track: &Track, now: Instant) -> bool {
        let before = self.before.get(&id).copied().unwrap_or(0);
        let lost_here = now.since(track.seen) > Millis(1000)
            && (track.seen_at - Vector2::from(self.birthplace)).norm() < CROWD;
        lost_here || 4 * track.hits.saturating_sub(before) <= self.track.hits
    }

    /// Notes the circumstances of a frame that saw the candidate.
    pub fn count(&mut self, coverage: usize, tracks: &BTreeMap<TrackId, Track>, sighting: &Sighting) {
        self.alone += u32::from(coverage <= 1);
        let beside = tracks.values().any(|track| {
            track.seen_by(sighting.camera) == Some(sighting.at)
                && (track.filter.position() - self.track.filter.position()).norm() < CROWD
        });
        self.beside += u32::from(beside);
    }
}

impl Place {
    pub fn new(map: &StoreMap) -> Self {
        Self { bounds: map.bounds, gondolas: map.gondolas.clone(), lanes: map.lanes.clone() }
    }

    /// Whether a person may be here: on the floor, or at a lane.
    pub fn may_hold(&self, position: [f64; 2]) -> bool {
        self.outside(position) < 0.1 || self.lanes.iter().any(|lane| lane.distance(position) < 2.0)
    }

    /// What a candidate is.
    pub fn rule(&self, candidate: &Candidate, tracks: &BTreeMap<TrackId, Track>, now: Instant) -> Ruling {
        let track = &candidate.track;
        let position: [f64; 2] = track.filter.position().into();
        if now.since(track.seen) > CANDIDATE_PATIENCE || !self.may_hold(position) {
            return Ruling::Drop;
        }
        let crosswise = track.by.len() >= 2;
        if track.hits < 4 || !(crosswise || candidate.alone >= 5 || track.hits >= 25) {
            return Ruling::Wait;
        }
        let height = track.filter.mean[4];
        let lane = self
            .lanes
            .iter()
            .filter(|lane| lane.entry)
            .map(|lane| lane.distance(candidate.birthplace))
            .fold(f64::INFINITY, f64::min);
        let lowest = if lane <= LANE_REACH { HEAD_BIRTH_LANE } else { HEAD_BIRTH };
        let plausible =
            !self.is_no_person(track) && height > lowest && track.filter.velocity().norm() < SPEED_MAX;
        let believed = f64::from(track.hits) >= HIT_RATE * f64::from(track.chances);
        if !plausible || !believed || now.since(track.born) < CANDIDATE_AGE {
            return Ruling::Wait;
        }
        let near = tracks
            .values()
            .filter(|other| now.since(other.seen) <= COASTS_AFTER)
            .map(|other| (other.filter.position() - track.filter.position()).norm())
            .fold(f64::INFINITY, f64::min);
        // Detectors fire twice on one person (a shoulder, a pack in the hand), in several cameras alike, for
        // as long as the pose lasts: who appears beside somebody is believed only where people come in, or
        // when they part.
        let (beside, hits) = if lane <= LANE_REACH { (3, 8) } else { (5, 10) };
        if near < BODY || (near < CROWD && (candidate.beside < beside || track.hits < hits)) {
            return Ruling::Wait;
        }
        // Costs are minus log likelihoods. Somebody new and unseen in the lane is the less likely the farther
        // away they appear.
        let new = 1.5 + 4.0 * (lane - 1.0).clamp(0.0, 2.0);
        let mut again: Vec<(f64, TrackId)> = tracks
            .iter()
            // Who comes from the street is nobody who waits inside.
            .filter(|_| !self.is_beyond_a_lane(candidate.birthplace.into()))
            .filter(|(id, waiting)| candidate.may_be(**id, waiting, now))
            .filter_map(|(id, waiting)| Some((self.cost_of_being(track, waiting)?, *id)))
            .collect();
        again.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let among = |cost: f64, skip: usize| -> Vec<TrackId> {
            again.iter().skip(skip).filter(|other| other.0 < cost + DOUBT).map(|other| other.1).collect()
        };
        match again.first() {
            Some(&(cost, id)) if cost < new => {
                let mut perhaps = among(cost, 1);
                // Too tall or too small for whom they must be: then somebody close by has taken over that
                // track.
                if tracks.get(&id).is_some_and(|waiting| misfit(track, waiting).abs() > 2.0) {
                    let close = |other: &Track| {
                        (other.filter.position() - track.filter.position()).norm() < 2.0
                            && now.since(other.seen) <= FRESH
                    };
                    perhaps.extend(tracks.iter().filter(|(_, other)| close(other)).map(|(id, _)| *id));
                }
                Ruling::Again { track: id, perhaps }
            }
            // Nobody is missing and no lane is near: the tracker may have started with people inside. Those
            // walk; what a detector takes for a head by mistake stands, or stays with its owner.
            _ if lane > LANE_REACH
                && (track.hits < 20
                    || now.since(track.born) < Millis(1500)
                    || near < 1.2
                    || (track.filter.position() - Vector2::from(candidate.birthplace)).norm() < 0.6) =>
            {
                Ruling::Wait
            }
            _ => Ruling::New { perhaps: among(new - DOUBT + DOUBT_NEW, 0) },
        }
    }

    /// Minus log likelihood that `found` is the `waiting` person; `None` where nobody could have walked that
    /// far.
    fn cost_of_being(&self, found: &Track, waiting: &Track) -> Option<f64> {
        if self.is_beyond_a_lane(waiting.seen_at) || waiting.hits < FOLLOWED {
            return None;
        }
        let gap = found.seen.since(waiting.seen).as_seconds();
        let way = (found.filter.position() - waiting.seen_at).norm();
        if way > 0.7 + 1.8 * gap {
            return None;
        }
        let reach = (0.4 + 0.7 * gap).min(4.0);
        let tall = (found.filter.mean[4] - waiting.stature.mean)
            / if waiting.stature.count > 10 { 0.08 } else { 0.25 };
        Some(0.5 * (way / reach).powi(2) + 0.5 * tall * tall + (reach / 0.4).ln())
    }

    /// Whether a track's person is no longer in the store, as far as one can know; `watched`: living cameras
    /// cover where they were seen last.
    pub fn has_left(&self, track: &Track, watched: bool, now: Instant) -> bool {
        let unseen = now.since(track.seen);
        let last: [f64; 2] = track.seen_at.into();
        if unseen <= COASTS_AFTER {
            return self.outside(last) > 2.5;
        }
        if self.is_beyond_a_lane(track.seen_at) {
            return true;
        }
        let exit = self
            .lanes
            .iter()
            .filter(|lane| lane.exit)
            .min_by(|a, b| a.distance(last).total_cmp(&b.distance(last)));
        let leaving = exit.is_some_and(|lane| {
            let outward = -Vector2::from(lane.inward).dot(&track.filter.velocity());
            let distance = lane.distance(last);
            (distance < 0.8 && outward > 0.0 && unseen > Millis(2000))
                || (distance < LANE_REACH && unseen > Millis(8000))
                || (distance < 2.5 && unseen > Millis(30_000))
        });
        // Seen too little to be worth waiting for, or waited for too long: where cameras look, nobody stays
        // hidden for minutes, and it was a ghost, or somebody who left unseen.
        let patience = if watched { Millis::from_seconds(180) } else { Millis::from_seconds(1800) };
        leaving || (!track.is_established() && unseen > Millis(3000)) || unseen > patience
    }

    /// Whether a track stands where a shelf unit does, or its head is where no head is: something in the room
    /// looks like one.
    pub fn is_no_person(&self, track: &Track) -> bool {
        let [x, y, height] = [0, 1, 4].map(|axis| track.filter.mean[axis]);
        if !(HEAD_RANGE[0] + 0.05..HEAD_RANGE[1] - 0.1).contains(&height) {
            return true;
        }
        self.gondolas.iter().any(|gondola| {
            let lean = if gondola.height < height - 0.1 { LEAN } else { 0.0 };
            let [left, near, right, far] = gondola.footprint;
            left + lean < x && x < right - lean && near + lean < y && y < far - lean
        })
    }

    /// Nobody walks through a wall: a track that coasts into one stops there.
    pub fn keep_inside(&self, track: &mut Track) {
        let position: [f64; 2] = track.filter.position().into();
        if self.may_hold(position) {
            return;
        }
        let [left, near, right, far] = self.bounds;
        track.filter.mean[0] = position[0].clamp(left, right.max(left));
        track.filter.mean[1] = position[1].clamp(near, far.max(near));
    }

    /// Metres outside the walkable rectangle, negative inside.
    fn outside(&self, [x, y]: [f64; 2]) -> f64 {
        let [left, bottom, right, top] = self.bounds;
        (left - x).max(x - right).max(bottom - y).max(y - top)
    }

    /// Whether a place is on the street side of a lane.
    pub fn is_beyond_a_lane(&self, position: Vector2<f64>) -> bool {
        self.lanes.iter().any(|lane| {
            let offset = position - Vector2::from(lane.position);
            let depth = offset.dot(&Vector2::from(lane.inward));
            depth < -0.05
                && depth > -3.0
                && (offset.norm_squared() - depth * depth).max(0.0).sqrt() < LANE_REACH
        })
    }
}

/// How much taller a person was found than the stature of who waits, in standard deviations.
fn misfit(found: &Track, waiting: &Track) -> f64 {
    (found.filter.mean[4] - waiting.stature.mean) / if waiting.stature.count > 10 { 0.08 } else { 0.25 }
}

impl Lane {
    /// Metres on the floor from the middle of the passage line.
    fn distance(&self, position: [f64; 2]) -> f64 {
        (Vector2::from(position) - Vector2::from(self.position)).norm()
    }
}
