//! The keeper stores what must not be lost (passages until they are acknowledged, used codes, who is inside),
//! tells it on the bus, and hears who has left. It works beside the lanes and may be slow; they never wait
//! for it.
//!
//! While the state file cannot be written, everything is kept in a database in memory, sent from there, and
//! reported.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::admission::{Admission, Memory, Refusal, Version};
use engine::gate;
use engine::message::{
    Ack, Authority, Direction, GateFact, GateModes, GateReport, HealthState, Passage, SessionClosed, topic,
};
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MessageId};
use runtime::bus::{Bus, Message, Subscription};
use runtime::clock::Clock;
use runtime::outbox::{Outbox, ack_topic_of};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::mpsc;

use crate::lane::{chain, lock};
use crate::{SERVICE, Settings};

/// Most records on their way from lanes to the keeper: a minute of the busiest box.
pub const RECORDS_MAX: usize = 1024;
/// Most records stored in one transaction.
const BATCH_MAX: usize = 64;
/// How long the state file is left alone after it failed.
const RETRY: Millis = Millis(5_000);
/// Waiting passages are looked through this often.
const RESEND_TICK: Duration = Duration::from_secs(1);
/// Reports kept for a console that does not take them: some days of a busy lane.
const REPORTS_MAX: u32 = 2_000;
/// Ids of closed sessions kept, to know a repeated one: days of a busy store.
const CLOSED_MAX: i64 = 10_000;

/// What lanes hand over.
#[derive(Debug)]
pub enum Record {
    /// Somebody went through.
    Passage { at: Instant, lane: LaneId, direction: Direction, authority: Authority },
    /// Something to say about a lane.
    Report { at: Instant, lane: LaneId, fact: GateFact },
    /// Admission remembers more than before.
    Admission,
    /// Staff set a lane to operate otherwise.
    Modes { lane: LaneId, modes: GateModes },
    /// A signed list was taken.
    List(List, Vec<u8>),
}

/// The lists that an operator signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Keys,
    Deny,
    Cards,
}

impl List {
    /// Keys first: they may be what the others are signed with.
    pub const ALL: [Self; 3] = [Self::Keys, Self::Deny, Self::Cards];

    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Deny => "deny",
            Self::Cards => "cards",
        }
    }

    pub fn topic(self) -> &'static str {
        match self {
            Self::Keys => topic::KEY_SET,
            Self::Deny => topic::DENY_LIST,
            Self::Cards => topic::CARD_LIST,
        }
    }

    pub fn install(self, admission: &mut Admission, now: Instant, bytes: &[u8]) -> Result<Version, Refusal> {
        match self {
            Self::Keys => admission.install_keys(now, bytes),
            Self::Deny => admission.deny(now, bytes),
            Self::Cards => admission.install_cards(now, bytes),
        }
    }
}

/// What the state file remembers.
#[derive(Default)]
pub struct Remembered {
    pub memory: Memory,
    pub lists: Vec<(List, Vec<u8>)>,
    modes: Vec<(LaneId, GateModes)>,
}

impl Remembered {
    /// A lane as staff had set it when we ended.
    pub fn as_set(&self, mut lane: gate::Settings) -> gate::Settings {
        if let Some((_, modes)) = self.modes.iter().find(|(id, _)| *id == lane.lane) {
            (lane.entry, lane.exit, lane.service) = (modes.entry, modes.exit, modes.service);
        }
        lane
    }
}

/// An open database with its outbox.
struct Book {
    connection: Connection,
    outbox: Outbox,
}

pub struct Keeper {
    path: PathBuf,
    sender: String,
    bus: Bus,
    clock: Clock,
    records: mpsc::Receiver<Record>,
    acks: Subscription,
    closings: Subscription,
    books: Books,
    told: Option<(HealthState, String)>,
    told_admission: Option<(HealthState, String)>,
}

/// The databases; they travel to a thread that may block, and back.
#[derive(Default)]
struct Books {
    file: Option<Book>,
    memory: Option<Book>,
    retry_at: Instant,
    /// Why the file is not used.
    trouble: Option<String>,
    /// Passages that could be stored nowhere.
    lost: u64,
}

