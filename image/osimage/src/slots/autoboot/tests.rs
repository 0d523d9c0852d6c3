//! Every sequence of operations on a Raspberry Pi, each cut anywhere.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const NUMBERS: Numbers = Numbers { a: 4, b: 5 };

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    autoboot: Option<String>,
    slots: Option<String>,
    /// Whether the slots are whole.
    whole: [bool; 2],
    running: Slot,
}

impl World {
    fn select(&self) -> Select {
        Select { numbers: NUMBERS, autoboot: self.autoboot.clone(), slots: self.slots.clone() }
    }

    fn done(&self, change: &Change) -> Self {
        let Change::Put { path, text } = change else { panic!("{change:?} on a Raspberry Pi") };
        let mut after = self.clone();
        match path.as_str() {
            AUTOBOOT => after.autoboot = Some(text.clone()),
            SLOTS => after.slots = Some(text.clone()),
            path => panic!("{path} is nobody's"),
        }
        after
    }

    fn cut(&self, change: &Change) -> Vec<Self> {
        let mut neither = self.clone();
        match change.path() {
            AUTOBOOT => {
                // One sector (see the module): old or new. Should both names be lost all the same, both slots are
                // whole, and a firmware that walks the partitions, or a technician, starts either.
                assert_eq!(self.whole, [true, true], "autoboot.txt is replaced beside a half-written slot");
                vec![self.done(change)]
            }
            _ => {
                neither.slots = None;
                vec![self.done(change), neither]
            }
        }
    }

    fn starts(&self, flag: bool) -> Self {
        self.sound();
        Self { running: self.select().chosen(flag).expect("boots"), ..self.clone() }
    }

    fn sound(&self) {
        let select = self.select();
        let default = select.default().unwrap_or_else(|| panic!("nothing boots: {self:?}"));
        assert!(self.whole[default as usize], "a half-written slot starts: {self:?}");
        if let State::Trial { .. } | State::Good = select.state(default.other()) {
            assert!(self.whole[default.other() as usize], "a half-written slot is offered: {self:?}");
        }
    }
}

fn perform(world: &World, changes: &[Change], out: &mut Vec<World>) -> World {
    let mut now = world.clone();
    for change in changes {
        out.extend(now.cut(change));
        now = now.done(change);
        now.sound();
    }
    now
}

#[test]
fn every_sequence_of_operations_cut_anywhere_leaves_a_bootable_choice() {
    let Select { autoboot, slots, .. } = Select::fresh(NUMBERS);
    let mut waiting = VecDeque::from([World { autoboot, slots, whole: [true, false], running: Slot::A }]);
    let mut seen = BTreeSet::new();
    let mut cuts = 0;
    while let Some(world) = waiting.pop_front() {
        let (mut after, mut cut) = (Vec::new(), Vec::new());
        let running = world.running;
        for slot in Slot::ALL {
            if world.whole[slot as usize]
                && let Ok(changes) = world.select().activate(slot, running)
            {
                after.push(perform(&world, &changes, &mut cut));
            }
            if let Ok(changes) = world.select().give_up_or_clear(slot, running) {
                after.push(perform(&world, &changes, &mut cut));
            }
        }
        let proven = world.select().prove(running).expect("always");
        after.push(perform(&world, &proven, &mut cut));
        let target = running.other();
        if let Ok(changes) = world.select().give_up_or_clear(target, running) {
            let mut now = perform(&world, &changes, &mut cut);
            now.whole[target as usize] = false;
            cut.push(now.clone());
            now.whole[target as usize] = true;
            let changes = now.select().activate(target, running).expect("a cleared slot");
            after.push(perform(&now, &changes, &mut cut));
        }
        if let Some(changes) = world.select().try_once() {
            let now = perform(&world, &changes, &mut cut);
            after.push(now.starts(true));
        }
        cuts += cut.len();
        let started: Vec<_> = cut.iter().chain(&after).chain([&world]).map(|it| it.starts(false)).collect();
        for next in after.into_iter().chain(started) {
            if seen.insert(next.clone()) {
                waiting.push_back(next);
            }
        }
    }
    println!("{} worlds, {cuts} cuts", seen.len());
    assert!(seen.len() > 20, "{}", seen.len());
}

#[test]
fn the_table_of_outcomes() {
    let Select { autoboot, slots, .. } = Select::fresh(NUMBERS);
    let mut world = World { autoboot, slots, whole: [true, true], running: Slot::A };
    let mut table = Vec::new();
    let mut step = |world: &mut World, changes: Vec<Change>| {
        *world = perform(world, &changes, &mut Vec::new());
        let select = world.select();
        let names = [select.default(), select.primary()].map(|slot| slot.map_or("-", Slot::name));
        table.push(format!(
            "default {}, next {}, a {}, b {}",
            names[0],
            names[1],
            select.state(Slot::A),
            select.state(Slot::B)
        ));
    };
    step(&mut world, vec![]);
    let changes = world.select().activate(Slot::B, Slot::A).expect("allowed");
    step(&mut world, changes);
    let changes = world.select().try_once().expect("a trial");
    step(&mut world, changes);
    world = world.starts(true);
    assert_eq!(world.running, Slot::B);
    let changes = world.select().prove(Slot::B).expect("allowed");
    step(&mut world, changes);
    let changes = world.select().activate(Slot::A, Slot::B).expect("allowed");
    step(&mut world, changes);
    for _ in 0..3 {
        let changes = world.select().try_once().expect("a trial");
        step(&mut world, changes);
    }
    assert_eq!(world.select().try_once(), None);
    assert_eq!(
        table,
        [
            "default a, next a, a good, b not bootable",
            "default a, next b, a good, b on trial, 3 tries left",
            "default a, next b, a good, b on trial, 2 tries left",
            "default b, next b, a good, b good",
            "default b, next a, a on trial, 3 tries left, b good",
            "default b, next a, a on trial, 2 tries left, b good",
            "default b, next a, a on trial, 1 try left, b good",
            "default b, next b, a tried and failed, b good",
        ]
    );
}

#[test]
fn files() {
    let text = Autoboot { default: 4, tryboot: Some(5) }.text();
    assert!(text.len() < BYTES_MAX);
    for (text, want) in [
        (text.as_str(), Some((4, Some(5)))),
        ("boot_partition=2\r\n", Some((2, None))),
        ("[all]\nboot_partition=2\n[tryboot]\nboot_partition=3\n", Some((2, None))),
        ("[pi4]\nboot_partition=2\n", None),
        ("boot_partition=two\n", None),
        ("", None),
    ] {
        let want = want.map(|(default, tryboot)| Autoboot { default, tryboot });
        assert_eq!(Autoboot::parse(text), want, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text(text in "\\PC{0,600}", slots in "[ab] (good|trial|exhausted|absent) ?[0-9]{0,12}") {
        let _ = Autoboot::parse(&text);
        let select = Select { numbers: NUMBERS, autoboot: Some(text), slots: Some(slots) };
        let _ = (select.state(Slot::A), select.state(Slot::B), select.primary(), select.try_once());
    }

    #[test]
    fn written_is_read(default in 1_u32..9, tryboot in proptest::option::of(1_u32..9)) {
        let autoboot = Autoboot { default, tryboot };
        prop_assert_eq!(Autoboot::parse(&autoboot.text()), Some(autoboot));
    }
}
