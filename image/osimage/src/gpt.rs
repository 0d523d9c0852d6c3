//! GUID partition tables (UEFI specification 2.10, chapter 5): reading any bytes, writing the same bytes for
//! the same table. Own code because the crates at hand generate random ids or abort on a hostile header.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use crate::layout::Attribute;
use crate::{ALIGNMENT, SECTOR};

/// Entries of a table, used or not; the least that the specification allows.
const ENTRIES: usize = 128;

const ENTRY_LEN: usize = 128;

/// Sectors of the entries.
const ENTRY_SECTORS: u64 = (ENTRIES * ENTRY_LEN) as u64 / SECTOR;

const HEADER_LEN: usize = 92;

/// First sector that a partition may use.
const FIRST_USABLE: u64 = 2 + ENTRY_SECTORS;

/// Characters of a partition's name.
pub const NAME_MAX: usize = 36;

/// Partitions of a table at most.
pub const PARTITIONS_MAX: usize = ENTRIES;

/// A globally unique id, as its canonical text reads from left to right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guid(pub u128);

impl Guid {
    /// The bytes on the disk: the first three groups are little-endian.
    fn to_disk(self) -> [u8; 16] {
        let mut bytes = self.0.to_be_bytes();
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    fn from_disk(mut bytes: [u8; 16]) -> Self {
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A partition of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its place in the table, from 1.
    pub number: u32,
    /// What it is for.
    pub kind: Guid,
    /// Itself.
    pub guid: Guid,
    /// Its first sector.
    pub first: u64,
    /// Its last sector.
    pub last: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Its name.
    pub name: String,
}

impl Partition {
    /// First byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.first * SECTOR
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        (self.last + 1 - self.first) * SECTOR
    }

    /// Never: a partition has at least one sector.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk.
    pub disk: Guid,
    /// Sectors of the disk.
    pub sectors: u64,
    /// The partitions, by number.
    pub partitions: Vec<Partition>,
}

/// Which of the two copies of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// At the start of the disk.
    Primary,
    /// At its end.
    Backup,
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// Why a copy of a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The disk could not be read there.
    #[error("read {copy} partition table at byte {at}")]
    Read {
        /// Which copy.
        copy: Copy,
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// There is no table.
    #[error("no {copy} partition table: signature is missing at byte {at}")]
    Signature {
        /// Which copy.
        copy: Copy,
        /// Where it was looked for.
        at: u64,
    },
    /// A checksum does not match.
    #[error(
        "{copy} partition table is damaged: checksum of its {part} is {found:#010x}, not {expected:#010x}"
    )]
    Checksum {
        /// Which copy.
        copy: Copy,
        /// Header or entries.
        part: &'static str,
        /// Of the bytes that are there.
        found: u32,
        /// That the header tells.
        expected: u32,
    },
    /// A field has a value that cannot be.
    #[error("{copy} partition table is malformed: {field} is {value}")]
    Field {
        /// Which copy.
        copy: Copy,
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

/// The bytes of a table for the start and for the end of the disk.
pub struct Encoded {
    /// Protective MBR, header and entries, from byte 0.
    pub head: Vec<u8>,
    /// Entries and header.
    pub tail: Vec<u8>,
    /// Where `tail` goes.
    pub tail_at: u64,
}

impl Table {
    /// Whether the table can be written: the disk has room for both copies, and the partitions lie between
    /// them. Not every table that can be read can: other tools may write longer or shorter ones.
    #[must_use]
    pub fn can_be_encoded(&self) -> bool {
        let last_usable = self.sectors.checked_sub(ENTRY_SECTORS + 2);
        let between = |partition: &Partition| {
            (FIRST_USABLE..=partition.last).contains(&partition.first)
                && last_usable.is_some_and(|last_usable| partition.last <= last_usable)
                && (1..=ENTRIES).contains(&(partition.number as usize))
        };
        last_usable.is_some() && self.partitions.len() <= ENTRIES && self.partitions.iter().all(between)
    }

    /// The table as bytes.
    ///
    /// # Panics
    ///
    /// When it [cannot be encoded](Table::can_be_encoded).
    #[must_use]
    pub fn encode(&self) -> Encoded {
        assert!(self.can_be_encoded(), "partitions lie between two tables");
        let last = self.sectors - 1;
        let last_usable = last - ENTRY_SECTORS - 1;
        let mut entries = vec![0; ENTRIES * ENTRY_LEN];
        for partition in &self.partitions {
            let index = partition.number as usize - 1;
            encode_entry(partition, &mut entries[index * ENTRY_LEN..][..ENTRY_LEN]);
        }
        let checksum = crc32fast::hash(&entries);
        let header = |here: u64, other: u64, entries_at: u64| {
            let mut header = vec![0; SECTOR as usize];
            header[..8].copy_from_slice(b"EFI PART");
            header[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
            header[12..16].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
            let places = [here, other, FIRST_USABLE, last_usable];
            for (field, value) in header[24..56].chunks_exact_mut(8).zip(places) {
                field.copy_from_slice(&value.to_le_bytes());
            }
            header[56..72].copy_from_slice(&self.disk.to_disk());
            header[72..80].copy_from_slice(&entries_at.to_le_bytes());
            header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
            header[84..88].copy_from_slice(&(ENTRY_LEN as u32).to_le_bytes());
            header[88..92].copy_from_slice(&checksum.to_le_bytes());
            let checksum = crc32fast::hash(&header[..HEADER_LEN]);
            header[16..20].copy_from_slice(&checksum.to_le_bytes());
            header
        };
        let head = [protective_mbr(self.sectors), header(1, last, 2), entries.clone()].concat();
        let tail_first = last - ENTRY_SECTORS;
        let tail = [entries, header(last, 1, tail_first)].concat();
        Encoded { head, tail, tail_at: tail_first * SECTOR }
    }

    /// The same table on a disk of `bytes`, which may be longer: its backup copy lies at that disk's end, and
    /// the last partition reaches there when its file system grows ([`Attribute::GrowFileSystem`]).
    #[must_use]
    pub fn on_disk_of(&self, bytes: u64) -> Self {
        let mut table = Self { sectors: bytes / SECTOR, ..self.clone() };
        let end = (bytes.saturating_sub(ALIGNMENT) / ALIGNMENT) * ALIGNMENT / SECTOR;
        if let Some(last) = table.partitions.iter_mut().max_by_key(|partition| partition.last)
            && last.attributes & Attribute::GrowFileSystem.bit() != 0
            && end > last.last + 1
        {
            last.last = end - 1;
        }
        table
    }

    /// Reads one copy of the table of a disk.
    ///
    /// # Errors
    ///
    /// [`GptError`] naming what is wrong and where.
    pub fn read(disk: &mut (impl Read + Seek), copy: Copy) -> Result<Self, GptError> {
        let bytes = disk.seek(SeekFrom::End(0)).map_err(|source| GptError::Read { copy, at: 0, source })?;
        Self::decode(copy, bytes / SECTOR, |at, buffer| {
            disk.seek(SeekFrom::Start(at))?;
            disk.read_exact(buffer)
        })
    }

    /// Reads the primary copy from the `head` of a disk that has `sectors`.
    ///
    /// # Errors
    ///
    /// As [`Table::read`].
    pub fn read_head(head: &[u8], sectors: u64) -> Result<Self, GptError> {
        Self::decode(Copy::Primary, sectors, |at, buffer| {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let bytes = head.get(start..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn decode(
        copy: Copy,
        sectors: u64,
        mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<Self, GptError> {
        let mut read = |sector: u64, buffer: &mut [u8]| {
            let at = sector * SECTOR;
            read_at(at, buffer).map_err(|source| GptError::Read { copy, at, source })
        };
        let here = match copy {
            Copy::Primary => 1,
            Copy::Backup => sectors.saturating_sub(1),
        };
        let mut header = [0; SECTOR as usize];
        read(here, &mut header)?;
        let header = Header::decode(copy, here, sectors, &header)?;
        let mut entries = vec![0; header.entries * ENTRY_LEN];
        read(header.entries_at, &mut entries)?;
        check_sum(copy, "entries", &entries, header.entries_checksum)?;

        let mut partitions = Vec::new();
        for (number, entry) in (1..).zip(entries.chunks_exact(ENTRY_LEN)) {
            let Some(partition) = decode_entry(number, entry) else { continue };
            let inside = header.first_usable <= partition.first
                && partition.first <= partition.last
                && partition.last <= header.last_usable;
            expect(copy, "last sector of a partition", partition.last, inside)?;
            partitions.push(partition);
        }
        Ok(Self { disk: header.disk, sectors, partitions })
    }
}

/// What a header says, checked against its checksum and the disk.
struct Header {
    disk: Guid,
    first_usable: u64,
    last_usable: u64,
    entries_at: u64,
    entries: usize,
    entries_checksum: u32,
}

impl Header {
    fn decode(copy: Copy, here: u64, sectors: u64, header: &[u8; SECTOR as usize]) -> Result<Self, GptError> {
        if !header.starts_with(b"EFI PART") {
            return Err(GptError::Signature { copy, at: here * SECTOR });
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let header_len = u64::from(short(12));
        let fits = (HEADER_LEN as u64..=SECTOR).contains(&header_len);
        expect(copy, "length of the header", header_len, fits)?;
        let mut plain = *header;
        plain[16..20].fill(0);
        check_sum(copy, "header", &plain[..header_len as usize], short(16))?;

        expect(copy, "own sector", number(24), number(24) == here)?;
        let (first_usable, last_usable) = (number(40), number(48));
        let inside = first_usable <= last_usable && last_usable < sectors;
        expect(copy, "last usable sector", last_usable, inside)?;
        expect(copy, "number of entries", u64::from(short(80)), short(80) as usize <= ENTRIES)?;
        expect(copy, "length of an entry", u64::from(short(84)), short(84) as usize == ENTRY_LEN)?;
        let entries_at = number(72);
        expect(copy, "sector of the entries", entries_at, (1..sectors).contains(&entries_at))?;
        Ok(Self {
            disk: Guid::from_disk(std::array::from_fn(|i| header[56 + i])),
            first_usable,
            last_usable,
            entries_at,
            entries: short(80) as usize,
            entries_checksum: short(88),
        })
    }
}

fn expect(copy: Copy, field: &'static str, value: u64, good: bool) -> Result<(), GptError> {
    if good { Ok(()) } else { Err(GptError::Field { copy, field, value }) }
}

fn check_sum(copy: Copy, part: &'static str, bytes: &[u8], expected: u32) -> Result<(), GptError> {
    let found = crc32fast::hash(bytes);
    if found == expected { Ok(()) } else { Err(GptError::Checksum { copy, part, found, expected }) }
}

fn encode_entry(partition: &Partition, entry: &mut [u8]) {
    entry[..16].copy_from_slice(&partition.kind.to_disk());
    entry[16..32].copy_from_slice(&partition.guid.to_disk());
    entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
    entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
    entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
    for (place, unit) in entry[56..].chunks_exact_mut(2).zip(partition.name.encode_utf16().take(NAME_MAX)) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
}

/// `None` for an unused entry.
fn decode_entry(number: u32, entry: &[u8]) -> Option<Partition> {
    let guid = |at: usize| Guid::from_disk(std::array::from_fn(|i| entry[at + i]));
    let value = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| entry[at + i]));
    if guid(0) == Guid(0) {
        return None;
    }
    let units: Vec<u16> = entry[56..]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Partition {
        number,
        kind: guid(0),
        guid: guid(16),
        first: value(32),
        last: value(40),
        attributes: value(48),
        name: String::from_utf16_lossy(&units),
    })
}

/// A master boot record whose only partition covers the disk, so that old tools keep off.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut mbr = vec![0; SECTOR as usize];
    let length = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 0, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&length.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xAA]);
    mbr
}
