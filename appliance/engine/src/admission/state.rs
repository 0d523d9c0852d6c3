//! Taking signed lists into force, and saying how admission is.

use std::fmt;

use ring::digest::{SHA256, digest};

use super::cards::CardList;
use super::deny::DenyList;
use super::keys::KeySet;
use super::list::{Kind, ROOT_KEY_ID};
use super::{Admission, ClockFault, InForce, Refusal, Time, Version};
use crate::message::DenyReason;
use crate::time::{Instant, Millis};

/// A list made so much later than now is refused when the clock is synchronised: issuers' clocks are, too.
const AHEAD_MAX: Millis = Millis::from_seconds(600);
/// A key set whose last key ends within this time is reported.
const KEYS_END_SOON: Millis = Millis::from_seconds(7 * 24 * 3600);

/// How a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListState {
    /// There is none, and none is expected: the gate has no root key.
    Unmanaged,
    /// There is none, but should be.
    Missing,
    /// In force, and new enough.
    Fresh(Version),
    /// In force, but nearly too old (a key set: its last key ends within a week).
    Ageing(Version),
    /// Too old: what it is needed for is refused.
    Stale(Version),
}

/// How admission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Key set.
    pub keys: ListState,
    /// Deny list.
    pub deny: ListState,
    /// Card list.
    pub cards: ListState,
    /// What is wrong with the time, apart from what the shell's own clock says.
    pub clock: Option<ClockFault>,
    /// The group key is not the one that the key set speaks of: wallet passes are refused.
    pub group_key_differs: bool,
}

impl Admission {
    /// Takes a key set: from now on its keys are the only ones. The same set again changes nothing.
    ///
    /// # Errors
    /// When it is not a key set of this group signed by the provisioned root, or older than one that was ever
    /// taken. The keys in force stay.
    pub fn install_keys(&mut self, now: Instant, bytes: &[u8]) -> Result<Version, Refusal> {
        let kind = Kind::Keys;
        let root = self.settings.root.ok_or(Refusal::UnknownKey { kind, key_id: ROOT_KEY_ID })?;
        let set = KeySet::parse(bytes, self.settings.store_group, &root)?;
        let made_at = Instant(set.made_at * 1000);
        let known = self.keys.as_ref().map(|list| (list.version, list.hash));
        let hash = self.accept(now, kind, bytes, set.version, made_at, known, self.versions.keys)?;
        self.versions.keys = set.version;
        self.group_key_differs = set.group_key_check != [0; 8]
            && self.settings.group_key.as_ref().is_some_and(|key| key.check_value() != set.group_key_check);
        self.settings.issuers = set.issuers;
        self.keys = Some(InForce { list: (), version: set.version, made_at, hash });
        Ok(set.version)
    }

    /// Takes a deny list. The same list again changes nothing.
    ///
    /// # Errors
    /// When it is not a deny list of this group signed by a trusted key, or older than one that was ever taken.
    /// The list in force stays.
    pub fn deny(&mut self, now: Instant, bytes: &[u8]) -> Result<Version, Refusal> {
        let settings = &self.settings;
        let list = DenyList::parse(bytes, settings.store_group, &settings.issuers, settings.root.as_ref())?;
        let (version, made_at) = (list.version, Instant(list.made_at * 1000));
        let known = self.deny.as_ref().map(|list| (list.version, list.hash));
        let hash = self.accept(now, Kind::Deny, bytes, version, made_at, known, self.versions.deny)?;
        self.versions.deny = version;
        self.deny = Some(InForce { list, version, made_at, hash });
        Ok(version)
    }

    /// Takes a card list. The same list again changes nothing.
    ///
    /// # Errors
    /// As for [`Self::deny`].
    pub fn install_cards(&mut self, now: Instant, bytes: &[u8]) -> Result<Version, Refusal> {
        let settings = &self.settings;
        let list = CardList::parse(bytes, settings.store_group, &settings.issuers, settings.root.as_ref())?;
        let (version, made_at) = (list.version, Instant(list.made_at * 1000));
        let known = self.cards.as_ref().map(|list| (list.version, list.hash));
        let hash = self.accept(now, Kind::Cards, bytes, version, made_at, known, self.versions.cards)?;
        self.versions.cards = version;
        self.cards = Some(InForce { list, version, made_at, hash });
        Ok(version)
    }

