//! A durable outbox: messages that must not be lost are stored in the same SQLite transaction as the fact that caused
//! them, and repeated on the bus until the receiver has stored them too.

use std::collections::BTreeMap;

use engine::message::{Ack, topic};
use engine::time::{Instant, Millis};
use engine::units::MessageId;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde_json::Value;

use crate::bus::Bus;

/// Pause before a message is sent again.
pub const RESEND: Millis = Millis(2_000);
/// Messages of one topic under way at once; the rest wait in the table. One topic without a receiver holds up no
/// other.
const WINDOW: usize = 64;

/// The sending half. It holds no connection: callers pass the one whose transaction it takes part in.
#[derive(Debug)]
pub struct Outbox {
    sender: String,
    source: String,
    sent: BTreeMap<MessageId, Instant>,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The table could not be made or read.
    #[error("cannot open the outbox of {sender}")]
    Open {
        /// Whose.
        sender: String,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
    /// A message could not be stored; the caller's transaction must not be committed.
    #[error("cannot store a message for {topic}")]
    Push {
        /// Where it was to go.
        topic: String,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
    /// A message is not representable in JSON.
    #[error("cannot write a message for {topic} as JSON")]
    Encode {
        /// Where it was to go.
        topic: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Waiting messages could not be read or removed.
    #[error("cannot read the outbox of {sender}")]
    Read {
        /// Whose.
        sender: String,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
}

impl Outbox {
    /// Opens the outbox of `sender` (the last level of its acknowledgement topic) in a database, making its tables
    /// when they are missing. `now` marks a new database, so that ids never repeat those of a lost one.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn open(connection: &Connection, sender: &str, now: Instant) -> Result<Self, Error> {
        let epoch = open_tables(connection, now)
            .map_err(|source| Error::Open { sender: sender.to_owned(), source })?;
        Ok(Self { sender: sender.to_owned(), source: format!("{sender}.{epoch}"), sent: BTreeMap::new() })
    }

    /// Stores a message made by `make` from its new id, inside the caller's transaction.
    ///
    /// # Errors
    /// When it cannot be stored; the caller must roll back.
    pub fn push<T: Serialize>(
        &self,
        transaction: &Connection,
        topic: &str,
        make: impl FnOnce(MessageId) -> T,
    ) -> Result<MessageId, Error> {
        let failed = |source| Error::Push { topic: topic.to_owned(), source };
        transaction
            .execute("INSERT INTO outbox (topic, id, body) VALUES (?1, NULL, '')", params![topic])
            .map_err(failed)?;
        let number = transaction.last_insert_rowid();
        let id = MessageId(format!("{}/{number}", self.source));
        let body = serde_json::to_string(&make(id.clone()))
            .map_err(|source| Error::Encode { topic: topic.to_owned(), source })?;
        transaction
            .execute("UPDATE outbox SET id = ?2, body = ?3 WHERE number = ?1", params![number, id.0, body])
            .map_err(failed)?;
        Ok(id)
    }

    /// Stores a message whose id is its content's own, inside the caller's transaction. It must end in this sender's
    /// name, an epoch and a number (`receipt/visit/sender.epoch/number`), or acknowledgements go astray.
    ///
    /// # Errors
    /// When it cannot be stored, or a message with this id waits already; the caller must roll back.
    pub fn push_as<T: Serialize>(
        &self,
        transaction: &Connection,
        topic: &str,
        id: &MessageId,
        message: &T,
    ) -> Result<(), Error> {
        let body = serde_json::to_string(message)
            .map_err(|source| Error::Encode { topic: topic.to_owned(), source })?;
        transaction
            .execute("INSERT INTO outbox (topic, id, body) VALUES (?1, ?2, ?3)", params![topic, id.0, body])
            .map_err(|source| Error::Push { topic: topic.to_owned(), source })?;
        Ok(())
    }

    /// Publishes every message that has not been sent within [`RESEND`]; call it after each commit and at least that
    /// often. Oldest first, a window at a time.
    ///
    /// # Errors
    /// When the waiting messages cannot be read.
    pub fn send_due(&mut self, connection: &Connection, bus: &Bus, now: Instant) -> Result<(), Error> {
        let waiting =
            read_window(connection).map_err(|source| Error::Read { sender: self.sender.clone(), source })?;
        for (id, topic, body) in waiting {
            let fresh = self.sent.get(&id).is_some_and(|sent| now.since(*sent) < RESEND);
            if !fresh {
                bus.publish(&topic, &body);
                self.sent.insert(id, now);
            }
        }
        Ok(())
    }

    /// Forgets what a receiver has stored. Unknown ids are no error: acknowledgements may repeat.
    ///
    /// # Errors
    /// When the messages cannot be removed.
    pub fn acknowledged(&mut self, connection: &Connection, ack: &Ack) -> Result<(), Error> {
        for id in &ack.ids {
            connection
                .execute("DELETE FROM outbox WHERE id = ?1", params![id.0])
                .map_err(|source| Error::Read { sender: self.sender.clone(), source })?;
            self.sent.remove(id);
        }
        Ok(())
    }

    /// Takes over every message that waits in another outbox of the same sender, with its id, inside the caller's
    /// transaction; the caller then lets go of the other. Returns how many.
    ///
    /// # Errors
    /// When they cannot be read or stored; the caller must roll back.
    pub fn take_over(&self, transaction: &Connection, other: &Connection) -> Result<usize, Error> {
        let read = |source| Error::Read { sender: self.sender.clone(), source };
        let mut waiting =
            other.prepare("SELECT topic, id, body FROM outbox ORDER BY number").map_err(read)?;
        let mut rows = waiting.query([]).map_err(read)?;
        let mut taken = 0;
        while let Some(row) = rows.next().map_err(read)? {
            let (topic, id, body): (String, String, String) =
                (|| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))().map_err(read)?;
            taken += transaction
                .execute(
                    "INSERT OR IGNORE INTO outbox (topic, id, body) VALUES (?1, ?2, ?3)",
                    params![topic, id, body],
                )
                .map_err(|source| Error::Push { topic, source })?;
        }
        Ok(taken)
    }

    /// Gives up the oldest messages of a topic beyond `keep`: for news that are not worth a full disk. Returns how
    /// many it gave up.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn trim(&mut self, transaction: &Connection, topic: &str, keep: u32) -> Result<usize, Error> {
        let given_up = transaction
            .execute(
                "DELETE FROM outbox WHERE topic = ?1 AND number <= (
                     SELECT number FROM outbox WHERE topic = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                params![topic, keep],
            )
            .map_err(|source| Error::Read { sender: self.sender.clone(), source })?;
        if given_up > 0 {
            // At worst some of the others are sent again a little early.
            self.sent.clear();
        }
        Ok(given_up)
    }

    /// Messages not yet acknowledged.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn waiting(&self, connection: &Connection) -> Result<i64, Error> {
        connection
            .query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))
            .map_err(|source| Error::Read { sender: self.sender.clone(), source })
    }

    /// The topic on which this sender hears acknowledgements.
    #[must_use]
    pub fn ack_topic(&self) -> String {
        format!("{}/{}", topic::ACK, self.sender)
    }
}

