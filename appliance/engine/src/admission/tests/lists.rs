//! Key sets, deny lists and card lists: who may sign them, what they must hold, which is newer, how they age.

use super::super::cards::{Card, CardList};
use super::super::issue::Root;
use super::super::list::Kind;
use super::*;

const ROOT_SEED: [u8; 32] = [5; 32];
const SALT: [u8; 32] = [3; 32];
const HOUR: Millis = Millis::from_seconds(3600);
const DAY: Millis = Millis::from_seconds(24 * 3600);

fn hours(count: u64) -> Millis {
    Millis::from_seconds(count * 3600)
}

fn days(count: u64) -> Millis {
    hours(count * 24)
}

fn root() -> Root {
    Root::new(GROUP, &ROOT_SEED)
}

fn managed() -> Admission {
    Admission::new(Settings { root: Some(root().public_key()), card_salt: Some(SALT), ..settings() })
}

fn key(issuer: &Issuer, from: Instant, to: Instant) -> IssuerKey {
    IssuerKey {
        id: issuer.key_id(),
        key: issuer.public_key(),
        not_before: from.unix_seconds(),
        not_after: to.unix_seconds(),
    }
}

fn numbered(id: u8) -> Issuer {
    Issuer::new(id, GROUP, &[id; 32])
}

fn set(version: u32, keys: &[IssuerKey]) -> Vec<u8> {
    root().key_set(Version(version), NOON, None, keys).unwrap()
}

fn code_of(issuer: &Issuer, member: u64, at: Instant) -> String {
    let terms = Terms { member: MemberHandle(member), issued_at: at.before(HOUR), ..terms() };
    issuer.device(&terms, &SEED).show(at, 0)
}

#[test]
fn keys_roll_over() {
    let mut admission = managed();
    let (old, next) = (numbered(1), numbered(2));
    assert_eq!(admission.status(NOON).keys, ListState::Missing);
    let keys = [key(&old, NOON.before(DAY), NOON.after(DAY)), key(&next, NOON, NOON.after(days(90)))];
    let set = root().key_set(Version(1), NOON.before(DAY), None, &keys).unwrap();
    assert_eq!(admission.install_keys(NOON, &set), Ok(Version(1)));
    assert_eq!(admission.status(NOON).keys, ListState::Fresh(Version(1)));
    let table = [
        (&old, NOON.before(HOUR), None),
        (&next, NOON.before(HOUR), Some(DenyReason::IssuerRetired)),
        (&next, NOON.before(Millis::from_seconds(9)), None),
        (&old, NOON, None),
        (&next, NOON, None),
        (&old, Instant(NOON.0 + DAY.0 - 1), None),
        (&old, NOON.after(DAY), Some(DenyReason::IssuerRetired)),
        (&next, NOON.after(DAY), None),
        (&next, NOON.after(days(90)), Some(DenyReason::IssuerRetired)),
        (&numbered(3), NOON, Some(DenyReason::UnknownIssuer)),
    ];
    for (index, (issuer, at, want)) in table.into_iter().enumerate() {
        let code = code_of(issuer, index as u64, at);
        assert_eq!(refusal(&mut admission, at, code.as_bytes()), want, "row {index}");
    }
    let soon = NOON.after(days(85));
    assert_eq!(admission.status(soon).keys, ListState::Ageing(Version(1)));
    assert_eq!(admission.status(NOON.after(days(90))).keys, ListState::Stale(Version(1)));
    let text = admission.status(NOON.after(days(90))).to_string();
    assert!(text.contains("all keys of key set 1 are over"), "{text}");
}

