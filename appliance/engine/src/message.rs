//! What services say to each other over the bus. One image ships them all, so these may change with the code; only
//! the journal and the ledger must read what an older version wrote.
//!
//! Views are levels (the newest replaces the older, and is retained for late subscribers). Events that must not be
//! lost carry a `MessageId`, are kept in the sender's outbox, and are repeated until the receiver's `Ack` arrives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Instant;
use crate::units::{
    CameraId, LaneId, Mass, MemberHandle, MessageId, Money, PlateId, ProductId, SessionId, TrackId,
};

mod box_view;
mod gate;

pub use box_view::{BootState, BoxView, ClockView, Provisioning, ProvisioningState, Rollback};
pub use gate::{
    Edges, GateFact, GateMode, GateModes, GateOrder, GateOutcome, GateReport, GateService, GateTask,
    Incident, OrderRefusal, PassageRecord, Witness,
};

/// Topic names; `stile/` is the root, so that a bridge to an operator's broker can prefix the store.
pub mod topic {
    /// [`super::Passage`], event, from gated, acknowledged by cartd.
    pub const PASSAGE: &str = "stile/gate/passage";
    /// [`super::GateView`], view, one topic a lane: `stile/gate/view/LANE`.
    pub const GATE_VIEW: &str = "stile/gate/view";
    /// [`super::GateOrder`], event, from console, answered by a [`super::GateReport`] with its outcome.
    pub const GATE_ORDER: &str = "stile/gate/order";
    /// [`super::GateReport`], event, from gated: passages in full, incidents, outcomes of orders.
    pub const GATE_REPORT: &str = "stile/gate/report";
    /// [`super::FloorView`], view, from visiond, about ten a second.
    pub const FLOOR_VIEW: &str = "stile/floor/view";
    /// [`super::StoreView`], view, from cartd.
    pub const STORE_VIEW: &str = "stile/store/view";
    /// [`super::Receipt`], event, from cartd, acknowledged by whoever pays and files it.
    pub const RECEIPT: &str = "stile/cart/receipt";
    /// [`super::Review`], event, from cartd: a shelf event that waits for a person.
    pub const REVIEW: &str = "stile/cart/review";
    /// [`super::ReviewDecision`], event, from console, acknowledged by cartd.
    pub const REVIEW_DECISION: &str = "stile/cart/review-decision";
    /// [`super::SessionClosed`], event, from cartd, acknowledged by gated: the member may come in again.
    pub const SESSION_CLOSED: &str = "stile/cart/session-closed";
    /// [`super::Health`], view, one topic a device: `stile/health/SERVICE/DEVICE`.
    pub const HEALTH: &str = "stile/health";
    /// [`super::BoxView`], view, from the caretaker.
    pub const BOX_VIEW: &str = "stile/box/view";
    /// [`super::StaffCall`], event, from kiosk and gate screens, answered by [`super::StaffAnswer`].
    pub const STAFF_CALL: &str = "stile/staff/call";
    /// [`super::StaffAnswer`], event, from console.
    pub const STAFF_ANSWER: &str = "stile/staff/answer";
    /// [`super::SignedList`], view: the issuers' public keys, signed by the operator's root
    /// ([`crate::admission::keys`]). Fetched ahead by the chain's uplink or a technician; gated verifies it.
    pub const KEY_SET: &str = "stile/admission/keys";
    /// [`super::SignedList`], view: passes that gates refuse ([`crate::admission::deny`]).
    pub const DENY_LIST: &str = "stile/admission/deny";
    /// [`super::SignedList`], view: cards of the fall-back readers ([`crate::admission::cards`]).
    pub const CARD_LIST: &str = "stile/admission/cards";
    /// [`super::SeenCodes`], view, one topic a box: `stile/gate/seen/SENDER`.
    pub const SEEN_CODES: &str = "stile/gate/seen";
    /// [`super::KioskScan`], event of no importance: the help kiosk's reader saw this text.
    pub const KIOSK_SCAN: &str = "stile/kiosk/scan";
    /// [`super::Ack`], one topic a sender: `stile/ack/SENDER`.
    pub const ACK: &str = "stile/ack";
    /// [`crate::floor::Sighting`], event of no importance, from a visiond that is told to trace.
    pub const TRACE_SIGHTING: &str = "stile/trace/sighting";
    /// [`super::PlateReadings`], event of no importance, from a cartd that is told to trace.
    pub const TRACE_READINGS: &str = "stile/trace/readings";
}

