//! The phone-screen set: entry codes as people show them, in kinds and degrees of difficulty, from a seed.
//! And pictures in which a decoder must find nothing.

use std::f32::consts::TAU;
use std::fmt;

use engine::time::Instant;
use image::GrayImage;

use super::glass::{Cracks, Lamp};
use super::screen::{Screen, Theme};
use super::shot::{Backlight, Film, Pose, Shot};
use super::{Office, Profile};
use crate::dice::Dice;

/// When the codes of the set were shown.
const SHOWN: Instant = Instant(1_790_000_000_000);
/// Frame sizes of the set: what gate cameras deliver as grey pictures.
pub const SIZES: [(u32, u32); 2] = [(640, 480), (1280, 720)];

/// What makes a code hard to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Nothing: held well, bright.
    Clean,
    /// A dim display in a bright hall.
    Dim,
    /// A band of mirrored daylight.
    Glare,
    /// Mirrored ceiling lamps.
    Lamps,
    /// The display's pixel grid against the sensor's.
    Moire,
    /// Cracked glass.
    Cracked,
    /// Light on dark.
    Inverted,
    /// Far away.
    Small,
    /// Seen from the side.
    Tilted,
    /// Not held still.
    Moving,
    /// Out of focus.
    Defocused,
    /// A dark hall and a dim display: gain and noise.
    LowLight,
    /// A finger over a corner.
    Finger,
    /// Partly out of the frame.
    CutOff,
    /// A privacy or matte film.
    Film,
    /// A switched backlight in a rolling shutter.
    Banding,
    /// Tilt, glare, cracks, moiré and some blur at once.
    Combined,
}

/// How hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everyday.
    Mild,
    /// A bad day.
    Medium,
    /// What nobody should have to read.
    Severe,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Clean,
        Self::Dim,
        Self::Glare,
        Self::Lamps,
        Self::Moire,
        Self::Cracked,
        Self::Inverted,
        Self::Small,
        Self::Tilted,
        Self::Moving,
        Self::Defocused,
        Self::LowLight,
        Self::Finger,
        Self::CutOff,
        Self::Film,
        Self::Banding,
        Self::Combined,
    ];
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mild, Self::Medium, Self::Severe];

    fn of<T>(self, [mild, medium, severe]: [T; 3]) -> T {
        match self {
            Self::Mild => mild,
            Self::Medium => medium,
            Self::Severe => severe,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Dim => "dim",
            Self::Glare => "glare",
            Self::Lamps => "lamps",
            Self::Moire => "moire",
            Self::Cracked => "cracked",
            Self::Inverted => "inverted",
            Self::Small => "small",
            Self::Tilted => "tilted",
            Self::Moving => "moving",
            Self::Defocused => "defocused",
            Self::LowLight => "low-light",
            Self::Finger => "finger",
            Self::CutOff => "cut-off",
            Self::Film => "film",
            Self::Banding => "banding",
            Self::Combined => "combined",
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of(["mild", "medium", "severe"]))
    }
}

/// A picture of the set.
#[derive(Clone)]
pub struct Picture {
    /// Where it belongs: condition and level, or `falsepositives` and a kind.
    pub folder: String,
    /// Its own name in that folder.
    pub name: String,
    /// The frame.
    pub frame: GrayImage,
    /// What the code says; `None` where nothing must be read.
    pub truth: Option<String>,
}

/// What to shoot: everything of a picture but its frame.
#[derive(Clone)]
pub struct Scene {
    /// The display.
    pub screen: Screen,
    /// The shot.
    pub shot: Shot,
    /// What the code says.
    pub truth: String,
}

/// All pictures of `seed`: `count` of each condition, level, frame size and profile.
pub fn pictures(seed: u64, count: usize) -> impl Iterator<Item = Picture> {
    let office = Office::new(seed);
    let cells = Condition::ALL.into_iter().flat_map(|condition| Level::ALL.map(|level| (condition, level)));
    cells.flat_map(move |(condition, level)| {
        let mut dice = Dice::new(seed, 1_000 + 10 * condition as u64 + level as u64);
        let mut found = Vec::new();
        for (size, profile) in SIZES.into_iter().flat_map(|size| Profile::ALL.map(|profile| (size, profile)))
        {
            for index in 0..count {
                let scene = scene(&office, condition, level, size, profile, &mut dice);
                let name = format!("{profile}-{}x{}-{index}", size.0, size.1);
                let folder = format!("{condition}-{level}");
                let frame = scene.shot.take(&scene.screen);
                found.push(Picture { folder, name, frame, truth: Some(scene.truth) });
            }
        }
        found
    })
}

