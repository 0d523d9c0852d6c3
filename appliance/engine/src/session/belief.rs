//! A beam over joint explanations of the open shelf events: each hypothesis holds one explanation of every
//! event and the carts and shelves that follow, so that what was put back must have been taken, and late
//! evidence re-ranks.

use std::collections::{BTreeMap, BTreeSet};

use crate::cart::ShelfEvent;
use crate::session::explain::{
    Candidates, Change, Explanation, Holdings, Move, Planogram, ProductKey, SPREAD, SessionKey, Shopper,
    habit, partitions,
};
use crate::units::MessageId;

/// Hypotheses kept; twelve undecided twins between two settlements still fit.
const BEAM: usize = 256;
/// Hypotheses looked at when an event's steps are parted.
const PART_BEAM: usize = 8;
/// Open events kept; the oldest are taken as they stand beyond that.
const EVENTS_MAX: usize = 240;

/// A cart in a hypothesis.
pub(super) type Cart = BTreeMap<ProductKey, i16>;

#[derive(Clone, Debug, PartialEq)]
struct Hypothesis {
    holdings: Holdings,
    /// For each open event, which of its explanations.
    choices: Vec<u16>,
    log: f64,
}

/// An event whose explanation may still change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OpenEvent {
    pub change: Change,
    /// Explanations that some hypothesis has chosen.
    explanations: Vec<Explanation>,
    /// Set by a person: nothing else is considered.
    decided: Option<Explanation>,
    /// Who was in the store then.
    shoppers: Vec<SessionKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Belief {
    hypotheses: Vec<Hypothesis>,
    pub events: Vec<OpenEvent>,
    /// Carts of settled sessions that open events may still concern: whoever weighs such an event again must
    /// not take from them what they paid for.
    settled: BTreeMap<SessionKey, Cart>,
}

impl Belief {
    pub(super) fn new() -> Self {
        let first = Hypothesis { holdings: Holdings::default(), choices: Vec::new(), log: 0.0 };
        Self { hypotheses: vec![first], events: Vec::new(), settled: BTreeMap::new() }
    }

