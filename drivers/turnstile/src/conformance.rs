//! What every turnstile must do, simulated or wired: run it on the simulator always, on the kernel's
//! simulated chip in a virtual machine, on hardware with a test bench that can switch the inputs and sense
//! the outputs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::{Edge, Error, ErrorKind, Line, Outputs, Turnstile};

/// The far side of the terminal strip: a simulator's handle, or a bench of relays and sensing inputs.
pub trait Bench {
    /// Switches an input line of the turnstile under test.
    fn set(&mut self, line: Line, active: bool);
    /// Senses the output lines.
    fn outputs(&mut self) -> Outputs;
}

impl Bench for crate::sim::SimHandle {
    fn set(&mut self, line: Line, active: bool) {
        Self::set(self, line, active);
    }

    fn outputs(&mut self) -> Outputs {
        Self::outputs(self)
    }
}

/// Longest wait for an edge that must come. Real time; a slow emulated machine has it too.
const EDGE_WAIT: Duration = Duration::from_secs(10);

/// More changes than any driver keeps for a reader that does not come (the kernel allows 1024 events).
const CHANGES_TOO_MANY: usize = 2_000;

/// Runs the suite on a turnstile that was just opened, with only its Ready line active and without
/// debouncing.
///
/// # Panics
/// When the device does not conform; the message says in what.
pub async fn check<T: Turnstile>(turnstile: &mut T, bench: &mut impl Bench) {
    reports_every_level_after_opening(turnstile, &[Line::Ready]).await;
    outputs_are_levels(turnstile, bench);
    edges_arrive_in_order(turnstile, bench).await;
    waiting_is_cancel_safe(turnstile, bench).await;
    lost_edges_are_made_up(turnstile, bench).await;
    turnstile.drive(Outputs::INACTIVE).expect("drive to the safe state");
    assert_eq!(bench.outputs(), Outputs::INACTIVE, "the suite ends in the safe state");
}

/// Runs the suite of opening and letting go, again and again: lines that are held while nobody watches, a
/// second holder, outputs after the end. Starts and ends with only the Ready line active.
///
/// # Panics
/// When the device does not conform; the message says in what.
pub async fn check_opening<T: Turnstile>(mut open: impl FnMut() -> Result<T, Error>, bench: &mut impl Bench) {
    for held in [&[Line::Ready][..], &[Line::FireAlarm, Line::PassageA], &Line::ALL, &[]] {
        for line in Line::ALL {
            bench.set(line, held.contains(&line));
        }
        let mut turnstile = open().expect("open");
        assert_eq!(bench.outputs(), Outputs::INACTIVE, "opening drives nothing");
        reports_every_level_after_opening(&mut turnstile, held).await;
        let other = open().err().expect("the lines are held");
        assert_eq!(other.kind(), ErrorKind::Busy, "{other}");
        turnstile.drive(Outputs { unlock_a: true, stop: true, ..Outputs::INACTIVE }).expect("drive");
        assert!(bench.outputs().unlock_a && bench.outputs().stop, "a refused second holder changes nothing");
        drop(turnstile);
        assert_eq!(bench.outputs(), Outputs::INACTIVE, "letting go leaves the outputs inactive");
    }
    for line in Line::ALL {
        bench.set(line, line.at_rest());
    }
}

/// Runs the suite of debouncing on a turnstile that was just opened with `debounce` on every input, only its
/// Ready line active.
///
/// # Panics
/// When the device does not conform; the message says in what.
pub async fn check_debounce<T: Turnstile>(turnstile: &mut T, bench: &mut impl Bench, debounce: Duration) {
    reports_every_level_after_opening(turnstile, &[Line::Ready]).await;
    // Contacts chatter while they close; all of it together is one edge.
    let before = Instant::now();
    for active in [true, false, true, false, true] {
        bench.set(Line::PassageA, active);
    }
    let chatter = before.elapsed();
    assert!(chatter < debounce, "the bench took {chatter:?} to chatter, which is no chatter of {debounce:?}");
    let edge = next(turnstile).await;
    assert_eq!((edge.line, edge.active), (Line::PassageA, true));
    assert!(edge.at >= before, "an edge is stamped when it happens");
    bench.set(Line::PassageA, false);
    let edge = next(turnstile).await;
    assert_eq!((edge.line, edge.active), (Line::PassageA, false), "chatter is no edge");
}

