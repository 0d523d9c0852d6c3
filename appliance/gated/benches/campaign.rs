//! A hundred thousand shoppers at one lane in virtual time, with readers and turnstiles that are unplugged, a bus
//! that is cut, a disk that takes no more, wall clocks that jump and a service that is killed: every grant is
//! accounted for, no unlock without a live grant, no pulse above its maximum, no passage lost or told twice.
//!
//! `cargo bench -p gated --bench campaign -- --entries 100000 --seed 1`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::admission::issue::{Device, Issuer, Terms};
use engine::admission::{self, Issuers};
use engine::gate;
use engine::message::{Ack, Authority, Direction, Passage, SessionClosed, topic};
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MemberHandle, MessageId, SessionId};
use gated::{Lane, Reader, Settings};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
use runtime::outbox::ack_topic_of;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use turnstile::{Edge, Line, Outputs, Turnstile};

const START: u64 = 1_795_305_600_000;
/// A grant that nobody uses is gone by then.
const GRANT_MAX: Millis = Millis(30_000);
/// The hardware's limit, see the design: "Safety of the gate".
const PULSE_MAX: Millis = Millis(2_000);

/// The state file is tried again after 5 s.
const SAFE_AFTER: Duration = Duration::from_secs(8);
/// Sent for a file beyond its limit, signal(7).
const SIGXFSZ: i32 = 25;

