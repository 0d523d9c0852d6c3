//! A camera and a worker as a scanner: frames go in, each show of a code comes out once.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use camera::v4l2::V4l2;
use camera::{Camera, Format, Frame};
use qr_scanner::{Cause, Error, ErrorKind, QrScanner, Scan, Signal};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::sys::sched_setscheduler::become_ordinary;
use crate::wire::{Code, Effort, Outcome, Source};
use crate::worker::{self, Health, Picture, Policy, Program, Worker};

/// Frames in a row without an answer after which the scanner counts as lost, so that somebody hears of it. Single
/// frames are lost in silence.
const LOSSES_MAX: u32 = 5;
/// Answers that wait for a shell that is busy; the worker waits with the next frame until they are taken.
const ANSWERS_MAX: usize = 4;
/// Codes that are remembered as being shown: more than fit into one frame of a gate post.
const SHOWN_MAX: usize = 8;
/// Timings kept.
const TIMINGS_MAX: usize = 1024;
/// AIM identifier of a QR code as it was meant (ISO/IEC 15424).
const QR_CODE: [u8; 3] = *b"]Q1";

/// A camera in the gate post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which camera, and how it sends pixels. Grey frames of 1280 x 720 at 30 a second are what this is made for.
    pub camera: camera::v4l2::Settings,
    /// Time for one frame's attempts, ms: below the time between frames.
    #[serde(default = "budget_ms")]
    pub budget_ms: u32,
    /// A frame that is not answered after this time is given up and the worker replaced, ms.
    #[serde(default = "deadline_ms")]
    pub deadline_ms: u32,
    /// A code that was not seen for this long, ms of the camera's time, is a new show when it comes back.
    #[serde(default = "gone_ms")]
    pub gone_ms: u32,
    /// What to do about a kernel without some of the worker's walls: `best-effort` or `required`.
    #[serde(default)]
    pub sandbox: Policy,
    /// The worker's program; this program itself where nothing is named.
    #[serde(default)]
    pub worker: Option<PathBuf>,
}

fn budget_ms() -> u32 {
    20
}

fn deadline_ms() -> u32 {
    250
}

fn gone_ms() -> u32 {
    1_000
}

/// How one frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// When it was exposed, on the box's time line.
    pub captured_ms: u64,
    /// From its arrival to the worker's answer, waiting for its turn included.
    pub latency: Duration,
    /// The search alone.
    pub search: Duration,
    /// Copies that were searched.
    pub attempts: u8,
    /// Whether a code was read.
    pub read: bool,
}

/// What a camera scanner has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Of the workers.
    pub worker: Health,
    /// Frames that came.
    pub frames: u64,
    /// Frames that a newer one replaced before their turn.
    pub skipped: u64,
    /// Frames that were no picture.
    pub broken: u64,
    /// The newest frames, oldest first.
    pub timings: VecDeque<Timing>,
}

/// A camera that reads codes.
pub struct CameraScanner<C> {
    camera: C,
    desk: Arc<Desk>,
    answers: mpsc::Receiver<Told>,
    gone_ms: u64,
    /// Codes in front of the camera, and when each was last seen.
    shown: VecDeque<(String, u64)>,
    /// Codes of the last frame that were not handed over yet.
    ready: VecDeque<Scan>,
    losses: u32,
}

/// What lies between the loop and the worker's thread: the newest frame, and nothing older.
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frame: Option<(Frame, Instant)>,
    closed: bool,
    status: Status,
}

/// What the thread tells.
enum Told {
    Codes(Vec<Code>, u64),
    Lost(worker::Error),
    Fine,
}

