//! Shoppers' bodies: a stick figure of joints, posed by where it walks and what its hands reach for.
//!
//! Proportions are fractions of body height after Drillis and Contini ("Body segment parameters", 1966), as Winter's
//! "Biomechanics and Motor Control of Human Movement" tabulates them. Lengths in metres, world axes of `StoreMap`.

use crate::dice::Dice;

/// Height of the middle of the head over body height when standing.
pub const HEAD_HEIGHT: f64 = 0.93;
const NECK_HEIGHT: f64 = 0.85;
const SHOULDER_HEIGHT: f64 = 0.818;
const HIP_HEIGHT: f64 = 0.530;
const ANKLE_HEIGHT: f64 = 0.039;
const SHOULDER_HALF_WIDTH: f64 = 0.115;
const HIP_HALF_WIDTH: f64 = 0.055;
const UPPER_ARM: f64 = 0.186;
/// Elbow to the middle of the hand: forearm 0.146 and half a hand.
const LOWER_ARM: f64 = 0.146 + 0.045;
const THIGH: f64 = 0.245;
const SHANK: f64 = 0.246;
/// Ground covered by one full cycle of two steps.
const STRIDE_LENGTH: f64 = 0.83;
/// Farthest lean of the trunk and deepest crouch that a shopper goes to for a low shelf.
const LEAN_MAX: f64 = 1.1;
const CROUCH_MAX: f64 = 0.28;

/// Colours of a body, sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours {
    /// Face, neck and hands.
    pub skin: [u8; 3],
    /// Hair, or a hat.
    pub hair: [u8; 3],
    /// Shirt or coat; the sleeves too.
    pub top: [u8; 3],
    /// Trousers or skirt.
    pub trousers: [u8; 3],
    /// Shoes.
    pub shoes: [u8; 3],
    /// Stripes across the top, or none.
    pub stripes: Option<[u8; 3]>,
}

/// A person's unchanging looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Body height, metres, 0.9 (a small child) to 2.0.
    pub height: f64,
    /// Girth: 1 is ordinary, 0.8 slender, 1.3 heavy.
    pub build: f64,
    /// Colours.
    pub colours: Colours,
    /// Bare forearms.
    pub short_sleeves: bool,
    /// Hair down to the shoulders.
    pub long_hair: bool,
    /// What hangs from the shoulder or back, if anything.
    pub bag: Option<Bag>,
}

/// A bag worn or pushed along with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bag {
    /// How it is carried.
    pub kind: BagKind,
    /// sRGB.
    pub colour: [u8; 3],
}

/// How a bag is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BagKind {
    /// On the back.
    Backpack,
    /// Hanging from the left shoulder, at the hip.
    Shoulder,
}

/// A thing in a hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Its middle, metres.
    pub position: [f64; 3],
    /// Extent along x, y and z, metres.
    pub size: [f64; 3],
    /// sRGB.
    pub colour: [u8; 3],
}

/// A posed body: joints in metres, pairs are left then right.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Whose body.
    pub figure: Figure,
    /// Where it faces, radians from +x towards +y.
    pub heading: f64,
    /// Middle of the head.
    pub head: [f64; 3],
    /// Base of the neck.
    pub neck: [f64; 3],
    /// Shoulder joints.
    pub shoulders: [[f64; 3]; 2],
    /// Elbows.
    pub elbows: [[f64; 3]; 2],
    /// Middles of the hands (key-point sets call them wrists).
    pub wrists: [[f64; 3]; 2],
    /// Hip joints.
    pub hips: [[f64; 3]; 2],
    /// Knees.
    pub knees: [[f64; 3]; 2],
    /// Ankles.
    pub feet: [[f64; 3]; 2],
    /// Things in the hands.
    pub held: Vec<Held>,
}

impl Figure {
    /// Any grown-up, with any looks.
    #[must_use]
    pub fn random(dice: &mut Dice) -> Self {
        let height = dice.between(1.50, 1.92);
        Self::random_of(height, dice)
    }

