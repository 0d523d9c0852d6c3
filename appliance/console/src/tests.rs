//! The router in process: bus messages in, requests in, answers out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use engine::message::{
    Ack, Authority, Candidate, CartLine, DenyReason, Direction, GateFact, GateModes, GateOrder, GateOutcome,
    GateReport, GateStatus, GateTask, GateView, Health, HealthState, Incident, Notice, OrderRefusal, Receipt,
    ReceiptLine, Review, ReviewDecision, SessionState, SessionView, StaffAnswer, StaffCall, StaffCallState,
    StoreView, Witness, topic,
};
use engine::store::{Product, StoreMap};
use engine::time::Instant;
use engine::units::{Currency, Mass, MemberHandle, MessageId, Money, PlateId};
use http_body_util::BodyExt;
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
use runtime::watchdog::Watchdog;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::{Shared, api};

const START: Instant = Instant(1_790_000_000_000);

struct Bench {
    shared: Arc<Shared>,
    bus: Bus,
    _stop: watch::Sender<bool>,
}

fn map() -> StoreMap {
    let product = |id: &str, ko: &str, en: &str, price| Product {
        id: id.into(),
        names: [("ko".to_owned(), ko.to_owned()), ("en".to_owned(), en.to_owned())].into(),
        price: Money { minor: price, currency: Currency::KRW },
        mass: Mass(5000),
        mass_sd: Mass(10),
    };
    StoreMap {
        name: "Test".to_owned(),
        bounds: [0.0, 0.0, 8.0, 6.0],
        gondolas: Vec::new(),
        lanes: Vec::new(),
        cameras: Vec::new(),
        plates: Vec::new(),
        products: vec![product("8801", "우유", "Milk", 2800), product("8802", "빵", "Bread", 3500)],
        facings: Vec::new(),
    }
}

fn review() -> Review {
    Review {
        event: "cartd/7".into(),
        at: START,
        plates: vec![PlateId { gondola: 1, shelf: 2, plate: 3 }],
        delta: Mass(-5000),
        candidates: vec![Candidate {
            session: Some("s-1".into()),
            items: vec![("8801".into(), 1)],
            probability: 0.6,
        }],
    }
}

fn store_view() -> StoreView {
    StoreView {
        at: START,
        sessions: vec![SessionView {
            session: "s-1".into(),
            tracks: Vec::new(),
            state: SessionState::Shopping,
            entered: START,
            lines: vec![CartLine {
                product: "8801".into(),
                quantity: 2,
                confidence: 0.97,
                evidence: vec!["cartd/3".into()],
            }],
        }],
        reviews: vec![review()],
        settled: 4,
        ..StoreView::default()
    }
}

fn gate() -> GateView {
    GateView {
        lane: "entry-1".into(),
        at: START,
        status: GateStatus::Closed,
        notice: Notice::Refused { reason: DenyReason::Stale },
        modes: GateModes::default(),
        unlocks: 3,
        entries: 2,
        exits: 1,
        denials: 5,
        latency_us: vec![900, 1000, 2000],
    }
}

fn report(number: u64, fact: GateFact) -> GateReport {
    let id = MessageId(format!("gated.7/{number}"));
    GateReport { id, lane: "entry-1".into(), at: Instant(START.0 + number), fact }
}

impl Bench {
    fn new(token: Option<&str>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let bus = Bus::local();
        let address = SocketAddr::from(([127, 0, 0, 1], 8480));
        let clock = Clock::starting_at(START);
        let token = token.map(ToOwned::to_owned);
        let shared = Arc::new(Shared::new(map(), bus.clone(), clock, address, token, stopped));
        Self { shared, bus, _stop: stop }
    }

    fn hear<T: Serialize>(&self, topic: &str, value: &T) {
        self.shared.take(topic, &serde_json::to_vec(value).unwrap());
    }

