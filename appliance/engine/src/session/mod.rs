//! Visits, from the entry passage to the settled receipt: an event-sourced state machine whose every state follows
//! from its inputs alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cart::Evidence;
use crate::message::{Receipt, Review, ReviewDecision, SessionClosed, StoreView};
use crate::store::StoreMap;
use crate::time::{Instant, Millis};
use crate::units::{Currency, Mass, MessageId, PlateId};

/// The owner's rules for settling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A cart that is right with at least this probability settles by itself, 0.5 to 1.
    pub accept: f64,
    /// How long after the exit a person may answer a review before `doubt` decides.
    pub review_timeout: Millis,
    /// What an unanswered review means.
    pub doubt: Doubt,
    /// Currency of totals; products priced in another currency are left off the total's sum.
    pub currency: Currency,
}

/// What an unanswered review means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// In doubt, do not charge: the unclear event is dropped.
    ChargeNothing,
    /// The likeliest explanation holds (recordings without a reviewer).
    Likeliest,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            accept: 0.9,
            review_timeout: Millis::from_seconds(600),
            doubt: Doubt::ChargeNothing,
            currency: Currency::KRW,
        }
    }
}

/// What the store is told. The ledger stores (time, id, input) before [`Store::handle`] sees it, and replays the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Something sensed.
    Evidence(Evidence),
    /// A person answered a review. Acknowledge its id when stored; repeats are ignored.
    Decision(ReviewDecision),
    /// Time passed: a deadline of [`Store::deadline`] is reached.
    Tick,
    /// The recording or the day is over: everyone still inside leaves now, and settles by the likeliest explanation
    /// when `Policy::doubt` says so.
    Close,
}

/// What the store wants done; the shell puts each into its outbox in the transaction that stored the input.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Settled: `id` is the same in every replay, one for each session.
    Settle(Receipt),
    /// A person should look at this shelf event.
    Review(Review),
    /// The member is outside.
    Close(SessionClosed),
}

/// Every session, cart and open shelf event of one store.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(_map: StoreMap, _policy: Policy) -> Self {
        Self {}
    }

    /// Handles one input. `id` is the ledger's name for it, unique for ever; sessions, events and receipts are named
    /// after it. Total: unknown and repeated passages and decisions change nothing.
    pub fn handle(&mut self, _at: Instant, _id: &MessageId, _input: &Input, _out: &mut Vec<Command>) {}

    /// When to call with [`Input::Tick`], if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Sessions, carts, plates and open reviews for screens; sessions settled of late stay on it for a minute.
    #[must_use]
    pub fn view(&self, at: Instant) -> StoreView {
        StoreView { at, ..StoreView::default() }
    }

    /// Last known level of each plate, for [`crate::cart::sense::Sensing::new`].
    #[must_use]
    pub fn levels(&self) -> &BTreeMap<PlateId, Mass> {
        const { &BTreeMap::new() }
    }
}
