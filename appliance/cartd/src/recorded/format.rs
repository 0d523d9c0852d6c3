//! The AutoCheckout files as records: JSON lines as MongoDB exports them, fields of value zero left out.

use std::path::Path;

use base64::Engine as _;
use engine::time::Instant;
use serde::{Deserialize, Deserializer};

use super::Error;

#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) t_origin: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PlateRecord {
    pub(super) timestamp: Option<Number>,
    pub(super) document: PlateDocument,
}

#[derive(Deserialize)]
pub(super) struct PlateDocument {
    pub(super) header: Option<Header>,
    pub(super) plate_data: PlateData,
}

#[derive(Deserialize)]
pub(super) struct PlateData {
    #[serde(default)]
    pub(super) plate_id: PlateName,
    pub(super) freq_samp: Option<Number>,
    pub(super) values: Values,
}

#[derive(Deserialize)]
pub(super) struct Values {
    pub(super) data: Bytes,
    pub(super) shape: Vec<Number>,
}

#[derive(Default, Deserialize)]
pub(super) struct PlateName {
    #[serde(default)]
    pub(super) shelf_id: ShelfName,
    #[serde(default)]
    pub(super) plate_index: Number,
}

#[derive(Default, Deserialize)]
pub(super) struct ShelfName {
    #[serde(default)]
    pub(super) gondola_id: GondolaName,
    #[serde(default)]
    pub(super) shelf_index: Number,
}

#[derive(Default, Deserialize)]
pub(super) struct GondolaName {
    #[serde(default)]
    pub(super) id: Number,
}

#[derive(Deserialize)]
pub(super) struct PlanogramRecord {
    #[serde(default)]
    pub(super) plate_ids: Vec<PlateName>,
    #[serde(default)]
    pub(super) planogram_product_id: ProductName,
    pub(super) global_coordinates: Option<Coordinates>,
}

#[derive(Default, Deserialize)]
pub(super) struct ProductName {
    #[serde(default)]
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct Coordinates {
    #[serde(default)]
    pub(super) transform: Transform,
    #[serde(default)]
    pub(super) dim_x: Number,
    #[serde(default)]
    pub(super) dim_y: Number,
}

#[derive(Default, Deserialize)]
pub(super) struct Transform {
    #[serde(default)]
    pub(super) translation: Point,
    #[serde(default)]
    pub(super) rotation: Point,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Point {
    pub(super) x: Number,
    pub(super) y: Number,
    pub(super) z: Number,
}

#[derive(Deserialize)]
pub(super) struct ProductRecord {
    pub(super) product_id: ProductName,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) price: Number,
    pub(super) weight: Number,
}

#[derive(Deserialize)]
pub(super) struct TargetsRecord {
    pub(super) timestamp: Option<Number>,
    pub(super) document: TargetsDocument,
}

#[derive(Deserialize)]
pub(super) struct TargetsDocument {
    pub(super) header: Option<Header>,
    #[serde(default)]
    pub(super) targets: Targets,
}

#[derive(Default, Deserialize)]
pub(super) struct Targets {
    #[serde(default)]
    pub(super) targets: Vec<Target>,
}

#[derive(Deserialize)]
pub(super) struct Target {
    pub(super) target_id: TargetName,
    pub(super) head: Option<KeyPoint>,
    pub(super) neck: Option<KeyPoint>,
    pub(super) l_shoulder: Option<KeyPoint>,
    pub(super) r_shoulder: Option<KeyPoint>,
    pub(super) l_wrist: Option<KeyPoint>,
    pub(super) r_wrist: Option<KeyPoint>,
}

#[derive(Deserialize)]
pub(super) struct TargetName {
    pub(super) id: Text,
}

#[derive(Deserialize)]
pub(super) struct KeyPoint {
    pub(super) point: Option<Point>,
    pub(super) score: Option<Number>,
}

/// A number as JSON or as MongoDB's extended JSON writes it; null is NaN.
#[derive(Clone, Copy, Default)]
pub(super) struct Number(pub(super) f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_object().and_then(|object| match object.iter().next() {
            Some((key, value)) if object.len() == 1 && key.starts_with("$number") => value.as_str(),
            Some(_) | None => None,
        });
        match (&value, text) {
            (serde_json::Value::Null, _) => Ok(Self(f64::NAN)),
            (serde_json::Value::Number(number), _) => Ok(Self(number.as_f64().unwrap_or(f64::NAN))),
            (_, Some(text)) => {
                text.parse().map(Self).map_err(|_| D::Error::custom(format!("{text:?} is not a number")))
            }
            _ => Err(D::Error::custom(format!("{value} is not a number"))),
        }
    }
}

