//! What every turnstile must do, simulated or wired: run it on the simulator always, on hardware with a test
//! bench that can switch the inputs and sense the outputs.

use std::collections::BTreeMap;

use crate::{Line, Outputs, Turnstile};

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

/// Runs the suite on a turnstile that was just opened, with only its Ready line active.
///
/// # Panics
/// When the device does not conform; the message says in what.
pub async fn check<T: Turnstile>(turnstile: &mut T, bench: &mut impl Bench) {
    reports_every_level_after_opening(turnstile).await;
    outputs_are_levels(turnstile, bench);
    edges_arrive_in_order(turnstile, bench).await;
    waiting_is_cancel_safe(turnstile, bench).await;
    turnstile.drive(Outputs::INACTIVE).expect("drive to the safe state");
    assert_eq!(bench.outputs(), Outputs::INACTIVE, "the suite ends in the safe state");
}

async fn reports_every_level_after_opening<T: Turnstile>(turnstile: &mut T) {
    let mut levels = BTreeMap::new();
    while levels.len() < Line::ALL.len() {
        let edge = turnstile.next_edge().await.expect("an opened turnstile reports its levels");
        assert!(levels.insert(edge.line, edge.active).is_none(), "{:?} reported twice", edge.line);
    }
    for (line, active) in levels {
        assert_eq!(active, line == Line::Ready, "{line:?} after opening");
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
        let start = line == Line::Ready;
        for active in [!start, start] {
            let before = std::time::Instant::now();
            bench.set(line, active);
            let edge = turnstile.next_edge().await.expect("an edge");
            assert_eq!((edge.line, edge.active), (line, active));
            assert!(edge.at >= before, "an edge is stamped when it happens");
        }
    }
    bench.set(Line::PassageA, true);
    bench.set(Line::PassageA, false);
    let both =
        [turnstile.next_edge().await, turnstile.next_edge().await].map(|edge| edge.expect("an edge").active);
    assert_eq!(both, [true, false], "a short pulse is two edges");
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
    let edge = turnstile.next_edge().await.expect("an edge");
    assert_eq!((edge.line, edge.active), (Line::Detector, true), "no edge is lost to a cancelled wait");
    bench.set(Line::Detector, false);
    assert!(!turnstile.next_edge().await.expect("an edge").active);
}