/// What plates showed, for a trace that the engine can be run on again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlateReadings {
    /// Time, plate and mass; no mass when the plate did not answer.
    pub readings: Vec<(Instant, PlateId, Option<Mass>)>,
}

/// The receiver has stored these events durably; the sender may forget them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// What was stored.
    pub ids: Vec<MessageId>,
}

/// Which way through a lane. The manifest says which electrical direction (A or B) is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the street into the store.
    Entry,
    /// From the store to the street.
    Exit,
}

/// A person went through a lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// Repeated with the same id until acknowledged.
    pub id: MessageId,
    /// Which lane.
    pub lane: LaneId,
    /// When the passage sensor said so.
    pub at: Instant,
    /// Which way.
    pub direction: Direction,
    /// What entitled it.
    pub authority: Authority,
}

/// What entitled a passage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Authority {
    /// A credential was granted and this passage used it.
    Grant(Grant),
    /// The lane is free in this direction (exit, evacuation, free mode, cleaning).
    Free,
    /// Staff let this person in from the console.
    Order {
        /// The order's id.
        order: MessageId,
    },
    /// Nobody was granted: forced, tailgating, or a second person on one grant.
    None,
}

/// An admitted credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// The member's pseudonym.
    pub member: MemberHandle,
    /// Largest party that may share this member's session, 1 when alone.
    pub party: u8,
    /// Which of the party, from 0.
    pub party_member: u8,
    /// Staff never get a receipt.
    pub staff: bool,
    /// Ask the turnstile for its wide lane (wheelchair, pram).
    pub wide: bool,
    /// The issuer has seen a proof of age: goods with an age limit need no staff. Never true for a wallet pass.
    #[serde(default)]
    pub age_proof: bool,
    /// A guest of a member.
    #[serde(default)]
    pub guest: bool,
}

/// Why a credential was refused. Screens translate the code; logs print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// Not an entry code at all (some other QR code, a product).
    NotAnEntryCode,
    /// An entry code that is cut off or garbled.
    Malformed,
    /// Signed by a key that this gate does not hold.
    UnknownIssuer,
    /// A signature does not fit.
    BadSignature,
    /// For another group of stores.
    OtherStore,
    /// The certificate's time is over.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The code was shown too long ago: a screenshot, or a phone whose clock is behind.
    Stale,
    /// The code was shown in the future: the phone's clock is ahead.
    FromTheFuture,
    /// This very code was used already.
    Replayed,
    /// The member is on the deny list.
    Revoked,
    /// The member is inside and must leave first.
    AlreadyInside,
    /// More people than the pass allows.
    PartyFull,
    /// The gate does not know the time, and policy says not to guess.
    ClockUntrusted,
    /// Too many tries with this pass, or at this lane.
    RateLimited,
    /// The issuer's key is known, but its time is over or has not begun.
    IssuerRetired,
    /// The gate's key set or deny list is older than policy allows.
    ListsStale,
    /// A guest pass that has opened as often as it may.
    UsedUp,
    /// A card that is not on the card list.
    UnknownCard,
    /// The store is closed at this hour.
    StoreClosed,
    /// As many people are inside as may be.
    StoreFull,
    /// The lane serves staff only at the moment.
    StaffOnly,
    /// Codes do not open now; staff let people in one by one.
    AskStaff,
    /// The lane is out of service for maintenance.
    UnderMaintenance,
    /// The lane does not take entries now (exit lane, locked, being cleaned, evacuation).
    LaneClosed,
    /// The turnstile is broken or blocked.
    LaneFaulty,
    /// The lane is still serving the shopper before.
    LaneBusy,
}

