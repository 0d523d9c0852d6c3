//! Workers that are killed, hang or lie: each costs its picture, and nothing else.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Cursor;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use code_reader::sandbox::Layers;
use code_reader::wire::{Answer, Effort, Greeting, Outcome, Source};
use code_reader::worker::{Error, ErrorKind, Picture, Policy, Program, Settings, Worker};
use image::{GrayImage, ImageFormat, Luma};
use rustix::process::{Pid, Signal, kill_process};
use zxingcpp::{BarcodeCreator, BarcodeFormat, BarcodeWriter};

const FRAME: Effort = Effort::Frame { budget_us: 1_000_000 };

fn program() -> Program {
    Program { path: PathBuf::from(env!("CARGO_BIN_EXE_code-reader")), arguments: Vec::new() }
}

fn worker() -> Worker {
    Worker::new(Settings { deadline: Duration::from_secs(10), ..Settings::frames(program()) })
}

fn drawn(text: &str) -> GrayImage {
    let code = BarcodeCreator::new(BarcodeFormat::QRCode).from_str(text).unwrap();
    let drawn = code.to_image_with(&BarcodeWriter::new().scale(4).add_quiet_zones(true)).unwrap();
    GrayImage::from_raw(drawn.width() as u32, drawn.height() as u32, drawn.data()).unwrap()
}

fn grey(picture: &GrayImage) -> Picture<'_> {
    let (width, height) = picture.dimensions();
    Picture { bytes: picture.as_raw(), source: Source::Grey, width, height }
}

fn texts(answer: Answer) -> Vec<String> {
    match answer.outcome {
        Outcome::Read(codes) => codes.into_iter().map(|code| code.text).collect(),
        other => panic!("{other:?}"),
    }
}

fn pid(worker: &Worker) -> Pid {
    Pid::from_raw(worker.health().process.unwrap() as i32).unwrap()
}

#[test]
fn it_reads_behind_all_walls() {
    let mut worker = worker();
    let picture = drawn(&"1234567890".repeat(45));
    for effort in [Effort::Still, FRAME] {
        assert_eq!(texts(worker.read(grey(&picture), effort).unwrap()), ["1234567890".repeat(45)]);
    }
    let nothing = GrayImage::from_pixel(640, 480, Luma([90]));
    assert!(texts(worker.read(grey(&nothing), FRAME).unwrap()).is_empty());
    assert_eq!((worker.health().starts, worker.health().answers), (1, 3));
    // Where the kernel has no landlock or no seccomp, the health says so.
    let layers = worker.health().layers.unwrap();
    assert_eq!(layers == Layers::ALL, worker.health().missing.is_empty(), "{}", worker.health());
    assert!(layers.contain(Layers::LIMITS) && layers.contain(Layers::PRIVILEGES), "{}", worker.health());
}

#[test]
fn every_kind_of_picture_is_unfolded_in_the_worker() {
    let mut worker = worker();
    let picture = drawn("kinds of pictures");
    let (width, height) = picture.dimensions();
    let colours: Vec<u8> = picture.as_raw().iter().flat_map(|pixel| [*pixel; 3]).collect();
    let colours = camera::Rgb { width, height, data: colours };
    let yuyv = camera::codec::encode_yuyv(&colours);
    let jpeg = camera::codec::encode_mjpeg(&colours, 90).unwrap();
    let mut png = Vec::new();
    picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
    let of = |bytes, source, width, height| Picture { bytes, source, width, height };
    for good in [
        of(&yuyv, Source::Yuyv, width, height),
        of(&jpeg, Source::Mjpeg, width, height),
        of(&png, Source::File, 0, 0),
    ] {
        assert_eq!(texts(worker.read(good, FRAME).unwrap()), ["kinds of pictures"], "{:?}", good.source);
    }
    for bad in [
        of(&yuyv, Source::Yuyv, width, height + 1),
        of(&jpeg[..40], Source::Mjpeg, width, height),
        of(&jpeg, Source::Mjpeg, width - 1, height),
        of(&png[..40], Source::File, 0, 0),
        of(picture.as_raw(), Source::Grey, u32::MAX, u32::MAX),
        of(&[], Source::Grey, 5, 5),
        of(&[], Source::File, 0, 0),
    ] {
        let outcome = worker.read(bad, FRAME).unwrap().outcome;
        assert!(
            matches!(&outcome, Outcome::NoPicture(why) if !why.is_empty()),
            "{:?} {outcome:?}",
            bad.source
        );
    }
    assert!(texts(worker.read(of(&[], Source::Grey, 0, 0), FRAME).unwrap()).is_empty());
    assert_eq!(worker.health().starts, 1);
}

