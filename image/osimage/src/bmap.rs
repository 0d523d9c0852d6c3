//! Block maps in the bmap 2.0 format of bmaptool: which blocks of an image matter, and the hash of each
//! stretch of them.

use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use crate::plan::{BLOCK, Plan};
use crate::source::Source;
use crate::{CHUNK, hex, unhex};

/// Longest stretch under one hash that we write: damage is found, and named, within 16 MiB.
const RANGE_MAX: u64 = 16 << 20;

/// Longest block map that is read, in bytes: a terabyte of our stretches needs 6 MiB.
pub const TEXT_MAX: u64 = 16 << 20;

/// What 64 digits of the file's own hash are replaced with while it is hashed.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A block map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bmap {
    /// Length of the image in bytes.
    pub image_size: u64,
    /// Length of a block in bytes.
    pub block_size: u64,
    /// The mapped stretches, ascending and apart.
    pub ranges: Vec<Range>,
}

/// Blocks that matter, and their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// SHA-256 of their bytes; the last block of an image may be short.
    pub sha256: [u8; 32],
}

/// Why a block map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BmapError {
    /// It is no XML.
    #[error("block map is no XML")]
    Xml(#[source] roxmltree::Error),
    /// It is not a block map that this tool knows.
    #[error("block map has no usable {element}: {found:?}")]
    Element {
        /// The element or attribute.
        element: &'static str,
        /// What is there instead.
        found: String,
    },
    /// It was changed after it was written.
    #[error("block map is damaged: its hash is {found} instead of {expected}")]
    Hash {
        /// Hash of the text.
        found: String,
        /// Hash that the text tells.
        expected: String,
    },
    /// A stretch does not lie after the one before, or not in the image.
    #[error("block map is malformed: blocks {first}-{last} of {blocks}")]
    Range {
        /// First block.
        first: u64,
        /// Last block.
        last: u64,
        /// Blocks of the image.
        blocks: u64,
    },
    /// The image could not be read.
    #[error("read image at byte {at}")]
    Read {
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// The image is not the one of this block map.
    #[error("image has {found} bytes, its block map says {expected}")]
    Size {
        /// Length of the image.
        found: u64,
        /// Length that the block map tells.
        expected: u64,
    },
    /// A packed image goes on after its end.
    #[error("image has more than the {expected} bytes that its block map says")]
    Longer {
        /// Length that the block map tells.
        expected: u64,
    },
    /// The image was damaged.
    #[error("image is damaged in blocks {first}-{last}: hash {found} instead of {expected}")]
    Damage {
        /// First block of the stretch.
        first: u64,
        /// Last block.
        last: u64,
        /// Hash of what is there.
        found: String,
        /// Hash of what should be there.
        expected: String,
    },
}

impl Bmap {
    /// The map of an image that was written by `plan`.
    ///
    /// # Errors
    ///
    /// [`BmapError::Read`].
    pub fn of_plan(plan: &Plan, image: &mut (impl Read + Seek)) -> Result<Self, BmapError> {
        let mut ranges = Vec::new();
        for part in plan.mapped() {
            let mut start = part.start;
            while start < part.end {
                let end = part.end.min(start + RANGE_MAX);
                let read_at = |at, buffer: &mut [u8]| {
                    image.seek(SeekFrom::Start(at))?;
                    image.read_exact(buffer)
                };
                let sha256 = hash(read_at, start, end - start)?;
                ranges.push(Range { first: start / BLOCK, last: (end - 1) / BLOCK, sha256 });
                start = end;
            }
        }
        Ok(Self { image_size: plan.size, block_size: BLOCK, ranges })
    }

    /// Bytes that are mapped.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.ranges.iter().map(|range| self.length(range)).sum()
    }

    /// First byte of a stretch.
    #[must_use]
    pub fn start(&self, range: &Range) -> u64 {
        range.first * self.block_size
    }

    /// Length of a stretch in bytes.
    #[must_use]
    pub fn length(&self, range: &Range) -> u64 {
        ((range.last + 1) * self.block_size).min(self.image_size) - self.start(range)
    }

    /// The map as XML.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let blocks = self.image_size.div_ceil(self.block_size);
        let mapped: u64 = self.ranges.iter().map(|range| range.last + 1 - range.first).sum();
        let mut xml = format!(
            "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {} </ImageSize>\n    \
             <BlockSize> {} </BlockSize>\n    <BlocksCount> {blocks} </BlocksCount>\n    \
             <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    \
             <ChecksumType> sha256 </ChecksumType>\n    \
             <BmapFileChecksum> {NO_HASH} </BmapFileChecksum>\n    <BlockMap>\n",
            self.image_size, self.block_size
        );
        for range in &self.ranges {
            let blocks = match range.last - range.first {
                0 => range.first.to_string(),
                _ => format!("{}-{}", range.first, range.last),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(xml, "        <Range chksum=\"{}\"> {blocks} </Range>", hex(&range.sha256));
        }
        xml.push_str("    </BlockMap>\n</bmap>\n");
        let own = hex(&Sha256::digest(&xml));
        xml.replacen(NO_HASH, &own, 1)
    }

    /// Reads a map from XML, also one that bmaptool wrote, and checks its own hash.
    ///
    /// # Errors
    ///
    /// [`BmapError`] naming what is wrong.
    pub fn parse(xml: &str) -> Result<Self, BmapError> {
        let document = roxmltree::Document::parse(xml).map_err(BmapError::Xml)?;
        let root = document.root_element();
        let bad = |element: &'static str, found: &str| BmapError::Element {
            element,
            found: found.chars().take(80).collect(),
        };
        let version = root.attribute("version").unwrap_or_default();
        if root.tag_name().name() != "bmap" || !version.starts_with("2.") {
            return Err(bad("version", version));
        }
        let text = |element: &'static str| {
            let node = root.children().find(|child| child.tag_name().name() == element);
            node.and_then(|node| node.text()).unwrap_or_default().trim()
        };
        let number = |element: &'static str| {
            text(element).parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(|| bad(element, text(element)))
        };
        if text("ChecksumType") != "sha256" {
            return Err(bad("ChecksumType", text("ChecksumType")));
        }
        let expected = text("BmapFileChecksum");
        if expected.len() != NO_HASH.len() {
            return Err(bad("BmapFileChecksum", expected));
        }
        let found = hex(&Sha256::digest(xml.replacen(expected, NO_HASH, 1)));
        if found != expected {
            return Err(BmapError::Hash { found, expected: expected.to_owned() });
        }
        let (image_size, block_size) = (number("ImageSize")?, number("BlockSize")?);
        if !block_size.is_power_of_two() || block_size > RANGE_MAX {
            return Err(bad("BlockSize", text("BlockSize")));
        }
        let blocks = image_size.div_ceil(block_size);
        let map = root.children().find(|child| child.tag_name().name() == "BlockMap");
        let map = map.ok_or_else(|| bad("BlockMap", ""))?;
        let mut ranges: Vec<Range> = Vec::new();
        for node in map.children().filter(|child| child.tag_name().name() == "Range") {
            let text = node.text().unwrap_or_default().trim();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) else {
                return Err(bad("Range", text));
            };
            let after = ranges.last().is_none_or(|before| before.last < first);
            if !after || first > last || last >= blocks {
                return Err(BmapError::Range { first, last, blocks });
            }
            let chksum = node.attribute("chksum").unwrap_or_default();
            let sha256 = unhex(chksum).ok_or_else(|| bad("chksum", chksum))?;
            ranges.push(Range { first, last, sha256 });
        }
        Ok(Self { image_size, block_size, ranges })
    }

    /// Checks `image` against the map.
    ///
    /// # Errors
    ///
    /// [`BmapError`] naming the first stretch that differs.
    pub fn verify(&self, image: &mut (impl Read + Seek)) -> Result<(), BmapError> {
        let found = image.seek(SeekFrom::End(0)).map_err(|source| BmapError::Read { at: 0, source })?;
        if found != self.image_size {
            return Err(BmapError::Size { found, expected: self.image_size });
        }
        self.verify_ranges(|at, buffer| {
            image.seek(SeekFrom::Start(at))?;
            image.read_exact(buffer)
        })
    }

    /// Checks an image that may be packed against the map.
    ///
    /// # Errors
    ///
    /// [`BmapError`] naming the first stretch that differs.
    pub fn verify_source(&self, image: &mut Source) -> Result<(), BmapError> {
        self.verify_ranges(|at, buffer| image.read_at(at, buffer))?;
        let last = self.image_size - 1;
        let mapped_to = self.ranges.last().map_or(0, |range| self.start(range) + self.length(range));
        let fail = |at| move |source| BmapError::Read { at, source };
        if mapped_to <= last {
            image.read_at(last, &mut [0]).map_err(fail(last))?;
        }
        match image.read_at(self.image_size, &mut [0]) {
            Ok(()) => Err(BmapError::Longer { expected: self.image_size }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(source) => Err(fail(self.image_size)(source)),
        }
    }

    fn verify_ranges(
        &self,
        mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<(), BmapError> {
        for range in &self.ranges {
            let found = hash(&mut read_at, self.start(range), self.length(range))?;
            if found != range.sha256 {
                return Err(damage(range, &found));
            }
        }
        Ok(())
    }
}

/// The error for a stretch of the image whose bytes have another hash.
pub(crate) fn damage(range: &Range, found: &[u8; 32]) -> BmapError {
    let (found, expected) = (hex(found), hex(&range.sha256));
    BmapError::Damage { first: range.first, last: range.last, found, expected }
}

fn hash(
    mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    start: u64,
    length: u64,
) -> Result<[u8; 32], BmapError> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    while at < start + length {
        let want = (start + length - at).min(CHUNK as u64) as usize;
        read_at(at, &mut buffer[..want]).map_err(|source| BmapError::Read { at, source })?;
        digest.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(digest.finalize().into())
}
