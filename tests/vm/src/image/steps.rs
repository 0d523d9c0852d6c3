//! The proof, step by step. Each step has a disk of its own, says in one line what it saw, or why it failed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use engine::message::{Receipt, topic};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vm::player::{Command as Ask, Ran, Shown};
use vm::shop;

use crate::bench::{ANSWER_MAX, BOOT_MAX, Bench, boot, let_in, on_stick, partition, stick};
use crate::machine::{Machine, SCREEN, Screen, Up};
use crate::server::served;
use crate::tool;

/// A program's time for something small.
const SHORT: Duration = Duration::from_secs(60);
/// Writing a slot, emulated.
const UPDATE_MAX: Duration = Duration::from_secs(900);
/// From the health gate's start to its verdict.
const HEALTH_MAX: Duration = Duration::from_secs(300);
/// Longest unlock pulse there may be (engine::gate::UNLOCK_MAX); the emulation may be late by the rest.
const PULSE_MAX_MS: f64 = 2_000.0;
/// From the first shopper to a screen that shows something.
const SCREEN_MAX: Duration = Duration::from_secs(180);
/// Part of a screen that is lit when anything but a console is on it.
const SCREEN_LIT: f64 = 0.5;
/// Part of a screen that changes with what the lane says.
const SCREEN_CHANGES: f64 = 0.05;
/// From the unlock line to another picture, emulated; the lane says welcome for longer.
const WELCOME_MAX: Duration = Duration::from_secs(15);
/// What the carts' service says of the weighing modules.
const SHELF_HEALTH: &str = "stile/health/cartd/load-cells-1";
/// How long shoppers go on while an update waits for its restart: longer than a lane must be quiet (60 s).
const BUSY: Duration = Duration::from_secs(90);
/// A program that changes the boot choice has started by then, or none will. Less than a lane must be quiet (60 s):
/// with an update installed the box would restart by itself meanwhile.
const CHOOSER_MAX: Duration = Duration::from_secs(45);
/// What firmware and boot manager say of a kernel that is not signed.
const REFUSALS: [&str; 3] = ["ccess denied", "ecurity violation", "ecurity Violation"];
/// A user without rights.
const NOBODY: &str = "65534";
/// The disk with bundles.
const BUNDLES: &str = "/dev/disk/by-id/virtio-bundles";
/// Where it is mounted.
const STICK: &str = "/run/stick";

/// One step.
pub struct Step {
    /// For the command line.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// It belongs to the short form.
    pub short: bool,
    /// Does it.
    pub run: fn(&Bench) -> Result<String>,
}

/// All of them, in order.
pub const STEPS: &[Step] = &[
    Step { name: "boot", shows: "from power to the first shopper let in", short: false, run: first_shopper },
    Step { name: "shopper", shows: "from power to a served shopper", short: true, run: shopper },
    Step {
        name: "killed",
        shows: "services killed at random while shoppers enter",
        short: false,
        run: killed,
    },
    Step { name: "update", shows: "A to B and back", short: false, run: update },
    Step {
        name: "served",
        shows: "an adaptive update from the operator's server",
        short: false,
        run: served,
    },
    Step {
        name: "refused",
        shows: "bundles: wrong signature, truncated, other board",
        short: false,
        run: refused,
    },
    Step { name: "unhealthy", shows: "an update that fails its health gate", short: false, run: unhealthy },
    Step { name: "hangs", shows: "an update that hangs at boot: watchdog", short: false, run: hangs },
    Step { name: "full", shows: "a full state partition", short: false, run: full },
    Step { name: "bit", shows: "one flipped bit in the slot that was written", short: false, run: bit },
    Step {
        name: "updater-killed",
        shows: "kill -9 of the updater at many moments",
        short: false,
        run: updater_killed,
    },
    Step { name: "reset", shows: "factory reset keeps the identity", short: false, run: reset },
    Step {
        name: "stick",
        shows: "a technician's stick: refused, then support file and update, then a reset",
        short: false,
        run: technician,
    },
    Step {
        name: "secured",
        shows: "Secure Boot with the operator's key, state sealed to the TPM",
        short: false,
        run: secured,
    },
];

fn first_shopper(bench: &Bench) -> Result<String> {
    let disk = bench.disk("boot")?;
    let (mut machine, up) = boot(&bench.setup("boot", &disk))?;
    let shown = let_in(&mut machine, BOOT_MAX)?;
    pulse_is_short(&shown)?;
    Ok(format!(
        "version {} slot {}: first shopper let in {:.0} s after power, unlock line active for {:.0} ms",
        up.version,
        up.slot,
        machine.began.elapsed().as_secs_f64(),
        shown.pulse_ms.unwrap_or_default()
    ))
}