    /// Takes in a shelf event, parted in the way that explains it best. Returns events that had to be closed
    /// to make room, with the explanation that now stands.
    pub(super) fn observe(
        &mut self,
        planogram: &Planogram,
        id: &MessageId,
        event: &ShelfEvent,
        shoppers: &[Shopper],
    ) -> Vec<(OpenEvent, Explanation)> {
        let parts = partitions(id, &event.steps);
        let best = if parts.len() == 1 {
            parts.into_iter().next()
        } else {
            let mut scratch = self.clone();
            scratch.hypotheses.truncate(PART_BEAM);
            let scored = parts.into_iter().map(|changes| {
                let mut trial = scratch.clone();
                for change in &changes {
                    trial.extend(planogram, open(change.clone(), shoppers), shoppers);
                }
                (trial.total(), changes)
            });
            scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, changes)| changes)
        };
        for change in best.into_iter().flatten() {
            self.extend(planogram, open(change, shoppers), shoppers);
        }
        self.normalise();
        let mut closed = Vec::new();
        while self.events.len() > EVENTS_MAX {
            closed.push(self.drop_event(0));
        }
        self.forget_settled();
        closed
    }

    /// Tries every explanation of `event` on every hypothesis and keeps the best.
    fn extend(&mut self, planogram: &Planogram, mut event: OpenEvent, shoppers: &[Shopper]) {
        let plate = event.change.plates.first().map(|(plate, _)| *plate);
        let mut held = BTreeSet::new();
        let mut lying = BTreeSet::new();
        for hypothesis in &self.hypotheses {
            let positive = hypothesis.holdings.carts.iter().filter(|(_, count)| **count > 0);
            held.extend(positive.map(|((_, product), _)| *product));
            let misplaced = hypothesis.holdings.misplaced.iter().filter(|(_, count)| **count > 0);
            lying.extend(
                misplaced
                    .filter(|((at, _), _)| event.change.plates.iter().any(|(plate, _)| plate == at))
                    .map(|((_, product), _)| *product),
            );
        }
        let candidates = Candidates::new(planogram, &event.change, shoppers, &held, &lying);
        let alone: BTreeSet<SessionKey> =
            shoppers.iter().filter(|shopper| shopper.tracks.len() < 2).map(|shopper| shopper.key).collect();
        let mut table: BTreeMap<Explanation, u16> = BTreeMap::new();
        let mut extended: Vec<(usize, u16, f64)> = Vec::new();
        for (index, hypothesis) in self.hypotheses.iter().enumerate() {
            let scored = match &event.decided {
                Some(decided) => vec![(decided.clone(), hypothesis.holdings.allow(decided))],
                None => candidates.score(planogram, &event.change, &hypothesis.holdings),
            };
            for (explanation, score) in scored {
                let others = self.events.iter().zip(&hypothesis.choices);
                let habits = others.map(|(other, choice)| {
                    let moves = &other.explanations[usize::from(*choice)];
                    habit(&other.change, moves, &event.change, &explanation, &alone)
                });
                let score = score + habits.sum::<f64>();
                let next = u16::try_from(table.len()).unwrap_or(u16::MAX);
                let choice = *table.entry(explanation).or_insert(next);
                extended.push((index, choice, hypothesis.log + score));
            }
        }
        extended.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)).then(a.1.cmp(&b.1)));
        extended.truncate(BEAM);
        let least = extended.first().map_or(0.0, |first| first.2) - SPREAD;
        extended.retain(|(_, _, log)| *log >= least);
        let mut explanations = vec![Explanation::new(); table.len()];
        for (explanation, choice) in table {
            explanations[usize::from(choice)] = explanation;
        }
        self.hypotheses = extended
            .into_iter()
            .map(|(index, choice, log)| {
                let mut next = self.hypotheses[index].clone();
                if let Some(plate) = plate {
                    next.holdings.apply(planogram, plate, &explanations[usize::from(choice)], 1);
                }
                next.choices.push(choice);
                next.log = log;
                next
            })
            .collect();
        event.explanations = explanations;
        self.events.push(event);
    }

    /// Oracle: taking back every open event's moves leaves carts of which none holds less than nothing. A
    /// person's decision may break it: people are believed, even when they say what cannot be.
    #[cfg(test)]
    pub(super) fn conserved(&self, planogram: &Planogram) -> bool {
        self.hypotheses.iter().all(|hypothesis| {
            let mut before = hypothesis.holdings.clone();
            for (event, choice) in self.events.iter().zip(&hypothesis.choices).rev() {
                let Some((plate, _)) = event.change.plates.first() else { return false };
                before.apply(planogram, *plate, &event.explanations[usize::from(*choice)], -1);
            }
            let whole = |holdings: &Holdings| holdings.carts.values().all(|count| *count > 0);
            hypothesis.choices.len() == self.events.len() && whole(&hypothesis.holdings) && whole(&before)
        })
    }

    /// Log of the summed weight of all hypotheses.
    fn total(&self) -> f64 {
        let best = self.hypotheses.first().map_or(0.0, |first| first.log);
        best + self.hypotheses.iter().map(|hypothesis| (hypothesis.log - best).exp()).sum::<f64>().ln()
    }

    fn normalise(&mut self) {
        let total = self.total();
        for hypothesis in &mut self.hypotheses {
            hypothesis.log -= total;
        }
    }

    fn probabilities(&self) -> impl Iterator<Item = (f64, &Hypothesis)> {
        self.hypotheses.iter().map(|hypothesis| (hypothesis.log.exp(), hypothesis))
    }

    /// The carts that `session` may hold, likeliest first.
    pub(super) fn carts(&self, session: SessionKey) -> Vec<(Cart, f64)> {
        let mut carts: BTreeMap<Cart, f64> = BTreeMap::new();
        for (probability, hypothesis) in self.probabilities() {
            let cart: Cart = hypothesis.holdings.cart(session).filter(|(_, count)| *count > 0).collect();
            *carts.entry(cart).or_default() += probability;
        }
        let mut carts: Vec<(Cart, f64)> = carts.into_iter().collect();
        carts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        carts
    }

    /// The explanations of an open event, likeliest first.
    pub(super) fn explanations(&self, index: usize) -> Vec<(&Explanation, f64)> {
        let Some(event) = self.events.get(index) else { return Vec::new() };
        let mut chances = vec![0.0; event.explanations.len()];
        for (probability, hypothesis) in self.probabilities() {
            chances[usize::from(hypothesis.choices[index])] += probability;
        }
        let mut out: Vec<(&Explanation, f64)> =
            event.explanations.iter().zip(chances).filter(|(_, chance)| *chance > 0.0).collect();
        out.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        out
    }

    /// Open events that, in the likeliest hypothesis, moved something into or out of `session`'s cart.
    pub(super) fn evidence(&self, session: SessionKey) -> Vec<(ProductKey, MessageId)> {
        let Some(best) = self.hypotheses.first() else { return Vec::new() };
        let mut out = Vec::new();
        for (event, choice) in self.events.iter().zip(&best.choices) {
            for step in &event.explanations[usize::from(*choice)] {
                if step.session == Some(session) {
                    out.push((step.product, event.change.id.clone()));
                }
            }
        }
        out
    }

    /// A person decided an event: everything that is still open is weighed again with that given.
    /// False when the event is not open.
    pub(super) fn decide(
        &mut self,
        planogram: &Planogram,
        event: &MessageId,
        explanation: Explanation,
        shoppers: &[Shopper],
    ) -> bool {
        let Some(found) = self.events.iter_mut().find(|open| open.change.id == *event) else { return false };
        found.decided = Some(explanation);
        self.again(planogram, shoppers);
        true
    }

    /// Whether a settled session may still be the one behind an open event.
    pub(super) fn remembers(&self, session: SessionKey) -> bool {
        self.settled.contains_key(&session)
    }

    /// Weighs all open events again, from what stood before them. `shoppers` are the open sessions and the
    /// settled ones that this belief remembers.
    pub(super) fn again(&mut self, planogram: &Planogram, shoppers: &[Shopper]) {
        let events = std::mem::take(&mut self.events);
        let mut bases: Vec<(Holdings, f64)> = Vec::new();
        for hypothesis in &self.hypotheses {
            let mut base = hypothesis.holdings.clone();
            for (event, choice) in events.iter().zip(&hypothesis.choices) {
                if let Some((plate, _)) = event.change.plates.first() {
                    base.apply(planogram, *plate, &event.explanations[usize::from(*choice)], -1);
                }
            }
            // Bases that differ stem from events closed while unclear: their weights stay.
            match bases.iter_mut().find(|(other, _)| *other == base) {
                Some((_, log)) => *log = log.max(hypothesis.log),
                None => bases.push((base, hypothesis.log)),
            }
        }
        self.hypotheses = bases
            .into_iter()
            .map(|(holdings, log)| Hypothesis { holdings, choices: Vec::new(), log })
            .collect();
        for mut event in events {
            event.explanations = Vec::new();
            let there: Vec<Shopper> =
                shoppers.iter().filter(|shopper| event.shoppers.contains(&shopper.key)).cloned().collect();
            self.extend(planogram, event, &there);
        }
        for (session, cart) in std::mem::take(&mut self.settled) {
            self.keep_agreeing(session, &cart);
            self.settled.insert(session, cart);
        }
        self.normalise();
    }

    /// Keeps the hypotheses in which `session` holds `cart`, unless there are none.
    fn keep_agreeing(&mut self, session: SessionKey, cart: &Cart) {
        let agrees = |hypothesis: &Hypothesis| {
            let held = hypothesis.holdings.cart(session).filter(|(_, count)| *count > 0);
            held.eq(cart.iter().map(|(product, count)| (*product, *count)))
        };
        if self.hypotheses.iter().any(agrees) {
            self.hypotheses.retain(agrees);
        }
    }

    /// Forgets settled sessions that were not there at any open event.
    fn forget_settled(&mut self) {
        let events = &self.events;
        self.settled.retain(|key, _| events.iter().any(|event| event.shoppers.contains(key)));
    }

    /// `session` settled with `cart`: hypotheses that say otherwise go, and so does all that only concerned
    /// it. Returns the closed events with the explanation that stands.
    pub(super) fn settle(
        &mut self,
        session: SessionKey,
        cart: &Cart,
        open: &BTreeSet<SessionKey>,
    ) -> Vec<(OpenEvent, Explanation)> {
        self.keep_agreeing(session, cart);
        self.normalise();
        let mut closed = Vec::new();
        let mut index = 0;
        // Whose carts an event that stays open may yet change: what came after it stays open too, or a cart
        // could lose what it was never given.
        let mut waiting: BTreeSet<SessionKey> = BTreeSet::new();
        while index < self.events.len() {
            let mine = self.explanations(index);
            let named: BTreeSet<SessionKey> = mine
                .iter()
                .flat_map(|(explanation, _)| explanation.iter().filter_map(|step| step.session))
                .collect();
            let involved = |step: &Move| step.session.is_some_and(|key| open.contains(&key));
            let others =
                mine.iter().any(|(explanation, chance)| *chance > 0.01 && explanation.iter().any(involved));
            // An event that nobody open may have caused stays only while its people are here.
            let present = self.events[index].shoppers.iter().any(|key| open.contains(key));
            let own = mine.first().is_some_and(|(explanation, _)| {
                explanation.iter().any(|step| step.session == Some(session))
                    && !explanation.iter().any(involved)
            });
            if waiting.is_disjoint(&named) && (own || !(others || present)) {
                closed.push(self.drop_event(index));
            } else {
                waiting.extend(named);
                index += 1;
            }
        }
        self.settled.insert(session, cart.clone());
        self.forget_settled();
        let settled = &self.settled;
        for hypothesis in &mut self.hypotheses {
            hypothesis.holdings.carts.retain(|(key, _), _| open.contains(key) || settled.contains_key(key));
        }
        self.merge();
        closed
    }

    /// Takes an event as it stands: its effects stay, its alternatives are no longer weighed.
    fn drop_event(&mut self, index: usize) -> (OpenEvent, Explanation) {
        let standing = self.explanations(index).first().map(|(explanation, _)| (*explanation).clone());
        let event = self.events.remove(index);
        for hypothesis in &mut self.hypotheses {
            hypothesis.choices.remove(index);
        }
        self.merge();
        (event, standing.unwrap_or_default())
    }

    /// Joins hypotheses that have become the same, keeping the order by weight.
    fn merge(&mut self) {
        let mut merged: Vec<Hypothesis> = Vec::new();
        for hypothesis in std::mem::take(&mut self.hypotheses) {
            let same = |other: &&mut Hypothesis| {
                other.choices == hypothesis.choices && other.holdings == hypothesis.holdings
            };
            match merged.iter_mut().find(same) {
                Some(other) => {
                    let (a, b) = (other.log.max(hypothesis.log), other.log.min(hypothesis.log));
                    other.log = a + (b - a).exp().ln_1p();
                }
                None => merged.push(hypothesis),
            }
        }
        merged.sort_by(|a, b| b.log.total_cmp(&a.log));
        self.hypotheses = merged;
    }
}

fn open(change: Change, shoppers: &[Shopper]) -> OpenEvent {
    let shoppers = shoppers.iter().map(|shopper| shopper.key).collect();
    OpenEvent { change, explanations: Vec::new(), decided: None, shoppers }
}
