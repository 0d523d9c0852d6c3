//! The oracle: every input goes through it to a gate, and every command is held against the rules of the
//! design ("Safety of the gate") by a model that is kept apart from the gate's own state.
//!
//! It is shared with the campaign in `benches/gate_walks.rs` and names its types from the crate's root.

use std::collections::BTreeMap;

use crate::admission::Admitted;
use crate::gate::{
    Cause, Command, Control, Gate, HOLD, Input, LATE, ORDER_LIFE_MAX, Outputs, PASSAGE_DEBOUNCE, Passed,
    RECORD_AFTER, Settings, Signal, UNLOCK_GAP, UNLOCK_MAX, UNLOCK_MIN, WAITING, WAITING_MAX,
};
use crate::message::{
    Authority, DenyReason, Direction, GateFact, GateMode, GateOrder, GateOutcome, GateService, GateStatus,
    GateTask, GateView, Grant, Incident, Notice, Witness,
};
use crate::time::{Instant, Millis};
use crate::units::{LaneId, MemberHandle, MessageId};

pub const START: Instant = Instant(1_000_000);
pub const ALICE: MemberHandle = MemberHandle(1);
pub const BOB: MemberHandle = MemberHandle(2);

pub fn admitted(member: MemberHandle, passages: u8) -> Admitted {
    let grant = Grant {
        member,
        party: passages,
        party_member: 0,
        staff: false,
        wide: false,
        age_proof: false,
        guest: false,
    };
    Admitted { grant, passages }
}

pub fn staff(member: MemberHandle) -> Admitted {
    let admitted = admitted(member, 1);
    Admitted { grant: Grant { staff: true, ..admitted.grant }, ..admitted }
}

pub fn settings() -> Settings {
    Settings::new(LaneId::from("entry-1"), true)
}

/// An order that lives for a minute from [`START`] or from `now`.
pub fn order(id: &str, now: Instant, task: GateTask) -> Input {
    Input::Order(GateOrder {
        id: MessageId(id.to_owned()),
        lane: LaneId::from("entry-1"),
        expires: now.after(Millis::from_seconds(60)),
        by: "tester".to_owned(),
        reason: "test".to_owned(),
        task,
    })
}

/// A gate, or something that pretends to be one.
pub trait Subject: Clone {
    fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Command>);
    fn deadline(&self) -> Option<Instant>;
    fn refuses(&self) -> Option<DenyReason>;
    fn view(&self) -> GateView;
}

impl Subject for Gate {
    fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Command>) {
        Gate::handle(self, now, input, out);
    }
    fn deadline(&self) -> Option<Instant> {
        Gate::deadline(self)
    }
    fn refuses(&self) -> Option<DenyReason> {
        Gate::refuses(self)
    }
    fn view(&self) -> GateView {
        Gate::view(self)
    }
}

/// A gate under the oracle, with what the world outside knows of it.
#[derive(Clone)]
pub struct Bench<S = Gate> {
    pub gate: S,
    pub now: Instant,
    pub model: Model,
    /// What the last input returned.
    pub out: Vec<Command>,
    /// How many inputs there were, and incidents.
    pub inputs: u64,
    pub incidents: u64,
}

/// What the world outside knows: the levels it set, what it was promised, what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    control: Control,
    controller_waiting: Millis,
    takes_entries: bool,
    exit_by_controller: bool,
    capacity: Option<u32>,
    entry_mode: GateMode,
    exit_mode: GateMode,
    service: GateService,
    store_open: bool,
    turns: Option<Instant>,
    inside: u32,

    pub open: bool,
    ready: bool,
    fire: Option<bool>,
    passage: [Option<bool>; 2],
    rose: [Option<Instant>; 2],
    emergency: bool,
    tamper: bool,

    /// What the turnstile's lines are, as far as anybody drove them.
    pub lines: Outputs,
    entry: Line,
    exit: Line,
    /// The controller holds an authorisation that nobody has used, until then.
    stored: Option<Instant>,
    /// An exit was asked for and must have been released by then.
    owed: Option<Instant>,
    exit_until: Option<Instant>,

    /// Passages granted and neither taken nor lapsed.
    live: BTreeMap<MemberHandle, u32>,
    /// Lapsed so short ago that the next passage may still be theirs.
    lapsed: Option<(MemberHandle, Option<Instant>)>,
    /// Staff opened for one.
    ordered: Option<MessageId>,
    orders: BTreeMap<MessageId, (GateOutcome, Instant)>,
    /// The entry was free until just now.
    free_until: Option<Instant>,
    ordered_until: Option<(MessageId, Instant)>,
    detector: bool,

    numbered: u64,
    /// Passages whose record is to come.
    records: Vec<(u64, Instant, Direction, Authority)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Line {
    since: Option<Instant>,
    ended: Option<Instant>,
}

