//! What a box is given before it can admit anybody: the issuers' public keys, the store group, and the secret
//! of wallet passes. It lies with the state (`admission.toml`), not in the role manifest: it belongs to the
//! store, not to the role.

use std::fs;
use std::path::{Path, PathBuf};

use engine::admission::{GroupKey, Issuers, PartyEntry, Settings, UntrustedClock};
use serde::Deserialize;

/// The file's name in the state folder.
pub const FILE: &str = "admission.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    store_group: u32,
    issuers: Vec<IssuerKey>,
    #[serde(default)]
    group_key: Option<String>,
    #[serde(default)]
    untrusted_clock: UntrustedClock,
    #[serde(default)]
    party: PartyEntry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerKey {
    id: u8,
    key: String,
}

/// Why a provisioning file was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML of this form; the source names line and key.
    #[error("{path} is not valid")]
    Form {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// A value is out of its range.
    #[error("{path}: {key} must be {want}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key of it.
        key: String,
        /// What it must be.
        want: &'static str,
    },
}

/// Reads how people are admitted.
///
/// # Errors
/// Names the file and the key at fault.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let file: File = toml::from_str(&text).map_err(|source| Error::Form { path: path.to_owned(), source })?;
    let bad = |key: String, want| Error::Value { path: path.to_owned(), key, want };
    if file.store_group >= 1 << 24 {
        return Err(bad("store_group".to_owned(), "below 16777216 (24 bits)"));
    }
    if file.issuers.is_empty() || file.issuers.len() > 2 {
        return Err(bad("issuers".to_owned(), "one or two keys"));
    }
    let mut issuers = Issuers::default();
    for (index, issuer) in file.issuers.iter().enumerate() {
        let key =
            hex(&issuer.key).ok_or_else(|| bad(format!("issuers[{index}].key"), "64 hexadecimal digits"))?;
        issuers.install(issuer.id, key);
    }
    let group_key = match file.group_key {
        Some(text) => {
            Some(GroupKey(hex(&text).ok_or_else(|| bad("group_key".to_owned(), "64 hexadecimal digits"))?))
        }
        None => None,
    };
    let File { store_group, untrusted_clock, party, .. } = file;
    Ok(Settings { store_group, issuers, group_key, untrusted_clock, party })
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let key = "ab".repeat(32);
        let table = [
            (format!("store_group = 7\n[[issuers]]\nid = 1\nkey = \"{key}\"\n"), None),
            ("store_group = 7\n".to_owned(), Some("issuers")),
            ("store_group = 7\nissuers = []\n".to_owned(), Some("issuers")),
            (format!("store_group = 99999999\n[[issuers]]\nid = 1\nkey = \"{key}\"\n"), Some("store_group")),
            ("store_group = 7\n[[issuers]]\nid = 1\nkey = \"ab\"\n".to_owned(), Some("issuers[0].key")),
            (format!("store_group = 7\ngroup = 1\n[[issuers]]\nid = 1\nkey = \"{key}\"\n"), Some("group")),
        ];
        for (text, want) in table {
            fs::write(&path, &text).unwrap();
            let refused = load(&path).err().map(|error| crate::lane::chain(&error));
            match want {
                None => assert!(refused.is_none(), "{refused:?}"),
                Some(key) => {
                    let refused = refused.expect("refused");
                    assert!(refused.contains(key) && refused.contains(FILE), "{refused}");
                }
            }
        }
        assert!(load(&folder.path().join("absent.toml")).is_err());
    }
}
