//! Wrong clocks, codes seen at other boxes, guests, staff, cards, and limits of tries.

use super::super::cards::Card;
use super::super::watch::{BEHIND_MAX, JUMP_MAX};
use super::*;
use crate::message::{SeenCode, SeenCodes};

const SALT: [u8; 32] = [3; 32];
const SECOND: Millis = Millis::from_seconds(1);

fn lane(name: &str) -> LaneId {
    LaneId::from(name)
}

fn lenient() -> Admission {
    Admission::new(Settings { untrusted_clock: UntrustedClock::SkipTimes, ..settings() })
}

fn seconds(count: u64) -> Millis {
    Millis::from_seconds(count)
}

#[test]
fn an_untrusted_clock() {
    let code = device(&terms()).show(NOON, 0);
    let wallet = issuer().wallet_pass(&terms(), 1, &GroupKey([9; 32])).show(NOON);
    let unset = Instant(0);
    assert_eq!(admission().check(unset, false, code.as_bytes()).err(), Some(DenyReason::ClockUntrusted));
    let mut lenient = lenient();
    assert_eq!(lenient.check(unset, false, wallet.as_bytes()).err(), Some(DenyReason::ClockUntrusted));
    assert_eq!(lenient.check(unset, false, code.as_bytes()).err(), None);
    assert_eq!(lenient.check(unset, false, code.as_bytes()).err(), Some(DenyReason::Replayed));
}

#[test]
fn without_time_the_order_of_codes_counts() {
    let mut admission = lenient();
    let phone = device(&Terms { party: 9, ..terms() });
    let show = |at: u64| phone.show(NOON.after(seconds(at)), 0);
    let mut scan = |at: u64| {
        let judged = admission.check(Instant(0), false, show(at).as_bytes());
        if judged.is_ok() {
            admission.lapsed(MEMBER, 9);
        }
        judged.err()
    };
    assert_eq!(scan(100), None);
    assert_eq!(scan(90), Some(DenyReason::Replayed), "an older screenshot");
    assert_eq!(scan(100), Some(DenyReason::Replayed));
    assert_eq!(scan(110), None);
    // It survives a restart; what is known again is forgotten.
    let memory = admission.memory();
    assert_eq!(memory.shown.len(), 1);
    let settings = Settings { untrusted_clock: UntrustedClock::SkipTimes, ..settings() };
    let mut again = Admission::with_memory(settings, &memory);
    assert_eq!(again.check(Instant(0), false, show(105).as_bytes()).err(), Some(DenyReason::Replayed));
    let at = NOON.after(seconds(120));
    assert_eq!(again.check(at, true, show(120).as_bytes()).err(), None);
    assert_eq!(again.memory().shown, vec![]);
}

#[test]
fn what_is_certainly_over_is_refused_without_time() {
    let settings = Settings { untrusted_clock: UntrustedClock::SkipTimes, ..settings() };
    let mut admission = Admission::with_memory(settings, &Memory { newest: NOON, ..Memory::default() });
    let table = [
        (
            Terms { issued_at: NOON.before(seconds(7200)), validity: 12, ..terms() },
            0,
            Some(DenyReason::Expired),
        ),
        (Terms { issued_at: NOON.before(seconds(7200)), validity: 13, ..terms() }, 0, None),
        (terms(), -30, Some(DenyReason::Stale)),
        (Terms { member: MemberHandle(2), ..terms() }, 86_400, None),
    ];
    for (index, (terms, shown, want)) in table.into_iter().enumerate() {
        let at = Instant((NOON.0 as i64 + shown * 1000) as u64);
        let terms = Terms { validity: terms.validity.max(12), ..terms };
        let long = if shown > 0 { Terms { validity: 1000, ..terms } } else { terms };
        let code = issuer().device(&long, &SEED).show(at, 0);
        assert_eq!(admission.check(Instant(5), false, code.as_bytes()).err(), want, "row {index}");
    }
}

#[test]
fn members_forgotten_without_time_leave_a_floor() {
    let mut admission = lenient();
    let code = |member: u64, at: Instant| {
        issuer().device(&Terms { member: MemberHandle(member), ..terms() }, &SEED).show(at, 0)
    };
    for member in 0..4100_u64 {
        admission.shown.insert((MemberHandle(member), NOON.unix_seconds() + member, 0));
    }
    assert_eq!(admission.memory().shown.len(), 4096);
    assert_eq!(admission.memory().shown_floor, NOON.unix_seconds() + 3);
    let forgotten = admission.check(Instant(0), false, code(1, NOON).as_bytes());
    assert_eq!(forgotten.err(), Some(DenyReason::Stale));
    let later = code(1, NOON.after(seconds(10)));
    assert_eq!(admission.check(Instant(0), false, later.as_bytes()).err(), None);
}

