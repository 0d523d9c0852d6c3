//! Which slot a disk would boot, and what is in each: read from the disk alone.

use std::fmt;
use std::io::{self, Read, Seek};

use serde::Serialize;

use crate::gpt::{Copy, Partition, Table};
use crate::part::{Part, fat_files};
use crate::slots::autoboot::{self, Numbers, Select};
use crate::slots::esp::{self, Esp};
use crate::slots::{Slot, State, pe};
use crate::unhex;
use crate::verity::{self, VerityError};

/// Longest file that is read from a boot partition, bytes.
const FILE_MAX: u64 = 64 << 10;

/// What a disk would boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// The slot that starts next; none when the disk boots nothing.
    pub next: Option<char>,
    /// The boot entry or file that says so.
    pub by: Option<String>,
    /// Both slots.
    pub slots: Vec<SlotView>,
    /// What could not be read.
    pub troubles: Vec<String>,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotView {
    /// `a` or `b`.
    pub slot: char,
    /// What is known of it, for people.
    pub state: String,
    /// Tries left of a slot on trial.
    pub tries_left: Option<u32>,
    /// Grows with each activation; boards that count none have none.
    pub generation: Option<u32>,
    /// The version of what is in it.
    pub version: Option<String>,
    /// The root hash that its kernel is given.
    pub root_hash: Option<String>,
}

/// Reads a disk. What cannot be read becomes a trouble of the answer.
pub fn read<D: Read + Seek>(disk: &mut D) -> Boot {
    let mut troubles = Vec::new();
    let table = match Table::read(disk, Copy::Primary).or_else(|_| Table::read(disk, Copy::Backup)) {
        Ok(table) => table,
        Err(error) => {
            return Boot { next: None, by: None, slots: Vec::new(), troubles: vec![error.to_string()] };
        }
    };
    let named = |name: &str| table.partitions.iter().find(|partition| partition.name == name);
    let mut slots = Vec::new();
    for slot in Slot::ALL {
        let Kernel { version, root_hash, .. } = kernel_of(disk, &table, slot).unwrap_or_else(|error| {
            troubles.push(format!("kernel of slot {}: {error}", slot.name()));
            Kernel::default()
        });
        let letter = if slot == Slot::A { 'a' } else { 'b' };
        let state = State::Absent.to_string();
        slots.push(SlotView { slot: letter, state, tries_left: None, generation: None, version, root_hash });
    }
    let (mut next, mut by) = (None, None);
    let mut note = |slot: Slot, state: State, generation: Option<u32>| {
        let view = &mut slots[usize::from(slot == Slot::B)];
        view.state = state.to_string();
        view.generation = generation;
        view.tries_left = match state {
            State::Trial { left } => Some(left),
            State::Good | State::Exhausted | State::Absent => None,
        };
    };
    if let Some(partition) = named("esp") {
        match read_esp(disk, partition) {
            Ok(esp) => {
                let chosen = esp.chosen();
                by = chosen.as_ref().map(|chosen| chosen.file.clone());
                next = chosen.and_then(|chosen| chosen.name).map(|name| name.slot);
                for slot in Slot::ALL {
                    note(slot, esp.state(slot), esp.newest(slot).map(|name| name.generation));
                }
            }
            Err(error) => troubles.push(format!("partition esp: {error}")),
        }
    } else if let (Some(partition), Some(a), Some(b)) = (named("select"), named("boot-a"), named("boot-b")) {
        match read_select(disk, partition, Numbers { a: a.number, b: b.number }) {
            Ok(select) => {
                next = select.primary();
                by = next.map(|_| autoboot::AUTOBOOT.to_owned());
                for slot in Slot::ALL {
                    note(slot, select.state(slot), None);
                }
            }
            Err(error) => troubles.push(format!("partition select: {error}")),
        }
    } else {
        troubles.push(
            "no partition that says what boots: neither esp nor select with boot-a and boot-b".to_owned(),
        );
    }
    let next = next.map(|slot| if slot == Slot::A { 'a' } else { 'b' });
    Boot { next, by, slots, troubles }
}

fn part<'a, D: Read + Seek>(disk: &'a mut D, partition: &Partition) -> Part<'a, D> {
    Part::new(disk, partition.start(), partition.len())
}

fn read_esp<D: Read + Seek>(disk: &mut D, partition: &Partition) -> io::Result<Esp> {
    let is_entry = |path: &str| path.starts_with(esp::ENTRIES);
    let files = fat_files(part(disk, partition), &[esp::ENTRIES, esp::KERNELS], FILE_MAX, is_entry)?;
    let text = |path: &str| {
        let (_, content) = files.iter().find(|(name, _)| name == path)?;
        String::from_utf8(content.clone()?).ok()
    };
    Ok(Esp::from_files(files.iter().map(|(path, _)| path.as_str()), text))
}

fn read_select<D: Read + Seek>(disk: &mut D, partition: &Partition, numbers: Numbers) -> io::Result<Select> {
    let wanted = [autoboot::AUTOBOOT, autoboot::SLOTS];
    let is_wanted = |path: &str| wanted.iter().any(|name| path.eq_ignore_ascii_case(name));
    let files = fat_files(part(disk, partition), &[""], FILE_MAX, is_wanted)?;
    let text = |wanted: &str| {
        let (_, content) = files.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        String::from_utf8(content.clone()?).ok()
    };
    Ok(Select { numbers, autoboot: text(wanted[0]), slots: text(wanted[1]) })
}

