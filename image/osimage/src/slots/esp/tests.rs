//! Every sequence of operations on a PC, each cut anywhere: all reachable worlds are visited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// A file of the EFI system partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum File {
    Text(String),
    Kernel(u32),
    /// The power went while it was written.
    Half,
}

/// A box: its EFI system partition, what its slots hold (a version; `None`: half written), and what runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    files: BTreeMap<String, File>,
    slots: [Option<u32>; 2],
    proven: BTreeSet<u32>,
    running: Slot,
}

impl World {
    fn fresh() -> Self {
        let name = Name { generation: 1, slot: Slot::A, counter: None };
        let kernel = format!("{KERNELS}/a.efi");
        let files =
            [(format!("{ENTRIES}/{name}"), File::Text(text(name, &kernel))), (kernel, File::Kernel(1))];
        Self { files: files.into(), slots: [Some(1), None], proven: [1].into(), running: Slot::A }
    }

    fn content(&self, slot: Slot) -> Option<u32> {
        self.slots[slot as usize]
    }

    fn esp(&self) -> Esp {
        Esp::from_files(self.files.keys().map(String::as_str), |path| match &self.files[path] {
            File::Text(text) => Some(text.clone()),
            File::Kernel(_) | File::Half => Some(String::new()),
        })
    }

    fn identical(&self, slot: Slot) -> Vec<String> {
        let same = |file: &File| matches!((file, self.content(slot)), (File::Kernel(a), Some(b)) if *a == b);
        self.esp().kernels.into_iter().filter(|path| same(&self.files[path])).collect()
    }

    fn done(&self, change: &Change) -> Self {
        let mut after = self.clone();
        match change {
            Change::Put { path, text } => {
                after.files.insert(path.clone(), File::Text(text.clone()));
            }
            Change::PutKernel { path, slot } => {
                let file = self.content(*slot).map_or(File::Half, File::Kernel);
                after.files.insert(path.clone(), file);
            }
            Change::Remove { path } => {
                after.files.remove(path);
            }
        }
        after
    }

    /// Every way in which a cut inside a change may leave the medium, except as it was.
    fn cut(&self, change: &Change) -> Vec<Self> {
        let after = self.done(change);
        let path = change.path();
        let unfinished = format!("{path}{UNFINISHED}");
        let with = |world: &Self, file: File| {
            let mut world = world.clone();
            world.files.insert(unfinished.clone(), file);
            world
        };
        match change {
            Change::Remove { .. } => vec![after],
            Change::Put { .. } | Change::PutKernel { .. } => {
                let whole = after.files[path].clone();
                let mut neither = self.clone();
                neither.files.remove(path);
                vec![with(self, File::Half), with(self, whole.clone()), with(&after, whole), neither, after]
            }
        }
    }

    /// What starts when the power comes; systemd-boot counts, and its renaming may be cut as well.
    fn starts(&self) -> Vec<Self> {
        let chosen = self.sound();
        let slot = chosen.name.expect("ours").slot;
        let started = Self { running: slot, ..self.clone() };
        let Some(next) = entry::tried(&chosen.file) else { return vec![started] };
        let (old, new) = (format!("{ENTRIES}/{}", chosen.file), format!("{ENTRIES}/{next}"));
        if old == new {
            return vec![started];
        }
        let mut both = started.clone();
        both.files.insert(new, both.files[&old].clone());
        let mut renamed = both.clone();
        renamed.files.remove(&old);
        let mut neither = renamed.clone();
        neither.files = started.files.clone();
        neither.files.remove(&old);
        // It always starts what it has chosen; the names on the medium are what is in doubt.
        vec![renamed, started, both, neither]
    }

    /// Asserts what must hold at every moment; what would start now.
    fn sound(&self) -> Chosen {
        let esp = self.esp();
        let chosen = esp.chosen().unwrap_or_else(|| panic!("nothing boots: {self:#?}"));
        let name = chosen.name.expect("ours");
        let whole =
            self.content(name.slot).unwrap_or_else(|| panic!("a half-written slot starts: {self:#?}"));
        assert_eq!(self.files[&chosen.kernel], File::Kernel(whole), "the kernel fits the root: {self:#?}");
        let proven = Slot::ALL.into_iter().find(|slot| {
            esp.state(*slot) == State::Good
                && self.content(*slot).is_some_and(|version| self.proven.contains(&version))
        });
        assert!(proven.is_some(), "no proven slot is left: {self:#?}");
        let trials = Slot::ALL.into_iter().filter(|slot| matches!(esp.state(*slot), State::Trial { .. }));
        assert!(trials.count() <= 1, "more than one trial: {self:#?}");
        chosen
    }

