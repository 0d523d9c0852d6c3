//! How far a card is, written on the card itself, so that a second run, on any host, can go on.
//!
//! The record lies in the first MiB, which stays empty until all else is on the card. It is a hint and no
//! proof: whoever goes on reads back what it names.

use sha2::{Digest, Sha256};

use crate::hex;

/// Where it lies on the card.
pub(super) const AT: u64 = 512 << 10;

/// Its length.
pub(super) const LENGTH: usize = 4096;

const WORD: &str = "stile-flash 1";

/// How far a card is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    /// SHA-256 of the block map of the image.
    pub(super) image: [u8; 32],
    /// Bytes of the card.
    pub(super) size: u64,
    /// Stretches of the block map, from the first, that are on the card.
    pub(super) ranges: usize,
}

impl Resume {
    pub(super) fn encode(&self) -> [u8; LENGTH] {
        let line = format!("{WORD} {} {} {}", hex(&self.image), self.size, self.ranges);
        let text = format!("{line} {}\n", hex(&Sha256::digest(&line)));
        let mut bytes = [0; LENGTH];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    /// How many stretches of this image these bytes say are on this card; none when they say nothing.
    pub(super) fn ranges_of(bytes: &[u8], image: [u8; 32], size: u64) -> usize {
        let length = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let text = std::str::from_utf8(&bytes[..length]).unwrap_or_default();
        let ranges = text.rsplit(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        let expected = Self { image, size, ranges }.encode();
        if bytes.starts_with(&expected[..length]) && length > 0 { ranges } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_record_of_this_image_and_card_counts() {
        let record = Resume { image: [7; 32], size: 1 << 40, ranges: 123_456 };
        let bytes = record.encode();
        assert_eq!(Resume::ranges_of(&bytes, [7; 32], 1 << 40), 123_456);
        assert_eq!(Resume::ranges_of(&bytes, [8; 32], 1 << 40), 0);
        assert_eq!(Resume::ranges_of(&bytes, [7; 32], 1 << 39), 0);
        assert_eq!(Resume::ranges_of(&[0; LENGTH], [7; 32], 1 << 40), 0);
        assert_eq!(Resume::ranges_of(&[b'\n'; LENGTH], [7; 32], 1 << 40), 0);
        let length = bytes.iter().position(|byte| *byte == 0).unwrap();
        for at in 0..length {
            let mut torn = bytes;
            torn[at..].fill(0);
            assert_eq!(Resume::ranges_of(&torn, [7; 32], 1 << 40), 0, "torn at {at}");
            torn = bytes;
            torn[at] ^= 1;
            assert_eq!(Resume::ranges_of(&torn, [7; 32], 1 << 40), 0, "changed at {at}");
        }
    }
}
