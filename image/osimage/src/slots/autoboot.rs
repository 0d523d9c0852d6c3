//! A Raspberry Pi's choice: `autoboot.txt` on the partition `select` says which partition the firmware boots, and
//! which after `reboot "0 tryboot"` (`tryboot_a_b=1`, as the documentation of `config.txt` describes it). The flag
//! lasts for one boot: whatever ends a trial, the next boot is the default's.
//!
//! Beside it `slots.txt` keeps what the firmware does not: how often a trial may still be begun, and whether the
//! other slot is whole. Losing that file loses a pending update and nothing else.
//!
//! `autoboot.txt` is replaced only while both slots are whole. It is shorter than a sector, and its name and that of
//! its successor fit the first sector of the folder, so that renaming writes one sector.

use super::{Change, Refusal, Slot, State};

/// The firmware's file.
pub const AUTOBOOT: &str = "autoboot.txt";
/// Ours.
pub const SLOTS: &str = "slots.txt";
/// How often a new slot is tried.
pub const TRIES: u32 = 3;
/// The firmware reads no more of `autoboot.txt`, bytes.
pub const BYTES_MAX: usize = 512;

/// Numbers of the boot partitions of the slots, from 1, as in the partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Of slot a.
    pub a: u32,
    /// Of slot b.
    pub b: u32,
}

/// What the firmware reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autoboot {
    /// The partition that boots.
    pub default: u32,
    /// The partition that boots after a restart with the flag; without one the default.
    pub tryboot: Option<u32>,
}

/// What of the partition `select` decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// Which partition is whose.
    pub numbers: Numbers,
    /// Content of `autoboot.txt`, if there is one.
    pub autoboot: Option<String>,
    /// Content of `slots.txt`, if there is one.
    pub slots: Option<String>,
}

impl Numbers {
    /// The boot partition of a slot.
    #[must_use]
    pub const fn of(self, slot: Slot) -> u32 {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    /// The slot of a boot partition.
    #[must_use]
    pub fn slot(self, number: u32) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| self.of(*slot) == number)
    }
}

impl Autoboot {
    /// Reads the file: `[all]` and `[tryboot]`, other sections are skipped, the last value of a key counts. `None`
    /// without a default.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut default, mut tryboot, mut by_partition) = (None, None, false);
        let mut section = "all".to_owned();
        let mut end = text.len().min(BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        for line in text[..end].lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.to_ascii_lowercase();
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            match (section.as_str(), key.trim(), value.trim().parse::<u32>()) {
                ("all", "boot_partition", Ok(number)) => default = Some(number),
                ("tryboot", "boot_partition", Ok(number)) => tryboot = Some(number),
                ("all", "tryboot_a_b", Ok(value)) => by_partition = value == 1,
                _ => {}
            }
        }
        Some(Self { default: default?, tryboot: tryboot.filter(|_| by_partition) })
    }

    /// The file.
    #[must_use]
    pub fn text(self) -> String {
        let Self { default, tryboot } = self;
        let mut text = format!("[all]\ntryboot_a_b=1\nboot_partition={default}\n");
        if let Some(tryboot) = tryboot {
            text += &format!("[tryboot]\nboot_partition={tryboot}\n");
        }
        text
    }
}

impl Select {
    /// The files of a fresh card: slot a boots, b is empty.
    #[must_use]
    pub fn fresh(numbers: Numbers) -> Self {
        let autoboot = Autoboot { default: numbers.a, tryboot: Some(numbers.b) }.text();
        Self { numbers, autoboot: Some(autoboot), slots: None }
    }

    /// The slot that boots without the flag.
    #[must_use]
    pub fn default(&self) -> Option<Slot> {
        self.numbers.slot(Autoboot::parse(self.autoboot.as_deref()?)?.default)
    }

    /// The slot that boots with or without the flag.
    #[must_use]
    pub fn chosen(&self, flag: bool) -> Option<Slot> {
        let autoboot = Autoboot::parse(self.autoboot.as_deref()?)?;
        let number = if flag { autoboot.tryboot.unwrap_or(autoboot.default) } else { autoboot.default };
        self.numbers.slot(number)
    }

    /// What is known of a slot.
    #[must_use]
    pub fn state(&self, slot: Slot) -> State {
        if self.default() == Some(slot) { State::Good } else { self.noted(slot) }
    }

