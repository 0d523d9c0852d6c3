//! The ledger file: kept, replayed, refused, full.

use std::os::unix::fs::FileExt;

use cartd::ledger::{Entry, Error, check, receipts, set_aside};
use cartd::payment::retry_after;
use engine::message::{Ack, topic};
use engine::session::{Doubt, Input, Policy, Store};
use engine::time::{Instant, Millis};
use engine::units::{Mass, MessageId, Money};
use runtime::bus::Bus;
use runtime::outbox::ack_topic_of;
use rusqlite::Connection;

use crate::fixture::{
    MASS, PRICE, START, file, has_member, map, open, open_at_once, open_with, plate, visit,
};

fn later(seconds: u64) -> Instant {
    START.after(Millis::from_seconds(seconds))
}

#[test]
fn a_visit_becomes_one_receipt_and_one_payment() {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    ledger.accept(&visit(0)).expect("accepted");
    let made = ledger.receipts().expect("read");
    assert_eq!(made.len(), 1, "{:?}", ledger.store().view(later(40)));
    assert_eq!(made[0].total.minor, PRICE);
    assert_eq!(ack_topic_of(&made[0].id), ledger.ack_topic(), "{}", made[0].id);
    let due = ledger.next_payment(later(60)).expect("read").expect("waits");
    assert_eq!(due.charge.receipt, made[0].id);
    assert_eq!(due.charge.amount, Money { minor: PRICE, ..made[0].total });
    ledger.charged(&made[0].id, "reference").expect("noted");
    assert_eq!(ledger.next_payment(later(60)).expect("read"), None);
    assert_eq!(check(&path).expect("sound").payments_charged, 1);
}

#[test]
fn a_visit_without_a_member_is_never_charged() {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    assert!(!has_member(4));
    ledger.accept(&visit(4)).expect("accepted");
    let made = ledger.receipts().expect("read");
    assert_eq!((made.len(), made[0].member), (1, None));
    assert_eq!(ledger.next_payment(later(10_000)).expect("read"), None);
}

#[test]
fn a_replay_leads_to_the_same_state_and_causes_nothing_twice() {
    let (_folder, path) = file();
    let mut live = Store::new(map(), Policy::default());
    let mut ledger = open(&path).expect("opens");
    for number in 0..10 {
        ledger.accept(&visit(number)).expect("accepted");
    }
    let mut commands = Vec::new();
    for (seq, entry) in (0..10).flat_map(visit).enumerate() {
        let id = MessageId(format!("cartd.{}/{}", START.0, seq + 1));
        live.handle(entry.at, &id, &entry.input, &mut commands);
    }
    assert!(*ledger.store() == live, "the ledger's store is the engine's");
    let before = ledger.receipts().expect("read");
    let counts = ledger.payment_counts().expect("read");
    assert_eq!((before.len(), counts.waiting), (10, 8));
    drop(ledger);
    let ledger = open(&path).expect("opens again");
    assert!(*ledger.store() == live, "the replayed store is the live one");
    assert_eq!(ledger.receipts().expect("read"), before);
    assert_eq!(ledger.payment_counts().expect("read"), counts);
    assert_eq!(receipts(&path).expect("read beside a running cartd"), before);
    assert_eq!(check(&path).expect("sound").events, 40);
}

#[test]
fn repeated_origins_are_accepted_once() {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    let entries = visit(0);
    let entered = entries[0].origin().expect("a passage").clone();
    assert!(!ledger.knows(&entered).expect("read"));
    for _ in 0..3 {
        ledger.accept(&entries[..1]).expect("accepted");
    }
    assert!(ledger.knows(&entered).expect("read"));
    assert_eq!(ledger.length().expect("read"), 1);
    ledger.accept(&entries).expect("accepted");
    ledger.accept(&entries).expect("accepted");
    assert_eq!(ledger.receipts().expect("read").len(), 1);
}

