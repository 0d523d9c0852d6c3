//! The recording of a disk: every write that the machine made, in order, with its content and its flushes.
//!
//! The form is that of the kernel's dm-log-writes target (Documentation/admin-guide/device-mapper/log-writes.rst),
//! as QEMU's `blklogwrites` block filter writes it: a head sector (magic, version, entries, sector size), then each
//! entry as a sector of its own (place, sectors, flags, length) with its data behind it, all little-endian.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// More than any machine here writes in one request.
const REQUEST_MAX: u64 = 1 << 30;

/// What one entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data for the disk; `at` is its place in the log's file.
    Write {
        /// Byte on the disk.
        start: u64,
        /// Bytes.
        length: u64,
        /// Byte in the log's file.
        at: u64,
        /// It is durable when it is answered.
        durable: bool,
    },
    /// Everything before it is durable.
    Flush,
    /// Content that nobody needs any more.
    Discard,
}

/// An opened recording.
pub struct Log {
    file: File,
    /// Its entries, in order.
    pub entries: Vec<Kind>,
}

impl Log {
    /// Opens a recording and reads its entries. Entries that a killed machine did not finish are left out.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let length = file.metadata().context("cannot look at the recording")?.len();
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0).context("the recording has no head")?;
        ensure!(number(&head, 0) == MAGIC, "{} is no recording of writes", path.display());
        ensure!(number(&head, 8) == 1, "unknown version {} of the recording", number(&head, 8));
        let sector = u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]]));
        ensure!(sector.is_power_of_two() && (512..=4096).contains(&sector), "sectors of {sector} bytes");
        let mut entries = Vec::new();
        let mut at = sector;
        // The count in the head is brought up to date at flushes only; an entry of zeros ends the log as well.
        let count = number(&head, 16);
        while (entries.len() as u64) < count && at + sector <= length {
            let mut entry = [0; 32];
            file.read_exact_at(&mut entry, at).context("cannot read an entry")?;
            let [start, sectors, flags, data] = [0, 8, 16, 24].map(|offset| number(&entry, offset));
            at += sector;
            ensure!(
                sectors <= REQUEST_MAX / sector && data <= REQUEST_MAX && flags <= 15,
                "entry {} is not valid",
                entries.len()
            );
            if flags & DISCARD != 0 {
                entries.push(Kind::Discard);
                continue;
            }
            if flags & MARK != 0 {
                at += data.next_multiple_of(sector);
                continue;
            }
            let length_here = sectors * sector;
            if flags & FLUSH != 0 {
                entries.push(Kind::Flush);
            }
            if length_here > 0 {
                if at + length_here > length {
                    break;
                }
                let start = start * sector;
                entries.push(Kind::Write { start, length: length_here, at, durable: flags & FUA != 0 });
                at += length_here;
            }
        }
        Ok(Self { file, entries })
    }

    /// The content of a write.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn data(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let mut data = vec![0; usize::try_from(length)?];
        self.file.read_exact_at(&mut data, at).context("cannot read the recording")?;
        Ok(data)
    }
}

/// How many entries a running machine's recording has by now, as far as its head says.
pub fn entries_so_far(path: &Path) -> u64 {
    let mut head = [0; 24];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut head, 0));
    if read.is_ok() && number(&head, 0) == MAGIC { number(&head, 16) } else { 0 }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
pub mod made {
    //! Recordings for tests.

    use super::{FLUSH, MAGIC};

    /// A recording's bytes.
    pub struct Made(Vec<u8>, u64);

    impl Made {
        /// An empty one, 512 bytes a sector.
        pub fn new() -> Self {
            Self(vec![0; 512], 0)
        }

        fn entry(&mut self, sector: u64, sectors: u64, flags: u64, data: &[u8]) {
            let mut head = Vec::new();
            for number in [sector, sectors, flags, data.len() as u64] {
                head.extend(number.to_le_bytes());
            }
            head.resize(512, 0);
            self.0.extend(head);
            self.0.extend(data);
            self.1 += 1;
        }

        /// A write of whole sectors.
        pub fn write(&mut self, sector: u64, data: &[u8]) {
            self.entry(sector, data.len() as u64 / 512, 0, data);
        }

        /// A flush.
        pub fn flush(&mut self) {
            self.entry(0, 0, FLUSH, &[]);
        }

        /// The finished bytes.
        pub fn finish(mut self) -> Vec<u8> {
            let mut head = Vec::new();
            for number in [MAGIC, 1, self.1] {
                head.extend(number.to_le_bytes());
            }
            head.extend(512_u32.to_le_bytes());
            self.0[..head.len()].copy_from_slice(&head);
            self.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_back() {
        let mut made = made::Made::new();
        made.write(3, &[7; 1024]);
        made.flush();
        made.write(9, &[8; 512]);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), made.finish()).expect("written");
        let log = Log::open(file.path()).expect("valid");
        assert_eq!(log.entries.len(), 3);
        let Kind::Write { start, length, at, durable } = log.entries[0] else { panic!("no write") };
        assert_eq!((start, length, durable), (1536, 1024, false));
        assert_eq!(log.data(at, length).expect("data"), [7; 1024]);
        assert_eq!(log.entries[1], Kind::Flush);
        assert_eq!(entries_so_far(file.path()), 3);
        // A machine that was killed: the last write is not whole.
        let bytes = std::fs::read(file.path()).expect("read");
        std::fs::write(file.path(), &bytes[..bytes.len() - 1]).expect("written");
        assert_eq!(Log::open(file.path()).expect("valid").entries.len(), 2);
        std::fs::write(file.path(), b"something else that is long enough").expect("written");
        assert!(Log::open(file.path()).is_err());
    }
}
