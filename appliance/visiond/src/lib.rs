//! The eyes of the box: takes frames from the ceiling cameras, has people detected in them, follows everyone
//! on the floor and publishes where they are ten times a second, with the health of each camera.
//!
//! It is deliberately not a recorder (a frame is forgotten once its detections are known) and decides
//! nothing: where people are follows in `engine::floor` from what was seen. The V4L2 transport of real
//! cameras is a later part of the `camera` crate; this crate runs any [`camera::Camera`].

pub mod devices;
mod health;
mod intake;
mod pool;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use camera::Camera;
use engine::floor::{Outcome, Tracker};
use engine::message::{Health, HealthState, topic};
use engine::store::StoreMap;
use engine::units::CameraId;
use recognition::Detect;
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::watchdog::Watchdog;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::health::CameraHealth;
use crate::intake::{Event, Intake};
use crate::pool::Pool;
use crate::schedule::Schedule;

/// The name that this service gives itself in [`Health`].
pub const SERVICE: &str = "visiond";
/// Reports on their way from the camera tasks: two a frame, of more cameras than a box can have.
const EVENTS_MAX: usize = 256;

/// How to read what the detector says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Least score of a person, 0 to 1; the detector has its own floor, which its training chose.
    pub score_min: f32,
    /// Least score of a hand, 0 to 1, likewise.
    pub hand_score_min: f32,
    /// Standard deviation of a detected head's centre, pixels.
    pub head_sd: f64,
    /// Standard deviation of a detected foot point, pixels.
    pub foot_sd: f64,
    /// Publish what each camera saw, on [`topic::TRACE_SIGHTING`].
    pub trace: bool,
    /// What the service has done so far, for metrics; clones of the settings share it.
    pub counters: Arc<Counters>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            score_min: 0.0,
            hand_score_min: 0.0,
            head_sd: 2.5,
            foot_sd: 7.0,
            trace: false,
            counters: Arc::default(),
        }
    }
}

/// Counts since the start of the service.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames whose detections are known.
    pub frames: AtomicU64,
    /// Frames that were lost before they reached us, or that we were too slow for.
    pub lost: AtomicU64,
    /// Frames that could not be used: damaged, of the wrong size, stamped wrongly, or refused by the
    /// detector.
    pub bad: AtomicU64,
    /// Frames whose detections came too late for the tracker.
    pub late: AtomicU64,
    /// Real time spent in decoding and detection, microseconds.
    pub detection_us: AtomicU64,
    /// Real time spent in tracking, microseconds.
    pub tracking_us: AtomicU64,
    /// Views published.
    pub views: AtomicU64,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `run` was given no detector.
    #[error("no detector to run")]
    NoDetector,
    /// Every detector crashed.
    #[error("every detector has crashed; the last one on a frame of camera {camera}")]
    DetectorsLost {
        /// Whose frame it was.
        camera: CameraId,
    },
    /// A camera was given that the store map does not list.
    #[error("camera {camera} is not in the store map")]
    UnknownCamera {
        /// Which.
        camera: CameraId,
    },
}

