//! A disk as it is after a part of a recording: the disk of before, and the pages written since.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use osimage::gpt::{Copy, Partition, Table};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// What a slot's partition should hold, and on which pages it does not.
struct Reference {
    name: String,
    start: u64,
    content: Vec<u8>,
    wrong: Vec<bool>,
    count: usize,
}

/// The disk.
pub struct Disk {
    base: File,
    length: u64,
    pages: HashMap<u64, Box<[u8]>>,
    /// Pages as they were, while the disk is tried out.
    undo: Option<BTreeMap<u64, Option<Box<[u8]>>>>,
    /// The partitions, by name.
    pub partitions: BTreeMap<String, Partition>,
    /// Counts up with each change of the partition at this index (in the order of `partitions`).
    changes: Vec<(Range<u64>, u64)>,
    counter: u64,
    references: Vec<Reference>,
}

impl Disk {
    /// A disk before the recording.
    ///
    /// # Errors
    /// When it has no partition table.
    pub fn open(base: &Path) -> Result<Self> {
        let mut base = File::open(base).with_context(|| format!("cannot open {}", base.display()))?;
        let length = base.metadata().context("cannot look at the disk")?.len();
        let table = Table::read(&mut base, Copy::Primary).context("the disk's partition table")?;
        let partitions: BTreeMap<String, Partition> =
            table.partitions.into_iter().map(|partition| (partition.name.clone(), partition)).collect();
        let changes = partitions.values().map(|part| (part.start()..part.start() + part.len(), 0)).collect();
        Ok(Self {
            base,
            length,
            pages: HashMap::new(),
            undo: None,
            partitions,
            changes,
            counter: 0,
            references: Vec::new(),
        })
    }

    /// From now on counts where a partition's content differs from this; under this name.
    ///
    /// # Errors
    /// When there is no such partition, or the disk cannot be read.
    pub fn compare(&mut self, name: &str, partition: &str, content: Vec<u8>) -> Result<()> {
        let part = self.partitions.get(partition).with_context(|| format!("no partition {partition}"))?;
        let start = part.start();
        let pages = content.len().div_ceil(PAGE as usize);
        self.references.push(Reference {
            name: name.to_owned(),
            start,
            content,
            wrong: vec![false; pages],
            count: 0,
        });
        for page in start / PAGE..start / PAGE + pages as u64 {
            let bytes = self.page(page)?;
            let index = self.references.len() - 1;
            self.references[index].look(page, &bytes);
        }
        Ok(())
    }

    /// Pages at which the partition differs from the content of that name.
    #[must_use]
    pub fn differs(&self, name: &str) -> Option<usize> {
        self.references.iter().find(|reference| reference.name == name).map(|reference| reference.count)
    }

    /// A number that changes whenever the partition does.
    #[must_use]
    pub fn change(&self, partition: &str) -> u64 {
        let index = self.partitions.keys().position(|name| name == partition);
        index.map_or(0, |index| self.changes[index].1)
    }