#[test]
fn key_sets_that_are_refused() {
    let kind = Kind::Keys;
    let good = [key(&numbered(2), NOON, NOON.after(DAY))];
    let five = set(5, &good);
    let mut tampered = five.clone();
    tampered[30] ^= 1;
    let by_issuer = {
        // An issuer's signature is none of the root's, whatever the head says.
        let list = Issuer::new(0, GROUP, &[1; 32]).deny_list(Version(9), NOON, &[]);
        let mut bytes = list;
        bytes[0] = Kind::Keys.type_byte();
        bytes
    };
    let elsewhere = Root::new(GROUP + 1, &ROOT_SEED).key_set(Version(9), NOON, None, &good).unwrap();
    let forged = Root::new(GROUP, &[6; 32]).key_set(Version(9), NOON, None, &good).unwrap();
    let other = set(5, &[key(&numbered(3), NOON, NOON.after(DAY))]);
    let version = Version(5);
    let table: Vec<(Vec<u8>, Result<Version, Refusal>)> = vec![
        (vec![], Err(Refusal::Malformed(kind))),
        (five[..76].to_vec(), Err(Refusal::Malformed(kind))),
        (five[..five.len() - 1].to_vec(), Err(Refusal::Malformed(kind))),
        (by_issuer, Err(Refusal::Malformed(kind))),
        (tampered, Err(Refusal::Signature(kind))),
        (forged, Err(Refusal::Signature(kind))),
        (elsewhere, Err(Refusal::OtherGroup { kind, group: GROUP + 1 })),
        (five.clone(), Ok(version)),
        (five.clone(), Ok(version)),
        (other, Err(Refusal::Conflict { kind, version })),
        (set(4, &good), Err(Refusal::Old { kind, got: Version(4), newest: version })),
        (set(6, &good), Ok(Version(6))),
        (five, Err(Refusal::Old { kind, got: version, newest: Version(6) })),
    ];
    let mut admission = managed();
    for (index, (bytes, want)) in table.into_iter().enumerate() {
        assert_eq!(admission.install_keys(NOON, &bytes), want, "row {index}");
    }
    let mut without_root = super::admission();
    let unknown = Err(Refusal::UnknownKey { kind, key_id: 0 });
    assert_eq!(without_root.install_keys(NOON, &set(1, &good)), unknown);
    assert_eq!(without_root.status(NOON).keys, ListState::Unmanaged);
    // In time: only a synchronised clock contradicts the root.
    let tomorrow = root().key_set(Version(7), NOON.after(DAY), None, &good).unwrap();
    admission.observe_clock(NOON, Millis(0), true);
    assert_eq!(admission.install_keys(NOON, &tomorrow), Err(Refusal::FromTheFuture(kind)));
}

#[test]
fn what_no_key_set_may_hold() {
    let (from, to) = (NOON, NOON.after(DAY));
    let (a, b, c) = (key(&numbered(1), from, to), key(&numbered(2), from, to), key(&numbered(3), from, to));
    let later = IssuerKey { not_before: to.unix_seconds(), not_after: to.unix_seconds() + 9, ..c };
    let table: Vec<(Vec<IssuerKey>, Option<&str>)> = vec![
        (vec![a, b], None),
        (vec![a, b, later], None),
        (vec![], Some("no keys")),
        (vec![a, b, c], Some("two keys are live")),
        (vec![a, IssuerKey { id: 1, ..b }], Some("twice")),
        (vec![IssuerKey { id: 0, ..a }], Some("root's")),
        (vec![IssuerKey { not_after: a.not_before, ..a }], Some("ends before")),
        (vec![a, b, c, later, later], Some("four keys")),
    ];
    for (keys, want) in table {
        let made = root().key_set(Version(1), NOON, None, &keys);
        match want {
            None => assert!(made.is_ok(), "{keys:?}"),
            Some(want) => assert!(made.unwrap_err().contains(want), "{want}"),
        }
    }
}

#[test]
fn the_group_key_is_known_by_its_check_value() {
    let keys = [key(&numbered(1), NOON, NOON.after(DAY))];
    for (held, differs) in [([9; 32], false), ([8; 32], true)] {
        let settings =
            Settings { root: Some(root().public_key()), group_key: Some(GroupKey(held)), ..settings() };
        let mut admission = Admission::new(settings);
        let set = root().key_set(Version(1), NOON, Some(&GroupKey([9; 32])), &keys).unwrap();
        admission.install_keys(NOON, &set).unwrap();
        assert_eq!(admission.status(NOON).group_key_differs, differs);
        assert_eq!(admission.status(NOON).to_string().contains("group key"), differs);
    }
}

