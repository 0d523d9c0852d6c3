//! The layers of the production image, without bitbake: what recipes name exists, lists agree with Cargo.lock and with
//! each other, and nothing is there twice that the reference image has too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tidy::root;

/// The layers of this repository.
const LAYERS: [&str; 3] = ["meta-stile", "meta-stile-bsp", "meta-stile-airgap"];

/// Every machine that an image is made for.
const MACHINES: [&str; 4] = ["qemux86-64", "genericx86-64", "raspberrypi4-64", "raspberrypi5"];

fn yocto() -> PathBuf {
    root().join("yocto")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() && !entry.is_symlink() {
            walk(&entry, found);
        } else {
            found.push(entry);
        }
    }
}

fn files(below: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(below, &mut found);
    found.retain(|path| {
        let name = path.to_string_lossy();
        endings.iter().any(|ending| name.ends_with(ending))
    });
    found
}

fn recipes() -> Vec<PathBuf> {
    LAYERS
        .iter()
        .flat_map(|layer| files(&yocto().join(layer), &[".bb", ".bbappend", ".inc", ".bbclass"]))
        .collect()
}

#[expect(clippy::print_stderr, reason = "a test that does nothing says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// The words of a file in which `start` is, cut at what ends a path in a recipe.
fn words<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for (at, _) in line.match_indices(start) {
            let word = &line[at + start.len()..];
            let end = word.find(|c: char| c.is_whitespace() || "\";:'\\)".contains(c)).unwrap_or(word.len());
            found.push(&word[..end]);
        }
    }
    found
}

/// The name of a recipe without version and native: what `${BPN}` is.
fn recipe_name(path: &Path) -> String {
    let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
    let name = stem.split('_').next().expect("a part").to_owned();
    name.strip_suffix("-native").map(str::to_owned).unwrap_or(name)
}

#[test]
fn every_file_that_a_recipe_names_is_there() {
    let fragments = yocto().join("meta-stile-bsp/recipes-kernel/linux/stile-kernel");
    let mut named = 0;
    for path in recipes() {
        let text = read(&path);
        let beside = path.parent().expect("a folder");
        let places = [beside.join(recipe_name(&path)), beside.join("files"), fragments.clone()];
        // What an append takes away belongs to somebody else; so do absolute paths and licences.
        let foreign = |line: &&str| line.contains(":remove") || line.starts_with("LIC_FILES_CHKSUM");
        let own: String = text.lines().filter(|line| !foreign(line)).collect::<Vec<_>>().join("\n");
        let removed: BTreeSet<&str> = removed_files(&text).into_iter().collect();
        for name in words(&own, "file://") {
            let foreign = name.starts_with('/') || name.contains("${") || removed.contains(name);
            // The one file that another layer brings to a recipe that we append to.
            let core =
                path.extension().is_some_and(|ending| ending == "bbappend") && name == "gnu-configize.in";
            if foreign || core {
                continue;
            }
            named += 1;
            assert!(
                places.iter().any(|place| place.join(name).exists()),
                "{}: no file {name} in {places:?}",
                path.display()
            );
        }
        for (start, folder) in [
            ("${STILE_TOP}/", ""),
            ("${STILE_REFERENCE}/", "image/reference"),
            ("${S}/image/", "image"),
            ("${S}/appliance/", "appliance"),
            ("${S}/models/", "models"),
            ("${S}/tests/", "tests"),
        ] {
            for name in words(&text, start) {
                // Up to what is only known while it is built.
                let sure = name.split(['$', '*']).next().expect("a part");
                let sure = if sure.len() < name.len() {
                    sure.rsplit_once('/').map_or("", |(path, _)| path)
                } else {
                    sure
                };
                named += 1;
                let file = root().join(folder).join(sure.trim_end_matches("/."));
                assert!(file.exists(), "{}: no {}", path.display(), file.display());
            }
        }
    }
    assert!(named > 30, "only {named} names were found: recipes are written in another way now");
}

fn removed_files(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        inside |= line.contains(":remove");
        if inside {
            found.extend(words(line, "file://"));
            inside = line.trim_end().ends_with('\\');
        }
    }
    found
}

