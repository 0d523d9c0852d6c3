//! The day itself: people arrive, shop and leave, in steps of 50 ms.

use std::collections::{BTreeMap, VecDeque};

use engine::message::Direction;
use engine::store::StoreMap;
use engine::time::{Instant, Millis};
use engine::units::LaneId;

use crate::body::{Body, Figure};
use crate::dice::Dice;
use crate::errand;
use crate::fault::{self, Fault};
use crate::lane::{Lane, Shown};
use crate::layout::Layout;
use crate::path::{Grid, distance};
use crate::phone::{Office, Phone};
use crate::render::Renderer;
use crate::shelf::Shelves;
use crate::shopper::{Activity, DT, Hand, Neighbour, Person, Purpose};
use crate::truth::{Event, EventKind, Step, Truth, Visit};

/// Milliseconds of a step.
const STEP_MS: u64 = 50;
/// People seen in front of an entry at a time; others are still round the corner.
const QUEUE_MAX: usize = 3;
/// Shoppers of a lost cause give up at the gate after this many seconds.
const PATIENCE_SECONDS: f64 = 90.0;
/// A code that did not open is shown again, fresh, after this many seconds.
const RETRY_SECONDS: f64 = 3.5;
/// Steps between two entries of the trail.
const TRAIL_STEPS: u64 = 4;

/// What kind of day it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// Visits: passes that come, alone or as a party.
    pub shoppers: u32,
    /// When the day begins.
    pub start: Instant,
    /// Whether things break.
    pub faults: bool,
    /// Scales the hard cases (put-backs, comparing, two at once, hand-overs): 1 is an ordinary day, 0 has
    /// none.
    pub difficulty: f64,
    /// Mean seconds between two parties.
    pub arrival_seconds: f64,
    /// People inside above which the next party waits.
    pub inside_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            shoppers: 50,
            // 2026-03-02 09:00 in Seoul.
            start: Instant(1_772_409_600_000),
            faults: false,
            difficulty: 1.0,
            arrival_seconds: 10.5,
            inside_max: 8,
        }
    }
}

/// A party before it comes.
struct Arrival {
    at: f64,
    people: Vec<Person>,
    visit: usize,
}

/// The store, its people, and the truth.
pub struct World {
    options: Options,
    layout: Layout,
    pub(crate) grid: Grid,
    pub(crate) shelves: Shelves,
    pub(crate) lanes: Vec<Lane>,
    /// Everyone in sight, by number; `None` before they come, while they move, and after they left.
    pub(crate) people: Vec<Option<Person>>,
    phones: Vec<Phone>,
    /// Codes that go wrong first: how many of a visit's first tries.
    bad_codes: Vec<u32>,
    office: Office,
    arrivals: VecDeque<Arrival>,
    faults: Vec<Fault>,
    steps: u64,
    shown: Vec<Shown>,
    open_gate: bool,
    truth: Truth,
    renderers: BTreeMap<usize, Renderer>,
}