/// Opens the camera and starts a thread for the worker; call it inside a tokio runtime. The worker starts with
/// the first frame.
///
/// # Errors
/// When the camera cannot be opened, or there is no thread.
pub fn open(settings: &Settings) -> Result<CameraScanner<V4l2>, Error> {
    let camera = camera::v4l2::open(&settings.camera).map_err(|error| from_camera(error, "open"))?;
    let program = match &settings.worker {
        Some(path) => Program { path: path.clone(), arguments: Vec::new() },
        None => Program::own().map_err(|error| failed("open", error))?,
    };
    let worker = worker::Settings {
        policy: settings.sandbox,
        deadline: Duration::from_millis(u64::from(settings.deadline_ms)),
        ..worker::Settings::frames(program)
    };
    let budget = Duration::from_millis(u64::from(settings.budget_ms));
    let gone = Duration::from_millis(u64::from(settings.gone_ms));
    CameraScanner::new(camera, worker, budget, gone).map_err(|error| failed("open", error))
}

impl<C: Camera> CameraScanner<C> {
    /// Reads the frames of `camera` with workers, `budget` for each frame's attempts; a code that was away for
    /// `gone` is shown anew.
    ///
    /// # Errors
    /// When there is no thread for the worker.
    pub fn new(camera: C, worker: worker::Settings, budget: Duration, gone: Duration) -> io::Result<Self> {
        let desk = Arc::new(Desk { state: Mutex::default(), changed: Condvar::new() });
        let (tell, answers) = mpsc::channel(ANSWERS_MAX);
        let effort = Effort::Frame { budget_us: u32::try_from(budget.as_micros()).unwrap_or(u32::MAX) };
        let theirs = Arc::clone(&desk);
        // A thread of its own: the kernel ends a worker with the thread that started it, and the threads of a
        // pool come and go.
        thread::Builder::new()
            .name("code-reader".to_owned())
            .spawn(move || read_frames(&theirs, &tell, Worker::new(worker), effort))?;
        Ok(Self {
            camera,
            desk,
            answers,
            gone_ms: gone.as_millis() as u64,
            shown: VecDeque::new(),
            ready: VecDeque::new(),
            losses: 0,
        })
    }

    /// What was seen so far; can be asked while somebody waits for the next code.
    pub fn status(&self) -> impl Fn() -> Status + Send + Sync + 'static {
        let desk = Arc::clone(&self.desk);
        move || desk.lock().status.clone()
    }

    /// Hands a frame to the worker, in the place of one that still waits.
    fn submit(&self, frame: Frame) {
        let mut state = self.desk.lock();
        state.status.frames += 1;
        if state.frame.replace((frame, Instant::now())).is_some() {
            state.status.skipped += 1;
        }
        drop(state);
        self.desk.changed.notify_one();
    }

    fn told(&mut self, told: Told) -> Result<(), Error> {
        match told {
            Told::Fine => self.losses = 0,
            Told::Codes(codes, captured_ms) => {
                self.losses = 0;
                for code in codes {
                    if self.is_new(&code.text, captured_ms) {
                        let text = code.text.into_bytes();
                        self.ready.push_back(Scan { text, aim: QR_CODE, reported: Instant::now() });
                    }
                }
            }
            Told::Lost(error) => {
                self.losses += 1;
                let unusable = error.kind() == worker::ErrorKind::Unusable;
                if unusable || self.losses >= LOSSES_MAX {
                    self.losses = 0;
                    return Err(failed("read", io::Error::other(error)));
                }
                tracing::warn!(error = &error as &dyn std::error::Error, "a frame was lost");
            }
        }
        Ok(())
    }

    /// Whether a code that was seen in a frame begins a new show.
    fn is_new(&mut self, text: &str, captured_ms: u64) -> bool {
        let gone_ms = self.gone_ms;
        self.shown.retain(|(_, seen_ms)| captured_ms.saturating_sub(*seen_ms) <= gone_ms);
        if let Some((_, seen_ms)) = self.shown.iter_mut().find(|(shown, _)| shown == text) {
            *seen_ms = captured_ms;
            return false;
        }
        if self.shown.len() == SHOWN_MAX {
            self.shown.pop_front();
        }
        self.shown.push_back((text.to_owned(), captured_ms));
        true
    }
}

