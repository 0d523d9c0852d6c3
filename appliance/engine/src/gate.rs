//! The gate decides who may pass: one lane's turnstile, from a grant to the passage that uses it. It knows no
//! GPIO, no clock and no network.
//!
//! The exit direction is free by the controller's own setting and needs nothing from here: exits are only
//! counted. The fire release is wired in hardware: here it is only observed.

#[cfg(test)]
mod tests;

use crate::admission::Admitted;
use crate::message::{Authority, DenyReason, Direction, GateStatus, GateView, Grant, Notice};
use crate::time::{Instant, Millis};
use crate::units::{LaneId, MemberHandle};

/// Longest unlock pulse there can be: common controllers take 2 s and more as "hold open", and close without
/// any safety when such a contact ends.
pub const UNLOCK_MAX: Millis = Millis(1_900);
/// Shortest pulse that controllers promise to see is 100 ms, the ideal one of their manuals.
pub const UNLOCK_MIN: Millis = Millis(100);
/// The pulse used: three times the minimum, for slow inputs.
pub const UNLOCK: Millis = Millis(300);
/// Inactive time between two pulses, so that the controller counts two.
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
/// Two passages in one direction within this time are one contact that bounces: nobody is that fast.
pub const PASSAGE_DEBOUNCE: Millis = Millis(100);
/// Somebody who stands in the passage for so long without a grant blocks it.
pub const BLOCKED_AFTER: Millis = Millis::from_seconds(3);

/// How long a refusal is shown, and the hint after it; how long a greeting.
const SHOW_REFUSAL: Millis = Millis::from_seconds(4);
const SHOW_HINT: Millis = Millis::from_seconds(6);
const SHOW_GREETING: Millis = Millis::from_seconds(2);

const _: () = assert!(UNLOCK.0 >= UNLOCK_MIN.0 && UNLOCK.0 <= UNLOCK_MAX.0 && UNLOCK_MAX.0 < 2_000);

/// What happened.
#[derive(Clone, Debug, PartialEq)]
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
    /// The turnstile went away: reading or driving it failed.
    Lost,
    /// The turnstile was opened (again); its lines will be reported.
    Found,
    /// Nothing but time.
    Tick,
}

/// What the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Make the output lines equal to this.
    Drive(Outputs),
    /// Tell the person at the scanner.
    Signal(Signal),
    /// Somebody went through.
    Passed {
        /// When.
        at: Instant,
        /// Which way.
        direction: Direction,
        /// What entitled them.
        authority: Authority,
    },
    /// So many passages of a grant were not taken, and no longer can be.
    Lapsed {
        /// Whose grant.
        member: MemberHandle,
        /// How many.
        passages: u8,
    },
}

/// What the person at the scanner hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Come in.
    Good,
    /// Refused.
    Bad,
}

/// What the turnstile's lines should be; the shell knows which electrical direction is the entry. The default
/// is the safe state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct Gate {
    lane: LaneId,
    takes_entries: bool,
    lines: Lines,
    link: Link,
    serving: Option<Serving>,
    entry: Pulse,
    exit: Pulse,
    passed: [Option<Instant>; 2],
    detected_at: Option<Instant>,
    transient: Option<(Notice, Instant)>,
    shown: (GateStatus, Notice, Instant),
    counts: Counts,
}

/// The way to the turnstile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Lost,
    /// Open, and what it was last told, if anything.
    Open(Option<Outputs>),
}

/// Levels of the input lines, as far as known since the turnstile was opened.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    passage: [Option<bool>; 2],
    ready: bool,
    detector: bool,
    /// An alarm is kept while the turnstile is lost: it ends only when its line says so.
    fire_alarm: Option<bool>,
    emergency: Option<bool>,
}

/// A grant that people are using.
#[derive(Clone, Debug)]
struct Serving {
    grant: Grant,
    left: u8,
    taken: u8,
    since: Instant,
    until: Instant,
}

/// An unlock line's pulse.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    /// Active until then.
    until: Option<Instant>,
    /// To begin then.
    next: Option<Instant>,
    /// Not to begin before then.
    free_at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    unlocks: u64,
    entries: u64,
    exits: u64,
    denials: u64,
}

impl Gate {
    /// A lane whose turnstile has not been opened yet. `takes_entries`: whether shoppers may come in here.
    #[must_use]
    pub fn new(lane: LaneId, takes_entries: bool, now: Instant) -> Self {
        Self {
            lane,
            takes_entries,
            lines: Lines::default(),
            link: Link::Lost,
            serving: None,
            entry: Pulse::default(),
            exit: Pulse::default(),
            passed: [None; 2],
            detected_at: None,
            transient: None,
            shown: (GateStatus::Malfunction, Notice::OutOfOrder, now),
            counts: Counts::default(),
        }
    }

