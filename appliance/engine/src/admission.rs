//! Admission decides whether an entry code may open the gate: offline, from public keys, the time, and what
//! it has seen.
//!
//! It knows no lane and no turnstile; [`crate::gate`] does. One `Admission` serves all lanes of a store's
//! box.

pub mod digits;
pub mod issue;
mod pass;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::message::{DenyReason, Grant};
use crate::time::{Instant, Millis};
use crate::units::MemberHandle;
pub use pass::{GroupKey, Issuers};
use pass::{Moment, Pass, TYPE_DENY, WALLET_STEP};

/// A code may have been shown so long ago: two steps of 10 s, and 5 s for a slow hand or a phone's clock.
pub const SHOWN_AGO_MAX: Millis = Millis::from_seconds(25);
/// A code may be from the future by this much: one step, for a phone's clock.
pub const SHOWN_AHEAD_MAX: Millis = Millis::from_seconds(10);
/// How long a used code of profile D is remembered: longer than it can be accepted (35 s).
pub const REPLAY_MEMORY: Millis = Millis::from_seconds(60);
/// How long a used code of profile W is remembered: it can be accepted for 90 s (its step and one on either
/// side).
pub const REPLAY_MEMORY_WALLET: Millis = Millis::from_seconds(120);
/// Most used codes remembered: a lane passes at most 30 people a minute, so this is enough for 60 lanes; when
/// it is full, codes are refused rather than forgotten.
pub const REPLAY_MAX: usize = 4096;
/// Most tries with one wallet pass within [`RATE_SPAN`].
pub const RATE_MAX: usize = 10;
/// See [`RATE_MAX`].
pub const RATE_SPAN: Millis = Millis::from_seconds(60);
/// Most wallet passes whose tries are counted; when it is full, other wallet passes wait.
const RATED_MAX: usize = 1024;
/// Most handles of a deny list: a day's worth of certificates of a large chain, 8 MiB.
const DENIED_MAX: usize = 1 << 20;

/// How this store admits people.
#[derive(Clone)]
pub struct Settings {
    /// The group of stores that passes are issued for, 24 bits.
    pub store_group: u32,
    /// Keys of the issuers.
    pub issuers: Issuers,
    /// The secret behind profile W; none: such passes are refused.
    pub group_key: Option<GroupKey>,
    /// What to do while the time is unknown.
    pub untrusted_clock: UntrustedClock,
    /// How a party comes in.
    pub party: PartyEntry,
}

/// What to do while the gate's clock is not trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UntrustedClock {
    /// Refuse everybody, and say why.
    #[default]
    Refuse,
    /// Leave out the checks of time in profile D; signatures, replay and deny list hold. Profile W is
    /// refused: its code is nothing but time.
    SkipTimes,
}

/// How a party comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyEntry {
    /// One code opens for the whole party, one passage after the other.
    #[default]
    CountIn,
    /// Everybody scans, with the next party nonce.
    ScanEach,
}

/// An accepted code.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// Whom it admits.
    pub grant: Grant,
    /// For how many passages, one after the other: 1 to the size of the party.
    pub passages: u8,
}

/// What must survive a restart, so that a code works once and a member inside cannot come in again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Used codes: member, moment, nonce or serial, and until when to remember.
    pub used: Vec<(MemberHandle, u64, u16, Instant)>,
    /// How many people are inside on each member's pass.
    pub inside: Vec<(MemberHandle, u8)>,
}

/// A deny list that was not taken. The one before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDenyList {
    /// Not a deny list, or cut off, or too long.
    #[error("not a deny list, or cut off")]
    Malformed,
    /// For another group of stores.
    #[error("deny list is for another group of stores")]
    OtherStore,
    /// Signed by nobody we know.
    #[error("deny list is not signed by a trusted issuer")]
    Signature,
    /// Not newer than the one in force.
    #[error("deny list is not newer than number {0}, which is in force")]
    Old(u32),
}

/// The state of admission.
pub struct Admission {
    settings: Settings,
    used: BTreeMap<Use, Instant>,
    inside: BTreeMap<MemberHandle, u8>,
    /// Granted, not yet gone through.
    waiting: BTreeMap<MemberHandle, u8>,
    tries: BTreeMap<MemberHandle, Vec<Instant>>,
    denied: BTreeSet<MemberHandle>,
    deny_sequence: u32,
}

/// One use of a pass: member, moment (seconds or step), nonce (or serial).
type Use = (MemberHandle, u64, u16);

