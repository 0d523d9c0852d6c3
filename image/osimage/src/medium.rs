//! What an image is written to: a card, a disk, a file, or a simulated one that fails.

use std::io;

/// A medium. Offsets and lengths are in bytes.
pub trait Medium: Send {
    /// Its length.
    ///
    /// # Errors
    ///
    /// When the medium says so.
    fn size(&mut self) -> io::Result<u64>;

    /// Writes bytes at `at` and returns how many were taken; more than none unless `bytes` is empty.
    ///
    /// # Errors
    ///
    /// When the medium says so.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Reads bytes at `at` from the medium itself, not from a cache of the host, and returns how many were
    /// read; none at its end.
    ///
    /// # Errors
    ///
    /// When the medium says so.
    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Makes sure that what was written is on the medium.
    ///
    /// # Errors
    ///
    /// When the medium says so.
    fn sync(&mut self) -> io::Result<()>;

    /// Whether it is still there; asked after an error.
    fn is_present(&self) -> bool {
        true
    }
}

/// Writes all of `bytes`.
///
/// # Errors
///
/// As the medium's.
pub fn write_all_at(medium: &mut dyn Medium, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match medium.write_at(at, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills all of `buffer`.
///
/// # Errors
///
/// As the medium's, `UnexpectedEof` at its end.
pub fn read_exact_at(medium: &mut dyn Medium, mut at: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match medium.read_at(at, buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                at += read as u64;
                buffer = &mut buffer[read..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