impl DenyReason {
    /// All of them, in the order of their definition.
    pub const ALL: [Self; 27] = [
        Self::NotAnEntryCode,
        Self::Malformed,
        Self::UnknownIssuer,
        Self::BadSignature,
        Self::OtherStore,
        Self::Expired,
        Self::NotYetValid,
        Self::Stale,
        Self::FromTheFuture,
        Self::Replayed,
        Self::Revoked,
        Self::AlreadyInside,
        Self::PartyFull,
        Self::ClockUntrusted,
        Self::RateLimited,
        Self::IssuerRetired,
        Self::ListsStale,
        Self::UsedUp,
        Self::UnknownCard,
        Self::StoreClosed,
        Self::StoreFull,
        Self::StaffOnly,
        Self::AskStaff,
        Self::UnderMaintenance,
        Self::LaneClosed,
        Self::LaneFaulty,
        Self::LaneBusy,
    ];

    /// The reason's code, as on the bus and in logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAnEntryCode => "not_an_entry_code",
            Self::Malformed => "malformed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::BadSignature => "bad_signature",
            Self::OtherStore => "other_store",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Stale => "stale",
            Self::FromTheFuture => "from_the_future",
            Self::Replayed => "replayed",
            Self::Revoked => "revoked",
            Self::AlreadyInside => "already_inside",
            Self::PartyFull => "party_full",
            Self::ClockUntrusted => "clock_untrusted",
            Self::RateLimited => "rate_limited",
            Self::IssuerRetired => "issuer_retired",
            Self::ListsStale => "lists_stale",
            Self::UsedUp => "used_up",
            Self::UnknownCard => "unknown_card",
            Self::StoreClosed => "store_closed",
            Self::StoreFull => "store_full",
            Self::StaffOnly => "staff_only",
            Self::AskStaff => "ask_staff",
            Self::UnderMaintenance => "under_maintenance",
            Self::LaneClosed => "lane_closed",
            Self::LaneFaulty => "lane_faulty",
            Self::LaneBusy => "lane_busy",
        }
    }
}

/// A signed list of admission (key set, deny list, card list), as its bytes. It is at most some 900 kB of JSON,
/// below what the bus carries.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedList {
    /// The signed bytes.
    #[serde(with = "base64_text")]
    pub bytes: Vec<u8>,
}

/// Codes that one box has accepted of late, so that the store's other boxes refuse them. Each message repeats
/// the newest ones, so that a box that missed one learns from the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenCodes {
    /// Which box, as in its message ids.
    pub sender: String,
    /// What it has accepted, newest last, at most [`crate::admission::SEEN_MAX`].
    pub codes: Vec<SeenCode>,
}

/// One use of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenCode {
    /// Whose pass.
    pub member: MemberHandle,
    /// Profile D: shown at, unix seconds. Profile W: its step of 30 s.
    pub moment: u64,
    /// Profile D: the nonce. Profile W: the pass's serial.
    pub nonce: u16,
    /// How long it is to be remembered.
    pub until: Instant,
}

/// A lane as screens and staff see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateView {
    /// Which lane.
    pub lane: LaneId,
    /// When this became so.
    pub at: Instant,
    /// UnifiedPOS gate status.
    pub status: GateStatus,
    /// What the shopper in front of it should read.
    pub notice: Notice,
    /// How it operates.
    #[serde(default)]
    pub modes: GateModes,
    /// Unlocks since start.
    pub unlocks: u64,
    /// Entry passages since start.
    pub entries: u64,
    /// Exit passages since start.
    pub exits: u64,
    /// Refusals since start.
    pub denials: u64,
    /// Reader report to unlock line of the newest entries, microseconds of real time, newest last, at most 256.
    pub latency_us: Vec<u32>,
}

/// Status of a gate in the words of UnifiedPOS 1.12 and later (Closed 11, Open 12, Blocked 13, Malfunction 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateStatus {
    /// Locked and ready.
    Closed,
    /// Unlocked for a passage, or free.
    Open,
    /// Somebody stands in the way.
    Blocked,
    /// The turnstile does not answer or contradicts itself.
    Malfunction,
}

