//! A PC's choice: the EFI system partition, its entries, and how slots are activated, proven and given up.
//!
//! What keeps it safe, whatever the power does:
//! - A kernel file that an entry names is never touched; an activation brings its own.
//! - An entry is put whole under a new name before the one that it replaces is removed. Both together mean the same.
//! - The entries of a slot are gone from the medium before the slot is written, and come back after.
//! - Nothing is removed unless the other slot is proven.

use std::collections::BTreeSet;

use super::entry::{self, Counter, GENERATION_MAX, Name};
use super::{Change, Refusal, Slot, State, UNFINISHED};

/// Where entries lie.
pub const ENTRIES: &str = "loader/entries";
/// Where kernels lie.
pub const KERNELS: &str = "EFI/stile";
/// How often a new slot is tried.
pub const TRIES: u32 = 3;

/// What of an EFI system partition decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Esp {
    /// The files in `loader/entries`, finished ones.
    pub entries: Vec<EntryFile>,
    /// The files in `EFI/stile`, finished ones: paths from the root, as they are written there.
    pub kernels: Vec<String>,
    /// Files of either folder that were never finished: paths from the root.
    pub unfinished: Vec<String>,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFile {
    /// Its name in the folder.
    pub file: String,
    /// Its content.
    pub text: String,
}

/// What systemd-boot starts next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The entry's file name.
    pub file: String,
    /// The kernel that it names: a path from the root.
    pub kernel: String,
    /// What its name says; `None` for an entry that is none of ours.
    pub name: Option<Name>,
}

/// An entry of ours whose kernel is there.
struct Ours {
    name: Name,
    kernel: String,
}

