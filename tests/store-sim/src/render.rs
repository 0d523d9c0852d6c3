//! Pictures of the simulated store: every pixel's ray through the real lens model, cast at what stands still once, and
//! at the bodies in front of it for every frame.

use std::collections::BTreeMap;

use engine::floor::camera::CameraModel;
use engine::store::StoreMap;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::body::{Body, Held};
use look::{Look, Sensor};
use scene::{Scene, light};
use shape::{Block, Vec3, add, dot, scale, single};

mod figure;
mod look;
mod scene;
mod shape;

/// Noise values kept; a frame starts each row somewhere else in them.
const NOISE: usize = 1 << 16;

/// What a pixel shows of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Head and hair.
    Head,
    /// Left hand, and what it holds.
    LeftHand,
    /// Right hand, and what it holds.
    RightHand,
    /// Anything else: trunk, limbs, bags.
    Rest,
}

/// Draws what one camera sees.
pub struct Renderer {
    camera: CameraModel,
    eye: Vec3,
    rays: Vec<Vec3>,
    look: Look,
    /// The still picture through the sensor, and its depth, metres along the ray.
    still: Vec<u8>,
    depth: Vec<f32>,
    floor: Vec<bool>,
    /// What the sensor makes of light at each pixel: gain is per channel, this is the lens's share.
    vignette: Vec<f32>,
    gain: Vec3,
    noise: Vec<i8>,
    frames: u64,
    nearest: Vec<f32>,
    /// 0 is the store; otherwise 1 + 4 x body + part.
    owners: Vec<u16>,
}

impl Renderer {
    /// A renderer for the map's camera of that index; `look_seed` chooses colours, light and textures of the store.
    ///
    /// Takes some hundred milliseconds: the still picture is cast here, with four rays a pixel.
    ///
    /// # Panics
    /// When the map has no camera of that index.
    #[must_use]
    pub fn new(map: &StoreMap, camera_index: usize, look_seed: u64) -> Self {
        let camera = map.cameras[camera_index].model.clone();
        let ceiling = map.cameras.iter().map(|camera| camera.model.position[2]).fold(0.0, f64::max);
        let look = Look::new(look_seed, map.bounds, ceiling);
        let sensor = Sensor::new(look_seed, camera_index);
        let scene = Scene::new(map, &look, ceiling);

        let rays = rays(&camera);
        let single_rate = scene.shoot(&camera, &rays);
        let mut double = camera.clone();
        double.width *= 2;
        double.height *= 2;
        double.focal = double.focal.map(|focal| focal * 2.0);
        double.centre = double.centre.map(|centre| centre * 2.0);
        let fine = scene.shoot(&double, &self::rays(&double));

        let (width, height) = (camera.width as usize, camera.height as usize);
        let half_diagonal = (width as f32).hypot(height as f32) / 2.0;
        let vignette: Vec<f32> = (0..rays.len())
            .map(|pixel| {
                let x = (pixel % width) as f32 - width as f32 / 2.0;
                let y = (pixel / width) as f32 - height as f32 / 2.0;
                1.0 - sensor.vignette * (x.hypot(y) / half_diagonal).powi(2)
            })
            .collect();
        let mut still = vec![0; rays.len() * 3];
        for pixel in 0..rays.len() {
            let (row, column) = (pixel / width, pixel % width);
            let first = row * 2 * width * 2 + column * 2;
            for channel in 0..3 {
                let sum: f32 = [first, first + 1, first + 2 * width, first + 2 * width + 1]
                    .iter()
                    .map(|&index| fine.colour[index][channel])
                    .sum();
                still[pixel * 3 + channel] = (sum / 4.0 * vignette[pixel] * sensor.gain[channel]) as u8;
            }
        }

        let mut random = ChaCha8Rng::seed_from_u64(look_seed ^ 0x006e_6f69_7365);
        let noise = (0..NOISE + width * 3)
            .map(|_| {
                // Four uniform values sum to a near-normal one of variance 1/3.
                let sum: f32 = (0..4).map(|_| random.random_range(-0.5..0.5_f32)).sum();
                (sum * 1.732 * sensor.noise_sd).round() as i8
            })
            .collect();
        Self {
            eye: single(camera.position),
            nearest: vec![0.0; rays.len()],
            owners: vec![0; rays.len()],
            camera,
            rays,
            look,
            still,
            depth: single_rate.depth,
            floor: single_rate.floor,
            vignette,
            gain: sensor.gain,
            noise,
            frames: 0,
        }
    }

    /// The camera that is drawn for.
    #[must_use]
    pub fn camera(&self) -> &CameraModel {
        &self.camera
    }

