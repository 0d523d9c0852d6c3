//! Opening what is written to: a file, or a block device that nobody uses.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Serialize;

use crate::SECTOR;
use crate::medium::Medium;

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
    /// The user may not write to it.
    #[error("{path} may be written by root only: run it with sudo, or as root")]
    Forbidden {
        /// The target.
        path: String,
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
    /// It is a partition, and an image is a whole disk.
    #[error("{path} is a partition: an image goes on the whole disk, {disk}")]
    Partition {
        /// The target.
        path: String,
        /// Its disk.
        disk: String,
    },
    /// It takes no writes.
    #[error("{path} is write-protected")]
    ReadOnly {
        /// The target.
        path: String,
    },
    /// Its sectors have another length than those of the partition table.
    #[error("{path} has sectors of {bytes} bytes, images are for sectors of {SECTOR}")]
    Sector {
        /// The target.
        path: String,
        /// Bytes of a sector.
        bytes: u64,
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
    /// The same without the host's cache: errors come when they happen, reading asks the medium, and a slow
    /// card fills no memory that the others need.
    direct: Option<File>,
    /// Where the kernel shows the device, if it is one.
    sys: Option<PathBuf>,
}

/// A disk of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Its device.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it says of itself.
    #[serde(flatten)]
    pub identity: Identity,
    /// Whether it can be taken out, or hangs on USB.
    pub removable: bool,
    /// Why an image cannot be written to it.
    pub refusal: Option<String>,
}

/// The disks of this machine with a medium in them, those that can be taken out first. Not those that are made of files
/// or memory.
///
/// # Errors
///
/// When the kernel does not show them.
pub fn disks() -> io::Result<Vec<Disk>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    disks_below(Path::new("/sys"), &mounts, &swaps)
}

fn disks_below(sys: &Path, mountinfo: &str, swaps: &str) -> io::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(sys.join("block"))? {
        let entry = entry?.path();
        let Ok(own) = fs::canonicalize(&entry) else { continue };
        let attribute = |name: &str| fs::read_to_string(own.join(name)).unwrap_or_default().trim().to_owned();
        let path = format!("/dev/{}", entry.file_name().unwrap_or_default().display());
        let number = attribute("dev");
        let number = number.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        // Always in units of 512 bytes, whatever its sectors are.
        let size = attribute("size").parse::<u64>().unwrap_or(0).saturating_mul(512);
        let is_virtual = own.components().any(|part| part.as_os_str() == "virtual");
        let (Some(number), false, 1..) = (number, is_virtual, size) else { continue };
        let by_number = sys.join("dev/block");
        disks.push(Disk {
            refusal: check(&path, number, &by_number, mountinfo, swaps).err().map(|error| error.to_string()),
            path,
            size,
            identity: identity(&own),
            removable: attribute("removable") == "1"
                || own.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb")),
        });
    }
    disks.sort_by(|a, b| (!a.removable, &a.path).cmp(&(!b.removable, &b.path)));
    Ok(disks)
}

/// What a device says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Maker and model.
    pub model: Option<String>,
    /// Its serial number, or the CID of an SD card.
    pub serial: Option<String>,
}

impl Device {
    /// Opens the target at `path` for an image of `image_size` bytes in the file `image`. A file that does
    /// not exist is created with the length of the image.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when it is in use, is the image itself, or cannot be written.
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
                return Ok(Self { file, direct: None, sys: None });
            }
            Err(source) => return Err(fail("look at")(source)),
        };
        let same = |other: fs::Metadata| (other.dev(), other.ino()) == (found.dev(), found.ino());
        if fs::metadata(image).is_ok_and(same) {
            return Err(OpenError::Image { path: name });
        }
        let open = |flags: OFlags| {
            let opened =
                OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path);
            opened.map_err(|source| match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { path: name.clone() },
                io::ErrorKind::PermissionDenied => OpenError::Forbidden { path: name.clone() },
                io::ErrorKind::ResourceBusy => {
                    OpenError::InUse { path: name.clone(), by: "the kernel says that it is busy".to_owned() }
                }
                _ => OpenError::Io { doing: "open", path: name.clone(), source },
            })
        };
        if found.is_file() {
            return Ok(Self { file: open(OFlags::empty())?, direct: None, sys: None });
        }
        if !found.file_type().is_block_device() {
            return Err(OpenError::Kind { path: name });
        }
        let number = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        let sys = Path::new("/sys/dev/block");
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(fail("find mounts of"))?;
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        check(&name, number, sys, &mounts, &swaps)?;
        // Exclusive: the kernel refuses while a partition is in use, and keeps others from mounting one.
        let file = open(OFlags::EXCL)?;
        // Some devices cannot; then the cache is emptied before reading back.
        let direct = open(OFlags::DIRECT).ok();
        Ok(Self { file, direct, sys: Some(device_path(sys, number)) })
    }

    /// What it says of itself; nothing for a file.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.sys.as_deref().map(identity).unwrap_or_default()
    }

    /// The handle without a cache, when these bytes can go that way.
    fn direct_for(&self, at: u64, bytes: &[u8]) -> Option<&File> {
        let whole = |number: u64| number.is_multiple_of(SECTOR);
        let aligned = bytes.as_ptr().align_offset(SECTOR as usize) == 0;
        self.direct.as_ref().filter(|_| aligned && whole(at) && whole(bytes.len() as u64))
    }
}

impl Medium for Device {
    fn size(&mut self) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.direct_for(at, bytes).unwrap_or(&self.file).write_at(bytes, at)
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.direct_for(at, buffer).unwrap_or(&self.file).read_at(buffer, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        // Clean pages go, so that reading back asks the medium and not the memory.
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }

