//! The bus through an MQTT 5 broker.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use super::{Message, Shared, locked};

/// Requests that may wait for the connection; beyond it publishing drops and counts.
const REQUESTS_MAX: usize = 1024;
/// Largest message taken, bytes: a store view of a few hundred plates and dozens of carts is some 60 kB.
const MESSAGE_MAX: u32 = 1024 * 1024;
/// A dead connection is noticed after one and a half of these (MQTT 5 section 3.1.2.10).
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Pause between attempts to connect.
const RETRY: Duration = Duration::from_millis(500);

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSettings {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The broker's side of a bus: a background task owns the connection and ends with the last handle.
#[derive(Clone)]
pub(super) struct Remote {
    client: AsyncClient,
    filters: Arc<Mutex<BTreeSet<String>>>,
    _task: Arc<AbortOnDrop>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Remote {
    pub(super) fn start(settings: &MqttSettings, client_id: &str, shared: Arc<Shared>) -> Self {
        let mut options = MqttOptions::new(client_id, settings.host.as_str(), settings.port);
        options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(Some(MESSAGE_MAX));
        let (client, connection) = AsyncClient::new(options, REQUESTS_MAX);
        let filters = Arc::<Mutex<BTreeSet<String>>>::default();
        let broker = format!("{}:{}", settings.host, settings.port);
        let task = tokio::spawn(follow(connection, client.clone(), Arc::clone(&filters), shared, broker));
        Self { client, filters, _task: Arc::new(AbortOnDrop(task.abort_handle())) }
    }

    /// Hands a message to the connection; `false` when too many wait already.
    pub(super) fn publish(&self, topic: &str, payload: &[u8], retain: bool) -> bool {
        self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload.to_vec()).is_ok()
    }

    pub(super) fn subscribe(&self, filter: &str) {
        locked(&self.filters).insert(filter.to_owned());
        // Without room or a connection it is sent after the next connect, with all others.
        let _ = self.client.try_subscribe(filter, QoS::AtLeastOnce);
    }
}

async fn follow(
    mut connection: EventLoop,
    client: AsyncClient,
    filters: Arc<Mutex<BTreeSet<String>>>,
    shared: Arc<Shared>,
    broker: String,
) {
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                tracing::info!(broker, "connected to the broker");
                let filters: Vec<String> = locked(&filters).iter().cloned().collect();
                for filter in filters {
                    let _ = client.try_subscribe(filter, QoS::AtLeastOnce);
                }
                shared.connected.store(true, Ordering::Relaxed);
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                shared.deliver(&Message { topic, payload: publish.payload.as_ref().into() });
            }
            Ok(_) => {}
            Err(error) => {
                if shared.connected.swap(false, Ordering::Relaxed) {
                    tracing::warn!(broker, %error, "lost the broker");
                } else {
                    tracing::debug!(broker, %error, "no broker yet");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