/// One shot under a condition.
///
/// # Panics
/// Never: both profiles fit a code.
#[must_use]
pub fn scene(
    office: &Office,
    condition: Condition,
    level: Level,
    size: (u32, u32),
    profile: Profile,
    dice: &mut Dice,
) -> Scene {
    let truth = office.phone_with(SHOWN, profile, dice).show(SHOWN, 0);
    let pitch_mm = 25.4 / dice.between(300.0, 460.0) as f32;
    let width_mm = dice.between(60.0, 70.0) as f32;
    let theme = match condition {
        Condition::Inverted => level.of([
            Theme { light: 0.95, dark: 0.03, page: 0.05, inverted: true },
            Theme { light: 0.95, dark: 0.03, page: 0.95, inverted: true },
            Theme { light: 0.55, dark: 0.12, page: 0.12, inverted: true },
        ]),
        _ => Theme::LIGHT,
    };
    let mut shot = held(size, dice);
    // Modules fill what the frame allows, but no more than a phone at arm's length would.
    let modules = match profile {
        Profile::Device => 57.0,
        Profile::Wallet => 41.0,
    };
    let fits = size.1 as f32 / (modules + 8.0) * 0.92;
    shot.pose.module_px = (dice.between(3.6, 6.0) as f32).min(fits);
    let mut pitch_mm = pitch_mm;
    apply(condition, level, &mut shot, &mut pitch_mm, [modules, width_mm, fits], dice);
    let screen = Screen::draw(&truth, width_mm, pitch_mm, theme, dice).expect("an entry code fits a QR code");
    Scene { screen, shot, truth }
}

/// A phone that is held well in front of a good camera, a little turned, somewhere near the middle.
pub(super) fn held((width, height): (u32, u32), dice: &mut Dice) -> Shot {
    let mut around =
        |middle: u32, reach: f64| (f64::from(middle) / 2.0 * (1.0 + dice.between(-reach, reach))) as f32;
    let middle = [around(width, 0.06), around(height, 0.02)];
    let mut turn = |degrees: f64| dice.between(-degrees, degrees).to_radians() as f32;
    let pose =
        Pose { module_px: 4.0, middle, roll: turn(6.0), yaw: turn(8.0), pitch: turn(8.0), speed: [0.0; 2] };
    let white_nits = dice.between(250.0, 500.0) as f32;
    Shot {
        width,
        height,
        pose,
        white_nits,
        hall_nits: dice.between(60.0, 160.0) as f32,
        veil: 0.04,
        full_nits: white_nits * dice.between(1.05, 1.5) as f32,
        full_electrons: 8_000.0,
        gamma: if dice.chance(0.5) { 2.2 } else { 1.0 },
        exposure: 0.1,
        defocus_px: 0.6,
        grid: 0.02,
        backlight: None,
        lamps: Vec::new(),
        cracks: None,
        film: None,
        fingers: Vec::new(),
        seed: dice.bits(),
    }
}

