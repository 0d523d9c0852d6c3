//! What starts on a box: units, users and role manifests fit each other, and systemd finds nothing wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::store::{Lane, StoreMap};
use runtime::manifest::{Manifest, ServiceName};

use crate::tidy::root;

/// What may reach a service from outside it, by `systemd-analyze security`, tenths: more needs a reason here and in
/// appliance/README.md.
const EXPOSURE_TENTHS_MAX: [(&str, u32); 6] =
    [("gated", 16), ("cartd", 13), ("visiond", 13), ("kiosk", 13), ("console", 11), ("mosquitto", 12)];

/// Groups that every Debian or Yocto system has, for the devices of systemd's own rules.
const SYSTEM_GROUPS: [&str; 3] = ["dialout", "input", "video"];

fn units() -> BTreeMap<String, Vec<(String, String)>> {
    let folder = root().join("appliance/systemd");
    let mut units = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ending| ending != "service") {
            continue;
        }
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        let lines = text.lines().filter(|line| !line.starts_with(['#', ';', '[']));
        let pairs = lines.filter_map(|line| line.split_once('='));
        units.insert(name, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    }
    units
}

fn all<'a>(unit: &'a [(String, String)], key: &str) -> Vec<&'a str> {
    unit.iter().filter(|(name, _)| name == key).flat_map(|(_, value)| value.split_whitespace()).collect()
}

fn ours(unit: &str) -> Option<ServiceName> {
    toml::Value::String(unit.to_owned()).try_into().ok()
}

fn manifests() -> Vec<(String, Manifest)> {
    let folder = root().join("appliance/manifests");
    let files = std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path());
    let mut manifests: Vec<(String, Manifest)> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let manifest =
                Manifest::load(&path).unwrap_or_else(|error| panic!("{error}: {:?}", source(&error)));
            (name, manifest)
        })
        .collect();
    manifests.sort_by(|a, b| a.0.cmp(&b.0));
    manifests
}

fn source(error: &dyn std::error::Error) -> Option<String> {
    error.source().map(ToString::to_string)
}

/// A store map in which a manifest's lanes are.
fn map_of(manifest: &Manifest) -> StoreMap {
    let lane = |id: &str| Lane {
        id: id.into(),
        position: [0.0, 0.0],
        inward: [0.0, 1.0],
        entry: id.starts_with("entry"),
        exit: id.starts_with("exit"),
    };
    StoreMap {
        name: "store".to_owned(),
        bounds: [0.0, 0.0, 1.0, 1.0],
        gondolas: Vec::new(),
        lanes: manifest.lanes.iter().map(|settings| lane(&settings.id)).collect(),
        cameras: Vec::new(),
        plates: Vec::new(),
        products: Vec::new(),
        facings: Vec::new(),
    }
}

#[test]
fn every_shipped_manifest_is_understood_by_the_services_it_starts() {
    let manifests = manifests();
    for role in ["entry-gate", "exit-gate", "kiosk", "store-box", "all-in-one"] {
        assert!(manifests.iter().any(|(name, _)| name == role), "no manifest for the role {role}");
    }
    for (name, manifest) in &manifests {
        gated::devices::lanes(&manifest.lanes, &map_of(manifest))
            .unwrap_or_else(|error| panic!("{name}: {error}: {:?}", source(&error)));
        if !manifest.role.is_empty() {
            assert!(*name == manifest.role || *name == format!("{}-sim", manifest.role), "{name}");
            let starts = |service| manifest.services.contains(&service);
            assert_eq!(starts(ServiceName::Gated), !manifest.lanes.is_empty(), "{name}: lanes and gated");
            assert_eq!(starts(ServiceName::Kiosk), manifest.screen.is_some(), "{name}: screen and kiosk");
            assert_eq!(manifest.state_dir, Path::new("/var/lib/stile"), "{name}");
            assert_eq!(manifest.store_map, Path::new("/etc/stile/store.json"), "{name}");
        }
        if let Some(lane) = manifest.screen.as_ref().and_then(|screen| screen.lane.as_ref()) {
            assert!(manifest.lanes.iter().any(|known| known.id == *lane), "{name}: screen of lane {lane}");
        }
    }
}

