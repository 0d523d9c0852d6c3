//! The lanes of a role manifest, as far as their outputs need it.
//!
//! Read leniently: a key that is wrong somewhere must not keep a gate open elsewhere. What cannot be
//! understood is a failure of its own lane or line.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};
use turnstile::wiring::OutputWiring;
use turnstile::{ErrorKind, Output, cdev, rpi};

use crate::Lane;

/// How often lines that another process still holds are asked for, a millisecond apart: the kernel may not
/// have taken a dead holder apart yet, and the other net may be holding them for its moment.
const BUSY_TRIES: u32 = 20;

/// Why nothing can be done at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest cannot be read.
    #[error("cannot read manifest {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is not TOML.
    #[error("manifest {path} is not valid TOML")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
}

/// A lane of the manifest.
#[derive(Debug)]
pub struct ManifestLane {
    id: String,
    turnstile: Turnstile,
    /// What the manifest says that we do not understand.
    misread: Vec<String>,
}

#[derive(Debug)]
enum Turnstile {
    /// A simulated one died with its process, and an unknown one is in `misread`.
    Nothing,
    /// On the GPIO character device.
    Cdev {
        chip: Option<String>,
        outputs: Box<OutputWiring<cdev::OutputLine>>,
        /// Found ahead, to be quick when it matters; none when a line was missing then.
        found: Option<cdev::Release>,
    },
    /// On a Raspberry Pi's registers.
    Rpi(Box<OutputWiring<rpi::OutputPin>>),
}

/// Reads the lanes of a manifest and finds their lines.
///
/// # Errors
/// When the file cannot be read or is not TOML.
pub fn load(path: &Path) -> Result<Vec<ManifestLane>, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let manifest = text.parse::<Table>().map_err(|source| Error::Syntax { path: path.to_owned(), source })?;
    let lanes = manifest.get("lanes").and_then(Value::as_array);
    Ok((1..)
        .zip(lanes.into_iter().flatten())
        .map(|(number, lane)| ManifestLane::read(number, lane))
        .collect())
}

impl ManifestLane {
    fn read(number: usize, lane: &Value) -> Self {
        let id = lane.get("id").and_then(Value::as_str).map_or_else(|| number.to_string(), str::to_owned);
        let mut misread = Vec::new();
        let turnstile = match lane.get("turnstile") {
            Some(table) => Turnstile::read(table, &mut misread),
            None => {
                misread.push("the manifest describes no turnstile".to_owned());
                Turnstile::Nothing
            }
        };
        Self { id, turnstile, misread }
    }
}

impl Turnstile {
    fn read(table: &Value, misread: &mut Vec<String>) -> Self {
        match table.get("kind").and_then(Value::as_str) {
            Some("sim") => Self::Nothing,
            Some("cdev") => {
                let chip = table.get("chip").and_then(Value::as_str).map(str::to_owned);
                let outputs = Box::new(outputs(table, misread));
                let (found, missing) = cdev::Release::find(chip.as_deref(), &outputs);
                Self::Cdev { chip, outputs, found: missing.is_empty().then_some(found) }
            }
            Some("rpi") => Self::Rpi(Box::new(outputs(table, misread))),
            kind => {
                misread.push(format!("a turnstile of kind {kind:?} is unknown"));
                Self::Nothing
            }
        }
    }

    fn make_inactive(&mut self) -> Vec<(Output, turnstile::Error)> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Rpi(outputs) => rpi::make_inactive(outputs),
            Self::Cdev { chip, outputs, found } => {
                if let Some(release) = found {
                    let failures = release.make_inactive();
                    if failures.iter().all(|(_, error)| error.kind() == ErrorKind::Busy) {
                        return failures;
                    }
                }
                // The chip went away and came back, perhaps under another number.
                let (release, mut failures) = cdev::Release::find(chip.as_deref(), outputs);
                failures.extend(release.make_inactive());
                failures
            }
        }
    }
}

