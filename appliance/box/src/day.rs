//! A simulated store day: the world moves the devices, the services do the rest, and the table compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use camera::Format;
use engine::message::{Ack, GateFact, GateReport, GateView, Passage, Receipt, Review, topic};
use engine::store::StoreMap;
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MessageId};
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
use runtime::outbox::ack_topic_of;
use store_sim::devices::Devices;
use store_sim::fault::{FaultKind, Service};
use store_sim::{Options, World, oracle};
use tokio::sync::watch;

use crate::report::{Baskets, Percentiles, Score, Table};
use crate::services::{Files, Services};

/// How often the world moves on: its own step.
const STEP: Duration = Duration::from_millis(50);
/// How long after the last shopper left sessions may still settle: a review waits for a person for a while, then
/// nobody is charged for it.
const SETTLING_MAX: Millis = Millis(90 * 1000);
/// How long the services may need before the first shopper comes, to open devices and learn the shelves' levels.
const OPENING: Millis = Millis(1_500);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The simulated day.
    pub world: Options,
    /// Where the services find their files.
    pub files: Files,
    /// Folder for what explains a wrong receipt: the truth (`truth.json`), the store map (`map.json`)
    /// and everything said on the bus (`bus.jsonl`); the ledger lies in the state folder.
    pub trace: Option<PathBuf>,
}

/// What the box hears on the bus: the chain's side of receipts, and what the table needs.
pub struct Listener {
    receipts: Subscription,
    reviews: Subscription,
    reports: Subscription,
    passages: Subscription,
    gates: Subscription,
    /// Receipts by id.
    pub settled: BTreeMap<MessageId, Receipt>,
    /// Reviews by the shelf event's id.
    pub reviewed: BTreeMap<MessageId, Review>,
    /// Passages by id.
    pub passed: BTreeMap<MessageId, Passage>,
    /// Incidents that the lanes reported.
    incidents: BTreeSet<MessageId>,
    latencies: BTreeMap<LaneId, Latencies>,
}

/// Latencies of one lane, gathered from a view that holds the newest 256 only.
#[derive(Default)]
struct Latencies {
    unlocks: u64,
    microseconds: Vec<u32>,
}

/// A day under way: the world, its devices and the services on them.
pub struct Day {
    world: World,
    devices: Devices,
    services: Services,
    faults: Faults,
    listener: Listener,
    trace: Option<Trace>,
    bus: Bus,
    clock: Clock,
    started: std::time::Instant,
    start: Instant,
    empty_since: Option<Instant>,
}

/// Runs a day on a paused clock, as fast as the machine can, and returns its table. `progress` hears a line every half
/// minute of the day.
///
/// # Errors
/// When a service cannot start or ends badly.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Table> {
    // One thread keeps the order of events the same in each run; detectors work on the blocking pool.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut day = Day::start(plan, Bus::local())?;
        let mut told = plan.world.start;
        while day.step().await? {
            if day.clock.now().since(told) >= Millis::from_seconds(30) {
                told = day.clock.now();
                progress(&day.line());
            }
        }
        day.end().await
    })
}

impl Day {
    /// Opens the store: starts all services on the world's devices, some seconds before the first shopper may come.
    ///
    /// # Errors
    /// When a service cannot start.
    pub fn start(plan: &Plan, bus: Bus) -> anyhow::Result<Self> {
        let mut world = World::new(plan.world);
        warm(&mut world);
        let clock = Clock::starting_at(plan.world.start.before(OPENING));
        let (devices, opened) = Devices::new(&world, Format::Yuyv);
        let listener = Listener::new(&bus);
        let trace = plan.trace.as_deref().map(|folder| Trace::start(folder, &bus)).transpose()?;
        let services = Services::start(
            &world,
            opened,
            &devices,
            plan.files.clone(),
            bus.clone(),
            clock.clone(),
            trace.is_some(),
        )?;
        Ok(Self {
            faults: Faults::new(&world),
            start: plan.world.start,
            started: std::time::Instant::now(),
            empty_since: None,
            world,
            devices,
            services,
            listener,
            trace,
            bus,
            clock,
        })
    }

    /// Waits for the world's next step and carries it out; `false` once the day is over and every session settled, or
    /// cannot be expected to any more.
    ///
    /// # Errors
    /// When a service ended by itself.
    pub async fn step(&mut self) -> anyhow::Result<bool> {
        tokio::time::sleep(STEP).await;
        let now = self.clock.now();
        self.devices.step(&mut self.world, now);
        self.faults.carry_out(now, &mut self.services, &self.world, &mut self.devices, &self.bus)?;
        self.services.check().await?;
        self.listener.listen(&self.bus);
        if let Some(trace) = &mut self.trace {
            trace.write().context("cannot write the trace")?;
        }
        if !self.world.finished() {
            return Ok(true);
        }
        let since = *self.empty_since.get_or_insert(now);
        Ok(!self.listener.all_settled(&self.world) && now.since(since) <= SETTLING_MAX)
    }

