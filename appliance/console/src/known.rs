//! What the console has learnt from the bus: a pure fold of messages, and its picture for the API.

use std::collections::{BTreeMap, VecDeque};

use engine::message::{
    Ack, DenyReason, FloorView, GateOrder, GateStatus, GateView, Health, HealthState, Notice, Receipt,
    ReviewDecision, SessionState, StaffCall, StaffCallState, StoreView, topic,
};
use engine::store::{Product, StoreMap};
use engine::time::{Instant, Millis};
use engine::units::{Currency, LaneId, MessageId, ProductId, TrackId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::gate_log::{GateLog, ORDER_LIFE, Seen};
use crate::model;

/// Receipts kept for the page; the ledger keeps all.
const RECEIPTS_MAX: usize = 100;
/// Decisions kept for the page once cartd has them.
const DECISIONS_MAX: usize = 50;
/// Calls kept at all: a broken screen must not fill the memory.
const CALLS_MAX: usize = 100;
/// Devices kept at all.
const HEALTH_MAX: usize = 1000;
/// A closed call stays on the page this long.
const CALL_CLOSED_KEPT: Millis = Millis::from_seconds(60);
/// Time between two sends of a decision that cartd has not stored.
const RESEND: Millis = Millis::from_seconds(2);

/// A part of the picture that a message changed; also the name of the page's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// People moved.
    Floor,
    /// A lane changed.
    Lanes,
    /// Visits, carts and reviews.
    Store,
    /// A receipt came.
    Receipts,
    /// A device's health changed.
    Health,
    /// A staff call came or went.
    Calls,
    /// A decision was made or stored.
    Decisions,
    /// A gate reported something, or an order was given, answered or given up.
    GateEvents,
}

/// A message that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("message on topic {topic} is not what that topic carries")]
pub struct BadMessage {
    topic: String,
    #[source]
    source: serde_json::Error,
}

#[derive(Debug)]
struct Call {
    call: StaffCall,
    state: StaffCallState,
    closed: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    decision: ReviewDecision,
    made: Instant,
    send_at: Instant,
    stored: bool,
}

/// Everything learnt so far.
#[derive(Debug)]
pub struct Known {
    map: StoreMap,
    products: BTreeMap<ProductId, Product>,
    currency: Currency,
    floor: Option<FloorView>,
    gates: BTreeMap<LaneId, GateView>,
    store: StoreView,
    receipts: VecDeque<Receipt>,
    receipts_seen: Seen,
    receipt_count: u64,
    takings: i64,
    health: BTreeMap<(String, String), Health>,
    calls: BTreeMap<MessageId, Call>,
    decisions: Vec<Pending>,
    /// What gates reported, and orders to them.
    pub gate_log: GateLog,
}

impl Known {
    /// Nothing learnt yet about the store of `map`.
    #[must_use]
    pub fn new(map: StoreMap) -> Self {
        let products = map.products.iter().map(|product| (product.id.clone(), product.clone())).collect();
        let currency = map.products.first().map_or(Currency::KRW, |product| product.price.currency);
        Self {
            map,
            products,
            currency,
            floor: None,
            gates: BTreeMap::new(),
            store: StoreView::default(),
            receipts: VecDeque::new(),
            receipts_seen: Seen::default(),
            receipt_count: 0,
            takings: 0,
            health: BTreeMap::new(),
            calls: BTreeMap::new(),
            decisions: Vec::new(),
            gate_log: GateLog::default(),
        }
    }

    /// Learns from one message; `None` when it says nothing new.
    ///
    /// # Errors
    /// The payload is not what its topic carries.
    pub fn take(&mut self, now: Instant, name: &str, payload: &[u8]) -> Result<Option<Change>, BadMessage> {
        if name == topic::FLOOR_VIEW {
            self.floor = Some(read(name, payload)?);
            return Ok(Some(Change::Floor));
        }
        if name == topic::STORE_VIEW {
            self.store = read(name, payload)?;
            return Ok(Some(Change::Store));
        }
        if under(name, topic::GATE_VIEW) {
            let view: GateView = read(name, payload)?;
            self.gates.insert(view.lane.clone(), view);
            return Ok(Some(Change::Lanes));
        }
        if name == topic::GATE_REPORT {
            return Ok(self.gate_log.take(read(name, payload)?).then_some(Change::GateEvents));
        }
        if name == topic::RECEIPT {
            return Ok(self.take_receipt(read(name, payload)?));
        }
        if under(name, topic::HEALTH) {
            let health: Health = read(name, payload)?;
            let key = (health.service.clone(), health.device.clone());
            if self.health.len() < HEALTH_MAX || self.health.contains_key(&key) {
                self.health.insert(key, health);
            }
            return Ok(Some(Change::Health));
        }
        if name == topic::STAFF_CALL {
            return Ok(self.take_call(now, read(name, payload)?));
        }
        if under(name, topic::ACK) {
            let ack: Ack = read(name, payload)?;
            return Ok(self.take_ack(&ack));
        }
        Ok(None)
    }

