//! A partition of a disk as a disk of its own, read-only, and the FAT file systems in them.

use std::io::{self, Read, Seek, SeekFrom, Write};

use fatfs::{FileSystem, FsOptions};

/// Files of a folder that are looked at: hundreds of times what a boot loader needs.
const FILES_MAX: usize = 1000;

/// A part of a disk.
pub struct Part<'a, D> {
    disk: &'a mut D,
    start: u64,
    length: u64,
    at: u64,
}

impl<'a, D: Read + Seek> Part<'a, D> {
    /// The `length` bytes of `disk` from `start` on.
    pub const fn new(disk: &'a mut D, start: u64, length: u64) -> Self {
        Self { disk, start, length, at: 0 }
    }

    /// Fills `buffer` from `at`.
    ///
    /// # Errors
    ///
    /// As the disk's, `UnexpectedEof` at the end of the part.
    pub fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.at = at;
        self.read_exact(buffer)
    }
}

impl<D: Read + Seek> Read for Part<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.disk.seek(SeekFrom::Start(self.start + self.at))?;
        let read = self.disk.read(&mut buffer[..length])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<D: Read + Seek> Seek for Part<'_, D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The reader of file systems wants to be able to write; it is never let.
impl<D> Write for Part<'_, D> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The files of a FAT file system that lie in `folders` ("" for its root), with what is in those that
/// `wanted` names, as far as they are no longer than `length_max` bytes. Paths are from the root, without a leading
/// slash. A folder that is not there has no files.
///
/// # Errors
///
/// When it is no FAT file system, or is damaged.
pub fn fat_files<D: Read + Seek>(
    part: Part<'_, D>,
    folders: &[&str],
    length_max: u64,
    wanted: impl Fn(&str) -> bool,
) -> io::Result<Vec<(String, Option<Vec<u8>>)>> {
    let options = FsOptions::new().update_accessed_date(false);
    let system = FileSystem::new(part, options)?;
    let mut files = Vec::new();
    for folder in folders {
        let folder_path =
            |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let opened =
            if folder.is_empty() { Ok(system.root_dir()) } else { system.root_dir().open_dir(folder) };
        let opened = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        for entry in opened.iter().take(FILES_MAX) {
            let entry = entry?;
            if !entry.is_file() {
                continue;
            }
            let path = folder_path(&entry.file_name());
            let mut content = None;
            if wanted(&path) && entry.len() <= length_max {
                let mut bytes = Vec::new();
                entry.to_file().take(length_max).read_to_end(&mut bytes)?;
                content = Some(bytes);
            }
            files.push((path, content));
        }
    }
    Ok(files)
}
