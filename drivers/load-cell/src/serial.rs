//! Serial ports of load-cell lines: an RS-485 adapter, on USB or on the board.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serial2_tokio::{CharSize, SerialPort, Settings as Mode, StopBits};

/// An open port.
pub type Port = SerialPort;

/// Which port, and how its modules talk. The defaults are those of "MODBUS over Serial Line V1.02", section 2.5.1
/// (even parity, one stop bit), at the speed that weighing modules offer most often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The port by its socket, `/dev/serial/by-path/…`: the numbers of `/dev/ttyUSB0` change with every start.
    pub path: PathBuf,
    /// Bits a second.
    #[serde(default = "baud")]
    pub baud: u32,
    /// Parity bit. Without one there are two stop bits, as the standard asks.
    #[serde(default)]
    pub parity: Parity,
}

/// Parity of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// None, with two stop bits.
    None,
    /// Even.
    #[default]
    Even,
    /// Odd.
    Odd,
}

fn baud() -> u32 {
    115_200
}

/// Opens the port, for [`crate::LoadCells::new`], inside a tokio runtime. What the line said before is thrown away.
///
/// # Errors
/// Those of the kernel: no such port, no right to it, not a serial port, a speed that it does not have.
pub fn open(settings: &Settings) -> io::Result<Port> {
    let port = SerialPort::open(&settings.path, |mut mode: Mode| {
        mode.set_raw();
        mode.set_baud_rate(settings.baud)?;
        mode.set_char_size(CharSize::Bits8);
        let (parity, stop_bits) = match settings.parity {
            Parity::None => (serial2_tokio::Parity::None, StopBits::Two),
            Parity::Even => (serial2_tokio::Parity::Even, StopBits::One),
            Parity::Odd => (serial2_tokio::Parity::Odd, StopBits::One),
        };
        mode.set_parity(parity);
        mode.set_stop_bits(stop_bits);
        Ok(mode)
    })?;
    port.discard_buffers()?;
    Ok(port)
}
