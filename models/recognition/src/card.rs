//! The models' manifest: which file is the people detector, and how its output is cut.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Error;

/// The manifest's name in the models' folder.
const MANIFEST: &str = "manifest.toml";
/// Larger files are not our models; the bound keeps a wrong path from eating the memory.
const MODEL_BYTES_MAX: u64 = 64 << 20;

/// What the runtime needs of the manifest; the rest tells people where the model comes from.
#[derive(Debug, Deserialize)]
struct Manifest {
    people: Card,
}

/// The people detector's entry.
#[derive(Debug, Deserialize)]
pub struct Card {
    file: String,
    sha256: String,
    /// A head is reported from this probability on.
    pub head_least: f32,
    /// A hand is reported from this probability on.
    pub hand_least: f32,
}

impl Card {
    /// The model's name in its folder.
    pub fn file(&self) -> &str {
        &self.file
    }
}

/// The card and the model's bytes, which are the ones that were scored.
pub fn load(folder: &Path) -> Result<(Card, Vec<u8>), Error> {
    let path = folder.join(MANIFEST);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let manifest: Manifest = toml::from_str(&text)
        .map_err(|source| Error::Manifest { path: path.clone(), source: source.into() })?;
    let card = manifest.people;
    for (key, value) in [("head_least", card.head_least), ("hand_least", card.hand_least)] {
        if !(value > 0.0 && value < 1.0) {
            let source = format!("people.{key} must be between 0 and 1").into();
            return Err(Error::Manifest { path, source });
        }
    }
    // A name, not a path: the manifest speaks about its own folder only.
    if card.file.contains(['/', '\\']) || card.file.is_empty() {
        let source = "people.file must be the name of a file beside the manifest".into();
        return Err(Error::Manifest { path, source });
    }
    let path = folder.join(&card.file);
    let read = |source| Error::Read { path: path.clone(), source };
    if std::fs::metadata(&path).map_err(read)?.len() > MODEL_BYTES_MAX {
        return Err(read(std::io::Error::other("too large for a model")));
    }
    let bytes = std::fs::read(&path).map_err(read)?;
    let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(&card.sha256) {
        Ok((card, bytes))
    } else {
        Err(Error::Hash { path, expected: card.sha256, found })
    }
}
