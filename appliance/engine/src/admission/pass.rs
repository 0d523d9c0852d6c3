//! The bytes of an entry code, and whether its signatures fit. All integers are big-endian; offsets are those
//! of the table in the design ("Entry code").

use p256::elliptic_curve::sec1::ToSec1Point;
use ring::{digest, hkdf, hmac, signature};

use super::digits::{self, BadDigits};
use super::keys::IssuerKey;
use crate::message::DenyReason;
use crate::units::MemberHandle;

/// Type byte of profile D: the member's own app signs with a key in the phone.
pub(super) const TYPE_DEVICE: u8 = 0x11;
/// Type byte of profile W: wallet pass, printed guest code, old phone.
pub(super) const TYPE_WALLET: u8 = 0x12;
/// Whole length of profile D.
pub(super) const DEVICE_LENGTH: usize = 187;
/// Whole length of profile W.
pub(super) const WALLET_LENGTH: usize = 98;
/// Header that both profiles begin with.
pub(super) const HEADER_LENGTH: usize = 20;
/// End of what the issuer signs in profile D.
pub(super) const DEVICE_SIGNED: usize = 53;
/// End of what the issuer signs in profile W.
pub(super) const WALLET_SIGNED: usize = 22;
/// Both signature schemes have signatures of this length.
pub(super) const SIGNATURE_LENGTH: usize = 64;
/// End of the certificate of profile D, before the moment's part.
pub(super) const DEVICE_CERTIFICATE: usize = DEVICE_SIGNED + SIGNATURE_LENGTH;
/// End of the certificate of profile W.
pub(super) const WALLET_CERTIFICATE: usize = WALLET_SIGNED + SIGNATURE_LENGTH;
/// Separates certificates from other things that an issuer key signs.
pub(super) const CERTIFICATE_DOMAIN: &[u8] = b"GE1-CERT\0";
/// Separates shown codes from other things that a device key signs.
pub(super) const SHOW_DOMAIN: &[u8] = b"GE1-SHOW\0";
/// Low bits of the nonce in profile D; the four above them are the party member.
pub const NONCE_BITS: u32 = 12;
/// Step of profile W's code, seconds.
pub(super) const WALLET_STEP: u64 = 30;
/// Length of profile W's code.
pub(super) const CODE_LENGTH: usize = 8;

/// The stores' common secret behind profile W, sealed on the gate.
#[derive(Clone)]
pub struct GroupKey(pub [u8; 32]);

/// The secret of one wallet pass: what the wallet holds.
#[derive(Clone)]
pub struct PassKey(pub [u8; 32]);

/// What a pass or a card entitles to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entitlements {
    /// Largest party, 1 to 15.
    pub party: u8,
    /// The turnstile's wide lane.
    pub wide: bool,
    /// The issuer has seen a proof of age. Counts in profile D only.
    pub age_proof: bool,
    /// Staff. Does not count in profile W.
    pub staff: bool,
    /// A guest of a member: opens for a limited number of visits.
    pub guest: bool,
}

/// What both profiles begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which issuer key signed the certificate.
    pub key_id: u8,
    /// For which stores.
    pub store_group: u32,
    /// The member's pseudonym.
    pub member: MemberHandle,
    /// Unix seconds.
    pub issued_at: u64,
    /// Seconds.
    pub validity: u64,
    /// As the issuer wrote them.
    pub entitlements: Entitlements,
}

/// An entry code as it was shown; its signatures have not been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    bytes: Vec<u8>,
    /// The certificate's head.
    pub header: Header,
    /// The part that changes.
    pub moment: Moment,
}

/// The part that changes from show to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Profile D.
    Device {
        /// Unix seconds, a multiple of 10.
        shown_at: u64,
        /// Which of the party (4 bits), and a number that tells apart the codes of a step (12 bits).
        nonce: u16,
    },
    /// Profile W.
    Wallet {
        /// Which of the member's passes.
        serial: u16,
        /// Unix seconds.
        shown_at: u64,
    },
}

impl Entitlements {
    /// One person, nothing special.
    pub const SINGLE: Self = Self { party: 1, wide: false, age_proof: false, staff: false, guest: false };

    /// From their byte; `None` for a party of nobody.
    #[must_use]
    pub const fn parse(byte: u8) -> Option<Self> {
        let entitlements = Self {
            party: byte & 0x0f,
            wide: byte & 0x10 != 0,
            age_proof: byte & 0x20 != 0,
            staff: byte & 0x40 != 0,
            guest: byte & 0x80 != 0,
        };
        if entitlements.party > 0 { Some(entitlements) } else { None }
    }

    /// As a byte: party in the low four bits (1 to 15), flags in the high ones.
    #[must_use]
    pub fn byte(self) -> u8 {
        let flags = u8::from(self.wide)
            | u8::from(self.age_proof) << 1
            | u8::from(self.staff) << 2
            | u8::from(self.guest) << 3;
        flags << 4 | self.party.clamp(1, 15)
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            key_id: *bytes.get(1)?,
            store_group: number(bytes.get(2..5)?) as u32,
            member: MemberHandle(number(bytes.get(5..13)?)),
            issued_at: number(bytes.get(13..17)?),
            validity: number(bytes.get(17..19)?) * 600,
            entitlements: Entitlements::parse(*bytes.get(HEADER_LENGTH - 1)?)?,
        })
    }
}

