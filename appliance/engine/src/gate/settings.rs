//! How one lane is set up, as its installer writes it.

use serde::{Deserialize, Serialize};

use super::{Control, WAITING};
use crate::message::{GateMode, GateService};
use crate::time::Millis;
use crate::units::LaneId;

/// How one lane is set up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which lane; filled in by the shell.
    #[serde(skip, default = "nameless")]
    pub lane: LaneId,
    /// Whether shoppers may come in here; filled in by the shell.
    #[serde(skip)]
    pub takes_entries: bool,
    /// How the controller reads its unlock inputs.
    #[serde(default)]
    pub control: Control,
    /// The controller's own waiting time, milliseconds: how long it keeps an authorisation that nobody uses.
    /// When less is set here than there, a slow shopper's second pulse may let two pass.
    #[serde(default = "controller_waiting")]
    pub controller_waiting: Millis,
    /// How the entry operates at first.
    #[serde(default = "group")]
    pub entry: GateMode,
    /// How the exit operates at first; `locked` is taken as `controlled`.
    #[serde(default = "free")]
    pub exit: GateMode,
    /// Whom the lane serves at first.
    #[serde(default = "shopping")]
    pub service: GateService,
    /// The controller's own setting releases the exit: nothing is driven for it but on request.
    #[serde(default = "yes")]
    pub exit_released_by_controller: bool,
    /// Most people in the store, if there is a limit.
    #[serde(default)]
    pub capacity: Option<u32>,
}

fn nameless() -> LaneId {
    LaneId::from("")
}

const fn controller_waiting() -> Millis {
    WAITING
}

const fn group() -> GateMode {
    GateMode::Group
}

const fn free() -> GateMode {
    GateMode::Free
}

const fn shopping() -> GateService {
    GateService::Shopping
}

const fn yes() -> bool {
    true
}

impl Settings {
    /// A lane under pulse control whose controller releases the exit: what most turnstiles are delivered as.
    #[must_use]
    pub const fn new(lane: LaneId, takes_entries: bool) -> Self {
        Self {
            lane,
            takes_entries,
            control: Control::Pulse,
            controller_waiting: controller_waiting(),
            entry: group(),
            exit: free(),
            service: shopping(),
            exit_released_by_controller: yes(),
            capacity: None,
        }
    }
}