fn shopper(bench: &Bench) -> Result<String> {
    let disk = bench.disk("shopper")?;
    let (mut machine, up) = boot(&bench.setup("shopper", &disk))?;
    let booted = machine.began.elapsed();
    let shown = let_in(&mut machine, Duration::from_secs(180))?;
    let first = machine.began.elapsed();
    pulse_is_short(&shown)?;
    pass(&mut machine)?;
    // Out again: of two who are inside, an exit that no camera has seen would be nobody's.
    machine.ask(Ask::Pass { entry: false }, ANSWER_MAX)?;
    // The screen may be minutes behind the gate, emulated; then somebody else is welcomed for the picture.
    let idle = idle_screen(&mut machine)?;
    let drawn = machine.began.elapsed();
    machine.picture(&bench.out.join("shopper/idle.png"))?;
    let_in(&mut machine, Duration::from_secs(60))?;
    let asked = Instant::now();
    let mut seen = None;
    // Its colours change little by little, and slowly, emulated.
    let mut welcome = machine.screen()?;
    loop {
        machine.listen(Duration::from_millis(400))?;
        let now = machine.screen()?;
        if now.differs(&idle) > SCREEN_CHANGES {
            seen.get_or_insert_with(|| asked.elapsed());
            if now == welcome {
                break;
            }
        }
        ensure!(
            asked.elapsed() < WELCOME_MAX,
            "somebody was let in, and the screen does not come to rest on another picture than before"
        );
        welcome = now;
    }
    let seen = seen.unwrap_or_default();
    machine.picture(&bench.out.join("shopper/welcome.png"))?;
    machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
    machine.listen(Duration::from_secs(3))?;
    ensure!(
        machine.notices.iter().any(|notice| notice.starts_with("Welcome")),
        "the lane never said welcome, but {:?}",
        machine.notices
    );
    // Takes one pack of the second product, then leaves.
    machine.listen(Duration::from_secs(5))?;
    machine.ask(Ask::Plate { address: 1, channel: 1, tenths: shop::PACK[1] * 9 }, ANSWER_MAX)?;
    machine.listen(Duration::from_secs(15))?;
    // Degraded is well enough: plates whose load never changes by anything are called stuck, and simulated ones have
    // no noise. An answer may be late on a busy host, and the modules are silent for a moment.
    let began = Instant::now();
    loop {
        let shelf = machine.ask(Ask::Retained { topic: SHELF_HEALTH.to_owned() }, ANSWER_MAX)?;
        if matches!(shelf["state"].as_str(), Some("up" | "degraded")) {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(60), "the weighing modules: {shelf}");
        machine.listen(Duration::from_secs(1))?;
    }
    let cart = machine.ask(Ask::Retained { topic: topic::STORE_VIEW.to_owned() }, ANSWER_MAX)?;
    machine.ask(Ask::Pass { entry: false }, ANSWER_MAX)?;
    let receipt = receipt(&mut machine, 2, Duration::from_secs(180))?;
    machine.picture(&bench.out.join("shopper/left.png"))?;
    let map = shop::map(true);
    let product = map.products.get(1).context("the shop has no second product")?;
    let taken: Vec<_> = receipt.lines.iter().map(|line| (&line.product, line.quantity)).collect();
    ensure!(
        taken == [(&product.id, 1)] && receipt.total == product.price,
        "who took one pack of {} is charged {} for {taken:?}",
        product.id,
        receipt.total
    );
    let lines: Vec<String> =
        receipt.lines.iter().map(|line| format!("{} x {}", line.quantity, line.product)).collect();
    let carts = cart["sessions"].as_array().map_or(0, Vec::len);
    Ok(format!(
        "version {} slot {}: player after {:.0} s ({:.1} s of the kernel's), first shopper let in after {:.0} s, \
         unlock line {:.1} ms after the scanner's report for {:.0} ms; screen drawn by {:.0} s, welcome on it {:.1} s \
         after the unlock line ({:.0} % of it another picture); {carts} carts, receipt of {} with [{}]",
        up.version,
        up.slot,
        booted.as_secs_f64(),
        up.seconds,
        first.as_secs_f64(),
        shown.opened_ms.unwrap_or_default(),
        shown.pulse_ms.unwrap_or_default(),
        drawn.as_secs_f64(),
        seen.as_secs_f64(),
        welcome.differs(&idle) * 100.0,
        receipt.total,
        lines.join(", ")
    ))
}

/// Somebody goes in.
pub fn pass(machine: &mut Machine) -> Result<()> {
    machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
    Ok(())
}

/// Waits until the screen rests: drawn by the service in the screen's own size, and the same for a while.
fn idle_screen(machine: &mut Machine) -> Result<Screen> {
    let began = Instant::now();
    let mut before: Option<Screen> = None;
    loop {
        let now = machine.screen()?;
        let drawn = now.size == SCREEN && now.lit() > SCREEN_LIT;
        if drawn && before.as_ref() == Some(&now) {
            return Ok(now);
        }
        if began.elapsed() > SCREEN_MAX {
            let said =
                machine.run(&["/usr/bin/journalctl", "--no-pager", "-b", "-n", "25", "-u", "kiosk"], SHORT);
            bail!(
                "after {} s the screen of {:?} is lit by {:.1} % and does not rest: {}",
                SCREEN_MAX.as_secs(),
                now.size,
                now.lit() * 100.0,
                said.map(|ran| ran.output).unwrap_or_default()
            );
        }
        before = Some(now).filter(|_| drawn);
        machine.listen(Duration::from_secs(5))?;
    }
}

fn pulse_is_short(shown: &Shown) -> Result<()> {
    let pulse = shown.pulse_ms.context("no pulse")?;
    ensure!(pulse < PULSE_MAX_MS, "a pulse of {pulse:.0} ms holds a turnstile open");
    Ok(())
}

