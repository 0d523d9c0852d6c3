//! Made-up visits in the AutoCheckout file format, from a seed: shoppers who take, take several, put back in
//! wrong places and take what others misplaced, over plates that vibrate and key points that get lost. The
//! mix of actions follows the labelled cases of that competition (field-notes/recognition.md section 1.1).

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde_json::json;

/// Gondolas in a row along x, shelves on each, plates on each shelf.
const GONDOLAS: usize = 4;
const SHELVES: usize = 6;
const PLATES: usize = 12;
const PLATE_WIDTH: f64 = 0.1016;
/// Unix time at which every recording begins.
const START: f64 = 1_587_531_990.0;

pub(super) struct Visit {
    pub seconds: f64,
    /// What each shopper holds at the end.
    pub truth: BTreeMap<(String, String), u32>,
    products: Vec<Goods>,
    shoppers: Vec<Walker>,
    moves: Vec<Moved>,
    seed: u64,
}

/// SplitMix64.
pub(super) struct Dice(u64);

struct Goods {
    id: String,
    catalogue: f64,
    /// First plate and number of plates.
    home: (Place, usize),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    gondola: usize,
    shelf: usize,
    plate: usize,
}

struct Walker {
    id: String,
    /// (time, x, y) in order; straight lines between.
    path: Vec<(f64, f64, f64)>,
    /// (hand at plate from, until, place).
    reaches: Vec<(f64, f64, [f64; 3])>,
}

/// A mass change on a plate.
struct Moved {
    at: f64,
    place: Place,
    grams: f64,
    /// Press of the hand just before, grams and seconds.
    press: (f64, f64),
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5555)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

impl Place {
    fn position(self) -> [f64; 3] {
        let x = (self.gondola - 1) as f64 * 1.25 + (self.plate as f64 - 0.5) * PLATE_WIDTH;
        [x, 0.1, 0.15 + self.shelf as f64 * 0.24]
    }
}

impl Visit {
    /// A visit of `count` shoppers; `spread` sets how many seconds lie between one shopper's actions.
    pub(super) fn new(seed: u64, count: usize) -> Self {
        let mut dice = Dice::new(seed);
        let products = stock(&mut dice);
        let mut visit = Self {
            seconds: 0.0,
            truth: BTreeMap::new(),
            products,
            shoppers: Vec::new(),
            moves: Vec::new(),
            seed,
        };
        let mut carts: Vec<Vec<(usize, f64)>> = vec![Vec::new(); count];
        // What lies on a plate that is not its own: product, grams, since when.
        let mut misplaced: Vec<(Place, usize, f64, f64)> = Vec::new();
        let mut walkers: Vec<Walker> = (0..count)
            .map(|index| {
                let id = (3_000_000_000_000_000_000_u64 + seed * 1000 + index as u64).to_string();
                Walker { id, path: vec![(0.0, 0.5 + index as f64 * 1.2, -0.9)], reaches: Vec::new() }
            })
            .collect();
        let actions = 2 + dice.below(3) + 3 * (count - 1);
        let mut clock = vec![4.0_f64; count];
        for _ in 0..actions {
            // Whoever is free first acts next, so that truth is known in order of time.
            let who = (0..count).min_by(|a, b| clock[*a].total_cmp(&clock[*b])).unwrap_or(0);
            let at = clock[who] + dice.between(1.5, 4.0);
            let put_back = !carts[who].is_empty() && dice.chance(0.3);
            let there = if put_back {
                visit.put_back(&mut dice, at, &mut carts[who], &mut misplaced)
            } else {
                visit.pick(&mut dice, at, &mut carts[who], &mut misplaced)
            };
            let [x, _, _] = there.position();
            let stand = (x + dice.between(-0.15, 0.15), dice.between(-0.55, -0.4));
            let walker = &mut walkers[who];
            let (from, from_x, from_y) = *walker.path.last().unwrap();
            walker.path.push((from.max(at - 2.5).min(at - 0.9), from_x, from_y));
            walker.path.push((at - 0.8, stand.0, stand.1));
            walker.path.push((at + 0.8, stand.0, stand.1));
            let hand = there.position();
            walker.reaches.push((at - 0.35, at + 0.25, [hand[0], -0.02, hand[2] + 0.1]));
            clock[who] = at + 0.8;
        }
        visit.seconds = clock.iter().copied().fold(0.0, f64::max) + 2.0;
        for (walker, cart) in walkers.iter().zip(&carts) {
            for (product, _) in cart {
                *visit.truth.entry((walker.id.clone(), visit.products[*product].id.clone())).or_default() +=
                    1;
            }
        }
        visit.shoppers = walkers;
        visit
    }

