//! The boot choice on its medium: reads the FAT file system that chooses, and performs the changes that
//! [`osimage::slots`] asks for. Also what RAUC calls (`boot-backend`, RAUC's "custom" boot loader).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use osimage::slots::autoboot::{AUTOBOOT, Numbers, SLOTS, Select};
use osimage::slots::esp::{ENTRIES, Esp, KERNELS};
use osimage::slots::{Change, Slot, State, pe};
use rustix::fs::FlockOperation;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::files::{self, to};
use crate::place::{Place, partition};
use crate::slot::{Running, partition_number, running};

/// Bytes that are copied or compared at once.
const CHUNK: usize = 1 << 20;
/// No entry of a boot loader is longer, bytes.
const ENTRY_BYTES_MAX: u64 = 64 << 10;

/// Here while a restart would start another slot.
pub const PENDING: &str = "/run/caretaker/pending";

/// The board's way to choose, its file system mounted. One at a time: a lock is held.
#[derive(Debug)]
pub struct Boot {
    place: Place,
    /// Who runs.
    pub running: Running,
    board: Board,
    mounted: Mounted,
}

#[derive(Debug)]
enum Board {
    Pc,
    RaspberryPi(Numbers),
}

/// A mounted file system and the lock on it; both go with it.
#[derive(Debug)]
struct Mounted {
    folder: PathBuf,
    unmount: bool,
    _lock: File,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.unmount && unmount(&self.folder, UnmountFlags::empty()).is_err() {
            // Somebody looks at it: let it go when they have gone.
            let _ = unmount(&self.folder, UnmountFlags::DETACH);
        }
    }
}

impl Boot {
    /// Mounts what chooses.
    ///
    /// # Errors
    /// When nobody says which slot runs, or there is nothing to mount.
    pub fn open(place: &Place) -> Result<Self> {
        let running = running(place)?;
        let (name, board) = match partition_number(place, "boot-a").zip(partition_number(place, "boot-b")) {
            Some((a, b)) => (partition::SELECT, Board::RaspberryPi(Numbers { a, b })),
            None => (partition::ESP, Board::Pc),
        };
        let device = place.partition(name).with_context(|| format!("no partition {name}"))?;
        let mounted = Mounted::new(place, &device)?;
        Ok(Self { place: place.clone(), running, board, mounted })
    }

    /// What is known of a slot.
    ///
    /// # Errors
    /// When the file system cannot be read.
    pub fn state(&self, slot: Slot) -> Result<State> {
        Ok(match self.board {
            Board::Pc => self.esp()?.state(slot),
            Board::RaspberryPi(numbers) => self.select(numbers).state(slot),
        })
    }

    /// The slot that the next restart should start.
    ///
    /// # Errors
    /// When the file system cannot be read.
    pub fn primary(&self) -> Result<Option<Slot>> {
        Ok(match self.board {
            Board::Pc => self.esp()?.chosen().and_then(|chosen| chosen.name).map(|name| name.slot),
            Board::RaspberryPi(numbers) => self.select(numbers).primary(),
        })
    }

    /// Generation of a slot's newest entry, and how often it was tried; zeros where the board does not count.
    ///
    /// # Errors
    /// When the file system cannot be read.
    pub fn generation(&self, slot: Slot) -> Result<(u32, u32)> {
        Ok(match self.board {
            Board::Pc => self
                .esp()?
                .newest(slot)
                .map_or((0, 0), |name| (name.generation, name.counter.map_or(0, |counter| counter.done))),
            Board::RaspberryPi(_) => (0, 0),
        })
    }

    /// Makes a slot the next to start.
    ///
    /// # Errors
    /// [`osimage::slots::Refusal`], or what the file system says.
    pub fn activate(&self, slot: Slot) -> Result<()> {
        let changes = match self.board {
            Board::Pc => self.esp()?.activate(slot, self.running.slot, &self.identical(slot)?),
            Board::RaspberryPi(numbers) => self.select(numbers).activate(slot, self.running.slot),
        };
        self.perform(&changes.with_context(|| format!("slot {slot} is not activated"))?)
    }

    /// The slot that runs has proven itself.
    ///
    /// # Errors
    /// For another slot, or what the file system says.
    pub fn prove(&self, slot: Slot) -> Result<()> {
        let changes = match self.board {
            // A slot that does not run may be marked only where there is something to mark: nothing is made up.
            _ if slot != self.running.slot => match self.state(slot)? {
                State::Good => return Ok(()),
                state => bail!("slot {slot} does not run and is {state}: only what runs can prove itself"),
            },
            Board::Pc => self.esp()?.prove(slot, &self.identical(slot)?),
            Board::RaspberryPi(numbers) => self.select(numbers).prove(slot),
        };
        self.perform(&changes.with_context(|| format!("slot {slot} is not marked good"))?)
    }

