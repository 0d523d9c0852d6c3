//! The ledger: everything that cartd has accepted, in order, in one SQLite file, and what followed from it.
//!
//! An input is durable (WAL, `synchronous=FULL`) before anybody is told so, and what it causes (receipts,
//! payments, messages) is stored in the same transaction. At the start the inputs are replayed through the
//! engine; whatever they cause that the file does not hold yet is stored then, so that nothing is lost or
//! made twice, not even when the rules changed in between.

mod inspect;
mod payments;
mod schema;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use engine::cart::Evidence;
use engine::message::{Ack, Passage, Receipt, topic};
use engine::session::{Command, Input, Policy, Store};
use engine::store::StoreMap;
use engine::time::{Instant, Millis};
use engine::units::{Mass, MessageId, PlateId};
use runtime::bus::Bus;
use runtime::outbox::{self, Outbox};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

pub use inspect::{Summary, check, receipts, set_aside};
pub use payments::{Due, PaymentCounts};

/// The outbox's sender, and the first part of every id that cartd gives.
pub const SENDER: &str = "cartd";

/// Sensing looks for the person of a passage for a few seconds only.
const UNBOUND_MAX: Millis = Millis(10_000);

/// An open ledger with the store that its inputs lead to.
pub struct Ledger {
    path: PathBuf,
    connection: Connection,
    outbox: Outbox,
    source: String,
    map: StoreMap,
    policy: Policy,
    store: Store,
    /// Time of the newest input; inputs never go back in time, even when the wall clock was set back over a
    /// restart.
    newest: Instant,
    traces: Traces,
    /// Held for as long as the ledger is open: two writers would each miss the other's inputs.
    _lock: File,
}

/// What sensing needs of the stored inputs when it starts anew.
#[derive(Default)]
struct Traces {
    /// When each plate last took part in a shelf event.
    moved: BTreeMap<PlateId, Instant>,
    /// Passages whose track was not known yet.
    unbound: BTreeMap<MessageId, Passage>,
}

/// An input on its way into the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When it was accepted.
    pub at: Instant,
    /// What.
    pub input: Input,
}

impl Entry {
    /// The id under which another service sent what this input carries; such an input is accepted once.
    #[must_use]
    pub fn origin(&self) -> Option<&MessageId> {
        match &self.input {
            Input::Evidence(Evidence::Entered { passage, .. } | Evidence::Left { passage, .. }) => {
                Some(&passage.id)
            }
            Input::Decision(decision) => Some(&decision.id),
            Input::Evidence(
                Evidence::Shelf(_)
                | Evidence::Bound { .. }
                | Evidence::Continued { .. }
                | Evidence::Watermark { .. },
            )
            | Input::Tick
            | Input::Close => None,
        }
    }
}

/// What is wrong with a ledger.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or its lock beside it, cannot be opened.
    #[error("cannot open ledger {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another cartd has it open.
    #[error("ledger {path} is in use by another cartd")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error(
        "ledger {path} is damaged ({what}); stop cartd, copy the file for the support desk, then move it \
         aside with `cartd ledger set-aside {path}`: it is renamed, never deleted, and cartd starts a new one"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// A SQLite file of another program.
    #[error("{path} is a database, but not a ledger of cartd")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// Written by a newer Stile, in a form that this one cannot go on with.
    #[error("ledger {path} has form {found}, this cartd knows {known}: install the newer image again")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its form: generation × 1,000 + step.
        found: i64,
        /// What this program makes.
        known: i64,
    },
    /// No space left. What was not accepted was not acknowledged, and will be offered again.
    #[error("the disk of ledger {path} is full: nothing is accepted until space is free")]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// A read or write failed.
    #[error("cannot {doing} in ledger {path}")]
    Access {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
    /// A value cannot be written as JSON.
    #[error("cannot write {what} as JSON")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The outbox failed.
    #[error("cannot use the outbox of ledger {path}")]
    Outbox {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: outbox::Error,
    },
}

