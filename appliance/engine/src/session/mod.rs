//! Visits, from the entry passage to the settled receipt: an event-sourced state machine whose every state
//! follows from its inputs alone.

mod belief;
mod explain;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::cart::{Evidence, ShelfEvent};
use crate::message::{
    Authority, Candidate, CartLine, Grant, Passage, Receipt, ReceiptLine, Review, ReviewDecision,
    SessionClosed, SessionState, SessionView, StoreView,
};
use crate::session::belief::{Belief, Cart, OpenEvent};
use crate::session::explain::{Explanation, Move, Planogram, ProductKey, SessionKey, Shopper};
use crate::store::StoreMap;
use crate::time::{Instant, Millis};
use crate::units::{Currency, Mass, MemberHandle, MessageId, Money, PlateId, SessionId, TrackId};

/// Settled sessions stay in the view this long.
const SHOWN: Millis = Millis::from_seconds(60);
/// Passage ids remembered, to drop repeats.
const PASSAGES_MAX: usize = 10_000;
/// An exit without a track is decided by elimination after this long, when sensing has not said more (it was
/// killed).
const EXIT_WAIT: Millis = Millis::from_seconds(15);
/// Shelf changes this long before an entry or after an exit are not by that session.
const EDGE: Millis = Millis::from_seconds(2);
/// Least probability of being involved that makes a session a candidate of an event.
const CANDIDATE: f64 = 0.02;
/// An explanation with this chance needs no person.
const CERTAIN: f64 = 0.995;
/// Explanations listed in a review.
const CANDIDATES_MAX: usize = 8;

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
    /// How likely a thing known to lie on a plate that is not its own is taken next there, against 1 for what
    /// belongs there. A busy store sees many more ordinary pick-ups for each; a short recording made to
    /// confuse sees fewer.
    pub misplaced: f64,
    /// Currency of totals; lines priced in another currency are not charged.
    pub currency: Currency,
}

/// What an unanswered review means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// In doubt, do not charge: of each product only as many as were taken almost certainly.
    ChargeNothing,
    /// The likeliest cart holds (recordings without a reviewer).
    Likeliest,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            accept: 0.9,
            review_timeout: Millis::from_seconds(600),
            doubt: Doubt::ChargeNothing,
            misplaced: 0.45,
            currency: Currency::KRW,
        }
    }
}

/// What the store is told. The ledger stores (time, id, input) before [`Store::handle`] sees it, and replays
/// the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Something sensed.
    Evidence(Evidence),
    /// A person answered a review. Acknowledge its id when stored; repeats are ignored.
    Decision(ReviewDecision),
    /// Time passed: a deadline of [`Store::deadline`] is reached.
    Tick,
    /// The recording or the day is over: everyone still inside leaves now, and what is unclear is settled by
    /// `Policy::doubt` at once.
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
pub struct Store {
    map: StoreMap,
    policy: Policy,
    planogram: Planogram,
    sessions: BTreeMap<SessionKey, Session>,
    next: SessionKey,
    belief: Belief,
    /// Shelf events from after the watermark, which are weighed in order of their beginning.
    pending: Vec<(MessageId, ShelfEvent)>,
    watermark: Instant,
    levels: BTreeMap<PlateId, Mass>,
    reviews: Vec<Review>,
    passages: BTreeSet<MessageId>,
    passages_order: VecDeque<MessageId>,
    /// Entries whose track may still be told.
    entries: BTreeMap<MessageId, SessionKey>,
    exits: Vec<Exit>,
    settled: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Session {
    id: SessionId,
    member: Option<MemberHandle>,
    staff: bool,
    entered: Instant,
    tracks: Vec<TrackId>,
    /// People inside: one, or those of a party.
    inside: u32,
    /// How many came in, since the start.
    people: u32,
    left: Option<Instant>,
    state: SessionState,
    settled: Option<Instant>,
    /// Events no longer open that are behind the cart.
    evidence: Vec<(ProductKey, MessageId)>,
    /// Lines as settled.
    lines: Vec<CartLine>,
}

/// Somebody left, nobody knows who.
#[derive(Clone, Debug, PartialEq)]
struct Exit {
    passage: MessageId,
    at: Instant,
    /// Sensing will not say more.
    given_up: bool,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(map: StoreMap, policy: Policy) -> Self {
        Self {
            planogram: Planogram::new(&map, policy.misplaced),
            map,
            policy,
            sessions: BTreeMap::new(),
            next: 0,
            belief: Belief::new(),
            pending: Vec::new(),
            watermark: Instant(0),
            levels: BTreeMap::new(),
            reviews: Vec::new(),
            passages: BTreeSet::new(),
            passages_order: VecDeque::new(),
            entries: BTreeMap::new(),
            exits: Vec::new(),
            settled: 0,
        }
    }