impl Esp {
    /// Sorts what was found: paths from the root of the file system; the text is asked for entries only.
    pub fn from_files<'a>(
        paths: impl IntoIterator<Item = &'a str>,
        mut text_of: impl FnMut(&str) -> Option<String>,
    ) -> Self {
        let mut esp = Self::default();
        for path in paths {
            let Some((folder, file)) = path.rsplit_once('/') else { continue };
            let entries = folder.eq_ignore_ascii_case(ENTRIES);
            if !entries && !folder.eq_ignore_ascii_case(KERNELS) {
                continue;
            }
            if file.to_ascii_lowercase().ends_with(UNFINISHED) {
                esp.unfinished.push(path.to_owned());
            } else if !entries {
                esp.kernels.push(path.to_owned());
            } else if let Some(text) = text_of(path) {
                esp.entries.push(EntryFile { file: file.to_owned(), text });
            }
        }
        esp
    }

    /// What systemd-boot chooses, left alone.
    #[must_use]
    pub fn chosen(&self) -> Option<Chosen> {
        let mut bootable: Vec<Chosen> = self
            .entries
            .iter()
            .filter(|entry| entry::looked_at(&entry.file))
            .filter_map(|entry| {
                let kernel = self.kernel_of(entry)?;
                Some(Chosen { file: entry.file.clone(), kernel, name: Name::parse(&entry.file) })
            })
            .collect();
        bootable.sort_by(|a, b| entry::order(&a.file, &b.file));
        bootable.into_iter().next()
    }

    /// What is known of a slot.
    #[must_use]
    pub fn state(&self, slot: Slot) -> State {
        let mut state = State::Absent;
        for ours in self.ours(slot) {
            let this = match ours.name.counter {
                None => State::Good,
                Some(Counter { left: 0, .. }) => State::Exhausted,
                Some(Counter { left, .. }) => State::Trial { left },
            };
            // Good before trial before exhausted: the order of the enum.
            state = state.min(this);
        }
        state
    }

    /// The newest entry of a slot whose kernel is there.
    #[must_use]
    pub fn newest(&self, slot: Slot) -> Option<Name> {
        self.ours(slot).into_iter().map(|ours| ours.name).max_by_key(|name| name.generation)
    }

    /// Makes `slot` the next to start. Its partitions are written by now. `identical` are the kernel files that
    /// equal its kernel partition.
    ///
    /// # Errors
    /// Without a proven slot to come back to.
    pub fn activate(&self, slot: Slot, running: Slot, identical: &[String]) -> Result<Vec<Change>, Refusal> {
        let already = self.chosen().and_then(|chosen| chosen.name).is_some_and(|name| name.slot == slot);
        if slot == running {
            return match self.state(slot) {
                _ if already => Ok(self.tidied()),
                State::Good => self.proven_anew(slot, identical),
                State::Trial { .. } | State::Exhausted => Err(Refusal::OnTrial(slot)),
                State::Absent => Err(Refusal::Nothing(slot)),
            };
        }
        match self.state(running) {
            State::Good => {}
            _ if self.state(slot) == State::Good => return self.give_up(running),
            State::Trial { .. } | State::Exhausted => return Err(Refusal::OnTrial(running)),
            State::Absent => return Err(Refusal::NoFallback(running)),
        }
        let mut work = Work::begin(self);
        work.remove_entries(slot, |_| false);
        let kernel = work.kernel(slot, identical)?;
        let counter = Some(Counter { left: TRIES, done: 0 });
        work.put(Name { generation: work.generation()?, slot, counter }, &kernel);
        Ok(work.finish())
    }

    /// The running slot has proven itself: it starts as often as it takes, and is written anew where the file
    /// system lost it. `identical` as for [`Self::activate`].
    ///
    /// # Errors
    /// When no generation is left.
    pub fn prove(&self, slot: Slot, identical: &[String]) -> Result<Vec<Change>, Refusal> {
        let sound = |ours: &Ours| identical.iter().any(|path| path.eq_ignore_ascii_case(&ours.kernel));
        let newest = self.ours(slot).into_iter().filter(sound).max_by_key(|ours| ours.name.generation);
        let Some(newest) = newest else { return self.proven_anew(slot, identical) };
        let mut work = Work::begin(self);
        let proven = Name { counter: None, ..newest.name };
        work.put(proven, &newest.kernel);
        work.remove_entries(slot, |other| other == proven);
        Ok(work.finish())
    }

    /// The slot is not to be started any more. A slot that does not run is about to be written: its entries go.
    /// The one that runs failed its trial: it is kept as the last resort.
    ///
    /// # Errors
    /// When the other slot is not proven.
    pub fn give_up_or_clear(&self, slot: Slot, running: Slot) -> Result<Vec<Change>, Refusal> {
        if slot == running { self.give_up(slot) } else { self.clear(slot) }
    }

    fn clear(&self, slot: Slot) -> Result<Vec<Change>, Refusal> {
        match self.state(slot.other()) {
            State::Good => {}
            State::Trial { .. } | State::Exhausted => return Err(Refusal::OnTrial(slot.other())),
            State::Absent => return Err(Refusal::NoFallback(slot.other())),
        }
        let mut work = Work::begin(self);
        work.remove_entries(slot, |_| false);
        Ok(work.finish())
    }

    fn give_up(&self, slot: Slot) -> Result<Vec<Change>, Refusal> {
        if self.state(slot.other()) != State::Good {
            return Err(Refusal::NoFallback(slot.other()));
        }
        let mut work = Work::begin(self);
        let newest = self.ours(slot).into_iter().max_by_key(|ours| ours.name.generation);
        let Some(newest) = newest else { return Ok(work.finish()) };
        let done = newest.name.counter.map_or(1, |counter| counter.done.max(1));
        let exhausted = Name { counter: Some(Counter { left: 0, done }), ..newest.name };
        work.put(exhausted, &newest.kernel);
        work.remove_entries(slot, |other| other == exhausted);
        Ok(work.finish())
    }

    fn proven_anew(&self, slot: Slot, identical: &[String]) -> Result<Vec<Change>, Refusal> {
        let mut work = Work::begin(self);
        let kernel = work.kernel(slot, identical)?;
        let name = Name { generation: work.generation()?, slot, counter: None };
        work.put(name, &kernel);
        work.remove_entries(slot, |other| other == name);
        Ok(work.finish())
    }

    fn tidied(&self) -> Vec<Change> {
        Work::begin(self).finish()
    }

    fn ours(&self, slot: Slot) -> Vec<Ours> {
        let of = |entry: &'_ EntryFile| Name::parse(&entry.file).filter(|name| name.slot == slot);
        self.entries
            .iter()
            .filter_map(|entry| Some(Ours { name: of(entry)?, kernel: self.kernel_of(entry)? }))
            .collect()
    }

    /// The kernel that an entry names, when it is there.
    fn kernel_of(&self, entry: &EntryFile) -> Option<String> {
        let named = named(&entry.text)?;
        self.kernels.iter().find(|path| path.eq_ignore_ascii_case(&named)).cloned()
    }
}