/// The outputs that can be understood, each by itself.
fn outputs<O: serde::de::DeserializeOwned>(table: &Value, misread: &mut Vec<String>) -> OutputWiring<O> {
    let mut wiring = OutputWiring::default();
    for (key, value) in table.get("outputs").and_then(Value::as_table).into_iter().flatten() {
        let place = match key.as_str() {
            "unlock_a" => &mut wiring.unlock_a,
            "unlock_b" => &mut wiring.unlock_b,
            "stop" => &mut wiring.stop,
            "beacon_red" => &mut wiring.beacon_red,
            "beacon_green" => &mut wiring.beacon_green,
            "wide" => &mut wiring.wide,
            _ => {
                misread.push(format!("{key} is no output"));
                continue;
            }
        };
        match value.clone().try_into() {
            Ok(wire) => *place = Some(wire),
            Err(error) => misread.push(format!("{key}: {}", error.to_string().trim_end())),
        }
    }
    wiring
}

impl Lane for ManifestLane {
    fn id(&self) -> &str {
        &self.id
    }

    fn make_inactive(&mut self) -> Vec<String> {
        let mut failures = self.turnstile.make_inactive();
        for _ in 1..BUSY_TRIES {
            if !failures.iter().any(|(_, error)| error.kind() == ErrorKind::Busy) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            failures = self.turnstile.make_inactive();
        }
        let failures = failures.into_iter().map(|(_, error)| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        self.misread.iter().cloned().chain(failures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<ManifestLane> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gated.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).unwrap()
    }

    #[test]
    fn what_is_not_about_outputs_is_ignored() {
        let mut lanes = read(
            r#"
            name = 7
            [weather]
            sun = true
            [[lanes]]
            id = "entry-1"
            entry_is_a = "perhaps"
            [lanes.turnstile]
            kind = "sim"
            speed = 9
            [[lanes.readers]]
            kind = "crystal ball"
            [[lanes]]
            [lanes.turnstile]
            kind = "cdev"
            inputs = "none of your business"
            "#,
        );
        assert_eq!(lanes.iter().map(Lane::id).collect::<Vec<_>>(), ["entry-1", "2"]);
        assert!(lanes.iter_mut().all(|lane| lane.make_inactive().is_empty()));
    }

    #[test]
    fn what_is_wrong_with_one_output_does_not_hide_the_others() {
        let lanes = read(
            r#"
            [[lanes]]
            id = "entry-1"
            [lanes.turnstile]
            kind = "rpi"
            [lanes.turnstile.outputs]
            unlock_a = { pin = 4000 }
            unlock_b = { pin = 17, active_low = true }
            trapdoor = { pin = 3 }
            "#,
        );
        let Turnstile::Rpi(outputs) = &lanes[0].turnstile else { panic!("{lanes:?}") };
        assert_eq!(outputs.unlock_b, Some(rpi::OutputPin { pin: 17, active_low: true }));
        assert_eq!(outputs.wired().count(), 1);
        let misread = lanes[0].misread.join("\n");
        assert!(misread.contains("unlock_a") && misread.contains("trapdoor"), "{misread}");
    }

    #[test]
    fn garbage_is_a_failure_of_its_lane() {
        for (lane, text) in [
            ("turnstile = { kind = \"catapult\" }", "catapult"),
            ("turnstile = 7", "unknown"),
            ("turnstile = { }", "unknown"),
            ("", "no turnstile"),
        ] {
            let failures = read(&format!("[[lanes]]\nid = \"x\"\n{lane}"))[0].make_inactive();
            assert!(failures.len() == 1 && failures[0].contains(text), "{lane}: {failures:?}");
        }
        assert_eq!(read("lanes = \"none\"").len(), 0);
        assert_eq!(read("lanes = [1]")[0].make_inactive().len(), 1);
    }

    #[test]
    fn without_a_manifest_nothing_can_be_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gated.toml");
        assert!(matches!(load(&path), Err(Error::Read { .. })));
        std::fs::write(&path, "[[lanes").unwrap();
        assert!(matches!(load(&path), Err(Error::Syntax { .. })));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(load(&path), Err(Error::Read { .. })));
    }
}