    /// Draws the next frame; `out` takes the camera's size.
    pub fn frame(&mut self, bodies: &[Body], out: &mut camera::Rgb) {
        out.width = self.camera.width;
        out.height = self.camera.height;
        out.data.clear();
        out.data.extend_from_slice(&self.still);
        self.nearest.copy_from_slice(&self.depth);
        self.owners.fill(0);
        for body in bodies {
            self.shadow(body, &mut out.data);
        }
        for (index, body) in bodies.iter().enumerate() {
            for piece in figure::pieces(body, self.eye) {
                self.draw(index, body, &piece, &mut out.data);
            }
            for held in &body.held {
                let half = held.size.map(|size| size / 2.0);
                let corner =
                    |sign: f64| single([0, 1, 2].map(|axis| held.position[axis] + sign * half[axis]));
                let block = Block { least: corner(-1.0), most: corner(1.0) };
                self.draw_block(owner(index, holder(body, held)), block, held.colour, &mut out.data);
            }
        }
        self.add_noise(&mut out.data);
        self.frames += 1;
    }

    /// How many pixels of the latest frame show each part of each body (by its index in that frame).
    #[must_use]
    pub fn coverage(&self) -> BTreeMap<(usize, Part), u32> {
        let mut coverage = BTreeMap::new();
        for owner in self.owners.iter().filter(|owner| **owner > 0) {
            let part = match (owner - 1) % 4 {
                0 => Part::Head,
                1 => Part::LeftHand,
                2 => Part::RightHand,
                _ => Part::Rest,
            };
            *coverage.entry((usize::from((owner - 1) / 4), part)).or_insert(0) += 1;
        }
        coverage
    }

    /// A body keeps light from the floor around its feet.
    fn shadow(&self, body: &Body, data: &mut [u8]) {
        const RADIUS: f32 = 0.55;
        let foot = single(body.foot());
        let around = Block {
            least: [foot[0] - RADIUS, foot[1] - RADIUS, 0.0],
            most: [foot[0] + RADIUS, foot[1] + RADIUS, 0.01],
        };
        let Some([left, top, right, bottom]) = scene::extent(&self.camera, &around) else { return };
        let width = self.camera.width as usize;
        for row in top..bottom {
            for pixel in row * width + left..row * width + right {
                if !self.floor[pixel] {
                    continue;
                }
                let point = add(self.eye, scale(self.rays[pixel], self.depth[pixel]));
                let square = (point[0] - foot[0]).powi(2) + (point[1] - foot[1]).powi(2);
                let share = square / (RADIUS * RADIUS);
                if share < 1.0 {
                    let kept = 1.0 - 0.5 * (1.0 - share) * (1.0 - share);
                    for value in &mut data[pixel * 3..pixel * 3 + 3] {
                        *value = (f32::from(*value) * kept) as u8;
                    }
                }
            }
        }
    }

    fn draw(&mut self, index: usize, body: &Body, piece: &figure::Piece, data: &mut [u8]) {
        let Some([left, top, right, bottom]) = figure::extent(&self.camera, piece) else { return };
        let width = self.camera.width as usize;
        let owner = owner(index, piece.part);
        for row in top..bottom {
            for pixel in row * width + left..row * width + right {
                let Some(hit) = piece.capsule.hit(self.rays[pixel]) else { continue };
                if hit.distance >= self.nearest[pixel] {
                    continue;
                }
                let point = add(self.eye, scale(self.rays[pixel], hit.distance));
                let colour = figure::paint(piece, body, point, hit.normal);
                self.put(pixel, hit.distance, owner, colour, hit.normal, point, data);
            }
        }
    }

