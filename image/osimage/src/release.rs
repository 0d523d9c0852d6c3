//! The signature of an image: over the SHA-256 of its block map, which has the hash of every mapped block.
//!
//! It lies beside the image in `IMAGE.sig`, a line `stile-image 1 <key id> <signature>` (see [`crate::key`],
//! purpose `STILE-IMAGE-1`), and holds for the image packed in any way.

use sha2::{Digest, Sha256};

use crate::key::{KeyId, LineError, PublicKey, SecretKey, SignatureLine};

const WORD: &str = "stile-image";
const PURPOSE: &str = "STILE-IMAGE-1";

/// Longest signature file that is read, in bytes.
pub const LENGTH_MAX: u64 = 1024;

/// Why an image is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The file is no signature.
    #[error("signature is malformed: {0}")]
    Malformed(LineError),
    /// Nobody who is trusted signed it.
    #[error("image is signed by key {key}, which is not one of those given")]
    UnknownKey {
        /// Which.
        key: KeyId,
    },
    /// The block map is not the one that was signed.
    #[error("signature of key {key} is not for this block map")]
    Mismatch {
        /// Which key.
        key: KeyId,
    },
}

/// What identifies an image: the SHA-256 of the text of its block map.
#[must_use]
pub fn identity(bmap: &str) -> [u8; 32] {
    Sha256::digest(bmap).into()
}

/// The text of `IMAGE.sig` for an image of this [`identity`].
#[must_use]
pub fn sign(image: &[u8; 32], key: &SecretKey) -> String {
    let line = SignatureLine { key: key.public().id(), signature: key.sign(PURPOSE, image) };
    format!("{}\n", line.to_text(WORD))
}

/// Who of `keys` signed the image of this [`identity`], by the text of its `IMAGE.sig`.
///
/// # Errors
///
/// [`SignatureError`].
pub fn check(signature: &str, image: &[u8; 32], keys: &[PublicKey]) -> Result<KeyId, SignatureError> {
    let line = signature.strip_suffix('\n').unwrap_or(signature);
    let line = SignatureLine::parse(line, WORD).map_err(SignatureError::Malformed)?;
    let mut known = keys.iter().filter(|key| key.id() == line.key).peekable();
    if known.peek().is_none() {
        return Err(SignatureError::UnknownKey { key: line.key });
    }
    if known.any(|key| key.verifies(PURPOSE, image, &line.signature)) {
        Ok(line.key)
    } else {
        Err(SignatureError::Mismatch { key: line.key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signed_image_and_a_known_key_count() {
        let (ours, theirs) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let image = identity("<bmap/>");
        let text = sign(&image, &ours);
        let id = ours.public().id();
        assert_eq!(check(&text, &image, &[theirs.public(), ours.public()]), Ok(id));
        assert_eq!(
            check(&text, &identity("<bmap />"), &[ours.public()]),
            Err(SignatureError::Mismatch { key: id })
        );
        assert_eq!(check(&text, &image, &[theirs.public()]), Err(SignatureError::UnknownKey { key: id }));
        let error = check("-----BEGIN PGP SIGNATURE-----\n", &image, &[ours.public()]).unwrap_err();
        assert_eq!(error.to_string(), "signature is malformed: no signature at the start");
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8_lossy(&changed);
            assert!(check(&changed, &image, &[ours.public()]).is_err(), "byte {at}");
        }
    }
}
