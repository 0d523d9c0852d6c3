//! Who is enrolled, and whose palm this is.

use std::collections::BTreeMap;

use crate::code::Template;
use crate::key::{Key, Protected};
use crate::region::{Palm, Picture};

/// Samples of one palm at most; three are what the published open-set figures ask for.
pub const SAMPLES_MAX: usize = 6;

/// Samples that the second pass turns and scales the probe for.
const SHORT_LIST: usize = 32;

/// How far beyond the threshold the first quarter of the points must be for the rest to be left out. That
/// quarter is a random sample of 256 points or somewhat fewer, whose distance strays by 0.03 (one standard
/// deviation) from that of all.
const HOPELESS: f32 = 0.1;

/// Turns of the second pass, in degrees, and changes of size: what a free hand does beyond what the finger
/// gaps and the circle make good.
const TURNS: [f32; 7] = [-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0];
const SCALES: [f32; 3] = [0.95, 1.0, 1.05];

/// Least share of points that can be compared in an enrolled sample.
const COVERAGE_MIN: f32 = 0.6;

/// A member of the store: the random pseudonym that entry codes carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 8]);

/// The written consent without which no palm is kept. It allows one purpose only: entry to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Identifies the consent in the operator's records.
    pub id: [u8; 16],
    /// When it was given, unix milliseconds.
    pub given_ms: u64,
    /// Which text was agreed to.
    pub text_version: u32,
    /// When it ends, unix milliseconds; from then on the record must be erased.
    pub expires_ms: u64,
}

/// Where a search draws its lines, as shares of differing bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Largest distance of a match.
    pub accept: f32,
    /// How much closer the best member must be than the second.
    pub margin: f32,
}

impl Default for Thresholds {
    /// From synthetic palms only (the tests print the distances); to be set from real ones before use.
    fn default() -> Self {
        Self { accept: 0.36, margin: 0.02 }
    }
}

/// Why a palm is not enrolled.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum EnrolError {
    /// No samples, or too many.
    #[error("{found} samples cannot be enrolled, 1 to {SAMPLES_MAX} can")]
    Samples {
        /// How many were given.
        found: usize,
    },
    /// Too little of a sample can be compared.
    #[error("sample {sample} covers {coverage:.2} of the region, {COVERAGE_MIN} are needed")]
    Coverage {
        /// Its index.
        sample: usize,
        /// Share of comparable points, 0 to 1.
        coverage: f32,
    },
    /// Two samples do not look like the same palm: one is blurred, or of another hand.
    #[error("samples {first} and {second} do not match each other")]
    Inconsistent {
        /// Index of the one.
        first: usize,
        /// Index of the other.
        second: usize,
    },
    /// The member has a record; it must be erased first, which also ends its consent.
    #[error("member is enrolled already")]
    Enrolled,
    /// The consent has ended.
    #[error("consent has ended")]
    Expired,
}

/// One member's enrolment. No `Debug`: it holds a biometric.
pub struct Enrolment {
    pub(crate) consent: Consent,
    pub(crate) last_seen_ms: u64,
    pub(crate) samples: Vec<Protected>,
}

impl Enrolment {
    /// What the member agreed to.
    #[must_use]
    pub fn consent(&self) -> &Consent {
        &self.consent
    }

    /// When the palm was last matched or enrolled, unix milliseconds.
    #[must_use]
    pub fn last_seen_ms(&self) -> u64 {
        self.last_seen_ms
    }
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// This member.
    Match(MemberId),
    /// Nobody who is enrolled.
    NoMatch,
    /// More than one member is this close: ask for another credential.
    Ambiguous,
}

/// A palm to look for: its code in all positions of the first pass, and what the second pass needs.
pub struct Probe<'a> {
    picture: Picture<'a>,
    palm: Palm,
    shifted: Vec<Protected>,
}

impl<'a> Probe<'a> {
    /// Prepares `palm`, found in `picture`, for galleries of `key`.
    #[must_use]
    pub fn new(key: &Key, picture: Picture<'a>, palm: Palm) -> Self {
        let template = Template::extract(&palm.region(&picture));
        Self { picture, palm, shifted: shifts(key, &template) }
    }

    /// All turns and sizes in all positions.
    fn posed(&self, key: &Key) -> Vec<Protected> {
        let mut posed = Vec::with_capacity(TURNS.len() * SCALES.len() * self.shifted.len());
        for turn in TURNS {
            for scale in SCALES {
                let region = self.palm.region_posed(&self.picture, turn.to_radians(), scale);
                posed.extend(shifts(key, &Template::extract(&region)));
            }
        }
        posed
    }
}

fn shifts(key: &Key, template: &Template) -> Vec<Protected> {
    Template::positions().map(|(dx, dy)| key.protect(&template.shifted(dx, dy))).collect()
}

/// The least distance of any probe; one that a quarter of the points already shows to be beyond `hopeless`
/// counts with what that quarter shows.
fn least(probes: &[Protected], sample: &Protected, hopeless: f32) -> f32 {
    probes.iter().map(|probe| probe.0.distance_if_near(&sample.0, hopeless)).fold(1.0, f32::min)
}

/// All enrolled palms of a store, in memory, under one key.
pub struct Gallery {
    key: Key,
    thresholds: Thresholds,
    enrolments: BTreeMap<MemberId, Enrolment>,
}

impl Gallery {
    /// An empty gallery.
    #[must_use]
    pub fn new(key: Key, thresholds: Thresholds) -> Self {
        Self { key, thresholds, enrolments: BTreeMap::new() }
    }