#[test]
fn deny_lists() {
    let kind = Kind::Deny;
    let mut admission = managed();
    let five = issuer().deny_list(Version(5), NOON, &[(MEMBER, None), (MemberHandle(1), None)]);
    let mut tampered = five.clone();
    tampered[14] ^= 1;
    let by_root = Issuer::new(0, GROUP, &ROOT_SEED).deny_list(Version(6), NOON, &[(MEMBER, None)]);
    let elsewhere = Issuer::new(1, GROUP + 1, &[1; 32]).deny_list(Version(6), NOON, &[]);
    let unknown = numbered(3).deny_list(Version(6), NOON, &[]);
    let version = Version(5);
    let table: Vec<(Vec<u8>, Result<Version, Refusal>)> = vec![
        (vec![], Err(Refusal::Malformed(kind))),
        (five[..70].to_vec(), Err(Refusal::Malformed(kind))),
        (tampered, Err(Refusal::Signature(kind))),
        (Issuer::new(1, GROUP, &[2; 32]).deny_list(Version(6), NOON, &[]), Err(Refusal::Signature(kind))),
        (elsewhere, Err(Refusal::OtherGroup { kind, group: GROUP + 1 })),
        (unknown, Err(Refusal::UnknownKey { kind, key_id: 3 })),
        (five.clone(), Ok(version)),
        (five.clone(), Ok(version)),
        (issuer().deny_list(Version(5), NOON, &[]), Err(Refusal::Conflict { kind, version })),
        (
            issuer().deny_list(Version(4), NOON, &[]),
            Err(Refusal::Old { kind, got: Version(4), newest: version }),
        ),
        (by_root, Ok(Version(6))),
    ];
    for (index, (list, want)) in table.into_iter().enumerate() {
        assert_eq!(admission.deny(NOON, &list), want, "row {index}");
    }
    let code = device(&terms()).show(NOON, 0);
    assert_eq!(refusal(&mut admission, NOON, code.as_bytes()), Some(DenyReason::Revoked));
    admission.deny(NOON, &issuer().deny_list(Version(7), NOON, &[])).unwrap();
    assert_eq!(refusal(&mut admission, NOON, code.as_bytes()), None);
}

#[test]
fn a_denied_pass_is_forgotten_when_its_certificate_is_over() {
    let until = NOON.after(Millis::from_seconds(5000));
    let list = issuer().deny_list(Version(1), NOON, &[(MEMBER, Some(until)), (MEMBER, Some(NOON))]);
    let list = DenyList::parse(&list, GROUP, &settings().issuers, None).unwrap();
    assert_eq!(list.entries().count(), 1, "each handle once, with the later end");
    for (at, want) in [(0, true), (5000, true), (7199, true), (7200, false)] {
        assert_eq!(list.denies(NOON.after(Millis::from_seconds(at)), MEMBER), want, "{at} s");
    }
    assert!(!list.denies(NOON, MemberHandle(2)));
}

#[test]
fn a_full_deny_list_is_taken_and_a_longer_one_is_not() {
    let members: Vec<_> = (0..=deny::DENIED_MAX as u64).map(|n| (MemberHandle(n * 3), None)).collect();
    let mut admission = managed();
    let full = issuer().deny_list(Version(1), NOON, &members[1..]);
    assert_eq!(full.len(), 13 + 655_360 + 64);
    admission.deny(NOON, &full).unwrap();
    let code = code_of(&issuer(), 3 * 40_000, NOON);
    assert_eq!(refusal(&mut admission, NOON, code.as_bytes()), Some(DenyReason::Revoked));
    let long = issuer().deny_list(Version(2), NOON, &members);
    let want = Refusal::TooLong { kind: Kind::Deny, entries: deny::DENIED_MAX + 1, max: deny::DENIED_MAX };
    assert_eq!(admission.deny(NOON, &long), Err(want));
}

#[test]
fn entries_out_of_order_are_refused() {
    let mut bytes = list::head(Kind::Deny, 1, GROUP, Version(1), NOON);
    for member in [2_u64, 2] {
        bytes.extend(member.to_be_bytes());
        bytes.extend([0, 1]);
    }
    issuer().sign(Kind::Deny.domain(), &mut bytes);
    let refused = managed().deny(NOON, &bytes).unwrap_err();
    assert!(matches!(refused, Refusal::Content { kind: Kind::Deny, .. }), "{refused}");
}

