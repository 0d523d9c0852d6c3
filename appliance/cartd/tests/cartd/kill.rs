//! cartd killed with SIGKILL at random points while it accepts and charges: nothing acknowledged is lost,
//! nothing is made or charged twice.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cartd::ledger::check;
use cartd::payment::{Payment, Recorder};
use engine::time::Millis;

use crate::fixture::{START, has_member, open, visit};

const KILLS: u64 = 40;
const FOLDER: &str = "CARTD_KILL_FOLDER";
const SEED: &str = "CARTD_KILL_SEED";

/// The victim: accepts visit after visit from where the ledger stands, says so on its standard output after
/// each commit, charges what is due. Runs only when the test below starts it.
#[test]
#[ignore = "started by killed_anywhere"]
fn victim() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut out = std::io::stdout();
    let mut ledger = open(&folder.join("ledger.db")).expect("opens after a kill");
    let mut provider = Recorder::in_file(&folder.join("charges")).expect("the provider's record");
    let first = ledger.receipts().expect("read").len() as u64;
    for number in first..first + 10_000 {
        // In pieces, so that a kill also falls into the middle of a visit.
        for entry in visit(number) {
            ledger.accept(std::slice::from_ref(&entry)).expect("accepted");
            if let Some(origin) = entry.origin() {
                writeln!(out, "accepted {origin}").expect("said");
            }
        }
        let now = START.after(Millis::from_seconds(number * 60 + 60));
        while let Some(due) = ledger.next_payment(now).expect("read") {
            let reference = runtime.block_on(provider.charge(&due.charge)).expect("charged");
            writeln!(out, "charged {}", due.charge.receipt).expect("said");
            ledger.charged(&due.charge.receipt, &reference).expect("noted");
        }
    }
}

#[test]
fn killed_anywhere() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
    });
    // Shown when the test fails.
    println!("replay with {SEED}={seed} cargo test -p cartd killed_anywhere");
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random(seed);
    let mut said = BTreeSet::new();
    for _ in 0..KILLS {
        run_and_kill(folder.path(), random.below(60_000), &mut said);
        verify(folder.path(), &said);
    }
    assert!(said.len() as u64 > KILLS, "the victim hardly lived: {}", said.len());
}

/// Lets a victim live for some microseconds after its first word, kills it, and takes in what it said.
fn run_and_kill(folder: &Path, microseconds: u64, said: &mut BTreeSet<String>) {
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kill::victim", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("started");
    let output = victim.stdout.take().expect("piped");
    let (first_word, spoke) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut words = Vec::new();
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            if line.starts_with("accepted ") || line.starts_with("charged ") {
                // The killer may have gone already.
                let _ = first_word.send(());
                words.push(line);
            }
        }
        words
    });
    spoke.recv_timeout(Duration::from_secs(60)).expect("the victim opened its ledger and accepted");
    std::thread::sleep(Duration::from_micros(microseconds));
    victim.kill().expect("killed");
    let status = victim.wait().expect("reaped");
    assert!(!status.success(), "killed, not ended");
    // A torn last line is a word that was not finished.
    let words = reader.join().expect("read");
    said.extend(words);
}

fn verify(folder: &Path, said: &BTreeSet<String>) {
    let path = folder.join("ledger.db");
    let ledger = open(&path).expect("opens after a kill");
    for word in said.iter().filter_map(|word| word.strip_prefix("accepted ")) {
        assert!(ledger.knows(&word.into()).expect("read"), "{word} was acknowledged and is lost");
    }
    let receipts = ledger.receipts().expect("read");
    let sessions: BTreeSet<_> = receipts.iter().map(|receipt| &receipt.session).collect();
    let ids: BTreeSet<_> = receipts.iter().map(|receipt| &receipt.id).collect();
    assert_eq!((sessions.len(), ids.len()), (receipts.len(), receipts.len()), "a receipt came twice");
    for (number, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.member.is_some(), has_member(number as u64), "visit {number}");
        assert_eq!(receipt.lines.len(), 1, "visit {number}");
    }

    // The provider's file has a line for every charge that was really made.
    let text = std::fs::read_to_string(folder.join("charges")).unwrap_or_default();
    let charged: Vec<&str> = text.lines().filter_map(|line| line.split('\t').next()).collect();
    let once: BTreeSet<&str> = charged.iter().copied().collect();
    assert_eq!(once.len(), charged.len(), "a receipt was charged twice");
    for id in &charged {
        let receipt = receipts.iter().find(|receipt| receipt.id.0 == *id).expect("charged, so receipted");
        assert!(receipt.member.is_some(), "{id} has no member and was charged");
    }
    for word in said.iter().filter_map(|word| word.strip_prefix("charged ")) {
        assert!(once.contains(word), "{word} was said to be charged");
    }
    let counts = ledger.payment_counts().expect("read");
    assert!(counts.charged <= charged.len() as u64, "noted more charges than were made");
    let owed = receipts.iter().filter(|receipt| receipt.member.is_some()).count() as u64;
    assert_eq!(counts.charged + counts.waiting, owed, "every receipt with a member is charged or waits");
    drop(ledger);
    check(&path).expect("sound after a kill");
}

/// A small linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
