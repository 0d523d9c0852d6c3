//! Prometheus text, made afresh from what is known at each scrape.

use std::sync::atomic::AtomicU64;

use engine::time::Instant;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::known::Known;

type Labels = Vec<(String, String)>;
type Float = Gauge<f64, AtomicU64>;

/// The metrics page.
///
/// # Errors
/// The text could not be written (never, into a string).
pub fn text(known: &Known, now: Instant, bus: bool) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("stile");
    let numbers = known.numbers(now, bus);
    gate(known, &mut registry);

    gauge(&mut registry, "people", "People followed on the floor", numbers.people);
    let sessions = Family::<Labels, Gauge>::default();
    for (state, count) in known.session_counts() {
        sessions.get_or_create(&labels(&[("state", &state)])).set(count as i64);
    }
    registry.register("sessions", "Visits by state", sessions);
    counter(&mut registry, "sessions_settled", "Visits settled since the ledger began", numbers.settled);
    counter(&mut registry, "receipts", "Receipts seen since the console started", numbers.receipts);
    gauge(&mut registry, "reviews_open", "Shelf events that wait for a person", numbers.reviews);
    gauge(&mut registry, "staff_calls_open", "Staff calls not closed", numbers.calls);
    let waiting = known.decisions().iter().filter(|decision| !decision.stored).count();
    gauge(&mut registry, "decisions_unstored", "Decisions that cartd has not stored yet", waiting);
    gauge(&mut registry, "bus_connected", "1 when the bus is connected", usize::from(bus));

    let health = Family::<Labels, Float>::default();
    for device in known.health() {
        let value = match device.state.as_str() {
            "up" => 1.0,
            "degraded" => 0.5,
            _ => 0.0,
        };
        let labels = labels(&[("service", &device.service), ("device", &device.device)]);
        health.get_or_create(&labels).set(value);
    }
    registry.register("device_health", "1 up, 0.5 degraded, 0 down", health);

    let mut page = String::new();
    encode(&mut page, &registry)?;
    Ok(page)
}

fn gate(known: &Known, registry: &mut Registry) {
    let passages = Family::<Labels, Counter>::default();
    let unlocks = Family::<Labels, Counter>::default();
    let denials = Family::<Labels, Counter>::default();
    let status = Family::<Labels, Gauge>::default();
    let latency = Family::<Labels, Float>::default();
    for lane in known.lanes() {
        let name = lane.lane.as_str();
        let entries = labels(&[("lane", name), ("direction", "entry")]);
        passages.get_or_create(&entries).inc_by(lane.entries);
        let exits = labels(&[("lane", name), ("direction", "exit")]);
        passages.get_or_create(&exits).inc_by(lane.exits);
        unlocks.get_or_create(&labels(&[("lane", name)])).inc_by(lane.unlocks);
        denials.get_or_create(&labels(&[("lane", name)])).inc_by(lane.denials);
        for state in ["closed", "open", "blocked", "malfunction"] {
            let labels = labels(&[("lane", name), ("status", state)]);
            status.get_or_create(&labels).set(i64::from(lane.status == state));
        }
        for (quantile, value) in [("0.5", lane.latency_p50_ms), ("0.99", lane.latency_p99_ms)] {
            if let Some(ms) = value {
                latency.get_or_create(&labels(&[("lane", name), ("quantile", quantile)])).set(ms / 1000.0);
            }
        }
    }
    let incidents = Family::<Labels, Counter>::default();
    for ((lane, kind), count) in known.gate_log.incidents() {
        incidents.get_or_create(&labels(&[("lane", &lane.0), ("kind", kind)])).inc_by(*count);
    }
    registry.register("gate_incidents", "Incidents at a lane since the console started", incidents);
    registry.register("gate_passages", "People through a lane since gated started", passages);
    registry.register("gate_unlocks", "Unlocks since gated started", unlocks);
    registry.register("gate_denials", "Refusals since gated started", denials);
    registry.register("gate_status", "1 for the lane's UnifiedPOS gate status", status);
    registry.register("gate_latency_seconds", "Reader report to unlock line, newest entries", latency);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
