//! Admission decides whether an entry code or a card may open the gate: offline, from public keys, signed lists,
//! the time, and what it has seen.
//!
//! It knows no lane's turnstile; [`crate::gate`] does. One `Admission` serves all lanes of a store's box.

pub mod cards;
pub mod deny;
pub mod digits;
pub mod issue;
pub mod keys;
pub mod list;
pub mod pass;
pub mod provision;
mod seen;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::message::{DenyReason, Grant};
use crate::time::{Instant, Millis};
use crate::units::{LaneId, MemberHandle};
use cards::CardList;
pub use cards::CardNumber;
use deny::DenyList;
pub use keys::{IssuerKey, Issuers};
pub use list::{Refusal, Version};
pub use pass::GroupKey;
use pass::{Entitlements, Moment, NONCE_BITS, Pass, WALLET_STEP};
pub use seen::{Merged, SEEN_MAX};
use seen::{Seen, Shown};
pub use state::{ListState, Status};
pub use watch::ClockFault;
use watch::Watch;

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
/// Most wallet passes and cards that look guessed at one lane within [`RATE_SPAN`]; after that the lane takes
/// neither for a while. Shoppers with the app are not held up.
pub const LANE_RATE_MAX: usize = 20;
/// See [`RATE_MAX`].
pub const RATE_SPAN: Millis = Millis::from_seconds(60);
/// Most wallet passes whose tries are counted; when it is full, other wallet passes wait.
const RATED_MAX: usize = 1024;
/// Most lanes whose refusals are counted; a box has a few.
const LANES_MAX: usize = 64;
/// Most guest passes whose visits are counted; when it is full, other guest passes wait.
const GUESTS_MAX: usize = 4096;
/// How long a guest heard of from another box is remembered: no certificate is valid for longer (65535 units
/// of ten minutes).
const GUEST_MEMORY: Millis = Millis::from_seconds(65_535 * 600);

/// How this store admits people.
#[derive(Clone, Default)]
pub struct Settings {
    /// The group of stores that passes are issued for, 24 bits.
    pub store_group: u32,
    /// Keys of the issuers, until a key set says otherwise.
    pub issuers: Issuers,
    /// Ed25519 key of the operator's root, which signs key sets; none: no key set is taken.
    pub root: Option<[u8; 32]>,
    /// The secret behind profile W; none: such passes are refused.
    pub group_key: Option<GroupKey>,
    /// The secret behind the card list; none: no card is admitted.
    pub card_salt: Option<[u8; 32]>,
    /// What to do while the time is unknown.
    pub untrusted_clock: UntrustedClock,
    /// How a party comes in.
    pub party: PartyEntry,
    /// Limits that the operator chooses.
    pub policy: Policy,
}

/// Limits that the operator chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A deny or card list older than this is reported. Lists are made daily; a day and a half leaves room for
    /// one that is late.
    pub degraded_after: Millis,
    /// A deny list older than this closes the gate to codes, a card list to cards; `None`: never. A week, as
    /// long as certificates should live.
    pub refused_after: Option<Millis>,
    /// Visits that a guest pass opens for.
    pub guest_visits: u8,
}

/// What to do while the gate's clock is not trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UntrustedClock {
    /// Refuse everybody but staff with cards, and say why.
    #[default]
    Refuse,
    /// Judge profile D by what is certain: signatures, deny list, that a code is newer than the last one of
    /// its member, and that it is not older than the last time that was trusted. Profile W is refused: its
    /// code is nothing but time.
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Admitted {
    /// Whom it admits.
    pub grant: Grant,
    /// For how many passages, one after the other: 1 to the size of the party.
    pub passages: u8,
}

/// What must survive a restart, so that a code works once, a member inside cannot come in again, and neither a
/// list nor the time goes back. It is written at every entry, so the lists themselves are not part of it: the
/// shell keeps their bytes and installs them again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Used codes: member, moment, nonce or serial, and until when to remember.
    pub used: Vec<(MemberHandle, u64, u16, Instant)>,
    /// How many people are inside on each member's pass.
    pub inside: Vec<(MemberHandle, u8)>,
    /// Of those that walked back out of the lane, how many their sessions have not accounted for yet.
    #[serde(default)]
    pub walked_back: Vec<(MemberHandle, u8)>,
    /// The newest version of each list that was ever taken.
    #[serde(default)]
    pub versions: Versions,
    /// The latest time that is certain to have passed.
    #[serde(default)]
    pub newest: Instant,
    /// Newest code of each member while the clock was not trusted: member, shown at, nonce.
    #[serde(default)]
    pub shown: Vec<(MemberHandle, u64, u16)>,
    /// Codes shown before this are refused while the clock is not trusted, unix seconds.
    #[serde(default)]
    pub shown_floor: u64,
    /// Guest passes: handle, visits begun, and until when to remember.
    #[serde(default)]
    pub guests: Vec<(MemberHandle, u8, Instant)>,
}

