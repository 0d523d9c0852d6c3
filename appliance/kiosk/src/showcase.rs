//! Every state of every screen, reached as in the store: for pictures, for snapshots, for whoever works on
//! the looks.

use std::sync::Arc;

use engine::kiosk::Language;
use engine::message::{
    BootState, BoxView, ClockView, DenyReason, GateModes, GateStatus, GateView, Health, HealthState,
    KioskScan, Notice, Provisioning, ProvisioningState, Rollback, StaffAnswer, StaffCallState, topic,
};
use engine::store::{Facing, Gondola, Lane, Plate, Product, StoreMap};
use engine::time::{Instant, Millis};
use engine::units::{Currency, Mass, Money, PlateId};
use runtime::bus::Message;
use serde::Serialize;

use crate::state::{Action, Gate, Help, State};
use crate::technician::Technician;
use crate::view::{View, view};

/// A state of a screen.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// For file names: "gate-welcome-ko".
    pub name: String,
    /// What it shows.
    pub view: View,
}

/// Every refusal there is; a new one must be added here to be shown.
pub const REASONS: [DenyReason; 27] = [
    DenyReason::NotAnEntryCode,
    DenyReason::Malformed,
    DenyReason::UnknownIssuer,
    DenyReason::BadSignature,
    DenyReason::OtherStore,
    DenyReason::Expired,
    DenyReason::NotYetValid,
    DenyReason::Stale,
    DenyReason::FromTheFuture,
    DenyReason::Replayed,
    DenyReason::Revoked,
    DenyReason::AlreadyInside,
    DenyReason::PartyFull,
    DenyReason::ClockUntrusted,
    DenyReason::RateLimited,
    DenyReason::IssuerRetired,
    DenyReason::ListsStale,
    DenyReason::UsedUp,
    DenyReason::UnknownCard,
    DenyReason::StoreClosed,
    DenyReason::StoreFull,
    DenyReason::StaffOnly,
    DenyReason::AskStaff,
    DenyReason::UnderMaintenance,
    DenyReason::LaneClosed,
    DenyReason::LaneFaulty,
    DenyReason::LaneBusy,
];

const START: Instant = Instant(1_790_000_000_000);
const LANE: &str = "entry-1";
const KIOSK: &str = "kiosk-1";

/// A small made-up store.
#[must_use]
pub fn sample_map() -> StoreMap {
    let product = |id: &str, ko: &str, en: &str, price| Product {
        id: id.into(),
        names: [("ko".to_owned(), ko.to_owned()), ("en".to_owned(), en.to_owned())].into(),
        price: Money { minor: price, currency: Currency::KRW },
        mass: Mass(5000),
        mass_sd: Mass(10),
    };
    let gondola = |id: u16, footprint| Gondola { id, footprint, height: 1.6 };
    let lane = |id: &str, x: f64, entry: bool| Lane {
        id: id.into(),
        position: [x, 0.0],
        inward: [0.0, 1.0],
        entry,
        exit: !entry,
    };
    let plate = PlateId { gondola: 3, shelf: 1, plate: 4 };
    StoreMap {
        name: "Stile Seongsu".to_owned(),
        bounds: [0.0, 0.0, 12.0, 8.0],
        gondolas: vec![
            gondola(1, [0.0, 7.3, 5.2, 8.0]),
            gondola(2, [6.2, 7.3, 12.0, 8.0]),
            gondola(3, [1.6, 3.0, 2.6, 6.0]),
            gondola(4, [4.4, 3.0, 5.4, 6.0]),
            gondola(5, [7.2, 3.0, 8.2, 6.0]),
            gondola(6, [11.2, 1.6, 12.0, 6.2]),
        ],
        lanes: vec![lane(LANE, 2.0, true), lane("exit-1", 9.0, false)],
        cameras: Vec::new(),
        plates: vec![Plate { id: plate, position: [2.6, 4.5, 0.9], front: [1.0, 0.0], width: 0.3 }],
        products: vec![
            product("8801115114154", "서울우유 1L", "Seoul milk 1 l", 2980),
            product("8801043014809", "신라면 큰컵", "Shin ramyun big cup", 1500),
            product("8801062628476", "빼빼로 오리지널", "Pepero original", 1700),
            product("8801056038670", "칠성사이다 500ml", "Chilsung cider 500 ml", 2000),
            product("8801094017200", "삼각김밥 참치마요", "Rice triangle, tuna mayonnaise", 1400),
            product("2000000000015", "바나나 한 송이", "Bananas, one bunch", 4980),
        ],
        facings: vec![Facing { product: "8801115114154".into(), plates: vec![plate] }],
    }
}

