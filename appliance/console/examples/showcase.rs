//! Serves the staff page with a made-up, moving store, to look at while working on the page.

use std::f64::consts::TAU;

use engine::floor::camera::CameraModel;
use engine::message::{
    Candidate, CartLine, DenyReason, FloorView, GateFact, GateModes, GateOrder, GateOutcome, GateReport,
    GateStatus, GateView, Hand, Health, HealthState, Incident, Notice, Person, Receipt, ReceiptLine, Review,
    SessionState, SessionView, StaffCall, StoreView, Witness, topic,
};
use engine::store::{Camera, Gondola, Lane, Product, StoreMap};
use engine::units::{CameraId, Currency, Mass, MemberHandle, MessageId, Money, PlateId, TrackId};
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::manifest::ConsoleSettings;

const PRODUCTS: [(&str, &str, &str, i64); 7] = [
    ("8801115114154", "서울우유 1L", "Seoul milk 1 l", 2980),
    ("8801043014809", "신라면 큰컵", "Shin ramyun big cup", 1500),
    ("8801062628476", "빼빼로 오리지널", "Pepero original", 1700),
    ("8801056038670", "칠성사이다 500ml", "Chilsung cider 500 ml", 2000),
    ("8801019606557", "홈런볼 초코", "Homerun ball choco", 1900),
    ("8801094017200", "삼각김밥 참치마요", "Rice triangle, tuna mayonnaise", 1400),
    ("2000000000015", "바나나 한 송이", "Bananas, one bunch", 4980),
];

fn won(minor: i64) -> Money {
    Money { minor, currency: Currency::KRW }
}

fn map() -> StoreMap {
    let gondola = |id: u16, x: f64, y: f64, w: f64, h: f64| Gondola {
        id,
        footprint: [x, y, x + w, y + h],
        height: 1.6,
    };
    let camera = |id: u16, x: f64, y: f64| {
        let model = CameraModel::looking_at([320, 192], 1.9, [x, y, 3.0], [x, y, 0.0], [0.0, 1.0, 0.0]);
        Camera { id: CameraId(id), model }
    };
    let lane = |id: &str, x: f64, entry| Lane {
        id: id.into(),
        position: [x, 0.0],
        inward: [0.0, 1.0],
        entry,
        exit: !entry,
    };
    StoreMap {
        name: "Stile Showcase, Seongsu".to_owned(),
        bounds: [0.0, 0.0, 12.0, 8.0],
        gondolas: vec![
            gondola(1, 0.0, 7.3, 5.2, 0.7),
            gondola(2, 6.2, 7.3, 5.8, 0.7),
            gondola(3, 1.6, 3.0, 0.9, 3.0),
            gondola(4, 4.4, 3.0, 0.9, 3.0),
            gondola(5, 7.2, 3.0, 0.9, 3.0),
            gondola(6, 11.3, 1.6, 0.7, 4.6),
        ],
        lanes: vec![lane("entry-1", 2.0, true), lane("entry-2", 3.6, true), lane("exit-1", 9.0, false)],
        cameras: vec![
            camera(1, 1.5, 1.6),
            camera(2, 4.5, 1.6),
            camera(3, 7.5, 1.6),
            camera(4, 10.2, 1.6),
            camera(5, 0.9, 6.6),
            camera(6, 3.5, 6.6),
            camera(7, 6.3, 6.6),
            camera(8, 9.8, 6.6),
        ],
        plates: Vec::new(),
        products: PRODUCTS
            .iter()
            .map(|(id, ko, en, price)| Product {
                id: (*id).into(),
                names: [("ko".to_owned(), (*ko).to_owned()), ("en".to_owned(), (*en).to_owned())].into(),
                price: won(*price),
                mass: Mass(5000),
                mass_sd: Mass(20),
            })
            .collect(),
        facings: Vec::new(),
    }
}

fn line(product: usize, quantity: u32, confidence: f64) -> CartLine {
    CartLine { product: PRODUCTS[product].0.into(), quantity, confidence, evidence: vec!["cartd/14".into()] }
}

