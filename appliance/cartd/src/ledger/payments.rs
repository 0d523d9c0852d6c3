//! The queue of payments: filled in the transaction that makes the receipt, emptied after the provider's
//! answer.

use std::path::Path;

use engine::message::Receipt;
use engine::time::Instant;
use engine::units::{Currency, MemberHandle, MessageId, Money};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Error, Ledger};
use crate::payment::Charge;

/// A payment whose time has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// What to charge.
    pub charge: Charge,
    /// Attempts so far.
    pub attempts: u32,
}

/// How the payments stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaymentCounts {
    /// Not answered by the provider yet.
    pub waiting: u64,
    /// Of these, tried at least once.
    pub retried: u64,
    /// Charged.
    pub charged: u64,
    /// Refused for good.
    pub refused: u64,
}

/// Queues the payment of a receipt. A visit without a member, or one that owes nothing, is never charged.
pub(super) fn queue(transaction: &Transaction<'_>, path: &Path, receipt: &Receipt) -> Result<(), Error> {
    let Some(member) = receipt.member.filter(|_| receipt.total.minor > 0) else {
        return Ok(());
    };
    transaction
        .prepare_cached(
            "INSERT INTO payments (receipt, member, minor, currency, state, attempts, due, note)
             VALUES (?1, ?2, ?3, ?4, 'waiting', 0, ?5, '')",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                receipt.id.0,
                member.to_string(),
                receipt.total.minor,
                receipt.total.currency.as_str(),
                receipt.settled.0 as i64
            ])
        })
        .map(|_| ())
        .map_err(|source| Error::access(path, "queue a payment", source))
}

impl Ledger {
    /// The payment that has waited longest, if its time has come.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_payment(&self, now: Instant) -> Result<Option<Due>, Error> {
        let row = self
            .connection
            .prepare_cached(
                "SELECT receipt, member, minor, currency, attempts FROM payments
                 WHERE state = 'waiting' AND due <= ?1 ORDER BY due, receipt LIMIT 1",
            )
            .and_then(|mut statement| statement.query_row(params![now.0 as i64], read_row).optional())
            .map_err(|source| Error::access(&self.path, "read the payments", source))?;
        row.map(|row| self.due(row)).transpose()
    }

    fn due(&self, (receipt, member, minor, currency, attempts): PaymentRow) -> Result<Due, Error> {
        let damaged = |what: &str| Error::Damaged {
            path: self.path.clone(),
            what: format!("payment of {receipt} has no {what}"),
        };
        let member = u64::from_str_radix(&member, 16).map_err(|_| damaged("member"))?;
        let currency = Currency::try_from(currency).map_err(|_| damaged("currency"))?;
        let charge = Charge {
            receipt: MessageId(receipt.clone()),
            member: MemberHandle(member),
            amount: Money { minor, currency },
        };
        Ok(Due { charge, attempts })
    }

    /// The provider has charged it, under its own `reference`.
    ///
    /// # Errors
    /// When it cannot be stored; the charge is tried again then, and the provider knows its key.
    pub fn charged(&mut self, receipt: &MessageId, reference: &str) -> Result<(), Error> {
        self.conclude(receipt, "charged", reference)
    }

    /// The provider refuses for good: staff must see to it.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn refused(&mut self, receipt: &MessageId, reason: &str) -> Result<(), Error> {
        self.conclude(receipt, "refused", reason)
    }

    fn conclude(&mut self, receipt: &MessageId, state: &str, note: &str) -> Result<(), Error> {
        self.connection
            .execute(
                "UPDATE payments SET state = ?2, note = ?3, attempts = attempts + 1
                 WHERE receipt = ?1 AND state = 'waiting'",
                params![receipt.0, state, note],
            )
            .map(|_| ())
            .map_err(|source| Error::access(&self.path, "conclude a payment", source))
    }

    /// No answer from the provider: try again from `due` on.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn postpone(&mut self, receipt: &MessageId, due: Instant, reason: &str) -> Result<(), Error> {
        self.connection
            .execute(
                "UPDATE payments SET due = ?2, note = ?3, attempts = attempts + 1
                 WHERE receipt = ?1 AND state = 'waiting'",
                params![receipt.0, due.0 as i64, reason],
            )
            .map(|_| ())
            .map_err(|source| Error::access(&self.path, "postpone a payment", source))
    }

    /// How the payments stand.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn payment_counts(&self) -> Result<PaymentCounts, Error> {
        self.connection
            .query_row(
                "SELECT count(*) FILTER (WHERE state = 'waiting'),
                        count(*) FILTER (WHERE state = 'waiting' AND attempts > 0),
                        count(*) FILTER (WHERE state = 'charged'),
                        count(*) FILTER (WHERE state = 'refused') FROM payments",
                [],
                |row| {
                    let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
                    Ok(PaymentCounts {
                        waiting: count(0)?,
                        retried: count(1)?,
                        charged: count(2)?,
                        refused: count(3)?,
                    })
                },
            )
            .map_err(|source| Error::access(&self.path, "count the payments", source))
    }
}

/// Receipt, member, minor units, currency, attempts.
type PaymentRow = (String, String, i64, String, u32);

fn read_row(row: &Row<'_>) -> rusqlite::Result<PaymentRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}