/// What an input asked for.
#[derive(Default)]
struct Asked {
    passage: Option<Direction>,
    granted: bool,
    refused: bool,
    order: Option<GateOrder>,
    incidents: Vec<Incident>,
}

impl Bench {
    /// Opened, with every line reported, ready and idle.
    pub fn new() -> Self {
        Self::with(&settings())
    }

    pub fn with(settings: &Settings) -> Self {
        Self::of(settings, Gate::new(settings, START)).opened()
    }

    pub fn closed() -> Self {
        let settings = settings();
        Self::of(&settings, Gate::new(&settings, START))
    }
}

impl<S: Subject> Bench<S> {
    /// A gate whose turnstile has not been opened yet.
    pub fn of(settings: &Settings, gate: S) -> Self {
        let exit_mode = match (settings.exit_released_by_controller, settings.exit) {
            (true, _) => GateMode::Free,
            (false, GateMode::Locked) => GateMode::Controlled,
            (false, exit) => exit,
        };
        let model = Model {
            control: settings.control,
            controller_waiting: settings.controller_waiting,
            takes_entries: settings.takes_entries,
            exit_by_controller: settings.exit_released_by_controller,
            capacity: settings.capacity,
            entry_mode: settings.entry,
            exit_mode,
            service: settings.service,
            store_open: true,
            turns: None,
            inside: 0,
            open: false,
            ready: false,
            fire: None,
            passage: [None; 2],
            rose: [None; 2],
            emergency: false,
            tamper: false,
            lines: Outputs::default(),
            entry: Line::default(),
            exit: Line::default(),
            stored: None,
            owed: None,
            exit_until: None,
            live: BTreeMap::new(),
            lapsed: None,
            ordered: None,
            orders: BTreeMap::new(),
            free_until: None,
            ordered_until: None,
            detector: false,
            numbered: 0,
            records: Vec::new(),
        };
        Self { gate, now: START, model, out: Vec::new(), inputs: 0, incidents: 0 }
    }

    pub fn opened(mut self) -> Self {
        for input in [
            Input::Found,
            Input::PassageLine(Direction::Entry, false),
            Input::PassageLine(Direction::Exit, false),
            Input::Ready(true),
            Input::Detector(false),
            Input::FireAlarm(false),
            Input::EmergencyButton(false),
            Input::Tamper(false),
        ] {
            self.input(input);
        }
        self
    }

    pub fn live(&self) -> u32 {
        self.model.live.values().sum()
    }

    pub fn lines(&self) -> Outputs {
        self.model.lines
    }

    /// Lets time pass, with ticks at every deadline as the shell gives them.
    pub fn wait(&mut self, span: Millis) {
        let end = self.now.after(span);
        let mut ticks = 0;
        while let Some(deadline) = self.gate.deadline().filter(|deadline| *deadline <= end) {
            assert!(deadline >= self.now, "a deadline in the past is a busy loop");
            ticks = if deadline == self.now { ticks + 1 } else { 0 };
            assert!(ticks < 8, "the gate keeps asking for the same moment");
            self.now = deadline;
            self.input(Input::Tick);
        }
        self.now = end;
        self.model.check_times(self.now);
    }

    pub fn go_through(&mut self, direction: Direction) {
        self.input(Input::PassageLine(direction, true));
        self.input(Input::PassageLine(direction, false));
    }

