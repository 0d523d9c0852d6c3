//! Goods on plates, and what the plates' load cells would weigh.

use engine::units::PlateId;

use crate::dice::Dice;
use crate::layout::Layout;

/// A single pack, from the shelf to the street.
pub type ItemId = usize;

/// Most that a plate carries, grams (the competition's plates: 20 kg; a shelf board carries less).
const PLATE_GRAMS_MAX: f64 = 12_000.0;
/// Stock of a plate at the start of a short day.
const STOCK: usize = 12;
/// Time constant of a weighing module's low-pass filter, seconds.
const FILTER_SECONDS: f64 = 0.09;
/// A plate's baseline wanders by about this much ...
const DRIFT_SD_GRAMS: f64 = 1.5;
/// ... within about this time.
const DRIFT_SECONDS: f64 = 900.0;

/// Where a pack is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// Stands on a plate; when it straddles two, the second carries the given share of its mass.
    Plate {
        /// The plate it stands on (index into the map's plates).
        plate: usize,
        /// The neighbour that carries a share.
        straddles: Option<(usize, f64)>,
    },
    /// A person has it, in a hand or bag.
    Person(u32),
    /// A person left the store with it.
    Out(u32),
}

/// A pack.
#[derive(Clone, Debug)]
pub struct Item {
    /// Index into the map's products.
    pub product: usize,
    /// What this very pack weighs.
    pub grams: f64,
    /// Where it is.
    pub place: Place,
}

/// A load cell under a plate.
#[derive(Clone, Debug)]
struct Scale {
    /// Counts of the empty plate, grams: cells are not zeroed.
    tare: f64,
    noise_sd: f64,
    drift: f64,
    filtered: f64,
    contacts: Vec<Contact>,
}

/// A hand or arm that rests on a plate for a moment.
#[derive(Clone, Debug)]
struct Contact {
    from: f64,
    until: f64,
    peak_grams: f64,
}

/// All goods and plates.
#[derive(Clone, Debug)]
pub struct Shelves {
    items: Vec<Item>,
    /// Packs on each plate, front first.
    on: Vec<Vec<ItemId>>,
    scales: Vec<Scale>,
    /// What stands on each plate, grams; kept in step with `items`.
    loads: Vec<f64>,
    names: Vec<PlateId>,
    counts: Vec<i32>,
    dice: Dice,
}

impl Shelves {
    /// Stocks the store so that `shoppers` visits leave no plate empty.
    #[must_use]
    pub fn stocked(layout: &Layout, shoppers: u32, seed: u64) -> Self {
        let mut dice = Dice::new(seed, 2);
        let map = &layout.map;
        let mut items: Vec<Item> = Vec::new();
        let mut on = vec![Vec::new(); map.plates.len()];
        for (plate, home) in layout.home.iter().enumerate() {
            let product = &map.products[*home];
            let wanted = STOCK + (shoppers as usize) / 8 + dice.below(5);
            let room = (PLATE_GRAMS_MAX / product.mass.grams()) as usize;
            for _ in 0..wanted.min(room.max(4)) {
                // Wide packs on a double facing stand across the gap now and then.
                let across = layout.looks[*home].size[0] > 0.12 && dice.chance(0.15);
                let neighbour = layout.siblings[plate].first().filter(|_| across);
                let straddles = neighbour.map(|other| (*other, dice.between(0.3, 0.65)));
                on[plate].push(items.len());
                items.push(Item {
                    product: *home,
                    grams: (product.mass.grams() + product.mass_sd.grams() * dice.normal()).max(1.0),
                    place: Place::Plate { plate, straddles },
                });
            }
        }
        let scales = map.plates.iter().map(|_| Scale {
            tare: dice.between(150.0, 900.0),
            // Log-normal with the median and tail of the recorded store (design.md section 6).
            noise_sd: (0.8 * (0.55 * dice.normal()).exp()).clamp(0.3, 5.4),
            drift: DRIFT_SD_GRAMS * dice.normal(),
            filtered: 0.0,
            contacts: Vec::new(),
        });
        let scales: Vec<Scale> = scales.collect();
        let names = map.plates.iter().map(|plate| plate.id).collect();
        let counts = vec![0; map.plates.len()];
        let loads = vec![0.0; map.plates.len()];
        let mut shelves = Self { items, on, scales, loads, names, counts, dice: Dice::new(seed, 3) };
        shelves.add_up();
        for (scale, load) in shelves.scales.iter_mut().zip(&shelves.loads) {
            scale.filtered = *load;
        }
        shelves.weigh(0.0, 0.05);
        shelves
    }

    /// All packs; an `ItemId` is an index.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Packs on a plate, front first.
    #[must_use]
    pub fn on(&self, plate: usize) -> &[ItemId] {
        &self.on[plate]
    }

    /// What the load cells read now, tenths of a gram, in the order of the map's plates.
    #[must_use]
    pub fn counts(&self) -> &[i32] {
        &self.counts
    }

    /// Name of a plate.
    #[must_use]
    pub fn name(&self, plate: usize) -> PlateId {
        self.names[plate]
    }

