//! Whose signatures a gate believes: the issuers' public keys, and the key set that rolls them over.
//!
//! A key set is signed by the operator's root, which stays offline; a gate holds its public key from the day it
//! is provisioned. Entries: a check value of the group key (8 bytes, zeros for none: the group key itself is
//! provisioned, never sent), then for each issuer key its id (1), not before (4), not after (4, unix seconds,
//! exclusive) and the public key (32).

use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::list::{Frame, Kind, ROOT_KEY_ID, Refusal, Version};
use super::pass::{GroupKey, number};
use crate::message::DenyReason;

/// Most keys of a set: two live, and two that follow or linger.
pub const KEYS_MAX: usize = 4;
/// Keys that may be live at one moment: the old and the new one of a roll-over.
pub const LIVE_MAX: usize = 2;
const ENTRY_LENGTH: usize = 41;
const CHECK_LENGTH: usize = 8;

/// An issuer's public key and when it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuerKey {
    /// The id that certificates name; 1 to 255 in a key set.
    pub id: u8,
    /// Ed25519 public key.
    pub key: [u8; 32],
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds, exclusive.
    pub not_after: u64,
}

/// Public keys of the issuers that a gate trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuers(Vec<IssuerKey>);

/// A key set whose form is right and whose signature fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    /// Its version.
    pub version: Version,
    /// Unix seconds.
    pub made_at: u64,
    /// The store group.
    pub store_group: u32,
    /// The keys.
    pub issuers: Issuers,
    /// What [`GroupKey::check_value`] should be; zeros: not said.
    pub group_key_check: [u8; 8],
}

impl Issuers {
    /// Trusts a key under its id for ever: a known id gets the new key, a third id displaces the one installed
    /// first.
    pub fn install(&mut self, id: u8, key: [u8; 32]) {
        self.0.retain(|known| known.id != id);
        if self.0.len() == LIVE_MAX {
            self.0.remove(0);
        }
        self.0.push(IssuerKey { id, key, not_before: 0, not_after: u64::MAX });
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> &[IssuerKey] {
        &self.0
    }

    /// When the last key ends, unix seconds; 0 when there is none.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.iter().map(|key| key.not_after).max().unwrap_or(0)
    }

    pub(super) fn find(&self, id: u8) -> Result<&IssuerKey, DenyReason> {
        self.0.iter().find(|key| key.id == id).ok_or(DenyReason::UnknownIssuer)
    }
}

impl IssuerKey {
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), DenyReason> {
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(message, signature)
            .map_err(|_| DenyReason::BadSignature)
    }

    /// Whether the key counts at this second.
    #[must_use]
    pub const fn live(&self, unix_seconds: u64) -> bool {
        self.not_before <= unix_seconds && unix_seconds < self.not_after
    }
}

impl KeySet {
    /// Reads a key set and checks everything about it but its version.
    ///
    /// # Errors
    /// When it is not a key set of this group, or not signed by this root.
    pub fn parse(bytes: &[u8], store_group: u32, root: &[u8; 32]) -> Result<Self, Refusal> {
        let kind = Kind::Keys;
        let frame = Frame::parse(kind, bytes)?;
        if frame.key_id != ROOT_KEY_ID {
            return Err(Refusal::UnknownKey { kind, key_id: frame.key_id });
        }
        let (check, entries) =
            frame.entries.split_at_checked(CHECK_LENGTH).ok_or(Refusal::Malformed(kind))?;
        if entries.len() % ENTRY_LENGTH != 0 {
            return Err(Refusal::Malformed(kind));
        }
        if entries.len() / ENTRY_LENGTH > KEYS_MAX {
            return Err(Refusal::TooLong { kind, entries: entries.len() / ENTRY_LENGTH, max: KEYS_MAX });
        }
        frame.verify(root)?;
        if frame.store_group != store_group {
            return Err(Refusal::OtherGroup { kind, group: frame.store_group });
        }
        let keys: Vec<IssuerKey> = entries.chunks_exact(ENTRY_LENGTH).map(entry).collect();
        check_keys(&keys).map_err(|what| Refusal::Content { kind, what })?;
        let mut group_key_check = [0; CHECK_LENGTH];
        group_key_check.copy_from_slice(check);
        Ok(Self {
            version: frame.version,
            made_at: frame.made_at,
            store_group,
            issuers: Issuers(keys),
            group_key_check,
        })
    }
}

impl GroupKey {
    /// Eight bytes by which a gate knows whether it holds the right group key; they do not tell the key.
    #[must_use]
    pub fn check_value(&self) -> [u8; 8] {
        let hash = digest(&SHA256, &[b"GE1-GKID\0", &self.0[..]].concat());
        let mut check = [0; CHECK_LENGTH];
        check.copy_from_slice(&hash.as_ref()[..CHECK_LENGTH]);
        check
    }
}

/// What a key set must hold, else why not.
pub(super) fn check_keys(keys: &[IssuerKey]) -> Result<(), &'static str> {
    if keys.is_empty() {
        return Err("no keys");
    }
    for (index, key) in keys.iter().enumerate() {
        if key.id == ROOT_KEY_ID {
            return Err("key id 0 is the root's");
        }
        if keys[..index].iter().any(|earlier| earlier.id == key.id) {
            return Err("a key id occurs twice");
        }
        if key.not_before >= key.not_after {
            return Err("a key ends before it begins");
        }
        // The number of live keys only grows where one begins.
        if keys.iter().filter(|other| other.live(key.not_before)).count() > LIVE_MAX {
            return Err("more than two keys are live at a time");
        }
    }
    Ok(())
}

pub(super) fn encode_keys(bytes: &mut Vec<u8>, group_key: Option<&GroupKey>, keys: &[IssuerKey]) {
    bytes.extend(group_key.map_or([0; CHECK_LENGTH], GroupKey::check_value));
    for key in keys {
        bytes.push(key.id);
        bytes.extend(seconds(key.not_before).to_be_bytes());
        bytes.extend(seconds(key.not_after).to_be_bytes());
        bytes.extend(key.key);
    }
}

fn entry(bytes: &[u8]) -> IssuerKey {
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[9..]);
    IssuerKey { id: bytes[0], key, not_before: number(&bytes[1..5]), not_after: number(&bytes[5..9]) }
}

/// Four bytes reach to the year 2106; what is later is as good as for ever.
fn seconds(unix_seconds: u64) -> u32 {
    u32::try_from(unix_seconds).unwrap_or(u32::MAX)
}