/// Makes a good shot a bad one.
fn apply(
    condition: Condition,
    level: Level,
    shot: &mut Shot,
    pitch_mm: &mut f32,
    [modules, width_mm, fits]: [f32; 3],
    dice: &mut Dice,
) {
    // Half the code's side; a display's code nearly fills its width.
    let reach_mm = width_mm * 0.47 * modules / (modules + 8.0);
    let mut signed = |from: f64, to: f64| {
        let value = dice.between(from, to) as f32;
        if dice.chance(0.5) { value } else { -value }
    };
    match condition {
        Condition::Clean | Condition::Inverted => {
            shot.pose.module_px *= level.of([1.0, 0.9, 0.8]);
        }
        Condition::Dim => {
            shot.white_nits = level.of([60.0, 25.0, 12.0]);
            shot.hall_nits = level.of([100.0, 160.0, 220.0]);
            shot.full_nits = shot.hall_nits * 1.3;
        }
        Condition::Glare => {
            let strength = level.of([0.4, 0.9, 2.0]);
            let middle = [signed(0.0, 20.0), signed(0.0, 20.0)];
            let angle = signed(0.2, 1.3);
            shot.lamps.push(Lamp {
                middle,
                angle,
                half_length_mm: 90.0,
                half_width_mm: level.of([4.0, 5.0, 6.0]),
                soft_mm: level.of([5.0, 4.0, 3.0]),
                nits: strength * shot.white_nits,
            });
        }
        Condition::Lamps => {
            for _ in 0..level.of([1, 2, 3]) {
                let middle = [signed(0.0, 24.0), signed(0.0, 24.0)];
                shot.lamps.push(Lamp {
                    middle,
                    angle: signed(0.0, 1.5),
                    half_length_mm: signed(1.5, 8.0).abs(),
                    half_width_mm: signed(1.5, 2.6).abs(),
                    soft_mm: 0.7,
                    nits: level.of([1.0, 2.0, 5.0]) * shot.white_nits,
                });
            }
        }
        Condition::Moire => {
            // Near: the display's pixels come close to the sensor's.
            shot.pose.module_px = fits.min(12.0) * signed(0.85, 1.0).abs();
            let px_mm = shot.pose.module_px * (modules + 8.0) / (width_mm * 0.94);
            let cycles_px = 1.0 + signed(0.04, 0.22);
            *pitch_mm = (1.0 / (cycles_px * px_mm)).clamp(25.4 / 500.0, 25.4 / 120.0);
            shot.grid = level.of([0.12, 0.28, 0.45]);
            shot.defocus_px = 0.0;
        }
        Condition::Cracked => {
            let impact = [signed(0.0, 18.0), signed(0.0, 18.0)];
            let (count, width, bend, dead) =
                level.of([(4, 0.12, 0.1, 0.0), (8, 0.2, 0.25, 1.2), (13, 0.3, 0.45, 3.0)]);
            shot.cracks = Some(Cracks::new(impact, count, width, bend, dead, dice));
        }
        Condition::Small => shot.pose.module_px = level.of([2.5, 2.0, 1.6]),
        Condition::Tilted => {
            let angle = level.of([32.0_f64, 46.0, 58.0]).to_radians();
            let way = signed(0.0, 3.1);
            shot.pose.yaw = (angle as f32) * way.cos();
            shot.pose.pitch = (angle as f32) * way.sin();
            shot.pose.roll = signed(0.0, 0.6);
        }
        Condition::Moving => {
            let way = signed(0.0, 3.1);
            let blur = level.of([0.6, 1.2, 1.9]) * shot.pose.module_px;
            shot.exposure = 0.12;
            let speed = blur / shot.exposure;
            shot.pose.speed = [speed * way.cos(), speed * way.sin()];
        }
        Condition::Defocused => {
            shot.defocus_px = level.of([0.4, 0.65, 0.9]) * shot.pose.module_px;
        }
        Condition::LowLight => {
            shot.hall_nits = 3.0;
            shot.white_nits = level.of([40.0, 25.0, 15.0]);
            shot.full_nits = shot.white_nits * 1.3;
            shot.full_electrons = level.of([250.0, 90.0, 40.0]);
            shot.exposure = 0.5;
        }
        Condition::Finger => {
            // The thumb comes from below, over the right corner; at worst over a finder.
            let module = 2.0 * reach_mm / modules;
            let covered = level.of([8.0, 12.0, 16.0]) * module;
            let corner = reach_mm + 1.5 * module;
            let left = level == Level::Severe && dice.chance(0.3);
            let at =
                [if left { covered * 0.5 - corner } else { corner - covered * 0.5 }, corner - covered * 0.5];
            shot.fingers.push((at, covered * 0.62));
        }
        Condition::CutOff => {
            // A corner hangs out at the right edge; worse, the edge with its alignment patterns.
            shot.pose.module_px = shot.pose.module_px.min(fits * 0.75);
            shot.pose.roll = signed(0.0, 0.12) - TAU / 8.0;
            let half = shot.pose.module_px * modules / 2.0 * std::f32::consts::SQRT_2;
            let out = level.of([2.0, 7.0, 12.0]) * shot.pose.module_px;
            shot.pose.middle[0] = shot.width as f32 - half + out;
        }
        Condition::Film => {
            let (passes, scatter_mm, grain) =
                level.of([(0.75, 0.2, 0.08), (0.55, 0.33, 0.16), (0.35, 0.45, 0.28)]);
            shot.film = Some(Film { passes, scatter_mm, grain });
        }
        Condition::Banding => {
            let duty = level.of([0.75, 0.5, 0.3]);
            let hertz = signed(240.0, 480.0).abs();
            shot.exposure = level.of([0.1, 0.05, 0.03]);
            shot.backlight = Some(Backlight { hertz, duty, phase: dice.unit() as f32 });
            shot.hall_nits *= 0.6;
        }
        Condition::Combined => {
            let hard = level.of([0.5, 0.75, 1.0]);
            shot.pose.yaw = signed(0.3, 0.6) * hard;
            shot.pose.pitch = signed(0.2, 0.5) * hard;
            shot.pose.roll = signed(0.0, 0.5);
            shot.grid = 0.25 * hard;
            shot.defocus_px = 0.3 * hard * shot.pose.module_px;
            let way = signed(0.0, 3.1);
            let speed = 0.5 * hard * shot.pose.module_px / shot.exposure;
            shot.pose.speed = [speed * way.cos(), speed * way.sin()];
            shot.lamps.push(Lamp {
                middle: [signed(0.0, 20.0), signed(0.0, 20.0)],
                angle: signed(0.2, 1.3),
                half_length_mm: 90.0,
                half_width_mm: 4.0,
                soft_mm: 4.0,
                nits: 0.8 * hard * shot.white_nits,
            });
            let impact = [signed(5.0, 25.0), signed(5.0, 25.0)];
            shot.cracks = Some(Cracks::new(impact, 5, 0.15, 0.15 * hard, 0.0, dice));
        }
    }
}

