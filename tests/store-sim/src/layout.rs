//! The room: shelf units, plates, cameras and lanes, from a seed.

use engine::floor::camera::CameraModel;
use engine::store::{Camera, Facing, Gondola, Lane, Plate, Product, StoreMap};
use engine::units::{CameraId, LaneId, PlateId};

use crate::catalogue::{self, Look};
use crate::dice::Dice;

/// Floor size, metres.
const WIDTH: f64 = 10.0;
const DEPTH: f64 = 7.0;
/// The glass fence in front of the street, with the turnstiles in it, stands here.
pub const FENCE_Y: f64 = 0.7;
/// Shoppers step out of a lane here: behind the turnstile's posts, which reach 0.6 m to both sides of the
/// fence.
pub const MOUTH_Y: f64 = FENCE_Y + 1.0;
/// Depth of a shelf board from its front edge to the back, metres.
const SHELF_DEPTH: f64 = 0.45;
/// Distance from the front edge of a shelf to the middle of its plates, metres.
pub const PLATE_INSET: f64 = 0.18;

/// The store and what its map does not say: how packs look.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The map that services get.
    pub map: StoreMap,
    /// Looks of the products, in the order of `map.products`.
    pub looks: Vec<Look>,
    /// Home product of each plate (index into `map.products`), in the order of `map.plates`.
    pub home: Vec<usize>,
    /// The other plates of the same facing, in the order of `map.plates`.
    pub siblings: Vec<Vec<usize>>,
}

impl Layout {
    /// The store of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let (products, looks) = catalogue::products(&mut dice);
        let mut gondolas = Vec::new();
        let mut plates = Vec::new();
        let shift = |dice: &mut Dice| (dice.between(-0.25, 0.25) * 20.0).round() / 20.0;
        let runs = [
            Run { start: [0.0, 4.6 + shift(&mut dice)], along: [0.0, -1.0], front: [1.0, 0.0] },
            Run { start: [1.6 + shift(&mut dice), DEPTH], along: [1.0, 0.0], front: [0.0, -1.0] },
            Run { start: [6.2 + shift(&mut dice), DEPTH], along: [1.0, 0.0], front: [0.0, -1.0] },
            Run { start: [WIDTH, 2.7 + shift(&mut dice)], along: [0.0, 1.0], front: [-1.0, 0.0] },
        ];
        for (index, run) in runs.iter().enumerate() {
            let shelves = 4 + dice.below(2) as u16;
            let count = 5 + dice.below(2) as u16;
            let width = (dice.between(0.28, 0.35) * 100.0).round() / 100.0;
            run.build(index as u16, shelves, count, width, &mut gondolas, &mut plates);
        }
        island(
            runs.len() as u16,
            [5.0 + shift(&mut dice), 3.6 + shift(&mut dice)],
            &mut gondolas,
            &mut plates,
        );
        let (facings, home) = stand(&products, &plates, &mut dice);
        let siblings = siblings(&facings, &plates);
        let lanes = vec![lane("entry-1", 2.0, true, false), lane("exit-1", 8.0, false, true)];
        let map = StoreMap {
            name: "Stile 시범점".to_owned(),
            bounds: [0.0, 0.0, WIDTH, DEPTH],
            gondolas,
            lanes,
            cameras: cameras(),
            plates,
            products,
            facings,
        };
        Self { map, looks, home, siblings }
    }
}

/// A wall unit: its left end as the shopper sees it, the direction to its right end, and the shopper's side.
struct Run {
    start: [f64; 2],
    along: [f64; 2],
    front: [f64; 2],
}

