//! A camera whose pictures someone pushes in: same formats, same queue, same losses as a V4L2 device.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{Camera, Error, Format, Frame, Rgb, codec};

/// Frames that wait for a slow reader before the oldest is lost. Two is what a streaming camera is given
/// here, so that a frame is never older than two exposures.
pub const QUEUE_MAX: usize = 2;

/// The camera as a service holds it.
pub struct Sim {
    shared: Arc<Shared>,
}

/// The world's side of a [`Sim`]: what is in front of the lens, and the hand on the cable.
#[derive(Clone)]
pub struct SimHandle {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    width: u32,
    height: u32,
    format: Format,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Frame>,
    sequence: u32,
    dark: bool,
    unplugged: bool,
    drop_next: u32,
}

impl Sim {
    /// A camera that streams `width` x `height` pixels in `format`, plugged in.
    #[must_use]
    pub fn new(width: u32, height: u32, format: Format) -> (Self, SimHandle) {
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Notify::new(), width, height, format });
        (Self { shared: Arc::clone(&shared) }, SimHandle { shared })
    }
}

impl Camera for Sim {
    async fn next_frame(&mut self) -> Result<Frame, Error> {
        loop {
            {
                let mut state = self.shared.lock();
                if state.unplugged {
                    return Err(Error::Disconnected);
                }
                if let Some(frame) = state.queue.pop_front() {
                    return Ok(frame);
                }
            }
            self.shared.changed.notified().await;
        }
    }
}

impl SimHandle {
    /// Pixels a line of the camera.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.shared.width
    }

    /// Lines of the camera.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.shared.height
    }

    /// Exposes one frame of `picture` at `captured_ms`. It joins a queue of [`QUEUE_MAX`], which loses its
    /// oldest frame when full. Nothing happens while the camera is unplugged.
    ///
    /// # Panics
    ///
    /// When `picture` is not of the camera's size.
    pub fn push(&self, picture: &Rgb, captured_ms: u64) {
        let shared = &*self.shared;
        assert_eq!(
            (picture.width, picture.height),
            (shared.width, shared.height),
            "the picture is of the camera's size"
        );
        let dark = {
            let mut state = shared.lock();
            if state.unplugged {
                return;
            }
            if state.drop_next > 0 {
                state.drop_next -= 1;
                state.sequence = state.sequence.wrapping_add(1);
                return;
            }
            state.dark
        };
        let data = if dark {
            encode(&Rgb::new(picture.width, picture.height), shared.format)
        } else {
            encode(picture, shared.format)
        };
        self.push_bytes(data, captured_ms);
    }

    /// Exposes one frame with these bytes, whatever they are: how a test sends a broken one.
    pub fn push_bytes(&self, data: Vec<u8>, captured_ms: u64) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        if state.unplugged {
            return;
        }
        let sequence = state.sequence;
        state.sequence = sequence.wrapping_add(1);
        if state.queue.len() == QUEUE_MAX {
            state.queue.pop_front();
        }
        let (width, height, format) = (shared.width, shared.height, shared.format);
        state.queue.push_back(Frame { captured_ms, sequence, width, height, format, data });
        drop(state);
        shared.changed.notify_one();
    }

    /// Covers the lens (`true`) or uncovers it: frames go on, all black.
    pub fn dark(&self, dark: bool) {
        self.shared.lock().dark = dark;
    }

    /// Loses the next `count` exposures on the bus; their sequence numbers are missing.
    pub fn drop_next(&self, count: u32) {
        self.shared.lock().drop_next = count;
    }

    /// Pulls the cable: queued frames are lost and the reader is told at once.
    pub fn unplug(&self) {
        let mut state = self.shared.lock();
        state.unplugged = true;
        state.queue.clear();
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Puts the cable back: a new stream, numbered from zero.
    pub fn plug(&self) {
        let mut state = self.shared.lock();
        if state.unplugged {
            state.unplugged = false;
            state.sequence = 0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete when the lock is let go, also in a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(picture: &Rgb, format: Format) -> Vec<u8> {
    match format {
        Format::Yuyv => codec::encode_yuyv(picture),
        Format::Mjpeg => codec::encode_mjpeg(picture, codec::MJPEG_QUALITY)
            .expect("a simulated camera has sides of 1 to 8192 pixels, which JPEG can hold"),
        Format::Grey => codec::encode_grey(picture),
    }
}
