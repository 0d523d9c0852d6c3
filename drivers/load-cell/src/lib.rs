//! Load cells: n-channel weighing modules on a Modbus RTU line, read as masses by a master over any byte
//! stream.
//!
//! It deliberately does not decide anything about mass: no tare, no filter, no step detection. It opens a port
//! ([`serial`]) and does not open it again: that is the shell's business.
//!
//! One line serves one gondola, one module one shelf, one channel one plate. Modules follow "MODBUS
//! Application Protocol Specification V1.1b3" and "MODBUS over Serial Line V1.02" (both modbus.org): RTU
//! framing, CRC-16, answers to function 4 (read input registers) and, with the same map, function 3 (read
//! holding registers), exception 2 for a register outside the map, exception 3 for a bad quantity, exception
//! 1 for any other function.
//!
//! # Register map
//!
//! Addresses are protocol addresses, from 0. Registers are 16 bits, big-endian; 32-bit values have the high
//! word first.
//!
//! | register | content |
//! |---|---|
//! | 0 | module status: bit 0 ready (calibrated, converting), bit 1 hardware fault; others reserved, 0 |
//! | 1 | number of channels n, 1..=40 |
//! | 2 + 3k | channel k (0..n): mass in tenths of a gram, signed 32 bits, high word |
//! | 3 + 3k | channel k: mass, low word |
//! | 4 + 3k | channel k status: bit 0 ok, 1 no plate or cell open, 2 overload, 3 unstable (moving); others 0 |
//!
//! The whole map of the largest module is 122 registers, below the 125 that one request may carry, so that
//! every read is one consistent conversion. At 115200 baud with parity (11 bits a character) a 12-channel
//! answer of 81 bytes takes 7.7 ms; six such shelves are polled ten times a second with room to spare.

pub mod codec;
mod line;
mod master;
pub mod serial;
pub mod sim;

pub use codec::{BadRegisters, Channel, ChannelState, Reading};
pub use master::{Error, ErrorKind, LoadCells};
