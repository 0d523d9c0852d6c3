//! Who may have been swapped with whom. Tracks that come close are tangled until they are apart again; where
//! the filters could not tell them apart meanwhile, until their heights do.

use std::collections::{BTreeMap, BTreeSet};

use nalgebra::{Matrix2, Vector2};

use super::GATE;
use super::track::{Place, Stature, Track};
use crate::time::{Instant, Millis};
use crate::units::TrackId;

/// Heads closer than this touch, metres.
const TOUCH: f64 = 0.5;
/// Heads farther apart than this are apart, metres.
const APART: f64 = 1.0;
/// Squared Mahalanobis distance of two tracks above which they stand apart for certain.
const CERTAIN: f64 = 25.0;
/// Unseen for longer, a track waits for a candidate and cannot be swapped frame by frame.
const LOST: Millis = Millis(6000);
/// Noise of one detection on the floor, metres.
const DETECTION_SD: f64 = 0.05;
/// Seen within this time, a track is being followed.
const FOLLOWED: Millis = Millis(300);
/// Spread of a learnt stature against another of the same person, metres: posture, shoes on other floors of
/// the lens.
const STATURE_SD: f64 = 0.03;
/// Log likelihood ratio that settles who is who: one error in a hundred.
const SETTLED: f64 = 4.6;
/// Minus log likelihood of a stature beyond which it is another person's: three standard deviations.
const MISFIT_MAX: f64 = 4.5;
/// Corrections after which a stature is worth comparing (about a second of three cameras).
const STATURE_COUNT: u32 = 30;

/// All pairs in doubt.
#[derive(Clone, Debug, Default)]
pub(super) struct Tangles(BTreeMap<(TrackId, TrackId), Contact>);

#[derive(Clone, Debug)]
struct Contact {
    /// The filters could not tell the two apart at some time.
    ambiguous: bool,
    /// Statures from before, and learnt since they parted.
    before: [Stature; 2],
    after: [Stature; 2],
}

impl Tangles {
    /// Tracks that `track` may have been swapped with, directly or by way of others.
    pub fn of(&self, track: TrackId) -> Vec<TrackId> {
        let other = |(a, b): (TrackId, TrackId), one| {
            if a == one {
                Some(b)
            } else if b == one {
                Some(a)
            } else {
                None
            }
        };
        let mut found = BTreeSet::from([track]);
        let mut open = vec![track];
        while let Some(current) = open.pop() {
            let ambiguous = self.0.iter().filter(|(_, contact)| contact.ambiguous);
            for neighbour in ambiguous.filter_map(|(pair, _)| other(*pair, current)) {
                if found.insert(neighbour) {
                    open.push(neighbour);
                }
            }
        }
        // A touch without doubt is a warning about these two only.
        found.extend(self.0.keys().filter_map(|pair| other(*pair, track)));
        found.remove(&track);
        found.into_iter().collect()
    }

    /// Notes who touches whom now, and settles what can be settled. A settled swap exchanges the two tracks'
    /// places. Who waits in the street is nobody yet: doubts begin with the passage.
    pub fn touch(&mut self, tracks: &mut BTreeMap<TrackId, Track>, place: &Place, now: Instant) {
        let mut crowded = BTreeSet::new();
        let all: Vec<(TrackId, &Track)> = tracks.iter().map(|(id, track)| (*id, track)).collect();
        for (index, &(a, first)) in all.iter().enumerate() {
            for &(b, second) in &all[index + 1..] {
                let away = first.filter.position() - second.filter.position();
                let distance = away.norm();
                let lost = now.since(first.seen).max(now.since(second.seen)) > LOST;
                if distance < APART {
                    crowded.extend([a, b]);
                }
                let outside =
                    [first, second].into_iter().all(|track| place.is_beyond_a_lane(track.filter.position()));
                if lost || outside {
                    continue;
                }
                let ambiguous = [first, second].into_iter().all(|track| track.might_be_at(away));
                if let Some(contact) = self.0.get_mut(&(a, b)) {
                    contact.ambiguous |= ambiguous;
                    if ambiguous {
                        contact.after = [Stature::UNKNOWN; 2];
                    }
                } else if distance < TOUCH || ambiguous {
                    self.0.insert((a, b), Contact::new(first, second, ambiguous));
                }
            }
        }
        for (id, track) in tracks.iter_mut() {
            track.crowded = crowded.contains(id);
        }
        self.settle(tracks, now);
    }

    /// `other` might as well have been the one that was found again as `track`.
    pub fn confuse(&mut self, tracks: &BTreeMap<TrackId, Track>, track: TrackId, other: TrackId) {
        let pair = (track.min(other), track.max(other));
        let (Some(first), Some(second)) = (tracks.get(&pair.0), tracks.get(&pair.1)) else { return };
        self.0.entry(pair).or_insert_with(|| Contact::new(first, second, true)).ambiguous = true;
    }

