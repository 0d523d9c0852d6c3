//! What stands still: floor, walls, shelf units with their goods, gate posts, cast once into a picture with depth.

use engine::floor::camera::CameraModel;
use engine::store::{Gondola, StoreMap};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::look::{Flooring, Look, hash_unit, pack_colour};
use super::shape::{Block, Vec3, add, dot, scale, single, subtract};

/// Walls stand this far outside the walkable bounds, metres.
const WALL_GAP: f64 = 0.6;
/// Thickness of shelf boards, metres.
const BOARD: f64 = 0.03;

/// A still picture. All vectors row by row.
pub struct Still {
    /// Light that comes back, 255 for white under full light, before the sensor.
    pub colour: Vec<Vec3>,
    /// Metres along the ray; 0 outside the lens.
    pub depth: Vec<f32>,
    /// Whether the pixel shows open floor.
    pub floor: Vec<bool>,
}

/// Everything that stands still.
pub struct Scene {
    blocks: Vec<(Block, Surface)>,
    footprints: Vec<[f32; 4]>,
    bounds: [f32; 4],
    ceiling: f32,
    look: Look,
}

enum Surface {
    Plain(Vec3),
    Pack { base: Vec3, band: Vec3, seed: i32 },
}

impl Scene {
    /// The scene of a store with this look and ceiling height (metres).
    pub fn new(map: &StoreMap, look: &Look, ceiling: f64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(look.products);
        let mut blocks = Vec::new();
        for gondola in &map.gondolas {
            shelf_unit(map, gondola, look, &mut random, &mut blocks);
        }
        for lane in &map.lanes {
            let [x, y] = lane.position;
            let [forward_x, forward_y] = lane.inward;
            for side in [-0.5, 0.5] {
                let middle = [x - forward_y * side, y + forward_x * side];
                let half = [
                    0.6 * forward_x.abs() + 0.07 * forward_y.abs(),
                    0.6 * forward_y.abs() + 0.07 * forward_x.abs(),
                ];
                blocks.push((
                    block(
                        [middle[0] - half[0], middle[1] - half[1], 0.0],
                        [middle[0] + half[0], middle[1] + half[1], 1.0],
                    ),
                    Surface::Plain([150.0, 155.0, 160.0]),
                ));
            }
        }
        Self {
            blocks,
            footprints: map
                .gondolas
                .iter()
                .map(|gondola| gondola.footprint.map(|value| value as f32))
                .collect(),
            bounds: [
                (map.bounds[0] - WALL_GAP) as f32,
                (map.bounds[1] - WALL_GAP) as f32,
                (map.bounds[2] + WALL_GAP) as f32,
                (map.bounds[3] + WALL_GAP) as f32,
            ],
            ceiling: ceiling as f32 + 0.1,
            look: look.clone(),
        }
    }

    /// The scene through a camera whose pixels have these rays (of length one; zero outside the lens).
    pub fn shoot(&self, camera: &CameraModel, rays: &[Vec3]) -> Still {
        let eye = single(camera.position);
        let (width, height) = (camera.width as usize, camera.height as usize);
        let mut still = Still {
            colour: vec![[0.0; 3]; rays.len()],
            depth: vec![0.0; rays.len()],
            floor: vec![false; rays.len()],
        };
        for (pixel, &ray) in rays.iter().enumerate() {
            if ray != [0.0; 3] {
                self.room(eye, ray, pixel, &mut still);
            }
        }
        for (block, surface) in &self.blocks {
            let [left, top, right, bottom] = extent(camera, block).unwrap_or([0, 0, width, height]);
            for row in top..bottom.min(height) {
                let start = row * width;
                let line = &rays[start + left.min(width)..start + right.min(width)];
                for (pixel, &ray) in (start + left..).zip(line) {
                    let Some(hit) = block.hit(eye, ray) else { continue };
                    if hit.distance >= still.depth[pixel] {
                        continue;
                    }
                    let point = add(eye, scale(ray, hit.distance));
                    let light = self.light(point, hit.normal) * self.shade_in_shelf(point);
                    still.depth[pixel] = hit.distance;
                    still.floor[pixel] = false;
                    still.colour[pixel] = scale(paint(surface, block, point, hit.normal), light);
                }
            }
        }
        still
    }