#[test]
fn clock_jumps() {
    let hour = seconds(3600);
    // (jump in seconds, fault expected)
    let table: [(i64, Option<ClockFault>); 7] = [
        (0, None),
        (10, None),
        (-10, None),
        (11, Some(ClockFault::JumpedAhead(seconds(11)))),
        (-11, Some(ClockFault::JumpedBack(seconds(11)))),
        (3600, Some(ClockFault::JumpedAhead(hour))),
        (-3600, Some(ClockFault::JumpedBack(hour))),
    ];
    for (jump, want) in table {
        let mut admission = admission();
        let at = |uptime: u64, jump: i64| Instant((NOON.0 as i64 + uptime as i64 + jump * 1000) as u64);
        for uptime in 0..20 {
            admission.observe_clock(at(uptime * 1000, 0), Millis(uptime * 1000), false);
        }
        let now = at(20_000, jump);
        admission.observe_clock(now, Millis(20_000), false);
        assert_eq!(admission.status(now).clock, want, "{jump} s");
        let code = device(&terms()).show(now, 0);
        let refused = admission.check(now, true, code.as_bytes()).err();
        assert_eq!(refused, want.map(|_| DenyReason::ClockUntrusted), "{jump} s");
        assert_eq!(admission.status(now).degraded(), want.is_some());
        // Back to where it was: right again. Synchronised: right, wherever it is.
        admission.observe_clock(at(21_000, 0), Millis(21_000), false);
        assert_eq!(admission.status(at(21_000, 0)).clock, None);
        admission.observe_clock(at(22_000, jump), Millis(22_000), true);
        assert_eq!(admission.status(at(22_000, jump)).clock, None);
        admission.observe_clock(at(23_000, jump), Millis(23_000), false);
        assert_eq!(admission.status(at(23_000, jump)).clock, None, "the new time counts");
    }
}

#[test]
fn a_used_code_stays_used_when_the_clock_jumps() {
    let mut admission = lenient();
    admission.observe_clock(NOON, Millis(0), false);
    let code = device(&Terms { party: 2, ..terms() }).show(NOON, 0);
    admission.check(NOON, true, code.as_bytes()).unwrap();
    admission.lapsed(MEMBER, 2);
    for (jump, uptime) in [(7200, 1000), (-7200, 2000), (0, 3000)] {
        let now = Instant((NOON.0 as i64 + uptime + jump * 1000) as u64);
        admission.observe_clock(now, Millis(uptime as u64), false);
        assert_eq!(admission.check(now, true, code.as_bytes()).err(), Some(DenyReason::Replayed), "{jump} s");
    }
}

#[test]
fn a_box_whose_battery_died_knows_that_time_went_on() {
    let memory = Memory { newest: NOON, ..Memory::default() };
    let mut admission = Admission::with_memory(settings(), &memory);
    let yesterday = NOON.before(seconds(86_400));
    admission.observe_clock(yesterday, Millis(0), false);
    let behind = admission.status(yesterday).clock;
    assert_eq!(behind, Some(ClockFault::Behind(seconds(86_400))));
    assert!(admission.status(yesterday).to_string().contains("behind"));
    let slack = NOON.before(BEHIND_MAX);
    assert_eq!(admission.status(slack).clock, None);
    // Time goes on while the clock is wrong, by the monotonic clock.
    admission.observe_clock(yesterday.after(seconds(600)), seconds(600), false);
    assert_eq!(admission.memory().newest, NOON.after(seconds(600)));
    // A signed list is evidence, too.
    let mut admission = self::admission();
    admission.deny(yesterday, &issuer().deny_list(Version(1), NOON, &[])).unwrap();
    assert!(matches!(admission.status(yesterday).clock, Some(ClockFault::Behind(_))));
    admission.observe_clock(yesterday, Millis(5), true);
    assert_eq!(admission.status(yesterday).clock, None, "a time service knows better");
}