    /// The same world with small numbers, so that worlds that differ in history only are one.
    fn normal(mut self) -> Self {
        // Nothing reads what was never finished; every operation begins with its removal.
        self.files.retain(|path, _| !path.ends_with(UNFINISHED));
        let files = self.files.keys().filter_map(|path| Name::parse(path.rsplit('/').next()?));
        let named: BTreeSet<u32> = files.map(|name| name.generation).collect();
        let kernels =
            self.files.keys().filter_map(|path| path.strip_suffix(".efi")?.rsplit_once('-')?.1.parse().ok());
        let generations: BTreeSet<u32> = named.into_iter().chain(kernels).collect();
        let mut files = std::mem::take(&mut self.files);
        for (rank, old) in generations.iter().enumerate() {
            let new = u32::try_from(rank).unwrap() + 1;
            if new == *old {
                continue;
            }
            files = files
                .into_iter()
                .map(|(path, file)| {
                    let swap = |text: &str| {
                        text.replace(&format!("{old:06}"), &format!("{new:06}"))
                            .replace(&format!("generation {old}\n"), &format!("generation {new}\n"))
                    };
                    let file = match file {
                        File::Text(text) => File::Text(swap(&text)),
                        File::Kernel(_) | File::Half => file,
                    };
                    (swap(&path), file)
                })
                .collect();
        }
        let kernels = files.values().filter_map(|file| match file {
            File::Kernel(version) => Some(*version),
            File::Text(_) | File::Half => None,
        });
        let versions: BTreeSet<u32> = kernels.chain(self.slots.into_iter().flatten()).collect();
        let rank = |version: u32| u32::try_from(versions.range(..version).count()).unwrap() + 1;
        for file in files.values_mut() {
            if let File::Kernel(version) = file {
                *version = rank(*version);
            }
        }
        self.files = files;
        self.slots = self.slots.map(|version| version.map(rank));
        self.proven = self.proven.iter().filter(|it| versions.contains(it)).map(|it| rank(*it)).collect();
        self
    }
}

/// Performs changes; `out` gets every world that a cut may leave.
fn perform(world: &World, changes: &[Change], out: &mut Vec<World>) -> World {
    let mut now = world.clone();
    for change in changes {
        out.extend(now.cut(change));
        now = now.done(change);
        now.sound();
    }
    now
}

/// Every operation that may be begun in a running world: the worlds after it, and those after a cut inside it.
fn operations(world: &World) -> (Vec<World>, Vec<World>) {
    let (mut after, mut cut) = (Vec::new(), Vec::new());
    let running = world.running;
    for slot in Slot::ALL {
        if let Ok(changes) = world.esp().activate(slot, running, &world.identical(slot))
            // Nobody activates what is not whole; an update writes it before.
            && world.content(slot).is_some()
        {
            after.push(perform(world, &changes, &mut cut));
        }
        if let Ok(changes) = world.esp().give_up_or_clear(slot, running) {
            after.push(perform(world, &changes, &mut cut));
        }
    }
    if let Ok(changes) = world.esp().prove(running, &world.identical(running)) {
        let mut before = world.clone();
        before.proven.extend(world.content(running));
        after.push(perform(&before, &changes, &mut cut));
    }
    // An update: clear, write, activate.
    let target = running.other();
    if let Ok(changes) = world.esp().give_up_or_clear(target, running) {
        let mut now = perform(world, &changes, &mut cut);
        now.slots[target as usize] = None;
        cut.push(now.clone());
        let newest = now.slots.into_iter().flatten().max().unwrap_or(0);
        let kernels =
            now.files.values().filter_map(|it| if let File::Kernel(v) = it { Some(*v) } else { None });
        now.slots[target as usize] = Some(newest.max(kernels.max().unwrap_or(0)) + 1);
        cut.push(now.clone());
        let changes = now.esp().activate(target, running, &now.identical(target)).expect("a cleared slot");
        after.push(perform(&now, &changes, &mut cut));
    }
    (after, cut)
}

#[test]
fn every_sequence_of_operations_cut_anywhere_leaves_a_bootable_choice() {
    let mut seen = BTreeSet::new();
    let mut waiting = VecDeque::from([World::fresh()]);
    let mut cuts = 0_usize;
    while let Some(world) = waiting.pop_front() {
        let (after, cut) = operations(&world);
        cuts += cut.len();
        // After an operation the box runs on, or is started again (also by a watchdog: a slot that hangs).
        let started = cut.iter().chain(&after).chain([&world]).flat_map(World::starts).collect::<Vec<_>>();
        for next in after.into_iter().chain(started) {
            next.sound();
            let next = next.normal();
            if seen.insert(next.clone()) {
                waiting.push_back(next);
            }
        }
        assert!(
            seen.len() < 20_000,
            "the worlds do not end: {:#?}",
            waiting.iter().rev().take(4).collect::<Vec<_>>()
        );
    }
    println!("{} worlds, {cuts} cuts", seen.len());
    assert!(seen.len() > 100 && cuts > 1000, "{} worlds, {cuts} cuts", seen.len());
}

/// What a box says of itself: its entries and which one starts.
fn told(world: &World) -> String {
    let entries = world.files.keys().filter_map(|path| path.strip_prefix(&format!("{ENTRIES}/")));
    format!("{} -> {}", entries.collect::<Vec<_>>().join(" "), world.esp().chosen().expect("boots").file)
}

