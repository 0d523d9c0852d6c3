//! What the virtual machine of the tests and its host say to each other, and how the machine is made.
//!
//! It deliberately tests nothing itself: the conformance suites belong to the drivers, the scenarios to the
//! guest's program, and what they need of the machine is in the guest's program too.

pub mod initramfs;
pub mod report;
