//! A camera's grey picture of a phone: where the phone is, what the light does on its glass, and what lens,
//! shutter and sensor make of it. Light is added up linearly; the curve of a camera comes last.

use image::GrayImage;

use super::glass::{Cracks, Lamp};
use super::screen::Screen;
use crate::dice::Dice;

/// Time from one sensor line to the next, as a share of the frame time, in a rolling shutter that takes the
/// whole frame time to read out.
const READOUT: f32 = 0.9;
/// Frame time of a camera of 30 frames a second.
const FRAME_S: f32 = 1.0 / 30.0;
/// Steps of the camera's curve from light to grey values.
const CURVE_STEPS: usize = 4096;

/// Where the phone is.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    /// Camera pixels a module at the code's middle.
    pub module_px: f32,
    /// The code's middle in the frame, pixels.
    pub middle: [f32; 2],
    /// Turn about the viewing axis, radians.
    pub roll: f32,
    /// Turn about the phone's own upright axis.
    pub yaw: f32,
    /// Nod.
    pub pitch: f32,
    /// Pixels that the picture moves in one frame time.
    pub speed: [f32; 2],
}

/// Everything that decides about one picture besides the display's content.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Pixels a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Where the phone is.
    pub pose: Pose,
    /// Luminance of the display's white, cd/m².
    pub white_nits: f32,
    /// Luminance of a white sheet in the hall, cd/m².
    pub hall_nits: f32,
    /// Share of the hall's light that the glass mirrors evenly.
    pub veil: f32,
    /// Luminance that saturates the sensor.
    pub full_nits: f32,
    /// Electrons of a saturated pixel: fewer mean more gain, and more noise.
    pub full_electrons: f32,
    /// Exponent of the camera's curve; 1 is linear.
    pub gamma: f32,
    /// Exposure as a share of the frame time: blurs what moves.
    pub exposure: f32,
    /// Radius of the circle of confusion, pixels.
    pub defocus_px: f32,
    /// How much of the display's own pixel grid passes lens and sensor.
    pub grid: f32,
    /// A backlight that is switched on and off.
    pub backlight: Option<Backlight>,
    /// Lamps mirrored in the glass.
    pub lamps: Vec<Lamp>,
    /// Broken glass.
    pub cracks: Option<Cracks>,
    /// A film on the glass.
    pub film: Option<Film>,
    /// Fingertips on the glass: middle in millimetres from the code's middle, and radius.
    pub fingers: Vec<([f32; 2], f32)>,
    /// Seed of noise and surroundings.
    pub seed: u64,
}

/// A backlight dimmed by switching (pulse-width modulation).
#[derive(Clone, Copy, Debug)]
pub struct Backlight {
    /// Periods a second.
    pub hertz: f32,
    /// Share of a period that it is on, 0 to 1.
    pub duty: f32,
    /// Where in a period the first line starts, 0 to 1.
    pub phase: f32,
}

/// A protective or privacy film.
#[derive(Clone, Copy, Debug)]
pub struct Film {
    /// Share of light that passes.
    pub passes: f32,
    /// How far light is scattered, millimetres.
    pub scatter_mm: f32,
    /// Grain of a matte surface: deviation of what passes.
    pub grain: f32,
}

/// From pixels of the frame to millimetres on the phone.
#[derive(Clone, Copy)]
struct Plane([[f32; 3]; 3]);

impl Pose {
    /// The plane's coordinates behind frame pixels, for a camera whose view is 60 degrees wide.
    fn plane(&self, width: u32, module_mm: f32) -> Plane {
        let focal = width as f32 / 2.0 / (30.0_f32).to_radians().tan();
        let distance = focal * module_mm / self.module_px;
        let (sr, cr) = self.roll.sin_cos();
        let (sy, cy) = self.yaw.sin_cos();
        let (sp, cp) = self.pitch.sin_cos();
        // Columns of roll * pitch * yaw that carry the phone's x and y axes.
        let x_axis = [cr * cy - sr * sp * sy, sr * cy + cr * sp * sy, -cp * sy];
        let y_axis = [-sr * cp, cr * cp, sp];
        let project = |row: usize, axis: [f32; 3]| focal * axis[row] + self.middle[row] * axis[2];
        Plane(invert([
            [project(0, x_axis), project(0, y_axis), self.middle[0] * distance],
            [project(1, x_axis), project(1, y_axis), self.middle[1] * distance],
            [x_axis[2], y_axis[2], distance],
        ]))
    }

