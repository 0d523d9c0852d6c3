//! How lanes operate, what staff order them, and what they report.

use serde::{Deserialize, Serialize};

use super::{Authority, Direction};
use crate::time::Instant;
use crate::units::{LaneId, MemberHandle, MessageId, TrackId};

/// How a lane operates; the default is a shop's entry lane in an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GateModes {
    /// The entry direction.
    pub entry: GateMode,
    /// The exit direction; never locked.
    pub exit: GateMode,
    /// Whom the lane serves.
    pub service: GateService,
    /// Whether the store is open at this hour.
    pub store_open: bool,
    /// People in the store, as far as this lane knows.
    pub inside: u32,
}

impl Default for GateModes {
    fn default() -> Self {
        let (entry, exit, service) = (GateMode::Group, GateMode::Free, GateService::Shopping);
        Self { entry, exit, service, store_open: true, inside: 0 }
    }
}

/// How one direction of a lane operates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateMode {
    /// A code opens for one passage, whatever its party.
    Single,
    /// A code opens for its party, one passage after the other.
    Group,
    /// Released without asking.
    Free,
    /// Each passage is released on request: the entry by staff, the exit by whoever presses the button.
    Controlled,
    /// Nobody passes. Entry only: an exit is never locked.
    Locked,
}

/// Whom a lane serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateService {
    /// Everybody.
    Shopping,
    /// Codes of staff only.
    Staff,
    /// Codes of staff only, and nobody is told off for standing in the passage.
    Cleaning,
    /// Nobody comes in by a code; the lane says so.
    Maintenance,
}

/// Staff tells a lane what to do. It acts once, however often it is repeated, and not after it expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateOrder {
    /// Repeated with the same id until a report of its outcome arrives.
    pub id: MessageId,
    /// Which lane.
    pub lane: LaneId,
    /// Not to be carried out from then on; at most [`crate::gate::ORDER_LIFE_MAX`] ahead.
    pub expires: Instant,
    /// Who orders.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What.
    pub task: GateTask,
}

/// What staff may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GateTask {
    /// Let one person through.
    Open {
        /// Which way.
        direction: Direction,
        /// Open wide, and wait longer.
        wide: bool,
    },
    /// Operate a direction in another way from now on.
    SetMode {
        /// Which direction.
        direction: Direction,
        /// How.
        mode: GateMode,
    },
    /// Serve others from now on.
    SetService {
        /// Whom.
        service: GateService,
    },
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GateOutcome {
    /// Carried out.
    Done,
    /// Came too late.
    Expired,
    /// Not carried out.
    Refused {
        /// Why.
        reason: OrderRefusal,
    },
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderRefusal {
    /// The fire alarm has released the lane.
    Evacuation,
    /// The turnstile is broken or lost.
    LaneFaulty,
    /// The lane is still serving somebody.
    LaneBusy,
    /// An exit is never locked.
    ExitNeverLocked,
    /// The controller's own setting releases this exit; we cannot change it.
    ExitByController,
    /// Too many orders at once.
    TooMany,
    /// It expires too far in the future.
    LivesTooLong,
}

/// What a lane has to say, for records and for staff.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateReport {
    /// Repeated with the same id until acknowledged.
    pub id: MessageId,
    /// Which lane.
    pub lane: LaneId,
    /// When it was found out.
    pub at: Instant,
    /// What.
    pub fact: GateFact,
}

/// See [`GateReport`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GateFact {
    /// All that is known of a passage, a few seconds after it.
    Passage {
        /// The passage.
        passage: PassageRecord,
    },
    /// Who came in turned round before leaving the sensors, and is outside again.
    WalkedBack {
        /// Number of the passage in.
        entry: u64,
        /// Number of the passage out.
        exit: u64,
        /// What had entitled them.
        authority: Authority,
    },
    /// Something that staff should know.
    Incident {
        /// What.
        incident: Incident,
    },
    /// What became of an order.
    Ordered {
        /// The order's id.
        order: MessageId,
        /// What became of it.
        outcome: GateOutcome,
    },
}

/// A passage with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PassageRecord {
    /// Number of the passage at this lane since start; [`super::Passage`] has the same `at`, lane and direction.
    pub number: u64,
    /// Which way.
    pub direction: Direction,
    /// What entitled it.
    pub authority: Authority,
    /// Taken shortly after its grant had lapsed.
    pub late: bool,
    /// What the sensors said.
    pub edges: Edges,
    /// People who crossed with it by the floor tracker; `None` when it saw nobody (or was not there).
    pub people: Option<u8>,
    /// Their tracks, as far as named.
    pub tracks: Vec<TrackId>,
}

/// Times of a passage's sensor edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Edges {
    /// The detector saw somebody come.
    pub detector_on: Option<Instant>,
    /// The passage contact said that somebody went through: the passage's time.
    pub passage_on: Instant,
    /// The passage contact came back.
    pub passage_off: Option<Instant>,
    /// The detector saw nobody any more.
    pub detector_off: Option<Instant>,
}

/// Something at a lane that staff should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Incident {
    /// Somebody came in right behind somebody who was let in.
    Tailgating {
        /// Number of the passage: the second person's (sensors) or the one they shared (floor).
        passage: u64,
        /// Whose grant they followed, if it was a grant.
        member: Option<MemberHandle>,
        /// Who noticed.
        by: Witness,
        /// How many people too many.
        people: u8,
    },
    /// Somebody came in although nobody had been let in.
    Forced {
        /// Number of the passage.
        passage: u64,
    },
    /// Somebody came in by a lane that only lets out.
    WrongWay {
        /// Number of the passage.
        passage: u64,
    },
    /// Something has stood in the passage for long.
    Held {
        /// Since when.
        since: Instant,
    },
    /// The cabinet was opened or closed.
    Tamper {
        /// Opened.
        open: bool,
    },
    /// Somebody pressed the emergency exit button.
    EmergencyButton,
    /// The fire alarm began or ended.
    FireAlarm {
        /// Began.
        active: bool,
    },
}

/// Who noticed an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// The turnstile's own sensors.
    Sensors,
    /// The floor tracker.
    Floor,
}
