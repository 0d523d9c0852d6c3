//! What staff see of cartd's devices: published when it changes, and now and then so that a restarted broker
//! knows.

use std::collections::BTreeMap;

use engine::message::{Health, HealthState, topic};
use engine::time::{Instant, Millis};
use runtime::bus::Bus;

/// The name of the service in topics and health.
const SERVICE: &str = "cartd";

/// A state is published again after this long.
const AGAIN: Millis = Millis(10_000);

#[derive(Default)]
pub(crate) struct Board {
    devices: BTreeMap<String, Entry>,
}

struct Entry {
    health: Health,
    published: Option<Instant>,
}

impl Board {
    pub(crate) fn set(&mut self, now: Instant, device: &str, state: HealthState, detail: &str) {
        let known = self.devices.get_mut(device);
        if let Some(entry) = known
            && entry.health.state == state
        {
            if entry.health.detail != detail {
                detail.clone_into(&mut entry.health.detail);
                entry.published = None;
            }
            return;
        }
        if state == HealthState::Up {
            tracing::info!(device, "up");
        } else {
            tracing::warn!(device, ?state, detail, "not well");
        }
        let health = Health {
            service: SERVICE.to_owned(),
            device: device.to_owned(),
            state,
            since: now,
            detail: detail.to_owned(),
        };
        self.devices.insert(device.to_owned(), Entry { health, published: None });
    }

    pub(crate) fn publish(&mut self, now: Instant, bus: &Bus) {
        for (device, entry) in &mut self.devices {
            if entry.published.is_none_or(|published| now.since(published) >= AGAIN) {
                bus.publish_view(&format!("{}/{SERVICE}/{device}", topic::HEALTH), &entry.health);
                entry.published = Some(now);
            }
        }
    }
}
