//! The gate service with simulated devices, in virtual time: what shoppers, technicians and power cuts do to
//! it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::admission::issue::{Device, Issuer, Terms};
use engine::admission::{self, Issuers, PartyEntry, UntrustedClock};
use engine::gate;
use engine::message::{
    Ack, Authority, DenyReason, Direction, GateFact, GateOrder, GateOutcome, GateReport, GateService,
    GateStatus, GateTask, GateView, Health, HealthState, Notice, Passage, SessionClosed, topic,
};
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MemberHandle, MessageId, SessionId};
use gated::{Lane, Reader, Settings, journal};
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
use runtime::outbox::ack_topic_of;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use turnstile::{Line, Outputs};

const START: Instant = Instant(1_795_305_600_000);

/// The service, its devices, and everything said on the bus.
struct Store {
    folder: tempfile::TempDir,
    state: PathBuf,
    turnstile: turnstile::sim::SimHandle,
    scanner: qr_scanner::sim::SimHandle,
    bus: Bus,
    clock: Clock,
    passages: Subscription,
    views: Subscription,
    healths: Subscription,
    stop: watch::Sender<bool>,
    service: Option<JoinHandle<Result<(), gated::Error>>>,
}

fn issuer() -> Issuer {
    Issuer::new(1, 77, &[1; 32])
}

fn phone(member: u64, party: u8) -> Device {
    let member = MemberHandle(member);
    issuer().device(
        &Terms { party, ..Terms::single(member, START.before(Millis(60_000))) },
        &[member.0 as u8; 32],
    )
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("gated.db");
        Self::at(folder, state)
    }

    fn at(folder: tempfile::TempDir, state: PathBuf) -> Self {
        let (_, turnstile) = turnstile::sim::Sim::new();
        let (_, scanner) = qr_scanner::sim::Sim::new();
        let bus = Bus::local();
        let mut store = Self {
            passages: bus.subscribe(topic::PASSAGE),
            views: bus.subscribe("stile/gate/view/#"),
            healths: bus.subscribe("stile/health/#"),
            clock: Clock::starting_at(START),
            stop: watch::channel(false).0,
            service: None,
            folder,
            state,
            turnstile,
            scanner,
            bus,
        };
        store.start();
        store
    }

    fn start(&mut self) {
        let mut issuers = Issuers::default();
        issuers.install(1, issuer().public_key());
        let admission = admission::Settings {
            store_group: 77,
            issuers,
            group_key: None,
            untrusted_clock: UntrustedClock::Refuse,
            party: PartyEntry::CountIn,
            ..admission::Settings::default()
        };
        let settings =
            Settings { journal: Some(self.journal()), ..Settings::new(self.state.clone(), admission) };
        let (turnstile, scanner) = (self.turnstile.clone(), self.scanner.clone());
        let gate = gate::Settings::new(LaneId::from("entry-1"), true);
        let lane = Lane::new(gate, Box::new(move || turnstile.open()))
            .with(Reader::scanner("scanner", Box::new(move || scanner.open())));
        let stop = self.stop.subscribe();
        self.service =
            Some(tokio::spawn(gated::run(settings, vec![lane], self.bus.clone(), self.clock.clone(), stop)));
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("gated.journal")
    }

    /// Ends the service at whatever await it is at, as `kill -9` does.
    async fn kill(&mut self) {
        let service = self.service.take().unwrap();
        service.abort();
        assert!(service.await.unwrap_err().is_cancelled());
    }

    async fn wait(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    async fn show(&self, phone: &Device) {
        self.scanner.show(phone.show(self.clock.now(), 0).as_bytes());
        self.wait(20).await;
    }

    async fn go_through(&self, line: Line) {
        self.turnstile.set(line, true);
        self.wait(150).await;
        self.turnstile.set(line, false);
        self.wait(50).await;
    }

    fn passages(&mut self) -> Vec<Passage> {
        std::iter::from_fn(|| self.passages.try_recv()).map(|message| message.parse().unwrap()).collect()
    }

    fn view(&mut self) -> GateView {
        let newest = std::iter::from_fn(|| self.views.try_recv()).last().expect("a view");
        newest.parse().unwrap()
    }

    fn health(&mut self, device: &str) -> Option<Health> {
        let all = std::iter::from_fn(|| self.healths.try_recv());
        all.map(|message| message.parse::<Health>().unwrap()).filter(|health| health.device == device).last()
    }

    fn acknowledge(&self, passages: &[Passage]) {
        for passage in passages {
            self.bus.publish(&ack_topic_of(&passage.id), &Ack { ids: vec![passage.id.clone()] });
        }
    }

    fn unlocked(&self) -> bool {
        self.turnstile.outputs().unlock_a
    }
}