/// Waits until that many receipts were seen; the newest.
fn receipt(machine: &mut Machine, count: usize, limit: Duration) -> Result<Receipt> {
    let began = Instant::now();
    loop {
        let receipts = machine.ask(Ask::Receipts, ANSWER_MAX)?;
        let receipts: Vec<Receipt> = serde_json::from_value(receipts).context("the player's answer")?;
        if receipts.len() >= count {
            return receipts.into_iter().max_by_key(|receipt| receipt.settled).context("no receipt");
        }
        ensure!(
            began.elapsed() < limit,
            "{} of {count} receipts after {} s",
            receipts.len(),
            limit.as_secs()
        );
        machine.listen(Duration::from_secs(2))?;
    }
}

fn killed(bench: &Bench) -> Result<String> {
    const SHOPPERS: u32 = 40;
    const SERVICES: [&str; 5] = ["cartd", "kiosk", "console", "mosquitto", "gated"];
    let disk = bench.disk("killed")?;
    let (mut machine, _) = boot(&bench.setup("killed", &disk))?;
    let_in(&mut machine, Duration::from_secs(180))?;
    machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut kills, mut worst, mut repeated) = (0, 0.0_f64, 0);
    for shopper in 0..SHOPPERS {
        let service = SERVICES[random.random_range(0..SERVICES.len())];
        let count = machine.ask(Ask::Kill { comm: service.to_owned() }, ANSWER_MAX)?;
        kills += count.as_u64().unwrap_or(0);
        let began = Instant::now();
        // The gate itself may be dead: then the shopper shows the code again until it is back, 15 s at most.
        let limit = Duration::from_secs(if service == "gated" { 30 } else { 10 });
        let shown = let_in(&mut machine, limit)
            .with_context(|| format!("shopper {shopper}, after {service} was killed"))?;
        pulse_is_short(&shown)?;
        repeated += u32::from(began.elapsed() > Duration::from_secs(4));
        worst = worst.max(shown.opened_ms.unwrap_or_default());
        machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
        machine.listen(Duration::from_millis(600))?;
    }
    let active = machine.ask(Ask::Lines, ANSWER_MAX)?;
    let held = active.as_array().into_iter().flatten().filter_map(|name| name.as_str());
    let held: Vec<&str> = held.filter(|name| name.starts_with("unlock")).collect();
    ensure!(held.is_empty(), "left active: {held:?}");
    Ok(format!(
        "{SHOPPERS} of {SHOPPERS} shoppers let in, {kills} processes killed, {repeated} showed their code again, \
         longest from report to unlock {worst:.0} ms"
    ))
}

/// A machine with the bundle on its stick.
fn with_bundle(bench: &Bench, name: &str, bundle: &Path) -> Result<(Machine, Up, std::path::PathBuf)> {
    let disk = bench.disk(name)?;
    let at = bench.out.join(name).join("stick.raw");
    stick(&at, &[("update.raucb", bundle)])?;
    let mut setup = bench.setup(name, &disk);
    setup.stick = Some(at);
    let (mut machine, up) = boot(&setup)?;
    let_in(&mut machine, Duration::from_secs(180))?;
    mount(&mut machine)?;
    Ok((machine, up, disk))
}

pub fn mount(machine: &mut Machine) -> Result<()> {
    let ask = Ask::Mount { device: BUNDLES.to_owned(), kind: "vfat".to_owned(), at: STICK.to_owned() };
    machine.ask(ask, ANSWER_MAX)?;
    Ok(())
}

pub fn bundle(bench: &Bench, name: &str) -> Result<std::path::PathBuf> {
    let path = bench.bundles.join(name);
    ensure!(path.exists(), "there is no {}; tests/vm/image/bundles.sh makes it", path.display());
    Ok(path)
}

/// Installs what is on the stick; the output when it was taken.
pub fn install(machine: &mut Machine) -> Result<String> {
    let ran = machine.run(&["/usr/bin/rauc", "install", &format!("{STICK}/update.raucb")], UPDATE_MAX)?;
    ensure!(ran.status == Some(0), "rauc install ended with {:?}: {}", ran.status, ran.output.trim());
    Ok(ran.output)
}

/// Reboots and waits for the player.
pub fn reboot(machine: &mut Machine) -> Result<Up> {
    machine.run(&["/usr/bin/systemctl", "--no-block", "reboot"], SHORT)?;
    machine.up(BOOT_MAX)
}

/// Waits until the running slot is proven, which RAUC cannot say: a slot on trial is good to it, too.
pub fn proven(machine: &mut Machine) -> Result<f64> {
    let began = Instant::now();
    loop {
        let ran = machine.run(&["/usr/bin/caretaker", "why", "--json"], SHORT)?;
        let told: serde_json::Value = serde_json::from_str(ran.output.trim()).unwrap_or_default();
        let slot = told["now"]["slot"].as_str().unwrap_or_default().to_owned();
        let good = format!("{slot}: good");
        let slots = told["slots"].as_array().cloned().unwrap_or_default();
        if told["now"]["trial"] == false && slots.iter().any(|state| *state == good.as_str()) {
            return Ok(began.elapsed().as_secs_f64());
        }
        ensure!(
            began.elapsed() < HEALTH_MAX,
            "slot {slot} is not proven after {} s: {}",
            HEALTH_MAX.as_secs(),
            ran.output.trim()
        );
        machine.listen(Duration::from_secs(3))?;
    }
}

