//! Update bundles: what is refused, and one that the installed RAUC reads.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod made;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use made::{fat, kernel, tree};

const LAYOUT: &str = r#"
name = "pc"
[[partition]]
name = "kernel-a"
type = "linux"
size = "1 MiB"
[[partition]]
name = "kernel-b"
type = "linux"
size = "1 MiB"
[[partition]]
name = "root-a"
type = "root-x86-64"
size = "2 MiB"
[[partition]]
name = "verity-a"
type = "root-x86-64-verity"
size = "1 MiB"
[[partition]]
name = "root-b"
type = "root-x86-64"
size = "1 MiB"
[[partition]]
name = "verity-b"
type = "root-x86-64-verity"
size = "1 MiB"
[[partition]]
name = "state"
type = "linux"
size = "1 MiB"
"#;

fn osimage(folder: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_osimage");
    Command::new(program).current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    let root: Vec<u8> = (0..20 * 4096u32).map(|i| (i.wrapping_mul(40_503) >> 8) as u8).collect();
    let (tree, hash) = tree(&root);
    write("layout.toml", LAYOUT.as_bytes());
    write("root", &root);
    write("verity", &tree);
    let release = "IMAGE_ID=stile-x86-64\nIMAGE_VERSION=12\n";
    write("kernel", &kernel(release, &format!("roothash={hash}")));
    write("silent", &kernel("", &format!("roothash={hash}")));
    write("other", &kernel(release, &format!("roothash={}", "0".repeat(64))));
    write("large", &vec![1; (1 << 20) + 1]);
    dir
}

const BUNDLE: [&str; 7] = ["bundle", "--layout", "layout.toml", "--keys", "keys", "--output", "out.raucb"];
const GOOD: [&str; 6] = ["-c", "root=root", "-c", "verity=verity", "-c", "kernel=kernel"];

#[test]
fn a_bundle_whose_parts_do_not_belong_together_is_refused() {
    let dir = prepared();
    let refused = |contents: &[&str], why: &str| {
        let output = osimage(dir.path(), &[&BUNDLE[..], contents].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
        assert!(!dir.path().join("out.raucb").exists());
    };
    refused(&GOOD[..4], "slots of layout \"pc\" have a part \"kernel\", which is not given");
    refused(&[&GOOD[..], &["-c", "state=root"]].concat(), "slots of layout \"pc\" have no part \"state\"");
    let with = |part: &'static str| [&GOOD[..4], &["-c", part]].concat();
    refused(&with("kernel=large"), "kernel has 1052672 bytes, its partitions have room for 1048576");
    refused(&with("kernel=other"), "root and verity do not belong to the kernel");
    refused(&with("kernel=root"), "kernel says no root hash");
    refused(&with("kernel=silent"), "kernel says no compatible");
    refused(&[&GOOD[..], &["--version", "1\nx"]].concat(), "version \"1\\nx\" is not of letters");
    refused(&["-c", "root=large", "-c", "verity=verity", "-c", "kernel=kernel"], "root has 1052672 bytes");
    let mut root = fs::read(dir.path().join("root")).unwrap();
    root[9000] ^= 1;
    fs::write(dir.path().join("root"), root).unwrap();
    refused(&GOOD, "file system is damaged in block 2");
}

#[test]
fn the_boot_partition_of_a_raspberry_pi_is_its_kernel() {
    let dir = prepared();
    let layout = LAYOUT.replace("kernel-", "boot-");
    fs::write(dir.path().join("layout.toml"), layout).unwrap();
    let boot =
        fat(1, &[("cmdline.txt", "roothash=0000"), ("os-release", "IMAGE_ID=stile-pi\nIMAGE_VERSION=3\n")]);
    fs::write(dir.path().join("boot"), boot).unwrap();
    let output = osimage(dir.path(), &[&BUNDLE[..], &GOOD[..4], &["-c", "boot=boot"]].concat());
    assert!(text(&output.stderr).contains("kernel says no root hash"), "{}", text(&output.stderr));
}

#[test]
fn rauc_reads_what_was_made() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let dir = prepared();
    if !there("openssl") {
        return eprintln!("skipped: openssl is missing");
    }
    let keys = osimage(dir.path(), &["keys", "keys", "--name", "Test"]);
    assert!(keys.status.success(), "{}", text(&keys.stderr));
    let output = osimage(dir.path(), &[&BUNDLE[..], &GOOD[..]].concat());
    if !there("rauc") {
        assert!(text(&output.stderr).contains("program \"rauc\" is missing: install the package rauc"));
        return eprintln!("skipped: rauc is missing");
    }
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "out.raucb: version 12 for stile-x86-64\n");
    let shown = Command::new("rauc")
        .current_dir(dir.path())
        .args(["info", "--keyring=keys/rauc-ca.pem", "--output-format=json", "out.raucb"])
        .output()
        .unwrap();
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["compatible"], &shown["version"]), (&"stile-x86-64".into(), &"12".into()));
    assert_eq!(shown["images"].as_array().map(Vec::len), Some(3));
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("part"))
        .collect();
    assert_eq!(left, [""; 0]);
}
