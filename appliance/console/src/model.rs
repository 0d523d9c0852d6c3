//! What the HTTP API says, apart from the bus messages: those change with the image, this is what integrators
//! read.

use std::collections::BTreeMap;

use engine::message::{Direction, GateMode, GateService, GateTask};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Names by BCP 47 language tag.
pub type Names = BTreeMap<String, String>;

/// Everything that the console knows, at once.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Snapshot {
    /// The store's fixed parts.
    pub store: Store,
    /// Who is where.
    pub floor: Floor,
    /// Gate lanes.
    pub lanes: Vec<Lane>,
    /// Visits with their carts.
    pub sessions: Vec<Session>,
    /// Receipts, newest first, at most 100.
    pub receipts: Vec<Receipt>,
    /// Shelf events that wait for a person, oldest first.
    pub reviews: Vec<Review>,
    /// Decisions of this console, newest first, at most 50.
    pub decisions: Vec<Decision>,
    /// Open staff calls, and those closed of late, oldest first.
    pub calls: Vec<Call>,
    /// Devices and services.
    pub health: Vec<Health>,
    /// What gates reported and staff ordered, newest first, at most 100.
    pub gate_events: Vec<GateEvent>,
    /// Sums.
    pub numbers: Numbers,
}

/// The store's fixed parts. Metres; x and y span the floor.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Store {
    /// The store's name.
    pub name: String,
    /// Walkable rectangle: least x, least y, greatest x, greatest y.
    pub bounds: [f64; 4],
    /// Shelf units.
    pub gondolas: Vec<Gondola>,
    /// Gate lanes.
    pub lanes: Vec<LanePlace>,
    /// Ceiling cameras.
    pub cameras: Vec<CameraPlace>,
    /// ISO 4217 code of the prices.
    pub currency: String,
    /// Decimals of that currency's minor unit.
    pub decimals: u32,
}

/// A shelf unit on the floor map.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Gondola {
    /// Number.
    pub id: u16,
    /// Least x, least y, greatest x, greatest y, metres.
    pub footprint: [f64; 4],
}

/// A lane on the floor map.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LanePlace {
    /// Name.
    pub id: String,
    /// Middle of the passage line, metres.
    pub position: [f64; 2],
    /// Unit vector into the store.
    pub inward: [f64; 2],
    /// Whether shoppers may come in here.
    pub entry: bool,
    /// Whether shoppers may leave here.
    pub exit: bool,
}

/// A camera on the floor map.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CameraPlace {
    /// Number.
    pub id: u16,
    /// Place over the floor, metres.
    pub position: [f64; 2],
}

/// Who is where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Floor {
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// People followed.
    pub people: Vec<Person>,
    /// Cameras that contributed.
    pub cameras: Vec<u16>,
}

/// A person on the floor.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Person {
    /// Track number.
    pub track: u64,
    /// Metres.
    pub position: [f64; 2],
    /// Standard deviation, metres.
    pub sd: f64,
    /// Metres a second.
    pub velocity: [f64; 2],
    /// Hands over the floor, metres.
    pub hands: Vec<[f64; 2]>,
    /// The visit this person belongs to, when known.
    pub session: Option<String>,
    /// Whether the track may have been swapped with another.
    pub tangled: bool,
}

/// A gate lane's state.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Lane {
    /// Name.
    pub lane: String,
    /// When it became so, milliseconds since the Unix epoch.
    pub at: u64,
    /// "closed", "open", "blocked" or "malfunction" (UnifiedPOS gate status).
    pub status: String,
    /// What the gate screen says: "idle", "scan_here", "welcome", "refused", …
    pub notice: String,
    /// Why it refused, when it did.
    pub reason: Option<String>,
    /// How it operates.
    pub modes: Modes,
    /// Unlocks since start.
    pub unlocks: u64,
    /// Entry passages since start.
    pub entries: u64,
    /// Exit passages since start.
    pub exits: u64,
    /// Refusals since start.
    pub denials: u64,
    /// Median of the newest entries, reader report to unlock line, milliseconds.
    pub latency_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub latency_p99_ms: Option<f64>,
}