/// What the gate screen says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// Nobody is there: the attract picture.
    Idle,
    /// Hold the code here.
    ScanHere,
    /// Come in.
    Welcome {
        /// How many of the party may still pass on this code.
        remaining: u8,
    },
    /// Refused, and why.
    Refused {
        /// The reason.
        reason: DenyReason,
    },
    /// Goodbye: somebody left.
    Goodbye,
    /// Please step back: a second person, or nobody was let in.
    StepBack,
    /// This lane only lets out.
    WrongWay,
    /// Rest: an exit lane; codes open elsewhere.
    ExitOnly,
    /// Rest: come in, no code is needed.
    Free,
    /// Rest: the store is closed.
    StoreClosed {
        /// When it opens, if known.
        opens: Option<Instant>,
    },
    /// Rest: as many people are inside as may be; wait until somebody leaves.
    StoreFull,
    /// Rest: staff only at the moment.
    StaffOnly,
    /// Rest: staff let people in one by one.
    AskStaff,
    /// Rest: this lane is closed; use another.
    LaneClosed,
    /// Rest: this lane is being cleaned.
    Cleaning,
    /// Rest: this lane is out of service for maintenance.
    Maintenance,
    /// Lane out of order; use another or call staff.
    OutOfOrder,
    /// Alarm: leave the building, everything is open.
    Evacuate,
}

impl Notice {
    /// Whether this is shown while nobody is being served.
    #[must_use]
    pub const fn at_rest(&self) -> bool {
        match self {
            Self::Idle
            | Self::ExitOnly
            | Self::Free
            | Self::StoreClosed { .. }
            | Self::StoreFull
            | Self::StaffOnly
            | Self::AskStaff
            | Self::LaneClosed
            | Self::Cleaning
            | Self::Maintenance => true,
            Self::ScanHere
            | Self::Welcome { .. }
            | Self::Refused { .. }
            | Self::Goodbye
            | Self::StepBack
            | Self::WrongWay
            | Self::OutOfOrder
            | Self::Evacuate => false,
        }
    }
}

/// Everyone on the floor now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorView {
    /// When these places were true.
    pub at: Instant,
    /// People, by track.
    pub people: Vec<Person>,
    /// Cameras whose frames entered this view.
    pub cameras: Vec<CameraId>,
}

/// A person on the floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// Who, since this track began.
    pub track: TrackId,
    /// Place on the floor, metres.
    pub position: [f64; 2],
    /// Standard deviation of the place, metres.
    pub position_sd: f64,
    /// Velocity, metres a second.
    pub velocity: [f64; 2],
    /// Height of the head's centre above the floor, metres.
    pub head: f64,
    /// Hands seen just now, at most two, in space.
    pub hands: Vec<Hand>,
    /// Other tracks that this one may have been swapped with since they touched; empty when certain.
    pub tangled: Vec<TrackId>,
}

/// A hand in space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hand {
    /// Place, metres.
    pub position: [f64; 3],
    /// Standard deviation, metres.
    pub sd: f64,
}

/// What the store holds now: sessions, carts, shelves. The console's and kiosk's picture of cartd.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreView {
    /// When.
    pub at: Instant,
    /// Sessions not yet settled, and those settled of late.
    pub sessions: Vec<SessionView>,
    /// Settled mass on each plate; missing when the plate does not answer.
    pub plates: BTreeMap<PlateId, Mass>,
    /// Shelf events that wait for a person.
    pub reviews: Vec<Review>,
    /// Sessions settled since the ledger began.
    pub settled: u64,
}

/// A session on screens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Which.
    pub session: SessionId,
    /// Whose tracks.
    pub tracks: Vec<TrackId>,
    /// Where in its life.
    pub state: SessionState,
    /// When it began.
    pub entered: Instant,
    /// The cart now.
    pub lines: Vec<CartLine>,
}

/// A session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// In the store.
    Shopping,
    /// Left; evidence from before the exit is still being weighed.
    Settling,
    /// Waits for a person's decision on a shelf event.
    InReview,
    /// Charged, or found to owe nothing.
    Settled,
}

