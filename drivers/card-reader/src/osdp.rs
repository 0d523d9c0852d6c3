//! OSDP readers (IEC 60839-11-5) over a serial line, through libosdp: we are the control panel, the reader is
//! the peripheral device, and nothing it says counts before the secure channel stands on its own key.
//!
//! libosdp wants to be called every few milliseconds, so it runs in a thread of its own. One reader a line: a
//! shared line would let a broken reader take the turns of a good one.

mod answers;
pub mod clock;
mod key;
mod libosdp_hooks;
mod line;
mod panel;
mod srand;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use key::Key;
pub use line::{Line, Stream, open_serial};
pub use panel::Panel;
pub use srand::seed_with as seed_challenges;

use crate::{CardReader, Cause, Error, ErrorKind, Report, Signal};

/// The reader's line, address and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Serial device, by a path that does not change: `/dev/serial/by-path/…`.
    pub path: String,
    /// Speed: 9600, 19200, 38400, 57600, 115200 or 230400 bit/s. Readers leave the factory at 9600.
    #[serde(default = "factory_baud")]
    pub baud: u32,
    /// The reader's address, 0 to 126. Readers leave the factory at 0.
    #[serde(default)]
    pub address: u8,
    /// File with the secure channel base key of this reader: 32 hexadecimal digits, readable by nobody else.
    pub key_file: String,
    /// Gives the key to a reader that still has the factory's (SCBK-D). Whoever listens to the line meanwhile
    /// learns the key: only for as long as a technician stands there.
    #[serde(default)]
    pub install: bool,
}

fn factory_baud() -> u32 {
    9600
}

/// Reports kept for a shell that does not take them; a person shows a card a second.
const REPORTS_MAX: usize = 64;

/// Signals that wait for the line; a person notices one.
const SIGNALS_MAX: usize = 4;

/// An OSDP reader.
#[derive(Debug)]
pub struct Osdp {
    reports: mpsc::Receiver<Result<Report, Error>>,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
    lost: bool,
}

/// What the driver leaves for its thread.
#[derive(Debug)]
struct Desk {
    orders: Mutex<Orders>,
    /// Wakes the thread.
    bell: rustix::fd::OwnedFd,
}

#[derive(Debug, Default)]
struct Orders {
    signals: VecDeque<Signal>,
    stop: bool,
}

/// Opens the serial line and begins to talk; the first reports say how far the reader has got.
///
/// # Errors
/// `Key` for a bad key file, `NotFound` without such a device, `Busy` where somebody holds it, `Unsupported` for
/// settings that no reader can have.
pub fn open(settings: &Settings) -> Result<Osdp, Error> {
    let key = Key::load(&settings.key_file)?;
    check(settings)?;
    open_on(Box::new(open_serial(&settings.path, settings.baud)?), key, settings)
}

/// As [`open`], on any stream of bytes; path and key file of the settings do not matter.
///
/// # Errors
/// `Unsupported` for settings that no reader can have, `Io` when the system gives no thread.
pub fn open_on(stream: Box<dyn Stream>, key: Key, settings: &Settings) -> Result<Osdp, Error> {
    check(settings)?;
    let io = |error: std::io::Error| Error::new(ErrorKind::Io, "open", Some(Cause::Io(error)));
    let bell =
        eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|error| io(error.into()))?;
    let desk = Arc::new(Desk { orders: Mutex::default(), bell });
    let (sender, reports) = mpsc::channel(REPORTS_MAX);
    let panel = panel::Panel::new(Line::panel(stream), key, settings)?;
    let thread = std::thread::Builder::new()
        .name("osdp".to_owned())
        .spawn({
            let desk = Arc::clone(&desk);
            move || panel.run(&desk, &sender)
        })
        .map_err(io)?;
    Ok(Osdp { reports, desk, thread: Some(thread), lost: false })
}

impl CardReader for Osdp {
    async fn next_report(&mut self) -> Result<Report, Error> {
        if self.lost {
            return Err(Error::new(ErrorKind::Disconnected, "read", None));
        }
        match self.reports.recv().await {
            Some(Ok(report)) => Ok(report),
            Some(Err(error)) => {
                self.lost = error.kind() != ErrorKind::Garbled;
                Err(error)
            }
            None => {
                self.lost = true;
                Err(Error::new(ErrorKind::Disconnected, "read", None))
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        if self.lost || self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(Error::new(ErrorKind::Disconnected, "signal", None));
        }
        self.desk.order(|orders| {
            if orders.signals.len() == SIGNALS_MAX {
                orders.signals.pop_front();
            }
            orders.signals.push_back(signal);
        });
        Ok(())
    }
}

impl Drop for Osdp {
    /// Waits for the thread, which leaves within a millisecond, so that the line can be opened again at once.
    fn drop(&mut self) {
        self.desk.order(|orders| orders.stop = true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; there is nothing to save here.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        // The counter is full only when it rings already.
        let _ = rustix::io::write(self.bell.as_fd(), &1_u64.to_ne_bytes());
    }

    fn take(&self) -> Orders {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        Orders { signals: std::mem::take(&mut orders.signals), stop: orders.stop }
    }

    fn hush(&self) {
        // Empty when nobody rang.
        let _ = rustix::io::read(self.bell.as_fd(), &mut [0; 8]);
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    if ![9600, 19200, 38400, 57600, 115_200, 230_400].contains(&settings.baud) {
        return Err(Error::setting("baud must be 9600, 19200, 38400, 57600, 115200 or 230400"));
    }
    if settings.address > 126 {
        return Err(Error::setting("address must be 0 to 126"));
    }
    Ok(())
}
