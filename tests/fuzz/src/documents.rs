//! What services say to each other and what operators write.

use engine::admission::{Admission, Memory, Settings};
use engine::message;
use engine::store::StoreMap;
use engine::time::Instant;
use runtime::manifest::Manifest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Seed;

/// A message of the bus: a byte that names its type, then its JSON.
pub fn bus_json(input: &[u8]) {
    let Some((kind, json)) = input.split_first() else { return };
    match kind % 20 {
        0 => stable::<message::Passage>(json),
        1 => stable::<message::Ack>(json),
        2 => stable::<message::GateView>(json),
        3 => stable::<message::GateOrder>(json),
        4 => stable::<message::GateReport>(json),
        5 => stable::<message::FloorView>(json),
        6 => stable::<message::StoreView>(json),
        7 => stable::<message::Receipt>(json),
        8 => stable::<message::Review>(json),
        9 => stable::<message::ReviewDecision>(json),
        10 => stable::<message::SessionClosed>(json),
        11 => stable::<message::Health>(json),
        12 => stable::<message::StaffCall>(json),
        13 => stable::<message::StaffAnswer>(json),
        14 => stable::<message::KioskScan>(json),
        15 => stable::<message::SignedList>(json),
        16 => stable::<message::Grant>(json),
        17 => {
            if let Ok(seen) = serde_json::from_slice::<message::SeenCodes>(json) {
                let mut admission = Admission::new(Settings::default());
                let _ = admission.merge_seen(Instant(1_790_000_000_000), &seen);
                assert!(admission.seen("us").codes.len() <= engine::admission::SEEN_MAX);
            }
        }
        18 => {
            if let Ok(memory) = serde_json::from_slice::<Memory>(json) {
                let again = Admission::with_memory(Settings::default(), &memory).memory();
                let once = Admission::with_memory(Settings::default(), &again).memory();
                assert_eq!(once, again, "what is remembered is remembered again");
            }
        }
        _ => {
            if let Ok(map) = serde_json::from_slice::<StoreMap>(json) {
                let _ = map.validate();
            }
        }
    }
}

/// What was read is written and read again as the same.
fn stable<T: DeserializeOwned + Serialize>(json: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return };
    let text = serde_json::to_string(&value).expect("a message is JSON");
    let again: T = serde_json::from_str(&text).expect("what we write we read");
    assert_eq!(serde_json::to_string(&again).expect("a message is JSON"), text);
}

/// A role manifest, or a device's settings: TOML that is text.
pub fn manifest(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind % 4 {
        0 => {
            if let Ok(manifest) = toml::from_str::<Manifest>(text) {
                let text = toml::to_string(&manifest).expect("a manifest is TOML");
                assert_eq!(toml::from_str::<Manifest>(&text).expect("what we write we read"), manifest);
            }
        }
        1 => drop(toml::from_str::<card_reader::osdp::Settings>(text)),
        2 => drop(toml::from_str::<card_reader::wiegand::Settings>(text)),
        _ => drop(toml::from_str::<camera::v4l2::Settings>(text)),
    }
}

pub fn seeds() -> Vec<Seed> {
    let manifests = [
        include_str!("../../../appliance/manifests/all-in-one-sim.toml"),
        include_str!("../../../appliance/manifests/all-in-one-mqtt-sim.toml"),
    ];
    let mut all: Vec<Seed> = Vec::new();
    for (index, text) in manifests.into_iter().enumerate() {
        let text: String =
            text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
        all.push(("manifest", format!("role-{index}"), [&[0], text.as_bytes()].concat()));
    }
    let osdp = "path = \"/dev/ttyS1\"\nbaud = 115200\naddress = 3\nkey_file = \"/etc/reader.key\"\ninstall = false\n";
    let wiegand = "chip = \"/dev/gpiochip0\"\nd0 = 17\nd1 = \"D1\"\nbit_counts = [26, 37]\npause_ms = 30\n";
    let v4l2 = "path = \"/dev/video0\"\nformat = \"grey\"\nwidth = 640\nheight = 480\nbuffers = 3\n";
    for (kind, name, text) in [(1_u8, "osdp", osdp), (2, "wiegand", wiegand), (3, "v4l2", v4l2)] {
        all.push(("manifest", name.to_owned(), [&[kind], text.as_bytes()].concat()));
    }
    let json = [
        (1_u8, "ack", r#"{"sender":"entry-1","seq":7}"#),
        (13, "answer", r#"{"call":3,"by":"Kim","resolved":true}"#),
        (15, "list", r#"{"bytes":"AAECAwQ="}"#),
        (
            17,
            "seen",
            r#"{"sender":"b","codes":[{"member":5,"moment":179000000,"nonce":3,"until":1790000060000}]}"#,
        ),
        (
            18,
            "memory",
            r#"{"used":[[5,179000000,3,1790000060000]],"inside":[[5,1]],"guests":[[9,1,1790000900000]]}"#,
        ),
        (
            11,
            "health",
            r#"{"service":"gated","device":"entry-1","state":"up","detail":"","at":1790000000000}"#,
        ),
    ];
    for (kind, name, text) in json {
        all.push(("bus_json", name.to_owned(), [&[kind], text.as_bytes()].concat()));
    }
    all
}
