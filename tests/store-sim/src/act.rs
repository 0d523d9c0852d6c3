//! Shopping: which errand next, where to stand for it, and what the hands do there.

use std::collections::VecDeque;

use crate::errand::{Errand, PutBackGoal};
use crate::layout::{MOUTH_Y, PLATE_INSET};
use crate::path::distance;
use crate::shelf::ItemId;
use crate::shopper::{Act, Activity, DT, Deed, Moment, Motion, Neighbour, Person, Purpose, Walk};
use crate::truth::EventKind;
use crate::world::{World, is_inside};

/// People at a shelf stand at least this far apart, metres.
const ELBOW_ROOM: f64 = 0.5;
/// A shelf that stays crowded this many looks is given up.
const CROWDED_MAX: u32 = 25;
/// How near two people must be to hand something over, metres.
const ARM_TO_ARM: f64 = 1.0;
/// How often somebody takes a stray pack that they come across, at difficulty 1.
const STRAY_SHARE: f64 = 0.04;

impl World {
    /// Thinks, then sets out for the next thing.
    pub(crate) fn decide(&mut self, person: &mut Person, left: f64, neighbours: &[Neighbour]) -> Activity {
        person.stand();
        if left > 0.0 {
            return Activity::Deciding { left: left - DT };
        }
        self.consider_stray(person);
        let Some(errand) = person.errands.front().cloned() else {
            return self.finish(person, neighbours);
        };
        let Some(errand) = self.resolve(person, errand) else {
            person.errands.pop_front();
            return Activity::Deciding { left: 0.2 };
        };
        person.errands[0] = errand.clone();
        let Some((stop, heading)) = self.stop_for(person, &errand, neighbours) else {
            person.crowded_out += 1;
            if person.crowded_out > CROWDED_MAX {
                person.crowded_out = 0;
                person.errands.pop_front();
            } else {
                person.errands.rotate_left(1);
            }
            return Activity::Deciding { left: 0.8 };
        };
        let crowd = standing(person, neighbours, stop);
        let way = self.grid.way(person.position, stop, &crowd);
        if way.is_empty() {
            person.errands.pop_front();
            return Activity::Deciding { left: 0.5 };
        }
        person.crowded_out = 0;
        person.stop = Some(stop);
        Activity::Walking(Walk::new(way, Purpose::Errand { heading }))
    }

    /// Now and then a pack in a wrong place catches the eye.
    fn consider_stray(&mut self, person: &mut Person) {
        if !person.dice.chance(STRAY_SHARE * self.options().difficulty) {
            return;
        }
        let strays: Vec<(ItemId, usize)> = self.shelves.misplaced(self.layout()).collect();
        if strays.is_empty() {
            return;
        }
        let (item, plate) = strays[person.dice.below(strays.len())];
        let product = self.shelves.items()[item].product;
        person.errands.push_front(Errand::PickUp { plate, product, count: 1, one_lift: true });
    }

    /// Settles what an errand left open, or drops it when it cannot be done any more.
    fn resolve(&mut self, person: &mut Person, errand: Errand) -> Option<Errand> {
        match errand {
            Errand::PickUp { plate, product, count, one_lift } => {
                let siblings = self.layout().siblings[plate].iter().copied();
                let plate = [plate]
                    .into_iter()
                    .chain(siblings)
                    .find(|at| self.shelves.front(*at, product).is_some())?;
                Some(Errand::PickUp { plate, product, count, one_lift })
            }
            Errand::PickUpTwo { plates } => {
                let all = plates
                    .iter()
                    .all(|plate| self.shelves.front(*plate, self.layout().home[*plate]).is_some());
                all.then_some(Errand::PickUpTwo { plates })
            }
            Errand::Compare { first, second } => {
                let stocked = |plate: usize| self.shelves.front(plate, self.layout().home[plate]).is_some();
                (stocked(first) && stocked(second)).then_some(Errand::Compare { first, second })
            }
            Errand::PutBack { goal } => {
                let item = *person.carried.get(person.dice.below(person.carried.len()))?;
                let plate = self.put_back_plate(person, item, goal)?;
                Some(Errand::SetDown { plate, item })
            }
            Errand::SetDown { plate, item } => {
                person.carried.contains(&item).then_some(Errand::SetDown { plate, item })
            }
            Errand::Browse { plate, seconds, touch } => Some(Errand::Browse { plate, seconds, touch }),
            Errand::HandOver { to } => {
                let companion = self.companion(person, to)?;
                let ready = companion.shops() && !person.carried.is_empty();
                ready.then_some(Errand::HandOver { to })
            }
        }
    }