impl Error {
    /// Whether trying again later can help (space may become free), rather than a restart or a person.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Access { .. } => true,
            Self::Outbox { source, .. } => !matches!(source, outbox::Error::Encode { .. }),
            Self::Open { .. }
            | Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Encode { .. } => false,
        }
    }

    fn access(path: &Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full { path },
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged { path, what: source.to_string() }
            }
            _ => Self::Access { doing, path, source },
        }
    }

    fn outbox(path: &Path, source: outbox::Error) -> Self {
        let code = match &source {
            outbox::Error::Open { source, .. }
            | outbox::Error::Push { source, .. }
            | outbox::Error::Read { source, .. } => source.sqlite_error_code(),
            outbox::Error::Encode { .. } => None,
        };
        if code == Some(rusqlite::ErrorCode::DiskFull) {
            Self::Full { path: path.to_owned() }
        } else {
            Self::Outbox { path: path.to_owned(), source }
        }
    }
}

impl Ledger {
    /// Opens a ledger, or makes a new one where there is none; checks it and replays it. Blocks: reads the
    /// whole file.
    ///
    /// # Errors
    /// When the file cannot be used; it is left as it is.
    pub fn open(path: &Path, map: StoreMap, policy: Policy, now: Instant) -> Result<Self, Error> {
        let lock = schema::lock(path)?;
        let connection = schema::open(path, now)?;
        let outbox = Outbox::open(&connection, SENDER, now).map_err(|source| Error::outbox(path, source))?;
        let epoch: i64 = connection
            .query_row("SELECT epoch FROM ledger", [], |row| row.get(0))
            .map_err(|source| Error::access(path, "read the epoch", source))?;
        let mut ledger = Self {
            path: path.to_owned(),
            connection,
            outbox,
            source: format!("{SENDER}.{epoch}"),
            store: Store::new(map.clone(), policy.clone()),
            map,
            policy,
            newest: Instant::default(),
            traces: Traces::default(),
            _lock: lock,
        };
        ledger.replay()?;
        Ok(ledger)
    }