#[test]
fn changed_rules_neither_lose_nor_repeat_a_receipt() {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    ledger.accept(&visit(0)).expect("accepted");
    let before = ledger.receipts().expect("read");
    drop(ledger);
    let mut dearer = map();
    for product in &mut dearer.products {
        product.price.minor *= 2;
    }
    let policy = Policy { accept: 0.99, doubt: Doubt::Likeliest, ..Policy::default() };
    let ledger = open_with(&path, &dearer, &policy, later(100)).expect("opens again");
    assert_eq!(ledger.receipts().expect("read"), before, "the old price stands");
}

#[test]
fn what_a_lost_transaction_half_caused_is_stored_at_the_start() {
    // As after a ledger of older rules: the inputs are there, what they cause is not.
    let (_folder, path) = file();
    open(&path).expect("opens").accept(&visit(0)).expect("accepted");
    let connection = Connection::open(&path).expect("opens");
    connection
        .execute_batch(
            "DELETE FROM payments; DELETE FROM receipts; DELETE FROM performed; DELETE FROM outbox;",
        )
        .expect("forgets");
    drop(connection);
    let ledger = open(&path).expect("opens again");
    assert_eq!(ledger.receipts().expect("read").len(), 1);
    assert_eq!(ledger.payment_counts().expect("read").waiting, 1);
}

#[test]
fn messages_repeat_until_acknowledged() {
    let (_folder, path) = file();
    let bus = Bus::local();
    let mut heard = bus.subscribe(topic::RECEIPT);
    let mut ledger = open(&path).expect("opens");
    ledger.accept(&visit(0)).expect("accepted");
    for at in [100, 103] {
        ledger.send_due(&bus, later(at)).expect("sent");
        assert!(heard.try_recv().is_some(), "at {at} s");
    }
    let id = ledger.receipts().expect("read")[0].id.clone();
    ledger.acknowledged(&[Ack { ids: vec![id] }]).expect("forgotten");
    ledger.send_due(&bus, later(110)).expect("sent");
    assert!(heard.try_recv().is_none());
}

#[test]
fn levels_are_kept_and_the_newer_of_level_and_event_counts() {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    ledger.keep_levels(&[(plate(0), Mass(77), START), (plate(1), Mass(88), START)]).expect("kept");
    ledger.accept(&visit(0)).expect("accepted");
    drop(ledger);
    let mut ledger = open(&path).expect("opens again");
    let baselines = ledger.baselines().expect("read");
    assert_eq!(baselines.get(&plate(0)), Some(&Mass(1_000_000 - MASS)), "the event is newer");
    assert_eq!(baselines.get(&plate(1)), Some(&Mass(88)));
    ledger.keep_levels(&[(plate(0), Mass(99), later(100))]).expect("kept");
    assert_eq!(ledger.baselines().expect("read").get(&plate(0)), Some(&Mass(99)), "the level is newer");
}

#[test]
fn time_never_runs_backwards_over_a_restart() {
    let (_folder, path) = file();
    open(&path).expect("opens").accept(&visit(5)).expect("accepted");
    let mut ledger = open(&path).expect("opens again");
    ledger.accept(&[Entry { at: Instant(5), input: Input::Tick }]).expect("accepted");
    let newest = check(&path).expect("sound").newest.expect("an input");
    assert_eq!(newest, visit(5).last().expect("an input").at);
}