#[test]
fn time_that_was_trusted_is_remembered() {
    let mut admission = admission();
    admission.check(NOON, true, device(&terms()).show(NOON, 0).as_bytes()).unwrap();
    assert_eq!(admission.memory().newest, NOON);
    let earlier = NOON.before(BEHIND_MAX).before(SECOND);
    let code = device(&Terms { member: MemberHandle(4), ..terms() }).show(earlier, 0);
    assert_eq!(refusal(&mut admission, earlier, code.as_bytes()), Some(DenyReason::ClockUntrusted));
    assert!(JUMP_MAX < BEHIND_MAX);
}

#[test]
fn a_code_works_at_one_box_of_the_store() {
    let (mut here, mut there) = (admission(), admission());
    let code = device(&Terms { party: 3, ..terms() }).show(NOON, 0);
    here.check(NOON, true, code.as_bytes()).unwrap();
    let heard = there.merge_seen(NOON, &here.seen("gated-1"));
    assert_eq!(heard, Merged { learnt: 1, ..Merged::default() });
    assert_eq!(refusal(&mut there, NOON, code.as_bytes()), Some(DenyReason::Replayed));
    assert_eq!(there.merge_seen(NOON, &here.seen("gated-1")), Merged::default(), "a repetition says nothing");
    assert_eq!(there.seen("gated-2").codes, vec![], "what was heard is not passed on");
    // Both at once: the second message tells.
    let other = device(&Terms { member: MemberHandle(5), ..terms() }).show(NOON, 0);
    here.check(NOON, true, other.as_bytes()).unwrap();
    there.check(NOON, true, other.as_bytes()).unwrap();
    assert_eq!(there.merge_seen(NOON, &here.seen("gated-1")), Merged { learnt: 1, twice: 1, dropped: 0 });
}

#[test]
fn messages_of_other_boxes_are_bounded() {
    let code =
        |number: u64, until: Instant| SeenCode { member: MemberHandle(number), moment: 1, nonce: 0, until };
    let mut admission = admission();
    let far = Instant(u64::MAX);
    for batch in 0..70_u64 {
        let codes = (0..SEEN_MAX as u64).map(|n| code(batch * 1000 + n, far)).collect();
        let merged = admission.merge_seen(NOON, &SeenCodes { sender: "x".to_owned(), codes });
        assert_eq!(merged.learnt + merged.dropped, SEEN_MAX);
        assert_eq!(merged.dropped > 0, batch >= 64, "4096 codes are learnt");
    }
    let codes = vec![code(1, far); 1000];
    let later = NOON.after(REPLAY_MEMORY_WALLET).after(SECOND);
    let merged = admission.merge_seen(later, &SeenCodes { sender: "x".to_owned(), codes });
    assert_eq!(merged.learnt, 1, "nobody's clock makes us remember for ever, and a message has an end");
    // A flood of foreign codes takes no room from our own.
    let own = device(&terms()).show(NOON, 0);
    assert_eq!(refusal(&mut admission, NOON, own.as_bytes()), None);
    let old = vec![code(7, later)];
    assert_eq!(
        admission.merge_seen(later, &SeenCodes { sender: "x".to_owned(), codes: old }),
        Merged::default()
    );
}

#[test]
fn the_newest_codes_are_told() {
    let mut admission = admission();
    for member in 0..100_u64 {
        let at = NOON.after(Millis(member * 100));
        let code = device(&Terms { member: MemberHandle(member), ..terms() }).show(at, 0);
        admission.check(at, true, code.as_bytes()).unwrap();
    }
    let told = admission.seen("gated");
    assert_eq!(told.codes.len(), SEEN_MAX);
    assert_eq!(told.codes.last().unwrap().member, MemberHandle(99));
    assert_eq!(told.codes[0].member, MemberHandle(36));
}

#[test]
fn who_is_inside_through_another_box() {
    let mut admission = admission();
    let grant = admission.check(NOON, true, device(&terms()).show(NOON, 0).as_bytes()).unwrap().grant;
    let mut there = self::admission();
    there.passed_elsewhere(NOON, &grant);
    let code = device(&terms()).show(NOON.after(seconds(10)), 0);
    let at = NOON.after(seconds(10));
    assert_eq!(refusal(&mut there, at, code.as_bytes()), Some(DenyReason::AlreadyInside));
    there.closed(MEMBER, 1);
    assert_eq!(refusal(&mut there, at, code.as_bytes()), None);
    there.lapsed(MEMBER, 1);
    there.passed_elsewhere(NOON, &Grant { staff: true, ..grant });
    assert_eq!(there.inside(), 0);
}