#[test]
fn how_long_a_gate_works_without_fresh_lists() {
    let mut admission = managed();
    let keys = [key(&issuer(), NOON.before(DAY), NOON.after(days(90)))];
    admission.install_keys(NOON, &set(1, &keys)).unwrap();
    assert_eq!(admission.status(NOON).deny, ListState::Missing);
    assert!(admission.status(NOON).degraded() && admission.status(NOON).to_string().contains("no deny list"));
    admission.deny(NOON, &issuer().deny_list(Version(1), NOON, &[])).unwrap();
    admission.install_cards(NOON, &issuer().card_list(Version(1), NOON, &[])).unwrap();
    let v = Version(1);
    let table = [
        (0, ListState::Fresh(v), None),
        (36 * 3600, ListState::Fresh(v), None),
        (36 * 3600 + 1, ListState::Ageing(v), None),
        (7 * 86_400, ListState::Ageing(v), None),
        (7 * 86_400 + 1, ListState::Stale(v), Some(DenyReason::ListsStale)),
    ];
    for (seconds, state, want) in table {
        let at = NOON.after(Millis::from_seconds(seconds));
        assert_eq!((admission.status(at).deny, admission.status(at).cards), (state, state), "{seconds} s");
        assert_eq!(admission.status(at).degraded(), seconds > 36 * 3600);
        let code = code_of(&issuer(), seconds, at);
        assert_eq!(refusal(&mut admission, at, code.as_bytes()), want, "{seconds} s");
    }
    let at = NOON.after(days(30));
    admission.settings.policy.refused_after = None;
    assert_eq!(refusal(&mut admission, at, code_of(&issuer(), 1, at).as_bytes()), None, "policy says never");
}

#[test]
fn lists_do_not_go_back_over_a_restart() {
    let mut admission = managed();
    let keys = [key(&issuer(), NOON.before(DAY), NOON.after(days(90)))];
    let (set, list) = (set(3, &keys), issuer().deny_list(Version(8), NOON, &[(MEMBER, None)]));
    admission.install_keys(NOON, &set).unwrap();
    admission.deny(NOON, &list).unwrap();
    let memory = admission.memory();
    let settings = Settings { root: Some(root().public_key()), ..settings() };
    let mut again = Admission::with_memory(settings, &memory);
    assert_eq!(again.status(NOON).deny, ListState::Missing, "the bytes are the shell's to keep");
    let older = issuer().deny_list(Version(7), NOON, &[]);
    assert!(matches!(again.deny(NOON, &older), Err(Refusal::Old { newest: Version(8), .. })));
    assert_eq!(again.install_keys(NOON, &set), Ok(Version(3)));
    assert_eq!(again.deny(NOON, &list), Ok(Version(8)));
    let code = device(&terms()).show(NOON, 0);
    assert_eq!(refusal(&mut again, NOON, code.as_bytes()), Some(DenyReason::Revoked));
}

#[test]
fn an_older_memory_is_still_read() {
    let memory: Memory = serde_json::from_str(r#"{"used": [], "inside": [[5, 1]]}"#).unwrap();
    assert_eq!(
        (memory.inside, memory.versions, memory.newest),
        (vec![(MemberHandle(5), 1)], Versions::default(), Instant(0))
    );
}

#[test]
fn every_refusal_names_its_list() {
    let kind = Kind::Deny;
    let version = Version(4);
    for refusal in [
        Refusal::Malformed(kind),
        Refusal::Content { kind, what: "x" },
        Refusal::TooLong { kind, entries: 2, max: 1 },
        Refusal::OtherGroup { kind, group: 1 },
        Refusal::UnknownKey { kind, key_id: 1 },
        Refusal::Signature(kind),
        Refusal::Old { kind, got: Version(3), newest: version },
        Refusal::Conflict { kind, version },
        Refusal::FromTheFuture(kind),
    ] {
        let text = refusal.to_string();
        assert!(text.contains("deny list") && !text.ends_with('.'), "{text}");
    }
}

#[test]
fn reasons_have_one_code_each() {
    let codes: std::collections::BTreeSet<_> = DenyReason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), DenyReason::ALL.len());
    for reason in DenyReason::ALL {
        let value = serde_json::to_value(reason).unwrap();
        assert_eq!(value.as_str(), Some(reason.code()), "the code is what serde writes");
    }
}

