//! Payment: one charge a receipt, asked for again until the provider has answered.
//!
//! The receipt's id is the idempotency key. A kill between the provider's answer and the ledger's note of it
//! means that the same key is sent again; a provider must answer a known key as it did before and charge
//! nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::time::Millis;
use engine::units::{MemberHandle, MessageId, Money};

/// First pause after a failed attempt.
const RETRY_MIN: Millis = Millis(2_000);

/// Longest pause between attempts; attempts do not end, since the goods are out of the store.
const RETRY_MAX: Millis = Millis(300_000);

/// What to charge.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// The receipt, also the idempotency key.
    pub receipt: MessageId,
    /// Whom.
    pub member: MemberHandle,
    /// How much, above zero.
    pub amount: Money,
}

/// Why a charge was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or a passing trouble: nobody knows whether it was charged. Ask again with the same key.
    #[error("the payment provider does not answer")]
    Unanswered(#[source] Option<io::Error>),
    /// The provider will not charge this, now or later.
    #[error("the payment provider refuses: {0}")]
    Refused(String),
}

/// A payment provider.
pub trait Payment: Send {
    /// Charges once for each receipt, whatever number of times it is asked. Returns the provider's reference.
    ///
    /// # Errors
    /// [`Error::Unanswered`] may hide a charge that was made; the same key finds out.
    fn charge(&mut self, charge: &Charge) -> impl Future<Output = Result<String, Error>> + Send;
}

/// The providers that cartd knows. Real ones come with a later issue.
#[derive(Clone)]
pub enum Provider {
    /// None: receipts wait in the queue until there is one.
    None,
    /// The recording simulator.
    Recorder(Recorder),
}

impl Payment for Provider {
    async fn charge(&mut self, charge: &Charge) -> Result<String, Error> {
        match self {
            Self::None => Err(Error::Unanswered(None)),
            Self::Recorder(recorder) => recorder.charge(charge).await,
        }
    }
}

/// A provider that charges nobody and writes down what it would have charged. Clones share the record.
#[derive(Clone, Default)]
pub struct Recorder {
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    charges: BTreeMap<MessageId, Charge>,
    attempts: u64,
    /// Attempts that get no answer: `true` for those that are charged nevertheless.
    silent: Vec<bool>,
    refuse: Option<String>,
    file: Option<File>,
}

impl Recorder {
    /// A record in a file, one line a charge, that outlives the process as a real provider does.
    ///
    /// # Errors
    /// When the file cannot be opened or holds something else.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        let text = if path.exists() { std::fs::read_to_string(path)? } else { String::new() };
        let mut charges = BTreeMap::new();
        for line in text.lines() {
            let charge = parse(line).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is not a charge"))
            })?;
            charges.insert(charge.receipt.clone(), charge);
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let record = Record { charges, file: Some(file), ..Record::default() };
        Ok(Self { record: Arc::new(Mutex::new(record)) })
    }

    /// Everything charged, by receipt.
    #[must_use]
    pub fn charges(&self) -> Vec<Charge> {
        self.record().charges.values().cloned().collect()
    }

    /// Attempts so far, repeated ones included.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.record().attempts
    }

    /// The next attempts get no answer; each is charged nevertheless where it says `true`.
    pub fn silence(&self, attempts: &[bool]) {
        self.record().silent = attempts.to_vec();
    }

    /// Refuses new charges with this reason, or no longer.
    pub fn refuse(&self, reason: Option<&str>) {
        self.record().refuse = reason.map(str::to_owned);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Payment for Recorder {
    async fn charge(&mut self, charge: &Charge) -> Result<String, Error> {
        let mut record = self.record();
        record.attempts += 1;
        let silent = if record.silent.is_empty() { None } else { Some(record.silent.remove(0)) };
        if silent == Some(false) {
            return Err(Error::Unanswered(None));
        }
        if !record.charges.contains_key(&charge.receipt) {
            if let Some(reason) = &record.refuse {
                return Err(Error::Refused(reason.clone()));
            }
            record.write(charge).map_err(|source| Error::Unanswered(Some(source)))?;
        }
        if silent == Some(true) {
            return Err(Error::Unanswered(None));
        }
        Ok(format!("recorded-{}", charge.receipt))
    }
}

impl Record {
    fn write(&mut self, charge: &Charge) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let line = format!(
                "{}\t{}\t{}\t{}\n",
                charge.receipt,
                charge.member,
                charge.amount.minor,
                charge.amount.currency.as_str()
            );
            file.write_all(line.as_bytes())?;
            file.sync_data()?;
        }
        self.charges.insert(charge.receipt.clone(), charge.clone());
        Ok(())
    }
}

fn parse(line: &str) -> Option<Charge> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[receipt, member, minor, currency] = fields.as_slice() else { return None };
    Some(Charge {
        receipt: MessageId(receipt.to_owned()),
        member: MemberHandle(u64::from_str_radix(member, 16).ok()?),
        amount: Money { minor: minor.parse().ok()?, currency: currency.to_owned().try_into().ok()? },
    })
}

/// Pause before the next attempt: doubled each time, from two seconds to five minutes.
#[must_use]
pub fn retry_after(attempts: u32) -> Millis {
    let doubled = RETRY_MIN.0.saturating_mul(1 << attempts.min(16));
    Millis(doubled.min(RETRY_MAX.0))
}
