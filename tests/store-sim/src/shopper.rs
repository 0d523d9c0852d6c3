//! A person in the store: how they walk, turn and use their hands.

use std::collections::VecDeque;
use std::f64::consts::{PI, TAU};

use crate::body::{Body, Figure};
use crate::dice::Dice;
use crate::errand::Errand;
use crate::path::{Grid, distance};
use crate::shelf::ItemId;

/// Seconds of a step of the world.
pub const DT: f64 = 0.05;
/// Comfortable distance between two people's middles, metres.
const PERSONAL: f64 = 0.45;
/// People never come closer than this, metres.
const TOUCHING: f64 = 0.38;
/// Turning on the spot, radians a second.
const TURN_RATE: f64 = 4.5;

/// A person.
#[derive(Clone, Debug)]
pub struct Person {
    /// Unique in the day.
    pub id: u32,
    /// Index of the visit.
    pub visit: usize,
    /// Which of the party.
    pub member: u8,
    /// Looks.
    pub figure: Figure,
    /// Where, metres.
    pub position: [f64; 2],
    /// Metres a second.
    pub velocity: [f64; 2],
    /// Where they face, radians from +x towards +y.
    pub heading: f64,
    /// Phase of the walk, radians.
    pub stride: f64,
    /// Ordinary walking speed, metres a second.
    pub pace: f64,
    /// What they are doing.
    pub activity: Activity,
    /// What is left to do in the store.
    pub errands: VecDeque<Errand>,
    /// Left and right.
    pub hands: [Hand; 2],
    /// All they have, in hands and bag.
    pub carried: Vec<ItemId>,
    /// The place at a shelf that they have taken or walk to.
    pub stop: Option<[f64; 2]>,
    /// Times that the first errand found no room.
    pub crowded_out: u32,
    /// A companion reaches something to this place.
    pub receives: Option<[f64; 3]>,
    /// Their own luck.
    pub dice: Dice,
}

/// What a person is doing.
#[derive(Clone, Debug, PartialEq)]
pub enum Activity {
    /// Stands in, or moves up, the queue on the street.
    Queueing,
    /// Takes out the phone at the reader.
    ReadyingPhone {
        /// Seconds left.
        left: f64,
    },
    /// Holds the code to the reader and waits for the turnstile.
    Showing {
        /// Seconds of the day when the newest code was shown.
        shown: f64,
        /// Seconds of the day when the first one was.
        first: f64,
        /// Codes shown so far.
        tries: u32,
    },
    /// Walks straight through a lane (index).
    Crossing {
        /// Which.
        lane: usize,
        /// Into the store.
        inward: bool,
        /// Seconds before the first step.
        delay: f64,
    },
    /// Thinks of the next thing, for so many seconds.
    Deciding {
        /// Seconds left.
        left: f64,
    },
    /// Walks.
    Walking(Walk),
    /// Turns to face a heading, then acts.
    Turning {
        /// Radians.
        heading: f64,
        /// What then.
        acts: VecDeque<Act>,
    },
    /// Does things one after another, standing.
    Acting {
        /// What is left; the first is under way.
        acts: VecDeque<Act>,
        /// Seconds that the first has taken.
        spent: f64,
    },
    /// Turned away at the gate, walks off.
    WalkingOff,
    /// Not in the store.
    Gone,
}

/// A walk to a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// Corners left, the last is the goal.
    pub way: VecDeque<[f64; 2]>,
    /// What for.
    pub purpose: Purpose,
    /// Seconds without progress.
    pub stuck: f64,
    /// Least distance left so far, metres.
    pub least: f64,
    /// Times replanned.
    pub replans: u32,
    /// Seconds on the way.
    pub spent: f64,
}

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// The first errand; face this way there.
    Errand {
        /// Radians.
        heading: f64,
    },
    /// Wait for the party near the exit.
    Gather,
    /// Leave by a lane (index).
    Leave {
        /// Which.
        lane: usize,
    },
}

/// A thing done while standing.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Left and right hand each do something.
    Hands([Option<Deed>; 2]),
    /// Look, wait.
    Pause(f64),
    /// Put what the hands hold into the bag.
    Stow(f64),
    /// Take something out of the bag into the right hand.
    Draw {
        /// What.
        item: ItemId,
        /// How long.
        seconds: f64,
    },
}

