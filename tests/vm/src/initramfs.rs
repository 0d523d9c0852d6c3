//! The machine's root file system: an archive in the "newc" form of cpio, which the kernel unpacks into memory
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// An archive that is being written.
pub struct Initramfs<W> {
    to: W,
    /// Folders that are there already.
    folders: BTreeSet<String>,
    entries: u32,
}

impl<W: Write> Initramfs<W> {
    /// An empty archive.
    pub fn new(to: W) -> Self {
        Self { to, folders: BTreeSet::new(), entries: 0 }
    }

    /// Adds an empty folder (and the folders above it). `path` has no `/` at its start.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        self.folder(above(path))?;
        self.folders.insert(path.to_owned());
        self.entry(path, FOLDER, &[])
    }

    /// Adds a file, executable or not, and the folders above it.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub fn file(&mut self, path: &str, executable: bool, content: &[u8]) -> io::Result<()> {
        self.folder(above(path))?;
        self.entry(path, if executable { PROGRAM } else { FILE }, content)
    }

    /// Copies a file of this machine.
    ///
    /// # Errors
    /// When it cannot be read or the archive not be written; the former names it.
    pub fn copy(&mut self, path: &str, executable: bool, from: &Path) -> io::Result<()> {
        let content = std::fs::read(from).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read {}: {error}", from.display()))
        })?;
        self.file(path, executable, &content)
    }

    /// Closes the archive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{path} is too large")))?;
        let name = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
        write!(self.to, "070701")?;
        // Inode, mode, owner, group, links, time, size, device major and minor, the same of a device node, length
        // of the name with its zero, checksum (unused).
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0] {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(path.as_bytes())?;
        self.to.write_all(&[0])?;
        // Head (110 bytes) and name together, then the content, are filled up to multiples of four.
        self.to.write_all(padding(110 + path.len() + 1))?;
        self.to.write_all(content)?;
        self.to.write_all(padding(content.len()))
    }
}

fn above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

fn padding(length: usize) -> &'static [u8] {
    &[0; 3][..(4 - length % 4) % 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_their_files_and_once() {
        let mut archive = Initramfs::new(Vec::new());
        archive.file("a/b/c", true, b"12345").expect("written");
        archive.file("a/b/d", false, b"").expect("written");
        let bytes = archive.finish().expect("written");
        assert_eq!(bytes.len() % 4, 0);
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |index: usize| {
                let text = &bytes[at + 6 + 8 * index..at + 14 + 8 * index];
                usize::from_str_radix(std::str::from_utf8(text).expect("hex"), 16).expect("hex")
            };
            let (mode, size, name) = (field(1), field(6), field(11));
            let text = &bytes[at + 110..at + 110 + name - 1];
            names.push((String::from_utf8(text.to_vec()).expect("a name"), mode, size));
            at = (at + 110 + name).next_multiple_of(4);
            at = (at + size).next_multiple_of(4);
        }
        let want = [
            ("a", 0o040_755, 0),
            ("a/b", 0o040_755, 0),
            ("a/b/c", 0o100_755, 5),
            ("a/b/d", 0o100_644, 0),
            ("TRAILER!!!", 0, 0),
        ];
        assert_eq!(names, want.map(|(name, mode, size)| (name.to_owned(), mode, size)));
    }
}
