//! People on the ground plane: camera geometry, and tracks fused from what all cameras see.
//!
//! Each frame's detections correct the tracks' extended Kalman filters at once, camera by camera, in metres;
//! no frame waits for another camera's. Identity is conserved: people come and go only through lanes, so a
//! track that no camera sees stays (its spread grows) and takes back a person who appears where only that
//! track can be. Tracks that met and cannot be told apart say so in `Person::tangled` until their heights
//! tell.

mod assign;
pub mod camera;
mod filter;
mod hands;
mod tangle;
#[cfg(test)]
mod tests;
mod track;

use std::collections::BTreeMap;

use nalgebra::Vector2;
use serde::{Deserialize, Serialize};

use self::camera::CameraModel;
use self::filter::Expectation;
use self::tangle::Tangles;
use self::track::{Candidate, Place, Ruling, Track};
use crate::message::{FloorView, Person};
use crate::store::StoreMap;
use crate::time::{Instant, Millis};
use crate::units::{CameraId, TrackId};

/// Frames older than the newest by more than this are ignored; younger ones still correct the past.
pub const LATE_MAX: Millis = Millis(200);
/// Squared Mahalanobis distance beyond which a detection is not the track's: 99.7 % of two degrees of
/// freedom.
const GATE: f64 = 11.8;
/// What it costs to leave a detection without a track, in the units of squared distance plus log determinant:
/// -2 ln of the density of false alarms (one in ten frames of 320x192) against a detection rate of 80 %.
const UNASSIGNED: f64 = 26.0;
/// A track unseen for longer is not extended frame by frame: its gate would swallow other people. It waits
/// for a candidate that fits (see [`Ruling`]).
const FRESH: Millis = Millis(500);
/// A camera that has sent nothing for this long does not count as covering a place.
const SILENT: Millis = Millis(1000);
/// Heads are never nearer to each other than this for long, metres and time.
const DOUBLE: f64 = 0.22;
const DOUBLE_LASTS: Millis = Millis(700);
/// Candidates kept at a time; a broken detector cannot take more.
const CANDIDATES_MAX: usize = 64;
/// Detections of one frame looked at; a frame of one ceiling camera does not hold more people.
const DETECTIONS_MAX: usize = 64;
/// Least pixel noise believed, so that a confident detector cannot break the arithmetic.
const SD_MIN: f64 = 0.3;
/// Share of the picture's edge where a head may be cut off and a camera is not expected to see it, pixels.
const EDGE: f64 = 6.0;
/// How long after its capture a frame counts among the cameras of a view.
const VIEW_WINDOW: Millis = Millis(200);

/// What one camera saw in one frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// Which camera.
    pub camera: CameraId,
    /// When the frame was captured.
    pub at: Instant,
    /// People in it.
    pub people: Vec<Seen>,
}

/// A person in one frame; places in the calibrated picture's pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Centre of the head.
    pub head: [f64; 2],
    /// Standard deviation of the head in each direction, pixels.
    pub head_sd: f64,
    /// The floor point between the feet, when it is in the picture and believed.
    pub foot: Option<[f64; 2]>,
    /// Standard deviation of the foot point in each direction, pixels.
    pub foot_sd: f64,
    /// Hands of this person, at most two are used.
    pub hands: Vec<[f64; 2]>,
    /// The detector's score, 0 to 1; the shell has already dropped what is below its threshold.
    pub score: f64,
}

/// What became of a sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It entered the tracks.
    Taken,
    /// It came too late ([`LATE_MAX`]) and was ignored.
    Late,
    /// The store map has no such camera.
    UnknownCamera,
}

/// Follows everyone on the floor.
#[derive(Clone, Debug)]
pub struct Tracker {
    cameras: BTreeMap<CameraId, CameraModel>,
    place: Place,
    tracks: BTreeMap<TrackId, Track>,
    candidates: Vec<Candidate>,
    tangles: Tangles,
    heard: BTreeMap<CameraId, Instant>,
    now: Instant,
    /// The next track's number; 0 before the first frame.
    next: u64,
}

impl Tracker {
    /// A tracker of an empty floor; people who are already inside are found within about a second.
    #[must_use]
    pub fn new(map: &StoreMap) -> Self {
        Self {
            cameras: map.cameras.iter().map(|camera| (camera.id, camera.model.clone())).collect(),
            place: Place::new(map),
            tracks: BTreeMap::new(),
            candidates: Vec::new(),
            tangles: Tangles::default(),
            heard: BTreeMap::new(),
            now: Instant(0),
            next: 0,
        }
    }