    /// The sessions, carts and open shelf events that the accepted inputs lead to.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whether an input with this origin was accepted before.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn knows(&self, origin: &MessageId) -> Result<bool, Error> {
        self.connection
            .prepare_cached("SELECT 1 FROM events WHERE origin = ?1")
            .and_then(|mut statement| statement.exists(params![origin.0]))
            .map_err(|source| Error::access(&self.path, "look up an input", source))
    }

    /// Accepts inputs in order: stores them, handles them, stores what they cause; all of it or nothing.
    /// Inputs whose origin is known are passed over. Afterwards every origin may be acknowledged. Blocks
    /// until the disk has it.
    ///
    /// # Errors
    /// When nothing was accepted. When the error does not pass ([`Error::passes`]), the ledger must be opened
    /// anew.
    pub fn accept(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let accepted = self.try_accept(entries);
        if accepted.is_err() {
            // The store may have handled inputs that the file does not hold.
            self.replay()?;
        }
        accepted
    }

    fn try_accept(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let path = &self.path;
        let failed = |source| Error::access(path, "store an input", source);
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut commands = Vec::new();
        for entry in entries {
            let at = entry.at.max(self.newest);
            let Some(id) = insert(&transaction, path, &self.source, at, entry)? else { continue };
            self.newest = at;
            self.traces.note(&entry.input);
            self.store.handle(at, &id, &entry.input, &mut commands);
            for command in commands.drain(..) {
                perform(&transaction, path, &self.outbox, at, &command)?;
            }
        }
        transaction.commit().map_err(failed)
    }

    /// Starts the store afresh and leads it through every stored input. What the inputs cause and the file
    /// does not hold is stored now.
    fn replay(&mut self) -> Result<(), Error> {
        let path = &self.path;
        let failed = |source| Error::access(path, "replay the inputs", source);
        let mut store = Store::new(self.map.clone(), self.policy.clone());
        let mut caused = Vec::new();
        let mut commands = Vec::new();
        self.newest = Instant::default();
        self.traces = Traces::default();
        {
            let mut statement = self
                .connection
                .prepare("SELECT seq, id, at, body FROM events ORDER BY seq")
                .map_err(failed)?;
            let mut rows = statement.query([]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                let (id, at, input) = schema::read_event(path, row)?;
                self.newest = at;
                self.traces.note(&input);
                store.handle(at, &id, &input, &mut commands);
                caused.extend(commands.drain(..).map(|command| (at, command)));
            }
        }
        self.store = store;
        let mut missing = Vec::new();
        for (at, command) in caused {
            if !is_performed(&self.connection, path, &command)? {
                missing.push((at, command));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        tracing::warn!(count = missing.len(), "replay caused what the ledger did not hold; stored now");
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        for (at, command) in &missing {
            perform(&transaction, path, &self.outbox, *at, command)?;
        }
        transaction.commit().map_err(failed)
    }

    /// Levels to start sensing from: the newer of each plate's last shelf event and its last kept level.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn baselines(&self) -> Result<BTreeMap<PlateId, Mass>, Error> {
        let failed = |source| Error::access(&self.path, "read the plate levels", source);
        let mut baselines = self.store.levels().clone();
        let mut statement =
            self.connection.prepare("SELECT plate, tenths, at FROM levels").map_err(failed)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
            .map_err(failed)?;
        for row in rows {
            let (plate, tenths, at) = row.map_err(failed)?;
            // A plate that was renamed away, or written by a newer map, has no use for its level.
            let Ok(plate) = PlateId::try_from(plate) else { continue };
            let moved = self.traces.moved.get(&plate).is_some_and(|moved| moved.0 >= at.unsigned_abs());
            if !moved {
                baselines.insert(plate, Mass(tenths));
            }
        }
        Ok(baselines)
    }

    /// Passages of the last seconds before `now` whose person was still looked for when cartd ended.
    pub fn unbound(&self, now: Instant) -> impl Iterator<Item = &Passage> {
        self.traces.unbound.values().filter(move |passage| now.since(passage.at) <= UNBOUND_MAX)
    }

    /// Keeps levels at which plates have rested since `at`, so that a change while cartd is down is found
    /// afterwards even on plates without any event yet, and drift is not taken for one.
    ///
    /// # Errors
    /// When they cannot be stored; the older ones stay.
    pub fn keep_levels(&mut self, levels: &[(PlateId, Mass, Instant)]) -> Result<(), Error> {
        let path = &self.path;
        let failed = |source| Error::access(path, "keep plate levels", source);
        let transaction = self.connection.transaction().map_err(failed)?;
        for (plate, level, at) in levels {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO levels (plate, tenths, at) VALUES (?1, ?2, ?3)")
                .and_then(|mut statement| statement.execute(params![plate.to_string(), level.0, at.0 as i64]))
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// Publishes what has not been acknowledged, each message every few seconds.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn send_due(&mut self, bus: &Bus, now: Instant) -> Result<(), Error> {
        self.outbox.send_due(&self.connection, bus, now).map_err(|source| Error::outbox(&self.path, source))
    }

    /// Forgets messages that their receiver has stored.
    ///
    /// # Errors
    /// When they cannot be removed; they will be sent, and acknowledged, again.
    pub fn acknowledged(&mut self, acks: &[Ack]) -> Result<(), Error> {
        let path = &self.path;
        let failed = |source| Error::access(path, "forget a message", source);
        let transaction = self.connection.transaction().map_err(failed)?;
        for ack in acks {
            self.outbox.acknowledged(&transaction, ack).map_err(|source| Error::outbox(path, source))?;
        }
        transaction.commit().map_err(failed)
    }

    /// The topic on which acknowledgements come.
    #[must_use]
    pub fn ack_topic(&self) -> String {
        self.outbox.ack_topic()
    }

    /// Lets the file grow to `pages` pages of 4096 bytes at most, but never below its size: an operator's
    /// bound on the state partition, and a test's full disk.
    ///
    /// # Errors
    /// When the bound cannot be set.
    pub fn limit_pages(&self, pages: u32) -> Result<(), Error> {
        self.connection
            .query_row(&format!("PRAGMA max_page_count = {}", pages.max(1)), [], |_| Ok(()))
            .map_err(|source| Error::access(&self.path, "bound the file", source))
    }

    /// Number of inputs accepted so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn length(&self) -> Result<u64, Error> {
        self.connection
            .query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0))
            .map(i64::unsigned_abs)
            .map_err(|source| Error::access(&self.path, "count the inputs", source))
    }

    /// Every receipt, oldest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn receipts(&self) -> Result<Vec<Receipt>, Error> {
        schema::read_receipts(&self.path, &self.connection)
    }
}