impl<C: Camera> QrScanner for CameraScanner<C> {
    async fn next_scan(&mut self) -> Result<Scan, Error> {
        loop {
            if let Some(scan) = self.ready.pop_front() {
                return Ok(scan);
            }
            // Both sides are cancel-safe, and what they give is kept before anything else is awaited.
            tokio::select! {
                biased;
                told = self.answers.recv() => match told {
                    Some(told) => self.told(told)?,
                    None => return Err(failed("read", io::ErrorKind::BrokenPipe.into())),
                },
                frame = self.camera.next_frame() => match frame {
                    Ok(frame) => self.submit(frame),
                    Err(error) if error.kind() == camera::ErrorKind::BadFrame => {
                        self.desk.lock().status.broken += 1;
                    }
                    Err(error) => return Err(from_camera(error, "read")),
                },
            }
        }
    }

    /// A camera has neither lamp nor beeper: the gate's own screen and beacon tell the shopper.
    fn signal(&mut self, _: Signal) -> Result<(), Error> {
        Ok(())
    }
}

impl<C> Drop for CameraScanner<C> {
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.changed.notify_one();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete when the lock is let go, also in a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest frame, waiting for one; `None` when nobody will bring another.
    fn next(&self) -> Option<(Frame, Instant)> {
        let waiting = self.lock();
        let mut state = self
            .changed
            .wait_while(waiting, |state| state.frame.is_none() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed { None } else { state.frame.take() }
    }
}

/// The worker's thread.
fn read_frames(desk: &Desk, tell: &mpsc::Sender<Told>, mut worker: Worker, effort: Effort) {
    // Opened from a gate's loop, this would run in real time like it.
    let _ = become_ordinary();
    // The first shopper should not wait for a start. What fails here fails again with the first frame, and is
    // told then.
    let _ = worker.start();
    while let Some((frame, arrived)) = desk.next() {
        let source = match frame.format {
            Format::Grey => Source::Grey,
            Format::Yuyv => Source::Yuyv,
            Format::Mjpeg => Source::Mjpeg,
        };
        let picture = Picture { bytes: &frame.data, source, width: frame.width, height: frame.height };
        let result = worker.read(picture, effort);
        let mut state = desk.lock();
        state.status.worker = worker.health().clone();
        let told = match result {
            Ok(answer) => {
                let codes = match answer.outcome {
                    Outcome::Read(codes) => codes,
                    Outcome::NoPicture(_) => {
                        state.status.broken += 1;
                        Vec::new()
                    }
                    Outcome::Failed => Vec::new(),
                };
                if state.status.timings.len() == TIMINGS_MAX {
                    state.status.timings.pop_front();
                }
                state.status.timings.push_back(Timing {
                    captured_ms: frame.captured_ms,
                    latency: arrived.elapsed(),
                    search: Duration::from_micros(u64::from(answer.micros)),
                    attempts: answer.attempts,
                    read: !codes.is_empty(),
                });
                if codes.is_empty() { Told::Fine } else { Told::Codes(codes, frame.captured_ms) }
            }
            // The pause after failures was told with the failures.
            Err(worker::Error::Resting) => continue,
            Err(error) => Told::Lost(error),
        };
        drop(state);
        if tell.blocking_send(told).is_err() {
            return;
        }
    }
}

fn failed(doing: &'static str, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, doing, Some(Cause::Io(error)))
}

fn from_camera(error: camera::Error, doing: &'static str) -> Error {
    let kind = match error.kind() {
        camera::ErrorKind::Disconnected => ErrorKind::Disconnected,
        camera::ErrorKind::NotFound => ErrorKind::NotFound,
        camera::ErrorKind::Busy => ErrorKind::Busy,
        camera::ErrorKind::BadFrame => ErrorKind::Garbled,
        camera::ErrorKind::Unsupported => ErrorKind::Unsupported,
        camera::ErrorKind::Io => ErrorKind::Io,
    };
    Error::new(kind, doing, Some(Cause::Io(io::Error::other(error))))
}
