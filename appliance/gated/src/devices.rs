//! The devices that a role manifest may name: the one place that knows them all.

use std::future::Future;

use engine::gate;
use engine::store::StoreMap;
use runtime::manifest::LaneSettings;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use turnstile::{Edge, Outputs, Turnstile};

use crate::reader::Reader;
use crate::{Lane, Open};

/// A turnstile as the manifest describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum TurnstileSettings {
    /// Simulated: nobody will come.
    Sim,
}

/// A reader as the manifest describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum ReaderSettings {
    /// Simulated: nobody will show anything.
    Sim,
}

/// What is wrong with the lanes of a manifest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store map knows no such lane.
    #[error("lane {0} is not in the store map")]
    UnknownLane(String),
    /// A device's table is not valid; the source names the key.
    #[error("lane {lane}: {device} is not valid")]
    Device {
        /// Which lane.
        lane: String,
        /// Which device of it.
        device: String,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
}

/// Any turnstile that a manifest can name.
pub enum AnyTurnstile {
    /// The simulator.
    Sim(turnstile::sim::Sim),
}

impl Turnstile for AnyTurnstile {
    fn drive(&mut self, outputs: Outputs) -> Result<(), turnstile::Error> {
        match self {
            Self::Sim(sim) => sim.drive(outputs),
        }
    }

    fn next_edge(&mut self) -> impl Future<Output = Result<Edge, turnstile::Error>> + Send {
        async move {
            match self {
                Self::Sim(sim) => sim.next_edge().await,
            }
        }
    }
}

/// The lanes of a manifest, ready to be opened.
///
/// # Errors
/// Names the lane, the device and the key at fault.
pub fn lanes(settings: &[LaneSettings], map: &StoreMap) -> Result<Vec<Lane<AnyTurnstile>>, Error> {
    settings.iter().map(|lane| self::lane(lane, map)).collect()
}

fn lane(settings: &LaneSettings, map: &StoreMap) -> Result<Lane<AnyTurnstile>, Error> {
    let known = map.lanes.iter().find(|known| known.id.0 == settings.id);
    let known = known.ok_or_else(|| Error::UnknownLane(settings.id.clone()))?;
    let turnstile = table(settings, "turnstile", &settings.turnstile)?;
    let mut readers = Vec::new();
    for (number, reader) in (1..).zip(&settings.readers) {
        // The first needs no number: most lanes have one.
        let name = if number == 1 { "scanner".to_owned() } else { format!("scanner-{number}") };
        readers.push(open_reader(name.clone(), table(settings, &name, reader)?));
    }
    let gate: gate::Settings = table(settings, "gate", &settings.gate)?;
    let lane = Lane::of(known, open_turnstile(turnstile));
    let gate = gate::Settings { lane: lane.gate.lane, takes_entries: lane.gate.takes_entries, ..gate };
    Ok(Lane { gate, entry_is_a: settings.entry_is_a, readers, ..lane })
}

fn table<T: DeserializeOwned>(lane: &LaneSettings, device: &str, table: &toml::Table) -> Result<T, Error> {
    let (lane, device) = (lane.id.clone(), device.to_owned());
    table.clone().try_into().map_err(|source| Error::Device { lane, device, source })
}

fn open_turnstile(settings: TurnstileSettings) -> Open<AnyTurnstile, turnstile::Error> {
    match settings {
        TurnstileSettings::Sim => {
            let (_, sim) = turnstile::sim::Sim::new();
            Box::new(move || sim.open().map(AnyTurnstile::Sim))
        }
    }
}

fn open_reader(name: String, settings: ReaderSettings) -> Reader {
    match settings {
        ReaderSettings::Sim => {
            let (_, sim) = qr_scanner::sim::Sim::new();
            Reader::scanner(name, Box::new(move || sim.open()))
        }
    }
}
