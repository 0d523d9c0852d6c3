//! The simulated turnstile: a terminal strip with a cable that can be pulled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::{Edge, Error, ErrorKind, Line, Outputs, Turnstile};

/// Edges kept for a reader that does not come: what the kernel keeps for a request of seven lines (16 a
/// line).
const EDGES_MAX: usize = 16 * Line::ALL.len();

/// The driver's side. Opened by [`Sim::new`] or [`SimHandle::open`]; dropping it leaves all outputs inactive.
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    /// The plugging this was opened in: after the cable was pulled it never works again.
    plugging: u64,
}

/// The world's side: sets the input lines, reads the output lines, pulls the cable.
#[derive(Clone, Debug)]
pub struct SimHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    strip: Mutex<Strip>,
    changed: Notify,
}

#[derive(Debug)]
struct Strip {
    inputs: [bool; Line::ALL.len()],
    outputs: Outputs,
    unlocked_at: Option<Instant>,
    unlocks: u64,
    plugged: bool,
    plugging: u64,
    open: bool,
    edges: VecDeque<Edge>,
}

impl Sim {
    /// A turnstile that is plugged in and ready, opened, with its handle.
    #[must_use]
    pub fn new() -> (Self, SimHandle) {
        let mut strip = Strip {
            inputs: [false; Line::ALL.len()],
            outputs: Outputs::INACTIVE,
            unlocked_at: None,
            unlocks: 0,
            plugged: true,
            plugging: 0,
            open: true,
            edges: VecDeque::new(),
        };
        strip.inputs[Line::Ready as usize] = true;
        strip.report_all();
        let shared = Arc::new(Shared { strip: Mutex::new(strip), changed: Notify::new() });
        (Self { shared: Arc::clone(&shared), plugging: 0 }, SimHandle { shared })
    }
}

impl Turnstile for Sim {
    fn drive(&mut self, outputs: Outputs) -> Result<(), Error> {
        let mut strip = self.shared.lock();
        if !strip.serves(self.plugging) {
            return Err(Error::new(ErrorKind::Disconnected, "drive", None));
        }
        let rises =
            (outputs.unlock_a && !strip.outputs.unlock_a) || (outputs.unlock_b && !strip.outputs.unlock_b);
        if rises {
            strip.unlocked_at = Some(Instant::now());
            strip.unlocks += 1;
        }
        strip.outputs = outputs;
        Ok(())
    }

    async fn next_edge(&mut self) -> Result<Edge, Error> {
        loop {
            {
                let mut strip = self.shared.lock();
                if !strip.serves(self.plugging) {
                    return Err(Error::new(ErrorKind::Disconnected, "watch", None));
                }
                if let Some(edge) = strip.edges.pop_front() {
                    return Ok(edge);
                }
            }
            self.shared.changed.notified().await;
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let mut strip = self.shared.lock();
        if strip.serves(self.plugging) {
            strip.outputs = Outputs::INACTIVE;
            strip.open = false;
        }
    }
}

impl SimHandle {
    /// Opens the turnstile again, after a restart of its service or a pulled cable.
    ///
    /// # Errors
    /// `NotFound` while unplugged, `Busy` while another [`Sim`] of this strip lives.
    pub fn open(&self) -> Result<Sim, Error> {
        let mut strip = self.shared.lock();
        if !strip.plugged {
            return Err(Error::new(ErrorKind::NotFound, "open", None));
        }
        if strip.open {
            return Err(Error::new(ErrorKind::Busy, "open", None));
        }
        strip.open = true;
        strip.report_all();
        Ok(Sim { shared: Arc::clone(&self.shared), plugging: strip.plugging })
    }

    /// Sets an input line; only a change makes an edge. Lines keep their level while the cable is out.
    pub fn set(&self, line: Line, active: bool) {
        let mut strip = self.shared.lock();
        if std::mem::replace(&mut strip.inputs[line as usize], active) == active || !strip.open {
            return;
        }
        if strip.edges.len() == EDGES_MAX {
            strip.report_all();
        } else {
            strip.edges.push_back(Edge { line, active, at: Instant::now() });
        }
        drop(strip);
        self.shared.changed.notify_one();
    }

