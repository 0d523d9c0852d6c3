//! What a step works on: the built image, disks made of it, and a machine with one in.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use osimage::gpt::{Copy, Partition, Table};
use osimage::key::SecretKey;
use osimage::provision::{BoxName, Provision, Role, Updates};
use turnstile::gpiosim::{GpioSim, Wiring};
use vm::player::{Command as Ask, Shown};
use vm::shop;

use crate::machine::{Machine, Setup, Time, Up};
use crate::tool;

/// From power to the player, software emulation on two busy cores.
pub const BOOT_MAX: Duration = Duration::from_secs(420);
/// A question to the player that needs no time of its own.
pub const ANSWER_MAX: Duration = Duration::from_secs(240);

/// What is tried, and where.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The disk image.
    pub image: PathBuf,
    /// The operator's keys.
    pub keys: PathBuf,
    /// Where runs leave their files.
    pub out: PathBuf,
    /// Size of the disks.
    pub disk_bytes: u64,
    /// More for the kernel's command line.
    pub command_line: String,
    /// Bundles by name.
    pub bundles: PathBuf,
    /// What the machines' clocks follow.
    pub time: Time,
    /// The image has no caretaker.
    pub stand_in: bool,
}

impl Bench {
    /// A flashed and provisioned disk, made once and copied sparsely.
    ///
    /// # Errors
    /// When the image cannot be flashed or provisioned.
    pub fn disk(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))?;
        let fresh = self.out.join("fresh.raw");
        let modified = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
        if modified(&fresh).is_none_or(|made| modified(&self.image).is_some_and(|image| image > made)) {
            let part = self.out.join("fresh.part");
            self.flash(&part, &self.provision(&self.out)?)?;
            std::fs::rename(&part, &fresh).context("cannot name the fresh disk")?;
        }
        let disk = self.room(name)?;
        copy(&fresh, &disk)?;
        Ok(disk)
    }

    /// A flashed disk, provisioned otherwise than all others.
    ///
    /// # Errors
    /// When the image cannot be flashed or provisioned.
    pub fn disk_with(&self, name: &str, updates: Updates) -> Result<PathBuf> {
        let disk = self.room(name)?;
        let file = self.sign(&Provision { updates, ..provision()? }, &self.out.join(name))?;
        self.flash(&disk, &file)?;
        Ok(disk)
    }

    /// Where a step's disk goes.
    fn room(&self, name: &str) -> Result<PathBuf> {
        let folder = self.out.join(name);
        std::fs::create_dir_all(&folder).context("cannot make the step's folder")?;
        // A new machine: its firmware knows nothing yet, and its console has said nothing.
        for old in ["variables.fd", "console.log"] {
            let _ = std::fs::remove_file(folder.join(old));
        }
        Ok(folder.join("disk.raw"))
    }

    /// As a technician does: `osimage flash` with the box's signed provisioning file, to a file of the size of a disk.
    fn flash(&self, to: &Path, file: &Path) -> Result<()> {
        File::create(to)
            .and_then(|disk| disk.set_len(self.disk_bytes))
            .with_context(|| format!("cannot make {}", to.display()))?;
        let tool = std::env::current_exe().context("where am I")?.with_file_name("osimage");
        let mut command = Command::new(&tool);
        command.arg("flash").arg(&self.image).arg("--to").arg(to).arg("--provision").arg(file);
        let output = command
            .args(["--no-record", "--json"])
            .output()
            .with_context(|| format!("cannot start {}", tool.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "osimage flash failed: {}", said.trim());
        Ok(())
    }

    /// The box's provisioning file, issued now, in a folder.
    ///
    /// # Errors
    /// When it cannot be signed or written.
    pub fn provision(&self, folder: &Path) -> Result<PathBuf> {
        self.sign(&provision()?, folder)
    }

    fn sign(&self, provision: &Provision, folder: &Path) -> Result<PathBuf> {
        let key = SecretKey::read(&self.keys.join("provision.key"))
            .with_context(|| format!("the provisioning key in {}", self.keys.display()))?;
        let text = provision.sign(&key).context("cannot sign the provisioning file")?;
        let file = folder.join("virtual-1.provision");
        std::fs::write(&file, text).context("cannot write the provisioning file")?;
        Ok(file)
    }

    /// The usual machine for a disk of a step.
    pub fn setup(&self, name: &str, disk: &Path) -> Setup {
        let mut setup = Setup::new(&self.out.join(name), disk);
        setup.time = self.time;
        setup.stand_in = self.stand_in;
        if !self.command_line.is_empty() {
            setup.command_line = format!("{} {}", setup.command_line, self.command_line);
        }
        setup
    }
}