fn main() -> ExitCode {
    let (mut entries, mut seed) = (100_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut next = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--entries" => entries = next().unwrap_or(entries),
            "--seed" => seed = next().unwrap_or(seed),
            // What cargo passes to every benchmark.
            _ => {}
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let began = std::time::Instant::now();
    let campaign = runtime.block_on(Campaign::run(entries, seed));
    campaign.print(began.elapsed());
    if campaign.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the lines did, watched at the terminal strip.
struct Strip {
    clock: Clock,
    since: Option<Instant>,
    /// Until when somebody may be let in.
    live_until: Option<Instant>,
    unlocks: u64,
    longest: Millis,
    violations: Vec<String>,
}

impl Strip {
    fn driven(&mut self, unlock: bool) {
        let now = self.clock.now();
        match (self.since, unlock) {
            (None, true) => {
                self.unlocks += 1;
                self.since = Some(now);
                if self.live_until.is_none_or(|until| now > until) {
                    self.violations.push(format!("{now:?}: unlocked without a live grant"));
                }
            }
            (Some(since), false) => {
                self.longest = self.longest.max(now.since(since));
                if now.since(since) >= PULSE_MAX {
                    self.violations.push(format!("{now:?}: a pulse of {:?}", now.since(since)));
                }
                self.since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

/// A turnstile with a watcher on its lines.
struct Watched {
    sim: turnstile::sim::Sim,
    strip: Arc<Mutex<Strip>>,
}

impl Turnstile for Watched {
    fn drive(&mut self, outputs: Outputs) -> Result<(), turnstile::Error> {
        let driven = self.sim.drive(outputs);
        lock(&self.strip).driven(driven.is_ok() && outputs.unlock_a);
        driven
    }

    async fn next_edge(&mut self) -> Result<Edge, turnstile::Error> {
        self.sim.next_edge().await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.strip).driven(false);
    }
}

/// How a shopper with a good code fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Walked in on the grant.
    Passed,
    /// Was let in and did not go.
    Stayed,
    /// Was let in, and the service was killed or the turnstile lost before they went.
    Cut,
    /// Showed a code to a reader or a service that was not there.
    Unread,
    /// Was refused.
    Refused,
}

struct Campaign {
    seed: u64,
    rng: StdRng,
    folder: tempfile::TempDir,
    wall_offset: Arc<AtomicI64>,
    /// Shoppers until the wall clock is right again.
    right_after: u32,
    started: tokio::time::Instant,
    simulated: Duration,
    clock: Clock,
    bus: Bus,
    turnstile: turnstile::sim::SimHandle,
    scanner: qr_scanner::sim::SimHandle,
    strip: Arc<Mutex<Strip>>,
    passages: Subscription,
    service: Option<JoinHandle<Result<(), gated::Error>>>,
    _stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    disk_full: bool,
    bus_cut: bool,
    /// Passages as the store's far side heard them, each id once.
    heard: BTreeMap<MessageId, Passage>,
    /// Good codes, and how it went.
    fates: BTreeMap<MemberHandle, Fate>,
    /// Passages that went through a lane that was watching.
    walked: u64,
    /// Of these, stored nowhere but in the memory of a service that was then killed.
    excused: u64,
    /// Told while the disk was full and the bus cut: gone if the service is killed now.
    unsafe_now: u64,
    /// Since when bus or disk is back.
    both_since: Option<Duration>,
    faults: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

fn issuer() -> Issuer {
    Issuer::new(1, 77, &[1; 32])
}

impl Campaign {
    async fn run(entries: u64, seed: u64) -> Self {
        // A file that may not grow is to be an error, not our end.
        let _listening = signal(SignalKind::from_raw(SIGXFSZ)).expect("a signal that may be listened for");
        let wall_offset = Arc::new(AtomicI64::new(0));
        let started = tokio::time::Instant::now();
        let offset = Arc::clone(&wall_offset);
        let wall = move || {
            let at = START as i64 + started.elapsed().as_millis() as i64 + offset.load(Ordering::Relaxed);
            Instant(at.max(0) as u64)
        };
        let clock = Clock::steered_by(wall);
        let (_, turnstile) = turnstile::sim::Sim::new();
        let (_, scanner) = qr_scanner::sim::Sim::new();
        let bus = Bus::local();
        let (stop, stopped) = watch::channel(false);
        let strip = Strip {
            clock: clock.clone(),
            since: None,
            live_until: None,
            unlocks: 0,
            longest: Millis(0),
            violations: Vec::new(),
        };
        let mut campaign = Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            folder: tempfile::tempdir().expect("a folder"),
            wall_offset,
            right_after: 0,
            started,
            simulated: Duration::ZERO,
            passages: bus.subscribe(topic::PASSAGE),
            clock,
            bus,
            turnstile,
            scanner,
            strip: Arc::new(Mutex::new(strip)),
            service: None,
            _stop: stop,
            stopped,
            disk_full: false,
            bus_cut: false,
            heard: BTreeMap::new(),
            fates: BTreeMap::new(),
            walked: 0,
            excused: 0,
            unsafe_now: 0,
            both_since: None,
            faults: BTreeMap::new(),
            violations: Vec::new(),
        };
        campaign.start();
        campaign.wait(500).await;
        for number in 1..=entries {
            campaign.shopper(number).await;
        }
        campaign.heal().await;
        campaign.judge();
        campaign.simulated = campaign.started.elapsed();
        campaign
    }

    fn start(&mut self) {
        let mut issuers = Issuers::default();
        issuers.install(1, issuer().public_key());
        let admission = admission::Settings { store_group: 77, issuers, ..admission::Settings::default() };
        let (turnstile, scanner, strip) =
            (self.turnstile.clone(), self.scanner.clone(), Arc::clone(&self.strip));
        let open = move || turnstile.open().map(|sim| Watched { sim, strip: Arc::clone(&strip) });
        let gate = gate::Settings::new(LaneId::from("entry-1"), true);
        let lane = Lane::new(gate, Box::new(open))
            .with(Reader::scanner("scanner", Box::new(move || scanner.open())));
        let settings = Settings {
            journal: Some(self.folder.path().join("gated.journal")),
            ..Settings::new(self.folder.path().join("gated.db"), admission)
        };
        let run =
            gated::run(settings, vec![lane], self.bus.clone(), self.clock.clone(), self.stopped.clone());
        self.service = Some(tokio::spawn(run));
    }

    async fn wait(&mut self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.listen();
    }

    /// The far side: stores each passage once, acknowledges, and closes sessions of whoever came in so that
    /// they may come again.
    fn listen(&mut self) {
        while let Some(message) = self.passages.try_recv() {
            let passage: Passage = message.parse().expect("a passage");
            let ack = Ack { ids: vec![passage.id.clone()] };
            self.bus.publish(&ack_topic_of(&passage.id), &ack);
            if let (Direction::Entry, Authority::Grant(grant)) = (passage.direction, &passage.authority) {
                let closed = SessionClosed {
                    id: MessageId(format!("closed/far.1/{}", self.heard.len())),
                    session: SessionId(format!("{}", passage.id)),
                    member: Some(grant.member),
                    people: 1,
                };
                self.bus.publish(topic::SESSION_CLOSED, &closed);
            }
            if let Some(before) = self.heard.insert(passage.id.clone(), passage.clone())
                && before != passage
            {
                self.violations.push(format!("passage {} was told in two ways", passage.id));
            }
        }
        // With either back, everything is told or stored within seconds.
        let since = *self.both_since.get_or_insert(self.started.elapsed());
        if self.bus_cut && self.disk_full {
            self.both_since = None;
        } else if self.started.elapsed().saturating_sub(since) > SAFE_AFTER {
            self.unsafe_now = 0;
        }
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.random_range(0..1000) < per_mille
    }

    fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    async fn faults_between(&mut self) {
        if self.chance(10) {
            self.bus_cut = !self.bus_cut;
            self.bus.set_cut(self.bus_cut);
            self.fault("bus cut or back");
        }
        if self.chance(5) {
            self.disk_full = !self.disk_full;
            limit_files(self.disk_full);
            self.fault("disk full or free");
        }
        if self.chance(4) {
            let jump = self.rng.random_range(-600_000..600_000);
            self.wall_offset.store(jump, Ordering::Relaxed);
            self.right_after = self.rng.random_range(1..20);
            self.fault("clock jumps");
        } else if self.right_after > 0 {
            self.right_after -= 1;
            if self.right_after == 0 {
                // Network time again.
                self.wall_offset.store(0, Ordering::Relaxed);
            }
        }
        if self.chance(8) {
            self.turnstile.unplug();
            self.fault("turnstile unplugged");
            let pause = self.rng.random_range(1..3_000);
            self.wait(pause).await;
            self.turnstile.plug();
            self.wait(6_000).await;
        }
    }

    async fn shopper(&mut self, number: u64) {
        self.faults_between().await;
        let reader_out = self.chance(10);
        if reader_out {
            self.scanner.unplug();
            self.fault("reader unplugged");
        }
        let member = MemberHandle(number);
        // The phone knows the time; the gate's wall clock may not.
        let true_now = Instant(START + self.started.elapsed().as_millis() as u64);
        let issued = true_now.before(Millis(600_000));
        let phone: Device =
            issuer().device(&Terms { validity: 1_000, ..Terms::single(member, issued) }, &seed_of(number));
        let _ = self.scanner.signals();
        lock(&self.strip).live_until = Some(self.clock.now().after(GRANT_MAX));
        let shown = phone.show(true_now, 0);
        self.scanner.show(shown.as_bytes());
        let kill_at = self.chance(10).then(|| self.rng.random_range(0..2_500));
        let walks = !self.chance(30);
        let walks_at = self.rng.random_range(150..4_000);
        let fate = self.visit(walks.then_some(walks_at), kill_at).await;
        self.fates.insert(member, fate);
        lock(&self.strip).live_until = None;
        if self.chance(5) && fate == Fate::Passed {
            // A picture of the code just used, by somebody else.
            self.scanner.show(shown.as_bytes());
            self.fault("codes shown again");
            self.wait(3_500).await;
        }
        if reader_out {
            self.scanner.plug();
            self.wait(6_000).await;
        }
    }

    /// One shopper from the code on; times in milliseconds from there.
    async fn visit(&mut self, walks_at: Option<u64>, kill_at: Option<u64>) -> Fate {
        self.wait(30).await;
        let signals = self.scanner.signals();
        let granted = signals.contains(&qr_scanner::Signal::Good);
        let mut cut = false;
        let mut elapsed = 30;
        if let Some(kill_at) = kill_at
            && walks_at.is_none_or(|walks_at| kill_at < walks_at)
        {
            self.wait(kill_at.max(1)).await;
            elapsed += kill_at.max(1);
            self.kill_and_restart().await;
            cut = true;
        }
        let fate = match (granted, signals.is_empty(), walks_at, cut) {
            (false, false, _, _) => Fate::Refused,
            (false, true, _, _) => Fate::Unread,
            (true, _, _, true) => Fate::Cut,
            (true, _, None, false) => Fate::Stayed,
            (true, _, Some(walks_at), false) => {
                self.wait(walks_at.saturating_sub(elapsed).max(1)).await;
                self.go_through().await;
                Fate::Passed
            }
        };
        let rest = if fate == Fate::Stayed { 9_500 } else { 1_200 };
        self.wait(rest).await;
        if kill_at.is_some() && !cut {
            self.kill_and_restart().await;
        }
        fate
    }

    async fn go_through(&mut self) {
        self.walked += 1;
        if self.bus_cut && self.disk_full {
            self.unsafe_now += 1;
        }
        self.turnstile.set(Line::PassageA, true);
        self.wait(150).await;
        self.turnstile.set(Line::PassageA, false);
        self.wait(50).await;
    }

    async fn kill_and_restart(&mut self) {
        self.fault("kills");
        if let Some(service) = self.service.take() {
            service.abort();
            let _ = service.await;
        }
        if self.turnstile.outputs() != Outputs::INACTIVE {
            self.violations.push(format!("{:?}: lines held by a dead gate", self.clock.now()));
        }
        self.excused += std::mem::take(&mut self.unsafe_now);
        self.start();
        self.wait(500).await;
    }

    async fn heal(&mut self) {
        self.bus_cut = false;
        self.bus.set_cut(false);
        self.disk_full = false;
        limit_files(false);
        for _ in 0..60 {
            self.wait(2_000).await;
        }
    }

    fn judge(&mut self) {
        self.violations.append(&mut lock(&self.strip).violations);
        let mut by_grant: BTreeMap<MemberHandle, u64> = BTreeMap::new();
        for passage in self.heard.values() {
            if let Authority::Grant(grant) = &passage.authority {
                *by_grant.entry(grant.member).or_default() += 1;
            }
        }
        for (member, count) in &by_grant {
            if *count > 1 || self.fates.get(member) != Some(&Fate::Passed) {
                let fate = self.fates.get(member);
                self.violations
                    .push(format!("member {}: {count} passages on one grant, fate {fate:?}", member.0));
            }
        }
        let passed = self.fates.values().filter(|fate| **fate == Fate::Passed).count() as u64;
        let missing = passed.saturating_sub(by_grant.len() as u64);
        if missing > self.excused {
            let excused = self.excused;
            self.violations.push(format!("{missing} grants taken and never told, {excused} excused"));
        }
        let heard = self.heard.len() as u64;
        if heard > self.walked || heard + self.excused < self.walked {
            let (walked, excused) = (self.walked, self.excused);
            self.violations.push(format!("{walked} walked, {heard} told, {excused} excused"));
        }
    }

    #[expect(clippy::print_stdout, reason = "the figures are what the campaign is for")]
    fn print(&self, took: Duration) {
        let mut fates: BTreeMap<Fate, u64> = BTreeMap::new();
        for fate in self.fates.values() {
            *fates.entry(*fate).or_default() += 1;
        }
        let strip = lock(&self.strip);
        println!(
            "campaign of {} shoppers, seed {}, {:.0} s",
            self.fates.len(),
            self.seed,
            took.as_secs_f64()
        );
        println!("  simulated      {:.1} h", self.simulated.as_secs_f64() / 3_600.0);
        println!("  fates          {fates:?}");
        println!("  faults         {:?}", self.faults);
        println!("  unlocks        {}, longest pulse {} ms", strip.unlocks, strip.longest.0);
        println!("  passages       {} walked, {} told", self.walked, self.heard.len());
        println!("  lost           {} (disk full, bus cut, then killed)", self.excused);
        println!("  violations     {}", self.violations.len());
        for violation in self.violations.iter().take(10) {
            println!("    {violation}");
        }
        if !self.violations.is_empty() {
            println!(
                "  again: cargo bench -p gated --bench campaign -- --entries {} --seed {}",
                self.fates.len(),
                self.seed
            );
        }
    }
}

fn seed_of(number: u64) -> [u8; 32] {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    seed[31] = 1;
    seed
}

/// A full disk, as far as a program that is not root can make one: no file may grow beyond a page.
fn limit_files(full: bool) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = if full { Some(4096) } else { maximum };
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).expect("a soft limit may always be lowered");
}
