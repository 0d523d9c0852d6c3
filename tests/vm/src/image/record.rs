//! Recordings of what a box writes in its most dangerous minutes, and points of them booted for real.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vm::player::Command as Ask;

use crate::bench::{ANSWER_MAX, BOOT_MAX, Bench, boot, copy, let_in, stick};
use crate::campaign::{Point, Recording, disk_at};
use crate::log::{Kind, Log};
use crate::machine::Machine;
use crate::{say, steps};

/// The ledger's folder on the state file system, which is mounted at /var.
const LEDGER: &str = "/lib/stile/cartd";

/// What is recorded besides the first boot, and the update if there is one.
#[derive(Clone, Copy, Debug)]
pub struct What {
    /// Shoppers, and the start of the new version. Without, the power goes when the update is activated.
    pub visits: bool,
    /// A factory reset at the end.
    pub reset: bool,
}

/// Records: first boot, shoppers, and with `next` (the folder in which the bundle's version was built) the update.
///
/// # Errors
/// When the box does not do what is recorded.
pub fn record(bench: &Bench, folder: &Path, built: &Path, next: Option<&Path>, what: &What) -> Result<bool> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = std::fs::canonicalize(folder).context("no folder for the recording")?;
    let fresh = bench.disk("record")?;
    let base = folder.join("base.raw");
    copy(&fresh, &base)?;
    let mut setup = bench.setup("record", &fresh);
    let log = folder.join("writes.log");
    setup.record = Some(log.clone());
    let mut versions = BTreeMap::from([("1".to_owned(), kept(&folder, "1", built)?)]);
    if let Some(next) = next {
        versions.insert("2".to_owned(), kept(&folder, "2", next)?);
        let at = bench.out.join("record/stick.raw");
        stick(&at, &[("update.raucb", &bench.bundles.join("next.raucb"))])?;
        setup.stick = Some(at);
    }
    let mut marks = Vec::new();
    let mut forgiven = Vec::new();
    let (mut machine, _) = boot(&setup)?;
    let mut mark = |machine: &Machine, what: &str| {
        let at = machine.recorded();
        say(&format!("   {at} entries: {what}"));
        marks.push((at, what.to_owned()));
    };
    mark(&machine, "first boot: the player is up");
    if what.visits {
        let_in(&mut machine, Duration::from_secs(300))?;
        machine.picture(&folder.join("welcome.png"))?;
        machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
        machine.ask(Ask::Pass { entry: false }, ANSWER_MAX)?;
        let receipts = visits(&mut machine, 5)?;
        machine.picture(&folder.join("after.png"))?;
        mark(&machine, &format!("six visits, {receipts} receipts"));
    }
    if next.is_some() {
        steps::mount(&mut machine)?;
        let how = proven(&mut machine)?;
        mark(&machine, how);
        mark(&machine, "update begins");
        steps::install(&mut machine)?;
        mark(&machine, "update written and activated");
        if !what.visits {
            // The power is cut right here.
            machine.listen(Duration::from_secs(5))?;
            return finish(machine, &folder, base, log, versions, forgiven, marks);
        }
        older_ledger(&mut machine)?;
        mark(&machine, "the ledger is as the first release made it");
        let up = steps::reboot(&mut machine)?;
        mark(&machine, &format!("up with version {} in slot {}", up.version, up.slot));
        let receipts = visits(&mut machine, 3)?;
        ensure!(receipts == 3, "{receipts} of 3 receipts after the ledger was led up");
        mark(&machine, &format!("three visits, {receipts} receipts"));
        let how = proven(&mut machine)?;
        mark(&machine, how);
    }
    if what.reset {
        mark(&machine, "factory reset begins");
        forgiven.push(machine.recorded());
        let ran = machine.run(&["/usr/bin/caretaker", "reset", "--yes"], Duration::from_secs(120))?;
        ensure!(ran.status == Some(0), "caretaker reset: {:?} {}", ran.status, ran.output.trim());
        machine.up(BOOT_MAX)?;
        visits(&mut machine, 2)?;
        mark(&machine, "two visits after the reset");
    }
    machine.run(&["/usr/bin/systemctl", "--no-block", "poweroff"], Duration::from_secs(60))?;
    machine.off(Duration::from_secs(300))?;
    finish(machine, &folder, base, log, versions, forgiven, marks)
}