    /// The slot is not to be started: failed, or about to be written.
    ///
    /// # Errors
    /// [`osimage::slots::Refusal`], or what the file system says.
    pub fn give_up_or_clear(&self, slot: Slot) -> Result<()> {
        let running = self.running.slot;
        let changes = match self.board {
            Board::Pc => self.esp()?.give_up_or_clear(slot, running),
            Board::RaspberryPi(numbers) => self.select(numbers).give_up_or_clear(slot, running),
        };
        self.perform(&changes.with_context(|| format!("slot {slot} is not marked bad"))?)
    }

    /// What a restart needs so that a waiting trial starts: on a Raspberry Pi one try is used up, and the argument
    /// of the restart is returned.
    ///
    /// # Errors
    /// What the file system says.
    pub fn before_restart(&self) -> Result<Option<&'static str>> {
        match self.board {
            Board::Pc => Ok(None),
            Board::RaspberryPi(numbers) => match self.select(numbers).try_once() {
                None => Ok(None),
                Some(changes) => self.perform(&changes).map(|()| Some("0 tryboot")),
            },
        }
    }

    /// The `os-release` inside a slot's kernel; `None` where the board keeps none, or nothing was written yet.
    #[must_use]
    pub fn release(&self, slot: Slot) -> Option<String> {
        let Board::Pc = self.board else { return None };
        let mut kernel = File::open(self.place.partition(&format!("kernel-{slot}"))?).ok()?;
        let head = head(&mut kernel).ok()?;
        let (place, length) = pe::section(&head, b".osrel")?;
        let mut text = String::new();
        io::Seek::seek(&mut kernel, io::SeekFrom::Start(place)).ok()?;
        kernel.take(length.min(ENTRY_BYTES_MAX)).read_to_string(&mut text).ok()?;
        Some(text.trim_end_matches('\0').to_owned())
    }

    fn esp(&self) -> Result<Esp> {
        let mut paths = Vec::new();
        for folder in [ENTRIES, KERNELS] {
            let full = self.mounted.folder.join(folder);
            let listed = match fs::read_dir(&full) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => to("read", &full, result)?,
            };
            for entry in listed {
                let entry = to("read", &full, entry)?;
                let name = entry.file_name();
                // Names that are no text are nobody's.
                if let Some(name) = name.to_str().filter(|_| !entry.path().is_dir()) {
                    paths.push(format!("{folder}/{name}"));
                }
            }
        }
        Ok(Esp::from_files(paths.iter().map(String::as_str), |path| {
            let mut text = String::new();
            let file = File::open(self.mounted.folder.join(path)).ok()?;
            file.take(ENTRY_BYTES_MAX).read_to_string(&mut text).ok()?;
            Some(text)
        }))
    }

    fn select(&self, numbers: Numbers) -> Select {
        let text = |file| files::text(&self.mounted.folder.join(file));
        Select { numbers, autoboot: text(AUTOBOOT), slots: text(SLOTS) }
    }

    /// The kernel files that equal a slot's kernel partition.
    fn identical(&self, slot: Slot) -> Result<Vec<String>> {
        let Ok((partition, length)) = self.kernel(slot) else { return Ok(Vec::new()) };
        let mut identical = Vec::new();
        for path in self.esp()?.kernels {
            let full = self.mounted.folder.join(&path);
            let same_length = fs::metadata(&full).is_ok_and(|found| found.len() == length);
            // What cannot be read is not the same.
            if same_length && equal(&partition, &full, length).unwrap_or(false) {
                identical.push(path);
            }
        }
        Ok(identical)
    }

    /// The kernel partition of a slot, and how long the kernel in it is.
    fn kernel(&self, slot: Slot) -> Result<(PathBuf, u64)> {
        let name = format!("kernel-{slot}");
        let path = self.place.partition(&name).with_context(|| format!("no partition {name}"))?;
        let mut file = to("open", &path, File::open(&path))?;
        let head = to("read", &path, head(&mut file))?;
        let length = pe::length(&head).with_context(|| format!("partition {name} holds no kernel"))?;
        let room = to("measure", &path, io::Seek::seek(&mut file, io::SeekFrom::End(0)))?;
        if length > room {
            bail!("the kernel in partition {name} is cut off: {length} bytes in {room}");
        }
        Ok((path, length))
    }

    fn perform(&self, changes: &[Change]) -> Result<()> {
        for change in changes {
            let path = self.mounted.folder.join(change.path());
            match change {
                Change::Put { text, .. } => files::replace(&path, text.as_bytes(), 0o600)?,
                Change::PutKernel { slot, .. } => self.put_kernel(&path, *slot)?,
                Change::Remove { .. } => files::remove(&path)?,
            }
            tracing::info!(change = %describe(change), "boot choice");
        }
        Ok(())
    }

    fn put_kernel(&self, path: &Path, slot: Slot) -> Result<()> {
        let (partition, length) = self.kernel(slot)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        to("make the folder", folder, fs::create_dir_all(folder))?;
        let new = files::beside(path);
        let mut source = to("open", &partition, File::open(&partition))?.take(length);
        let mut target = to("write", &new, File::create(&new))?;
        let copied = to("write", &new, io::copy(&mut source, &mut target))?;
        to("flush", &new, target.sync_all())?;
        drop(target);
        if copied != length || !to("read", &new, equal(&partition, &new, length))? {
            bail!("{} is not what was written to it", new.display());
        }
        to("rename", path, fs::rename(&new, path))?;
        Ok(files::flush_folder(folder)?)
    }
}