    fn take_receipt(&mut self, receipt: Receipt) -> Option<Change> {
        if !self.receipts_seen.first(&receipt.id) {
            return None;
        }
        self.receipt_count += 1;
        if receipt.total.currency == self.currency {
            self.takings = self.takings.saturating_add(receipt.total.minor);
        }
        self.receipts.push_front(receipt);
        self.receipts.truncate(RECEIPTS_MAX);
        Some(Change::Receipts)
    }

    fn take_call(&mut self, now: Instant, call: StaffCall) -> Option<Change> {
        self.calls.retain(|_, call| call.closed.is_none_or(|at| now.since(at) < CALL_CLOSED_KEPT));
        if self.calls.contains_key(&call.id) || self.calls.len() >= CALLS_MAX {
            return None;
        }
        self.calls.insert(call.id.clone(), Call { call, state: StaffCallState::Sent, closed: None });
        Some(Change::Calls)
    }

    fn take_ack(&mut self, ack: &Ack) -> Option<Change> {
        let mut changed = false;
        for pending in &mut self.decisions {
            if !pending.stored && ack.ids.contains(&pending.decision.id) {
                pending.stored = true;
                changed = true;
            }
        }
        let settled = self.decisions.iter().filter(|pending| pending.stored).count();
        let mut surplus = settled.saturating_sub(DECISIONS_MAX);
        self.decisions.retain(|pending| {
            let drop = pending.stored && surplus > 0;
            surplus -= usize::from(drop);
            !drop
        });
        changed.then_some(Change::Decisions)
    }

    /// The answer that a call has so far: the screen repeats its call, and the repeat deserves the same
    /// answer.
    #[must_use]
    pub fn call_state(&self, call: &MessageId) -> Option<StaffCallState> {
        self.calls.get(call).map(|call| call.state)
    }

    /// Staff answers a call. False when there is no such call.
    pub fn answer(&mut self, now: Instant, id: &MessageId, state: StaffCallState) -> bool {
        let Some(call) = self.calls.get_mut(id) else { return false };
        call.state = state;
        call.closed = (state == StaffCallState::Closed).then_some(now);
        true
    }

    /// Remembers a decision until cartd has stored it. The caller sends it once; [`Self::due`] repeats it.
    pub fn decide(&mut self, now: Instant, decision: ReviewDecision) {
        let send_at = now.after(RESEND);
        self.decisions.push(Pending { decision, made: now, send_at, stored: false });
    }

    /// Decisions to send again now.
    pub fn due(&mut self, now: Instant) -> Vec<ReviewDecision> {
        let waiting = self.decisions.iter_mut().filter(|pending| !pending.stored && pending.send_at <= now);
        waiting
            .map(|pending| {
                pending.send_at = now.after(RESEND);
                pending.decision.clone()
            })
            .collect()
    }

