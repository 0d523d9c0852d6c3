//! Repository rules as tests: the dependency arrows of ARCHITECTURE.md, tables of contents, model hashes, file shape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Crates that use nothing of ours.
const LEAVES: [&str; 11] = [
    "engine",
    "runtime",
    "turnstile",
    "qr-scanner",
    "palm-scanner",
    "camera",
    "load-cell",
    "recognition",
    "palm",
    "osimage",
    "card-reader",
];

/// What each root may use besides the engine and the runtime.
const ROOTS: [(&str, &[&str]); 10] = [
    ("gated", &["turnstile", "qr-scanner", "card-reader", "palm-scanner", "palm", "code-reader"]),
    // A process of its own, and the gate's way to it: a camera that is a scanner.
    ("code-reader", &["camera", "qr-scanner"]),
    ("gate-failsafe", &["turnstile"]),
    ("cartd", &["load-cell"]),
    ("visiond", &["camera", "recognition"]),
    ("console", &[]),
    ("kiosk", &[]),
    ("stile-token", &[]),
    // The rules of slots and the provisioning file are those of the technician's tool.
    ("caretaker", &["osimage"]),
    // Runs the technician's tool as a program, and links nothing of it.
    ("osimage-window", &[]),
];

/// A Rust file that a reader still holds in one sitting, lines.
const FILE_LINES_MAX: usize = 900;
/// Columns of a Rust line: rustfmt keeps code to 110, prose may hang a little.
const COLUMNS_MAX: usize = 120;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace exists")
}

fn tracked(ending: &str) -> Vec<PathBuf> {
    let root = root();
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output().expect("git runs");
    assert!(listed.status.success(), "git ls-files failed in {}", root.display());
    let names = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let files: Vec<PathBuf> = names
        .split('\0')
        .filter(|name| name.ends_with(ending))
        .map(|name| root.join(name))
        .filter(|file| file.exists())
        .collect();
    assert!(!files.is_empty(), "no tracked file ends with {ending}");
    files
}

#[test]
fn arrows_point_from_roots_to_leaves_only() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    let ours: BTreeSet<String> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let roots: BTreeMap<&str, &[&str]> = ROOTS.into_iter().collect();
    let mut wrong = String::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        for dependency in &package.dependencies {
            if !ours.contains(&dependency.name) || dependency.name == name {
                continue;
            }
            let to = dependency.name.as_str();
            let allowed = match name {
                // The kit names the engine's time and messages: the one edge between leaves (DECISIONS.md).
                "runtime" => to == "engine",
                name if LEAVES.contains(&name) => false,
                "store-sim" => LEAVES[..7].contains(&to) && to != "runtime",
                "box" | "it" => true,
                "vm" => LEAVES.contains(&to),
                name => match roots.get(name) {
                    Some(column) => to == "engine" || to == "runtime" || column.contains(&to),
                    None => {
                        panic!("package {name} has no place in the diagram; give it one in ARCHITECTURE.md")
                    }
                },
            };
            if !allowed {
                writeln!(wrong, "{name} -> {to}").expect("writes");
            }
        }
    }
    assert!(wrong.is_empty(), "edges that ARCHITECTURE.md does not allow:\n{wrong}");
}

#[test]
fn the_engine_has_no_io_clock_or_thread() {
    let banned = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::time",
        "tokio",
        "tracing",
        "println!",
        "SystemTime",
        "HashMap",
    ];
    let mut wrong = String::new();
    for file in tracked(".rs").iter().filter(|file| file.starts_with(root().join("appliance/engine/src"))) {
        let text = std::fs::read_to_string(file).expect("readable");
        let is_test =
            file.components().any(|part| ["tests", "tests.rs"].iter().any(|name| part.as_os_str() == *name));
        let code = if is_test { "" } else { text.split("#[cfg(test)]").next().unwrap_or_default() };
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for word in banned.iter().filter(|word| line.contains(**word)) {
                writeln!(wrong, "{}:{}: {word}", file.display(), number + 1).expect("writes");
            }
        }
    }
    assert!(wrong.is_empty(), "the engine must stay pure:\n{wrong}");
}

#[test]
fn rust_files_are_readable() {
    let mut wrong = String::new();
    for file in tracked(".rs") {
        let text = std::fs::read_to_string(&file).expect("readable");
        let name = file.display();
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            writeln!(wrong, "{name}: {lines} lines, more than {FILE_LINES_MAX}").expect("writes");
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                writeln!(wrong, "{name}:{}: longer than {COLUMNS_MAX} columns", number + 1).expect("writes");
            }
            if line.trim_start().starts_with(concat!("#[", "allow(")) {
                writeln!(wrong, "{name}:{}: use #[expect(…, reason)]", number + 1).expect("writes");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A file that a tool did not fill is easily committed. systemd wants an empty machine-id in a read-only image.
#[test]
fn no_file_is_empty() {
    let empty = |path: &PathBuf| path.symlink_metadata().is_ok_and(|data| data.is_file() && data.len() == 0);
    let found: Vec<_> =
        tracked("").into_iter().filter(empty).filter(|path| !path.ends_with("machine-id")).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_crate_says_what_it_is_and_what_it_is_not() {
    for file in tracked("src/lib.rs") {
        let text = std::fs::read_to_string(&file).expect("readable");
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(
            head.contains("deliberately"),
            "{}: the crate's first comment says what it is and what it deliberately is not",
            file.display()
        );
    }
}

#[test]
fn top_folders_list_their_contents() {
    for folder in ["appliance", "drivers", "models", "image", "yocto", "tests"] {
        let path = root().join(folder);
        let readme = std::fs::read_to_string(path.join("README.md"))
            .unwrap_or_else(|error| panic!("{folder}/README.md: {error}"));
        for entry in std::fs::read_dir(&path).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let counted = entry.path().is_dir() && !name.starts_with('.') && name != "__pycache__";
            if counted {
                assert!(readme.contains(&name), "{folder}/README.md does not name {name}");
            }
        }
    }
}

#[test]
fn models_are_the_ones_their_cards_describe() {
    let folder = root().join("models/onnx");
    let text = std::fs::read_to_string(folder.join("manifest.toml")).expect("models/onnx/manifest.toml");
    let manifest: toml::Table = text.parse().expect("valid TOML");
    let mut checked = 0;
    let mut visit = vec![toml::Value::Table(manifest)];
    while let Some(value) = visit.pop() {
        match value {
            toml::Value::Table(table) => {
                if let (Some(file), Some(hash)) = (table.get("file"), table.get("sha256")) {
                    let file = file.as_str().expect("file is text");
                    let bytes = std::fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
                    let actual: String =
                        Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(hash.as_str(), Some(actual.as_str()), "sha256 of {file}");
                    checked += 1;
                }
                visit.extend(table.into_iter().map(|(_, value)| value));
            }
            toml::Value::Array(values) => visit.extend(values),
            _ => {}
        }
    }
    assert!(checked > 0, "models/onnx/manifest.toml names no file");
}

#[test]
fn every_role_manifest_loads() {
    let folder = root().join("appliance/manifests");
    let mut loaded = 0;
    for entry in std::fs::read_dir(&folder).expect("appliance/manifests").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "toml") {
            runtime::manifest::Manifest::load(&entry.path()).unwrap_or_else(|error| panic!("{error:?}"));
            loaded += 1;
        }
    }
    assert!(loaded > 0, "no manifest in {}", folder.display());
}