    async fn ask(&self, request: Request<Body>) -> (StatusCode, String) {
        let answer = api::router(Arc::clone(&self.shared)).oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", "localhost:8480").body(Body::empty()).unwrap();
        self.ask(request).await
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (StatusCode, Value) {
        let mut request = Request::post(path).header("host", "localhost:8480");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (status, body) = self.ask(request.body(Body::from(body.to_owned())).unwrap()).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }
}

fn decision() -> Value {
    let items = json!([{"product": "8801", "count": 1}]);
    json!({"event": "cartd/7", "session": "s-1", "items": items, "by": "kim"})
}

async fn soon(subscription: &mut Subscription) -> runtime::bus::Message {
    tokio::time::timeout(std::time::Duration::from_secs(30), subscription.recv()).await.expect("a message")
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn heard<T: serde::de::DeserializeOwned>(subscription: &mut Subscription) -> Vec<T> {
    std::iter::from_fn(|| subscription.try_recv()).map(|message| message.parse().unwrap()).collect()
}

#[tokio::test]
async fn bus_messages_show_in_the_api() {
    let bench = Bench::new(None);
    bench.hear(topic::STORE_VIEW, &store_view());
    bench.hear(&format!("{}/entry-1", topic::GATE_VIEW), &gate());
    let health = Health {
        service: "visiond".into(),
        device: "camera-1".into(),
        state: HealthState::Down,
        since: START,
        detail: "no frame for 3 s".into(),
    };
    bench.hear(&format!("{}/visiond/camera-1", topic::HEALTH), &health);
    let receipt = Receipt {
        id: "cartd/9".into(),
        session: "s-0".into(),
        member: Some(MemberHandle(7)),
        entered: START,
        left: START,
        settled: START,
        lines: vec![ReceiptLine {
            product: "8802".into(),
            quantity: 1,
            price: Money { minor: 3500, currency: Currency::KRW },
            confidence: 0.99,
            evidence: Vec::new(),
        }],
        total: Money { minor: 3500, currency: Currency::KRW },
    };
    bench.hear(topic::RECEIPT, &receipt);
    bench.hear(topic::RECEIPT, &receipt);

    let snapshot = bench.json("/api/v1/snapshot").await;
    assert_eq!(snapshot["sessions"][0]["lines"][0]["names"]["ko"], "우유");
    assert_eq!(snapshot["sessions"][0]["total"], 5600);
    assert_eq!(snapshot["lanes"][0]["reason"], "stale");
    assert_eq!(snapshot["lanes"][0]["latency_p50_ms"], 1.0);
    assert_eq!(snapshot["lanes"][0]["modes"]["entry"], "group");
    assert_eq!(snapshot["lanes"][0]["modes"]["service"], "shopping");
    assert_eq!(snapshot["numbers"]["receipts"], 1, "a repeated receipt counts once");
    assert_eq!(snapshot["numbers"]["takings"], 3500);
    assert_eq!(bench.json("/api/v1/health").await[0]["detail"], "no frame for 3 s");
    assert_eq!(bench.json("/api/v1/receipts?limit=1").await[0]["id"], "cartd/9");

    let (_, metrics) = bench.get("/metrics").await;
    for line in [
        "stile_gate_denials_total{lane=\"entry-1\"} 5",
        "stile_gate_status{lane=\"entry-1\",status=\"closed\"} 1",
        "stile_sessions{state=\"shopping\"} 1",
        "stile_sessions_settled_total 4",
        "stile_device_health{service=\"visiond\",device=\"camera-1\"} 0.0",
        "stile_reviews_open 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
}

#[tokio::test]
async fn a_decision_is_repeated_until_it_is_stored() {
    let bench = Bench::new(None);
    let mut decisions = bench.bus.subscribe(topic::REVIEW_DECISION);
    bench.hear(topic::STORE_VIEW, &store_view());
    let body = decision();
    let (status, answer) = bench.post("/api/v1/decisions", &[JSON], &body.to_string()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let sent: Vec<ReviewDecision> = heard(&mut decisions);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].event.0.as_str(), sent[0].by.as_str()), ("cartd/7", "kim"));

    let (status, again) = bench.post("/api/v1/decisions", &[JSON], &body.to_string()).await;
    assert_eq!((status, again["field"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("event")));

    let deadline = bench.shared.known().deadline().unwrap();
    assert_eq!(bench.shared.known().due(deadline), sent, "repeated with the same id");
    bench.hear(&format!("{}/console", topic::ACK), &Ack { ids: vec![sent[0].id.clone()] });
    assert_eq!(bench.shared.known().deadline(), None);
    assert_eq!(bench.json("/api/v1/decisions").await[0]["stored"], true);
}

#[tokio::test]
async fn a_gate_report_shows_once_and_each_repeat_is_acknowledged() {
    let bench = Bench::new(None);
    let mut acks = bench.bus.subscribe(&format!("{}/gated", topic::ACK));
    let tailgating =
        Incident::Tailgating { passage: 4, member: Some(MemberHandle(7)), by: Witness::Floor, people: 1 };
    let reports = [
        report(1, GateFact::Incident { incident: tailgating }),
        report(2, GateFact::WalkedBack { entry: 4, exit: 5, authority: Authority::Free }),
        report(3, GateFact::Incident { incident: Incident::Tamper { open: true } }),
        report(4, GateFact::Incident { incident: Incident::Tamper { open: false } }),
    ];
    for report in reports.iter().chain(&reports) {
        bench.hear(topic::GATE_REPORT, report);
    }
    let acked: Vec<String> =
        heard::<Ack>(&mut acks).into_iter().flat_map(|ack| ack.ids).map(|id| id.0).collect();
    let once = ["gated.7/1", "gated.7/2", "gated.7/3", "gated.7/4"];
    assert_eq!(acked, [once, once].concat());

    let events = bench.json("/api/v1/snapshot").await["gate_events"].clone();
    let shown: Vec<(&str, bool)> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["kind"].as_str().unwrap(), event["incident"] == true))
        .collect();
    assert_eq!(shown, [("tamper", false), ("tamper", true), ("walked_back", false), ("tailgating", true)]);
    assert_eq!((events[3]["witness"].as_str(), events[3]["people"].as_u64()), (Some("floor"), Some(1)));
    let (_, metrics) = bench.get("/metrics").await;
    for kind in ["tailgating", "tamper"] {
        let line = format!("stile_gate_incidents_total{{lane=\"entry-1\",kind=\"{kind}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }

    for number in 10..160 {
        let incident = Incident::Forced { passage: number };
        bench.hear(topic::GATE_REPORT, &report(number, GateFact::Incident { incident }));
    }
    let events = bench.json("/api/v1/gate-events").await;
    assert_eq!(events.as_array().unwrap().len(), 100);
    assert_eq!((events[0]["passage"].as_u64(), events[99]["passage"].as_u64()), (Some(159), Some(60)));
}

fn open_entry() -> Value {
    json!({"task": {"kind": "open", "direction": "entry"}, "by": "kim", "reason": "delivery"})
}

const ENTRY_ORDERS: &str = "/api/v1/lanes/entry-1/orders";

#[tokio::test]
async fn an_order_needs_the_token_and_is_repeated_until_its_outcome() {
    let bench = Bench::new(Some("a-token-of-16-or-more"));
    let mut orders = bench.bus.subscribe(topic::GATE_ORDER);
    bench.hear(&format!("{}/entry-1", topic::GATE_VIEW), &gate());
    let body = open_entry().to_string();
    let (status, _) = bench.post(ENTRY_ORDERS, &[JSON], &body).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(heard::<GateOrder>(&mut orders), []);
    assert_eq!(bench.json("/api/v1/gate-events").await, json!([]));

    let right = ("authorization", "Bearer a-token-of-16-or-more");
    let (status, answer) = bench.post(ENTRY_ORDERS, &[JSON, right], &body).await;
    assert_eq!((status, answer["outcome"].as_str()), (StatusCode::ACCEPTED, Some("waiting")), "{answer}");
    let sent: Vec<GateOrder> = heard(&mut orders);
    assert_eq!(sent.len(), 1);
    assert_eq!(answer["id"], sent[0].id.0);
    assert_eq!(sent[0].task, GateTask::Open { direction: Direction::Entry, wide: false });
    assert_eq!((sent[0].lane.0.as_str(), sent[0].by.as_str()), ("entry-1", "kim"));
    assert_eq!(sent[0].reason, "delivery");

    let deadline = bench.shared.known().deadline().unwrap();
    assert!(deadline < sent[0].expires);
    assert_eq!(bench.shared.known().gate_log.due(deadline).orders, sent, "repeated as it was");
    let order = sent[0].id.clone();
    let done = GateFact::Ordered { order: order.clone(), outcome: GateOutcome::Done };
    // The gate answers each repeat.
    bench.hear(topic::GATE_REPORT, &report(1, done.clone()));
    bench.hear(topic::GATE_REPORT, &report(2, done));
    assert_eq!(bench.shared.known().deadline(), None, "repeated no more");
    let events = bench.json("/api/v1/gate-events").await;
    assert_eq!(events.as_array().unwrap().len(), 1);
    assert_eq!((events[0]["id"].as_str(), events[0]["outcome"].as_str()), (Some(&*order.0), Some("done")));
    assert_eq!(events[0]["task"], json!({"kind": "open", "direction": "entry", "wide": false}));
}

#[tokio::test]
async fn an_order_that_nobody_answers_expires_and_a_refusal_says_why() {
    let bench = Bench::new(None);
    let mut orders = bench.bus.subscribe(topic::GATE_ORDER);
    bench.hear(&format!("{}/entry-1", topic::GATE_VIEW), &gate());
    for _ in 0..2 {
        let (status, answer) = bench.post(ENTRY_ORDERS, &[JSON], &open_entry().to_string()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }
    let sent: Vec<GateOrder> = heard(&mut orders);
    let refused = GateOutcome::Refused { reason: OrderRefusal::LaneBusy };
    let fact = |index: usize| GateFact::Ordered { order: sent[index].id.clone(), outcome: refused };
    bench.hear(topic::GATE_REPORT, &report(1, fact(0)));
    let outcomes = async || {
        let events = bench.json("/api/v1/gate-events").await;
        let of = |id: &MessageId| {
            events.as_array().unwrap().iter().find(|event| event["id"] == id.0).unwrap().clone()
        };
        sent.iter().map(|order| of(&order.id)).collect::<Vec<Value>>()
    };
    let events = outcomes().await;
    assert_eq!((&events[0]["outcome"], &events[0]["refusal"]), (&json!("refused"), &json!("lane_busy")));

    let mut now = START;
    let mut repeats = 0;
    loop {
        let Some(deadline) = bench.shared.known().deadline() else { break };
        assert!(deadline > now, "time goes on");
        now = deadline;
        repeats += bench.shared.known().gate_log.due(now).orders.len();
    }
    assert_eq!((now, repeats), (sent[1].expires, 9));
    assert_eq!(outcomes().await[1]["outcome"], "unanswered");
    bench.hear(topic::GATE_REPORT, &report(2, fact(1)));
    assert_eq!(outcomes().await[1]["outcome"], "refused", "a late answer is still news");
}

#[tokio::test(start_paused = true)]
async fn the_running_console_acknowledges_reports_and_repeats_orders() {
    let bench = Bench::new(None);
    let mut acks = bench.bus.subscribe(&format!("{}/gated", topic::ACK));
    let mut orders = bench.bus.subscribe(topic::GATE_ORDER);
    bench.hear(&format!("{}/entry-1", topic::GATE_VIEW), &gate());
    let mut feed = crate::Feed::new(&bench.bus);
    let shared = Arc::clone(&bench.shared);
    let running = tokio::spawn(async move { feed.follow(&shared, Watchdog::from_environment()).await });
    let forced = GateFact::Incident { incident: Incident::Forced { passage: 1 } };
    bench.bus.publish(topic::GATE_REPORT, &report(1, forced));
    let ack: Ack = soon(&mut acks).await.parse().unwrap();
    assert_eq!(ack.ids, ["gated.7/1".into()]);

    let (status, _) = bench.post(ENTRY_ORDERS, &[JSON], &open_entry().to_string()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let first: GateOrder = soon(&mut orders).await.parse().unwrap();
    let again: GateOrder = soon(&mut orders).await.parse().unwrap();
    assert_eq!(again, first);
    let done = GateFact::Ordered { order: first.id, outcome: GateOutcome::Done };
    bench.bus.publish(topic::GATE_REPORT, &report(2, done));
    soon(&mut acks).await;
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert_eq!(heard::<GateOrder>(&mut orders), [], "answered, so not repeated");

    let (status, _) = bench.post(ENTRY_ORDERS, &[JSON], &open_entry().to_string()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert_eq!(heard::<GateOrder>(&mut orders).len(), 10, "each second until it expires");
    let outcome = bench.json("/api/v1/gate-events").await[0]["outcome"].clone();
    assert_eq!(outcome, "unanswered");
    running.abort();
}

#[tokio::test]
async fn a_bad_order_names_its_field() {
    let bench = Bench::new(None);
    let mut orders = bench.bus.subscribe(topic::GATE_ORDER);
    bench.hear(&format!("{}/entry-1", topic::GATE_VIEW), &gate());
    let with = |key: &str, value: Value| {
        let mut body = open_entry();
        body[key] = value;
        body.to_string()
    };
    let table = [
        (ENTRY_ORDERS, "nonsense".to_owned(), "body"),
        (ENTRY_ORDERS, with("by", json!(" ")), "by"),
        (ENTRY_ORDERS, with("reason", json!("")), "reason"),
        (ENTRY_ORDERS, with("reason", json!("x".repeat(201))), "reason"),
        (ENTRY_ORDERS, with("colour", json!("red")), "colour"),
        (ENTRY_ORDERS, with("task", json!({"kind": "explode"})), "task.kind"),
        (ENTRY_ORDERS, with("task", json!({"kind": "open", "direction": "up"})), "task"),
        (ENTRY_ORDERS, with("task", json!({"kind": "set_service", "service": "staff", "x": 1})), "task"),
        ("/api/v1/lanes/entry-9/orders", open_entry().to_string(), "lane"),
    ];
    for (path, body, field) in table {
        let (status, answer) = bench.post(path, &[JSON], &body).await;
        assert_eq!((status, &answer["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)), "{body}");
    }
    assert_eq!(heard::<GateOrder>(&mut orders), []);
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(bench.post(ENTRY_ORDERS, &[JSON], &open_entry().to_string()).await.0);
    }
    let taken = answers.iter().filter(|status| **status == StatusCode::ACCEPTED).count();
    assert_eq!((taken, answers[39]), (32, StatusCode::UNPROCESSABLE_ENTITY));
}

#[tokio::test]
async fn bad_bodies_name_their_field() {
    let bench = Bench::new(None);
    bench.hear(topic::STORE_VIEW, &store_view());
    let good = decision();
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body.to_string()
    };
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("by");
    let table = [
        ("nonsense".to_owned(), "body"),
        (String::new(), "body"),
        (format!("{good} trailing"), "body"),
        (without.to_string(), "by"),
        (with("colour", json!("red")), "colour"),
        (with("by", json!(7)), "by"),
        (with("by", json!("  ")), "by"),
        (with("event", json!("cartd/8")), "event"),
        (with("session", json!("s-99")), "session"),
        (with("items", json!([{"product": "8801", "count": 0}])), "items[0].count"),
        (with("items", json!([{"product": "8801", "count": "one"}])), "items[0].count"),
        (with("items", json!([{"product": "x", "count": 1}])), "items[0].product"),
    ];
    for (body, field) in table {
        let (status, answer) = bench.post("/api/v1/decisions", &[JSON], &body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer["field"], field, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(field), "{body}: {answer}");
    }
    let (status, answer) = bench.get("/api/v1/receipts?limit=many").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer.contains("\"field\":\"limit\""), "{answer}");
    let (status, answer) = bench.get("/api/v1/nothing").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(answer.contains("error"), "{answer}");
    let large = format!("{{\"by\":\"{}\"}}", "x".repeat(20_000));
    assert_eq!(bench.post("/api/v1/decisions", &[JSON], &large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn foreign_pages_may_neither_change_nor_read() {
    let bench = Bench::new(Some("a-token-of-16-or-more"));
    bench.hear(topic::STORE_VIEW, &store_view());
    let body = json!({"event": "cartd/7", "by": "kim"}).to_string();
    let right = ("authorization", "Bearer a-token-of-16-or-more");
    let table: [(&[(&str, &str)], StatusCode); 7] = [
        (&[JSON], StatusCode::UNAUTHORIZED),
        (&[JSON, ("authorization", "Bearer a-token-of-16-or-mora")], StatusCode::UNAUTHORIZED),
        (&[right, ("content-type", "text/plain")], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (&[right, JSON, ("origin", "http://evil.example")], StatusCode::FORBIDDEN),
        (&[right, JSON, ("origin", "null")], StatusCode::FORBIDDEN),
        (&[right, JSON, ("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN),
        (&[right, JSON, ("origin", "http://localhost:8480")], StatusCode::ACCEPTED),
    ];
    for (headers, expected) in table {
        let (status, answer) = bench.post("/api/v1/decisions", headers, &body).await;
        assert_eq!(status, expected, "{headers:?}: {answer}");
    }
    let rebound =
        Request::get("/api/v1/snapshot").header("host", "evil.example").body(Body::empty()).unwrap();
    assert_eq!(bench.ask(rebound).await.0, StatusCode::FORBIDDEN);
    let bare = Request::get("/api/v1/snapshot").body(Body::empty()).unwrap();
    assert_eq!(bench.ask(bare).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_staff_call_is_answered_step_by_step() {
    let bench = Bench::new(None);
    let mut answers = bench.bus.subscribe(topic::STAFF_ANSWER);
    let call = StaffCall { id: "kiosk-1/5".into(), from: "kiosk-1".into(), at: START };
    bench.hear(topic::STAFF_CALL, &call);
    let body = json!({"call": "kiosk-1/5", "state": "coming"}).to_string();
    let (status, answer) = bench.post("/api/v1/staff-calls", &[JSON], &body).await;
    assert_eq!((status, answer[0]["state"].as_str()), (StatusCode::OK, Some("coming")));
    bench.hear(topic::STAFF_CALL, &call);
    let states: Vec<StaffCallState> =
        heard::<StaffAnswer>(&mut answers).into_iter().map(|answer| answer.state).collect();
    assert_eq!(states, [StaffCallState::Sent, StaffCallState::Coming, StaffCallState::Coming]);
    let body = json!({"call": "kiosk-1/6", "state": "seen"}).to_string();
    let (status, answer) = bench.post("/api/v1/staff-calls", &[JSON], &body).await;
    assert_eq!((status, answer["field"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("call")));
}

#[tokio::test]
async fn the_openapi_document_lists_every_route() {
    let bench = Bench::new(None);
    let document = bench.json("/openapi.json").await;
    let mut listed = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            listed.push(format!("{method} {path}"));
        }
    }
    let expected = [
        "get /api/v1/decisions",
        "post /api/v1/decisions",
        "get /api/v1/events",
        "get /api/v1/floor",
        "get /api/v1/gate-events",
        "get /api/v1/health",
        "get /api/v1/lanes",
        "post /api/v1/lanes/{lane}/orders",
        "get /api/v1/receipts",
        "get /api/v1/reviews",
        "get /api/v1/sessions",
        "get /api/v1/snapshot",
        "get /api/v1/staff-calls",
        "post /api/v1/staff-calls",
        "get /healthz",
        "get /metrics",
        "get /openapi.json",
        "get /phone/status",
        "post /phone/enrol",
    ];
    listed.sort();
    let mut expected: Vec<String> = expected.map(ToOwned::to_owned).to_vec();
    expected.sort();
    assert_eq!(listed, expected);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in [
        "Snapshot",
        "DecisionRequest",
        "GateEvent",
        "OrderRequest",
        "OrderTask",
        "Problem",
        "Candidate",
        "Line",
    ] {
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        if path.ends_with("events") || methods.get("get").is_none() {
            continue;
        }
        assert_eq!(bench.get(path).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_page_and_its_event_stream_are_there() {
    let bench = Bench::new(None);
    for (path, part) in [
        ("/", "<title>Stile"),
        ("/style.css", "--brand"),
        ("/words.js", "WORDS"),
        ("/page.js", "EventSource"),
    ] {
        let (status, body) = bench.get(path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains(part), "{path}");
    }
    let request = Request::get("/api/v1/events").header("host", "localhost").body(Body::empty()).unwrap();
    let answer = api::router(Arc::clone(&bench.shared)).oneshot(request).await.unwrap();
    let mut body = answer.into_body();
    let mut next = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    assert!(next().await.starts_with("event: snapshot\n"));
    bench.hear(topic::STORE_VIEW, &store_view());
    for name in ["sessions", "reviews", "numbers"] {
        let event = next().await;
        assert!(event.starts_with(&format!("event: {name}\n")), "{event}");
    }
    let forced = GateFact::Incident { incident: Incident::Forced { passage: 1 } };
    bench.hear(topic::GATE_REPORT, &report(1, forced));
    let event = next().await;
    assert!(event.starts_with("event: gate_events\ndata: [{") && event.contains("forced"), "{event}");
}

#[tokio::test]
async fn any_bytes_on_any_topic_are_survived() {
    let bench = Bench::new(None);
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let names = [
        topic::FLOOR_VIEW,
        topic::STORE_VIEW,
        "stile/gate/view/x",
        topic::RECEIPT,
        topic::GATE_REPORT,
        "stile/health/a/b",
        topic::STAFF_CALL,
        "stile/ack/console",
        "stile/other",
    ];
    let whole = serde_json::to_vec(&store_view()).unwrap();
    for round in 0..2000 {
        let mut bytes = whole[..random() as usize % whole.len()].to_vec();
        if round % 2 == 0
            && let Some(byte) = bytes.first_mut()
        {
            *byte = random() as u8;
        }
        for name in names {
            bench.shared.take(name, &bytes);
        }
    }
    assert_eq!(bench.get("/api/v1/snapshot").await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_open_address_needs_a_token() {
    let settings = |listen: &str, token: Option<&str>| runtime::manifest::ConsoleSettings {
        listen: listen.parse().unwrap(),
        token: token.map(ToOwned::to_owned),
        ..Default::default()
    };
    let open = crate::Console::bind(&settings("0.0.0.0:0", None), map()).await;
    assert!(matches!(open, Err(crate::Error::Unprotected(_))));
    let weak = crate::Console::bind(&settings("127.0.0.1:0", Some("short")), map()).await;
    assert!(matches!(weak, Err(crate::Error::WeakToken(5))));
    let console = crate::Console::bind(&settings("127.0.0.1:0", None), map()).await.unwrap();
    assert_ne!(console.address().port(), 0);
    let (stop, stopped) = watch::channel(true);
    console.run(Bus::local(), Clock::starting_at(START), stopped).await.unwrap();
    drop(stop);
}

#[test]
fn message_ids_of_decisions_have_the_ack_sender_in_front() {
    let id = MessageId(format!("{}/1", crate::SOURCE));
    assert_eq!(runtime::outbox::ack_topic_of(&id), format!("{}/{}", topic::ACK, crate::SOURCE));
}
