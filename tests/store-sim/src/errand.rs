//! What a party wants from the store: the mix of ordinary shopping and of the cases that recorded stores
//! found hard.

use std::collections::VecDeque;

use crate::dice::Dice;
use crate::layout::Layout;
use crate::shelf::ItemId;

/// A thing to do at one place. Plates and products are indices into the map.
#[derive(Clone, Debug, PartialEq)]
pub enum Errand {
    /// Take `count` of what belongs on a plate, one lift each or several in one.
    PickUp {
        /// From where.
        plate: usize,
        /// What.
        product: usize,
        /// How many.
        count: u8,
        /// All in one lift, when the packs are small.
        one_lift: bool,
    },
    /// Take one from each of two neighbouring plates, both hands at once.
    PickUpTwo {
        /// From where.
        plates: [usize; 2],
    },
    /// Take one, look at it, set it back, take one of another plate instead.
    Compare {
        /// First taken from, and set back on.
        first: usize,
        /// Then taken from.
        second: usize,
    },
    /// Take something out of the bag and set it down.
    PutBack {
        /// Where it belongs, or elsewhere.
        goal: PutBackGoal,
    },
    /// A put-back with everything decided.
    SetDown {
        /// Where.
        plate: usize,
        /// What.
        item: ItemId,
    },
    /// Stand in front of a plate, perhaps touch it.
    Browse {
        /// Where.
        plate: usize,
        /// How long, seconds.
        seconds: f64,
        /// Whether to touch.
        touch: bool,
    },
    /// Give something to somebody of the party.
    HandOver {
        /// Which of the party.
        to: u8,
    },
}

/// Where a put-back goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBackGoal {
    /// The product's own plate.
    Home,
    /// Another shelf of the same unit: it looked about right.
    SameUnit,
    /// Wherever the shopper is by then.
    Elsewhere,
}

/// Draws the errands of a party, one list a person.
///
/// `difficulty` scales the hard cases: 1 is the ordinary mix, 0 has none of them.
pub fn draw(layout: &Layout, people: usize, difficulty: f64, dice: &mut Dice) -> Vec<VecDeque<Errand>> {
    let mut lists = vec![VecDeque::new(); people];
    let hard = |dice: &mut Dice, share: f64| dice.chance((share * difficulty).min(0.9));
    for (person, list) in lists.iter_mut().enumerate() {
        // One to six products, about three; companions take fewer.
        let wanted = if person == 0 {
            1 + dice.weighted(&[0.18, 0.26, 0.24, 0.17, 0.10, 0.05]).unwrap_or(0)
        } else {
            dice.weighted(&[0.25, 0.40, 0.25, 0.10]).unwrap_or(0)
        };
        let mut plates: Vec<usize> = Vec::new();
        while plates.len() < wanted {
            let weights: Vec<f64> =
                (0..layout.home.len()).map(|plate| weight(layout, plate, &plates)).collect();
            let Some(plate) = dice.weighted(&weights) else { break };
            plates.push(plate);
        }
        tour(layout, &mut plates, dice);
        for plate in plates {
            if dice.chance(0.15) {
                let seconds = dice.between(2.0, 7.0);
                let near = near_plate(layout, plate, dice);
                list.push_back(Errand::Browse { plate: near, seconds, touch: dice.chance(0.25) });
            }
            let product = layout.home[plate];
            let other = neighbour(layout, plate);
            list.push_back(match other {
                Some(other) if hard(dice, 0.04) => Errand::PickUpTwo { plates: [plate, other] },
                Some(other) if hard(dice, 0.05) => Errand::Compare { first: plate, second: other },
                _ => {
                    let count = 1 + dice.weighted(&[0.76, 0.18, 0.06]).unwrap_or(0) as u8;
                    let small = layout.looks[product].size[0] <= 0.10;
                    let one_lift = small && dice.chance(0.6);
                    Errand::PickUp { plate, product, count, one_lift }
                }
            });
            if hard(dice, 0.08) {
                // Recorded store: of 26 put-backs 5 to the plate, 6 to the shelf unit, 15 elsewhere. Shoppers
                // of this store are tidier: half are right.
                let goal = match dice.weighted(&[0.5, 0.2, 0.3]).unwrap_or(0) {
                    0 => PutBackGoal::Home,
                    1 => PutBackGoal::SameUnit,
                    _ => PutBackGoal::Elsewhere,
                };
                let later = dice.chance(0.5);
                let put_back = Errand::PutBack { goal };
                if later && !list.is_empty() {
                    let at = list.len() - dice.below(2);
                    list.insert(at, put_back);
                } else {
                    list.push_back(put_back);
                }
            }
            if people > 1 && hard(dice, 0.06) {
                let to = ((person + 1 + dice.below(people - 1)) % people) as u8;
                list.push_back(Errand::HandOver { to });
            }
        }
    }
    lists
}

/// Popularity, less for what is taken already; eye height sells best.
fn weight(layout: &Layout, plate: usize, taken: &[usize]) -> f64 {
    if taken.iter().any(|other| layout.home[*other] == layout.home[plate]) {
        return 0.0;
    }
    let height = layout.map.plates[plate].position[2];
    layout.looks[layout.home[plate]].popularity * if (0.7..1.5).contains(&height) { 1.0 } else { 0.6 }
}

/// Orders plates as a loose tour from the entry: nearest first, mostly.
fn tour(layout: &Layout, plates: &mut [usize], dice: &mut Dice) {
    let mut at = layout.map.lanes.iter().find(|lane| lane.entry).map_or([0.0, 0.0], |lane| lane.position);
    for index in 0..plates.len() {
        let rest = &plates[index..];
        let nearest = (0..rest.len()).min_by(|one, other| {
            let far = |plate: usize| {
                let position = layout.map.plates[plate].position;
                (position[0] - at[0]).hypot(position[1] - at[1])
            };
            far(rest[*one]).total_cmp(&far(rest[*other]))
        });
        let chosen = if dice.chance(0.25) { dice.below(rest.len()) } else { nearest.unwrap_or(0) };
        plates.swap(index, index + chosen);
        let position = layout.map.plates[plates[index]].position;
        at = [position[0], position[1]];
    }
}

/// Another product's plate next to this one, on the same side of the unit.
fn neighbour(layout: &Layout, plate: usize) -> Option<usize> {
    let near = &layout.map.plates[plate];
    layout
        .map
        .plates
        .iter()
        .position(|other| {
            let index = other.id.plate.abs_diff(near.id.plate);
            other.id.gondola == near.id.gondola
                && other.id.shelf == near.id.shelf
                && index == 1
                && other.front == near.front
        })
        .filter(|other| layout.home[*other] != layout.home[plate])
}

fn near_plate(layout: &Layout, plate: usize, dice: &mut Dice) -> usize {
    let gondola = layout.map.plates[plate].id.gondola;
    let front = layout.map.plates[plate].front;
    let near: Vec<usize> = (0..layout.map.plates.len())
        .filter(|other| {
            layout.map.plates[*other].id.gondola == gondola && layout.map.plates[*other].front == front
        })
        .collect();
    near.get(dice.below(near.len())).copied().unwrap_or(plate)
}
