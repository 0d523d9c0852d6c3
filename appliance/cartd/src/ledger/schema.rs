//! The file: its lock, its tables, its versions, its check at every start.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::message::Receipt;
use engine::session::Input;
use engine::time::Instant;
use engine::units::MessageId;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::Error;

/// Marks the file as a ledger ("STIL") in SQLite's header.
const APPLICATION_ID: i64 = 0x5354_494C;

/// The form of a ledger's tables, kept in SQLite's `user_version` as generation × 1,000 + step.
///
/// A step only adds: tables, indexes, columns with a default. A program leads an older ledger of its generation up to
/// its own step, and reads and writes newer ones as they are: the slot of before an update goes on with what the update
/// led up. What takes away or changes a meaning is a new generation, which older programs refuse; it may come once no
/// box can fall back to a program that needs the old one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Form {
    generation: i64,
    step: usize,
}

/// The generation that this program knows.
const GENERATION: i64 = 0;

impl Form {
    /// What this program makes.
    const OWN: Self = Self { generation: GENERATION, step: STEPS.len() };

    fn of(number: i64) -> Self {
        Self { generation: number.div_euclid(1_000), step: number.rem_euclid(1_000) as usize }
    }

    fn number(self) -> i64 {
        self.generation * 1_000 + self.step as i64
    }

    /// Whether this program can read and write it.
    fn is_known(self) -> bool {
        self.generation == GENERATION && self.step > 0
    }
}

/// What leads to each step from the one before it, from an empty file on. Never changed once it has been on a box.
const STEPS: [&str; 2] = [TABLES, HISTORY];

/// How long to wait for a reader (`cartd ledger …`) that holds the file.
const BUSY_MAX: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE ledger (epoch INTEGER NOT NULL);
    -- Everything accepted, in order. `origin` is the id under which another service sent it.
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, origin TEXT UNIQUE, at INTEGER NOT NULL,
        body TEXT NOT NULL) STRICT;
    -- Ids of everything that inputs caused, kept for ever: a replay must not cause it again.
    CREATE TABLE performed (id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE receipts (
        id TEXT PRIMARY KEY, session TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    -- `state`: waiting, charged, refused. `due` and `at` in milliseconds of the box's time line.
    CREATE TABLE payments (
        receipt TEXT PRIMARY KEY REFERENCES receipts (id), member TEXT NOT NULL, minor INTEGER NOT NULL,
        currency TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, due INTEGER NOT NULL,
        note TEXT NOT NULL) STRICT;
    CREATE INDEX payments_waiting ON payments (due) WHERE state = 'waiting';
    -- Where plates rested, for the next start.
    CREATE TABLE levels (plate TEXT PRIMARY KEY, tenths INTEGER NOT NULL, at INTEGER NOT NULL) STRICT;
";

/// Which program led the ledger up to a step, for the support desk.
const HISTORY: &str = "
    CREATE TABLE steps (step INTEGER PRIMARY KEY, at INTEGER NOT NULL, program TEXT NOT NULL) STRICT;
";

/// Takes the lock beside the file; it goes with the returned handle, also when the process is killed.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let open = |source: std::io::Error| Error::Open { path: path.to_owned(), source: source.into() };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(open)?;
    }
    let file =
        File::options().create(true).truncate(false).write(true).open(beside(path, "-lock")).map_err(open)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(open(source)),
    }
}

/// A file whose name is the ledger's with an ending added, as SQLite names its own (`-wal`, `-shm`).
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Opens for writing, checks, and brings the tables up to date.
pub(super) fn open(path: &Path, now: Instant) -> Result<Connection, Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = connect(path, flags)?;
    let found = identify(path, &connection)?;
    let failed = |source| Error::access(path, "prepare the tables", source);
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(failed)?;
    if found.is_some() {
        quick_check(path, &connection)?;
    }
    lead_up(&mut connection, found, now).map_err(failed)?;
    Ok(connection)
}