    /// Reads anywhere.
    ///
    /// # Errors
    /// Beyond the end.
    pub fn read(&self, mut at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            let inside = (at % PAGE) as usize;
            let count = (PAGE as usize - inside).min(into.len() - done);
            match self.pages.get(&(at / PAGE)) {
                Some(page) => into[done..done + count].copy_from_slice(&page[inside..inside + count]),
                None => self.base.read_exact_at(&mut into[done..done + count], at)?,
            }
            done += count;
            at += count as u64;
        }
        Ok(())
    }

    fn page(&self, page: u64) -> io::Result<Box<[u8]>> {
        let start = page * PAGE;
        let count = self.length.saturating_sub(start).min(PAGE) as usize;
        let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
        self.read(start, &mut bytes[..count])?;
        Ok(bytes)
    }

    /// Writes anywhere; what lies beyond the end is an error of the recording.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn write(&mut self, mut at: u64, mut data: &[u8]) -> io::Result<()> {
        self.counter += 1;
        for (range, change) in &mut self.changes {
            if at < range.end && at + data.len() as u64 > range.start {
                *change = self.counter;
            }
        }
        while !data.is_empty() {
            let inside = (at % PAGE) as usize;
            let count = (PAGE as usize - inside).min(data.len());
            let number = at / PAGE;
            if let Some(undo) = &mut self.undo {
                let old = self.pages.get(&number).cloned();
                undo.entry(number).or_insert(old);
            }
            if !self.pages.contains_key(&number) {
                let page = self.page(number)?;
                self.pages.insert(number, page);
            }
            if let Some(page) = self.pages.get_mut(&number) {
                page[inside..inside + count].copy_from_slice(&data[..count]);
                for reference in &mut self.references {
                    reference.look(number, page);
                }
            }
            data = &data[count..];
            at += count as u64;
        }
        Ok(())
    }

    /// Changes from here on are tried out only.
    pub fn begin(&mut self) {
        self.undo = Some(BTreeMap::new());
    }

    /// Takes back everything since [`Self::begin`].
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn take_back(&mut self) -> io::Result<()> {
        let Some(undo) = self.undo.take() else { return Ok(()) };
        self.counter += 1;
        for (number, old) in undo {
            let start = number * PAGE;
            for (range, change) in &mut self.changes {
                if start < range.end && start + PAGE > range.start {
                    *change = self.counter;
                }
            }
            match old {
                Some(page) => {
                    self.pages.insert(number, page);
                }
                None => {
                    self.pages.remove(&number);
                }
            }
            let page = self.page(number)?;
            for reference in &mut self.references {
                reference.look(number, &page);
            }
        }
        Ok(())
    }

    /// Writes all of it over a copy of the disk of before.
    ///
    /// # Errors
    /// When the copy cannot be written.
    pub fn apply_to(&self, copy: &Path) -> Result<()> {
        let file = File::options()
            .write(true)
            .open(copy)
            .with_context(|| format!("cannot open {}", copy.display()))?;
        for (number, page) in &self.pages {
            let start = number * PAGE;
            let count = self.length.saturating_sub(start).min(PAGE) as usize;
            file.write_all_at(&page[..count], start).context("cannot write the copy")?;
        }
        Ok(())
    }

    /// Writes a partition into a sparse file.
    ///
    /// # Errors
    /// When it is not there or the file cannot be written.
    pub fn export(&self, partition: &str, to: &Path) -> Result<()> {
        let part = self.partitions.get(partition).with_context(|| format!("no partition {partition}"))?;
        let (start, end) = (part.start(), part.start() + part.len());
        let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
        file.set_len(part.len()).context("cannot size the copy")?;
        let mut at = start;
        let mut chunk = vec![0; 1 << 20];
        while let Some(data) = next_data(&self.base, at, end)? {
            at = data.start;
            while at < data.end {
                let count = ((data.end - at) as usize).min(chunk.len());
                self.base.read_exact_at(&mut chunk[..count], at).context("cannot read the disk")?;
                file.write_all_at(&chunk[..count], at - start).context("cannot write the copy")?;
                at += count as u64;
            }
        }
        for (number, page) in &self.pages {
            let at = number * PAGE;
            if at >= start && at < end {
                let count = (end - at).min(PAGE) as usize;
                file.write_all_at(&page[..count], at - start).context("cannot write the copy")?;
            }
        }
        Ok(())
    }

    /// A partition to read from, as a file. What is written to it is dropped.
    ///
    /// # Errors
    /// When it is not there.
    pub fn view(&self, partition: &str) -> Result<View<'_>> {
        let part = self.partitions.get(partition).with_context(|| format!("no partition {partition}"))?;
        Ok(View { disk: self, start: part.start(), length: part.len(), at: 0 })
    }
}

impl Reference {
    fn look(&mut self, page: u64, bytes: &[u8]) {
        let start = page * PAGE;
        if start < self.start || start - self.start >= self.content.len() as u64 {
            return;
        }
        let from = (start - self.start) as usize;
        let want = &self.content[from..self.content.len().min(from + PAGE as usize)];
        let wrong = *want != bytes[..want.len()];
        let was = std::mem::replace(&mut self.wrong[from / PAGE as usize], wrong);
        self.count = self.count + usize::from(wrong) - usize::from(was);
    }
}

/// The next part of a sparse file that is no hole.
fn next_data(file: &File, at: u64, end: u64) -> Result<Option<Range<u64>>> {
    use rustix::fs::SeekFrom as From;
    let start = match rustix::fs::seek(file, From::Data(at)) {
        Ok(start) if start < end => start,
        Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error).context("cannot look for data"),
    };
    let hole = rustix::fs::seek(file, From::Hole(start)).context("cannot look for holes")?;
    Ok(Some(start..hole.min(end)))
}

/// See [`Disk::view`].
pub struct View<'a> {
    disk: &'a Disk,
    start: u64,
    length: u64,
    at: u64,
}

impl Read for View<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.length.saturating_sub(self.at).min(into.len() as u64) as usize;
        self.disk.read(self.start + self.at, &mut into[..count])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for View<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.at += from.len() as u64;
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for View<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::other("before the start"))?;
        Ok(self.at)
    }
}
