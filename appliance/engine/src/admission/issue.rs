//! The other side of the gate: what the store's issuer and the member's phone do. The gate never needs it;
//! the issuing service, the sample app and the store simulator do. Deterministic: the same seeds and times
//! give the same codes.

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::digits;
use super::pass::{
    CERTIFICATE_DOMAIN, DENY_DOMAIN, GroupKey, NONCE_BITS, TYPE_DENY, TYPE_DEVICE, TYPE_WALLET, WALLET_STEP,
    shown,
};
use crate::time::Instant;
use crate::units::MemberHandle;

/// Step of profile D's time, seconds: an app shows a new code this often.
pub const SHOW_STEP: u64 = 10;

/// The store group's issuing key.
pub struct Issuer {
    key_id: u8,
    store_group: u32,
    pair: Ed25519KeyPair,
}

/// What an issuer vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The member's pseudonym, new with each certificate.
    pub member: MemberHandle,
    /// When the certificate begins; whole seconds are kept.
    pub issued_at: Instant,
    /// How long it lasts, in units of ten minutes, at least 1.
    pub validity: u16,
    /// Largest party that may share the session: 1 to 15.
    pub party: u8,
    /// Ask the turnstile for its wide lane.
    pub wide: bool,
    /// Old enough for goods with an age limit. Not honoured in profile W.
    pub age_proof: bool,
    /// Staff. Not honoured in profile W.
    pub staff: bool,
    /// A guest of a member.
    pub guest: bool,
}

/// A certificate of profile D: 117 bytes, of which the last 64 are the issuer's signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate(pub [u8; 117]);

/// A member's phone: the key that stays in its hardware, and the certificate.
pub struct Device {
    key: SigningKey,
    certificate: Certificate,
}

/// A pass of profile W: its static 86 bytes and the secret of its codes.
pub struct WalletPass {
    certificate: Vec<u8>,
    member: MemberHandle,
    serial: u16,
    group_key: GroupKey,
}

impl Terms {
    /// One person for a day, nothing special.
    #[must_use]
    pub fn single(member: MemberHandle, issued_at: Instant) -> Self {
        Self {
            member,
            issued_at,
            validity: 144,
            party: 1,
            wide: false,
            age_proof: false,
            staff: false,
            guest: false,
        }
    }

    fn header(&self, kind: u8, issuer: &Issuer) -> Vec<u8> {
        let flags = u8::from(self.wide)
            | u8::from(self.age_proof) << 1
            | u8::from(self.staff) << 2
            | u8::from(self.guest) << 3;
        let mut bytes = vec![kind, issuer.key_id];
        bytes.extend(&issuer.store_group.to_be_bytes()[1..]);
        bytes.extend(self.member.0.to_be_bytes());
        bytes.extend((self.issued_at.unix_seconds() as u32).to_be_bytes());
        bytes.extend(self.validity.to_be_bytes());
        bytes.push(flags << 4 | self.party.clamp(1, 15));
        bytes
    }
}

impl Issuer {
    /// The issuer of a store group (24 bits) with the Ed25519 key made from `seed`.
    #[must_use]
    pub fn new(key_id: u8, store_group: u32, seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("an Ed25519 seed is any 32 bytes");
        Self { key_id, store_group, pair }
    }

    /// The key that gates hold.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        key
    }

    /// The id under which gates hold it.
    #[must_use]
    pub fn key_id(&self) -> u8 {
        self.key_id
    }

    /// Vouches for a device's public key (P-256, compressed).
    #[must_use]
    pub fn certify(&self, terms: &Terms, device_key: &[u8; 33]) -> Certificate {
        let mut bytes = terms.header(TYPE_DEVICE, self);
        bytes.extend(device_key);
        self.sign(CERTIFICATE_DOMAIN, &mut bytes);
        let mut certificate = [0; 117];
        certificate.copy_from_slice(&bytes);
        Certificate(certificate)
    }

    /// Makes a phone with a key from `seed`, and certifies it.
    #[must_use]
    pub fn device(&self, terms: &Terms, seed: &[u8; 32]) -> Device {
        let key = device_key(seed);
        let point = key.verifying_key().to_sec1_point(true);
        let mut public = [0; 33];
        public.copy_from_slice(point.as_bytes());
        Device { certificate: self.certify(terms, &public), key }
    }

    /// Makes a wallet pass.
    #[must_use]
    pub fn wallet_pass(&self, terms: &Terms, serial: u16, group_key: &GroupKey) -> WalletPass {
        let mut certificate = terms.header(TYPE_WALLET, self);
        certificate.extend(serial.to_be_bytes());
        self.sign(CERTIFICATE_DOMAIN, &mut certificate);
        WalletPass { certificate, member: terms.member, serial, group_key: group_key.clone() }
    }

    /// Signs the list of members that gates must refuse; a gate takes it when `sequence` is above its last
    /// one.
    #[must_use]
    pub fn deny_list(&self, sequence: u32, members: &[MemberHandle]) -> Vec<u8> {
        let mut bytes = vec![TYPE_DENY, self.key_id];
        bytes.extend(&self.store_group.to_be_bytes()[1..]);
        bytes.extend(sequence.to_be_bytes());
        for member in members {
            bytes.extend(member.0.to_be_bytes());
        }
        self.sign(DENY_DOMAIN, &mut bytes);
        bytes
    }

    fn sign(&self, domain: &[u8], bytes: &mut Vec<u8>) {
        let signature = self.pair.sign(&[domain, bytes].concat());
        bytes.extend(signature.as_ref());
    }
}

impl Device {
    /// The digits that the phone shows at `at`, for this member of the party (0 to 15, 0 for the member).
    #[must_use]
    pub fn show(&self, at: Instant, party_member: u8) -> String {
        let shown_at = at.unix_seconds() / SHOW_STEP * SHOW_STEP;
        let into_step = at.0 - shown_at * 1000;
        // The nonce tells apart the codes of one step; its steps of 2.4 ms are finer than any screen.
        let nonce = (into_step << NONCE_BITS) / (SHOW_STEP * 1000);
        let nonce = u16::from(party_member & 0x0f) << NONCE_BITS | nonce as u16;
        let mut moment = (shown_at as u32).to_be_bytes().to_vec();
        moment.extend(nonce.to_be_bytes());
        let signature: p256::ecdsa::Signature = self.key.sign(&shown(&self.certificate.0, &moment));
        digits::encode(&[&self.certificate.0[..], &moment, &signature.to_bytes()].concat())
    }
}

impl WalletPass {
    /// The digits that the pass shows at `at`.
    #[must_use]
    pub fn show(&self, at: Instant) -> String {
        let seconds = at.unix_seconds();
        let code = self.group_key.code(self.member, self.serial, seconds / WALLET_STEP);
        digits::encode(&[&self.certificate[..], &(seconds as u32).to_be_bytes(), &code].concat())
    }
}

/// A P-256 key from a seed: the first of SHA-256(seed | 0), SHA-256(seed | 1), … that is a scalar of the
/// curve, which the first is but for one seed in 2^32.
fn device_key(seed: &[u8; 32]) -> SigningKey {
    (0..=u8::MAX)
        .find_map(|round| {
            let hash = digest::digest(&digest::SHA256, &[&seed[..], &[round]].concat());
            SigningKey::from_slice(hash.as_ref()).ok()
        })
        .expect("256 hashes in a row are not all above the order of the curve")
}
