//! Judges of a day: each takes recorded facts and says what broke a rule. They know the world and the words
//! of the bus, and nothing of how services work.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use engine::message::{Authority, Direction, Passage, Receipt};
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MemberHandle, MessageId, SessionId};

use crate::devices::Unlock;
use crate::shelf::Place;
use crate::truth::EventKind;
use crate::world::{Options, World};

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// What broke it.
    pub text: String,
}

/// A credential that a gate accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFact {
    /// When.
    pub at: Instant,
    /// Where.
    pub lane: LaneId,
    /// Whose.
    pub member: MemberHandle,
    /// For how many passages.
    pub passages: u8,
    /// Until when it may still open.
    pub until: Instant,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// The command that runs the same day again, without services.
#[must_use]
pub fn replay_command(options: &Options) -> String {
    let Options { seed, shoppers, difficulty, arrival_seconds, faults, .. } = options;
    let faults = if *faults { " --faults" } else { "" };
    format!(
        "cargo run --release -p store-sim -- --seed {seed} --shoppers {shoppers} --difficulty {difficulty} \
         --arrivals {arrival_seconds}{faults}"
    )
}

/// No unlock without a live grant: every pulse falls into the life of a grant at that lane, and a grant
/// pulses no more often than it has passages. A pulse is seen up to `slack` after the grant ended.
#[must_use]
pub fn unlocks_are_granted(unlocks: &[Unlock], grants: &[GrantFact], slack: Millis) -> Vec<Violation> {
    let mut left: Vec<u8> = grants.iter().map(|grant| grant.passages).collect();
    let mut violations = Vec::new();
    for unlock in unlocks {
        let live = grants.iter().enumerate().position(|(index, grant)| {
            let lives = grant.at.before(slack) <= unlock.at && unlock.at <= grant.until.after(slack);
            left[index] > 0 && grant.lane == unlock.lane && lives
        });
        match live {
            Some(index) => left[index] -= 1,
            None => violations.push(Violation {
                rule: "no unlock without a live grant",
                text: format!("lane {} unlocked at {} for nobody", unlock.lane, unlock.at.0),
            }),
        }
    }
    violations
}

/// One grant, at most one passage for each of its party: no (member, party member) enters twice on one
/// session, and no member's passages outnumber the party of the grant. Repeats of one message are one
/// passage.
#[must_use]
pub fn grants_pass_once(passages: &[Passage], closed: &[(MemberHandle, Instant)]) -> Vec<Violation> {
    let rule = "one grant, at most one passage";
    let mut inside: BTreeMap<MemberHandle, (u8, Instant)> = BTreeMap::new();
    let mut seen: BTreeSet<&MessageId> = BTreeSet::new();
    let mut violations = Vec::new();
    let mut ordered: Vec<&Passage> = passages.iter().filter(|passage| seen.insert(&passage.id)).collect();
    ordered.sort_by_key(|passage| passage.at);
    for passage in ordered {
        let Authority::Grant(grant) = &passage.authority else { continue };
        if passage.direction != Direction::Entry || grant.staff {
            continue;
        }
        let (count, since) = inside.entry(grant.member).or_insert((0, passage.at));
        if closed.iter().any(|(member, at)| *member == grant.member && *since < *at && *at <= passage.at) {
            *count = 0;
            *since = passage.at;
        }
        *count += 1;
        if *count > grant.party {
            let text = format!("member {} passed {count} times on a grant for {}", grant.member, grant.party);
            violations.push(Violation { rule, text });
        }
    }
    violations
}

/// Items are conserved: every pack that was stocked stands on a plate, is with a person, or left with one,
/// and what hands did adds up to where packs are.
#[must_use]
pub fn items_are_conserved(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut balance: BTreeMap<u32, i64> = BTreeMap::new();
    for event in &world.truth().events {
        match event.kind {
            EventKind::PickUp { .. } => *balance.entry(event.person).or_default() += 1,
            EventKind::PutBack { .. } => *balance.entry(event.person).or_default() -= 1,
            EventKind::HandOver { to } => {
                *balance.entry(event.person).or_default() -= 1;
                *balance.entry(to).or_default() += 1;
            }
            EventKind::Touch { .. } | EventKind::Passage { .. } => {}
        }
    }
    for item in world.shelves().items() {
        match item.place {
            Place::Plate { .. } => {}
            Place::Person(person) | Place::Out(person) => *balance.entry(person).or_default() -= 1,
        }
    }
    for (person, rest) in balance.into_iter().filter(|(_, rest)| *rest != 0) {
        let text = format!("person {person} took {rest} more than they have");
        violations.push(Violation { rule: "items are conserved", text });
    }
    violations
}