#[test]
fn one_that_is_killed_in_the_middle_costs_its_picture() {
    let mut worker = worker();
    let picture = drawn("killed");
    worker.start().unwrap();
    // Stopped, so that it is surely in the middle of the picture when it is killed.
    let process = pid(&worker);
    kill_process(process, Signal::STOP).unwrap();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        kill_process(process, Signal::KILL).unwrap();
    });
    let error = worker.read(grey(&picture), FRAME).unwrap_err();
    killer.join().unwrap();
    assert_eq!(error.to_string(), "the decoder ended (signal 9)");
    assert_eq!((error.kind(), worker.health().crashes), (ErrorKind::Lost, 1));
    // The next one was started already.
    assert_ne!(pid(&worker), process);
    assert_eq!(texts(worker.read(grey(&picture), FRAME).unwrap()), ["killed"]);
    assert_eq!(worker.health().starts, 2);
}

#[test]
fn one_that_hangs_is_ended_at_the_deadline() {
    let deadline = Duration::from_millis(60);
    let mut worker = Worker::new(Settings { deadline, ..Settings::frames(program()) });
    let picture = drawn("hangs");
    worker.start().unwrap();
    let process = pid(&worker);
    kill_process(process, Signal::STOP).unwrap();
    let start = Instant::now();
    let error = worker.read(grey(&picture), FRAME).unwrap_err();
    assert!(matches!(error, Error::Hung(_)), "{error}");
    assert!(start.elapsed() >= deadline);
    assert_eq!(worker.health().hangs, 1);
    // Gone, and taken care of: no zombie.
    assert!(rustix::process::test_kill_process(process).is_err());
}

/// A worker of shell commands: greets well, takes a request, and then does as told.
fn liar(folder: &std::path::Path, then: &str) -> Worker {
    let greeting = folder.join("greeting");
    let hello = Greeting { layers: Layers::ALL.bits(), detail: String::new() };
    std::fs::write(&greeting, hello.encode()).unwrap();
    let script = folder.join("liar.sh");
    let text = format!("cat {} >&0\nhead -c 28 <&0 >/dev/null\n{then}\n", greeting.display());
    std::fs::write(&script, text).unwrap();
    let program = Program { path: "/bin/sh".into(), arguments: vec![script.to_str().unwrap().to_owned()] };
    Worker::new(Settings { deadline: Duration::from_secs(5), ..Settings::frames(program) })
}

#[test]
fn one_that_answers_nonsense_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = "PATH=/usr/bin:/bin; export PATH\n";
    let cases = [
        // A length beyond all bounds, a body of nothing known, an answer to another request.
        r"printf '\377\377\377\377' >&0; sleep 10".to_owned(),
        r"printf '\004\000\000\000abcd' >&0; sleep 10".to_owned(),
        {
            let other = Answer { id: 999, micros: 0, attempts: 0, outcome: Outcome::Failed };
            let file = folder.path().join("other");
            std::fs::write(&file, other.encode()).unwrap();
            format!("cat {} >&0; sleep 10", file.display())
        },
    ];
    let picture = drawn("nonsense");
    for then in cases {
        let mut worker = liar(folder.path(), &format!("{path}{then}"));
        let error = worker.read(grey(&picture), FRAME).unwrap_err();
        assert!(matches!(error, Error::Garbage(_)), "{then}: {error}");
        assert_eq!((error.kind(), worker.health().garbage), (ErrorKind::Lost, 1));
    }
    // Half an answer, and then the end of it.
    let mut worker = liar(folder.path(), r"printf '\020\000\000\000CRan' >&0; exit 7");
    let error = worker.read(grey(&picture), FRAME).unwrap_err();
    assert!(matches!(error, Error::Crashed(_)), "{error}");
}