    /// The front-most pack of a product on a plate.
    #[must_use]
    pub fn front(&self, plate: usize, product: usize) -> Option<ItemId> {
        self.on[plate].iter().copied().find(|item| self.items[*item].product == product)
    }

    /// A person lifts a pack off its plate. Nothing happens when it stands on none.
    pub fn lift(&mut self, item: ItemId, person: u32) {
        if let Place::Plate { plate, .. } = self.items[item].place {
            self.on[plate].retain(|other| *other != item);
            self.items[item].place = Place::Person(person);
            self.add_up();
        }
    }

    /// A pack is set down in front of the others.
    pub fn set_down(&mut self, item: ItemId, plate: usize) {
        self.items[item].place = Place::Plate { plate, straddles: None };
        self.on[plate].insert(0, item);
        self.add_up();
    }

    /// A pack changes hands.
    pub fn give(&mut self, item: ItemId, to: u32) {
        self.items[item].place = Place::Person(to);
    }

    /// A person leaves the store with a pack.
    pub fn carry_out(&mut self, item: ItemId) {
        if let Place::Person(person) = self.items[item].place {
            self.items[item].place = Place::Out(person);
        }
    }

    /// Packs that stand on a plate which is not their product's home.
    pub fn misplaced<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = (ItemId, usize)> + 'a {
        self.on.iter().enumerate().flat_map(move |(plate, items)| {
            let strays = items.iter().filter(move |item| self.items[**item].product != layout.home[plate]);
            strays.map(move |item| (*item, plate))
        })
    }

    /// A hand presses on a plate from `from` to `until` (seconds of the day), at most `peak_grams`.
    pub fn press(&mut self, plate: usize, from: f64, until: f64, peak_grams: f64) {
        self.scales[plate].contacts.push(Contact { from, until, peak_grams });
    }

    /// Advances all cells by `dt` to `now`, seconds.
    pub fn weigh(&mut self, now: f64, dt: f64) {
        let follow = 1.0 - (-dt / FILTER_SECONDS).exp();
        let pull = dt / DRIFT_SECONDS;
        for (plate, scale) in self.scales.iter_mut().enumerate() {
            let mut load = self.loads[plate];
            let mut shake = 0.0;
            scale.contacts.retain(|contact| contact.until > now - dt);
            for contact in &scale.contacts {
                let part = (now - contact.from) / (contact.until - contact.from);
                if (0.0..=1.0).contains(&part) {
                    load += contact.peak_grams * (std::f64::consts::PI * part).sin();
                    shake += contact.peak_grams * 0.08;
                }
            }
            scale.filtered += (load - scale.filtered) * follow;
            scale.drift += -scale.drift * pull + DRIFT_SD_GRAMS * (2.0 * pull).sqrt() * self.dice.normal();
            let noise = (scale.noise_sd + shake) * self.dice.normal();
            self.counts[plate] = ((scale.tare + scale.drift + scale.filtered + noise) * 10.0).round() as i32;
        }
    }

    fn add_up(&mut self) {
        self.loads.fill(0.0);
        for item in self.on.iter().flatten() {
            let item = &self.items[*item];
            if let Place::Plate { plate, straddles } = item.place {
                let share = straddles.map_or(0.0, |(_, share)| share);
                self.loads[plate] += item.grams * (1.0 - share);
                if let Some((neighbour, share)) = straddles {
                    self.loads[neighbour] += item.grams * share;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifted_pack_is_missing_from_its_plates() {
        let layout = Layout::new(3);
        let mut shelves = Shelves::stocked(&layout, 50, 3);
        let settle = |shelves: &mut Shelves, from: u32| {
            let mut sums = vec![0.0; layout.map.plates.len()];
            for tick in from..from + 400 {
                shelves.weigh(f64::from(tick) * 0.05, 0.05);
                if tick >= from + 100 {
                    for (sum, count) in sums.iter_mut().zip(shelves.counts()) {
                        *sum += f64::from(*count) / 3000.0;
                    }
                }
            }
            sums
        };
        let before = settle(&mut shelves, 0);
        let item = shelves.on(10)[0];
        let grams = shelves.items()[item].grams;
        shelves.lift(item, 1);
        let after = settle(&mut shelves, 400);
        let change: f64 =
            before.iter().zip(&after).map(|(before, after)| before - after).filter(|d| d.abs() > 5.0).sum();
        assert!((change - grams).abs() < 3.0, "{change} g missing, the pack has {grams} g");
    }

    #[test]
    fn noise_is_as_measured_in_the_recorded_store() {
        let layout = Layout::new(1);
        let shelves = Shelves::stocked(&layout, 50, 1);
        let mut sds: Vec<f64> = shelves.scales.iter().map(|scale| scale.noise_sd).collect();
        sds.sort_by(f64::total_cmp);
        let median = sds[sds.len() / 2];
        assert!((0.5..=1.1).contains(&median), "median noise {median} g");
        assert!(sds[sds.len() - 1] <= 5.4);
    }
}