/// What one hand does.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Lift packs off a plate.
    PickUp {
        /// From where.
        plate: usize,
        /// What.
        product: usize,
        /// How many in this lift.
        count: u8,
    },
    /// Set down what the hand holds.
    SetDown {
        /// Where.
        plate: usize,
    },
    /// Touch and let go.
    Touch {
        /// What.
        plate: usize,
    },
    /// Give what the hand holds to a person.
    Give {
        /// To whom.
        to: u32,
    },
}

/// A hand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hand {
    /// What it holds.
    pub items: Vec<ItemId>,
    /// What it is doing.
    pub motion: Option<Motion>,
}

/// A reach: out, contact, back.
#[derive(Clone, Debug, PartialEq)]
pub struct Motion {
    /// What for.
    pub deed: Deed,
    /// Where to, metres.
    pub target: [f64; 3],
    /// Seconds before it starts.
    pub delay: f64,
    /// Seconds out.
    pub out: f64,
    /// Seconds of contact before the deed is done.
    pub contact: f64,
    /// Seconds back.
    pub back: f64,
    /// Seconds since it was set.
    pub spent: f64,
    /// Whether contact has begun.
    pub touched: bool,
    /// Whether the deed is done.
    pub done: bool,
}

/// What a motion came to in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing worth telling.
    None,
    /// The hand meets the plate or person.
    Contact,
    /// The deed takes place.
    Deed,
    /// The hand is back.
    Over,
}

impl Motion {
    /// A reach to `target` with times drawn from the person's luck.
    pub fn new(deed: Deed, target: [f64; 3], dice: &mut Dice) -> Self {
        let contact = match deed {
            Deed::PickUp { .. } => dice.between(0.3, 0.8),
            Deed::SetDown { .. } => dice.between(0.25, 0.5),
            Deed::Touch { .. } => dice.between(0.3, 1.2),
            Deed::Give { .. } => dice.between(0.3, 0.6),
        };
        Self {
            deed,
            target,
            delay: 0.0,
            out: dice.between(0.55, 0.85),
            contact,
            back: dice.between(0.5, 0.75),
            spent: 0.0,
            touched: false,
            done: false,
        }
    }

    /// Advances by a step.
    pub fn step(&mut self) -> Moment {
        self.spent += DT;
        let arrived = self.delay + self.out;
        if !self.touched && self.spent >= arrived {
            self.touched = true;
            return Moment::Contact;
        }
        if !self.done && self.spent >= arrived + self.contact {
            self.done = true;
            return Moment::Deed;
        }
        if self.spent >= arrived + self.contact + self.back { Moment::Over } else { Moment::None }
    }

    /// How far out the hand is: 0 at the body, 1 at the target; minimum-jerk (Flash and Hogan, 1985).
    #[must_use]
    pub fn extent(&self) -> f64 {
        let since = self.spent - self.delay;
        let part = if since < self.out {
            since / self.out
        } else {
            1.0 - (since - self.out - self.contact) / self.back
        };
        let part = part.clamp(0.0, 1.0);
        part * part * part * (10.0 - 15.0 * part + 6.0 * part * part)
    }
}

/// Somebody near, as a walker sees them.
#[derive(Clone, Copy, Debug)]
pub struct Neighbour {
    /// Who.
    pub id: u32,
    /// Where.
    pub position: [f64; 2],
    /// Metres a second.
    pub velocity: [f64; 2],
    /// The place at a shelf that they claim.
    pub stop: Option<[f64; 2]>,
    /// Whether they stand and will stay a while.
    pub stands: bool,
}

impl Walk {
    /// A walk along a way.
    #[must_use]
    pub fn new(way: Vec<[f64; 2]>, purpose: Purpose) -> Self {
        Self { way: way.into(), purpose, stuck: 0.0, least: f64::INFINITY, replans: 0, spent: 0.0 }
    }

    fn left(&self, from: [f64; 2]) -> f64 {
        let mut sum = 0.0;
        let mut last = from;
        for corner in &self.way {
            sum += distance(last, *corner);
            last = *corner;
        }
        sum
    }
}