    /// The key, to make probes with.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Number of enrolled members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.enrolments.len()
    }

    /// Whether nobody is enrolled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.enrolments.is_empty()
    }

    /// The enrolment of `member`, to be sealed and stored.
    #[must_use]
    pub fn enrolment(&self, member: MemberId) -> Option<&Enrolment> {
        self.enrolments.get(&member)
    }

    /// Enrols `member` with samples of one palm, taken one after the other with the hand lifted in between.
    ///
    /// # Errors
    ///
    /// [`EnrolError`]; nothing is kept then.
    pub fn enrol(
        &mut self,
        member: MemberId,
        consent: Consent,
        now_ms: u64,
        samples: &[Template],
    ) -> Result<&Enrolment, EnrolError> {
        if samples.is_empty() || samples.len() > SAMPLES_MAX {
            return Err(EnrolError::Samples { found: samples.len() });
        }
        if consent.expires_ms <= now_ms {
            return Err(EnrolError::Expired);
        }
        for (sample, template) in samples.iter().enumerate() {
            let coverage = template.coverage();
            if coverage < COVERAGE_MIN {
                return Err(EnrolError::Coverage { sample, coverage });
            }
        }
        let protected: Vec<Protected> = samples.iter().map(|sample| self.key.protect(sample)).collect();
        for (first, template) in samples.iter().enumerate() {
            let probes = shifts(&self.key, template);
            for (second, other) in protected.iter().enumerate().skip(first + 1) {
                if least(&probes, other, 1.0) > self.thresholds.accept {
                    return Err(EnrolError::Inconsistent { first, second });
                }
            }
        }
        self.insert(member, Enrolment { consent, last_seen_ms: now_ms, samples: protected })
    }

    /// Takes in an enrolment that was unsealed.
    ///
    /// # Errors
    ///
    /// [`EnrolError::Enrolled`] when the member has one already.
    pub fn insert(&mut self, member: MemberId, enrolment: Enrolment) -> Result<&Enrolment, EnrolError> {
        match self.enrolments.entry(member) {
            std::collections::btree_map::Entry::Occupied(_) => Err(EnrolError::Enrolled),
            std::collections::btree_map::Entry::Vacant(place) => Ok(place.insert(enrolment)),
        }
    }

    /// Forgets `member` and overwrites the templates; gives the consent that this ends. The sealed record and
    /// its key are the caller's to delete.
    pub fn erase(&mut self, member: MemberId) -> Option<Consent> {
        self.enrolments.remove(&member).map(|enrolment| enrolment.consent)
    }

    /// Members whose consent has ended by `now_ms`, or who were not seen for `idle_ms_max`: to be erased.
    pub fn overdue(&self, now_ms: u64, idle_ms_max: u64) -> impl Iterator<Item = MemberId> {
        self.enrolments.iter().filter_map(move |(member, enrolment)| {
            let idle = now_ms.saturating_sub(enrolment.last_seen_ms);
            (enrolment.consent.expires_ms <= now_ms || idle > idle_ms_max).then_some(*member)
        })
    }

    /// Notes that `member` came in at `now_ms`.
    pub fn seen(&mut self, member: MemberId, now_ms: u64) {
        if let Some(enrolment) = self.enrolments.get_mut(&member) {
            enrolment.last_seen_ms = enrolment.last_seen_ms.max(now_ms);
        }
    }

    /// Looks for the palm of `probe` among all members, each by its closest sample. When the hand as it lies
    /// matches nobody, it is turned and scaled and compared with the closest few again.
    #[must_use]
    pub fn search(&self, probe: &Probe<'_>) -> Outcome {
        let hopeless = self.thresholds.accept + HOPELESS;
        let mut distances: Vec<(f32, MemberId, &Protected)> = self
            .enrolments
            .iter()
            .flat_map(|(member, enrolment)| enrolment.samples.iter().map(move |sample| (*member, sample)))
            .map(|(member, sample)| (least(&probe.shifted, sample, hopeless), member, sample))
            .collect();
        let first = self.decide(distances.iter().map(|(distance, member, _)| (*distance, *member)));
        if first != Outcome::NoMatch || distances.is_empty() {
            return first;
        }
        let list = distances.len().min(SHORT_LIST);
        distances.select_nth_unstable_by(list - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let posed = probe.posed(&self.key);
        self.decide(
            distances[..list].iter().map(|(_, member, sample)| (least(&posed, sample, hopeless), *member)),
        )
    }

    /// Largest and smallest distance matter here only; they are not told, as scores would help an attacker
    /// climb.
    fn decide(&self, distances: impl Iterator<Item = (f32, MemberId)>) -> Outcome {
        let mut best: Option<(f32, MemberId)> = None;
        let mut second = 1.0;
        for (distance, member) in distances {
            match best {
                Some((least, closest)) if closest == member => best = Some((least.min(distance), member)),
                Some((least, _)) if distance >= least => second = f32::min(second, distance),
                Some((least, _)) => {
                    second = f32::min(second, least);
                    best = Some((distance, member));
                }
                None => best = Some((distance, member)),
            }
        }
        match best {
            Some((distance, _)) if distance > self.thresholds.accept => Outcome::NoMatch,
            Some((distance, _)) if second - distance < self.thresholds.margin => Outcome::Ambiguous,
            Some((_, member)) => Outcome::Match(member),
            None => Outcome::NoMatch,
        }
    }
}
