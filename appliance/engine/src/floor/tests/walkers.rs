//! People who come in, walk between places, stand, meet, and leave; and what eight noisy cameras say of them.

use crate::floor::camera::CameraModel;
use crate::floor::{Seen, Sighting};
use crate::store::{Camera, Lane, StoreMap};
use crate::time::{Instant, Millis};
use crate::units::{CameraId, LaneId};

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub people: usize,
    /// Pixel noise of heads; feet and hands have twice as much.
    pub noise: f64,
    /// Share of detections that fail.
    pub missed: f64,
    /// False alarms a frame.
    pub false_alarms: f64,
    /// Times a second that a person is hidden from every camera for two seconds.
    pub hidden: f64,
    /// Share of frames that never arrive.
    pub lost: f64,
    /// Cameras that never deliver.
    pub dark: Vec<u16>,
    /// Nobody leaves.
    pub stay: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            people: 6,
            noise: 2.0,
            missed: 0.2,
            false_alarms: 0.1,
            hidden: 1.0 / 30.0,
            lost: 0.02,
            dark: Vec::new(),
            stay: false,
        }
    }
}

/// The test store: 10 x 7 m, two lanes in the lower wall, eight cameras 3 m above the floor.
pub fn map() -> StoreMap {
    let poses: [([f64; 2], [f64; 2]); 8] = [
        ([0.4, 2.6], [2.4, 0.6]),
        ([9.6, 2.6], [7.6, 0.6]),
        ([4.4, 1.0], [3.4, 3.0]),
        ([5.6, 1.0], [6.6, 3.0]),
        ([0.4, 6.6], [2.4, 4.8]),
        ([9.6, 6.6], [7.6, 4.8]),
        ([4.6, 4.6], [2.6, 5.0]),
        ([5.4, 4.6], [7.4, 5.0]),
    ];
    let camera = |(index, (at, to)): (usize, ([f64; 2], [f64; 2]))| Camera {
        id: CameraId(index as u16),
        model: CameraModel::looking_at(
            [320, 192],
            1.9,
            [at[0], at[1], 3.0],
            [to[0], to[1], 0.0],
            [0.0, 0.0, 1.0],
        ),
    };
    let lane = |id: &str, x: f64, entry: bool| Lane {
        id: LaneId::from(id),
        position: [x, 0.7],
        inward: [0.0, 1.0],
        entry,
        exit: !entry,
    };
    StoreMap {
        name: "test".to_owned(),
        bounds: [0.0, 0.0, 10.0, 7.0],
        gondolas: Vec::new(),
        lanes: vec![lane("entry-1", 2.0, true), lane("exit-1", 8.0, false)],
        cameras: poses.into_iter().enumerate().map(camera).collect(),
        plates: Vec::new(),
        products: Vec::new(),
        facings: Vec::new(),
    }
}

#[derive(Clone, Debug)]
pub struct Walker {
    pub position: [f64; 2],
    velocity: [f64; 2],
    head: f64,
    /// Places still to go to; the last is outside.
    way: Vec<[f64; 2]>,
    pace: f64,
    stands_until: Instant,
    comes: Instant,
    hidden_until: Instant,
    /// When a camera last detected them.
    pub seen: Instant,
    pub here: bool,
    reach: f64,
}

impl Walker {
    /// Both hands in space: one hangs, one is stretched out towards where the person goes.
    pub fn hands(&self) -> [[f64; 3]; 2] {
        let [x, y] = self.position;
        let (sin, cos) = self.reach.sin_cos();
        [
            [x + 0.55 * cos, y + 0.55 * sin, self.head - 0.3],
            [x + 0.25 * sin, y - 0.25 * cos, self.head - 0.75],
        ]
    }
}

pub struct Walkers {
    options: Options,
    pub people: Vec<Walker>,
    dice: Dice,
    /// Frames under way, with the time of their delivery.
    late: Vec<(Instant, Sighting)>,
    start: Option<Instant>,
}