impl Admission {
    /// Nobody inside, nothing used.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_memory(settings, &Memory::default())
    }

    /// With what an earlier life remembered.
    #[must_use]
    pub fn with_memory(settings: Settings, memory: &Memory) -> Self {
        let used =
            memory.used.iter().map(|(member, moment, nonce, until)| ((*member, *moment, *nonce), *until));
        Self {
            settings,
            used: used.collect(),
            inside: memory.inside.iter().copied().collect(),
            waiting: BTreeMap::new(),
            tries: BTreeMap::new(),
            denied: BTreeSet::new(),
            deny_sequence: 0,
        }
    }

    /// What to store after every accepted code, passage and closed session.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let used =
            self.used.iter().map(|((member, moment, nonce), until)| (*member, *moment, *nonce, *until));
        Memory {
            used: used.collect(),
            inside: self.inside.iter().map(|(member, count)| (*member, *count)).collect(),
        }
    }

    /// Judges what a scanner saw. An accepted code is used up, and its places are taken until
    /// [`Self::passed`] or [`Self::lapsed`] is told for each.
    ///
    /// # Errors
    /// The reason to show. Nothing is used up.
    pub fn check(&mut self, now: Instant, clock_trusted: bool, text: &[u8]) -> Result<Admitted, DenyReason> {
        let pass = Pass::parse(text)?;
        pass.verify_certificate(&self.settings.issuers)?;
        let header = pass.header;
        if header.store_group != self.settings.store_group {
            return Err(DenyReason::OtherStore);
        }
        let use_times = match (clock_trusted, self.settings.untrusted_clock, pass.moment) {
            (true, _, _) => true,
            (false, UntrustedClock::SkipTimes, Moment::Device { .. }) => false,
            (false, UntrustedClock::SkipTimes, Moment::Wallet { .. })
            | (false, UntrustedClock::Refuse, _) => {
                return Err(DenyReason::ClockUntrusted);
            }
        };
        if matches!(pass.moment, Moment::Wallet { .. }) {
            self.count_try(now, header.member)?;
        }
        if use_times {
            check_validity(now, header.issued_at, header.validity)?;
            check_moment(now, pass.moment)?;
        }
        pass.verify_moment(self.settings.group_key.as_ref())?;
        if self.denied.contains(&header.member) {
            return Err(DenyReason::Revoked);
        }
        self.used.retain(|_, until| *until > now);
        let (use_, until) = match pass.moment {
            Moment::Device { shown_at, nonce } => {
                ((header.member, shown_at, nonce), now.after(REPLAY_MEMORY))
            }
            // The step, not the second: the second is not covered by the code.
            Moment::Wallet { serial, shown_at } => {
                ((header.member, shown_at / WALLET_STEP, serial), now.after(REPLAY_MEMORY_WALLET))
            }
        };
        if self.used.contains_key(&use_) {
            return Err(DenyReason::Replayed);
        }
        if self.used.len() >= REPLAY_MAX {
            return Err(DenyReason::RateLimited);
        }
        let admitted = self.admit(&pass)?;
        self.used.insert(use_, until);
        Ok(admitted)
    }

    /// One of the granted passages was taken.
    pub fn passed(&mut self, member: MemberHandle, staff: bool) {
        self.lapsed(member, 1);
        if !staff {
            let inside = self.inside.entry(member).or_default();
            *inside = inside.saturating_add(1);
        }
    }

    /// So many of the granted passages were not taken: their places are free again.
    pub fn lapsed(&mut self, member: MemberHandle, passages: u8) {
        if let Some(waiting) = self.waiting.get_mut(&member) {
            *waiting = waiting.saturating_sub(passages);
            if *waiting == 0 {
                self.waiting.remove(&member);
            }
        }
    }

    /// The member's session is closed: everybody on this pass is outside.
    pub fn closed(&mut self, member: MemberHandle) {
        self.inside.remove(&member);
    }

    /// People inside on passes.
    #[must_use]
    pub fn inside(&self) -> u32 {
        self.inside.values().map(|count| u32::from(*count)).sum()
    }

    /// Rolls an issuer key over; see [`Issuers::install`].
    pub fn install_issuer(&mut self, key_id: u8, public_key: [u8; 32]) {
        self.settings.issuers.install(key_id, public_key);
    }

    /// Takes a new deny list: type 0x21, issuer key id, store group (3), sequence (4), handles (8 each),
    /// signature (64) over "GE1-DENY\0" and all before it.
    ///
    /// # Errors
    /// When it is not a newer list of a trusted issuer for this group; the old one stays in force.
    pub fn deny(&mut self, list: &[u8]) -> Result<(), BadDenyList> {
        let body = list.len().checked_sub(pass::SIGNATURE_LENGTH).ok_or(BadDenyList::Malformed)?;
        let (body, signature) = list.split_at(body);
        let &[TYPE_DENY, key_id, g0, g1, g2, s0, s1, s2, s3, ref handles @ ..] = body else {
            return Err(BadDenyList::Malformed);
        };
        if handles.len() % 8 != 0 || handles.len() / 8 > DENIED_MAX {
            return Err(BadDenyList::Malformed);
        }
        let message = [pass::DENY_DOMAIN, body].concat();
        self.settings.issuers.verify(key_id, &message, signature).map_err(|_| BadDenyList::Signature)?;
        if u32::from_be_bytes([0, g0, g1, g2]) != self.settings.store_group {
            return Err(BadDenyList::OtherStore);
        }
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        if sequence <= self.deny_sequence {
            return Err(BadDenyList::Old(self.deny_sequence));
        }
        self.deny_sequence = sequence;
        self.denied = handles.chunks(8).map(|handle| MemberHandle(pass::number(handle))).collect();
        Ok(())
    }

    /// Anti-passback and the size of the party. Staff come and go without sessions, so nobody counts them.
    fn admit(&mut self, pass: &Pass) -> Result<Admitted, DenyReason> {
        let header = pass.header;
        let wallet = matches!(pass.moment, Moment::Wallet { .. });
        let staff = header.staff && !wallet;
        let party = header.party_max;
        let taken = |counts: &BTreeMap<MemberHandle, u8>| counts.get(&header.member).copied().unwrap_or(0);
        let inside = if staff { 0 } else { taken(&self.inside).saturating_add(taken(&self.waiting)) };
        let shown = match pass.moment {
            Moment::Device { nonce, .. } => (nonce >> pass::NONCE_BITS) as u8,
            Moment::Wallet { .. } => 0,
        };
        let first = inside.max(shown);
        if first >= party {
            return Err(if party == 1 && shown == 0 {
                DenyReason::AlreadyInside
            } else {
                DenyReason::PartyFull
            });
        }
        let passages = match self.settings.party {
            PartyEntry::CountIn => party - first,
            PartyEntry::ScanEach => 1,
        };
        if !staff {
            let waiting = self.waiting.entry(header.member).or_default();
            *waiting = waiting.saturating_add(passages);
        }
        let (age_proof, guest) = (false, false);
        let grant = Grant {
            member: header.member,
            party,
            party_member: first,
            staff,
            wide: header.wide,
            age_proof,
            guest,
        };
        Ok(Admitted { grant, passages })
    }

    fn count_try(&mut self, now: Instant, member: MemberHandle) -> Result<(), DenyReason> {
        let since = now.before(RATE_SPAN);
        if !self.tries.contains_key(&member) && self.tries.len() >= RATED_MAX {
            self.tries.retain(|_, tries| tries.last().is_some_and(|last| *last > since));
            if self.tries.len() >= RATED_MAX {
                return Err(DenyReason::RateLimited);
            }
        }
        let tries = self.tries.entry(member).or_default();
        tries.retain(|at| *at > since);
        if tries.len() >= RATE_MAX {
            return Err(DenyReason::RateLimited);
        }
        tries.push(now);
        Ok(())
    }
}

fn check_validity(now: Instant, issued_at: u64, validity: u64) -> Result<(), DenyReason> {
    // A certificate made this very moment may be ahead of the gate's clock by as much as a shown code.
    if issued_at * 1000 > now.after(SHOWN_AHEAD_MAX).0 {
        return Err(DenyReason::NotYetValid);
    }
    if now.0 >= (issued_at + validity) * 1000 {
        return Err(DenyReason::Expired);
    }
    Ok(())
}

fn check_moment(now: Instant, moment: Moment) -> Result<(), DenyReason> {
    match moment {
        Moment::Device { shown_at, .. } => {
            let shown = Instant(shown_at * 1000);
            if shown < now.before(SHOWN_AGO_MAX) {
                return Err(DenyReason::Stale);
            }
            if shown > now.after(SHOWN_AHEAD_MAX) {
                return Err(DenyReason::FromTheFuture);
            }
        }
        Moment::Wallet { shown_at, .. } => {
            let (step, now) = (shown_at / WALLET_STEP, now.unix_seconds() / WALLET_STEP);
            if step + 1 < now {
                return Err(DenyReason::Stale);
            }
            if step > now + 1 {
                return Err(DenyReason::FromTheFuture);
            }
        }
    }
    Ok(())
}