impl World {
    /// The day of these options, before its first step.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let layout = Layout::new(options.seed);
        let grid = Grid::new(&layout.map);
        let shelves = Shelves::stocked(&layout, options.shoppers, options.seed);
        let lanes =
            layout.map.lanes.iter().map(|lane| Lane::new(lane.id.clone(), lane.position[0])).collect();
        let office = Office::new(options.seed);
        let span = Millis((f64::from(options.shoppers) * options.arrival_seconds * 1000.0) as u64 + 60_000);
        let faults = if options.faults {
            fault::schedule(&layout, options.seed, options.start, span)
        } else {
            Vec::new()
        };
        let mut world = Self {
            options,
            layout,
            grid,
            shelves,
            lanes,
            people: Vec::new(),
            phones: Vec::new(),
            bad_codes: Vec::new(),
            office,
            arrivals: VecDeque::new(),
            faults,
            steps: 0,
            shown: Vec::new(),
            open_gate: false,
            truth: Truth::default(),
            renderers: BTreeMap::new(),
        };
        world.invite();
        world
    }

    /// Draws everyone who will come.
    fn invite(&mut self) {
        let mut dice = Dice::new(self.options.seed, 6);
        let mut at = 2.0;
        let mut next_id = 0;
        for visit in 0..self.options.shoppers as usize {
            let party = 1 + dice.weighted(&[0.84, 0.12, 0.04]).unwrap_or(0);
            let arrives = self.options.start.after(Millis((at * 1000.0) as u64));
            let phone = self.office.phone(arrives, party as u8, &mut dice);
            let errands = errand::draw(&self.layout, party, self.options.difficulty, &mut dice);
            let mut people = Vec::new();
            for (member, errands) in errands.into_iter().enumerate() {
                people.push(person(next_id, visit, member as u8, errands, &mut dice, self.options.seed));
                next_id += 1;
            }
            let late = dice.chance(0.02 * self.options.difficulty);
            self.bad_codes.push(u32::from(late));
            self.truth.visits.push(Visit {
                member: phone.member(),
                people: people.iter().map(|person| person.id).collect(),
                entered: None,
                left: None,
                turned_away: false,
                out: BTreeMap::new(),
            });
            self.phones.push(phone);
            self.people.extend(people.iter().map(|_| None));
            self.arrivals.push_back(Arrival { at, people, visit });
            // One party in six comes right behind another: buses and lunch breaks do that.
            at += if dice.chance(1.0 / 6.0) {
                dice.between(1.0, 4.0)
            } else {
                dice.exponential(1.2 * self.options.arrival_seconds)
            };
        }
    }

    /// The store's map.
    #[must_use]
    pub fn map(&self) -> &StoreMap {
        &self.layout.map
    }

    /// The store with looks and homes.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What kind of day it is.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The issuer of the passes: gates need its public key, and the group key for wallet passes.
    #[must_use]
    pub fn office(&self) -> &Office {
        &self.office
    }

    /// What breaks, and when.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What really happens. For oracles and labels only.
    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Goods and load cells.
    #[must_use]
    pub fn shelves(&self) -> &Shelves {
        &self.shelves
    }

    /// What the load cells read, tenths of a gram, in the order of the map's plates.
    #[must_use]
    pub fn counts(&self) -> &[i32] {
        self.shelves.counts()
    }

    /// The time of the last step.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.options.start.after(Millis(self.steps * STEP_MS))
    }

    /// Whether everyone has come and gone.
    #[must_use]
    pub fn finished(&self) -> bool {
        let gone =
            |person: &Option<Person>| person.as_ref().is_none_or(|person| person.activity == Activity::Gone);
        self.arrivals.is_empty() && self.people.iter().all(gone)
    }

    /// People inside, and on their way through a lane.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.present().filter(|person| is_inside(person)).count()
    }

    /// Opens the gate for everyone who shows a code, without any service: for days that run alone.
    pub fn open_gate(&mut self) {
        self.open_gate = true;
    }

    /// Tells of a pulse on a lane's unlock output in the entry direction.
    pub fn unlock(&mut self, lane: &LaneId) {
        let now = self.seconds();
        if let Some(lane) = self.lanes.iter_mut().find(|other| other.id == *lane) {
            lane.unlock(now);
        }
    }

    /// Codes held to readers since the last call, oldest first.
    pub fn take_shown(&mut self) -> Vec<Shown> {
        std::mem::take(&mut self.shown)
    }

    /// Whether a lane's passage sensor reports somebody going this way.
    #[must_use]
    pub fn passage(&self, lane: &LaneId, direction: Direction) -> bool {
        let lane = self.lanes.iter().find(|other| other.id == *lane);
        lane.is_some_and(|lane| lane.senses(direction, self.seconds()))
    }

    /// Whether somebody stands between the wings of a lane.
    #[must_use]
    pub fn detects(&self, lane: &LaneId) -> bool {
        let index = self.lanes.iter().position(|other| other.id == *lane);
        self.present().any(|person| match person.activity {
            Activity::Crossing { lane, .. } => Some(lane) == index && Lane::detects(person.position[1]),
            Activity::Queueing
            | Activity::ReadyingPhone { .. }
            | Activity::Showing { .. }
            | Activity::Deciding { .. }
            | Activity::Walking(_)
            | Activity::Turning { .. }
            | Activity::Acting { .. }
            | Activity::WalkingOff
            | Activity::Gone => false,
        })
    }

    /// Steps the world up to `now`.
    pub fn step(&mut self, now: Instant) {
        while self.now().after(Millis(STEP_MS)) <= now {
            self.tick();
        }
    }

    /// Everyone in sight, posed.
    #[must_use]
    pub fn bodies(&self) -> Vec<(u32, Body)> {
        self.present().map(|person| (person.id, self.body(person))).collect()
    }

    /// Draws what a camera (index into the map's cameras) sees now. The first picture of each takes some 100
    /// ms more.
    ///
    /// # Panics
    /// When the map has no such camera.
    pub fn render(&mut self, camera: usize, picture: &mut camera::Rgb) {
        let bodies: Vec<Body> = self.present().map(|person| self.body(person)).collect();
        let (map, seed) = (&self.layout.map, self.options.seed);
        let renderer = self.renderers.entry(camera).or_insert_with(|| Renderer::new(map, camera, seed));
        renderer.frame(&bodies, picture);
    }

    pub(crate) fn present(&self) -> impl Iterator<Item = &Person> {
        self.people.iter().flatten()
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.steps as f64 * DT
    }

    pub(crate) fn record(&mut self, person: u32, kind: EventKind, product: Option<usize>) {
        let product = product.map(|product| self.layout.map.products[product].id.clone());
        let at = self.now();
        self.truth.events.push(Event { at, person, kind, product });
    }

    fn body(&self, person: &Person) -> Body {
        let showing = matches!(person.activity, Activity::Showing { .. });
        let reader = self.entry_lane().filter(|_| showing).map(|lane| self.lanes[lane].reader());
        let mut body = person.body(reader);
        if showing {
            body.hold(1, [0.075, 0.02, 0.15], [25, 25, 30]);
        }
        for (index, hand) in person.hands.iter().enumerate() {
            for item in hand.items.iter().take(3) {
                let look = &self.layout.looks[self.shelves.items()[*item].product];
                body.hold(index, look.size, look.colour);
            }
        }
        body
    }

    pub(crate) fn entry_lane(&self) -> Option<usize> {
        self.layout.map.lanes.iter().position(|lane| lane.entry)
    }

    pub(crate) fn exit_lane(&self) -> Option<usize> {
        self.layout.map.lanes.iter().position(|lane| lane.exit)
    }

    fn tick(&mut self) {
        self.steps += 1;
        let now = self.seconds();
        for lane in &mut self.lanes {
            lane.step(now);
        }
        self.arrive();
        let neighbours: Vec<Neighbour> = self
            .present()
            .filter(|person| person.shops())
            .map(|person| Neighbour {
                id: person.id,
                position: person.position,
                velocity: person.velocity,
                stop: person.stop,
                stands: person.stands(),
            })
            .collect();
        for index in 0..self.people.len() {
            let Some(mut person) = self.people[index].take() else { continue };
            self.act(&mut person, &neighbours);
            self.people[index] = (person.activity != Activity::Gone).then_some(person);
        }
        self.shelves.weigh(now, DT);
        if self.steps.is_multiple_of(TRAIL_STEPS) {
            let at = self.now();
            let steps = self.people.iter().flatten().map(|person| Step {
                at,
                person: person.id,
                position: person.position,
            });
            self.truth.trail.extend(steps);
        }
    }

    /// Lets the next party come round the corner when it is time and there is room in front of the gate.
    fn arrive(&mut self) {
        let Some(lane) = self.entry_lane() else { return };
        let due = self.arrivals.front().is_some_and(|arrival| arrival.at <= self.seconds());
        if !due || self.lanes[lane].queue.len() >= QUEUE_MAX {
            return;
        }
        let Some(arrival) = self.arrivals.pop_front() else { return };
        debug_assert!(arrival.people.iter().all(|person| person.visit == arrival.visit));
        for (place, mut person) in arrival.people.into_iter().enumerate() {
            self.lanes[lane].queue.push_back(person.id);
            let last = self.lanes[lane].queue_place(self.lanes[lane].queue.len());
            person.position =
                [last[0] + 0.3 * person.dice.between(-1.0, 1.0), last[1] - 0.8 - 0.5 * place as f64];
            person.heading = std::f64::consts::FRAC_PI_2;
            let id = person.id as usize;
            self.people[id] = Some(person);
        }
    }

    fn act(&mut self, person: &mut Person, neighbours: &[Neighbour]) {
        let activity = std::mem::replace(&mut person.activity, Activity::Gone);
        person.activity = match activity {
            Activity::Queueing => self.queue(person),
            Activity::ReadyingPhone { left } => self.ready_phone(person, left),
            Activity::Showing { shown, first, tries } => self.show(person, shown, first, tries),
            Activity::Crossing { lane, inward, delay } => self.cross(person, lane, inward, delay),
            Activity::Deciding { left } => self.decide(person, left, neighbours),
            Activity::Walking(mut walk) => {
                if person.walk(&mut walk, neighbours, &self.grid) {
                    self.arrived(person, walk.purpose)
                } else {
                    self.still_walking(person, walk)
                }
            }
            Activity::Turning { heading, acts } => {
                person.stand();
                if person.turn_to(heading) {
                    Activity::Acting { acts, spent: 0.0 }
                } else {
                    Activity::Turning { heading, acts }
                }
            }
            Activity::Acting { acts, spent } => self.perform(person, acts, spent),
            Activity::WalkingOff => {
                if person.stride_to([person.position[0] - 0.6, -3.0], person.pace)
                    || person.position[1] < -2.5
                {
                    Activity::Gone
                } else {
                    Activity::WalkingOff
                }
            }
            Activity::Gone => Activity::Gone,
        };
    }

    fn queue(&mut self, person: &mut Person) -> Activity {
        let Some(lane) = self.entry_lane() else { return Activity::WalkingOff };
        let Some(index) = self.lanes[lane].queue.iter().position(|id| *id == person.id) else {
            return Activity::WalkingOff;
        };
        let place = self.lanes[lane].queue_place(index);
        if distance(person.position, place) > 0.05 {
            person.stride_to(place, person.pace);
            return Activity::Queueing;
        }
        person.stand();
        person.turn_to(std::f64::consts::FRAC_PI_2);
        let room = self.inside() < self.options.inside_max || person.member > 0;
        if index > 0 || !room {
            return Activity::Queueing;
        }
        // Companions count on being let in on the first code, and take out a phone only when they are not.
        let left =
            if person.member == 0 { person.dice.between(0.4, 1.6) } else { person.dice.between(2.5, 3.5) };
        Activity::ReadyingPhone { left }
    }

    fn ready_phone(&mut self, person: &mut Person, left: f64) -> Activity {
        let Some(lane) = self.entry_lane() else { return Activity::WalkingOff };
        person.stand();
        if person.member > 0 && self.lanes[lane].permit().is_some() {
            let delay = person.dice.between(0.2, 0.5);
            return Activity::Crossing { lane, inward: true, delay };
        }
        if left > 0.0 {
            return Activity::ReadyingPhone { left: left - DT };
        }
        let now = self.seconds();
        self.hold_code(person, lane, 0);
        Activity::Showing { shown: now, first: now, tries: 1 }
    }

    fn show(&mut self, person: &mut Person, shown: f64, first: f64, tries: u32) -> Activity {
        let Some(lane) = self.entry_lane() else { return Activity::WalkingOff };
        person.stand();
        let now = self.seconds();
        let permit = self.lanes[lane].permit();
        if permit.is_some_and(|since| since >= shown || person.member > 0) {
            let delay = person.dice.between(0.3, 0.6);
            return Activity::Crossing { lane, inward: true, delay };
        }
        if now - first > PATIENCE_SECONDS {
            return self.give_up(person, lane);
        }
        if now - shown > RETRY_SECONDS {
            self.hold_code(person, lane, tries);
            return Activity::Showing { shown: now, first, tries: tries + 1 };
        }
        Activity::Showing { shown, first, tries }
    }

    /// Holds the phone to the reader: a fresh code, or at first an old one for those whose luck it is.
    fn hold_code(&mut self, person: &mut Person, lane: usize, tries: u32) {
        let stale = tries < self.bad_codes[person.visit] && person.member == 0;
        let at = if stale { self.now().before(Millis::from_seconds(120)) } else { self.now() };
        let text = self.phones[person.visit].show(at, person.member);
        self.shown.push(Shown { lane: self.lanes[lane].id.clone(), text });
        if self.open_gate && !stale {
            let now = self.seconds();
            self.lanes[lane].open_soon(now);
        }
    }

    /// The person, and companions who are still outside, walk away.
    fn give_up(&mut self, person: &Person, lane: usize) -> Activity {
        let visit = person.visit;
        let outside: Vec<u32> = self
            .people
            .iter()
            .flatten()
            .filter(|other| other.visit == visit && other.activity == Activity::Queueing)
            .map(|other| other.id)
            .chain([person.id])
            .collect();
        self.lanes[lane].queue.retain(|id| !outside.contains(id));
        for other in self.people.iter_mut().flatten() {
            if outside.contains(&other.id) {
                other.activity = Activity::WalkingOff;
            }
        }
        if self.truth.visits[visit].entered.is_none() {
            self.truth.visits[visit].turned_away = true;
        }
        Activity::WalkingOff
    }

    fn cross(&mut self, person: &mut Person, lane: usize, inward: bool, delay: f64) -> Activity {
        if delay > 0.0 {
            person.stand();
            return Activity::Crossing { lane, inward, delay: delay - DT };
        }
        let (line, x, mouth) = {
            let lane = &self.lanes[lane];
            (crate::layout::FENCE_Y, lane.x, lane.leave_place(0))
        };
        let before = person.position[1];
        let goal = if inward { mouth } else { [x, -2.0] };
        let done = person.stride_to(goal, person.pace.min(1.1));
        let after = person.position[1];
        if inward && before < line && after >= line {
            self.came_in(person, lane);
        }
        if !inward && before >= line && after < line {
            self.went_out(person, lane);
        }
        match (done, inward) {
            (false, _) => Activity::Crossing { lane, inward, delay: 0.0 },
            (true, true) => Activity::Deciding { left: person.dice.between(0.0, 0.8) },
            (true, false) => Activity::Gone,
        }
    }

    fn came_in(&mut self, person: &Person, lane: usize) {
        let now = self.seconds();
        self.lanes[lane].pass(Direction::Entry, now);
        self.lanes[lane].queue.retain(|id| *id != person.id);
        let at = self.now();
        self.truth.visits[person.visit].entered.get_or_insert(at);
        let lane = self.lanes[lane].id.to_string();
        self.record(person.id, EventKind::Passage { lane, inward: true }, None);
    }

    fn went_out(&mut self, person: &mut Person, lane: usize) {
        let now = self.seconds();
        self.lanes[lane].pass(Direction::Exit, now);
        self.lanes[lane].leaving.retain(|id| *id != person.id);
        let lane = self.lanes[lane].id.to_string();
        self.record(person.id, EventKind::Passage { lane, inward: false }, None);
        for item in person.carried.drain(..) {
            self.shelves.carry_out(item);
            let product = self.layout.map.products[self.shelves.items()[item].product].id.clone();
            *self.truth.visits[person.visit].out.entry(product).or_default() += 1;
        }
        for hand in &mut person.hands {
            hand.items.clear();
        }
        let others = self.people.iter().flatten().filter(|other| other.visit == person.visit);
        let last = others.filter(|other| other.id != person.id).all(|other| !is_inside(other));
        if last {
            self.truth.visits[person.visit].left = Some(self.now());
        }
    }

    /// Moves up in the queue to leave; the first goes when the lane is free.
    fn still_walking(&mut self, person: &mut Person, mut walk: crate::shopper::Walk) -> Activity {
        let Purpose::Leave { lane } = walk.purpose else { return Activity::Walking(walk) };
        let index = self.lanes[lane].leaving.iter().position(|id| *id == person.id).unwrap_or(0);
        let place = self.lanes[lane].leave_place(index);
        if walk.way.back().is_some_and(|goal| distance(*goal, place) > 0.05) {
            walk.way.pop_back();
            walk.way.push_back(place);
            walk.least = f64::INFINITY;
        }
        if index == 0 && distance(person.position, place) < 0.3 {
            return self.arrived(person, walk.purpose);
        }
        Activity::Walking(walk)
    }
}

