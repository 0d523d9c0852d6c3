//! What became of boots and updates, for people and as JSON; and everything a helper far away needs, as one file.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use osimage::slots::Slot;
use serde::{Deserialize, Serialize};

use crate::backend::Boot;
use crate::boots::{self, Boot as Noted, Returned, Trail};
use crate::files::to;
use crate::first_boot::{self, Told, now_ms};
use crate::place::Place;

/// Journal lines in a support file.
const JOURNAL_LINES: &str = "5000";

/// All that is known.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// What the box is now.
    pub now: Told,
    /// State of slot a and b, in words; empty where the boot choice cannot be read.
    pub slots: Vec<String>,
    /// The firmware starts only what is signed with keys that it knows.
    pub secure_boot: bool,
    /// The last return to another slot.
    pub rollback: Option<Returned>,
    /// The newest boots, oldest first; the last one runs.
    pub boots: Vec<Noted>,
}

/// Gathers it.
#[must_use]
pub fn gather(place: &Place) -> Why {
    let slots = Boot::open(place).and_then(|boot| {
        Slot::ALL
            .into_iter()
            .map(|slot| Ok(format!("{slot}: {}", boot.state(slot)?)))
            .collect::<Result<Vec<_>>>()
    });
    let trail = Trail::load(place);
    // The log goes back further than the trail; the trail has what the log has not.
    let mut all = boots::logged(place);
    all.retain(|boot| !trail.boots.iter().any(|known| known.boot == boot.boot));
    all.extend(trail.boots);
    Why {
        now: first_boot::told(place),
        slots: slots.unwrap_or_default(),
        secure_boot: secure_boot(place),
        rollback: boots::returned(place),
        boots: all,
    }
}

