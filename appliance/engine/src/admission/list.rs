//! What key sets, deny lists and card lists share: a head, a version that only grows, and one signature. All
//! integers are big-endian.
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 1 | type: 0x21 deny list, 0x22 card list, 0x23 key set |
//! | 1 | 1 | id of the issuer key that signed; 0 is the operator's root |
//! | 2 | 3 | store group |
//! | 5 | 4 | version |
//! | 9 | 4 | made at, unix seconds |
//! | 13 | … | entries, by type |
//! | end - 64 | 64 | Ed25519 signature over the type's domain and all bytes before it |

use std::fmt;

use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::pass::{SIGNATURE_LENGTH, number};
use crate::time::Instant;

/// Length of the head.
pub(super) const HEAD_LENGTH: usize = 13;
/// The id under which the operator's root signs.
pub const ROOT_KEY_ID: u8 = 0;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Passes that gates refuse; signed by an issuer or the root.
    Deny,
    /// Cards of the fall-back readers; signed by an issuer or the root.
    Cards,
    /// Public keys of the issuers; signed by the root.
    Keys,
}

/// A list's version; a newer list has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u32);

/// Why a list was not taken. The one before stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not such a list, or cut off.
    #[error("not a {0}, or cut off")]
    Malformed(Kind),
    /// Its entries contradict the format.
    #[error("{kind}: {what}")]
    Content {
        /// Which list.
        kind: Kind,
        /// What is wrong with the entries.
        what: &'static str,
    },
    /// More entries than a gate holds.
    #[error("{kind} has {entries} entries, more than {max}")]
    TooLong {
        /// Which list.
        kind: Kind,
        /// How many it has.
        entries: usize,
        /// How many there may be.
        max: usize,
    },
    /// For another group of stores.
    #[error("{kind} is for store group {group}, not for this one")]
    OtherGroup {
        /// Which list.
        kind: Kind,
        /// Whose.
        group: u32,
    },
    /// Signed by a key that the gate does not hold, or not for this purpose.
    #[error("{kind} is signed by key {key_id}, which is not trusted for it")]
    UnknownKey {
        /// Which list.
        kind: Kind,
        /// By which key.
        key_id: u8,
    },
    /// The signature does not fit.
    #[error("the signature of the {0} does not fit")]
    Signature(Kind),
    /// Older than the newest that was ever taken.
    #[error("{kind} {got} is older than {newest}, which was taken before")]
    Old {
        /// Which list.
        kind: Kind,
        /// Its version.
        got: Version,
        /// The newest ever taken.
        newest: Version,
    },
    /// Of the version in force, but different.
    #[error("{kind} {version} is in force already with other content")]
    Conflict {
        /// Which list.
        kind: Kind,
        /// The version.
        version: Version,
    },
    /// Made later than now, though the clock is synchronised.
    #[error("{0} was made in the future")]
    FromTheFuture(Kind),
}

/// A list whose form is right; its signature has not been looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub kind: Kind,
    pub key_id: u8,
    pub store_group: u32,
    pub version: Version,
    /// Unix seconds.
    pub made_at: u64,
    pub entries: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
}

impl Kind {
    pub(super) const fn type_byte(self) -> u8 {
        match self {
            Self::Deny => 0x21,
            Self::Cards => 0x22,
            Self::Keys => 0x23,
        }
    }

    /// Separates one thing that a key signs from another.
    pub(super) const fn domain(self) -> &'static [u8] {
        match self {
            Self::Deny => b"GE1-DENY\0",
            Self::Cards => b"GE1-CARD\0",
            Self::Keys => b"GE1-KEYS\0",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deny => "deny list",
            Self::Cards => "card list",
            Self::Keys => "key set",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> Frame<'a> {
    /// Takes head and signature off.
    pub fn parse(kind: Kind, bytes: &'a [u8]) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed(kind);
        let end = bytes.len().checked_sub(SIGNATURE_LENGTH).filter(|end| *end >= HEAD_LENGTH);
        let (signed, signature) = bytes.split_at(end.ok_or(malformed)?);
        if signed[0] != kind.type_byte() {
            return Err(malformed);
        }
        Ok(Self {
            kind,
            key_id: signed[1],
            store_group: number(&signed[2..5]) as u32,
            version: Version(number(&signed[5..9]) as u32),
            made_at: number(&signed[9..13]),
            entries: &signed[HEAD_LENGTH..],
            signed,
            signature,
        })
    }

    /// Whether this key signed the list.
    pub fn verify(&self, key: &[u8; 32]) -> Result<(), Refusal> {
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&[self.kind.domain(), self.signed].concat(), self.signature)
            .map_err(|_| Refusal::Signature(self.kind))
    }
}

/// The head of a list that is being made.
pub(super) fn head(kind: Kind, key_id: u8, store_group: u32, version: Version, made_at: Instant) -> Vec<u8> {
    let mut bytes = vec![kind.type_byte(), key_id];
    bytes.extend(&store_group.to_be_bytes()[1..]);
    bytes.extend(version.0.to_be_bytes());
    bytes.extend((made_at.unix_seconds() as u32).to_be_bytes());
    bytes
}
