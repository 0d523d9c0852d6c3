//! The gate decides who may pass: one lane's turnstile, from a grant to the passage that uses it. It knows no
//! GPIO, no clock and no network.
//!
//! It deliberately never drives a turnstile's stop input: that would lock the exit as well, and with an
//! unlock input it means "always free" to common controllers. Exits need no credential: the controller's own
//! setting releases them, or the gate does, or a button, in every mode. The fire release is wired in
//! hardware: here it is only observed, and while it lasts no line is driven at all.

pub mod floor;
mod lines;
mod modes;
mod orders;
mod passage;
mod release;
mod settings;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::admission::Admitted;
use crate::message::{
    Authority, DenyReason, Direction, GateFact, GateMode, GateOrder, GateOutcome, GateService, GateStatus,
    GateTask, GateView, Incident, Notice, OrderRefusal,
};
use crate::time::{Instant, Millis};
use crate::units::{LaneId, MemberHandle};
use lines::{Change, Lines};
use modes::Modes;
use orders::Orders;
pub use passage::Crossing;
use passage::Passages;
pub use release::Control;
use release::Release;
pub use settings::Settings;

pub use crate::message::Edges;

/// Longest activation of an unlock line there can be: common controllers take 2 s and more as "hold open",
/// and close without any safety when such a contact ends.
pub const UNLOCK_MAX: Millis = Millis(1_900);
/// Shortest pulse that controllers promise to see is 100 ms, the ideal one of their manuals.
pub const UNLOCK_MIN: Millis = Millis(100);
/// The pulse used: three times the minimum, for slow inputs.
pub const UNLOCK: Millis = Millis(300);
/// Under level control, an activation: short enough that a late wake-up does not reach [`UNLOCK_MAX`].
pub const HOLD: Millis = Millis(1_500);
/// Inactive time between two activations, so that the controller counts two.
pub const UNLOCK_GAP: Millis = Millis(200);
/// How long a grant waits for its passage; the waiting time of common controllers.
pub const WAITING: Millis = Millis::from_seconds(8);
/// The same with a wheelchair or a pram.
pub const WAITING_WIDE: Millis = Millis::from_seconds(16);
/// While somebody stands in the passage, the grant waits on, but no longer than this in all.
pub const WAITING_MAX: Millis = Millis::from_seconds(60);
/// How long a grant still waits after the passage was seen to be clear: the passage sensor lies behind the
/// detector.
const WAITING_CLEAR: Millis = Millis::from_seconds(2);
/// A passage so soon after its grant lapsed is its late one.
pub const LATE: Millis = Millis::from_seconds(2);
/// Who comes in so soon after somebody who was let in is a tailgater.
pub const TAILGATE: Millis = Millis::from_seconds(3);
/// An exit so soon after an entry is the same person: nobody else gets past them.
pub const QUICK: Millis = Millis::from_seconds(1);
/// Two passages in one direction within this time are one contact that bounces: nobody is that fast.
pub const PASSAGE_DEBOUNCE: Millis = Millis(100);
/// Somebody who stands in the passage for so long without a grant blocks it.
pub const BLOCKED_AFTER: Millis = Millis::from_seconds(3);
/// Something that stands in the passage for so long is reported to staff.
pub const HELD_AFTER: Millis = Millis::from_seconds(20);
/// The floor tracker sees the crossing of a passage at most so long before its contact ...
pub const CROSSED_BEFORE: Millis = Millis::from_seconds(2);
/// ... and at most so long after it.
pub const CROSSED_AFTER: Millis = Millis::from_seconds(3);
/// A passage's record is closed so long after it: by then the floor tracker has spoken, if it is there at
/// all.
pub const RECORD_AFTER: Millis = Millis::from_seconds(6);
/// An order may live for so long: it waits for a connection, not for another day.
pub const ORDER_LIFE_MAX: Millis = Millis::from_seconds(600);
/// Somebody whom the detector saw go so long ago has nothing to do with a passage now.
const SEEN_BEFORE: Millis = Millis::from_seconds(3);