/// The acknowledgement topic of the sender of a message: receivers answer there. Ids are `sender.epoch/number`, with or
/// without words before them that say what they name (`receipt/visit/cartd.7/12`).
#[must_use]
pub fn ack_topic_of(id: &MessageId) -> String {
    let source = id.0.rsplit('/').nth(1).unwrap_or(&id.0);
    let sender = source.rsplit_once('.').map_or(source, |(sender, _)| sender);
    format!("{}/{sender}", topic::ACK)
}

fn open_tables(connection: &Connection, now: Instant) -> rusqlite::Result<i64> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS outbox (
             number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, topic TEXT NOT NULL, body TEXT NOT NULL);
         CREATE INDEX IF NOT EXISTS outbox_by_topic ON outbox (topic, number);
         CREATE TABLE IF NOT EXISTS outbox_epoch (epoch INTEGER NOT NULL);",
    )?;
    let epoch = connection.query_row("SELECT epoch FROM outbox_epoch", [], |row| row.get(0)).optional()?;
    if let Some(epoch) = epoch {
        return Ok(epoch);
    }
    connection.execute("INSERT INTO outbox_epoch (epoch) VALUES (?1)", params![now.0 as i64])?;
    Ok(now.0 as i64)
}

fn read_window(connection: &Connection) -> rusqlite::Result<Vec<(MessageId, String, Value)>> {
    let mut topics = connection.prepare_cached("SELECT DISTINCT topic FROM outbox")?;
    let topics = topics.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut statement = connection
        .prepare_cached("SELECT number, id, body FROM outbox WHERE topic = ?1 ORDER BY number LIMIT ?2")?;
    let mut window = Vec::new();
    for topic in topics {
        let rows = statement.query_map(params![topic, WINDOW as i64], |row| {
            let (number, body): (i64, String) = (row.get(0)?, row.get(2)?);
            let body = serde_json::from_str(&body).unwrap_or(Value::Null);
            Ok((number, (MessageId(row.get(1)?), topic.clone(), body)))
        })?;
        for row in rows {
            window.push(row?);
        }
    }
    window.sort_by_key(|(number, _)| *number);
    Ok(window.into_iter().map(|(_, message)| message).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_repeated_until_acknowledged_and_survives_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("outbox.db");
        let bus = Bus::local();
        let mut received = bus.subscribe("t");
        let open = || Connection::open(&file).expect("opens");

        let connection = open();
        let mut outbox = Outbox::open(&connection, "gated-1", Instant(7)).expect("opens");
        let id = outbox.push(&connection, "t", |id| Ack { ids: vec![id] }).expect("stored");
        assert_eq!(id.0, "gated-1.7/1");
        assert_eq!(ack_topic_of(&id), outbox.ack_topic());
        outbox.send_due(&connection, &bus, Instant(100)).expect("sent");
        outbox.send_due(&connection, &bus, Instant(200)).expect("not again so soon");
        assert!(received.try_recv().is_some() && received.try_recv().is_none());

        drop(connection);
        let connection = open();
        let mut outbox = Outbox::open(&connection, "gated-1", Instant(9_000)).expect("opens");
        outbox.send_due(&connection, &bus, Instant(9_000)).expect("sent");
        let again: Ack = received.try_recv().expect("repeated").parse().expect("an ack");
        assert_eq!(again.ids, vec![id]);

        outbox.acknowledged(&connection, &again).expect("forgotten");
        assert_eq!(outbox.waiting(&connection).expect("counted"), 0);
        let next = outbox.push(&connection, "t", |id| id.clone()).expect("stored");
        assert_eq!(next.0, "gated-1.7/2", "numbers are never used again");
    }

    #[test]
    fn an_outbox_takes_over_another_with_its_ids() {
        let (old, new) =
            (Connection::open_in_memory().expect("opens"), Connection::open_in_memory().expect("opens"));
        let bus = Bus::local();
        let mut heard = bus.subscribe("t");
        let spare = Outbox::open(&old, "gated", Instant(9)).expect("opens");
        let mut outbox = Outbox::open(&new, "gated", Instant(7)).expect("opens");
        outbox.push(&new, "t", |id| id).expect("stored");
        spare.push(&old, "t", |id| id).expect("stored");
        assert_eq!(outbox.take_over(&new, &old).expect("taken over"), 1);
        assert_eq!(outbox.take_over(&new, &old).expect("again"), 0, "known by its id");
        outbox.send_due(&new, &bus, Instant(100)).expect("sent");
        let ids: Vec<String> = std::iter::from_fn(|| heard.try_recv())
            .map(|it| it.parse::<MessageId>().expect("an id").0)
            .collect();
        assert_eq!(ids, ["gated.7/1", "gated.9/1"]);
        let ack = Ack { ids: vec![MessageId("gated.9/1".to_owned())] };
        outbox.acknowledged(&new, &ack).expect("forgotten");
        assert_eq!(outbox.waiting(&new).expect("counted"), 1);
    }

    #[test]
    fn trimming_keeps_the_newest_of_its_topic() {
        let connection = Connection::open_in_memory().expect("opens");
        let bus = Bus::local();
        let mut heard = bus.subscribe("#");
        let mut outbox = Outbox::open(&connection, "gated", Instant(7)).expect("opens");
        for topic in ["news", "news", "facts", "news", "news"] {
            outbox.push(&connection, topic, |id| id).expect("stored");
        }
        assert_eq!(outbox.trim(&connection, "news", 4).expect("trimmed"), 0);
        assert_eq!(outbox.trim(&connection, "news", 2).expect("trimmed"), 2);
        outbox.send_due(&connection, &bus, Instant(100)).expect("sent");
        let ids = std::iter::from_fn(|| heard.try_recv()).map(|it| it.parse::<MessageId>().expect("an id").0);
        assert_eq!(ids.collect::<Vec<_>>(), ["gated.7/3", "gated.7/4", "gated.7/5"]);
    }

    #[test]
    fn a_topic_that_nobody_acknowledges_holds_up_no_other() {
        let connection = Connection::open_in_memory().expect("opens");
        let bus = Bus::local();
        let mut heard = bus.subscribe("wanted");
        let mut outbox = Outbox::open(&connection, "cartd", Instant(7)).expect("opens");
        for _ in 0..2 * WINDOW {
            outbox.push(&connection, "unwanted", |id| id).expect("stored");
        }
        outbox.push_as(&connection, "wanted", &"receipt/visit/cartd.7/9".into(), &5).expect("stored");
        outbox.send_due(&connection, &bus, Instant(100)).expect("sent");
        assert_eq!(heard.try_recv().expect("sent").parse::<i32>().expect("a number"), 5);
    }

    #[test]
    fn acknowledgements_find_the_sender_of_any_id() {
        for (id, topic) in [
            ("gated-1.7/5", "stile/ack/gated-1"),
            ("receipt/visit/cartd.18/3", "stile/ack/cartd"),
            ("cartd.18/3.1", "stile/ack/cartd"),
            ("nonsense", "stile/ack/nonsense"),
            ("", "stile/ack/"),
        ] {
            assert_eq!(ack_topic_of(&id.into()), topic, "{id}");
        }
    }
}
