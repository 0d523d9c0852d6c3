//! One lane's loop: wait for one input, hand it to the engine, perform what it returns, arm one deadline.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant as RealInstant;

use engine::admission::{Admission, CardNumber};
use engine::gate::{self, Command, Gate, Input};
use engine::message::{Authority, DenyReason, Direction, GateFact, GateView, Health, HealthState, topic};
use engine::time::{Instant, Millis};
use engine::units::LaneId;
use qr_scanner::Signal;
use runtime::bus::Bus;
use runtime::clock::Clock;
use tokio::sync::{mpsc, watch};
use turnstile::{Edge, Line, Outputs, Turnstile};

use crate::SERVICE;
use crate::heartbeat::Pulse;
use crate::hours::Hours;
use crate::journal;
use crate::keeper::Record;
use crate::occupancy::Occupancy;
use crate::reader::{self, Attached};
use crate::slot::Slot;

/// The turnstile's name in health topics, before the lane's.
const TURNSTILE: &str = "turnstile";
/// Inputs on their way to a lane: more than people can cause while the loop does one step.
pub(crate) const INBOX_MAX: usize = 256;
/// Latencies kept for the view.
const LATENCIES_MAX: usize = 256;
/// A scanner that reads the code in front of it again within this time has read the same show of it.
const SAME_CODE: Millis = Millis(3_000);
/// The loop comes round at least this often, so that the watchdog sees it alive.
const HEARTBEAT: Millis = Millis(250);
/// Records of this lane not handed over because the keeper was behind; reported, and never waited for.
const LOST_RECORDS: &str = "records lost because storage is too slow";

/// What lanes share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub admission: Arc<Mutex<Admission>>,
    pub records: mpsc::Sender<Record>,
    pub journal: mpsc::Sender<journal::Entry>,
    pub occupancy: Occupancy,
    pub bus: Bus,
    pub clock: Clock,
}

/// What reaches a lane from elsewhere in the process.
pub(crate) enum Told {
    /// By a reader, which one and what.
    Reader(usize, reader::Event),
    /// By the bus or another lane, in the engine's words.
    Input(Input),
}

/// A lane with its readers attached.
pub(crate) struct Wired<T> {
    pub settings: gate::Settings,
    pub entry_is_a: bool,
    pub hours: Option<Hours>,
    pub turnstile: Slot<T, turnstile::Error>,
    pub readers: Vec<Attached>,
    pub inbox: mpsc::Receiver<Told>,
    pub pulse: Pulse,
}

/// What woke the loop.
enum Event<E> {
    Stop,
    Edge(Result<Edge, E>),
    Told(Told),
    TurnstileDue,
    Deadline,
    HoursTurn,
    Heartbeat,
}

/// A credential, as a reader gave it. It is never logged.
#[derive(PartialEq)]
enum Shown {
    Code(Vec<u8>),
    Card(CardNumber),
}

struct Loop<T> {
    id: LaneId,
    entry_is_a: bool,
    shared: Shared,
    gate: Gate,
    hours: Option<Hours>,
    /// When opening hours turn next.
    hours_turn: Option<Instant>,
    turnstile: Slot<T, turnstile::Error>,
    readers: Vec<Attached>,
    /// The reader whose person the next signal is for.
    asked_at: usize,
    /// The newest credential that was judged, and when.
    judged: Option<(Shown, Instant)>,
    latencies: VecDeque<u32>,
    published: Option<GateView>,
    /// What was last said of each device.
    told: BTreeMap<String, (HealthState, String)>,
    lost_records: u64,
    /// Steps since the last one that reached the journal.
    missed_steps: u64,
    commands: Vec<Command>,
}

