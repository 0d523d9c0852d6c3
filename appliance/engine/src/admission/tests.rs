//! Tables for admission: every reason, every boundary of time, parties, roll-over, and bytes that were
//! tampered with. Lists are in `lists`, wrong clocks, other boxes, guests and cards in `faults`.

mod faults;
mod lists;

use super::issue::{Device, Issuer, Terms};
use super::*;

const GROUP: u32 = 0x00ab_cdef;
/// 2026-11-22 00:00:00 UTC, a multiple of both steps.
const NOON: Instant = Instant(1_795_305_600_000);
const MEMBER: MemberHandle = MemberHandle(0x0123_4567_89ab_cdef);
const SEED: [u8; 32] = [7; 32];

fn issuer() -> Issuer {
    Issuer::new(1, GROUP, &[1; 32])
}

fn settings() -> Settings {
    let mut issuers = Issuers::default();
    issuers.install(1, issuer().public_key());
    Settings { store_group: GROUP, issuers, group_key: Some(GroupKey([9; 32])), ..Settings::default() }
}

fn admission() -> Admission {
    Admission::new(settings())
}

fn terms() -> Terms {
    Terms::single(MEMBER, NOON.before(Millis::from_seconds(3600)))
}

fn device(terms: &Terms) -> Device {
    issuer().device(terms, &SEED)
}

fn refusal(admission: &mut Admission, now: Instant, text: &[u8]) -> Option<DenyReason> {
    admission.check(now, true, text).err()
}

#[test]
fn a_shown_code_is_admitted_once() {
    let mut admission = admission();
    let code = device(&terms()).show(NOON, 0);
    assert_eq!(code.len(), 455);
    let admitted = admission.check(NOON, true, code.as_bytes()).unwrap();
    let grant = Grant {
        member: MEMBER,
        party: 1,
        party_member: 0,
        staff: false,
        wide: false,
        age_proof: false,
        guest: false,
    };
    assert_eq!(admitted, Admitted { grant, passages: 1 });
    assert_eq!(refusal(&mut admission, NOON, code.as_bytes()), Some(DenyReason::Replayed));
}

#[test]
fn codes_are_deterministic() {
    assert_eq!(device(&terms()).show(NOON, 0), device(&terms()).show(NOON, 0));
    assert_ne!(device(&terms()).show(NOON, 0), device(&terms()).show(NOON.after(Millis(5)), 0));
}

#[test]
fn what_is_no_code_and_what_is_a_broken_one() {
    let code = device(&terms()).show(NOON, 0);
    let longer = format!("{code}0");
    let letter = code.replacen('1', "x", 1);
    let zeros = "0".repeat(455);
    let nines = "9".repeat(238);
    let table: [(&str, DenyReason); 11] = [
        ("", DenyReason::NotAnEntryCode),
        ("8801234567893", DenyReason::NotAnEntryCode),
        ("https://example.com/01/09506000134352", DenyReason::NotAnEntryCode),
        ("12345678901234567890123456789", DenyReason::NotAnEntryCode),
        (&letter, DenyReason::NotAnEntryCode),
        (&code[..454], DenyReason::Malformed),
        (&code[..200], DenyReason::Malformed),
        (&code[..17], DenyReason::Malformed),
        (&longer, DenyReason::Malformed),
        (&zeros, DenyReason::Malformed),
        (&nines, DenyReason::Malformed),
    ];
    for (text, want) in table {
        assert_eq!(refusal(&mut admission(), NOON, text.as_bytes()), Some(want), "{text}");
    }
    assert_eq!(refusal(&mut admission(), NOON, &[0xff; 455]), Some(DenyReason::NotAnEntryCode));
}

#[test]
fn the_window_of_a_shown_code() {
    let code = device(&terms()).show(NOON, 0);
    let table: [(i64, Option<DenyReason>); 6] = [
        (-10_001, Some(DenyReason::FromTheFuture)),
        (-10_000, None),
        (0, None),
        (24_999, None),
        (25_000, None),
        (25_001, Some(DenyReason::Stale)),
    ];
    for (offset, want) in table {
        let now = Instant((NOON.0 as i64 + offset) as u64);
        assert_eq!(refusal(&mut admission(), now, code.as_bytes()), want, "{offset} ms");
    }
}

