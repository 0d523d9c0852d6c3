//! What happens before any service of ours starts, at every boot: identity and state mounted (made at the first one),
//! the provisioning file taken, and everybody told what the box is. Whatever fails of it, the gate starts as far as it
//! can, and the screen says why.

use std::fs;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use engine::message::{BootState, BoxView};
use osimage::slots::State;
use serde::{Deserialize, Serialize};

use crate::backend::Boot;
use crate::boots::{self, Boot as Noted, Stage, Trail};
use crate::files;
use crate::place::{Place, partition};
use crate::provisioning::{self, Choice};
use crate::slot::{Running, running};
use crate::stick;
use crate::volumes;

/// udev has the disk's partitions after this long, or they are not there.
const DEVICES_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What the caretaker says of the box: `/run/stile/boot.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// What is on the bus too.
    #[serde(flatten)]
    pub view: BoxView,
    /// Whether this boot is a trial.
    pub trial: bool,
    /// Whether the state lies encrypted on its medium.
    pub encrypted: bool,
}

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// IMAGE_VERSION.
    pub version: String,
    /// Its keys are everybody's.
    pub development_keys: bool,
}

impl Release {
    /// Reads an `os-release`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.trim().split_once('='));
            let found =
                lines.filter(|(name, _)| *name == key).map(|it| it.1.trim_matches(['"', '\''])).next_back();
            found.unwrap_or_default().to_owned()
        };
        Self {
            version: value("IMAGE_VERSION"),
            development_keys: value("VARIANT").contains("development keys"),
        }
    }

    /// That of the image that runs.
    #[must_use]
    pub fn here(place: &Place) -> Self {
        let text =
            files::text(&place.at("/etc/os-release")).or(files::text(&place.at("/usr/lib/os-release")));
        Self::parse(&text.unwrap_or_default())
    }
}

/// Everything before services start.
///
/// # Errors
/// Only when others cannot be told; everything else is among the troubles that they are told.
pub fn run(place: &Place) -> Result<()> {
    let mut troubles = Vec::new();
    let trouble = |troubles: &mut Vec<String>, error: &anyhow::Error| {
        let text = format!("{error:#}");
        tracing::error!("{text}");
        troubles.push(text);
    };
    let running = running(place).map_err(anyhow::Error::new).inspect_err(|e| trouble(&mut troubles, e)).ok();
    let release = Release::here(place);
    await_devices(place);

    let identity = volumes::open_identity(place).inspect_err(|e| trouble(&mut troubles, e)).is_ok();
    let last_words = boots::last_words(place);
    let trial = running.is_some_and(|running| is_trial(place, running));
    let mut before = None;
    if identity {
        before = begin(place, running, &release, trial).unwrap_or_else(|error| {
            trouble(&mut troubles, &error);
            None
        });
    }

    let mut encrypted = false;
    let opened = if identity { volumes::open_state(place) } else { no_state() };
    match opened {
        Ok(opened) => {
            encrypted = opened.encrypted;
            boots::reached(place, Stage::State);
            if let Some(before) = before
                && let Err(error) = boots::log(place, &before)
            {
                trouble(&mut troubles, &error.into());
            }
        }
        Err(error) => {
            trouble(&mut troubles, &error.context("what is kept now is lost with the power"));
            boots::failed(place, troubles.last().map_or("no state", String::as_str));
            volumes::state_in_memory(place).unwrap_or_else(|error| trouble(&mut troubles, &error));
        }
    }

    let choice = provisioning::take(place, &stick::provisioning_files(place), identity);
    match provision(place, &choice) {
        Ok(()) => boots::reached(place, Stage::Provisioned),
        Err(error) => trouble(&mut troubles, &error),
    }
    let work = place.at("/run/caretaker");
    if let Some(words) = last_words {
        files::replace(&work.join("last-words"), words.as_bytes(), 0o600)?;
    }
    if let Some(running) = running {
        // RAUC would guess it from the root device, which is a mapping here.
        let text = format!("STILE_SLOT={}\n", running.slot);
        files::replace(&work.join("rauc.env"), text.as_bytes(), 0o644)?;
    }
    let view = BoxView { troubles, ..view(place, running, &release, &choice, trial) };
    tell(place, &Told { view, trial, encrypted })
}

fn no_state() -> Result<volumes::Opened> {
    anyhow::bail!("without identity nobody knows whether the state may be touched")
}

/// Writes what is said of the box.
///
/// # Errors
/// Names the file.
pub fn tell(place: &Place, told: &Told) -> Result<()> {
    let text = serde_json::to_string(told).context("boot.json cannot be written")?;
    Ok(files::replace(&place.told("boot.json"), text.as_bytes(), 0o644)?)
}

/// What was said of the box.
#[must_use]
pub fn told(place: &Place) -> Told {
    let text = files::text(&place.told("boot.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn await_devices(place: &Place) {
    let since = Instant::now();
    let there = || [partition::IDENTITY, partition::STATE].iter().all(|name| place.partition(name).is_some());
    while place.is_here() && !there() && since.elapsed() < DEVICES_MAX {
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether the slot that runs has still to prove itself.
fn is_trial(place: &Place, running: Running) -> bool {
    match running.entry {
        Some(entry) => entry.counter.is_some(),
        None => Boot::open(place).and_then(|boot| boot.state(running.slot)).is_ok_and(|it| it != State::Good),
    }
}

/// Begins the trail of this boot; returns the boot before.
fn begin(place: &Place, running: Option<Running>, release: &Release, trial: bool) -> Result<Option<Noted>> {
    let id = files::text(&place.at("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let mut trail = Trail::load(place);
    let before = trail.begin(Noted {
        boot: id.trim().to_owned(),
        at: now_ms(),
        slot: running.map(|running| running.slot.to_string()).unwrap_or_default(),
        version: release.version.clone(),
        generation: running.and_then(|running| running.entry).map_or(0, |entry| entry.generation),
        trial,
        ..Noted::default()
    });
    trail.keep(place)?;
    Ok(before)
}

/// Milliseconds since 1970 by the clock of the system.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn provision(place: &Place, choice: &Choice) -> Result<()> {
    for folder in ["services", "mosquitto.d"] {
        let path = place.told(folder);
        files::to("make the folder", &path, fs::create_dir_all(&path))?;
    }
    let Some(accepted) = &choice.accepted else { return Ok(()) };
    let provision = &accepted.provision;
    let base = provisioning::base(place, provision)?;
    provisioning::tell(place, &provisioning::told(provision, &base)?)?;
    if place.is_here() {
        rustix::system::sethostname(provision.target.name.as_bytes())
            .map_err(io::Error::from)
            .context("the host name cannot be set")?;
    }
    Ok(())
}

fn view(place: &Place, running: Option<Running>, release: &Release, choice: &Choice, trial: bool) -> BoxView {
    let provision = choice.accepted.as_ref().map(|accepted| &accepted.provision);
    BoxView {
        name: provision.map(|it| it.target.name.clone()).unwrap_or_default(),
        store: provision.map(|it| it.store.clone()).unwrap_or_default(),
        role: provision.map(|it| it.role.to_string()).unwrap_or_default(),
        serial: provisioning::serial(place),
        version: release.version.clone(),
        slot: running.map(|running| running.slot.to_string()).unwrap_or_default(),
        generation: running.and_then(|running| running.entry).map_or(0, |entry| entry.generation.into()),
        boot: match running {
            None => BootState::Unknown,
            Some(_) if trial => BootState::Trial,
            Some(_) => BootState::Good,
        },
        stage: Trail::load(place).newest().map_or("nothing mounted", |boot| boot.stage.words()).to_owned(),
        development_keys: release.development_keys,
        rollback: boots::returned(place).map(|returned| returned.rollback),
        provisioning: choice.told.clone(),
        at: engine::time::Instant(now_ms()),
        ..BoxView::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        let text = "NAME=Stile\nIMAGE_VERSION=1.2.3\nVARIANT=\"stile, development keys\"\n";
        let release = Release::parse(text);
        assert_eq!((release.version.as_str(), release.development_keys), ("1.2.3", true));
        assert_eq!(Release::parse(""), Release::default());
    }

    proptest::proptest! {
        #[test]
        fn any_release(text in "\\PC{0,60}", value in "['\"]?\\PC{0,20}['\"]?") {
            let _ = Release::parse(&text);
            let _ = Release::parse(&format!("IMAGE_VERSION={value}\nVARIANT={text}"));
        }
    }

    /// A box whose disk is gone: everybody is told, and nothing is made up.
    #[test]
    fn without_a_disk_the_box_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        run(&place).unwrap();
        let told = told(&place);
        assert_eq!(told.view.boot, BootState::Unknown);
        let troubles = told.view.troubles.join("\n");
        for says in ["cannot tell which slot runs", "no partition identity", "lost with the power"] {
            assert!(troubles.contains(says), "{says} in {troubles}");
        }
        assert!(place.told("services").exists());
        assert!(!place.told("manifest.toml").exists());
    }
}
