//! Entry codes and signed lists: nothing is admitted and nothing taken that no key signed.

use std::cell::RefCell;

use engine::admission::cards::{Card, CardList, CardNumber};
use engine::admission::deny::DenyList;
use engine::admission::issue::{Issuer, Root, Terms};
use engine::admission::keys::{IssuerKey, KeySet};
use engine::admission::pass::{Entitlements, GroupKey, Pass};
use engine::admission::{Admission, Issuers, Settings, UntrustedClock, Version, digits};
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MemberHandle};
use ring::signature::Ed25519KeyPair;

use crate::{Input, Seed};

const GROUP: u32 = 0x00_5151;
const NOW: Instant = Instant(1_790_000_000_000);
const ROOT_SEED: [u8; 32] = [1; 32];
const ISSUER_SEED: [u8; 32] = [2; 32];
const GROUP_KEY: GroupKey = GroupKey([3; 32]);
const CARD_SALT: [u8; 32] = [4; 32];
const ISSUER_ID: u8 = 7;

fn root() -> Root {
    Root::new(GROUP, &ROOT_SEED)
}

fn issuer() -> Issuer {
    Issuer::new(ISSUER_ID, GROUP, &ISSUER_SEED)
}

fn issuers() -> Issuers {
    let mut issuers = Issuers::default();
    issuers.install(ISSUER_ID, issuer().public_key());
    issuers
}

fn settings() -> Settings {
    Settings {
        store_group: GROUP,
        issuers: issuers(),
        root: Some(root().public_key()),
        group_key: Some(GROUP_KEY),
        card_salt: Some(CARD_SALT),
        untrusted_clock: UntrustedClock::SkipTimes,
        ..Settings::default()
    }
}

/// What the settings and the codes cost to make is spent once.
struct Fixture {
    settings: Settings,
    issuers: Issuers,
    root_key: [u8; 32],
    device: Vec<u8>,
    wallet: Vec<u8>,
    pairs: [Ed25519KeyPair; 2],
}

