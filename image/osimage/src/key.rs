//! Keys that sign images and provisioning files: Ed25519 (RFC 8032), as one line of Base64.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::hex;

/// Bytes of a secret key's seed and of a public key.
const KEY_LEN: usize = 32;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// Longest file of keys that is read, in bytes: a thousand keys.
const FILE_MAX: u64 = 64 << 10;

/// A key that signs. Deliberately without `Debug`.
pub struct SecretKey {
    seed: Zeroizing<[u8; KEY_LEN]>,
    pair: Ed25519KeyPair,
}

/// A key that verifies.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

/// The first eight hexadecimal digits of the SHA-256 of a public key: enough to tell an operator's keys
/// apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 4]);

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("read key {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("write key {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is no key.
    #[error("line {line} of {path} is no Ed25519 key: 44 characters of Base64 are expected")]
    Malformed {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// A file of public keys without a key, or of a secret key with none or several.
    #[error("{path} has {found} keys, {expected} expected")]
    Count {
        /// The file.
        path: String,
        /// How many it has.
        found: usize,
        /// How many it must have.
        expected: &'static str,
    },
    /// The machine gives no random numbers.
    #[error("get random numbers")]
    Random,
}

impl SecretKey {
    /// A new key from the random numbers of the operating system.
    ///
    /// # Errors
    ///
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new().fill(&mut seed[..]).map_err(|_| KeyError::Random)?;
        Self::from_seed(seed).ok_or(KeyError::Random)
    }

    /// The key in the file at `path`.
    ///
    /// # Errors
    ///
    /// [`KeyError`] naming the file, never what is in it.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let name = path.display().to_string();
        let text = Zeroizing::new(read_text(path)?);
        let mut lines = key_lines(&text);
        let count = key_lines(&text).count();
        let (Some((line, key)), 1) = (lines.next(), count) else {
            return Err(KeyError::Count { path: name, found: count, expected: "one" });
        };
        decode(key)
            .and_then(|seed| Self::from_seed(Zeroizing::new(seed)))
            .ok_or(KeyError::Malformed { path: name, line })
    }

    /// Writes the key to a new file that only its owner can read.
    ///
    /// # Errors
    ///
    /// [`KeyError::Write`], also when the file exists.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(&self.seed[..])));
        write_new(path, text.as_bytes(), 0o600)
    }

    /// The key that verifies what this one signs.
    ///
    /// # Panics
    ///
    /// Never: a public key of Ed25519 has 32 bytes.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.pair.public_key().as_ref().try_into().expect("32 bytes"))
    }

    /// Signs `message` in the name of `purpose`, so that a signature made for one thing says nothing of
    /// another.
    ///
    /// # Panics
    ///
    /// Never: a signature of Ed25519 has 64 bytes.
    #[must_use]
    pub fn sign(&self, purpose: &str, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.pair.sign(&signed_bytes(purpose, message)).as_ref().try_into().expect("64 bytes")
    }

    fn from_seed(seed: Zeroizing<[u8; KEY_LEN]>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[..]).ok()?;
        Some(Self { seed, pair })
    }
}

impl PublicKey {
    /// Its short name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Sha256::digest(self.0);
        KeyId(std::array::from_fn(|i| digest[i]))
    }

    /// Whether `signature` was made for `purpose` over `message` by this key's secret half.
    #[must_use]
    pub fn verifies(&self, purpose: &str, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(&signed_bytes(purpose, message), signature).is_ok()
    }

    /// The keys of a file, one a line; empty lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    ///
    /// [`KeyError`] naming the file and the line; also when there is no key.
    pub fn read_all(path: &Path) -> Result<Vec<Self>, KeyError> {
        Self::parse_all(&read_text(path)?, &path.display().to_string())
    }

    /// As [`PublicKey::read_all`] from `text`; `path` is where it came from, for messages.
    ///
    /// # Errors
    ///
    /// As [`PublicKey::read_all`].
    pub fn parse_all(text: &str, path: &str) -> Result<Vec<Self>, KeyError> {
        let keys = key_lines(text).map(|(line, key)| {
            decode(key).map(Self).ok_or_else(|| KeyError::Malformed { path: path.to_owned(), line })
        });
        let keys: Vec<Self> = keys.collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(KeyError::Count { path: path.to_owned(), found: 0, expected: "one or more" }),
            _ => Ok(keys),
        }
    }

    /// Writes the key to a new file.
    ///
    /// # Errors
    ///
    /// [`KeyError::Write`], also when the file exists.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        write_new(path, format!("{self}\n").as_bytes(), 0o644)
    }
}

/// Base64.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl KeyId {
    /// Reads eight lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        let number = u32::from_str_radix(text, 16).ok().filter(|_| lower && text.len() == 8)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A signature as one line of text: `<purpose> 1 <key id> <Base64>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// Who is said to have signed.
    pub key: KeyId,
    /// The signature.
    pub signature: [u8; SIGNATURE_LEN],
}

impl SignatureLine {
    /// The line, without a line end; `word` says what is signed.
    #[must_use]
    pub fn to_text(&self, word: &str) -> String {
        format!("{word} 1 {} {}", self.key, STANDARD.encode(self.signature))
    }