impl Person {
    /// One step along a walk; true on arrival.
    pub fn walk(&mut self, walk: &mut Walk, neighbours: &[Neighbour], grid: &Grid) -> bool {
        walk.spent += DT;
        while walk.way.len() > 1 && distance(self.position, walk.way[0]) < 0.25 {
            walk.way.pop_front();
        }
        let Some(corner) = walk.way.front().copied() else { return true };
        let left = walk.left(self.position);
        if left < 0.07 {
            self.velocity = [0.0, 0.0];
            return true;
        }
        if left < walk.least - 0.05 {
            walk.least = left;
            walk.stuck = 0.0;
        } else {
            walk.stuck += DT;
        }
        if walk.stuck > 1.0 && left < 0.4 && !matches!(walk.purpose, Purpose::Leave { .. }) {
            return true;
        }
        if walk.stuck > 1.5 {
            self.replan(walk, neighbours, grid);
        }
        // After some tries people turn sideways and squeeze past.
        let squeeze = walk.replans >= 3 && walk.replans % 2 == 1;
        self.steer(corner, left, squeeze, neighbours, grid);
        false
    }

    fn replan(&mut self, walk: &mut Walk, neighbours: &[Neighbour], grid: &Grid) {
        walk.stuck = 0.0;
        walk.least = f64::INFINITY;
        walk.replans += 1;
        let Some(goal) = walk.way.back().copied() else { return };
        let others = neighbours.iter().filter(|other| other.id != self.id);
        let crowd: Vec<[f64; 2]> =
            others.map(|other| other.position).filter(|at| distance(*at, goal) > 0.5).collect();
        let way = grid.way(self.position, goal, &crowd);
        if !way.is_empty() {
            walk.way = way.into();
        }
    }

    /// One step towards a place, with room for others; a social-force model after Helbing and Molnar (1995),
    /// with passing on the right.
    fn steer(&mut self, corner: [f64; 2], left: f64, squeeze: bool, neighbours: &[Neighbour], grid: &Grid) {
        let away = distance(self.position, corner).max(1e-6);
        let ahead = [0, 1].map(|axis| (corner[axis] - self.position[axis]) / away);
        let speed = self.pace.min(0.2 + 1.8 * left);
        let mut force = [0, 1].map(|axis| (ahead[axis] * speed - self.velocity[axis]) / 0.35);
        let shrink = if squeeze { 0.55 } else { 1.0 };
        for other in neighbours {
            let gap = distance(self.position, other.position);
            if other.id == self.id || !(1e-9..=1.1).contains(&gap) {
                continue;
            }
            let out = [0, 1].map(|axis| (self.position[axis] - other.position[axis]) / gap);
            let facing = -(ahead[0] * out[0] + ahead[1] * out[1]);
            let care = if facing > -0.2 { 1.0 } else { 0.25 };
            let strength = care * 2.2 * ((PERSONAL * shrink - gap) / 0.2).exp();
            let aside = if facing > 0.4 { 1.2 * strength } else { 0.0 };
            // The walker's right hand: ahead turned clockwise.
            force[0] += out[0] * strength + ahead[1] * aside;
            force[1] += out[1] * strength - ahead[0] * aside;
        }
        self.velocity = [0, 1].map(|axis| self.velocity[axis] + force[axis] * DT);
        let fast = self.velocity[0].hypot(self.velocity[1]);
        let most = self.pace * 1.25;
        if fast > most {
            self.velocity = self.velocity.map(|value| value * most / fast);
        }
        let before = self.position;
        let mut next = [0, 1].map(|axis| before[axis] + self.velocity[axis] * DT);
        for other in neighbours {
            let gap = distance(next, other.position);
            let least = TOUCHING * if squeeze { 0.6 } else { 1.0 };
            if other.id != self.id && gap < least && gap > 1e-9 {
                let push = (least - gap) * if other.stands { 1.0 } else { 0.5 };
                next = [0, 1].map(|axis| next[axis] + (next[axis] - other.position[axis]) / gap * push);
            }
        }
        let next = grid.pushed_free(next);
        self.move_to(next);
    }

    /// Moves the body to a place, with its legs and heading.
    pub fn move_to(&mut self, next: [f64; 2]) {
        let gone = distance(self.position, next);
        self.velocity = [0, 1].map(|axis| (next[axis] - self.position[axis]) / DT);
        self.stride = (self.stride + TAU * gone / self.figure.stride_length()) % TAU;
        if gone > 0.15 * DT {
            let wanted = self.velocity[1].atan2(self.velocity[0]);
            self.turn_to(wanted);
        }
        self.position = next;
    }

