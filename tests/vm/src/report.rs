//! The lines that come out of the machine, one JSON object each, and the list of steps that goes in.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the guest finds its list of steps: a JSON array of [`Step`].
pub const STEPS: &str = "/steps.json";
/// Where the guest writes its lines: the second serial port. The kernel and the programs have the first.
pub const PORT: &str = "/dev/ttyS1";
/// What a step prints before a line that the host should show, at the start of a line of its standard output.
pub const MEASURED: &str = "measured: ";
/// What a step prints at the start of a line when it leaves something out.
pub const SKIPPED: &str = "skipped: ";

/// One thing to run inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// For people, and to pick it on the command line.
    pub name: String,
    /// The program in the guest and its arguments.
    pub command: Vec<String>,
    /// What it finds in its environment besides `STILE_VM=1`.
    pub environment: BTreeMap<String, String>,
    /// It is killed after this time.
    pub limit: Duration,
}

/// A line out of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first process runs and has mounted everything.
    Up {
        /// Seconds since the kernel started.
        seconds: f64,
        /// The kernel's release.
        kernel: String,
    },
    /// A step has begun.
    Began {
        /// Which.
        step: String,
    },
    /// A step says a figure, or leaves something out.
    Said {
        /// Which.
        step: String,
        /// What, without line end.
        text: String,
    },
    /// A step has ended.
    Ended {
        /// Which.
        step: String,
        /// How long it took.
        seconds: f64,
        /// `None` when it went well; otherwise why not, and the last lines of its output.
        failure: Option<String>,
    },
    /// Every step has ended; the machine goes off.
    Done,
}