    /// Whether a code of `reach_mm` to each side of its middle lies in the frame whole.
    #[must_use]
    pub fn is_whole(&self, width: u32, height: u32, module_mm: f32, reach_mm: f32) -> bool {
        let plane = self.plane(width, module_mm);
        let back = invert(plane.0);
        [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)].iter().all(|(x, y)| {
            let [u, v] = Plane(back).at(x * reach_mm, y * reach_mm);
            (0.0..width as f32).contains(&u) && (0.0..height as f32).contains(&v)
        })
    }
}

impl Plane {
    fn at(&self, x: f32, y: f32) -> [f32; 2] {
        let row = |index: usize| {
            let [a, b, c] = self.0[index];
            a * x + b * y + c
        };
        let scale = row(2);
        [row(0) / scale, row(1) / scale]
    }
}

fn invert(m: [[f32; 3]; 3]) -> [[f32; 3]; 3] {
    let minor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let determinant = (0..3).map(|c| m[0][c] * minor(0, c)).sum::<f32>();
    let mut inverse = [[0.0; 3]; 3];
    for (r, line) in inverse.iter_mut().enumerate() {
        for (c, value) in line.iter_mut().enumerate() {
            *value = minor(c, r) / determinant;
        }
    }
    inverse
}

impl Shot {
    /// Takes the picture.
    #[must_use]
    pub fn take(&self, screen: &Screen) -> GrayImage {
        self.take_numbered(screen, 0)
    }

    /// Takes one of several pictures of one scene: `number` changes the noise, and nothing else.
    #[must_use]
    pub fn take_numbered(&self, screen: &Screen, number: u32) -> GrayImage {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut dice = Dice::new(self.seed, 41);
        let hall = Hall::new(self, &mut dice);
        let plane = self.pose.plane(self.width, screen.module_mm);
        let mut light = vec![0.0_f32; width * height];
        for (y, row) in light.chunks_exact_mut(width).enumerate() {
            // Later lines see the phone further on.
            let late = READOUT * (y as f32 / height as f32 - 0.5);
            let [dx, dy] = self.pose.speed.map(|speed| speed * late);
            let on = self.backlight.map_or(1.0, |backlight| backlight.share(y as f32 / height as f32, self));
            for (x, value) in row.iter_mut().enumerate() {
                let (u, v) = (x as f32 + 0.5, y as f32 + 0.5);
                let [px, py] = plane.at(u - dx, v - dy);
                let [nx, ny] = plane.at(u - dx + 1.0, v - dy);
                let [qx, qy] = plane.at(u - dx, v - dy + 1.0);
                let reach = (0.25 * ((nx - px).hypot(ny - py) + (qx - px).hypot(qy - py))).clamp(0.001, 5.0);
                *value = self.on_phone(screen, px, py, reach, on).unwrap_or_else(|| hall.at(u, v));
            }
        }
        let [dx, dy] = self.pose.speed.map(|speed| speed * self.exposure);
        smear(&mut light, width, height, dx, dy);
        disc(&mut light, width, height, self.defocus_px);
        self.develop(&light, &mut Dice::new(self.seed, 1_000 + u64::from(number)))
    }

