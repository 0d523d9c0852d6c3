//! The chain's uplink, and its staff: sees what the box says on its bus, acknowledges receipts, reviews and gate
//! reports, and answers reviews.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use engine::message::{Ack, GateReport, GateView, Receipt, Review, ReviewDecision, topic};
use engine::units::MessageId;
use runtime::bus::{Bus, Message, MqttSettings};
use runtime::outbox::ack_topic_of;
use serde_json::Value;
use vm::player::Line;

use super::Port;

/// Topics kept at most.
const TOPICS_MAX: usize = 500;

/// What was seen so far.
#[derive(Default)]
struct Seen {
    receipts: BTreeMap<String, Receipt>,
    newest: BTreeMap<String, Value>,
}

/// The uplink's thread.
pub struct Uplink {
    seen: Arc<Mutex<Seen>>,
}

impl Uplink {
    /// Joins the broker on loopback, now or when it is there.
    pub fn start(port: Port) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let broker = MqttSettings { host: "127.0.0.1".to_owned(), port: 1883 };
                let bus = Bus::mqtt(&broker, "player");
                let mut all = bus.subscribe("stile/#");
                loop {
                    let message = all.recv().await;
                    take(&bus, &port, &shared, &message);
                }
            });
        });
        Ok(Self { seen })
    }

    /// Every receipt seen so far.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.locked().receipts.values().cloned().collect()
    }

    /// The newest message of a topic.
    pub fn retained(&self, topic: &str) -> Value {
        self.locked().newest.get(topic).cloned().unwrap_or(Value::Null)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody says who has watched the shelf: it was the likeliest of those who are in the store. No camera
/// here sees the shopper, so the box cannot know.
fn decide(review: &Review) -> ReviewDecision {
    let taken = review.candidates.iter().find(|candidate| candidate.session.is_some());
    ReviewDecision {
        id: MessageId(format!("player/{}", review.event)),
        event: review.event.clone(),
        session: taken.and_then(|candidate| candidate.session.clone()),
        items: taken.map(|candidate| candidate.items.clone()).unwrap_or_default(),
        by: "player".to_owned(),
    }
}

fn take(bus: &Bus, port: &Port, seen: &Mutex<Seen>, message: &Message) {
    let acknowledge = |id: &MessageId| bus.publish(&ack_topic_of(id), &Ack { ids: vec![id.clone()] });
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match message.topic.as_str() {
        topic::RECEIPT => {
            let Ok(receipt) = message.parse::<Receipt>() else { return };
            // Told before it is acknowledged: from here on the box may forget to send it, and never that it was.
            if seen.receipts.insert(receipt.id.0.clone(), receipt.clone()).is_none() {
                port.tell(&Line::Receipt { receipt: Box::new(receipt.clone()) });
            }
            acknowledge(&receipt.id);
            return;
        }
        topic::REVIEW => {
            if let Ok(review) = message.parse::<Review>() {
                bus.publish(topic::REVIEW_DECISION, &decide(&review));
                acknowledge(&review.event);
            }
        }
        topic::GATE_REPORT => {
            if let Ok(report) = message.parse::<GateReport>() {
                acknowledge(&report.id);
            }
        }
        _ => {}
    }
    let Ok(value) = message.parse::<Value>() else { return };
    if message.topic.starts_with(topic::GATE_VIEW)
        && seen.newest.get(&message.topic).map(|old| &old["notice"]) != Some(&value["notice"])
        && let Ok(view) = message.parse::<GateView>()
    {
        port.tell(&Line::View { view: Box::new(view) });
    }
    if seen.newest.len() < TOPICS_MAX || seen.newest.contains_key(&message.topic) {
        seen.newest.insert(message.topic.clone(), value);
    }
}