    /// One input, checked.
    pub fn input(&mut self, input: Input) {
        let refusal = self.gate.refuses();
        self.model.pass_time(self.now);
        let mut asked = self.model.hear(self.now, &input);
        asked.refused = refusal.is_some();
        self.out.clear();
        self.gate.handle(self.now, input, &mut self.out);
        let incident = |command: &&Command| matches!(command, Command::Report(GateFact::Incident { .. }));
        self.incidents += self.out.iter().filter(incident).count() as u64;
        self.inputs += 1;
        self.model.judge(self.now, asked, &self.out);
        self.check_levels();
    }

    fn check_levels(&mut self) {
        let view = self.gate.view();
        let serving = matches!(view.notice, Notice::Welcome { remaining } if remaining > 0);
        if !serving && let Some(order) = self.model.ordered.take() {
            self.model.ordered_until = Some((order, self.now.after(WAITING_MAX)));
        }
        let model = &self.model;
        model.check_lines(self.now);
        for since in [model.entry.since, model.exit.since].into_iter().flatten() {
            let woken = self.gate.deadline().is_some_and(|deadline| deadline < since.after(UNLOCK_MAX));
            assert!(woken, "whoever activates an unlock line wants to be woken to end it");
        }
        let released = model.lines.unlock_entry || model.lines.unlock_exit;
        assert!(view.status != GateStatus::Closed || !released, "closed is closed");
        if model.fire == Some(true) {
            assert_eq!((view.status, view.notice), (GateStatus::Open, Notice::Evacuate));
            assert_eq!(self.live(), 0, "in an evacuation nobody needs a grant");
        } else if model.faulty() {
            assert_eq!((view.status, self.live()), (GateStatus::Malfunction, 0));
        } else if self.live() > 0 {
            assert_eq!(view.status, GateStatus::Open);
        }
        assert_eq!(view.modes.inside, model.inside, "people are counted in and out");
    }

    /// Phase 2: everything heals, and the gate must lock and serve again.
    pub fn heal(mut self) {
        self.input(Input::Lost);
        self.wait(Millis(10));
        self = self.opened();
        let orders = [
            GateTask::SetMode { direction: Direction::Entry, mode: GateMode::Group },
            GateTask::SetService { service: GateService::Shopping },
        ];
        self.wait(ORDER_LIFE_MAX);
        for (place, task) in orders.into_iter().enumerate() {
            self.input(order(&format!("heal-{place}"), self.now, task));
        }
        self.input(Input::Hours { open: true, until: None });
        self.input(Input::Inside(0));
        self.wait(Millis::from_seconds(120));
        let view = self.gate.view();
        let held = self.model.exit_free();
        let rest = (if held { GateStatus::Open } else { GateStatus::Closed }, Notice::Idle);
        assert_eq!((view.status, view.notice), rest);
        assert_eq!(self.live(), 0);
        assert!(self.model.records.is_empty(), "every passage has its record");
        assert!(held || (self.lines(), self.gate.deadline()) == (Outputs::default(), None));
        self.input(Input::Grant(admitted(BOB, 1)));
        self.wait(UNLOCK_GAP);
        assert!(self.lines().unlock_entry, "a healed gate serves");
    }
}

impl Model {
    fn faulty(&self) -> bool {
        !self.open || !self.ready || self.fire.is_none()
    }

    fn exit_free(&self) -> bool {
        self.exit_mode == GateMode::Free && !self.exit_by_controller
    }

    /// Whether the exit has a reason to be released.
    fn exit_asked(&self, now: Instant) -> bool {
        self.exit_until.is_some_and(|until| now < until) || self.emergency || self.exit_free()
    }

    fn can_exit(&self) -> bool {
        self.open && self.fire != Some(true)
    }

    fn room(&self, people: u32) -> bool {
        self.capacity.is_none_or(|capacity| self.inside + people <= capacity)
    }

    fn entry_free(&self) -> bool {
        self.entry_mode == GateMode::Free
            && self.takes_entries
            && self.service == GateService::Shopping
            && self.store_open
            && self.room(1)
            && self.fire == Some(false)
            && !self.faulty()
    }

    /// Whether shoppers' codes may open at all.
    fn serves_shoppers(&self, people: u32) -> bool {
        self.serves_staff()
            && self.service == GateService::Shopping
            && self.store_open
            && self.entry_mode != GateMode::Controlled
            && self.room(people)
    }

