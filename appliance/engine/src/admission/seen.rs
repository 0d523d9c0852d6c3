//! Codes that were used: at this box, and at the store's other boxes as far as they have said so.

use std::collections::BTreeMap;

use super::{Admission, REPLAY_MAX, REPLAY_MEMORY_WALLET};
use crate::message::{DenyReason, SeenCode, SeenCodes};
use crate::time::Instant;
use crate::units::MemberHandle;

/// Most codes in one message: two minutes of one busy lane, 6 kB.
pub const SEEN_MAX: usize = 64;
/// Most codes remembered from other boxes; what is more is not learnt, and said to be so.
const FOREIGN_MAX: usize = 4096;
/// Most members whose newest code is remembered while the clock is not trusted.
const SHOWN_MAX: usize = 4096;

/// One use of a pass: member, moment (seconds or step), nonce (or serial).
pub(super) type Use = (MemberHandle, u64, u16);

/// What another box's message changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Codes that this box will now refuse.
    pub learnt: usize,
    /// Codes that were accepted here as well: somebody came in twice on one code, at two boxes that had not
    /// heard of each other yet.
    pub twice: usize,
    /// Codes that there was no room for.
    pub dropped: usize,
}

/// Used codes and until when to remember them.
pub(super) struct Seen {
    own: BTreeMap<Use, Instant>,
    foreign: BTreeMap<Use, Instant>,
    /// Nothing is to be forgotten before this.
    next: Instant,
}

/// The newest code of each member, by which codes are judged while the time is unknown.
#[derive(Default)]
pub(super) struct Shown {
    newest: BTreeMap<MemberHandle, (u64, u16)>,
    floor: u64,
}

impl Admission {
    /// What to tell the store's other boxes after every accepted code: the newest codes of this box.
    #[must_use]
    pub fn seen(&self, sender: &str) -> SeenCodes {
        let mut codes: Vec<SeenCode> = self.used.own.iter().map(|(key, until)| code(*key, *until)).collect();
        codes.sort_unstable_by_key(|code| (code.until, code.moment, code.nonce, code.member));
        codes.drain(..codes.len().saturating_sub(SEEN_MAX));
        SeenCodes { sender: sender.to_owned(), codes }
    }

    /// Learns what another box has accepted. A box's own message must not come back to it.
    pub fn merge_seen(&mut self, now: Instant, other: &SeenCodes) -> Merged {
        let earliest = if self.watch.fault(now).is_none() { now } else { self.watch.floor() };
        self.used.forget(earliest);
        self.used.merge(now, &other.codes)
    }
}

impl Seen {
    pub fn remembering(memory: &[(MemberHandle, u64, u16, Instant)]) -> Self {
        let own = memory.iter().map(|(member, moment, nonce, until)| ((*member, *moment, *nonce), *until));
        Self { own: own.take(REPLAY_MAX).collect(), foreign: BTreeMap::new(), next: Instant(0) }
    }

    pub fn memory(&self) -> Vec<(MemberHandle, u64, u16, Instant)> {
        self.own.iter().map(|((member, moment, nonce), until)| (*member, *moment, *nonce, *until)).collect()
    }

    pub fn forget(&mut self, earliest: Instant) {
        if earliest < self.next {
            return;
        }
        self.own.retain(|_, until| *until > earliest);
        self.foreign.retain(|_, until| *until > earliest);
        let left = self.own.values().chain(self.foreign.values());
        self.next = left.min().copied().unwrap_or(Instant(u64::MAX));
    }

    pub fn contains(&self, key: &Use) -> bool {
        self.own.contains_key(key) || self.foreign.contains_key(key)
    }

    pub fn is_full(&self) -> bool {
        self.own.len() >= REPLAY_MAX
    }

    /// False when there is none.
    pub fn forget_oldest(&mut self) -> bool {
        let oldest = self.own.iter().min_by_key(|(key, until)| (**until, **key)).map(|(key, _)| *key);
        oldest.is_some_and(|key| self.own.remove(&key).is_some())
    }

    pub fn insert(&mut self, key: Use, until: Instant) {
        self.next = self.next.min(until);
        self.own.insert(key, until);
    }

    /// Order and repetition of messages do not matter: the later end counts.
    fn merge(&mut self, now: Instant, codes: &[SeenCode]) -> Merged {
        let mut merged = Merged::default();
        // The other box's clock may be wrong; no code can be of use for longer than this.
        let longest = now.after(REPLAY_MEMORY_WALLET);
        for code in codes.iter().take(SEEN_MAX) {
            let key = (code.member, code.moment, code.nonce);
            let until = code.until.min(longest);
            if until <= now {
                continue;
            }
            if let Some(known) = self.foreign.get_mut(&key) {
                *known = until.max(*known);
            } else if self.foreign.len() >= FOREIGN_MAX {
                merged.dropped += 1;
            } else {
                self.next = self.next.min(until);
                self.foreign.insert(key, until);
                merged.learnt += 1;
                merged.twice += usize::from(self.own.contains_key(&key));
            }
        }
        merged
    }
}

impl Shown {
    pub fn remembering(memory: &[(MemberHandle, u64, u16)], floor: u64) -> Self {
        let newest = memory.iter().map(|(member, moment, nonce)| (*member, (*moment, *nonce)));
        Self { newest: newest.take(SHOWN_MAX).collect(), floor }
    }

    pub fn memory(&self) -> Vec<(MemberHandle, u64, u16)> {
        self.newest.iter().map(|(member, (moment, nonce))| (*member, *moment, *nonce)).collect()
    }

    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// The time is known again, and says what this said.
    pub fn clear(&mut self) {
        self.newest.clear();
        self.floor = 0;
    }

    /// Whether a code is newer than the last of its member.
    pub fn check(&self, (member, moment, nonce): Use) -> Result<(), DenyReason> {
        match self.newest.get(&member) {
            Some(last) if (moment, nonce) <= *last => Err(DenyReason::Replayed),
            None if moment <= self.floor && self.floor > 0 => Err(DenyReason::Stale),
            Some(_) | None => Ok(()),
        }
    }

    pub fn insert(&mut self, (member, moment, nonce): Use) {
        if self.newest.len() >= SHOWN_MAX && !self.newest.contains_key(&member) {
            // Whoever is forgotten leaves a floor for all that are not remembered, so that none of their codes
            // works again.
            let oldest =
                self.newest.iter().min_by_key(|(_, shown)| **shown).map(|(member, shown)| (*member, shown.0));
            if let Some((oldest, moment)) = oldest {
                self.newest.remove(&oldest);
                self.floor = self.floor.max(moment);
            }
        }
        self.newest.insert(member, (moment, nonce));
    }
}

fn code((member, moment, nonce): Use, until: Instant) -> SeenCode {
    SeenCode { member, moment, nonce, until }
}
