//! What really happened. It leaves the simulator only through `World::truth`, for oracles and for training
//! labels.

use std::collections::BTreeMap;

use engine::time::Instant;
use engine::units::{MemberHandle, PlateId, ProductId};
use serde::Serialize;

/// The truth of a day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Truth {
    /// One for each pass: a shopper alone, or a party that shares it. In order of arrival.
    pub visits: Vec<Visit>,
    /// Everything that hands did, oldest first.
    pub events: Vec<Event>,
    /// Where everyone was, every 200 ms.
    pub trail: Vec<Step>,
}

/// A pass and the people on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Visit {
    /// The pseudonym on the pass.
    pub member: MemberHandle,
    /// Who came on it; the first shows the first code.
    pub people: Vec<u32>,
    /// When the first of them passed the entry.
    pub entered: Option<Instant>,
    /// When the last of them passed the exit.
    pub left: Option<Instant>,
    /// They gave up at the gate and went away.
    pub turned_away: bool,
    /// What they carried out of the store: the right receipt. Complete once `left` is set.
    pub out: BTreeMap<ProductId, u32>,
}

/// A thing that a hand did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When the mass moved.
    pub at: Instant,
    /// Whose hand.
    pub person: u32,
    /// What it did.
    pub kind: EventKind,
    /// With what; `None` for a touch.
    pub product: Option<ProductId>,
}

/// What a hand did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// Lifted one off a plate.
    PickUp {
        /// Where from.
        plate: PlateId,
        /// Whether that plate is the product's own.
        home: bool,
    },
    /// Set one down on a plate.
    PutBack {
        /// Where.
        plate: PlateId,
        /// Whether that plate is the product's own.
        home: bool,
    },
    /// Touched a plate and took nothing.
    Touch {
        /// Which.
        plate: PlateId,
    },
    /// Gave one to somebody.
    HandOver {
        /// To whom.
        to: u32,
    },
    /// Went through a lane.
    Passage {
        /// Which.
        lane: String,
        /// Into the store, or out of it.
        inward: bool,
    },
}

/// Where somebody was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// When.
    pub at: Instant,
    /// Who.
    pub person: u32,
    /// Where, metres.
    pub position: [f64; 2],
}

impl Truth {
    /// What a person had, in hands and bags, at a time.
    #[must_use]
    pub fn held(&self, person: u32, at: Instant) -> BTreeMap<ProductId, u32> {
        let mut held: BTreeMap<ProductId, u32> = BTreeMap::new();
        for event in self.events.iter().take_while(|event| event.at <= at) {
            let Some(product) = &event.product else { continue };
            let gains = match event.kind {
                EventKind::PickUp { .. } => event.person == person,
                EventKind::HandOver { to } => to == person,
                EventKind::PutBack { .. } | EventKind::Touch { .. } | EventKind::Passage { .. } => false,
            };
            let loses = match event.kind {
                EventKind::PutBack { .. } | EventKind::HandOver { .. } => event.person == person,
                EventKind::PickUp { .. } | EventKind::Touch { .. } | EventKind::Passage { .. } => false,
            };
            let count = held.entry(product.clone()).or_default();
            *count = (*count + u32::from(gains)).saturating_sub(u32::from(loses));
        }
        held.retain(|_, count| *count > 0);
        held
    }

    /// The visit of a person.
    #[must_use]
    pub fn visit_of(&self, person: u32) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.people.contains(&person))
    }

    /// The visit of a pass.
    #[must_use]
    pub fn visit(&self, member: MemberHandle) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.member == member)
    }

    /// Order-sensitive digest of everything (FNV-1a over the JSON form): two equal days have equal digests.
    ///
    /// # Errors
    /// Never for the types here; JSON writing has an error type.
    pub fn digest(&self) -> Result<u64, serde_json::Error> {
        Ok(fnv(&serde_json::to_vec(self)?))
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv).
#[must_use]
pub fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