#[test]
fn a_full_disk_accepts_nothing_loses_nothing_and_passes() {
    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    ledger.accept(&visit(0)).expect("accepted");
    ledger.limit_pages(0).expect("limited");
    let mut refused = None;
    let mut accepted = 1;
    for number in 1..200 {
        match ledger.accept(&visit(number)) {
            Ok(()) => accepted += 1,
            Err(error) => {
                refused = Some((number, error));
                break;
            }
        }
    }
    let (number, error) = refused.expect("it gets full");
    assert!(matches!(error, Error::Full { .. }) && error.passes(), "{error:?}");
    assert!(error.to_string().contains("ledger.db"), "{error}");
    assert_eq!(ledger.receipts().expect("read").len(), accepted, "all or nothing");
    let origin = visit(number)[0].origin().expect("a passage").clone();
    assert!(!ledger.knows(&origin).expect("read"), "not accepted, so not acknowledged");
    ledger.limit_pages(1_000_000).expect("space");
    ledger.accept(&visit(number)).expect("accepted now");
    assert_eq!(ledger.receipts().expect("read").len(), accepted + 1);
    drop(ledger);
    assert_eq!(open(&path).expect("opens again").receipts().expect("read").len(), accepted + 1);
}

#[test]
fn two_writers_are_refused() {
    let (_folder, path) = file();
    let first = open(&path).expect("opens");
    assert!(matches!(open_at_once(&path), Err(Error::InUse { .. })));
    assert!(matches!(set_aside(&path, START), Err(Error::InUse { .. })));
    drop(first);
    open(&path).expect("opens");
}

