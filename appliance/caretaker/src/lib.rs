//! The caretaker of a box: which slot runs, what a first boot makes, whether an update is well, when it may restart
//! the box, and why it went back.
//!
//! It deliberately opens no gate, reads no device of the trade and installs no bytes: RAUC writes slots, the boot
//! loaders choose by rules that lie in [`osimage::slots`], and services say on the bus how they are. Decisions are
//! pure ([`disks`], [`verdict`], [`wave`], [`boots::look_back`], [`provisioning::choose`]); what touches the world
//! takes a [`place::Place`], so that tests run on a folder.

pub mod backend;
pub mod boots;
pub mod disks;
pub mod ears;
pub mod files;
pub mod first_boot;
pub mod formats;
pub mod health;
pub mod place;
pub mod provisioning;
pub mod slot;
pub mod stick;
pub mod update;
pub mod verdict;
pub mod volumes;
pub mod watch;
pub mod wave;
pub mod why;
