//! Marks that show whether a card is as large as it says.
//!
//! A card that lies keeps no more than it has: what is written beyond is lost, or lands on something before.
//! So marks are spread from its end to its start before anything else and read back, and once more when the
//! image is on the card, when a cache inside of it holds them no more.

use sha2::{Digest, Sha256};

use crate::ALIGNMENT;
use crate::bmap::Bmap;

/// Bytes of a mark.
pub(super) const LENGTH: usize = 4096;

/// Marks of a card, besides the one at its end.
const COUNT: u64 = 32;

/// Where marks go on a card of `size` bytes: spread over what the image does not use, the last one first.
pub(super) fn places(bmap: &Bmap, size: u64) -> Vec<u64> {
    let block = LENGTH as u64;
    if size < 2 * ALIGNMENT {
        // No such card is made, but a file may be so short.
        return Vec::new();
    }
    let end = (size / block - 1) * block;
    let spread = (1..COUNT).rev().map(|i| (size / COUNT * i) / block * block);
    let is_free = |at: &u64| {
        let mapped = bmap.ranges.iter().any(|range| {
            let start = bmap.start(range);
            *at < start + bmap.length(range) && start < *at + block
        });
        !mapped && *at >= ALIGNMENT
    };
    // The last MiB of the card is empty until the tables are written, also where the image ends there.
    let mut places = vec![end];
    places.extend(spread.filter(is_free));
    places.dedup();
    places
}

/// The mark at `at`: no other mark and nothing of a card looks like it.
pub(super) fn mark(image: &[u8; 32], at: u64) -> Vec<u8> {
    let digest =
        Sha256::new().chain_update(b"osimage mark 1").chain_update(image).chain_update(at.to_le_bytes());
    digest.finalize().iter().copied().cycle().take(LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmap::Range;

    #[test]
    fn marks_keep_off_the_image_and_come_from_the_end() {
        let ranges = vec![
            Range { first: 0, last: 4095, sha256: [0; 32] },
            Range { first: 8192, last: 8447, sha256: [0; 32] },
        ];
        let bmap = Bmap { image_size: 8448 * 4096, block_size: 4096, ranges };
        assert!(places(&bmap, 100).is_empty());
        for size in [8448 * 4096, 1 << 30, (1 << 34) + 512] {
            let places = places(&bmap, size);
            assert!(places.len() > 12, "{places:?}");
            assert!(places.is_sorted_by(|a, b| a > b));
            assert!(size - places[0] < 2 * LENGTH as u64);
            for at in &places[1..] {
                let block = at / 4096;
                assert!(block > 4095 && !(8192..=8447).contains(&block), "{at}");
            }
        }
        assert_ne!(mark(&[0; 32], 0), mark(&[0; 32], 4096));
        assert_ne!(mark(&[0; 32], 0), mark(&[1; 32], 0));
    }
}