impl Pass {
    /// Reads what a scanner saw.
    ///
    /// # Errors
    /// [`DenyReason::NotAnEntryCode`] or [`DenyReason::Malformed`].
    pub fn parse(text: &[u8]) -> Result<Self, DenyReason> {
        let bytes = match digits::decode(text) {
            Ok(bytes) => bytes,
            Err(BadDigits::NotADigit(_)) => return Err(DenyReason::NotAnEntryCode),
            Err(BadDigits::Length(_) | BadDigits::Range(_)) => return Err(why_not(text)),
        };
        let moment = match (bytes.first(), bytes.len()) {
            (Some(&TYPE_DEVICE), DEVICE_LENGTH) => {
                Moment::Device { shown_at: number(&bytes[117..121]), nonce: number(&bytes[121..123]) as u16 }
            }
            (Some(&TYPE_WALLET), WALLET_LENGTH) => {
                Moment::Wallet { serial: number(&bytes[20..22]) as u16, shown_at: number(&bytes[86..90]) }
            }
            _ => return Err(why_not(text)),
        };
        let header = Header::parse(&bytes).ok_or(DenyReason::Malformed)?;
        Ok(Self { bytes, header, moment })
    }

    /// Whether this issuer key vouches for the pass.
    ///
    /// # Errors
    /// [`DenyReason::BadSignature`].
    pub fn verify_certificate(&self, issuer: &IssuerKey) -> Result<(), DenyReason> {
        let (signed, end) = match self.moment {
            Moment::Device { .. } => (DEVICE_SIGNED, DEVICE_CERTIFICATE),
            Moment::Wallet { .. } => (WALLET_SIGNED, WALLET_CERTIFICATE),
        };
        let message = [CERTIFICATE_DOMAIN, &self.bytes[..signed]].concat();
        issuer.verify(&message, &self.bytes[signed..end])
    }

    /// Whether the phone, or the wallet's secret, made this code for this moment.
    ///
    /// # Errors
    /// [`DenyReason::BadSignature`], or [`DenyReason::UnknownIssuer`] for a wallet pass without a group key.
    pub fn verify_moment(&self, group_key: Option<&GroupKey>) -> Result<(), DenyReason> {
        match self.moment {
            Moment::Device { .. } => {
                let key = p256::PublicKey::from_sec1_bytes(&self.bytes[20..DEVICE_SIGNED])
                    .map_err(|_| DenyReason::BadSignature)?
                    .to_sec1_point(false);
                let message = shown(&self.bytes[..DEVICE_CERTIFICATE], &self.bytes[DEVICE_CERTIFICATE..123]);
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.as_bytes())
                    .verify(&message, &self.bytes[123..])
                    .map_err(|_| DenyReason::BadSignature)
            }
            Moment::Wallet { serial, shown_at } => {
                let group_key = group_key.ok_or(DenyReason::UnknownIssuer)?;
                let want =
                    group_key.pass_key(self.header.member, serial).code(serial, shown_at / WALLET_STEP);
                let got = &self.bytes[WALLET_LENGTH - CODE_LENGTH..];
                // All bytes are compared whatever they are, so that time tells nothing.
                let difference = want.iter().zip(got).fold(0, |sum, (want, got)| sum | (want ^ got));
                if difference == 0 { Ok(()) } else { Err(DenyReason::BadSignature) }
            }
        }
    }
}

impl GroupKey {
    /// The secret of one pass: HKDF-SHA-256(salt none, group key, handle | serial).
    ///
    /// # Panics
    /// Never: 32 bytes are within what HKDF-SHA-256 gives.
    #[must_use]
    pub fn pass_key(&self, member: MemberHandle, serial: u16) -> PassKey {
        let (member, serial) = (member.0.to_be_bytes(), serial.to_be_bytes());
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.0);
        let mut key = [0; 32];
        extracted
            .expand(&[&member, &serial], hkdf::HKDF_SHA256)
            .and_then(|expanded| expanded.fill(&mut key))
            .expect("32 bytes are within what HKDF-SHA-256 gives");
        PassKey(key)
    }
}

impl PassKey {
    /// Profile W's code: HMAC-SHA-256 of serial (2 bytes) and step (8 bytes), cut to 8 bytes.
    pub(super) fn code(&self, serial: u16, step: u64) -> [u8; CODE_LENGTH] {
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &self.0),
            &[&serial.to_be_bytes()[..], &step.to_be_bytes()].concat(),
        );
        let mut code = [0; CODE_LENGTH];
        code.copy_from_slice(&tag.as_ref()[..CODE_LENGTH]);
        code
    }
}

/// Whether these bytes are a device's public key: a compressed point of P-256.
#[must_use]
pub fn is_device_key(bytes: &[u8; 33]) -> bool {
    p256::PublicKey::from_sec1_bytes(bytes).is_ok()
}

/// What the device signs: the certificate by its hash, then the moment.
pub(super) fn shown(certificate: &[u8], moment: &[u8]) -> Vec<u8> {
    let hash = digest::digest(&digest::SHA256, certificate);
    [SHOW_DOMAIN, hash.as_ref(), moment].concat()
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Digits of which no pass can be made: garbled when they begin like one, else some other code (a GTIN is
/// digits too).
fn why_not(text: &[u8]) -> DenyReason {
    let first = text.get(..17).and_then(|group| digits::decode(group).ok());
    match first.as_deref() {
        Some([TYPE_DEVICE | TYPE_WALLET, ..]) => DenyReason::Malformed,
        _ if [455, 238].contains(&text.len()) => DenyReason::Malformed,
        _ => DenyReason::NotAnEntryCode,
    }
}