    /// Takes in one camera's frame. Frames of different cameras may come in any order within [`LATE_MAX`].
    pub fn observe(&mut self, sighting: &Sighting) -> Outcome {
        let Some(model) = self.cameras.get(&sighting.camera) else { return Outcome::UnknownCamera };
        if self.now.since(sighting.at) > LATE_MAX {
            return Outcome::Late;
        }
        if self.next == 0 {
            // Numbers go on above those of a tracker before a restart, which gave out far fewer than one a
            // millisecond: nobody takes over the session of somebody who had the same number.
            self.next = sighting.at.0.max(1);
        }
        self.now = self.now.max(sighting.at);
        let heard = self.heard.entry(sighting.camera).or_insert(sighting.at);
        *heard = (*heard).max(sighting.at);
        for track in self.tracks.values_mut() {
            track.predict(self.now);
            self.place.keep_inside(track);
        }
        for candidate in &mut self.candidates {
            candidate.track.predict(self.now);
        }

        let mut seen: Vec<&Seen> =
            sighting.people.iter().filter(|seen| seen.is_sound()).take(DETECTIONS_MAX).collect();
        let mut fresh: Vec<&mut Track> =
            self.tracks.values_mut().filter(|track| self.now.since(track.seen) <= FRESH).collect();
        seen = correct(model, sighting, &self.place, seen, &mut fresh);
        let tracks = &self.tracks;
        let (now, at) = (self.now, sighting.at);
        let live = |place| views(&self.cameras, &self.heard, now, place);
        let mut waiting: Vec<&mut Track> =
            self.candidates.iter_mut().map(|candidate| &mut candidate.track).collect();
        seen = correct(model, sighting, &self.place, seen, &mut waiting);
        for candidate in &mut self.candidates {
            if candidate.track.seen_by(sighting.camera) == Some(at) {
                let coverage = live([candidate.track.filter.mean[0], candidate.track.filter.mean[1]]);
                candidate.count(coverage, tracks, sighting);
            }
        }
        for seen in seen {
            if self.candidates.len() >= CANDIDATES_MAX {
                break;
            }
            let Some(mut track) = Track::born(model, seen, sighting) else { continue };
            track.predict(now);
            let position = [track.filter.mean[0], track.filter.mean[1]];
            if self.place.may_hold(position) {
                self.candidates.push(Candidate::new(track, live(position), tracks));
            }
        }

        self.part_doubles();
        self.tangles.touch(&mut self.tracks, &self.place, now);
        self.settle_candidates();
        let (place, cameras, heard) = (&self.place, &self.cameras, &self.heard);
        self.tracks.retain(|_, track| {
            let watched = views(cameras, heard, now, track.seen_at.into()) >= 2;
            !place.has_left(track, watched, now)
        });
        let tracks = &self.tracks;
        self.tangles.forget(|track| !tracks.contains_key(&track));
        Outcome::Taken
    }

    /// Everyone on the floor at `now`, moved there from their newest frames.
    #[must_use]
    pub fn view(&self, now: Instant) -> FloorView {
        let people = self
            .tracks
            .iter()
            .map(|(&id, track)| {
                let filter = track.at(now);
                let spread = filter.position_covariance().trace() / 2.0;
                let hands = hands::in_space(track, &filter, now);
                Person {
                    track: id,
                    position: filter.position().into(),
                    // Frames share calibration errors, which the filter takes for independent.
                    position_sd: (spread + POSITION_FLOOR * POSITION_FLOOR).sqrt(),
                    velocity: filter.velocity().into(),
                    head: filter.mean[4],
                    hands,
                    tangled: self.tangles.of(id),
                }
            })
            .collect();
        let cameras = self
            .heard
            .iter()
            .filter(|(_, heard)| now.since(**heard) <= VIEW_WINDOW)
            .map(|(camera, _)| *camera)
            .collect();
        FloorView { at: now, people, cameras }
    }