    /// When [`Self::due`] or [`GateLog::due`] next has something.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let decisions = self.decisions.iter().filter(|pending| !pending.stored);
        decisions.map(|pending| pending.send_at).chain(self.gate_log.deadline()).min()
    }

    /// Checks a decision against what is known, and makes the message of it.
    ///
    /// # Errors
    /// The first field at fault.
    pub fn check(
        &self,
        id: MessageId,
        request: &model::DecisionRequest,
    ) -> Result<ReviewDecision, model::Problem> {
        let event = MessageId(request.event.clone());
        let Some(review) = self.store.reviews.iter().find(|review| review.event == event) else {
            return Err(problem("event".into(), format!("event: no review {:?} waits", request.event)));
        };
        if self.decisions.iter().any(|pending| pending.decision.event == event && !pending.stored) {
            let error = format!("event: {:?} is decided already, and on its way to cartd", request.event);
            return Err(problem("event".into(), error));
        }
        if let Some(session) = &request.session {
            let open = self.store.sessions.iter().any(|view| view.session.0 == *session);
            let named = review
                .candidates
                .iter()
                .any(|candidate| candidate.session.as_ref().is_some_and(|candidate| candidate.0 == *session));
            if !open && !named {
                return Err(problem("session".into(), format!("session: no visit {session:?} is known")));
            }
        }
        if request.items.len() > 8 {
            return Err(problem("items".into(), "items: at most 8".into()));
        }
        let mut items = Vec::new();
        for (index, item) in request.items.iter().enumerate() {
            let product = ProductId(item.product.clone());
            if !self.products.contains_key(&product) {
                let field = format!("items[{index}].product");
                let error = format!("{field}: {:?} is no product of this store", item.product);
                return Err(problem(field, error));
            }
            if item.count == 0 || item.count.unsigned_abs() > 99 {
                let field = format!("items[{index}].count");
                let error = format!("{field}: {} is not -99 to 99 without 0", item.count);
                return Err(problem(field, error));
            }
            items.push((product, item.count));
        }
        let by = text("by", &request.by, 64)?;
        let session = request.session.as_ref().map(|session| session.as_str().into());
        Ok(ReviewDecision { id, event, session, items, by })
    }

    /// Checks an order against what is known, and makes the message of it. Whether the lane can do it, the lane says.
    ///
    /// # Errors
    /// The first field at fault.
    pub fn check_order(
        &self,
        now: Instant,
        id: MessageId,
        lane: &str,
        request: &model::OrderRequest,
    ) -> Result<GateOrder, model::Problem> {
        let known = |known: &LaneId| known.0 == lane;
        if !self.gates.keys().chain(self.map.lanes.iter().map(|lane| &lane.id)).any(known) {
            return Err(problem("lane".into(), format!("lane: no lane {lane:?} is known")));
        }
        let by = text("by", &request.by, 64)?;
        let reason = text("reason", &request.reason, 200)?;
        if self.gate_log.is_full() {
            let error = "too many orders wait for an answer; try again in some seconds".to_owned();
            return Err(model::Problem { error, field: None });
        }
        let expires = now.after(ORDER_LIFE);
        Ok(GateOrder { id, lane: lane.into(), expires, by, reason, task: request.task.into() })
    }

    /// Everything, for the API.
    #[must_use]
    pub fn snapshot(&self, now: Instant, bus: bool) -> model::Snapshot {
        model::Snapshot {
            store: self.store_parts(),
            floor: self.floor(),
            lanes: self.lanes(),
            sessions: self.sessions(),
            receipts: self.receipts(RECEIPTS_MAX),
            reviews: self.reviews(),
            decisions: self.decisions(),
            calls: self.calls(now),
            health: self.health(),
            gate_events: self.gate_log.events(),
            numbers: self.numbers(now, bus),
        }
    }

    fn store_parts(&self) -> model::Store {
        let map = &self.map;
        model::Store {
            name: map.name.clone(),
            bounds: map.bounds,
            gondolas: map
                .gondolas
                .iter()
                .map(|gondola| model::Gondola { id: gondola.id, footprint: gondola.footprint })
                .collect(),
            lanes: map
                .lanes
                .iter()
                .map(|lane| model::LanePlace {
                    id: lane.id.0.clone(),
                    position: lane.position,
                    inward: lane.inward,
                    entry: lane.entry,
                    exit: lane.exit,
                })
                .collect(),
            cameras: map
                .cameras
                .iter()
                .map(|camera| {
                    let [x, y, _] = camera.model.position;
                    model::CameraPlace { id: camera.id.0, position: [x, y] }
                })
                .collect(),
            currency: self.currency.as_str().to_owned(),
            decimals: self.currency.decimals(),
        }
    }

    /// Who is where.
    #[must_use]
    pub fn floor(&self) -> model::Floor {
        let Some(floor) = &self.floor else { return model::Floor::default() };
        let mut owners: BTreeMap<TrackId, &str> = BTreeMap::new();
        for session in self.store.sessions.iter().filter(|view| view.state == SessionState::Shopping) {
            owners.extend(session.tracks.iter().map(|track| (*track, session.session.0.as_str())));
        }
        let people = floor.people.iter().map(|person| model::Person {
            track: person.track.0,
            position: person.position,
            sd: person.position_sd,
            velocity: person.velocity,
            hands: person.hands.iter().map(|hand| [hand.position[0], hand.position[1]]).collect(),
            session: owners.get(&person.track).map(|session| (*session).to_owned()),
            tangled: !person.tangled.is_empty(),
        });
        let cameras = floor.cameras.iter().map(|camera| camera.0).collect();
        model::Floor { at: floor.at.0, people: people.collect(), cameras }
    }

    /// Gate lanes: those of the store map in its order, then any other that speaks.
    #[must_use]
    pub fn lanes(&self) -> Vec<model::Lane> {
        let listed = self.map.lanes.iter().filter_map(|lane| self.gates.get(&lane.id));
        let others =
            self.gates.values().filter(|view| self.map.lanes.iter().all(|lane| lane.id != view.lane));
        listed.chain(others).map(lane).collect()
    }

    /// Visits, in the order in which they began.
    #[must_use]
    pub fn sessions(&self) -> Vec<model::Session> {
        let mut sessions: Vec<model::Session> = self
            .store
            .sessions
            .iter()
            .map(|view| {
                let lines: Vec<model::Line> = view
                    .lines
                    .iter()
                    .map(|line| model::Line {
                        product: line.product.0.clone(),
                        names: self.names(&line.product),
                        quantity: line.quantity,
                        price: self.products.get(&line.product).map_or(0, |product| product.price.minor),
                        confidence: line.confidence,
                        evidence: line.evidence.iter().map(ToString::to_string).collect(),
                    })
                    .collect();
                model::Session {
                    session: view.session.0.clone(),
                    state: word(&view.state),
                    entered: view.entered.0,
                    tracks: view.tracks.iter().map(|track| track.0).collect(),
                    total: lines.iter().map(|line| line.price.saturating_mul(line.quantity.into())).sum(),
                    lines,
                }
            })
            .collect();
        sessions.sort_by(|a, b| (a.entered, &a.session).cmp(&(b.entered, &b.session)));
        sessions
    }

    /// The newest receipts, newest first.
    #[must_use]
    pub fn receipts(&self, most: usize) -> Vec<model::Receipt> {
        let newest = self.receipts.iter().take(most);
        newest
            .map(|receipt| model::Receipt {
                id: receipt.id.0.clone(),
                session: receipt.session.0.clone(),
                member: receipt.member.map(|member| member.to_string()),
                entered: receipt.entered.0,
                left: receipt.left.0,
                settled: receipt.settled.0,
                lines: receipt
                    .lines
                    .iter()
                    .map(|line| model::Line {
                        product: line.product.0.clone(),
                        names: self.names(&line.product),
                        quantity: line.quantity,
                        price: line.price.minor,
                        confidence: line.confidence,
                        evidence: line.evidence.iter().map(ToString::to_string).collect(),
                    })
                    .collect(),
                total: receipt.total.minor,
                currency: receipt.total.currency.as_str().to_owned(),
            })
            .collect()
    }

    /// Reviews that wait, oldest first.
    #[must_use]
    pub fn reviews(&self) -> Vec<model::Review> {
        let mut reviews: Vec<model::Review> = self
            .store
            .reviews
            .iter()
            .map(|review| model::Review {
                event: review.event.0.clone(),
                at: review.at.0,
                plates: review.plates.iter().map(ToString::to_string).collect(),
                delta_g: review.delta.grams(),
                candidates: review
                    .candidates
                    .iter()
                    .map(|candidate| model::Candidate {
                        session: candidate.session.as_ref().map(|session| session.0.clone()),
                        items: candidate
                            .items
                            .iter()
                            .map(|(product, count)| model::CandidateItem {
                                product: product.0.clone(),
                                names: self.names(product),
                                count: *count,
                            })
                            .collect(),
                        probability: candidate.probability,
                    })
                    .collect(),
            })
            .collect();
        reviews.sort_by(|a, b| (a.at, &a.event).cmp(&(b.at, &b.event)));
        reviews
    }

    /// This console's decisions, newest first.
    #[must_use]
    pub fn decisions(&self) -> Vec<model::Decision> {
        let newest = self.decisions.iter().rev();
        newest
            .map(|pending| model::Decision {
                id: pending.decision.id.0.clone(),
                event: pending.decision.event.0.clone(),
                at: pending.made.0,
                by: pending.decision.by.clone(),
                stored: pending.stored,
            })
            .collect()
    }

    /// Staff calls, oldest first; a closed one is shown for a minute.
    #[must_use]
    pub fn calls(&self, now: Instant) -> Vec<model::Call> {
        let recent = |call: &&Call| call.closed.is_none_or(|at| now.since(at) < CALL_CLOSED_KEPT);
        let mut calls: Vec<model::Call> = self
            .calls
            .values()
            .filter(recent)
            .map(|call| model::Call {
                id: call.call.id.0.clone(),
                from: call.call.from.clone(),
                at: call.call.at.0,
                state: word(&call.state),
            })
            .collect();
        calls.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        calls
    }

    /// Devices, by service and name.
    #[must_use]
    pub fn health(&self) -> Vec<model::Health> {
        let all = self.health.values();
        all.map(|health| model::Health {
            service: health.service.clone(),
            device: health.device.clone(),
            state: word(&health.state),
            since: health.since.0,
            detail: health.detail.clone(),
        })
        .collect()
    }

    /// Sums.
    #[must_use]
    pub fn numbers(&self, now: Instant, bus: bool) -> model::Numbers {
        let shopping = self.store.sessions.iter().filter(|view| view.state == SessionState::Shopping);
        model::Numbers {
            at: now.0,
            people: self.floor.as_ref().map_or(0, |floor| floor.people.len()),
            shopping: shopping.count(),
            settled: self.store.settled,
            receipts: self.receipt_count,
            takings: self.takings,
            reviews: self.store.reviews.len(),
            calls: self.calls.values().filter(|call| call.closed.is_none()).count(),
            unwell: self.health.values().filter(|health| health.state != HealthState::Up).count(),
            bus,
        }
    }

    /// Visits in each state, for the metrics.
    #[must_use]
    pub fn session_counts(&self) -> BTreeMap<String, usize> {
        let states =
            [SessionState::Shopping, SessionState::Settling, SessionState::InReview, SessionState::Settled];
        states
            .iter()
            .map(|state| {
                let count = self.store.sessions.iter().filter(|view| view.state == *state).count();
                (word(state), count)
            })
            .collect()
    }

    fn names(&self, product: &ProductId) -> model::Names {
        match self.products.get(product) {
            Some(product) => product.names.clone(),
            None => BTreeMap::from([("en".to_owned(), product.0.clone())]),
        }
    }
}

