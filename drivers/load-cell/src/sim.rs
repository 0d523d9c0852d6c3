//! Simulated weighing modules on one RTU line: real frames over an in-memory duplex stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::codec::{self, CHANNELS_MAX, Channel, ChannelState, FRAME_MAX, Frame, Reading};

/// Silence that ends a frame: 3.5 characters, fixed at 1.75 ms above 19200 baud (Modbus over serial line
/// V1.02, 2.5.1.1), rounded up to tokio's millisecond.
const SILENCE: Duration = Duration::from_millis(2);

/// Capacity of a cell, tenths of a gram: 20 kg, as the plates of the recorded store have.
const CAPACITY: i32 = 200_000;

/// A channel whose mass changed by more than this since its last answer says that it is moving, tenths of a
/// gram.
const MOTION: i32 = 20;

/// A module to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleSpec {
    /// Modbus address, 1 to 247.
    pub address: u8,
    /// Number of channels, 1 to 40.
    pub channels: u8,
}

/// The modules of a line; spawn [`Sim::run`].
pub struct Sim {
    stream: DuplexStream,
    modules: Arc<Mutex<State>>,
}

/// Hands into the simulated line: loads, faults.
#[derive(Clone)]
pub struct SimHandle {
    modules: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    unplugged: bool,
    garbled: u32,
    modules: BTreeMap<u8, Module>,
}

struct Module {
    killed: bool,
    channels: Vec<Cell>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    tenths: i32,
    /// The frozen value of a stuck cell.
    stuck: Option<i32>,
    open: bool,
    answered: i32,
}

/// A line with these modules: the master's end, the modules' end to run as a task, and a handle. Channels
/// start at 0; addresses and channel counts outside their ranges are left out and cut off, as no such
/// hardware exists.
#[must_use]
pub fn line(modules: &[ModuleSpec]) -> (DuplexStream, Sim, SimHandle) {
    let (master, slaves) = tokio::io::duplex(4 * FRAME_MAX);
    let modules = modules
        .iter()
        .filter(|spec| (1..=247).contains(&spec.address) && spec.channels > 0)
        .map(|spec| {
            let channels = vec![Cell::default(); usize::from(spec.channels.min(CHANNELS_MAX))];
            (spec.address, Module { killed: false, channels })
        })
        .collect();
    let modules = Arc::new(Mutex::new(State { modules, ..State::default() }));
    (master, Sim { stream: slaves, modules: Arc::clone(&modules) }, SimHandle { modules })
}

impl SimHandle {
    /// Puts a load on a channel, tenths of a gram, absolute. Unknown modules and channels ignore it.
    pub fn set_counts(&self, address: u8, channel: u8, tenths: i32) {
        self.cell(address, channel, |cell| cell.tenths = tenths);
    }

    /// Freezes a channel at the value it shows now, or frees it.
    pub fn stick(&self, address: u8, channel: u8, stuck: bool) {
        self.cell(address, channel, |cell| cell.stuck = stuck.then_some(cell.stuck.unwrap_or(cell.tenths)));
    }

    /// Takes the plate off a channel (its cell reads open), or puts it back.
    pub fn open(&self, address: u8, channel: u8, open: bool) {
        self.cell(address, channel, |cell| cell.open = open);
    }

    /// Silences a module, or gives it power again.
    pub fn kill(&self, address: u8, killed: bool) {
        if let Some(module) = lock(&self.modules).modules.get_mut(&address) {
            module.killed = killed;
        }
    }

    /// Breaks the CRC of the next `answers` answers.
    pub fn garble(&self, answers: u32) {
        lock(&self.modules).garbled = answers;
    }

    /// Breaks the cable between the port and the modules: bytes get lost, the port stays.
    pub fn unplug(&self) {
        lock(&self.modules).unplugged = true;
    }

    /// Mends the cable.
    pub fn plug(&self) {
        lock(&self.modules).unplugged = false;
    }

    fn cell(&self, address: u8, channel: u8, change: impl FnOnce(&mut Cell)) {
        if let Some(module) = lock(&self.modules).modules.get_mut(&address)
            && let Some(cell) = module.channels.get_mut(usize::from(channel))
        {
            change(cell);
        }
    }
}

impl Sim {
    /// Answers requests until the master's end is dropped.
    pub async fn run(mut self) {
        let mut frame = Vec::with_capacity(FRAME_MAX);
        while self.receive(&mut frame).await {
            let answer = lock(&self.modules).answer(&frame);
            if let Some(answer) = answer
                && self.stream.write_all(&answer).await.is_err()
            {
                return;
            }
        }
    }

    /// The bytes up to the next silence; false at the end of the line. Bytes beyond the longest frame are
    /// dropped, as a module's receive buffer does.
    async fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        let mut chunk = [0_u8; FRAME_MAX];
        loop {
            let read = self.stream.read(&mut chunk);
            let read = if frame.is_empty() {
                read.await
            } else {
                match tokio::time::timeout(SILENCE, read).await {
                    Ok(read) => read,
                    Err(_) => return true,
                }
            };
            match read {
                Ok(0) | Err(_) => return false,
                // One byte more than the longest frame tells that it was too long.
                Ok(length) => {
                    let room = (FRAME_MAX + 1).saturating_sub(frame.len());
                    frame.extend_from_slice(&chunk[..length.min(room)]);
                }
            }
        }
    }
}

impl State {
    fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.unplugged {
            return None;
        }
        let request = codec::unframe(bytes)?;
        // Broadcasts (address 0) are never answered; they find no module here.
        let module = self.modules.get_mut(&request.address).filter(|module| !module.killed)?;
        let mut answer = codec::frame(&module.respond(&request));
        if self.garbled > 0 {
            self.garbled -= 1;
            if let Some(last) = answer.last_mut() {
                *last ^= 0x55;
            }
        }
        Some(answer)
    }
}

impl Module {
    fn respond(&mut self, request: &Frame) -> Frame {
        let channels = self.channels.iter_mut().map(Cell::convert).collect();
        let reading = Reading { ready: true, fault: false, channels };
        codec::answer(request, &codec::encode(&reading))
    }
}

impl Cell {
    fn convert(&mut self) -> Channel {
        let tenths = self.stuck.unwrap_or(self.tenths);
        let moved = (i64::from(tenths) - i64::from(self.answered)).abs() > i64::from(MOTION);
        self.answered = tenths;
        if self.open {
            Channel { tenths: 0, state: ChannelState::Open }
        } else if !(-CAPACITY..=CAPACITY).contains(&tenths) {
            Channel { tenths: tenths.clamp(-CAPACITY, CAPACITY), state: ChannelState::Overload }
        } else if moved {
            Channel { tenths, state: ChannelState::Unstable }
        } else {
            Channel { tenths, state: ChannelState::Stable }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
