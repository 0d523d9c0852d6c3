//! What the bus tells the gate: staff's orders, people who cross a lane's line, signed lists, codes used at the
//! store's other boxes. It runs beside the lanes, so that reading JSON delays nobody.

use engine::gate::{Input, floor};
use engine::message::{Authority, FloorView, GateOrder, HealthState, Passage, SeenCodes, SignedList, topic};
use engine::units::{LaneId, MessageId};
use runtime::bus::{Message, Subscription};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::keeper::{List, Record};
use crate::lane::{Shared, Told, chain, lock};

/// A lane as the listener sees it.
pub(crate) struct Known {
    pub id: LaneId,
    pub inbox: mpsc::Sender<Told>,
    /// Its passage line, where the store map has one.
    pub line: Option<floor::Line>,
}

pub(crate) struct Listener {
    sender: String,
    lanes: Vec<Known>,
    records: mpsc::Sender<Record>,
    shared: Shared,
    orders: Subscription,
    floor: Subscription,
    lists: [(List, Subscription); 3],
    seen: Subscription,
    passages: Subscription,
    /// Newest passages of other boxes, to count each once though it is repeated.
    heard: Vec<MessageId>,
    twice: u64,
}

/// Passages of other boxes remembered, to know a repeated one.
const HEARD_MAX: usize = 256;

impl Listener {
    pub(crate) fn new(
        sender: String,
        lanes: Vec<Known>,
        records: mpsc::Sender<Record>,
        shared: Shared,
    ) -> Self {
        let bus = &shared.bus;
        Self {
            orders: bus.subscribe(topic::GATE_ORDER),
            floor: bus.subscribe(topic::FLOOR_VIEW),
            lists: List::ALL.map(|list| (list, bus.subscribe(list.topic()))),
            seen: bus.subscribe(&format!("{}/+", topic::SEEN_CODES)),
            passages: bus.subscribe(topic::PASSAGE),
            heard: Vec::new(),
            twice: 0,
            sender,
            lanes,
            records,
            shared,
        }
    }

    /// Listens until `stop` becomes true.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut crossings = Vec::new();
        loop {
            let [(first, keys), (second, deny), (third, cards)] = &mut self.lists;
            tokio::select! {
                () = crate::lane::stopped(&mut stop) => return,
                message = self.orders.recv() => self.ordered(&message).await,
                message = self.floor.recv() => self.floor_seen(&message, &mut crossings).await,
                message = keys.recv() => { let list = *first; self.list_came(list, &message).await; }
                message = deny.recv() => { let list = *second; self.list_came(list, &message).await; }
                message = cards.recv() => { let list = *third; self.list_came(list, &message).await; }
                message = self.seen.recv() => self.codes_seen(&message),
                message = self.passages.recv() => self.passed_elsewhere(&message),
            }
        }
    }

    async fn ordered(&mut self, message: &Message) {
        let Some(order) = parse::<GateOrder>(message) else { return };
        if let Some(lane) = self.lanes.iter().find(|lane| lane.id == order.lane) {
            // A lane that is gone takes no orders.
            let _ = lane.inbox.send(Told::Input(Input::Order(order))).await;
        }
    }

    async fn floor_seen(&mut self, message: &Message, crossings: &mut Vec<engine::gate::Crossing>) {
        let Some(view) = parse::<FloorView>(message) else { return };
        for lane in &mut self.lanes {
            let Some(line) = &mut lane.line else { continue };
            line.view(&view, crossings);
            for crossing in crossings.drain(..) {
                let _ = lane.inbox.send(Told::Input(Input::Crossed(crossing))).await;
            }
        }
    }

    async fn list_came(&mut self, list: List, message: &Message) {
        let Some(SignedList { bytes }) = parse(message) else { return };
        let taken = list.install(&mut lock(&self.shared.admission), self.shared.clock.wall(), &bytes);
        let device = format!("list-{}", list.name());
        match taken {
            Ok(version) => {
                tracing::info!(list = list.name(), %version, "signed list taken");
                self.tell(&device, HealthState::Up, String::new());
                // Storage that is behind gets the list again when the broker repeats it.
                let _ = self.records.send(Record::List(list, bytes)).await;
            }
            Err(refusal) => {
                tracing::warn!(list = list.name(), %refusal, "signed list refused");
                self.tell(&device, HealthState::Degraded, format!("a list was refused: {refusal}"));
            }
        }
    }

    fn codes_seen(&mut self, message: &Message) {
        let Some(seen) = parse::<SeenCodes>(message).filter(|seen| seen.sender != self.sender) else {
            return;
        };
        let merged = lock(&self.shared.admission).merge_seen(self.shared.clock.wall(), &seen);
        if merged.twice > 0 {
            self.twice += merged.twice as u64;
            tracing::warn!(elsewhere = seen.sender, merged.twice, "a code was used here and at another box");
            let detail =
                format!("{} codes were used at two boxes while they could not hear each other", self.twice);
            self.tell("codes", HealthState::Degraded, detail);
        }
    }

    fn passed_elsewhere(&mut self, message: &Message) {
        let Some(passage) = parse::<Passage>(message) else { return };
        let own = self.lanes.iter().any(|lane| lane.id == passage.lane);
        if own || self.heard.contains(&passage.id) {
            return;
        }
        if self.heard.len() == HEARD_MAX {
            self.heard.remove(0);
        }
        self.heard.push(passage.id);
        self.shared.occupancy.passed(None, passage.direction);
        if let Authority::Grant(grant) = &passage.authority {
            lock(&self.shared.admission).passed_elsewhere(self.shared.clock.wall(), grant);
        }
    }

    fn tell(&self, device: &str, state: HealthState, detail: String) {
        crate::publish_health(&self.shared.bus, &self.shared.clock, device, state, detail);
    }
}

fn parse<T: DeserializeOwned>(message: &Message) -> Option<T> {
    message
        .parse()
        .inspect_err(|error| tracing::warn!(error = %chain(error), topic = message.topic, "message dropped"))
        .ok()
}
