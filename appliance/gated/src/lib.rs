//! The gate service: one loop a lane that connects turnstile and scanner with the engine's gate and
//! admission, and a keeper that stores what must not be lost and tells it to the other services.
//!
//! It deliberately decides nothing itself, and waits for nobody: a full disk, a dead bus or a broken reader
//! degrade what they are needed for and never stop a lane. Today it opens simulated devices; real ones come
//! with their drivers.

pub mod decode;
mod keeper;
mod lane;
pub mod provision;
mod slot;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use engine::admission::{self, Admission};
use engine::units::LaneId;
use qr_scanner::QrScanner;
use runtime::bus::Bus;
use runtime::clock::Clock;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use turnstile::Turnstile;

use keeper::{Keeper, RECORDS_MAX};

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
}

/// Opens a device; called at start, and again whenever it was lost.
pub type Open<D, E> = Box<dyn FnMut() -> Result<D, E> + Send>;

/// A lane and how to open its devices.
pub struct Lane<T, S> {
    /// Its name, as in topics.
    pub id: LaneId,
    /// Whether shoppers may come in here.
    pub takes_entries: bool,
    /// Whether electrical direction A is the entry, as the installer wired it.
    pub entry_is_a: bool,
    /// Opens the turnstile.
    pub turnstile: Open<T, turnstile::Error>,
    /// Opens the scanner; `None` on a lane without one, as an exit is.
    pub scanner: Option<Open<S, qr_scanner::Error>>,
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
pub async fn run<T, S>(
    settings: Settings,
    lanes: Vec<Lane<T, S>>,
    bus: Bus,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), Error>
where
    T: Turnstile + 'static,
    S: QrScanner + 'static,
{
    let mut names = BTreeSet::new();
    if let Some(lane) = lanes.iter().find(|lane| !names.insert(lane.id.clone())) {
        return Err(Error::LaneTwice(lane.id.clone()));
    }
    let (records, receiver) = mpsc::channel(RECORDS_MAX);
    // Listening begins before the state is read, so that nothing falls between.
    let mut keeper = Keeper::new(&settings, bus.clone(), clock.clone(), receiver);
    let memory = keeper.open().await;
    let admission = Arc::new(Mutex::new(Admission::with_memory(settings.admission.clone(), &memory)));
    // Dropping the set ends its tasks.
    let mut loops = JoinSet::new();
    for lane in lanes {
        let shared = lane::Shared {
            admission: Arc::clone(&admission),
            records: records.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
        };
        loops.spawn(lane::run(lane, shared, stop.clone()));
    }
    // The keeper ends when the last lane has dropped its end of the channel.
    drop(records);
    loops.spawn(keeper.run(admission));
    while let Some(ended) = loops.join_next().await {
        ended.map_err(Error::Loop)?;
    }
    Ok(())
}