    /// Any looks on a body of this height, metres.
    #[must_use]
    pub fn random_of(height: f64, dice: &mut Dice) -> Self {
        const SKINS: [[u8; 3]; 6] =
            [[241, 204, 180], [224, 178, 147], [198, 147, 110], [162, 109, 76], [115, 74, 50], [75, 50, 38]];
        const HAIRS: [[u8; 3]; 6] =
            [[22, 18, 16], [48, 32, 24], [95, 62, 36], [180, 140, 84], [150, 150, 150], [220, 215, 205]];
        let skin = jitter(SKINS[dice.below(SKINS.len())], dice);
        // One in six wears a hat or dyes; one in twelve has no hair.
        let hair = match dice.below(12) {
            0 | 1 => cloth(dice),
            2 => skin,
            _ => jitter(HAIRS[dice.below(HAIRS.len())], dice),
        };
        let stripes = dice.chance(0.2).then(|| cloth(dice));
        let (top, trousers, shoes) = (cloth(dice), cloth(dice), cloth(dice));
        let bag = dice.chance(0.3).then(|| Bag {
            kind: if dice.chance(0.5) { BagKind::Backpack } else { BagKind::Shoulder },
            colour: cloth(dice),
        });
        Self {
            height,
            build: dice.between(0.82, 1.3),
            colours: Colours { skin, hair, top, trousers, shoes, stripes },
            short_sleeves: dice.chance(0.5),
            long_hair: dice.chance(0.35),
            bag,
        }
    }

    /// Ground covered by one full cycle of two steps, metres: walking `d` metres adds `TAU * d / stride_length` to the
    /// stride phase.
    #[must_use]
    pub fn stride_length(&self) -> f64 {
        STRIDE_LENGTH * self.height
    }

    /// How far the middle of the hand can be from the shoulder, metres.
    #[must_use]
    pub fn arm_length(&self) -> f64 {
        (UPPER_ARM + LOWER_ARM) * self.height
    }

    /// Where a hand (0 left, 1 right) holds something carried in front of the body, metres.
    #[must_use]
    pub fn carry_point(&self, position: [f64; 2], heading: f64, hand: usize) -> [f64; 3] {
        let frame = Frame::new(position, heading);
        frame.at(0.19 * self.height, side(hand) * 0.09 * self.height, 0.64 * self.height)
    }
}

impl Body {
    /// Poses a figure that stands at `position` and faces `heading` (radians from +x towards +y).
    ///
    /// `stride` is the phase of the walk in radians; multiples of pi have the legs together, so 0 stands. `reach` gives
    /// where the left and right hands want to be: the arm bends there, the trunk leans and the knees give
    /// when it is too
    /// far or too low, and what is still out of reach is approached as far as the arm goes. Without a target an arm
    /// swings with the walk.
    #[must_use]
    pub fn pose(
        figure: &Figure,
        position: [f64; 2],
        heading: f64,
        stride: f64,
        reach: [Option<[f64; 3]>; 2],
    ) -> Self {
        let frame = Frame::new(position, heading);
        let height = figure.height;
        let swing = stride.sin();
        let (lean, crouch) = stoop(figure, &frame, reach);
        let trunk = Trunk { frame, height, lean, crouch };

        let hips = [0, 1].map(|leg| trunk.at(HIP_HEIGHT, side(leg) * HIP_HALF_WIDTH));
        let feet = [0, 1].map(|leg| {
            let forward = side(leg) * swing * STRIDE_LENGTH / 4.0 * height;
            // The foot that swings forward is off the floor.
            let lift = (side(leg) * stride.cos()).max(0.0) * swing.abs() * 0.05;
            trunk.frame.at(forward, side(leg) * HIP_HALF_WIDTH * height, (ANKLE_HEIGHT + lift) * height)
        });
        let knees = [0, 1].map(|leg| {
            let ahead = trunk.frame.direction(1.0, 0.0, 0.0);
            bend(hips[leg], feet[leg], THIGH * height, SHANK * height, ahead).0
        });

        let shoulders = [0, 1].map(|arm| trunk.at(SHOULDER_HEIGHT, side(arm) * SHOULDER_HALF_WIDTH));
        let arms = [0, 1].map(|arm| {
            let rest = add(
                shoulders[arm],
                trunk.frame.direction(
                    (0.05 - 0.12 * side(arm) * swing) * height,
                    side(arm) * 0.045 * height,
                    -0.345 * height,
                ),
            );
            // Elbows point down, back and outwards.
            let pole = trunk.frame.direction(-0.5, side(arm) * 0.5, -0.7);
            let target = reach[arm].unwrap_or(rest);
            bend(shoulders[arm], target, UPPER_ARM * height, LOWER_ARM * height, pole)
        });

        Self {
            figure: figure.clone(),
            heading,
            head: trunk.at(HEAD_HEIGHT, 0.0),
            neck: trunk.at(NECK_HEIGHT, 0.0),
            shoulders,
            elbows: arms.map(|arm| arm.0),
            wrists: arms.map(|arm| arm.1),
            hips,
            knees,
            feet,
            held: Vec::new(),
        }
    }