    fn serves_staff(&self) -> bool {
        self.takes_entries
            && self.service != GateService::Maintenance
            && self.entry_mode != GateMode::Locked
            && self.fire == Some(false)
            && !self.faulty()
    }

    fn being_worked_on(&self) -> bool {
        matches!(self.service, GateService::Cleaning | GateService::Maintenance)
    }

    /// Forgets what time has made meaningless.
    fn pass_time(&mut self, now: Instant) {
        if self.turns.is_some_and(|turns| now >= turns) {
            let free = self.entry_free();
            self.turns = None;
            self.store_open = !self.store_open;
            self.note_free(now, free);
        }
        let asks = self.exit_asked(now);
        let past = |at: &mut Instant| now >= *at;
        self.stored.take_if(past);
        self.exit_until.take_if(past);
        self.free_until.take_if(past);
        self.ordered_until.take_if(|(_, until)| now >= *until);
        self.lapsed.take_if(|(_, until)| until.is_some_and(|until| now >= until));
        for rose in &mut self.rose {
            rose.take_if(|rose| now.since(*rose) >= PASSAGE_DEBOUNCE);
        }
        for line in [&mut self.entry, &mut self.exit] {
            line.ended.take_if(|ended| now.since(*ended) >= UNLOCK_GAP);
        }
        self.orders.retain(|_, (_, until)| now < *until);
        // Nobody asks any more: the button was let go, the time is over, or the mode has changed.
        self.owed.take_if(|_| !asks);
    }

    fn note_free(&mut self, now: Instant, was_free: bool) {
        if was_free && !self.entry_free() {
            self.free_until = Some(now.after(WAITING_MAX));
        }
    }

    /// Notes what an input means.
    fn hear(&mut self, now: Instant, input: &Input) -> Asked {
        let mut asked = Asked::default();
        let (was_free, could_exit) = (self.entry_free(), self.can_exit());
        match input {
            Input::Grant(admitted) => {
                *self.live.entry(admitted.grant.member).or_default() += u32::from(admitted.passages);
                asked.granted = true;
                let passages = u32::from(admitted.passages);
                let may =
                    if admitted.grant.staff { self.serves_staff() } else { self.serves_shoppers(passages) };
                asked.refused = !may;
            }
            Input::Deny(_) | Input::Tick | Input::Crossed(_) => {}
            Input::PassageLine(direction, active) => {
                let index = *direction as usize;
                let before = self.passage[index].replace(*active);
                if *active && before == Some(false) {
                    let bounces = self.rose[index].replace(now).is_some();
                    asked.passage = (!bounces).then_some(*direction);
                }
            }
            Input::Ready(active) => self.ready = *active,
            Input::Detector(active) => {
                self.detector = *active;
                if let Some((_, until)) = &mut self.lapsed {
                    *until = if *active { None } else { until.or(Some(now.after(LATE))) };
                }
            }
            Input::FireAlarm(active) => {
                if self.fire.unwrap_or(false) != *active {
                    asked.incidents.push(Incident::FireAlarm { active: *active });
                }
                self.fire = Some(*active);
            }
            Input::EmergencyButton(active) => {
                if *active && !self.emergency {
                    asked.incidents.push(Incident::EmergencyButton);
                    self.ask_exit(now);
                }
                self.emergency = *active;
            }
            Input::Tamper(active) => {
                if *active != self.tamper {
                    asked.incidents.push(Incident::Tamper { open: *active });
                }
                self.tamper = *active;
            }
            Input::ExitRequest => self.ask_exit(now),
            Input::Hours { open, until } => {
                self.store_open = *open;
                self.turns = *until;
                if until.is_some_and(|until| now >= until) {
                    self.turns = None;
                    self.store_open = !*open;
                }
            }
            Input::Inside(people) => self.inside = *people,
            Input::Order(order) => {
                asked.order = Some(order.clone()).filter(|order| order.lane.0 == "entry-1");
            }
            Input::Lost | Input::Found => {
                self.open = matches!(input, Input::Found);
                self.ready = false;
                self.fire = self.fire.filter(|fire| *fire);
                self.passage = [None; 2];
                self.emergency = false;
                self.detector = false;
                self.lapsed = None;
                // The lines of a lost turnstile fall to inactive by hardware.
                self.drive(now, Outputs::default(), true);
                self.entry = Line::default();
                self.exit = Line::default();
            }
        }
        self.note_free(now, was_free);
        let again = !could_exit || matches!(input, Input::Found);
        if !self.can_exit() {
            self.owed = None;
        } else if again && (self.exit_until.is_some() || self.emergency || self.exit_free()) {
            self.owed = Some(now.after(UNLOCK_GAP));
        }
        if self.faulty() || self.fire == Some(true) {
            self.stored = None;
        }
        asked
    }