    fn put_back_plate(&self, person: &mut Person, item: ItemId, goal: PutBackGoal) -> Option<usize> {
        let product = self.shelves.items()[item].product;
        let plates = &self.layout().map.plates;
        let home = (0..plates.len()).find(|plate| self.layout().home[*plate] == product)?;
        let fits = |plate: usize| match goal {
            PutBackGoal::Home => self.layout().home[plate] == product,
            PutBackGoal::SameUnit => {
                self.layout().home[plate] != product && plates[plate].id.gondola == plates[home].id.gondola
            }
            PutBackGoal::Elsewhere => {
                let here = [plates[plate].position[0], plates[plate].position[1]];
                self.layout().home[plate] != product && distance(here, person.position) < 3.0
            }
        };
        let fitting: Vec<usize> = (0..plates.len()).filter(|plate| fits(*plate)).collect();
        let nowhere = fitting.is_empty().then_some(home);
        fitting.get(person.dice.below(fitting.len())).copied().or(nowhere)
    }

    fn companion(&self, person: &Person, member: u8) -> Option<&Person> {
        let mut others = self.people.iter().flatten();
        others.find(|other| other.visit == person.visit && other.member == member && other.id != person.id)
    }

    /// Where to stand for an errand and which way to face; `None` while others are in the way.
    fn stop_for(
        &self,
        person: &mut Person,
        errand: &Errand,
        neighbours: &[Neighbour],
    ) -> Option<([f64; 2], f64)> {
        let plates: Vec<usize> = match errand {
            Errand::PickUp { plate, .. } | Errand::SetDown { plate, .. } | Errand::Browse { plate, .. } => {
                vec![*plate]
            }
            Errand::PickUpTwo { plates } => plates.to_vec(),
            Errand::Compare { first, second } => vec![*first, *second],
            Errand::HandOver { to } => {
                let at = self.companion(person, *to)?.position;
                let away = distance(at, person.position).max(1e-6);
                let part = ((away - 0.7) / away).max(0.0);
                let stop =
                    [0, 1].map(|axis| person.position[axis] + (at[axis] - person.position[axis]) * part);
                let heading = (at[1] - stop[1]).atan2(at[0] - stop[0]);
                return Some((self.grid.pushed_free(stop), heading));
            }
            Errand::PutBack { .. } => return None,
        };
        let map = &self.layout().map;
        let middle = [0, 1].map(|axis| {
            plates.iter().map(|plate| map.plates[*plate].position[axis]).sum::<f64>() / plates.len() as f64
        });
        let front = map.plates[plates[0]].front;
        let side = [-front[1], front[0]];
        let near =
            PLATE_INSET + person.dice.between(0.36, 0.46) * (person.figure.height / 1.7).clamp(0.8, 1.1);
        let lean = person.dice.between(-0.12, 0.12);
        for (aside, back) in
            [(0.0, 0.0), (0.22, 0.0), (-0.22, 0.0), (0.38, 0.0), (-0.38, 0.0), (0.5, 0.05), (-0.5, 0.05)]
        {
            let stop =
                [0, 1].map(|axis| middle[axis] + front[axis] * (near + back) + side[axis] * (lean + aside));
            let taken = neighbours.iter().filter(|other| other.id != person.id).any(|other| {
                let claim = other.stop.or(other.stands.then_some(other.position));
                claim.is_some_and(|claim| distance(claim, stop) < ELBOW_ROOM)
            });
            if !taken && self.grid.free(stop) {
                let heading = (middle[1] - stop[1]).atan2(middle[0] - stop[0]);
                return Some((stop, heading));
            }
        }
        None
    }

    /// Nothing left to do: wait for the party, then leave.
    fn finish(&mut self, person: &mut Person, neighbours: &[Neighbour]) -> Activity {
        let Some(lane) = self.exit_lane() else { return Activity::Deciding { left: 1.0 } };
        let mut others = self.people.iter().flatten().filter(|other| other.visit == person.visit);
        let ready = others.all(|other| other.id == person.id || is_done(other));
        let (goal, purpose) = if ready {
            let leaving = &mut self.lanes[lane].leaving;
            if !leaving.contains(&person.id) {
                leaving.push_back(person.id);
            }
            (self.lanes[lane].leave_place(self.lanes[lane].leaving.len() - 1), Purpose::Leave { lane })
        } else {
            let goal = [self.lanes[lane].x - 1.3 - 0.55 * f64::from(person.member), MOUTH_Y + 0.9];
            if distance(person.position, goal) < 0.8 {
                return Activity::Deciding { left: 1.0 };
            }
            (goal, Purpose::Gather)
        };
        let way = self.grid.way(person.position, goal, &standing(person, neighbours, goal));
        Activity::Walking(Walk::new(if way.is_empty() { vec![goal] } else { way }, purpose))
    }

