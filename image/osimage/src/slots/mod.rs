//! Which slot a box boots: the rules of both boards, pure. Operations are lists of changes to a FAT file system,
//! safe to be cut between any two of them and inside each.
//!
//! On a PC ([`esp`]) systemd-boot chooses by the names of its entries; on a Raspberry Pi ([`autoboot`]) the firmware
//! by `autoboot.txt`.

pub mod autoboot;
pub mod entry;
pub mod esp;
pub mod pe;

use std::fmt;

/// One of the two slots of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// `a`.
    A,
    /// `b`.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `a` or `b`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.name() == name)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A change to a FAT file system. Whoever performs it finishes with a flush of the file system, so that changes
/// reach the medium one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file with this text: written under a name of its own, flushed, then renamed.
    Put {
        /// Path from the root of the file system, without a leading slash.
        path: String,
        /// All of its content.
        text: String,
    },
    /// A copy of the kernel partition of a slot, put as [`Change::Put`] puts.
    PutKernel {
        /// Path, as above.
        path: String,
        /// Whose kernel.
        slot: Slot,
    },
    /// This file is gone.
    Remove {
        /// Path, as above.
        path: String,
    },
}

impl Change {
    /// The file that it changes.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Put { path, .. } | Self::PutKernel { path, .. } | Self::Remove { path } => path,
        }
    }
}

/// The ending of a file that is not finished; boot loaders look at none of that name.
pub const UNFINISHED: &str = ".new";

/// What is known of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Proven: boots as often as it takes.
    Good,
    /// Boots this many times more, until it is marked.
    Trial {
        /// Above zero.
        left: u32,
    },
    /// Was tried and failed; boots only where nothing else does.
    Exhausted,
    /// Boots never: being written, or never written.
    Absent,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Trial { left: 1 } => f.write_str("on trial, 1 try left"),
            Self::Trial { left } => write!(f, "on trial, {left} tries left"),
            Self::Exhausted => f.write_str("tried and failed"),
            Self::Absent => f.write_str("not bootable"),
        }
    }
}

/// Why an operation was not begun: it could have left nothing that boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The slot that must not be lost is on trial itself.
    #[error("slot {0} runs on trial: it is the only other one, and is not proven yet")]
    OnTrial(Slot),
    /// The slot to fall back to would not boot.
    #[error("slot {0} would be the only one left, and it does not boot")]
    NoFallback(Slot),
    /// Nothing of the slot is there to be marked.
    #[error("slot {0} has nothing to boot")]
    Nothing(Slot),
    /// The generations are used up.
    #[error("no generation is left")]
    Generations,
}