impl Run {
    fn build(
        &self,
        id: u16,
        shelves: u16,
        count: u16,
        width: f64,
        gondolas: &mut Vec<Gondola>,
        plates: &mut Vec<Plate>,
    ) {
        let at = |along: f64, out: f64| {
            [0, 1].map(|axis| self.start[axis] + self.along[axis] * along + self.front[axis] * out)
        };
        let end = at(f64::from(count) * width + 0.06, SHELF_DEPTH);
        let footprint = [
            self.start[0].min(end[0]),
            self.start[1].min(end[1]),
            self.start[0].max(end[0]),
            self.start[1].max(end[1]),
        ];
        gondolas.push(Gondola { id, footprint, height: 1.8 });
        for shelf in 0..shelves {
            let z =
                if shelves == 5 { 0.35 + 0.30 * f64::from(shelf) } else { 0.40 + 0.36 * f64::from(shelf) };
            for plate in 0..count {
                let [x, y] = at((f64::from(plate) + 0.5) * width + 0.03, SHELF_DEPTH - PLATE_INSET);
                let id = PlateId { gondola: id, shelf, plate };
                plates.push(Plate { id, position: [x, y, z], front: self.front, width });
            }
        }
    }
}

/// The free-standing unit: four shelves, three plates to each of its two sides.
fn island(id: u16, middle: [f64; 2], gondolas: &mut Vec<Gondola>, plates: &mut Vec<Plate>) {
    const PLATE: f64 = 0.35;
    let half_length = 1.5 * PLATE + 0.03;
    let [x, y] = middle;
    let footprint = [x - SHELF_DEPTH, y - half_length, x + SHELF_DEPTH, y + half_length];
    gondolas.push(Gondola { id, footprint, height: 1.5 });
    for shelf in 0..4_u16 {
        for plate in 0..6_u16 {
            // 0..3 from the left of the side that faces -x, 3..6 from the left of the other.
            let side = if plate < 3 { -1.0 } else { 1.0 };
            let along = (f64::from(plate % 3) - 1.0) * PLATE * side;
            let position =
                [x + side * (SHELF_DEPTH - PLATE_INSET), y + along, 0.35 + 0.32 * f64::from(shelf)];
            let id = PlateId { gondola: id, shelf, plate };
            plates.push(Plate { id, position, front: [side, 0.0], width: PLATE });
        }
    }
}

/// Gives every plate a product: each product a facing, wide or popular ones two neighbouring plates, and some
/// a second facing elsewhere until no plate is empty.
fn stand(products: &[Product], plates: &[Plate], dice: &mut Dice) -> (Vec<Facing>, Vec<usize>) {
    let mut home = vec![usize::MAX; plates.len()];
    let mut facings = Vec::new();
    let mut order: Vec<usize> = Vec::new();
    let mut place = 0;
    while place < plates.len() {
        if order.is_empty() {
            order = (0..products.len()).collect();
            for last in (1..order.len()).rev() {
                order.swap(last, dice.below(last + 1));
            }
        }
        let product = order.pop().unwrap_or(0);
        let mut wide = 1;
        let left = plates.len() - place;
        // Late in the walk the products that have no place yet come first.
        let spare = left > order.len() + 1;
        if spare && neighbours(&plates[place], plates.get(place + 1)) && dice.chance(0.3) {
            wide = 2;
        }
        for slot in &mut home[place..place + wide] {
            *slot = product;
        }
        let names = plates[place..place + wide].iter().map(|plate| plate.id).collect();
        facings.push(Facing { product: products[product].id.clone(), plates: names });
        place += wide;
    }
    (facings, home)
}

/// Whether two plates lie side by side on one shelf and the same side of it.
fn neighbours(one: &Plate, other: Option<&Plate>) -> bool {
    other.is_some_and(|other| {
        one.id.gondola == other.id.gondola
            && one.id.shelf == other.id.shelf
            && one.id.plate.abs_diff(other.id.plate) == 1
            && one.front == other.front
    })
}

fn siblings(facings: &[Facing], plates: &[Plate]) -> Vec<Vec<usize>> {
    plates
        .iter()
        .map(|plate| {
            let facing = facings.iter().find(|facing| facing.plates.contains(&plate.id));
            let others = facing.into_iter().flat_map(|facing| &facing.plates).filter(|id| **id != plate.id);
            others.filter_map(|id| plates.iter().position(|other| other.id == *id)).collect()
        })
        .collect()
}