    fn pick(
        &mut self,
        dice: &mut Dice,
        at: f64,
        cart: &mut Vec<(usize, f64)>,
        misplaced: &mut Vec<(Place, usize, f64, f64)>,
    ) -> Place {
        let lying: Vec<usize> = (0..misplaced.len()).filter(|index| misplaced[*index].3 + 3.0 < at).collect();
        if !lying.is_empty() && dice.chance(0.35) {
            let (place, product, grams, _) = misplaced.swap_remove(lying[dice.below(lying.len())]);
            cart.push((product, grams));
            self.moved(dice, at, place, -grams);
            return place;
        }
        let product = dice.below(self.products.len());
        let (first, plates) = self.products[product].home;
        let place = Place { plate: first.plate + dice.below(plates), ..first };
        let count = if dice.chance(0.05) { 2 } else { 1 };
        for _ in 0..count {
            let grams = self.unit(dice, product);
            cart.push((product, grams));
            if place.plate > first.plate && dice.chance(0.2) {
                // It stood on two plates.
                let share = dice.between(0.3, 0.7);
                self.moved(dice, at, place, -grams * share);
                self.moved(dice, at, Place { plate: place.plate - 1, ..place }, -grams * (1.0 - share));
            } else {
                self.moved(dice, at, place, -grams);
            }
        }
        if dice.chance(0.04) {
            // The neighbour's product with the other hand.
            let next = (product + 1) % self.products.len();
            let (other, _) = self.products[next].home;
            if other.shelf == place.shelf && other.gondola == place.gondola {
                let grams = self.unit(dice, next);
                cart.push((next, grams));
                self.moved(dice, at + 0.1, other, -grams);
            }
        }
        place
    }

    fn put_back(
        &mut self,
        dice: &mut Dice,
        at: f64,
        cart: &mut Vec<(usize, f64)>,
        misplaced: &mut Vec<(Place, usize, f64, f64)>,
    ) -> Place {
        let (product, grams) = cart.swap_remove(dice.below(cart.len()));
        let (home, plates) = self.products[product].home;
        let own = Place { plate: home.plate + dice.below(plates), ..home };
        let place = match dice.below(26) {
            0..5 => own,
            5..11 => Place { plate: 1 + dice.below(PLATES), ..home },
            _ => Place {
                gondola: 1 + dice.below(GONDOLAS),
                shelf: 1 + dice.below(SHELVES),
                plate: 1 + dice.below(PLATES),
            },
        };
        let at_home = (place.gondola, place.shelf) == (home.gondola, home.shelf)
            && (home.plate..home.plate + plates).contains(&place.plate);
        if !at_home {
            misplaced.push((place, product, grams, at));
        }
        self.moved(dice, at, place, grams);
        place
    }

    /// One pack's mass.
    fn unit(&self, dice: &mut Dice, product: usize) -> f64 {
        self.products[product].catalogue * (1.0 + 0.004 * dice.normal()) + 0.4 * dice.normal()
    }

    fn moved(&mut self, dice: &mut Dice, at: f64, place: Place, grams: f64) {
        let press =
            if dice.chance(0.5) { (dice.between(20.0, 300.0), dice.between(0.1, 0.4)) } else { (0.0, 0.0) };
        self.moves.push(Moved { at, place, grams, press });
    }

    /// What really happened, for a failing seed.
    pub(super) fn story(&self) -> String {
        let home = |place: Place| {
            let inside = |goods: &&Goods| {
                let (first, plates) = goods.home;
                (first.gondola, first.shelf) == (place.gondola, place.shelf)
                    && (first.plate..first.plate + plates).contains(&place.plate)
            };
            self.products
                .iter()
                .find(inside)
                .map_or_else(String::new, |goods| format!("{} {:.1}", goods.id, goods.catalogue))
        };
        let mut moves: Vec<&Moved> = self.moves.iter().collect();
        moves.sort_by(|a, b| a.at.total_cmp(&b.at));
        let line = |step: &&Moved| {
            let Place { gondola, shelf, plate } = step.place;
            format!(
                "{:6.2} s {gondola}-{shelf}-{plate} {:8.1} g, home of {}\n",
                step.at,
                step.grams,
                home(step.place)
            )
        };
        moves.iter().map(line).collect()
    }

