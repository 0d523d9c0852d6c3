//! Whether a disk, as a power cut left it, is still a box: what boots, whether all of that is whole, whether the state
//! is sound, and whether everything is in it that the box has promised to keep.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use fatfs::{FileSystem, FsOptions};
use osimage::slots::esp::Esp;
use osimage::slots::{Slot, entry};
use rusqlite::{Connection, OpenFlags};

use crate::replay::{Disk, View};
use crate::tool;

/// Largest kernel and entry files, and most files of a folder, that are read.
const KERNEL_MAX: u64 = 256 << 20;
const ENTRY_MAX: u64 = 64 << 10;
const FILES_MAX: usize = 200;
/// The first bytes of an ext2, 3 or 4 superblock's magic, and where it is.
const EXT_MAGIC: (u64, [u8; 2]) = (1024 + 56, [0x53, 0xef]);

/// A version of the image, as it was built.
pub struct Version {
    /// Its name.
    pub name: String,
    /// Its root file system, hash tree and kernel.
    pub root: Vec<u8>,
    /// See `root`.
    pub verity: Vec<u8>,
    /// See `root`.
    pub kernel: Vec<u8>,
}

impl Version {
    /// Reads `root.squashfs`, `root.verity` and `uki.efi` of the folder in which they were built.
    ///
    /// # Errors
    /// When one is not there.
    pub fn read(name: &str, folder: &Path) -> Result<Self> {
        let read = |file: &str| {
            let path = folder.join(file);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self {
            name: name.to_owned(),
            root: read("root.squashfs")?,
            verity: read("root.verity")?,
            kernel: read("uki.efi")?,
        })
    }
}

/// What boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// What the loader chooses is whole: slot and version.
    Whole(String),
    /// What the loader chooses first is not, and it gives up on it: what it comes to then, and what was wrong.
    FallsBack(String),
    /// Nothing that is whole is ever reached, and why.
    Brick(String),
}

/// What a power cut left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What boots.
    pub boot: Boot,
    /// What is wrong with the state file system, or with the ledger in it.
    pub state: Option<String>,
    /// Receipts that were promised and are gone.
    pub lost: Vec<String>,
    /// What is wrong with the identity file system.
    pub identity: Option<String>,
}

impl Verdict {
    /// All is well.
    #[must_use]
    pub fn sound(&self) -> bool {
        !matches!(self.boot, Boot::Brick(_))
            && self.state.is_none()
            && self.lost.is_empty()
            && self.identity.is_none()
    }
}

/// What is kept of the last look at a part of the disk: the change count, and what was found.
type Seen<T> = Option<(u64, T)>;

/// The judge of one recording.
pub struct Checker {
    versions: Vec<Version>,
    /// Where files are put to be looked at; a file system in memory is best.
    scratch: PathBuf,
    /// The ledger's folder on the state file system.
    ledger: String,
    boot: Seen<Boot>,
    state: Seen<(Option<String>, BTreeSet<String>)>,
    identity: Seen<Option<String>>,
    /// Identity notes that the state is to be made anew: whatever it holds then, the next start formats it.
    making: bool,
    /// The state or the identity was there once: from then on it must stay.
    state_made: bool,
    identity_made: bool,
    /// How often a file system was really looked at.
    pub looks: u64,
}

impl Checker {
    /// A judge who knows these versions; the disk compares itself with them from now on.
    ///
    /// # Errors
    /// When the disk lacks a slot's partition.
    pub fn new(disk: &mut Disk, versions: Vec<Version>, scratch: &Path, ledger: &str) -> Result<Self> {
        for slot in Slot::ALL {
            for version in &versions {
                for (kind, content) in [("root", &version.root), ("verity", &version.verity)] {
                    let partition = format!("{kind}-{slot}");
                    disk.compare(&format!("{partition}/{}", version.name), &partition, content.clone())?;
                }
            }
        }
        Ok(Self {
            versions,
            scratch: scratch.to_owned(),
            ledger: ledger.to_owned(),
            boot: None,
            state: None,
            identity: None,
            making: false,
            state_made: false,
            identity_made: false,
            looks: 0,
        })
    }

    /// Judges the disk as it is now. `promised`: receipts that it must hold. `certain`: all of it was flushed, so what
    /// is there now must stay.
    ///
    /// # Errors
    /// When the check itself fails, which says nothing about the disk.
    pub fn judge(&mut self, disk: &Disk, promised: &BTreeSet<String>, certain: bool) -> Result<Verdict> {
        let boot = self.boot(disk);
        let identity = self.identity(disk)?;
        let (state, held) = if disk.partitions.contains_key("state") && !self.making {
            self.state(disk)?
        } else {
            (None, BTreeSet::new())
        };
        let lost: Vec<String> = promised.difference(&held).cloned().collect();
        if certain {
            self.state_made |= state.is_none() && has_file_system(disk, "state");
            self.identity_made |= identity.is_none() && has_file_system(disk, "identity");
        }
        Ok(Verdict { boot, state, lost, identity })
    }

