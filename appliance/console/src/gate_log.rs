//! What gates report and what staff order them: the newest events, and orders that wait for an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::message::{GateFact, GateOrder, GateOutcome, GateReport, Incident};
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MessageId};

use crate::known::word;
use crate::model::{GateEvent, OrderOutcome, OrderTask};

/// Events kept for the page; gates keep their own journals.
const EVENTS_MAX: usize = 100;
/// Numbers remembered to drop repeats; repeats come within seconds.
const SEEN_MAX: usize = 10_000;
/// Kinds of incident at lanes that are counted at all.
const COUNTS_MAX: usize = 1000;
/// Orders that may wait for an answer at once; a gate remembers 64.
const ORDERS_MAX: usize = 32;
/// An order is for now: whoever stood at the gate is gone later.
pub const ORDER_LIFE: Millis = Millis::from_seconds(10);
/// Time between two sends of an order that no gate has answered.
const ORDER_RESEND: Millis = Millis::from_seconds(1);

/// Message ids of late, to tell a repeat from news.
#[derive(Debug, Default)]
pub struct Seen {
    ids: BTreeSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl Seen {
    /// Whether this id is new; it is remembered.
    pub fn first(&mut self, id: &MessageId) -> bool {
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id.clone());
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[derive(Debug)]
struct Pending {
    order: GateOrder,
    send_at: Instant,
}

/// Gate events and orders.
#[derive(Debug, Default)]
pub struct GateLog {
    /// Newest first.
    events: VecDeque<GateEvent>,
    seen: Seen,
    incidents: BTreeMap<(LaneId, String), u64>,
    orders: Vec<Pending>,
}

/// Orders to send again, and whether another has expired without an answer.
#[derive(Debug, Default, PartialEq)]
pub struct Due {
    /// To publish again, as they are.
    pub orders: Vec<GateOrder>,
    /// An event changed.
    pub changed: bool,
}

impl GateLog {
    /// Learns from a report. False when it is a repeat or nothing to show: plain passages are in the counts of the
    /// lane.
    pub fn take(&mut self, report: GateReport) -> bool {
        if !self.seen.first(&report.id) {
            return false;
        }
        let GateReport { id, lane, at, fact } = report;
        let mut event = GateEvent { id: id.0, lane: lane.0.clone(), at: at.0, ..GateEvent::default() };
        match fact {
            GateFact::Passage { .. } => return false,
            GateFact::Ordered { order, outcome } => return self.settle(event, order, outcome),
            GateFact::WalkedBack { entry, .. } => {
                "walked_back".clone_into(&mut event.kind);
                event.passage = Some(entry);
            }
            GateFact::Incident { incident } => {
                describe(incident, &mut event);
                event.incident = event.active != Some(false);
                if event.incident {
                    self.count(lane, &event.kind);
                }
            }
        }
        self.push(event);
        true
    }

    fn settle(&mut self, mut event: GateEvent, order: MessageId, outcome: GateOutcome) -> bool {
        self.orders.retain(|pending| pending.order.id != order);
        let (outcome, refusal) = match outcome {
            GateOutcome::Done => (OrderOutcome::Done, None),
            GateOutcome::Expired => (OrderOutcome::Expired, None),
            GateOutcome::Refused { reason } => (OrderOutcome::Refused, Some(word(&reason))),
        };
        if let Some(known) = self.events.iter_mut().find(|known| known.id == order.0) {
            // Each repeat of an order is answered: the first answer counts.
            if !matches!(known.outcome, Some(OrderOutcome::Waiting | OrderOutcome::Unanswered)) {
                return false;
            }
            (known.outcome, known.refusal) = (Some(outcome), refusal);
            return true;
        }
        // Another console's, or given before this one started.
        event.id = order.0;
        "order".clone_into(&mut event.kind);
        (event.outcome, event.refusal) = (Some(outcome), refusal);
        self.push(event);
        true
    }

    fn push(&mut self, event: GateEvent) {
        self.events.push_front(event);
        self.events.truncate(EVENTS_MAX);
    }

    fn count(&mut self, lane: LaneId, kind: &str) {
        let key = (lane, kind.to_owned());
        if self.incidents.len() < COUNTS_MAX || self.incidents.contains_key(&key) {
            *self.incidents.entry(key).or_default() += 1;
        }
    }

    /// Whether no further order may wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.orders.len() >= ORDERS_MAX
    }

    /// Remembers an order until a gate answers or it expires. The caller sends it once; [`Self::due`] repeats it.
    pub fn order(&mut self, now: Instant, order: GateOrder, task: OrderTask) -> GateEvent {
        let event = GateEvent {
            id: order.id.0.clone(),
            lane: order.lane.0.clone(),
            at: now.0,
            kind: "order".to_owned(),
            task: Some(task),
            by: Some(order.by.clone()),
            reason: Some(order.reason.clone()),
            outcome: Some(OrderOutcome::Waiting),
            ..GateEvent::default()
        };
        self.orders.push(Pending { order, send_at: now.after(ORDER_RESEND) });
        self.push(event.clone());
        event
    }

    /// Orders to send again now; those that expired are given up.
    pub fn due(&mut self, now: Instant) -> Due {
        let mut due = Due::default();
        let (waiting, expired): (Vec<Pending>, Vec<Pending>) =
            std::mem::take(&mut self.orders).into_iter().partition(|pending| pending.order.expires > now);
        self.orders = waiting;
        for pending in expired {
            let event = self.events.iter_mut().find(|event| event.id == pending.order.id.0);
            if let Some(event) = event {
                event.outcome = Some(OrderOutcome::Unanswered);
                due.changed = true;
            }
        }
        for pending in self.orders.iter_mut().filter(|pending| pending.send_at <= now) {
            pending.send_at = now.after(ORDER_RESEND);
            due.orders.push(pending.order.clone());
        }
        due
    }

    /// When [`Self::due`] next has something.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.orders.iter().map(|pending| pending.send_at.min(pending.order.expires)).min()
    }

    /// The newest events, newest first.
    #[must_use]
    pub fn events(&self) -> Vec<GateEvent> {
        let mut events: Vec<GateEvent> = self.events.iter().cloned().collect();
        // Reports of several lanes come in any order.
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        events
    }

    /// Incidents by lane and kind, since the console started; the end of an alarm is none.
    #[must_use]
    pub fn incidents(&self) -> &BTreeMap<(LaneId, String), u64> {
        &self.incidents
    }
}

fn describe(incident: Incident, event: &mut GateEvent) {
    let kind = match incident {
        Incident::Tailgating { passage, member, by, people } => {
            event.passage = Some(passage);
            event.member = member.map(|member| member.to_string());
            event.people = Some(people);
            event.witness = Some(word(&by));
            "tailgating"
        }
        Incident::Forced { passage } => {
            event.passage = Some(passage);
            "forced"
        }
        Incident::WrongWay { passage } => {
            event.passage = Some(passage);
            "wrong_way"
        }
        Incident::Held { since } => {
            event.since = Some(since.0);
            "held"
        }
        Incident::Tamper { open } => {
            event.active = Some(open);
            "tamper"
        }
        Incident::EmergencyButton => "emergency_button",
        Incident::FireAlarm { active } => {
            event.active = Some(active);
            "fire_alarm"
        }
    };
    kind.clone_into(&mut event.kind);
}