/// How long a refusal is shown, and the hint after it; how long a greeting.
const SHOW_REFUSAL: Millis = Millis::from_seconds(4);
const SHOW_HINT: Millis = Millis::from_seconds(6);
const SHOW_GREETING: Millis = Millis::from_seconds(2);

const _: () = assert!(UNLOCK.0 >= UNLOCK_MIN.0 && UNLOCK.0 <= HOLD.0);
const _: () = assert!(HOLD.0 < UNLOCK_MAX.0 && UNLOCK_MAX.0 < 2_000);
const _: () = assert!(RECORD_AFTER.0 > CROSSED_AFTER.0 && CROSSED_AFTER.0 >= CROSSED_BEFORE.0);

/// What happened. A journal of `(Instant, Input)`, ticks included, replays a lane to the same commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A credential was accepted. Ask [`Gate::refuses`] first, so that no code is used up in vain.
    Grant(Admitted),
    /// A credential was refused.
    Deny(DenyReason),
    /// Level of a passage line: somebody went through when it rises.
    PassageLine(Direction, bool),
    /// Level of the controller's ready line.
    Ready(bool),
    /// Level of the detector between the wings.
    Detector(bool),
    /// Level of the fire alarm.
    FireAlarm(bool),
    /// Level of the emergency exit button.
    EmergencyButton(bool),
    /// Level of the cabinet's contact: active when it is open.
    Tamper(bool),
    /// Somebody asks to leave in another way: a button on a screen, a sensor inside.
    ExitRequest,
    /// The floor tracker saw somebody cross the passage line; up to some seconds late, or never.
    Crossed(Crossing),
    /// Whether the store is open now, and when that turns by itself. Never told: open.
    Hours {
        /// Open now.
        open: bool,
        /// When it closes (or opens), if known.
        until: Option<Instant>,
    },
    /// So many people are in the store, says who knows better than this lane's own count.
    Inside(u32),
    /// Staff orders.
    Order(GateOrder),
    /// The turnstile went away: reading or driving it failed.
    Lost,
    /// The turnstile was opened (again); its lines will be reported.
    Found,
    /// Nothing but time.
    Tick,
}

/// What the shell shall do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Make the output lines equal to this.
    Drive(Outputs),
    /// Tell the person at the scanner.
    Signal(Signal),
    /// Somebody went through.
    Passed(Passed),
    /// So many passages of a grant were not taken, and no longer can be, unless the next one is a late one.
    Lapsed {
        /// Whose grant.
        member: MemberHandle,
        /// How many.
        passages: u8,
        /// Why.
        cause: Cause,
    },
    /// Something for records and for staff.
    Report(GateFact),
}

/// Somebody went through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    /// The lane's passages are numbered from 1 since start.
    pub number: u64,
    /// When.
    pub at: Instant,
    /// Which way.
    pub direction: Direction,
    /// What entitled them.
    pub authority: Authority,
    /// Shortly after the grant had lapsed.
    pub late: bool,
    /// Number of the entry that this exit undoes: the same person turned round between the sensors.
    pub undoes: Option<u64>,
}

/// Why passages of a grant were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Nobody came.
    Waited,
    /// The lane operates in a way that does not let them in: single passages, locked, maintenance.
    Mode,
    /// The turnstile broke or was lost.
    Fault,
    /// The fire alarm freed everybody.
    Evacuation,
    /// The grant was not served at all.
    Refused(DenyReason),
}

/// What the person at the scanner hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// Come in.
    Good,
    /// Refused.
    Bad,
}

/// What the turnstile's lines should be; the shell knows which electrical direction is the entry. The default
/// is the safe state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outputs {
    /// Release for one entry.
    pub unlock_entry: bool,
    /// Release for one exit.
    pub unlock_exit: bool,
    /// Red light.
    pub beacon_red: bool,
    /// Green light.
    pub beacon_green: bool,
    /// Open wide.
    pub wide: bool,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gate {
    lane: LaneId,
    modes: Modes,
    orders: Orders,
    lines: Lines,
    link: Link,
    serving: Option<Serving>,
    entry: Release,
    exit: Release,
    /// An exit was asked for, and is released until then.
    exit_until: Option<Instant>,
    passages: Passages,
    /// Since when somebody is in the passage without being served.
    alone: Option<Instant>,
    blocked: bool,
    held: bool,
    /// Entries needed nothing until just now.
    was_free: bool,
    transient: Option<(Notice, Instant)>,
    shown: (GateStatus, Notice, Instant),
    counts: Counts,
    facts: Vec<GateFact>,
}