/// Whether a person is past the passage line of the entry and not of the exit.
pub(crate) fn is_inside(person: &Person) -> bool {
    match person.activity {
        Activity::Crossing { .. } => person.position[1] >= crate::layout::FENCE_Y,
        Activity::Queueing
        | Activity::ReadyingPhone { .. }
        | Activity::Showing { .. }
        | Activity::WalkingOff
        | Activity::Gone => false,
        Activity::Deciding { .. }
        | Activity::Walking(_)
        | Activity::Turning { .. }
        | Activity::Acting { .. } => true,
    }
}

fn person(
    id: u32,
    visit: usize,
    member: u8,
    errands: VecDeque<errand::Errand>,
    dice: &mut Dice,
    seed: u64,
) -> Person {
    // One companion in five is a child.
    let figure = if member > 0 && dice.chance(0.2) {
        let height = dice.between(1.05, 1.45);
        Figure::random_of(height, dice)
    } else {
        Figure::random(dice)
    };
    Person {
        id,
        visit,
        member,
        figure,
        position: [0.0, -3.0],
        velocity: [0.0, 0.0],
        heading: 0.0,
        stride: 0.0,
        pace: dice.between(0.85, 1.25),
        activity: Activity::Queueing,
        errands,
        hands: [Hand::default(), Hand::default()],
        carried: Vec::new(),
        stop: None,
        crowded_out: 0,
        receives: None,
        dice: Dice::new(seed, 1000 + u64::from(id)),
    }
}