/// The newest version of each list that was ever taken, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Key set.
    pub keys: Version,
    /// Deny list.
    pub deny: Version,
    /// Card list.
    pub cards: Version,
}

/// The state of admission.
pub struct Admission {
    settings: Settings,
    versions: Versions,
    keys: Option<InForce<()>>,
    deny: Option<InForce<DenyList>>,
    cards: Option<InForce<CardList>>,
    group_key_differs: bool,
    watch: Watch,
    used: Seen,
    shown: Shown,
    inside: BTreeMap<MemberHandle, u8>,
    walked_back: BTreeMap<MemberHandle, u8>,
    /// Granted, not yet gone through.
    waiting: BTreeMap<MemberHandle, u8>,
    guests: BTreeMap<MemberHandle, Guest>,
    tries: BTreeMap<MemberHandle, Vec<Instant>>,
    refused: BTreeMap<LaneId, Vec<Instant>>,
}

/// A list that was taken, and a hash of its bytes.
struct InForce<T> {
    list: T,
    version: Version,
    made_at: Instant,
    hash: [u8; 32],
}

#[derive(Clone, Copy)]
struct Guest {
    visits: u8,
    until: Instant,
}

/// What a check may say about the time.
#[derive(Clone, Copy)]
struct Time {
    /// The true time is not before this.
    earliest: Instant,
    /// The time, when it is known.
    now: Option<Instant>,
}

/// Whom a credential that is in order would let in.
#[derive(Clone, Copy)]
struct Claim {
    member: MemberHandle,
    entitlements: Entitlements,
    /// Which of the party shows it.
    party_member: u8,
    until: Instant,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            degraded_after: Millis::from_seconds(36 * 3600),
            refused_after: Some(Millis::from_seconds(7 * 24 * 3600)),
            guest_visits: 1,
        }
    }
}

