//! What the host says to the player, the program in the tested image that is everything around the box: the
//! turnstile's terminal strip, the scanner, the weighing modules, the shoppers, the chain's uplink.
//!
//! JSON lines over the machine's second serial port. One request at a time; events come in between.

use std::time::Duration;

use engine::message::{GateView, Receipt};
use serde::{Deserialize, Serialize};

/// The port, in the guest.
pub const PORT: &str = "/dev/ttyS1";

/// What the player is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The answer carries it too.
    pub id: u64,
    /// What.
    pub command: Command,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Command {
    /// Says how far it is.
    Hello,
    /// A new shopper shows a code; the answer is [`Shown`]. With `again` the code of the last one.
    Show {
        /// Show the last code once more.
        again: bool,
        /// Wait at most this long for the unlock line.
        wait: Duration,
    },
    /// Somebody goes through the lane, outwards or inwards.
    Pass {
        /// Inwards.
        entry: bool,
    },
    /// The outputs that are active now, by name.
    Lines,
    /// Presses or lets go of an input line, by its name ("fire_alarm").
    Pull {
        /// Which.
        line: String,
        /// Active.
        active: bool,
    },
    /// Puts a load on a plate, tenths of a gram, absolute.
    Plate {
        /// The module's address.
        address: u8,
        /// The module's channel.
        channel: u8,
        /// The load.
        tenths: i32,
    },
    /// Runs a program of the image; the answer is [`Ran`].
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// It is killed after this time.
        limit: Duration,
        /// It (and all of its group) is killed as soon as its output holds this text.
        kill_on: Option<String>,
        /// It is killed after this time; that is no failure.
        kill_after: Option<Duration>,
    },
    /// A file's bytes as text (not UTF-8 replaced), at most 64 kB from its end.
    Read {
        /// Which.
        path: String,
    },
    /// Writes a file whole, synced.
    Write {
        /// Which.
        path: String,
        /// What.
        text: String,
    },
    /// Mounts a file system read-only.
    Mount {
        /// The device.
        device: String,
        /// Its kind, as mount(2) takes it.
        kind: String,
        /// Where; made when it is not there.
        at: String,
    },
    /// Changes a database of the image; nobody has it open meanwhile.
    Sql {
        /// The file.
        file: String,
        /// Statements.
        statements: String,
    },
    /// Fills a folder's file system with files until `keep` bytes are left free.
    Fill {
        /// The folder; the answer is how many bytes were written.
        folder: String,
        /// Bytes to leave.
        keep: u64,
    },
    /// Receipts that came by on the bus and were acknowledged; the answer is a list of [`Receipt`]s.
    Receipts,
    /// The newest view of a lane; null when none came yet.
    View,
    /// Any newest retained view by its topic; null when none came yet.
    Retained {
        /// The topic.
        topic: String,
    },
    /// Kills the process `comm` (all of that name) with SIGKILL; the answer is how many.
    Kill {
        /// As in /proc/PID/comm.
        comm: String,
    },
    /// Waits for a process `comm` and kills it; the answer is whether one came.
    Hunt {
        /// As in /proc/PID/comm.
        comm: String,
        /// Lets so many live before.
        spare: u32,
        /// Kills so long after it was seen.
        after: Duration,
        /// Gives up after this time.
        limit: Duration,
    },
}

/// What happened when a code was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// From the scanner's last report to the unlock line, milliseconds; none: it stayed closed.
    pub opened_ms: Option<f64>,
    /// How long the line stayed active.
    pub pulse_ms: Option<f64>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// Exit status; none when it was killed.
    pub status: Option<i32>,
    /// Killed because it was asked for.
    pub killed: bool,
    /// The end of its output and errors together, at most 16 kB.
    pub output: String,
    /// How long it ran.
    pub seconds: f64,
}

/// A line out of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The player runs and its devices are there.
    Up {
        /// Seconds since the kernel started.
        seconds: f64,
        /// The kernel's release.
        kernel: String,
        /// `IMAGE_VERSION` of the running image.
        version: String,
        /// `stile.slot=` of the kernel's command line, or empty.
        slot: String,
        /// Devices that could not be made, and why.
        faults: Vec<String>,
    },
    /// The answer to a request.
    Done {
        /// Whose.
        id: u64,
        /// What came of it.
        value: serde_json::Value,
    },
    /// A request failed.
    Failed {
        /// Whose.
        id: u64,
        /// Why.
        why: String,
    },
    /// A receipt was seen on the bus: it must never be lost from here on.
    Receipt {
        /// The receipt.
        receipt: Box<Receipt>,
    },
    /// A lane's view changed what it tells shoppers.
    View {
        /// The view.
        view: Box<GateView>,
    },
}
