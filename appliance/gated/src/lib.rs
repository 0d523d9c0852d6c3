//! The gate service: one loop a lane that connects turnstile and scanner with the engine's gate and
//! admission, and a keeper that stores what must not be lost and tells it to the other services.
//!
//! It deliberately decides nothing itself, and waits for nobody: a full disk, a dead bus or a broken reader
//! degrade what they are needed for and never stop a lane.

pub mod decode;
pub mod devices;
pub mod failsafe;
mod heartbeat;
pub mod hours;
pub mod journal;
mod keeper;
mod lane;
mod listener;
mod occupancy;
pub mod provision;
mod reader;
pub mod realtime;
mod slot;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use engine::admission::{self, Admission};
use engine::gate::floor;
use engine::message::{Health, HealthState, topic};
use engine::time::Instant;
use engine::units::LaneId;
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::watchdog::Watchdog;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use turnstile::Turnstile;

use heartbeat::Heartbeat;
use hours::Hours;
use keeper::{Keeper, RECORDS_MAX, Remembered};
pub use lane::chain;
use listener::Listener;
use occupancy::Occupancy;
pub use reader::Reader;
use slot::Slot;

/// The service's name in health topics and message ids.
pub const SERVICE: &str = "gated";

/// Tells how something of the service is.
pub fn publish_health(bus: &Bus, clock: &Clock, device: &str, state: HealthState, detail: String) {
    let (service, device) = (SERVICE.to_owned(), device.to_owned());
    let topic = format!("{}/{service}/{device}", topic::HEALTH);
    bus.publish_view(&topic, &Health { service, device, state, since: clock.now(), detail });
}

/// What the service needs to know.
#[derive(Clone)]
pub struct Settings {
    /// SQLite file for passages on their way, used codes, signed lists and who is inside. Its folder must exist.
    pub state: PathBuf,
    /// File for what the lanes were told and decided ([`journal`]); none: nothing is written down.
    pub journal: Option<PathBuf>,
    /// How people are admitted.
    pub admission: admission::Settings,
    /// When the store is open; none: always.
    pub hours: Option<Hours>,
    /// This sender's name in message ids: [`SERVICE`], or one name a box where several share a bus. Without
    /// `/` and `.`.
    pub sender: String,
    /// Where the lanes run ([`realtime::Thread`]); none: with everything else.
    pub lanes_on: Option<Handle>,
    /// Changes when a device may have arrived, so that lost readers are tried again at once; none: their
    /// pauses alone decide.
    pub arrivals: Option<watch::Receiver<u64>>,
}

impl Settings {
    /// With this state file and admission, and nothing that is not needed.
    #[must_use]
    pub fn new(state: PathBuf, admission: admission::Settings) -> Self {
        Self {
            state,
            journal: None,
            admission,
            hours: None,
            sender: SERVICE.to_owned(),
            lanes_on: None,
            arrivals: None,
        }
    }
}

/// Opens a device; called at start, and again whenever it was lost.
pub type Open<D, E> = Box<dyn FnMut() -> Result<D, E> + Send>;

/// A lane and how to open its devices.
pub struct Lane<T> {
    /// Its name and how it operates.
    pub gate: engine::gate::Settings,
    /// Its passage line on the floor, where cameras may see people cross it.
    pub line: Option<floor::Line>,
    /// Whether electrical direction A is the entry, as the installer wired it.
    pub entry_is_a: bool,
    /// Opens the turnstile.
    pub turnstile: Open<T, turnstile::Error>,
    /// Where shoppers show their credentials; none on a lane that nobody enters by.
    pub readers: Vec<Reader>,
}

impl<T> Lane<T> {
    /// A lane with a turnstile, wired with A as the entry, without readers and not seen by cameras.
    #[must_use]
    pub fn new(gate: engine::gate::Settings, turnstile: Open<T, turnstile::Error>) -> Self {
        Self { gate, line: None, entry_is_a: true, turnstile, readers: Vec::new() }
    }

