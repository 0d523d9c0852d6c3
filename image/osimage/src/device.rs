//! Opening what is written to: a file, or a block device that nobody uses.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::flash::Target;

/// Why a target is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refuses.
    #[error("{doing} {path}")]
    Io {
        /// Look at, create or open.
        doing: &'static str,
        /// The target.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is neither a file nor a block device.
    #[error("{path} is neither a file nor a block device")]
    Kind {
        /// The target.
        path: String,
    },
    /// The image itself.
    #[error("{path} is the image itself")]
    Image {
        /// The target.
        path: String,
    },
    /// A file system on it is mounted, swap is on it, or another device is built on it.
    #[error("{path} is in use: {by}")]
    InUse {
        /// The target.
        path: String,
        /// What uses it.
        by: String,
    },
}

/// An open file or block device.
#[derive(Debug)]
pub struct Device {
    file: File,
}

impl Device {
    /// Opens the target at `path` for an image of `image_size` bytes in the file `image`. A file that does
    /// not exist is created with the length of the image.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when it is in use, is the image itself, or cannot be opened.
    pub fn open(path: &Path, image: &Path, image_size: u64) -> Result<Self, OpenError> {
        let name = path.display().to_string();
        let fail = |doing| {
            let path = name.clone();
            move |source| OpenError::Io { doing, path, source }
        };
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
                let file = file.map_err(fail("create"))?;
                file.set_len(image_size).map_err(fail("create"))?;
                return Ok(Self { file });
            }
            Err(source) => return Err(fail("look at")(source)),
        };
        let same = |other: fs::Metadata| (other.dev(), other.ino()) == (found.dev(), found.ino());
        if fs::metadata(image).is_ok_and(same) {
            return Err(OpenError::Image { path: name });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if found.file_type().is_block_device() {
            let number = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
            let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(fail("find mounts of"))?;
            let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
            if let Some(by) = in_use(number, Path::new("/sys/dev/block"), &mounts, &swaps) {
                return Err(OpenError::InUse { path: name, by });
            }
            // Exclusive: the kernel refuses while a partition is in use, and keeps others from mounting one.
            options.custom_flags(rustix::fs::OFlags::EXCL.bits().cast_signed());
        } else if !found.is_file() {
            return Err(OpenError::Kind { path: name });
        }
        Ok(Self { file: options.open(path).map_err(fail("open"))? })
    }
}

impl Read for Device {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for Device {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Device {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Target for Device {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        // Clean pages go, so that reading back asks the medium and not the memory.
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }
}

/// What uses the block device `number` or a partition of it: looks under `sys` (as /sys/dev/block), in the
/// text of /proc/self/mountinfo and of /proc/swaps.
fn in_use(number: (u32, u32), sys: &Path, mountinfo: &str, swaps: &str) -> Option<String> {
    let device = sys.join(format!("{}:{}", number.0, number.1));
    let mut parts: Vec<(String, PathBuf)> = vec![(format!("{}:{}", number.0, number.1), device.clone())];
    for entry in fs::read_dir(&device).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.join("partition").exists()
            && let Ok(dev) = fs::read_to_string(path.join("dev"))
        {
            parts.push((dev.trim().to_owned(), path));
        }
    }
    for (number, path) in &parts {
        let mount = mountinfo.lines().find_map(|line| {
            let mut fields = line.split(' ');
            (fields.nth(2) == Some(number)).then(|| fields.nth(1).unwrap_or("?"))
        });
        if let Some(mount) = mount {
            return Some(format!("{number} is mounted on {mount}"));
        }
        if let Some(holder) = fs::read_dir(path.join("holders")).ok().and_then(|mut holders| holders.next()) {
            let holder =
                holder.map_or_else(|_| "another device".to_owned(), |h| h.file_name().display().to_string());
            return Some(format!("{number} is part of {holder}"));
        }
        let name = fs::canonicalize(path).ok().and_then(|p| p.file_name().map(|n| n.display().to_string()));
        let swap = name.is_some_and(|name| {
            let device = format!("/dev/{name}");
            swaps.lines().any(|line| line.split_whitespace().next() == Some(&device))
        });
        if swap {
            return Some(format!("{number} is swap space"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str =
        "22 1 259:2 / / rw,relatime - ext4 /dev/x rw\n36 22 8:17 / /media/card rw - vfat /dev/sdb1 rw\n";

    /// A tree as /sys/dev/block has it: disk 8:16 with partition 8:17, and 8:32 with 8:33, whose holder is
    /// dm-0.
    fn sys() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (disk, name, partition) in [("8:16", "sdb1", "8:17"), ("8:32", "sdc1", "8:33")] {
            let path = dir.path().join(disk).join(name);
            fs::create_dir_all(path.join("holders")).unwrap();
            fs::write(path.join("partition"), "1\n").unwrap();
            fs::write(path.join("dev"), format!("{partition}\n")).unwrap();
        }
        fs::create_dir(dir.path().join("8:32/sdc1/holders/dm-0")).unwrap();
        fs::create_dir_all(dir.path().join("8:48/sdd1")).unwrap();
        fs::write(dir.path().join("8:48/sdd1/partition"), "1\n").unwrap();
        fs::write(dir.path().join("8:48/sdd1/dev"), "8:49\n").unwrap();
        dir
    }

    #[test]
    fn a_device_in_use_is_told_by_whom() {
        let sys = sys();
        let swaps = "Filename Type Size Used Priority\n/dev/sdd1 partition 1 0 -2\n";
        let table = [
            ((8, 16), Some("8:17 is mounted on /media/card")),
            ((8, 17), Some("8:17 is mounted on /media/card")),
            ((259, 2), Some("259:2 is mounted on /")),
            ((8, 32), Some("8:33 is part of dm-0")),
            ((8, 48), Some("8:49 is swap space")),
            ((8, 64), None),
        ];
        for (number, by) in table {
            assert_eq!(in_use(number, sys.path(), MOUNTS, swaps).as_deref(), by, "{number:?}");
        }
    }

    #[test]
    fn only_files_and_block_devices_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, [1; 10]).unwrap();
        let refusal = |path: &Path| Device::open(path, &image, 10).unwrap_err().to_string();
        assert!(refusal(dir.path()).ends_with("is neither a file nor a block device"));
        assert!(refusal(Path::new("/dev/null")).ends_with("is neither a file nor a block device"));
        assert!(refusal(&image).ends_with("is the image itself"));
        let link = dir.path().join("link");
        fs::hard_link(&image, &link).unwrap();
        assert!(refusal(&link).ends_with("is the image itself"));
        let fresh = dir.path().join("fresh");
        Device::open(&fresh, &image, 12345).unwrap();
        assert_eq!(fs::metadata(&fresh).unwrap().len(), 12345);
    }
}