impl Walkers {
    pub fn new(options: &Options) -> Self {
        let mut dice = Dice(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let people = (0..options.people)
            .map(|index| {
                let mut way = vec![[2.0, 1.5]];
                let places = if options.stay { 1000 } else { 4 + dice.below(6) };
                for _ in 0..places {
                    way.push([dice.between(0.7, 9.3), dice.between(1.6, 6.4)]);
                }
                way.extend([[8.0, 1.4], [8.0, -1.5]]);
                way.reverse();
                Walker {
                    position: [2.0, -0.6],
                    velocity: [0.0; 2],
                    head: (1.58 + 0.08 * dice.normal()).clamp(1.3, 1.85),
                    way,
                    pace: dice.between(0.6, 1.4),
                    stands_until: Instant(0),
                    comes: Instant(1_000_000 + 4000 * index as u64 + (2000.0 * dice.unit()) as u64),
                    hidden_until: Instant(0),
                    seen: Instant(0),
                    here: false,
                    reach: 0.0,
                }
            })
            .collect();
        Self { options: options.clone(), people, dice, late: Vec::new(), start: None }
    }

    /// Moves everybody by 50 ms and adds the frames that arrive by `now`.
    pub fn step(&mut self, map: &StoreMap, now: Instant, out: &mut Vec<Sighting>) {
        let start = *self.start.get_or_insert(now);
        for index in 0..self.people.len() {
            self.walk(index, now);
        }
        for (index, camera) in map.cameras.iter().enumerate() {
            let odd = (now.since(start).0 / 50 + index as u64) % 2 == 1;
            if odd || self.options.dark.contains(&camera.id.0) || self.dice.unit() < self.options.lost {
                continue;
            }
            let sighting = self.look(camera, now);
            let delay = self.dice.between(0.0, 120.0) as u64;
            self.late.push((now.after(Millis(delay)), sighting));
        }
        self.late.sort_by_key(|(due, _)| *due);
        let due = self.late.partition_point(|(due, _)| *due <= now);
        out.extend(self.late.drain(..due).map(|(_, sighting)| sighting));
    }

    fn walk(&mut self, index: usize, now: Instant) {
        const SPAN: f64 = 0.05;
        let others: Vec<[f64; 2]> = self
            .people
            .iter()
            .enumerate()
            .filter(|(other, person)| *other != index && person.here)
            .map(|(_, person)| person.position)
            .collect();
        let hides = self.dice.unit() < self.options.hidden * SPAN;
        let pause = self.dice.between(0.0, 5000.0) as u64;
        let person = &mut self.people[index];
        if person.comes > now {
            return;
        }
        person.here = !person.way.is_empty();
        let Some(&goal) = person.way.last() else { return };
        if hides {
            person.hidden_until = now.after(Millis(2000));
        }
        let way = [goal[0] - person.position[0], goal[1] - person.position[1]];
        let left = way[0].hypot(way[1]);
        if left < 0.25 {
            person.way.pop();
            if person.way.len() > 2 && person.position[1] > 1.6 {
                person.stands_until = now.after(Millis(pause));
            }
        }
        let pace = if now < person.stands_until { 0.0 } else { person.pace };
        let mut wanted = [way[0] / left.max(0.1) * pace, way[1] / left.max(0.1) * pace];
        for other in others {
            let off = [person.position[0] - other[0], person.position[1] - other[1]];
            let gap = off[0].hypot(off[1]).max(0.05);
            if gap < 0.6 {
                // People squeeze past each other: mostly sideways.
                let push = (0.6 - gap) * 5.0;
                wanted[0] += off[0] / gap * push - off[1] / gap * push * 0.6;
                wanted[1] += off[1] / gap * push + off[0] / gap * push * 0.6;
            }
        }
        let velocity = person.velocity.iter_mut().zip(wanted);
        for (position, (speed, wanted)) in person.position.iter_mut().zip(velocity) {
            *speed += (wanted - *speed).clamp(-3.0 * SPAN, 3.0 * SPAN);
            *position += *speed * SPAN;
        }
        if person.velocity[0].hypot(person.velocity[1]) > 0.2 {
            person.reach = person.velocity[1].atan2(person.velocity[0]);
        }
    }

    fn look(&mut self, camera: &Camera, now: Instant) -> Sighting {
        let model = &camera.model;
        let noise = self.options.noise;
        // A fixed fault of this camera's calibration, about a pixel.
        let bias = [f64::from(camera.id.0 % 3) - 1.0, f64::from(camera.id.0 / 3) - 1.0];
        let mut heads: Vec<(f64, usize, [f64; 2])> = Vec::new();
        for (index, person) in self.people.iter().enumerate() {
            let [x, y] = person.position;
            let visible = person.here && person.hidden_until <= now;
            if let Some(pixel) =
                model.project([x, y, person.head]).filter(|pixel| visible && model.contains(*pixel))
            {
                let away = (x - model.position[0]).hypot(y - model.position[1]);
                heads.push((away, index, pixel));
            }
        }
        // The nearer body hides the farther head.
        heads.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut shown: Vec<[f64; 2]> = Vec::new();
        let mut people = Vec::new();
        for (_, index, pixel) in heads {
            let hidden = shown.iter().any(|other| (pixel[0] - other[0]).hypot(pixel[1] - other[1]) < 12.0);
            if hidden || self.dice.unit() < self.options.missed {
                continue;
            }
            shown.push(pixel);
            let mut about = |at: [f64; 2], sd: f64| {
                [at[0] + bias[0] + sd * self.dice.normal(), at[1] + bias[1] + sd * self.dice.normal()]
            };
            let person = &self.people[index];
            let [x, y] = person.position;
            let head = about(pixel, noise);
            let foot = model.project([x, y, 0.0]).filter(|foot| model.contains(*foot));
            let foot = foot.map(|foot| about(foot, 2.0 * noise));
            let hands = person.hands().into_iter().filter_map(|hand| model.project(hand));
            let hands = hands.filter(|hand| model.contains(*hand)).collect::<Vec<_>>();
            let hands = hands.into_iter().map(|hand| about(hand, noise)).collect::<Vec<_>>();
            let hands = hands.into_iter().filter(|_| self.dice.unit() < 0.6).collect();
            let foot = foot.filter(|_| self.dice.unit() < 0.6);
            people.push(Seen { head, head_sd: noise, foot, foot_sd: 2.0 * noise, hands, score: 0.9 });
            self.people[index].seen = now;
        }
        if self.dice.unit() < self.options.false_alarms {
            let head = [self.dice.between(0.0, 320.0), self.dice.between(0.0, 192.0)];
            people.push(Seen { head, head_sd: noise, foot: None, foot_sd: noise, hands: vec![], score: 0.5 });
        }
        Sighting { camera: camera.id, at: now, people }
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.unit() * limit as f64) as usize
    }

    pub fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}