    /// A lane of the store map, operated as usual.
    #[must_use]
    pub fn of(lane: &engine::store::Lane, turnstile: Open<T, turnstile::Error>) -> Self {
        let gate = engine::gate::Settings::new(lane.id.clone(), lane.entry);
        Self { line: Some(floor::Line::new(lane)), ..Self::new(gate, turnstile) }
    }

    /// The same lane with one more reader.
    #[must_use]
    pub fn with(mut self, reader: Reader) -> Self {
        self.readers.push(reader);
        self
    }
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
    if let Some(lane) = lanes.iter().find(|lane| !names.insert(lane.gate.lane.clone())) {
        return Err(Error::LaneTwice(lane.gate.lane.clone()));
    }
    let (records, receiver) = mpsc::channel(RECORDS_MAX);
    // Listening begins before the state is read, so that nothing falls between.
    let mut keeper = Keeper::new(&settings, bus.clone(), clock.clone(), receiver);
    let remembered = keeper.open().await;
    let admission = Arc::new(Mutex::new(remember(&settings, &remembered, clock.wall())));
    let (journal, written) = mpsc::channel(journal::ENTRIES_MAX);
    let shared = lane::Shared {
        admission: Arc::clone(&admission),
        records: records.clone(),
        journal,
        occupancy: Occupancy::default(),
        bus: bus.clone(),
        clock: clock.clone(),
    };
    let heartbeat = Heartbeat::new(Watchdog::from_environment(), lanes.len());
    let lanes_on = settings.lanes_on.clone().unwrap_or_else(Handle::current);
    let arrivals = settings.arrivals.clone().unwrap_or_else(|| watch::channel(0).1);
    // Dropping the set ends its tasks.
    let mut loops = JoinSet::new();
    let mut known = Vec::new();
    for (number, lane) in lanes.into_iter().enumerate() {
        let (inbox, told) = mpsc::channel(lane::INBOX_MAX);
        let mut readers = Vec::new();
        for (index, reader) in lane.readers.into_iter().enumerate() {
            let (attached, task) = reader.attach(index, clock.clone(), inbox.clone(), arrivals.clone());
            readers.push(attached);
            loops.spawn_on(task, &lanes_on);
        }
        shared.occupancy.tell(lane.gate.lane.clone(), inbox.clone());
        known.push(listener::Known { id: lane.gate.lane.clone(), inbox, line: lane.line });
        let wired = lane::Wired {
            settings: remembered.as_set(lane.gate),
            entry_is_a: lane.entry_is_a,
            hours: settings.hours.clone(),
            turnstile: Slot::new(Some(lane.turnstile), clock.now()),
            readers,
            inbox: told,
            pulse: heartbeat.pulse(number),
        };
        loops.spawn_on(lane::run(wired, shared.clone(), stop.clone()), &lanes_on);
    }
    loops.spawn(Listener::new(settings.sender.clone(), known, records, shared).run(stop));
    let writer = journal::Writer::new(settings.journal.clone(), clock.clone(), written);
    loops.spawn(writer.run());
    heartbeat.ready();
    // Keeper and journal end when the last lane has dropped its end of their channels.
    loops.spawn(keeper.run(admission));
    while let Some(ended) = loops.join_next().await {
        ended.map_err(Error::Loop)?;
    }
    Ok(())
}

/// Admission as it was before the restart. Signed lists are verified again: the state file may have been
/// changed while we were away.
fn remember(settings: &Settings, remembered: &Remembered, now: Instant) -> Admission {
    let mut admission = Admission::with_memory(settings.admission.clone(), &remembered.memory);
    for (list, bytes) in &remembered.lists {
        if let Err(refusal) = list.install(&mut admission, now, bytes) {
            tracing::error!(list = list.name(), %refusal, "stored list refused; the lanes go on without it");
        }
    }
    admission
}