/// What failed in storage.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot open {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("cannot read {path}: what it remembers is not what this service wrote")]
    Memory {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot write the gate's state")]
    Write(#[source] rusqlite::Error),
    #[error("cannot read the gate's state")]
    Read(#[source] rusqlite::Error),
    #[error("cannot write the gate's memory as JSON")]
    Encode(#[source] serde_json::Error),
    #[error(transparent)]
    Outbox(#[from] runtime::outbox::Error),
}

impl Keeper {
    pub fn new(settings: &Settings, bus: Bus, clock: Clock, records: mpsc::Receiver<Record>) -> Self {
        let acks = bus.subscribe(&format!("{}/{}", topic::ACK, settings.sender));
        let closings = bus.subscribe(topic::SESSION_CLOSED);
        Self {
            path: settings.state.clone(),
            sender: settings.sender.clone(),
            bus,
            clock,
            records,
            acks,
            closings,
            books: Books::default(),
            told: None,
            told_admission: None,
        }
    }

    /// Opens the state file and returns what it remembers; nothing when it cannot be read.
    pub async fn open(&mut self) -> Remembered {
        let (path, sender) = (self.path.clone(), self.sender.clone());
        let now = self.clock.now();
        let remembered = self
            .blocking(move |books| {
                books.open_file(&path, &sender, now);
                books.file.as_ref().map(|book| book.remembered(&path))
            })
            .await;
        self.tell_health();
        remembered.unwrap_or_default()
    }

    pub async fn run(mut self, admission: Arc<Mutex<Admission>>) {
        let mut resend = tokio::time::interval(RESEND_TICK);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                count = self.records.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                    self.store(&admission, std::mem::take(&mut batch)).await;
                }
                message = self.acks.recv() => self.acknowledged(&message).await,
                message = self.closings.recv() => self.session_closed(&admission, &message).await,
                _ = resend.tick() => {
                    self.resend().await;
                    self.look_after(&admission);
                }
            }
            self.tell_health();
        }
    }

    /// What admission needs to know every second, and what it has to say.
    fn look_after(&mut self, admission: &Mutex<Admission>) {
        let wall = self.clock.wall();
        let status = {
            let mut admission = lock(admission);
            admission.observe_clock(wall, self.clock.uptime(), network_time());
            admission.status(wall)
        };
        let state = if status.degraded() { HealthState::Degraded } else { HealthState::Up };
        let new = Some((state, status.to_string()));
        if self.told_admission != new {
            self.publish_health("admission", state, status.to_string());
            self.told_admission = new;
        }
    }

    async fn store(&mut self, admission: &Arc<Mutex<Admission>>, records: Vec<Record>) {
        if records.iter().any(|record| matches!(record, Record::Admission)) {
            let seen = lock(admission).seen(&self.sender);
            self.bus.publish_view(&format!("{}/{}", topic::SEEN_CODES, self.sender), &seen);
        }
        let admission = Arc::clone(admission);
        self.with_books(move |books, now, bus| {
            // Taken here, not by the lanes, so that an older memory never overwrites a newer one.
            let memory = lock(&admission).memory();
            books.write(now, |book| book.store(&records, &memory));
            books.send_due(bus, now);
        })
        .await;
    }

    async fn acknowledged(&mut self, message: &Message) {
        let ack: Ack = match message.parse() {
            Ok(ack) => ack,
            Err(error) => return tracing::warn!(error = %chain(&error), "acknowledgement dropped"),
        };
        self.with_books(move |books, now, _| {
            books.each(now, |book| Ok(book.outbox.acknowledged(&book.connection, &ack)?));
        })
        .await;
    }

    async fn session_closed(&mut self, admission: &Arc<Mutex<Admission>>, message: &Message) {
        let closed: SessionClosed = match message.parse() {
            Ok(closed) => closed,
            Err(error) => return tracing::warn!(error = %chain(&error), "closed session dropped"),
        };
        let admission = Arc::clone(admission);
        let SessionClosed { id, member, people, .. } = closed;
        let ack = Ack { ids: vec![id.clone()] };
        let ack_topic = ack_topic_of(&id);
        let stored = self
            .with_books(move |books, now, _| {
                if books.file.as_ref().or(books.memory.as_ref()).is_some_and(|book| book.knows_closed(&id)) {
                    return true;
                }
                let memory = {
                    let mut admission = lock(&admission);
                    if let Some(member) = member {
                        admission.closed(member, people);
                    }
                    admission.memory()
                };
                books.write(now, |book| book.store_closed(&id, &memory))
            })
            .await;
        if stored {
            self.bus.publish(&ack_topic, &ack);
        }
    }

    async fn resend(&mut self) {
        let (path, sender) = (self.path.clone(), self.sender.clone());
        self.with_books(move |books, now, bus| {
            if books.file.is_none() && now >= books.retry_at {
                books.open_file(&path, &sender, now);
            }
            if books.file.is_none() && books.memory.is_none() {
                books.open_memory(&sender, now);
            }
            books.bring_home(now);
            books.send_due(bus, now);
        })
        .await;
    }

    /// Works on the databases where blocking is allowed.
    async fn with_books<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Books, Instant, &Bus) -> R + Send + 'static,
    ) -> R {
        let (now, bus, sender) = (self.clock.now(), self.bus.clone(), self.sender.clone());
        self.blocking(move |books| {
            if books.file.is_none() && books.memory.is_none() {
                books.open_memory(&sender, now);
            }
            work(books, now, &bus)
        })
        .await
    }

    async fn blocking<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Books) -> R + Send + 'static,
    ) -> R {
        let mut books = std::mem::take(&mut self.books);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut books);
            (books, result)
        });
        let (books, result) = done.await.expect("storage work does not panic");
        self.books = books;
        result
    }

    fn tell_health(&mut self) {
        let (state, detail) = match (&self.books.trouble, self.books.lost) {
            (None, 0) => (HealthState::Up, String::new()),
            (None, lost) => (HealthState::Degraded, format!("{lost} passages were lost")),
            (Some(trouble), lost) => {
                let kept = "passages are kept in memory only";
                (HealthState::Degraded, format!("{kept}, {lost} were lost: {trouble}"))
            }
        };
        let new = Some((state, detail.clone()));
        if self.told == new {
            return;
        }
        self.told = new;
        tracing::info!(?state, detail, "service health");
        self.publish_health("service", state, detail);
    }

    fn publish_health(&self, device: &str, state: HealthState, detail: String) {
        crate::publish_health(&self.bus, &self.clock, device, state, detail);
    }
}

