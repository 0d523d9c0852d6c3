//! What a box is given before it can admit anybody: the root's or the issuers' public keys, the store group, the
//! secrets of wallet passes and cards, and limits. It lies with the state (`admission.toml`), not in the role
//! manifest: it belongs to the store, not to the role.

use std::fs;
use std::path::{Path, PathBuf};

use engine::admission::Settings;
use engine::admission::provision::{BadValue, Provision};

/// The file's name in the state folder.
pub const FILE: &str = "admission.toml";

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
    /// It is not TOML of this form. The parser's own message would show the line, which may be a secret.
    #[error("{path} is not valid: line {line}: {what}")]
    Form {
        /// Which.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What does not fit there.
        what: String,
    },
    /// A value is out of its range; the source names the key.
    #[error("{path} is not valid")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key, and what it must be.
        #[source]
        source: BadValue,
    },
}

/// Reads how people are admitted.
///
/// # Errors
/// Names the file and the key at fault.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let file: Provision = toml::from_str(&text).map_err(|error| Error::Form {
        path: path.to_owned(),
        line: error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1,
        what: error.message().to_owned(),
    })?;
    file.settings().map_err(|source| Error::Value { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use engine::admission::{Policy, UntrustedClock};
    use engine::time::Millis;

    use super::*;

    #[test]
    fn limits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let key = "ab".repeat(32);
        let load_with = |text: &str| {
            fs::write(&path, format!("store_group = 7\nroot_key = \"{key}\"\n{text}")).unwrap();
            load(&path).unwrap()
        };
        assert_eq!(load_with("").policy, Policy::default());
        let table = "[policy]\ndegraded_after_hours = 5\nrefused_after_hours = 0\nguest_visits = 3\n";
        let want =
            Policy { degraded_after: Millis::from_seconds(5 * 3600), refused_after: None, guest_visits: 3 };
        assert_eq!(load_with(table).policy, want);
        let lenient = load_with("untrusted_clock = \"skip_times\"\nparty = \"scan_each\"\n");
        assert_eq!((lenient.untrusted_clock, lenient.root), (UntrustedClock::SkipTimes, Some([0xab; 32])));
    }

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
            (format!("store_group = 7\n[[issuers]]\nid = 0\nkey = \"{key}\"\n"), Some("issuers[0].id")),
            (format!("store_group = 7\nroot_key = \"{key}\"\n"), None),
            (format!("store_group = 7\nroot_key = \"{key}0\"\n"), Some("root_key")),
            (format!("store_group = 7\nroot_key = \"{key}\"\ngroup_key = \"x\"\n"), Some("group_key")),
            (format!("store_group = 7\nroot_key = \"{key}\"\ncard_salt = \"x\"\n"), Some("card_salt")),
            (format!("store_group = 7\nissuers = []\ngroup_key = {key}\n"), Some("line 3")),
            (format!("store_group = 7\nroot_key = \"{key}\"\n[policy]\nguests = 1\n"), Some("guests")),
            (
                format!("store_group = 7\nroot_key = \"{key}\"\n[policy]\nrefused_after_hours = 1\n"),
                Some("refused_after_hours"),
            ),
        ];
        for (text, want) in table {
            fs::write(&path, &text).unwrap();
            let refused = load(&path).err().map(|error| crate::lane::chain(&error));
            match want {
                None => assert!(refused.is_none(), "{refused:?}"),
                Some(key) => {
                    let refused = refused.expect("refused");
                    assert!(refused.contains(key) && refused.contains(FILE), "{refused}");
                    assert!(!refused.contains("abab"), "a key is printed: {refused}");
                }
            }
        }
        assert!(load(&folder.path().join("absent.toml")).is_err());
    }
}
