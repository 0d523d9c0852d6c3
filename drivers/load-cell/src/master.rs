//! The master of a line: asks one module after the other.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_modbus::client::{Client, Context, rtu};
use tokio_modbus::{Request, Response, Slave};

use crate::codec::{self, BadRegisters, Reading};
use crate::line::Line;

/// How long a module may take to answer before it counts as silent. Six modules of a gondola answer within 60
/// ms at 115200 baud; modules state 20 ms or less to the first byte.
pub const ANSWER_MAX: Duration = Duration::from_millis(60);

/// The modules of one line. `read` one at a time; requests on a Modbus line never overlap.
pub struct LoadCells<T> {
    line: Line<T>,
    context: Context,
    /// The last request got no whole answer: framing must start afresh, and not before this moment, when its
    /// answer can no longer be on the line.
    torn: Option<Instant>,
    timeout: Duration,
    /// Channels of each module that has answered.
    channels: BTreeMap<u8, u8>,
}

/// A module could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading weighing module {address}")]
pub struct Error {
    /// Which module.
    pub address: u8,
    #[source]
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("a garbled answer of {0} bytes")]
    Garbled(usize),
    #[error("the module refused with Modbus exception {0}")]
    Exception(u8),
    #[error("the answer does not fit the register map")]
    Registers(#[from] BadRegisters),
    #[error("the answer does not fit the request: {0}")]
    Mismatch(String),
    #[error("the line failed")]
    Line(#[source] io::Error),
    #[error("module addresses are 1 to 247")]
    Address,
}

/// What went wrong, for a shell to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The module does not answer: no power, wrong address, cable.
    Silent,
    /// Bytes came, but no frame with a right CRC: noise, two modules with one address, wrong baud rate.
    Garbled,
    /// The module refused the request.
    Exception,
    /// A well-formed answer that is not a weighing module of this map, or was replaced by another size.
    Protocol,
    /// The transport itself failed; it must be opened again.
    Disconnected,
    /// The address is not one of a module.
    Address,
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &self.cause {
            Cause::Silent(_) => ErrorKind::Silent,
            Cause::Garbled(_) => ErrorKind::Garbled,
            Cause::Exception(_) => ErrorKind::Exception,
            Cause::Registers(_) | Cause::Mismatch(_) => ErrorKind::Protocol,
            Cause::Line(_) => ErrorKind::Disconnected,
            Cause::Address => ErrorKind::Address,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> LoadCells<T> {
    /// A master on an opened transport.
    #[must_use]
    pub fn new(transport: T) -> Self {
        Self::with_timeout(transport, ANSWER_MAX)
    }

    /// A master that waits `timeout` for each answer (slow lines).
    #[must_use]
    pub fn with_timeout(transport: T, timeout: Duration) -> Self {
        let line = Line::new(transport);
        let context = rtu::attach(line.clone());
        Self { line, context, torn: None, timeout, channels: BTreeMap::new() }
    }

    /// One conversion of the module at `address` (1 to 247), all channels at once. The first read of a module
    /// asks for its number of channels too. May be dropped at any await; the next read starts afresh.
    ///
    /// # Errors
    /// See [`ErrorKind`]. Every error but `Disconnected` leaves the line usable for the other modules.
    pub async fn read(&mut self, address: u8) -> Result<Reading, Error> {
        self.read_map(address).await.map_err(|cause| {
            // Another module may answer here next time.
            self.channels.remove(&address);
            Error { address, cause }
        })
    }

    async fn read_map(&mut self, address: u8) -> Result<Reading, Cause> {
        if !Slave(address).is_single_device() {
            return Err(Cause::Address);
        }
        let channels = match self.channels.get(&address) {
            Some(channels) => *channels,
            None => codec::channel_count(&self.registers(address, codec::HEADER).await?)?,
        };
        let reading = codec::decode(&self.registers(address, codec::map_length(channels)).await?)?;
        self.channels.insert(address, channels);
        Ok(reading)
    }

    /// Input registers 0..quantity of a module. Goes through `call` because the reader of `tokio-modbus`
    /// asserts that the answer has the length asked for, and an answer is outside input.
    async fn registers(&mut self, address: u8, quantity: u16) -> Result<Vec<u16>, Cause> {
        use tokio_modbus::slave::SlaveContext;

        if let Some(quiet) = self.torn {
            tokio::time::sleep_until(quiet).await;
            self.context = rtu::attach(self.line.clone());
        }
        self.torn = Some(Instant::now() + self.timeout);
        self.context.set_slave(Slave(address));
        let call = self.context.call(Request::ReadInputRegisters(0, quantity));
        let answered = tokio::time::timeout(self.timeout, call).await;
        let registers = match answered {
            Err(_) => Err(self.unanswered()),
            Ok(Err(tokio_modbus::Error::Transport(error))) => Err(match error.kind() {
                // The codec's word for "bytes, but no frame".
                io::ErrorKind::InvalidData => Cause::Garbled(self.line.received()),
                _ => Cause::Line(error),
            }),
            Ok(Err(tokio_modbus::Error::Protocol(error))) => Err(Cause::Mismatch(error.to_string())),
            Ok(Ok(Err(exception))) => {
                self.torn = None;
                Err(Cause::Exception(exception.into()))
            }
            Ok(Ok(Ok(Response::ReadInputRegisters(registers)))) => Ok(registers),
            Ok(Ok(Ok(other))) => Err(Cause::Mismatch(format!("{other:?}"))),
        }?;
        self.torn = None;
        if registers.len() != usize::from(quantity) {
            return Err(Cause::Mismatch(format!("{} of {quantity} registers", registers.len())));
        }
        Ok(registers)
    }

    fn unanswered(&self) -> Cause {
        match self.line.received() {
            0 => Cause::Silent(self.timeout),
            bytes => Cause::Garbled(bytes),
        }
    }
}
