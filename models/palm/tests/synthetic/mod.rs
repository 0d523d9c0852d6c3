//! Near-infrared palms from seeds: a bright hand with dark, branching veins, laid over the scanner a little
//! differently each time. They show that the parts work together; they say nothing about real palms.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const WIDTH: usize = 640;
pub const HEIGHT: usize = 480;

/// Side of the square map of a hand, in map pixels; the palm's radius is a quarter of it.
const MAP: usize = 512;
const RADIUS: f32 = 0.25 * MAP as f32;

/// A hand, drawn once and then laid over the scanner many times.
pub struct Hand {
    map: Vec<f32>,
}

/// How a hand lies over the scanner.
#[derive(Clone, Copy)]
pub struct Pose {
    pub centre: [f32; 2],
    pub radius: f32,
    pub turn: f32,
    pub brightness: f32,
    pub noise: f32,
}

impl Default for Pose {
    fn default() -> Self {
        Self { centre: [320.0, 270.0], radius: 105.0, turn: 0.0, brightness: 170.0, noise: 3.0 }
    }
}

impl Pose {
    /// A hand that someone holds out without a rest.
    pub fn free(random: &mut ChaCha8Rng) -> Self {
        Self {
            centre: [random.random_range(290.0..350.0), random.random_range(250.0..290.0)],
            radius: random.random_range(98.0..112.0),
            turn: random.random_range(-0.2..0.2),
            brightness: random.random_range(140.0..200.0),
            noise: random.random_range(1.5..4.0),
        }
    }
}

impl Hand {
    /// The hand of person `seed`; hands of different seeds share nothing but their outline.
    pub fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut map = vec![0.0f32; MAP * MAP];
        for (index, value) in map.iter_mut().enumerate() {
            let (x, y) = ((index % MAP) as f32 - 256.0, (index / MAP) as f32 - 300.0);
            *value = outline(x / RADIUS, y / RADIUS);
        }
        // Skin: fine lines that stay, here as a fixed coarse grain of 2 %.
        let grain: Vec<f32> = (0..128 * 128).map(|_| random.random_range(0.98..1.02)).collect();
        for (index, value) in map.iter_mut().enumerate() {
            let (column, row) = (index % MAP / 5, index / MAP / 5);
            *value *= grain[row * 128 + column];
        }
        // Main vessels climb from the wrist to the fingers and branch; lengths and widths as share of the
        // palm.
        for _ in 0..random.random_range(7..10) {
            let from = [random.random_range(-0.9..0.9), random.random_range(0.7..1.1)];
            vein(&mut map, &mut random, from, -1.57, 0.040, 2.2, 0);
        }
        Self { map }
    }

    /// One picture.
    pub fn picture(&self, pose: &Pose, random: &mut ChaCha8Rng) -> Vec<u8> {
        let scale = RADIUS / pose.radius;
        let (sin, cos) = pose.turn.sin_cos();
        let light = [random.random_range(-0.12f32..0.12), random.random_range(-0.12..0.12)];
        let mut out = Vec::with_capacity(WIDTH * HEIGHT);
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let (dx, dy) = (x as f32 - pose.centre[0], y as f32 - pose.centre[1]);
                let (u, v) = ((dx * cos + dy * sin) * scale + 256.0, (dy * cos - dx * sin) * scale + 300.0);
                let shade = 1.0 + (light[0] * dx + light[1] * dy) / 240.0;
                // The sum of three even numbers is near enough to a normal one.
                let noise: f32 = (0..3).map(|_| random.random_range(-1.0f32..1.0)).sum::<f32>() * pose.noise;
                let skin = self.at(u, v) * pose.brightness * shade;
                out.push((12.0 + skin + noise).clamp(0.0, 255.0) as u8);
            }
        }
        out
    }

    fn at(&self, u: f32, v: f32) -> f32 {
        let edge = (MAP - 1) as f32;
        if !(u >= 0.0 && v >= 0.0 && u < edge && v < edge) {
            return 0.0;
        }
        let (left, top) = (u as usize, v as usize);
        let (fu, fv) = (u - left as f32, v - top as f32);
        let value = |x: usize, y: usize| self.map[y * MAP + x];
        let upper = value(left, top) * (1.0 - fu) + value(left + 1, top) * fu;
        let lower = value(left, top + 1) * (1.0 - fu) + value(left + 1, top + 1) * fu;
        upper * (1.0 - fv) + lower * fv
    }
}

/// 1 on the hand, 0 beside it, in radii of the palm from its centre.
fn outline(x: f32, y: f32) -> f32 {
    let palm = (x * x + y * y).sqrt() - 1.0;
    let heel = (x.abs() - 0.85).max(-y).max(y - 3.0);
    let mut distance = palm.min(heel);
    for (base, angle, length) in
        [(-0.72, -0.22, 1.75f32), (-0.25, -0.06, 2.05), (0.24, 0.09, 1.9), (0.70, 0.27, 1.6)]
    {
        distance = distance.min(capsule([x, y], [base, -0.55], angle, length) - 0.19);
    }
    distance = distance.min(capsule([x, y], [0.7, 0.35], 1.05, 1.2) - 0.24);
    (0.5 - distance * 25.0).clamp(0.0, 1.0)
}

/// Distance to the middle of a finger that starts at `base` and leans `angle` from straight up.
fn capsule(point: [f32; 2], base: [f32; 2], angle: f32, length: f32) -> f32 {
    let (sin, cos) = angle.sin_cos();
    let (dx, dy) = (point[0] - base[0], point[1] - base[1]);
    let along = (dx * sin - dy * cos).clamp(0.0, length);
    ((dx - along * sin).powi(2) + (dy + along * cos).powi(2)).sqrt()
}

/// Draws a vessel as a random walk of soft dark dots, with branches. All lengths in radii of the palm.
fn vein(
    map: &mut [f32],
    random: &mut ChaCha8Rng,
    from: [f32; 2],
    heading: f32,
    width: f32,
    length: f32,
    depth: u32,
) {
    let (mut place, mut heading, mut bend) = (from, heading, 0.0f32);
    let step = 0.03;
    let steps = (length / step) as u32;
    for count in 0..steps {
        dot(map, place, width);
        bend = 0.9 * bend + random.random_range(-0.06..0.06);
        heading += bend;
        place = [place[0] + step * heading.cos(), place[1] + step * heading.sin()];
        if depth < 2 && count > 5 && random.random_range(0.0..1.0) < 0.05 {
            let side = if random.random_range(0.0..1.0) < 0.5 { -1.0 } else { 1.0 };
            let turn = heading + side * random.random_range(0.4..1.1);
            let rest = length - count as f32 * step;
            vein(map, random, place, turn, width * 0.75, rest * 0.7, depth + 1);
        }
    }
}

fn dot(map: &mut [f32], place: [f32; 2], width: f32) {
    let (x, y) = (place[0] * RADIUS + 256.0, place[1] * RADIUS + 300.0);
    let sigma = width * RADIUS;
    let reach = (3.0 * sigma) as i32;
    for row in y as i32 - reach..=y as i32 + reach {
        for column in x as i32 - reach..=x as i32 + reach {
            if (0..MAP as i32).contains(&row) && (0..MAP as i32).contains(&column) {
                let (dx, dy) = (column as f32 - x, row as f32 - y);
                let dark = 0.045 * (-(dx * dx + dy * dy) / (2.0 * sigma * sigma)).exp();
                map[row as usize * MAP + column as usize] *= 1.0 - dark;
            }
        }
    }
}