#[test]
fn crates_are_those_of_the_lock_file() {
    let lock: toml::Table = read(&root().join("Cargo.lock")).parse().expect("TOML");
    let mut locked = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages") {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        if let Some(source) = text("source") {
            let name = format!("{}-{}", text("name").expect("a name"), text("version").expect("a version"));
            assert!(
                source.contains("crates.io-index"),
                "{name} is from {source}, which the layers do not know"
            );
            locked.insert(name, text("checksum").expect("a checksum"));
        }
    }
    let list = read(&yocto().join("meta-stile/recipes-stile/programs/stile-crates.inc"));
    let mut listed = BTreeMap::new();
    for line in list.lines().filter_map(|line| line.strip_prefix("SRC_URI[")) {
        let (name, sum) = line.split_once(".sha256sum] = ").expect("a checksum");
        listed.insert(name.to_owned(), sum.trim_matches('"').to_owned());
    }
    let fetched: BTreeSet<String> =
        words(&list, "crate://crates.io/").into_iter().map(|name| name.replacen('/', "-", 1)).collect();
    assert_eq!(listed, locked, "run yocto/scripts/crates.py");
    assert_eq!(fetched, locked.into_keys().collect(), "run yocto/scripts/crates.py");
}

#[test]
fn every_unit_and_program_has_its_recipe() {
    let mut units = BTreeMap::<String, u32>::new();
    let mut programs = BTreeSet::new();
    for path in files(&yocto().join("meta-stile/recipes-stile/services"), &[".bb"]) {
        let (text, name) = (read(&path), recipe_name(&path));
        let value = |key: &str| -> Option<String> {
            let (_, rest) = text.split_once(&format!("{key} = \""))?;
            Some(rest.split('"').next().expect("an end").replace('\\', " "))
        };
        for unit in value("STILE_UNITS").unwrap_or(format!("{name}.service")).split_whitespace() {
            *units.entry(unit.to_owned()).or_default() += 1;
        }
        programs.extend(value("STILE_PROGRAMS").unwrap_or(name).split_whitespace().map(str::to_owned));
    }
    let append =
        "meta-stile/dynamic-layers/networking-layer/recipes-connectivity/mosquitto/mosquitto_%.bbappend";
    for unit in words(&read(&yocto().join(append)), "appliance/systemd/") {
        if unit.ends_with(".service") && !unit.contains('/') {
            units.insert(unit.to_owned(), 1);
        }
    }
    let there: BTreeMap<String, u32> = std::fs::read_dir(root().join("appliance/systemd"))
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| [".service", ".timer", ".socket", ".path"].iter().any(|ending| name.ends_with(ending)))
        .map(|name| (name, 1))
        .collect();
    assert_eq!(units, there, "each unit of appliance/systemd in one recipe");

    let reference = read(&root().join("image/reference/build.sh"));
    let (_, list) =
        reference.split_once("PROGRAMS=(${STILE_PROGRAMS-").expect("the reference image's programs");
    let expected: BTreeSet<String> =
        list.split('}').next().expect("an end").split_whitespace().map(str::to_owned).collect();
    assert_eq!(programs, expected, "the programs of the reference image");
    let build = read(&yocto().join("meta-stile/recipes-stile/programs/stile-programs_0.1.0.bb"));
    for program in &expected {
        assert!(
            build.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == program),
            "{program}"
        );
    }
}

