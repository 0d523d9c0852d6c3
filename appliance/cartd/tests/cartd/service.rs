//! The whole service on a paused clock: simulated load cells, the bus, kills at every await.

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use cartd::payment::{Provider, Recorder};
use cartd::{Error, Settings, opened, run};
use engine::message::{
    Ack, Direction, FloorView, Hand, Health, HealthState, Passage, Person, Receipt, SessionClosed, StoreView,
    topic,
};
use engine::session::Policy;
use engine::time::{Instant, Millis};
use engine::units::{MessageId, TrackId};
use load_cell::sim::{self, ModuleSpec, SimHandle};
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
use tokio::io::DuplexStream;
use tokio::sync::watch;

use crate::fixture::{MASS, PRICE, START, file, map, open, passage, product};

const FULL: i32 = 150_000;

/// A shelf of three plates whose cells have a little noise, as real ones do.
struct Shelf {
    sim: SimHandle,
    loads: Arc<[AtomicI32; 3]>,
}

impl Shelf {
    fn load(&self, channel: u8, tenths: i32) {
        self.loads[usize::from(channel)].store(tenths, Ordering::Relaxed);
    }
}

fn shelf() -> (DuplexStream, Shelf) {
    let (port, modules, sim) = sim::line(&[ModuleSpec { address: 1, channels: 3 }]);
    tokio::spawn(modules.run());
    let loads = Arc::new([const { AtomicI32::new(FULL) }; 3]);
    let shelf = Shelf { sim: sim.clone(), loads: Arc::clone(&loads) };
    tokio::spawn(async move {
        let mut noise = 1_u64;
        loop {
            for (channel, load) in (0..).zip(loads.iter()) {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                sim.set_counts(1, channel, load.load(Ordering::Relaxed) + (noise >> 33) as i32 % 7 - 3);
            }
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
    });
    (port, shelf)
}

fn settings(ledger: &Path, recorder: &Recorder) -> Settings {
    Settings {
        ledger: ledger.to_owned(),
        policy: Policy::default(),
        payment: Provider::Recorder(recorder.clone()),
        trace: false,
    }
}

/// The rest of the store around cartd: gate, floor, whoever files receipts.
struct World {
    bus: Bus,
    clock: Clock,
    acks: Subscription,
    receipts: Subscription,
    closed: Subscription,
    health: Subscription,
    views: Subscription,
    filed: Vec<Receipt>,
    view: Option<StoreView>,
    states: Vec<Health>,
    acked: Vec<MessageId>,
}

impl World {
    fn new(clock: &Clock) -> Self {
        let bus = Bus::local();
        Self {
            acks: bus.subscribe("stile/ack/gated-1"),
            receipts: bus.subscribe(topic::RECEIPT),
            closed: bus.subscribe(topic::SESSION_CLOSED),
            health: bus.subscribe("stile/health/cartd/+"),
            views: bus.subscribe(topic::STORE_VIEW),
            bus,
            clock: clock.clone(),
            filed: Vec::new(),
            view: None,
            states: Vec::new(),
            acked: Vec::new(),
        }
    }

    /// Lets a tenth of a second pass with one shopper at `position`, a hand before them.
    async fn tick(&mut self, position: Option<[f64; 2]>, hand: Option<[f64; 3]>) {
        let people = position.map(|position| Person {
            track: TrackId(1),
            position,
            position_sd: 0.05,
            velocity: [0.0, 0.0],
            head: 1.65,
            hands: hand.map(|position| Hand { position, sd: 0.05 }).into_iter().collect(),
            tangled: vec![],
        });
        let at = self.clock.now();
        let view = FloorView { at, people: people.into_iter().collect(), cameras: vec![] };
        self.bus.publish_view(topic::FLOOR_VIEW, &view);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.hear();
    }

    fn hear(&mut self) {
        while let Some(message) = self.receipts.try_recv() {
            let receipt: Receipt = message.parse().expect("a receipt");
            self.bus.publish("stile/ack/cartd", &Ack { ids: vec![receipt.id.clone()] });
            if !self.filed.contains(&receipt) {
                self.filed.push(receipt);
            }
        }
        while let Some(message) = self.closed.try_recv() {
            let closed: SessionClosed = message.parse().expect("a closed session");
            self.bus.publish("stile/ack/cartd", &Ack { ids: vec![closed.id] });
        }
        while let Some(message) = self.acks.try_recv() {
            self.acked.extend(message.parse::<Ack>().expect("an ack").ids);
        }
        while let Some(message) = self.health.try_recv() {
            self.states.push(message.parse().expect("health"));
        }
        while let Some(message) = self.views.try_recv() {
            self.view = Some(message.parse().expect("a view"));
        }
    }

    fn state(&self, device: &str) -> Option<(HealthState, &str)> {
        let newest = self.states.iter().rev().find(|health| health.device == device)?;
        Some((newest.state, newest.detail.as_str()))
    }

    fn pass(&self, visit: u64, direction: Direction) -> Passage {
        let passage = passage(visit, direction, self.clock.now());
        self.bus.publish(topic::PASSAGE, &passage);
        passage
    }
}

/// Steps of [`shop`], tenths of a second.
const SHOP: u32 = 180;
/// The step at which the thing is taken.
const TAKEN: u32 = 80;
/// Steps before a visit that may be killed.
const QUIET: u32 = 1000;

/// One step of a visit: in through the lane, to plate 0, one thing taken, out.
async fn shop_step(world: &mut World, shelf: &Shelf, step: u32) {
    let part = |from: u32, to: u32| f64::from(step - from) / f64::from(to - from);
    match step {
        10 => drop(world.pass(0, Direction::Entry)),
        TAKEN => shelf.load(0, FULL - MASS as i32),
        170 => drop(world.pass(0, Direction::Exit)),
        _ => {}
    }
    let (position, hand) = match step {
        0..20 => ([1.0, -0.5 + part(0, 20)], None),
        20..60 => ([1.0 + 0.5 * part(20, 60), 0.5 + 2.9 * part(20, 60)], None),
        60..100 => ([1.5, 3.4], Some([1.5, 3.95, 1.05])),
        100..160 => ([1.5 + 3.5 * part(100, 160), 3.4 - 2.9 * part(100, 160)], None),
        _ => ([5.0, 0.5 - part(160, 180)], None),
    };
    world.tick(Some(position), hand).await;
}

async fn shop(world: &mut World, shelf: &Shelf) {
    for step in 0..SHOP {
        shop_step(world, shelf, step).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_visit_is_weighed_settled_filed_and_charged_once() {
    let (_folder, path) = file();
    let clock = Clock::starting_at(START);
    let mut world = World::new(&clock);
    let (cells, handle) = shelf();
    let recorder = Recorder::default();
    // The first attempt is charged, but its answer gets lost.
    recorder.silence(&[true]);
    let (stop, stopped) = watch::channel(false);
    let cartd = tokio::spawn(run(
        settings(&path, &recorder),
        map(),
        vec![(1, opened(cells))],
        world.bus.clone(),
        clock.clone(),
        stopped,
    ));
    for _ in 0..30 {
        world.tick(None, None).await;
    }
    shop(&mut world, &handle).await;
    for _ in 0..300 {
        world.tick(None, None).await;
    }
    assert_eq!(world.filed.len(), 1, "{:#?}", world.view);
    let receipt = world.filed[0].clone();
    assert_eq!((receipt.lines.len(), &receipt.lines[0].product), (1, &product(0)));
    assert_eq!((receipt.lines[0].quantity, receipt.total.minor), (1, PRICE));
    assert_eq!(world.acked.len(), 2, "both passages are acknowledged once: {:?}", world.acked);
    assert_eq!((recorder.charges().len(), recorder.attempts()), (1, 2));
    assert_eq!(recorder.charges()[0].receipt, receipt.id);
    assert_eq!(world.state("load-cells-1"), Some((HealthState::Up, "")));
    assert_eq!(world.state("service"), Some((HealthState::Up, "")));

    // A repeated passage is acknowledged again and changes nothing.
    world.acked.clear();
    let entry = passage(0, Direction::Entry, START);
    world.bus.publish(topic::PASSAGE, &entry);
    world.tick(None, None).await;
    world.tick(None, None).await;
    assert_eq!(world.acked, vec![entry.id]);

    stop.send(true).expect("listens");
    cartd.await.expect("ends").expect("well");
    let ledger = open(&path).expect("closed");
    assert_eq!(ledger.receipts().expect("read"), vec![receipt]);
    assert_eq!(ledger.payment_counts().expect("read").charged, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dead_module_and_a_missing_line_are_said_and_passages_go_on() {
    let (_folder, path) = file();
    let clock = Clock::starting_at(START);
    let mut world = World::new(&clock);
    let (cells, handle) = shelf();
    let (stop, stopped) = watch::channel(false);
    let mut two_gondolas = map();
    let mut far = two_gondolas.plates[0].clone();
    far.id.gondola = 2;
    two_gondolas.plates.push(far);
    let recorder = Recorder::default();
    let cartd = tokio::spawn(run(
        settings(&path, &recorder),
        two_gondolas,
        vec![(1, opened(cells))],
        world.bus.clone(),
        clock.clone(),
        stopped,
    ));
    handle.sim.open(1, 2, true);
    for _ in 0..10 {
        world.tick(None, None).await;
    }
    assert_eq!(world.state("load-cells-1"), Some((HealthState::Degraded, "plate 1-0-2 is open")));
    assert!(matches!(world.state("load-cells-2"), Some((HealthState::Down, _))));
    handle.sim.kill(1, true);
    for _ in 0..10 {
        world.tick(None, None).await;
    }
    assert_eq!(world.state("load-cells-1"), Some((HealthState::Down, "shelf 0 does not answer")));
    let entry = world.pass(0, Direction::Entry);
    for _ in 0..3 {
        world.tick(None, None).await;
    }
    assert_eq!(world.acked, vec![entry.id]);
    handle.sim.kill(1, false);
    handle.sim.open(1, 2, false);
    for _ in 0..20 {
        world.tick(None, None).await;
    }
    assert_eq!(world.state("load-cells-1"), Some((HealthState::Up, "")));
    handle.sim.stick(1, 1, true);
    for _ in 0..300 {
        world.tick(None, None).await;
    }
    assert_eq!(world.state("load-cells-1"), Some((HealthState::Degraded, "plate 1-0-1 is stuck")));
    stop.send(true).expect("listens");
    cartd.await.expect("ends").expect("well");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_refuses_is_said_not_acknowledged_and_made_up_for() {
    let (_folder, path) = file();
    let clock = Clock::starting_at(START);
    let mut world = World::new(&clock);
    let (cells, shelf) = shelf();
    let (stop, stopped) = watch::channel(false);
    let recorder = Recorder::default();
    let cartd = tokio::spawn(run(
        settings(&path, &recorder),
        map(),
        vec![(1, opened(cells))],
        world.bus.clone(),
        clock.clone(),
        stopped,
    ));
    for _ in 0..30 {
        world.tick(None, None).await;
    }
    let outside = rusqlite::Connection::open(&path).expect("opens");
    outside
        .execute_batch(
            "CREATE TRIGGER no BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no space, say'); END",
        )
        .expect("set");
    shop(&mut world, &shelf).await;
    for _ in 0..50 {
        world.tick(None, None).await;
    }
    assert!(matches!(world.state("service"), Some((HealthState::Down, _))), "{:?}", world.state("service"));
    assert_eq!((world.acked.len(), world.filed.len()), (0, 0), "nothing is claimed");
    outside.execute_batch("DROP TRIGGER no").expect("unset");
    for _ in 0..100 {
        world.tick(None, None).await;
    }
    assert_eq!(world.state("service"), Some((HealthState::Up, "")));
    assert_eq!((world.acked.len(), world.filed.len()), (2, 1), "made up for");
    assert_eq!(world.filed[0].lines.len(), 1);
    stop.send(true).expect("listens");
    cartd.await.expect("ends").expect("well");
}

#[tokio::test(start_paused = true)]
async fn garbage_on_the_bus_is_survived() {
    let (_folder, path) = file();
    let clock = Clock::starting_at(START);
    let mut world = World::new(&clock);
    let (cells, _handle) = shelf();
    let (stop, stopped) = watch::channel(false);
    let recorder = Recorder::default();
    let cartd = tokio::spawn(run(
        settings(&path, &recorder),
        map(),
        vec![(1, opened(cells))],
        world.bus.clone(),
        clock.clone(),
        stopped,
    ));
    world.tick(None, None).await;
    for topic in [topic::PASSAGE, topic::REVIEW_DECISION, topic::FLOOR_VIEW, "stile/ack/cartd"] {
        world.bus.publish(topic, &"not what was promised");
        world.bus.publish(topic, &serde_json::json!({ "id": 5, "ids": {}, "at": -1 }));
    }
    let entry = world.pass(3, Direction::Entry);
    for _ in 0..5 {
        world.tick(None, None).await;
    }
    assert_eq!(world.acked, vec![entry.id]);
    stop.send(true).expect("listens");
    cartd.await.expect("ends").expect("well");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_ledger_ends_cartd_with_its_name() {
    let (folder, _) = file();
    let path = folder.path().join("broken.db");
    std::fs::write(&path, vec![9; 8192]).expect("written");
    let clock = Clock::starting_at(START);
    let (cells, _handle) = shelf();
    let (_stop, stopped) = watch::channel(false);
    let recorder = Recorder::default();
    let ended =
        run(settings(&path, &recorder), map(), vec![(1, opened(cells))], Bus::local(), clock, stopped).await;
    let Err(Error::Ledger(error)) = ended else { panic!("{ended:?}") };
    assert!(error.to_string().contains("broken.db"), "{error}");
    assert_eq!(std::fs::read(&path).expect("read"), vec![9; 8192], "left as it was");
}

/// The gate repeats a passage every two seconds until it is acknowledged.
fn repeat_passages(world: &World, step: u32) {
    for (direction, from) in [(Direction::Entry, 10), (Direction::Exit, 170)] {
        let at = START.after(Millis(u64::from(QUIET + from) * 100));
        let passage = passage(0, direction, at);
        if step > from && step.is_multiple_of(20) && !world.acked.contains(&passage.id) {
            world.bus.publish(topic::PASSAGE, &passage);
        }
    }
}

/// Until the ledger is free. With a process its lock goes at once; with an aborted task when the thread that writes for
/// it has ended, and a paused clock does not wait for that.
fn let_go(ledger: &Path) {
    let mut lock = ledger.as_os_str().to_owned();
    lock.push("-lock");
    File::open(lock).expect("the ledger's lock").lock().expect("free in the end");
}

/// cartd is killed at one step of a visit and comes back half a second later; the shelf line is opened again.
async fn visit_with_a_kill(at: u32) -> (Vec<Receipt>, usize) {
    let (_folder, path) = file();
    let clock = Clock::starting_at(START);
    let mut world = World::new(&clock);
    let recorder = Recorder::default();
    let (cells, mut shelf_handle) = shelf();
    let (_stop, stopped) = watch::channel(false);
    let start = |cells, world: &World, stopped| {
        let lines = vec![(1, opened(cells))];
        tokio::spawn(run(settings(&path, &recorder), map(), lines, world.bus.clone(), clock.clone(), stopped))
    };
    let mut cartd = start(cells, &world, stopped.clone());
    // Long enough for the plates' levels to be kept.
    for _ in 0..QUIET {
        world.tick(None, None).await;
    }
    for step in 0..SHOP {
        if step == at {
            cartd.abort();
        }
        if step == at + 5 {
            assert!((&mut cartd).await.expect_err("aborted").is_cancelled());
            let_go(&path);
            let (cells, handle) = shelf();
            if step > TAKEN {
                handle.load(0, FULL - MASS as i32);
            }
            shelf_handle = handle;
            cartd = start(cells, &world, stopped.clone());
        }
        shop_step(&mut world, &shelf_handle, step).await;
        repeat_passages(&world, step);
    }
    for step in SHOP..SHOP + 200 {
        world.tick(None, None).await;
        repeat_passages(&world, step);
    }
    cartd.abort();
    (world.filed, recorder.charges().len())
}

#[tokio::test(start_paused = true)]
async fn a_kill_in_the_middle_of_a_visit_keeps_the_visit() {
    for at in (3..170).step_by(6) {
        let (receipts, charges) = visit_with_a_kill(at).await;
        assert_eq!(receipts.len(), 1, "killed at step {at}");
        let lines: Vec<_> = receipts[0].lines.iter().map(|line| (&line.product, line.quantity)).collect();
        // A change while cartd was away, or not yet settled, has no witness for its hand: it is not charged
        // in doubt.
        let unseen = (TAKEN - 10..TAKEN + 25).contains(&at) && lines.is_empty();
        assert!(unseen || lines == [(&product(0), 1)], "killed at step {at}: {lines:?}");
        assert_eq!(charges, lines.len(), "killed at step {at}");
    }
}

/// Polls a future so many times, then drops it: a kill at that await.
struct PollTimes<F> {
    future: Pin<Box<F>>,
    left: u32,
}

impl<F: Future> Future for PollTimes<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        if self.left == 0 {
            return Poll::Ready(false);
        }
        self.left -= 1;
        if self.left == 0 {
            // No wake may come after this poll; the next one drops the future.
            context.waker().wake_by_ref();
        }
        self.future.as_mut().poll(context).map(|_| true)
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_await_nothing_acknowledged_is_lost() {
    let (_folder, path) = file();
    let clock = Clock::starting_at(START);
    let mut world = World::new(&clock);
    let recorder = Recorder::default();
    for polls in 1..120 {
        let (cells, _handle) = shelf();
        let (_stop, stopped) = watch::channel(false);
        let lines = vec![(1, opened(cells))];
        let future = run(settings(&path, &recorder), map(), lines, world.bus.clone(), clock.clone(), stopped);
        let cartd = tokio::spawn(PollTimes { future: Box::pin(future), left: polls });
        // Each life hears the passages of one visitor, who comes again and again until acknowledged.
        let visitor = u64::from(polls);
        while !cartd.is_finished() {
            world.pass(visitor, Direction::Entry);
            world.pass(visitor, Direction::Exit);
            world.tick(None, None).await;
        }
        assert!(!cartd.await.expect("ends"), "dropped, not ended");
        world.hear();
        let ledger = open(&path).expect("opens again");
        for id in &world.acked {
            assert!(ledger.knows(id).expect("read"), "{id} was acknowledged and is lost, {polls} polls");
        }
    }
    assert!(world.acked.len() > 50, "{} acknowledgements", world.acked.len());
    // Let one live: everything settles, and each receipt with something to pay is charged once.
    let (cells, _handle) = shelf();
    let (stop, stopped) = watch::channel(false);
    let last = run(
        settings(&path, &recorder),
        map(),
        vec![(1, opened(cells))],
        world.bus.clone(),
        clock.clone(),
        stopped,
    );
    let cartd = tokio::spawn(last);
    for _ in 0..100 {
        world.tick(None, None).await;
    }
    stop.send(true).expect("listens");
    cartd.await.expect("ends").expect("well");
    let ledger = open(&path).expect("opens again");
    let view = ledger.store().view(clock.now().after(Millis(1)));
    assert!(view.at > Instant(0));
    let receipts = ledger.receipts().expect("read");
    assert_eq!(world.filed.len(), receipts.len(), "every receipt was filed once");
}
