//! What a technician does with a ledger file: check it, read its receipts, move a damaged one aside.

use std::path::{Path, PathBuf};

use engine::message::Receipt;
use engine::time::Instant;
use serde::Serialize;

use super::{Error, schema};

/// What a sound ledger holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Inputs accepted.
    pub events: u64,
    /// Receipts made.
    pub receipts: u64,
    /// Payments that wait for the provider.
    pub payments_waiting: u64,
    /// Payments made.
    pub payments_charged: u64,
    /// Payments that the provider refused.
    pub payments_refused: u64,
    /// Messages that nobody has acknowledged.
    pub outbox: u64,
    /// Time of the newest input, Unix milliseconds.
    pub newest: Option<Instant>,
}

/// Checks a ledger whole: pages, indexes, every input, every receipt. Works beside a running cartd.
///
/// # Errors
/// The first damage, or why the file cannot be read.
pub fn check(path: &Path) -> Result<Summary, Error> {
    let connection = schema::open_to_read(path)?;
    schema::full_check(path, &connection)?;
    let failed = |source| Error::access(path, "check the inputs", source);
    let mut newest = None;
    let mut events = 0;
    let mut statement =
        connection.prepare("SELECT seq, id, at, body FROM events ORDER BY seq").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (_, at, _) = schema::read_event(path, row)?;
        newest = Some(at);
        events += 1;
    }
    let receipts = schema::read_receipts(path, &connection)?.len() as u64;
    let count = |sql| {
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs).map_err(failed)
    };
    Ok(Summary {
        events,
        receipts,
        payments_waiting: count("SELECT count(*) FROM payments WHERE state = 'waiting'")?,
        payments_charged: count("SELECT count(*) FROM payments WHERE state = 'charged'")?,
        payments_refused: count("SELECT count(*) FROM payments WHERE state = 'refused'")?,
        outbox: count("SELECT count(*) FROM outbox")?,
        newest,
    })
}

/// Every receipt of a ledger, oldest first. Works beside a running cartd.
///
/// # Errors
/// Why the file cannot be read.
pub fn receipts(path: &Path) -> Result<Vec<Receipt>, Error> {
    schema::read_receipts(path, &schema::open_to_read(path)?)
}

/// Moves a ledger and its companions aside under a new name, so that cartd can start a new one. Deletes
/// nothing. Returns the new name.
///
/// # Errors
/// When a cartd has it open, there is none, or a name is taken.
pub fn set_aside(path: &Path, now: Instant) -> Result<PathBuf, Error> {
    let open = |source: std::io::Error| Error::Open { path: path.to_owned(), source: source.into() };
    if !path.exists() {
        return Err(open(std::io::ErrorKind::NotFound.into()));
    }
    let _lock = schema::lock(path)?;
    let aside = schema::beside(path, &format!(".aside-{}", now.0));
    if aside.exists() {
        return Err(open(std::io::ErrorKind::AlreadyExists.into()));
    }
    // The companions first: a log without its ledger is harmless, a ledger that met a foreign log is not.
    for ending in ["-wal", "-shm"] {
        let companion = schema::beside(path, ending);
        if companion.exists() {
            std::fs::rename(companion, schema::beside(&aside, ending)).map_err(open)?;
        }
    }
    std::fs::rename(path, &aside).map_err(open)?;
    Ok(aside)
}