    /// What the outputs are now.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        self.shared.lock().outputs
    }

    /// Real time of the newest rising edge of an unlock line.
    #[must_use]
    pub fn unlocked_at(&self) -> Option<Instant> {
        self.shared.lock().unlocked_at
    }

    /// Rising edges of the unlock lines so far, for a world that looks less often than a pulse is long.
    #[must_use]
    pub fn unlocks(&self) -> u64 {
        self.shared.lock().unlocks
    }

    /// Pulls the cable: outputs fall to inactive, the opened [`Sim`] fails from now on.
    pub fn unplug(&self) {
        let mut strip = self.shared.lock();
        strip.plugged = false;
        strip.open = false;
        strip.plugging += 1;
        strip.outputs = Outputs::INACTIVE;
        strip.edges.clear();
        drop(strip);
        self.shared.changed.notify_one();
    }

    /// Puts the cable back; the service must [`SimHandle::open`] again.
    pub fn plug(&self) {
        self.shared.lock().plugged = true;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Strip> {
        self.strip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Strip {
    fn serves(&self, plugging: u64) -> bool {
        self.plugged && self.plugging == plugging
    }

    fn report_all(&mut self) {
        self.edges.clear();
        let at = Instant::now();
        let levels = self.inputs;
        self.edges.extend(Line::ALL.into_iter().map(|line| Edge { line, active: levels[line as usize], at }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn sim_conforms() {
        let (mut sim, mut handle) = Sim::new();
        conformance::check(&mut sim, &mut handle).await;
        drop(sim);
        assert_eq!(handle.outputs(), Outputs::INACTIVE, "dropped driver leaves lines inactive");
        let opener = handle.clone();
        conformance::check_opening(|| opener.open(), &mut handle).await;
    }

    #[tokio::test]
    async fn a_pulled_cable_fails_until_reopened() {
        let (mut sim, handle) = Sim::new();
        sim.drive(Outputs { unlock_a: true, ..Outputs::INACTIVE }).unwrap();
        assert!(handle.outputs().unlock_a);
        assert_eq!(handle.open().unwrap_err().kind(), ErrorKind::Busy);
        handle.unplug();
        assert_eq!(handle.outputs(), Outputs::INACTIVE);
        assert_eq!(handle.open().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(sim.next_edge().await.unwrap_err().kind(), ErrorKind::Disconnected);
        handle.plug();
        assert_eq!(sim.drive(Outputs::INACTIVE).unwrap_err().kind(), ErrorKind::Disconnected);
        let mut again = handle.open().unwrap();
        drop(sim);
        again.drive(Outputs { beacon_green: true, ..Outputs::INACTIVE }).unwrap();
        assert!(handle.outputs().beacon_green, "the dead driver's end must not touch the new one's lines");
    }

    #[tokio::test]
    async fn unplugging_wakes_a_waiting_reader() {
        let (mut sim, handle) = Sim::new();
        for _ in Line::ALL {
            sim.next_edge().await.unwrap();
        }
        let reader =
            tokio::spawn(async move { sim.next_edge().await.map(|_| ()).map_err(|error| error.kind()) });
        tokio::task::yield_now().await;
        handle.unplug();
        assert_eq!(reader.await.unwrap(), Err(ErrorKind::Disconnected));
    }

    #[tokio::test]
    async fn lost_edges_are_made_up_by_reporting_every_level() {
        let (mut sim, handle) = Sim::new();
        for step in 0..1000 {
            handle.set(Line::PassageA, step % 2 == 0);
        }
        handle.set(Line::FireAlarm, true);
        let mut levels = [false; Line::ALL.len()];
        let count = handle.shared.lock().edges.len();
        assert!(count <= EDGES_MAX);
        for _ in 0..count {
            let edge = sim.next_edge().await.unwrap();
            levels[edge.line as usize] = edge.active;
        }
        assert!(levels[Line::Ready as usize] && levels[Line::FireAlarm as usize]);
        assert!(!levels[Line::PassageA as usize]);
    }
}