fn update(bench: &Bench) -> Result<String> {
    let (mut machine, before, _) = with_bundle(bench, "update", &bundle(bench, "next.raucb")?)?;
    proven(&mut machine)?;
    // As a technician does it, with shoppers all the time; the box restarts by itself when the lane is quiet.
    let began = Instant::now();
    let path = format!("{STICK}/update.raucb");
    let argv = ["/usr/bin/caretaker", "update", &path, "--now"].map(str::to_owned).to_vec();
    let updating = machine.send(Ask::Run { argv, limit: UPDATE_MAX, kill_on: None, kill_after: None })?;
    let mut meanwhile = Meanwhile::default();
    while !machine.has_answered(&updating) {
        meanwhile.one(&mut machine).context("while a slot is written")?;
    }
    let wrote = began.elapsed();
    let ran: Ran = serde_json::from_value(machine.answer(updating, SHORT)?).context("the player's answer")?;
    ensure!(ran.status == Some(0), "caretaker update ended with {:?}: {}", ran.status, ran.output.trim());
    let busy = Instant::now();
    while busy.elapsed() < BUSY {
        meanwhile.one(&mut machine).context("while the restart waits")?;
        ensure!(!machine.has_started(), "the box restarted while the lane was in use");
    }
    let up = machine.up(BOOT_MAX).context("the restart of the update")?;
    ensure!(up.slot != before.slot, "still in slot {} after the update", up.slot);
    ensure!(up.version != before.version, "still version {} after the update", up.version);
    let_in(&mut machine, Duration::from_secs(180))?;
    let took = proven(&mut machine)?;
    mount(&mut machine)?;
    install(&mut machine).context("back again")?;
    let back = reboot(&mut machine)?;
    ensure!(back.slot == before.slot, "in slot {} after the second update", back.slot);
    let_in(&mut machine, Duration::from_secs(180))?;
    proven(&mut machine)?;
    Ok(format!(
        "{} {} -> {} {} -> {} {}; written in {:.0} s while {} shoppers came in (longest to the unlock line {:.0} \
         ms); no restart in {} s of shoppers; proven {took:.0} s after its first shopper",
        before.slot,
        before.version,
        up.slot,
        up.version,
        back.slot,
        back.version,
        wrote.as_secs_f64(),
        meanwhile.shoppers,
        meanwhile.worst_ms,
        BUSY.as_secs(),
    ))
}

/// Shoppers who come while something else goes on.
#[derive(Debug, Default)]
struct Meanwhile {
    shoppers: u32,
    worst_ms: f64,
}

impl Meanwhile {
    fn one(&mut self, machine: &mut Machine) -> Result<()> {
        let shown = let_in(machine, Duration::from_secs(20))?;
        pulse_is_short(&shown)?;
        self.shoppers += 1;
        self.worst_ms = self.worst_ms.max(shown.opened_ms.unwrap_or_default());
        pass(machine)?;
        machine.listen(Duration::from_secs(3))
    }
}