/// UEFI specification 2.10, section 3.3: the variable `SecureBoot` of the global vendor is 1 while it is enforced.
/// Linux puts four bytes of attributes before a variable's value.
fn secure_boot(place: &Place) -> bool {
    let path = place.at("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
    std::fs::read(path).is_ok_and(|variable| variable.get(4) == Some(&1))
}

/// For people.
///
/// # Errors
/// When it cannot be written.
pub fn print(why: &Why, out: &mut impl Write) -> io::Result<()> {
    let Told { view, trial, encrypted } = &why.now;
    let state = if *trial { "on trial" } else { "proven" };
    writeln!(out, "version {} runs from slot {} ({state}); {}", view.version, view.slot, view.stage)?;
    for slot in &why.slots {
        writeln!(out, "slot {slot}")?;
    }
    let state = match (encrypted, why.secure_boot) {
        (false, _) => "the state is not encrypted",
        (true, true) => "the state is encrypted",
        // The TPM looks at what Secure Boot has checked; without it, it sees no difference.
        (true, false) => {
            "the state is encrypted; Secure Boot is off, so any system started on this board opens it"
        }
    };
    writeln!(out, "{state}")?;
    for trouble in &view.troubles {
        writeln!(out, "trouble: {trouble}")?;
    }
    match &why.rollback {
        None => writeln!(out, "it never went back to its other slot")?,
        Some(Returned { rollback, .. }) => {
            writeln!(
                out,
                "it went back from slot {} ({}): {}",
                rollback.from_slot,
                at(rollback.at.0),
                rollback.reason
            )?;
        }
    }
    writeln!(out, "boots, newest first:")?;
    for boot in why.boots.iter().rev() {
        let Noted { version, slot, stage, trial, failure, .. } = boot;
        let trial = if *trial { ", trial" } else { "" };
        write!(out, "  {}  slot {slot}  version {version}{trial}: {}", at(boot.at), stage.words())?;
        match failure {
            Some(failure) => writeln!(out, "; {failure}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// A time for people.
pub(crate) fn at(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "?".to_owned(), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Writes the support file; returns where. Nothing secret is in it: not whom the gate admits, not the broker's
/// password, no key.
///
/// # Errors
/// Names the file.
pub fn support(place: &Place, folder: Option<PathBuf>) -> Result<PathBuf> {
    let folder = folder.unwrap_or_else(|| place.at("/var/lib/stile/support"));
    to("make the folder", &folder, std::fs::create_dir_all(&folder))?;
    let told = first_boot::told(place).view;
    let name = if told.name.is_empty() { told.serial } else { told.name };
    let path = folder.join(format!("stile-support-{name}-{}.tar.zst", now_ms() / 1000));
    let file = to("write", &path, File::create(&path))?;
    let packed = zstd::Encoder::new(file, 3).context("cannot compress")?;
    let mut archive = tar::Builder::new(packed);
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(now_ms() / 1000);
        to("write", &path, archive.append_data(&mut header, format!("stile-support/{name}"), bytes))
    };
    let why = gather(place);
    let mut text = Vec::new();
    print(&why, &mut text)?;
    add("why.txt", &text)?;
    add("why.json", &serde_json::to_vec_pretty(&why).context("cannot be written")?)?;
    for path in ["/etc/os-release", "/proc/cmdline", "/proc/meminfo", "/proc/self/mounts", "/proc/uptime"] {
        if let Some(text) = crate::files::text(&place.at(path)) {
            add(path.rsplit('/').next().unwrap_or(path), text.as_bytes())?;
        }
    }
    if let Some(manifest) = crate::files::text(&place.told("manifest.toml")) {
        add("manifest.toml", without_secrets(&manifest).as_bytes())?;
    }
    if place.is_here() {
        for (name, program, arguments) in [
            ("journal.txt", "journalctl", &["--no-pager", "-o", "short-precise", "-n", JOURNAL_LINES][..]),
            (
                "journal-kept.txt",
                "journalctl",
                &["--namespace=stile", "--no-pager", "-o", "short-precise", "-n", JOURNAL_LINES],
            ),
            ("units.txt", "systemctl", &["--no-pager", "--all", "list-units"]),
            ("failed.txt", "systemctl", &["--no-pager", "status", "--failed"]),
            ("rauc.txt", "rauc", &["status", "--detailed"]),
        ] {
            // What cannot be asked is said instead.
            let said = match Command::new(program).args(arguments).output() {
                Ok(output) => [output.stdout, output.stderr].concat(),
                Err(error) => format!("cannot run {program}: {error}").into_bytes(),
            };
            add(name, &said)?;
        }
    }
    let packed = to("write", &path, archive.into_inner())?;
    let file = to("write", &path, packed.finish())?;
    to("flush", &path, file.sync_all())?;
    Ok(path)
}

/// A manifest without what opens something.
fn without_secrets(manifest: &str) -> String {
    let secret = ["token", "password", "technician_code", "key", "phone_issuer"];
    let is_secret = |line: &str| {
        line.split_once('=').is_some_and(|(key, _)| secret.iter().any(|it| key.trim().ends_with(it)))
    };
    manifest.lines().filter(|line| !is_secret(line)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use engine::message::Rollback;

    use super::*;

    #[test]
    fn told_and_packed() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        let reason = "version 7 was tried 3 times and never became healthy: it got as far as 'state mounted'";
        let rollback =
            Rollback { from_slot: "b".to_owned(), reason: reason.to_owned(), ..Rollback::default() };
        boots::keep_returned(&place, &Returned { rollback, generation: 3, tries: 3 }).unwrap();
        boots::log(&place, &Noted { boot: "1".to_owned(), version: "5".to_owned(), ..Noted::default() })
            .unwrap();
        let mut trail = Trail::default();
        trail.begin(Noted { boot: "1".to_owned(), version: "6".to_owned(), ..Noted::default() });
        trail.begin(Noted { boot: "2".to_owned(), failure: Some("no lane".to_owned()), ..Noted::default() });
        trail.keep(&place).unwrap();
        let why = gather(&place);
        assert_eq!(why.boots.iter().map(|boot| boot.boot.as_str()).collect::<Vec<_>>(), ["1", "2"]);
        let mut text = Vec::new();
        print(&why, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for says in [reason, "from slot b", "no lane", "version 6"] {
            assert!(text.contains(says), "{says} in {text}");
        }
        let json: Why = serde_json::from_str(&serde_json::to_string(&why).unwrap()).unwrap();
        assert_eq!(json, why);
        let manifest = "name = \"x\"\n[screen]\ntechnician_code = \"1234\"\n[console]\ntoken = \"t0p\"\n";
        crate::files::replace(&place.told("manifest.toml"), manifest.as_bytes(), 0o644).unwrap();
        let path = support(&place, None).unwrap();
        let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(path).unwrap()).unwrap());
        let mut found = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.insert(name, text);
        }
        assert_eq!(found["stile-support/manifest.toml"], "name = \"x\"\n[screen]\n[console]\n");
        assert!(found["stile-support/why.txt"].contains(reason));
    }
}