fn store_view(now: engine::time::Instant) -> StoreView {
    let ago = |seconds: u64| engine::time::Instant(now.0 - seconds * 1000);
    let session = |id: &str, tracks: &[u64], state, entered, lines| SessionView {
        session: id.into(),
        tracks: tracks.iter().map(|track| TrackId(*track)).collect(),
        state,
        entered: ago(entered),
        lines,
    };
    let review = |event: &str, seconds, plate, delta, candidates| Review {
        event: event.into(),
        at: ago(seconds),
        plates: vec![plate],
        delta: Mass::from_grams(delta),
        candidates,
    };
    let candidate = |session: Option<&str>, product: usize, count, probability| Candidate {
        session: session.map(Into::into),
        items: vec![(PRODUCTS[product].0.into(), count)],
        probability,
    };
    StoreView {
        at: now,
        sessions: vec![
            session(
                "visit/100231",
                &[11],
                SessionState::Shopping,
                312,
                vec![line(0, 1, 0.998), line(1, 2, 0.93), line(4, 1, 0.71)],
            ),
            session("visit/100232", &[12], SessionState::Shopping, 205, vec![line(6, 1, 0.99)]),
            session("visit/100233", &[13, 14], SessionState::Shopping, 48, Vec::new()),
            session(
                "visit/100230",
                &[],
                SessionState::InReview,
                640,
                vec![line(3, 2, 0.97), line(5, 1, 0.55)],
            ),
        ],
        reviews: vec![
            review(
                "cartd/81",
                74,
                PlateId { gondola: 3, shelf: 2, plate: 4 },
                -131.4,
                vec![
                    candidate(Some("visit/100230"), 5, 1, 0.55),
                    candidate(Some("visit/100232"), 5, 1, 0.38),
                ],
            ),
            review(
                "cartd/83",
                21,
                PlateId { gondola: 1, shelf: 4, plate: 0 },
                46.2,
                vec![
                    candidate(Some("visit/100231"), 4, -1, 0.62),
                    Candidate { session: None, items: Vec::new(), probability: 0.29 },
                ],
            ),
        ],
        settled: 128,
        ..StoreView::default()
    }
}

fn gate(
    now: engine::time::Instant,
    lane: &str,
    status: GateStatus,
    notice: Notice,
    entries: u64,
    exits: u64,
) -> GateView {
    GateView {
        lane: lane.into(),
        at: now,
        status,
        notice,
        modes: GateModes::default(),
        unlocks: entries + 1,
        entries,
        exits,
        denials: 7,
        latency_us: vec![420, 510, 480, 690, 1240],
    }
}

fn floor(now: engine::time::Instant, tick: u64) -> FloorView {
    let person = |track: u64, x: f64, y: f64, speed: f64, reach: bool| {
        let turn = tick as f64 / 10.0 * speed + track as f64;
        let (sin, cos) = (turn % TAU).sin_cos();
        let position = [x + 0.45 * cos, y + 1.1 * sin];
        let hand = |dx: f64, dy: f64| Hand { position: [position[0] + dx, position[1] + dy, 1.2], sd: 0.05 };
        Person {
            track: TrackId(track),
            position,
            position_sd: 0.06 + 0.1 * f64::from(u8::from(track == 15)),
            velocity: [-sin * speed, cos * speed],
            head: 1.6,
            hands: if reach { vec![hand(0.48, 0.1), hand(0.1, 0.3)] } else { Vec::new() },
            tangled: if track == 13 { vec![TrackId(14)] } else { Vec::new() },
        }
    };
    FloorView {
        at: now,
        people: vec![
            person(11, 3.4, 4.6, 0.5, true),
            person(12, 6.2, 4.4, 0.7, true),
            person(13, 9.4, 4.2, 0.4, false),
            person(14, 9.7, 3.4, 0.4, false),
            person(15, 2.6, 1.5, 0.3, false),
        ],
        cameras: (1..=7).map(CameraId).collect(),
    }
}

fn receipts(bus: &Bus, now: engine::time::Instant) {
    for index in 0..9_u64 {
        let product = &PRODUCTS[index as usize % PRODUCTS.len()];
        let settled = engine::time::Instant(now.0 - (9 - index) * 83_000);
        let quantity = 1 + (index % 3) as u32;
        bus.publish(
            topic::RECEIPT,
            &Receipt {
                id: MessageId(format!("cartd/{}", 40 + index)),
                session: format!("visit/1002{}", 20 + index).as_str().into(),
                member: (index != 4).then_some(MemberHandle(0x9e37_79b9 * (index + 1))),
                entered: settled,
                left: settled,
                settled,
                lines: vec![ReceiptLine {
                    product: product.0.into(),
                    quantity,
                    price: won(product.3),
                    confidence: 0.99,
                    evidence: vec!["cartd/3".into()],
                }],
                total: won(product.3 * i64::from(quantity)),
            },
        );
    }
}

