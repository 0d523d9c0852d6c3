//! The health gate: looks at a boot until it is well or its patience ends, marks the slot good, or says why not and
//! restarts into the next try or the other slot.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use engine::message::{BootState, Health, HealthState, topic};
use osimage::slots::{Slot, State};

use crate::backend::Boot;
use crate::boots::{self, Other, Stage, Trail, look_back};
use crate::ears::{Ears, SERVICE, active};
use crate::files;
use crate::first_boot::{self, Release, now_ms};
use crate::formats;
use crate::place::Place;
use crate::slot::running;
use crate::verdict::{self, Baseline, Check, Outcome, Seen, Verdict, checks, judge};
use crate::wave;

/// What a proven version saw; on identity, which is there also where the state is not.
const BASELINE: &str = "baseline.json";
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A version that is not well leaves when its lanes are quiet, or after this long: it may not serve at all.
const FAREWELL: Duration = Duration::from_secs(300);

/// Looks at this boot and acts on it. Returns whether it is well.
///
/// # Errors
/// When the slot cannot be judged or marked; the unit's `OnFailure=` then ends a trial.
pub fn run(place: &Place) -> Result<bool> {
    let slot = running(place)?.slot;
    let (state, other) = look(place, slot)?;
    note_return(place, slot, &other)?;
    let trial = state != State::Good;
    boots::reached(place, Stage::Checking);
    retell(place, |_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        let mut ears = Ears::new(place, "caretaker-health");
        let (last, found) = watch_until_judged(place, &mut ears, slot, trial).await;
        match (&found, trial) {
            (Verdict::Good | Verdict::Wait, true) => {
                mark_good(place, slot)?;
                tracing::info!(%slot, "this version is well: its slot is marked good");
            }
            (Verdict::Good | Verdict::Wait, false) => mend(place, slot),
            (Verdict::Bad { reason, give_up }, true) => {
                tracing::error!(%slot, reason, "this version is not well");
                boots::failed(place, reason);
                retell(place, |_| {});
                farewell(place, &mut ears).await;
                leave(place, slot, *give_up)?;
                return Ok(false);
            }
            // Whatever is broken was proven before: no other version would mend it.
            (Verdict::Bad { reason, .. }, false) => {
                tracing::error!(%slot, reason, "something is broken that worked when this version was marked good");
                boots::failed(place, reason);
                mend(place, slot);
            }
        }
        let well = !matches!(found, Verdict::Bad { .. });
        if well {
            boots::reached(place, Stage::Good);
        }
        // A full state partition must not undo what was proven.
        if let Err(error) = keep(place, slot, &ears, &last) {
            tracing::error!(error = %format!("{error:#}"), "nothing is kept for the next version to compare with");
        }
        retell(place, |told| {
            told.trial = false;
            told.view.boot = BootState::Good;
        });
        // What was published last is on its way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(well)
    })
}

/// Ends a trial that could not be judged; nothing on a proven slot.
///
/// # Errors
/// When the restart cannot be asked for.
pub fn give_up(place: &Place) -> Result<()> {
    let slot = running(place)?.slot;
    let trial = Boot::open(place).and_then(|boot| boot.state(slot)).map_or(
        // The boot choice cannot be read: what the boot said of itself counts.
        first_boot::told(place).trial,
        |state| state != State::Good,
    );
    if !trial {
        return Ok(());
    }
    boots::failed(place, "the health gate itself failed; see the log");
    leave(place, slot, false)
}

/// The states of the slot that runs and of the other.
fn look(place: &Place, slot: Slot) -> Result<(State, Other)> {
    let boot = Boot::open(place)?;
    let other = slot.other();
    let (generation, tries) = boot.generation(other)?;
    let version = boot.release(other).map(|text| Release::parse(&text).version).filter(|it| !it.is_empty());
    Ok((boot.state(slot)?, Other { slot: other, state: boot.state(other)?, version, generation, tries }))
}

/// Keeps, once, why the box came back from the other slot.
fn note_return(place: &Place, slot: Slot, other: &Other) -> Result<()> {
    let mut trail = Trail::load(place);
    let generation = trail.newest().filter(|boot| boot.slot == slot.name()).map_or(0, |boot| boot.generation);
    let panic = files::text(&place.at("/run/caretaker/last-words"));
    let at = engine::time::Instant(now_ms());
    let known = boots::returned(place);
    let Some(back) = look_back(&trail, generation, other, known.as_ref(), panic.as_deref(), at) else {
        return Ok(());
    };
    tracing::error!(reason = back.rollback.reason, "the box went back to slot {slot}");
    boots::keep_returned(place, &back)?;
    retell(place, |told| told.view.rollback = Some(back.rollback.clone()));
    Ok(())
}

