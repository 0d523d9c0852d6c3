//! A palm scanner that is shown pictures: it sends the bulk bytes of the real one, in its transfers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::codec::{self, BulkFrame, Deframer};
use crate::{Error, Frame, Illumination, PalmScanner, Signal};

/// Pixels a line.
pub const WIDTH: u16 = 640;

/// Lines.
pub const HEIGHT: u16 = 480;

/// Frames that wait for a slow reader before the oldest is lost, as in the device's own memory.
pub const QUEUE_MAX: usize = 2;

/// Time between two frames on the device's clock: 30 frames a second.
const FRAME_MS: u32 = 33;

/// The scanner as a service holds it.
pub struct Sim {
    shared: Arc<Shared>,
    deframer: Deframer,
    /// What has left the device, and how much of it is read.
    arriving: Zeroizing<Vec<u8>>,
    read: usize,
    /// How often the cable had been pulled when the stream started; another number means a new stream.
    pulls: u32,
    count: Count,
}

/// The world's side of a [`Sim`]: the hand over it, and the hand on the cable.
#[derive(Clone)]
pub struct SimHandle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Zeroizing<Vec<u8>>>,
    armed: Option<Illumination>,
    signal: Option<Signal>,
    sequence: u8,
    device_ms: u32,
    unplugged: bool,
    pulls: u32,
    garble_next: bool,
    cut_next: bool,
}

/// Continues the device's one-byte frame number.
#[derive(Default)]
struct Count {
    last: Option<u32>,
}

impl Count {
    fn extend(&mut self, sequence: u8) -> u32 {
        let next = self.last.map_or(u32::from(sequence), |last| {
            last.wrapping_add(u32::from(sequence.wrapping_sub(last.to_le_bytes()[0])))
        });
        self.last = Some(next);
        next
    }
}

impl Sim {
    /// A scanner that is plugged in and not armed.
    #[must_use]
    pub fn new() -> (Self, SimHandle) {
        let shared = Arc::<Shared>::default();
        let sim = Self {
            shared: Arc::clone(&shared),
            deframer: Deframer::new(),
            arriving: Zeroizing::default(),
            read: 0,
            pulls: 0,
            count: Count::default(),
        };
        (sim, SimHandle { shared })
    }

    /// Takes what has arrived through the codec until it makes a frame or an error.
    fn deframe(&mut self) -> Option<Result<BulkFrame, codec::BadFrame>> {
        loop {
            if let Some(result) = self.deframer.next_frame() {
                return Some(result);
            }
            let transfer = self.arriving[self.read..].chunks(codec::TRANSFER_MAX).next()?;
            self.deframer.push(transfer);
            self.read += transfer.len();
        }
    }
}

impl PalmScanner for Sim {
    fn arm(&mut self, illumination: Illumination) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if state.unplugged {
            return Err(Error::Disconnected);
        }
        state.armed = Some(illumination);
        Ok(())
    }

    async fn next_frame(&mut self) -> Result<Frame, Error> {
        loop {
            {
                let state = self.shared.lock();
                if self.pulls != state.pulls {
                    self.pulls = state.pulls;
                    self.deframer.clear();
                    self.arriving = Zeroizing::default();
                    self.read = 0;
                    self.count = Count::default();
                }
                if state.unplugged {
                    return Err(Error::Disconnected);
                }
                if state.armed.is_none() {
                    return Err(Error::NotArmed);
                }
            }
            if let Some(result) = self.deframe() {
                let frame = result?;
                return Ok(Frame {
                    sequence: self.count.extend(frame.sequence),
                    device_ms: frame.device_ms,
                    width: u32::from(frame.width),
                    height: u32::from(frame.height),
                    illumination: frame.illumination,
                    data: frame.data,
                    reported: Instant::now(),
                });
            }
            let next = self.shared.lock().queue.pop_front();
            match next {
                Some(bytes) => {
                    self.arriving = bytes;
                    self.read = 0;
                }
                None => self.shared.changed.notified().await,
            }
        }
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if state.unplugged {
            return Err(Error::Disconnected);
        }
        state.signal = Some(signal);
        Ok(())
    }
}

impl SimHandle {
    /// Holds a palm over the scanner for one frame: `picture` is [`WIDTH`] x [`HEIGHT`] bytes of brightness.
    /// It joins a queue of [`QUEUE_MAX`], which loses its oldest frame when full. Nothing happens while the
    /// scanner is not armed or unplugged.
    ///
    /// # Panics
    ///
    /// When `picture` is of another size.
    pub fn present(&self, picture: &[u8]) {
        assert_eq!(
            picture.len(),
            usize::from(WIDTH) * usize::from(HEIGHT),
            "a palm picture has 640x480 bytes"
        );
        let mut state = self.shared.lock();
        let Some(illumination) = state.armed else { return };
        let frame = BulkFrame {
            sequence: state.sequence,
            device_ms: state.device_ms,
            width: WIDTH,
            height: HEIGHT,
            illumination,
            data: Zeroizing::new(picture.to_vec()),
        };
        let mut bytes = codec::encode(&frame);
        if std::mem::take(&mut state.garble_next) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x20;
        }
        if std::mem::take(&mut state.cut_next) {
            let half = bytes.len() / 2;
            bytes.truncate(half);
        }
        state.sequence = state.sequence.wrapping_add(1);
        state.device_ms = state.device_ms.wrapping_add(FRAME_MS);
        if state.queue.len() == QUEUE_MAX {
            state.queue.pop_front();
        }
        state.queue.push_back(bytes);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Damages a byte of the next frame on its way.
    pub fn garble(&self) {
        self.shared.lock().garble_next = true;
    }

    /// Loses the second half of the next frame on its way.
    pub fn cut(&self) {
        self.shared.lock().cut_next = true;
    }

    /// The light that is on, `None` when not armed.
    #[must_use]
    pub fn armed(&self) -> Option<Illumination> {
        self.shared.lock().armed
    }

    /// What the light ring shows, `None` since it was plugged in.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.shared.lock().signal
    }

    /// Pulls the cable: what was on its way is lost and the reader is told at once.
    pub fn unplug(&self) {
        let mut state = self.shared.lock();
        if state.unplugged {
            return;
        }
        *state = State { unplugged: true, pulls: state.pulls.wrapping_add(1), ..State::default() };
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Puts the cable back: the scanner has forgotten that it was armed.
    pub fn plug(&self) {
        self.shared.lock().unplugged = false;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete when the lock is let go, also in a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
