//! One camera's task: frame, decode, detection, report; and again, whatever happens.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use camera::{Camera, ErrorKind, Frame, Rgb, codec};
use engine::floor::{Seen, Sighting};
use engine::time::{Instant, Millis};
use engine::units::CameraId;
use recognition::{Detect, Detection};
use runtime::clock::Clock;
use tokio::sync::mpsc;

use crate::Settings;
use crate::health::Fault;
use crate::pool::Pool;
use crate::schedule::WAIT;

/// Waits before a camera that failed is tried again, doubled from the least to the greatest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// A capture time this far from now cannot be true, or is of no use.
const STAMP_MAX: Millis = Millis(1_000);
/// Gaps in the frame numbers beyond this are a restarted stream, not losses.
const GAP_MAX: u32 = 100;
/// Mean brightness (of 255) of a picture in which nobody could be seen.
const DARK: u64 = 8;
/// Of so many pixels one is enough to know how bright a picture is.
const DARK_STRIDE: usize = 64;

/// What a camera's task reports.
pub enum Event {
    /// A frame came; [`Event::Seen`] or [`Event::Fault`] with its time follows.
    Captured { camera: CameraId, at: Instant, lost: u32 },
    /// Its detections.
    Seen { sighting: Sighting, dark: bool, now: Instant },
    /// No use could be made of it, or (without a time) of the camera.
    Fault { camera: CameraId, at: Option<Instant>, fault: Fault, now: Instant },
    /// There were too many frames to look at this one.
    Skipped { camera: CameraId, at: Instant },
    /// The last detector crashed.
    DetectorsLost { camera: CameraId },
}

pub struct Intake<C, D> {
    pub id: CameraId,
    pub camera: C,
    /// Width and height for which the camera is calibrated.
    pub size: [u32; 2],
    pub settings: Settings,
    pub pool: Arc<Pool<D>>,
    pub events: mpsc::Sender<Event>,
    pub clock: Clock,
}

/// What was found in a frame.
struct Found {
    detections: Vec<Detection>,
    dark: bool,
}

impl<C: Camera, D: Detect + 'static> Intake<C, D> {
    /// Runs until the service no longer listens.
    pub async fn run(mut self) {
        let mut backoff = BACKOFF[0];
        let mut sequence = None;
        loop {
            let open = match self.camera.next_frame().await {
                Ok(frame) => {
                    backoff = BACKOFF[0];
                    let lost = sequence.map_or(0, |before: u32| frame.sequence.wrapping_sub(before + 1));
                    sequence = Some(frame.sequence);
                    self.take(frame, if lost > GAP_MAX { 0 } else { lost }).await
                }
                Err(error) => {
                    sequence = None;
                    let text = chain(&error);
                    let fault = match error.kind() {
                        ErrorKind::Disconnected
                        | ErrorKind::NotFound
                        | ErrorKind::Busy
                        | ErrorKind::Io
                        | ErrorKind::Unsupported => Fault::Gone(text),
                        ErrorKind::BadFrame => Fault::Frame(text),
                    };
                    let open = self.fault(None, fault).await;
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF[1]);
                    open
                }
            };
            if !open {
                return;
            }
        }
    }

    /// Looks at one frame; false when nobody listens any more.
    async fn take(&mut self, frame: Frame, lost: u32) -> bool {
        let (at, now) = (Instant(frame.captured_ms), self.clock.now());
        if at.since(now) > STAMP_MAX || now.since(at) > STAMP_MAX {
            let ahead = at.0 as f64 - now.0 as f64;
            let side = if ahead > 0.0 { "ahead of" } else { "behind" };
            let what = format!("frame is stamped {:.1} s {side} the clock", ahead.abs() / 1000.0);
            return self.fault(None, Fault::Stamp(what)).await;
        }
        let camera = self.id;
        if !self.tell(Event::Captured { camera, at, lost }).await {
            return false;
        }
        let found = [frame.width, frame.height];
        if found != self.size {
            return self.fault(Some(at), Fault::Size { found, calibrated: self.size }).await;
        }
        let Some(mut seat) = self.pool.borrow().await else {
            return self.tell(Event::DetectorsLost { camera }).await;
        };
        let now = self.clock.now();
        if now.since(at) > WAIT {
            seat.give_back();
            return self.tell(Event::Skipped { camera, at }).await;
        }
        let started = std::time::Instant::now();
        let looked = tokio::task::spawn_blocking(move || {
            let found = look(&frame, &mut seat.detector);
            seat.give_back();
            found
        });
        let looked = looked.await;
        let spent = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.settings.counters.detection_us.fetch_add(spent, Ordering::Relaxed);
        match looked {
            Ok(Ok(Found { detections, dark })) => {
                let people = detections.iter().filter_map(|person| self.read(person)).collect();
                let sighting = Sighting { camera, at, people };
                self.tell(Event::Seen { sighting, dark, now: self.clock.now() }).await
            }
            Ok(Err(fault)) => self.fault(Some(at), fault).await,
            // The runtime shuts down, or the detector panicked and is lost.
            Err(_) => self.fault(Some(at), Fault::Detector("the detector crashed".to_owned())).await,
        }
    }

    /// A detection in the tracker's words, or nothing when it is too unsure.
    fn read(&self, person: &Detection) -> Option<Seen> {
        let settings = &self.settings;
        if person.score < settings.score_min {
            return None;
        }
        let inside = |[x, y]: [f32; 2]| {
            (0.0..self.size[0] as f32).contains(&x) && (0.0..self.size[1] as f32).contains(&y)
        };
        let wide = |[x, y]: [f32; 2]| [f64::from(x), f64::from(y)];
        let hands = person.hands.iter().filter(|hand| hand.score >= settings.hand_score_min);
        Some(Seen {
            head: wide(person.head),
            head_sd: settings.head_sd,
            // A foot point outside the picture is the network's guess from the body.
            foot: Some(person.foot).filter(|foot| inside(*foot)).map(wide),
            foot_sd: settings.foot_sd,
            hands: hands.map(|hand| wide(hand.at)).collect(),
            score: f64::from(person.score),
        })
    }

    async fn fault(&mut self, at: Option<Instant>, fault: Fault) -> bool {
        self.tell(Event::Fault { camera: self.id, at, fault, now: self.clock.now() }).await
    }

    async fn tell(&mut self, event: Event) -> bool {
        self.events.send(event).await.is_ok()
    }
}

fn look(frame: &Frame, detector: &mut impl Detect) -> Result<Found, Fault> {
    let picture = codec::decode(frame).map_err(|error| Fault::Frame(chain(&error)))?;
    let detections = detector
        .detect(picture.width, picture.height, &picture.data)
        .map_err(|error| Fault::Detector(chain(&error)))?;
    Ok(Found { detections, dark: is_dark(&picture) })
}

/// By the green of a sample of pixels, which carries most of the light.
fn is_dark(picture: &Rgb) -> bool {
    let sample = picture.data.chunks_exact(3).step_by(DARK_STRIDE);
    let (sum, count) = sample.fold((0, 0), |(sum, count), pixel| (sum + u64::from(pixel[1]), count + 1));
    sum < DARK * count
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