async fn watch_until_judged(
    place: &Place,
    ears: &mut Ears,
    slot: Slot,
    trial: bool,
) -> (Vec<Check>, Verdict) {
    let began = Instant::now();
    let mut fine_since: Option<Instant> = None;
    let baseline = baseline(place);
    let expected = ears.expected();
    // Bounded: what was kept changes only while services start.
    let mut formats = None;
    loop {
        ears.listen();
        let running = active(place, &expected.services);
        if trial && formats.is_none() {
            formats = formats::closes_the_way_back(place, slot.other(), &formats::kept(place));
        }
        let seen = Seen { troubles: troubles(place), formats: formats.clone(), ..ears.seen(running) };
        let checks = checks(&expected, baseline.as_ref(), &seen);
        let fine = verdict::missing(&checks).is_empty();
        fine_since = if fine { fine_since.or_else(|| Some(Instant::now())) } else { None };
        let fine_for = fine_since.map_or(Duration::ZERO, |since| since.elapsed());
        publish(ears, &checks);
        match judge(&checks, fine_for, began.elapsed()) {
            Verdict::Wait => tokio::time::sleep(LOOK_AGAIN).await,
            found => return (checks, found),
        }
    }
}

/// Each criterion as health of a device of ours.
fn publish(ears: &Ears, checks: &[Check]) {
    for Check { name, outcome } in checks {
        let (state, detail) = match outcome {
            Outcome::Fine => (HealthState::Up, String::new()),
            Outcome::AsBefore(text) => (HealthState::Degraded, text.clone()),
            Outcome::Missing(text) | Outcome::Never(text) => (HealthState::Down, text.clone()),
        };
        say(ears, name, state, detail);
    }
}

/// Says how something of the caretaker's is.
pub fn say(ears: &Ears, device: &str, state: HealthState, detail: String) {
    let since = engine::time::Instant(now_ms());
    let health = Health { service: SERVICE.to_owned(), device: device.to_owned(), state, since, detail };
    ears.bus.publish_view(&format!("{}/{SERVICE}/{device}", topic::HEALTH), &health);
}

/// What did not hold before services started. A slot that runs and says nothing of it has not got that far.
fn troubles(place: &Place) -> Vec<String> {
    let told = first_boot::told(place);
    if told == first_boot::Told::default() {
        return vec!["the caretaker's first boot did not come to its end".to_owned()];
    }
    told.view.troubles
}

fn baseline(place: &Place) -> Option<Baseline> {
    serde_json::from_str(&files::text(&place.identity(BASELINE))?).ok()
}

/// What the next version is compared with.
fn keep(place: &Place, slot: Slot, ears: &Ears, last: &[Check]) -> Result<()> {
    let version = Release::here(place).version;
    let seen = ears.seen(BTreeSet::new());
    let stopped = last
        .iter()
        .filter(|check| check.outcome != Outcome::Fine)
        .filter_map(|check| check.name.strip_prefix("service-").map(str::to_owned));
    let devices = seen.devices.into_iter().map(|(device, (state, _))| (device, state));
    let devices = devices.filter(|(device, _)| !device.starts_with("caretaker/")).collect();
    let baseline =
        Baseline { version: version.clone(), devices, stopped: stopped.collect(), troubles: troubles(place) };
    let text = serde_json::to_string(&baseline).context("the baseline cannot be written")?;
    files::replace(&place.identity(BASELINE), text.as_bytes(), 0o644)?;
    Ok(formats::note(place, slot, &version)?)
}

/// By RAUC, so that its own records and log have it; by ourselves where RAUC does not answer.
fn mark_good(place: &Place, slot: Slot) -> Result<()> {
    if place.is_here() {
        match crate::volumes::run(Command::new("rauc").args(["status", "mark-good"])) {
            Ok(()) if Boot::open(place)?.state(slot)? == State::Good => return Ok(()),
            Ok(()) => tracing::warn!("RAUC has marked another slot"),
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "marked without RAUC"),
        }
    }
    Boot::open(place)?.prove(slot)
}

/// Brings back what the file system of the boot choice has lost of a proven slot.
fn mend(place: &Place, slot: Slot) {
    if let Err(error) = Boot::open(place).and_then(|boot| boot.prove(slot)) {
        tracing::error!(error = %format!("{error:#}"), "the boot choice is not mended");
    }
}

