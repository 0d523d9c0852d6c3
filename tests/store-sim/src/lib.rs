//! A deterministic cashier-free store: shelves, plates, cameras, a gate, and shoppers with bodies, hands and errands,
//! all from one seed.
//!
//! It is deliberately not a test of anything by itself, and no service: it moves the simulated ends of the device
//! drivers, and keeps the truth to itself until an oracle asks.

mod act;
pub mod body;
pub mod catalogue;
pub mod devices;
pub mod dice;
pub mod errand;
pub mod fault;
pub mod lane;
pub mod layout;
pub mod oracle;
pub mod path;
pub mod phone;
pub mod render;
pub mod shelf;
pub mod shopper;
pub mod truth;
pub mod world;

pub use world::{Options, World};
