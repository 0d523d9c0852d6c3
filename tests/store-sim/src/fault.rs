//! What breaks during a day, drawn from the seed before it starts.
//!
//! Devices carry out their own faults (a pulled cable, a dark picture). `BusDown` and `ServiceKilled` are for
//! whoever runs the services. Everything heals before the last part of the day, so that safety is judged
//! under faults and liveness after them.

use engine::time::{Instant, Millis};
use engine::units::{CameraId, LaneId, PlateId};
use serde::Serialize;

use crate::dice::Dice;
use crate::layout::Layout;

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// From when.
    pub at: Instant,
    /// Until when; it heals then. A killed service may start again at once.
    pub until: Instant,
    /// What.
    pub kind: FaultKind,
}

/// What breaks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// The cable of a lane's code reader is out.
    ReaderUnplugged {
        /// Which lane.
        lane: LaneId,
    },
    /// A camera gives black pictures.
    CameraDark {
        /// Which.
        camera: CameraId,
    },
    /// A camera's cable is out.
    CameraUnplugged {
        /// Which.
        camera: CameraId,
    },
    /// Every camera loses frames.
    FrameLoss {
        /// Share of frames lost, in hundredths.
        percent: u8,
    },
    /// A load cell repeats its last counts.
    PlateStuck {
        /// Which.
        plate: PlateId,
    },
    /// A weighing line does not answer.
    LineDown {
        /// The gondola that it serves.
        gondola: u16,
    },
    /// The bus does not carry messages.
    BusDown,
    /// A service is killed, as by kill -9.
    ServiceKilled {
        /// Which.
        service: Service,
    },
}

/// A service that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The gate.
    Gated,
    /// Carts and ledger.
    Cartd,
    /// Cameras.
    Visiond,
}

impl Fault {
    /// Whether it is in force.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        self.at <= now && now < self.until
    }
}

/// The faults of a day that starts at `start` and lasts about `span`: some six on a short day, one each five
/// minutes on a long one.
#[must_use]
pub fn schedule(layout: &Layout, seed: u64, start: Instant, span: Millis) -> Vec<Fault> {
    let mut dice = Dice::new(seed, 4);
    let count = 6 + (span.as_seconds() / 300.0) as usize;
    let map = &layout.map;
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| {
            let at = start.after(Millis((span.0 as f64 * dice.between(0.08, 0.75)) as u64));
            let lane = map.lanes.iter().find(|lane| lane.entry).map(|lane| lane.id.clone());
            let lane = lane.unwrap_or_else(|| LaneId::from("entry-1"));
            let camera = map.cameras[dice.below(map.cameras.len())].id;
            let plate = map.plates[dice.below(map.plates.len())].id;
            let (kind, least, most) = match dice.below(10) {
                0 | 1 => (FaultKind::ReaderUnplugged { lane }, 5.0, 25.0),
                2 => (FaultKind::CameraDark { camera }, 10.0, 60.0),
                3 => (FaultKind::CameraUnplugged { camera }, 5.0, 30.0),
                4 => (FaultKind::FrameLoss { percent: 10 + dice.below(40) as u8 }, 10.0, 60.0),
                5 => (FaultKind::PlateStuck { plate }, 20.0, 90.0),
                6 => (FaultKind::LineDown { gondola: plate.gondola }, 3.0, 10.0),
                7 => (FaultKind::BusDown, 3.0, 15.0),
                _ => {
                    let service = [Service::Gated, Service::Cartd, Service::Visiond][dice.below(3)];
                    (FaultKind::ServiceKilled { service }, 1.0, 4.0)
                }
            };
            Fault { at, until: at.after(Millis((dice.between(least, most) * 1000.0) as u64)), kind }
        })
        .collect();
    faults.sort_by_key(|fault| (fault.at, fault.until));
    faults
}
