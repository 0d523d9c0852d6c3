//! The simulated scanner: a phone is shown to it, and it sends the reports that a HID POS scanner sends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::codec::report::{DESCRIPTOR, Decoder, Layout};
use crate::{Error, ErrorKind, QrScanner, Scan, Signal};

/// Reports kept for a reader that does not come, as hidraw keeps them (`HIDRAW_BUFFER_SIZE`).
const REPORTS_MAX: usize = 64;

/// The driver's side: reads reports and decodes them through the codec.
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    decoder: Decoder,
    plugging: u64,
}

/// The world's side: shows codes, hears the beeper, pulls the cable.
#[derive(Clone, Debug)]
pub struct SimHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: Mutex<Device>,
    changed: Notify,
    layout: Layout,
}

#[derive(Debug)]
struct Device {
    reports: VecDeque<(Vec<u8>, Instant)>,
    signals: Vec<Signal>,
    garble: bool,
    plugged: bool,
    plugging: u64,
    open: bool,
}

/// Signals kept for the world to hear; older ones are forgotten.
const SIGNALS_MAX: usize = 16;

impl Sim {
    /// A scanner of the common layout, plugged in and opened, with its handle.
    #[must_use]
    pub fn new() -> (Self, SimHandle) {
        let layout = Layout::parse(DESCRIPTOR).expect("the common descriptor is a scanner's");
        let device = Device {
            reports: VecDeque::new(),
            signals: Vec::new(),
            garble: false,
            plugged: true,
            plugging: 0,
            open: true,
        };
        let shared =
            Arc::new(Shared { device: Mutex::new(device), changed: Notify::new(), layout: layout.clone() });
        let sim = Self { shared: Arc::clone(&shared), decoder: Decoder::new(layout), plugging: 0 };
        (sim, SimHandle { shared })
    }
}

impl QrScanner for Sim {
    async fn next_scan(&mut self) -> Result<Scan, Error> {
        loop {
            {
                let mut device = self.shared.lock();
                if !device.serves(self.plugging) {
                    return Err(Error::new(ErrorKind::Disconnected, "read", None));
                }
                while let Some((report, reported)) = device.reports.pop_front() {
                    if let Some(code) = self.decoder.push(&report, reported)? {
                        return Ok(Scan { text: code.text, aim: code.aim, reported });
                    }
                }
            }
            self.shared.changed.notified().await;
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        let mut device = self.shared.lock();
        if !device.serves(self.plugging) {
            return Err(Error::new(ErrorKind::Disconnected, "signal", None));
        }
        if device.signals.len() == SIGNALS_MAX {
            device.signals.remove(0);
        }
        device.signals.push(signal);
        Ok(())
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let mut device = self.shared.lock();
        if device.serves(self.plugging) {
            device.open = false;
            device.reports.clear();
        }
    }
}

impl SimHandle {
    /// Opens the scanner again, after a restart of its service or a pulled cable.
    ///
    /// # Errors
    /// `NotFound` while unplugged, `Busy` while another [`Sim`] of this scanner lives.
    pub fn open(&self) -> Result<Sim, Error> {
        let mut device = self.shared.lock();
        if !device.plugged {
            return Err(Error::new(ErrorKind::NotFound, "open", None));
        }
        if device.open {
            return Err(Error::new(ErrorKind::Busy, "open", None));
        }
        device.open = true;
        device.reports.clear();
        let decoder = Decoder::new(self.shared.layout.clone());
        Ok(Sim { shared: Arc::clone(&self.shared), decoder, plugging: device.plugging })
    }

    /// Holds a QR code with this text in front of the scanner: it sends its reports at once, unless nobody
    /// has opened it. What does not fit in the kernel's buffer is lost, oldest first.
    pub fn show(&self, text: &[u8]) {
        self.send(self.shared.layout.encode(text, *b"]Q1"));
    }

    /// The same, but the scanner stops after half of its reports.
    pub fn show_half(&self, text: &[u8]) {
        let mut reports = self.shared.layout.encode(text, *b"]Q1");
        reports.truncate(reports.len() / 2);
        self.send(reports);
    }

    fn send(&self, mut reports: Vec<Vec<u8>>) {
        let mut device = self.shared.lock();
        if !device.plugged || !device.open {
            return;
        }
        if let Some(first) = reports.first_mut().filter(|_| std::mem::take(&mut device.garble)) {
            // The byte count, behind the report id: more than a report can hold.
            first[1] = 0xff;
        }
        let now = Instant::now();
        for report in reports {
            if device.reports.len() == REPORTS_MAX {
                device.reports.pop_front();
            }
            device.reports.push_back((report, now));
        }
        drop(device);
        self.shared.changed.notify_one();
    }

    /// The next code shown arrives with a report that makes no sense.
    pub fn garble(&self) {
        self.shared.lock().garble = true;
    }

    /// Takes the signals given since the last call, at most the newest 16.
    #[must_use]
    pub fn signals(&self) -> Vec<Signal> {
        std::mem::take(&mut self.shared.lock().signals)
    }

    /// Pulls the cable: reports on the way are lost, the opened [`Sim`] fails from now on.
    pub fn unplug(&self) {
        let mut device = self.shared.lock();
        device.plugged = false;
        device.open = false;
        device.plugging += 1;
        device.reports.clear();
        drop(device);
        self.shared.changed.notify_one();
    }

    /// Puts the cable back; the service must [`SimHandle::open`] again.
    pub fn plug(&self) {
        self.shared.lock().plugged = true;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    fn serves(&self, plugging: u64) -> bool {
        self.plugged && self.plugging == plugging
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn sim_conforms() {
        let (sim, mut handle) = Sim::new();
        drop(sim);
        conformance::check(&mut handle).await;
    }

    #[tokio::test]
    async fn a_pulled_cable_fails_until_reopened() {
        let (mut sim, handle) = Sim::new();
        assert_eq!(handle.open().unwrap_err().kind(), ErrorKind::Busy);
        handle.show(b"lost");
        handle.unplug();
        assert_eq!(handle.open().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(sim.next_scan().await.unwrap_err().kind(), ErrorKind::Disconnected);
        assert_eq!(sim.signal(Signal::Good).unwrap_err().kind(), ErrorKind::Disconnected);
        handle.plug();
        let mut again = handle.open().unwrap();
        drop(sim);
        handle.show(b"here");
        assert_eq!(again.next_scan().await.unwrap().text, b"here");
    }

    #[tokio::test]
    async fn nobody_waits_in_a_closed_scanner() {
        let (sim, handle) = Sim::new();
        drop(sim);
        handle.show(b"to nobody");
        let mut again = handle.open().unwrap();
        handle.show(b"to us");
        assert_eq!(again.next_scan().await.unwrap().text, b"to us");
    }

    #[tokio::test]
    async fn garbled_code_is_one_error() {
        let (mut sim, handle) = Sim::new();
        for text in [&[b'1'; 455][..], b"short"] {
            handle.garble();
            handle.show(text);
            handle.show(b"after");
            assert_eq!(sim.next_scan().await.unwrap_err().kind(), ErrorKind::Garbled);
            assert_eq!(sim.next_scan().await.unwrap().text, b"after");
        }
    }
}
