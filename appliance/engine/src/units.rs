//! Newtypes for what the store counts: mass, money and the names of things.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Mass in tenths of a gram, signed: a pick-up is a negative change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mass(pub i64);

impl Mass {
    /// From grams, rounded to the nearest tenth.
    #[must_use]
    pub fn from_grams(grams: f64) -> Self {
        Self((grams * 10.0).round() as i64)
    }

    /// In grams.
    #[must_use]
    pub fn grams(self) -> f64 {
        self.0 as f64 / 10.0
    }
}

/// An amount of money in minor units (cents; won have none) of an ISO 4217 currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units; negative for a refund.
    pub minor: i64,
    /// ISO 4217 alphabetic code.
    pub currency: Currency,
}

/// An ISO 4217 alphabetic currency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// A currency code that is not three capital letters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("currency {0:?} is not three capital letters of ISO 4217")]
pub struct BadCurrency(pub String);

impl Currency {
    /// South Korean won, no minor unit.
    pub const KRW: Self = Self(*b"KRW");
    /// Euro, two decimals.
    pub const EUR: Self = Self(*b"EUR");
    /// US dollar, two decimals.
    pub const USD: Self = Self(*b"USD");

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// Decimals of the minor unit, as ISO 4217 lists them (the few currencies without are named).
    #[must_use]
    pub fn decimals(&self) -> u32 {
        match &self.0 {
            b"KRW" | b"JPY" | b"VND" | b"CLP" | b"ISK" => 0,
            _ => 2,
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = BadCurrency;
    fn try_from(text: String) -> Result<Self, BadCurrency> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(BadCurrency(text)),
        }
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Money {
    /// `1234 KRW`, `12.34 EUR`: plain digits; screens format by language.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.currency.decimals();
        let scale = 10_i64.pow(decimals);
        let sign = if self.minor < 0 { "-" } else { "" };
        let minor = self.minor.unsigned_abs();
        let scale = scale.unsigned_abs();
        if decimals == 0 {
            write!(f, "{sign}{minor} {}", self.currency.as_str())
        } else {
            write!(f, "{sign}{}.{:02} {}", minor / scale, minor % scale, self.currency.as_str())
        }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_id! {
    /// A product: its GTIN as digits, or the operator's own number for goods without one.
    ProductId
}
text_id! {
    /// A shopper's visit, from the entry passage to the settled receipt. Unique for ever in one store.
    SessionId
}
text_id! {
    /// A message that must not be lost: `source/number`, unique for ever. Receivers drop what they have seen.
    MessageId
}
text_id! {
    /// A gate lane, as the manifest names it ("entry-1").
    LaneId
}
number_id! {
    /// A ceiling camera, as the manifest numbers it.
    CameraId(u16)
}
number_id! {
    /// A person followed on the floor, unique since the start of the tracker.
    TrackId(u64)
}

/// A load-cell plate: gondola, shelf on it, plate on that, counted from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlateId {
    /// Shelf unit.
    pub gondola: u16,
    /// Shelf of the unit, from the bottom.
    pub shelf: u16,
    /// Plate of the shelf, from the left.
    pub plate: u16,
}

/// A plate name that is not `gondola-shelf-plate`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plate {0:?} is not of the form gondola-shelf-plate, three numbers")]
pub struct BadPlateId(pub String);

impl fmt::Display for PlateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.gondola, self.shelf, self.plate)
    }
}

impl From<PlateId> for String {
    fn from(plate: PlateId) -> Self {
        plate.to_string()
    }
}

impl TryFrom<String> for PlateId {
    type Error = BadPlateId;
    fn try_from(text: String) -> Result<Self, BadPlateId> {
        let numbers: Option<Vec<u16>> = text.split('-').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[gondola, shelf, plate]) => Ok(Self { gondola, shelf, plate }),
            _ => Err(BadPlateId(text)),
        }
    }
}

/// A member's pseudonym from the entry code: random, new with each certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberHandle(pub u64);

impl fmt::Debug for MemberHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberHandle({:016x})", self.0)
    }
}

impl fmt::Display for MemberHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