fn cards() -> Vec<Card> {
    let number = CardNumber::new(26, &[1, 2, 3, 0x40]).unwrap();
    let until = NOON.after(DAY).unix_seconds();
    vec![Card::new(&SALT, &number, MEMBER, until, Entitlements::SINGLE)]
}

proptest::proptest! {
    #![proptest_config(crate::properties(256))]

    #[test]
    fn any_list_is_survived(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..500),
        kind in 0..3_usize,
    ) {
        let mut admission = managed();
        if let Some(first) = bytes.first_mut() {
            *first = [0x21, 0x22, 0x23][kind];
        }
        proptest::prop_assert!(admission.deny(NOON, &bytes).is_err());
        proptest::prop_assert!(admission.install_cards(NOON, &bytes).is_err());
        proptest::prop_assert!(admission.install_keys(NOON, &bytes).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed(place in 0..1000_usize, bit in 0..8_u8) {
        let keys = [key(&numbered(2), NOON, NOON.after(DAY))];
        let lists = [
            set(1, &keys),
            issuer().deny_list(Version(1), NOON, &[(MEMBER, None)]),
            issuer().card_list(Version(1), NOON, &cards()),
        ];
        for (index, mut bytes) in lists.into_iter().enumerate() {
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            let mut admission = managed();
            let taken = match index {
                0 => admission.install_keys(NOON, &bytes),
                1 => admission.deny(NOON, &bytes),
                _ => admission.install_cards(NOON, &bytes),
            };
            proptest::prop_assert!(taken.is_err(), "list {} byte {} bit {}", index, place, bit);
        }
    }

    #[test]
    fn a_deny_list_says_what_was_written(members in proptest::collection::btree_map(0..500_u64, 0..2000_u32, 0..60)) {
        let entries: Vec<_> = members
            .iter()
            .map(|(member, end)| (MemberHandle(*member), Some(NOON.after(hours(u64::from(*end))))))
            .collect();
        let bytes = issuer().deny_list(Version(1), NOON, &entries);
        let list = DenyList::parse(&bytes, GROUP, &settings().issuers, None).unwrap();
        for member in 0..500 {
            let want = members.get(&member).is_some_and(|end| *end > 7);
            proptest::prop_assert_eq!(list.denies(NOON.after(hours(7)), MemberHandle(member)), want);
        }
    }

    #[test]
    fn only_newer_lists_count(versions in proptest::collection::vec(1..20_u32, 1..30)) {
        let mut admission = managed();
        let mut newest = 0;
        for version in versions {
            let list = issuer().deny_list(Version(version), NOON, &[]);
            proptest::prop_assert_eq!(admission.deny(NOON, &list).is_ok(), version >= newest);
            newest = newest.max(version);
            proptest::prop_assert_eq!(admission.memory().versions.deny, Version(newest));
        }
    }
}

#[test]
fn card_lists() {
    let list = issuer().card_list(Version(2), NOON, &cards());
    let read = CardList::parse(&list, GROUP, &settings().issuers, None).unwrap();
    assert_eq!(read.cards(), cards());
    let number = CardNumber::new(26, &[1, 2, 3, 0x7f]).unwrap();
    assert!(read.find(&SALT, &number).is_some(), "bits beyond the 26th do not count");
    assert!(read.find(&[4; 32], &number).is_none(), "another salt");
    assert!(read.find(&SALT, &CardNumber::new(27, &[1, 2, 3, 0x40]).unwrap()).is_none(), "another length");
    for (bits, bytes, good) in
        [(0_u16, 1_usize, false), (26, 3, false), (26, 4, true), (256, 32, true), (257, 40, false)]
    {
        assert_eq!(CardNumber::new(bits, &vec![0; bytes]).is_some(), good, "{bits} bits in {bytes} bytes");
    }
    let unsigned = numbered(4).card_list(Version(2), NOON, &cards());
    let unknown = Err(Refusal::UnknownKey { kind: Kind::Cards, key_id: 4 });
    assert_eq!(managed().install_cards(NOON, &unsigned), unknown);
}
