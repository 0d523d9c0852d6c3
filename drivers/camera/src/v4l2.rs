//! Cameras of the Linux kernel (Video4Linux 2): memory-mapped capture in a thread of its own, because even an
//! open or a stop can take a USB time-out. Opened by a path that names the socket, not the order of arrival:
//! `/dev/v4l/by-path/…`.

mod negotiate;
mod stream;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use v4l::device::Handle;

use crate::{Camera, Error, Format, Frame};
use stream::{Read, Stream, caught};

/// Frames that wait for a slow reader before the oldest is lost, as in the simulator.
pub const QUEUE_MAX: usize = crate::sim::QUEUE_MAX;

/// A camera that gives nothing for so long is opened anew, seconds. The longest interval in use is a second, the
/// first frame of a USB camera takes up to two.
const STALL_S: i64 = 5;
/// Failed reads in a row after which the camera counts as gone. The kernel says EIO for a single bad frame too.
const BAD_READS_MAX: u32 = 10;

/// Which camera, and what it shall send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The device, `/dev/v4l/by-path/…` or `/dev/v4l/by-id/…`.
    pub path: String,
    /// How it sends pixels: `mjpeg`, `yuyv` or `grey`.
    #[serde(default = "mjpeg")]
    pub format: Format,
    /// Pixels a line, 1 to 8192.
    pub width: u32,
    /// Lines, 1 to 8192.
    pub height: u32,
    /// Frames a second, 1 to 240; 0 takes the camera's own.
    #[serde(default = "frames_per_s")]
    pub frames_per_s: u32,
    /// Buffers that the driver fills, 2 to 16. Two suffice for a reader that keeps up; four ride out a busy box.
    #[serde(default = "buffers")]
    pub buffers: u32,
}

fn mjpeg() -> Format {
    Format::Mjpeg
}

fn frames_per_s() -> u32 {
    10
}

fn buffers() -> u32 {
    4
}

/// Milliseconds of the time line that frames are stamped on.
type TimeLine = dyn Fn() -> u64 + Send + Sync;

/// A streaming camera.
pub struct V4l2 {
    settings: Settings,
    time_line: Arc<TimeLine>,
    slot: Arc<Slot>,
    worker: Option<JoinHandle<()>>,
    sequence: Option<u32>,
    lost: u64,
}

struct Slot {
    state: Mutex<State>,
    changed: Notify,
    /// Wakes the thread.
    bell: OwnedFd,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Frame>,
    ended: Option<Error>,
    stop: bool,
}

/// Opens the camera and starts its stream, which takes a USB camera some tens of milliseconds. Frames are stamped
/// on the system's wall clock until [`V4l2::on_time_line`] says otherwise.
///
/// # Errors
/// `NotFound` without such a device, `Busy` while somebody streams from it, `Unsupported` when it is no camera or
/// does not offer what the settings ask for (the error lists what it offers), `Io` for any other refusal.
pub fn open(settings: &Settings) -> Result<V4l2, Error> {
    let stream = Stream::open(settings)?;
    let mut camera = V4l2::closed(settings)?;
    camera.start(Some(stream))?;
    Ok(camera)
}

impl V4l2 {
    fn closed(settings: &Settings) -> Result<Self, Error> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|error| Error::Io {
            path: settings.path.clone(),
            doing: "making an event for",
            source: error.into(),
        })?;
        Ok(Self {
            settings: settings.clone(),
            time_line: Arc::new(wall_ms),
            slot: Arc::new(Slot { state: Mutex::default(), changed: Notify::new(), bell }),
            worker: None,
            sequence: None,
            lost: 0,
        })
    }

    /// Stamps frames on another time line, of which `now_ms` tells the present.
    #[must_use]
    pub fn on_time_line(mut self, now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.time_line = Arc::new(now_ms);
        self
    }

    /// Frames missing in the numbers handed out since opening: lost by the camera, on the bus, or for a slow reader.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn start(&mut self, stream: Option<Stream>) -> Result<(), Error> {
        let (slot, settings) = (Arc::clone(&self.slot), self.settings.clone());
        self.run(move || match stream.map_or_else(|| Stream::open(&settings), Ok) {
            Ok(mut stream) => capture(&mut stream, &settings, &slot),
            // To the caller a camera that was there and is not found is one that is disconnected.
            Err(Error::NotFound { .. }) => Error::Disconnected,
            Err(error) => error,
        })
    }

    /// Starts the thread; however `work` ends, whoever waits for frames hears of it.
    fn run(&mut self, work: impl FnOnce() -> Error + Send + 'static) -> Result<(), Error> {
        self.sequence = None;
        self.slot.lock().queue.clear();
        let (slot, path) = (Arc::clone(&self.slot), self.settings.path.clone());
        let worker = std::thread::Builder::new().name("camera".to_owned()).spawn(move || {
            let error = caught(work).unwrap_or_else(|source| Error::Io { path, doing: "reading", source });
            let mut state = slot.lock();
            state.queue.clear();
            state.ended = Some(error);
            drop(state);
            slot.changed.notify_one();
        });
        self.worker = Some(worker.map_err(|source| Error::Io {
            path: self.settings.path.clone(),
            doing: "starting a thread for",
            source,
        })?);
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(worker) = self.worker.take() {
            self.slot.lock().stop = true;
            // The counter is full only when it rings already.
            let _ = rustix::io::write(&self.slot.bell, &1_u64.to_ne_bytes());
            // Its panics are caught, and have been told.
            let _ = worker.join();
            self.slot.lock().stop = false;
            // Nobody listens now; the next thread would take it for its own.
            let _ = rustix::io::read(&self.slot.bell, &mut [0; 8]);
        }
    }
}