fn refused(bench: &Bench) -> Result<String> {
    let good = std::fs::read(bundle(bench, "next.raucb")?).context("the bundle")?;
    let folder = bench.out.join("refused");
    std::fs::create_dir_all(&folder).context("cannot make the folder")?;
    // The last 8 bytes are the length of the signature before them.
    let mut forged = good.clone();
    let signature = forged.len() - 400;
    forged[signature] ^= 1;
    let mut touched = good.clone();
    touched[good.len() / 2] ^= 1;
    let mut files = vec![
        ("wrong signature", "forged.raucb", forged),
        ("truncated", "short.raucb", good[..good.len() * 2 / 3].to_vec()),
        ("one bit of its content", "touched.raucb", touched),
    ];
    for (what, name) in
        [("for another board", "other-board.raucb"), ("signed by a stranger", "stranger.raucb")]
    {
        if let Ok(path) = bundle(bench, name) {
            files.push((what, name, std::fs::read(path)?));
        }
    }
    let paths: Vec<_> = files.iter().map(|(_, name, _)| folder.join(name)).collect();
    for (path, (_, _, bytes)) in paths.iter().zip(&files) {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let on_stick: Vec<(&str, &Path)> =
        files.iter().map(|(_, name, _)| *name).zip(paths.iter().map(AsRef::as_ref)).collect();
    let disk = bench.disk("refused")?;
    let at = folder.join("stick.raw");
    stick(&at, &on_stick)?;
    let mut setup = bench.setup("refused", &disk);
    setup.stick = Some(at);
    let (mut machine, before) = boot(&setup)?;
    let_in(&mut machine, Duration::from_secs(180))?;
    mount(&mut machine)?;
    let mut said = Vec::new();
    for (what, name, _) in &files {
        let ran = machine.run(&["/usr/bin/rauc", "install", &format!("{STICK}/{name}")], UPDATE_MAX)?;
        ensure!(ran.status != Some(0), "a bundle with {what} was installed");
        let why = ran.output.lines().find_map(|line| line.trim().strip_prefix("LastError: "));
        said.push(format!("{what}: {}", why.unwrap_or("no reason is said")));
        let_in(&mut machine, Duration::from_secs(30)).with_context(|| format!("after {what}"))?;
        machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
    }
    // A service that somebody has broken into asks for what only root may have.
    let good = format!("{STICK}/{}", files[0].1);
    for asked in [&["status", "mark-bad", "booted"][..], &["install", &good]] {
        let argv = [&["/usr/lib/stile/vm-guest", "as", NOBODY, "/usr/bin/rauc"], asked].concat();
        let ran = machine.run(&argv, SHORT)?;
        ensure!(
            ran.status != Some(0) && ran.output.contains("not authorized"),
            "{asked:?} of a user without rights: {:?} {}",
            ran.status,
            ran.output.trim()
        );
    }
    said.push("commands of another user: denied".to_owned());
    let up = reboot(&mut machine)?;
    ensure!(up.slot == before.slot, "in slot {} after bundles that were refused", up.slot);
    let_in(&mut machine, Duration::from_secs(180))?;
    Ok(format!("{} refused, the same slot boots: {}", said.len(), said.join(" | ")))
}

/// Installs, reboots, and expects to be back in the slot of before; what is known of the reason.
fn comes_back(bench: &Bench, name: &str, file: &str) -> Result<(f64, String)> {
    let (mut machine, before, _) = with_bundle(bench, name, &bundle(bench, file)?)?;
    proven(&mut machine)?;
    install(&mut machine)?;
    let began = Instant::now();
    machine.run(&["/usr/bin/systemctl", "--no-block", "reboot"], SHORT)?;
    // Three tries of the bad slot, each with a boot and a time limit, before the old one.
    let limit = BOOT_MAX * 4 + HEALTH_MAX * 3;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        let up = machine.up(left).context("it does not come back")?;
        if up.slot == before.slot {
            break;
        }
    }
    let took = began.elapsed().as_secs_f64();
    let_in(&mut machine, Duration::from_secs(180))?;
    let why = machine.run(&["/usr/bin/caretaker", "why"], SHORT)?;
    ensure!(why.status == Some(0), "caretaker why ended with {:?}: {}", why.status, why.output.trim());
    Ok((took, why.output.trim().replace('\n', " / ")))
}

fn unhealthy(bench: &Bench) -> Result<String> {
    let (took, why) = comes_back(bench, "unhealthy", "unhealthy.raucb")?;
    Ok(format!("back in the old slot after {took:.0} s; why: {why}"))
}

fn hangs(bench: &Bench) -> Result<String> {
    let (took, why) = comes_back(bench, "hangs", "hangs.raucb")?;
    Ok(format!("back in the old slot after {took:.0} s; why: {why}"))
}

fn full(bench: &Bench) -> Result<String> {
    let disk = bench.disk("full")?;
    let (mut machine, _) = boot(&bench.setup("full", &disk))?;
    let_in(&mut machine, Duration::from_secs(180))?;
    machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
    let filled = machine
        .ask(Ask::Fill { folder: "/var/lib/stile/filling".to_owned(), keep: 0 }, Duration::from_secs(600))?;
    let_in(&mut machine, Duration::from_secs(60)).context("with a full state partition")?;
    machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
    let up = reboot(&mut machine)?;
    let_in(&mut machine, Duration::from_secs(180)).context("rebooted with a full state partition")?;
    Ok(format!(
        "{} MB filled, shoppers let in before and after a reboot (slot {})",
        filled.as_u64().unwrap_or(0) >> 20,
        up.slot
    ))
}

fn bit(bench: &Bench) -> Result<String> {
    let (mut machine, before, disk) = with_bundle(bench, "bit", &bundle(bench, "next.raucb")?)?;
    proven(&mut machine)?;
    install(&mut machine)?;
    off(&mut machine)?;
    drop(machine);
    let other = if before.slot == "a" { "root-b" } else { "root-a" };
    let part = partition(&disk, other)?;
    // The squashfs's head, which every mount reads: one bit of its creation time, which nobody would miss.
    let file = File::options().read(true).write(true).open(&disk).context("cannot open the disk")?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, part.start() + 8).context("cannot read the disk")?;
    file.write_all_at(&[byte[0] ^ 1], part.start() + 8).context("cannot write the disk")?;
    drop(file);
    let setup = bench.setup("bit", &disk);
    let mut machine = setup.start()?;
    let up = machine.up(BOOT_MAX * 4)?;
    ensure!(up.slot == before.slot, "slot {} with a flipped bit runs", up.slot);
    let_in(&mut machine, Duration::from_secs(180))?;
    let why = machine.run(&["/usr/bin/caretaker", "why"], SHORT)?;
    Ok(format!(
        "back in slot {} after {:.0} s; why: {}",
        up.slot,
        machine.began.elapsed().as_secs_f64(),
        why.output.trim().replace('\n', " / ")
    ))
}

/// How an update is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// RAUC, its service and whoever asked it, so long after the update began.
    Writer(Duration),
    /// The one that changes the boot choice for RAUC, when it runs for the time of this number (from 0).
    Chooser(u32),
}