#[test]
fn guests_come_as_often_as_policy_says() {
    for (profile_w, visits) in [(false, 1_u8), (true, 1), (false, 3), (true, 2)] {
        let mut admission = admission();
        admission.settings.policy.guest_visits = visits;
        let terms = Terms { guest: true, party: 2, ..terms() };
        let phone = device(&terms);
        let wallet = issuer().wallet_pass(&terms, 7, &GroupKey([9; 32]));
        let mut at = NOON;
        let mut scan = |admission: &mut Admission| {
            at = at.after(seconds(30));
            let code = if profile_w { wallet.show(at) } else { phone.show(at, 0) };
            admission.check(at, true, code.as_bytes())
        };
        for visit in 0..visits {
            let admitted = scan(&mut admission).unwrap();
            assert!(admitted.grant.guest, "visit {visit}");
            admission.lapsed(MEMBER, 2);
            assert!(scan(&mut admission).is_ok(), "nobody came in yet");
            admission.passed(MEMBER, false);
            admission.lapsed(MEMBER, 1);
            assert_eq!(scan(&mut admission).unwrap().passages, 1, "the other one of the party, same visit");
            admission.passed(MEMBER, false);
            admission.closed(MEMBER, 1);
        }
        assert_eq!(scan(&mut admission).err(), Some(DenyReason::UsedUp), "{profile_w} {visits}");
        let mut again = Admission::with_memory(settings(), &admission.memory());
        again.settings.policy.guest_visits = visits;
        assert_eq!(scan(&mut again).err(), Some(DenyReason::UsedUp), "over a restart");
        let later = at.after(seconds(200 * 600));
        let other = device(&Terms { member: MemberHandle(8), issued_at: later, guest: true, ..terms });
        again.check(later, true, other.show(later, 0).as_bytes()).unwrap();
        assert_eq!(again.memory().guests.len(), 1, "forgotten when the certificate is over");
    }
}

#[test]
fn a_guest_who_came_in_elsewhere_is_counted() {
    let mut admission = admission();
    let phone = device(&Terms { guest: true, ..terms() });
    let grant = self::admission().check(NOON, true, phone.show(NOON, 0).as_bytes()).unwrap().grant;
    admission.passed_elsewhere(NOON, &grant);
    admission.closed(MEMBER, 1);
    assert_eq!(refusal(&mut admission, NOON, phone.show(NOON, 0).as_bytes()), Some(DenyReason::UsedUp));
}

#[test]
fn flags_by_profile() {
    let all = Terms { age_proof: true, staff: true, ..terms() };
    let phone = admission().check(NOON, true, device(&all).show(NOON, 0).as_bytes()).unwrap().grant;
    assert!(phone.age_proof && phone.staff && !phone.guest);
    let wallet = issuer().wallet_pass(&all, 1, &GroupKey([9; 32])).show(NOON);
    let wallet = admission().check(NOON, true, wallet.as_bytes()).unwrap().grant;
    assert!(!wallet.age_proof && !wallet.staff);
    let guest = device(&Terms { guest: true, ..all }).show(NOON, 0);
    let guest = admission().check(NOON, true, guest.as_bytes()).unwrap().grant;
    assert!(guest.guest && !guest.staff, "a guest is no staff");
}

#[test]
fn a_lane_where_somebody_guesses_is_closed_to_wallet_passes_only() {
    let mut admission = admission();
    let (guessed, other) = (lane("entry-1"), lane("entry-2"));
    for member in 0..LANE_RATE_MAX as u64 {
        let forged = Terms { member: MemberHandle(member), ..terms() };
        let forged = issuer().wallet_pass(&forged, 42, &GroupKey([8; 32])).show(NOON);
        let refused = admission.check_at(&guessed, NOON, true, forged.as_bytes());
        assert_eq!(refused.err(), Some(DenyReason::BadSignature));
    }
    let good = issuer().wallet_pass(&terms(), 42, &GroupKey([9; 32])).show(NOON);
    let mut at = |lane: &LaneId, now: Instant, code: &str| {
        let judged = admission.check_at(lane, now, true, code.as_bytes());
        if judged.is_ok() {
            admission.lapsed(MEMBER, 1);
        }
        judged.err()
    };
    assert_eq!(at(&guessed, NOON, &good), Some(DenyReason::RateLimited));
    assert_eq!(at(&guessed, NOON, &device(&terms()).show(NOON, 0)), None, "an app's code is beyond guessing");
    assert_eq!(at(&other, NOON, &good), None);
    let later = NOON.after(RATE_SPAN);
    let good = issuer().wallet_pass(&terms(), 42, &GroupKey([9; 32])).show(later);
    assert_eq!(at(&guessed, later, &good), None);
}

