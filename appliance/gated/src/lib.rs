//! The gate service: one loop a lane that connects turnstile and scanner with the engine's gate and
//! admission, and a keeper that stores what must not be lost and tells it to the other services.
//!
//! It deliberately decides nothing itself, and waits for nobody: a full disk, a dead bus or a broken reader
//! degrade what they are needed for and never stop a lane.

pub mod decode;
pub mod devices;
mod heartbeat;
mod keeper;
mod lane;
pub mod provision;
mod reader;
pub mod realtime;
mod slot;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use engine::admission::{self, Admission};
use engine::units::LaneId;
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::watchdog::Watchdog;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use turnstile::Turnstile;

use heartbeat::Heartbeat;
use keeper::{Keeper, RECORDS_MAX};
pub use reader::Reader;
use slot::Slot;

/// The service's name in health topics and message ids.
pub const SERVICE: &str = "gated";

/// What the service needs to know.
#[derive(Clone)]
pub struct Settings {
    /// SQLite file for passages on their way, used codes and who is inside. Its folder must exist.
    pub state: PathBuf,
    /// How people are admitted.
    pub admission: admission::Settings,
    /// This sender's name in message ids: [`SERVICE`], or one name a box where several share a bus. Without
    /// `/` and `.`.
    pub sender: String,
    /// Where the lanes run ([`realtime::Thread`]); none: with everything else.
    pub lanes_on: Option<Handle>,
    /// Changes when a device may have arrived, so that lost readers are tried again at once; none: their
    /// pauses alone decide.
    pub arrivals: Option<watch::Receiver<u64>>,
}

/// Opens a device; called at start, and again whenever it was lost.
pub type Open<D, E> = Box<dyn FnMut() -> Result<D, E> + Send>;

/// A lane and how to open its devices.
pub struct Lane<T> {
    /// Its name, as in topics.
    pub id: LaneId,
    /// Whether shoppers may come in here.
    pub takes_entries: bool,
    /// Whether electrical direction A is the entry, as the installer wired it.
    pub entry_is_a: bool,
    /// Opens the turnstile.
    pub turnstile: Open<T, turnstile::Error>,
    /// Where shoppers show their credentials; none on a lane that nobody enters by.
    pub readers: Vec<Reader>,
}

/// Why the service ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two lanes of one name.
    #[error("lane {0} is listed twice")]
    LaneTwice(LaneId),
    /// A loop broke an invariant of its own; the service manager starts everything afresh.
    #[error("a loop of the gate service ended by itself")]
    Loop(#[source] tokio::task::JoinError),
}

/// Runs all lanes of a box until `stop` becomes true. Dropping the future at any point leaves all output
/// lines inactive and everything stored that was reported as stored; it can be started again at once.
///
/// # Errors
/// When the lanes contradict each other, or a loop panics.
pub async fn run<T: Turnstile + 'static>(
    settings: Settings,
    lanes: Vec<Lane<T>>,
    bus: Bus,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    if let Some(lane) = lanes.iter().find(|lane| !names.insert(lane.id.clone())) {
        return Err(Error::LaneTwice(lane.id.clone()));
    }
    let (records, receiver) = mpsc::channel(RECORDS_MAX);
    // Listening begins before the state is read, so that nothing falls between.
    let mut keeper = Keeper::new(&settings, bus.clone(), clock.clone(), receiver);
    let memory = keeper.open().await;
    let admission = Arc::new(Mutex::new(Admission::with_memory(settings.admission.clone(), &memory)));
    let heartbeat = Heartbeat::new(Watchdog::from_environment(), lanes.len());
    let lanes_on = settings.lanes_on.clone().unwrap_or_else(Handle::current);
    let arrivals = settings.arrivals.clone().unwrap_or_else(|| watch::channel(0).1);
    // Dropping the set ends its tasks.
    let mut loops = JoinSet::new();
    for (number, lane) in lanes.into_iter().enumerate() {
        let shared = lane::Shared {
            admission: Arc::clone(&admission),
            records: records.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
        };
        let (events, receiver) = mpsc::channel(reader::EVENTS_MAX);
        let mut readers = Vec::new();
        for (index, reader) in lane.readers.into_iter().enumerate() {
            let (attached, task) = reader.attach(index, clock.clone(), events.clone(), arrivals.clone());
            readers.push(attached);
            loops.spawn_on(task, &lanes_on);
        }
        let wired = lane::Wired {
            id: lane.id,
            takes_entries: lane.takes_entries,
            entry_is_a: lane.entry_is_a,
            turnstile: Slot::new(Some(lane.turnstile), clock.now()),
            readers,
            events: receiver,
            pulse: heartbeat.pulse(number),
        };
        loops.spawn_on(lane::run(wired, shared, stop.clone()), &lanes_on);
    }
    heartbeat.ready();
    // The keeper ends when the last lane has dropped its end of the channel.
    drop(records);
    loops.spawn(keeper.run(admission));
    while let Some(ended) = loops.join_next().await {
        ended.map_err(Error::Loop)?;
    }
    Ok(())
}
