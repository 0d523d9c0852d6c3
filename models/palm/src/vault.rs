//! Enrolments at rest: AES-256-GCM with a key for each record, which is itself sealed by the deployment's
//! key.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use crate::code::{Template, WORDS};
use crate::gallery::{Consent, Enrolment, MemberId, SAMPLES_MAX};
use crate::key::{Key, Protected};

/// Format and algorithm of a record; codes of different algorithms cannot be compared.
const VERSION: u8 = 1;

const KEY_LEN: usize = 32;
const HEAD_LEN: usize = 16 + 8 + 4 + 8 + 8 + 1;
const SAMPLE_LEN: usize = 4 * WORDS * 8;

/// One member's enrolment as it is stored, in two parts. Keep them in two tables and leave the keys out of
/// backups: deleting the key then erases the record everywhere.
pub struct SealedRecord {
    /// The record's own key, sealed.
    pub key: Vec<u8>,
    /// The record, sealed with that key.
    pub body: Vec<u8>,
}

/// Why a record cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The operating system gave no random bytes.
    #[error("no random bytes")]
    Random,
    /// The record is of another version.
    #[error("palm record is of version {found}, version {VERSION} is needed")]
    Version {
        /// Its version byte.
        found: u8,
    },
    /// The record was changed, belongs to another member or store, or to another key.
    #[error("palm record of {bytes} bytes does not open with this key for this member and store")]
    Sealed {
        /// Its length.
        bytes: usize,
    },
    /// The record opens but does not hold an enrolment.
    #[error("palm record of {bytes} bytes holds no enrolment")]
    Content {
        /// Length of its content.
        bytes: usize,
    },
}

/// Seals and opens the enrolments of one store.
pub struct Vault {
    sealing: LessSafeKey,
    store: u32,
}

impl Vault {
    /// The vault of `store` (its group number) under `key`.
    #[must_use]
    pub fn new(key: &Key, store: u32) -> Self {
        Self { sealing: aead(&key.sealing), store }
    }

    /// Seals `enrolment` of `member` under a new record key.
    ///
    /// # Errors
    ///
    /// [`VaultError::Random`].
    pub fn seal(
        &self,
        member: MemberId,
        enrolment: &Enrolment,
        random: &dyn SecureRandom,
    ) -> Result<SealedRecord, VaultError> {
        let mut record_key = Zeroizing::new([0; KEY_LEN]);
        random.fill(&mut *record_key).map_err(|_| VaultError::Random)?;
        let key = self.wrap(&self.sealing, b'k', member, &*record_key, random)?;
        let body = self.wrap(&aead(&record_key), b'b', member, &write(enrolment), random)?;
        Ok(SealedRecord { key, body })
    }

    /// Opens the record of `member`.
    ///
    /// # Errors
    ///
    /// [`VaultError`] for anything but what [`Vault::seal`] wrote for this member, store and key.
    pub fn open(&self, member: MemberId, record: &SealedRecord) -> Result<Enrolment, VaultError> {
        let bytes = record.key.len();
        let record_key = self.unwrap(&self.sealing, b'k', member, &record.key)?;
        let record_key = record_key.as_slice().try_into().map_err(|_| VaultError::Content { bytes })?;
        let content = self.unwrap(&aead(record_key), b'b', member, &record.body)?;
        read(&content).ok_or(VaultError::Content { bytes: content.len() })
    }

    /// What a sealed part belongs to, so that none can be moved to another member or store.
    fn aad(&self, part: u8, member: MemberId) -> Aad<[u8; 14]> {
        let mut aad = [0; 14];
        aad[0] = VERSION;
        aad[1] = part;
        aad[2..6].copy_from_slice(&self.store.to_be_bytes());
        aad[6..].copy_from_slice(&member.0);
        Aad::from(aad)
    }

    fn wrap(
        &self,
        key: &LessSafeKey,
        part: u8,
        member: MemberId,
        content: &[u8],
        random: &dyn SecureRandom,
    ) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let mut sealed = vec![VERSION];
        sealed.extend(nonce);
        let mut body = Zeroizing::new(content.to_vec());
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.aad(part, member),
                &mut body,
            )
            .expect("a record is far below the 64 GiB that AES-GCM can seal at once");
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    fn unwrap(
        &self,
        key: &LessSafeKey,
        part: u8,
        member: MemberId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let fail = VaultError::Sealed { bytes: sealed.len() };
        let (version, rest) = sealed.split_first().ok_or(fail)?;
        if *version != VERSION {
            return Err(VaultError::Version { found: *version });
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(fail)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = key.open_in_place(nonce, self.aad(part, member), &mut body).map_err(|_| fail)?.len();
        body.truncate(len);
        Ok(body)
    }
}

fn aead(key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes keys of 32 bytes"))
}

fn write(enrolment: &Enrolment) -> Zeroizing<Vec<u8>> {
    let samples = &enrolment.samples;
    let consent = &enrolment.consent;
    let mut out = Zeroizing::new(Vec::with_capacity(HEAD_LEN + samples.len() * SAMPLE_LEN));
    out.extend(consent.id);
    out.extend(consent.given_ms.to_be_bytes());
    out.extend(consent.text_version.to_be_bytes());
    out.extend(consent.expires_ms.to_be_bytes());
    out.extend(enrolment.last_seen_ms.to_be_bytes());
    out.push(u8::try_from(samples.len()).expect("an enrolment has at most six samples"));
    for Protected(template) in samples {
        let words = template.planes.as_flattened().iter().chain(&template.mask);
        words.for_each(|word| out.extend(word.to_be_bytes()));
    }
    out
}

fn read(content: &[u8]) -> Option<Enrolment> {
    fn take<const N: usize>(content: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = content.split_first_chunk::<N>()?;
        *content = rest;
        Some(*head)
    }
    let mut rest = content;
    let consent = Consent {
        id: take(&mut rest)?,
        given_ms: u64::from_be_bytes(take(&mut rest)?),
        text_version: u32::from_be_bytes(take(&mut rest)?),
        expires_ms: u64::from_be_bytes(take(&mut rest)?),
    };
    let last_seen_ms = u64::from_be_bytes(take(&mut rest)?);
    let [count] = take(&mut rest)?;
    let count = usize::from(count);
    if !(1..=SAMPLES_MAX).contains(&count) || rest.len() != count * SAMPLE_LEN {
        return None;
    }
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let mut template = Template { planes: [[0; WORDS]; 3], mask: [0; WORDS] };
        for word in template.planes.as_flattened_mut().iter_mut().chain(&mut template.mask) {
            *word = u64::from_be_bytes(take(&mut rest)?);
        }
        samples.push(Protected(template));
    }
    Some(Enrolment { consent, last_seen_ms, samples })
}