/// Runs one lane until `stop` becomes true.
pub(crate) async fn run<T: Turnstile>(lane: Wired<T>, shared: Shared, mut stop: watch::Receiver<bool>) {
    let now = shared.clock.now();
    let clock = shared.clock.clone();
    let Wired { settings, entry_is_a, hours, turnstile, readers, mut inbox, pulse } = lane;
    let id = settings.lane.clone();
    let mut lane = Loop {
        gate: Gate::new(&settings, now),
        id,
        hours,
        hours_turn: None,
        entry_is_a,
        turnstile,
        readers,
        shared,
        asked_at: 0,
        judged: None,
        latencies: VecDeque::new(),
        published: None,
        told: BTreeMap::new(),
        lost_records: 0,
        missed_steps: 0,
        commands: Vec::new(),
    };
    lane.begin(now);
    loop {
        let heartbeat = clock.now().after(HEARTBEAT);
        let (deadline, turnstile_due) = (lane.gate.deadline(), lane.turnstile.due());
        let event = tokio::select! {
            biased;
            () = stopped(&mut stop) => Event::Stop,
            edge = next_edge(lane.turnstile.device()) => Event::Edge(edge),
            () = clock.until(deadline) => Event::Deadline,
            Some(told) = inbox.recv() => Event::Told(told),
            () = clock.until(turnstile_due) => Event::TurnstileDue,
            () = clock.until(lane.hours_turn) => Event::HoursTurn,
            () = clock.until(Some(heartbeat)) => Event::Heartbeat,
        };
        let now = clock.now();
        match event {
            Event::Stop => {
                // Dropping the turnstile leaves its lines inactive; saying so first makes it certain.
                if let Some(turnstile) = lane.turnstile.device() {
                    let _ = turnstile.drive(Outputs::INACTIVE);
                }
                return;
            }
            Event::Edge(Ok(edge)) => {
                let input = lane.input_of(edge);
                lane.step(now, input);
            }
            Event::Edge(Err(error)) => lane.lose_turnstile(now, &error),
            Event::Told(Told::Reader(reader, event)) => lane.reader_said(now, reader, event),
            Event::Told(Told::Input(input)) => lane.step(now, input),
            Event::TurnstileDue => lane.open_turnstile(now),
            Event::Deadline => lane.step(now, Input::Tick),
            Event::HoursTurn => lane.tell_hours(now),
            Event::Heartbeat => {}
        }
        lane.publish_view(now);
        pulse.step_done();
    }
}

pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means that nobody will ever stop us.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn next_edge<T: Turnstile>(device: Option<&mut T>) -> Result<Edge, turnstile::Error> {
    match device {
        Some(turnstile) => turnstile.next_edge().await,
        None => std::future::pending().await,
    }
}

impl<T: Turnstile> Loop<T> {
    fn begin(&mut self, now: Instant) {
        let state =
            journal::Entry::State { lane: self.id.clone(), at: now, gate: Box::new(self.gate.clone()) };
        // The writer has just begun: there is room.
        let _ = self.shared.journal.try_send(state);
        self.tell_hours(now);
    }

    fn tell_hours(&mut self, now: Instant) {
        let Some(hours) = &self.hours else { return };
        let (open, until) = hours.at(now);
        self.hours_turn = until;
        self.step(now, Input::Hours { open, until });
    }

