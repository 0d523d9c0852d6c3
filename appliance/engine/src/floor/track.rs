//! The life of a track: candidate, followed, unseen, gone; and the rules of the place that decide between them.

use std::collections::BTreeMap;

use nalgebra::Vector2;

use super::camera::CameraModel;
use super::filter::{Expectation, Filter, HEAD_PRIOR, HEAD_RANGE};
use super::hands::HandRay;
use super::{GATE, SD_MIN, Seen, Sighting};
use crate::store::{Lane, StoreMap};
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
/// Half the width of a lane's zone, metres: the passage line and those who queue beside it.
const LANE_REACH: f64 = 1.5;
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
    pub hits: u32,
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

    pub fn correct(&mut self, model: &CameraModel, sighting: &Sighting, seen: &Seen, head: &Expectation) {
        self.filter.update(head, seen.head, seen.head_sd.max(SD_MIN));
        self.correct_foot(model, sighting, seen);
        self.hits = self.hits.saturating_add(1);
        self.seen = self.seen.max(sighting.at);
        self.seen_at = self.filter.position();
        self.by.insert(sighting.camera, sighting.at);
        // A height that is still coupled to the place along one camera's ray says little.
        if !self.crowded && self.filter.covariance[(4, 4)] < 0.01 {
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

    /// When that camera last saw this person.
    pub fn seen_by(&self, camera: CameraId) -> Option<Instant> {
        self.by.get(&camera).copied()
    }

    /// This person has been found again as `other`.
    pub fn resume(&mut self, other: Self) {
        let Self { filter, seen, seen_at, hits, rays, by, .. } = other;
        self.hits = self.hits.saturating_add(hits);
        (self.filter, self.seen, self.seen_at, self.rays, self.by) = (filter, seen, seen_at, rays, by);
    }
}

impl Candidate {
    pub fn new(track: Track, coverage: usize, tracks: &BTreeMap<TrackId, Track>) -> Self {
        let before = tracks.iter().map(|(id, track)| (*id, track.hits)).collect();
        let birthplace = track.filter.position().into();
        Self { track, birthplace, beside: 0, alone: u32::from(coverage <= 1), before }
    }

    /// Whether a track has hardly been seen since this candidate began, so that the two may be one person. A few
    /// false alarms in the track's wide gate do not count.
    fn may_be(&self, id: TrackId, track: &Track) -> bool {
        let before = self.before.get(&id).copied().unwrap_or(0);
        4 * track.hits.saturating_sub(before) <= self.track.hits
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
        Self { bounds: map.bounds, lanes: map.lanes.clone() }
    }

    /// Whether a person may be here: on the floor, or at a lane.
    pub fn may_hold(&self, position: [f64; 2]) -> bool {
        self.outside(position) < 0.3 || self.lanes.iter().any(|lane| lane.distance(position) < 2.0)
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
        let plausible = (HEAD_RANGE[0] + 0.05..HEAD_RANGE[1] - 0.05).contains(&height)
            && track.filter.velocity().norm() < SPEED_MAX;
        if !plausible || now.since(track.born) < CANDIDATE_AGE {
            return Ruling::Wait;
        }
        let near = tracks
            .values()
            .filter(|other| now.since(other.seen) <= COASTS_AFTER)
            .map(|other| (other.filter.position() - track.filter.position()).norm())
            .fold(f64::INFINITY, f64::min);
        if near < BODY || (near < CROWD && candidate.beside < 3) {
            return Ruling::Wait;
        }
        let lane = self
            .lanes
            .iter()
            .filter(|lane| lane.entry)
            .map(|lane| lane.distance(candidate.birthplace))
            .fold(f64::INFINITY, f64::min);
        // Costs are minus log likelihoods. Somebody new and unseen in the lane is the less likely the farther away
        // they appear.
        let new = 1.5 + 4.0 * (lane - 1.0).clamp(0.0, 2.0);
        let mut again: Vec<(f64, TrackId)> = tracks
            .iter()
            // Who comes from the street is nobody who waits inside.
            .filter(|_| !self.is_beyond_a_lane(candidate.birthplace))
            .filter(|(id, waiting)| candidate.may_be(**id, waiting))
            .filter_map(|(id, waiting)| Some((self.cost_of_being(track, waiting)?, *id)))
            .collect();
        again.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let among = |cost: f64, skip: usize| {
            again.iter().skip(skip).filter(|other| other.0 < cost + DOUBT).map(|other| other.1).collect()
        };
        match again.first() {
            Some(&(cost, id)) if cost < new => Ruling::Again { track: id, perhaps: among(cost, 1) },
            // Nobody is missing and no lane is near: only a long look is believed (the tracker may have started
            // with people inside).
            _ if lane > LANE_REACH && (track.hits < 12 || now.since(track.born) < Millis(1000)) => {
                Ruling::Wait
            }
            _ => Ruling::New { perhaps: among(new, 0) },
        }
    }

    /// Minus log likelihood that `found` is the `waiting` person; `None` where nobody could have walked that far.
    fn cost_of_being(&self, found: &Track, waiting: &Track) -> Option<f64> {
        if self.is_beyond_a_lane(waiting.seen_at.into()) {
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

    /// Whether a track's person is no longer in the store, as far as one can know.
    pub fn has_left(&self, track: &Track, now: Instant) -> bool {
        let unseen = now.since(track.seen);
        let last: [f64; 2] = track.seen_at.into();
        if unseen <= COASTS_AFTER {
            return self.outside(last) > 2.5;
        }
        if self.is_beyond_a_lane(last) {
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
        // Seen too little to be worth waiting for, or waited for too long: half an hour under no camera is a
        // detector's ghost, not a shopper.
        leaving || (track.hits < 20 && unseen > Millis(3000)) || unseen > Millis::from_seconds(1800)
    }

    /// Metres outside the walkable rectangle, negative inside.
    fn outside(&self, [x, y]: [f64; 2]) -> f64 {
        let [left, bottom, right, top] = self.bounds;
        (left - x).max(x - right).max(bottom - y).max(y - top)
    }

    fn is_beyond_a_lane(&self, position: [f64; 2]) -> bool {
        self.lanes.iter().any(|lane| {
            let offset = Vector2::from(position) - Vector2::from(lane.position);
            let depth = offset.dot(&Vector2::from(lane.inward));
            depth < -0.05
                && depth > -3.0
                && (offset.norm_squared() - depth * depth).max(0.0).sqrt() < LANE_REACH
        })
    }
}

impl Lane {
    /// Metres on the floor from the middle of the passage line.
    fn distance(&self, position: [f64; 2]) -> f64 {
        (Vector2::from(position) - Vector2::from(self.position)).norm()
    }
}
