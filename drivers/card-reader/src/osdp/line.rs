//! The bytes below OSDP: a serial line, or any stream, that never blocks and is emptied at once.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use libosdp::{Channel, ChannelError};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::termios::{ControlModes, OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};

use super::answers::Answers;
use crate::{Error, ErrorKind};

/// Bytes that wait for a simulated reader: four of the largest packets. More is noise, and the oldest goes.
const WAITING_MAX: usize = 1024;

/// A stream of bytes with a descriptor to wait on, set to not block.
pub trait Stream: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> Stream for T {}

/// One end of a line.
pub struct Line {
    shared: Arc<Mutex<Ends>>,
}

struct Ends {
    stream: Box<dyn Stream>,
    waiting: Waiting,
    lost: bool,
}

/// What has arrived and libosdp has not read.
enum Waiting {
    /// For a panel.
    Answers(Answers),
    /// For a reader, as it came.
    Commands(VecDeque<u8>),
}

/// What libosdp holds of a line. It never frees it, so it holds no more than a weak reference.
struct Tap {
    shared: Weak<Mutex<Ends>>,
}

impl Line {
    /// The panel's end, on a stream that does not block.
    #[must_use]
    pub fn panel(stream: Box<dyn Stream>) -> Self {
        Self::new(stream, Waiting::Answers(Answers::default()))
    }

    /// A simulated reader's end, on a stream that does not block.
    #[must_use]
    pub fn reader(stream: Box<dyn Stream>) -> Self {
        Self::new(stream, Waiting::Commands(VecDeque::new()))
    }

    fn new(stream: Box<dyn Stream>, waiting: Waiting) -> Self {
        Self { shared: Arc::new(Mutex::new(Ends { stream, waiting, lost: false })) }
    }

    /// libosdp's side.
    #[must_use]
    pub fn channel(&self) -> Box<dyn Channel> {
        Box::new(Tap { shared: Arc::downgrade(&self.shared) })
    }

    /// Takes in what has arrived; `false` once the other end is gone.
    #[must_use]
    pub fn fill(&self) -> bool {
        let mut ends = lock(&self.shared);
        let mut bytes = [0; 256];
        while !ends.lost {
            match ends.stream.read(&mut bytes) {
                Ok(0) => ends.lost = true,
                Ok(count) => {
                    ends.waiting.arrive(&bytes[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => ends.lost = true,
            }
        }
        !ends.lost
    }

    /// Runs `wait` with the descriptor to wait on.
    pub fn with_fd<T>(&self, wait: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        // Only the thread that owns the line locks it, so holding the lock while waiting blocks nobody.
        wait(lock(&self.shared).stream.as_fd())
    }
}

impl Waiting {
    fn arrive(&mut self, bytes: &[u8]) {
        match self {
            Self::Answers(answers) => answers.arrive(bytes),
            Self::Commands(waiting) => {
                waiting.extend(bytes);
                let excess = waiting.len().saturating_sub(WAITING_MAX);
                waiting.drain(..excess);
            }
        }
    }
}

impl Channel for Tap {
    fn get_id(&self) -> i32 {
        0
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ChannelError> {
        let shared = self.shared.upgrade().ok_or(ChannelError::TransportError)?;
        let mut ends = lock(&shared);
        Ok(match &mut ends.waiting {
            Waiting::Answers(answers) => answers.read(buf),
            Waiting::Commands(bytes) => bytes.read(buf)?,
        })
    }

    fn write(&mut self, buf: &[u8]) -> Result<usize, ChannelError> {
        let shared = self.shared.upgrade().ok_or(ChannelError::TransportError)?;
        let mut ends = lock(&shared);
        if let Waiting::Answers(answers) = &mut ends.waiting {
            answers.ask();
        }
        let written = ends.stream.write(buf);
        ends.lost |= written.as_ref().is_err_and(|error| {
            !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted)
        });
        Ok(written?)
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        if let Some(shared) = self.shared.upgrade() {
            match &mut lock(&shared).waiting {
                Waiting::Answers(answers) => answers.forget(),
                Waiting::Commands(bytes) => bytes.clear(),
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ChannelError> {
        self.shared = Weak::new();
        Ok(())
    }
}

/// Opens a serial device: raw, eight bits, no parity, one stop bit, no flow control, ours alone.
///
/// # Errors
/// `NotFound`, `Busy`, `Unsupported` when it is no serial line or has no such speed, `Io` otherwise.
pub fn open_serial(path: &str, baud: u32) -> Result<std::fs::File, Error> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fail = |error: rustix::io::Errno| Error::open(path, error.into());
    let line = rustix::fs::open(path, flags, Mode::empty()).map_err(fail)?;
    // Root may open a line that is marked exclusive, so a lock says who has it.
    flock(&line, FlockOperation::NonBlockingLockExclusive).map_err(fail)?;
    let unsupported = |_| Error::new(ErrorKind::Unsupported, "open", None).at(path);
    let mut mode = tcgetattr(&line).map_err(unsupported)?;
    mode.make_raw();
    mode.control_modes -= ControlModes::CRTSCTS | ControlModes::CSTOPB;
    mode.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
    mode.set_speed(baud).map_err(unsupported)?;
    tcsetattr(&line, OptionalActions::Now, &mode).map_err(unsupported)?;
    tcflush(&line, QueueSelector::IOFlush).map_err(fail)?;
    Ok(line.into())
}

fn lock(ends: &Mutex<Ends>) -> MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}
