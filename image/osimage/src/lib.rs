//! The technician's tool: puts a disk image of a box together, signs, shows and checks it, makes update
//! bundles and provisioning files, and writes images to cards.
//!
//! It deliberately builds no file systems and boots nothing: it takes the files that a build makes, whichever
//! that is. It changes no disk but by `flash`, and never unmounts one.

pub mod assemble;
pub mod bmap;
pub mod boot;
pub mod bundle;
pub mod device;
pub mod disk;
pub mod flash;
pub mod gpt;
pub mod inspect;
pub mod key;
pub mod key_folder;
pub mod layout;
pub mod medium;
pub mod part;
pub mod plan;
pub mod program;
pub mod provision;
pub mod release;
pub mod slots;
pub mod source;
pub mod unit;
pub mod verity;

/// Bytes of a sector: what all boards here start from.
pub const SECTOR: u64 = 512;

/// Partitions start and end on multiples of this many bytes, the erase block of common cards at least.
pub const ALIGNMENT: u64 = 1 << 20;

/// Bytes that are read or written at once.
pub(crate) const CHUNK: usize = 1 << 20;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of 64 hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// Says that a test did nothing and why, so that a green run is not mistaken for a proof.
#[cfg(test)]
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
