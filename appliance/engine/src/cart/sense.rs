//! Volatile sensing: plate readings become steps, floor views become a short history, passages find their track.

use std::collections::BTreeMap;

use crate::cart::Evidence;
use crate::message::{FloorView, Passage};
use crate::store::StoreMap;
use crate::time::Instant;
use crate::units::{Mass, PlateId};

/// Finds evidence in raw readings. It holds nothing that a restart may not lose: what it returned from
/// [`Sensing::poll`] is for the ledger, and the ledger's last levels ([`crate::session::Store::levels`]) start it again.
#[derive(Debug)]
pub struct Sensing {}

impl Sensing {
    /// Starts for the plates of `map`. `baselines` are the last known levels; a plate that first answers with another
    /// level gives an event, a plate without a baseline starts from its first settled reading.
    #[must_use]
    pub fn new(_map: &StoreMap, _baselines: &BTreeMap<PlateId, Mass>) -> Self {
        Self {}
    }

    /// Who is where. Views must come in order of time, and before the poll of their time.
    pub fn floor(&mut self, _view: &FloorView) {}

    /// A plate's reading at `at`; `None` when it did not answer. Ten or more a second and plate; readings of one plate
    /// come in order of time. Plates that the map does not list are ignored.
    pub fn weight(&mut self, _at: Instant, _plate: PlateId, _reading: Option<Mass>) {}

    /// The gate's passage; repeats with a known id are ignored. [`Evidence::Entered`] or [`Evidence::Left`] comes with
    /// the next poll: acknowledge the passage when that is stored.
    pub fn passage(&mut self, _passage: &Passage) {}

    /// What is found by `now`, in order; about ten calls a second. Every evidence is given once.
    pub fn poll(&mut self, _now: Instant) -> Vec<Evidence> {
        Vec::new()
    }

    /// Plates that have not answered, or have not moved by their own noise, for long enough to call them faulty.
    #[must_use]
    pub fn faulty(&self, _now: Instant) -> Vec<PlateId> {
        Vec::new()
    }
}