/// Whether network time has been had since boot, as systemd-timesyncd says (its manual page, "FILES").
fn network_time() -> bool {
    Path::new("/run/systemd/timesync/synchronized").exists()
}

impl Books {
    fn open_file(&mut self, path: &Path, sender: &str, now: Instant) {
        match Book::open(path, sender, now) {
            Ok(book) => {
                self.file = Some(book);
                self.trouble = None;
            }
            Err(error) => self.give_up_file(now, &error),
        }
    }

    /// Moves what was kept in memory to the file, now that it can be written again.
    fn bring_home(&mut self, now: Instant) {
        let (Some(file), Some(memory)) = (&mut self.file, &self.memory) else { return };
        match file.take_over(memory) {
            Ok(count) => {
                tracing::info!(count, "messages kept in memory are in the state file now");
                self.memory = None;
            }
            Err(error) => self.give_up_file(now, &error),
        }
    }

    fn open_memory(&mut self, sender: &str, now: Instant) {
        match Connection::open_in_memory().map_err(Error::Write).and_then(|it| Book::prepare(it, sender, now))
        {
            Ok(book) => self.memory = Some(book),
            Err(error) => tracing::error!(error = %chain(&error), "no database in memory"),
        }
    }

    fn give_up_file(&mut self, now: Instant, error: &Error) {
        self.file = None;
        self.retry_at = now.after(RETRY);
        self.trouble = Some(chain(error));
    }

    /// Writes to the file, else to memory; false when neither took it.
    fn write(&mut self, now: Instant, mut work: impl FnMut(&mut Book) -> Result<(), Error>) -> bool {
        if let Some(book) = &mut self.file {
            match work(book) {
                Ok(()) => return true,
                Err(error) => self.give_up_file(now, &error),
            }
        }
        if self.memory.is_none() {
            self.open_memory(SERVICE, now);
        }
        let stored = self.memory.as_mut().is_some_and(|book| work(book).is_ok());
        if !stored {
            self.lost += 1;
        }
        stored
    }