/// The path that an entry's text names, from the root.
fn named(text: &str) -> Option<String> {
    Some(entry::value(text, "efi")?.replace('\\', "/").trim_start_matches('/').to_owned())
}

/// Changes, and what the file system is after them.
struct Work {
    after: Esp,
    changes: Vec<Change>,
}

impl Work {
    /// Starts by removing what earlier cuts left: files that were never finished, and entries of a slot that its
    /// newest proven one has replaced.
    fn begin(esp: &Esp) -> Self {
        let mut work = Self { after: esp.clone(), changes: Vec::new() };
        for path in std::mem::take(&mut work.after.unfinished) {
            work.changes.push(Change::Remove { path });
        }
        for slot in Slot::ALL {
            let proven =
                esp.ours(slot).into_iter().map(|ours| ours.name).filter(|name| name.counter.is_none());
            if let Some(newest) = proven.max_by_key(|name| name.generation) {
                work.remove_entries(slot, |name| name.generation >= newest.generation);
            }
        }
        work
    }

    /// Removes the entries of a slot, newest last: until then it stays what it was.
    fn remove_entries(&mut self, slot: Slot, keep: impl Fn(Name) -> bool) {
        let mut files: Vec<(u32, String)> = self
            .after
            .entries
            .iter()
            .filter_map(|entry| Some((Name::parse(&entry.file)?, entry)))
            .filter(|(name, _)| name.slot == slot && !keep(*name))
            .map(|(name, entry)| (name.generation, entry.file.clone()))
            .collect();
        files.sort();
        for (_, file) in files {
            self.after.entries.retain(|entry| entry.file != file);
            self.changes.push(Change::Remove { path: format!("{ENTRIES}/{file}") });
        }
    }

    /// Kernel files that no entry names.
    fn remove_kernels(&mut self, keep: &[String]) {
        let named: BTreeSet<String> = self
            .after
            .entries
            .iter()
            .filter_map(|entry| named(&entry.text))
            .chain(keep.iter().cloned())
            .map(|path| path.to_ascii_lowercase())
            .collect();
        let (kept, unnamed) = std::mem::take(&mut self.after.kernels)
            .into_iter()
            .partition(|path| named.contains(&path.to_ascii_lowercase()));
        self.after.kernels = kept;
        self.changes.extend(unnamed.into_iter().map(|path: String| Change::Remove { path }));
    }

    /// A kernel file for the slot: one that is identical, or a new one under a name that nothing refers to.
    fn kernel(&mut self, slot: Slot, identical: &[String]) -> Result<String, Refusal> {
        self.remove_kernels(identical);
        let found = self.after.kernels.iter().find(|path| identical.contains(path)).cloned();
        if let Some(path) = found {
            return Ok(path);
        }
        let plain = format!("{KERNELS}/{slot}.efi");
        let taken = |path: &str| self.after.kernels.iter().any(|it| it.eq_ignore_ascii_case(path));
        let path = match taken(&plain) {
            false => plain,
            true => format!("{KERNELS}/{slot}-{:06}.efi", self.generation()?),
        };
        self.after.kernels.push(path.clone());
        self.changes.push(Change::PutKernel { path: path.clone(), slot });
        Ok(path)
    }

    /// Above all that there are.
    fn generation(&self) -> Result<u32, Refusal> {
        let names = self.after.entries.iter().filter_map(|entry| Name::parse(&entry.file));
        let newest = names.map(|name| name.generation).max().unwrap_or(0);
        if newest < GENERATION_MAX { Ok(newest + 1) } else { Err(Refusal::Generations) }
    }

    /// An entry, where it is not there already.
    fn put(&mut self, name: Name, kernel: &str) {
        let file = name.to_string();
        let text = text(name, kernel);
        let there = |entry: &EntryFile| {
            entry.file.eq_ignore_ascii_case(&file)
                && named(&entry.text).is_some_and(|path| path.eq_ignore_ascii_case(kernel))
        };
        if self.after.entries.iter().any(there) {
            return;
        }
        self.changes.push(Change::Put { path: format!("{ENTRIES}/{file}"), text: text.clone() });
        self.after.entries.push(EntryFile { file, text });
    }

    fn finish(mut self) -> Vec<Change> {
        self.remove_kernels(&[]);
        self.changes
    }
}

/// An entry's content.
#[must_use]
pub fn text(name: Name, kernel: &str) -> String {
    format!("title Stile {}, generation {}\nefi /{kernel}\n", name.slot, name.generation)
}

#[cfg(test)]
mod tests;
