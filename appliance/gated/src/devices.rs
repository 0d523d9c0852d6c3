//! The devices that a role manifest may name: the one place that knows them all.

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
#[expect(clippy::large_enum_variant, reason = "one a lane, read once")]
enum TurnstileSettings {
    /// Simulated: nobody will come.
    Sim,
    /// Lines of the kernel's GPIO character device.
    Cdev(turnstile::cdev::Settings),
    /// A Raspberry Pi's pins.
    Rpi(turnstile::rpi::Settings),
}

/// A reader as the manifest describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum ReaderSettings {
    /// Simulated: nobody will show anything.
    Sim,
    /// A scanner that speaks HID POS.
    HidPos(qr_scanner::hid::Settings),
    /// A scanner on a serial line, or on USB as one.
    Serial(qr_scanner::serial::Settings),
    /// A scanner that types.
    Keyboard(qr_scanner::keyboard::Settings),
    /// A camera in the post that reads phones.
    Camera(code_reader::scanner::Settings),
    /// A card reader on RS-485.
    Osdp(card_reader::osdp::Settings),
    /// A card reader on two wires.
    Wiegand(card_reader::wiegand::Settings),
}

impl ReaderSettings {
    /// Its name within the lane, as health says it; `number` counts the lane's readers of one sort from 1.
    fn name(&self, number: usize) -> String {
        let sort = match self {
            Self::Sim | Self::HidPos(_) | Self::Serial(_) | Self::Keyboard(_) | Self::Camera(_) => "scanner",
            Self::Osdp(_) | Self::Wiegand(_) => "card-reader",
        };
        // The first needs no number: most lanes have one.
        if number == 1 { sort.to_owned() } else { format!("{sort}-{number}") }
    }
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
        source: Box<toml::de::Error>,
    },
}

/// Any turnstile that a manifest can name.
pub enum AnyTurnstile {
    /// The simulator.
    Sim(turnstile::sim::Sim),
    /// The kernel's GPIO character device.
    Cdev(turnstile::cdev::Cdev),
    /// A Raspberry Pi's pins.
    Rpi(turnstile::rpi::Rpi),
}

impl Turnstile for AnyTurnstile {
    fn drive(&mut self, outputs: Outputs) -> Result<(), turnstile::Error> {
        match self {
            Self::Sim(sim) => sim.drive(outputs),
            Self::Cdev(cdev) => cdev.drive(outputs),
            Self::Rpi(rpi) => rpi.drive(outputs),
        }
    }