    /// Two tracks in one place follow one person, and the one that is seen less often has lost its own.
    fn part_doubles(&mut self) {
        let now = self.now;
        let fresh: Vec<(TrackId, Vector2<f64>, f64)> = self
            .tracks
            .iter()
            .filter(|(_, track)| now.since(track.seen) <= FRESH)
            .map(|(id, track)| (*id, track.filter.position(), track.rate))
            .collect();
        for (id, position, rate) in &fresh {
            let double = fresh.iter().any(|(other, place, better)| {
                other != id && (place - position).norm() < DOUBLE && (better, id) > (rate, other)
            });
            let Some(track) = self.tracks.get_mut(id) else { continue };
            if !double {
                track.overlaps = None;
            } else if now.since(*track.overlaps.get_or_insert(now)) > DOUBLE_LASTS {
                track.lose(now);
            }
        }
    }

    /// Candidates become new tracks or give a waiting track its place back; those that found no support go.
    fn settle_candidates(&mut self) {
        let now = self.now;
        let mut index = 0;
        while index < self.candidates.len() {
            let ruling = self.place.rule(&self.candidates[index], &self.tracks, now);
            if ruling == Ruling::Wait {
                index += 1;
                continue;
            }
            let candidate = self.candidates.swap_remove(index);
            let (id, perhaps) = match ruling {
                Ruling::Wait | Ruling::Drop => continue,
                Ruling::New { perhaps } => {
                    let id = TrackId(self.next);
                    self.next += 1;
                    self.tracks.insert(id, candidate.track);
                    (id, perhaps)
                }
                Ruling::Again { track: id, perhaps } => {
                    if let Some(track) = self.tracks.get_mut(&id) {
                        track.resume(candidate.track);
                    }
                    (id, perhaps)
                }
            };
            for other in perhaps {
                self.tangles.confuse(&self.tracks, id, other);
            }
        }
    }
}

/// Calibration error that all frames share, metres.
const POSITION_FLOOR: f64 = 0.04;

impl Seen {
    fn is_sound(&self) -> bool {
        let noise = [self.head_sd, self.foot_sd];
        self.head.iter().chain(self.foot.iter().flatten()).chain(&noise).all(|value| value.is_finite())
    }
}

/// Gives detections to tracks at the least total cost and corrects those; returns the detections left over.
fn correct<'a>(
    model: &CameraModel,
    sighting: &Sighting,
    place: &Place,
    seen: Vec<&'a Seen>,
    tracks: &mut [&mut Track],
) -> Vec<&'a Seen> {
    let expected: Vec<Option<Expectation>> =
        tracks.iter().map(|track| track.filter.expect_head(model, sighting.at)).collect();
    for (track, expected) in tracks.iter_mut().zip(&expected) {
        if expected.as_ref().is_some_and(|expected| is_inside(model, expected.pixel())) {
            track.expect();
        }
    }
    let costs: Vec<Vec<f64>> = seen
        .iter()
        .map(|seen| {
            let sd = seen.head_sd.max(SD_MIN);
            expected
                .iter()
                .map(|expected| {
                    let (distance, size) = expected
                        .as_ref()
                        .and_then(|expected| expected.distance(seen.head, sd))
                        .unwrap_or((f64::INFINITY, 0.0));
                    if distance <= GATE { distance + size } else { f64::INFINITY }
                })
                .collect()
        })
        .collect();
    let assigned = assign::assign(&costs, tracks.len(), UNASSIGNED);
    let mut left = Vec::new();
    for (seen, column) in seen.into_iter().zip(assigned) {
        match column.and_then(|column| Some((column, expected[column].as_ref()?))) {
            Some((column, expectation)) => tracks[column].correct(model, sighting, seen, expectation, place),
            None => left.push(seen),
        }
    }
    left
}

/// How many cameras that are alive should see a head at a place on the floor.
fn views(
    cameras: &BTreeMap<CameraId, CameraModel>,
    heard: &BTreeMap<CameraId, Instant>,
    now: Instant,
    place: [f64; 2],
) -> usize {
    cameras
        .iter()
        .filter(|(id, _)| heard.get(id).is_some_and(|heard| now.since(*heard) <= SILENT))
        .filter_map(|(_, model)| Some((model, model.project([place[0], place[1], filter::HEAD_PRIOR])?)))
        .filter(|(model, pixel)| is_inside(model, *pixel))
        .count()
}

/// Whether a head there lies whole in the picture.
fn is_inside(model: &CameraModel, [x, y]: [f64; 2]) -> bool {
    (EDGE..f64::from(model.width) - EDGE).contains(&x) && (EDGE..f64::from(model.height) - EDGE).contains(&y)
}