fn updater_killed(bench: &Bench) -> Result<String> {
    const WRITER: u32 = 10;
    const CHOOSER: u32 = 4;
    let (mut machine, before, _) = with_bundle(bench, "updater-killed", &bundle(bench, "next.raucb")?)?;
    proven(&mut machine)?;
    let began = Instant::now();
    install(&mut machine)?;
    let whole = began.elapsed();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    // One in each part of the time that an update takes.
    let writer = (0..WRITER).map(|part| {
        let share = (f64::from(part) + random.random_range(0.0..1.0)) / f64::from(WRITER);
        Kill::Writer(whole.mul_f64(share))
    });
    let kills: Vec<Kill> = writer.chain((0..CHOOSER).map(Kill::Chooser)).collect();
    let (mut processes, mut survived) = (0, 0);
    for kill in kills {
        let ended = kill_update(&mut machine, kill)?;
        processes += ended;
        survived += u32::from(ended == 0);
        let_in(&mut machine, Duration::from_secs(60)).with_context(|| format!("after {kill:?}"))?;
        pass(&mut machine)?;
        let next = machine.run(&["/usr/lib/stile/boot-backend", "get-primary"], SHORT)?;
        ensure!(next.status == Some(0), "nothing would boot after {kill:?}: {}", next.output.trim());
        crate::say(&format!(
            "   {kill:?}: {ended} processes killed, next to start: slot {}",
            next.output.trim()
        ));
    }
    let up = reboot(&mut machine)?;
    ensure!(up.slot == before.slot || up.version != before.version, "slot {} of {}", up.slot, up.version);
    let_in(&mut machine, Duration::from_secs(180))?;
    mount(&mut machine)?;
    proven(&mut machine)?;
    install(&mut machine).context("after all that")?;
    let after = reboot(&mut machine)?;
    ensure!(after.slot != up.slot, "the update after all that did not take");
    let_in(&mut machine, Duration::from_secs(180))?;
    proven(&mut machine)?;
    Ok(format!(
        "an update takes {:.0} s; {} killed ({processes} processes; {survived} had ended by then); the box booted \
         slot {} with version {} and then took the update",
        whole.as_secs_f64(),
        WRITER + CHOOSER,
        up.slot,
        up.version
    ))
}

/// Begins an update and kills it; how many processes were killed.
fn kill_update(machine: &mut Machine, kill: Kill) -> Result<u64> {
    let argv = ["/usr/bin/rauc", "install", &format!("{STICK}/update.raucb")].map(str::to_owned).to_vec();
    let update = machine.send(Ask::Run { argv, limit: UPDATE_MAX, kill_on: None, kill_after: None })?;
    let ended = match kill {
        Kill::Writer(after) => {
            machine.listen(after)?;
            machine.ask(Ask::Kill { comm: "rauc".to_owned() }, ANSWER_MAX)?.as_u64().unwrap_or(0)
        }
        Kill::Chooser(spare) => {
            let comm = "boot-backend".to_owned();
            let after = Duration::from_millis(20);
            let hunt = machine.send(Ask::Hunt { comm, spare, after, limit: CHOOSER_MAX })?;
            u64::from(machine.answer(hunt, CHOOSER_MAX * 2)? == true)
        }
    };
    // RAUC may go on without what was killed; then it comes to its end.
    machine.answer(update, UPDATE_MAX)?;
    Ok(ended)
}

fn reset(bench: &Bench) -> Result<String> {
    let disk = bench.disk("reset")?;
    let (mut machine, _) = boot(&bench.setup("reset", &disk))?;
    let_in(&mut machine, Duration::from_secs(180))?;
    machine.ask(Ask::Pass { entry: true }, ANSWER_MAX)?;
    machine.ask(Ask::Pass { entry: false }, ANSWER_MAX)?;
    receipt(&mut machine, 1, Duration::from_secs(180))?;
    let identity = identity(&mut machine)?;
    let ran = machine.run(&["/usr/bin/caretaker", "reset", "--yes"], Duration::from_secs(120))?;
    ensure!(ran.status == Some(0) || ran.killed, "caretaker reset: {:?} {}", ran.status, ran.output.trim());
    let up = machine.up(BOOT_MAX)?;
    let_in(&mut machine, Duration::from_secs(180)).context("after the reset")?;
    let after = self::identity(&mut machine)?;
    ensure!(identity == after, "the identity was {identity:?} and is {after:?}");
    let receipts =
        machine.run(&["/usr/bin/cartd", "ledger", "receipts", "/var/lib/stile/cartd/ledger.db"], SHORT)?;
    if receipts.output.contains("\"session\"") {
        bail!("the ledger of before is still there: {}", receipts.output);
    }
    Ok(format!("same identity, empty ledger, slot {}", up.slot))
}