    /// Light from a point of the phone, `None` beside it.
    fn on_phone(&self, screen: &Screen, x: f32, y: f32, reach: f32, on: f32) -> Option<f32> {
        /// Black frame around the display.
        const BEZEL_MM: f32 = 3.0;
        let skin = 0.4 * self.hall_nits;
        let ([top, bottom], half) = (screen.span_mm, screen.half_width_mm);
        let outside_x = x.abs() - half - BEZEL_MM;
        let outside_y = (top - y - BEZEL_MM).max(y - bottom - BEZEL_MM);
        if outside_x.max(outside_y) > 0.0 {
            // The hand that holds it: four fingers on the left, the thumb on the right.
            let grip =
                if x < 0.0 { ((y - 25.0) * 0.17).sin().abs() * 9.0 } else { 14.0 - (y - 45.0).abs() * 0.5 };
            let held = outside_x > 0.0 && outside_x < grip && (15.0..80.0).contains(&y);
            return held.then_some(skin * (1.0 - 0.05 * outside_x));
        }
        for ([fx, fy], radius) in &self.fingers {
            // A fingertip: round at its end, and its length downwards.
            let (dx, dy) = (x - fx, (y - fy).min(0.0));
            let inside = 1.0 - (dx * dx + dy * dy) / (radius * radius);
            if inside > 0.0 {
                return Some(skin * (0.55 + 0.45 * inside.sqrt()));
            }
        }
        let mut mirrored = self.veil * self.hall_nits;
        mirrored += self.lamps.iter().map(|lamp| lamp.light(x, y)).sum::<f32>();
        let (mut sx, mut sy, mut passes) = (x, y, 1.0);
        if let Some(cracks) = &self.cracks {
            let (shift, scatter, dead) = cracks.at(x, y, reach);
            sx += shift[0];
            sy += shift[1];
            mirrored += scatter * (0.5 * self.hall_nits + 0.3 * self.white_nits);
            passes *= 1.0 - scatter.min(1.0);
            passes *= 1.0 - dead;
        }
        let mut blurred = reach;
        if let Some(film) = self.film {
            blurred = reach.hypot(film.scatter_mm);
            let cell = |value: f32| (value / 0.25).floor() as i32;
            let grain = film.grain * speckle(cell(x), cell(y), self.seed);
            passes *= film.passes * (1.0 + grain);
            mirrored += (1.0 - film.passes) * 0.12 * self.hall_nits * (1.0 + grain);
        }
        let mut shown = screen.mean(sx, sy, blurred).unwrap_or(0.0);
        if self.grid > 0.0 {
            // The first harmonic of the pixel grid, taken where the sensor pixel is: what aliases is moiré.
            let wave = |mm: f32| 1.0 + self.grid * (std::f32::consts::TAU * mm / screen.pitch_mm).cos();
            shown *= wave(sx) * wave(sy);
        }
        Some(shown * self.white_nits * on * passes + mirrored)
    }

    /// Light to grey values, with shot noise, read noise and the camera's curve.
    fn develop(&self, light: &[f32], dice: &mut Dice) -> GrayImage {
        const READ_ELECTRONS: f32 = 4.0;
        let curve: Vec<u8> = (0..=CURVE_STEPS)
            .map(|step| {
                let share = step as f32 / CURVE_STEPS as f32;
                (share.powf(1.0 / self.gamma) * 255.0).round() as u8
            })
            .collect();
        // Normal draws are the slowest part of a picture, so they come from a table in random order.
        let normals: Vec<f32> = (0..4096).map(|_| dice.normal() as f32).collect();
        let mut bits = 0_u64;
        let mut left = 0;
        let grey = light.iter().map(|nits| {
            if left == 0 {
                bits = dice.bits();
                left = 5;
            }
            let normal = normals[(bits & 0xFFF) as usize];
            bits >>= 12;
            left -= 1;
            let electrons = (nits / self.full_nits).max(0.0) * self.full_electrons;
            let noise = (electrons + READ_ELECTRONS * READ_ELECTRONS).sqrt() * normal;
            let share = ((electrons + noise) / self.full_electrons).clamp(0.0, 1.0);
            curve[(share * CURVE_STEPS as f32) as usize]
        });
        GrayImage::from_raw(self.width, self.height, grey.collect()).expect("one value for each pixel")
    }
}

impl Backlight {
    /// Share of the exposure of a line, `down` the frame from 0 to 1, in which it is on.
    fn share(&self, down: f32, shot: &Shot) -> f32 {
        let periods = FRAME_S * self.hertz;
        let start = self.phase + down * READOUT * periods;
        let length = (shot.exposure * periods).max(1e-4);
        // On-time since the beginning of time, as a function of the phase.
        let on = |phase: f32| phase.floor() * self.duty + phase.fract().min(self.duty);
        (on(start + length) - on(start)) / length
    }
}