#[test]
fn the_table_of_outcomes() {
    let mut world = World::fresh();
    let mut table = vec![told(&world)];
    let mut cut = Vec::new();
    let mut step = |world: &mut World, changes: Result<Vec<Change>, Refusal>| {
        *world = perform(world, &changes.expect("allowed"), &mut cut);
        table.push(told(world));
    };
    // An update that proves itself.
    world.slots[1] = Some(2);
    let changes = world.esp().activate(Slot::B, Slot::A, &[]);
    step(&mut world, changes);
    world = world.starts().swap_remove(0);
    world.proven.insert(2);
    let changes = world.esp().prove(Slot::B, &world.identical(Slot::B));
    step(&mut world, changes);
    // One that hangs three times.
    let changes = world.esp().give_up_or_clear(Slot::A, Slot::B);
    step(&mut world, changes);
    world.slots[0] = Some(3);
    let changes = world.esp().activate(Slot::A, Slot::B, &[]);
    step(&mut world, changes);
    for _ in 0..3 {
        world = world.starts().swap_remove(0);
        step(&mut world, Ok(Vec::new()));
    }
    // One that fails its health gate at the first try.
    let changes = world.esp().give_up_or_clear(Slot::A, Slot::B);
    step(&mut world, changes);
    world.slots[0] = Some(4);
    let changes = world.esp().activate(Slot::A, Slot::B, &[]);
    step(&mut world, changes);
    world = world.starts().swap_remove(0);
    let changes = world.esp().give_up_or_clear(Slot::A, Slot::A);
    step(&mut world, changes);
    assert_eq!(
        table,
        [
            "stile-000001-a.conf -> stile-000001-a.conf",
            "stile-000001-a.conf stile-000002-b+3.conf -> stile-000002-b+3.conf",
            "stile-000001-a.conf stile-000002-b.conf -> stile-000002-b.conf",
            "stile-000002-b.conf -> stile-000002-b.conf",
            "stile-000002-b.conf stile-000003-a+3.conf -> stile-000003-a+3.conf",
            "stile-000002-b.conf stile-000003-a+2-1.conf -> stile-000003-a+2-1.conf",
            "stile-000002-b.conf stile-000003-a+1-2.conf -> stile-000003-a+1-2.conf",
            "stile-000002-b.conf stile-000003-a+0-3.conf -> stile-000002-b.conf",
            "stile-000002-b.conf -> stile-000002-b.conf",
            "stile-000002-b.conf stile-000003-a+3.conf -> stile-000003-a+3.conf",
            "stile-000002-b.conf stile-000003-a+0-1.conf -> stile-000002-b.conf",
        ]
    );
}

#[test]
fn refusals() {
    let fresh = World::fresh().esp();
    assert_eq!(fresh.give_up_or_clear(Slot::A, Slot::A), Err(Refusal::NoFallback(Slot::B)));
    assert_eq!(fresh.give_up_or_clear(Slot::B, Slot::A), Ok(vec![]));
    let mut trial = World::fresh();
    trial.slots[1] = Some(2);
    let changes = trial.esp().activate(Slot::B, Slot::A, &[]).expect("allowed");
    trial = perform(&trial, &changes, &mut Vec::new());
    assert_eq!(trial.esp().give_up_or_clear(Slot::A, Slot::B), Err(Refusal::OnTrial(Slot::B)));
    let nothing = Esp::default();
    assert_eq!(nothing.give_up_or_clear(Slot::A, Slot::B), Err(Refusal::NoFallback(Slot::B)));
    assert_eq!(nothing.activate(Slot::A, Slot::A, &[]), Err(Refusal::Nothing(Slot::A)));
    let last = Name { generation: GENERATION_MAX, slot: Slot::A, counter: None };
    let mut used_up = fresh.clone();
    used_up.entries = vec![EntryFile { file: last.to_string(), text: text(last, "EFI/stile/a.efi") }];
    assert_eq!(used_up.activate(Slot::B, Slot::A, &[]), Err(Refusal::Generations));
}

#[test]
fn a_lost_entry_and_a_lost_kernel_are_brought_back() {
    for lost in [format!("{ENTRIES}/stile-000001-a.conf"), format!("{KERNELS}/a.efi")] {
        let mut world = World::fresh();
        world.files.remove(&lost);
        assert_eq!(world.esp().chosen(), None);
        let changes = world.esp().prove(Slot::A, &world.identical(Slot::A)).expect("allowed");
        for change in &changes {
            world = world.done(change);
        }
        world.sound();
    }
    // A kernel that the file system garbled, while nothing else boots: the new one lies beside it.
    let mut world = World::fresh();
    world.files.insert(format!("{KERNELS}/a.efi"), File::Half);
    let changes = world.esp().prove(Slot::A, &[]).expect("allowed");
    for change in &changes {
        world = world.done(change);
    }
    assert_eq!(world.sound().kernel, "EFI/stile/a-000002.efi");
}
