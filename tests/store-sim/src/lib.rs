//! A deterministic store to test against.

pub mod body;