#[test]
fn every_unit_finds_its_program_user_manifest_and_role() {
    let programs: BTreeSet<String> = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs")
        .packages
        .iter()
        .flat_map(|package| package.targets.iter().filter(|target| target.is_bin()))
        .map(|target| target.name.clone())
        .collect();
    let own = root().join("appliance/systemd/root/usr/lib");
    let sysusers = std::fs::read_to_string(own.join("sysusers.d/00-stile.conf")).expect("sysusers");
    let named = |kind: &str| -> BTreeSet<&str> {
        let lines = sysusers.lines().filter_map(|line| line.strip_prefix(kind));
        lines.filter_map(|line| line.split_whitespace().next()).collect()
    };
    let (users, groups) = (named("u "), named("g "));
    let preset = std::fs::read_to_string(own.join("systemd/system-preset/00-stile.preset")).expect("preset");
    let units = units();
    let mut started = BTreeSet::new();
    for (name, unit) in units.iter().filter(|(name, _)| !name.starts_with("caretaker")) {
        assert!(preset.lines().any(|line| line == format!("enable {name}.service")), "{name} is not enabled");
        for key in ["ExecStart", "ExecStopPost"] {
            for word in all(unit, key).into_iter().filter(|word| word.starts_with("/usr/bin/")) {
                let program = word.trim_start_matches("/usr/bin/");
                assert!(programs.contains(program), "{name}: no program {program} in the workspace");
            }
            let words = all(unit, key);
            for pair in words.windows(2).filter(|pair| pair[0] == "--manifest") {
                assert_eq!(pair[1], "/etc/stile/manifest.toml", "{name}: one manifest for all");
            }
        }
        for user in all(unit, "User") {
            assert!(users.contains(user), "{name}: no user {user} in sysusers.d");
        }
        assert_eq!(all(unit, "User"), [name.as_str()], "{name}: a user of its own");
        for group in all(unit, "SupplementaryGroups") {
            let known = groups.contains(group) || SYSTEM_GROUPS.contains(&group);
            assert!(known, "{name}: no group {group}");
        }
        for key in ["MemoryMax", "TasksMax", "CPUWeight", "SystemCallFilter", "TimeoutStopSec"] {
            assert!(!all(unit, key).is_empty(), "{name}: {key} is missing");
        }
        assert_eq!(all(unit, "LimitCORE"), ["0"], "{name} leaves cores");
        assert_eq!(all(unit, "Type"), ["notify"], "{name}: its readiness is a guess");
        if let Some(service) = ours(name) {
            started.insert(service);
            assert!(!all(unit, "WatchdogSec").is_empty(), "{name}: nobody notices when it hangs");
            let condition = format!("/run/stile/services/{name}");
            let conditions = all(unit, "ConditionPathExists");
            let asked = conditions.iter().any(|path| path.trim_start_matches('|') == condition);
            assert!(asked, "{name} starts whatever the role: {conditions:?}");
        }
    }
    for (name, manifest) in manifests() {
        let missing: Vec<_> = manifest.services.difference(&started).collect();
        assert!(missing.is_empty(), "{name}: no unit for {missing:?}");
    }
}

#[test]
fn the_gate_is_ready_first_and_waits_for_nothing() {
    let units = units();
    let gated = &units["gated"];
    assert_eq!(all(gated, "DefaultDependencies"), ["no"]);
    assert_eq!(all(gated, "After"), ["caretaker-first-boot.service", "systemd-udevd.service"]);
    for key in ["Requires", "BindsTo", "Requisite", "PartOf", "LogNamespace"] {
        assert!(all(gated, key).is_empty(), "gated depends on {:?}", all(gated, key));
    }
    assert!(all(gated, "PrivateTmp").is_empty(), "PrivateTmp= waits for file systems");
    for (name, unit) in &units {
        if name != "gated" && ours(name).is_some() {
            assert!(all(unit, "After").contains(&"gated.service"), "{name} may start before the gate");
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// A root folder with the units and what they name, as far as `systemd-analyze` looks.
fn installed() -> Option<(tempfile::TempDir, PathBuf)> {
    let system = Path::new("/usr/lib/systemd/system");
    let here =
        Command::new("systemd-analyze").arg("--version").output().is_ok_and(|said| said.status.success());
    if !here || !system.join("sysinit.target").exists() {
        skipped("no systemd on this machine");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let units = folder.path().join("usr/lib/systemd/system");
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        std::fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    for entry in std::fs::read_dir(system).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let base = [".target", ".slice", ".mount", ".socket"].iter().any(|ending| name.ends_with(ending))
            || name.starts_with("systemd-journald")
            || name.starts_with("systemd-udevd");
        if base && entry.path().is_file() {
            copy(&entry.path(), &units.join(&name));
        }
    }
    for name in self::units().keys() {
        copy(
            &root().join(format!("appliance/systemd/{name}.service")),
            &units.join(format!("{name}.service")),
        );
    }
    for program in [
        "bin/gated",
        "bin/gate-failsafe",
        "bin/cartd",
        "bin/visiond",
        "bin/kiosk",
        "bin/console",
        "bin/caretaker",
        "sbin/mosquitto",
    ] {
        copy(Path::new("/proc/self/exe"), &folder.path().join("usr").join(program));
    }
    Some((folder, units))
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some((folder, units)) = installed() else { return };
    for (name, most) in EXPOSURE_TENTHS_MAX {
        let unit = units.join(format!("{name}.service"));
        let root = format!("--root={}", folder.path().display());
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--man=no", &root])
            .arg(&unit)
            .output()
            .expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.is_empty(), "{name}: {said}");

        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", &root, &format!("{name}.service")])
            .output()
            .expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&judged.stdout);
        let score = said.lines().last().and_then(|line| line.split(": ").nth(1)?.split_whitespace().next());
        let (whole, tenths) = score.and_then(|score| score.split_once('.')).unwrap_or_else(|| {
            panic!("{name}: no exposure in: {said}{}", String::from_utf8_lossy(&judged.stderr))
        });
        let exposure = 10 * whole.parse::<u32>().expect("a number") + tenths.parse::<u32>().expect("a digit");
        assert!(exposure <= most, "{name}: exposure {exposure} tenths, {most} were agreed:\n{said}");
    }
}
