//! What services say on the bus, and which units run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use engine::message::{GateView, Health, HealthState, topic};
use runtime::bus::{Bus, Subscription};
use runtime::manifest::Manifest;

use crate::place::Place;
use crate::verdict::{Expected, Seen};
use crate::wave::{self, Lanes};

/// The name on the bus.
pub const SERVICE: &str = "caretaker";

/// The role manifest of this box, where it has one, and the bus.
pub struct Ears {
    /// The manifest, as services read it.
    pub manifest: Option<Manifest>,
    /// The bus; one inside this process where there is no manifest.
    pub bus: Bus,
    health: Subscription,
    views: Subscription,
    devices: BTreeMap<String, (HealthState, String)>,
    busy: BTreeMap<String, bool>,
    quiet_since: Instant,
}

impl Ears {
    /// Joins the bus of this box. Inside a tokio runtime.
    #[must_use]
    pub fn new(place: &Place, client: &str) -> Self {
        let manifest = Manifest::load(&place.told("manifest.toml"))
            .inspect_err(|error| tracing::info!(%error, "no role yet"))
            .ok();
        let bus = manifest.as_ref().map_or_else(Bus::local, |manifest| manifest.join_bus(client));
        Self::on(bus, manifest)
    }

    /// On a bus that is there already.
    #[must_use]
    pub fn on(bus: Bus, manifest: Option<Manifest>) -> Self {
        Self {
            health: bus.subscribe(&format!("{}/#", topic::HEALTH)),
            views: bus.subscribe(&format!("{}/+", topic::GATE_VIEW)),
            manifest,
            bus,
            devices: BTreeMap::new(),
            busy: BTreeMap::new(),
            quiet_since: Instant::now(),
        }
    }

    /// Takes in what has arrived.
    pub fn listen(&mut self) {
        while let Some(message) = self.health.try_recv() {
            if let Ok(Health { service, device, state, detail, .. }) = message.parse() {
                self.devices.insert(format!("{service}/{device}"), (state, detail));
            }
        }
        while let Some(message) = self.views.try_recv() {
            let Ok(view) = message.parse::<GateView>() else { continue };
            let busy = wave::in_use(&view);
            let was = self.busy.insert(view.lane.0, busy);
            if busy || was == Some(true) {
                self.quiet_since = Instant::now();
            }
        }
    }

    /// What the role asks for. A box without a role shows why on its screen.
    #[must_use]
    pub fn expected(&self) -> Expected {
        let Some(manifest) = &self.manifest else {
            return Expected { services: ["kiosk".to_owned()].into(), lanes: BTreeSet::new() };
        };
        let name = |service: &runtime::manifest::ServiceName| {
            // Services are named in the manifest as their units are.
            let value = toml::Value::try_from(service).ok()?;
            value.as_str().map(str::to_owned)
        };
        let services: BTreeSet<String> = manifest.services.iter().filter_map(name).collect();
        let has_gate = services.contains("gated");
        let lanes = manifest.lanes.iter().filter(|_| has_gate).map(|lane| lane.id.clone()).collect();
        Expected { services, lanes }
    }

    /// What is seen now, of devices and of units.
    #[must_use]
    pub fn seen(&self, active: BTreeSet<String>) -> Seen {
        Seen { devices: self.devices.clone(), active, bus: self.bus.connected(), ..Seen::default() }
    }

    /// The lanes, as far as they matter for a restart.
    #[must_use]
    pub fn lanes(&self, expected: &Expected, gate_runs: bool) -> Lanes {
        let busy = self.busy.iter().filter(|(_, busy)| gate_runs && **busy).map(|(lane, _)| lane.clone());
        let silent = expected
            .lanes
            .iter()
            .filter(|lane| gate_runs && (!self.bus.connected() || !self.busy.contains_key(*lane)));
        Lanes { silent: silent.cloned().collect(), busy: busy.collect(), quiet_for: self.quiet_for() }
    }

    fn quiet_for(&self) -> Duration {
        self.quiet_since.elapsed()
    }
}

/// Which of these units run and have said that they are ready.
#[must_use]
pub fn active(place: &Place, services: &BTreeSet<String>) -> BTreeSet<String> {
    if !place.is_here() || services.is_empty() {
        return BTreeSet::new();
    }
    let units = services.iter().map(|service| format!("{service}.service"));
    match Command::new("systemctl").arg("is-active").args(units).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            services
                .iter()
                .zip(said.lines())
                .filter(|(_, state)| *state == "active")
                .map(|it| it.0.clone())
                .collect()
        }
        Err(error) => {
            tracing::error!(%error, "cannot ask systemctl which services run");
            BTreeSet::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::message::{GateStatus, Notice};
    use engine::units::LaneId;

    use super::*;

    fn view(notice: Notice) -> GateView {
        GateView {
            lane: LaneId("entry-1".to_owned()),
            at: engine::time::Instant(0),
            status: GateStatus::Closed,
            notice,
            modes: Default::default(),
            unlocks: 0,
            entries: 0,
            exits: 0,
            denials: 0,
            latency_us: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_is_heard() {
        let bus = Bus::local();
        let mut ears = Ears::on(bus.clone(), None);
        let expected =
            Expected { services: ["gated".to_owned()].into(), lanes: ["entry-1".to_owned()].into() };
        assert_eq!(ears.lanes(&expected, true).silent, ["entry-1"]);
        let stopped = ears.lanes(&expected, false);
        assert!(
            stopped.silent.is_empty() && stopped.busy.is_empty(),
            "a gate that does not run has no lanes in use"
        );
        let topic = format!("{}/entry-1", topic::GATE_VIEW);
        bus.publish_view(&topic, &view(Notice::ScanHere));
        let health = Health {
            service: "gated".to_owned(),
            device: "turnstile-entry-1".to_owned(),
            state: HealthState::Down,
            since: engine::time::Instant(0),
            detail: "gone".to_owned(),
        };
        bus.publish_view(&format!("{}/gated/turnstile-entry-1", topic::HEALTH), &health);
        bus.publish_view(&format!("{}/gated/x", topic::HEALTH), &"not a health message");
        ears.listen();
        assert_eq!(ears.lanes(&expected, true).busy, ["entry-1"]);
        let seen = ears.seen(BTreeSet::new());
        assert_eq!(seen.devices["gated/turnstile-entry-1"], (HealthState::Down, "gone".to_owned()));
        bus.publish_view(&topic, &view(Notice::Idle));
        ears.listen();
        let lanes = ears.lanes(&expected, true);
        assert!(lanes.busy.is_empty() && lanes.silent.is_empty() && lanes.quiet_for < Duration::from_secs(5));
        bus.set_cut(true);
        assert_eq!(ears.lanes(&expected, true).silent, ["entry-1"], "nobody is heard on a bus that is cut");
    }
}
