//! How a simulated store looks: colours, light, textures, and each camera's sensor, all drawn from one seed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::shape::Vec3;

/// A ceiling lamp.
#[derive(Clone, Copy, Debug)]
pub struct Lamp {
    /// Metres.
    pub position: Vec3,
    /// Brightness two metres below it, where a white surface shows 1.
    pub power: f32,
}

/// What the floor is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flooring {
    /// Square tiles with joints.
    Tiles,
    /// Boards of wood.
    Planks,
    /// Squares of two colours.
    Chequers,
    /// Speckled, without pattern.
    Plain,
}

/// The looks of a store.
#[derive(Clone, Debug)]
pub struct Look {
    pub flooring: Flooring,
    /// Side of a tile or width of a board, metres.
    pub tile: f32,
    pub floor: Vec3,
    pub floor_other: Vec3,
    pub wall: Vec3,
    pub shelf: Vec3,
    pub lamps: Vec<Lamp>,
    /// Light from everywhere.
    pub ambient: f32,
    /// Contrast of surface grain, over 1.
    pub grain: f32,
    /// Seed of what is drawn per product.
    pub products: u64,
}

/// One camera's sensor.
#[derive(Clone, Copy, Debug)]
pub struct Sensor {
    /// Gain of each channel: exposure and white balance.
    pub gain: Vec3,
    /// Standard deviation of noise, of 255.
    pub noise_sd: f32,
    /// Loss of light at the picture's corner, 0 to 1.
    pub vignette: f32,
}

impl Look {
    /// The looks that `seed` stands for, of a store of these bounds (as in `StoreMap`) with lamps at `ceiling` metres.
    #[must_use]
    pub fn new(seed: u64, bounds: [f64; 4], ceiling: f64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let flooring = match random.random_range(0..4) {
            0 => Flooring::Tiles,
            1 => Flooring::Planks,
            2 => Flooring::Chequers,
            _ => Flooring::Plain,
        };
        let floor = greyish(&mut random, 60.0..220.0, 25.0);
        let apart = random.random_range(0.72..1.12);
        let count = random.random_range(2..=5);
        let lamps = (0..count)
            .map(|_| Lamp {
                position: [
                    random.random_range(bounds[0] as f32..=bounds[2] as f32),
                    random.random_range(bounds[1] as f32..=bounds[3] as f32),
                    ceiling as f32 + 0.1,
                ],
                power: random.random_range(0.5..1.2) / count as f32 * 2.0,
            })
            .collect();
        Self {
            flooring,
            tile: random.random_range(0.2..0.7),
            floor,
            floor_other: floor.map(|value| (value * apart).min(240.0)),
            wall: greyish(&mut random, 90.0..235.0, 25.0),
            shelf: greyish(&mut random, 40.0..235.0, 15.0),
            lamps,
            ambient: random.random_range(0.4..0.8),
            grain: random.random_range(0.02..0.12),
            products: random.random(),
        }
    }
}

impl Sensor {
    /// The sensor of one camera of the store.
    #[must_use]
    pub fn new(seed: u64, camera: usize) -> Self {
        let mut random =
            ChaCha8Rng::seed_from_u64(seed ^ (camera as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let exposure: f32 = random.random_range(0.75..1.2);
        let warmth: f32 = random.random_range(-0.09..0.09);
        Self {
            gain: [exposure * (1.0 + warmth), exposure, exposure * (1.0 - warmth)],
            noise_sd: random.random_range(1.5..6.0),
            vignette: random.random_range(0.0..0.4),
        }
    }
}

/// A colour of a good pack: any hue, seldom dull.
pub fn pack_colour(random: &mut ChaCha8Rng) -> Vec3 {
    let mut colour: Vec3 = [0.0; 3].map(|_: f32| random.random_range(15.0..240.0));
    if random.random_bool(0.25) {
        let grey = (colour[0] + colour[1] + colour[2]) / 3.0;
        colour = colour.map(|value| grey + (value - grey) * 0.15);
    }
    colour
}

fn greyish(random: &mut ChaCha8Rng, range: std::ops::Range<f32>, tint: f32) -> Vec3 {
    let grey: f32 = random.random_range(range);
    [0.0; 3].map(|_: f32| (grey + random.random_range(-tint..tint)).clamp(15.0, 240.0))
}

/// A number from 0 to 1 that looks random and depends on the three integers alone.
pub fn hash_unit(x: i32, y: i32, z: i32) -> f32 {
    let mut bits = (x as u32).wrapping_mul(0x8da6_b343)
        ^ (y as u32).wrapping_mul(0xd816_3841)
        ^ (z as u32).wrapping_mul(0xcb1a_b31f);
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x2c1b_3c6d);
    bits ^= bits >> 12;
    bits = bits.wrapping_mul(0x297a_2d39);
    bits ^= bits >> 15;
    bits as f32 / u32::MAX as f32
}