    /// Floor, walls and ceiling.
    fn room(&self, eye: Vec3, ray: Vec3, pixel: usize, still: &mut Still) {
        let planes = [
            (0, self.bounds[0], [1.0, 0.0, 0.0]),
            (0, self.bounds[2], [-1.0, 0.0, 0.0]),
            (1, self.bounds[1], [0.0, 1.0, 0.0]),
            (1, self.bounds[3], [0.0, -1.0, 0.0]),
            (2, 0.0, [0.0, 0.0, 1.0]),
            (2, self.ceiling, [0.0, 0.0, -1.0]),
        ];
        let nearest = planes
            .iter()
            .filter(|(_, _, normal)| dot(*normal, ray) < -1e-6)
            .map(|&(axis, place, normal)| ((place - eye[axis]) / ray[axis], axis, normal))
            .filter(|(distance, _, _)| *distance > 0.0)
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((distance, axis, normal)) = nearest else { return };
        let point = add(eye, scale(ray, distance));
        let floor = axis == 2 && normal[2] > 0.0;
        let colour = if floor {
            scale(self.floor_colour(point), self.floor_shade(point))
        } else if axis == 2 {
            [225.0; 3]
        } else {
            scale(self.look.wall, 0.95 + 0.1 * hash_unit((point[2] * 3.0) as i32, axis as i32, 9))
        };
        let grain = 1.0 + self.look.grain * (grain_at(point) - 0.5);
        still.depth[pixel] = distance;
        still.floor[pixel] = floor;
        still.colour[pixel] = scale(colour, grain * self.light(point, normal));
    }

    fn floor_colour(&self, point: Vec3) -> Vec3 {
        let tile = self.look.tile;
        let (column, row) = ((point[0] / tile).floor(), (point[1] / tile).floor());
        let (u, v) = (point[0] / tile - column, point[1] / tile - row);
        match self.look.flooring {
            Flooring::Plain => self.look.floor,
            Flooring::Tiles => {
                let joint = u.min(v) < 0.008 / tile;
                if joint {
                    scale(self.look.floor_other, 0.8)
                } else {
                    scale(self.look.floor, 0.97 + 0.06 * hash_unit(column as i32, row as i32, 1))
                }
            }
            Flooring::Chequers => {
                if (column as i32 + row as i32) % 2 == 0 {
                    self.look.floor
                } else {
                    self.look.floor_other
                }
            }
            Flooring::Planks => {
                let board = (point[1] / (tile * 0.35)).floor() as i32;
                let piece = (point[0] / 1.3 + hash_unit(board, 0, 2)).floor() as i32;
                let tone = 0.85 + 0.25 * hash_unit(board, piece, 3);
                let vein = 0.97 + 0.06 * hash_unit((point[0] * 6.0) as i32, (point[1] * 90.0) as i32, 4);
                scale(self.look.floor, tone * vein)
            }
        }
    }

    /// Shelf units keep light from the floor next to them.
    fn floor_shade(&self, point: Vec3) -> f32 {
        self.footprints
            .iter()
            .map(|[least_x, least_y, most_x, most_y]| {
                let x = (least_x - point[0]).max(point[0] - most_x).max(0.0);
                let y = (least_y - point[1]).max(point[1] - most_y).max(0.0);
                1.0 - 0.35 * (-(x * x + y * y) / 0.06).exp()
            })
            .fold(1.0, f32::min)
    }

