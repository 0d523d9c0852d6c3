//! The binary as an operator uses it: keys, passes, codes and lists in a folder of their own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use engine::admission::cards::CardNumber;
use engine::admission::{Admission, ListState, Version};
use engine::message::{DenyReason, SignedList};
use engine::time::Instant;
use engine::units::LaneId;

/// 2026-11-22T10:00:00Z.
const TEN: Instant = Instant(1_795_341_600_000);
const AT: &str = "2026-11-22T10:00:00Z";

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// A folder with a root, an issuer, a group key, a salt, and the gate's admission.toml.
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.good(&["keys", "new", "root", "--store-group", "7", "--out", "root.key"]);
        desk.good(&["keys", "new", "issuer", "--id", "1", "--store-group", "7", "--out", "issuer.key"]);
        desk.good(&["keys", "new", "group", "--out", "group.key"]);
        desk.good(&["keys", "new", "card-salt", "--out", "salt.key"]);
        let part = |file: &str| desk.good(&["keys", "show", "--secret", file]);
        let pick = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            format!("{line}\n")
        };
        let toml = pick(&part("root.key"), "store_group")
            + &pick(&part("root.key"), "root_key")
            + &pick(&part("group.key"), "group_key")
            + &pick(&part("salt.key"), "card_salt")
            + "[[issuers]]\n"
            + &pick(&part("issuer.key"), "id")
            + &pick(&part("issuer.key"), "key");
        desk.write("admission.toml", &toml);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stile-token"))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A run that fails early does not read its input.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
        child.wait_with_output().unwrap()
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, b"");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Status and what was said on standard error, or on standard output when there is none.
    fn bad(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments, b"");
        let text = if output.stderr.is_empty() { output.stdout } else { output.stderr };
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    fn gate(&self) -> Admission {
        let text = std::fs::read_to_string(self.path("admission.toml")).unwrap();
        let provision: engine::admission::provision::Provision = toml::from_str(&text).unwrap();
        Admission::new(provision.settings().unwrap())
    }

    fn issue(&self, name: &str, more: &[&str]) {
        let mut arguments = vec!["issue", "--issuer", "issuer.key", "--out", name];
        if !more.contains(&"--from") {
            arguments.extend(["--from", "2026-11-22"]);
        }
        arguments.extend(more);
        self.good(&arguments);
    }

    fn code(&self, pass: &str, more: &[&str]) -> String {
        let mut arguments = vec!["show", pass, "--digits", "--at", AT];
        arguments.extend(more);
        self.good(&arguments).trim().to_owned()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_made_once_kept_private_and_not_printed() {
    let desk = Desk { folder: tempfile::tempdir().unwrap() };
    for (kind, more) in [
        ("root", &["--store-group", "7"][..]),
        ("issuer", &["--id", "1", "--store-group", "7"]),
        ("device", &[]),
        ("group", &[]),
        ("card-salt", &[]),
    ] {
        let mut arguments = vec!["keys", "new", kind, "--out", kind];
        arguments.extend(more);
        let said = desk.good(&arguments);
        let file = std::fs::read_to_string(desk.path(kind)).unwrap();
        let seed = file.split("seed = \"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((seed.len(), mode(&desk.path(kind))), (64, 0o600), "{kind}");
        assert!(!said.contains(seed) && !desk.good(&["keys", "show", kind]).contains(seed), "{kind}");
        assert!(desk.good(&["keys", "show", kind, "--secret"]).contains(seed), "{kind}");
        let (status, error) = desk.bad(&arguments);
        assert!(status == 1 && error.contains(kind) && error.contains("exists"), "{error}");
        assert_eq!(std::fs::read_to_string(desk.path(kind)).unwrap(), file, "never overwritten");
    }
}

#[test]
fn a_pass_opens_the_gate() {
    let desk = Desk::new();
    desk.issue("kim.pass", &["--party", "3", "--wide", "--age-proof", "--member", "0123456789abcdef"]);
    assert_eq!(mode(&desk.path("kim.pass")), 0o600);
    let code = desk.code("kim.pass", &["--party-member", "1"]);
    let grant = desk.gate().check(TEN, true, code.as_bytes()).unwrap().grant;
    assert_eq!((grant.member.0, grant.party, grant.party_member), (0x0123_4567_89ab_cdef, 3, 1));
    assert!(grant.wide && grant.age_proof && !grant.staff && !grant.guest);

    desk.issue("staff.pass", &["--staff"]);
    let code = desk.code("staff.pass", &[]);
    assert!(desk.gate().check(TEN, true, code.as_bytes()).unwrap().grant.staff);

    desk.issue("guest.pass", &["--wallet", "--group-key", "group.key", "--guest", "--valid", "12h"]);
    let code = desk.code("guest.pass", &[]);
    assert_eq!(code.len(), 238);
    assert!(desk.gate().check(TEN, true, code.as_bytes()).unwrap().grant.guest);
    let evening = Instant(TEN.0 + 3 * 3_600_000);
    let late = desk.good(&["show", "guest.pass", "--digits", "--at", "2026-11-22T13:00:00Z"]);
    let refused = desk.gate().check(evening, true, late.trim().as_bytes());
    assert_eq!(refused.err(), Some(DenyReason::Expired));
}

#[test]
fn a_code_as_a_picture_and_in_the_terminal() {
    let desk = Desk::new();
    desk.issue("kim.pass", &[]);
    let digits = desk.code("kim.pass", &[]);
    desk.good(&["show", "kim.pass", "--at", AT, "--png", "kim.png", "--scale", "3"]);
    let picture = image::open(desk.path("kim.png")).unwrap().to_luma8();
    assert_eq!(picture.width(), (57 + 8) * 3);
    assert_eq!(read_qr(&picture), digits);

    let text = desk.good(&["show", "kim.pass", "--at", AT]);
    assert_eq!(read_qr(&from_terminal(&text)), digits);
}

#[test]
fn a_watched_pass_is_drawn_until_it_is_stopped() {
    let desk = Desk::new();
    desk.issue("kim.pass", &["--from", "now"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_stile-token"))
        .args(["show", "kim.pass", "--watch"])
        .current_dir(desk.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let text: String = lines.take(33).map(|line| line.unwrap() + "\n").collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let drawn = text.strip_prefix("\x1b[H").expect("drawn at the top of the screen");
    assert_eq!(read_qr(&from_terminal(drawn)).len(), 455);
}

/// Half blocks back to modules of three pixels.
fn from_terminal(text: &str) -> image::GrayImage {
    let rows: Vec<Vec<char>> = text
        .lines()
        .map(|line| line.split('m').nth(1).unwrap().chars().take_while(|c| *c != '\x1b').collect())
        .collect();
    assert_eq!((rows.len(), rows[0].len()), (33, 65));
    image::GrayImage::from_fn(65 * 3, 66 * 3, |x, y| {
        let (x, y) = ((x / 3) as usize, (y / 3) as usize);
        let dark = matches!((rows[y / 2][x], y % 2), ('█', _) | ('▀', 0) | ('▄', 1));
        image::Luma([if dark { 0 } else { 255 }])
    })
}

fn read_qr(picture: &image::GrayImage) -> String {
    let (width, height) = picture.dimensions();
    let view =
        zxingcpp::ImageView::from_slice(picture.as_raw(), width, height, zxingcpp::ImageFormat::Lum).unwrap();
    let codes = zxingcpp::read().formats([zxingcpp::BarcodeFormat::QRCode]).from(view).unwrap();
    assert_eq!(codes.len(), 1);
    codes[0].text()
}

#[test]
fn codes_are_explained() {
    let desk = Desk::new();
    desk.issue("kim.pass", &["--party", "2", "--member", "0123456789abcdef"]);
    let code = desk.code("kim.pass", &[]);
    let verify = |code: &str, at: &str| {
        let output = desk.run(&["verify", "--admission", "admission.toml", "--at", at, "-"], code.as_bytes());
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = verify(&code, AT);
    assert_eq!(status, 0, "{text}");
    for want in [
        "profile           D",
        "member            0123456789abcdef",
        "valid until       2026-11-23T00:00:00Z",
        "largest party     2",
        "shown at          2026-11-22T10:00:00Z",
        "certificate       ok",
        "phone's signature ok",
        "verdict           admitted",
    ] {
        assert!(text.contains(want), "{want:?} is not in {text}");
    }
    let mut forged = code.clone().into_bytes();
    forged[440] = if forged[440] == b'1' { b'2' } else { b'1' };
    let forged = String::from_utf8(forged).unwrap();
    for (code, at, reason) in [
        (&code[..], "2026-11-22T10:00:26Z", "stale"),
        (&code, "2026-11-22T09:59:49Z", "from_the_future"),
        (&code, "2026-11-24", "expired"),
        (&code, "2026-11-21", "not_yet_valid"),
        (&forged, AT, "bad_signature"),
        (&code[..300], AT, "malformed"),
        ("8801234567893", AT, "not_an_entry_code"),
    ] {
        let (status, text) = verify(code, at);
        assert!(status == 3 && text.contains(&format!("refused, {reason}")), "{reason}: {status} {text}");
    }
    let without = desk.good(&["verify", &code]);
    assert!(without.contains("not checked") && without.contains("store group       7"), "{without}");
}

#[test]
fn key_sets_roll_keys_over() {
    let desk = Desk::new();
    let issuer =
        desk.good(&["keys", "new", "issuer", "--id", "2", "--store-group", "7", "--out", "next.key"]);
    let key = |text: &str| text.split("\nkey = \"").nth(1).unwrap()[..64].to_owned();
    let old = key(&desk.good(&["keys", "show", "issuer.key"]));
    let describe = |version: u32, extra: &str| {
        format!(
            "version = {version}\n[[issuers]]\nid = 1\nkey = \"{old}\"\nnot_before = \"2026-11-01\"\n\
             not_after = \"2026-12-01\"\n[[issuers]]\nid = 2\nkey = \"{}\"\nnot_before = \"2026-11-15\"\n\
             not_after = \"2027-02-15\"\n{extra}",
            key(&issuer)
        )
    };
    desk.write("keyset.toml", &describe(4, ""));
    let sign = |out: &str| {
        desk.good(&["keyset", "sign", "--root", "root.key", "--at", AT, "--out", out, "keyset.toml"])
    };
    sign("keys.bin");
    let text = desk.good(&["keyset", "verify", "--admission", "admission.toml", "keys.bin"]);
    assert!(text.contains("key set 4, made 2026-11-22T10:00:00Z") && text.contains(&key(&issuer)), "{text}");

    let mut gate = desk.gate();
    let bytes = std::fs::read(desk.path("keys.bin")).unwrap();
    assert_eq!(gate.install_keys(TEN, &bytes), Ok(Version(4)));
    assert_eq!(gate.status(TEN).keys, ListState::Fresh(Version(4)));
    desk.good(&["issue", "--issuer", "next.key", "--from", "2026-11-22", "--out", "new.pass"]);
    let code = desk.code("new.pass", &[]);
    assert!(gate.check(TEN, true, code.as_bytes()).is_ok());
    let verified =
        desk.good(&["verify", &code, "--at", AT, "--admission", "admission.toml", "--keys", "keys.bin"]);
    assert!(verified.contains("verdict           admitted"), "{verified}");

    let third = format!(
        "[[issuers]]\nid = 3\nkey = \"{old}\"\nnot_before = \"2026-11-20\"\nnot_after = \"2027-01-01\"\n"
    );
    desk.write("keyset.toml", &describe(5, &third));
    let (status, error) =
        desk.bad(&["keyset", "sign", "--root", "root.key", "--out", "three.bin", "keyset.toml"]);
    assert!(status == 1 && error.contains("keyset.toml") && error.contains("two keys are live"), "{error}");

    let mut tampered = bytes;
    tampered[20] ^= 1;
    std::fs::write(desk.path("tampered.bin"), tampered).unwrap();
    let (status, text) = desk.bad(&["keyset", "verify", "--admission", "admission.toml", "tampered.bin"]);
    assert!(status == 3 && text.contains("signature"), "{text}");
}

#[test]
fn deny_lists_close_the_gate_to_a_pass() {
    let desk = Desk::new();
    desk.issue("kim.pass", &["--member", "0123456789abcdef"]);
    desk.write("denied.txt", "# lost phones\n0123456789abcdef 2026-12-01\n00000000000000a1 # for ever\n");
    let sign = |more: &[&str]| {
        let mut arguments = vec![
            "deny",
            "sign",
            "--issuer",
            "issuer.key",
            "--version-number",
            "12",
            "--at",
            AT,
            "denied.txt",
        ];
        arguments.extend(more);
        desk.good(&arguments)
    };
    sign(&["--out", "deny.bin"]);
    let text = desk.good(&["deny", "verify", "--admission", "admission.toml", "deny.bin"]);
    assert!(text.contains("0123456789abcdef 2026-12-01") && text.contains("for ever"), "{text}");
    let mut gate = desk.gate();
    let message: SignedList = serde_json::from_str(&sign(&["--json"])).unwrap();
    assert_eq!(gate.deny(TEN, &message.bytes), Ok(Version(12)));
    let code = desk.code("kim.pass", &[]);
    assert_eq!(gate.check(TEN, true, code.as_bytes()).err(), Some(DenyReason::Revoked));
    let (status, text) =
        desk.bad(&["verify", &code, "--at", AT, "--admission", "admission.toml", "--deny", "deny.bin"]);
    assert!(status == 3 && text.contains("refused, revoked"), "{text}");
    desk.write("denied.txt", "0123456789abcdef\nnonsense\n");
    let (status, error) = desk.bad(&[
        "deny",
        "sign",
        "--issuer",
        "issuer.key",
        "--version-number",
        "13",
        "--out",
        "x",
        "denied.txt",
    ]);
    assert!(status == 1 && error.contains("denied.txt: line 2"), "{error}");
}

#[test]
fn cards_open_the_gate() {
    let desk = Desk::new();
    desk.write(
        "cards.txt",
        "w26:123/45678 0123456789abcdef 2027-01-01\n32:c0ffee01 00000000000000a1 2027-01-01 staff party=2\n",
    );
    desk.good(&[
        "card",
        "sign",
        "--issuer",
        "issuer.key",
        "--salt",
        "salt.key",
        "--version-number",
        "1",
        "--at",
        AT,
        "--out",
        "cards.bin",
        "cards.txt",
    ]);
    let text = desk.good(&["card", "verify", "--admission", "admission.toml", "cards.bin"]);
    assert!(text.contains("0123456789abcdef 2027-01-01T00:00:00Z party=1"), "{text}");
    assert!(text.contains("party=2 staff"), "{text}");
    let mut gate = desk.gate();
    let bytes = std::fs::read(desk.path("cards.bin")).unwrap();
    assert_eq!(gate.install_cards(TEN, &bytes), Ok(Version(1)));
    let lane = LaneId::from("entry-1");
    let wiegand = CardNumber::new(26, &0x02f7_64dd_u32.rotate_left(6).to_be_bytes()).unwrap();
    assert_eq!(gate.check_card(&lane, TEN, true, &wiegand).unwrap().grant.member.0, 0x0123_4567_89ab_cdef);
    let staff = CardNumber::new(32, &[0xc0, 0xff, 0xee, 1]).unwrap();
    assert!(gate.check_card(&lane, TEN, true, &staff).unwrap().grant.staff);
    desk.write("cards.txt", "w26:1/2 0123456789abcdef 2027-01-01 boss\n");
    let (status, error) = desk.bad(&[
        "card",
        "sign",
        "--issuer",
        "issuer.key",
        "--salt",
        "salt.key",
        "--version-number",
        "2",
        "--out",
        "x",
        "cards.txt",
    ]);
    assert!(status == 1 && error.contains("cards.txt: line 1") && error.contains("boss"), "{error}");
}

#[test]
fn errors_name_the_file_and_the_cause() {
    let desk = Desk::new();
    desk.write("broken.key", "kind = \"issuer\"\nid = 1\nstore_group = 7\nseed = \"zz\"\n");
    desk.write("garbage.key", "seed = \"ab\"\nkind = 5");
    desk.write("open.key", "kind = \"group\"\nseed = abab");
    let table: [(&[&str], i32, &[&str]); 10] = [
        (&["keys", "show", "absent.key"], 1, &["absent.key", "No such file"]),
        (&["keys", "show", "garbage.key"], 1, &["garbage.key", "line 2"]),
        (&["keys", "show", "open.key"], 1, &["open.key", "line 2"]),
        (&["keys", "show", "broken.key"], 1, &["broken.key", "seed", "64 hexadecimal"]),
        (&["issue", "--issuer", "group.key", "--out", "x.pass"], 1, &["group.key", "kind", "issuer"]),
        (&["issue", "--issuer", "issuer.key", "--valid", "500d", "--out", "x"], 1, &["--valid", "455"]),
        (&["issue", "--issuer", "issuer.key", "--party", "16", "--out", "x"], 2, &["16", "1..=15"]),
        (&["issue", "--issuer", "issuer.key", "--from", "soon", "--out", "x"], 2, &["soon"]),
        (&["keys", "new", "issuer", "--out", "x"], 1, &["--id", "--store-group"]),
        (&["show", "issuer.key"], 1, &["issuer.key"]),
    ];
    for (arguments, want, texts) in table {
        let (status, error) = desk.bad(arguments);
        assert_eq!(status, want, "{arguments:?}: {error}");
        assert!(!error.contains("abab"), "a secret is printed: {error}");
        for text in texts {
            assert!(error.contains(text), "{text:?} is not in {error}");
        }
    }
    assert!(!desk.path("x").exists() && !desk.path("x.pass").exists(), "nothing half made is left");
}

#[test]
fn help_names_every_command() {
    let desk = Desk { folder: tempfile::tempdir().unwrap() };
    let help = desk.good(&["--help"]);
    for word in
        ["keys", "issue", "show", "verify", "keyset", "deny", "card", "EXAMPLES", "EXIT STATUS", "0600"]
    {
        assert!(help.contains(word), "{word} is not in the help");
    }
    assert!(desk.good(&["keyset", "sign", "--help"]).contains("not_before = "));
    assert!(desk.good(&["card", "sign", "--help"]).contains("w26:"));
}
