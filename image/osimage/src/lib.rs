//! The technician's tool: puts a disk image of a box together, shows and checks it, and writes it to cards.
//!
//! It deliberately builds no file systems and boots nothing: it takes the files that the Yocto build makes.
//! Signing, bundles, provisioning and slots are not part of it yet.

pub mod assemble;
pub mod bmap;
pub mod boot;
pub mod device;
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

/// Says that a test did nothing and why, so that a green run is not mistaken for a proof.
#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a test speaks to whoever runs it")]
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
