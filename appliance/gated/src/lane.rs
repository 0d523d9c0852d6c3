//! One lane's loop: wait for one input, hand it to the engine, perform what it returns, arm one deadline.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant as RealInstant;

use engine::admission::Admission;
use engine::gate::{self, Command, Gate, Input};
use engine::message::{Authority, DenyReason, Direction, GateView, Health, HealthState, topic};
use engine::time::{Instant, Millis};
use engine::units::LaneId;
use qr_scanner::{QrScanner, Scan};
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::watchdog::Watchdog;
use tokio::sync::{mpsc, watch};
use turnstile::{Edge, Line, Outputs, Turnstile};

use crate::keeper::Record;
use crate::slot::Slot;
use crate::{Lane, SERVICE};

/// Latencies kept for the view.
const LATENCIES_MAX: usize = 256;
/// A scanner that reads the code in front of it again within this time has read the same show of it.
const SAME_CODE: Millis = Millis(3_000);
/// The loop comes round at least this often, so that the watchdog sees it alive.
const HEARTBEAT: Millis = Millis(1_000);
/// Records of this lane not handed over because the keeper was behind; reported, and never waited for.
const LOST_RECORDS: &str = "records lost because storage is too slow";

/// What lanes share.
pub struct Shared {
    pub admission: Arc<Mutex<Admission>>,
    pub records: mpsc::Sender<Record>,
    pub bus: Bus,
    pub clock: Clock,
}

/// What woke the loop.
enum Event<E1, E2> {
    Stop,
    Edge(Result<Edge, E1>),
    Scan(Result<Scan, E2>),
    TurnstileDue,
    ScannerDue,
    Tick,
}

struct Loop<T, S> {
    id: LaneId,
    entry_is_a: bool,
    shared: Shared,
    gate: Gate,
    turnstile: Slot<T, turnstile::Error>,
    scanner: Slot<S, qr_scanner::Error>,
    /// The newest code that was judged, and when.
    judged: Option<(Vec<u8>, Instant)>,
    latencies: VecDeque<u32>,
    published: Option<GateView>,
    told: [Option<(HealthState, String)>; 2],
    lost_records: u64,
    commands: Vec<Command>,
}