impl Traces {
    fn note(&mut self, input: &Input) {
        match input {
            Input::Evidence(Evidence::Shelf(event)) => {
                self.moved.extend(event.steps.iter().map(|step| (step.plate, step.to)));
            }
            Input::Evidence(
                Evidence::Entered { passage, track: None } | Evidence::Left { passage, track: None },
            ) => {
                self.unbound.insert(passage.id.clone(), passage.clone());
                // Nobody looks for the person of an old passage any more.
                self.unbound.retain(|_, other| passage.at.since(other.at) <= UNBOUND_MAX);
            }
            Input::Evidence(Evidence::Bound { passage, .. }) => {
                self.unbound.remove(passage);
            }
            Input::Evidence(
                Evidence::Entered { track: Some(_), .. }
                | Evidence::Left { track: Some(_), .. }
                | Evidence::Continued { .. }
                | Evidence::Watermark { .. },
            )
            | Input::Decision(_)
            | Input::Tick
            | Input::Close => {}
        }
    }
}

/// Stores an input; `None` when its origin is known.
fn insert(
    transaction: &Transaction<'_>,
    path: &Path,
    source: &str,
    at: Instant,
    entry: &Entry,
) -> Result<Option<MessageId>, Error> {
    let failed = |source| Error::access(path, "store an input", source);
    let body = encode("an input", &entry.input)?;
    let seq: i64 = transaction
        .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM events")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(failed)?;
    let id = MessageId(format!("{source}/{seq}"));
    let origin = entry.origin().map(|origin| origin.0.as_str());
    let stored = transaction
        .prepare_cached(
            "INSERT INTO events (seq, id, origin, at, body) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (origin) DO NOTHING",
        )
        .and_then(|mut statement| statement.execute(params![seq, id.0, origin, at.0 as i64, body]))
        .map_err(failed)?;
    Ok((stored == 1).then_some(id))
}

/// Stores what a command asks for, once for each id.
fn perform(
    transaction: &Transaction<'_>,
    path: &Path,
    outbox: &Outbox,
    at: Instant,
    command: &Command,
) -> Result<(), Error> {
    let failed = |source| Error::access(path, "store what an input caused", source);
    let fresh = transaction
        .prepare_cached("INSERT OR IGNORE INTO performed (id, at) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute(params![performed_id(command), at.0 as i64]))
        .map_err(failed)?;
    if fresh == 0 {
        return Ok(());
    }
    match command {
        Command::Settle(receipt) => {
            let body = encode("a receipt", receipt)?;
            let stored = transaction
                .prepare_cached(
                    "INSERT INTO receipts (id, session, at, body) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (session) DO NOTHING",
                )
                .and_then(|mut statement| {
                    let settled = receipt.settled.0 as i64;
                    statement.execute(params![receipt.id.0, receipt.session.0, settled, body])
                })
                .map_err(failed)?;
            if stored == 0 {
                tracing::error!(session = %receipt.session, "settled before; the second receipt is dropped");
                return Ok(());
            }
            payments::queue(transaction, path, receipt)?;
            outbox.push_as(transaction, topic::RECEIPT, &receipt.id, receipt)
        }
        Command::Review(review) => outbox.push_as(transaction, topic::REVIEW, &review.event, review),
        Command::Close(closed) => outbox.push_as(transaction, topic::SESSION_CLOSED, &closed.id, closed),
    }
    .map_err(|source| Error::outbox(path, source))
}

fn is_performed(connection: &Connection, path: &Path, command: &Command) -> Result<bool, Error> {
    connection
        .prepare_cached("SELECT 1 FROM performed WHERE id = ?1")
        .and_then(|mut statement| statement.query_row(params![performed_id(command)], |_| Ok(())).optional())
        .map(|found| found.is_some())
        .map_err(|source| Error::access(path, "look up what an input caused", source))
}

/// A review carries its event's id, which other commands may share; so each kind has a prefix of its own.
fn performed_id(command: &Command) -> String {
    match command {
        Command::Settle(receipt) => format!("receipt {}", receipt.id),
        Command::Review(review) => format!("review {}", review.event),
        Command::Close(closed) => format!("closed {}", closed.id),
    }
}

fn encode<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Encode { what, source })
}