/// A USB stick for a box without a network. What it brings is told in a file on it.
fn technician(bench: &Bench) -> Result<String> {
    const NOTE: &str = "stile-virtual-1.txt";
    let disk = bench.disk("stick")?;
    let folder = bench.out.join("stick");
    let (mut machine, before) = boot(&bench.setup("stick", &disk))?;
    let_in(&mut machine, Duration::from_secs(180))?;
    proven(&mut machine)?;
    let identity = identity(&mut machine)?;
    // Whoever has a stick has no word of the operator's yet.
    let nothing = folder.join("nothing");
    std::fs::write(&nothing, "").context("cannot write a file")?;
    let stranger = folder.join("stranger.raw");
    stick(&stranger, &[("stile.support", &nothing)])?;
    machine.plug(&stranger)?;
    let refused = told_of_stick(&mut machine, "degraded", SHORT * 3)?;
    machine.pull()?;
    let note = on_stick(&stranger, NOTE)?.context("nothing is noted on the stick")?;
    ensure!(note.contains("refused"), "the stick of a stranger says {note:?}");

    // With the file that was flashed to this box: support file, and the bundle of the next version.
    let word = bench.out.join("virtual-1.provision");
    let ours = folder.join("ours.raw");
    let next = bundle(bench, "next.raucb")?;
    let files =
        [("stile.provision", word.as_path()), ("stile.support", &nothing), ("stile-x86-64.raucb", &next)];
    stick(&ours, &files)?;
    let began = Instant::now();
    machine.plug(&ours)?;
    let installed = told_of_stick(&mut machine, "up", UPDATE_MAX)?;
    let took = began.elapsed().as_secs_f64();
    ensure!(installed.contains("is installed"), "the stick's update: {installed}");
    let_in(&mut machine, Duration::from_secs(30)).context("after the stick's update")?;
    pass(&mut machine)?;
    // It stays in, and must not be served again by the next version.
    let up = machine.up(BOOT_MAX).context("the restart of the stick's update")?;
    ensure!(up.slot != before.slot && up.version != before.version, "slot {} of {}", up.slot, up.version);
    let_in(&mut machine, Duration::from_secs(180))?;
    proven(&mut machine)?;
    machine.pull()?;
    let note = on_stick(&ours, NOTE)?.context("nothing is noted on the stick")?;
    ensure!(note.lines().count() == 1, "a stick that was left in was served again: {note}");
    let support = note.split_once("wrote ").and_then(|(_, rest)| rest.split([';', '\n']).next());
    let support = support.context("no support file is named")?;
    let told = on_stick(&ours, support)?.with_context(|| format!("there is no {support}"))?;
    ensure!(told.len() > 1_000, "{support} has {} bytes", told.len());

    // A reset, once.
    let wish = folder.join("wish");
    std::fs::write(&wish, "virtual-1\n").context("cannot write a file")?;
    let reset = folder.join("reset.raw");
    stick(&reset, &[("stile.provision", &word), ("stile.reset", &wish)])?;
    machine.plug(&reset)?;
    let last = machine.up(BOOT_MAX).context("the restart of the reset")?;
    let_in(&mut machine, Duration::from_secs(180)).context("after the reset")?;
    machine.pull()?;
    ensure!(on_stick(&reset, "stile.reset")?.is_none(), "the wish for a reset is still on the stick");
    let after = self::identity(&mut machine)?;
    ensure!(identity == after, "the identity was {identity:?} and is {after:?}");
    Ok(format!(
        "{refused} | {installed}, {took:.0} s after the stick was plugged in | support file of {} bytes | reset: slot \
         {} again, same identity",
        told.len(),
        last.slot
    ))
}

