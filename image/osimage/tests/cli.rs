//! The program from the outside.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

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
    let lines = go(&["flash", "a.img", "--no-record", "--to", "card", "fresh", "--json"]);
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
    let flash = ["flash", "a.img", "--record", "units.jsonl", "--to", "small", "good", "a.img"];
    let mixed = osimage(dir.path(), &flash);
    assert_eq!(mixed.status.code(), Some(3));
    let errors = text(&mixed.stderr);
    assert!(errors.contains("flash small: target has 100 bytes, the image needs 5242880"), "{errors}");
    assert!(errors.contains("a.img is the image itself"), "{errors}");
    assert!(text(&mixed.stdout).contains("good: 1 MB written and read back in "), "{}", text(&mixed.stdout));
    assert_eq!(fs::read(dir.path().join("small")).unwrap(), [1; 100]);

    let units = fs::read_to_string(dir.path().join("units.jsonl")).unwrap();
    let mut units: Vec<serde_json::Value> =
        units.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    units.sort_by_key(|unit| unit["target"].to_string());
    let results: Vec<_> = units.iter().map(|unit| (&unit["target"], &unit["result"])).collect();
    let expected = [("a.img", "refused"), ("good", "good"), ("small", "refused")];
    assert_eq!(results, expected.map(|(t, r)| (t.into(), r.into())).each_ref().map(|(t, r)| (t, r)));
    let twice = osimage(dir.path(), &["flash", "a.img", "--no-record", "--to", "good", "./good"]);
    assert!(text(&twice.stderr).contains("./good is given twice"));
}