    /// The point on the floor below the body, metres.
    #[must_use]
    pub fn foot(&self) -> [f64; 3] {
        let middle = |axis: usize| (self.feet[0][axis] + self.feet[1][axis]) / 2.0;
        [middle(0), middle(1), 0.0]
    }

    /// Puts a thing of this size (metres) and colour into a hand (0 left, 1 right).
    pub fn hold(&mut self, hand: usize, size: [f64; 3], colour: [u8; 3]) {
        let mut position = self.wrists[hand];
        position[2] += size[2] * 0.25;
        self.held.push(Held { position, size, colour });
    }
}

/// The floor under a body: origin and the way it faces.
#[derive(Clone, Copy)]
struct Frame {
    position: [f64; 2],
    forward: [f64; 2],
}

impl Frame {
    fn new(position: [f64; 2], heading: f64) -> Self {
        Self { position, forward: [heading.cos(), heading.sin()] }
    }

    /// A direction given as forward, left and up.
    fn direction(&self, forward: f64, left: f64, up: f64) -> [f64; 3] {
        let [x, y] = self.forward;
        [forward * x - left * y, forward * y + left * x, up]
    }

    fn at(&self, forward: f64, left: f64, up: f64) -> [f64; 3] {
        add([self.position[0], self.position[1], 0.0], self.direction(forward, left, up))
    }
}

/// The upper body, leaning about the hips.
#[derive(Clone, Copy)]
struct Trunk {
    frame: Frame,
    height: f64,
    /// Radians forward.
    lean: f64,
    /// Metres that the hips have sunk.
    crouch: f64,
}

impl Trunk {
    /// A point of the trunk by its standing height and its place to the left, both over body height.
    fn at(&self, up: f64, left: f64) -> [f64; 3] {
        let above = (up - HIP_HEIGHT) * self.height;
        let hip = HIP_HEIGHT * self.height - self.crouch;
        // Leaning moves the seat back, which keeps the weight over the feet.
        let seat = -0.12 * self.height * self.lean.sin();
        self.frame.at(seat + above * self.lean.sin(), left * self.height, hip + above * self.lean.cos())
    }
}

/// A colour of clothes: dull ones are worn as often as bright ones.
fn cloth(dice: &mut Dice) -> [u8; 3] {
    let grey = dice.between(15.0, 235.0);
    let strength = if dice.chance(0.5) { 0.2 } else { 1.0 };
    [0; 3].map(|_: u8| (grey + strength * dice.between(-90.0, 90.0)).clamp(8.0, 245.0) as u8)
}

fn jitter(colour: [u8; 3], dice: &mut Dice) -> [u8; 3] {
    let shift = dice.between(-12.0, 12.0);
    colour.map(|value| (f64::from(value) + shift).clamp(5.0, 250.0) as u8)
}

/// Left is positive, as in `Frame`.
fn side(index: usize) -> f64 {
    if index == 0 { 1.0 } else { -1.0 }
}

/// How far to lean (radians) and sink (metres) so that every target is within the arm's length, as little as possible:
/// leaning first, as people do.
fn stoop(figure: &Figure, frame: &Frame, reach: [Option<[f64; 3]>; 2]) -> (f64, f64) {
    let arm = figure.arm_length() * 0.97;
    let excess = |lean: f64, crouch: f64| {
        let trunk = Trunk { frame: *frame, height: figure.height, lean, crouch };
        let far = |hand: usize, target| {
            length(subtract(target, trunk.at(SHOULDER_HEIGHT, side(hand) * SHOULDER_HALF_WIDTH))) - arm
        };
        (0..2).filter_map(|hand| reach[hand].map(|target| far(hand, target))).fold(0.0_f64, f64::max)
    };
    // Best of a grid: leaning and sinking both cost, what stays out of reach costs most.
    let mut best = (f64::INFINITY, 0.0, 0.0);
    for crouch_step in 0..=7 {
        let crouch = CROUCH_MAX * figure.height * f64::from(crouch_step) / 7.0;
        for lean_step in 0..=22 {
            let lean = LEAN_MAX * f64::from(lean_step) / 22.0;
            let cost = 20.0 * excess(lean, crouch) + 0.3 * lean + 1.5 * crouch;
            if cost < best.0 {
                best = (cost, lean, crouch);
            }
        }
        if crouch_step == 0 && best.1 == 0.0 && best.0 == 0.0 {
            break;
        }
    }
    (best.1, best.2)
}