    fn draw_block(&mut self, owner: u16, block: Block, colour: [u8; 3], data: &mut [u8]) {
        let Some([left, top, right, bottom]) = scene::extent(&self.camera, &block) else { return };
        let width = self.camera.width as usize;
        for row in top..bottom {
            for pixel in row * width + left..row * width + right {
                let Some(hit) = block.hit(self.eye, self.rays[pixel]) else { continue };
                if hit.distance < self.nearest[pixel] {
                    let point = add(self.eye, scale(self.rays[pixel], hit.distance));
                    self.put(pixel, hit.distance, owner, colour.map(f32::from), hit.normal, point, data);
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a pixel is what it is; a struct for one caller says less")]
    fn put(
        &mut self,
        pixel: usize,
        distance: f32,
        owner: u16,
        colour: Vec3,
        normal: Vec3,
        point: Vec3,
        data: &mut [u8],
    ) {
        self.nearest[pixel] = distance;
        self.owners[pixel] = owner;
        // Edges that turn away from the eye are a little darker, as cloth and hair are.
        let facing = -dot(normal, self.rays[pixel]);
        let brightness =
            light(&self.look, point, normal) * self.vignette[pixel] * (0.8 + 0.2 * facing.clamp(0.0, 1.0));
        for channel in 0..3 {
            data[pixel * 3 + channel] = (colour[channel] * brightness * self.gain[channel]) as u8;
        }
    }

    fn add_noise(&self, data: &mut [u8]) {
        let row_bytes = self.camera.width as usize * 3;
        for (row, line) in data.chunks_exact_mut(row_bytes).enumerate() {
            let mut mixed = (self.frames << 16 | row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^= mixed >> 29;
            let start = (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 48) as usize;
            for (value, noise) in line.iter_mut().zip(&self.noise[start..start + row_bytes]) {
                *value = value.saturating_add_signed(*noise);
            }
        }
    }
}

/// The hand that a thing is in: the nearer one.
fn holder(body: &Body, held: &Held) -> Part {
    let [left, right] =
        body.wrists.map(|hand| (0..3).map(|axis| (hand[axis] - held.position[axis]).powi(2)).sum::<f64>());
    if left < right { Part::LeftHand } else { Part::RightHand }
}

fn owner(index: usize, part: Part) -> u16 {
    // More bodies than fit are counted with the last; a store holds some dozens.
    1 + 4 * index.min(16_000) as u16 + part as u16
}

/// The unit ray of each pixel's middle; zero outside the lens.
fn rays(camera: &CameraModel) -> Vec<Vec3> {
    (0..camera.height)
        .flat_map(|row| (0..camera.width).map(move |column| (column, row)))
        .map(|(column, row)| {
            camera.ray([f64::from(column) + 0.5, f64::from(row) + 0.5]).map_or([0.0; 3], single)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Figure;
    use crate::dice::Dice;
    use crate::layout::Layout;

    /// A grown-up on open floor in the middle of the first camera's picture.
    fn someone(map: &StoreMap) -> Body {
        let position = map.cameras[0].model.on_plane([160.0, 110.0], 0.9).expect("meets the floor");
        Body::pose(&Figure::random_of(1.75, &mut Dice::new(3, 3)), position, 0.4, 0.5, [None, None])
    }

    #[test]
    fn one_seed_draws_one_picture() {
        let map = Layout::new(5).map;
        let draw = |seed| {
            let mut out = camera::Rgb::new(0, 0);
            Renderer::new(&map, 0, seed).frame(&[someone(&map)], &mut out);
            out
        };
        let first = draw(7);
        assert_eq!((first.width, first.height, first.data.len()), (320, 192, 320 * 192 * 3));
        assert!(first.data == draw(7).data, "the same seed");
        assert!(first.data != draw(8).data, "another seed");
    }

    #[test]
    fn a_head_is_where_the_camera_model_says() {
        let map = Layout::new(5).map;
        let body = someone(&map);
        let mut renderer = Renderer::new(&map, 0, 7);
        let mut out = camera::Rgb::new(0, 0);
        renderer.frame(std::slice::from_ref(&body), &mut out);
        let [x, y] = renderer.camera().project(body.head).expect("in view");
        let owner_there = renderer.owners[y as usize * 320 + x as usize];
        assert_eq!(owner_there, owner(0, Part::Head));
        let coverage = renderer.coverage();
        assert!(coverage[&(0, Part::Head)] > 30, "{coverage:?}");
        renderer.frame(&[], &mut out);
        assert!(renderer.coverage().is_empty());
    }

    #[test]
    fn a_shelf_hides_who_stands_in_it() {
        let map = Layout::new(5).map;
        let gondola = &map.gondolas[0];
        let middle = [0, 1].map(|axis| (gondola.footprint[axis] + gondola.footprint[axis + 2]) / 2.0);
        let child = Figure::random_of(1.0, &mut Dice::new(3, 3));
        let child = Body::pose(&child, middle, 0.0, 0.0, [None, None]);
        let mut seen = 0;
        for camera in 0..map.cameras.len() {
            let mut renderer = Renderer::new(&map, camera, 7);
            renderer.frame(std::slice::from_ref(&child), &mut camera::Rgb::new(0, 0));
            seen += renderer.coverage().get(&(0, Part::Head)).copied().unwrap_or(0);
        }
        // In the open the same head covers hundreds of pixels over the cameras.
        assert!(seen < 60, "{seen} pixels of a head inside a shelf");
    }
}