#[test]
fn the_validity_of_a_certificate() {
    let hour = Terms { validity: 6, issued_at: NOON, ..terms() };
    let phone = device(&hour);
    let table: [(i64, Option<DenyReason>); 6] = [
        (-20_000, Some(DenyReason::NotYetValid)),
        (-9_000, None),
        (0, None),
        (3_599_999, None),
        (3_600_000, Some(DenyReason::Expired)),
        (86_400_000, Some(DenyReason::Expired)),
    ];
    for (offset, want) in table {
        let now = Instant((NOON.0 as i64 + offset) as u64);
        let code = phone.show(now, 0);
        assert_eq!(refusal(&mut admission(), now, code.as_bytes()), want, "{offset} ms");
    }
}

#[test]
fn foreign_codes_are_refused() {
    let forged = Issuer::new(1, GROUP, &[2; 32]).device(&terms(), &SEED).show(NOON, 0);
    let unknown = Issuer::new(3, GROUP, &[1; 32]).device(&terms(), &SEED).show(NOON, 0);
    let elsewhere = Issuer::new(1, GROUP + 1, &[1; 32]).device(&terms(), &SEED).show(NOON, 0);
    let table = [
        (forged, DenyReason::BadSignature),
        (unknown, DenyReason::UnknownIssuer),
        (elsewhere, DenyReason::OtherStore),
    ];
    for (code, want) in table {
        assert_eq!(refusal(&mut admission(), NOON, code.as_bytes()), Some(want));
    }
    // Another phone with this member's certificate.
    let mine = digits::decode(device(&terms()).show(NOON, 0).as_bytes()).unwrap();
    let other = digits::decode(issuer().device(&terms(), &[8; 32]).show(NOON, 0).as_bytes()).unwrap();
    let mixed = digits::encode(&[&mine[..117], &other[117..]].concat());
    assert_eq!(refusal(&mut admission(), NOON, mixed.as_bytes()), Some(DenyReason::BadSignature));
}

#[test]
fn anti_passback() {
    let mut admission = admission();
    let phone = device(&terms());
    let mut at = NOON;
    let mut scan = |admission: &mut Admission| {
        at = at.after(Millis::from_seconds(10));
        admission.check(at, true, phone.show(at, 0).as_bytes()).map(|_| ())
    };
    assert_eq!(scan(&mut admission), Ok(()));
    assert_eq!(scan(&mut admission), Err(DenyReason::AlreadyInside), "granted at another lane just now");
    admission.lapsed(MEMBER, 1);
    assert_eq!(scan(&mut admission), Ok(()), "did not go through, may try again");
    admission.passed(MEMBER, false);
    assert_eq!((scan(&mut admission), admission.inside()), (Err(DenyReason::AlreadyInside), 1));
    admission.closed(MEMBER, 1);
    assert_eq!(scan(&mut admission), Ok(()));
}

#[test]
fn who_walks_back_may_come_in_again() {
    let mut admission = admission();
    let phone = device(&terms());
    let mut at = NOON;
    let mut scan = |admission: &mut Admission| {
        at = at.after(Millis::from_seconds(10));
        admission.check(at, true, phone.show(at, 0).as_bytes())
    };
    let grant = scan(&mut admission).unwrap().grant;
    admission.passed(MEMBER, false);
    admission.walked_back(&grant);
    assert_eq!(admission.inside(), 0, "no session had to be closed for it");
    scan(&mut admission).unwrap();
    admission.passed(MEMBER, false);
    // Restarted in between.
    let memory: Memory = serde_json::from_str(&serde_json::to_string(&admission.memory()).unwrap()).unwrap();
    let mut admission = Admission::with_memory(settings(), &memory);
    admission.closed(MEMBER, 1);
    assert_eq!(admission.inside(), 1, "the session of who walked back, not of who is inside");
    admission.closed(MEMBER, 1);
    assert_eq!(admission.inside(), 0);
    // One of a party walked back: the session of the others frees the pass.
    for _ in 0..3 {
        admission.passed(MEMBER, false);
    }
    admission.walked_back(&grant);
    assert_eq!(admission.inside(), 2);
    admission.closed(MEMBER, 3);
    assert_eq!((admission.inside(), admission.memory().walked_back.len()), (0, 0));
}