    async fn next_edge(&mut self) -> Result<Edge, turnstile::Error> {
        match self {
            Self::Sim(sim) => sim.next_edge().await,
            Self::Cdev(cdev) => cdev.next_edge().await,
            Self::Rpi(rpi) => rpi.next_edge().await,
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
    let mut names: Vec<String> = Vec::new();
    for (number, reader) in (1..).zip(&settings.readers) {
        let reader: ReaderSettings = table(settings, &format!("reader {number}"), reader)?;
        let free = (1..).map(|number| reader.name(number)).find(|name| !names.contains(name));
        let name = free.unwrap_or_default();
        names.push(name.clone());
        readers.push(open_reader(name, reader));
    }
    let gate: gate::Settings = table(settings, "gate", &settings.gate)?;
    let lane = Lane::of(known, open_turnstile(turnstile));
    let gate = gate::Settings { lane: lane.gate.lane, takes_entries: lane.gate.takes_entries, ..gate };
    Ok(Lane { gate, entry_is_a: settings.entry_is_a, readers, ..lane })
}

fn table<T: DeserializeOwned>(lane: &LaneSettings, device: &str, table: &toml::Table) -> Result<T, Error> {
    let (lane, device) = (lane.id.clone(), device.to_owned());
    table.clone().try_into().map_err(|source| Error::Device { lane, device, source: Box::new(source) })
}

fn open_turnstile(settings: TurnstileSettings) -> Open<AnyTurnstile, turnstile::Error> {
    match settings {
        TurnstileSettings::Sim => {
            let (_, sim) = turnstile::sim::Sim::new();
            Box::new(move || sim.open().map(AnyTurnstile::Sim))
        }
        TurnstileSettings::Cdev(lines) => {
            Box::new(move || turnstile::cdev::open(&lines).map(AnyTurnstile::Cdev))
        }
        TurnstileSettings::Rpi(pins) => Box::new(move || turnstile::rpi::open(&pins).map(AnyTurnstile::Rpi)),
    }
}

fn open_reader(name: String, settings: ReaderSettings) -> Reader {
    match settings {
        ReaderSettings::Sim => {
            let (_, sim) = qr_scanner::sim::Sim::new();
            Reader::scanner(name, Box::new(move || sim.open()))
        }
        ReaderSettings::HidPos(it) => Reader::scanner(name, Box::new(move || qr_scanner::hid::open(&it))),
        ReaderSettings::Serial(it) => Reader::scanner(name, Box::new(move || qr_scanner::serial::open(&it))),
        ReaderSettings::Keyboard(it) => {
            Reader::scanner(name, Box::new(move || qr_scanner::keyboard::open(&it)))
        }
        ReaderSettings::Camera(it) => {
            Reader::scanner(name, Box::new(move || code_reader::scanner::open(&it)))
        }
        ReaderSettings::Osdp(it) => Reader::cards(name, Box::new(move || card_reader::osdp::open(&it))),
        ReaderSettings::Wiegand(it) => Reader::cards(name, Box::new(move || card_reader::wiegand::open(&it))),
    }
}

#[cfg(test)]
mod tests {
    use engine::message::GateMode;

    use super::*;

    fn settings(text: &str) -> LaneSettings {
        toml::from_str(text).expect("a lane's table")
    }

    fn map() -> StoreMap {
        serde_json::from_value(serde_json::json!({
            "name": "store", "bounds": [0.0, 0.0, 5.0, 5.0], "gondolas": [], "cameras": [], "plates": [],
            "products": [], "facings": [],
            "lanes": [{"id": "entry-1", "position": [0.0, 0.0], "inward": [0.0, 1.0], "entry": true, "exit": false}],
        }))
        .expect("a store map")
    }

    #[test]
    fn a_lane_of_every_kind_of_device() {
        let lane = settings(
            r#"
            id = "entry-1"
            entry_is_a = false
            gate = { entry = "single", control = "pulse" }
            [turnstile]
            kind = "cdev"
            chip = "gpiochip0"
            outputs = { unlock_a = { line = 4 } }
            inputs = { passage_a = { line = "PASS_A" }, passage_b = "unwired", fire_alarm = "unwired" }
            [[readers]]
            kind = "hid-pos"
            select = { vendor = 0x0c2e }
            [[readers]]
            kind = "keyboard"
            select = { usb_port = "1-1.2" }
            [[readers]]
            kind = "osdp"
            path = "/dev/ttyUSB0"
            key_file = "/etc/stile/osdp.key"
            "#,
        );
        let lanes = lanes(&[lane], &map()).expect("a good lane");
        let names: Vec<&str> = lanes[0].readers.iter().map(Reader::name).collect();
        assert_eq!(names, ["scanner", "scanner-2", "card-reader"]);
        assert_eq!((lanes[0].gate.entry, lanes[0].gate.takes_entries), (GateMode::Single, true));
        assert!(!lanes[0].entry_is_a && lanes[0].line.is_some());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = concat!(
            r#"{ id = "entry-1", entry_is_a = true, "#,
            r#"turnstile = { kind = "sim" }, readers = [{ kind = "sim" }] }"#
        );
        let table = [
            ("entry-1", "entry-9", "entry-9"),
            ("turnstile = { kind = \"sim\" }", "turnstile = { kind = \"simm\" }", "simm"),
            ("turnstile = { kind = \"sim\" }", "turnstile = { }", "kind"),
            (
                "readers = [{ kind = \"sim\" }]",
                "readers = [{ kind = \"hid-pos\", detached = true }]",
                "detached",
            ),
            ("entry_is_a = true", "entry_is_a = true, gate = { entry = \"wide\" }", "wide"),
        ];
        for (from, to, named) in table {
            let text = format!("lane = {}", good.replace(from, to));
            let table: toml::Table = toml::from_str(&text).expect("TOML");
            let lane: LaneSettings = table["lane"].clone().try_into().expect("a lane's table");
            let refused = lanes(&[lane], &map()).err().expect(to);
            let said = crate::chain(&refused);
            assert!(said.contains(named), "{named} not named in: {said}");
        }
    }
}