    /// At the end of a walk.
    pub(crate) fn arrived(&mut self, person: &mut Person, purpose: Purpose) -> Activity {
        match purpose {
            Purpose::Gather => Activity::Deciding { left: 1.0 },
            Purpose::Leave { lane } => {
                person.stand();
                let index = self.lanes[lane].leaving.iter().position(|id| *id == person.id).unwrap_or(0);
                let busy = self.people.iter().flatten().any(|other| {
                    matches!(other.activity, Activity::Crossing { lane: used, .. } if used == lane)
                        && other.position[1] > crate::layout::FENCE_Y - 0.6
                });
                if index == 0 && !busy {
                    let delay = person.dice.between(0.1, 0.4);
                    return Activity::Crossing { lane, inward: false, delay };
                }
                let place = self.lanes[lane].leave_place(index);
                Activity::Walking(Walk::new(vec![place], purpose))
            }
            Purpose::Errand { heading } => {
                let acts =
                    person.errands.pop_front().map(|errand| self.acts(person, &errand)).unwrap_or_default();
                Activity::Turning { heading, acts }
            }
        }
    }

    /// What the hands do for an errand, in order.
    fn acts(&self, person: &mut Person, errand: &Errand) -> VecDeque<Act> {
        let dice = &mut person.dice;
        let look = Act::Pause(dice.between(0.2, 1.0));
        match *errand {
            Errand::PickUp { plate, product, count, one_lift } => {
                let hand = usize::from(dice.chance(0.85));
                let lifts: Vec<u8> = if one_lift { vec![count] } else { vec![1; usize::from(count)] };
                let mut acts = VecDeque::from([look]);
                for count in lifts {
                    acts.push_back(one_hand(hand, Deed::PickUp { plate, product, count }));
                    if dice.chance(0.3) {
                        acts.push_back(Act::Pause(dice.between(0.3, 1.5)));
                    }
                    acts.push_back(Act::Stow(dice.between(0.6, 1.2)));
                }
                acts
            }
            Errand::PickUpTwo { plates } => {
                let deed =
                    |plate: usize| Some(Deed::PickUp { plate, product: self.layout().home[plate], count: 1 });
                // The left hand takes what stands on the left as the shopper sees it.
                let map = &self.layout().map;
                let front = map.plates[plates[0]].front;
                let along = |plate: usize| {
                    map.plates[plate].position[0] * -front[1] + map.plates[plate].position[1] * front[0]
                };
                let [left, right] =
                    if along(plates[0]) < along(plates[1]) { plates } else { [plates[1], plates[0]] };
                VecDeque::from([
                    look,
                    Act::Hands([deed(left), deed(right)]),
                    Act::Stow(dice.between(0.8, 1.6)),
                ])
            }
            Errand::Compare { first, second } => {
                let [one, other] = [first, second].map(|plate| self.layout().home[plate]);
                VecDeque::from([
                    look,
                    one_hand(1, Deed::PickUp { plate: first, product: one, count: 1 }),
                    Act::Pause(dice.between(1.5, 4.0)),
                    one_hand(1, Deed::SetDown { plate: first }),
                    Act::Pause(dice.between(0.1, 0.8)),
                    one_hand(1, Deed::PickUp { plate: second, product: other, count: 1 }),
                    Act::Stow(dice.between(0.6, 1.2)),
                ])
            }
            Errand::SetDown { plate, item } => VecDeque::from([
                Act::Draw { item, seconds: dice.between(0.7, 1.3) },
                Act::Pause(dice.between(0.1, 1.0)),
                one_hand(1, Deed::SetDown { plate }),
            ]),
            Errand::Browse { plate, seconds, touch } => {
                let mut acts = VecDeque::from([Act::Pause(seconds / 2.0)]);
                if touch {
                    acts.push_back(one_hand(1, Deed::Touch { plate }));
                }
                acts.push_back(Act::Pause(seconds / 2.0));
                acts
            }
            Errand::HandOver { to } => {
                let item = person.carried.last().copied();
                let near = self
                    .companion(person, to)
                    .filter(|other| other.shops() && distance(other.position, person.position) < ARM_TO_ARM);
                match (item, near) {
                    (Some(item), Some(other)) => VecDeque::from([
                        Act::Draw { item, seconds: person.dice.between(0.6, 1.0) },
                        one_hand(1, Deed::Give { to: other.id }),
                        Act::Stow(0.5),
                    ]),
                    (None, _) | (_, None) => VecDeque::new(),
                }
            }
            Errand::PutBack { .. } => VecDeque::new(),
        }
    }