    fn boot(&mut self, disk: &Disk) -> Boot {
        let change = disk
            .partitions
            .keys()
            .filter(|name| *name == "esp" || name.starts_with("root-") || name.starts_with("verity-"))
            .map(|name| disk.change(name))
            .max()
            .unwrap_or(0);
        if let Some((seen, boot)) = &self.boot
            && *seen == change
        {
            return boot.clone();
        }
        let boot = match self.boots(disk) {
            Ok(boot) => boot,
            Err(error) => Boot::Brick(format!("{error:#}")),
        };
        self.boot = Some((change, boot.clone()));
        boot
    }

    /// Follows the loader: an entry on trial whose kernel does not start is given up after its tries.
    fn boots(&self, disk: &Disk) -> Result<Boot> {
        let options = FsOptions::new().update_accessed_date(false);
        let fat = FileSystem::new(disk.view("esp")?, options).context("the ESP is no FAT file system")?;
        let root = fat.root_dir();
        root.open_file("EFI/BOOT/BOOTX64.EFI").context("the boot loader is gone")?;
        let mut paths = Vec::new();
        for folder in [osimage::slots::esp::ENTRIES, osimage::slots::esp::KERNELS] {
            let Ok(dir) = root.open_dir(folder) else { continue };
            for file in dir.iter().take(FILES_MAX) {
                let file = file.with_context(|| format!("cannot list {folder}"))?;
                if file.is_file() {
                    paths.push(format!("{folder}/{}", file.file_name()));
                }
            }
        }
        let text_of = |path: &str| {
            let bytes = read(root.open_file(path).ok()?, ENTRY_MAX).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut esp = Esp::from_files(paths.iter().map(String::as_str), text_of);
        let mut first = None;
        loop {
            let Some(chosen) = esp.chosen() else {
                let why = first.unwrap_or_else(|| "there is no entry".to_owned());
                return Ok(Boot::Brick(why));
            };
            let whole = (|| {
                let kernel = root.open_file(chosen.kernel.trim_start_matches('/'));
                let kernel =
                    read(kernel.with_context(|| format!("no kernel {}", chosen.kernel))?, KERNEL_MAX)
                        .with_context(|| format!("kernel {}", chosen.kernel))?;
                let slot = chosen.name.as_ref().context("an entry that is not ours")?.slot;
                self.whole(disk, slot, &kernel)
            })();
            match (whole, &first) {
                (Ok(what), None) => return Ok(Boot::Whole(what)),
                (Ok(what), Some(why)) => return Ok(Boot::FallsBack(format!("{what}, after {why}"))),
                (Err(error), _) => {
                    let why = format!("{}: {error:#}", chosen.file);
                    // Without a counter it is chosen for ever.
                    if entry::counter(&chosen.file).is_none() {
                        return Ok(Boot::Brick(why));
                    }
                    first.get_or_insert(why);
                    esp.entries.retain(|entry| entry.file != chosen.file);
                }
            }
        }
    }

    fn whole(&self, disk: &Disk, slot: Slot, kernel: &[u8]) -> Result<String> {
        // The partition holds the kernel and zeros behind it; the file may carry them.
        let version = self.versions.iter().find(|version| {
            kernel.len() >= version.kernel.len()
                && kernel[..version.kernel.len()] == version.kernel[..]
                && kernel[version.kernel.len()..].iter().all(|byte| *byte == 0)
        });
        let version = version.context("its kernel is no whole kernel of any version")?;
        for kind in ["root", "verity"] {
            let pages = disk.differs(&format!("{kind}-{slot}/{}", version.name)).unwrap_or(usize::MAX);
            ensure!(pages == 0, "{kind}-{slot} is not version {}: {pages} pages differ", version.name);
        }
        Ok(format!("{slot} with version {}", version.name))
    }

    fn identity(&mut self, disk: &Disk) -> Result<Option<String>> {
        if !disk.partitions.contains_key("identity") {
            return Ok(None);
        }
        let change = disk.change("identity");
        if let Some((seen, verdict)) = &self.identity
            && *seen == change
        {
            return Ok(verdict.clone());
        }
        let verdict = if has_file_system(disk, "identity") {
            let copy = self.scratch.join("identity");
            disk.export("identity", &copy)?;
            self.looks += 1;
            let wrong = file_system(&copy)?;
            self.making = wrong.is_none() && notes_making(&copy)?;
            wrong
        } else {
            self.making = false;
            self.identity_made.then(|| "it is gone".to_owned())
        };
        self.identity = Some((change, verdict.clone()));
        Ok(verdict)
    }

    fn state(&mut self, disk: &Disk) -> Result<(Option<String>, BTreeSet<String>)> {
        let change = disk.change("state");
        if let Some((seen, found)) = &self.state
            && *seen == change
        {
            return Ok(found.clone());
        }
        let found = if has_file_system(disk, "state") {
            let copy = self.scratch.join("state");
            disk.export("state", &copy)?;
            self.looks += 1;
            match file_system(&copy)? {
                Some(wrong) => (Some(wrong), BTreeSet::new()),
                None => match self.receipts(&copy) {
                    Ok(receipts) => (None, receipts),
                    Err(error) => (Some(format!("{error:#}")), BTreeSet::new()),
                },
            }
        } else {
            (self.state_made.then(|| "it is gone".to_owned()), BTreeSet::new())
        };
        self.state = Some((change, found.clone()));
        Ok(found)
    }

    /// The receipts of the ledger in a state file system whose journal is replayed.
    fn receipts(&self, file_system: &Path) -> Result<BTreeSet<String>> {
        let copy = self.scratch.join("ledger.db");
        for ending in ["", "-wal", "-shm"] {
            let to = PathBuf::from(format!("{}{ending}", copy.display()));
            let _ = std::fs::remove_file(&to);
            if ending != "-shm" {
                let request = format!("dump {}/ledger.db{ending} {}", self.ledger, to.display());
                run(tool("debugfs").args(["-R", &request]).arg(file_system))?;
            }
        }
        if !copy.exists() {
            return Ok(BTreeSet::new());
        }
        receipts(&copy)
    }
}

/// The receipts of a ledger file; it must be sound.
///
/// # Errors
/// When it is not.
pub fn receipts(ledger: &Path) -> Result<BTreeSet<String>> {
    if std::fs::metadata(ledger).context("the ledger is gone")?.len() == 0 {
        return Ok(BTreeSet::new());
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(ledger, flags).context("the ledger does not open")?;
    let sound: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .context("the ledger cannot be checked")?;
    ensure!(sound == "ok", "the ledger is damaged: {sound}");
    let number =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).context("the ledger's form");
    let form = number("PRAGMA user_version")?;
    let steps = number("SELECT count(*) FROM sqlite_schema WHERE name = 'steps'")?;
    ensure!(
        (form >= 2) == (steps == 1),
        "the ledger was led up by half: form {form}, {steps} tables of form 2"
    );
    if number("SELECT count(*) FROM sqlite_schema WHERE name = 'receipts'")? == 0 {
        return Ok(BTreeSet::new());
    }
    let mut query = connection.prepare("SELECT id FROM receipts").context("the ledger's receipts")?;
    let ids = query.query_map([], |row| row.get(0)).context("the ledger's receipts")?;
    ids.collect::<rusqlite::Result<_>>().context("the ledger's receipts")
}

fn has_file_system(disk: &Disk, partition: &str) -> bool {
    let mut magic = [0; 2];
    let Some(part) = disk.partitions.get(partition) else { return false };
    disk.read(part.start() + EXT_MAGIC.0, &mut magic).is_ok() && magic == EXT_MAGIC.1
}

/// Mends a file system as the box does when it starts (its journal, then all that can be), then checks it whole: what
/// is wrong.
fn file_system(copy: &Path) -> Result<Option<String>> {
    let (mut mended, mut said) = status(tool("e2fsck").args(["-p"]).arg(copy))?;
    if mended > 2 {
        (mended, said) = status(tool("e2fsck").args(["-y"]).arg(copy))?;
    }
    if mended > 2 {
        return Ok(Some(format!("e2fsck gives up ({mended}): {}", said.trim())));
    }
    let (sound, said) = status(tool("e2fsck").args(["-fn"]).arg(copy))?;
    Ok((sound != 0).then(|| format!("not sound after its journal ({sound}): {}", said.trim())))
}

/// Whether the note on identity about the state (`caretaker::disks`) says that it is being made.
fn notes_making(identity: &Path) -> Result<bool> {
    let (_, said) = status(tool("debugfs").args(["-R", "cat /state"]).arg(identity))?;
    Ok(said.lines().any(|line| line.trim() == "making"))
}

fn status(command: &mut Command) -> Result<(i32, String)> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let status = output.status.code().context("killed")?;
    Ok((status, said))
}

fn run(command: &mut Command) -> Result<String> {
    let (code, said) = status(command)?;
    if code != 0 {
        bail!("{:?} failed with {code}: {said}", command.get_program());
    }
    Ok(said)
}

fn read(file: fatfs::File<'_, View<'_>>, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).context("cannot be read")?;
    ensure!(bytes.len() as u64 <= limit, "longer than {limit} bytes");
    Ok(bytes)
}