    /// Reads a line that starts with `word`.
    ///
    /// # Errors
    ///
    /// [`LineError`].
    pub fn parse(line: &str, word: &str) -> Result<Self, LineError> {
        let mut fields = line.split(' ');
        if fields.next() != Some(word) {
            return Err(LineError::Word);
        }
        match fields.next() {
            Some("1") => {}
            version => {
                return Err(LineError::Version { found: version.unwrap_or("").chars().take(8).collect() });
            }
        }
        let key = fields.next().and_then(KeyId::parse).ok_or(LineError::Key)?;
        let signature = fields.next().and_then(|text| STANDARD.decode(text).ok());
        let signature = signature.and_then(|bytes| bytes.try_into().ok()).ok_or(LineError::Signature)?;
        match fields.next() {
            None => Ok(Self { key, signature }),
            Some(_) => Err(LineError::Signature),
        }
    }
}

/// Why a line is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is something else.
    #[error("no signature at the start")]
    Word,
    /// It is of another version of the format.
    #[error("version {found:?} of the format, this tool knows 1")]
    Version {
        /// Which.
        found: String,
    },
    /// No key id.
    #[error("no key id of eight hexadecimal digits")]
    Key,
    /// The signature is no Base64 of 64 bytes, or something comes after it.
    #[error("no signature of 64 bytes in Base64")]
    Signature,
}

fn signed_bytes(purpose: &str, message: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), b"\0", message].concat()
}

fn key_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn decode(text: &str) -> Option<[u8; KEY_LEN]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

fn read_text(path: &Path) -> Result<String, KeyError> {
    let name = path.display().to_string();
    let read = || {
        let length = fs::metadata(path)?.len();
        if length > FILE_MAX {
            return Err(io::Error::other(format!(
                "it has {length} bytes, a file of keys at most {FILE_MAX}"
            )));
        }
        fs::read_to_string(path)
    };
    read().map_err(|source| KeyError::Read { path: name, source })
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| KeyError::Write { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_seed_has_its_known_public_key() {
        // RFC 8032, section 7.1, test 1.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rfc.key");
        fs::write(&path, "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n").unwrap();
        let public = SecretKey::read(&path).unwrap().public();
        assert_eq!(public.to_string(), "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
    }

    #[test]
    fn a_key_comes_back_from_its_file_and_signs_for_one_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = (folder.path().join("a.key"), folder.path().join("a.pub"));
        let key = SecretKey::generate().unwrap();
        key.write_new(&secret).unwrap();
        key.public().write_new(&public).unwrap();
        let again = SecretKey::read(&secret).unwrap();
        let signature = again.sign("A", b"message");
        let keys = PublicKey::read_all(&public).unwrap();
        assert_eq!(keys, [key.public()]);
        assert!(keys[0].verifies("A", b"message", &signature));
        assert!(!keys[0].verifies("B", b"message", &signature));
        assert!(!keys[0].verifies("A", b"messagE", &signature));
        assert!(!SecretKey::generate().unwrap().public().verifies("A", b"message", &signature));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(key.write_new(&secret), Err(KeyError::Write { .. })), "a key is never overwritten");
    }

    #[test]
    fn a_file_of_keys_is_read_or_its_fault_is_named() {
        let key = SecretKey::generate().unwrap().public();
        let text = format!("# the office\n\n{key}\n  {key}  \n");
        assert_eq!(PublicKey::parse_all(&text, "x").unwrap().len(), 2);
        let error = PublicKey::parse_all(&format!("{key}\nnonsense\n"), "k.pub").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2 of k.pub is no Ed25519 key: 44 characters of Base64 are expected"
        );
        let error = PublicKey::parse_all("# nothing\n", "k.pub").unwrap_err();
        assert_eq!(error.to_string(), "k.pub has 0 keys, one or more expected");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.key");
        fs::write(&path, format!("{key}\n{key}\n")).unwrap();
        assert!(matches!(SecretKey::read(&path), Err(KeyError::Count { found: 2, .. })));
    }

    #[test]
    fn a_signature_line_is_read_back_or_refused() {
        let key = SecretKey::generate().unwrap();
        let line = SignatureLine { key: key.public().id(), signature: key.sign("X", b"") };
        let text = line.to_text("stile-image");
        assert_eq!(SignatureLine::parse(&text, "stile-image"), Ok(line));
        assert_eq!(SignatureLine::parse(&text, "stile-provision"), Err(LineError::Word));
        let newer = text.replacen(" 1 ", " 2 ", 1);
        assert_eq!(
            SignatureLine::parse(&newer, "stile-image"),
            Err(LineError::Version { found: "2".to_owned() })
        );
        for bad in [format!("{text} x"), text[..text.len() - 4].to_owned()] {
            assert_eq!(SignatureLine::parse(&bad, "stile-image"), Err(LineError::Signature));
        }
        assert_eq!(SignatureLine::parse("stile-image 1 ABCDEF01 x", "stile-image"), Err(LineError::Key));
        assert_eq!(SignatureLine::parse("stile-image 1 +bcdef01 x", "stile-image"), Err(LineError::Key));
    }
}