    /// Goes on with what is done while standing.
    pub(crate) fn perform(&mut self, person: &mut Person, mut acts: VecDeque<Act>, spent: f64) -> Activity {
        person.stand();
        let Some(act) = acts.front().cloned() else {
            person.stop = None;
            return Activity::Deciding { left: person.dice.between(0.1, 0.9) };
        };
        let over = match act {
            Act::Pause(seconds) => spent >= seconds,
            Act::Stow(seconds) => {
                if spent >= seconds {
                    for hand in &mut person.hands {
                        hand.items.clear();
                    }
                }
                spent >= seconds
            }
            Act::Draw { item, seconds } => {
                if spent >= seconds && person.carried.contains(&item) {
                    person.hands[1].items.push(item);
                }
                spent >= seconds
            }
            Act::Hands(deeds) => {
                if spent == 0.0 {
                    self.begin(person, deeds);
                }
                for hand in 0..2 {
                    self.use_hand(person, hand);
                }
                !person.hands_busy()
            }
        };
        if over {
            acts.pop_front();
        }
        Activity::Acting { acts, spent: if over { 0.0 } else { spent + DT } }
    }

    fn begin(&self, person: &mut Person, deeds: [Option<Deed>; 2]) {
        let hard = self.options().difficulty;
        for (hand, deed) in deeds.into_iter().enumerate() {
            let Some(deed) = deed else { continue };
            let Some(target) = self.target(person, &deed) else { continue };
            let mut motion = Motion::new(deed, target, &mut person.dice);
            if hand == 0 {
                motion.delay = person.dice.between(0.0, 0.5);
            }
            // A long hold before the lift broke the best published system (field notes, recognition 1.1).
            if matches!(motion.deed, Deed::PickUp { .. }) && person.dice.chance(0.02 * hard) {
                motion.contact += person.dice.between(1.5, 3.5);
            }
            person.hands[hand].motion = Some(motion);
        }
    }

    /// Where a hand goes for a deed, metres.
    fn target(&self, person: &mut Person, deed: &Deed) -> Option<[f64; 3]> {
        match *deed {
            Deed::PickUp { plate, .. } | Deed::SetDown { plate } | Deed::Touch { plate } => {
                let spot = &self.layout().map.plates[plate];
                let tall = self.layout().looks[self.layout().home[plate]].size[2];
                let aside = spot.width * person.dice.between(-0.28, 0.28);
                let out = person.dice.between(0.02, 0.10);
                Some([
                    spot.position[0] + spot.front[0] * out - spot.front[1] * aside,
                    spot.position[1] + spot.front[1] * out + spot.front[0] * aside,
                    spot.position[2] + (tall * 0.6).clamp(0.03, 0.16),
                ])
            }
            Deed::Give { to } => {
                let other = self.people.get(to as usize)?.as_ref()?;
                let middle = |axis: usize| (person.position[axis] + other.position[axis]) / 2.0;
                Some([middle(0), middle(1), 0.62 * person.figure.height.min(other.figure.height) + 0.05])
            }
        }
    }

    fn use_hand(&mut self, person: &mut Person, hand: usize) {
        let Some(motion) = person.hands[hand].motion.as_mut() else { return };
        let moment = motion.step();
        let (deed, target, contact) = (motion.deed.clone(), motion.target, motion.contact);
        match moment {
            Moment::None => {}
            Moment::Contact => self.contact(person, &deed, target, contact),
            Moment::Deed => self.deed(person, hand, &deed),
            Moment::Over => {
                person.hands[hand].motion = None;
                if let Deed::Give { to } = deed
                    && let Some(other) = self.people.get_mut(to as usize).and_then(Option::as_mut)
                {
                    other.receives = None;
                }
            }
        }
    }

