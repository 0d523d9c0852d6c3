//! Orders that were seen: each acts once, and its outcome is told again when it is repeated.

use serde::{Deserialize, Serialize};

use super::ORDER_LIFE_MAX;
use crate::message::{GateOrder, GateOutcome, OrderRefusal};
use crate::time::Instant;
use crate::units::MessageId;

/// Most orders remembered at a time; more are refused, so that none acts twice.
pub(super) const ORDERS_MAX: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Orders {
    seen: Vec<Seen>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Seen {
    id: MessageId,
    expires: Instant,
    outcome: GateOutcome,
}

impl Orders {
    /// The outcome of an order that shall not act (any more).
    pub(super) fn settled(&mut self, now: Instant, order: &GateOrder) -> Option<GateOutcome> {
        self.seen.retain(|seen| now < seen.expires);
        if let Some(seen) = self.seen.iter().find(|seen| seen.id == order.id) {
            return Some(seen.outcome);
        }
        let refused = |reason| Some(GateOutcome::Refused { reason });
        if now >= order.expires {
            return Some(GateOutcome::Expired);
        }
        if order.expires.since(now) > ORDER_LIFE_MAX {
            return refused(OrderRefusal::LivesTooLong);
        }
        if self.seen.len() >= ORDERS_MAX {
            return refused(OrderRefusal::TooMany);
        }
        None
    }

    pub(super) fn settle(&mut self, order: GateOrder, outcome: GateOutcome) {
        self.seen.push(Seen { id: order.id, expires: order.expires, outcome });
    }

    #[cfg(test)]
    pub(super) fn each_time(&mut self, change: &mut impl FnMut(&mut Instant)) {
        self.seen.iter_mut().for_each(|seen| change(&mut seen.expires));
    }
}
