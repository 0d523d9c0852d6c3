//! Fuzz targets: one for every parser of bytes from outside. Each takes any bytes, returns nothing, and panics on
//! a broken promise. `run.sh` runs them under libFuzzer, `tests/it` replays their corpora without one.
//!
//! It deliberately fuzzes the crates as they ship, through their public entries, and knows no fuzzer itself.

mod admission;
mod devices;
mod documents;
mod osdp;

/// A target: its name, which is also its corpus' folder, and its entry.
pub type Target = (&'static str, fn(&[u8]));

/// A valid input for a target: the target's name, the input's name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All targets.
pub const TARGETS: [Target; 18] = [
    ("hid_descriptor", qr_scanner::codec::fuzz::descriptor),
    ("hid_report", qr_scanner::codec::fuzz::report),
    ("serial", qr_scanner::codec::fuzz::serial),
    ("keymap", qr_scanner::codec::fuzz::keymap),
    ("token", admission::token),
    ("key_set", admission::key_set),
    ("deny_list", admission::deny_list),
    ("card_list", admission::card_list),
    ("osdp_panel", osdp::panel),
    ("osdp_reader", osdp::reader),
    ("osdp_link", osdp::link),
    ("wiegand", devices::wiegand),
    ("modbus", devices::modbus),
    ("load_cells", devices::load_cells),
    ("palm", devices::palm),
    ("camera", devices::camera),
    ("bus_json", documents::bus_json),
    ("manifest", documents::manifest),
];

/// Valid inputs to begin with, for every target.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let scanner = qr_scanner::codec::fuzz::samples().into_iter().map(|(target, name, bytes)| {
        let target = match target {
            "descriptor" => "hid_descriptor",
            "report" => "hid_report",
            other => other,
        };
        (target, name, bytes)
    });
    let mut all: Vec<Seed> = scanner.collect();
    all.extend(admission::seeds());
    all.extend(osdp::seeds());
    all.extend(devices::seeds());
    all.extend(documents::seeds());
    all
}

/// Takes bytes off the front of an input, zeros behind its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_target_has_seeds_and_survives_them_and_their_pieces() {
        let seeds = super::seeds();
        for (target, run) in super::TARGETS {
            let mut found = 0;
            for (_, _, bytes) in seeds.iter().filter(|(name, _, _)| *name == target) {
                found += 1;
                run(bytes);
                run(&bytes[..bytes.len() / 2]);
            }
            assert!(found > 0, "{target} has no seed");
            run(&[]);
        }
        for (target, name, _) in seeds {
            assert!(
                super::TARGETS.iter().any(|(known, _)| *known == target),
                "{target} of {name} is no target"
            );
        }
    }
}