    /// Does the same to both databases.
    fn each(&mut self, now: Instant, mut work: impl FnMut(&mut Book) -> Result<(), Error>) {
        if let Some(book) = &mut self.memory {
            // What memory keeps costs nothing to keep; it is tried again with the next acknowledgement.
            let _ = work(book);
        }
        if let Some(Err(error)) = self.file.as_mut().map(work) {
            self.give_up_file(now, &error);
        }
    }

    fn send_due(&mut self, bus: &Bus, now: Instant) {
        self.each(now, |book| Ok(book.outbox.send_due(&book.connection, bus, now)?));
    }
}

impl Book {
    fn open(path: &Path, sender: &str, now: Instant) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        Self::prepare(connection, sender, now)
    }

    fn prepare(connection: Connection, sender: &str, now: Instant) -> Result<Self, Error> {
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS memory (
                     only INTEGER PRIMARY KEY CHECK (only = 1), json TEXT NOT NULL);
                 CREATE TABLE IF NOT EXISTS modes (lane TEXT PRIMARY KEY, json TEXT NOT NULL);
                 CREATE TABLE IF NOT EXISTS list (name TEXT PRIMARY KEY, bytes BLOB NOT NULL);
                 CREATE TABLE IF NOT EXISTS closed (
                     number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE);",
            )
            .map_err(Error::Write)?;
        let outbox = Outbox::open(&connection, sender, now)?;
        Ok(Self { connection, outbox })
    }

    /// What it remembers, as far as it can be read: the passages in it are good in any case.
    fn remembered(&self, path: &Path) -> Remembered {
        let memory = self.memory(path).unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), "anti-passback starts afresh");
            Memory::default()
        });
        let lists = List::ALL.into_iter().filter_map(|list| match self.list(path, list) {
            Ok(bytes) => Some((list, bytes?)),
            Err(error) => {
                tracing::error!(error = %chain(&error), list = list.name(), "signed list not read");
                None
            }
        });
        let modes = self.modes().unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), "lanes operate as the manifest says");
            Vec::new()
        });
        Remembered { memory, lists: lists.collect(), modes }
    }

    fn modes(&self) -> Result<Vec<(LaneId, GateModes)>, Error> {
        let mut statement = self.connection.prepare("SELECT lane, json FROM modes").map_err(Error::Read)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(Error::Read)?;
        let mut modes = Vec::new();
        for row in rows {
            let (lane, json) = row.map_err(Error::Read)?;
            // Modes of a version that knew others: the manifest's hold.
            if let Ok(known) = serde_json::from_str(&json) {
                modes.push((LaneId(lane), known));
            }
        }
        Ok(modes)
    }

    fn memory(&self, path: &Path) -> Result<Memory, Error> {
        let json: Option<String> = self
            .connection
            .query_row("SELECT json FROM memory", [], |row| row.get(0))
            .optional()
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let parse = |json: String| serde_json::from_str(&json);
        json.map_or(Ok(Memory::default()), parse)
            .map_err(|source| Error::Memory { path: path.to_owned(), source })
    }

    fn list(&self, path: &Path, list: List) -> Result<Option<Vec<u8>>, Error> {
        self.connection
            .query_row("SELECT bytes FROM list WHERE name = ?1", params![list.name()], |row| row.get(0))
            .optional()
            .map_err(|source| Error::Open { path: path.to_owned(), source })
    }

    /// Stores records in one transaction: all or none.
    fn store(&mut self, records: &[Record], memory: &Memory) -> Result<(), Error> {
        let transaction = self.connection.transaction().map_err(Error::Write)?;
        for record in records {
            Self::store_one(&mut self.outbox, &transaction, record)?;
        }
        write_memory(&transaction, memory)?;
        transaction.commit().map_err(Error::Write)
    }

    /// All that `other` keeps and we do not, in one transaction.
    fn take_over(&mut self, other: &Self) -> Result<usize, Error> {
        let transaction = self.connection.transaction().map_err(Error::Write)?;
        let count = self.outbox.take_over(&transaction, &other.connection)?;
        for (table, keys) in [("modes", "lane, json"), ("list", "name, bytes"), ("memory", "only, json")] {
            let mut rows =
                other.connection.prepare(&format!("SELECT {keys} FROM {table}")).map_err(Error::Read)?;
            let mut rows = rows.query([]).map_err(Error::Read)?;
            while let Some(row) = rows.next().map_err(Error::Read)? {
                let (key, value): (Value, Value) =
                    (|| Ok((row.get(0)?, row.get(1)?)))().map_err(Error::Read)?;
                transaction
                    .execute(
                        &format!("INSERT OR REPLACE INTO {table} ({keys}) VALUES (?1, ?2)"),
                        params![key, value],
                    )
                    .map_err(Error::Write)?;
            }
        }
        let mut closed =
            other.connection.prepare("SELECT id FROM closed ORDER BY number").map_err(Error::Read)?;
        let mut closed = closed.query([]).map_err(Error::Read)?;
        while let Some(row) = closed.next().map_err(Error::Read)? {
            let id: String = row.get(0).map_err(Error::Read)?;
            transaction
                .execute("INSERT OR IGNORE INTO closed (id) VALUES (?1)", params![id])
                .map_err(Error::Write)?;
        }
        transaction.commit().map_err(Error::Write)?;
        Ok(count)
    }

    fn store_one(outbox: &mut Outbox, transaction: &Connection, record: &Record) -> Result<(), Error> {
        match record {
            Record::Passage { at, lane, direction, authority } => {
                outbox.push(transaction, topic::PASSAGE, |id| Passage {
                    id,
                    lane: lane.clone(),
                    at: *at,
                    direction: *direction,
                    authority: authority.clone(),
                })?;
            }
            Record::Report { at, lane, fact } => {
                outbox.push(transaction, topic::GATE_REPORT, |id| GateReport {
                    id,
                    lane: lane.clone(),
                    at: *at,
                    fact: fact.clone(),
                })?;
                let given_up = outbox.trim(transaction, topic::GATE_REPORT, REPORTS_MAX)?;
                if given_up > 0 {
                    tracing::warn!(given_up, "reports that nobody took were given up");
                }
            }
            Record::Admission => {}
            Record::Modes { lane, modes } => {
                let json = serde_json::to_string(modes).map_err(Error::Encode)?;
                transaction
                    .execute(
                        "INSERT OR REPLACE INTO modes (lane, json) VALUES (?1, ?2)",
                        params![lane.0, json],
                    )
                    .map_err(Error::Write)?;
            }
            Record::List(list, bytes) => {
                transaction
                    .execute(
                        "INSERT INTO list (name, bytes) VALUES (?1, ?2)
                         ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes WHERE bytes IS NOT excluded.bytes",
                        params![list.name(), bytes],
                    )
                    .map_err(Error::Write)?;
            }
        }
        Ok(())
    }

    fn store_closed(&mut self, id: &MessageId, memory: &Memory) -> Result<(), Error> {
        let transaction = self.connection.transaction().map_err(Error::Write)?;
        transaction
            .execute("INSERT OR IGNORE INTO closed (id) VALUES (?1)", params![id.0])
            .map_err(Error::Write)?;
        let oldest = transaction.last_insert_rowid() - CLOSED_MAX;
        transaction
            .execute("DELETE FROM closed WHERE number <= ?1", params![oldest])
            .map_err(Error::Write)?;
        write_memory(&transaction, memory)?;
        transaction.commit().map_err(Error::Write)
    }

    fn knows_closed(&self, id: &MessageId) -> bool {
        self.connection
            .query_row("SELECT 1 FROM closed WHERE id = ?1", params![id.0], |_| Ok(()))
            .optional()
            .is_ok_and(|row| row.is_some())
    }
}

fn write_memory(connection: &Connection, memory: &Memory) -> Result<(), Error> {
    let json = serde_json::to_string(memory).map_err(Error::Encode)?;
    connection
        .execute("INSERT OR REPLACE INTO memory (only, json) VALUES (1, ?1)", params![json])
        .map_err(Error::Write)?;
    Ok(())
}