/// Two bones from `root` towards `target`: the middle joint, bent towards `pole`, and the end, which is the target or
/// the farthest point towards it.
fn bend(root: [f64; 3], target: [f64; 3], upper: f64, lower: f64, pole: [f64; 3]) -> ([f64; 3], [f64; 3]) {
    let towards = subtract(target, root);
    let distance = length(towards);
    let axis = if distance > 1e-9 { scale(towards, 1.0 / distance) } else { [0.0, 0.0, -1.0] };
    let span = distance.clamp((upper - lower).abs() + 1e-6, (upper + lower) * 0.999);
    // Cosine rule: how far along the axis the middle joint stands, and how far off it.
    let along = (upper * upper - lower * lower + span * span) / (2.0 * span);
    let off = (upper * upper - along * along).max(0.0).sqrt();
    let across = subtract(pole, scale(axis, dot(pole, axis)));
    let across_length = length(across);
    let across =
        if across_length > 1e-9 { scale(across, 1.0 / across_length) } else { [axis[1], -axis[0], 0.0] };
    (add(add(root, scale(axis, along)), scale(across, off)), add(root, scale(axis, span)))
}

fn add(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

fn subtract(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

fn scale(a: [f64; 3], factor: f64) -> [f64; 3] {
    a.map(|value| value * factor)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn length(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(height: f64) -> Figure {
        let colours = Colours {
            skin: [200, 150, 120],
            hair: [40, 30, 20],
            top: [200, 30, 30],
            trousers: [30, 30, 90],
            shoes: [20, 20, 20],
            stripes: None,
        };
        Figure { height, build: 1.0, colours, short_sleeves: true, long_hair: false, bag: None }
    }

    #[test]
    fn limbs_keep_their_length_in_every_pose() {
        for height in [1.0, 1.7, 1.95] {
            for step in 0..24 {
                let stride = f64::from(step) * 0.3;
                let target = [0.5, 0.2, 0.1 + 0.08 * f64::from(step)];
                let body = Body::pose(&figure(height), [0.0, 0.0], 0.0, stride, [None, Some(target)]);
                for arm in 0..2 {
                    let upper = length(subtract(body.elbows[arm], body.shoulders[arm]));
                    let lower = length(subtract(body.wrists[arm], body.elbows[arm]));
                    assert!((upper - UPPER_ARM * height).abs() < 1e-6, "upper arm {upper} of {height}");
                    assert!((lower - LOWER_ARM * height).abs() < 1e-6, "lower arm {lower} of {height}");
                }
            }
        }
    }

    #[test]
    fn a_hand_meets_what_it_can_reach() {
        // Low, waist-high and high shelves in front of an adult.
        for target in [[0.55, -0.1, 0.3], [0.6, 0.1, 0.9], [0.5, -0.2, 1.4], [0.4, -0.1, 1.8]] {
            let body = Body::pose(&figure(1.75), [0.0, 0.0], 0.0, 0.0, [None, Some(target)]);
            let miss = length(subtract(body.wrists[1], target));
            assert!(miss < 0.02, "hand misses {target:?} by {miss} m");
        }
    }

    #[test]
    fn standing_is_upright_and_faces_its_heading() {
        let body = Body::pose(&figure(1.8), [2.0, 3.0], std::f64::consts::FRAC_PI_2, 0.0, [None, None]);
        assert!(length(subtract(body.head, [2.0, 3.0, HEAD_HEIGHT * 1.8])) < 1e-9, "{:?}", body.head);
        assert!(body.shoulders[0][0] < 2.0, "facing +y, the left shoulder is towards -x");
        assert_eq!(body.foot()[2], 0.0);
    }
}