    /// Writes the four files.
    pub(super) fn write(&self, dir: &Path) {
        let lines = |values: Vec<serde_json::Value>| {
            values.iter().map(|value| format!("{value}\n")).collect::<String>()
        };
        let products = self.products.iter().map(|goods| {
            json!({"product_id": {"barcode_type": "UPC", "id": goods.id},
                   "metadata": {"name": "Thing", "price": 1, "weight": goods.catalogue}})
        });
        std::fs::write(dir.join("products.json"), lines(products.collect())).unwrap();
        let planogram = self.products.iter().map(|goods| {
            let (first, plates) = goods.home;
            let ids: Vec<_> = (0..plates)
                .map(|index| {
                    json!({"shelf_id": {"gondola_id": {"id": first.gondola}, "shelf_index": first.shelf},
                           "plate_index": first.plate + index})
                })
                .collect();
            let mut translation = json!({"z": first.position()[2]});
            let corner = first.position()[0] - PLATE_WIDTH / 2.0;
            if corner != 0.0 {
                translation["x"] = json!(corner);
            }
            json!({"plate_ids": ids, "planogram_product_id": {"barcode_type": "UPC", "id": goods.id},
                   "global_coordinates": {"transform": {"translation": translation, "rotation": {}},
                   "dim_x": PLATE_WIDTH * plates as f64, "dim_y": 0.4, "dim_z": 0.2}})
        });
        std::fs::write(dir.join("planogram.json"), lines(planogram.collect())).unwrap();
        std::fs::write(dir.join("full_targets.json"), lines(self.targets())).unwrap();
        std::fs::write(dir.join("plate_data.json"), lines(self.plate_data())).unwrap();
    }

    fn targets(&self) -> Vec<serde_json::Value> {
        let mut dice = Dice::new(self.seed ^ 0xabcdef);
        let mut out = Vec::new();
        let mut lost = vec![0.0_f64; self.shoppers.len()];
        let inch = |place: [f64; 3]| {
            let [x, y, z] = place.map(|value| value / 0.0254);
            json!({"point": {"x": x, "y": y, "z": z}, "score": 0.95})
        };
        for frame in 0..(self.seconds * 15.0) as usize {
            let at = frame as f64 / 15.0;
            let mut targets = Vec::new();
            for (walker, lost) in self.shoppers.iter().zip(&mut lost) {
                if dice.chance(0.003) {
                    *lost = at + dice.between(0.3, 2.0);
                }
                if at < *lost {
                    continue;
                }
                let (x, y) = walker.at(at);
                let wobble =
                    |dice: &mut Dice, place: [f64; 3]| place.map(|value| value + 0.025 * dice.normal());
                let mut target =
                    json!({"target_id": {"id": walker.id}, "target_state": "TARGETSTATE_VALID_ENTRANCE"});
                target["head"] = inch(wobble(&mut dice, [x, y + 0.08, 1.7]));
                target["neck"] = inch(wobble(&mut dice, [x, y, 1.5]));
                let [left, right] =
                    [[x - 0.25, y - 0.1, 0.9], walker.hand(at).unwrap_or([x + 0.25, y - 0.1, 0.9])];
                for (name, hand) in [("l_wrist", left), ("r_wrist", right)] {
                    if dice.chance(0.93) {
                        target[name] = inch(wobble(&mut dice, hand));
                    }
                }
                targets.push(target);
            }
            out.push(
                json!({"timestamp": START + at, "document": {"header": {"t_origin": rfc3339(START + at)},
                "targets": if targets.is_empty() { json!({}) } else { json!({"targets": targets}) }}}),
            );
        }
        out
    }