/// Pictures without an entry code to read: `count` of each kind and frame size.
pub fn negatives(seed: u64, count: usize) -> impl Iterator<Item = Picture> {
    const KINDS: [&str; 5] = ["hall", "page", "scrambled", "bars", "checks"];
    KINDS.into_iter().enumerate().flat_map(move |(purpose, kind)| {
        let mut dice = Dice::new(seed, 2_000 + purpose as u64);
        let mut found = Vec::new();
        for size in SIZES {
            for index in 0..count {
                let mut shot = held(size, &mut dice);
                shot.pose.module_px = dice.between(3.0, 6.0) as f32;
                if kind == "hall" {
                    // The phone is far below the frame.
                    shot.pose.middle[1] = 10.0 * size.1 as f32;
                }
                let screen = decoy(kind, &mut dice);
                let frame = shot.take(&screen);
                let name = format!("{kind}-{}x{}-{index}", size.0, size.1);
                found.push(Picture { folder: format!("falsepositives-{kind}"), name, frame, truth: None });
            }
        }
        found
    })
}

/// A page with something in the code's place that is none.
fn decoy(kind: &str, dice: &mut Dice) -> Screen {
    const MODULES: usize = 41;
    let noise: Vec<bool> = (0..MODULES * MODULES).map(|_| dice.chance(0.5)).collect();
    // Three finders with their light frames, as in a true code.
    let finder = |x: usize, y: usize| -> Option<bool> {
        let place =
            |at: usize| if at < 8 { Some(at) } else { (MODULES - 1).checked_sub(at).filter(|at| *at < 8) };
        if x >= 8 && y >= 8 && (x >= MODULES - 8 && y >= MODULES - 8) {
            return None;
        }
        let (x, y) = (place(x)?, place(y)?);
        let ring = (x as i32 - 3).abs().max((y as i32 - 3).abs());
        Some(ring == 3 || ring < 2)
    };
    let dark = |x: usize, y: usize| match kind {
        // Finders and timing patterns of a code whose modules are chance.
        "scrambled" => finder(x, y).unwrap_or_else(|| {
            if x == 6 || y == 6 { (x + y).is_multiple_of(2) } else { noise[y * MODULES + x] }
        }),
        "bars" => (8..32).contains(&y) && noise[x],
        "checks" => (x + y).is_multiple_of(2),
        _ => false,
    };
    let pitch_mm = 25.4 / dice.between(300.0, 460.0) as f32;
    Screen::lay_out(MODULES, &dark, 65.0, pitch_mm, Theme::LIGHT, dice)
}
