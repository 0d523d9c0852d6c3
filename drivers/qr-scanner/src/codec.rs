//! Every byte that a scanner sends or is sent, without any input or output: pure, and surviving any bytes.

pub mod descriptor;
pub mod fuzz;
pub mod keymap;
pub mod report;
pub mod serial;
pub mod text;

/// Longest text of one code: the 7,089 digits of a version 40-L QR code.
pub const TEXT_MAX: usize = 7089;

/// A whole code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The bytes of the symbol.
    pub text: Vec<u8>,
    /// AIM identifier, zeros when not told.
    pub aim: [u8; 3],
}