    /// The slot that the next restart should start: a trial goes before the default.
    #[must_use]
    pub fn primary(&self) -> Option<Slot> {
        let default = self.default()?;
        match self.state(default.other()) {
            State::Trial { .. } => Some(default.other()),
            State::Good | State::Exhausted | State::Absent => Some(default),
        }
    }

    /// Makes `slot` the next to start.
    ///
    /// # Errors
    /// Without a proven slot to come back to.
    pub fn activate(&self, slot: Slot, running: Slot) -> Result<Vec<Change>, Refusal> {
        if self.default() == Some(running) {
            if slot != running {
                return Ok(self.note(slot, State::Trial { left: TRIES }));
            }
            return match self.state(running.other()) {
                State::Trial { .. } => Ok(self.note(running.other(), State::Exhausted)),
                State::Good | State::Exhausted | State::Absent => Ok(Vec::new()),
            };
        }
        if slot == running { Err(Refusal::OnTrial(running)) } else { self.give_up(running) }
    }

    /// What is to be done before a restart with the flag: one try is used up. `None`: no trial waits.
    #[must_use]
    pub fn try_once(&self) -> Option<Vec<Change>> {
        let slot = self.default()?.other();
        match self.state(slot) {
            State::Trial { left: 1 } => Some(self.note(slot, State::Exhausted)),
            State::Trial { left } => Some(self.note(slot, State::Trial { left: left - 1 })),
            State::Good | State::Exhausted | State::Absent => None,
        }
    }

    /// The running slot has proven itself.
    ///
    /// # Errors
    /// None yet; the same form as on a PC.
    pub fn prove(&self, slot: Slot) -> Result<Vec<Change>, Refusal> {
        let mut changes = Vec::new();
        if self.default() != Some(slot) {
            // Ours is whole, and so is the default that we come from.
            let other = if self.default().is_some() { State::Good } else { self.noted(slot.other()) };
            changes.push(self.point_to(slot));
            changes.extend(self.note(slot.other(), other));
        }
        Ok(changes)
    }

    /// The slot is not to be started any more: about to be written, or failed.
    ///
    /// # Errors
    /// When the other slot is not proven.
    pub fn give_up_or_clear(&self, slot: Slot, running: Slot) -> Result<Vec<Change>, Refusal> {
        if slot == running {
            return self.give_up(slot);
        }
        match self.default() {
            Some(default) if default == running => Ok(self.note(slot, State::Absent)),
            Some(_) => Err(Refusal::OnTrial(running)),
            None => Err(Refusal::NoFallback(running)),
        }
    }

    fn give_up(&self, slot: Slot) -> Result<Vec<Change>, Refusal> {
        let mut changes = Vec::new();
        if self.default() != Some(slot.other()) {
            if self.state(slot.other()) != State::Good {
                return Err(Refusal::NoFallback(slot.other()));
            }
            changes.push(self.point_to(slot.other()));
        }
        changes.extend(self.note(slot, State::Exhausted));
        Ok(changes)
    }

    fn point_to(&self, slot: Slot) -> Change {
        let (default, other) = (self.numbers.of(slot), self.numbers.of(slot.other()));
        let text = Autoboot { default, tryboot: Some(other) }.text();
        Change::Put { path: AUTOBOOT.to_owned(), text }
    }

    /// What `slots.txt` says of a slot that is not the default.
    fn noted(&self, slot: Slot) -> State {
        let text = self.slots.as_deref().unwrap_or_default();
        let mut words = text.split_whitespace();
        let state = match (words.next(), words.next(), words.next()) {
            (Some(name), Some("good"), None) if name == slot.name() => State::Good,
            (Some(name), Some("exhausted"), None) if name == slot.name() => State::Exhausted,
            (Some(name), Some("trial"), Some(left)) if name == slot.name() => match left.parse() {
                Ok(left @ 1..=TRIES) => State::Trial { left },
                _ => State::Absent,
            },
            _ => State::Absent,
        };
        if words.next().is_some() { State::Absent } else { state }
    }

    /// One line: of the slot that is not the default.
    fn note(&self, slot: Slot, state: State) -> Vec<Change> {
        let text = match state {
            State::Good => format!("{slot} good\n"),
            State::Trial { left } => format!("{slot} trial {left}\n"),
            State::Exhausted => format!("{slot} exhausted\n"),
            State::Absent => format!("{slot} absent\n"),
        };
        if self.slots.as_deref() == Some(&text) {
            return Vec::new();
        }
        vec![Change::Put { path: SLOTS.to_owned(), text }]
    }
}

#[cfg(test)]
mod tests;
