//! A phone that is brought to the gate: it comes into the frame, slows down, and is held by a hand that
//! trembles.

use image::GrayImage;

use super::set::{Condition, Level, Scene, scene};
use super::{Office, Profile};
use crate::dice::Dice;

/// One person showing one code.
pub struct Show {
    scene: Scene,
    /// Where the code comes from, relative to where it is held.
    from: [f32; 2],
    approach_ms: f32,
    tremor_px: f32,
    tremor_phase: [f32; 2],
    difficulty: String,
}

/// A frame of a show.
pub struct Frame {
    /// The picture.
    pub picture: GrayImage,
    /// Whether the whole code, with its quiet zone, is in it.
    pub whole: bool,
    /// Pixels that the phone moves in one frame time.
    pub speed_px: f32,
}

impl Show {
    /// Show number `index` of `seed`. A third is held well; the others have one mild or medium difficulty.
    #[must_use]
    pub fn new(seed: u64, index: u64, size: (u32, u32)) -> Self {
        const OTHERS: [Condition; 12] = [
            Condition::Dim,
            Condition::Glare,
            Condition::Lamps,
            Condition::Moire,
            Condition::Cracked,
            Condition::Inverted,
            Condition::Small,
            Condition::Tilted,
            Condition::Defocused,
            Condition::LowLight,
            Condition::Film,
            Condition::Banding,
        ];
        let office = Office::new(seed);
        let mut dice = Dice::new(seed, 10_000 + index);
        let condition = if dice.chance(0.33) { Condition::Clean } else { OTHERS[dice.below(OTHERS.len())] };
        let level = if dice.chance(0.67) { Level::Mild } else { Level::Medium };
        let profile = if dice.chance(0.8) { Profile::Device } else { Profile::Wallet };
        let scene = scene(&office, condition, level, size, profile, &mut dice);
        let (width, height) = (size.0 as f32, size.1 as f32);
        // From below, or from the side.
        let from = match dice.below(4) {
            0 => [-1.1 * width, 0.2 * height],
            1 => [1.1 * width, 0.2 * height],
            _ => [dice.between(-0.2, 0.2) as f32 * width, 1.3 * height],
        };
        Self {
            scene,
            from,
            approach_ms: dice.between(350.0, 800.0) as f32,
            tremor_px: dice.between(0.3, 1.5) as f32 * width / 1280.0,
            difficulty: format!("{condition} {level} {profile}"),
            tremor_phase: [dice.between(0.0, 6.2) as f32, dice.between(0.0, 6.2) as f32],
        }
    }

    /// What the code says.
    #[must_use]
    pub fn truth(&self) -> &str {
        &self.scene.truth
    }

    /// How it is hard to read: condition, level and profile.
    #[must_use]
    pub fn describe(&self) -> String {
        self.difficulty.clone()
    }

    /// The frame exposed at `ms` since the hand began to move. Hands move with least jerk (Flash and Hogan,
    /// 1985), and tremble at some 9 Hz.
    #[must_use]
    pub fn frame(&self, ms: u32) -> Frame {
        const FRAME_MS: f32 = 1000.0 / 30.0;
        let place = |ms: f32| {
            let t = (ms / self.approach_ms).clamp(0.0, 1.0);
            let left = 1.0 - t * t * t * (10.0 + t * (6.0 * t - 15.0));
            let shake = |axis: usize| {
                self.tremor_px * (ms / 1000.0 * 9.0 * std::f32::consts::TAU + self.tremor_phase[axis]).sin()
            };
            [0, 1].map(|axis| self.from[axis] * left + shake(axis))
        };
        let mut shot = self.scene.shot.clone();
        let (now, next) = (place(ms as f32), place(ms as f32 + FRAME_MS));
        for axis in 0..2 {
            shot.pose.middle[axis] += now[axis];
            shot.pose.speed[axis] = next[axis] - now[axis];
        }
        if let Some(backlight) = &mut shot.backlight {
            backlight.phase = (backlight.phase + ms as f32 / 1000.0 * backlight.hertz).fract();
        }
        let whole = {
            let (module, reach) = (self.scene.screen.module_mm, self.scene.screen.reach_mm());
            shot.pose.is_whole(shot.width, shot.height, module, reach)
        };
        let speed_px = shot.pose.speed[0].hypot(shot.pose.speed[1]);
        Frame { picture: shot.take_numbered(&self.scene.screen, ms), whole, speed_px }
    }
}