/// Every session settles exactly once: each visit that came in and left has one receipt id in the end, and no
/// receipt belongs to nobody. Repeats of one message are one receipt.
#[must_use]
pub fn sessions_settle_once(world: &World, receipts: &[Receipt]) -> Vec<Violation> {
    let rule = "every session settles exactly once";
    let mut violations = Vec::new();
    let mut by_session: BTreeMap<&SessionId, BTreeSet<&MessageId>> = BTreeMap::new();
    let mut by_member: BTreeMap<MemberHandle, BTreeSet<&SessionId>> = BTreeMap::new();
    for receipt in receipts {
        by_session.entry(&receipt.session).or_default().insert(&receipt.id);
        if let Some(member) = receipt.member {
            by_member.entry(member).or_default().insert(&receipt.session);
        }
    }
    for (session, ids) in by_session.iter().filter(|(_, ids)| ids.len() > 1) {
        violations.push(Violation { rule, text: format!("session {session} has {} receipts", ids.len()) });
    }
    for visit in &world.truth().visits {
        let sessions = by_member.remove(&visit.member).map_or(0, |sessions| sessions.len());
        let wanted = usize::from(visit.left.is_some());
        if sessions != wanted {
            let text = format!("member {} has {sessions} settled sessions, not {wanted}", visit.member);
            violations.push(Violation { rule, text });
        }
    }
    for member in by_member.into_keys() {
        violations.push(Violation { rule, text: format!("member {member} never came, and has a receipt") });
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::message::Grant;
    use engine::units::{Currency, Money};

    const MEMBER: MemberHandle = MemberHandle(7);

    fn grant(at: u64, passages: u8) -> GrantFact {
        let lane = LaneId::from("entry-1");
        GrantFact { at: Instant(at), lane, member: MEMBER, passages, until: Instant(at + 8_000) }
    }

    fn unlock(at: u64) -> Unlock {
        Unlock { lane: LaneId::from("entry-1"), at: Instant(at) }
    }

    #[test]
    fn an_unlock_for_nobody_is_found() {
        let slack = Millis(100);
        assert_eq!(unlocks_are_granted(&[unlock(1_050)], &[grant(1_000, 1)], slack), []);
        assert_eq!(unlocks_are_granted(&[unlock(1_050), unlock(1_600)], &[grant(1_000, 2)], slack), []);
        assert_eq!(unlocks_are_granted(&[unlock(1_050), unlock(1_600)], &[grant(1_000, 1)], slack).len(), 1);
        assert_eq!(unlocks_are_granted(&[unlock(12_000)], &[grant(1_000, 1)], slack).len(), 1);
    }

    fn passage(id: &str, at: u64, party: u8) -> Passage {
        let grant = Grant {
            member: MEMBER,
            party,
            party_member: 0,
            staff: false,
            wide: false,
            age_proof: false,
            guest: false,
        };
        Passage {
            id: MessageId::from(id),
            lane: LaneId::from("entry-1"),
            at: Instant(at),
            direction: Direction::Entry,
            authority: Authority::Grant(grant),
        }
    }

    #[test]
    fn a_second_passage_on_one_grant_is_found() {
        assert_eq!(grants_pass_once(&[passage("a", 1, 1), passage("a", 1, 1)], &[]), []);
        assert_eq!(grants_pass_once(&[passage("a", 1, 1), passage("b", 2, 1)], &[]).len(), 1);
        assert_eq!(grants_pass_once(&[passage("a", 1, 2), passage("b", 2, 2)], &[]), []);
        assert_eq!(grants_pass_once(&[passage("a", 1, 1), passage("b", 9, 1)], &[(MEMBER, Instant(5))]), []);
    }

    fn receipt(id: &str, session: &str, member: MemberHandle) -> Receipt {
        Receipt {
            id: MessageId::from(id),
            session: SessionId::from(session),
            member: Some(member),
            entered: Instant(1),
            left: Instant(2),
            settled: Instant(3),
            lines: Vec::new(),
            total: Money { minor: 0, currency: Currency::KRW },
        }
    }

    #[test]
    fn a_missing_a_double_and_a_stray_receipt_are_found() {
        let options = Options { seed: 1, shoppers: 1, ..Options::default() };
        let mut world = World::new(options);
        world.open_gate();
        while !world.finished() {
            world.step(world.now().after(Millis(1_000)));
        }
        assert_eq!(items_are_conserved(&world), []);
        let member = world.truth().visits[0].member;
        let good = receipt("r1", "s1", member);
        assert_eq!(sessions_settle_once(&world, &[good.clone(), good.clone()]), []);
        assert_eq!(sessions_settle_once(&world, &[]).len(), 1);
        assert_eq!(sessions_settle_once(&world, &[good.clone(), receipt("r2", "s1", member)]).len(), 1);
        assert_eq!(sessions_settle_once(&world, &[good, receipt("r3", "s3", MEMBER)]).len(), 1);
        assert!(replay_command(&options).contains("--seed 1"));
    }
}