/// Waits until nobody is at a lane.
async fn farewell(place: &Place, ears: &mut Ears) {
    let began = Instant::now();
    let expected = ears.expected();
    while began.elapsed() < FAREWELL {
        ears.listen();
        let gate_runs = active(place, &expected.services).contains("gated");
        let lanes = ears.lanes(&expected, gate_runs);
        if !gate_runs || (lanes.busy.is_empty() && lanes.quiet_for >= LOOK_AGAIN * 5) {
            return;
        }
        if let wave::Restart::Later(why) = wave::restart(&lanes, None, 0, true) {
            tracing::info!(why, "the restart waits");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Restarts: into the next try, or at once into the other slot.
fn leave(place: &Place, slot: Slot, give_up: bool) -> Result<()> {
    if give_up {
        let given_up = Boot::open(place).and_then(|boot| boot.give_up_or_clear(slot));
        if let Err(error) = given_up {
            tracing::error!(error = %format!("{error:#}"), "the tries that are left are made");
        }
    }
    restart(place, None)
}

/// Restarts the box. `argument` is for the firmware (`0 tryboot`).
///
/// # Errors
/// When systemd refuses.
pub fn restart(place: &Place, argument: Option<&str>) -> Result<()> {
    if !place.is_here() {
        return Ok(());
    }
    let mut command = Command::new("systemctl");
    command.arg("reboot");
    if let Some(argument) = argument {
        command.arg(format!("--reboot-argument={argument}"));
    }
    crate::volumes::run(&mut command).context("cannot restart the box")
}

/// Changes what is told of the box.
pub fn retell(place: &Place, change: impl FnOnce(&mut first_boot::Told)) {
    let mut told = first_boot::told(place);
    if let Some(boot) = Trail::load(place).newest() {
        boot.stage.words().clone_into(&mut told.view.stage);
    }
    change(&mut told);
    if let Err(error) = first_boot::tell(place, &told) {
        tracing::error!(error = %format!("{error:#}"), "boot.json is not what it should be");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A PC whose disk is a folder: slot a is proven, b is being tried or has failed.
    fn pc(folder: &std::path::Path, running: &str, entries: &[&str]) -> Place {
        let place = Place::below(folder);
        let put = |path: &str, bytes: &[u8]| {
            let path = place.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put("/proc/cmdline", format!("stile.slot={running}").as_bytes());
        for slot in ["a", "b"] {
            put(&format!("/dev/stile/esp/EFI/stile/{slot}.efi"), b"not a kernel");
        }
        for entry in entries {
            let slot = if entry.contains("-a") { "a" } else { "b" };
            let text = format!("title x\nefi /EFI/stile/{slot}.efi\n");
            put(&format!("/dev/stile/esp/loader/entries/{entry}"), text.as_bytes());
        }
        place
    }

    #[test]
    fn the_reason_is_kept_and_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = pc(folder.path(), "a", &["stile-000002-a.conf", "stile-000003-b+0-3.conf"]);
        let mut trail = Trail::default();
        let base = boots::Boot { version: "7".to_owned(), trial: true, ..boots::Boot::default() };
        for number in 0..3 {
            trail.begin(boots::Boot {
                boot: number.to_string(),
                slot: "b".to_owned(),
                generation: 3,
                stage: Stage::State,
                failure: Some("gate self-test: lane entry-1 does not answer".to_owned()),
                ..base.clone()
            });
        }
        trail.begin(boots::Boot { boot: "now".to_owned(), slot: "a".to_owned(), generation: 2, ..base });
        trail.keep(&place).unwrap();
        let (state, other) = look(&place, Slot::A).unwrap();
        assert_eq!(
            (state, other.state, other.generation, other.tries),
            (State::Good, State::Exhausted, 3, 3)
        );
        note_return(&place, Slot::A, &other).unwrap();
        let told = first_boot::told(&place).view.rollback.expect("told");
        assert_eq!(
            told.reason,
            "version 7 was tried 3 times and never became healthy: it got as far as 'state mounted'; last failure: \
             gate self-test: lane entry-1 does not answer"
        );
        assert_eq!(boots::returned(&place).map(|it| it.rollback), Some(told));
        fs::remove_file(place.told("boot.json")).unwrap();
        note_return(&place, Slot::A, &other).unwrap();
        assert_eq!(first_boot::told(&place).view.rollback, None, "noticed once");
    }

    #[test]
    fn a_trial_that_cannot_be_judged_is_given_up_and_a_proven_slot_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = pc(folder.path(), "b", &["stile-000002-a.conf", "stile-000003-b+2-1.conf"]);
        let mut trail = Trail::default();
        trail.begin(boots::Boot::default());
        trail.keep(&place).unwrap();
        give_up(&place).unwrap();
        assert!(Trail::load(&place).newest().unwrap().failure.is_some());
        leave(&place, Slot::B, true).unwrap();
        let names = |place: &Place| {
            let mut names: Vec<String> = fs::read_dir(place.at("/dev/stile/esp/loader/entries"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&place), ["stile-000002-a.conf", "stile-000003-b+0-1.conf"]);
        let folder = tempfile::tempdir().unwrap();
        let place = pc(folder.path(), "a", &["stile-000002-a.conf"]);
        trail.keep(&place).unwrap();
        give_up(&place).unwrap();
        assert_eq!(Trail::load(&place).newest().unwrap().failure, None);
    }
}