/// What a kernel file or a boot partition says of the image that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Which image (`IMAGE_ID` of os-release).
    pub image: Option<String>,
    /// Which version of it.
    pub version: Option<String>,
    /// The root hash that it is given.
    pub root_hash: Option<String>,
}

impl Kernel {
    fn new(release: Option<&str>, command_line: Option<&str>) -> Self {
        let value = |key| release.and_then(|text| release_value(text, key));
        Self {
            image: value("IMAGE_ID"),
            version: value("IMAGE_VERSION").or_else(|| value("VERSION_ID")),
            root_hash: command_line.and_then(root_hash_of),
        }
    }

    /// Reads a unified kernel image.
    ///
    /// # Errors
    ///
    /// As the disk's.
    pub fn of_unified<D: Read + Seek>(mut kernel: Part<'_, D>, length: u64) -> io::Result<Self> {
        let mut head = vec![0; pe::HEAD.min(usize::try_from(length).unwrap_or(usize::MAX))];
        kernel.read_at(0, &mut head)?;
        let mut section = |name: &[u8]| {
            let Some((at, length)) = pe::section(&head, name).filter(|(_, length)| *length <= FILE_MAX)
            else {
                return Ok(None);
            };
            let mut bytes = vec![0; length as usize];
            kernel.read_at(at, &mut bytes)?;
            io::Result::Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()))
        };
        let (release, command_line) = (section(b".osrel")?, section(b".cmdline")?);
        Ok(Self::new(release.as_deref(), command_line.as_deref()))
    }

    /// Reads the boot partition of a Raspberry Pi; an empty one says nothing.
    ///
    /// # Errors
    ///
    /// As of [`fat_files`].
    pub fn of_boot_partition<D: Read + Seek>(mut partition: Part<'_, D>) -> io::Result<Self> {
        let mut first = [0; 512];
        partition.read_at(0, &mut first)?;
        if first == [0; 512] {
            return Ok(Self::default());
        }
        let wanted = ["cmdline.txt", "os-release"];
        let is_wanted = |path: &str| wanted.iter().any(|name| path.eq_ignore_ascii_case(name));
        partition.rewind()?;
        let files = fat_files(partition, &[""], FILE_MAX, is_wanted)?;
        let text = |wanted: &str| {
            let (_, content) = files.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            Some(String::from_utf8_lossy(content.as_ref()?).into_owned())
        };
        Ok(Self::new(text(wanted[1]).as_deref(), text(wanted[0]).as_deref()))
    }
}

fn kernel_of<D: Read + Seek>(disk: &mut D, table: &Table, slot: Slot) -> io::Result<Kernel> {
    let named = |kind: &str| {
        let name = format!("{kind}-{}", slot.name());
        table.partitions.iter().find(|partition| partition.name == name)
    };
    match (named("kernel"), named("boot")) {
        (Some(partition), _) => Kernel::of_unified(part(disk, partition), partition.len()),
        (None, Some(partition)) => Kernel::of_boot_partition(part(disk, partition)),
        (None, None) => Ok(Kernel::default()),
    }
}

/// The value of a key in the text of an os-release file.
fn release_value(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim_matches(['"', '\'']).to_owned())
}

/// The root hash in a kernel's command line.
fn root_hash_of(text: &str) -> Option<String> {
    let hash = text.split_ascii_whitespace().find_map(|word| word.strip_prefix("roothash="))?;
    (hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit())).then(|| hash.to_ascii_lowercase())
}

/// Checks the root file system of a slot against the root hash that its kernel is given: the bytes that are
/// covered, or `None` when the slot is empty or there is nothing to check.
///
/// # Errors
///
/// [`VerityError`].
pub fn check_root<D: Read + Seek>(
    disk: &mut D,
    table: &Table,
    view: &SlotView,
) -> Result<Option<u64>, VerityError> {
    let Some(hash) = view.root_hash.as_deref().and_then(unhex) else { return Ok(None) };
    let place = |kind: &str| {
        let name = format!("{kind}-{}", view.slot);
        let partition = table.partitions.iter().find(|partition| partition.name == name)?;
        Some((partition.start(), partition.len()))
    };
    let (Some(root), Some(tree)) = (place("root"), place("verity")) else { return Ok(None) };
    verity::check(disk, root, tree, &hash).map(Some)
}

/// For people.
impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for trouble in &self.troubles {
            writeln!(f, "warning: {trouble}")?;
        }
        match (self.next, &self.by) {
            (Some(slot), Some(by)) => writeln!(f, "boots slot {slot} ({by})")?,
            (None, Some(by)) => writeln!(f, "boots {by}, which is no slot")?,
            (_, None) => writeln!(f, "boots nothing")?,
        }
        for view in &self.slots {
            let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let generation = view.generation.map(|generation| generation.to_string());
            writeln!(
                f,
                "slot {}  {:<24} generation {:<6} version {}",
                view.slot,
                view.state,
                known(&generation),
                known(&view.version)
            )?;
        }
        Ok(())
    }
}