    fn is_present(&self) -> bool {
        let size = |sys: &PathBuf| fs::read_to_string(sys.join("size"));
        self.sys.as_ref().is_none_or(|sys| size(sys).is_ok_and(|size| size.trim() != "0"))
    }
}

fn device_path(sys: &Path, number: (u32, u32)) -> PathBuf {
    sys.join(format!("{}:{}", number.0, number.1))
}

/// Refuses what must not or cannot be overwritten; arguments as of [`in_use`].
fn check(path: &str, number: (u32, u32), sys: &Path, mountinfo: &str, swaps: &str) -> Result<(), OpenError> {
    let path = || path.to_owned();
    let device = device_path(sys, number);
    if let Some(by) = in_use(number, sys, mountinfo, swaps) {
        return Err(OpenError::InUse { path: path(), by });
    }
    if device.join("partition").exists() {
        let disk = fs::canonicalize(&device).ok().and_then(|p| Some(p.parent()?.file_name()?.to_owned()));
        let disk = disk.map_or_else(|| "a disk".to_owned(), |disk| format!("/dev/{}", disk.display()));
        return Err(OpenError::Partition { path: path(), disk });
    }
    let attribute = |name: &str| fs::read_to_string(device.join(name)).unwrap_or_default().trim().to_owned();
    if attribute("ro") == "1" {
        return Err(OpenError::ReadOnly { path: path() });
    }
    match attribute("queue/logical_block_size").parse() {
        Ok(bytes) if bytes != SECTOR => Err(OpenError::Sector { path: path(), bytes }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What the kernel shows of the device at `sys` and of the USB device it is part of.
fn identity(sys: &Path) -> Identity {
    let Ok(device) = fs::canonicalize(sys.join("device")) else { return Identity::default() };
    let attribute = |folder: &Path, name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.chars().take(64).collect::<String>())
    };
    let name = attribute(&device, "model").or_else(|| attribute(&device, "name"));
    let model = match (attribute(&device, "vendor"), name) {
        (Some(vendor), Some(model)) => Some(format!("{vendor} {model}")),
        (vendor, model) => model.or(vendor),
    };
    let above = device.ancestors().take(8).take_while(|folder| folder.file_name().is_some());
    let serial = attribute(&device, "cid").or_else(|| above.map(|f| attribute(f, "serial")).find_map(|s| s));
    Identity { model, serial }
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
        let name = fs::canonicalize(path).ok().and_then(|p| p.file_name().map(|n| n.display().to_string()));
        let node = name.map(|name| format!("/dev/{name}"));
        let mount = mountinfo.lines().find_map(|line| {
            // By number, or by name: file systems over several devices, as btrfs, have numbers of their own.
            let (place, kind) = line.split_once(" - ")?;
            let mut fields = place.split(' ');
            let by_number = fields.nth(2) == Some(number);
            let by_name = node.is_some() && kind.split(' ').nth(1) == node.as_deref();
            (by_number || by_name).then(|| fields.nth(1).unwrap_or("?"))
        });
        if let Some(mount) = mount {
            return Some(format!("{number} is mounted on {mount}"));
        }
        if let Some(holder) = fs::read_dir(path.join("holders")).ok().and_then(|mut holders| holders.next()) {
            let holder =
                holder.map_or_else(|_| "another device".to_owned(), |h| h.file_name().display().to_string());
            return Some(format!("{number} is part of {holder}"));
        }
        let swap =
            node.is_some_and(|node| swaps.lines().any(|line| line.split_whitespace().next() == Some(&node)));
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
    fn the_disks_of_a_machine() {
        let sys = tempfile::tempdir().unwrap();
        let at = |path: &str| sys.path().join(path);
        let own = [
            ("devices/pci0/nvme0n1", "nvme0n1", "259:0", "1000", "0"),
            ("devices/pci0/usb1/1-1/block/sdb", "sdb", "8:16", "2048", "0"),
            ("devices/pci0/usb1/1-2/block/sdc", "sdc", "8:32", "0", "1"),
            ("devices/virtual/block/loop0", "loop0", "7:0", "2048", "0"),
            ("devices/platform/mmc0/block/mmcblk0", "mmcblk0", "179:0", "4096", "1"),
        ];
        for folder in ["block", "dev/block"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for (path, name, number, size, removable) in own {
            fs::create_dir_all(at(path).join("device")).unwrap();
            for (file, text) in [("dev", number), ("size", size), ("removable", removable), ("ro", "0")] {
                fs::write(at(path).join(file), format!("{text}\n")).unwrap();
            }
            fs::write(at(path).join("device/model"), format!("Maker of {name}\n")).unwrap();
            for link in [format!("block/{name}"), format!("dev/block/{number}")] {
                std::os::unix::fs::symlink(at(path), at(&link)).unwrap();
            }
        }
        fs::write(at("devices/pci0/usb1/1-1/block/sdb/ro"), "1\n").unwrap();
        let mounts = "22 1 259:0 / / rw - ext4 /dev/nvme0n1 rw\n";
        let disks = disks_below(sys.path(), mounts, "").unwrap();
        let told: Vec<_> = disks
            .iter()
            .map(|disk| (disk.path.as_str(), disk.size, disk.removable, disk.refusal.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("/dev/mmcblk0", 2 << 20, true, None),
                ("/dev/sdb", 1 << 20, true, Some("/dev/sdb is write-protected")),
                ("/dev/nvme0n1", 512_000, false, Some("/dev/nvme0n1 is in use: 259:0 is mounted on /")),
            ]
        );
        assert_eq!(disks[0].identity.model.as_deref(), Some("Maker of mmcblk0"));
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