    /// It is darker deep in a shelf.
    fn shade_in_shelf(&self, point: Vec3) -> f32 {
        self.footprints
            .iter()
            .map(|[least_x, least_y, most_x, most_y]| {
                let depth = (point[0] - least_x)
                    .min(most_x - point[0])
                    .min(point[1] - least_y)
                    .min(most_y - point[1]);
                1.0 - (depth * 2.0).clamp(0.0, 0.45)
            })
            .fold(1.0, f32::min)
            .max(0.55)
    }

    fn light(&self, point: Vec3, normal: Vec3) -> f32 {
        light(&self.look, point, normal)
    }
}

/// Light on a surface at a point, 1 where white shows white.
pub fn light(look: &Look, point: Vec3, normal: Vec3) -> f32 {
    let lamps: f32 = look
        .lamps
        .iter()
        .map(|lamp| {
            let towards = subtract(lamp.position, point);
            let square = dot(towards, towards).max(0.25);
            (dot(towards, normal) / square.sqrt()).max(0.0) * lamp.power * 4.0 / (square + 2.0)
        })
        .sum();
    look.ambient * (0.85 + 0.15 * normal[2]) + lamps
}

/// Pixels that a block can cover: left, top, right, bottom (the last two beyond the end). `None`: perhaps all.
pub fn extent(camera: &CameraModel, block: &Block) -> Option<[usize; 4]> {
    let mut least = [f64::INFINITY; 2];
    let mut most = [f64::NEG_INFINITY; 2];
    let mut seen = 0;
    // Corners and the middles between them: a fisheye bends edges outwards.
    for index in 0..27 {
        let steps = [index % 3, index / 3 % 3, index / 9];
        let point = [0, 1, 2].map(|axis| {
            let share = steps[axis] as f32 / 2.0;
            f64::from(block.least[axis] + (block.most[axis] - block.least[axis]) * share)
        });
        let Some(pixel) = camera.project(point) else { continue };
        seen += 1;
        for axis in 0..2 {
            least[axis] = least[axis].min(pixel[axis]);
            most[axis] = most[axis].max(pixel[axis]);
        }
    }
    match seen {
        0 => return Some([0; 4]),
        27 => {}
        _ => return None,
    }
    let margin = |axis: usize| 2.0 + 0.12 * (most[axis] - least[axis]);
    let size = [f64::from(camera.width), f64::from(camera.height)];
    let low = |axis: usize| (least[axis] - margin(axis)).clamp(0.0, size[axis]) as usize;
    let high = |axis: usize| (most[axis] + margin(axis)).clamp(0.0, size[axis]).ceil() as usize;
    Some([low(0), low(1), high(0), high(1)])
}

fn paint(surface: &Surface, block: &Block, point: Vec3, normal: Vec3) -> Vec3 {
    match surface {
        Surface::Plain(colour) => *colour,
        Surface::Pack { base, band, seed } => {
            let height = (point[2] - block.least[2]) / (block.most[2] - block.least[2]);
            let printed = normal[2].abs() < 0.5 && (0.3..0.65).contains(&height)
                || normal[2].abs() >= 0.5 && hash_unit(*seed, 0, 6) > 0.6;
            let cell = |value: f32| (value * 45.0).floor() as i32;
            let grain =
                0.88 + 0.24 * hash_unit(cell(point[0]) ^ (*seed << 8), cell(point[1]), cell(point[2]));
            scale(if printed { *band } else { *base }, grain)
        }
    }
}

fn grain_at(point: Vec3) -> f32 {
    let cell = |value: f32, size: f32| (value * size).floor() as i32;
    0.6 * hash_unit(cell(point[0], 9.0), cell(point[1], 9.0), cell(point[2], 9.0))
        + 0.4 * hash_unit(cell(point[0], 40.0), cell(point[1], 40.0), cell(point[2], 40.0))
}

fn block(least: [f64; 3], most: [f64; 3]) -> Block {
    Block { least: single(least), most: single(most) }
}

