//! The watch, with real processes that really die.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use gate_failsafe::watch::Ward;
use gate_failsafe::{Lane, make_inactive};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for what must happen.
const WAIT: Duration = Duration::from_secs(20);

const SIMULATED: &str = "[[lanes]]\nid = \"entry-1\"\n[lanes.turnstile]\nkind = \"sim\"\n";

struct FakeLane {
    id: &'static str,
    broken: bool,
    acted: Sender<(&'static str, Instant)>,
}

impl Lane for FakeLane {
    fn id(&self) -> &str {
        self.id
    }

    fn make_inactive(&mut self) -> Vec<String> {
        self.acted.send((self.id, Instant::now())).expect("the test listens");
        if self.broken { vec!["unlock_a is stuck".to_owned()] } else { Vec::new() }
    }
}

/// A process that lives until it is killed.
fn ward() -> Child {
    Command::new("sleep").arg("600").spawn().expect("a process")
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn failsafe(arguments: &[&str], manifest: Option<&str>) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gate-failsafe"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(text) = manifest {
        let path: PathBuf = folder.path().join("gated.toml");
        std::fs::write(&path, text).expect("written");
        command.arg("--manifest").arg(path);
    }
    (command, folder)
}

/// Its exit status and what it said.
fn finish(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    (child.wait().expect("waited").code(), said)
}

#[test]
fn a_killed_gate_is_noticed_and_every_lane_is_tried() {
    let mut ward = ward();
    let (sender, receiver) = channel();
    let watched = Ward::take(pid(&ward)).expect("a pidfd");
    let watcher = std::thread::spawn(move || {
        watched.wait().expect("waited");
        let mut lanes = [("entry-1", true), ("exit-1", false)].map(|(id, broken)| {
            let acted = sender.clone();
            FakeLane { id, broken, acted }
        });
        make_inactive(&mut lanes)
    });
    let killed = Instant::now();
    kill_process(pid(&ward), Signal::KILL).expect("killed");
    let (first, at) = receiver.recv_timeout(WAIT).expect("the first lane");
    println!("kill -9 to the first lane's outputs: {:.3} ms", (at - killed).as_secs_f64() * 1000.0);
    assert_eq!(first, "entry-1");
    assert_eq!(receiver.recv_timeout(WAIT).expect("the second lane, too").0, "exit-1");
    let report = watcher.join().expect("joined");
    assert_eq!((report.lanes, report.failures), (2, vec!["lane entry-1: unlock_a is stuck".to_owned()]));
    ward.wait().expect("reaped");
}

#[test]
fn nothing_happens_while_the_gate_lives() {
    let mut ward = ward();
    let watched = Ward::take(pid(&ward)).expect("a pidfd");
    let (sender, receiver) = channel();
    let watcher = std::thread::spawn(move || {
        watched.wait().expect("waited");
        sender.send(()).expect("the test listens");
    });
    assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
    ward.kill().expect("killed");
    receiver.recv_timeout(WAIT).expect("noticed");
    watcher.join().expect("joined");
    ward.wait().expect("reaped");
}

#[test]
fn the_program_outlives_its_unit_and_reacts_to_the_death_of_the_gate() {
    let mut ward = ward();
    let (mut command, _folder) = failsafe(&["--watch", &ward.id().to_string()], Some(SIMULATED));
    let mut watcher = command.spawn().expect("started");
    let mut line = String::new();
    BufReader::new(watcher.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "armed\n");
    // What the service manager does to all processes of a unit that ends.
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        kill_process(pid(&watcher), signal).expect("signalled");
    }
    assert!(watcher.try_wait().expect("asked").is_none());
    let killed = Instant::now();
    kill_process(pid(&ward), Signal::KILL).expect("killed");
    let (code, said) = finish(watcher);
    println!("kill -9 to the end of the program: {:.3} ms", killed.elapsed().as_secs_f64() * 1000.0);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("process {} is dead", ward.id())), "{said}");
    assert!(said.contains("outputs of 1 lanes are inactive"), "{said}");
    ward.wait().expect("reaped");
}

#[test]
fn a_gate_that_is_dead_already_is_acted_upon_at_once() {
    let mut ward = ward();
    ward.kill().expect("killed");
    ward.wait().expect("reaped");
    let (mut command, _folder) = failsafe(&["--watch", &ward.id().to_string()], Some(SIMULATED));
    let (code, said) = finish(command.spawn().expect("started"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is dead"), "{said}");
}

#[test]
fn a_lane_that_fails_is_told_and_the_next_is_tried() {
    let lane = |id: &str| {
        format!(
            "[[lanes]]\nid = \"{id}\"\n[lanes.turnstile]\nkind = \"cdev\"\nchip = \"no such chip\"\n\
             [lanes.turnstile.outputs]\nunlock_a = {{ line = 1 }}\n"
        )
    };
    let (mut command, _folder) = failsafe(&[], Some(&(lane("entry-1") + &lane("entry-2"))));
    let before = Instant::now();
    let (code, said) = finish(command.spawn().expect("started"));
    println!("start to end: {:.3} ms", before.elapsed().as_secs_f64() * 1000.0);
    assert_eq!(code, Some(1), "{said}");
    for lane in ["entry-1", "entry-2"] {
        assert!(said.contains(&format!("lane {lane}: open the turnstile, unlock_a: chip")), "{said}");
    }
    assert!(said.contains("2 failures in 2 lanes"), "{said}");
}

#[test]
fn wrong_calls_are_told() {
    for (arguments, manifest, text) in [
        (&[][..], None, "--manifest is missing"),
        (&["--manifest"], None, "needs a file"),
        (
            &["--manifest", "/no/such/manifest.toml"],
            None,
            "cannot read manifest /no/such/manifest.toml: No such",
        ),
        (&["--watch", "0"], Some(SIMULATED), "process number"),
        (&["--watch", "-7"], Some(SIMULATED), "process number"),
        (&["--watch", "gated"], Some(SIMULATED), "process number"),
        (&["--open"], Some(SIMULATED), "unknown argument \"--open\""),
        (&[], Some("[[lanes"), "is not valid TOML"),
    ] {
        let (mut command, _folder) = failsafe(arguments, manifest);
        let (code, said) = finish(command.spawn().expect("started"));
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
}