#[test]
fn damage_is_named_kept_and_set_aside_only_when_told() {
    let (folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    for number in 0..20 {
        ledger.accept(&visit(number)).expect("accepted");
    }
    drop(ledger);
    let file = std::fs::File::options().write(true).open(&path).expect("opens");
    let pages = file.metadata().expect("size").len() / 4096;
    for page in 1..pages {
        file.write_all_at(&[0x5A; 1024], page * 4096).expect("damaged");
    }
    let bytes = std::fs::read(&path).expect("read");
    let error = open(&path).err().expect("damaged");
    assert!(matches!(error, Error::Damaged { .. }) && !error.passes(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("ledger.db") && text.contains("set-aside"), "{text}");
    assert!(matches!(check(&path), Err(Error::Damaged { .. })));
    assert_eq!(std::fs::read(&path).expect("read"), bytes, "left as it was");

    let aside = set_aside(&path, START).expect("moved");
    assert_eq!(std::fs::read(&aside).expect("read"), bytes, "kept");
    assert!(aside.starts_with(folder.path()) && !path.exists());
    assert_eq!(open(&path).expect("a new one").length().expect("read"), 0);
}

#[test]
fn files_that_are_no_ledger_are_refused_untouched() {
    let (folder, path) = file();
    open(&path).expect("opens");
    let text = folder.path().join("text");
    std::fs::write(&text, "not a database at all, and longer than the header of one. ".repeat(40))
        .expect("written");
    assert!(matches!(open(&text), Err(Error::Damaged { .. })));

    let foreign = folder.path().join("foreign");
    Connection::open(&foreign).expect("opens").execute_batch("CREATE TABLE t (x)").expect("made");
    assert!(matches!(open(&foreign), Err(Error::Foreign { .. })));
    assert!(matches!(check(&foreign), Err(Error::Foreign { .. })));

    let newer = Connection::open(&path).expect("opens");
    newer.execute_batch("PRAGMA user_version = 1001").expect("set");
    drop(newer);
    for error in [open(&path).err().expect("newer"), check(&path).expect_err("newer")] {
        assert!(matches!(error, Error::Newer { found: 1001, .. }), "{error:?}");
    }
    assert!(matches!(check(&folder.path().join("none")), Err(Error::Open { .. })));
}

/// The form of a ledger and how many steps were noted.
fn form(path: &std::path::Path) -> (i64, i64) {
    let connection = Connection::open(path).expect("opens");
    let number = |sql| connection.query_row(sql, [], |row| row.get(0)).expect("a number");
    (number("PRAGMA user_version"), number("SELECT count(*) FROM steps"))
}

#[test]
fn an_older_ledger_is_led_up_and_keeps_everything() {
    let (_folder, path) = file();
    let (events, made) = {
        let mut ledger = open(&path).expect("opens");
        ledger.accept(&visit(0)).expect("accepted");
        (ledger.length().expect("read"), ledger.receipts().expect("read"))
    };
    let own = form(&path);
    // As the first release made it.
    let older = "DROP TABLE steps; PRAGMA user_version = 1";
    Connection::open(&path).expect("opens").execute_batch(older).expect("set");
    assert_eq!(check(&path).expect("read as it is").receipts, 1);

    let mut ledger = open(&path).expect("led up");
    assert_eq!(form(&path), own);
    assert_eq!((ledger.length().expect("read"), ledger.receipts().expect("read")), (events, made));
    ledger.accept(&visit(1)).expect("accepted");
    drop(ledger);
    drop(open(&path).expect("opens"));
    assert_eq!(form(&path), own, "led up once");
}

#[test]
fn the_old_slot_goes_on_with_what_the_new_one_wrote() {
    let (_folder, path) = file();
    open(&path).expect("opens").accept(&visit(0)).expect("accepted");
    let (own, steps) = form(&path);
    // What a step of a later release may do.
    Connection::open(&path)
        .expect("opens")
        .execute_batch(&format!(
            "ALTER TABLE receipts ADD COLUMN printed INTEGER NOT NULL DEFAULT 0;
             CREATE TABLE refunds (id TEXT PRIMARY KEY) STRICT; INSERT INTO refunds VALUES ('r1');
             CREATE INDEX events_at ON events (at);
             INSERT INTO steps VALUES ({0}, 0, 'later'); PRAGMA user_version = {0}",
            own + 1
        ))
        .expect("led up");

    let mut ledger = open(&path).expect("the old slot");
    ledger.accept(&visit(1)).expect("accepted");
    assert_eq!(ledger.receipts().expect("read").len(), 2);
    drop(ledger);
    assert_eq!(check(&path).expect("sound").receipts, 2);
    assert_eq!(receipts(&path).expect("read").len(), 2);
    assert_eq!(form(&path), (own + 1, steps + 1), "left as it was");
    let refunds = "SELECT count(*) FROM refunds";
    let kept: i64 =
        Connection::open(&path).expect("opens").query_row(refunds, [], |row| row.get(0)).expect("read");
    assert_eq!(kept, 1);
}

#[test]
fn an_input_that_cannot_be_read_is_damage() {
    let (_folder, path) = file();
    open(&path).expect("opens").accept(&visit(0)).expect("accepted");
    let connection = Connection::open(&path).expect("opens");
    connection
        .execute_batch("UPDATE events SET body = '{\"input\":\"nonsense\"}' WHERE seq = 2")
        .expect("set");
    drop(connection);
    let error = open(&path).err().expect("unreadable");
    assert!(error.to_string().contains("input 2"), "{error}");
}

#[test]
fn payments_are_retried_ever_less_often_and_refusals_stay() {
    let pauses: Vec<u64> = (0..10).map(|attempts| retry_after(attempts).0 / 1000).collect();
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    assert_eq!(retry_after(u32::MAX), Millis(300_000));

    let (_folder, path) = file();
    let mut ledger = open(&path).expect("opens");
    ledger.accept(&visit(0)).expect("accepted");
    let due = ledger.next_payment(later(60)).expect("read").expect("waits");
    ledger.postpone(&due.charge.receipt, later(70), "no answer").expect("noted");
    assert_eq!(ledger.next_payment(later(69)).expect("read"), None);
    let again = ledger.next_payment(later(70)).expect("read").expect("waits");
    assert_eq!((again.attempts, &again.charge), (1, &due.charge));
    ledger.refused(&due.charge.receipt, "card expired").expect("noted");
    ledger.charged(&due.charge.receipt, "too late").expect("ignored");
    let counts = ledger.payment_counts().expect("read");
    assert_eq!((counts.refused, counts.charged, counts.waiting), (1, 0, 0));
}
