//! The bus between services: a channel inside one process, MQTT 5 between processes and boxes, with the same topics.
//!
//! Delivery is at most once here. Whatever must not be lost goes through [`crate::outbox`], which repeats it until the
//! receiver's acknowledgement.

mod mqtt;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

pub use mqtt::MqttSettings;

/// Messages a slow subscriber may have waiting; the oldest is dropped beyond it. Ten seconds of every view of a busy
/// store (about 100 messages a second) fit.
const QUEUE_MAX: usize = 1024;

/// A handle to the bus; clones share it.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
    remote: Option<mqtt::Remote>,
}

/// What subscribers share.
struct Shared {
    subscribers: Mutex<Vec<Weak<Queue>>>,
    retained: Mutex<BTreeMap<String, Message>>,
    connected: AtomicBool,
    dropped: AtomicU64,
}

struct Queue {
    filter: String,
    waiting: Mutex<VecDeque<Message>>,
    arrived: Notify,
}

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// Full topic.
    pub topic: String,
    /// JSON bytes.
    pub payload: Arc<[u8]>,
}

/// A payload that is not what its topic promises.
#[derive(Debug, thiserror::Error)]
#[error("message on {topic} is not what the topic promises")]
pub struct BadMessage {
    topic: String,
    #[source]
    source: serde_json::Error,
}

/// A stream of messages; dropping it unsubscribes.
pub struct Subscription {
    queue: Arc<Queue>,
}

impl Bus {
    /// A bus inside this process.
    #[must_use]
    pub fn local() -> Self {
        Self { shared: Arc::new(Shared::new(true)), remote: None }
    }

    /// A bus through an MQTT 5 broker. Returns at once: the connection is made, and made again after a loss, in the
    /// background for as long as any handle lives.
    #[must_use]
    pub fn mqtt(settings: &MqttSettings, client_id: &str) -> Self {
        let shared = Arc::new(Shared::new(false));
        let remote = mqtt::Remote::start(settings, client_id, Arc::clone(&shared));
        Self { shared, remote: Some(remote) }
    }

    /// Sends an event. Never blocks: without a connection it is dropped and counted.
    pub fn publish<T: Serialize>(&self, topic: &str, value: &T) {
        self.send(topic, value, false);
    }

    /// Sends a view, which late subscribers receive too.
    pub fn publish_view<T: Serialize>(&self, topic: &str, value: &T) {
        self.send(topic, value, true);
    }

    /// Receives what matches an MQTT topic filter (`+` one level, `#` the rest), views retained so far first.
    #[must_use]
    pub fn subscribe(&self, filter: &str) -> Subscription {
        let queue =
            Arc::new(Queue { filter: filter.to_owned(), waiting: Mutex::default(), arrived: Notify::new() });
        locked(&self.shared.subscribers).push(Arc::downgrade(&queue));
        match &self.remote {
            Some(remote) => remote.subscribe(filter),
            None => {
                for message in locked(&self.shared.retained).values() {
                    self.shared.offer(&queue, message);
                }
            }
        }
        Subscription { queue }
    }

    /// Whether messages reach other services now.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Messages dropped so far, by slow subscribers here or for want of a connection.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Cuts or mends an in-process bus, as tests and the simulated store's faults do. No effect on a broker's.
    pub fn set_cut(&self, cut: bool) {
        if self.remote.is_none() {
            self.shared.connected.store(!cut, Ordering::Relaxed);
        }
    }

    fn send<T: Serialize>(&self, topic: &str, value: &T, retain: bool) {
        let payload: Arc<[u8]> = match serde_json::to_vec(value) {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                tracing::error!(topic, %error, "message cannot be written as JSON");
                return;
            }
        };
        let sent = match &self.remote {
            Some(remote) => remote.publish(topic, &payload, retain),
            None => {
                self.connected() && {
                    let message = Message { topic: topic.to_owned(), payload };
                    self.shared.deliver(&message);
                    if retain {
                        locked(&self.shared.retained).insert(topic.to_owned(), message);
                    }
                    true
                }
            }
        };
        if !sent {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn new(connected: bool) -> Self {
        Self {
            subscribers: Mutex::default(),
            retained: Mutex::default(),
            connected: AtomicBool::new(connected),
            dropped: AtomicU64::new(0),
        }
    }

    fn deliver(&self, message: &Message) {
        locked(&self.subscribers).retain(|queue| {
            let Some(queue) = queue.upgrade() else { return false };
            self.offer(&queue, message);
            true
        });
    }

    fn offer(&self, queue: &Queue, message: &Message) {
        if !matches(&queue.filter, &message.topic) {
            return;
        }
        let mut waiting = locked(&queue.waiting);
        if waiting.len() == QUEUE_MAX {
            waiting.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(message.clone());
        queue.arrived.notify_one();
    }
}

impl Message {
    /// Reads the payload.
    ///
    /// # Errors
    /// When it is not a `T` in JSON.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, BadMessage> {
        serde_json::from_slice(&self.payload)
            .map_err(|source| BadMessage { topic: self.topic.clone(), source })
    }
}

impl Subscription {
    /// The next message. Cancel-safe; never ends.
    pub async fn recv(&mut self) -> Message {
        loop {
            if let Some(message) = self.try_recv() {
                return message;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// The next message if one has arrived.
    pub fn try_recv(&mut self) -> Option<Message> {
        locked(&self.queue.waiting).pop_front()
    }
}

/// MQTT 5 section 4.7 topic matching, without the `$` rule (no topic of ours starts with it).
fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave these collections half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+/c", "a/b/c", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("#", "a/b", true),
            ("a/b/c", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} against {topic}");
        }
    }

    #[tokio::test]
    async fn views_reach_late_subscribers_and_events_do_not() {
        let bus = Bus::local();
        bus.publish("event", &1);
        bus.publish_view("view", &2);
        bus.publish_view("view", &3);
        let mut all = bus.subscribe("#");
        assert_eq!(all.recv().await.parse::<i32>().expect("a number"), 3);
        assert!(all.try_recv().is_none());
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_it_is_counted() {
        let bus = Bus::local();
        let mut slow = bus.subscribe("t");
        for number in 0..QUEUE_MAX + 5 {
            bus.publish("t", &number);
        }
        assert_eq!(slow.recv().await.parse::<usize>().expect("a number"), 5);
        assert_eq!(bus.dropped(), 5);
    }

    #[test]
    fn a_cut_bus_drops_and_counts() {
        let bus = Bus::local();
        let mut subscription = bus.subscribe("#");
        bus.set_cut(true);
        bus.publish("t", &1);
        assert!(subscription.try_recv().is_none());
        assert_eq!((bus.connected(), bus.dropped()), (false, 1));
        bus.set_cut(false);
        bus.publish("t", &2);
        assert!(subscription.try_recv().is_some());
    }
}