thread_local! {
    static FIXTURE: RefCell<Fixture> = RefCell::new(Fixture {
        settings: settings(),
        issuers: issuers(),
        root_key: root().public_key(),
        device: digits::decode(device_code().as_bytes()).expect("digits"),
        wallet: digits::decode(wallet_code().as_bytes()).expect("digits"),
        pairs: [ROOT_SEED, ISSUER_SEED].map(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed")),
    });
}

fn terms() -> Terms {
    Terms::single(MemberHandle(0x1122_3344_5566_7788), NOW.before(Millis::from_seconds(3600)))
}

fn device_code() -> String {
    issuer().device(&terms(), &[5; 32]).show(NOW, 0)
}

fn wallet_code() -> String {
    issuer().wallet_pass(&terms(), 9, &GROUP_KEY).show(NOW)
}

/// An entry code. First byte odd: the rest is a code's bytes; even: the rest is what a scanner reads.
pub fn token(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let text = if mode & 1 == 1 { digits::encode(rest).into_bytes() } else { rest.to_vec() };
    let bytes = digits::decode(&text);
    if let Ok(bytes) = &bytes {
        assert_eq!(digits::encode(bytes).as_bytes(), text, "one text for the same bytes");
    }
    if mode & 1 == 1 {
        assert_eq!(bytes.as_deref(), Ok(rest), "bytes survive their digits");
    }
    let _ = Pass::parse(&text);
    FIXTURE.with_borrow(|fixture| {
        let mut admission = Admission::new(fixture.settings.clone());
        let lane = LaneId::from("lane");
        if admission.check_at(&lane, NOW, mode & 2 == 0, &text).is_ok() {
            let bytes = bytes.expect("only digits are admitted");
            let known = |code: &[u8], signed: usize| bytes.get(..signed) == code.get(..signed);
            // What is signed: of a wallet pass the certificate, while its code stands for half a minute.
            assert!(known(&fixture.device, 123) || known(&fixture.wallet, 86), "nobody signed {bytes:02x?}");
            assert!(admission.check_at(&lane, NOW, mode & 2 == 0, &text).is_err(), "a code opens once");

            let mut admission = Admission::new(fixture.settings.clone());
            for code in [&fixture.device, &fixture.wallet] {
                let _ = admission.check_at(&lane, NOW, true, digits::encode(code).as_bytes());
            }
            assert!(
                admission.check_at(&lane, NOW, mode & 2 == 0, &text).is_err(),
                "a code opens once in any form"
            );
        }
    });
}

/// The list in the input. First byte odd: it is signed here first, as by a key that went astray, so that what is
/// behind the signature is reached.
fn list(input: &[u8], domain: &[u8; 9], by_root: bool) -> Vec<u8> {
    let Some((mode, rest)) = input.split_first() else { return Vec::new() };
    let mut bytes = rest.to_vec();
    if mode & 1 == 1 {
        FIXTURE.with_borrow(|fixture| {
            let pair = &fixture.pairs[usize::from(!by_root)];
            let signature = pair.sign(&[&domain[..], &bytes].concat());
            bytes.extend_from_slice(signature.as_ref());
        });
    }
    bytes
}

/// Whether a list that was not signed here was made by its seed's owner, of which there is one.
fn is_forged(input: &[u8], seed: &[u8]) -> bool {
    input.first().is_some_and(|mode| mode & 1 == 0) && &input[1..] != seed
}

/// A key set.
pub fn key_set(input: &[u8]) {
    let bytes = list(input, b"GE1-KEYS\0", true);
    FIXTURE.with_borrow(|fixture| {
        if let Ok(set) = KeySet::parse(&bytes, GROUP, &fixture.root_key) {
            assert!(!is_forged(input, &signed_keys()), "nobody signed this key set");
            assert!(set.issuers.keys().len() <= engine::admission::keys::KEYS_MAX);
            let mut admission = Admission::new(fixture.settings.clone());
            let first = admission.install_keys(NOW, &bytes);
            assert_eq!(admission.install_keys(NOW, &bytes), first, "the same list again changes nothing");
        }
    });
}

/// A deny list.
pub fn deny_list(input: &[u8]) {
    let bytes = list(input, b"GE1-DENY\0", false);
    FIXTURE.with_borrow(|fixture| {
        if let Ok(list) = DenyList::parse(&bytes, GROUP, &fixture.issuers, Some(&fixture.root_key)) {
            assert!(!is_forged(input, &signed_denials()), "nobody signed this deny list");
            assert!(list.entries().count() <= engine::admission::deny::DENIED_MAX);
            for (member, _) in list.entries().take(8) {
                let _ = list.denies(NOW, member);
            }
            let mut admission = Admission::new(fixture.settings.clone());
            let _ = admission.deny(NOW, &bytes);
        }
    });
}

/// A card list, and a card: the input's end is its number.
pub fn card_list(input: &[u8]) {
    let bytes = list(input, b"GE1-CARD\0", false);
    let mut tail = Input(&input[input.len().saturating_sub(10)..]);
    let number = CardNumber::new(tail.word(), tail.0);
    FIXTURE.with_borrow(|fixture| {
        if let Ok(list) = CardList::parse(&bytes, GROUP, &fixture.issuers, Some(&fixture.root_key)) {
            assert!(!is_forged(input, &signed_cards()), "nobody signed this card list");
            assert!(list.cards().len() <= engine::admission::cards::CARDS_MAX);
            let mut admission = Admission::new(fixture.settings.clone());
            let _ = admission.install_cards(NOW, &bytes);
            if let Some(number) = number {
                let known = list.find(&CARD_SALT, &number).is_some();
                let lane = LaneId::from("lane");
                let admitted = admission.check_card(&lane, NOW, true, &number).is_ok();
                assert!(known || !admitted, "a card that is in no list");
            }
        }
    });
}

fn signed_keys() -> Vec<u8> {
    let key = |id, key| IssuerKey { id, key, not_before: 0, not_after: u64::from(u32::MAX) };
    let keys = [key(ISSUER_ID, issuer().public_key())];
    root().key_set(Version(3), NOW, Some(&GROUP_KEY), &keys).expect("a key set")
}

fn signed_denials() -> Vec<u8> {
    let members = [(MemberHandle(5), None), (MemberHandle(9), Some(NOW.after(Millis::from_seconds(7200))))];
    issuer().deny_list(Version(4), NOW, &members)
}

fn card_number() -> CardNumber {
    CardNumber::new(26, &[0x5a, 0xa5, 0x12, 0x40]).expect("26 bits")
}

fn signed_cards() -> Vec<u8> {
    let until = NOW.unix_seconds() + 86_400;
    let card = Card::new(&CARD_SALT, &card_number(), MemberHandle(77), until, Entitlements::SINGLE);
    issuer().card_list(Version(5), NOW, &[card])
}

pub fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    for (name, code) in [("device", device_code()), ("wallet", wallet_code())] {
        let bytes = digits::decode(code.as_bytes()).expect("digits");
        all.push(("token", format!("{name}-bytes"), [&[1], &bytes[..]].concat()));
        all.push(("token", format!("{name}-untrusted"), [&[3], &bytes[..]].concat()));
        all.push(("token", format!("{name}-text"), [&[0], code.as_bytes()].concat()));
    }
    all.push(("token", "link".to_owned(), b"\0https://example.com/01/09506000134352".to_vec()));
    for (target, bytes) in
        [("key_set", signed_keys()), ("deny_list", signed_denials()), ("card_list", signed_cards())]
    {
        all.push((target, "signed".to_owned(), [&[0], &bytes[..]].concat()));
        all.push((target, "to-sign".to_owned(), [&[1], &bytes[..bytes.len() - 64]].concat()));
    }
    all
}