    /// Handles one input. `id` is the ledger's name for it, unique for ever; sessions, events and receipts
    /// are named after it. Total: unknown and repeated passages and decisions change nothing.
    pub fn handle(&mut self, at: Instant, id: &MessageId, input: &Input, out: &mut Vec<Command>) {
        match input {
            Input::Evidence(evidence) => self.evidence(at, id, evidence, out),
            Input::Decision(decision) => self.decide(decision),
            Input::Tick => self.give_up_exits(at, out),
            Input::Close => self.close(at, out),
        }
        self.settle_all(at, out);
        self.sessions.retain(|_, session| session.settled.is_none_or(|settled| at.since(settled) <= SHOWN));
    }

    /// When to call with [`Input::Tick`], if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let reviews = self
            .sessions
            .values()
            .filter(|session| session.state == SessionState::InReview)
            .filter_map(|session| session.left)
            .map(|left| left.after(self.policy.review_timeout));
        let exits = self.exits.iter().filter(|exit| !exit.given_up).map(|exit| exit.at.after(EXIT_WAIT));
        reviews.chain(exits).min()
    }

    /// Sessions, carts, plates and open reviews for screens; sessions settled of late stay on it for a
    /// minute.
    #[must_use]
    pub fn view(&self, at: Instant) -> StoreView {
        let sessions = self
            .sessions
            .iter()
            .filter(|(_, session)| session.settled.is_none_or(|settled| at.since(settled) <= SHOWN));
        let show = |(key, session): (&SessionKey, &Session)| SessionView {
            session: session.id.clone(),
            tracks: session.tracks.clone(),
            state: session.state,
            entered: session.entered,
            lines: if session.settled.is_some() { session.lines.clone() } else { self.lines(*key, session) },
        };
        StoreView {
            at,
            sessions: sessions.map(show).collect(),
            plates: self.levels.clone(),
            reviews: self.reviews.clone(),
            settled: self.settled,
        }
    }

    /// Last known level of each plate, for [`crate::cart::sense::Sensing::new`].
    #[must_use]
    pub fn levels(&self) -> &BTreeMap<PlateId, Mass> {
        &self.levels
    }

    /// Every session that waits for something, and the member whose it is.
    pub fn open_sessions(&self) -> impl Iterator<Item = (&SessionId, Option<MemberHandle>)> {
        self.sessions
            .values()
            .filter(|session| session.settled.is_none())
            .map(|session| (&session.id, session.member))
    }

    fn evidence(&mut self, at: Instant, id: &MessageId, evidence: &Evidence, out: &mut Vec<Command>) {
        match evidence {
            Evidence::Shelf(event) => {
                for step in &event.steps {
                    self.levels.insert(step.plate, step.level);
                }
                self.pending.push((id.clone(), event.clone()));
            }
            Evidence::Entered { passage, track } => self.enter(id, passage, *track),
            Evidence::Left { passage, track } => self.leave(passage, *track, out),
            Evidence::Bound { passage, track } => self.bind(passage, *track, out),
            Evidence::Continued { from, to } => {
                let session = self.sessions.values_mut().find(|session| session.tracks.contains(from));
                if let Some(session) = session
                    && !session.tracks.contains(to)
                {
                    session.tracks.push(*to);
                    self.belief.again(&self.planogram, &self.witnesses());
                }
            }
            Evidence::Watermark { at: mark } => {
                self.watermark = self.watermark.max(*mark);
                self.weigh_pending();
            }
        }
        self.give_up_exits(at, out);
    }

