//! The other side of the gate: what the store's issuer and the member's phone do. The gate never needs it;
//! the issuing service, the sample app and the store simulator do. Deterministic: the same seeds and times
//! give the same codes.

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::cards::{self, Card};
use super::keys::{self, IssuerKey};
use super::list::{Kind, ROOT_KEY_ID, Version, head};
use super::pass::{
    CERTIFICATE_DOMAIN, Entitlements, GroupKey, NONCE_BITS, PassKey, TYPE_DEVICE, TYPE_WALLET, WALLET_STEP,
    shown,
};
use super::{deny, digits};
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

/// The operator's root: it signs key sets, and stays offline.
pub struct Root {
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

/// The certificate of a wallet pass: 86 bytes, of which the last 64 are the issuer's signature.
#[derive(Clone, PartialEq, Eq)]
pub struct WalletCertificate(pub [u8; 86]);

/// A member's phone: the key that stays in its hardware, and the certificate.
pub struct Device {
    key: SigningKey,
    certificate: Certificate,
}

/// A pass of profile W: its certificate and the secret of its codes.
pub struct WalletPass {
    certificate: WalletCertificate,
    serial: u16,
    key: PassKey,
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
        let Self { party, wide, age_proof, staff, guest, .. } = *self;
        let mut bytes = vec![kind, issuer.key_id];
        bytes.extend(&issuer.store_group.to_be_bytes()[1..]);
        bytes.extend(self.member.0.to_be_bytes());
        bytes.extend((self.issued_at.unix_seconds() as u32).to_be_bytes());
        bytes.extend(self.validity.to_be_bytes());
        bytes.push(Entitlements { party, wide, age_proof, staff, guest }.byte());
        bytes
    }
}

impl Root {
    /// The root of a store group (24 bits) with the Ed25519 key made from `seed`.
    #[must_use]
    pub fn new(store_group: u32, seed: &[u8; 32]) -> Self {
        Self { store_group, pair: pair(seed) }
    }

    /// The key that gates are provisioned with.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        public(&self.pair)
    }

    /// Signs the issuers' keys; a gate takes the set when `version` is above its last one. `group_key`: the
    /// one that gates should hold, of which the set tells a check value only.
    ///
    /// # Errors
    /// What is wrong with the keys.
    pub fn key_set(
        &self,
        version: Version,
        made_at: Instant,
        group_key: Option<&GroupKey>,
        keys: &[IssuerKey],
    ) -> Result<Vec<u8>, &'static str> {
        if keys.len() > keys::KEYS_MAX {
            return Err("more than four keys");
        }
        keys::check_keys(keys)?;
        let mut bytes = head(Kind::Keys, ROOT_KEY_ID, self.store_group, version, made_at);
        keys::encode_keys(&mut bytes, group_key, keys);
        sign(&self.pair, Kind::Keys.domain(), &mut bytes);
        Ok(bytes)
    }
}

impl Issuer {
    /// The issuer of a store group (24 bits) with the Ed25519 key made from `seed`.
    #[must_use]
    pub fn new(key_id: u8, store_group: u32, seed: &[u8; 32]) -> Self {
        Self { key_id, store_group, pair: pair(seed) }
    }

    /// The key that gates hold.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        public(&self.pair)
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
        Device::new(seed, self.certify(terms, &device_public_key(seed)))
    }

    /// Vouches for a wallet pass.
    #[must_use]
    pub fn certify_wallet(&self, terms: &Terms, serial: u16) -> WalletCertificate {
        let mut bytes = terms.header(TYPE_WALLET, self);
        bytes.extend(serial.to_be_bytes());
        self.sign(CERTIFICATE_DOMAIN, &mut bytes);
        let mut certificate = [0; 86];
        certificate.copy_from_slice(&bytes);
        WalletCertificate(certificate)
    }

    /// Makes a wallet pass.
    #[must_use]
    pub fn wallet_pass(&self, terms: &Terms, serial: u16, group_key: &GroupKey) -> WalletPass {
        WalletPass::new(self.certify_wallet(terms, serial), group_key.pass_key(terms.member, serial))
    }

    /// Signs the list of members that gates must refuse, each until its certificate is over anyway (`None`: for
    /// ever); a gate takes it when `version` is above its last one.
    #[must_use]
    pub fn deny_list(
        &self,
        version: Version,
        made_at: Instant,
        members: &[(MemberHandle, Option<Instant>)],
    ) -> Vec<u8> {
        let mut bytes = head(Kind::Deny, self.key_id, self.store_group, version, made_at);
        deny::encode_entries(&mut bytes, made_at, members);
        self.sign(Kind::Deny.domain(), &mut bytes);
        bytes
    }

    /// Signs the cards of the fall-back readers.
    #[must_use]
    pub fn card_list(&self, version: Version, made_at: Instant, cards: &[Card]) -> Vec<u8> {
        let mut bytes = head(Kind::Cards, self.key_id, self.store_group, version, made_at);
        cards::encode_entries(&mut bytes, cards);
        self.sign(Kind::Cards.domain(), &mut bytes);
        bytes
    }

    pub(super) fn sign(&self, domain: &[u8], bytes: &mut Vec<u8>) {
        sign(&self.pair, domain, bytes);
    }
}

impl Device {
    /// The phone with the key from `seed` that this certificate was made for.
    #[must_use]
    pub fn new(seed: &[u8; 32], certificate: Certificate) -> Self {
        Self { key: device_key(seed), certificate }
    }

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
    /// A pass from its parts.
    #[must_use]
    pub fn new(certificate: WalletCertificate, key: PassKey) -> Self {
        let serial = u16::from_be_bytes([certificate.0[20], certificate.0[21]]);
        Self { certificate, serial, key }
    }

    /// The digits that the pass shows at `at`.
    #[must_use]
    pub fn show(&self, at: Instant) -> String {
        let seconds = at.unix_seconds();
        let code = self.key.code(self.serial, seconds / WALLET_STEP);
        digits::encode(&[&self.certificate.0[..], &(seconds as u32).to_be_bytes(), &code].concat())
    }
}

/// The public key (P-256, compressed) of the phone with this seed.
#[must_use]
pub fn device_public_key(seed: &[u8; 32]) -> [u8; 33] {
    let mut public = [0; 33];
    public.copy_from_slice(device_key(seed).verifying_key().to_sec1_point(true).as_bytes());
    public
}

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("an Ed25519 seed is any 32 bytes")
}

fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(pair.public_key().as_ref());
    key
}

fn sign(pair: &Ed25519KeyPair, domain: &[u8], bytes: &mut Vec<u8>) {
    let signature = pair.sign(&[domain, bytes].concat());
    bytes.extend(signature.as_ref());
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
