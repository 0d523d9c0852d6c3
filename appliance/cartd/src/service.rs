//! The shell: sensors and messages in, the ledger first, then the engine, then the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use engine::cart::Evidence;
use engine::cart::sense::Sensing;
use engine::message::{
    Ack, FloorView, HealthState, Passage, PlateReadings, ReviewDecision, SessionState, topic,
};
use engine::session::{Input, Policy};
use engine::store::{BadStoreMap, StoreMap};
use engine::time::{Instant, Millis};
use engine::units::{MessageId, PlateId};
use runtime::bus::{Bus, Message};
use runtime::clock::Clock;
use runtime::outbox::ack_topic_of;
use runtime::watchdog::Watchdog;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::health::Board;
use crate::ledger::{self, Due, Entry, Ledger, SENDER};
use crate::levels::Levels;
use crate::lines::{self, BadPlate, Open, Plan, Round};
use crate::payment::{self, Payment, Provider, retry_after};

/// Pause between polls of the evidence.
const STEP: Millis = Millis(100);

/// Polls between two store views: 5 Hz.
const STEPS_PER_VIEW: u64 = 2;

/// Polls between two looks at what changes slowly (stuck plates, counts of payments): a second.
const STEPS_PER_LOOK: u64 = 10;

/// Pause before a ledger that refused is tried again.
const REFUSED_PAUSE: Millis = Millis(1_000);

/// Inputs that may wait for a ledger that refuses. Beyond it cartd stops looking at the shelves and takes no
/// decisions: what changed meanwhile shows as one change of each plate when it looks again.
const PENDING_MAX: usize = 4_096;

/// Pause between two looks at plates at rest.
const LEVELS_EVERY: Millis = Millis(60_000);

/// A ledger in use: cartd's predecessor is still ending. Tries, 50 ms apart.
const OPEN_TRIES: u32 = 100;

/// Rounds of a line that may wait for the loop.
const ROUNDS_MAX: usize = 64;

/// How cartd is set up.
#[derive(Clone)]
pub struct Settings {
    /// The ledger file; made when missing.
    pub ledger: PathBuf,
    /// The owner's rules for settling.
    pub policy: Policy,
    /// Who is asked for the money.
    pub payment: Provider,
    /// Publish what the plates show, on [`topic::TRACE_READINGS`].
    pub trace: bool,
}