    /// Drops what concerns only tracks that are gone. Who stays keeps an unsettled doubt about who left.
    pub fn forget(&mut self, gone: impl Fn(TrackId) -> bool) {
        self.0.retain(|&(a, b), contact| match (gone(a), gone(b)) {
            (false, false) => true,
            (true, true) => false,
            (true, false) | (false, true) => contact.ambiguous,
        });
    }

    fn settle(&mut self, tracks: &mut BTreeMap<TrackId, Track>, now: Instant) {
        let mut settled = Vec::new();
        let mut swapped = Vec::new();
        for (&(a, b), contact) in &mut self.0 {
            let pair = [tracks.get(&a), tracks.get(&b)];
            if let [Some(first), Some(second)] = pair {
                let away = first.filter.position() - second.filter.position();
                let together = first.filter.position_covariance() + second.filter.position_covariance();
                let certain = together
                    .try_inverse()
                    .is_some_and(|inverse| (away.transpose() * inverse * away)[0] > CERTAIN);
                if !certain || away.norm() <= APART {
                    continue;
                }
            }
            if pair.iter().flatten().any(|track| now.since(track.seen) > FOLLOWED) {
                continue;
            }
            for (stature, track) in contact.after.iter_mut().zip(pair) {
                if let Some(track) = track.filter(|track| track.is_upright() && track.seen == now) {
                    stature.learn(track.filter.mean[4]);
                }
            }
            let ratio = contact.certainty(pair.map(|track| track.is_some()));
            if ratio.is_some_and(|ratio| ratio > SETTLED || (ratio > -SETTLED && !contact.ambiguous)) {
                settled.push((a, b));
            }
            if let Some(ratio) = ratio.filter(|ratio| *ratio < -SETTLED && pair.iter().all(Option::is_some)) {
                swapped.push((ratio, (a, b)));
            }
        }
        for pair in settled {
            self.0.remove(&pair);
        }
        // The clearest only: once two have changed places, what was learnt of them against a third is void.
        let clearest = swapped.into_iter().min_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((_, (a, b))) = clearest {
            // With a third in doubt it may have been a round of three: then these two have to prove it again.
            let third = self.0.keys().any(|&pair| {
                pair != (a, b) && [a, b].iter().any(|track| pair.0 == *track || pair.1 == *track)
            });
            if !third {
                self.0.remove(&(a, b));
            }
            self.swap(tracks, a, b);
        }
    }

    fn swap(&mut self, tracks: &mut BTreeMap<TrackId, Track>, a: TrackId, b: TrackId) {
        let (Some(mut first), Some(mut second)) = (tracks.remove(&a), tracks.remove(&b)) else { return };
        std::mem::swap(&mut first.stature, &mut second.stature);
        tracks.insert(a, second);
        tracks.insert(b, first);
        for (&(c, d), contact) in &mut self.0 {
            if [a, b].contains(&c) || [a, b].contains(&d) {
                contact.after = [Stature::UNKNOWN; 2];
            }
        }
    }
}

impl Track {
    /// Whether the next detection of this track's person might as well be so far `away`. A swap needs that of
    /// both: one who is well seen takes no other's place.
    fn might_be_at(&self, away: Vector2<f64>) -> bool {
        let spread = self.filter.position_covariance() + Matrix2::identity() * DETECTION_SD.powi(2);
        spread.try_inverse().is_none_or(|inverse| (away.transpose() * inverse * away)[0] < GATE)
    }
}

impl Contact {
    /// Log likelihood ratio of having stayed themselves against having swapped, by the statures of those
    /// `present`; `None` while too little is learnt since they parted.
    fn certainty(&self, present: [bool; 2]) -> Option<f64> {
        let long_enough = |stature: &Stature| stature.count >= STATURE_COUNT;
        if self.after.iter().zip(present).any(|(stature, present)| present && !long_enough(stature)) {
            return None;
        }
        if !self.before.iter().all(long_enough) {
            return Some(0.0);
        }
        let misfit = |after: f64, before: f64| (after - before).powi(2) / (2.0 * STATURE_SD.powi(2));
        let (mut stayed, mut swapped) = (Vec::new(), Vec::new());
        for index in (0..2).filter(|index| present[*index]) {
            let after = self.after[index].mean;
            stayed.push(misfit(after, self.before[index].mean));
            swapped.push(misfit(after, self.before[1 - index].mean));
        }
        let ratio = swapped.iter().sum::<f64>() - stayed.iter().sum::<f64>();
        let likelier = if ratio > 0.0 { stayed } else { swapped };
        // Where neither fits, a third person is involved, and the pair alone proves nothing.
        if likelier.iter().any(|misfit| *misfit > MISFIT_MAX) {
            return None;
        }
        Some(ratio)
    }

    fn new(first: &Track, second: &Track, ambiguous: bool) -> Self {
        Self { ambiguous, before: [first.stature, second.stature], after: [Stature::UNKNOWN; 2] }
    }
}