    /// False for a repeat.
    fn first_time(&mut self, passage: &MessageId) -> bool {
        if !self.passages.insert(passage.clone()) {
            return false;
        }
        self.passages_order.push_back(passage.clone());
        if self.passages_order.len() > PASSAGES_MAX
            && let Some(oldest) = self.passages_order.pop_front()
        {
            self.passages.remove(&oldest);
        }
        true
    }

    fn enter(&mut self, id: &MessageId, passage: &Passage, track: Option<TrackId>) {
        if !self.first_time(&passage.id) {
            return;
        }
        let grant = match &passage.authority {
            Authority::Grant(grant) => Some(grant),
            Authority::Free | Authority::Order { .. } | Authority::None => None,
        };
        let key = grant.and_then(|grant| self.party_of(grant)).unwrap_or_else(|| {
            let session = Session {
                id: SessionId(format!("visit/{id}")),
                member: grant.map(|grant| grant.member),
                staff: grant.is_some_and(|grant| grant.staff),
                entered: passage.at,
                tracks: Vec::new(),
                inside: 0,
                people: 0,
                left: None,
                state: SessionState::Shopping,
                settled: None,
                evidence: Vec::new(),
                lines: Vec::new(),
            };
            self.sessions.insert(self.next, session);
            self.next += 1;
            self.next - 1
        });
        if let Some(session) = self.sessions.get_mut(&key) {
            session.inside += 1;
            session.people += 1;
            session.tracks.extend(track);
        }
        if track.is_none() {
            self.entries.insert(passage.id.clone(), key);
        }
    }

    /// The open session that a further member of a party joins.
    fn party_of(&self, grant: &Grant) -> Option<SessionKey> {
        let shares = grant.party > 1 || grant.party_member > 0;
        self.sessions
            .iter()
            .find(|(_, session)| shares && session.left.is_none() && session.member == Some(grant.member))
            .map(|(key, _)| *key)
    }

    fn leave(&mut self, passage: &Passage, track: Option<TrackId>, out: &mut Vec<Command>) {
        if !self.first_time(&passage.id) {
            return;
        }
        self.exits.push(Exit { passage: passage.id.clone(), at: passage.at, given_up: false });
        if track.is_some() {
            self.bind(&passage.id, track, out);
        }
    }

    fn bind(&mut self, passage: &MessageId, track: Option<TrackId>, out: &mut Vec<Command>) {
        if let Some(key) = self.entries.get(passage).copied() {
            // `None`: nobody yet; they may be found later in the middle of the floor.
            let Some(track) = track else { return };
            self.entries.remove(passage);
            if let Some(session) = self.sessions.get_mut(&key)
                && !session.tracks.contains(&track)
            {
                session.tracks.push(track);
                self.belief.again(&self.planogram, &self.witnesses());
            }
            return;
        }
        let Some(index) = self.exits.iter().position(|exit| exit.passage == *passage) else { return };
        let owner = track.and_then(|track| {
            let mut open = self.sessions.iter().filter(|(_, session)| session.left.is_none());
            open.find(|(_, session)| session.tracks.contains(&track)).map(|(key, _)| *key)
        });
        match owner {
            Some(key) => {
                let exit = self.exits.remove(index);
                self.gone(key, exit.at, out);
            }
            None => self.exits[index].given_up = true,
        }
    }