/// bitbake compiles anew what a recipe says that it takes: a crate that is compiled and not named would stay as it was.
#[test]
fn recipes_name_every_crate_that_they_compile() {
    let parsed = |path: &Path| -> toml::Table { read(path).parse().expect("TOML") };
    let manifest = parsed(&root().join("Cargo.toml"));
    let members = manifest["workspace"]["members"].as_array().expect("members");
    let mut crates = BTreeMap::new();
    for folder in members.iter().filter_map(toml::Value::as_str) {
        let manifest = parsed(&root().join(folder).join("Cargo.toml"));
        let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
        let tables = manifest.get("target").and_then(toml::Value::as_table).into_iter();
        let tables =
            tables.flat_map(toml::Table::values).filter_map(toml::Value::as_table).chain([&manifest]);
        let needed: BTreeSet<String> = tables
            .flat_map(|table| [table.get("dependencies"), table.get("build-dependencies")])
            .flatten()
            .filter_map(toml::Value::as_table)
            .flat_map(|needed| needed.keys().cloned())
            .collect();
        crates.insert(name, (folder.to_owned(), needed));
    }
    for recipe in ["stile-programs_0.1.0.bb", "osimage-native_0.1.0.bb"] {
        let text = read(&yocto().join("meta-stile/recipes-stile/programs").join(recipe));
        let value = |key: &str| -> Vec<&str> {
            let (_, rest) = text.split_once(&format!("{key} = \"")).unwrap_or_default();
            rest.split('"').next().expect("a part").split_whitespace().collect()
        };
        let taken = value("STILE_FILES");
        let mut open: Vec<&str> = value("PROGRAMS");
        open.extend(words(&text, "--package ").into_iter().filter(|name| !name.starts_with('$')));
        assert!(!open.is_empty() && taken.contains(&"Cargo.lock"), "{recipe}: {open:?} of {taken:?}");
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some((folder, needed)) = crates.get(name).filter(|_| seen.insert(name.to_owned())) else {
                assert!(seen.contains(name) || !crates.contains_key(name), "{name}");
                continue;
            };
            for part in ["src", "Cargo.toml"] {
                let path = format!("{folder}/{part}");
                let named = |place: &&str| Path::new(&path).starts_with(place);
                assert!(taken.iter().any(|place| named(&place)), "{recipe}: STILE_FILES lacks {path}");
            }
            open.extend(needed.iter().map(String::as_str));
        }
        for place in taken {
            assert!(root().join(place).exists(), "{recipe}: no {place}");
        }
    }
}

/// What both builds must say in the same words: the kernel's command line, salt and id of the hash tree, the boot
/// manager's entry, the firmware's choice.
#[test]
fn both_images_start_in_the_same_words() {
    let class = read(&yocto().join("meta-stile/classes-recipe/stile-slot.bbclass"));
    let script = read(&root().join("image/reference/build.sh"));
    let line = |text: &str| -> BTreeSet<String> {
        let (_, body) = text.split_once("cmdline() {").expect("the command line");
        let body = body.split("\n}").next().expect("an end");
        body.split(|c: char| c.is_whitespace() || "\"'\\".contains(c))
            .filter(|word| {
                ["root", "systemd.", "panic=", "quiet", "loglevel=", "ro"]
                    .iter()
                    .any(|start| word.starts_with(start))
            })
            .map(|word| word.replace("$(cat", "").trim_end_matches("=%s").trim_end_matches('=').to_owned())
            .filter(|word| word != "roothash)")
            .collect()
    };
    let (ours, theirs) = (line(&class), line(&script));
    assert!(theirs.len() > 8, "the command line was not found: {theirs:?}");
    assert_eq!(ours, theirs);
    for same in [
        "stile verity salt",
        "53746c65-0000-4000-8000-766572697479",
        "title Stile a, generation 1\\nefi /EFI/stile/a.efi\\n",
        "timeout 0\\neditor no\\nauto-entries no\\nauto-firmware no\\nconsole-mode keep\\nsecure-boot-enroll manual\\n",
        "[all]\\ntryboot_a_b=1\\nboot_partition=3\\n[tryboot]\\nboot_partition=4\\n",
        "--invariant -F 32 -n ESP -i 53544C45",
        "--invariant -F 32 -n BOOT -i 53544C42",
        "--invariant -F 16 -n SELECT -i 53544C53",
    ] {
        assert!(class.contains(same), "stile-slot.bbclass lacks {same:?}");
        assert!(script.contains(same), "build.sh lacks {same:?}");
    }
}

