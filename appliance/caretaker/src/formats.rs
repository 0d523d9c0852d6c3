//! Which forms of kept files a version reads, so that the way back stays open: a version that is being tried is not
//! marked good while the one before could not read what it wrote.
//!
//! A file's number is its `user_version` in SQLite's header: generation × 1,000 + step. A step only adds, and every
//! version of a generation reads it. The rule for whoever begins a new generation: the first version that reads it
//! still writes the old one; the next writes the new one. What no version ever reads back is not listed.

use std::collections::BTreeMap;
use std::path::Path;

use osimage::slots::Slot;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::place::Place;

/// Databases below `/var/lib/stile`, and the oldest and newest form of each that this version reads.
const READS: [(&str, i64, i64); 2] = [("cartd/ledger.db", 0, 999), ("gated/gated.db", 0, 999)];
const FILE: &str = "formats.json";

/// What each slot's version said of itself, by the slot's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    slots: BTreeMap<String, Reads>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Reads {
    version: String,
    /// Oldest and newest form, by file.
    reads: BTreeMap<String, (i64, i64)>,
}

/// The numbers of what is kept now, by file; a file that is not there has none.
#[must_use]
pub fn kept(place: &Place) -> BTreeMap<String, i64> {
    let of = |file: &str| number(&place.at("/var/lib/stile").join(file));
    READS.iter().filter_map(|(file, ..)| Some(((*file).to_owned(), of(file)?))).collect()
}

fn number(path: &Path) -> Option<i64> {
    if !path.exists() {
        return None;
    }
    // Not read-only: the number may still be in the write-ahead log.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).ok()?;
    connection.busy_timeout(std::time::Duration::from_secs(2)).ok()?;
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).ok()
}

/// Notes what this version reads, for the next one in the other slot.
///
/// # Errors
/// Names the file.
pub fn note(place: &Place, slot: Slot, version: &str) -> Result<(), files::Error> {
    let mut known = load(place);
    let reads = READS.iter().map(|(file, oldest, newest)| ((*file).to_owned(), (*oldest, *newest))).collect();
    let mine = Reads { version: version.to_owned(), reads };
    if known.slots.get(slot.name()) == Some(&mine) {
        return Ok(());
    }
    known.slots.insert(slot.name().to_owned(), mine);
    let path = place.kept(FILE);
    let text = files::to("write", &path, serde_json::to_string(&known).map_err(std::io::Error::from))?;
    files::replace(&path, text.as_bytes(), 0o644)
}

fn load(place: &Place) -> Known {
    files::text(&place.kept(FILE)).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Why the version in `other` could not read what is kept; `None` when it could, or never said what it reads.
#[must_use]
pub fn closes_the_way_back(place: &Place, other: Slot, kept: &BTreeMap<String, i64>) -> Option<String> {
    let known = load(place);
    let Reads { version, reads } = known.slots.get(other.name())?;
    let unreadable = kept.iter().filter_map(|(file, number)| {
        let (oldest, newest) = reads.get(file)?;
        (!(oldest..=newest).contains(&number)).then(|| {
            let reads = format!("reads {file} of form {oldest} to {newest}");
            format!("version {version} in slot {other} {reads}, and it is {number} now")
        })
    });
    let text = unreadable.collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(place: &Place, file: &str, number: i64) {
        let path = place.at("/var/lib/stile").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "user_version", number).unwrap();
    }

    #[test]
    fn the_one_before_must_read_what_the_new_one_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        assert_eq!(kept(&place), BTreeMap::new());
        // Version 6 ran in a, and noted what it reads.
        made(&place, "cartd/ledger.db", 1);
        note(&place, Slot::A, "6").unwrap();
        assert_eq!(closes_the_way_back(&place, Slot::A, &kept(&place)), None);
        // Version 7 in b leads the ledger up by a step, which closes nothing; then to a generation that version 6 has
        // never heard of.
        made(&place, "cartd/ledger.db", 2);
        assert_eq!(closes_the_way_back(&place, Slot::A, &kept(&place)), None);
        made(&place, "cartd/ledger.db", 1001);
        let why = closes_the_way_back(&place, Slot::A, &kept(&place)).expect("closed");
        assert_eq!(why, "version 6 in slot a reads cartd/ledger.db of form 0 to 999, and it is 1001 now");
        // An N-1 that noted a form of its own time reads an old file, and not today's.
        made(&place, "cartd/ledger.db", 1);
        let old = r#"{"slots":{"a":{"version":"5","reads":{"cartd/ledger.db":[0,0]}}}}"#;
        files::replace(&place.kept(FILE), old.as_bytes(), 0o644).unwrap();
        assert!(closes_the_way_back(&place, Slot::A, &kept(&place)).is_some());
        // Nothing is known of b.
        assert_eq!(closes_the_way_back(&place, Slot::B, &kept(&place)), None);
    }

    /// The numbers above are those of the services.
    #[test]
    fn as_the_services_have_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let schema = files::text(&folder.join("cartd/src/ledger/schema.rs")).expect("the ledger's schema");
        let (_, rest) = schema.split_once("GENERATION: i64 = ").expect("its generation");
        let generation: i64 = rest.split(';').next().unwrap().parse().unwrap();
        assert_eq!(READS[0], ("cartd/ledger.db", 0, generation * 1_000 + 999));
        let keeper = files::text(&folder.join("gated/src/keeper.rs")).expect("the gate's database");
        assert!(!keeper.contains("user_version"), "the gate's database has a form now: list it in READS");
    }
}
