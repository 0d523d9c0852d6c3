//! What the virtual machines of the tests and their host say to each other, and how the drivers' machine is made.
//!
//! It deliberately tests nothing itself: the conformance suites belong to the drivers, the scenarios to the
//! guest's program, what proves the image to `vm-image`, and what they need of the machine is in there too.

pub mod initramfs;
pub mod monitor;
pub mod player;
pub mod report;
pub mod shop;
