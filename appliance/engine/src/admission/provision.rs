//! What a box is given before it can admit anybody (`admission.toml`), and the files that keys lie in, as plain
//! data: shells read the files.

use serde::{Deserialize, Serialize};

use super::keys::LIVE_MAX;
use super::list::ROOT_KEY_ID;
use super::{GroupKey, Issuers, PartyEntry, Policy, Settings, UntrustedClock};
use crate::time::Millis;

/// `admission.toml`. Keys are 64 hexadecimal digits; `stile-token keys show` prints them in this form.
///
/// ```toml
/// store_group = 7                  # below 16777216
/// root_key = "…"                   # signs key sets; with it, issuers may be left out
/// group_key = "…"                  # secret: wallet passes; without it they are refused
/// card_salt = "…"                  # secret: cards; without it they are refused
/// untrusted_clock = "refuse"       # or "skip_times"
/// party = "count_in"               # or "scan_each"
/// [[issuers]]                      # one or two, until a key set says otherwise
/// id = 1                           # 1 to 255
/// key = "…"
/// [policy]
/// degraded_after_hours = 36        # a deny or card list older than this is reported
/// refused_after_hours = 168        # and older than this closes the gate; 0: never
/// guest_visits = 1                 # visits that a guest pass opens for
/// ```
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    store_group: u32,
    #[serde(default)]
    issuers: Vec<Issuer>,
    #[serde(default)]
    root_key: Option<String>,
    #[serde(default)]
    group_key: Option<String>,
    #[serde(default)]
    card_salt: Option<String>,
    #[serde(default)]
    untrusted_clock: UntrustedClock,
    #[serde(default)]
    party: PartyEntry,
    #[serde(default)]
    policy: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Issuer {
    id: u8,
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    degraded_after_hours: Option<u32>,
    /// 0: never.
    refused_after_hours: Option<u32>,
    guest_visits: Option<u8>,
}

/// A value that no gate can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} must be {want}")]
pub struct BadValue {
    /// Which key of the file.
    pub key: String,
    /// What it must be.
    pub want: &'static str,
}

/// What a key file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// Signs key sets; Ed25519.
    Root,
    /// Signs certificates, deny lists and card lists; Ed25519.
    Issuer,
    /// A phone's key; P-256.
    Device,
    /// The secret behind wallet passes.
    Group,
    /// The secret behind the card list.
    CardSalt,
}

/// A secret key in a file. It has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// What it is for.
    pub kind: KeyKind,
    /// The issuer key's id, 1 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u8>,
    /// The store group of a root or an issuer, 24 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_group: Option<u32>,
    /// 64 hexadecimal digits.
    pub seed: String,
}

impl Provision {
    /// What the file means.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn settings(&self) -> Result<Settings, BadValue> {
        let bad = |key: &str, want| BadValue { key: key.to_owned(), want };
        if self.store_group >= 1 << 24 {
            return Err(bad("store_group", "below 16777216 (24 bits)"));
        }
        let root = self.root_key.as_deref().map(|text| key("root_key", text)).transpose()?;
        if self.issuers.len() > LIVE_MAX || (self.issuers.is_empty() && root.is_none()) {
            return Err(bad("issuers", "one or two keys, or none beside a root_key"));
        }
        let mut issuers = Issuers::default();
        for (index, issuer) in self.issuers.iter().enumerate() {
            if issuer.id == ROOT_KEY_ID {
                return Err(bad(&format!("issuers[{index}].id"), "1 to 255"));
            }
            if issuers.find(issuer.id).is_ok() {
                return Err(bad(&format!("issuers[{index}].id"), "another than the first"));
            }
            issuers.install(issuer.id, key(&format!("issuers[{index}].key"), &issuer.key)?);
        }
        let default = Policy::default();
        let hours = |hours: u32| Millis::from_seconds(u64::from(hours) * 3600);
        let policy = Policy {
            degraded_after: self.policy.degraded_after_hours.map_or(default.degraded_after, hours),
            refused_after: match self.policy.refused_after_hours {
                None => default.refused_after,
                Some(0) => None,
                Some(count) => Some(hours(count)),
            },
            guest_visits: self.policy.guest_visits.unwrap_or(default.guest_visits),
        };
        if policy.refused_after.is_some_and(|refused| refused < policy.degraded_after) {
            return Err(bad(
                "policy.refused_after_hours",
                "0 (never), or not less than degraded_after_hours",
            ));
        }
        let group_key = self.group_key.as_deref().map(|text| key("group_key", text)).transpose()?;
        Ok(Settings {
            store_group: self.store_group,
            issuers,
            root,
            group_key: group_key.map(GroupKey),
            card_salt: self.card_salt.as_deref().map(|text| key("card_salt", text)).transpose()?,
            untrusted_clock: self.untrusted_clock,
            party: self.party,
            policy,
        })
    }
}

impl KeyFile {
    /// The key's 32 bytes, when the file is of this kind and has what that kind needs.
    ///
    /// # Errors
    /// Names the key of the file at fault.
    pub fn seed(&self, kind: KeyKind) -> Result<[u8; 32], BadValue> {
        if self.kind != kind {
            let want = match kind {
                KeyKind::Root => "\"root\" here",
                KeyKind::Issuer => "\"issuer\" here",
                KeyKind::Device => "\"device\" here",
                KeyKind::Group => "\"group\" here",
                KeyKind::CardSalt => "\"card-salt\" here",
            };
            return Err(BadValue { key: "kind".to_owned(), want });
        }
        key("seed", &self.seed)
    }

    /// The issuer of this file.
    ///
    /// # Errors
    /// Names the key of the file at fault.
    pub fn issuer(&self) -> Result<super::issue::Issuer, BadValue> {
        let seed = self.seed(KeyKind::Issuer)?;
        let id = self.id.filter(|id| *id != ROOT_KEY_ID);
        let id = id.ok_or_else(|| BadValue { key: "id".to_owned(), want: "1 to 255" })?;
        Ok(super::issue::Issuer::new(id, self.group()?, &seed))
    }

    /// The root of this file.
    ///
    /// # Errors
    /// Names the key of the file at fault.
    pub fn root(&self) -> Result<super::issue::Root, BadValue> {
        Ok(super::issue::Root::new(self.group()?, &self.seed(KeyKind::Root)?))
    }

    fn group(&self) -> Result<u32, BadValue> {
        let group = self.store_group.filter(|group| *group < 1 << 24);
        group.ok_or_else(|| BadValue { key: "store_group".to_owned(), want: "below 16777216 (24 bits)" })
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|half| char::from_digit(half.into(), 16))
        .collect()
}

/// Hexadecimal digits as bytes; `None` when they are not, or not of this length.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (index, digit) in text.chars().enumerate() {
        *bytes.get_mut(index / 2)? |= (digit.to_digit(16)? as u8) << (4 * (1 - index % 2));
    }
    Some(bytes)
}

fn key(name: &str, text: &str) -> Result<[u8; 32], BadValue> {
    from_hex(text).ok_or_else(|| BadValue { key: name.to_owned(), want: "64 hexadecimal digits" })
}