/// How a lane operates.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Modes {
    /// The entry: "single", "group", "free", "controlled" or "locked".
    pub entry: String,
    /// The exit: the same, never "locked".
    pub exit: String,
    /// Whom it serves: "shopping", "staff", "cleaning" or "maintenance".
    pub service: String,
    /// Whether the store is open at this hour.
    pub store_open: bool,
    /// People in the store, as far as this lane knows.
    pub inside: u32,
}

/// Something that a gate reported, or an order and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct GateEvent {
    /// Its number, or the order's.
    pub id: String,
    /// At which lane.
    pub lane: String,
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// "tailgating", "forced", "wrong_way", "held", "tamper", "emergency_button", "fire_alarm", "walked_back" or
    /// "order".
    pub kind: String,
    /// Whether it is an incident that staff should look at.
    pub incident: bool,
    /// Number of the passage in, for those that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passage: Option<u64>,
    /// Tailgating: pseudonym of the member whose grant was followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Tailgating: how many people too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub people: Option<u8>,
    /// Tailgating: who noticed, "sensors" or "floor".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// Held: since when, milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Tamper and fire alarm: began (true) or ended (false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Order: what was ordered; missing when another console, or an earlier run of this one, gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<OrderTask>,
    /// Order: who ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Order: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Order: what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OrderOutcome>,
    /// Order: why it was refused: "evacuation", "lane_faulty", "lane_busy", "exit_never_locked",
    /// "exit_by_controller", "too_many" or "lives_too_long".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderOutcome {
    /// On its way; repeated until the gate answers.
    Waiting,
    /// Carried out.
    Done,
    /// The gate got it too late.
    Expired,
    /// The gate did not carry it out.
    Refused,
    /// It expired and no gate has answered: it may or may not have been carried out.
    Unanswered,
}

/// Staff tells a lane what to do.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// What.
    pub task: OrderTask,
    /// Who orders: a name or staff number, 1 to 64 characters.
    pub by: String,
    /// Why, 1 to 200 characters.
    pub reason: String,
}

/// What staff may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OrderTask {
    /// Let one person through.
    Open {
        /// Which way.
        direction: Way,
        /// Open wide, and wait longer.
        #[serde(default)]
        wide: bool,
    },
    /// Operate a direction in another way from now on.
    SetMode {
        /// Which direction.
        direction: Way,
        /// How.
        mode: Mode,
    },
    /// Serve others from now on.
    SetService {
        /// Whom.
        service: Service,
    },
}

/// Which way through a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Into the store.
    Entry,
    /// Out of it.
    Exit,
}

/// How one direction of a lane operates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A code opens for one passage.
    Single,
    /// A code opens for its party.
    Group,
    /// Released without asking.
    Free,
    /// Each passage is released on request.
    Controlled,
    /// Nobody passes; entry only.
    Locked,
}

/// Whom a lane serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Everybody.
    Shopping,
    /// Staff only.
    Staff,
    /// Staff only, while the passage is cleaned.
    Cleaning,
    /// Nobody comes in by a code.
    Maintenance,
}

impl From<OrderTask> for GateTask {
    fn from(task: OrderTask) -> Self {
        match task {
            OrderTask::Open { direction, wide } => Self::Open { direction: direction.into(), wide },
            OrderTask::SetMode { direction, mode } => {
                Self::SetMode { direction: direction.into(), mode: mode.into() }
            }
            OrderTask::SetService { service } => Self::SetService { service: service.into() },
        }
    }
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Entry => Self::Entry,
            Way::Exit => Self::Exit,
        }
    }
}

impl From<Mode> for GateMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Single => Self::Single,
            Mode::Group => Self::Group,
            Mode::Free => Self::Free,
            Mode::Controlled => Self::Controlled,
            Mode::Locked => Self::Locked,
        }
    }
}

impl From<Service> for GateService {
    fn from(service: Service) -> Self {
        match service {
            Service::Shopping => Self::Shopping,
            Service::Staff => Self::Staff,
            Service::Cleaning => Self::Cleaning,
            Service::Maintenance => Self::Maintenance,
        }
    }
}

/// A visit.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Session {
    /// Name.
    pub session: String,
    /// "shopping", "settling", "in_review" or "settled".
    pub state: String,
    /// When it began, milliseconds since the Unix epoch.
    pub entered: u64,
    /// Tracks of its people.
    pub tracks: Vec<u64>,
    /// The cart.
    pub lines: Vec<Line>,
    /// Sum of the lines at today's prices, minor units.
    pub total: i64,
}