/// Why cartd ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger cannot be used.
    #[error("the ledger failed")]
    Ledger(#[from] ledger::Error),
    /// The store map contradicts itself.
    #[error("the store map contradicts itself")]
    Map(#[from] BadStoreMap),
    /// The store map has plates that no module can serve.
    #[error("the store map cannot be wired")]
    Plate(#[from] BadPlate),
    /// A task of cartd ended, which is a fault of the program.
    #[error("{0} ended unexpectedly")]
    Task(&'static str),
}

/// Runs cartd until `stop` becomes true. `lines` are the load-cell lines, by gondola. May be dropped at any
/// await: what was acknowledged is in the ledger, and a new run goes on from there.
///
/// # Errors
/// When the ledger cannot be used or the map is wrong. A ledger without space is no error: cartd then accepts
/// nothing and says so, until there is space.
pub async fn run<T>(
    settings: Settings,
    map: StoreMap,
    lines: Vec<(u16, Open<T>)>,
    bus: Bus,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    map.validate()?;
    // Subscribe first: what is said during the replay waits here.
    let mut passages = bus.subscribe(topic::PASSAGE);
    let mut decisions = bus.subscribe(topic::REVIEW_DECISION);
    let mut floor = bus.subscribe(topic::FLOOR_VIEW);
    let mut acks = bus.subscribe(&format!("{}/{SENDER}", topic::ACK));

    let mut tasks = JoinSet::new();
    let (rounds_in, mut rounds) = mpsc::channel(ROUNDS_MAX);
    let (charges, charges_out) = mpsc::channel(1);
    let (answers_in, mut answers) = mpsc::channel(1);
    let wired: BTreeSet<u16> = lines.iter().map(|(gondola, _)| *gondola).collect();
    for (gondola, open) in lines {
        let plan = Plan::of(&map, gondola)?;
        tasks.spawn(lines::poll(plan, open, clock.clone(), rounds_in.clone()));
    }
    // Kept, so that a store without lines waits for rounds instead of meeting the end of the channel.
    let _rounds_in = rounds_in;
    tasks.spawn(pay(settings.payment.clone(), charges_out, answers_in));

    let ledger = open(&settings, &map, &clock).await?;
    let now = clock.now();
    let mut sensing = Sensing::new(&map, &ledger.baselines()?);
    let sessions = ledger.store().view(now).sessions;
    let shopping = sessions.into_iter().filter(|session| session.state == SessionState::Shopping);
    sensing.inside(shopping.flat_map(|session| session.tracks));
    // Sensing tells of these again, which the ledger passes over, and then whose they were, which it does
    // not.
    ledger.unbound(now).for_each(|passage| sensing.passage(passage));
    let mut cartd = Cartd {
        ledger: Some(ledger),
        sensing,
        bus,
        clock,
        board: Board::default(),
        levels: Levels::default(),
        silent: BTreeSet::new(),
        stuck: BTreeSet::new(),
        pending: VecDeque::new(),
        acks: Vec::new(),
        charges,
        charging: false,
        refused_until: None,
        next_step: Instant::default(),
        next_levels: Instant::default(),
        steps: 0,
        trace: settings.trace,
        watchdog: Watchdog::from_environment(),
    };
    cartd.start(&map, &wired);
    while !*stop.borrow() {
        tokio::select! {
            biased;
            changed = stop.changed() => if changed.is_err() { break },
            message = acks.recv() => cartd.take_ack(&message),
            message = decisions.recv() => cartd.take_decision(&message)?,
            message = passages.recv() => cartd.take_passage(&message)?,
            message = floor.recv() => cartd.take_floor(&message),
            Some(round) = rounds.recv() => cartd.take_round(&round),
            Some(answer) = answers.recv() => cartd.take_answer(answer).await?,
            () = cartd.clock.until(Some(cartd.next_step)) => cartd.step().await?,
            ended = tasks.join_next() => return Err(Error::Task(match ended {
                Some(_) => "a line or the payment task",
                None => "every task",
            })),
        }
    }
    cartd.step().await
}

/// Opens the ledger on a thread of its own; waits a little for a predecessor to let it go.
async fn open(settings: &Settings, map: &StoreMap, clock: &Clock) -> Result<Ledger, Error> {
    let mut tries = 0;
    loop {
        let (path, map, policy) = (settings.ledger.clone(), map.clone(), settings.policy.clone());
        let now = clock.now();
        let opened = tokio::task::spawn_blocking(move || Ledger::open(&path, map, policy, now)).await;
        match opened.map_err(|_| Error::Task("the ledger's opening"))? {
            Err(ledger::Error::InUse { .. }) if tries < OPEN_TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

/// Asks the provider, one charge at a time, so that a slow one holds nothing else up.
async fn pay(
    mut provider: Provider,
    mut charges: mpsc::Receiver<Due>,
    answers: mpsc::Sender<(Due, Result<String, payment::Error>)>,
) {
    while let Some(due) = charges.recv().await {
        let answer = provider.charge(&due.charge).await;
        if answers.send((due, answer)).await.is_err() {
            return;
        }
    }
}

struct Cartd {
    /// Away only while a blocking thread writes.
    ledger: Option<Ledger>,
    sensing: Sensing,
    bus: Bus,
    clock: Clock,
    board: Board,
    levels: Levels,
    /// Plates that do not answer.
    silent: BTreeSet<PlateId>,
    /// Plates that answer, but never move by their own noise.
    stuck: BTreeSet<PlateId>,
    /// Accepted by sensing, not yet by the ledger.
    pending: VecDeque<Entry>,
    /// Receivers' acknowledgements, not yet in the ledger.
    acks: Vec<Ack>,
    charges: mpsc::Sender<Due>,
    charging: bool,
    /// The ledger refused; try again then.
    refused_until: Option<Instant>,
    next_step: Instant,
    next_levels: Instant,
    steps: u64,
    trace: bool,
    watchdog: Watchdog,
}

impl Cartd {
    fn start(&mut self, map: &StoreMap, wired: &BTreeSet<u16>) {
        let now = self.clock.now();
        self.next_levels = now.after(LEVELS_EVERY);
        self.next_step = now;
        self.board.set(now, "service", HealthState::Up, "");
        let gondolas: BTreeSet<u16> = map.plates.iter().map(|plate| plate.id.gondola).collect();
        for gondola in gondolas.difference(wired) {
            let detail = "no load-cell line is connected to this box";
            self.board.set(now, &device(*gondola), HealthState::Down, detail);
        }
        self.silent =
            map.plates.iter().map(|plate| plate.id).filter(|plate| !wired.contains(&plate.gondola)).collect();
        self.watchdog.ready();
    }

    fn ledger(&mut self) -> &mut Ledger {
        self.ledger
            .as_mut()
            .expect("the ledger is away only inside with_ledger, which returns it or ends cartd")
    }

    /// Lets a blocking thread work on the ledger, so that a slow disk holds up no other service of a process.
    async fn with_ledger<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Ledger) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let mut ledger = self.ledger.take().ok_or(Error::Task("the ledger's thread"))?;
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut ledger);
            (ledger, result)
        });
        let (ledger, result) = worked.await.map_err(|_| Error::Task("the ledger's thread"))?;
        self.ledger = Some(ledger);
        Ok(result)
    }

    fn take_ack(&mut self, message: &Message) {
        if let Some(ack) = read(message) {
            self.acks.push(ack);
        }
    }

    fn take_passage(&mut self, message: &Message) -> Result<(), Error> {
        let Some(passage) = read::<Passage>(message) else { return Ok(()) };
        match self.ledger().knows(&passage.id) {
            Ok(true) => self.acknowledge([passage.id]),
            Ok(false) => self.sensing.passage(&passage),
            // Not acknowledged, so it comes again.
            Err(error) => self.refuse(error)?,
        }
        Ok(())
    }

    fn take_decision(&mut self, message: &Message) -> Result<(), Error> {
        let Some(decision) = read::<ReviewDecision>(message) else { return Ok(()) };
        match self.ledger().knows(&decision.id) {
            Ok(true) => self.acknowledge([decision.id]),
            Ok(false) => {
                let waits = self.pending.iter().any(|entry| entry.origin() == Some(&decision.id));
                if !waits && self.pending.len() < PENDING_MAX {
                    self.push(self.clock.now(), Input::Decision(decision));
                }
            }
            Err(error) => self.refuse(error)?,
        }
        Ok(())
    }

    fn take_floor(&mut self, message: &Message) {
        if let Some(view) = read::<FloorView>(message) {
            self.sensing.floor(&view);
        }
    }

    fn take_round(&mut self, round: &Round) {
        let now = self.clock.now();
        if self.trace {
            let readings = round.readings.iter().map(|reading| (reading.at, reading.plate, reading.mass));
            self.bus.publish(topic::TRACE_READINGS, &PlateReadings { readings: readings.collect() });
        }
        for reading in &round.readings {
            self.sensing.weight(reading.at, reading.plate, reading.mass);
            self.levels.read(reading);
            if reading.mass.is_some() {
                self.silent.remove(&reading.plate);
            } else {
                self.silent.insert(reading.plate);
            }
        }
        let stuck = self.stuck.iter().filter(|plate| plate.gondola == round.gondola);
        let mut faults = round.faults.clone();
        faults.extend(stuck.map(|plate| format!("plate {plate} is stuck")));
        let state = match (round.dead, faults.is_empty()) {
            (true, _) => HealthState::Down,
            (false, true) => HealthState::Up,
            (false, false) => HealthState::Degraded,
        };
        self.board.set(now, &device(round.gondola), state, &faults.join("; "));
    }

    async fn take_answer(
        &mut self,
        (due, answer): (Due, Result<String, payment::Error>),
    ) -> Result<(), Error> {
        self.charging = false;
        let now = self.clock.now();
        let receipt = due.charge.receipt;
        let noted = self
            .with_ledger(move |ledger| match answer {
                Ok(reference) => ledger.charged(&receipt, &reference),
                Err(payment::Error::Refused(reason)) => ledger.refused(&receipt, &reason),
                Err(error @ payment::Error::Unanswered(_)) => {
                    ledger.postpone(&receipt, now.after(retry_after(due.attempts)), &error.to_string())
                }
            })
            .await?;
        // Not noted: it stays in the queue, and the provider knows its key.
        noted.or_else(|error| self.refuse(error))
    }

    /// One tenth of a second's work: evidence into the ledger, what it caused out of it.
    async fn step(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        self.next_step = now.after(STEP);
        self.steps += 1;
        if self.pending.len() < PENDING_MAX {
            for evidence in self.sensing.poll(now) {
                self.push(now, Input::Evidence(evidence));
            }
        }
        if self.steps.is_multiple_of(STEPS_PER_LOOK) {
            let faulty = self.sensing.faulty(now).into_iter();
            self.stuck = faulty.filter(|plate| !self.silent.contains(plate)).collect();
        }
        if self.refused_until.is_none_or(|until| now >= until) {
            self.refused_until = None;
            if let Err(error) = self.commit(now).await? {
                self.refuse(error)?;
            } else {
                self.board.set(now, "service", HealthState::Up, "");
            }
        }
        if self.steps.is_multiple_of(STEPS_PER_VIEW) {
            let mut view = self.ledger().store().view(now);
            view.plates.retain(|plate, _| !self.silent.contains(plate));
            self.bus.publish_view(topic::STORE_VIEW, &view);
        }
        self.board.publish(now, &self.bus);
        self.watchdog.step_done();
        Ok(())
    }

    /// Brings everything that waits into the ledger, then does what the ledger asks for.
    async fn commit(&mut self, now: Instant) -> Result<Result<(), ledger::Error>, Error> {
        if self.ledger().store().deadline().is_some_and(|deadline| deadline <= now) {
            self.push(now, Input::Tick);
        }
        if !self.pending.is_empty() {
            let entries: Vec<Entry> = self.pending.iter().cloned().collect();
            let origins: Vec<MessageId> = entries.iter().filter_map(Entry::origin).cloned().collect();
            let accepted = self.with_ledger(move |ledger| ledger.accept(&entries)).await?;
            if accepted.is_err() {
                return Ok(accepted);
            }
            self.pending.clear();
            self.acknowledge(origins);
        }
        if !self.acks.is_empty() {
            let acks = std::mem::take(&mut self.acks);
            // Lost ones come again: the messages are sent again.
            let removed = self.with_ledger(move |ledger| ledger.acknowledged(&acks)).await?;
            if removed.is_err() {
                return Ok(removed);
            }
        }
        let bus = self.bus.clone();
        if let Err(error) = self.ledger().send_due(&bus, now) {
            return Ok(Err(error));
        }
        if let Err(error) = self.charge_next(now) {
            return Ok(Err(error));
        }
        if now >= self.next_levels {
            self.next_levels = now.after(LEVELS_EVERY);
            let levels = self.levels.news(now);
            if !levels.is_empty() {
                let stored = levels.clone();
                let kept = self.with_ledger(move |ledger| ledger.keep_levels(&stored)).await?;
                if kept.is_err() {
                    return Ok(kept);
                }
                self.levels.kept(&levels);
            }
        }
        Ok(Ok(()))
    }

    fn charge_next(&mut self, now: Instant) -> Result<(), ledger::Error> {
        if self.charging {
            return Ok(());
        }
        if let Some(due) = self.ledger().next_payment(now)? {
            self.charging = self.charges.try_send(due).is_ok();
        }
        if self.steps.is_multiple_of(STEPS_PER_LOOK) {
            let counts = self.ledger().payment_counts()?;
            let (state, detail) = match (counts.refused, counts.retried) {
                (0, 0) => (HealthState::Up, String::new()),
                (0, retried) => (HealthState::Degraded, format!("{retried} payments are tried again")),
                (refused, _) => (HealthState::Degraded, format!("{refused} payments were refused")),
            };
            self.board.set(now, "payment", state, &detail);
        }
        Ok(())
    }

    /// The ledger refused. A trouble that may pass keeps everything waiting and is said; any other ends
    /// cartd.
    fn refuse(&mut self, error: ledger::Error) -> Result<(), Error> {
        if !error.passes() {
            return Err(error.into());
        }
        let now = self.clock.now();
        self.refused_until = Some(now.after(REFUSED_PAUSE));
        self.board.set(now, "service", HealthState::Down, &error.to_string());
        Ok(())
    }

    fn push(&mut self, at: Instant, input: Input) {
        // Only the newest watermark of a batch says anything.
        if let (Input::Evidence(Evidence::Watermark { .. }), Some(last)) = (&input, self.pending.back_mut())
            && matches!(last.input, Input::Evidence(Evidence::Watermark { .. }))
        {
            *last = Entry { at, input };
            return;
        }
        self.pending.push_back(Entry { at, input });
    }

    fn acknowledge(&self, ids: impl IntoIterator<Item = MessageId>) {
        let mut by_sender: BTreeMap<String, Vec<MessageId>> = BTreeMap::new();
        for id in ids {
            by_sender.entry(ack_topic_of(&id)).or_default().push(id);
        }
        for (topic, ids) in by_sender {
            self.bus.publish(&topic, &Ack { ids });
        }
    }
}

fn device(gondola: u16) -> String {
    format!("load-cells-{gondola}")
}

/// A message that is not what its topic promises is said and dropped: its sender is another version or
/// broken.
fn read<T: serde::de::DeserializeOwned>(message: &Message) -> Option<T> {
    message.parse().inspect_err(|error| tracing::warn!(topic = message.topic, %error, "bad message")).ok()
}