/// Runs one lane until `stop` becomes true.
pub async fn run<T: Turnstile, S: QrScanner>(
    lane: Lane<T, S>,
    shared: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let now = shared.clock.now();
    let clock = shared.clock.clone();
    let mut lane = Loop {
        gate: Gate::new(lane.id.clone(), lane.takes_entries, now),
        id: lane.id,
        entry_is_a: lane.entry_is_a,
        turnstile: Slot::new(Some(lane.turnstile), now),
        scanner: Slot::new(lane.scanner, now),
        shared,
        judged: None,
        latencies: VecDeque::new(),
        published: None,
        told: [None, None],
        lost_records: 0,
        commands: Vec::new(),
    };
    let mut watchdog = Watchdog::from_environment();
    watchdog.ready();
    loop {
        let heartbeat = clock.now().after(HEARTBEAT);
        let deadline = lane.gate.deadline().map_or(heartbeat, |deadline| deadline.min(heartbeat));
        let (turnstile_due, scanner_due) = (lane.turnstile.due(), lane.scanner.due());
        let event = tokio::select! {
            biased;
            () = stopped(&mut stop) => Event::Stop,
            edge = next_edge(lane.turnstile.device()) => Event::Edge(edge),
            scan = next_scan(lane.scanner.device()) => Event::Scan(scan),
            () = clock.until(Some(deadline)) => Event::Tick,
            () = clock.until(turnstile_due) => Event::TurnstileDue,
            () = clock.until(scanner_due) => Event::ScannerDue,
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
                if let Some(input) = lane.input_of(edge) {
                    lane.step(now, input);
                }
            }
            Event::Edge(Err(error)) => lane.lose_turnstile(now, &error),
            Event::Scan(Ok(scan)) => lane.scanned(now, scan),
            Event::Scan(Err(error)) => lane.scanner_failed(now, &error),
            Event::TurnstileDue => lane.open_turnstile(now),
            Event::ScannerDue => lane.open_scanner(now),
            Event::Tick => lane.step(now, Input::Tick),
        }
        lane.publish_view();
        watchdog.step_done();
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
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

async fn next_scan<S: QrScanner>(device: Option<&mut S>) -> Result<Scan, qr_scanner::Error> {
    match device {
        Some(scanner) => scanner.next_scan().await,
        None => std::future::pending().await,
    }
}

impl<T: Turnstile, S: QrScanner> Loop<T, S> {
    /// One step of the engine, performed. A failed drive is the next input.
    fn step(&mut self, now: Instant, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut commands = std::mem::take(&mut self.commands);
            self.gate.handle(now, input, &mut commands);
            for command in commands.drain(..) {
                if let Err(error) = self.perform(now, command) {
                    self.turnstile_lost(now, &error);
                    next = Some(Input::Lost);
                }
            }
            self.commands = commands;
        }
    }

    fn perform(&mut self, now: Instant, command: Command) -> Result<(), turnstile::Error> {
        match command {
            Command::Drive(outputs) => {
                let outputs = self.wired(outputs);
                return self.turnstile.device().map_or(Ok(()), |turnstile| turnstile.drive(outputs));
            }
            Command::Signal(signal) => {
                let signal = match signal {
                    gate::Signal::Good => qr_scanner::Signal::Good,
                    gate::Signal::Bad => qr_scanner::Signal::Bad,
                };
                // A scanner that cannot beep is lost anyway; the next read says so.
                let _ = self.scanner.device().map(|scanner| scanner.signal(signal));
            }
            Command::Passed { at, direction, authority } => {
                if let (Direction::Entry, Authority::Grant(grant)) = (direction, &authority) {
                    lock(&self.shared.admission).passed(grant.member, grant.staff);
                }
                let lane = self.id.clone();
                self.record(now, Record::Passage { at, lane, direction, authority });
            }
            Command::Lapsed { member, passages } => lock(&self.shared.admission).lapsed(member, passages),
        }
        Ok(())
    }

    fn scanned(&mut self, now: Instant, scan: Scan) {
        let judged_just_now =
            self.judged.as_ref().is_some_and(|(text, at)| *text == scan.text && now.since(*at) < SAME_CODE);
        if judged_just_now {
            return;
        }
        if let Some(reason) = self.gate.refuses() {
            return self.step(now, Input::Deny(reason));
        }
        let trusted = self.shared.clock.trusted();
        let judgement = lock(&self.shared.admission).check(now, trusted, &scan.text);
        match judgement {
            Ok(admitted) => {
                self.step(now, Input::Grant(admitted));
                if self.turnstile.device().is_some() {
                    self.note_latency(scan.reported);
                }
                self.record(now, Record::Admission);
            }
            Err(reason) => {
                tracing::info!(lane = %self.id, ?reason, "credential refused");
                self.step(now, Input::Deny(reason));
            }
        }
        self.judged = Some((scan.text, now));
    }

    fn scanner_failed(&mut self, now: Instant, error: &qr_scanner::Error) {
        if error.kind() == qr_scanner::ErrorKind::Garbled {
            tracing::warn!(lane = %self.id, error = %chain(error), "scan lost");
            return self.step(now, Input::Deny(DenyReason::Malformed));
        }
        self.scanner.lose(now);
        self.tell_health(now, 1, HealthState::Down, chain(error));
    }

    fn open_scanner(&mut self, now: Instant) {
        match self.scanner.try_open(now) {
            Ok(()) => self.tell_health(now, 1, HealthState::Up, String::new()),
            Err(error) => self.tell_health(now, 1, HealthState::Down, chain(&error)),
        }
    }

    fn open_turnstile(&mut self, now: Instant) {
        match self.turnstile.try_open(now) {
            Ok(()) => {
                self.tell_health(now, 0, HealthState::Up, String::new());
                self.step(now, Input::Found);
            }
            Err(error) => {
                self.tell_health(now, 0, HealthState::Down, chain(&error));
            }
        }
    }

    fn lose_turnstile(&mut self, now: Instant, error: &turnstile::Error) {
        self.turnstile_lost(now, error);
        self.step(now, Input::Lost);
    }

    fn turnstile_lost(&mut self, now: Instant, error: &turnstile::Error) {
        self.turnstile.lose(now);
        self.tell_health(now, 0, HealthState::Down, chain(error));
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

    /// Says how a device is (0 turnstile, 1 scanner) when that changed.
    fn tell_health(&mut self, now: Instant, device: usize, state: HealthState, detail: String) {
        let new = Some((state, detail));
        if self.told[device] == new {
            return;
        }
        let name = format!("{}-{}", ["turnstile", "scanner"][device], self.id);
        let detail = new.as_ref().map(|(_, detail)| detail.clone()).unwrap_or_default();
        tracing::info!(device = name, ?state, detail, "device health");
        let health = self.health(now, name, state, detail);
        self.publish_health(&health);
        self.told[device] = new;
    }

    fn health(&self, now: Instant, device: String, state: HealthState, detail: String) -> Health {
        Health { service: SERVICE.to_owned(), device, state, since: now, detail }
    }

    fn publish_health(&self, health: &Health) {
        let topic = format!("{}/{}/{}", topic::HEALTH, health.service, health.device);
        self.shared.bus.publish_view(&topic, health);
    }

    fn publish_view(&mut self) {
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

    fn input_of(&self, edge: Edge) -> Option<Input> {
        let direction = |is_a: bool| if is_a == self.entry_is_a { Direction::Entry } else { Direction::Exit };
        Some(match edge.line {
            Line::PassageA => Input::PassageLine(direction(true), edge.active),
            Line::PassageB => Input::PassageLine(direction(false), edge.active),
            Line::Ready => Input::Ready(edge.active),
            Line::Detector => Input::Detector(edge.active),
            Line::FireAlarm => Input::FireAlarm(edge.active),
            Line::EmergencyButton => Input::EmergencyButton(edge.active),
            Line::Tamper => {
                if edge.active {
                    tracing::warn!(lane = %self.id, "turnstile cabinet is open");
                }
                return None;
            }
        })
    }
}

pub(crate) fn lock(admission: &Mutex<Admission>) -> MutexGuard<'_, Admission> {
    // Admission is never left half changed by a panic: it has none after its checks.
    admission.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error with its causes, for people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
