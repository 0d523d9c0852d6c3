//! The service that keeps carts: weighs the shelves, hears who is where and who passed the gate, stores
//! everything that it accepts in a ledger, and settles visits into receipts and payments.
//!
//! It deliberately decides nothing about carts (`engine::cart` and `engine::session` do), and speaks to no payment
//! provider yet: until one is written the provider is the recording simulator or none.

pub mod devices;
mod health;
pub mod ledger;
mod levels;
mod lines;
pub mod payment;
pub mod recorded;
mod service;

pub use lines::{BadPlate, Open, opened};
pub use service::{Error, Settings, run};