/// The operator's key in the firmware, and the state for this TPM alone.
///
/// The kernel takes no module there that Debian has not signed, so this machine has no gate: what is shown is that the
/// right kernel starts, that the state opens, and for whom neither happens.
fn secured(bench: &Bench) -> Result<String> {
    const MARK: &str = "/var/lib/stile/mark";
    let disk = bench.disk("secured")?;
    let folder = bench.out.join("secured");
    for old in ["tpm-own", "tpm-other"] {
        let _ = std::fs::remove_dir_all(folder.join(old));
    }
    let esp = format!("{}@@{}", disk.display(), partition(&disk, "esp")?.start());
    // A technician chooses it in the boot manager's menu.
    let loader = folder.join("loader.conf").display().to_string();
    host(&["mcopy", "-n", "-o", "-i", &esp, "::/loader/loader.conf", &loader])?;
    let text = std::fs::read_to_string(&loader).context("loader.conf")?;
    let chosen = text.replace("secure-boot-enroll manual", "secure-boot-enroll if-safe");
    ensure!(chosen != text, "the boot manager's menu has no keys to enrol: {text}");
    std::fs::write(&loader, chosen).context("loader.conf")?;
    host(&["mcopy", "-o", "-i", &esp, &loader, "::/loader/loader.conf"])?;
    let mut setup = bench.setup("secured", &disk);
    setup.secure = Some(folder.join("tpm-own"));
    let mut machine = setup.start()?;
    // The boot manager gives the firmware the key, and starts again.
    machine.up(BOOT_MAX)?;
    let first = machine.began.elapsed();
    let locked = read(&mut machine, "/sys/kernel/security/lockdown")?;
    ensure!(
        locked.contains("[integrity]"),
        "the kernel was not started by Secure Boot: lockdown is {locked:?}"
    );
    let told = told_at_start(&mut machine)?;
    if told["encrypted"] != true {
        let journal =
            ["/usr/bin/journalctl", "--no-pager", "-b", "--namespace=*", "-t", "caretaker", "-t", "kernel"];
        let said = machine.run(&journal, SHORT)?.output;
        let of_it =
            said.lines().filter(|line| ["tpm", "TPM", "encrypt"].iter().any(|word| line.contains(word)));
        bail!("the state is not encrypted: {}", of_it.collect::<Vec<_>>().join(" / "));
    }
    let why = machine.run(&["/usr/bin/caretaker", "why"], SHORT)?.output;
    ensure!(why.contains("the state is encrypted") && !why.contains("Secure Boot is off"), "{why}");
    machine.ask(Ask::Write { path: MARK.to_owned(), text: "a mark".to_owned() }, ANSWER_MAX)?;
    reboot(&mut machine)?;
    let told = told_at_start(&mut machine)?;
    ensure!(told["encrypted"] == true, "after a restart the state is not the one of before: {told}");
    ensure!(read(&mut machine, MARK)? == "a mark", "after a restart the state has lost a file");
    off(&mut machine)?;
    drop(machine);
    let state = partition(&disk, "state")?;
    let mut head = [0; 6];
    let file = File::open(&disk).context("cannot open the disk")?;
    file.read_exact_at(&mut head, state.start()).context("cannot read the disk")?;
    ensure!(&head == b"LUKS\xba\xbe", "the state's partition begins with {head:?}");

    // Somebody takes the disk to another machine of the same kind.
    setup.secure = Some(folder.join("tpm-other"));
    let mut machine = setup.start()?;
    machine.up(BOOT_MAX)?;
    let stolen = told_at_start(&mut machine)?;
    let troubles = stolen["troubles"].to_string();
    ensure!(
        troubles.contains("neither this machine's TPM nor its key file opens it"),
        "another TPM opens the state, or nothing is said of it: {stolen}"
    );
    ensure!(read(&mut machine, MARK).is_err(), "another TPM opens the state");
    off(&mut machine)?;
    drop(machine);

    // Somebody puts a kernel there that the operator has not signed.
    let kernel = folder.join("unsigned.efi").display().to_string();
    host(&["mcopy", "-n", "-o", "-i", &esp, "::/EFI/stile/a.efi", &kernel])?;
    host(&["sbattach", "--remove", &kernel])?;
    host(&["mcopy", "-o", "-i", &esp, &kernel, "::/EFI/stile/a.efi"])?;
    setup.secure = Some(folder.join("tpm-own"));
    let mut machine = setup.start()?;
    let started = machine.up(first * 2 + SHORT);
    ensure!(started.is_err(), "a kernel that nobody signed was started");
    let said = machine.console_end();
    let why = said.lines().rev().find(|line| REFUSALS.iter().any(|word| line.contains(word)));
    let why = why.with_context(|| format!("it did not start, and why is not said:\n{said}"))?;
    Ok(format!(
        "key enrolled and up after {:.0} s; lockdown {}; state encrypted, opened after a restart; another TPM: \
         {troubles}; unsigned kernel: {}",
        first.as_secs_f64(),
        locked.trim(),
        why.trim()
    ))
}

/// Runs a program of this machine.
fn host(argv: &[&str]) -> Result<()> {
    let output =
        tool(argv[0]).args(&argv[1..]).output().with_context(|| format!("cannot start {}", argv[0]))?;
    ensure!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn off(machine: &mut Machine) -> Result<()> {
    machine.run(&["/usr/bin/systemctl", "--no-block", "poweroff"], SHORT)?;
    machine.off(Duration::from_secs(300))
}

fn read(machine: &mut Machine, path: &str) -> Result<String> {
    let text = machine.ask(Ask::Read { path: path.to_owned() }, ANSWER_MAX)?;
    Ok(text.as_str().context("no text")?.to_owned())
}

/// What the caretaker found at the start.
fn told_at_start(machine: &mut Machine) -> Result<serde_json::Value> {
    // The player may be earlier than the caretaker.
    let text = until(machine, SHORT * 2, |machine| read(machine, "/run/stile/boot.json"))?;
    serde_json::from_str(&text).context("boot.json")
}

/// What the caretaker says of the stick, as soon as it says it in this state.
fn told_of_stick(machine: &mut Machine, state: &str, limit: Duration) -> Result<String> {
    until(machine, limit, |machine| {
        let told =
            machine.ask(Ask::Retained { topic: "stile/health/caretaker/stick".to_owned() }, ANSWER_MAX)?;
        ensure!(told["state"] == state, "the caretaker says of the stick: {told}");
        Ok(told["detail"].as_str().unwrap_or_default().to_owned())
    })
}

/// Asks again and again until there is an answer; the last reason why there is none.
fn until<T>(
    machine: &mut Machine,
    limit: Duration,
    mut ask: impl FnMut(&mut Machine) -> Result<T>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask(machine) {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() > limit => return Err(error),
            Err(_) => machine.listen(Duration::from_secs(2))?,
        }
    }
}

/// What makes the box this box, as far as it shows.
fn identity(machine: &mut Machine) -> Result<String> {
    let value = until(machine, SHORT * 2, |machine| {
        let value = machine.ask(Ask::Retained { topic: topic::BOX_VIEW.to_owned() }, ANSWER_MAX)?;
        ensure!(!value.is_null(), "the caretaker says nothing of the box");
        Ok(value)
    })?;
    Ok(format!("{} {}", value["name"], value["serial"]))
}