#[tokio::test(start_paused = true)]
async fn a_shopper_walks_in() {
    let mut store = Store::new();
    store.wait(50).await;
    assert_eq!(store.view().status, GateStatus::Closed);
    store.show(&phone(5, 1)).await;
    assert_eq!(
        store.turnstile.outputs(),
        Outputs { unlock_a: true, beacon_green: true, ..Outputs::INACTIVE }
    );
    assert_eq!(store.scanner.signals(), [qr_scanner::Signal::Good]);
    assert_eq!(store.view().notice, Notice::Welcome { remaining: 1 });
    store.wait(400).await;
    assert!(!store.unlocked(), "a pulse");
    store.go_through(Line::PassageA).await;
    let passages = store.passages();
    assert_eq!(passages.len(), 1);
    assert_eq!((passages[0].direction, &passages[0].lane), (Direction::Entry, &LaneId::from("entry-1")));
    assert!(matches!(&passages[0].authority, Authority::Grant(grant) if grant.member == MemberHandle(5)));
    let view = store.view();
    assert_eq!((view.unlocks, view.entries, view.latency_us.len()), (1, 1, 1));

    store.wait(2_500).await;
    let again = store.passages();
    assert_eq!(again, passages, "repeated, with the same id, until acknowledged");
    store.acknowledge(&again);
    store.wait(10_000).await;
    assert_eq!(store.passages(), []);

    store.go_through(Line::PassageB).await;
    let left = store.passages();
    assert_eq!((left[0].direction, &left[0].authority), (Direction::Exit, &Authority::Free));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_it_cleanly() {
    let mut store = Store::new();
    store.wait(50).await;
    store.show(&phone(5, 1)).await;
    store.stop.send(true).unwrap();
    store.service.take().unwrap().await.unwrap().unwrap();
    assert_eq!(store.turnstile.outputs(), Outputs::INACTIVE);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_shown_and_heard() {
    let mut store = Store::new();
    store.wait(50).await;
    store.scanner.show(b"8801234567893");
    store.wait(20).await;
    assert_eq!(store.view().notice, Notice::Refused { reason: DenyReason::NotAnEntryCode });
    assert_eq!(store.scanner.signals(), [qr_scanner::Signal::Bad]);
    store.scanner.garble();
    store.show(&phone(5, 1)).await;
    assert_eq!(store.view().notice, Notice::Refused { reason: DenyReason::Malformed });
    store.wait(10_000).await;
    store.show(&phone(5, 1)).await;
    assert!(store.unlocked());
}

#[tokio::test(start_paused = true)]
async fn a_code_read_twice_is_judged_once() {
    let mut store = Store::new();
    store.wait(50).await;
    let phone = phone(5, 1);
    let text = phone.show(store.clock.now(), 0);
    for _ in 0..3 {
        store.scanner.show(text.as_bytes());
        store.wait(300).await;
    }
    store.go_through(Line::PassageA).await;
    store.scanner.show(text.as_bytes());
    store.wait(20).await;
    assert_eq!(store.view().denials, 0, "the reader saw the phone once more");
    store.wait(5_000).await;
    store.scanner.show(text.as_bytes());
    store.wait(20).await;
    assert_eq!(store.view().notice, Notice::Refused { reason: DenyReason::Replayed });
}

#[tokio::test(start_paused = true)]
async fn lost_devices_come_back() {
    let mut store = Store::new();
    store.wait(50).await;
    store.scanner.unplug();
    store.turnstile.unplug();
    store.wait(2_000).await;
    assert_eq!(store.view().notice, Notice::OutOfOrder);
    let health = store.health("turnstile-entry-1").unwrap();
    assert_eq!(health.state, HealthState::Down);
    assert!(health.detail.contains("no such device"), "{}", health.detail);
    store.turnstile.plug();
    store.scanner.plug();
    store.wait(6_000).await;
    assert_eq!(store.view().notice, Notice::Idle);
    assert_eq!(store.health("scanner-entry-1").unwrap().state, HealthState::Up);
    store.show(&phone(5, 1)).await;
    assert!(store.unlocked());
    store.turnstile.unplug();
    store.turnstile.plug();
    store.wait(1_000).await;
    assert_eq!(store.turnstile.outputs(), Outputs::INACTIVE);
    store.wait(10_000).await;
    store.show(&phone(5, 1)).await;
    assert!(store.unlocked(), "the grant that could not be used is free again");
}

#[tokio::test(start_paused = true)]
async fn a_fire_alarm_frees_the_lane() {
    let mut store = Store::new();
    store.wait(50).await;
    store.show(&phone(5, 1)).await;
    store.turnstile.set(Line::FireAlarm, true);
    store.wait(10).await;
    assert_eq!((store.turnstile.outputs(), store.view().notice), (Outputs::INACTIVE, Notice::Evacuate));
    store.go_through(Line::PassageB).await;
    assert_eq!(store.passages()[0].authority, Authority::Free);
}

#[tokio::test(start_paused = true)]
async fn a_dead_bus_stops_nobody() {
    let mut store = Store::new();
    store.wait(50).await;
    store.bus.set_cut(true);
    store.show(&phone(5, 1)).await;
    assert!(store.unlocked());
    store.go_through(Line::PassageA).await;
    store.wait(60_000).await;
    assert_eq!(store.passages(), []);
    store.bus.set_cut(false);
    store.wait(3_000).await;
    assert!(!store.passages().is_empty(), "told when the bus is back");
}

#[tokio::test(start_paused = true)]
async fn a_missing_or_broken_state_file_stops_nobody() {
    for broken in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let state = if broken {
            folder.path().join("gated.db")
        } else {
            folder.path().join("no/such/folder/gated.db")
        };
        if broken {
            fs::write(&state, b"this is no database at all, and long enough to be told from one".repeat(100))
                .unwrap();
        }
        let mut store = Store::at(folder, state.clone());
        store.wait(50).await;
        let health = store.health("service").unwrap();
        assert_eq!(health.state, HealthState::Degraded);
        assert!(health.detail.contains(state.to_str().unwrap()), "{}", health.detail);
        store.show(&phone(5, 1)).await;
        assert!(store.unlocked());
        store.go_through(Line::PassageA).await;
        let passages = store.passages();
        assert_eq!(passages.len(), 1, "told from memory");
        store.acknowledge(&passages);
        store.wait(5_000).await;
        store.passages();
        store.wait(5_000).await;
        assert_eq!(store.passages(), []);
        if broken {
            assert!(
                fs::metadata(&state).unwrap().len() > 5_000,
                "what cannot be read is left for a technician"
            );
        } else {
            fs::create_dir_all(state.parent().unwrap()).unwrap();
            store.wait(7_000).await;
            assert_eq!(store.health("service").unwrap().state, HealthState::Up);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_loses_nothing_that_was_told() {
    let mut store = Store::new();
    store.wait(50).await;
    let member = phone(5, 1);
    store.show(&member).await;
    store.go_through(Line::PassageA).await;
    let told = store.passages();
    assert_eq!(told.len(), 1);
    let other = phone(6, 1);
    let shown = other.show(store.clock.now(), 0);
    store.scanner.show(shown.as_bytes());
    store.wait(100).await;
    assert!(store.unlocked());
    store.kill().await;
    assert_eq!(store.turnstile.outputs(), Outputs::INACTIVE, "a killed service leaves the lines inactive");

    store.wait(1_000).await;
    store.start();
    store.wait(100).await;
    assert_eq!(store.passages(), told, "the passage is told again, with its id");
    store.scanner.show(shown.as_bytes());
    store.wait(20).await;
    assert_eq!(store.view().notice, Notice::Refused { reason: DenyReason::Replayed });
    store.wait(10_000).await;
    store.show(&member).await;
    assert_eq!(store.view().notice, Notice::Refused { reason: DenyReason::AlreadyInside });
    store.wait(10_000).await;
    store.show(&other).await;
    assert!(store.unlocked(), "a fresh code of who had not gone in works");
}

#[tokio::test(start_paused = true)]
async fn who_turns_round_in_the_lane_may_come_in_again_without_a_cart_service() {
    let mut store = Store::new();
    store.wait(50).await;
    let member = phone(6, 1);
    store.wait(15_000).await;
    store.show(&member).await;
    store.turnstile.set(Line::Detector, true);
    store.wait(900).await;
    store.go_through(Line::PassageA).await;
    store.wait(1_500).await;
    store.go_through(Line::PassageB).await;
    store.turnstile.set(Line::Detector, false);
    store.wait(15_000).await;
    store.show(&member).await;
    assert!(store.unlocked(), "{:?}", store.view().notice);
}

#[tokio::test(start_paused = true)]
async fn who_has_left_may_come_in_again() {
    let mut store = Store::new();
    let mut acks = store.bus.subscribe("stile/ack/cartd");
    store.wait(50).await;
    let member = phone(5, 1);
    let closed = SessionClosed {
        id: MessageId::from("cartd.1/9"),
        session: SessionId::from("s-1"),
        member: Some(MemberHandle(5)),
        people: 1,
    };
    for round in 0..2 {
        store.wait(15_000).await;
        store.show(&member).await;
        assert!(store.unlocked(), "{round}");
        store.go_through(Line::PassageA).await;
        store.wait(15_000).await;
        store.show(&member).await;
        assert_eq!(store.view().notice, Notice::Refused { reason: DenyReason::AlreadyInside });
        store.bus.publish(topic::SESSION_CLOSED, &closed);
        store.wait(50).await;
        let ack: Ack = acks.try_recv().expect("acknowledged").parse().unwrap();
        assert_eq!(ack.ids, std::slice::from_ref(&closed.id));
        if round == 0 {
            continue;
        }
        store.wait(15_000).await;
        store.show(&member).await;
        let notice = store.view().notice;
        assert_eq!(
            notice,
            Notice::Refused { reason: DenyReason::AlreadyInside },
            "a repeated message frees nobody"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_family_of_three_on_one_code() {
    let mut store = Store::new();
    store.wait(50).await;
    store.show(&phone(5, 3)).await;
    for _ in 0..3 {
        assert!(store.unlocked());
        store.wait(500).await;
        store.turnstile.set(Line::PassageA, true);
        store.wait(100).await;
        store.turnstile.set(Line::PassageA, false);
        store.wait(50).await;
    }
    let members: Vec<u8> = store
        .passages()
        .iter()
        .map(|passage| match &passage.authority {
            Authority::Grant(grant) => grant.party_member,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(members, [0, 1, 2]);
    assert!(!store.unlocked());
}

#[tokio::test(start_paused = true)]
async fn nonsense_on_the_bus_is_ignored() {
    let mut store = Store::new();
    store.wait(50).await;
    for topic in [topic::SESSION_CLOSED, "stile/ack/gated", topic::PASSAGE] {
        store.bus.publish(topic, &serde_json::json!({"ids": 7, "what": ["no"]}));
    }
    store.wait(50).await;
    while store.passages.try_recv().is_some() {}
    store.show(&phone(5, 1)).await;
    assert!(store.unlocked());
}

/// Not a timed test: prints what the path costs here, from the scanner's report to the driven line.
#[tokio::test(start_paused = true)]
async fn print_latency() {
    let mut store = Store::new();
    store.wait(50).await;
    for member in 1..=200 {
        store.show(&phone(member, 1)).await;
        store.wait(400).await;
        store.go_through(Line::PassageA).await;
    }
    let mut latencies = store.view().latency_us;
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    eprintln!("reader report to unlock line: p50 {} us, p99 {} us over {}", at(50), at(99), latencies.len());
    assert_eq!(latencies.len(), 200);
    assert!(Path::new(store.folder.path()).exists());
}

#[tokio::test(start_paused = true)]
async fn the_journal_replays_to_the_same_decisions() {
    let mut store = Store::new();
    store.wait(50).await;
    store.show(&phone(5, 1)).await;
    store.wait(400).await;
    store.go_through(Line::PassageA).await;
    store.scanner.show(b"no code");
    store.wait(9_000).await;
    store.kill().await;
    store.start();
    store.wait(500).await;
    store.show(&phone(6, 2)).await;
    store.wait(400).await;
    store.go_through(Line::PassageA).await;
    store.wait(20_000).await;
    store.stop.send(true).unwrap();
    store.service.take().unwrap().await.unwrap().unwrap();

    let journal = store.journal();
    let mut passed = 0;
    let replayed = journal::replay(std::slice::from_ref(&journal), |_, decided| {
        passed += decided.into_iter().flatten().filter(|it| matches!(it, gate::Command::Passed(_))).count();
    });
    let replayed = replayed.unwrap();
    assert!(replayed.steps > 30, "{replayed:?}");
    assert_eq!((replayed.different, replayed.skipped, replayed.cut_off, passed), (0, 0, false, 2));

    // A power cut tears the last line; a change of the rules shows.
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, &text[..text.len() - 10]).unwrap();
    assert!(journal::replay(std::slice::from_ref(&journal), |_, _| {}).unwrap().cut_off);
    fs::write(&journal, text.replacen("unlock_entry\":true", "unlock_entry\":false", 1)).unwrap();
    assert_eq!(journal::replay(std::slice::from_ref(&journal), |_, _| {}).unwrap().different, 1);
    fs::write(&journal, text.replacen("told", "tolt", 1)).unwrap();
    let refused = journal::replay(std::slice::from_ref(&journal), |_, _| {}).unwrap_err();
    assert!(refused.to_string().contains("gated.journal, line"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn staff_let_somebody_in_and_set_the_lane_and_it_stays_so() {
    let mut store = Store::new();
    let mut reports = store.bus.subscribe(topic::GATE_REPORT);
    store.wait(50).await;
    let order = |store: &Store, number: u32, task: GateTask| {
        let order = GateOrder {
            id: MessageId(format!("console.1/{number}")),
            lane: LaneId::from("entry-1"),
            expires: store.clock.now().after(Millis(30_000)),
            by: "staff".to_owned(),
            reason: "delivery".to_owned(),
            task,
        };
        store.bus.publish(topic::GATE_ORDER, &order);
    };
    let open = GateTask::Open { direction: Direction::Entry, wide: false };
    order(&store, 1, open);
    order(&store, 1, open);
    store.wait(20).await;
    assert!(store.unlocked());
    store.wait(400).await;
    store.go_through(Line::PassageA).await;
    let authority = store.passages()[0].authority.clone();
    assert_eq!(authority, Authority::Order { order: MessageId("console.1/1".to_owned()) });
    store.wait(9_000).await;
    assert_eq!(store.view().unlocks, 1, "an order acts once");

    order(&store, 2, GateTask::SetService { service: GateService::Staff });
    store.wait(100).await;
    store.kill().await;
    store.start();
    store.wait(500).await;
    assert_eq!(store.view().modes.service, GateService::Staff, "as it was set");
    store.show(&phone(5, 1)).await;
    assert!(!store.unlocked());
    assert_eq!(store.view().notice, Notice::Refused { reason: DenyReason::StaffOnly });

    let mut outcomes = Vec::new();
    while let Some(message) = reports.try_recv() {
        let report: GateReport = message.parse().unwrap();
        if let GateFact::Ordered { order, outcome } = report.fact {
            outcomes.push((order.0, outcome));
        }
    }
    outcomes.dedup();
    assert!(outcomes.contains(&("console.1/1".to_owned(), GateOutcome::Done)));
    assert!(outcomes.contains(&("console.1/2".to_owned(), GateOutcome::Done)));
}