/// A product in a cart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CartLine {
    /// Which.
    pub product: ProductId,
    /// How many, above zero.
    pub quantity: u32,
    /// Probability that this line is exactly right, 0 to 1.
    pub confidence: f64,
    /// Shelf events behind it.
    pub evidence: Vec<MessageId>,
}

/// A settled visit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Repeated with the same id until acknowledged; also the payment's idempotency key.
    pub id: MessageId,
    /// Which visit.
    pub session: SessionId,
    /// Who pays; `None` for a visit without a credential, which is never charged but shown to staff.
    pub member: Option<MemberHandle>,
    /// When the visit began.
    pub entered: Instant,
    /// When the shopper left.
    pub left: Instant,
    /// When this receipt was made.
    pub settled: Instant,
    /// What they took.
    pub lines: Vec<ReceiptLine>,
    /// Sum of the lines.
    pub total: Money,
}

/// A line of a receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReceiptLine {
    /// What.
    pub product: ProductId,
    /// How many.
    pub quantity: u32,
    /// Price of one at the time.
    pub price: Money,
    /// Probability that this line is exactly right, 0 to 1.
    pub confidence: f64,
    /// Shelf events behind it.
    pub evidence: Vec<MessageId>,
}

/// A shelf event that no rule could settle: a person looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// The shelf event's id.
    pub event: MessageId,
    /// When the shelf changed.
    pub at: Instant,
    /// Where.
    pub plates: Vec<PlateId>,
    /// By how much.
    pub delta: Mass,
    /// What it may have been, likeliest first, at most eight.
    pub candidates: Vec<Candidate>,
}

/// One explanation of a shelf event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who; `None` for nobody known (staff, an object that fell, drift).
    pub session: Option<SessionId>,
    /// What moved: product and signed count (positive: into the cart).
    pub items: Vec<(ProductId, i32)>,
    /// Posterior probability, 0 to 1.
    pub probability: f64,
}

/// A person's answer to a review.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewDecision {
    /// Repeated with the same id until acknowledged.
    pub id: MessageId,
    /// The shelf event.
    pub event: MessageId,
    /// Who; `None`: charge nobody.
    pub session: Option<SessionId>,
    /// What moved, as in [`Candidate::items`].
    pub items: Vec<(ProductId, i32)>,
    /// Who decided.
    pub by: String,
}

/// A session ended: the member is outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionClosed {
    /// Repeated with the same id until acknowledged.
    pub id: MessageId,
    /// Which.
    pub session: SessionId,
    /// Whose.
    pub member: Option<MemberHandle>,
    /// How many came in on it; 0 from those who do not say.
    #[serde(default)]
    pub people: u32,
}

/// Health of a device or service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The service that speaks.
    pub service: String,
    /// The device it speaks of ("scanner", "camera-3", "load-cells-1"), or "service" for itself.
    pub device: String,
    /// How it is.
    pub state: HealthState,
    /// Since when.
    pub since: Instant,
    /// For people: what is wrong with what, empty when well.
    pub detail: String,
}

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Working.
    Up,
    /// Working badly (late, dim, noisy, losing frames).
    Degraded,
    /// Not working.
    Down,
}

/// A shopper asks for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaffCall {
    /// Which call.
    pub id: MessageId,
    /// From where ("kiosk-1", "entry-1").
    pub from: String,
    /// When.
    pub at: Instant,
}

/// Staff answers a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaffAnswer {
    /// Which call.
    pub call: MessageId,
    /// How far it is.
    pub state: StaffCallState,
}

/// How far a staff call is: shoppers see that somebody really comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StaffCallState {
    /// Sent to staff devices.
    Sent,
    /// Somebody has seen it.
    Seen,
    /// Somebody is on the way.
    Coming,
    /// Done.
    Closed,
}

/// The help kiosk's reader saw a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KioskScan {
    /// Which kiosk.
    pub kiosk: String,
    /// The text as scanned (GTIN, GS1 element string, Digital Link).
    pub text: String,
}

/// Bytes as base64 text.
mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}