fn health(bus: &Bus, now: engine::time::Instant) {
    let devices = [
        ("gated", "service", HealthState::Up, ""),
        ("gated", "scanner-1", HealthState::Up, ""),
        ("gated", "turnstile-1", HealthState::Up, ""),
        ("cartd", "service", HealthState::Up, ""),
        ("cartd", "load-cells-3", HealthState::Degraded, "plate 3-2-4 jumps by 6 g"),
        ("visiond", "camera-1", HealthState::Up, ""),
        ("visiond", "camera-2", HealthState::Up, ""),
        ("visiond", "camera-8", HealthState::Down, "no frame for 12 s"),
        ("kiosk", "scanner", HealthState::Up, ""),
    ];
    for (service, device, state, detail) in devices {
        let view = Health {
            service: service.into(),
            device: device.into(),
            state,
            since: now,
            detail: detail.into(),
        };
        bus.publish_view(&format!("{}/{service}/{device}", topic::HEALTH), &view);
    }
}

fn reports(bus: &Bus, now: engine::time::Instant) {
    let tailgating = |by| Incident::Tailgating { passage: 70, member: Some(MemberHandle(77)), by, people: 1 };
    let incidents = [
        ("entry-1", Incident::Held { since: engine::time::Instant(now.0 - 900_000) }),
        ("entry-2", Incident::Tamper { open: true }),
        ("entry-2", Incident::Tamper { open: false }),
        ("entry-1", tailgating(Witness::Floor)),
        ("exit-1", Incident::WrongWay { passage: 12 }),
    ];
    for (index, (lane, incident)) in incidents.into_iter().enumerate() {
        let id = MessageId(format!("gated.1/{index}"));
        let at = engine::time::Instant(now.0 - (600 - 100 * index as u64) * 1000);
        let fact = GateFact::Incident { incident };
        bus.publish(topic::GATE_REPORT, &GateReport { id, lane: lane.into(), at, fact });
    }
}

/// Every order is carried out, or so it says.
fn obey(bus: &Bus, now: engine::time::Instant, order: GateOrder) {
    let id = MessageId(format!("gated.1/done-{}", order.id.0.replace('/', "-")));
    let fact = GateFact::Ordered { order: order.id, outcome: GateOutcome::Done };
    bus.publish(topic::GATE_REPORT, &GateReport { id, lane: order.lane, at: now, fact });
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    runtime::telemetry::init();
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8480".to_owned()).parse()?;
    let (bus, clock) = (Bus::local(), Clock::system());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let phone_issuer = std::env::args().nth(2).map(Into::into);
    let settings = ConsoleSettings { listen, token: None, phone_issuer };
    let console = console::Console::bind(&settings, map()).await?;
    let service = tokio::spawn(console.run(bus.clone(), clock.clone(), stopped));
    tokio::task::yield_now().await;

    let now = clock.now();
    receipts(&bus, now);
    health(&bus, now);
    reports(&bus, now);
    let mut orders = bus.subscribe(topic::GATE_ORDER);
    let lane = |name: &str| format!("{}/{name}", topic::GATE_VIEW);
    let welcome = Notice::Welcome { remaining: 0 };
    bus.publish_view(&lane("entry-1"), &gate(now, "entry-1", GateStatus::Open, welcome, 71, 0));
    let refused = Notice::Refused { reason: DenyReason::Stale };
    bus.publish_view(&lane("entry-2"), &gate(now, "entry-2", GateStatus::Closed, refused, 64, 0));
    bus.publish_view(&lane("exit-1"), &gate(now, "exit-1", GateStatus::Closed, Notice::Idle, 0, 131));
    bus.publish(topic::STAFF_CALL, &StaffCall { id: "kiosk-1/1".into(), from: "kiosk-1".into(), at: now });
    bus.publish_view(topic::STORE_VIEW, &store_view(now));
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    for tick in 0.. {
        tokio::select! {
            _ = ticks.tick() => bus.publish_view(topic::FLOOR_VIEW, &floor(clock.now(), tick)),
            order = orders.recv() => obey(&bus, clock.now(), order.parse()?),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    stop.send_replace(true);
    Ok(service.await??)
}