fn lane(id: &str, x: f64, entry: bool, exit: bool) -> Lane {
    Lane { id: LaneId::from(id), position: [x, FENCE_Y], inward: [0.0, 1.0], entry, exit }
}

/// Eight ceiling cameras, tilted so that every place at head height is in at least two pictures.
fn cameras() -> Vec<Camera> {
    // Found by random search for coverage within 3.3 m, with 1.6 m between any two; symmetrical about the
    // middle.
    let poses: [([f64; 2], [f64; 2]); 8] = [
        ([3.2, 3.7], [1.3, 2.3]),
        ([6.8, 3.7], [8.7, 2.3]),
        ([3.6, 0.3], [3.5, 3.3]),
        ([6.4, 0.3], [6.5, 3.3]),
        ([4.2, 6.5], [3.3, 3.7]),
        ([5.8, 6.5], [6.7, 3.7]),
        ([0.5, 5.5], [2.3, 4.0]),
        ([9.5, 5.5], [7.7, 4.0]),
    ];
    poses
        .iter()
        .enumerate()
        .map(|(index, (at, target))| {
            let mut model = CameraModel::looking_at(
                [320, 192],
                1.9,
                [at[0], at[1], 3.0],
                [target[0], target[1], 0.0],
                [0.0, 0.0, 1.0],
            );
            model.distortion = [-0.02, 0.003, -0.001, 0.0];
            Camera { id: CameraId(index as u16), model }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_many_seeds_are_valid() {
        for seed in 0..50 {
            let layout = Layout::new(seed);
            assert_eq!(layout.map.validate(), Ok(()), "seed {seed}");
            assert!(layout.home.iter().all(|product| *product < layout.map.products.len()), "seed {seed}");
            for product in &layout.map.products {
                let stands = layout.map.facings.iter().any(|facing| facing.product == product.id);
                assert!(stands, "seed {seed}: {} has no place", product.name("en"));
            }
        }
    }

    #[test]
    fn every_place_is_in_two_views() {
        let layout = Layout::new(1);
        let mut worst = usize::MAX;
        let mut thin = Vec::new();
        for row in -2..14 {
            for column in 0..20 {
                let (x, y) = (0.25 + 0.5 * f64::from(column), 0.25 + 0.5 * f64::from(row));
                let lane = layout.map.lanes.iter().any(|lane| (lane.position[0] - x).abs() < 0.5);
                let inside = layout.map.gondolas.iter().any(|gondola| {
                    let [left, near, right, far] = gondola.footprint;
                    (left..right).contains(&x) && (near..far).contains(&y)
                });
                if inside || (y < FENCE_Y && !lane) {
                    continue;
                }
                let views = layout.map.cameras.iter().filter(|camera| {
                    let seen =
                        |z| camera.model.project([x, y, z]).is_some_and(|pixel| camera.model.contains(pixel));
                    seen(1.6) && seen(1.0)
                });
                let views = views.count();
                if views < 2 {
                    thin.push((x, y, views));
                }
                worst = worst.min(views);
            }
        }
        assert!(worst >= 2, "{thin:?}");
    }

    #[test]
    fn aisles_are_wide_enough() {
        for seed in 0..50 {
            let gondolas = Layout::new(seed).map.gondolas;
            for (index, one) in gondolas.iter().enumerate() {
                for other in &gondolas[index + 1..] {
                    let gap = |axis: usize| {
                        (one.footprint[axis] - other.footprint[axis + 2])
                            .max(other.footprint[axis] - one.footprint[axis + 2])
                    };
                    let clear = gap(0).max(gap(1));
                    assert!(clear >= 1.1, "seed {seed}: {} and {} are {clear} m apart", one.id, other.id);
                }
            }
        }
    }
}