impl Admission {
    /// Nobody inside, nothing used, no list.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_memory(settings, &Memory::default())
    }

    /// With what an earlier life remembered. The lists are installed again afterwards, key set first.
    #[must_use]
    pub fn with_memory(settings: Settings, memory: &Memory) -> Self {
        Self {
            settings,
            versions: memory.versions,
            keys: None,
            deny: None,
            cards: None,
            group_key_differs: false,
            watch: Watch::starting_from(memory.newest),
            used: Seen::remembering(&memory.used),
            shown: Shown::remembering(&memory.shown, memory.shown_floor),
            inside: memory.inside.iter().copied().collect(),
            walked_back: memory.walked_back.iter().copied().collect(),
            waiting: BTreeMap::new(),
            guests: memory
                .guests
                .iter()
                .map(|(member, visits, until)| (*member, Guest { visits: *visits, until: *until }))
                .collect(),
            tries: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// What to store after every accepted code, passage, closed session and list.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            used: self.used.memory(),
            inside: self.inside.iter().map(|(member, count)| (*member, *count)).collect(),
            walked_back: self.walked_back.iter().map(|(member, count)| (*member, *count)).collect(),
            versions: self.versions,
            newest: self.watch.floor(),
            shown: self.shown.memory(),
            shown_floor: self.shown.floor(),
            guests: self.guests.iter().map(|(member, guest)| (*member, guest.visits, guest.until)).collect(),
        }
    }

    /// [`Self::check_at`] for a gate of one lane.
    ///
    /// # Errors
    /// The reason to show. Nothing is used up.
    pub fn check(&mut self, now: Instant, clock_trusted: bool, text: &[u8]) -> Result<Admitted, DenyReason> {
        self.check_at(&LaneId(String::new()), now, clock_trusted, text)
    }

    /// Judges what a scanner at this lane saw. An accepted code is used up, and its places are taken until
    /// [`Self::passed`] or [`Self::lapsed`] is told for each.
    ///
    /// # Errors
    /// The reason to show. Nothing is used up.
    pub fn check_at(
        &mut self,
        lane: &LaneId,
        now: Instant,
        clock_trusted: bool,
        text: &[u8],
    ) -> Result<Admitted, DenyReason> {
        let pass = Pass::parse(text)?;
        let wallet = matches!(pass.moment, Moment::Wallet { .. });
        if wallet {
            self.lane_may_try(lane, now)?;
        }
        let judged = self.judge(now, clock_trusted, &pass);
        if let (true, Err(reason)) = (wallet, &judged) {
            self.count_refusal(lane, now, *reason);
        }
        judged
    }

    /// Judges a card. A card proves no moment, so only staff's open while the time is unknown and policy says
    /// to refuse.
    ///
    /// # Errors
    /// The reason to show.
    pub fn check_card(
        &mut self,
        lane: &LaneId,
        now: Instant,
        clock_trusted: bool,
        number: &CardNumber,
    ) -> Result<Admitted, DenyReason> {
        self.lane_may_try(lane, now)?;
        let judged = self.judge_card(now, clock_trusted, number);
        if let Err(reason) = &judged {
            self.count_refusal(lane, now, *reason);
        }
        judged
    }

    /// One of the granted passages was taken.
    pub fn passed(&mut self, member: MemberHandle, staff: bool) {
        self.lapsed(member, 1);
        if !staff {
            self.came_in(member);
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

    /// Somebody came in at another box of the store.
    pub fn passed_elsewhere(&mut self, now: Instant, grant: &Grant) {
        if grant.staff {
            return;
        }
        if grant.guest && (self.guests.contains_key(&grant.member) || self.guests.len() < GUESTS_MAX) {
            let until = now.after(GUEST_MEMORY);
            self.guests.entry(grant.member).or_insert(Guest { visits: 0, until });
        }
        self.came_in(grant.member);
    }

    /// Who came in on this pass turned round between the sensors and is outside again: the pass opens at once,
    /// whether or not anybody is there to close a session.
    pub fn walked_back(&mut self, grant: &Grant) {
        let Some(inside) = self.inside.get_mut(&grant.member) else { return };
        *inside = inside.saturating_sub(1);
        if *inside == 0 {
            self.inside.remove(&grant.member);
            if let Some(guest) = self.guests.get_mut(&grant.member) {
                guest.visits = guest.visits.saturating_sub(1);
            }
        }
        let walked_back = self.walked_back.entry(grant.member).or_default();
        *walked_back = walked_back.saturating_add(1);
    }

    /// A session of the member is closed, `people` had come in on it (0: nobody knows): everybody on this pass is
    /// outside. Only where all of them had walked back, and so were counted out already, whoever came in since
    /// then stays inside.
    pub fn closed(&mut self, member: MemberHandle, people: u32) {
        let walked_back = self.walked_back.remove(&member).unwrap_or(0);
        match u32::from(walked_back).checked_sub(people) {
            Some(left) if people > 0 => {
                if let Some(left) = u8::try_from(left).ok().filter(|left| *left > 0) {
                    self.walked_back.insert(member, left);
                }
            }
            _ => {
                self.inside.remove(&member);
            }
        }
    }

    /// People inside on passes.
    #[must_use]
    pub fn inside(&self) -> u32 {
        self.inside.values().map(|count| u32::from(*count)).sum()
    }

    /// What the shell sees of the clock, every second or so: the time line, a monotonic clock that does not
    /// follow wall time, and whether a time service keeps wall time right.
    pub fn observe_clock(&mut self, now: Instant, uptime: Millis, synchronised: bool) {
        self.watch.observe(now, uptime, synchronised);
    }

    fn judge(&mut self, now: Instant, clock_trusted: bool, pass: &Pass) -> Result<Admitted, DenyReason> {
        let header = pass.header;
        let issuer = self.settings.issuers.find(header.key_id)?;
        pass.verify_certificate(issuer)?;
        if header.store_group != self.settings.store_group {
            return Err(DenyReason::OtherStore);
        }
        let time = self.time(now, clock_trusted);
        check_issuer(&time, issuer)?;
        match (time.now, self.settings.untrusted_clock, pass.moment) {
            (Some(_), _, _) | (None, UntrustedClock::SkipTimes, Moment::Device { .. }) => {}
            (None, UntrustedClock::SkipTimes, Moment::Wallet { .. }) | (None, UntrustedClock::Refuse, _) => {
                return Err(DenyReason::ClockUntrusted);
            }
        }
        self.lists_are_fresh(&time)?;
        if matches!(pass.moment, Moment::Wallet { .. }) {
            self.count_try(now, header.member)?;
        }
        check_validity(&time, header.issued_at, header.validity)?;
        check_moment(&time, pass.moment)?;
        pass.verify_moment(self.settings.group_key.as_ref())?;
        self.not_denied(&time, header.member)?;
        let (key, until) = match pass.moment {
            Moment::Device { shown_at, nonce } => {
                ((header.member, shown_at, nonce), now.after(REPLAY_MEMORY))
            }
            // The step, not the second: the second is not covered by the code.
            Moment::Wallet { serial, shown_at } => {
                ((header.member, shown_at / WALLET_STEP, serial), now.after(REPLAY_MEMORY_WALLET))
            }
        };
        self.used.forget(time.earliest);
        if self.used.contains(&key) {
            return Err(DenyReason::Replayed);
        }
        match time.now {
            Some(_) => self.shown.clear(),
            None => self.shown.check(key)?,
        }
        // While the time is unknown, the order of a member's codes says what the moment cannot.
        if self.used.is_full() && (time.now.is_some() || !self.used.forget_oldest()) {
            return Err(DenyReason::RateLimited);
        }
        let (party_member, entitlements) = match pass.moment {
            Moment::Device { nonce, .. } => ((nonce >> NONCE_BITS) as u8, header.entitlements),
            // Lower trust: a secret that several boxes share makes nobody staff or of age.
            Moment::Wallet { .. } => {
                (0, Entitlements { staff: false, age_proof: false, ..header.entitlements })
            }
        };
        let end = Instant((header.issued_at + header.validity) * 1000);
        let admitted =
            self.admit(&time, Claim { member: header.member, entitlements, party_member, until: end })?;
        self.used.insert(key, until);
        match time.now {
            Some(now) => self.watch.trusted_at(now),
            None => self.shown.insert(key),
        }
        Ok(admitted)
    }

    fn judge_card(
        &mut self,
        now: Instant,
        clock_trusted: bool,
        number: &CardNumber,
    ) -> Result<Admitted, DenyReason> {
        let (Some(salt), Some(list)) = (&self.settings.card_salt, &self.cards) else {
            return Err(DenyReason::UnknownCard);
        };
        let card = *list.list.find(salt, number).ok_or(DenyReason::UnknownCard)?;
        let (made_at, time) = (list.made_at, self.time(now, clock_trusted));
        let refuse = self.settings.untrusted_clock == UntrustedClock::Refuse;
        if time.now.is_none() && refuse && !card.entitlements.staff {
            return Err(DenyReason::ClockUntrusted);
        }
        if self.too_old(&time, made_at) {
            return Err(DenyReason::ListsStale);
        }
        self.lists_are_fresh(&time)?;
        let until = Instant(card.until * 1000);
        if until <= time.earliest {
            return Err(DenyReason::Expired);
        }
        self.not_denied(&time, card.member)?;
        let entitlements = Entitlements { age_proof: false, ..card.entitlements };
        self.admit(&time, Claim { member: card.member, entitlements, party_member: 0, until })
    }

    /// What may be believed about the time.
    fn time(&self, now: Instant, clock_trusted: bool) -> Time {
        if clock_trusted && self.watch.fault(now).is_none() {
            Time { earliest: now, now: Some(now) }
        } else {
            Time { earliest: self.watch.floor(), now: None }
        }
    }

    fn not_denied(&self, time: &Time, member: MemberHandle) -> Result<(), DenyReason> {
        match &self.deny {
            Some(deny) if deny.list.denies(time.earliest, member) => Err(DenyReason::Revoked),
            Some(_) | None => Ok(()),
        }
    }

    /// Anti-passback and the size of the party. Staff come and go without sessions, so nobody counts them.
    fn admit(&mut self, time: &Time, claim: Claim) -> Result<Admitted, DenyReason> {
        let Claim { member, entitlements, party_member, until } = claim;
        let Entitlements { party, wide, age_proof, staff, guest } = entitlements;
        // Whoever is a guest of a member is no staff.
        let staff = staff && !guest;
        let taken = |counts: &BTreeMap<MemberHandle, u8>| counts.get(&member).copied().unwrap_or(0);
        let inside = if staff { 0 } else { taken(&self.inside).saturating_add(taken(&self.waiting)) };
        let first = inside.max(party_member);
        if first >= party {
            return Err(if party == 1 && party_member == 0 {
                DenyReason::AlreadyInside
            } else {
                DenyReason::PartyFull
            });
        }
        if guest {
            self.guests.retain(|_, guest| guest.until > time.earliest);
            let visits = self.guests.get(&member).map(|guest| guest.visits);
            match visits {
                Some(visits) if inside == 0 && visits >= self.settings.policy.guest_visits => {
                    return Err(DenyReason::UsedUp);
                }
                None if self.guests.len() >= GUESTS_MAX => return Err(DenyReason::RateLimited),
                Some(_) | None => {}
            }
            self.guests.entry(member).or_insert(Guest { visits: 0, until }).until = until;
        }
        let passages = match self.settings.party {
            PartyEntry::CountIn => party - first,
            PartyEntry::ScanEach => 1,
        };
        if !staff {
            let waiting = self.waiting.entry(member).or_default();
            *waiting = waiting.saturating_add(passages);
        }
        let grant = Grant { member, party, party_member: first, staff, wide, age_proof, guest };
        Ok(Admitted { grant, passages })
    }

    fn came_in(&mut self, member: MemberHandle) {
        let inside = self.inside.entry(member).or_default();
        if *inside == 0
            && let Some(guest) = self.guests.get_mut(&member)
        {
            guest.visits = guest.visits.saturating_add(1);
        }
        *inside = inside.saturating_add(1);
    }

    fn lane_may_try(&mut self, lane: &LaneId, now: Instant) -> Result<(), DenyReason> {
        let since = now.before(RATE_SPAN);
        let Some(refused) = self.refused.get_mut(lane) else { return Ok(()) };
        refused.retain(|at| *at > since && *at <= now);
        if refused.len() >= LANE_RATE_MAX { Err(DenyReason::RateLimited) } else { Ok(()) }
    }

    /// Counts what may have been a guess; who is early, late or inside has guessed nothing.
    fn count_refusal(&mut self, lane: &LaneId, now: Instant, reason: DenyReason) {
        let guessed = [
            DenyReason::BadSignature,
            DenyReason::UnknownIssuer,
            DenyReason::OtherStore,
            DenyReason::UnknownCard,
        ];
        if !guessed.contains(&reason) {
            return;
        }
        if let Some(refused) = self.refused.get_mut(lane) {
            if refused.len() < LANE_RATE_MAX {
                refused.push(now);
            }
        } else if self.refused.len() < LANES_MAX {
            self.refused.insert(lane.clone(), vec![now]);
        }
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

fn check_issuer(time: &Time, issuer: &IssuerKey) -> Result<(), DenyReason> {
    let over = issuer.not_after <= time.earliest.unix_seconds();
    let ahead = |now: Instant| issuer.not_before > now.after(SHOWN_AHEAD_MAX).unix_seconds();
    if over || time.now.is_some_and(ahead) { Err(DenyReason::IssuerRetired) } else { Ok(()) }
}

fn check_validity(time: &Time, issued_at: u64, validity: u64) -> Result<(), DenyReason> {
    // A certificate made this very moment may be ahead of the gate's clock by as much as a shown code.
    if time.now.is_some_and(|now| issued_at * 1000 > now.after(SHOWN_AHEAD_MAX).0) {
        return Err(DenyReason::NotYetValid);
    }
    if time.earliest.0 >= (issued_at + validity) * 1000 {
        return Err(DenyReason::Expired);
    }
    Ok(())
}

fn check_moment(time: &Time, moment: Moment) -> Result<(), DenyReason> {
    match moment {
        Moment::Device { shown_at, .. } => {
            let shown = Instant(shown_at * 1000);
            if shown < time.earliest.before(SHOWN_AGO_MAX) {
                return Err(DenyReason::Stale);
            }
            if time.now.is_some_and(|now| shown > now.after(SHOWN_AHEAD_MAX)) {
                return Err(DenyReason::FromTheFuture);
            }
        }
        Moment::Wallet { shown_at, .. } => {
            let step = shown_at / WALLET_STEP;
            if step + 1 < time.earliest.unix_seconds() / WALLET_STEP {
                return Err(DenyReason::Stale);
            }
            if time.now.is_some_and(|now| step > now.unix_seconds() / WALLET_STEP + 1) {
                return Err(DenyReason::FromTheFuture);
            }
        }
    }
    Ok(())
}