#[test]
fn cards() {
    let number = |n: u8| CardNumber::new(26, &[n, 2, 3, 0x40]).unwrap();
    let until = NOON.after(seconds(3600)).unix_seconds();
    let card = |n: u8, staff| {
        let entitlements = Entitlements { staff, age_proof: true, ..Entitlements::SINGLE };
        Card::new(&SALT, &number(n), MemberHandle(u64::from(n)), until, entitlements)
    };
    let list = issuer().card_list(Version(1), NOON, &[card(1, false), card(2, true), card(3, false)]);
    let with = |clock, salt| {
        let settings = Settings { card_salt: salt, untrusted_clock: clock, ..settings() };
        let mut admission = Admission::new(settings);
        admission.install_cards(NOON, &list).unwrap();
        let denied = issuer().deny_list(Version(1), NOON, &[(MemberHandle(3), None)]);
        admission.deny(NOON, &denied).unwrap();
        admission
    };
    let over = Instant(until * 1000);
    let week = NOON.after(seconds(8 * 86_400));
    let refuse = UntrustedClock::Refuse;
    let table = [
        (1, NOON, true, refuse, None),
        (2, NOON, true, refuse, None),
        (3, NOON, true, refuse, Some(DenyReason::Revoked)),
        (4, NOON, true, refuse, Some(DenyReason::UnknownCard)),
        (1, Instant(over.0 - 1), true, refuse, None),
        (1, over, true, refuse, Some(DenyReason::Expired)),
        (1, week, true, refuse, Some(DenyReason::ListsStale)),
        (1, NOON, false, refuse, Some(DenyReason::ClockUntrusted)),
        (2, NOON, false, refuse, None),
        (1, NOON, false, UntrustedClock::SkipTimes, None),
    ];
    for (index, (n, now, trusted, clock, want)) in table.into_iter().enumerate() {
        let mut admission = with(clock, Some(SALT));
        let judged = admission.check_card(&lane("entry-1"), now, trusted, &number(n));
        assert_eq!(judged.as_ref().err().copied(), want, "row {index}");
        if let Ok(admitted) = judged {
            assert_eq!((admitted.grant.staff, admitted.grant.age_proof), (n == 2, false), "row {index}");
        }
    }
    let mut unsalted = with(refuse, None);
    let refused = unsalted.check_card(&lane("entry-1"), NOON, true, &number(1));
    assert_eq!(refused.err(), Some(DenyReason::UnknownCard));

    let mut admission = with(refuse, Some(SALT));
    let mut tap = |n| admission.check_card(&lane("entry-1"), NOON, true, &number(n)).map(|_| ());
    assert_eq!((tap(1), tap(1)), (Ok(()), Err(DenyReason::AlreadyInside)));
    assert_eq!((tap(2), tap(2)), (Ok(()), Ok(())), "staff come and go");
    for n in 100..100 + LANE_RATE_MAX as u8 {
        assert_eq!(tap(n), Err(DenyReason::UnknownCard));
    }
    assert_eq!(tap(2), Err(DenyReason::RateLimited), "somebody tries numbers");
}

#[test]
fn group_members_scan_with_the_next_nonce_at_any_lane() {
    let mut admission = Admission::new(Settings { party: PartyEntry::ScanEach, ..settings() });
    let phone = device(&Terms { party: 3, ..terms() });
    for (index, entry) in ["entry-1", "entry-2", "entry-1"].into_iter().enumerate() {
        let code = phone.show(NOON, index as u8);
        let admitted = admission.check_at(&lane(entry), NOON, true, code.as_bytes()).unwrap();
        assert_eq!((admitted.passages, admitted.grant.party_member), (1, index as u8));
        let replayed = admission.check_at(&lane("entry-3"), NOON, true, code.as_bytes());
        assert_eq!(replayed.err(), Some(DenyReason::Replayed), "a photograph at another lane");
        admission.passed(MEMBER, false);
    }
    assert_eq!(admission.inside(), 3);
    let fourth = admission.check_at(&lane("entry-1"), NOON, true, phone.show(NOON, 3).as_bytes());
    assert_eq!(fourth.err(), Some(DenyReason::PartyFull));
}