    fn ask_exit(&mut self, now: Instant) {
        self.exit_until = Some(now.after(WAITING));
        if self.can_exit() && !self.lines.unlock_exit {
            self.owed = Some(now.after(UNLOCK_GAP));
        }
    }

    /// Holds the commands against the rules.
    fn judge(&mut self, now: Instant, mut asked: Asked, out: &[Command]) {
        let mut unauthorised = None;
        for command in out {
            match command {
                Command::Drive(outputs) => {
                    assert!(self.open, "nothing is driven while the turnstile is lost");
                    self.drive(now, *outputs, false);
                }
                Command::Signal(Signal::Good) => {
                    assert!(asked.granted && !asked.refused, "a good signal answers a grant that is served");
                }
                Command::Signal(Signal::Bad) => {}
                Command::Lapsed { member, passages, cause } => self.lapse(now, *member, *passages, *cause),
                Command::Passed(passed) => {
                    assert_eq!(
                        asked.passage.take(),
                        Some(passed.direction),
                        "a passage is reported once, when it happens"
                    );
                    self.pass(now, passed);
                    if passed.authority == Authority::None {
                        unauthorised = Some(passed.number);
                    }
                }
                Command::Report(fact) => self.learn(now, fact, &mut asked, &mut unauthorised),
            }
        }
        assert_eq!(asked.passage, None, "no passage is kept quiet");
        assert!(asked.incidents.is_empty(), "staff are told: {:?}", asked.incidents);
        assert_eq!(unauthorised, None, "a passage without a right is an incident");
        assert!(asked.order.is_none(), "every order has an outcome");
        self.live.retain(|_, live| *live > 0);
    }

    fn lapse(&mut self, now: Instant, member: MemberHandle, passages: u8, cause: Cause) {
        let live = self.live.get_mut(&member).expect("only what was granted lapses");
        *live = live.checked_sub(u32::from(passages)).expect("no more lapses than was granted");
        let refused = matches!(cause, Cause::Refused(_));
        if !refused && self.open {
            self.lapsed = Some((member, (!self.detector).then(|| now.after(LATE))));
        }
    }

    fn pass(&mut self, now: Instant, passed: &Passed) {
        assert_eq!((passed.at, passed.number), (now, self.numbered + 1), "passages are numbered in order");
        self.numbered += 1;
        self.records.push((passed.number, now, passed.direction, passed.authority.clone()));
        let was_free = self.entry_free();
        match passed.direction {
            Direction::Exit => {
                assert_eq!(passed.authority, Authority::Free, "exit is free");
                assert!(!passed.late);
                self.inside = self.inside.saturating_sub(1);
            }
            Direction::Entry => {
                assert_eq!(passed.undoes, None, "an entry undoes nothing");
                self.enter(passed, was_free);
                self.inside += 1;
                self.stored = None;
            }
        }
        self.note_free(now, was_free);
        self.lapsed = None;
    }