impl Number {
    /// A count or index; `None` when negative, fractional or too large.
    pub(super) fn index(self) -> Option<u16> {
        (self.0 >= 0.0 && self.0 <= f64::from(u16::MAX) && self.0.fract() == 0.0).then_some(self.0 as u16)
    }
}

/// An id as text, whether it was written as text or as a number.
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            serde_json::Value::Object(object) => match object.iter().next() {
                Some((key, serde_json::Value::String(text))) if key.starts_with("$number") => {
                    Ok(Self(text.clone()))
                }
                _ => Err(D::Error::custom("an object is not an id")),
            },
            value => Err(D::Error::custom(format!("{value} is not an id"))),
        }
    }
}

/// Base64 as text or as MongoDB's `$binary`.
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        let binary = value.get("$binary");
        let text = [Some(&value), binary, binary.and_then(|binary| binary.get("base64"))];
        let text = text.into_iter().flatten().find_map(serde_json::Value::as_str);
        let text = text.ok_or_else(|| D::Error::custom("not base64 text"))?;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}

/// The records of a file of JSON lines, with their line numbers.
pub(super) fn records<T: for<'de> Deserialize<'de>>(
    file: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<(usize, T)>, Error> {
    let bytes = std::fs::read(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        // An export as one array has brackets and commas about its lines.
        let line = line.trim().trim_start_matches('[').trim_end_matches(']').trim_end_matches(',').trim();
        if line.is_empty() {
            continue;
        }
        let parsed = parse(line).or_else(|error| parse(&without_nan(line)).map_err(|_| error));
        match parsed {
            Ok(record) => out.push((index + 1, record)),
            Err((_, source)) if index + 1 == lines.len() && source.is_eof() => {
                let name = file.file_name().unwrap_or_default().display();
                warnings.push(format!("{name} line {}: cut off, left out", index + 1));
            }
            Err((field, source)) => {
                return Err(Error::Record { file: file.to_owned(), line: index + 1, field, source });
            }
        }
    }
    if out.is_empty() { Err(Error::Empty { file: file.to_owned() }) } else { Ok(out) }
}

pub(super) fn parse<T: for<'de> Deserialize<'de>>(line: &str) -> Result<T, (String, serde_json::Error)> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| (error.path().to_string(), error.into_inner()))
}

/// Replaces the bare words NaN and Infinity, which some exporters write, by null. Text in quotes stays.
pub(super) fn without_nan(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let word =
            ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        quoted ^= first == '"' && !escaped;
        escaped = quoted && first == '\\' && !escaped;
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// The time of a record: its origin, else the time when it was stored.
pub(super) fn time(header: Option<&Header>, stored: Option<Number>) -> Option<Instant> {
    let origin = header.and_then(|header| header.t_origin.as_deref()).and_then(rfc3339);
    let stored =
        || stored.filter(|number| number.0 > 0.0).map(|number| Instant((number.0 * 1000.0).round() as u64));
    origin.or_else(stored)
}

/// `2020-04-22T05:06:36.859Z` in UTC, with any number of decimals.
pub(super) fn rfc3339(text: &str) -> Option<Instant> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (date, time) = text.split_once('T')?;
    let date: Vec<i64> = date.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[year, month, day] = date.as_slice() else { return None };
    let mut time = time.split(':');
    let (hour, minute, second) = (time.next()?, time.next()?, time.next()?);
    let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.parse().ok()?);
    let second: f64 = second.parse().ok()?;
    let plain = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !plain || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..61.0).contains(&second) {
        return None;
    }
    // Days of the civil calendar, counted in years that begin in March.
    let (shifted, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * shifted + 2) / 5 + day - 1 - 719_468;
    let milliseconds = (days * 86_400 + hour * 3600 + minute * 60) as f64 * 1000.0 + second * 1000.0;
    Some(Instant(milliseconds.round() as u64))
}