/// A copy would be changed in one place only: the layers take shared files from where the reference image takes them.
#[test]
fn nothing_shared_is_copied() {
    let mut shared = BTreeMap::new();
    for folder in
        ["appliance/systemd", "appliance/manifests", "image/reference", "image/layouts", "models/onnx"]
    {
        for path in files(&root().join(folder), &[""]) {
            if let Ok(bytes) = std::fs::read(&path)
                && bytes.len() > 40
            {
                shared.insert(bytes, path);
            }
        }
    }
    assert!(shared.len() > 60, "{}", shared.len());
    for layer in LAYERS {
        for path in files(&yocto().join(layer), &[""]) {
            let bytes = std::fs::read(&path).expect("readable");
            assert!(!shared.contains_key(&bytes), "{} is a copy of {:?}", path.display(), shared.get(&bytes));
        }
    }
}

/// Repositories of a kas file by name, and what is said of each.
fn repositories(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    let (mut inside, mut name) = (false, String::new());
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty()) {
        let indent = line.len() - line.trim_start().len();
        let depth = if text.contains("\noverrides:") { 4 } else { 2 };
        if line.trim() == "repos:" {
            inside = true;
        } else if indent < depth {
            inside = false;
        } else if inside && indent == depth {
            name = line.trim().trim_end_matches(':').to_owned();
            found.insert(name.clone(), String::new());
        } else if inside {
            let said = found.get_mut(&name).expect("a repository was named");
            said.push_str(line.trim());
            said.push('\n');
        }
    }
    found
}

#[test]
fn kas_files_name_layers_that_exist_and_commits_for_the_rest() {
    let kas = yocto().join("kas");
    let locked = repositories(&read(&kas.join("base.lock.yml")));
    let mut used = BTreeSet::new();
    for path in files(&kas, &[".yml"]).into_iter().filter(|path| !path.ends_with("base.lock.yml")) {
        let text = read(&path);
        for include in text.lines().filter_map(|line| line.trim().strip_prefix("- yocto/")) {
            assert!(yocto().join(include).exists(), "{}: no {include}", path.display());
        }
        for (name, said) in repositories(&text) {
            if said.contains("url:") {
                assert!(said.contains("branch:"), "{}: {name} has no branch", path.display());
                let commit = locked.get(&name).and_then(|said| said.trim().strip_prefix("commit: "));
                let commit = commit.unwrap_or_else(|| panic!("{}: {name} has no commit", path.display()));
                assert!(
                    commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()),
                    "{name}: {commit}"
                );
                used.insert(name);
            } else {
                for layer in
                    said.lines().map(|line| line.trim_end_matches(':')).filter(|l| l.starts_with("yocto/"))
                {
                    assert!(
                        root().join(layer).join("conf/layer.conf").exists(),
                        "{}: {layer}",
                        path.display()
                    );
                }
            }
        }
        if path.parent().is_some_and(|folder| folder.ends_with("machine")) {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            assert!(MACHINES.contains(&name.as_str()), "{name} is in no list of machines");
            assert!(text.contains(&format!("\nmachine: {name}\n")), "{}", path.display());
        }
    }
    assert_eq!(used, locked.into_keys().collect(), "the lock file has what the kas files use");
    for machine in MACHINES {
        assert!(kas.join(format!("machine/{machine}.yml")).exists(), "no kas file for {machine}");
    }
}

