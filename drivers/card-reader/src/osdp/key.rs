//! Secure channel base keys (SCBK).

use std::fmt;
use std::os::unix::fs::PermissionsExt;

use zeroize::{Zeroize, Zeroizing};

use crate::{Cause, Error, ErrorKind};

/// Longest key file: 32 digits and a line end.
const FILE_MAX: u64 = 64;

/// The key that every reader has from the factory (SCBK-D of the standard): no secret.
const FACTORY: [u8; 16] = *b"0123456789:;<=>?";

/// A reader's key. It has no `Debug` that shows it and is wiped when dropped.
#[derive(Clone)]
pub struct Key([u8; 16]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Key {
    /// A key from its bytes.
    ///
    /// # Errors
    /// `Key` for the factory's, and for one whose bytes are all the same.
    pub fn new(bytes: [u8; 16]) -> Result<Self, Error> {
        if bytes == FACTORY || bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(refuse("it is a key that everybody knows"));
        }
        Ok(Self(bytes))
    }

    /// Reads 32 hexadecimal digits from a file.
    ///
    /// # Errors
    /// `Key` when the file is missing, not to be read, readable by others, or holds no good key.
    pub fn load(path: &str) -> Result<Self, Error> {
        let refused = |error| Error::new(ErrorKind::Key, "open", Some(Cause::Io(error))).at(path);
        let file = std::fs::File::open(path).map_err(refused)?;
        let about = file.metadata().map_err(refused)?;
        if about.permissions().mode() & 0o077 != 0 {
            return Err(refuse("its file must not be readable by group or others").at(path));
        }
        if about.len() > FILE_MAX {
            return Err(refuse("its file holds more than 32 hexadecimal digits").at(path));
        }
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize));
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_MAX), &mut text).map_err(refused)?;
        Self::parse(&text).map_err(|error| error.at(path))
    }

    /// Reads 32 hexadecimal digits, with white space around.
    ///
    /// # Errors
    /// `Key` for anything else.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let digits = text.trim_ascii();
        if digits.len() != 32 {
            return Err(refuse("it must have 32 hexadecimal digits"));
        }
        let mut key = Zeroizing::new([0; 16]);
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16);
                *byte =
                    *byte << 4 | value.ok_or_else(|| refuse("it must have hexadecimal digits only"))? as u8;
            }
        }
        Self::new(*key)
    }

    pub(crate) fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

fn refuse(what: &'static str) -> Error {
    Error::new(ErrorKind::Key, "open", Some(Cause::Setting(what)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_32_digits_and_secret() {
        assert_eq!(Key::parse(b" 000102030405060708090A0b0c0d0e0f\n").unwrap().bytes()[10], 0x0a);
        let everybody = b"303132333435363738393a3b3c3d3e3f";
        for bad in [&b""[..], b"00", &[b'0'; 32], &[b'g'; 32], &[b'1'; 33], everybody, &[0xff; 32]] {
            assert_eq!(Key::parse(bad).unwrap_err().kind(), ErrorKind::Key);
        }
        assert_eq!(format!("{:?}", Key::new([1; 16]).map_err(|error| error.kind())), "Err(Key)");
    }

    #[test]
    fn key_files_are_readable_by_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let load =
            || Key::load(path.to_str().unwrap()).map(|key| key.bytes()[15]).map_err(|error| error.kind());
        assert_eq!(load(), Err(ErrorKind::Key), "a missing file");
        std::fs::write(&path, "000102030405060708090a0b0c0d0e0f\n").unwrap();
        for (mode, expected) in
            [(0o600, Ok(15)), (0o400, Ok(15)), (0o640, Err(ErrorKind::Key)), (0o604, Err(ErrorKind::Key))]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(), expected, "mode {mode:o}");
        }
    }
}