/// A product in a cart or on a receipt.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Line {
    /// Product number.
    pub product: String,
    /// Its names.
    pub names: Names,
    /// How many.
    pub quantity: u32,
    /// Price of one, minor units.
    pub price: i64,
    /// Probability that this line is exactly right, 0 to 1.
    pub confidence: f64,
    /// Shelf events behind it.
    pub evidence: Vec<String>,
}

/// A settled visit.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Receipt {
    /// Number.
    pub id: String,
    /// Which visit.
    pub session: String,
    /// The member's pseudonym; missing for a visit without a credential.
    pub member: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub entered: u64,
    /// Milliseconds since the Unix epoch.
    pub left: u64,
    /// Milliseconds since the Unix epoch.
    pub settled: u64,
    /// What they took.
    pub lines: Vec<Line>,
    /// Sum, minor units.
    pub total: i64,
    /// ISO 4217 code of the sum.
    pub currency: String,
}

/// A shelf event that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Review {
    /// The shelf event.
    pub event: String,
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// Plates, `gondola-shelf-plate`.
    pub plates: Vec<String>,
    /// Change of mass, grams; negative when something was picked up.
    pub delta_g: f64,
    /// Explanations, likeliest first.
    pub candidates: Vec<Candidate>,
}

/// One explanation.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Candidate {
    /// Whose visit; missing for nobody known.
    pub session: Option<String>,
    /// What moved.
    pub items: Vec<CandidateItem>,
    /// Probability, 0 to 1.
    pub probability: f64,
}

/// A product that moved.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CandidateItem {
    /// Product number.
    pub product: String,
    /// Its names.
    pub names: Names,
    /// Positive: into the cart.
    pub count: i32,
}

/// A person's answer to a review.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest {
    /// The shelf event of the review.
    pub event: String,
    /// Whose visit; leave out (or null) to charge nobody.
    #[serde(default)]
    pub session: Option<String>,
    /// What moved; empty when nothing did.
    #[serde(default)]
    pub items: Vec<DecisionItem>,
    /// Who decides: a name or staff number, 1 to 64 characters.
    pub by: String,
}

/// A product that moved, as decided.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionItem {
    /// Product number of this store's map.
    pub product: String,
    /// Positive: into the cart. Not zero, at most 99 either way.
    pub count: i32,
}

/// How far a decision is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Decision {
    /// Its number.
    pub id: String,
    /// The shelf event.
    pub event: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub at: u64,
    /// Who decided.
    pub by: String,
    /// Whether cartd has stored it; until then the console repeats it.
    pub stored: bool,
}

/// A shopper asks for a person.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Call {
    /// Number.
    pub id: String,
    /// From which screen.
    pub from: String,
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// "sent", "seen", "coming" or "closed".
    pub state: String,
}

/// Staff says how far a call is.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// The call's number.
    pub call: String,
    /// "seen", "coming" or "closed".
    pub state: CallState,
}

/// How far a call is, as staff may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Somebody has seen it.
    Seen,
    /// Somebody is on the way.
    Coming,
    /// Done.
    Closed,
}

/// How a device or service is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Health {
    /// Who says so.
    pub service: String,
    /// Of which device.
    pub device: String,
    /// "up", "degraded" or "down".
    pub state: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since: u64,
    /// What is wrong; empty when well.
    pub detail: String,
}

/// Sums since the console started, unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Numbers {
    /// When, milliseconds since the Unix epoch.
    pub at: u64,
    /// People followed on the floor now.
    pub people: usize,
    /// Visits that go on now.
    pub shopping: usize,
    /// Visits settled since the ledger began.
    pub settled: u64,
    /// Receipts seen.
    pub receipts: u64,
    /// Sum of those receipts, minor units of the store's currency.
    pub takings: i64,
    /// Reviews that wait.
    pub reviews: usize,
    /// Staff calls not closed.
    pub calls: usize,
    /// Devices that are not up.
    pub unwell: usize,
    /// Whether the bus is connected.
    pub bus: bool,
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// For people.
    pub error: String,
    /// Which field or header, when one is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}