/// Runs until `stop` becomes true. Each detector serves one frame at a time; cameras share them in turn.
///
/// A camera that fails, and a frame that cannot be read or looked at, shows in that camera's health and
/// touches no other. Cameras of the map that are not among `cameras` are reported down.
///
/// # Errors
/// [`Error`]: nothing to run with, or nothing left to run with.
pub async fn run<C, D>(
    settings: Settings,
    map: StoreMap,
    cameras: Vec<(CameraId, C)>,
    detectors: Vec<D>,
    bus: Bus,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error>
where
    C: Camera + 'static,
    D: Detect + 'static,
{
    if detectors.is_empty() {
        return Err(Error::NoDetector);
    }
    let start = clock.now();
    let mut tracker = Tracker::new(&map);
    let mut schedule = Schedule::new(start);
    let mut health: BTreeMap<CameraId, CameraHealth> =
        map.cameras.iter().map(|camera| (camera.id, CameraHealth::new(camera.id, start))).collect();
    let pool = Arc::new(Pool::new(detectors));
    let (events, mut inbox) = mpsc::channel(EVENTS_MAX);
    // Dropping the set ends the tasks, however this function ends.
    let mut tasks = JoinSet::new();
    for (id, camera) in cameras {
        let Some(calibrated) = map.cameras.iter().find(|listed| listed.id == id) else {
            return Err(Error::UnknownCamera { camera: id });
        };
        tasks.spawn(
            Intake {
                id,
                camera,
                size: [calibrated.model.width, calibrated.model.height],
                settings: settings.clone(),
                pool: Arc::clone(&pool),
                events: events.clone(),
                clock: clock.clone(),
            }
            .run(),
        );
    }
    publish(&bus, &service_health(start));
    let mut watchdog = Watchdog::from_environment();
    watchdog.ready();
    loop {
        tokio::select! {
            // Frames that are here enter before the view that they are due for.
            biased;
            changed = stop.changed() => {
                if changed.is_err() || *stop.borrow() {
                    return Ok(());
                }
            }
            Some(event) = inbox.recv() => {
                if let Some(lost) = take(event, &mut schedule, &mut health, &settings.counters) {
                    return Err(lost);
                }
            }
            () = clock.until(schedule.deadline()) => {}
        }
        let now = clock.now();
        while let Some((at, sightings)) = schedule.due(now) {
            let started = std::time::Instant::now();
            for sighting in &sightings {
                if settings.trace {
                    bus.publish(topic::TRACE_SIGHTING, sighting);
                }
                if tracker.observe(sighting) == Outcome::Late {
                    settings.counters.late.fetch_add(1, Ordering::Relaxed);
                }
            }
            let view = tracker.view(at);
            let spent = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            settings.counters.tracking_us.fetch_add(spent, Ordering::Relaxed);
            settings.counters.views.fetch_add(1, Ordering::Relaxed);
            bus.publish_view(topic::FLOOR_VIEW, &view);
        }
        for camera in health.values_mut() {
            if let Some(changed) = camera.judge(now) {
                publish(&bus, &changed);
            }
        }
        watchdog.step_done();
    }
}

/// Enters a camera task's report; an error when no detector is left.
fn take(
    event: Event,
    schedule: &mut Schedule,
    health: &mut BTreeMap<CameraId, CameraHealth>,
    counters: &Counters,
) -> Option<Error> {
    let count = |counter: &AtomicU64, by: u64| {
        counter.fetch_add(by, Ordering::Relaxed);
    };
    match event {
        Event::Captured { camera, at, lost } => {
            count(&counters.lost, u64::from(lost));
            schedule.expect(camera, at);
            if let Some(health) = health.get_mut(&camera) {
                health.frame(lost);
            }
        }
        Event::Seen { sighting, dark, now } => {
            count(&counters.frames, 1);
            if let Some(health) = health.get_mut(&sighting.camera) {
                health.seen(now, dark);
            }
            schedule.arrived(sighting);
        }
        Event::Fault { camera, at, fault, now } => {
            count(&counters.bad, u64::from(at.is_some()));
            if let Some(at) = at {
                schedule.give_up(camera, at);
            }
            if let Some(health) = health.get_mut(&camera) {
                health.fault(now, fault);
            }
        }
        Event::Skipped { camera, at } => {
            count(&counters.lost, 1);
            schedule.give_up(camera, at);
            if let Some(health) = health.get_mut(&camera) {
                health.lost();
            }
        }
        Event::DetectorsLost { camera } => return Some(Error::DetectorsLost { camera }),
    }
    None
}

fn service_health(since: engine::time::Instant) -> Health {
    Health {
        service: SERVICE.to_owned(),
        device: "service".to_owned(),
        state: HealthState::Up,
        since,
        detail: String::new(),
    }
}

fn publish(bus: &Bus, health: &Health) {
    match health.state {
        HealthState::Up => tracing::info!(device = %health.device, "up"),
        HealthState::Degraded | HealthState::Down => {
            tracing::warn!(device = %health.device, state = ?health.state, "{}", health.detail);
        }
    }
    bus.publish_view(&format!("{}/{SERVICE}/{}", topic::HEALTH, health.device), health);
}