    fn enter(&mut self, passed: &Passed, was_free: bool) {
        let live = self.live.values().sum::<u32>();
        match &passed.authority {
            Authority::Grant(grant) if passed.late => {
                let lapsed = self.lapsed.take().map(|(member, _)| member);
                assert_eq!(lapsed, Some(grant.member), "late is who lapsed just now");
                assert_eq!(live, 0, "who has a live grant is not late");
            }
            Authority::Grant(grant) => {
                let live = self.live.get_mut(&grant.member).expect("a passage uses a grant that was given");
                assert!(*live > 0, "one grant, at most its passages");
                *live -= 1;
            }
            Authority::Order { order } => {
                let ordered = self.ordered.take();
                let late = self.ordered_until.take().map(|(order, _)| order);
                assert!(
                    ordered.as_ref() == Some(order) || late.as_ref() == Some(order),
                    "one order, one passage"
                );
            }
            Authority::Free => {
                let evacuated = self.fire == Some(true);
                let late = passed.late && self.free_until.is_some();
                assert!(
                    evacuated || was_free || late || self.being_worked_on(),
                    "entry is free in an evacuation or in free mode only"
                );
                assert_eq!(live, 0, "who has a grant uses it");
            }
            Authority::None => {
                assert_eq!(live, 0, "who uses a live grant is not a tailgater");
                assert!(!was_free, "who comes in by a free lane is no intruder");
            }
        }
    }

    fn learn(&mut self, now: Instant, fact: &GateFact, asked: &mut Asked, unauthorised: &mut Option<u64>) {
        match fact {
            GateFact::Passage { passage } => {
                let place = self.records.iter().position(|(number, ..)| *number == passage.number);
                let (_, at, direction, authority) = self.records.remove(place.expect("one record a passage"));
                assert_eq!((passage.edges.passage_on, passage.direction), (at, direction));
                assert_eq!(passage.authority, authority, "a record keeps its grant");
                let edges = passage.edges;
                assert!(edges.detector_on.is_none_or(|on| on <= at), "edges are in order");
                assert!(edges.passage_off.is_none_or(|off| off >= at), "edges are in order");
                assert!(edges.detector_off.is_none_or(|off| edges.detector_on.is_some_and(|on| on <= off)));
                assert_eq!(passage.people.map(usize::from), Some(passage.tracks.len()).filter(|n| *n > 0));
            }
            GateFact::WalkedBack { entry, exit, .. } => {
                assert!(entry < exit && *exit == self.numbered, "who walks back came in before");
            }
            GateFact::Incident { incident } => match incident {
                Incident::FireAlarm { .. } | Incident::EmergencyButton | Incident::Tamper { .. } => {
                    let place = asked.incidents.iter().position(|due| due == incident);
                    asked.incidents.remove(place.expect("no incident out of nothing"));
                }
                Incident::Forced { passage } | Incident::WrongWay { passage } => {
                    assert_eq!(unauthorised.take(), Some(*passage), "an intruder's passage");
                }
                Incident::Tailgating { passage, by: Witness::Sensors, .. } => {
                    assert_eq!(unauthorised.take(), Some(*passage), "a tailgater's passage");
                }
                Incident::Tailgating { people, by: Witness::Floor, .. } => assert!(*people > 0),
                Incident::Held { since } => assert!(now > *since),
            },
            GateFact::Ordered { order: id, outcome } => {
                let order = asked.order.take().expect("an outcome answers an order");
                assert_eq!(*id, order.id);
                self.carry_out(now, order, *outcome);
            }
        }
    }

    fn carry_out(&mut self, now: Instant, order: GateOrder, outcome: GateOutcome) {
        if let Some((before, _)) = self.orders.get(&order.id) {
            assert_eq!(*before, outcome, "a repeated order is answered as before");
            return;
        }
        assert!(now < order.expires || outcome != GateOutcome::Done, "an order does not act after its time");
        if outcome == GateOutcome::Expired {
            return;
        }
        self.orders.insert(order.id.clone(), (outcome, order.expires));
        if outcome != GateOutcome::Done {
            let exit = matches!(order.task, GateTask::Open { direction: Direction::Exit, .. });
            assert!(!exit || !self.can_exit() || self.orders.len() > 60, "staff can always open the exit");
            return;
        }
        let was_free = self.entry_free();
        match order.task {
            GateTask::Open { direction: Direction::Entry, .. } => {
                assert!(!self.faulty() && self.fire == Some(false));
                self.ordered = Some(order.id);
                self.lapsed = None;
            }
            GateTask::Open { direction: Direction::Exit, .. } => self.ask_exit(now),
            GateTask::SetMode { direction: Direction::Entry, mode } => self.entry_mode = mode,
            GateTask::SetMode { direction: Direction::Exit, mode } => {
                assert!(mode != GateMode::Locked, "an exit is never locked");
                self.exit_mode = mode;
            }
            GateTask::SetService { service } => self.service = service,
        }
        self.note_free(now, was_free);
    }