/// All scenes in `language`.
#[must_use]
pub fn scenes(language: Language) -> Vec<Scene> {
    let mut scenes = gate(language);
    scenes.extend(help(language));
    scenes.extend(technician(language));
    for scene in &mut scenes {
        scene.name = format!("{}-{}", scene.name, language.tag());
    }
    scenes
}

fn gate(language: Language) -> Vec<Scene> {
    let mut notices = vec![
        ("idle".to_owned(), Notice::Idle),
        ("scan-here".to_owned(), Notice::ScanHere),
        ("welcome".to_owned(), Notice::Welcome { remaining: 0 }),
        ("welcome-party".to_owned(), Notice::Welcome { remaining: 3 }),
        ("goodbye".to_owned(), Notice::Goodbye),
        ("step-back".to_owned(), Notice::StepBack),
        ("wrong-way".to_owned(), Notice::WrongWay),
        ("exit-only".to_owned(), Notice::ExitOnly),
        ("free".to_owned(), Notice::Free),
        ("store-closed".to_owned(), Notice::StoreClosed { opens: None }),
        ("store-full".to_owned(), Notice::StoreFull),
        ("staff-only".to_owned(), Notice::StaffOnly),
        ("ask-staff".to_owned(), Notice::AskStaff),
        ("lane-closed".to_owned(), Notice::LaneClosed),
        ("cleaning".to_owned(), Notice::Cleaning),
        ("maintenance".to_owned(), Notice::Maintenance),
        ("out-of-order".to_owned(), Notice::OutOfOrder),
        ("evacuate".to_owned(), Notice::Evacuate),
    ];
    notices.extend(REASONS.map(|reason| {
        let name = format!("refused-{reason:?}").to_lowercase();
        (name, Notice::Refused { reason })
    }));
    let mut scenes: Vec<Scene> = notices
        .into_iter()
        .map(|(name, notice)| {
            let mut stage = Stage::gate(language);
            stage.notice(notice);
            stage.scene(&format!("gate-{name}"))
        })
        .collect();
    for (name, state) in calls() {
        let mut stage = Stage::gate(language);
        stage.notice(Notice::Refused { reason: DenyReason::Revoked });
        stage.call(state);
        scenes.push(stage.scene(&format!("gate-call-{name}")));
    }
    scenes
}

