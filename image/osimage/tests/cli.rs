//! The program from the outside.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn osimage(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_osimage"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = "name = \"tiny\"\n[[partition]]\nname = \"esp\"\ntype = \"esp\"\nsize = \"1 MiB\"\n\
                  [[partition]]\nname = \"state\"\ntype = \"linux\"\nsize = \"2 MiB\"\n";
    fs::write(dir.path().join("tiny.toml"), layout).expect("a layout");
    fs::write(dir.path().join("esp.img"), [7; 70_000]).expect("a content");
    dir
}

#[test]
fn an_image_is_assembled_inspected_verified_and_flashed() {
    let dir = prepared();
    let go = |arguments: &[&str]| {
        let output = osimage(dir.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let planned = go(&["plan", "--layout", "tiny.toml", "--content", "esp=esp.img"]);
    assert!(planned.starts_with("layout tiny, 5 MiB"), "{planned}");
    go(&["assemble", "--layout", "tiny.toml", "--content", "esp=esp.img", "--output", "a.img"]);
    go(&["assemble", "--layout", "tiny.toml", "--content", "esp=esp.img", "--output", "b.img"]);
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("a.img") == read("b.img") && read("a.img.bmap") == read("b.img.bmap"));
    assert!(!dir.path().join("a.img.part").exists());

    let shown: serde_json::Value = serde_json::from_str(&go(&["inspect", "a.img", "--json"])).unwrap();
    assert_eq!(shown["partitions"][0]["name"], "esp");
    assert!(go(&["inspect", "a.img"]).contains("state"));
    assert!(go(&["verify", "a.img"]).contains("mapped bytes match"));

    fs::write(dir.path().join("card"), vec![9; 6 << 20]).unwrap();
    let lines = go(&["flash", "a.img", "--to", "card", "fresh", "--json"]);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for target in ["card", "fresh"] {
        assert!(lines.iter().any(|line| line["done"]["target"] == target), "{lines:?}");
        assert!(
            lines
                .iter()
                .any(|line| line["progress"]["target"] == target && line["progress"]["phase"] == "verify")
        );
    }
    go(&["verify", "fresh", "--bmap", "a.img.bmap"]);
}

#[test]
fn failures_name_the_thing_and_set_the_exit_status() {
    let dir = prepared();
    let fails = |arguments: &[&str]| {
        let output = osimage(dir.path(), arguments);
        assert!(!output.status.success(), "{arguments:?}");
        text(&output.stderr)
    };
    assert!(fails(&["verify", "none.img"]).contains("read none.img.bmap: No such file"));
    assert!(
        fails(&["plan", "--layout", "tiny.toml", "--content", "boot=esp.img"])
            .contains("no partition \"boot\"")
    );
    assert!(fails(&["inspect", "esp.img"]).contains("no primary partition table"));
    assert!(
        fails(&["plan", "-l", "tiny.toml", "-c", "esp=esp.img", "-c", "esp=esp.img"])
            .contains("content twice")
    );
    assert!(
        osimage(dir.path(), &["assemble", "-l", "tiny.toml", "-c", "esp=esp.img", "-o", "a.img"])
            .status
            .success()
    );
    fs::write(dir.path().join("small"), [1; 100]).unwrap();
    let mixed = osimage(dir.path(), &["flash", "a.img", "--to", "small", "good", "a.img"]);
    assert!(!mixed.status.success());
    let errors = text(&mixed.stderr);
    assert!(errors.contains("flash small: target has 100 bytes, the image needs 5242880"), "{errors}");
    assert!(errors.contains("a.img is the image itself"), "{errors}");
    assert!(text(&mixed.stdout).contains("good: written and verified"));
    assert_eq!(fs::read(dir.path().join("small")).unwrap(), [1; 100]);
}
