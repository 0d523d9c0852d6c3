//! Checks a root file system against its dm-verity hash tree and root hash, as the kernel does at each read:
//! format 1 with SHA-256 (docs.kernel.org, device-mapper/verity; the superblock is cryptsetup's).

use std::io::{self, Read, Seek};

use sha2::{Digest, Sha256};

use crate::part::Part;

/// Bytes of the superblock that are used.
const SUPERBLOCK_LEN: usize = 512;
const DIGEST_LEN: usize = 32;
/// Bytes of a block that we make and read; the page size of all boards here.
const BLOCK: usize = 4096;
const SALT_MAX: usize = 256;

/// Why a file system is not what its root hash says.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The disk could not be read.
    #[error("read {what} at byte {at} of its partition")]
    Read {
        /// Data or hash tree.
        what: &'static str,
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// There is no hash tree of this kind.
    #[error("no usable hash tree: {field} is {found}")]
    Superblock {
        /// Which field.
        field: &'static str,
        /// What it is.
        found: String,
    },
    /// The tree's root is another one.
    #[error("hash tree is not the one of the root hash")]
    Root,
    /// A block of the tree was changed.
    #[error("hash tree is damaged in block {block}")]
    Tree {
        /// Which, from the start of its partition.
        block: u64,
    },
    /// A block of the file system was changed.
    #[error("file system is damaged in block {block}, byte {at}", at = .block * BLOCK as u64)]
    Data {
        /// Which.
        block: u64,
    },
}

/// What a superblock says.
struct Superblock {
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    fn decode(bytes: &[u8; SUPERBLOCK_LEN]) -> Result<Self, VerityError> {
        let bad = |field: &'static str, found: String| VerityError::Superblock { field, found };
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if !bytes.starts_with(b"verity\0\0") {
            return Err(bad("signature", crate::hex(&bytes[..8])));
        }
        let expected =
            [("version", 8, 1), ("hash type", 12, 1), ("data block", 64, 4096), ("hash block", 68, 4096)];
        for (field, at, value) in expected {
            if short(at) != value {
                return Err(bad(field, short(at).to_string()));
            }
        }
        let algorithm = bytes[32..64].split(|byte| *byte == 0).next().unwrap_or_default();
        if algorithm != b"sha256" {
            return Err(bad("algorithm", String::from_utf8_lossy(algorithm).into_owned()));
        }
        let data_blocks = u64::from_le_bytes(std::array::from_fn(|i| bytes[72 + i]));
        let salt_len = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        if salt_len > SALT_MAX {
            return Err(bad("length of the salt", salt_len.to_string()));
        }
        Ok(Self { data_blocks, salt: bytes[88..88 + salt_len].to_vec() })
    }
}

/// Checks every block of the part `data` of a disk and of its part `tree`, each a start and a length, against
/// `root`. Returns the bytes of the file system that are covered.
///
/// # Errors
///
/// [`VerityError`] naming the first block that differs.
pub fn check<D: Read + Seek>(
    disk: &mut D,
    data: (u64, u64),
    tree: (u64, u64),
    root: &[u8; DIGEST_LEN],
) -> Result<u64, VerityError> {
    check_with(data.1, root, |which, at, buffer| {
        let (start, length) = match which {
            Which::Data => data,
            Which::Tree => tree,
        };
        Part::new(&mut *disk, start, length).read_at(at, buffer)
    })
}

/// As [`check`], for a file system of `length` bytes and its tree in files of their own.
///
/// # Errors
///
/// As [`check`].
pub fn check_files(
    data: &mut (impl Read + Seek),
    length: u64,
    tree: &mut (impl Read + Seek),
    root: &[u8; DIGEST_LEN],
) -> Result<u64, VerityError> {
    check_with(length, root, |which, at, buffer| match which {
        Which::Data => Part::new(&mut *data, 0, u64::MAX).read_at(at, buffer),
        Which::Tree => Part::new(&mut *tree, 0, u64::MAX).read_at(at, buffer),
    })
}

#[derive(Clone, Copy)]
enum Which {
    Data,
    Tree,
}

impl Which {
    const fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "hash tree",
        }
    }
}

fn check_with(
    data_length: u64,
    root: &[u8; DIGEST_LEN],
    mut read_at: impl FnMut(Which, u64, &mut [u8]) -> io::Result<()>,
) -> Result<u64, VerityError> {
    let mut read = |which: Which, block: u64, buffer: &mut [u8]| {
        let at = block.saturating_mul(BLOCK as u64);
        read_at(which, at, buffer).map_err(|source| VerityError::Read { what: which.word(), at, source })
    };
    let mut bytes = [0; SUPERBLOCK_LEN];
    read(Which::Tree, 0, &mut bytes)?;
    let Superblock { data_blocks, salt } = Superblock::decode(&bytes)?;
    if data_blocks == 0 || data_blocks > data_length / BLOCK as u64 {
        return Err(VerityError::Superblock {
            field: "number of data blocks",
            found: data_blocks.to_string(),
        });
    }
    let digest = |block: &[u8]| -> [u8; DIGEST_LEN] {
        Sha256::new().chain_update(&salt).chain_update(block).finalize().into()
    };
    // The top level comes first, after the block of the superblock. Each level is checked against the one
    // above.
    let mut above: Vec<u8> = root.to_vec();
    let mut at = 1;
    let mut block = vec![0; BLOCK];
    for blocks in levels(data_blocks) {
        let mut level = Vec::new();
        for index in 0..blocks {
            read(Which::Tree, at + index, &mut block)?;
            if digest(&block)[..] != above[index as usize * DIGEST_LEN..][..DIGEST_LEN] {
                return Err(if at == 1 {
                    VerityError::Root
                } else {
                    VerityError::Tree { block: at + index }
                });
            }
            level.extend_from_slice(&block);
        }
        at += blocks;
        above = level;
    }
    for index in 0..data_blocks {
        read(Which::Data, index, &mut block)?;
        if digest(&block)[..] != above[index as usize * DIGEST_LEN..][..DIGEST_LEN] {
            return Err(VerityError::Data { block: index });
        }
    }
    Ok(data_blocks * BLOCK as u64)
}