/// Makes the tables, or adds to them what steps since `found` added: all of it or, after a power cut, nothing.
fn lead_up(connection: &mut Connection, found: Option<Form>, now: Instant) -> rusqlite::Result<()> {
    let from = found.map_or(0, |form| form.step);
    if from >= STEPS.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in &STEPS[from..] {
        transaction.execute_batch(step)?;
    }
    if found.is_none() {
        transaction.execute("INSERT INTO ledger (epoch) VALUES (?1)", params![now.0 as i64])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    let program = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    transaction.execute(
        "INSERT INTO steps (step, at, program) VALUES (?1, ?2, ?3)",
        params![STEPS.len() as i64, now.0 as i64, program],
    )?;
    transaction.pragma_update(None, "user_version", Form::OWN.number())?;
    transaction.commit()
}

/// Opens an existing ledger for reading, beside a running cartd too.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Error> {
    if !path.exists() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(Error::Open { path: path.to_owned(), source: source.into() });
    }
    // Not read-only: after a power cut somebody must bring the write-ahead log in.
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    match identify(path, &connection)? {
        Some(_) => Ok(connection),
        None => Err(Error::Foreign { path: path.to_owned() }),
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let open = |source: rusqlite::Error| match Error::access(path, "open", source) {
        Error::Access { source, .. } => Error::Open { path: path.to_owned(), source: source.into() },
        other => other,
    };
    let connection = Connection::open_with_flags(path, flags).map_err(open)?;
    connection.busy_timeout(BUSY_MAX).map_err(open)?;
    Ok(connection)
}

/// The form of a ledger that this program can use, `None` for an empty file.
fn identify(path: &Path, connection: &Connection) -> Result<Option<Form>, Error> {
    let failed = |source| Error::access(path, "read the header", source);
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, version, tables) {
        (APPLICATION_ID, version, _) => {
            let form = Form::of(version);
            let known = Form::OWN.number();
            if form.is_known() {
                Ok(Some(form))
            } else {
                Err(Error::Newer { path: path.to_owned(), found: version, known })
            }
        }
        (0, 0, 0) => Ok(None),
        _ => Err(Error::Foreign { path: path.to_owned() }),
    }
}

/// SQLite's check of pages and rows, without the one of index contents, which takes far longer.
pub(super) fn quick_check(path: &Path, connection: &Connection) -> Result<(), Error> {
    verdict(path, connection, "PRAGMA quick_check(1)")
}

/// SQLite's whole check.
pub(super) fn full_check(path: &Path, connection: &Connection) -> Result<(), Error> {
    verdict(path, connection, "PRAGMA integrity_check(1)")
}

fn verdict(path: &Path, connection: &Connection, sql: &str) -> Result<(), Error> {
    let verdict: String = connection
        .query_row(sql, [], |row| row.get(0))
        .map_err(|source| Error::access(path, "check the file", source))?;
    if verdict == "ok" {
        Ok(())
    } else {
        // SQLite starts with a line that names the database within the connection.
        let what = verdict.lines().last().unwrap_or_default().to_owned();
        Err(Error::Damaged { path: path.to_owned(), what })
    }
}

/// A row of `seq, id, at, body` from `events`.
pub(super) fn read_event(path: &Path, row: &Row<'_>) -> Result<(MessageId, Instant, Input), Error> {
    let failed = |source| Error::access(path, "read an input", source);
    let seq: i64 = row.get(0).map_err(failed)?;
    let id: String = row.get(1).map_err(failed)?;
    let at: i64 = row.get(2).map_err(failed)?;
    let body: String = row.get(3).map_err(failed)?;
    let input = serde_json::from_str(&body).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        what: format!("input {seq} cannot be read: {error}"),
    })?;
    Ok((MessageId(id), Instant(at.unsigned_abs()), input))
}

/// Every receipt, oldest first.
pub(super) fn read_receipts(path: &Path, connection: &Connection) -> Result<Vec<Receipt>, Error> {
    let failed = |source| Error::access(path, "read the receipts", source);
    let mut statement = connection.prepare("SELECT id, body FROM receipts ORDER BY rowid").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut receipts = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let id: String = row.get(0).map_err(failed)?;
        let body: String = row.get(1).map_err(failed)?;
        let receipt = serde_json::from_str(&body).map_err(|error| Error::Damaged {
            path: path.to_owned(),
            what: format!("receipt {id} cannot be read: {error}"),
        })?;
        receipts.push(receipt);
    }
    Ok(receipts)
}