#[test]
fn the_replay_memory_is_bounded() {
    let mut admission = admission();
    for number in 0..REPLAY_MAX as u64 {
        admission.used.insert((MemberHandle(number + 100), 1, 0), NOON.after(seconds(60)));
    }
    let code = device(&terms()).show(NOON, 0);
    assert_eq!(refusal(&mut admission, NOON, code.as_bytes()), Some(DenyReason::RateLimited));
    // Without time nothing is ever forgotten by time, so the oldest goes; the order of codes still holds.
    admission.settings.untrusted_clock = UntrustedClock::SkipTimes;
    assert_eq!(admission.check(NOON, false, code.as_bytes()).err(), None);
    assert_eq!(admission.memory().used.len(), REPLAY_MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Scan { member: u64, ago: u64, party_member: u8 },
    Pass(u64),
    Lapse(u64),
    Close(u64),
    Wait(u64),
    Restart,
}

fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let member = 0..4_u64;
    let step = proptest::prop_oneof![
        4 => (member.clone(), 0..40_u64, 0..3_u8)
            .prop_map(|(member, ago, party_member)| Step::Scan { member, ago, party_member }),
        3 => member.clone().prop_map(Step::Pass),
        1 => member.clone().prop_map(Step::Lapse),
        1 => member.prop_map(Step::Close),
        2 => (0..20_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest::proptest! {
    #![proptest_config(crate::properties(64))]

    /// Whatever happens: no code opens twice, nobody is inside more often than their party is large, and only
    /// codes of the window open.
    #[test]
    fn no_code_opens_twice(steps in steps(), each in proptest::bool::ANY) {
        let party = if each { PartyEntry::ScanEach } else { PartyEntry::CountIn };
        let settings = || Settings { party, ..settings() };
        let phones: Vec<_> = (0..4_u64)
            .map(|n| device(&Terms { member: MemberHandle(n), party: n as u8 + 1, ..terms() }))
            .collect();
        let mut admission = Admission::new(settings());
        let mut opened = std::collections::BTreeSet::new();
        let mut granted = [0_u8; 4];
        let mut now = NOON;
        for step in steps {
            match step {
                Step::Scan { member, ago, party_member } => {
                    let code = phones[member as usize].show(now.before(seconds(ago)), party_member);
                    if let Ok(admitted) = admission.check(now, true, code.as_bytes()) {
                        proptest::prop_assert!(opened.insert(code), "a code opened twice");
                        proptest::prop_assert!(ago <= 25 && party_member <= member as u8);
                        granted[member as usize] += admitted.passages;
                    }
                }
                Step::Pass(n) if granted[n as usize] > 0 => {
                    granted[n as usize] -= 1;
                    admission.passed(MemberHandle(n), false);
                }
                Step::Lapse(n) => {
                    admission.lapsed(MemberHandle(n), granted[n as usize]);
                    granted[n as usize] = 0;
                }
                Step::Close(n) => admission.closed(MemberHandle(n), 1),
                Step::Wait(span) => now = now.after(seconds(span)),
                Step::Restart => {
                    admission = Admission::with_memory(settings(), &admission.memory());
                    granted = [0; 4];
                }
                Step::Pass(_) => {}
            }
            for (member, count) in admission.memory().inside {
                proptest::prop_assert!(count <= member.0 as u8 + 1, "{} inside on a party of {}", count, member.0 + 1);
            }
        }
    }

    /// The order in which boxes hear of each other, and how often, does not matter.
    #[test]
    fn merging_is_in_any_order(
        mut codes in proptest::collection::vec((0..30_u64, 0..5_u64, 1..200_u64), 1..40),
        seed in 0..1000_usize,
    ) {
        let message = |(member, moment, until): (u64, u64, u64)| SeenCodes {
            sender: "x".to_owned(),
            codes: vec![SeenCode {
                member: MemberHandle(member),
                moment,
                nonce: 0,
                until: NOON.after(seconds(until)),
            }],
        };
        let (mut one, mut two) = (admission(), admission());
        for code in &codes {
            one.merge_seen(NOON, &message(*code));
        }
        let middle = seed % codes.len();
        codes.rotate_left(middle);
        codes.extend_from_within(..codes.len().min(7));
        for code in &codes {
            two.merge_seen(NOON, &message(*code));
        }
        let known = |admission: &Admission, key| admission.used.contains(&key);
        for (member, moment, _) in codes {
            let key = (MemberHandle(member), moment, 0);
            proptest::prop_assert!(known(&one, key) && known(&two, key));
        }
    }
}