    /// Closes the store: ends all services, and judges.
    ///
    /// # Errors
    /// When a service ended badly, or the trace cannot be written.
    pub async fn end(mut self) -> anyhow::Result<Table> {
        let simulated = self.elapsed();
        if let Some(trace) = self.trace {
            trace.end(&self.world).context("cannot write the truth")?;
        }
        self.services.stop().await?;
        self.listener.listen(&self.bus);
        Ok(self.listener.table(&self.world, &self.devices, simulated, self.started.elapsed()))
    }

    /// The store's map.
    #[must_use]
    pub fn map(&self) -> &StoreMap {
        self.world.map()
    }

    /// A flag that becomes true when the day ends, for what runs beside it.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.services.stopping()
    }

    /// The day's time line.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Time since the day began.
    #[must_use]
    pub fn elapsed(&self) -> Millis {
        self.clock.now().since(self.start)
    }

    /// One line for people who wait.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{:>5.0} s of the day in {:>4.0} s: {} inside, {} passages, {} receipts, {} reviews",
            self.elapsed().as_seconds(),
            self.started.elapsed().as_secs_f64(),
            self.world.inside(),
            self.listener.passed.len(),
            self.listener.settled.len(),
            self.listener.reviewed.len(),
        )
    }
}

/// Writes down what explains a wrong receipt.
struct Trace {
    folder: PathBuf,
    all: Subscription,
    file: BufWriter<File>,
}

impl Trace {
    fn start(folder: &Path, bus: &Bus) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join("bus.jsonl");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { folder: folder.to_owned(), all: bus.subscribe("#"), file: BufWriter::new(file) })
    }

    fn write(&mut self) -> std::io::Result<()> {
        while let Some(message) = self.all.try_recv() {
            let body = String::from_utf8_lossy(&message.payload);
            writeln!(self.file, "{{\"topic\":\"{}\",\"message\":{body}}}", message.topic)?;
        }
        Ok(())
    }

    fn end(mut self, world: &World) -> anyhow::Result<()> {
        self.file.flush()?;
        let truth = File::create(self.folder.join("truth.json"))?;
        serde_json::to_writer(BufWriter::new(truth), world.truth())?;
        let map = File::create(self.folder.join("map.json"))?;
        Ok(serde_json::to_writer(BufWriter::new(map), world.map())?)
    }
}

/// Draws every camera once: the first picture of each takes long, and would come late to a store in real time.
fn warm(world: &mut World) {
    let mut picture = camera::Rgb::new(0, 0);
    for camera in 0..world.map().cameras.len() {
        world.render(camera, &mut picture);
    }
}

/// The faults that the runner of the services carries out.
struct Faults {
    killed: BTreeMap<usize, Service>,
    done: Vec<bool>,
}

impl Faults {
    fn new(world: &World) -> Self {
        Self { killed: BTreeMap::new(), done: vec![false; world.faults().len()] }
    }

    fn carry_out(
        &mut self,
        now: Instant,
        services: &mut Services,
        world: &World,
        devices: &mut Devices,
        bus: &Bus,
    ) -> anyhow::Result<()> {
        let mut bus_cut = false;
        for (index, fault) in world.faults().iter().enumerate() {
            let holds = fault.holds(now);
            match &fault.kind {
                FaultKind::BusDown => bus_cut |= holds,
                FaultKind::ServiceKilled { service } if holds && !self.done[index] => {
                    self.done[index] = true;
                    self.killed.insert(index, *service);
                    services.kill(*service);
                }
                FaultKind::ServiceKilled { service } if !holds && self.killed.remove(&index).is_some() => {
                    services.restart(*service, world, devices)?;
                }
                // A killed service stays down while its fault holds; the devices carry out the rest themselves.
                FaultKind::ServiceKilled { .. }
                | FaultKind::ReaderUnplugged { .. }
                | FaultKind::CameraDark { .. }
                | FaultKind::CameraUnplugged { .. }
                | FaultKind::FrameLoss { .. }
                | FaultKind::PlateStuck { .. }
                | FaultKind::LineDown { .. } => {}
            }
        }
        bus.set_cut(bus_cut);
        Ok(())
    }
}