    /// Takes one input. Total: never fails, never blocks.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Command>) {
        self.advance(now, out);
        match input {
            Input::Grant(admitted) => self.grant(now, admitted, out),
            Input::Deny(reason) => self.deny(now, reason, out),
            Input::PassageLine(direction, active) => {
                let before = self.lines.passage[direction as usize].replace(active);
                if active && before == Some(false) {
                    self.passage(now, direction, out);
                }
            }
            Input::Ready(active) => self.lines.ready = active,
            Input::Detector(active) => {
                if active != self.lines.detector {
                    self.lines.detector = active;
                    self.detected_at = active.then_some(now);
                    self.person_moved(now, active);
                }
            }
            Input::FireAlarm(active) => self.lines.fire_alarm = Some(active),
            Input::EmergencyButton(active) => {
                let before = self.lines.emergency.replace(active);
                if active && before == Some(false) && self.obstacle().is_none() {
                    self.exit.request(now);
                }
            }
            Input::Lost => self.lose(),
            Input::Found => {
                self.lose();
                self.link = Link::Open(None);
            }
            Input::Tick => {}
        }
        if self.obstacle().is_some() {
            self.abandon(now, out);
        }
        // What this input asked for may be due at once.
        self.advance(now, out);
        self.drive(out);
        self.note_change(now);
    }

    /// When to call [`Self::handle`] with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let may_block = self.serving.is_none() && self.shown.0 == GateStatus::Closed;
        [
            self.entry.deadline(),
            self.exit.deadline(),
            self.serving.as_ref().map(|serving| serving.until),
            self.transient.as_ref().map(|(_, until)| *until),
            self.detected_at.filter(|_| may_block).map(|at| at.after(BLOCKED_AFTER)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Why a credential would be refused now, whatever it is.
    #[must_use]
    pub fn refuses(&self) -> Option<DenyReason> {
        match self.obstacle() {
            Some(Obstacle::Fire) => Some(DenyReason::LaneClosed),
            Some(Obstacle::Fault) => Some(DenyReason::LaneFaulty),
            None if !self.takes_entries => Some(DenyReason::LaneClosed),
            None if self.serving.is_some() => Some(DenyReason::LaneBusy),
            None => None,
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

    fn grant(&mut self, now: Instant, admitted: Admitted, out: &mut Vec<Command>) {
        let Admitted { grant, passages } = admitted;
        if let Some(reason) = self.refuses() {
            out.push(Command::Lapsed { member: grant.member, passages });
            return self.deny(now, reason, out);
        }
        let until = now.after(waiting(&grant));
        self.serving = Some(Serving { grant, left: passages, taken: 0, since: now, until });
        self.transient = None;
        self.entry.request(now);
        out.push(Command::Signal(Signal::Good));
    }

    fn deny(&mut self, now: Instant, reason: DenyReason, out: &mut Vec<Command>) {
        // The screen belongs to the shopper who is being served; scanners also read the same code twice.
        if self.serving.is_some() {
            return;
        }
        self.counts.denials += 1;
        self.transient = Some((Notice::Refused { reason }, now.after(SHOW_REFUSAL)));
        out.push(Command::Signal(Signal::Bad));
    }

    fn passage(&mut self, now: Instant, direction: Direction, out: &mut Vec<Command>) {
        let last = self.passed[direction as usize].replace(now);
        if last.is_some_and(|last| now.since(last) < PASSAGE_DEBOUNCE) {
            return;
        }
        let authority = match direction {
            Direction::Exit => {
                self.counts.exits += 1;
                self.greet(now, Notice::Goodbye);
                Authority::Free
            }
            Direction::Entry => {
                self.counts.entries += 1;
                self.entered(now)
            }
        };
        out.push(Command::Passed { at: now, direction, authority });
    }

    fn entered(&mut self, now: Instant) -> Authority {
        if self.lines.fire_alarm == Some(true) {
            return Authority::Free;
        }
        let Some(serving) = &mut self.serving else {
            self.transient = Some((Notice::StepBack, now.after(SHOW_REFUSAL)));
            return Authority::None;
        };
        let grant =
            Grant { party_member: serving.grant.party_member + serving.taken, ..serving.grant.clone() };
        serving.left -= 1;
        serving.taken += 1;
        self.entry.cut(now);
        if serving.left == 0 {
            self.serving = None;
            self.greet(now, Notice::Welcome { remaining: 0 });
        } else {
            serving.since = now;
            serving.until = now.after(waiting(&grant));
            self.entry.request(now);
        }
        Authority::Grant(grant)
    }

    fn greet(&mut self, now: Instant, notice: Notice) {
        if self.serving.is_none() {
            self.transient = Some((notice, now.after(SHOW_GREETING)));
        }
    }

    /// Slow people are not turned into tailgaters: the grant waits while somebody is in the passage.
    fn person_moved(&mut self, now: Instant, inside: bool) {
        if let Some(serving) = &mut self.serving {
            let last = serving.since.after(WAITING_MAX);
            serving.until = if inside {
                last
            } else {
                serving.since.after(waiting(&serving.grant)).max(now.after(WAITING_CLEAR)).min(last)
            };
        }
    }

    fn lose(&mut self) {
        let fire_alarm = self.lines.fire_alarm.filter(|active| *active);
        self.lines = Lines { fire_alarm, ..Lines::default() };
        self.detected_at = None;
        self.link = Link::Lost;
    }

    /// Ends what is under way: the lines become inactive, the grant lapses.
    fn abandon(&mut self, now: Instant, out: &mut Vec<Command>) {
        self.entry.cut(now);
        self.exit.cut(now);
        self.lapse(out);
    }

    fn lapse(&mut self, out: &mut Vec<Command>) {
        if let Some(Serving { grant, left, .. }) = self.serving.take() {
            out.push(Command::Lapsed { member: grant.member, passages: left });
        }
    }

    /// Does what became due by `now`.
    fn advance(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.serving.as_ref().is_some_and(|serving| now >= serving.until) {
            self.entry.cut(now);
            self.lapse(out);
            self.transient = Some((Notice::ScanHere, now.after(SHOW_HINT)));
        }
        for pulse in [&mut self.entry, &mut self.exit] {
            if pulse.advance(now) {
                self.counts.unlocks += 1;
            }
        }
        if let Some((notice, until)) = &self.transient
            && now >= *until
        {
            let hint = matches!(notice, Notice::Refused { .. } | Notice::StepBack);
            self.transient = hint.then(|| (Notice::ScanHere, now.after(SHOW_HINT)));
        }
    }

    fn outputs(&self) -> Outputs {
        if self.obstacle().is_some() {
            return Outputs::default();
        }
        let warning = self.serving.is_none()
            && matches!(self.transient, Some((Notice::Refused { .. } | Notice::StepBack, _)));
        Outputs {
            unlock_entry: self.entry.until.is_some(),
            unlock_exit: self.exit.until.is_some(),
            beacon_red: warning,
            beacon_green: self.serving.is_some(),
            wide: self.serving.as_ref().is_some_and(|serving| serving.grant.wide),
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
        let blocked = self.detected_at.is_some_and(|at| now.since(at) >= BLOCKED_AFTER);
        let status = match self.obstacle() {
            Some(Obstacle::Fire) => GateStatus::Open,
            Some(Obstacle::Fault) => GateStatus::Malfunction,
            None if self.serving.is_some() => GateStatus::Open,
            None if blocked => GateStatus::Blocked,
            None => GateStatus::Closed,
        };
        let notice = match (self.obstacle(), &self.serving, &self.transient) {
            (Some(Obstacle::Fire), ..) => Notice::Evacuate,
            (Some(Obstacle::Fault), ..) => Notice::OutOfOrder,
            (None, Some(serving), _) => Notice::Welcome { remaining: serving.left },
            (None, None, Some((notice, _))) => notice.clone(),
            (None, None, None) if status == GateStatus::Blocked => Notice::StepBack,
            (None, None, None) => Notice::Idle,
        };
        if (status, &notice) != (self.shown.0, &self.shown.1) {
            self.shown = (status, notice, now);
        }
    }
}

fn waiting(grant: &Grant) -> Millis {
    if grant.wide { WAITING_WIDE } else { WAITING }
}

/// Why the lane serves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Fire,
    Fault,
}

impl Pulse {
    /// Asks for a pulse as soon as one may begin.
    fn request(&mut self, now: Instant) {
        self.next = Some(now.max(self.free_at));
    }

    /// Ends the pulse, and those asked for.
    fn cut(&mut self, now: Instant) {
        self.next = None;
        if self.until.take().is_some() {
            self.free_at = now.after(UNLOCK_GAP);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.until.or(self.next)
    }

    /// Begins or ends what is due; true when a pulse begins.
    fn advance(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            self.free_at = now.after(UNLOCK_GAP);
            self.next = self.next.map(|next| next.max(self.free_at));
        }
        if self.until.is_none() && self.next.is_some_and(|next| now >= next) {
            self.next = None;
            self.until = Some(now.after(UNLOCK));
            return true;
        }
        false
    }
}