/// What is behind the phone: a bright hall with dark and light things in it.
struct Hall {
    nits: f32,
    height: f32,
    things: Vec<([f32; 4], f32)>,
}

impl Hall {
    fn new(shot: &Shot, dice: &mut Dice) -> Self {
        let (width, height) = (f64::from(shot.width), f64::from(shot.height));
        let things = (0..9)
            .map(|_| {
                let middle = [dice.between(0.0, width), dice.between(0.0, height)];
                let half = [dice.between(0.02, 0.2) * width, dice.between(0.02, 0.3) * height];
                let bright = dice.between(0.02, 1.0) * if dice.chance(0.15) { 6.0 } else { 1.0 };
                ([middle[0], middle[1], half[0], half[1]].map(|value| value as f32), bright as f32)
            })
            .collect();
        Self { nits: shot.hall_nits, height: shot.height as f32, things }
    }

    fn at(&self, u: f32, v: f32) -> f32 {
        let mut bright = 0.55 - 0.35 * v / self.height;
        for ([x, y, half_x, half_y], thing) in &self.things {
            if (u - x).abs() < *half_x && (v - y).abs() < *half_y {
                bright = *thing;
            }
        }
        bright * self.nits
    }
}

/// A fixed grain: even in -1 to 1, the same for the same place.
fn speckle(x: i32, y: i32, seed: u64) -> f32 {
    let mut hash = seed ^ (u64::from(x as u32) << 32 | u64::from(y as u32));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((hash >> 40) as f32) / (1_u64 << 23) as f32 - 1.0
}

/// Motion blur: the mean along a way of (`dx`, `dy`) pixels.
fn smear(light: &mut [f32], width: usize, height: usize, dx: f32, dy: f32) {
    let length = dx.hypot(dy);
    if length < 0.5 {
        return;
    }
    let steps = (length * 2.0).ceil() as i32;
    let taps: Vec<(i32, i32)> = (0..=steps)
        .map(|step| {
            let along = step as f32 / steps as f32 - 0.5;
            ((dx * along).round() as i32, (dy * along).round() as i32)
        })
        .collect();
    gather(light, width, height, &taps);
}

/// Defocus: the mean over a disc.
fn disc(light: &mut [f32], width: usize, height: usize, radius: f32) {
    if radius < 0.3 {
        return;
    }
    let reach = radius.ceil() as i32;
    // Each pixel counts as often as quarter points of it lie in the disc.
    let mut taps = Vec::new();
    for y in -reach..=reach {
        for x in -reach..=reach {
            for (sx, sy) in [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)] {
                if (x as f32 + sx).hypot(y as f32 + sy) <= radius {
                    taps.push((x, y));
                }
            }
        }
    }
    gather(light, width, height, &taps);
}

fn gather(light: &mut [f32], width: usize, height: usize, taps: &[(i32, i32)]) {
    let mut weights: Vec<((i32, i32), f32)> = Vec::new();
    for tap in taps {
        match weights.iter_mut().find(|(known, _)| known == tap) {
            Some((_, weight)) => *weight += 1.0,
            None => weights.push((*tap, 1.0)),
        }
    }
    let source = light.to_vec();
    light.fill(0.0);
    for ((dx, dy), weight) in weights {
        let weight = weight / taps.len() as f32;
        for (y, row) in light.chunks_exact_mut(width).enumerate() {
            let from = (y as i32 + dy).clamp(0, height as i32 - 1) as usize;
            let line = &source[from * width..(from + 1) * width];
            // Inside, whole slices; at the two edges the last pixel stands for what is beyond.
            let (start, end) = ((-dx).max(0) as usize, (width as i32 - dx.max(0)).max(0) as usize);
            for value in &mut row[..start.min(width)] {
                *value += weight * line[0];
            }
            if start < end {
                let moved = &line[(start as i32 + dx) as usize..(end as i32 + dx) as usize];
                for (value, add) in row[start..end].iter_mut().zip(moved) {
                    *value += weight * add;
                }
            }
            for value in &mut row[end.max(start.min(width))..] {
                *value += weight * line[width - 1];
            }
        }
    }
}
