//! The console shows staff the store live in a web page and gives integrators the same over HTTP: carts,
//! receipts, the review queue, staff calls, health and metrics.
//!
//! It deliberately decides nothing and stores nothing: what it shows it learnt from the bus, what staff decide
//! it hands to cartd until cartd has stored it, and what staff order a gate it hands to gated until the gate has
//! answered or the order has expired.
//!
//! What is protected and what is not: changes need the same origin and, where [`ConsoleSettings::token`] is
//! set, that token. Reading needs nothing but reaching the address, so the console binds to loopback unless
//! told otherwise, and refuses any other address without a token. There is no TLS here; put a reverse proxy
//! in front to leave the box.

mod api;
mod gate_log;
mod guard;
mod known;
mod metrics;
pub mod model;
pub mod phone;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::message::{Ack, GateReport, StaffAnswer, topic};
use engine::store::StoreMap;
use engine::time::Millis;
use engine::units::MessageId;
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
use runtime::manifest::ConsoleSettings;
use runtime::outbox::ack_topic_of;
use runtime::watchdog::Watchdog;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use known::{Change, Known};

/// The name under which the console sends events and gets its acks.
const SOURCE: &str = "console";
/// Changes that a slow page may fall behind before it gets the whole picture again; 10 a second come from the
/// floor.
const CHANGES_MAX: usize = 64;
/// The loop that follows the bus comes round at least so often; its steps feed the service manager's watchdog, which
/// the unit sets to 30 s. Handlers share its thread, so that one that hangs is noticed too.
const STEP_MAX: Millis = Millis::from_seconds(5);
/// How long open pages may take to end once the console stops.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Why the console could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings would let anybody on the network decide reviews.
    #[error("listen address {0} is not loopback, so the console needs a token")]
    Unprotected(SocketAddr),
    /// The token is too short to mean anything.
    #[error("token has {0} characters, needs 16 or more")]
    WeakToken(usize),
    /// The address cannot be had.
    #[error("listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The manifest names an issuer key that is of no use.
    #[error("phone page")]
    Phone(#[source] phone::Error),
    /// The server broke.
    #[error("serve the console page")]
    Serve(#[source] std::io::Error),
}

/// What handlers and the bus loop share.
pub(crate) struct Shared {
    known: Mutex<Known>,
    changes: broadcast::Sender<Change>,
    bus: Bus,
    clock: Clock,
    address: SocketAddr,
    token: Option<String>,
    stop: watch::Receiver<bool>,
    ids_made: AtomicU64,
    wake: tokio::sync::Notify,
    /// Gives out demonstration passes, where the manifest names an issuer key.
    phone: Option<phone::Enrolment>,
}

/// A console that holds its address and is ready to run.
pub struct Console {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<String>,
    map: StoreMap,
    phone: Option<phone::Enrolment>,
}

impl Console {
    /// Takes the address.
    ///
    /// # Errors
    /// The address is not loopback and there is no token, the token is short, or the address cannot be had.
    pub async fn bind(settings: &ConsoleSettings, map: StoreMap) -> Result<Self, Error> {
        match &settings.token {
            None if !settings.listen.ip().is_loopback() => return Err(Error::Unprotected(settings.listen)),
            Some(token) if token.len() < 16 => return Err(Error::WeakToken(token.len())),
            None | Some(_) => {}
        }
        let phone =
            settings.phone_issuer.as_deref().map(phone::Enrolment::load).transpose().map_err(Error::Phone)?;
        let wrap = |source| Error::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(wrap)?;
        let address = listener.local_addr().map_err(wrap)?;
        Ok(Self { listener, address, token: settings.token.clone(), map, phone })
    }

    /// The address, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` becomes true.
    ///
    /// # Errors
    /// The server broke.
    pub async fn run(self, bus: Bus, clock: Clock, stop: watch::Receiver<bool>) -> Result<(), Error> {
        tracing::info!(address = %self.address, "console listens");
        let mut shared = Shared::new(self.map, bus, clock, self.address, self.token, stop.clone());
        shared.phone = self.phone;
        let shared = Arc::new(shared);
        let mut feed = Feed::new(&shared.bus);
        let mut closing = stop.clone();
        let server = axum::serve(self.listener, api::router(Arc::clone(&shared)))
            .with_graceful_shutdown(async move {
                // An error means that the sender is gone, which is also the end.
                let _ = closing.wait_for(|stop| *stop).await;
            })
            .into_future();
        let mut ending = stop;
        let limit = async move {
            let _ = ending.wait_for(|stop| *stop).await;
            tokio::time::sleep(CLOSE_WAIT).await;
        };
        tokio::select! {
            served = server => served.map_err(Error::Serve),
            () = feed.follow(&shared, Watchdog::from_environment()) => Ok(()),
            () = limit => Ok(()),
        }
    }
}

/// Binds and serves until `stop` becomes true.
///
/// # Errors
/// See [`Console::bind`] and [`Console::run`].
pub async fn run(
    settings: ConsoleSettings,
    map: StoreMap,
    bus: Bus,
    clock: Clock,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    Console::bind(&settings, map).await?.run(bus, clock, stop).await
}

impl Shared {
    fn new(
        map: StoreMap,
        bus: Bus,
        clock: Clock,
        address: SocketAddr,
        token: Option<String>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            known: Mutex::new(Known::new(map)),
            changes: broadcast::channel(CHANGES_MAX).0,
            // The start's time makes message numbers unique over restarts: fewer than 1000 a millisecond are made.
            ids_made: AtomicU64::new(clock.now().0.saturating_mul(1000)),
            bus,
            clock,
            address,
            token,
            stop,
            wake: tokio::sync::Notify::new(),
            phone: None,
        }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> model::Snapshot {
        let now = self.clock.now();
        self.known().snapshot(now, self.bus.connected())
    }

    /// Tells open pages; nobody may be there to hear it.
    pub(crate) fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    pub(crate) fn decide(&self, request: &model::DecisionRequest) -> Result<model::Decision, model::Problem> {
        let now = self.clock.now();
        let id = self.next_id();
        let mut known = self.known();
        let decision = known.check(id.clone(), request)?;
        let answer = model::Decision {
            id: id.0,
            event: decision.event.0.clone(),
            at: now.0,
            by: decision.by.clone(),
            stored: false,
        };
        known.decide(now, decision.clone());
        drop(known);
        tracing::info!(event = %decision.event, by = decision.by, "review decided");
        self.bus.publish(topic::REVIEW_DECISION, &decision);
        self.tell(Change::Decisions);
        self.wake.notify_one();
        Ok(answer)
    }

    pub(crate) fn order(
        &self,
        lane: &str,
        request: &model::OrderRequest,
    ) -> Result<model::GateEvent, model::Problem> {
        let now = self.clock.now();
        let mut known = self.known();
        let order = known.check_order(now, self.next_id(), lane, request)?;
        let event = known.gate_log.order(now, order.clone(), request.task);
        drop(known);
        tracing::info!(lane, task = ?order.task, by = order.by, reason = order.reason, "gate ordered");
        self.bus.publish(topic::GATE_ORDER, &order);
        self.tell(Change::GateEvents);
        self.wake.notify_one();
        Ok(event)
    }

    fn next_id(&self) -> MessageId {
        let number = self.ids_made.fetch_add(1, Ordering::Relaxed);
        MessageId(format!("{SOURCE}/{number}"))
    }

    /// Sends what nobody has answered again.
    fn repeat(&self) {
        let now = self.clock.now();
        let mut known = self.known();
        let (decisions, due) = (known.due(now), known.gate_log.due(now));
        drop(known);
        for decision in decisions {
            self.bus.publish(topic::REVIEW_DECISION, &decision);
        }
        for order in due.orders {
            self.bus.publish(topic::GATE_ORDER, &order);
        }
        if due.changed {
            self.tell(Change::GateEvents);
        }
    }

    fn take(&self, name: &str, payload: &[u8]) {
        let now = self.clock.now();
        let taken = self.known().take(now, name, payload);
        match taken {
            Ok(Some(change)) => self.tell(change),
            Ok(None) => {}
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "message left aside"),
        }
        if name == topic::STAFF_CALL
            && let Ok(call) = serde_json::from_slice::<engine::message::StaffCall>(payload)
            && let Some(state) = self.known().call_state(&call.id)
        {
            self.bus.publish(topic::STAFF_ANSWER, &StaffAnswer { call: call.id, state });
        }
        // A repeat too: the acknowledgement before may have been lost.
        if name == topic::GATE_REPORT
            && let Ok(report) = serde_json::from_slice::<GateReport>(payload)
        {
            self.bus.publish(&ack_topic_of(&report.id), &Ack { ids: vec![report.id] });
        }
    }
}