#[test]
fn losses_in_a_row_are_followed_by_pauses() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = liar(folder.path(), "exit 1");
    let picture = drawn("again");
    let mut rested = 0;
    for _ in 0..20 {
        match worker.read(grey(&picture), FRAME).unwrap_err() {
            Error::Resting => rested += 1,
            error => assert!(matches!(error, Error::Crashed(_)), "{error}"),
        }
    }
    assert!(rested >= 15, "{rested}");
    assert!(worker.health().starts <= 5, "{}", worker.health());
}

#[test]
fn what_is_no_worker_is_an_error_that_names_it() {
    let start = |path: &str, policy| {
        let program = Program { path: path.into(), arguments: Vec::new() };
        let mut worker = Worker::new(Settings { policy, ..Settings::frames(program) });
        worker.start().unwrap_err()
    };
    let error = start("/nowhere/code-reader", Policy::BestEffort);
    assert_eq!(error.to_string(), "cannot start the decoder /nowhere/code-reader");
    assert_eq!(error.kind(), ErrorKind::Unusable);
    assert!(matches!(start("/bin/true", Policy::BestEffort), Error::Crashed(_)));
    // One that says that it has no walls is not taken where they are required.
    let folder = tempfile::tempdir().unwrap();
    let mut unprotected = liar(folder.path(), "sleep 10");
    std::fs::write(
        folder.path().join("greeting"),
        Greeting { layers: 3, detail: "no landlock here".to_owned() }.encode(),
    )
    .unwrap();
    unprotected.start().unwrap();
    assert_eq!(unprotected.health().missing, "no landlock here");
    let script = folder.path().join("liar.sh");
    let program = Program { path: "/bin/sh".into(), arguments: vec![script.to_str().unwrap().to_owned()] };
    let required = Settings { policy: Policy::Required, ..Settings::frames(program) };
    let error = Worker::new(required).start().unwrap_err();
    assert_eq!(error.to_string(), "the decoder is not locked in: no landlock here");
}

#[test]
fn a_picture_too_large_is_refused_before_it_is_sent() {
    let mut worker = Worker::new(Settings { picture_bytes_max: 1000, ..Settings::frames(program()) });
    let error = worker.read(grey(&GrayImage::new(100, 100)), FRAME).unwrap_err();
    assert!(matches!(error, Error::TooLarge(10_000)));
    assert_eq!(worker.health().starts, 0);
}

fn field(process: Pid, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_worker_has_no_rights() {
    let mut worker = worker();
    worker.start().unwrap();
    let process = pid(&worker);
    assert_eq!(field(process, "NoNewPrivs:"), "1");
    assert_eq!(field(process, "Seccomp:"), "2", "a filter");
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(process, capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(field(process, "Threads:"), "1");
    drop(worker);
    assert!(rustix::process::test_kill_process(process).is_err());
}

#[test]
fn a_worker_ends_with_the_thread_that_started_it() {
    let start = || {
        let mut worker = worker();
        worker.start().unwrap();
        worker
    };
    // Its socket stays open in our hands: only the kernel can end it.
    let mut worker = std::thread::spawn(start).join().unwrap();
    let process = pid(&worker);
    let until = Instant::now() + Duration::from_secs(5);
    while field(process, "State:") != "Z" {
        assert!(Instant::now() < until, "still {}", field(process, "State:"));
        std::thread::yield_now();
    }
    let error = worker.read(grey(&drawn("orphan")), FRAME).unwrap_err();
    assert_eq!(error.to_string(), "the decoder ended (signal 9)");
}

#[test]
fn what_is_forbidden_fails_inside_the_walls() {
    let output = Command::new(env!("CARGO_BIN_EXE_code-reader")).arg("--self-check").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let verdict = |walls: &str, what: &str| {
        let line = told.lines().find(|line| line.starts_with(walls) && line.contains(&format!(" {what} ")));
        line.unwrap_or_else(|| panic!("{walls} {what}:\n{told}"))
            .split_whitespace()
            .last()
            .unwrap()
            .to_owned()
    };
    for what in ["open-file", "make-file", "socket", "connect", "unix-socket", "start", "kill"] {
        assert_eq!(verdict("all walls", what), "killed", "{told}");
        assert_eq!(verdict("no wall", what), "worked", "{told}");
    }
    assert_eq!(verdict("all walls", "memory"), "refused");
    assert!(output.status.success(), "{told}");
}