#[test]
fn debian_sources_are_locked_by_version_and_checksum() {
    let folder = yocto().join("meta-stile-airgap/conf/distro/include");
    let list = read(&folder.join("debian-sources.list"));
    let wanted: BTreeMap<String, String> = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .map(|words| (words[0].to_owned(), words[2].to_owned()))
        .collect();
    let mut locked = BTreeMap::new();
    for line in read(&folder.join("debian-sources.inc")).lines().filter(|line| !line.starts_with('#')) {
        let (recipe, rest) =
            line.strip_prefix("DEBIAN_SOURCE[").and_then(|l| l.split_once("] = ")).expect("a recipe");
        let fields: Vec<&str> = rest.trim_matches('"').split(' ').collect();
        let [version, directory, file, sum] = fields[..] else { panic!("{line}") };
        assert!(directory.starts_with("pool/main/") && file.contains(".tar."), "{line}");
        assert!(sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
        locked.insert(recipe.to_owned(), version.to_owned());
    }
    assert_eq!(locked, wanted, "run meta-stile-airgap/scripts/debian-lock.py");
}

/// What the layer adds must not change anybody's build: everything in its appends is under its override.
#[test]
fn appends_change_nothing_unless_asked() {
    for (layer, key) in
        [("meta-stile-airgap", "airgap"), ("meta-stile-bsp", "stile"), ("meta-stile", "stile")]
    {
        for path in files(&yocto().join(layer), &[".bbappend"]) {
            for line in read(&path).lines() {
                let name = line.split([' ', '=', '(', '?', '+', '.']).next().expect("a part");
                let sets = line.contains('=') || line.trim_end().ends_with("{");
                let starts = line.starts_with(|c: char| c.is_ascii_alphabetic());
                // A folder to look in and a variable of our own are nothing that a build is made of.
                let harmless = ["FILESEXTRAPATHS", "STILE_", "do_install[file-checksums]"];
                if starts && sets && !harmless.iter().any(|start| line.starts_with(start)) {
                    let asked = name.split(':').any(|part| part == key);
                    assert!(asked, "{}: {line:?} holds for everybody", path.display());
                }
            }
        }
    }
}

#[test]
fn alternatives_are_decided_by_priority() {
    let script =
        yocto().join("meta-stile-airgap/recipes-devtools/update-alternatives/files/update-alternatives");
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str]| {
        let ended = Command::new("sh")
            .arg(&script)
            .args(arguments)
            .env("D", folder.path())
            .status()
            .expect("sh runs");
        ended.success()
    };
    let link = || std::fs::read_link(folder.path().join("bin/sh")).ok();
    assert!(run(&["--install", "/bin/sh", "sh", "/bin/busybox", "50"]));
    assert_eq!(link(), Some("/bin/busybox".into()));
    assert!(run(&["--install", "/bin/sh", "sh", "/bin/bash", "100"]));
    assert!(run(&["--install", "/bin/sh", "sh", "/bin/dash", "60"]));
    assert_eq!(link(), Some("/bin/bash".into()));
    assert!(run(&["--remove", "sh", "/bin/bash"]));
    assert_eq!(link(), Some("/bin/dash".into()));
    assert!(run(&["--remove", "sh", "/bin/dash"]) && run(&["--remove", "sh", "/bin/busybox"]));
    assert_eq!(link(), None);
    assert!(!run(&["--configure"]));
}

/// The Python of `make yocto-lint`, or the machine's, when it has what is asked for.
fn python(module: &str) -> Option<PathBuf> {
    [root().join(".cache/yocto/venv/bin/python"), "python3".into()].into_iter().find(|python| {
        let said = Command::new(python).args(["-c", &format!("import tomllib, {module}")]).output();
        said.is_ok_and(|said| said.status.success())
    })
}

#[test]
fn scripts_pass_their_tests() {
    let Some(python) = python("unittest") else {
        skipped("no Python 3.11");
        return;
    };
    let said = Command::new(python).arg(yocto().join("scripts/tests.py")).output().expect("python runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn kas_files_are_valid() {
    let Some(python) = python("kas, jsonschema, yaml") else {
        skipped("no kas: make yocto-lint installs it");
        return;
    };
    let check = "import json, pathlib, sys, jsonschema, kas, yaml\n\
        schema = json.loads((pathlib.Path(kas.__file__).parent / 'schema-kas.json').read_text())\n\
        for file in sys.argv[1:]:\n    jsonschema.validate(yaml.safe_load(open(file)), schema)\n";
    let files = files(&yocto().join("kas"), &[".yml"]);
    assert!(files.len() > 8, "{files:?}");
    let said = Command::new(python).args(["-c", check]).args(&files).output().expect("python runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn recipes_are_clean_to_the_linter() {
    let Some(python) = python("oelint_adv") else {
        skipped("no oelint-adv: make yocto-lint installs it");
        return;
    };
    let recipes = LAYERS.iter().flat_map(|layer| files(&yocto().join(layer), &[".bb", ".bbappend"]));
    let said = Command::new(python)
        .args(["-m", "oelint_adv", "--quiet", "--jobs", "1"])
        .args(recipes)
        .current_dir(yocto())
        .env("OELINT_CONFIG", yocto().join("oelint.cfg"))
        .output()
        .expect("oelint-adv runs");
    let text = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.trim().is_empty(), "{text}");
}