/// A partition of a disk.
///
/// # Errors
/// When there is none of that name.
pub fn partition(disk: &Path, name: &str) -> Result<Partition> {
    let mut file = File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
    let table = Table::read(&mut file, Copy::Primary).context("the partition table")?;
    let found = table.partitions.into_iter().find(|partition| partition.name == name);
    found.with_context(|| format!("{} has no partition {name}", disk.display()))
}

/// A sparse copy.
///
/// # Errors
/// When it cannot be made.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto"])
        .args([from, to])
        .status()
        .context("cannot start cp")?;
    ensure!(status.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}

/// What a box without a caretaker lacks: the files that it would have made of the provisioning file, and the services
/// that wait for them. For bringing up an image; a proof with it is none of the caretaker's.
fn stand_in(machine: &mut Machine) -> Result<()> {
    let Provision { store_map, mut manifest, .. } = provision()?;
    for (key, value) in [
        ("name", "virtual-1"),
        ("role", "all-in-one"),
        ("state_dir", "/var/lib/stile"),
        ("admission", "/run/stile/admission.toml"),
        ("store_map", "/run/stile/store.json"),
    ] {
        manifest.insert(key.to_owned(), value.into());
    }
    let bus = toml::toml! {
        kind = "mqtt"
        host = "127.0.0.1"
        port = 1883
    };
    manifest.insert("bus".to_owned(), bus.into());
    let console = toml::toml! { listen = "0.0.0.0:8480" };
    manifest.insert("console".to_owned(), console.into());
    let services: Vec<String> = manifest
        .get("services")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    machine.run(&["/usr/bin/systemd-tmpfiles", "--create"], ANSWER_MAX)?;
    let mut files = vec![
        ("manifest.toml".to_owned(), toml::to_string(&manifest)?),
        ("store.json".to_owned(), store_map.unwrap_or_default()),
        ("admission.toml".to_owned(), shop::admission()),
    ];
    files.extend(services.iter().map(|name| (format!("services/{name}"), String::new())));
    for (name, text) in files {
        machine.ask(Ask::Write { path: format!("/run/stile/{name}"), text }, ANSWER_MAX)?;
    }
    for name in &services {
        let ran = machine.run(&["/usr/bin/systemctl", "restart", name], Duration::from_secs(180))?;
        ensure!(ran.status == Some(0), "{name} does not start: {}", ran.output.trim());
    }
    Ok(())
}