fn lane(view: &GateView) -> model::Lane {
    let mut latency = view.latency_us.clone();
    latency.sort_unstable();
    let percentile = |share: f64| {
        let last = latency.len().checked_sub(1)?;
        let index = (share * last as f64).round() as usize;
        latency.get(index).map(|us| f64::from(*us) / 1000.0)
    };
    let reason = match &view.notice {
        Notice::Refused { reason } => Some(word::<DenyReason>(reason)),
        Notice::Idle
        | Notice::ScanHere
        | Notice::Welcome { .. }
        | Notice::Goodbye
        | Notice::StepBack
        | Notice::WrongWay
        | Notice::ExitOnly
        | Notice::Free
        | Notice::StoreClosed { .. }
        | Notice::StoreFull
        | Notice::StaffOnly
        | Notice::AskStaff
        | Notice::LaneClosed
        | Notice::Cleaning
        | Notice::Maintenance
        | Notice::OutOfOrder
        | Notice::Evacuate => None,
    };
    model::Lane {
        lane: view.lane.0.clone(),
        at: view.at.0,
        status: word::<GateStatus>(&view.status),
        notice: notice(&view.notice).to_owned(),
        reason,
        modes: model::Modes {
            entry: word(&view.modes.entry),
            exit: word(&view.modes.exit),
            service: word(&view.modes.service),
            store_open: view.modes.store_open,
            inside: view.modes.inside,
        },
        unlocks: view.unlocks,
        entries: view.entries,
        exits: view.exits,
        denials: view.denials,
        latency_p50_ms: percentile(0.5),
        latency_p99_ms: percentile(0.99),
    }
}