impl Mounted {
    fn new(place: &Place, device: &Path) -> Result<Self> {
        let work = place.at("/run/caretaker");
        to("make the folder", &work, fs::create_dir_all(&work))?;
        let lock_path = work.join("boot.lock");
        let lock = to("open", &lock_path, File::create(&lock_path))?;
        let locked = rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from);
        to("lock", &lock_path, locked)?;
        // A folder in the place of the device: tests.
        if device.is_dir() {
            return Ok(Self { folder: device.to_owned(), unmount: false, _lock: lock });
        }
        let folder = work.join("boot");
        to("make the folder", &folder, fs::create_dir_all(&folder))?;
        // Left mounted by one that was killed.
        while unmount(&folder, UnmountFlags::empty()).is_ok() {}
        let flags = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NOATIME;
        let options = c"umask=0077,shortname=mixed,errors=remount-ro";
        mount(device, &folder, "vfat", flags, options)
            .map_err(io::Error::from)
            .with_context(|| format!("cannot mount {} as FAT", device.display()))?;
        Ok(Self { folder, unmount: true, _lock: lock })
    }
}

fn describe(change: &Change) -> String {
    match change {
        Change::Put { path, .. } => format!("{path} written"),
        Change::PutKernel { path, slot } => format!("{path} copied from kernel-{slot}"),
        Change::Remove { path } => format!("{path} removed"),
    }
}

fn head(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(pe::HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn equal(a: &Path, b: &Path, length: u64) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?.take(length), File::open(b)?.take(length));
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    loop {
        of_a.clear();
        of_b.clear();
        a.by_ref().take(CHUNK as u64).read_to_end(&mut of_a)?;
        b.by_ref().take(CHUNK as u64).read_to_end(&mut of_b)?;
        if of_a != of_b {
            return Ok(false);
        }
        if of_a.is_empty() {
            return Ok(true);
        }
    }
}

/// Tells `watch` that the next restart starts another slot.
fn note_pending(place: &Place, primary: Slot) -> Result<()> {
    let path = place.at(PENDING);
    if primary == running(place)?.slot {
        return Ok(files::remove(&path)?);
    }
    Ok(files::replace(&path, primary.name().as_bytes(), 0o644)?)
}

/// What RAUC asks of its custom boot loader: `get-primary`, `set-primary SLOT`, `get-state SLOT`,
/// `set-state SLOT good|bad`, `get-current`. Returns what is to be printed.
///
/// # Errors
/// For arguments that RAUC does not give, and what [`Boot`] says; RAUC then stops what it does.
pub fn called_by_rauc(place: &Place, arguments: &[String]) -> Result<String> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let slot = |name: &str| Slot::named(name).with_context(|| format!("no slot {name:?}: a or b"));
    match arguments.as_slice() {
        ["get-current"] => Ok(running(place)?.slot.to_string()),
        ["get-primary"] => {
            let primary = Boot::open(place)?.primary()?;
            primary.map(|slot| slot.to_string()).context("no slot of ours is the next to start")
        }
        ["set-primary", name] => {
            Boot::open(place)?.activate(slot(name)?)?;
            note_pending(place, slot(name)?)?;
            Ok(String::new())
        }
        ["get-state", name] => {
            let boot = Boot::open(place)?;
            let slot = slot(name)?;
            Ok(match boot.state(slot)? {
                State::Good | State::Trial { .. } => "good",
                // The last try of a trial is running.
                State::Exhausted if slot == boot.running.slot => "good",
                State::Exhausted | State::Absent => "bad",
            }
            .to_owned())
        }
        ["set-state", name, "good"] => Boot::open(place)?.prove(slot(name)?).map(|()| String::new()),
        ["set-state", name, "bad"] => {
            Boot::open(place)?.give_up_or_clear(slot(name)?).map(|()| String::new())
        }
        other => bail!(
            "{other:?} is not what RAUC asks: get-primary, set-primary SLOT, get-state SLOT, \
             set-state SLOT good|bad, get-current"
        ),
    }
}

#[cfg(test)]
mod tests;