    /// Stands still this step: the legs come together.
    pub fn stand(&mut self) {
        self.velocity = [0.0, 0.0];
        let rest = (self.stride / PI).round() * PI;
        self.stride += (rest - self.stride) * 0.3;
    }

    /// One step straight towards a place, without care for others; true on arrival.
    pub fn stride_to(&mut self, goal: [f64; 2], pace: f64) -> bool {
        let away = distance(self.position, goal);
        let step = pace * DT;
        if away <= step {
            self.move_to(goal);
            return true;
        }
        self.move_to(
            [0, 1].map(|axis| self.position[axis] + (goal[axis] - self.position[axis]) / away * step),
        );
        false
    }

    /// Turns towards a heading by a step; true when facing it.
    pub fn turn_to(&mut self, wanted: f64) -> bool {
        let off = (wanted - self.heading + PI).rem_euclid(TAU) - PI;
        self.heading += off.clamp(-TURN_RATE * DT, TURN_RATE * DT);
        off.abs() < 0.12
    }

    /// Whether they stand and will stay.
    #[must_use]
    pub fn stands(&self) -> bool {
        match self.activity {
            Activity::Turning { .. } | Activity::Acting { .. } | Activity::Deciding { .. } => true,
            Activity::Queueing
            | Activity::ReadyingPhone { .. }
            | Activity::Showing { .. }
            | Activity::Crossing { .. }
            | Activity::Walking(_)
            | Activity::WalkingOff
            | Activity::Gone => false,
        }
    }

    /// Whether they are past the entry and not yet past the exit.
    #[must_use]
    pub fn shops(&self) -> bool {
        match self.activity {
            Activity::Deciding { .. }
            | Activity::Walking(_)
            | Activity::Turning { .. }
            | Activity::Acting { .. } => true,
            Activity::Queueing
            | Activity::ReadyingPhone { .. }
            | Activity::Showing { .. }
            | Activity::Crossing { .. }
            | Activity::WalkingOff
            | Activity::Gone => false,
        }
    }

    /// Whether either hand is on its way or in contact.
    #[must_use]
    pub fn hands_busy(&self) -> bool {
        self.hands.iter().any(|hand| hand.motion.is_some())
    }

    /// The body as it stands now; `reader` is where a phone is held to, if it is.
    #[must_use]
    pub fn body(&self, reader: Option<[f64; 3]>) -> Body {
        let rest = Body::pose(&self.figure, self.position, self.heading, self.stride, [None, None]);
        let mut reach = [None, None];
        for (index, hand) in self.hands.iter().enumerate() {
            let carry = self.figure.carry_point(self.position, self.heading, index);
            let idle = if hand.items.is_empty() { rest.wrists[index] } else { carry };
            let extent = hand.motion.as_ref().map_or(0.0, Motion::extent);
            if let (Some(motion), true) = (&hand.motion, extent > 0.0) {
                reach[index] =
                    Some([0, 1, 2].map(|axis| idle[axis] + (motion.target[axis] - idle[axis]) * extent));
            } else if !hand.items.is_empty() {
                reach[index] = Some(carry);
            }
        }
        if let (None, Some(meeting)) = (reach[1], self.receives) {
            reach[1] = Some(meeting);
        }
        if let Some(reader) = reader {
            reach[1] = Some(reader);
        }
        Body::pose(&self.figure, self.position, self.heading, self.stride, reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_goes_out_touches_acts_and_comes_back() {
        let mut motion = Motion::new(Deed::Touch { plate: 0 }, [0.0; 3], &mut Dice::new(1, 1));
        let mut moments = Vec::new();
        for _ in 0..200 {
            match motion.step() {
                Moment::None => {}
                Moment::Contact => {
                    assert!(motion.extent() > 0.99);
                    moments.push(Moment::Contact);
                }
                Moment::Deed => moments.push(Moment::Deed),
                Moment::Over => {
                    moments.push(Moment::Over);
                    break;
                }
            }
        }
        assert_eq!(moments, [Moment::Contact, Moment::Deed, Moment::Over]);
        assert!(motion.extent() < 0.05);
    }
}