/// The way to the turnstile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Link {
    Lost,
    /// Open, and what it was last told, if anything.
    Open(Option<Outputs>),
}

/// Somebody may come in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Serving {
    /// A grant or an order.
    authority: Authority,
    wide: bool,
    left: u8,
    taken: u8,
    since: Instant,
    until: Instant,
}

/// Why the lane serves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Obstacle {
    Fire,
    Fault,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Counts {
    unlocks: u64,
    entries: u64,
    exits: u64,
    denials: u64,
}

impl Gate {
    /// A lane whose turnstile has not been opened yet.
    #[must_use]
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let release = Release::new(settings.control, settings.controller_waiting);
        Self {
            lane: settings.lane.clone(),
            modes: Modes::new(settings),
            orders: Orders::default(),
            lines: Lines::default(),
            link: Link::Lost,
            serving: None,
            entry: release.clone(),
            exit: release,
            exit_until: None,
            passages: Passages::default(),
            alone: None,
            blocked: false,
            held: false,
            was_free: false,
            transient: None,
            shown: (GateStatus::Malfunction, Notice::OutOfOrder, now),
            counts: Counts::default(),
            facts: Vec::new(),
        }
    }

    /// Takes one input. Total: never fails, never blocks.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Command>) {
        self.advance(now, out);
        self.take(now, input, out);
        if let Some(obstacle) = self.obstacle() {
            self.abandon(now, obstacle, out);
        }
        // What this input asked for may be due at once.
        self.advance(now, out);
        out.extend(self.facts.drain(..).map(Command::Report));
        self.drive(out);
        self.note_change(now);
    }

    fn take(&mut self, now: Instant, input: Input, out: &mut Vec<Command>) {
        match input {
            Input::Grant(admitted) => self.grant(now, admitted, out),
            Input::Deny(reason) => self.deny(now, reason, out),
            Input::PassageLine(direction, active) => match self.lines.passage(direction, active) {
                Change::Rise => self.passage(now, direction, out),
                Change::Fall => self.passages.falls(now, direction),
                Change::None => {}
            },
            Input::Ready(active) => self.lines.ready = active,
            Input::Detector(active) => {
                if self.lines.detector(now, active) != Change::None {
                    self.person_moved(now, active);
                }
            }
            Input::FireAlarm(active) => {
                if self.lines.fire_alarm(active) != Change::None {
                    self.incident(Incident::FireAlarm { active });
                }
            }
            Input::EmergencyButton(active) => {
                if self.lines.emergency(active) == Change::Rise {
                    self.incident(Incident::EmergencyButton);
                    self.ask_exit(now);
                }
            }
            Input::Tamper(active) => {
                if self.lines.tamper(active) != Change::None {
                    self.incident(Incident::Tamper { open: active });
                }
            }
            Input::ExitRequest => self.ask_exit(now),
            Input::Crossed(crossing) => self.passages.crossed(crossing),
            Input::Hours { open, until } => self.modes.hours(open, until),
            Input::Inside(people) => self.modes.now.inside = people,
            Input::Order(order) => self.order(now, order, out),
            Input::Lost => self.lose(now),
            Input::Found => {
                self.lose(now);
                self.entry.reset(now);
                self.link = Link::Open(None);
            }
            Input::Tick => {}
        }
    }

    /// When to call [`Self::handle`] with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let may_block = self.serving.is_none() && !self.blocked && self.tells_off();
        let busy = self.lines.detected.is_some();
        [
            self.entry.deadline(busy),
            self.exit.deadline(false),
            self.exit_until,
            self.serving.as_ref().map(|serving| serving.until),
            self.transient.as_ref().map(|(_, until)| *until),
            self.alone.filter(|_| may_block).map(|at| at.after(BLOCKED_AFTER)),
            self.lines.detected.filter(|_| !self.held).map(|at| at.after(HELD_AFTER)),
            self.modes.deadline(),
            self.passages.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Why a credential would be refused now, whoever shows it. Further ones may be refused once it is known
    /// whose they are: staff come in when shoppers may not.
    #[must_use]
    pub fn refuses(&self) -> Option<DenyReason> {
        match self.obstacle() {
            Some(Obstacle::Fire) => Some(DenyReason::LaneClosed),
            Some(Obstacle::Fault) => Some(DenyReason::LaneFaulty),
            None => {
                self.modes.refuses_all().or_else(|| self.serving.is_some().then_some(DenyReason::LaneBusy))
            }
        }
    }

    /// The lane for screens; the shell adds its latencies.
    #[must_use]
    pub fn view(&self) -> GateView {
        let (status, notice, at) = self.shown.clone();
        GateView {
            lane: self.lane.clone(),
            at,
            status,
            notice,
            modes: self.modes.now,
            unlocks: self.counts.unlocks,
            entries: self.counts.entries,
            exits: self.counts.exits,
            denials: self.counts.denials,
            latency_us: Vec::new(),
        }
    }

    fn obstacle(&self) -> Option<Obstacle> {
        match (self.lines.fire_alarm, self.link) {
            (Some(true), _) => Some(Obstacle::Fire),
            (None, _) | (_, Link::Lost) => Some(Obstacle::Fault),
            (Some(false), Link::Open(_)) => (!self.lines.ready).then_some(Obstacle::Fault),
        }
    }

    /// Whether an exit can be released: also by a controller that says it is not ready, for what a broken
    /// wire is worth, but not when the fire alarm has released it.
    fn can_release_exit(&self) -> bool {
        self.link != Link::Lost && self.lines.fire_alarm != Some(true)
    }

    fn exit_wanted(&self) -> bool {
        let asked = self.exit_until.is_some() || self.lines.emergency;
        self.can_release_exit() && (asked || self.modes.exit_free())
    }

    fn entry_wanted(&self) -> bool {
        self.obstacle().is_none() && (self.serving.is_some() || self.modes.entry_free())
    }

    /// Whether people in the passage are asked to step back and reported: not those who clean or repair it.
    fn tells_off(&self) -> bool {
        !self.modes.being_worked_on()
    }

    fn incident(&mut self, incident: Incident) {
        self.facts.push(GateFact::Incident { incident });
    }

    fn grant(&mut self, now: Instant, admitted: Admitted, out: &mut Vec<Command>) {
        let Admitted { grant, passages } = admitted;
        let shopper = || if grant.staff { None } else { self.modes.refuses_shoppers(passages) };
        let (member, wide) = (grant.member, grant.wide);
        if let Some(reason) = self.refuses().or_else(shopper) {
            out.push(Command::Lapsed { member, passages, cause: Cause::Refused(reason) });
            return self.deny(now, reason, out);
        }
        let served = if self.modes.now.entry == GateMode::Single { passages.min(1) } else { passages };
        if served < passages {
            out.push(Command::Lapsed { member, passages: passages - served, cause: Cause::Mode });
        }
        if served > 0 {
            self.serve(now, Authority::Grant(grant), served, wide);
            out.push(Command::Signal(Signal::Good));
        }
    }

    fn serve(&mut self, now: Instant, authority: Authority, left: u8, wide: bool) {
        let until = now.after(waiting(wide));
        self.serving = Some(Serving { authority, wide, left, taken: 0, since: now, until });
        self.transient = None;
        self.passages.nobody_is_late();
    }

    fn deny(&mut self, now: Instant, reason: DenyReason, out: &mut Vec<Command>) {
        // The screen belongs to the shopper who is being served; scanners also read the same code twice.
        if self.serving.is_some() {
            return;
        }
        self.counts.denials += 1;
        self.passages.nobody_is_late();
        self.transient = Some((Notice::Refused { reason }, now.after(SHOW_REFUSAL)));
        out.push(Command::Signal(Signal::Bad));
    }

    fn order(&mut self, now: Instant, order: GateOrder, out: &mut Vec<Command>) {
        if order.lane != self.lane {
            return;
        }
        let id = order.id.clone();
        let outcome = self.orders.settled(now, &order).unwrap_or_else(|| {
            let outcome = match self.carry_out(now, &order, out) {
                Ok(()) => GateOutcome::Done,
                Err(reason) => GateOutcome::Refused { reason },
            };
            self.orders.settle(order, outcome);
            outcome
        });
        self.facts.push(GateFact::Ordered { order: id, outcome });
    }

    fn carry_out(
        &mut self,
        now: Instant,
        order: &GateOrder,
        out: &mut Vec<Command>,
    ) -> Result<(), OrderRefusal> {
        match order.task {
            GateTask::Open { direction: Direction::Entry, wide } => match self.obstacle() {
                Some(Obstacle::Fire) => return Err(OrderRefusal::Evacuation),
                Some(Obstacle::Fault) => return Err(OrderRefusal::LaneFaulty),
                None if self.serving.is_some() => return Err(OrderRefusal::LaneBusy),
                None => self.serve(now, Authority::Order { order: order.id.clone() }, 1, wide),
            },
            GateTask::Open { direction: Direction::Exit, wide: _ } => {
                if self.lines.fire_alarm == Some(true) {
                    return Err(OrderRefusal::Evacuation);
                }
                if !self.can_release_exit() {
                    return Err(OrderRefusal::LaneFaulty);
                }
                self.ask_exit(now);
            }
            GateTask::SetMode { direction, mode } => self.modes.set_mode(direction, mode)?,
            GateTask::SetService { service } => self.modes.now.service = service,
        }
        if self.modes.now.entry == GateMode::Locked || self.modes.now.service == GateService::Maintenance {
            // Staff may still open for one; a code waits no longer.
            let by_code = |serving: &Serving| matches!(serving.authority, Authority::Grant(_));
            if self.serving.as_ref().is_some_and(by_code) {
                self.lapse(now, Cause::Mode, out);
            }
        }
        Ok(())
    }

    /// Whoever asks to leave may, whatever the lane does otherwise; from a lost turnstile once it is found.
    fn ask_exit(&mut self, now: Instant) {
        self.exit_until = Some(now.after(WAITING));
        if self.can_release_exit() {
            self.exit.ask(now);
        }
    }

    fn passage(&mut self, now: Instant, direction: Direction, out: &mut Vec<Command>) {
        if !self.passages.rises(now, direction) {
            return;
        }
        let (mut late, mut undone) = (false, None);
        let authority = match direction {
            Direction::Exit => {
                self.counts.exits += 1;
                undone = self.passages.undone(now);
                Authority::Free
            }
            Direction::Entry => {
                self.counts.entries += 1;
                let authority = self.entered(now);
                late = authority.1;
                authority.0
            }
        };
        self.modes.count(direction);
        let edges = self.lines.edges(now);
        let number = self.passages.take(edges, direction, authority.clone(), late, &mut self.facts);
        let undoes = undone.as_ref().map(|(entry, _)| *entry);
        out.push(Command::Passed(Passed {
            number,
            at: now,
            direction,
            authority: authority.clone(),
            late,
            undoes,
        }));
        match direction {
            Direction::Exit => {
                self.exit.used(now);
                if undone.is_none() {
                    self.greet(now, Notice::Goodbye);
                }
            }
            Direction::Entry => {
                self.entry.used(now);
                if authority == Authority::None {
                    self.tell_off(now, number);
                } else {
                    self.greet(now, Notice::Welcome { remaining: 0 });
                }
            }
        }
        if let Some((entry, authority)) = undone {
            self.facts.push(GateFact::WalkedBack { entry, exit: number, authority });
        }
        self.alone = self.lines.detected.map(|_| now);
    }

    /// What entitles an entry now, and whether it is a late one.
    fn entered(&mut self, now: Instant) -> (Authority, bool) {
        if self.lines.fire_alarm == Some(true) {
            return (Authority::Free, false);
        }
        if let Some(serving) = &mut self.serving {
            let mut authority = serving.authority.clone();
            if let Authority::Grant(grant) = &mut authority {
                grant.party_member = grant.party_member.saturating_add(serving.taken);
            }
            serving.left -= 1;
            serving.taken += 1;
            serving.since = now;
            serving.until = now.after(waiting(serving.wide));
            self.serving.take_if(|serving| serving.left == 0);
            return (authority, false);
        }
        if self.entry_wanted() {
            return (Authority::Free, false);
        }
        match self.passages.late(now) {
            Some(authority) => (authority, true),
            None if self.modes.being_worked_on() => (Authority::Free, false),
            None => (Authority::None, false),
        }
    }

    fn tell_off(&mut self, now: Instant, number: u64) {
        let (notice, incident) = if self.modes.only_exit() {
            (Notice::WrongWay, Incident::WrongWay { passage: number })
        } else {
            (Notice::StepBack, self.passages.unauthorised(now, number))
        };
        self.transient = Some((notice, now.after(SHOW_REFUSAL)));
        self.incident(incident);
    }

    fn greet(&mut self, now: Instant, notice: Notice) {
        if self.serving.is_none() {
            self.transient = Some((notice, now.after(SHOW_GREETING)));
        }
    }

    /// Slow people are not turned into tailgaters: the grant waits while somebody is in the passage.
    fn person_moved(&mut self, now: Instant, inside: bool) {
        self.alone = inside.then_some(now);
        self.held = false;
        self.passages.detector(now, inside);
        if let Some(serving) = &mut self.serving {
            let last = serving.since.after(WAITING_MAX);
            serving.until = if inside {
                last
            } else {
                serving.since.after(waiting(serving.wide)).max(now.after(WAITING_CLEAR)).min(last)
            };
        }
    }

    fn lose(&mut self, now: Instant) {
        self.lines.lose();
        self.passages.detector(now, false);
        self.passages.nobody_is_late();
        self.alone = None;
        self.exit.reset(now);
        self.link = Link::Lost;
    }

    /// Ends what is under way: the lines become inactive, the grant lapses.
    fn abandon(&mut self, now: Instant, obstacle: Obstacle, out: &mut Vec<Command>) {
        self.entry.reset(now);
        if !self.can_release_exit() {
            self.exit.reset(now);
        }
        let cause = match obstacle {
            Obstacle::Fire => Cause::Evacuation,
            Obstacle::Fault => Cause::Fault,
        };
        self.lapse(now, cause, out);
    }

    fn lapse(&mut self, now: Instant, cause: Cause, out: &mut Vec<Command>) {
        let Some(Serving { mut authority, left, taken, .. }) = self.serving.take() else { return };
        if let Authority::Grant(grant) = &mut authority {
            out.push(Command::Lapsed { member: grant.member, passages: left, cause });
            grant.party_member = grant.party_member.saturating_add(taken);
        }
        if self.link != Link::Lost {
            self.passages.lapsed(now, authority, self.lines.detected.is_some());
        }
        self.alone = self.lines.detected.map(|_| now);
    }

    /// Does what became due by `now`.
    fn advance(&mut self, now: Instant, out: &mut Vec<Command>) {
        self.modes.advance(now);
        if self.serving.as_ref().is_some_and(|serving| now >= serving.until) {
            self.lapse(now, Cause::Waited, out);
            self.transient = Some((Notice::ScanHere, now.after(SHOW_HINT)));
        }
        self.exit_until.take_if(|until| now >= *until);
        self.release(now);
        if let Some(since) = self.lines.detected.filter(|since| !self.held && now >= since.after(HELD_AFTER))
        {
            self.held = true;
            if self.tells_off() {
                self.incident(Incident::Held { since });
            }
        }
        let alone = self.alone.is_some_and(|since| now >= since.after(BLOCKED_AFTER));
        self.blocked = alone && self.tells_off() && self.serving.is_none();
        self.passages.advance(now, &mut self.facts);
        self.lines.forget(now);
        if let Some((notice, until)) = &self.transient
            && now >= *until
        {
            let refused = matches!(notice, Notice::Refused { .. } | Notice::StepBack);
            let hint = refused && self.modes.notice() == Notice::Idle;
            self.transient = hint.then(|| (Notice::ScanHere, now.after(SHOW_HINT)));
        }
    }

    /// Makes the unlock outputs follow who may pass.
    fn release(&mut self, now: Instant) {
        let busy = self.lines.detected.is_some();
        let free = self.obstacle().is_none() && self.modes.entry_free();
        if self.was_free && !free && self.serving.is_none() && self.entry.unused() {
            self.passages.lapsed(now, Authority::Free, busy);
        }
        self.was_free = free;
        let (entry, exit) = (self.entry_wanted(), self.exit_wanted());
        for (wanted, busy, release) in [(entry, busy, &mut self.entry), (exit, false, &mut self.exit)] {
            if wanted {
                release.want(now);
            } else {
                release.end(now);
            }
            if release.advance(now, busy) {
                self.counts.unlocks += 1;
            }
        }
    }

    fn outputs(&self) -> Outputs {
        let unlock_exit = self.exit.active();
        if self.obstacle().is_some() {
            return Outputs { unlock_exit, ..Outputs::default() };
        }
        let open = self.entry_wanted();
        let warning = match self.transient {
            Some((Notice::Refused { .. } | Notice::StepBack | Notice::WrongWay, _)) => !open,
            _ => self.modes.refuses_all().is_some() && !open,
        };
        Outputs {
            unlock_entry: self.entry.active(),
            unlock_exit,
            beacon_red: warning,
            beacon_green: open,
            wide: self.serving.as_ref().is_some_and(|serving| serving.wide),
        }
    }

    fn drive(&mut self, out: &mut Vec<Command>) {
        let outputs = self.outputs();
        if let Link::Open(driven) = self.link
            && driven != Some(outputs)
        {
            self.link = Link::Open(Some(outputs));
            out.push(Command::Drive(outputs));
        }
    }

    fn note_change(&mut self, now: Instant) {
        let status = match self.obstacle() {
            Some(Obstacle::Fire) => GateStatus::Open,
            Some(Obstacle::Fault) => GateStatus::Malfunction,
            None if self.serving.is_some() => GateStatus::Open,
            None if self.blocked => GateStatus::Blocked,
            None if self.entry_wanted() || self.exit_wanted() => GateStatus::Open,
            None => GateStatus::Closed,
        };
        let notice = match (self.obstacle(), &self.serving, &self.transient) {
            (Some(Obstacle::Fire), ..) => Notice::Evacuate,
            (Some(Obstacle::Fault), ..) => match self.modes.notice() {
                // Who repairs it has unplugged it.
                Notice::Maintenance => Notice::Maintenance,
                _ => Notice::OutOfOrder,
            },
            (None, Some(serving), _) => Notice::Welcome { remaining: serving.left },
            (None, None, Some((notice, _))) => notice.clone(),
            (None, None, None) if self.blocked => Notice::StepBack,
            (None, None, None) => self.modes.notice(),
        };
        if (status, &notice) != (self.shown.0, &self.shown.1) {
            self.shown = (status, notice, now);
        }
    }

    /// The same gate at another time: two gates that will behave alike become equal.
    #[cfg(test)]
    fn moved(&self, change: &mut impl FnMut(&mut Instant)) -> Self {
        let mut gate = self.clone();
        gate.modes.each_time(change);
        gate.orders.each_time(change);
        gate.lines.each_time(change);
        gate.entry.each_time(change);
        gate.exit.each_time(change);
        gate.passages.each_time(change);
        if let Some(serving) = &mut gate.serving {
            change(&mut serving.since);
            change(&mut serving.until);
        }
        gate.exit_until.iter_mut().chain(&mut gate.alone).for_each(&mut *change);
        gate.transient.iter_mut().for_each(|(_, until)| change(until));
        // Since when something is shown, and what was counted, decides nothing.
        gate.shown.2 = Instant(0);
        gate.counts = Counts::default();
        gate
    }
}

fn waiting(wide: bool) -> Millis {
    if wide { WAITING_WIDE } else { WAITING }
}