async fn next<T: Turnstile>(turnstile: &mut T) -> Edge {
    let edge = tokio::time::timeout(EDGE_WAIT, turnstile.next_edge()).await;
    edge.expect("an edge arrives").expect("an edge")
}

async fn reports_every_level_after_opening<T: Turnstile>(turnstile: &mut T, held: &[Line]) {
    let mut levels = BTreeMap::new();
    while levels.len() < Line::ALL.len() {
        let edge = next(turnstile).await;
        assert!(levels.insert(edge.line, edge.active).is_none(), "{:?} reported twice", edge.line);
    }
    for (line, active) in levels {
        assert_eq!(active, held.contains(&line), "{line:?} after opening");
    }
}

fn outputs_are_levels<T: Turnstile>(turnstile: &mut T, bench: &mut impl Bench) {
    let none = Outputs::INACTIVE;
    let each = [
        Outputs { unlock_a: true, ..none },
        Outputs { unlock_b: true, ..none },
        Outputs { stop: true, ..none },
        Outputs { beacon_red: true, ..none },
        Outputs { beacon_green: true, ..none },
        Outputs { wide: true, ..none },
        none,
    ];
    for outputs in each {
        for _ in 0..2 {
            turnstile.drive(outputs).expect("drive");
            assert_eq!(bench.outputs(), outputs, "driving is idempotent");
        }
    }
}

async fn edges_arrive_in_order<T: Turnstile>(turnstile: &mut T, bench: &mut impl Bench) {
    for line in Line::ALL {
        for active in [!line.at_rest(), line.at_rest()] {
            let before = Instant::now();
            bench.set(line, active);
            let edge = next(turnstile).await;
            assert_eq!((edge.line, edge.active), (line, active));
            assert!(edge.at >= before, "an edge is stamped when it happens");
            assert!(edge.at <= Instant::now() + Duration::from_millis(1), "and not in the future");
        }
    }
    bench.set(Line::PassageA, true);
    bench.set(Line::PassageA, false);
    let both = [next(turnstile).await, next(turnstile).await];
    assert_eq!(both.map(|edge| edge.active), [true, false], "a short pulse is two edges");
    assert!(both[0].at <= both[1].at, "in their order");
}

async fn waiting_is_cancel_safe<T: Turnstile>(turnstile: &mut T, bench: &mut impl Bench) {
    for _ in 0..3 {
        tokio::select! {
            biased;
            edge = turnstile.next_edge() => panic!("an edge {edge:?} out of nothing"),
            () = async {} => {}
        }
    }
    bench.set(Line::Detector, true);
    let edge = next(turnstile).await;
    assert_eq!((edge.line, edge.active), (Line::Detector, true), "no edge is lost to a cancelled wait");
    bench.set(Line::Detector, false);
    assert!(!next(turnstile).await.active);
}

/// The fire alarm comes, then one line chatters more than anybody keeps: the alarm must not be forgotten.
async fn lost_edges_are_made_up<T: Turnstile>(turnstile: &mut T, bench: &mut impl Bench) {
    bench.set(Line::FireAlarm, true);
    bench.set(Line::Tamper, true);
    for step in 0..CHANGES_TOO_MANY {
        bench.set(Line::PassageA, step % 2 == 0);
    }
    bench.set(Line::Tamper, false);
    let mut levels = BTreeMap::new();
    let wanted = |line| line == Line::Ready || line == Line::FireAlarm;
    let mut edges = 0;
    while levels.len() < Line::ALL.len() || levels.iter().any(|(line, active)| *active != wanted(*line)) {
        let edge = next(turnstile).await;
        levels.insert(edge.line, edge.active);
        edges += 1;
        assert!(edges <= 2 * CHANGES_TOO_MANY, "levels are not reported again after a loss: {levels:?}");
    }
    // What follows a loss may repeat levels, and must end with the newest.
    bench.set(Line::FireAlarm, false);
    loop {
        let edge = next(turnstile).await;
        levels.insert(edge.line, edge.active);
        if levels.iter().all(|(line, active)| *active == line.at_rest()) {
            break;
        }
    }
}