    /// One person of a session is outside.
    fn gone(&mut self, key: SessionKey, at: Instant, out: &mut Vec<Command>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.inside = session.inside.saturating_sub(1);
        if session.inside > 0 || session.left.is_some() {
            return;
        }
        session.left = Some(at.max(session.entered));
        session.state = SessionState::Settling;
        self.entries.retain(|_, entry| *entry != key);
        out.push(Command::Close(SessionClosed {
            id: MessageId(format!("closed/{}", session.id)),
            session: session.id.clone(),
            member: session.member,
            people: session.people,
        }));
    }

    /// Exits of nobody knows whom: when as many left as had come in before, they all did; when as many of them
    /// were never seen on the floor, those did. Otherwise the exit waits until the others have left by exits of
    /// their own.
    fn give_up_exits(&mut self, at: Instant, out: &mut Vec<Command>) {
        for exit in &mut self.exits {
            exit.given_up |= at.since(exit.at) >= EXIT_WAIT;
        }
        let unknown: Vec<Instant> =
            self.exits.iter().filter(|exit| exit.given_up).map(|exit| exit.at).collect();
        let Some(last) = unknown.iter().max().copied() else { return };
        let inside: Vec<(SessionKey, u32, bool)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.left.is_none() && session.entered <= last)
            .map(|(key, session)| (*key, session.inside, session.tracks.is_empty()))
            .collect();
        let unseen: Vec<SessionKey> = inside.iter().filter(|entry| entry.2).map(|entry| entry.0).collect();
        let people = inside.iter().map(|entry| entry.1 as usize).sum::<usize>();
        let everyone = people <= unknown.len();
        let leaving: Vec<SessionKey> = if everyone {
            inside.iter().flat_map(|(key, people, _)| std::iter::repeat_n(*key, *people as usize)).collect()
        } else if !unseen.is_empty() && unseen.len() == unknown.len() {
            unseen
        } else {
            return;
        };
        for (index, key) in leaving.into_iter().enumerate() {
            self.gone(key, unknown.get(index).copied().unwrap_or(last), out);
        }
        self.exits.retain(|exit| !exit.given_up);
    }

    /// Open sessions as the belief sees them.
    fn shoppers(&self) -> Vec<Shopper> {
        self.seen(|_, session| session.settled.is_none())
    }

    /// Everyone who may be behind an open event: open sessions, and settled ones that were there.
    fn witnesses(&self) -> Vec<Shopper> {
        self.seen(|key, session| session.settled.is_none() || self.belief.remembers(key))
    }

    fn seen(&self, wanted: impl Fn(SessionKey, &Session) -> bool) -> Vec<Shopper> {
        self.sessions
            .iter()
            .filter(|(key, session)| wanted(**key, session))
            .map(|(key, session)| Shopper { key: *key, staff: session.staff, tracks: session.tracks.clone() })
            .collect()
    }

    fn weigh_pending(&mut self) {
        let mark = self.watermark;
        let (mut ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|(_, event)| event.from() <= mark);
        self.pending = waiting;
        ready.sort_by_key(|(_, event)| event.from());
        for (id, event) in ready {
            let there = |session: &Session| {
                session.entered.before(EDGE) <= event.to()
                    && session.left.is_none_or(|left| left.after(EDGE) >= event.from())
            };
            let mut shoppers = self.shoppers();
            shoppers.retain(|shopper| self.sessions.get(&shopper.key).is_some_and(there));
            let closed = self.belief.observe(&self.planogram, &id, &event, &shoppers);
            self.keep_evidence(closed);
        }
    }

    fn keep_evidence(&mut self, closed: Vec<(OpenEvent, Explanation)>) {
        for (event, explanation) in closed {
            for step in explanation {
                if let Some(session) = step.session.and_then(|key| self.sessions.get_mut(&key)) {
                    session.evidence.push((step.product, event.change.id.clone()));
                }
            }
        }
        self.reviews.retain(|review| self.belief.events.iter().any(|event| event.change.id == review.event));
    }

    fn decide(&mut self, decision: &ReviewDecision) {
        if !self.reviews.iter().any(|review| review.event == decision.event) {
            return;
        }
        let session = decision
            .session
            .as_ref()
            .and_then(|id| self.sessions.iter().find(|(_, session)| session.id == *id).map(|(key, _)| *key));
        let mut explanation: Explanation = Vec::new();
        for (product, count) in &decision.items {
            let found =
                (0..ProductKey::MAX).zip(&self.map.products).find(|(_, listed)| listed.id == *product);
            let count = i16::try_from(*count).unwrap_or(0);
            if let (Some((product, _)), true) = (found, count != 0) {
                explanation.push(Move { session, product, count });
            }
        }
        explanation.sort();
        self.belief.decide(&self.planogram, &decision.event, explanation, &self.witnesses());
        self.reviews.retain(|review| review.event != decision.event);
    }

    fn close(&mut self, at: Instant, out: &mut Vec<Command>) {
        self.watermark = Instant(u64::MAX);
        self.weigh_pending();
        let inside: Vec<SessionKey> =
            self.sessions.iter().filter(|(_, session)| session.left.is_none()).map(|(key, _)| *key).collect();
        for key in inside {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.inside = 1;
            }
            self.gone(key, at, out);
        }
        let unclear: Vec<SessionKey> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.settled.is_none())
            .map(|(key, _)| *key)
            .collect();
        for key in &unclear {
            if !self.clear(*key) && !self.asked(*key) {
                let accept = self.policy.accept;
                if self.ask(*key, 1.0, out) {
                    while self.ask(*key, accept, out) {}
                }
            }
        }
        // The clearest first, so that the others gain from it.
        let mut order: Vec<(SessionKey, f64)> = unclear
            .iter()
            .map(|key| (*key, self.belief.carts(*key).first().map_or(1.0, |(_, chance)| *chance)))
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for (key, _) in order {
            self.settle(key, at, out);
        }
        self.watermark = at;
        self.exits.clear();
    }

    /// Whether a session may settle without a person: nothing that could change its cart is unclear.
    fn clear(&self, key: SessionKey) -> bool {
        let Some(session) = self.sessions.get(&key) else { return false };
        // What is never charged needs no review.
        session.staff
            || session.member.is_none()
            || self.belief.carts(key).first().is_none_or(|(_, chance)| *chance >= self.policy.accept)
    }

    fn settle_all(&mut self, at: Instant, out: &mut Vec<Command>) {
        loop {
            let leaving: Vec<(SessionKey, Instant)> = self
                .sessions
                .iter()
                .filter(|(_, session)| session.settled.is_none())
                .filter_map(|(key, session)| session.left.map(|left| (*key, left)))
                .filter(|(_, left)| *left <= self.watermark)
                .collect();
            let timed_out = |left: Instant| at.since(left) >= self.policy.review_timeout;
            let ready = leaving.iter().find(|(key, left)| self.clear(*key) || timed_out(*left));
            if let Some((key, _)) = ready {
                self.settle(*key, at, out);
                continue;
            }
            for (key, _) in leaving {
                if !self.asked(key) && !self.ask(key, 1.0, out) {
                    // Nothing a person could still say.
                    self.settle(key, at, out);
                } else if let Some(session) = self.sessions.get_mut(&key) {
                    session.state = SessionState::InReview;
                }
            }
            return;
        }
    }

    /// Chance that `key` is involved in an open event.
    fn involved(&self, index: usize, key: SessionKey) -> f64 {
        let touches = |explanation: &Explanation| explanation.iter().any(|step| step.session == Some(key));
        self.belief.explanations(index).iter().filter(|(e, _)| touches(e)).map(|(_, chance)| *chance).sum()
    }

    /// A review is out whose answer may clear this session.
    fn asked(&self, key: SessionKey) -> bool {
        self.belief.events.iter().enumerate().any(|(index, event)| {
            self.reviews.iter().any(|review| review.event == event.change.id)
                && self.involved(index, key) > CANDIDATE
        })
    }

    /// Asks for the least clear event of a session, if its likeliest explanation has a chance below `below`;
    /// one at a time, because an answer often clears the others.
    fn ask(&mut self, key: SessionKey, below: f64, out: &mut Vec<Command>) -> bool {
        let worst = self
            .belief
            .events
            .iter()
            .enumerate()
            .filter(|(_, event)| !self.reviews.iter().any(|review| review.event == event.change.id))
            .filter(|(index, _)| self.involved(*index, key) > CANDIDATE)
            .map(|(index, _)| {
                (index, self.belief.explanations(index).first().map_or(1.0, |(_, chance)| *chance))
            })
            .filter(|(_, chance)| *chance < below.min(CERTAIN))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((index, _)) = worst else { return false };
        let review = self.review(index);
        out.push(Command::Review(review.clone()));
        self.reviews.push(review);
        true
    }

    fn review(&self, index: usize) -> Review {
        let change = &self.belief.events[index].change;
        let candidate = |(explanation, probability): &(&Explanation, f64)| {
            // Two people taking one each are listed under the first; the reviewer sees the plates and the
            // clip.
            let first = explanation.first().and_then(|step| step.session);
            let items = explanation.iter().filter(|step| step.session == first);
            Candidate {
                session: first.and_then(|key| self.sessions.get(&key)).map(|session| session.id.clone()),
                items: items
                    .filter_map(|step| {
                        let product = self.map.products.get(usize::from(step.product))?;
                        Some((product.id.clone(), i32::from(step.count)))
                    })
                    .collect(),
                probability: *probability,
            }
        };
        Review {
            event: change.id.clone(),
            at: change.from,
            plates: change.plates.iter().map(|(plate, _)| *plate).collect(),
            delta: Mass::from_grams(change.delta),
            candidates: self.belief.explanations(index).iter().take(CANDIDATES_MAX).map(candidate).collect(),
        }
    }

    /// The cart as it stands, with the chance of each line and the events behind it.
    fn lines(&self, key: SessionKey, session: &Session) -> Vec<CartLine> {
        let carts = self.belief.carts(key);
        let Some((likeliest, _)) = carts.first() else { return Vec::new() };
        self.describe(key, session, likeliest, |product, count| chance(&carts, product, |held| held == count))
    }

    fn describe(
        &self,
        key: SessionKey,
        session: &Session,
        cart: &Cart,
        confidence: impl Fn(ProductKey, i16) -> f64,
    ) -> Vec<CartLine> {
        let open = self.belief.evidence(key);
        let mut lines = explain::lines(&self.map, cart.iter().map(|(product, count)| (*product, *count)));
        for (line, (product, count)) in lines.iter_mut().zip(cart.iter().filter(|(_, count)| **count > 0)) {
            line.confidence = confidence(*product, *count).clamp(0.0, 1.0);
            let behind = session.evidence.iter().chain(&open).filter(|(other, _)| other == product);
            line.evidence = behind.map(|(_, event)| event.clone()).collect();
        }
        lines
    }

    /// Nobody answered in time: what is unclear about this session is nobody's, and no other's either. Leaving it open
    /// would charge it to whoever is left.
    fn charge_nobody(&mut self, key: SessionKey) {
        let unclear: Vec<MessageId> = (0..self.belief.events.len())
            .filter(|index| {
                let chance = self.involved(*index, key);
                let sure = self.belief.explanations(*index).first().map_or(1.0, |(_, chance)| *chance);
                chance > CANDIDATE && sure < self.policy.accept
            })
            .map(|index| self.belief.events[index].change.id.clone())
            .collect();
        for event in unclear {
            let index = self.belief.events.iter().position(|open| open.change.id == event);
            let Some(index) = index else { continue };
            let mut moved: BTreeMap<ProductKey, i16> = BTreeMap::new();
            if let Some((likeliest, _)) = self.belief.explanations(index).first() {
                for step in *likeliest {
                    *moved.entry(step.product).or_default() += step.count;
                }
            }
            let explanation: Explanation = moved
                .into_iter()
                .filter(|(_, count)| *count != 0)
                .map(|(product, count)| Move { session: None, product, count })
                .collect();
            self.belief.decide(&self.planogram, &event, explanation, &self.witnesses());
            self.reviews.retain(|review| review.event != event);
        }
    }

    /// Makes the receipt. Happens once for each session: `settled` is set here and nowhere else.
    fn settle(&mut self, key: SessionKey, at: Instant, out: &mut Vec<Command>) {
        if !self.clear(key) && self.policy.doubt == Doubt::ChargeNothing {
            self.charge_nobody(key);
        }
        let carts = self.belief.carts(key);
        let likeliest = carts.first().map(|(cart, _)| cart.clone()).unwrap_or_default();
        let sure = self.clear(key) || self.policy.doubt == Doubt::Likeliest;
        let cart = if sure { likeliest } else { surely_taken(&carts, self.policy.accept) };
        let Some(session) = self.sessions.get(&key).filter(|session| session.settled.is_none()) else {
            return;
        };
        let lines = self.describe(key, session, &cart, |product, count| {
            chance(&carts, product, |held| if sure { held == count } else { held >= count })
        });
        let receipt = self.receipt(session, at, &lines);
        let staff = session.staff;
        let open: BTreeSet<SessionKey> =
            self.shoppers().iter().map(|shopper| shopper.key).filter(|other| *other != key).collect();
        let closed = self.belief.settle(key, &cart, &open);
        self.keep_evidence(closed);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.state = SessionState::Settled;
            session.settled = Some(at);
            session.lines = lines;
        }
        self.settled += 1;
        if !staff {
            out.push(Command::Settle(receipt));
        }
    }

    fn receipt(&self, session: &Session, at: Instant, lines: &[CartLine]) -> Receipt {
        let currency = self.policy.currency;
        let lines: Vec<ReceiptLine> = lines
            .iter()
            .filter_map(|line| {
                let price = self.map.product(&line.product)?.price;
                (price.currency == currency).then(|| ReceiptLine {
                    product: line.product.clone(),
                    quantity: line.quantity,
                    price,
                    confidence: line.confidence,
                    evidence: line.evidence.clone(),
                })
            })
            .collect();
        let minor = lines.iter().fold(0_i64, |sum, line| {
            sum.saturating_add(line.price.minor.saturating_mul(i64::from(line.quantity)))
        });
        Receipt {
            id: MessageId(format!("receipt/{}", session.id)),
            session: session.id.clone(),
            member: session.member,
            entered: session.entered,
            left: session.left.unwrap_or(at),
            settled: at,
            lines,
            total: Money { minor, currency },
        }
    }
}

/// Chance that the cart holds a number of `product` that passes `test`.
fn chance(carts: &[(Cart, f64)], product: ProductKey, test: impl Fn(i16) -> bool) -> f64 {
    let held = |cart: &Cart| cart.get(&product).copied().unwrap_or(0);
    carts.iter().filter(|(cart, _)| test(held(cart))).map(|(_, chance)| *chance).sum()
}

/// Of each product, the greatest number that is in the cart with a chance of at least `accept`.
fn surely_taken(carts: &[(Cart, f64)], accept: f64) -> Cart {
    let products: BTreeSet<ProductKey> = carts.iter().flat_map(|(cart, _)| cart.keys().copied()).collect();
    let most = |product: ProductKey| {
        let greatest = carts.iter().filter_map(|(cart, _)| cart.get(&product)).max().copied().unwrap_or(0);
        let sure = (1..=greatest).rev().find(|count| chance(carts, product, |held| held >= *count) >= accept);
        sure.map(|count| (product, count))
    };
    products.into_iter().filter_map(most).collect()
}