    /// One step of the engine, performed. A failed drive is the next input.
    fn step(&mut self, now: Instant, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut commands = std::mem::take(&mut self.commands);
            self.gate.handle(now, input.clone(), &mut commands);
            let mut failed = None;
            // Lines first: everything else can wait for them.
            for command in &commands {
                if let Command::Drive(outputs) = command {
                    let outputs = self.wired(*outputs);
                    let driven = self.turnstile.device().map_or(Ok(()), |turnstile| turnstile.drive(outputs));
                    failed = failed.or(driven.err());
                }
            }
            self.write_down(now, input, &commands);
            for command in commands.drain(..) {
                self.perform(now, command);
            }
            self.commands = commands;
            if let Some(error) = failed {
                self.turnstile_lost(now, &error);
                next = Some(Input::Lost);
            }
        }
    }

    /// Keeps the step in the journal, without ever waiting for it.
    fn write_down(&mut self, at: Instant, told: Input, decided: &[Command]) {
        let (lane, decided, missed) = (self.id.clone(), decided.to_vec(), self.missed_steps);
        let entry = journal::Entry::Step { lane, at, told, decided, missed };
        self.missed_steps = if self.shared.journal.try_send(entry).is_ok() { 0 } else { missed + 1 };
    }

    fn perform(&mut self, now: Instant, command: Command) {
        match command {
            // Done already.
            Command::Drive(_) => {}
            Command::Signal(signal) => {
                let signal = match signal {
                    gate::Signal::Good => Signal::Good,
                    gate::Signal::Bad => Signal::Bad,
                };
                if let Some(reader) = self.readers.get(self.asked_at) {
                    reader.signal(signal);
                }
            }
            Command::Passed(passed) => {
                if let (Direction::Entry, Authority::Grant(grant)) = (passed.direction, &passed.authority) {
                    lock(&self.shared.admission).passed(grant.member, grant.staff);
                }
                self.shared.occupancy.passed(Some(&self.id), passed.direction);
                let (at, direction, authority) = (passed.at, passed.direction, passed.authority);
                let lane = self.id.clone();
                self.record(now, Record::Passage { at, lane, direction, authority });
            }
            Command::Lapsed { member, passages, .. } => lock(&self.shared.admission).lapsed(member, passages),
            Command::Report(fact) => {
                if let GateFact::WalkedBack { authority: Authority::Grant(grant), .. } = &fact {
                    lock(&self.shared.admission).walked_back(grant);
                    self.record(now, Record::Admission);
                }
                if matches!(fact, GateFact::Incident { .. }) {
                    tracing::warn!(lane = %self.id, ?fact, "incident");
                }
                self.record(now, Record::Report { at: now, lane: self.id.clone(), fact });
            }
        }
    }

    fn reader_said(&mut self, now: Instant, reader: usize, event: reader::Event) {
        self.asked_at = reader;
        match event {
            reader::Event::Code { text, reported } => self.shown(now, Shown::Code(text), reported),
            reader::Event::Card { number, reported } => self.shown(now, Shown::Card(number), reported),
            reader::Event::Status(doubts) => {
                let state = if doubts.is_empty() { HealthState::Up } else { HealthState::Degraded };
                self.tell_health(now, &self.reader(reader), state, doubts);
            }
            reader::Event::Garbled(what) => {
                tracing::warn!(lane = %self.id, error = what, "scan lost");
                self.step(now, Input::Deny(DenyReason::Malformed));
            }
            reader::Event::Up => self.tell_health(now, &self.reader(reader), HealthState::Up, String::new()),
            reader::Event::Down(why) => self.tell_health(now, &self.reader(reader), HealthState::Down, why),
        }
    }

    fn reader(&self, reader: usize) -> String {
        self.readers.get(reader).map_or_else(|| "reader".to_owned(), |reader| reader.name.clone())
    }

    fn shown(&mut self, now: Instant, shown: Shown, reported: RealInstant) {
        let judged_just_now =
            self.judged.as_ref().is_some_and(|(judged, at)| *judged == shown && now.since(*at) < SAME_CODE);
        if judged_just_now {
            return;
        }
        if let Some(reason) = self.gate.refuses() {
            return self.step(now, Input::Deny(reason));
        }
        // Phones follow the wall clock, so their codes are held against it.
        let (wall, trusted) = (self.shared.clock.wall(), self.shared.clock.trusted());
        let judgement = {
            let mut admission = lock(&self.shared.admission);
            match &shown {
                Shown::Code(text) => admission.check_at(&self.id, wall, trusted, text),
                Shown::Card(number) => admission.check_card(&self.id, wall, trusted, number),
            }
        };
        match judgement {
            Ok(admitted) => {
                self.step(now, Input::Grant(admitted));
                if self.turnstile.device().is_some() {
                    self.note_latency(reported);
                }
                self.record(now, Record::Admission);
            }
            Err(reason) => {
                tracing::info!(lane = %self.id, ?reason, "credential refused");
                self.step(now, Input::Deny(reason));
            }
        }
        self.judged = Some((shown, now));
    }

    fn open_turnstile(&mut self, now: Instant) {
        match self.turnstile.try_open(now) {
            Ok(()) => {
                self.tell_health(now, TURNSTILE, HealthState::Up, String::new());
                self.step(now, Input::Found);
            }
            Err(error) => {
                self.tell_health(now, TURNSTILE, HealthState::Down, chain(&error));
            }
        }
    }

    fn lose_turnstile(&mut self, now: Instant, error: &turnstile::Error) {
        self.turnstile_lost(now, error);
        self.step(now, Input::Lost);
    }

    fn turnstile_lost(&mut self, now: Instant, error: &turnstile::Error) {
        self.turnstile.lose(now);
        self.tell_health(now, TURNSTILE, HealthState::Down, chain(error));
    }

    fn note_latency(&mut self, reported: RealInstant) {
        if self.latencies.len() == LATENCIES_MAX {
            self.latencies.pop_front();
        }
        self.latencies.push_back(u32::try_from(reported.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    /// Hands over to the keeper without ever waiting for it.
    fn record(&mut self, now: Instant, record: Record) {
        if self.shared.records.try_send(record).is_err() {
            self.lost_records += 1;
            let detail = format!("{} {LOST_RECORDS}", self.lost_records);
            tracing::error!(lane = %self.id, "{detail}");
            let health = self.health(now, format!("records-{}", self.id), HealthState::Degraded, detail);
            self.publish_health(&health);
        }
    }

    /// Says how a device is when that changed.
    fn tell_health(&mut self, now: Instant, device: &str, state: HealthState, detail: String) {
        let name = format!("{device}-{}", self.id);
        let new = (state, detail);
        if self.told.get(&name) == Some(&new) {
            return;
        }
        tracing::info!(device = name, ?state, detail = new.1, "device health");
        let health = self.health(now, name.clone(), state, new.1.clone());
        self.publish_health(&health);
        self.told.insert(name, new);
    }

    fn health(&self, now: Instant, device: String, state: HealthState, detail: String) -> Health {
        Health { service: SERVICE.to_owned(), device, state, since: now, detail }
    }

    fn publish_health(&self, health: &Health) {
        let topic = format!("{}/{}/{}", topic::HEALTH, health.service, health.device);
        self.shared.bus.publish_view(&topic, health);
    }

    fn publish_view(&mut self, now: Instant) {
        let mut view = self.gate.view();
        let newest = self.published.as_ref();
        let same = newest.is_some_and(|old| {
            old.latency_us.len() == self.latencies.len()
                && old.latency_us.last() == self.latencies.back()
                && GateView { latency_us: Vec::new(), ..old.clone() } == view
        });
        if same {
            return;
        }
        let kept = |view: &GateView| (view.modes.entry, view.modes.exit, view.modes.service);
        if newest.is_some_and(|old| kept(old) != kept(&view)) {
            self.record(now, Record::Modes { lane: self.id.clone(), modes: view.modes });
        }
        view.latency_us = self.latencies.iter().copied().collect();
        self.shared.bus.publish_view(&format!("{}/{}", topic::GATE_VIEW, self.id), &view);
        self.published = Some(view);
    }

    /// The installer's wiring: which electrical direction is the entry.
    fn wired(&self, outputs: gate::Outputs) -> Outputs {
        let gate::Outputs { unlock_entry, unlock_exit, beacon_red, beacon_green, wide } = outputs;
        let (unlock_a, unlock_b) =
            if self.entry_is_a { (unlock_entry, unlock_exit) } else { (unlock_exit, unlock_entry) };
        Outputs { unlock_a, unlock_b, stop: false, beacon_red, beacon_green, wide }
    }

    fn input_of(&self, edge: Edge) -> Input {
        let direction = |is_a: bool| if is_a == self.entry_is_a { Direction::Entry } else { Direction::Exit };
        match edge.line {
            Line::PassageA => Input::PassageLine(direction(true), edge.active),
            Line::PassageB => Input::PassageLine(direction(false), edge.active),
            Line::Ready => Input::Ready(edge.active),
            Line::Detector => Input::Detector(edge.active),
            Line::FireAlarm => Input::FireAlarm(edge.active),
            Line::EmergencyButton => Input::EmergencyButton(edge.active),
            Line::Tamper => Input::Tamper(edge.active),
        }
    }
}

pub(crate) fn lock(admission: &Mutex<Admission>) -> MutexGuard<'_, Admission> {
    // Admission is never left half changed by a panic: it has none after its checks.
    admission.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes on one line, for people.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