fn provision() -> Result<Provision> {
    let strip = GpioSim::settings_of(shop::STRIP, Wiring::default());
    let mut turnstile = toml::Table::try_from(strip).context("settings of the turnstile")?;
    turnstile.insert("kind".to_owned(), "cdev".into());
    let (vendor, product) = shop::SCANNER;
    let reader = toml::toml! {
        kind = "hid-pos"
        select = { vendor = (i64::from(vendor)), product = (i64::from(product)) }
    };
    let mut lane = toml::Table::new();
    lane.insert("id".to_owned(), shop::LANE.into());
    lane.insert("entry_is_a".to_owned(), true.into());
    lane.insert("turnstile".to_owned(), turnstile.into());
    lane.insert("readers".to_owned(), vec![reader].into());
    let mut manifest = toml::Table::new();
    manifest.insert("lanes".to_owned(), vec![lane].into());
    let services: Vec<&str> = vec!["gated", "cartd", "kiosk", "console"];
    manifest.insert("services".to_owned(), services.into());
    // A pseudo-terminal has no parity, and the driver takes no port that is not as it was set.
    let shelf = toml::toml! {
        gondola = 1
        line = { kind = "serial", path = (shop::SHELF_LINE), parity = "none" }
    };
    manifest.insert("load_cells".to_owned(), vec![shelf].into());
    let screen = toml::toml! {
        shows = "gate"
        lane = (shop::LANE)
        language = "en"
    };
    manifest.insert("screen".to_owned(), screen.into());
    let issued = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(Provision {
        issued: issued.as_secs(),
        store: "virtual".to_owned(),
        role: Role::AllInOne,
        store_map: Some(serde_json::to_string(&shop::map(true))?),
        target: BoxName { name: "virtual-1".to_owned(), serial: None },
        network: osimage::provision::Network::default(),
        time: osimage::provision::Time::default(),
        broker: None,
        updates: Updates::default(),
        admission: Some(toml::from_str(&shop::admission()).context("the admission")?),
        manifest,
        secrets: BTreeMap::new(),
    })
}

/// Boots and waits for the player with all its devices.
///
/// # Errors
/// When it does not come up, or a device is missing.
pub fn boot(setup: &Setup) -> Result<(Machine, Up)> {
    let mut machine = setup.start()?;
    let up = machine.up(BOOT_MAX)?;
    ensure!(up.faults.is_empty(), "the player's devices: {}", up.faults.join("; "));
    if setup.stand_in {
        stand_in(&mut machine)?;
    }
    Ok((machine, up))
}

/// Shows codes of new shoppers until one is let in; the gate may have just started.
///
/// # Errors
/// When nobody is let in for that long.
pub fn let_in(machine: &mut Machine, limit: Duration) -> Result<Shown> {
    let began = Instant::now();
    loop {
        let wait = Duration::from_secs(4);
        let shown = machine.ask(Ask::Show { again: false, wait }, ANSWER_MAX)?;
        let shown: Shown = serde_json::from_value(shown).context("the player's answer")?;
        if shown.opened_ms.is_some() {
            return Ok(shown);
        }
        if began.elapsed() > limit {
            let last = machine.notices.last().cloned();
            let mut why = String::new();
            for argv in [
                &["/usr/bin/systemctl", "--no-pager", "--full", "--lines=25", "status", "gated"][..],
                &["/usr/bin/journalctl", "--no-pager", "-p", "warning", "-n", "25"],
            ] {
                if let Ok(ran) = machine.run(argv, ANSWER_MAX) {
                    why.push_str(&ran.output);
                }
            }
            bail!("nobody is let in for {} s; the lane last showed {last:?}\n{why}", limit.as_secs());
        }
    }
}

/// A file on a FAT stick; None: there is none.
///
/// # Errors
/// When the stick cannot be read.
pub fn on_stick(stick: &Path, name: &str) -> Result<Option<String>> {
    let output = Command::new("mtype").arg("-i").arg(stick).arg(format!("::{name}")).output();
    let output = output.context("cannot start mtype")?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// A FAT stick with these files, raw.
///
/// # Errors
/// When it cannot be made.
pub fn stick(to: &Path, files: &[(&str, &Path)]) -> Result<()> {
    let bytes: u64 =
        files.iter().filter_map(|(_, path)| std::fs::metadata(path).ok()).map(|data| data.len()).sum();
    let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    file.set_len((bytes + (64 << 20)).next_multiple_of(1 << 20)).context("cannot size the stick")?;
    let run = |command: &mut Command| -> Result<()> {
        let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{:?} failed: {}", command.get_program(), said.trim());
        Ok(())
    };
    run(tool("mkfs.vfat").args(["-F", "32"]).arg(to))?;
    for (name, path) in files {
        run(Command::new("mcopy").arg("-i").arg(to).arg(path).arg(format!("::{name}")))?;
    }
    Ok(())
}