fn notice(notice: &Notice) -> &'static str {
    match notice {
        Notice::Idle => "idle",
        Notice::ScanHere => "scan_here",
        Notice::Welcome { .. } => "welcome",
        Notice::Refused { .. } => "refused",
        Notice::Goodbye => "goodbye",
        Notice::StepBack => "step_back",
        Notice::WrongWay => "wrong_way",
        Notice::ExitOnly => "exit_only",
        Notice::Free => "free",
        Notice::StoreClosed { .. } => "store_closed",
        Notice::StoreFull => "store_full",
        Notice::StaffOnly => "staff_only",
        Notice::AskStaff => "ask_staff",
        Notice::LaneClosed => "lane_closed",
        Notice::Cleaning => "cleaning",
        Notice::Maintenance => "maintenance",
        Notice::OutOfOrder => "out_of_order",
        Notice::Evacuate => "evacuate",
    }
}

/// The word by which a fieldless enum goes on the bus.
pub fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

fn problem(field: String, error: String) -> model::Problem {
    model::Problem { error, field: Some(field) }
}

/// What a person wrote into a field, without the space around it.
fn text(field: &str, given: &str, most: usize) -> Result<String, model::Problem> {
    let given = given.trim();
    if given.is_empty() || given.chars().count() > most {
        return Err(problem(field.to_owned(), format!("{field}: needs 1 to {most} characters")));
    }
    Ok(given.to_owned())
}

fn under(name: &str, root: &str) -> bool {
    name.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

fn read<T: DeserializeOwned>(name: &str, payload: &[u8]) -> Result<T, BadMessage> {
    serde_json::from_slice(payload).map_err(|source| BadMessage { topic: name.to_owned(), source })
}