#[test]
fn staff_come_and_go() {
    let mut admission = admission();
    let phone = device(&Terms { staff: true, ..terms() });
    for round in 0..3 {
        let at = NOON.after(Millis::from_seconds(10 * round));
        assert!(admission.check(at, true, phone.show(at, 0).as_bytes()).unwrap().grant.staff);
        admission.passed(MEMBER, true);
        assert_eq!(admission.inside(), 0);
    }
}

#[test]
fn a_party_is_counted_in() {
    let mut admission = admission();
    let phone = device(&Terms { party: 3, wide: true, ..terms() });
    let first = admission.check(NOON, true, phone.show(NOON, 0).as_bytes()).unwrap();
    assert_eq!(
        (first.passages, first.grant.party, first.grant.party_member, first.grant.wide),
        (3, 3, 0, true)
    );
    admission.passed(MEMBER, false);
    admission.lapsed(MEMBER, 2);
    let second = admission.check(NOON, true, phone.show(NOON, 1).as_bytes()).unwrap();
    assert_eq!((second.passages, second.grant.party_member), (2, 1));
    admission.passed(MEMBER, false);
    admission.passed(MEMBER, false);
    assert_eq!(refusal(&mut admission, NOON, phone.show(NOON, 2).as_bytes()), Some(DenyReason::PartyFull));
    assert_eq!(refusal(&mut admission, NOON, phone.show(NOON, 3).as_bytes()), Some(DenyReason::PartyFull));
}

#[test]
fn a_party_scans_one_by_one() {
    let mut admission = Admission::new(Settings { party: PartyEntry::ScanEach, ..settings() });
    let phone = device(&Terms { party: 2, ..terms() });
    for member in 0..2 {
        let admitted = admission.check(NOON, true, phone.show(NOON, member).as_bytes()).unwrap();
        assert_eq!((admitted.passages, admitted.grant.party_member), (1, member));
        admission.passed(MEMBER, false);
    }
    assert_eq!(refusal(&mut admission, NOON, phone.show(NOON, 2).as_bytes()), Some(DenyReason::PartyFull));
    let single = device(&terms());
    assert_eq!(
        refusal(&mut self::admission(), NOON, single.show(NOON, 1).as_bytes()),
        Some(DenyReason::PartyFull)
    );
}

#[test]
fn wallet_passes() {
    let mut admission = admission();
    let pass = issuer().wallet_pass(&Terms { staff: true, ..terms() }, 42, &GroupKey([9; 32]));
    let code = pass.show(NOON);
    assert_eq!(code.len(), 238);
    let admitted = admission.check(NOON, true, code.as_bytes()).unwrap();
    assert!(!admitted.grant.staff, "a printed code makes nobody staff");
    admission.lapsed(MEMBER, 1);
    let same_step = pass.show(NOON.after(Millis::from_seconds(7)));
    assert_eq!(refusal(&mut admission, NOON, same_step.as_bytes()), Some(DenyReason::Replayed));
    let last = NOON.after(Millis(59_999));
    assert_eq!(
        refusal(&mut admission, last, code.as_bytes()),
        Some(DenyReason::Replayed),
        "as long as it is valid"
    );
    for (offset, want) in [
        (-30_001, Some(DenyReason::FromTheFuture)),
        (-30_000, None),
        (59_999, None),
        (60_000, Some(DenyReason::Stale)),
    ] {
        let now = Instant((NOON.0 as i64 + offset) as u64);
        assert_eq!(refusal(&mut self::admission(), now, code.as_bytes()), want, "{offset} ms");
    }
    let forged = issuer().wallet_pass(&terms(), 42, &GroupKey([8; 32])).show(NOON);
    assert_eq!(refusal(&mut self::admission(), NOON, forged.as_bytes()), Some(DenyReason::BadSignature));
    let mut without = Admission::new(Settings { group_key: None, ..settings() });
    assert_eq!(refusal(&mut without, NOON, code.as_bytes()), Some(DenyReason::UnknownIssuer));
}

