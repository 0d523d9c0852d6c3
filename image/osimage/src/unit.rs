//! What became of each card: a line of JSON a card, appended to a file that becomes the fleet's inventory.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::device::Identity;
use crate::flash::{FailureKind, FlashError, Flashed};
use crate::hex;

/// A card and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Unit {
    /// When it was done, RFC 3339, UTC.
    pub at: String,
    /// The device or file that was written.
    pub target: String,
    /// What the card says of itself.
    #[serde(flatten)]
    pub identity: Identity,
    /// Its length in bytes; none when it was never measured.
    pub size: Option<u64>,
    /// The image's file name.
    pub image: String,
    /// SHA-256 of the image's block map.
    pub image_sha256: String,
    /// The key whose signature of the image was checked.
    pub image_key: Option<String>,
    /// The box that the card was provisioned for.
    #[serde(rename = "box")]
    pub box_name: Option<String>,
    /// The serial number that its provisioning is bound to.
    pub box_serial: Option<String>,
    /// The key that signed the provisioning file.
    pub provision_key: Option<String>,
    /// How it ended.
    pub result: Outcome,
    /// What went wrong.
    pub error: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Bytes written.
    pub written: u64,
    /// Bytes that an earlier run had written.
    pub resumed: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Written and read back.
    Good,
    /// Not.
    #[serde(untagged)]
    Failed(FailureKind),
}

impl Unit {
    /// A record of now, for an image of this name and identity on this target; nothing is known of it yet.
    #[must_use]
    pub fn new(target: &Path, image: &Path, image_sha256: &[u8; 32]) -> Self {
        Self {
            at: String::new(),
            target: target.display().to_string(),
            identity: Identity::default(),
            size: None,
            image: image.file_name().unwrap_or_default().display().to_string(),
            image_sha256: hex(image_sha256),
            image_key: None,
            box_name: None,
            box_serial: None,
            provision_key: None,
            result: Outcome::Failed(FailureKind::Refused),
            error: None,
            seconds: 0.0,
            written: 0,
            resumed: 0,
        }
    }

    /// Notes how it ended.
    pub fn done(&mut self, result: &Result<Flashed, FlashError>, seconds: f64) {
        self.seconds = (seconds * 10.0).round() / 10.0;
        match result {
            Ok(flashed) => {
                self.result = Outcome::Good;
                self.size = Some(flashed.size);
                self.written = flashed.written;
                self.resumed = flashed.resumed;
            }
            Err(error) => self.fail(error.kind(), error),
        }
    }

    /// Notes why it failed.
    pub fn fail(&mut self, kind: FailureKind, error: &dyn std::error::Error) {
        let chain = std::iter::successors(Some(error), |error| error.source());
        self.result = Outcome::Failed(kind);
        self.error = Some(chain.map(ToString::to_string).collect::<Vec<_>>().join(": "));
    }

    /// Appends the record to `file` in one write, and makes sure that it is on the disk.
    ///
    /// # Errors
    ///
    /// As the file's.
    pub fn append(&mut self, file: &Path) -> io::Result<()> {
        self.at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut line = serde_json::to_vec(self).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut file = File::options().append(true).create(true).open(file)?;
        file.write_all(&line)?;
        file.sync_data()
    }
}

/// Where records go when nothing else is said: `osimage/units.jsonl` in the user's state folder (XDG base
/// directory specification).
#[must_use]
pub fn default_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(folder.join("osimage/units.jsonl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_appended_as_lines_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/units.jsonl");
        let mut unit = Unit::new(Path::new("/dev/sdx"), Path::new("/images/box.img.zst"), &[0xAB; 32]);
        unit.identity.serial = Some("0x1234".to_owned());
        unit.done(&Ok(Flashed { size: 64, written: 10, resumed: 4, fitted: true }), 12.34);
        unit.append(&file).unwrap();
        unit.done(&Err(FlashError::Gone { percent: 37, source: io::Error::from_raw_os_error(5) }), 1.0);
        unit.append(&file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["result"], &lines[0]["seconds"]), (&"good".into(), &12.3.into()));
        assert_eq!((&lines[0]["image"], &lines[0]["serial"]), (&"box.img.zst".into(), &"0x1234".into()));
        assert_eq!(lines[1]["result"], "gone");
        assert!(lines[1]["error"].as_str().unwrap().starts_with("pulled out at 37 %: "));
        assert!(lines[0]["at"].as_str().unwrap().ends_with('Z'));
    }
}
