//! How a camera is, from what became of its frames.

use std::collections::VecDeque;

use engine::message::{Health, HealthState};
use engine::time::{Instant, Millis};
use engine::units::CameraId;

use crate::SERVICE;

/// Without a usable frame for this long, a camera is down.
const SILENCE_MAX: Millis = Millis(2_000);
/// A fault that has not come again for this long is over.
const FAULT_LASTS: Millis = Millis(2_000);
/// Frames over which losses are counted: five seconds at ten a second.
const WINDOW: usize = 50;
/// Losses among them from which on a camera counts as losing frames: one in ten.
const LOSSES_MAX: u32 = 5;

/// Why a frame could not be used, or the camera not be read; the text says what is wrong without naming the
/// camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device is gone.
    Gone(String),
    /// Frames have another size than the calibration.
    Size { found: [u32; 2], calibrated: [u32; 2] },
    /// A frame is damaged.
    Frame(String),
    /// A frame's capture time cannot be true.
    Stamp(String),
    /// The detector refused a frame.
    Detector(String),
}

/// The kind of trouble; a change of it is news, a change of its text is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    None,
    Silent,
    Gone,
    Size,
    Frame,
    Stamp,
    Detector,
    Dark,
    Losing,
}

pub struct CameraHealth {
    camera: CameraId,
    started: Instant,
    used: Option<Instant>,
    fault: Option<(Instant, Fault)>,
    dark: bool,
    losses: VecDeque<u32>,
    told: Option<(HealthState, Cause)>,
}

impl CameraHealth {
    pub fn new(camera: CameraId, started: Instant) -> Self {
        Self { camera, started, used: None, fault: None, dark: false, losses: VecDeque::new(), told: None }
    }

    /// A frame came, after `lost` others that did not.
    pub fn frame(&mut self, lost: u32) {
        if self.losses.len() == WINDOW {
            self.losses.pop_front();
        }
        self.losses.push_back(lost);
    }

    /// The last frame was lost after all: there was no time to look at it.
    pub fn lost(&mut self) {
        if let Some(last) = self.losses.back_mut() {
            *last += 1;
        }
    }

    /// A frame was looked at; `dark`: there was nothing to see.
    pub fn seen(&mut self, now: Instant, dark: bool) {
        self.used = Some(now);
        self.dark = dark;
    }

    pub fn fault(&mut self, now: Instant, fault: Fault) {
        self.fault = Some((now, fault));
    }

    /// What to publish, when the camera's health is other than it was.
    pub fn judge(&mut self, now: Instant) -> Option<Health> {
        let (state, cause, what) = self.verdict(now)?;
        if self.told == Some((state, cause)) {
            return None;
        }
        self.told = Some((state, cause));
        let detail = if what.is_empty() { what } else { format!("camera {}: {what}", self.camera) };
        let device = format!("camera-{}", self.camera);
        Some(Health { service: SERVICE.to_owned(), device, state, since: now, detail })
    }

    fn verdict(&self, now: Instant) -> Option<(HealthState, Cause, String)> {
        let used = self.used.unwrap_or(self.started);
        let silent = now.since(used) > SILENCE_MAX;
        if let Some((at, fault)) = &self.fault
            && (now.since(*at) <= FAULT_LASTS || (silent && *at >= used))
        {
            let (cause, what) = fault.explain();
            let down = silent || (matches!(cause, Cause::Gone | Cause::Size) && *at >= used);
            return Some((if down { HealthState::Down } else { HealthState::Degraded }, cause, what));
        }
        if silent {
            let what = format!("no frame for {} s; cable, power or camera?", SILENCE_MAX.0 / 1000);
            return Some((HealthState::Down, Cause::Silent, what));
        }
        // Nothing is known before the first frame.
        self.used?;
        if self.dark {
            let what = "the picture is black; is the lens covered, or the light off?".to_owned();
            return Some((HealthState::Degraded, Cause::Dark, what));
        }
        let lost: u32 = self.losses.iter().sum();
        if lost > LOSSES_MAX {
            let of = lost as usize + self.losses.len();
            let what =
                format!("{lost} of the last {of} frames were lost; is the link or the box overloaded?");
            return Some((HealthState::Degraded, Cause::Losing, what));
        }
        Some((HealthState::Up, Cause::None, String::new()))
    }
}

impl Fault {
    fn explain(&self) -> (Cause, String) {
        match self {
            Self::Gone(error) => (Cause::Gone, format!("{error}; trying again")),
            Self::Size { found: [width, height], calibrated: [wanted, high] } => (
                Cause::Size,
                format!(
                    "sends frames of {width}x{height}, but the store map calibrates it for {wanted}x{high}; \
                     set the camera to that size or calibrate it again"
                ),
            ),
            Self::Frame(error) => (Cause::Frame, format!("damaged frame: {error}")),
            Self::Stamp(what) => (Cause::Stamp, what.clone()),
            Self::Detector(error) => (Cause::Detector, format!("detection failed: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        enum Do {
            Seen(bool),
            Lost(u32),
            Fault(Fault),
            Nothing,
        }
        use HealthState::{Degraded, Down, Up};
        let truncated = || Do::Fault(Fault::Frame("10 bytes".to_owned()));
        let script = [
            (0, Do::Nothing, None),
            (1_900, Do::Nothing, None),
            (2_100, Do::Nothing, Some((Down, "no frame"))),
            (2_200, Do::Seen(false), Some((Up, ""))),
            (2_300, truncated(), Some((Degraded, "damaged frame: 10 bytes"))),
            (2_400, truncated(), None),
            (4_300, Do::Seen(false), None),
            (4_500, Do::Seen(false), Some((Up, ""))),
            (4_600, Do::Seen(true), Some((Degraded, "black"))),
            (4_700, Do::Seen(false), Some((Up, ""))),
            (4_800, Do::Lost(6), Some((Degraded, "6 of the last 7 frames"))),
            (4_900, Do::Fault(Fault::Gone("gone".to_owned())), Some((Down, "camera 3: gone; trying again"))),
            (9_000, Do::Nothing, None),
            (9_100, Do::Seen(false), Some((Degraded, "lost"))),
            (
                9_200,
                Do::Fault(Fault::Size { found: [640, 480], calibrated: [320, 192] }),
                Some((Down, "frames of 640x480, but the store map calibrates it for 320x192")),
            ),
            (9_300, Do::Fault(Fault::Detector("no".to_owned())), Some((Degraded, "detection failed: no"))),
            (12_000, Do::Nothing, Some((Down, "detection failed"))),
        ];
        let mut health = CameraHealth::new(CameraId(3), Instant(0));
        for (at, what, expected) in script {
            match what {
                Do::Seen(dark) => health.seen(Instant(at), dark),
                Do::Lost(lost) => {
                    health.frame(lost);
                    health.seen(Instant(at), false);
                }
                Do::Fault(fault) => health.fault(Instant(at), fault),
                Do::Nothing => {}
            }
            let told = health.judge(Instant(at));
            match (&told, expected) {
                (None, None) => {}
                (Some(told), Some((state, text))) => {
                    assert!(told.state == state && told.detail.contains(text), "at {at}: {told:?}");
                    assert_eq!(told.device, "camera-3");
                }
                _ => panic!("at {at}: {told:?}"),
            }
        }
    }
}