fn calls() -> [(&'static str, Option<StaffCallState>); 4] {
    [
        ("sending", None),
        ("sent", Some(StaffCallState::Sent)),
        ("seen", Some(StaffCallState::Seen)),
        ("coming", Some(StaffCallState::Coming)),
    ]
}

fn help(language: Language) -> Vec<Scene> {
    let stage = || Stage::help(language);
    let mut scenes = Vec::new();
    let mut add = |name: &str, play: &dyn Fn(&mut Stage)| {
        let mut stage = stage();
        play(&mut stage);
        scenes.push(stage.scene(&format!("help-{name}")));
    };
    add("idle", &|_| {});
    add("home", &|stage| stage.act(Action::Language(language)));
    add("reader-down", &|stage| {
        stage.act(Action::Language(language));
        stage.reader_down();
    });
    add("search-empty", &|stage| stage.act(Action::Search));
    let (word, none) = match language {
        Language::Korean => ("ㅅㅅㅏ", "ㅎㅗㅂㅏㄱ"),
        Language::English => ("BIG", "PUMPKIN"),
    };
    add("search-hits", &|stage| {
        stage.act(Action::Search);
        stage.type_keys(match language {
            Language::Korean => "ㅏ",
            Language::English => "A",
        });
        stage.act(Action::Clear);
        stage.type_keys(match language {
            Language::Korean => "ㅅ",
            Language::English => "O",
        });
    });
    add("search-typed", &|stage| {
        stage.act(Action::Search);
        stage.type_keys(word);
        stage.act(Action::Key(crate::keyboard::DELETE));
        stage.act(Action::Digits);
    });
    add("search-none", &|stage| {
        stage.act(Action::Search);
        stage.type_keys(none);
        stage.act(Action::Letters);
    });
    add("product", &|stage| stage.scan("8801115114154"));
    add("product-low-reach", &|stage| {
        stage.scan("8801115114154");
        stage.act(Action::LowReach(true));
    });
    add("product-contrast", &|stage| {
        stage.scan("8801115114154");
        stage.act(Action::HighContrast(true));
    });
    add("product-without-place", &|stage| stage.scan("8801094017200"));
    add("not-found", &|stage| stage.scan("96385074"));
    add("not-a-product", &|stage| stage.scan("https://stile.example/"));
    add("low-reach", &|stage| {
        stage.act(Action::Language(language));
        stage.act(Action::LowReach(true));
    });
    add("search-low-reach", &|stage| {
        stage.act(Action::LowReach(true));
        stage.act(Action::Search);
    });
    add("contrast", &|stage| {
        stage.act(Action::HighContrast(true));
        stage.act(Action::Search);
    });
    add("leaving", &|stage| {
        stage.scan("8801115114154");
        stage.wait(23);
    });
    add("leaving-contrast", &|stage| {
        stage.act(Action::HighContrast(true));
        stage.scan("8801115114154");
        stage.wait(23);
    });
    for (name, state) in calls() {
        add(&format!("call-{name}"), &|stage| stage.call(state));
    }
    add("call-closed", &|stage| stage.call(Some(StaffCallState::Closed)));
    add("call-lost", &|stage| {
        stage.call(None);
        stage.wait(10);
    });
    add("call-contrast", &|stage| {
        stage.act(Action::HighContrast(true));
        stage.call(Some(StaffCallState::Seen));
    });
    scenes
}

/// What a technician sees: the way in, a healthy box, one in trouble, one that nobody has told what it is.
fn technician(language: Language) -> Vec<Scene> {
    let scene = |name: &str, technician: &Technician| Scene {
        name: format!("technician-{name}"),
        view: technician.view(START),
    };
    let digits = |technician: &mut Technician, digits: &str| {
        for digit in digits.chars() {
            technician.act(START, &Action::Key(digit));
        }
    };
    let behind = || {
        let mut technician = Technician::behind(Some("2580".to_owned()), language);
        technician.act(START, &Action::Technician);
        technician.tick(START, true);
        technician
    };
    let mut scenes = Vec::new();
    let mut asked = behind();
    digits(&mut asked, "25");
    scenes.push(scene("code", &asked));
    let mut wrong = behind();
    digits(&mut wrong, "0000");
    scenes.push(scene("code-wrong", &wrong));
    digits(&mut wrong, "0000000000000000");
    scenes.push(scene("code-locked", &wrong));

    let mut well = behind();
    digits(&mut well, "2580");
    well.read(sample_box());
    hear_devices(&mut well, &[]);
    scenes.push(scene("open", &well));
    let mut ill = behind();
    digits(&mut ill, "2580");
    ill.tick(START, false);
    ill.read(BoxView {
        boot: BootState::Trial,
        stage: "health".to_owned(),
        development_keys: true,
        addresses: Vec::new(),
        troubles: vec!["no partition state: what is kept now is lost with the power".to_owned()],
        clock: ClockView { trusted: false, source: "no answer from 10.0.0.1".to_owned() },
        rollback: Some(Rollback {
            at: START.before(Millis::from_seconds(7200)),
            from_version: "1.5.0".to_owned(),
            from_slot: "b".to_owned(),
            reason: "health check \"readers\" failed: scanner of entry-1 not found in 60 s".to_owned(),
        }),
        ..sample_box()
    });
    let broken = [
        ("entry-1/scanner", HealthState::Down, "no HID POS scanner found"),
        ("camera-3", HealthState::Degraded, "6.1 of 10 frames a second"),
    ];
    hear_devices(&mut ill, &broken);
    scenes.push(scene("ill", &ill));

    let mut bare = Technician::always(None, language);
    let unprovisioned = |provisioning| BoxView {
        name: String::new(),
        store: String::new(),
        role: String::new(),
        provisioning,
        development_keys: true,
        ..sample_box()
    };
    bare.read(unprovisioned(Provisioning::default()));
    scenes.push(scene("unprovisioned", &bare));
    bare.read(unprovisioned(Provisioning {
        state: ProvisioningState::Refused,
        detail: "signed by a key this image does not know: 3f2a9c01".to_owned(),
    }));
    scenes.push(scene("refused", &bare));
    let trouble = "manifest /etc/stile/manifest.toml is not valid: unknown field `turnstyle`".to_owned();
    let mut spoilt = Technician::always(Some(trouble), language);
    spoilt.read(sample_box());
    scenes.push(scene("spoilt", &spoilt));
    scenes
}

fn sample_box() -> BoxView {
    BoxView {
        name: "seongsu-entry-1".to_owned(),
        store: "Stile Seongsu".to_owned(),
        role: "all-in-one".to_owned(),
        serial: "ST-2026-00123".to_owned(),
        version: "1.4.2".to_owned(),
        slot: "a".to_owned(),
        generation: 7,
        boot: BootState::Good,
        stage: String::new(),
        development_keys: false,
        rollback: None,
        provisioning: Provisioning {
            state: ProvisioningState::Accepted,
            detail: "USB, signed by 8c1d02aa".to_owned(),
        },
        addresses: vec!["eth0 10.0.0.5/24".to_owned(), "eth0 fe80::5054:ff:fe12:3456/64".to_owned()],
        clock: ClockView { trusted: true, source: "10.0.0.1".to_owned() },
        troubles: Vec::new(),
        at: START,
    }
}

fn hear_devices(technician: &mut Technician, other: &[(&str, HealthState, &str)]) {
    let devices = [
        ("caretaker", "ledger"),
        ("cartd", "service"),
        ("cartd", "load-cells-1"),
        ("gated", "entry-1"),
        ("gated", "entry-1/scanner"),
        ("gated", "exit-1"),
        ("kiosk", "screen-entry-1"),
        ("visiond", "camera-1"),
        ("visiond", "camera-2"),
        ("visiond", "camera-3"),
        ("visiond", "service"),
    ];
    for (service, device) in devices {
        let (state, detail) = other
            .iter()
            .find(|(name, _, _)| *name == device)
            .map_or((HealthState::Up, ""), |(_, state, detail)| (*state, *detail));
        let health = Health {
            service: service.to_owned(),
            device: device.to_owned(),
            state,
            since: START.before(Millis::from_seconds(5400)),
            detail: detail.to_owned(),
        };
        let payload = serde_json::to_vec(&health).expect("bus messages are plain data");
        let topic = format!("{}/{service}/{device}", topic::HEALTH);
        let message = Message { topic, payload: payload.into() };
        technician.take(&message).expect("written as it is read");
    }
}

/// A screen on which scenes are played.
struct Stage {
    state: State,
    now: Instant,
}

impl Stage {
    fn gate(language: Language) -> Self {
        Self { state: State::Gate(Gate::new(LANE.into(), language)), now: START }
    }

    fn help(language: Language) -> Self {
        let help = Help::new(KIOSK, Arc::new(sample_map()), language);
        Self { state: State::Help(help), now: START }
    }

    fn scene(&self, name: &str) -> Scene {
        Scene { name: name.to_owned(), view: view(&self.state, self.now) }
    }

    fn act(&mut self, action: Action) {
        self.state.act(self.now, action, &mut Vec::new());
    }

    fn type_keys(&mut self, keys: &str) {
        for key in keys.chars() {
            self.act(Action::Key(key));
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Millis::from_seconds(seconds));
        self.state.tick(self.now, &mut Vec::new());
    }

    fn hear<T: Serialize>(&mut self, topic: &str, value: &T) {
        let payload = serde_json::to_vec(value).expect("bus messages are plain data");
        let message = Message { topic: topic.to_owned(), payload: payload.into() };
        self.state.take(self.now, &message, &mut Vec::new()).expect("written as it is read");
    }

    fn notice(&mut self, notice: Notice) {
        let view = GateView {
            lane: LANE.into(),
            at: self.now,
            status: GateStatus::Closed,
            notice,
            modes: GateModes::default(),
            unlocks: 0,
            entries: 0,
            exits: 0,
            denials: 0,
            latency_us: Vec::new(),
        };
        self.hear(&format!("{}/{LANE}", topic::GATE_VIEW), &view);
    }

    fn scan(&mut self, text: &str) {
        self.hear(topic::KIOSK_SCAN, &KioskScan { kiosk: KIOSK.to_owned(), text: text.to_owned() });
    }

    fn reader_down(&mut self) {
        let device = format!("{KIOSK}-scanner");
        let health = engine::message::Health {
            service: "kiosk".to_owned(),
            device: device.clone(),
            state: engine::message::HealthState::Down,
            since: self.now,
            detail: "unplugged".to_owned(),
        };
        self.hear(&format!("{}/kiosk/{device}", topic::HEALTH), &health);
    }

    fn call(&mut self, answer: Option<StaffCallState>) {
        let mut commands = Vec::new();
        self.state.act(self.now, Action::Call, &mut commands);
        for engine::kiosk::Command::Call(call) in commands {
            if let Some(state) = answer {
                self.hear(topic::STAFF_ANSWER, &StaffAnswer { call: call.id, state });
            }
        }
    }
}