/// Takes back what cartd's newest step added to the ledger, so that the next start leads it up again.
fn older_ledger(machine: &mut Machine) -> Result<()> {
    let ran = machine.run(&["/usr/bin/systemctl", "stop", "cartd.service"], Duration::from_secs(60))?;
    ensure!(ran.status == Some(0), "stopping cartd: {}", ran.output.trim());
    let file = format!("/var{LEDGER}/ledger.db");
    let statements = "BEGIN; DROP TABLE steps; PRAGMA user_version = 1; COMMIT;".to_owned();
    machine.ask(Ask::Sql { file, statements }, ANSWER_MAX)?;
    Ok(())
}

/// Ends the recording and writes what it is.
fn finish(
    machine: Machine,
    folder: &Path,
    base: PathBuf,
    log: PathBuf,
    versions: BTreeMap<String, PathBuf>,
    forgiven: Vec<u64>,
    marks: Vec<(u64, String)>,
) -> Result<bool> {
    let receipts = machine.cut()?;
    let entries = Log::open(&log)?.entries;
    let flushes = entries.iter().filter(|entry| **entry == Kind::Flush).count();
    say(&format!("recorded {} entries, {flushes} flushes, {} receipts", entries.len(), receipts.len()));
    let recording = Recording { base, log, versions, ledger: LEDGER.to_owned(), receipts, forgiven, marks };
    std::fs::write(folder.join("recording.json"), serde_json::to_vec_pretty(&recording)?)
        .context("cannot write recording.json")?;
    Ok(true)
}

/// Waits until the health gate has proven the slot. What is recorded are the writes of that; an image whose health
/// gate does not speak is proven by hand, and the recording says so.
fn proven(machine: &mut Machine) -> Result<&'static str> {
    if steps::proven(machine).is_ok() {
        return Ok("proven by the box");
    }
    let ran = machine.run(&["/usr/bin/rauc", "status", "mark-good"], ANSWER_MAX)?;
    ensure!(ran.status == Some(0), "rauc status mark-good: {}", ran.output.trim());
    Ok("proven by hand, not by the box")
}

/// Copies what a version was built as into the recording: builds replace it, recordings outlive them.
fn kept(folder: &Path, name: &str, built: &Path) -> Result<PathBuf> {
    let to = folder.join(format!("version-{name}"));
    std::fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    for file in ["root.squashfs", "root.verity", "uki.efi"] {
        copy(&built.join(file), &to.join(file))?;
    }
    Ok(to)
}

/// Shoppers who come in, and leave; how many receipts came of it.
fn visits(machine: &mut Machine, count: usize) -> Result<usize> {
    let before = machine.receipts.len();
    for _ in 0..count {
        let_in(machine, Duration::from_secs(240))?;
        machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
        machine.listen(Duration::from_secs(1))?;
        machine.ask(Ask::Pass { entry: false }, ANSWER_MAX)?;
        machine.listen(Duration::from_secs(1))?;
    }
    // How many there are is said with the mark; here they are what must not be lost.
    let began = Instant::now();
    while machine.receipts.len() < before + count && began.elapsed() < Duration::from_secs(60) {
        machine.listen(Duration::from_secs(2))?;
    }
    Ok(machine.receipts.len() - before)
}

/// Boots disks of points, each until a shopper is let in.
///
/// # Errors
/// When a disk cannot be made; a box that does not come up makes it `false`.
pub fn boot_points(
    bench: &Bench,
    folder: &Path,
    mut points: Vec<Point>,
    seed: u64,
    sample: usize,
) -> Result<bool> {
    let recording = Recording::read(folder)?;
    let entries = Log::open(&recording.log)?.entries;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..sample {
        let entry = random.random_range(1..=entries.len());
        points.push(Point { entry, torn: random.random_bool(0.5).then(|| random.random_range(0..4)) });
    }
    let mut good = 0;
    for point in &points {
        let name = format!("boot-{}", point.to_string().replace(':', "-"));
        std::fs::create_dir_all(bench.out.join(&name)).context("cannot make the folder")?;
        let disk = bench.out.join(&name).join("disk.raw");
        copy(&recording.base, &disk)?;
        disk_at(&recording, *point, seed)?.apply_to(&disk)?;
        let booted = boot(&bench.setup(&name, &disk)).and_then(|(mut machine, up)| {
            let_in(&mut machine, Duration::from_secs(240))?;
            Ok(up)
        });
        match booted {
            Ok(up) => {
                good += 1;
                say(&format!(
                    "ok      {point}: slot {} version {}, a shopper is let in",
                    up.slot, up.version
                ));
            }
            Err(error) => say(&format!("FAILED  {point}: {error:#}")),
        }
        let _ = std::fs::remove_file(&disk);
    }
    say(&format!("{good} of {} points boot to a shopper", points.len()));
    Ok(good == points.len())
}