impl Listener {
    /// Listens from now on.
    #[must_use]
    pub fn new(bus: &Bus) -> Self {
        Self {
            receipts: bus.subscribe(topic::RECEIPT),
            reviews: bus.subscribe(topic::REVIEW),
            reports: bus.subscribe(topic::GATE_REPORT),
            passages: bus.subscribe(topic::PASSAGE),
            gates: bus.subscribe(&format!("{}/#", topic::GATE_VIEW)),
            settled: BTreeMap::new(),
            reviewed: BTreeMap::new(),
            passed: BTreeMap::new(),
            incidents: BTreeSet::new(),
            latencies: BTreeMap::new(),
        }
    }

    /// Takes what has arrived and acknowledges receipts and reviews, as the chain's uplink does, and what the gates
    /// report, as the console does.
    pub fn listen(&mut self, bus: &Bus) {
        while let Some(message) = self.receipts.try_recv() {
            if let Ok(receipt) = message.parse::<Receipt>() {
                acknowledge(bus, &receipt.id);
                self.settled.insert(receipt.id.clone(), receipt);
            }
        }
        while let Some(message) = self.reviews.try_recv() {
            if let Ok(review) = message.parse::<Review>() {
                acknowledge(bus, &review.event);
                self.reviewed.insert(review.event.clone(), review);
            }
        }
        while let Some(message) = self.reports.try_recv() {
            if let Ok(report) = message.parse::<GateReport>() {
                acknowledge(bus, &report.id);
                if matches!(report.fact, GateFact::Incident { .. }) {
                    self.incidents.insert(report.id);
                }
            }
        }
        while let Some(message) = self.passages.try_recv() {
            if let Ok(passage) = message.parse::<Passage>() {
                self.passed.insert(passage.id.clone(), passage);
            }
        }
        while let Some(message) = self.gates.try_recv() {
            if let Ok(view) = message.parse::<GateView>() {
                self.latencies.entry(view.lane.clone()).or_default().take(&view);
            }
        }
    }

    /// Whether every visit that ended has its receipt.
    #[must_use]
    pub fn all_settled(&self, world: &World) -> bool {
        world
            .truth()
            .visits
            .iter()
            .filter(|visit| visit.left.is_some())
            .all(|visit| self.settled.values().any(|receipt| receipt.member == Some(visit.member)))
    }

    /// The day's table.
    #[must_use]
    pub fn table(&self, world: &World, devices: &Devices, simulated: Millis, real: Duration) -> Table {
        let visits = world.truth().visits.iter().filter(|visit| visit.left.is_some());
        let truth: Baskets = visits.map(|visit| (visit.member, visit.out.clone())).collect();
        let receipts: Vec<Receipt> = self.settled.values().cloned().collect();
        let score = Score::of(&receipts, &truth);
        let passages: Vec<Passage> = self.passed.values().cloned().collect();
        let closed: Vec<_> =
            receipts.iter().filter_map(|receipt| Some((receipt.member?, receipt.left))).collect();
        let mut violations = oracle::sessions_settle_once(world, &receipts);
        violations.extend(oracle::grants_pass_once(&passages, &closed));
        violations.extend(oracle::items_are_conserved(world));
        let mut sessions: Vec<_> = receipts.iter().map(|receipt| &receipt.session).collect();
        sessions.sort();
        let settled = sessions.len();
        sessions.dedup();
        let latencies = self.latencies.values().flat_map(|lane| lane.microseconds.iter().copied());
        Table {
            seed: world.options().seed,
            shoppers: truth.len(),
            sessions_settled: sessions.len(),
            settled_twice: settled - sessions.len(),
            receipts_exact: score.exact,
            item_precision: score.precision(),
            item_recall: score.recall(),
            item_f1: score.f1(),
            reviews: self.reviewed.len(),
            incidents: self.incidents.len(),
            gate_ms: Percentiles::of_microseconds(latencies.collect()),
            camera_frames: devices.frames(),
            simulated_seconds: simulated.as_seconds(),
            seconds: real.as_secs_f64(),
            violations: violations.iter().map(ToString::to_string).collect(),
            wrong: score.wrong,
        }
    }
}

impl Latencies {
    fn take(&mut self, view: &GateView) {
        // A restarted gated counts from nothing.
        let before = if view.unlocks < self.unlocks { 0 } else { self.unlocks };
        let new = (view.unlocks - before).min(view.latency_us.len() as u64) as usize;
        self.microseconds.extend(&view.latency_us[view.latency_us.len() - new..]);
        self.unlocks = view.unlocks;
    }
}

fn acknowledge(bus: &Bus, id: &MessageId) {
    bus.publish(&ack_topic_of(id), &Ack { ids: vec![id.clone()] });
}

/// A folder of its own for one day's state, removed with the handle.
///
/// # Errors
/// When it cannot be made.
pub fn fresh_state() -> anyhow::Result<tempfile::TempDir> {
    tempfile::tempdir().context("cannot make a folder for the day's state")
}