/// Blocks of each level of the tree over `data_blocks`, from the top.
fn levels(data_blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil((BLOCK / DIGEST_LEN) as u64);
        levels.insert(0, blocks);
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const SALT: [u8; 32] = [0x5A; 32];

    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    /// As `veritysetup format` makes it.
    fn format(data: &[u8]) -> (Vec<u8>, [u8; 32]) {
        let digest = |block: &[u8]| -> [u8; 32] {
            Sha256::new().chain_update(SALT).chain_update(block).finalize().into()
        };
        let mut levels: Vec<Vec<u8>> = Vec::new();
        let mut below = data.to_vec();
        while below.len() > BLOCK {
            let mut level: Vec<u8> = below.chunks(BLOCK).flat_map(digest).collect();
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            below.clone_from(&level);
            levels.insert(0, level);
        }
        let mut head = vec![0; BLOCK];
        head[..8].copy_from_slice(b"verity\0\0");
        head[8] = 1;
        head[12] = 1;
        head[32..38].copy_from_slice(b"sha256");
        head[64..68].copy_from_slice(&4096u32.to_le_bytes());
        head[68..72].copy_from_slice(&4096u32.to_le_bytes());
        head[72..80].copy_from_slice(&((data.len() / BLOCK) as u64).to_le_bytes());
        head[80] = 32;
        head[88..120].copy_from_slice(&SALT);
        (head.into_iter().chain(levels.concat()).collect(), digest(&below))
    }

    fn check_bytes(data: &[u8], tree: &[u8], root: &[u8; 32]) -> Result<u64, VerityError> {
        let mut disk = Cursor::new([data, tree].concat());
        let (middle, end) = (data.len() as u64, tree.len() as u64);
        check(&mut disk, (0, middle), (middle, end), root)
    }

    #[test]
    fn the_root_hash_is_the_one_of_cryptsetup() {
        // veritysetup 2.6.1 format --salt=5a5a... data tree, of these bytes.
        for (blocks, expected) in [(1, ONE), (128, FULL), (300, TWO_LEVELS)] {
            assert_eq!(crate::hex(&format(&data(blocks)).1), expected, "{blocks} blocks");
        }
    }
    const ONE: &str = "0404d8b0b558c2137e923c5acb8d1e4e2179c469a592a111e4649a99e1b777d0";
    const FULL: &str = "1bfa57b343bd0a531dce45709095903ee7afdf7e154a1e55b154d85ef8b9e33b";
    const TWO_LEVELS: &str = "48c519598bcb6d8a9a3511f2e3368ff1296b57f0f999f3c8c48f369063ff4d4d";

    #[test]
    fn every_changed_block_is_found_and_named() {
        for blocks in [1, 2, 128, 129, 300] {
            let data = data(blocks);
            let (tree, root) = format(&data);
            assert_eq!(check_bytes(&data, &tree, &root).unwrap(), data.len() as u64);
            for block in [0, blocks / 2, blocks - 1] {
                let mut changed = data.clone();
                changed[block * BLOCK + 77] ^= 1;
                let error = check_bytes(&changed, &tree, &root).unwrap_err();
                assert!(
                    matches!(error, VerityError::Data { block: found } if found == block as u64),
                    "{error}"
                );
            }
            for block in 1..tree.len() / BLOCK {
                let mut changed = tree.clone();
                changed[block * BLOCK] ^= 1;
                let error = check_bytes(&data, &changed, &root).unwrap_err();
                let named = match error {
                    VerityError::Root => 1,
                    VerityError::Tree { block } => block,
                    other => panic!("{other}"),
                };
                assert_eq!(named, block as u64);
            }
            let mut other = root;
            other[0] ^= 1;
            assert!(check_bytes(&data, &tree, &other).is_err());
        }
    }

    #[test]
    fn any_superblock_is_one_or_an_error() {
        let data = data(3);
        let (tree, root) = format(&data);
        for at in 0..SUPERBLOCK_LEN {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut changed = tree.clone();
                changed[at] = value;
                let unused =
                    (16..32).contains(&at) || (39..64).contains(&at) || at >= 120 || (82..88).contains(&at);
                let fine = changed[at] == tree[at] || unused;
                assert_eq!(check_bytes(&data, &changed, &root).is_ok(), fine, "byte {at} is {value:#x}");
            }
        }
    }
}
