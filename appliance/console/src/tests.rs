//! The router in process: bus messages in, requests in, answers out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use engine::message::{
    Ack, Candidate, CartLine, DenyReason, GateModes, GateStatus, GateView, Health, HealthState, Notice,
    Receipt, ReceiptLine, Review, ReviewDecision, SessionState, SessionView, StaffAnswer, StaffCall,
    StaffCallState, StoreView, topic,
};
use engine::store::{Product, StoreMap};
use engine::time::Instant;
use engine::units::{Currency, Mass, MemberHandle, MessageId, Money, PlateId};
use http_body_util::BodyExt;
use runtime::bus::{Bus, Subscription};
use runtime::clock::Clock;
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

const JSON: (&str, &str) = ("content-type", "application/json");

fn heard<T: serde::de::DeserializeOwned>(subscription: &mut Subscription) -> Vec<T> {
    std::iter::from_fn(|| subscription.try_recv()).map(|message| message.parse().unwrap()).collect()
}

#[tokio::test]
async fn bus_messages_show_in_the_api() {
    let bench = Bench::new(None);
    bench.hear(topic::STORE_VIEW, &store_view());
    let gate = GateView {
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
    };
    bench.hear(&format!("{}/entry-1", topic::GATE_VIEW), &gate);
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
        "get /api/v1/health",
        "get /api/v1/lanes",
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
    for name in ["Snapshot", "DecisionRequest", "Problem", "Candidate", "Line"] {
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