    fn drive(&mut self, now: Instant, outputs: Outputs, lost: bool) {
        match (self.entry.since, outputs.unlock_entry) {
            (None, true) => {
                let gap = self.entry.ended.is_none_or(|ended| now.since(ended) >= UNLOCK_GAP);
                assert!(gap, "two activations need a gap to be two");
                if self.control == Control::Pulse {
                    assert_eq!(self.stored, None, "the controller never holds two authorisations");
                    self.stored = Some(now.after(self.controller_waiting));
                }
                self.entry.since = Some(now);
            }
            (Some(since), false) => {
                self.entry = Line { since: None, ended: Some(now) };
                if now.since(since) < UNLOCK_MIN {
                    // Too short for the controller to see.
                    self.stored = None;
                }
            }
            (None, false) | (Some(_), true) => {}
        }
        match (self.exit.since, outputs.unlock_exit) {
            (None, true) => {
                let gap = self.exit.ended.is_none_or(|ended| now.since(ended) >= UNLOCK_GAP);
                assert!(gap, "two activations need a gap to be two");
                self.exit.since = Some(now);
                self.owed = None;
            }
            (Some(_), false) => self.exit = Line { since: None, ended: Some(now) },
            (None, false) | (Some(_), true) => {}
        }
        self.lines = outputs;
        if !lost && outputs.unlock_exit {
            let asked = self.exit_until.is_some() || self.emergency;
            assert!(asked || self.exit_free(), "an exit is released when somebody asks, or always");
        }
    }

    /// What must hold after every input.
    fn check_lines(&self, now: Instant) {
        self.check_times(now);
        if self.fire == Some(true) || !self.open {
            assert_eq!(self.lines, Outputs::default(), "fire alarm or lost: nothing we do holds a line");
        }
        if self.faulty() {
            let exit_alone = Outputs { unlock_exit: self.lines.unlock_exit, ..Outputs::default() };
            assert_eq!(self.lines, exit_alone, "a broken turnstile lets nobody in");
        }
        let entitled = !self.live.is_empty() || self.ordered.is_some() || self.entry_free();
        assert!(
            entitled || !self.lines.unlock_entry,
            "no unlock without a live grant, an order or free mode"
        );
    }

    /// The same model at another time, for comparing states.
    #[cfg(test)]
    pub fn moved(&self, change: &mut impl FnMut(&mut Instant)) -> Self {
        let mut model = self.clone();
        let Self { turns, rose, entry, exit, stored, owed, exit_until, lapsed, .. } = &mut model;
        [turns, stored, owed, exit_until].into_iter().chain(rose).flatten().for_each(&mut *change);
        for line in [entry, exit] {
            [&mut line.since, &mut line.ended].into_iter().flatten().for_each(&mut *change);
        }
        lapsed.iter_mut().filter_map(|(_, until)| until.as_mut()).for_each(&mut *change);
        model.orders.values_mut().for_each(|(_, until)| change(until));
        model.free_until.iter_mut().for_each(&mut *change);
        model.ordered_until.iter_mut().for_each(|(_, until)| change(until));
        for (number, at, ..) in &mut model.records {
            *number = 0;
            change(at);
        }
        model.numbered = 0;
        model
    }

    /// What must hold at any time.
    fn check_times(&self, now: Instant) {
        for since in [self.entry.since, self.exit.since].into_iter().flatten() {
            assert!(now.since(since) < UNLOCK_MAX, "an unlock is a pulse");
            assert!(now.since(since) <= HOLD, "an activation ends when its time is over");
        }
        let late = self.owed.is_some_and(|owed| now > owed);
        assert!(!late || !self.exit_asked(now), "who asks to leave may leave");
        for (_, at, ..) in &self.records {
            assert!(now.since(*at) <= RECORD_AFTER, "a passage's record comes in time");
        }
    }
}