    fn plate_data(&self) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        let batches = (self.seconds * 5.0) as usize;
        for gondola in 1..=GONDOLAS {
            let mut dice = Dice::new(self.seed * 31 + gondola as u64);
            let mut plates = BTreeMap::new();
            for (shelf, plate) in
                (1..=SHELVES).flat_map(|shelf| (1..=PLATES).map(move |plate| (shelf, plate)))
            {
                let level = dice.between(500.0, 6000.0);
                let sd = 0.4 + 2.0 * dice.unit().powi(3);
                plates.insert((shelf, plate), (level, sd, dice.between(-0.02, 0.02)));
            }
            for batch in 0..batches {
                let at = batch as f64 / 5.0;
                let shaken =
                    self.moves.iter().any(|step| step.place.gondola == gondola && (step.at - at).abs() < 1.0);
                let mut bytes = Vec::new();
                for sample in 0..12 {
                    let t = at + (f64::from(sample) - 5.5) / 60.0;
                    for (shelf, plate) in
                        (0..=SHELVES).flat_map(|shelf| (0..=PLATES).map(move |plate| (shelf, plate)))
                    {
                        let value = plates.get(&(shelf, plate)).map_or(f64::NAN, |(level, sd, drift)| {
                            let sd = if shaken { sd * 2.5 } else { *sd };
                            level
                                + drift * t
                                + self.change(Place { gondola, shelf, plate }, t)
                                + sd * dice.normal()
                        });
                        bytes.extend((value as f32).to_le_bytes());
                    }
                }
                let data = base64::engine::general_purpose::STANDARD.encode(bytes);
                out.push(json!({"timestamp": START + at + 0.1, "document": {
                    "header": {"t_origin": rfc3339(START + at)},
                    "plate_data": {"plate_id": {"shelf_id": {"gondola_id": {"id": gondola}}},
                    "freq_samp": 60.0,
                    "values": {"data": data, "shape": [12, SHELVES + 1, PLATES + 1],
                    "type": "DATATYPE_FLOAT32"}}}}));
            }
        }
        out
    }

    /// Change of a plate's load by `t`, with the hand's press and what the neighbours feel of it.
    fn change(&self, place: Place, t: f64) -> f64 {
        let mut total = 0.0;
        for step in &self.moves {
            if (step.place.gondola, step.place.shelf) != (place.gondola, place.shelf) {
                continue;
            }
            let share = match step.place.plate.abs_diff(place.plate) {
                0 => 1.0,
                1 => 0.008,
                _ => continue,
            };
            let (press, seconds) = step.press;
            if t >= step.at {
                // Lifted or set down within a fifth of a second.
                total += share * step.grams * ((t - step.at) / 0.2).min(1.0);
            } else if t >= step.at - seconds {
                total += share * press;
            }
        }
        total
    }
}

impl Walker {
    fn at(&self, t: f64) -> (f64, f64) {
        let after = self.path.iter().position(|point| point.0 >= t);
        match after {
            None => self.path.last().map_or((0.0, 0.0), |point| (point.1, point.2)),
            Some(0) => (self.path[0].1, self.path[0].2),
            Some(index) => {
                let (a, b) = (self.path[index - 1], self.path[index]);
                let share = (t - a.0) / (b.0 - a.0).max(1e-6);
                (a.1 + (b.1 - a.1) * share, a.2 + (b.2 - a.2) * share)
            }
        }
    }

    fn hand(&self, t: f64) -> Option<[f64; 3]> {
        let reach = self.reaches.iter().find(|(from, until, _)| t >= *from && t <= *until);
        reach.map(|(_, _, place)| *place)
    }
}

fn stock(dice: &mut Dice) -> Vec<Goods> {
    let mut out = Vec::new();
    for gondola in 1..=GONDOLAS {
        for shelf in 1..=SHELVES {
            let mut plate = 1;
            while plate <= PLATES {
                let plates = (1 + dice.below(3)).min(PLATES + 1 - plate);
                // Median 134 g, most between 20 and 900 g, as in that store.
                let catalogue = (134.0 * (0.95 * dice.normal()).exp()).clamp(12.0, 1572.0);
                let id = format!("{:012}", 700_000_000_000_u64 + out.len() as u64 * 37);
                out.push(Goods { id, catalogue, home: (Place { gondola, shelf, plate }, plates) });
                plate += plates;
            }
        }
    }
    out
}

fn rfc3339(seconds: f64) -> String {
    // Every recording begins at 2020-04-22T05:06:30Z and lasts less than the rest of that hour.
    let within = seconds - START + 30.0;
    let minute = 6 + (within / 60.0) as u64;
    format!("2020-04-22T05:{minute:02}:{:06.3}Z", within % 60.0)
}