fn good(folder: &Path, arguments: &[&str]) -> String {
    let output = osimage(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn assembled() -> tempfile::TempDir {
    let dir = prepared();
    good(dir.path(), &["assemble", "-l", "tiny.toml", "-c", "esp=esp.img", "-o", "a.img"]);
    dir
}

/// Keys as `osimage keys` makes them, without the certificates, for which another program is needed.
fn keys(folder: &Path, name: &str) {
    let key = osimage::key::SecretKey::generate().unwrap();
    key.write_new(&folder.join(format!("{name}.key"))).unwrap();
    key.public().write_new(&folder.join(format!("{name}.pub"))).unwrap();
}

#[test]
fn an_image_that_nobody_trusted_signed_is_not_flashed() {
    let dir = assembled();
    let folder = dir.path();
    keys(folder, "ours");
    keys(folder, "theirs");
    let flash = |key: &str| {
        let output = osimage(folder, &["flash", "a.img", "--no-record", "--key", key, "--to", "card"]);
        (output.status.code(), text(&output.stderr))
    };
    let (code, error) = flash("ours.pub");
    assert_eq!(code, Some(4));
    assert!(error.contains("read a.img.sig: No such file"), "{error}");
    let signed = good(folder, &["sign", "a.img", "--key", "theirs.key"]);
    assert!(signed.starts_with("a.img.sig: signed by key "), "{signed}");
    let (code, error) = flash("ours.pub");
    assert_eq!(code, Some(4));
    assert!(error.contains("which is not one of those given"), "{error}");
    assert!(!folder.join("card").exists(), "refused before the first byte");
    assert!(good(folder, &["verify", "a.img", "--key", "theirs.pub"]).contains("; signed by key "));
    assert_eq!(flash("theirs.pub").0, Some(0));

    let map = fs::read_to_string(folder.join("a.img.bmap")).unwrap();
    fs::write(folder.join("a.img.bmap"), map.replace("<BlockMap>", "<BlockMap >")).unwrap();
    assert_eq!(flash("theirs.pub").0, Some(4), "a block map that was changed");
    fs::write(folder.join("a.img.bmap"), map).unwrap();
    let mut image = fs::read(folder.join("a.img")).unwrap();
    image[(1 << 20) + 5] ^= 1;
    fs::write(folder.join("a.img"), image).unwrap();
    let damaged = osimage(folder, &["verify", "a.img"]);
    assert_eq!(damaged.status.code(), Some(4));
    assert!(text(&damaged.stderr).contains("image is damaged in blocks"));
    let unsigned = osimage(folder, &["sign", "a.img", "--key", "ours.key"]);
    assert!(text(&unsigned.stderr).contains("image is damaged"), "what is damaged is not signed");
}

#[test]
fn a_packed_image_is_verified_and_flashed() {
    let dir = assembled();
    let folder = dir.path();
    let plain = fs::read(folder.join("a.img")).unwrap();
    fs::write(folder.join("a.img.zst"), zstd::encode_all(&plain[..], 3).unwrap()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    fs::write(folder.join("a.img.gz"), gzip.finish().unwrap()).unwrap();
    let mut names = vec!["a.img.zst", "a.img.gz"];
    // The encoder of this format is a program; where it is not, the format is left out.
    if Command::new("xz").args(["-k", "a.img"]).current_dir(folder).status().is_ok_and(|s| s.success()) {
        names.push("a.img.xz");
    }
    for name in names {
        assert!(good(folder, &["verify", name]).contains("mapped bytes match"), "{name}");
        good(folder, &["flash", name, "--no-record", "--to", "card"]);
        assert!(fs::read(folder.join("card")).unwrap() == plain, "{name}");
        fs::remove_file(folder.join("card")).unwrap();
        let packed = fs::read(folder.join(name)).unwrap();
        fs::write(folder.join(name), &packed[..packed.len() / 2]).unwrap();
        let cut = osimage(folder, &["flash", name, "--no-record", "--to", "card"]);
        assert_eq!(cut.status.code(), Some(4), "{name}: {}", text(&cut.stderr));
        let longer = [&plain[..], &[0; 512]].concat();
        if name.ends_with("zst") {
            fs::write(folder.join(name), zstd::encode_all(&longer[..], 3).unwrap()).unwrap();
            let longer = osimage(folder, &["verify", name]);
            assert!(text(&longer.stderr).contains("more than the 5242880 bytes"), "{}", text(&longer.stderr));
        }
        let _ = fs::remove_file(folder.join("card"));
    }
}

#[test]
fn a_provisioning_file_is_made_and_put_on_the_card() {
    let dir = prepared();
    let folder = dir.path();
    keys(folder, "provision");
    let layout = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let place = "[[partition]]\nname = \"provision\"\ntype = \"linux\"\nsize = \"1 MiB\"\n";
    fs::write(folder.join("tiny.toml"), layout + place).unwrap();
    good(folder, &["assemble", "-l", "tiny.toml", "-c", "esp=esp.img", "-o", "a.img"]);
    fs::write(
        folder.join("store.toml"),
        "store = \"Seoul 3\"\nrole = \"entry-gate\"\n[time]\nservers = []\n",
    )
    .unwrap();
    fs::write(folder.join("map.json"), "{}").unwrap();
    let make = |name: &str| {
        let file = format!("{name}.provision");
        let arguments =
            ["provision", "store.toml", "--key", "provision.key", "--name", name, "--serial", "S1"];
        osimage(folder, &[&arguments[..], &["--store-map", "map.json", "-o", &file]].concat())
    };
    let made = make("gate-1");
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("gate-1 of \"Seoul 3\", entry-gate, for box S1"));
    assert!(text(&make("Gate 1").stderr).contains("box.name must be 1 to 63 lower-case letters"));

    let flash = ["flash", "a.img", "--record", "units", "--provision", "gate-1.provision", "--to", "card"];
    good(folder, &flash);
    let card = fs::read(folder.join("card")).unwrap();
    let at = 4 << 20;
    let keys = osimage::key::PublicKey::read_all(&folder.join("provision.pub")).unwrap();
    let accepted = osimage::provision::Accepted::read(&card[at..at + (1 << 20)], &keys).unwrap();
    assert_eq!(accepted.provision.target.name, "gate-1");
    assert_eq!(accepted.provision.store_map.as_deref(), Some("{}"));
    let unit: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("units")).unwrap()).unwrap();
    assert_eq!((&unit["box"], &unit["box_serial"]), (&"gate-1".into(), &"S1".into()));
    assert_eq!(unit["provision_key"], keys[0].id().to_string());
    let two = osimage(folder, &[&flash[..], &["other"]].concat());
    assert_eq!(two.status.code(), Some(4));
    assert!(text(&two.stderr).contains("1 provisioning files for 2 targets"), "{}", text(&two.stderr));
}

#[test]
fn it_describes_itself() {
    let dir = prepared();
    for shell in ["bash", "zsh", "fish"] {
        assert!(good(dir.path(), &["completions", shell]).contains("osimage"));
    }
    let page = good(dir.path(), &["man"]);
    assert!(page.contains(".TH osimage") && page.contains("Exit status"), "{page}");
    good(dir.path(), &["man", "pages"]);
    assert!(dir.path().join("pages/osimage-flash.1").exists());
}
