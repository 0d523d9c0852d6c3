//! What an image will be, before a byte of it is written. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::gpt::{Guid, Partition, Table};
use crate::layout::{Content, Layout};
use crate::{ALIGNMENT, SECTOR};

/// Blocks of a block map, in bytes; content is padded with zeros to a multiple.
pub const BLOCK: u64 = 4096;

/// Bytes that are wiped where a partition stays empty, so that no file system of before is found there.
const WIPE: u64 = ALIGNMENT;

/// Largest image, 2 TiB: anything above is a slip of the pen.
const IMAGE_MAX: u64 = 2 << 40;

/// An image, planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the layout.
    pub layout: String,
    /// Length of the image in bytes.
    pub size: u64,
    /// Its partition table.
    pub table: Table,
    /// Length of the content of each partition, in the order of the table; `None` for an empty one.
    pub content: Vec<Option<u64>>,
}

/// Why an image cannot be planned.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A partition must not stay empty.
    #[error("partition {partition:?} of layout {layout:?} needs content")]
    Missing {
        /// The layout.
        layout: String,
        /// The partition.
        partition: String,
    },
    /// Content for a partition that the layout does not have.
    #[error("layout {layout:?} has no partition {partition:?}")]
    Unknown {
        /// The layout.
        layout: String,
        /// The partition.
        partition: String,
    },
    /// Content that does not fit.
    #[error("content of partition {partition:?} has {content} bytes, {room} fit")]
    TooLarge {
        /// The partition.
        partition: String,
        /// Length of the content.
        content: u64,
        /// Length of the partition.
        room: u64,
    },
    /// The partitions are longer together than any card.
    #[error("partitions of layout {layout:?} have more than {IMAGE_MAX} bytes together")]
    TooLong {
        /// The layout.
        layout: String,
    },
}

/// Plans an image of `layout` with contents of these lengths in bytes, by name of the partition.
///
/// # Errors
///
/// [`PlanError`].
pub fn plan(layout: &Layout, contents: &BTreeMap<String, u64>) -> Result<Plan, PlanError> {
    let name = || layout.name.clone();
    let known = |partition: &&String| !layout.partitions.iter().any(|entry| entry.name == **partition);
    if let Some(partition) = contents.keys().find(known) {
        return Err(PlanError::Unknown { layout: name(), partition: partition.clone() });
    }
    let mut start = ALIGNMENT;
    let mut partitions = Vec::with_capacity(layout.partitions.len());
    let mut content = Vec::with_capacity(layout.partitions.len());
    for (number, entry) in (1..).zip(&layout.partitions) {
        let room = entry.size.bytes;
        let length = contents.get(&entry.name).copied();
        match length {
            None if entry.content == Content::Required => {
                return Err(PlanError::Missing { layout: name(), partition: entry.name.clone() });
            }
            Some(length) if length > room => {
                return Err(PlanError::TooLarge { partition: entry.name.clone(), content: length, room });
            }
            None | Some(_) => content.push(length),
        }
        let end = start.checked_add(room).filter(|end| *end <= IMAGE_MAX);
        let end = end.ok_or_else(|| PlanError::TooLong { layout: name() })?;
        partitions.push(Partition {
            number,
            kind: entry.kind.guid(),
            guid: derived_guid(&layout.name, &entry.name),
            first: start / SECTOR,
            last: end / SECTOR - 1,
            attributes: entry.attributes.iter().fold(0, |bits, attribute| bits | attribute.bit()),
            name: entry.name.clone(),
        });
        start = end;
    }
    let size = start + ALIGNMENT;
    let table = Table { disk: derived_guid(&layout.name, ""), sectors: size / SECTOR, partitions };
    Ok(Plan { layout: name(), size, table, content })
}

impl Plan {
    /// The parts of the image that must reach the disk, in order: tables, contents, and the starts of empty
    /// partitions. All in whole blocks.
    #[must_use]
    pub fn mapped(&self) -> Vec<Range<u64>> {
        let mut mapped: Vec<Range<u64>> = Vec::with_capacity(self.content.len() + 2);
        let parts = self.table.partitions.iter().zip(&self.content).map(|(partition, content)| {
            let length = content.map_or(WIPE.min(partition.len()), |length| length.next_multiple_of(BLOCK));
            partition.start()..partition.start() + length
        });
        let head = 0..ALIGNMENT;
        let tail = self.size - ALIGNMENT..self.size;
        for part in std::iter::once(head).chain(parts).chain(std::iter::once(tail)) {
            match mapped.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => mapped.push(part),
            }
        }
        mapped
    }
}

/// A table for people.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "layout {}, {} MiB, disk {}", self.layout, self.size / ALIGNMENT, self.table.disk)?;
        writeln!(f, "{:>3}  {:<12} {:>9} {:>9}  {:>12}  id", "no", "name", "at MiB", "MiB", "content")?;
        for (partition, content) in self.table.partitions.iter().zip(&self.content) {
            let content = content.map_or_else(|| "empty".to_owned(), |length| length.to_string());
            writeln!(
                f,
                "{:>3}  {:<12} {:>9} {:>9}  {:>12}  {}",
                partition.number,
                partition.name,
                partition.start() / ALIGNMENT,
                partition.len() / ALIGNMENT,
                content,
                partition.guid
            )?;
        }
        Ok(())
    }
}

/// An id that depends on names only, so that a boot loader finds the partitions of every image of a layout,
/// and the same inputs give the same bytes. Version 8 of RFC 9562.
fn derived_guid(layout: &str, partition: &str) -> Guid {
    let digest = Sha256::digest(format!("stile osimage guid 1\n{layout}\n{partition}"));
    let mut bytes: [u8; 16] = std::array::from_fn(|i| digest[i]);
    bytes[6] = 0x80 | bytes[6] & 0x0F;
    bytes[8] = 0x80 | bytes[8] & 0x3F;
    Guid(u128::from_be_bytes(bytes))
}
