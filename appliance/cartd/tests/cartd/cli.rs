//! `cartd ledger …` as a technician types it.

use std::process::{Command, Output};

use crate::fixture::{file, open, visit};

fn cartd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cartd")).args(arguments).output().expect("started")
}

#[test]
fn a_ledger_is_checked_listed_and_set_aside() {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    for number in 0..3 {
        ledger.accept(&visit(number)).expect("accepted");
    }
    let name = path.to_str().expect("plain");

    // Beside a running cartd.
    let listed = cartd(&["ledger", "receipts", name]);
    assert!(listed.status.success(), "{listed:?}");
    let lines = String::from_utf8(listed.stdout).expect("text");
    let receipts: Vec<engine::message::Receipt> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a receipt")).collect();
    assert_eq!(receipts, ledger.receipts().expect("read"));
    let checked = cartd(&["ledger", "check", name]);
    assert!(checked.status.success(), "{checked:?}");
    let summary: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("json");
    assert_eq!((&summary["events"], &summary["receipts"]), (&12.into(), &3.into()));

    let refused = cartd(&["ledger", "set-aside", name]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use"), "{refused:?}");
    drop(ledger);
    assert!(cartd(&["ledger", "set-aside", name]).status.success());
    assert!(!path.exists());
}

#[test]
fn a_broken_file_and_a_broken_manifest_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.db");
    std::fs::write(&broken, vec![7; 9000]).expect("written");
    let checked = cartd(&["ledger", "check", broken.to_str().expect("plain")]);
    let text = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && text.contains("broken.db") && text.contains("set-aside"), "{text}");

    let manifest = folder.path().join("role.toml");
    std::fs::write(&manifest, "nmae = \"x\"\n").expect("written");
    let run = cartd(&["run", "--manifest", manifest.to_str().expect("plain")]);
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && text.contains("role.toml") && text.contains("nmae"), "{text}");
}
