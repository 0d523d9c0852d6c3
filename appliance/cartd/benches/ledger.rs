//! How long the ledger takes: to accept a visit durably, and to come back after a restart.

#[path = "../tests/cartd/fixture.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fixture;

use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;

use crate::fixture::{file, open, visit};

fn main() {
    divan::main();
}

/// The four inputs of a visit, each in a transaction of its own, as they come: four syncs of the disk.
#[divan::bench(sample_count = 200)]
fn accept_a_visit(bencher: Bencher) {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    let number = AtomicU64::new(0);
    bencher.with_inputs(|| visit(number.fetch_add(1, Ordering::Relaxed))).bench_local_values(|visit| {
        for entry in &visit {
            ledger.accept(std::slice::from_ref(entry)).expect("accepted");
        }
    });
}

/// Opening a ledger: its check, and the replay of so many visits.
#[divan::bench(args = [100, 2_500], sample_count = 10)]
fn open_after(bencher: Bencher, visits: u64) {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    let all: Vec<_> = (0..visits).flat_map(visit).collect();
    ledger.accept(&all).expect("accepted");
    drop(ledger);
    bencher.bench_local(|| open(&path).expect("opens again"));
}