    /// How admission is now.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let clock = self.watch.fault(now);
        let earliest = if clock.is_none() { now } else { self.watch.floor() };
        let managed = self.settings.root.is_some();
        let keys = match &self.keys {
            Some(set) => {
                let end = Instant(self.settings.issuers.end().saturating_mul(1000));
                if end <= earliest {
                    ListState::Stale(set.version)
                } else if end <= earliest.after(KEYS_END_SOON) {
                    ListState::Ageing(set.version)
                } else {
                    ListState::Fresh(set.version)
                }
            }
            None if managed => ListState::Missing,
            None => ListState::Unmanaged,
        };
        let aged = |list: Option<(Version, Instant)>, wanted: bool| match list {
            Some((version, made_at)) => {
                let age = earliest.since(made_at);
                if self.settings.policy.refused_after.is_some_and(|limit| age > limit) {
                    ListState::Stale(version)
                } else if age > self.settings.policy.degraded_after {
                    ListState::Ageing(version)
                } else {
                    ListState::Fresh(version)
                }
            }
            None if wanted => ListState::Missing,
            None => ListState::Unmanaged,
        };
        let in_force = |version: Version, made_at: Instant| (version, made_at);
        Status {
            keys,
            deny: aged(
                self.deny.as_ref().map(|list| in_force(list.version, list.made_at)),
                managed || self.versions.deny > Version(0),
            ),
            cards: aged(
                self.cards.as_ref().map(|list| in_force(list.version, list.made_at)),
                self.settings.card_salt.is_some(),
            ),
            clock,
            group_key_differs: self.group_key_differs,
        }
    }

    /// Whether the deny list, if there is one, is young enough to judge by.
    pub(super) fn lists_are_fresh(&self, time: &Time) -> Result<(), DenyReason> {
        match &self.deny {
            Some(list) if self.too_old(time, list.made_at) => Err(DenyReason::ListsStale),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn too_old(&self, time: &Time, made_at: Instant) -> bool {
        self.settings.policy.refused_after.is_some_and(|limit| time.earliest.since(made_at) > limit)
    }

    /// Whether a list that is signed as it should be may take the place of the one in force; its hash.
    #[expect(clippy::too_many_arguments, reason = "what the three lists differ in")]
    fn accept(
        &mut self,
        now: Instant,
        kind: Kind,
        bytes: &[u8],
        got: Version,
        made_at: Instant,
        in_force: Option<(Version, [u8; 32])>,
        newest: Version,
    ) -> Result<[u8; 32], Refusal> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        if got < newest {
            return Err(Refusal::Old { kind, got, newest });
        }
        if in_force.is_some_and(|(version, known)| version == got && known != hash) {
            return Err(Refusal::Conflict { kind, version: got });
        }
        if self.watch.synchronised() && made_at > now.after(AHEAD_MAX) {
            return Err(Refusal::FromTheFuture(kind));
        }
        self.watch.evidence(made_at);
        Ok(hash)
    }
}

impl Status {
    /// Whether somebody should look at it.
    #[must_use]
    pub fn degraded(&self) -> bool {
        let worn = |list| match list {
            ListState::Unmanaged | ListState::Fresh(_) => false,
            ListState::Missing | ListState::Ageing(_) | ListState::Stale(_) => true,
        };
        [self.keys, self.deny, self.cards].into_iter().any(worn)
            || self.clock.is_some()
            || self.group_key_differs
    }
}

impl fmt::Display for Status {
    /// What is wrong, for people; empty when nothing is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (kind, list) in [(Kind::Keys, self.keys), (Kind::Deny, self.deny), (Kind::Cards, self.cards)] {
            match list {
                ListState::Unmanaged | ListState::Fresh(_) => {}
                ListState::Missing => parts.push(format!("no {kind}")),
                ListState::Ageing(version) if kind == Kind::Keys => {
                    parts.push(format!("the last key of {kind} {version} ends within a week"));
                }
                ListState::Ageing(version) => parts.push(format!("{kind} {version} is getting old")),
                ListState::Stale(version) if kind == Kind::Keys => {
                    parts.push(format!("all keys of {kind} {version} are over"));
                }
                ListState::Stale(version) => parts.push(format!("{kind} {version} is too old to judge by")),
            }
        }
        if let Some(clock) = self.clock {
            parts.push(clock.to_string());
        }
        if self.group_key_differs {
            parts.push("the group key is not the one of the key set".to_owned());
        }
        f.write_str(&parts.join("; "))
    }
}