impl Camera for V4l2 {
    async fn next_frame(&mut self) -> Result<Frame, Error> {
        if self.worker.is_none() {
            self.start(None)?;
        }
        loop {
            {
                let mut state = self.slot.lock();
                if let Some(mut frame) = state.queue.pop_front() {
                    drop(state);
                    if let Some(before) = self.sequence {
                        self.lost += u64::from(frame.sequence.wrapping_sub(before).saturating_sub(1));
                    }
                    self.sequence = Some(frame.sequence);
                    frame.captured_ms = (self.time_line)().saturating_sub(age_ms(frame.captured_ms));
                    return Ok(frame);
                }
                if let Some(error) = state.ended.take() {
                    drop(state);
                    self.stop();
                    return Err(error);
                }
            }
            self.slot.changed.notified().await;
        }
    }
}

impl Drop for V4l2 {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for V4l2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("V4l2")
            .field("settings", &self.settings)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete when the lock is let go, also in a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The descriptor of an open device, which the crate gives as a number only.
#[expect(unsafe_code, reason = "the crate's handle has no `AsFd`")]
fn descriptor(handle: &Handle) -> BorrowedFd<'_> {
    // SAFETY: the handle owns its descriptor, and closes it when it is dropped and not before.
    unsafe { BorrowedFd::borrow_raw(handle.fd()) }
}

/// Streams until the camera is gone or nobody wants it. Frames carry the monotonic clock until they are taken.
fn capture(stream: &mut Stream, settings: &Settings, slot: &Slot) -> Error {
    let io = |doing, source| Error::Io { path: settings.path.clone(), doing, source };
    let mut bad_reads = 0;
    loop {
        let mut wait = [PollFd::new(stream, PollFlags::IN), PollFd::new(&slot.bell, PollFlags::IN)];
        let timeout = Timespec { tv_sec: STALL_S, tv_nsec: 0 };
        let waited = poll(&mut wait, Some(&timeout));
        let broken = wait[0].revents().intersects(PollFlags::ERR | PollFlags::HUP);
        if slot.lock().stop {
            return Error::Disconnected;
        }
        match waited {
            Ok(0) => return Error::Stalled { path: settings.path.clone(), seconds: STALL_S.unsigned_abs() },
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return io("waiting for", error.into()),
        }
        match stream.read() {
            Ok(Some(read)) => {
                bad_reads = 0;
                let Read { data, sequence, stamp_ms } = read;
                let captured_ms = stamp_ms.unwrap_or_else(monotonic_ms);
                let Settings { width, height, format, .. } = *settings;
                let mut state = slot.lock();
                if state.queue.len() == QUEUE_MAX {
                    state.queue.pop_front();
                }
                state.queue.push_back(Frame { captured_ms, sequence, width, height, format, data });
                drop(state);
                slot.changed.notify_one();
            }
            // Nothing there, or a frame that the driver itself calls damaged: its number is missing.
            Ok(None) if broken => return Error::Disconnected,
            Ok(None) => {}
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NODEV | Errno::NXIO) => return Error::Disconnected,
                Some(Errno::IO) if bad_reads < BAD_READS_MAX => bad_reads += 1,
                _ => return io("reading", error),
            },
        }
    }
}

/// How long ago `stamp_ms` was on the monotonic clock.
fn age_ms(stamp_ms: u64) -> u64 {
    monotonic_ms().saturating_sub(stamp_ms)
}

fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn a_camera_that_is_gone_is_tried_at_every_call_and_says_so_at_once() {
        let text = "path = \"/dev/v4l/by-path/none\"\nwidth = 640\nheight = 480";
        let mut camera = V4l2::closed(&toml::from_str(text).expect("settings")).expect("a camera");
        for _ in 0..3 {
            assert_eq!(camera.next_frame().await.unwrap_err().kind(), ErrorKind::Disconnected);
            assert!(camera.worker.is_none() && !camera.slot.lock().stop);
            let rung = rustix::io::read(&camera.slot.bell, &mut [0; 8]);
            assert_eq!(rung, Err(Errno::AGAIN), "the bell is quiet for the next thread");
        }
    }

    #[tokio::test]
    async fn a_thread_that_panics_has_ended_and_is_started_anew() {
        let text = "path = \"/dev/v4l/by-path/none\"\nwidth = 640\nheight = 480";
        let mut camera = V4l2::closed(&toml::from_str(text).expect("settings")).expect("a camera");
        for _ in 0..2 {
            camera.run(|| panic!("as the library does")).expect("a thread");
            let told = tokio::time::timeout(std::time::Duration::from_secs(30), camera.next_frame());
            let error = told.await.expect("an answer in time").unwrap_err();
            assert_eq!((error.kind(), error.to_string().contains("by-path/none")), (ErrorKind::Io, true));
            let source = std::error::Error::source(&error).expect("a cause").to_string();
            assert!(source.contains("as the library does"), "{source}");
            assert_eq!(camera.next_frame().await.unwrap_err().kind(), ErrorKind::Disconnected);
        }
    }

    #[test]
    fn frames_are_stamped_by_their_age() {
        let now = monotonic_ms();
        assert!((40..1000).contains(&age_ms(now - 40)));
        assert_eq!(age_ms(now + 10_000), 0, "a stamp from the future is now");
    }
}
