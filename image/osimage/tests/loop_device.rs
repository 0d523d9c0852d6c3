//! Flashing to real block devices: loop devices over files, where this machine lets us make them.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// A loop device that goes with its test.
struct Loop {
    device: String,
}

impl Loop {
    fn over(file: &Path, options: &[&str]) -> Option<Self> {
        let file = file.to_str().unwrap();
        let made = Command::new("losetup").args(options).args(["--find", "--show", file]).output().ok()?;
        made.status.success().then(|| Self { device: text(&made.stdout) })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.device]);
    }
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = "name = \"tiny\"\n[[partition]]\nname = \"esp\"\ntype = \"esp\"\nsize = \"1 MiB\"\n\
                      [[partition]]\nname = \"state\"\ntype = \"linux\"\nsize = \"2 MiB\"\n\
                      attributes = [\"grow-file-system\"]\n";
        fs::write(folder.path().join("tiny.toml"), layout).unwrap();
        fs::write(folder.path().join("esp.img"), [7; 70_000]).unwrap();
        let bench = Self { folder };
        let made = bench.osimage(&["assemble", "-l", "tiny.toml", "-c", "esp=esp.img", "-o", "a.img"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        bench
    }

    fn osimage(&self, arguments: &[&str]) -> Output {
        let program = env!("CARGO_BIN_EXE_osimage");
        Command::new(program).current_dir(self.folder.path()).args(arguments).output().unwrap()
    }

    fn flash(&self, device: &str) -> Output {
        self.osimage(&["flash", "a.img", "--no-record", "--to", device])
    }

    /// A loop device of `mib`, or `None` where there are none, which is said.
    #[expect(clippy::print_stderr, reason = "a test speaks to whoever runs it")]
    fn device(&self, mib: u64, options: &[&str]) -> Option<Loop> {
        let file = self.folder.path().join(format!("disk-{mib}{}", options.concat()));
        fs::File::create(&file).unwrap().set_len(mib << 20).unwrap();
        let device = Loop::over(&file, options);
        if device.is_none() {
            eprintln!("skipped: this machine or user cannot make loop devices");
        }
        device
    }
}

#[test]
fn a_block_device_is_flashed_and_its_last_partition_reaches_its_end() {
    let bench = Bench::new();
    let Some(device) = bench.device(32, &[]) else { return };
    let flashed = bench.flash(&device.device);
    assert!(flashed.status.success(), "{}", text(&flashed.stderr));
    let verified = bench.osimage(&["verify", &device.device, "--bmap", "a.img.bmap"]);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let shown = bench.osimage(&["inspect", "--json", &device.device]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["primary_damage"], serde_json::Value::Null);
    assert_eq!(shown["backup_damage"], serde_json::Value::Null);
    let state = &shown["partitions"][1];
    assert_eq!((&state["name"], &state["length"]), (&"state".into(), &(29u64 << 20).into()));
}

#[test]
fn devices_that_must_not_be_overwritten_are_refused() {
    let bench = Bench::new();
    let Some(small) = bench.device(4, &[]) else { return };
    let refused = |device: &str, why: &str| {
        let output = bench.flash(device);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    };
    refused(&small.device, "target has 4194304 bytes, the image needs 5242880");
    let Some(protected) = bench.device(8, &["--read-only"]) else { return };
    refused(&protected.device, "is write-protected");
    let Some(coarse) = bench.device(8, &["--sector-size=4096"]) else { return };
    refused(&coarse.device, "has sectors of 4096 bytes");

    let Some(mounted) = bench.device(16, &[]) else { return };
    let place = bench.folder.path().join("mounted");
    fs::create_dir(&place).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", &mounted.device]).status();
    let place = place.to_str().unwrap();
    if made.is_ok_and(|made| made.success()) && run("mount", &[&mounted.device, place]).status.success() {
        let output = bench.flash(&mounted.device);
        let unmounted = run("umount", &[place]).status.success();
        assert!(unmounted && output.status.code() == Some(3), "{}", text(&output.stderr));
        let expected = format!("is mounted on {place}");
        assert!(text(&output.stderr).contains(&expected), "{}", text(&output.stderr));
    }
}