/// The topics that the console reads, each with its own queue: the floor's ten views a second push nothing
/// else out.
struct Feed {
    floor: Subscription,
    gates: Subscription,
    reports: Subscription,
    store: Subscription,
    receipts: Subscription,
    health: Subscription,
    calls: Subscription,
    acks: Subscription,
}

impl Feed {
    fn new(bus: &Bus) -> Self {
        Self {
            floor: bus.subscribe(topic::FLOOR_VIEW),
            gates: bus.subscribe(&format!("{}/+", topic::GATE_VIEW)),
            reports: bus.subscribe(topic::GATE_REPORT),
            store: bus.subscribe(topic::STORE_VIEW),
            receipts: bus.subscribe(topic::RECEIPT),
            health: bus.subscribe(&format!("{}/#", topic::HEALTH)),
            calls: bus.subscribe(topic::STAFF_CALL),
            acks: bus.subscribe(&format!("{}/{SOURCE}", topic::ACK)),
        }
    }

    async fn follow(&mut self, shared: &Shared, mut watchdog: Watchdog) {
        watchdog.ready();
        loop {
            watchdog.step_done();
            let around = shared.clock.now().after(STEP_MAX);
            let deadline = Some(shared.known().deadline().map_or(around, |deadline| deadline.min(around)));
            let message = tokio::select! {
                message = self.calls.recv() => message,
                message = self.gates.recv() => message,
                message = self.reports.recv() => message,
                message = self.store.recv() => message,
                message = self.receipts.recv() => message,
                message = self.health.recv() => message,
                message = self.acks.recv() => message,
                message = self.floor.recv() => message,
                () = shared.wake.notified() => continue,
                () = shared.clock.until(deadline) => {
                    shared.repeat();
                    continue;
                }
            };
            shared.take(&message.topic, &message.payload);
        }
    }
}

#[cfg(test)]
mod tests;