    /// The hand meets the goods: presses, bumps, leans on the neighbour.
    fn contact(&mut self, person: &mut Person, deed: &Deed, target: [f64; 3], seconds: f64) {
        let now = self.seconds();
        let dice = &mut person.dice;
        let (plate, share, least, most) = match *deed {
            Deed::PickUp { plate, .. } => (plate, 0.85, 50.0_f64, 400.0_f64),
            Deed::SetDown { plate } => (plate, 0.7, 30.0, 150.0),
            Deed::Touch { plate } => (plate, 1.0, 40.0, 250.0),
            Deed::Give { to } => {
                if let Some(other) = self.people.get_mut(to as usize).and_then(Option::as_mut) {
                    other.receives = Some(target);
                }
                return;
            }
        };
        if dice.chance(share) {
            let peak = dice.between(least.ln(), most.ln()).exp();
            let span = dice.between(0.1, 0.4).min(seconds);
            let from = now + dice.between(0.0, seconds - span);
            self.shelves.press(plate, from, from + span, peak);
        }
        if dice.chance(0.08) {
            let beside = self.layout().map.plates.iter().position(|other| {
                let id = self.layout().map.plates[plate].id;
                other.id.gondola == id.gondola && other.id.shelf == id.shelf && other.id.plate == id.plate + 1
            });
            if let Some(beside) = beside {
                let (span, peak) = (dice.between(0.2, 0.5), dice.between(20.0, 100.0));
                self.shelves.press(beside, now, now + span, peak);
            }
        }
    }

    /// The moment that mass moves.
    fn deed(&mut self, person: &mut Person, hand: usize, deed: &Deed) {
        match *deed {
            Deed::PickUp { plate, product, count } => {
                let home = self.layout().home[plate] == product;
                for _ in 0..count {
                    let Some(item) = self.shelves.front(plate, product) else { break };
                    self.shelves.lift(item, person.id);
                    person.carried.push(item);
                    person.hands[hand].items.push(item);
                    let kind = EventKind::PickUp { plate: self.shelves.name(plate), home };
                    self.record(person.id, kind, Some(product));
                }
            }
            Deed::SetDown { plate } => {
                let Some(item) = person.hands[hand].items.pop() else { return };
                person.carried.retain(|other| *other != item);
                self.shelves.set_down(item, plate);
                let product = self.shelves.items()[item].product;
                let home = self.layout().home[plate] == product;
                let kind = EventKind::PutBack { plate: self.shelves.name(plate), home };
                self.record(person.id, kind, Some(product));
            }
            Deed::Touch { plate } => {
                let kind = EventKind::Touch { plate: self.shelves.name(plate) };
                self.record(person.id, kind, None);
            }
            Deed::Give { to } => {
                let Some(other) = self.people.get_mut(to as usize).and_then(Option::as_mut) else { return };
                let near = distance(other.position, person.position) < ARM_TO_ARM + 0.3;
                if !near || !is_inside(other) {
                    return;
                }
                let Some(item) = person.hands[hand].items.pop() else { return };
                person.carried.retain(|mine| *mine != item);
                other.carried.push(item);
                self.shelves.give(item, to);
                let product = self.shelves.items()[item].product;
                self.record(person.id, EventKind::HandOver { to }, Some(product));
            }
        }
    }
}

fn one_hand(hand: usize, deed: Deed) -> Act {
    Act::Hands(if hand == 0 { [Some(deed), None] } else { [None, Some(deed)] })
}

/// People whom a way should go around, but not those at its goal.
fn standing(person: &Person, neighbours: &[Neighbour], goal: [f64; 2]) -> Vec<[f64; 2]> {
    neighbours
        .iter()
        .filter(|other| other.id != person.id && other.stands && distance(other.position, goal) > 0.6)
        .map(|other| other.position)
        .collect()
}

/// Whether a companion needs not be waited for.
fn is_done(person: &Person) -> bool {
    match &person.activity {
        Activity::Walking(walk) => {
            person.errands.is_empty() && !matches!(walk.purpose, Purpose::Errand { .. })
        }
        Activity::Deciding { .. } => person.errands.is_empty(),
        Activity::Crossing { inward, .. } => !inward,
        Activity::Gone | Activity::WalkingOff => true,
        Activity::Queueing
        | Activity::ReadyingPhone { .. }
        | Activity::Showing { .. }
        | Activity::Turning { .. }
        | Activity::Acting { .. } => false,
    }
}
