//! What is in an image: its partitions and their hashes.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::boot::{self, Boot};
use crate::gpt::{Copy, GptError, Table};
use crate::layout::Kind;
use crate::{CHUNK, hex};

/// An image, looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Length in bytes.
    pub size: u64,
    /// Id of the disk.
    pub disk: String,
    /// What is wrong with the primary table; the backup one is shown then.
    pub primary_damage: Option<String>,
    /// What is wrong with the backup table.
    pub backup_damage: Option<String>,
    /// The partitions.
    pub partitions: Vec<Row>,
    /// What boots, and what is in each slot.
    pub boot: Boot,
    /// Whether the root file systems are the ones that their kernels expect.
    pub roots: Vec<Root>,
}

/// The root file system of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Root {
    /// `a` or `b`.
    pub slot: char,
    /// The root hash that the slot's kernel is given.
    pub root_hash: String,
    /// Bytes whose hashes match; none when they do not.
    pub good: Option<u64>,
    /// What is wrong.
    pub damage: Option<String>,
}

/// One partition of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its place in the table, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What it is for: a word of the layouts, or an id.
    pub kind: String,
    /// Id of the partition.
    pub guid: String,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 of all its bytes.
    pub sha256: String,
}

/// Why an image cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Neither copy of the partition table can be used.
    #[error("find a partition table ({backup})")]
    Table {
        /// What is wrong with the backup.
        backup: GptError,
        /// What is wrong with the primary.
        source: GptError,
    },
    /// A partition cannot be read.
    #[error("read partition {number} ({name:?})")]
    Read {
        /// Its place in the table.
        number: u32,
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Reads the partition table of `image` and hashes its partitions.
///
/// # Errors
///
/// [`InspectError`].
pub fn inspect(image: &mut (impl Read + Seek)) -> Result<Inspection, InspectError> {
    let primary = Table::read(image, Copy::Primary);
    let backup = Table::read(image, Copy::Backup);
    let primary_damage = primary.as_ref().err().map(ToString::to_string);
    let backup_damage = backup.as_ref().err().map(ToString::to_string);
    let table = match (primary, backup) {
        (Ok(table), _) | (Err(_), Ok(table)) => table,
        (Err(source), Err(backup)) => return Err(InspectError::Table { backup, source }),
    };
    let mut partitions = Vec::with_capacity(table.partitions.len());
    for partition in &table.partitions {
        let sha256 = hash(image, partition.start(), partition.len()).map_err(|source| {
            InspectError::Read { number: partition.number, name: partition.name.clone(), source }
        })?;
        partitions.push(Row {
            number: partition.number,
            name: partition.name.clone(),
            kind: word(partition.kind),
            guid: partition.guid.to_string(),
            start: partition.start(),
            length: partition.len(),
            sha256,
        });
    }
    let size = table.sectors * crate::SECTOR;
    let boot = boot::read(image);
    let mut roots = Vec::new();
    for view in &boot.slots {
        let Some(root_hash) = view.root_hash.clone() else { continue };
        let (good, damage) = match boot::check_root(image, &table, view) {
            Ok(good) => (good, None),
            Err(error) => (None, Some(error.to_string())),
        };
        roots.push(Root { slot: view.slot, root_hash, good, damage });
    }
    let disk = table.disk.to_string();
    Ok(Inspection { size, disk, primary_damage, backup_damage, partitions, boot, roots })
}

/// A table for people.
impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} bytes, disk {}", self.size, self.disk)?;
        for damage in self.primary_damage.iter().chain(&self.backup_damage) {
            writeln!(f, "warning: {damage}")?;
        }
        writeln!(f, "{:>3}  {:<12} {:<18} {:>12} {:>12}  sha256", "no", "name", "type", "start", "bytes")?;
        for row in &self.partitions {
            writeln!(
                f,
                "{:>3}  {:<12} {:<18} {:>12} {:>12}  {}",
                row.number, row.name, row.kind, row.start, row.length, row.sha256
            )?;
        }
        self.boot.fmt(f)?;
        for Root { slot, root_hash, good, damage } in &self.roots {
            match (good, damage) {
                (_, Some(damage)) => writeln!(f, "root {slot}  DAMAGED: {damage}; root hash {root_hash}")?,
                (Some(bytes), None) => writeln!(f, "root {slot}  {bytes} bytes match root hash {root_hash}")?,
                (None, None) => writeln!(f, "root {slot}  no partition for root hash {root_hash}")?,
            }
        }
        Ok(())
    }
}

fn word(guid: crate::gpt::Guid) -> String {
    let words = [
        (Kind::Esp, "esp"),
        (Kind::BasicData, "basic-data"),
        (Kind::Linux, "linux"),
        (Kind::RootX86_64, "root-x86-64"),
        (Kind::RootX86_64Verity, "root-x86-64-verity"),
        (Kind::RootArm64, "root-arm64"),
        (Kind::RootArm64Verity, "root-arm64-verity"),
    ];
    let known = words.iter().find(|(kind, _)| kind.guid() == guid);
    known.map_or_else(|| guid.to_string(), |(_, word)| (*word).to_owned())
}

fn hash(image: &mut (impl Read + Seek), start: u64, length: u64) -> io::Result<String> {
    image.seek(SeekFrom::Start(start))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let want = left.min(CHUNK as u64) as usize;
        image.read_exact(&mut buffer[..want])?;
        digest.update(&buffer[..want]);
        left -= want as u64;
    }
    Ok(hex(&digest.finalize()))
}