/// Boards, a back and the goods of one shelf unit.
fn shelf_unit(
    map: &StoreMap,
    gondola: &Gondola,
    look: &Look,
    random: &mut ChaCha8Rng,
    blocks: &mut Vec<(Block, Surface)>,
) {
    let [least_x, least_y, most_x, most_y] = gondola.footprint;
    let plates: Vec<_> = map.plates.iter().filter(|plate| plate.id.gondola == gondola.id).collect();
    let slab = |low: f64, high: f64| block([least_x, least_y, low], [most_x, most_y, high]);
    let shelf = || Surface::Plain(look.shelf);
    if plates.is_empty() {
        blocks.push((slab(0.0, gondola.height), shelf()));
        return;
    }
    let mut levels: Vec<f64> = plates.iter().map(|plate| plate.position[2]).collect();
    levels.sort_by(f64::total_cmp);
    levels.dedup_by(|a, b| (*a - *b).abs() < 0.02);
    if levels[0] > BOARD {
        blocks.push((slab(0.0, (levels[0] - BOARD).min(0.12)), shelf()));
    }
    for level in &levels {
        blocks.push((slab(level - BOARD, level - 0.003), shelf()));
    }
    // The back stands behind all plates, or in the middle when they face both ways.
    let fronts =
        plates.iter().fold([0.0_f64; 2], |sum, plate| [sum[0] + plate.front[0], sum[1] + plate.front[1]]);
    let facing_x = plates[0].front[0].abs() > plates[0].front[1].abs();
    let axis = usize::from(!facing_x);
    let (low, high) = ([least_x, least_y][axis], [most_x, most_y][axis]);
    let one_sided = fronts[axis].abs() > 0.9 * plates.len() as f64;
    let back = match (one_sided, fronts[axis] > 0.0) {
        (false, _) => (low + high) / 2.0,
        (true, true) => low + BOARD / 2.0,
        (true, false) => high - BOARD / 2.0,
    };
    let mut least = [least_x, least_y, 0.0];
    let mut most = [most_x, most_y, gondola.height];
    least[axis] = back - BOARD / 2.0;
    most[axis] = back + BOARD / 2.0;
    blocks.push((block(least, most), shelf()));

    for plate in plates {
        let above = levels.iter().copied().find(|level| *level > plate.position[2] + 0.02);
        let room = above.map_or(0.35, |level| level - BOARD - plate.position[2] - 0.02).max(0.04);
        let pack_height = random.random_range(0.05..0.30_f64).min(room);
        let pack_width = random.random_range(0.045..0.16_f64).min(plate.width);
        let columns = (plate.width / pack_width).floor().max(1.0) as i32;
        let (base, band) = (pack_colour(random), pack_colour(random));
        let front = plate.front;
        let along = [-front[1], front[0]];
        // From the plate's middle out to the edge of the unit on the shopper's side.
        let edge = if facing_x { [least_x, most_x] } else { [least_y, most_y] };
        let outer = if front[axis] > 0.0 { edge[1] } else { edge[0] };
        let out = ((outer - plate.position[axis]).abs() - 0.02).max(0.03);
        let inwards = ((back - plate.position[axis]).abs() - BOARD).clamp(0.03, 0.4);
        let pitch = plate.width / f64::from(columns);
        for column in 0..columns {
            let across = (f64::from(column) + 0.5) * pitch - plate.width / 2.0;
            let reach = out * random.random_range(-0.3..1.0);
            let corner = |side: f64, depth: f64, up: f64| {
                let across = across + side * pitch * 0.45;
                [
                    plate.position[0] + along[0] * across + front[0] * depth,
                    plate.position[1] + along[1] * across + front[1] * depth,
                    plate.position[2] + up,
                ]
            };
            let (one, other) = (corner(-1.0, -inwards, 0.0), corner(1.0, reach, pack_height));
            let least = [0, 1, 2].map(|axis| one[axis].min(other[axis]));
            let most = [0, 1, 2].map(|axis| one[axis].max(other[axis]));
            let seed = blocks.len() as i32;
            blocks.push((block(least, most), Surface::Pack { base, band, seed }));
        }
    }
}