#[test]
fn wallet_passes_are_rate_limited() {
    let mut admission = admission();
    let forged = issuer().wallet_pass(&terms(), 42, &GroupKey([8; 32])).show(NOON);
    for _ in 0..RATE_MAX {
        assert_eq!(refusal(&mut admission, NOON, forged.as_bytes()), Some(DenyReason::BadSignature));
    }
    assert_eq!(refusal(&mut admission, NOON, forged.as_bytes()), Some(DenyReason::RateLimited));
    let later = NOON.after(RATE_SPAN);
    let good = issuer().wallet_pass(&terms(), 42, &GroupKey([9; 32])).show(later);
    assert_eq!(refusal(&mut admission, later, good.as_bytes()), None);
}

#[test]
fn memory_survives_a_restart() {
    let mut admission = admission();
    let phone = device(&terms());
    let code = phone.show(NOON, 0);
    admission.check(NOON, true, code.as_bytes()).unwrap();
    admission.passed(MEMBER, false);
    let memory = admission.memory();
    let mut again = Admission::with_memory(settings(), &memory);
    assert_eq!(again.memory(), memory);
    assert_eq!(refusal(&mut again, NOON, code.as_bytes()), Some(DenyReason::Replayed));
    assert_eq!(
        refusal(&mut again, NOON, phone.show(NOON.after(Millis(9)), 0).as_bytes()),
        Some(DenyReason::AlreadyInside)
    );
}

#[test]
fn used_codes_are_forgotten_when_they_are_worthless() {
    let mut admission = admission();
    for round in 0..200_u64 {
        let at = NOON.after(Millis::from_seconds(round * 10));
        let member = MemberHandle(round);
        let code = device(&Terms { member, ..terms() }).show(at, 0);
        admission.check(at, true, code.as_bytes()).unwrap();
        assert!(admission.memory().used.len() <= 7);
    }
}

#[test]
fn tampered_bytes_are_never_admitted() {
    let wallet = issuer().wallet_pass(&terms(), 42, &GroupKey([9; 32])).show(NOON);
    for code in [device(&terms()).show(NOON, 0), wallet] {
        let bytes = digits::decode(code.as_bytes()).unwrap();
        let mut admission = admission();
        // Every bit of every byte, then every cut. A wallet's second is not covered by its code, its step is.
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut tampered = bytes.clone();
                tampered[place] ^= 1 << bit;
                let same_step = bytes.len() == 98
                    && (86..90).contains(&place)
                    && pass::number(&tampered[86..90]) / WALLET_STEP
                        == pass::number(&bytes[86..90]) / WALLET_STEP;
                admission.tries.clear();
                let judged = admission.check(NOON, true, digits::encode(&tampered).as_bytes());
                assert!(judged.is_err() || same_step, "byte {place} bit {bit}");
                if judged.is_ok() {
                    admission = self::admission();
                }
            }
        }
        for length in 0..code.len() {
            assert!(admission.check(NOON, true, &code.as_bytes()[..length]).is_err());
        }
    }
}

proptest::proptest! {
    #![proptest_config(crate::properties(256))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..500)) {
        let mut admission = admission();
        proptest::prop_assert!(admission.check(NOON, true, &bytes).is_err());
        let digits: Vec<u8> = bytes.iter().map(|byte| b'0' + byte % 10).collect();
        proptest::prop_assert!(admission.check(NOON, true, &digits).is_err());
    }
}

/// Not a timed test: prints what a verification costs. The number to hold is in the benchmarks.
#[test]
fn print_cost_of_verification() {
    let phone = device(&terms());
    let mut admission = admission();
    let codes: Vec<String> = (0..500).map(|step| phone.show(NOON.after(Millis(step * 10)), 0)).collect();
    let start = std::time::Instant::now();
    for code in &codes {
        admission.check(NOON, true, code.as_bytes()).unwrap();
        admission.lapsed(MEMBER, 1);
    }
    let each = start.elapsed() / codes.len() as u32;
    eprintln!("entry-code verification, profile D: {each:?} each over {} codes", codes.len());
}
