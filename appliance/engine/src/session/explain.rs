//! What may have moved at a shelf event, and how likely each explanation is: Gaussian masses with heavy
//! tails, a planogram that moves as goods are put back in wrong places, hands near the plate, and what the
//! carts hold.
//!
//! The priors are fitted by eye to the labelled scenario mix of the AutoCheckout cases
//! (field-notes/recognition.md sections 1.1 and 5.5): 88 picks, 80 of them from the home plate, and 27
//! put-backs, 15 of them elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::cart::Step;
use crate::message::CartLine;
use crate::store::StoreMap;
use crate::time::{Instant, Millis};
use crate::units::{MessageId, PlateId, TrackId};

/// A session's number inside the store: sessions in order of entry.
pub(super) type SessionKey = u32;
/// A product's place in the store map's list.
pub(super) type ProductKey = u16;

/// Most of one product that one reach moves; staff restock more.
const COUNT_MAX: i16 = 6;
const RESTOCK_MAX: i16 = 24;
/// Log-prior of taking 1, 2, 3 ... of one product at once.
const COUNT_PRIOR: [f64; 6] = [-0.07, -3.0, -4.4, -5.5, -6.2, -6.9];
/// Log-prior of two different products in one reach, and of a swap (one taken, one put back).
const PAIR_PRIOR: f64 = -4.6;
const SWAP_PRIOR: f64 = -5.0;
/// Log-prior, against one person taking two, of two people taking one each when both have a hand there.
const SHARED_PRIOR: f64 = -1.8;
/// Log-priors of kinds of event.
const PICK_PRIOR: f64 = -0.3;
const PUT_BACK_PRIOR: f64 = -0.5;
const NOTHING_PRIOR: f64 = -1.9;
/// A plate beside a great change feels some of it through the shelf: log-prior, and share of the change.
const ECHO_PRIOR: f64 = -0.5;
const ECHO: f64 = 0.01;
/// A second thing moved beside another at the same time.
const ASIDE_PRIOR: f64 = -2.5;
/// Put back by someone who does not hold it: handed over before, or its pick-up was missed.
const OTHERS_CART_PRIOR: f64 = -4.0;
const NO_CART_PRIOR: f64 = -7.0;
/// Planogram weights: home plate, a plate beside it, the same shelf, anywhere.
const HOME: f64 = 1.0;
const BESIDE: f64 = 0.06;
const SAME_SHELF: f64 = 0.04;
const ANYWHERE: f64 = 0.04;
/// Where things are put back: home plates, the home shelf, anywhere (5 : 6 : 15 of 26 in the labelled cases,
/// which were made to confuse; shoppers at large are tidier).
const BACK_HOME: f64 = 0.35;
const BACK_SHELF: f64 = 0.25;
const BACK_ANYWHERE: f64 = 0.40;
/// Changes this far apart in time say nothing of each other any more; one person reaches again after this
/// at the earliest.
const HABIT: Millis = Millis(4000);
const REACHES_AGAIN: Millis = Millis(1500);
/// Log-priors of one person at two places within that time, and of two people at one. In the truth of
/// fourteen simulated days one of 2,000 and 5 of 200 such pairs; real people may be quicker, and so these
/// are milder.
const TWO_PLACES_PRIOR: f64 = -2.5;
const OTHERS_PLATE_PRIOR: f64 = -2.5;
/// Error of a catalogue mass that its standard deviation does not tell: a share of the mass.
const MASS_ERROR: f64 = 0.004;
/// Score, in nats, of a session with nobody on the floor when others are seen there.
const ABSENT: f64 = -13.0;
/// A track that belongs to no session may be anyone who lost theirs.
const STRANGER: f64 = -2.5;
/// Explanations worse than the best by more than this are dropped, nats.
pub(super) const SPREAD: f64 = 14.0;

/// A part of a shelf event that one explanation covers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub id: MessageId,
    pub from: Instant,
    /// Grams.
    pub delta: f64,
    /// Grams.
    pub sd: f64,
    /// Plates with their share of the change.
    pub plates: Vec<(PlateId, f64)>,
    /// Nats.
    pub near: BTreeMap<TrackId, f64>,
    /// Log-density of how the change is spread over plates and time, given one explanation.
    pub spread: f64,
    /// What this plate may feel of a greater change beside it at the same time, grams.
    pub echo: f64,
    /// Log-prior of a further thing moved at the same time and place as a greater one; 0 for the greatest.
    pub aside: f64,
}

/// One product into a cart (or out of it, when negative); `session` is `None` for what no cart held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Move {
    pub session: Option<SessionKey>,
    pub product: ProductKey,
    pub count: i16,
}

/// What moved: nothing that can be sold when empty.
pub(super) type Explanation = Vec<Move>;

/// What an explanation is judged by, besides the event itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Holdings {
    /// Each session's cart.
    pub carts: BTreeMap<(SessionKey, ProductKey), i16>,
    /// Products known to lie on plates that are not their own.
    pub misplaced: BTreeMap<(PlateId, ProductKey), i16>,
}

/// A session as explanations see it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shopper {
    pub key: SessionKey,
    pub staff: bool,
    pub tracks: Vec<TrackId>,
}

#[derive(Clone, Debug, PartialEq)]
struct Item {
    mass: f64,
    sd: f64,
    home: BTreeSet<PlateId>,
    shelves: BTreeSet<(u16, u16)>,
}

/// The store map, indexed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planogram {
    items: Vec<Item>,
    at: BTreeMap<PlateId, Vec<ProductKey>>,
    on_shelf: BTreeMap<(u16, u16), BTreeSet<ProductKey>>,
    shelf_plates: BTreeMap<(u16, u16), usize>,
    plates: usize,
    faced: usize,
    /// Weight of a thing known to lie on a plate that is not its own, against 1 for what belongs there.
    misplaced: f64,
}

impl Holdings {
    /// Applies `explanation` at `plate`; `sign` -1 takes it back.
    pub(super) fn apply(&mut self, planogram: &Planogram, plate: PlateId, explanation: &[Move], sign: i16) {
        for step in explanation {
            let count = step.count * sign;
            if let Some(session) = step.session {
                add(&mut self.carts, (session, step.product), count);
            }
            if !planogram.items[usize::from(step.product)].home.contains(&plate) {
                add(&mut self.misplaced, (plate, step.product), -count);
            }
        }
    }

    pub(super) fn cart(&self, session: SessionKey) -> impl Iterator<Item = (ProductKey, i16)> {
        let range = (session, ProductKey::MIN)..=(session, ProductKey::MAX);
        self.carts.range(range).map(|((_, product), count)| (*product, *count))
    }

    /// Log-score of an explanation that a person gave: what no cart holds cannot well be put back from it.
    pub(super) fn allow(&self, explanation: &[Move]) -> f64 {
        let impossible = explanation.iter().any(|step| {
            step.session.is_some_and(|session| self.in_cart(session, step.product) + step.count < 0)
        });
        if impossible { NO_CART_PRIOR } else { 0.0 }
    }

    fn in_cart(&self, session: SessionKey, product: ProductKey) -> i16 {
        self.carts.get(&(session, product)).copied().unwrap_or(0)
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, i16>, key: K, count: i16) {
    let entry = counts.entry(key);
    let value = entry.or_insert(0);
    *value = value.saturating_add(count);
    if *value == 0 {
        counts.retain(|_, value| *value != 0);
    }
}

impl Planogram {
    pub(super) fn new(map: &StoreMap, misplaced: f64) -> Self {
        let mut keys = BTreeMap::new();
        let mut items: Vec<Item> = Vec::new();
        for (key, product) in (0..ProductKey::MAX).zip(&map.products) {
            keys.insert(&product.id, key);
            let mass = product.mass.grams();
            let sd = product.mass_sd.grams().hypot(MASS_ERROR * mass).max(0.3);
            items.push(Item { mass, sd, home: BTreeSet::new(), shelves: BTreeSet::new() });
        }
        let mut at: BTreeMap<PlateId, Vec<ProductKey>> = BTreeMap::new();
        let mut on_shelf: BTreeMap<(u16, u16), BTreeSet<ProductKey>> = BTreeMap::new();
        for facing in &map.facings {
            let Some(key) = keys.get(&facing.product).copied() else { continue };
            let item = &mut items[usize::from(key)];
            for plate in &facing.plates {
                let shelf = (plate.gondola, plate.shelf);
                if item.home.insert(*plate) {
                    at.entry(*plate).or_default().push(key);
                }
                item.shelves.insert(shelf);
                on_shelf.entry(shelf).or_default().insert(key);
            }
        }
        let mut shelf_plates: BTreeMap<(u16, u16), usize> = BTreeMap::new();
        for plate in &map.plates {
            *shelf_plates.entry((plate.id.gondola, plate.id.shelf)).or_default() += 1;
        }
        let faced = items.iter().filter(|item| !item.home.is_empty()).count().max(1);
        let misplaced = if misplaced.is_finite() { misplaced.max(0.0) } else { 0.0 };
        Self { items, at, on_shelf, shelf_plates, plates: map.plates.len().max(1), faced, misplaced }
    }

    pub(super) fn is_home(&self, product: ProductKey, plate: PlateId) -> bool {
        self.items.get(usize::from(product)).is_some_and(|item| item.home.contains(&plate))
    }

    /// Log-probability that what is taken at `change` is `product`.
    fn belief(&self, change: &Change, holdings: &Holdings, product: ProductKey) -> f64 {
        let item = &self.items[usize::from(product)];
        let mut total = 0.0;
        for (plate, share) in &change.plates {
            let mut weight = if item.home.is_empty() { 0.1 } else { 1.0 } * ANYWHERE / self.faced as f64;
            let mut sum = ANYWHERE + HOME;
            if item.home.contains(plate) {
                weight += HOME / self.at.get(plate).map_or(1, Vec::len) as f64;
            } else if beside(*plate).iter().any(|next| item.home.contains(next)) {
                weight += BESIDE / 2.0;
            }
            let shelf = (plate.gondola, plate.shelf);
            if item.shelves.contains(&shelf) {
                weight += SAME_SHELF / self.on_shelf.get(&shelf).map_or(1, BTreeSet::len) as f64;
            }
            let here = (*plate, ProductKey::MIN)..=(*plate, ProductKey::MAX);
            for ((_, other), count) in holdings.misplaced.range(here) {
                let lies = self.misplaced * f64::from((*count).clamp(0, 3));
                sum += lies;
                if *other == product {
                    weight += lies;
                }
            }
            total += share * weight / sum;
        }
        total.max(1e-12).ln()
    }

    /// Log-probability that `product` is put back at `change`, relative to a plate drawn by chance.
    fn back(&self, change: &Change, product: ProductKey) -> f64 {
        let item = &self.items[usize::from(product)];
        let mut total = 0.0;
        for (plate, share) in &change.plates {
            let mut chance = BACK_ANYWHERE / self.plates as f64;
            if item.home.contains(plate) {
                chance += BACK_HOME / item.home.len() as f64;
            }
            let shelf = (plate.gondola, plate.shelf);
            if item.shelves.contains(&shelf) {
                chance += BACK_SHELF / self.shelf_plates.get(&shelf).copied().unwrap_or(1).max(1) as f64;
            }
            total += share * chance;
        }
        (total * self.plates as f64).ln().min(2.5)
    }

    /// Log-density of the weight change if `items` (signed, into the cart) moved.
    fn weight(&self, change: &Change, items: &[(ProductKey, i16)]) -> f64 {
        let mut expected = 0.0;
        let mut variance = change.sd * change.sd + 0.25;
        let mut moved = 0.0;
        for (product, count) in items {
            let item = &self.items[usize::from(*product)];
            let count = f64::from(*count);
            expected -= count * item.mass;
            variance += count.abs() * item.sd * item.sd;
            moved += count.abs() * item.mass;
        }
        let off = change.delta - expected;
        let sd = variance.sqrt();
        let density = 0.955 * normal(off, sd)
            + 0.04 * normal(off, 3.0 * sd + 2.0)
            + 0.005 * normal(off, 0.12 * moved + 3.0 * sd);
        density.max(1e-30).ln()
    }

    /// Log-density of the change if nothing for sale moved: drift, a bump, things of the shoppers' own.
    fn nothing(change: &Change) -> f64 {
        let width = 3.0 + change.sd + change.echo;
        let small = 0.75 * (-change.delta.abs() / width).exp() / (2.0 * width);
        let prior = if change.echo > 1.0 { ECHO_PRIOR } else { NOTHING_PRIOR };
        prior + (small + 0.25 / 4000.0).ln() + change.spread
    }
}

/// One event's possible explanations: what the weight allows, whoever did it.
#[derive(Debug)]
pub(super) struct Candidates {
    picks: Vec<(ProductKey, i16)>,
    pairs: Vec<[(ProductKey, i16); 2]>,
    backs: Vec<(ProductKey, i16)>,
    swaps: Vec<[(ProductKey, i16); 2]>,
    who: Vec<(SessionKey, bool, f64)>,
}

impl Candidates {
    /// `held` are products in any cart of any state, `lying` those that may lie misplaced on the event's
    /// plates.
    pub(super) fn new(
        planogram: &Planogram,
        change: &Change,
        shoppers: &[Shopper],
        held: &BTreeSet<ProductKey>,
        lying: &BTreeSet<ProductKey>,
    ) -> Self {
        let mut local: BTreeSet<ProductKey> = lying.clone();
        for (plate, _) in &change.plates {
            for near in beside(*plate).iter().chain([plate]) {
                local.extend(planogram.at.get(near).into_iter().flatten());
            }
        }
        let staff = shoppers.iter().any(|shopper| shopper.staff);
        let fits = |items: &[(ProductKey, i16)]| {
            let (mut expected, mut variance) = (0.0, change.sd * change.sd + 0.25);
            for (product, count) in items {
                let item = &planogram.items[usize::from(*product)];
                expected -= f64::from(*count) * item.mass;
                variance += f64::from(count.abs()) * item.sd * item.sd;
            }
            (change.delta - expected).abs() <= 6.0 * variance.sqrt() + 4.0
        };
        let mut out = Self {
            picks: Vec::new(),
            pairs: Vec::new(),
            backs: Vec::new(),
            swaps: Vec::new(),
            who: Vec::new(),
        };
        let sign = if change.delta < 0.0 { 1 } else { -1 };
        for (key, item) in (0..ProductKey::MAX).zip(&planogram.items) {
            let home = local.contains(&key);
            if item.home.is_empty() && !held.contains(&key) && !home {
                continue;
            }
            let likeliest =
                (change.delta.abs() / item.mass.max(0.1)).round().clamp(1.0, f64::from(COUNT_MAX)) as i16;
            let most = if staff && home { RESTOCK_MAX } else { COUNT_MAX };
            for count in 1..=most {
                let one = [(key, count * sign)];
                // A catalogue mass may be wrong, so the product that belongs here always has a say.
                if fits(&one) || (home && count == likeliest) {
                    if sign > 0 { out.picks.push(one[0]) } else { out.backs.push(one[0]) }
                }
            }
        }
        let reach: BTreeSet<ProductKey> = local.iter().chain(held).copied().collect();
        for a in &reach {
            for b in reach.range(a..).skip(1) {
                for (n, m) in [(1, 1), (1, 2), (2, 1)] {
                    let two = [(*a, n * sign), (*b, m * sign)];
                    if fits(&two) {
                        out.pairs.push(two);
                    }
                }
            }
        }
        for a in &local {
            for b in held.iter().filter(|b| *b != a) {
                let swap = [(*a, 1), (*b, -1)];
                if fits(&swap) {
                    out.swaps.push(swap);
                }
            }
        }
        out.who = who(change, shoppers);
        out
    }

    /// Explanations and their log-scores, given what the carts and shelves hold.
    pub(super) fn score(
        &self,
        planogram: &Planogram,
        change: &Change,
        holdings: &Holdings,
    ) -> Vec<(Explanation, f64)> {
        let mut out = vec![(Vec::new(), Planogram::nothing(change))];
        let base = change.spread + change.aside;
        let single = |key: SessionKey, items: &[(ProductKey, i16)]| -> Explanation {
            items
                .iter()
                .map(|(product, count)| Move { session: Some(key), product: *product, count: *count })
                .collect()
        };
        for pick in &self.picks {
            let (product, count) = *pick;
            let weight = planogram.weight(change, &[*pick]) + planogram.belief(change, holdings, product);
            let prior = base + PICK_PRIOR + count_prior(count);
            for (key, _, near) in &self.who {
                out.push((single(*key, &[*pick]), weight + prior + near));
            }
            if count == 2 {
                for (index, (a, _, near_a)) in self.who.iter().enumerate() {
                    for (b, _, near_b) in &self.who[index + 1..] {
                        let both = vec![
                            Move { session: Some(*a), product, count: 1 },
                            Move { session: Some(*b), product, count: 1 },
                        ];
                        out.push((both, weight + base + PICK_PRIOR + SHARED_PRIOR + near_a + near_b));
                    }
                }
            }
        }
        for pair in self.pairs.iter().filter(|pair| pair[0].1 > 0) {
            let belief =
                pair.iter().map(|(product, _)| planogram.belief(change, holdings, *product)).sum::<f64>();
            let many = if pair.iter().any(|(_, count)| *count > 1) { -2.5 } else { 0.0 };
            let score = planogram.weight(change, pair) + belief + base + PICK_PRIOR + PAIR_PRIOR + many;
            for (key, _, near) in &self.who {
                out.push((single(*key, pair), score + near));
            }
        }
        for back in &self.backs {
            self.put_back(planogram, change, holdings, *back, &mut out);
        }
        for pair in self.pairs.iter().filter(|pair| pair[0].1 < 0) {
            let weight = planogram.weight(change, pair) + base + PUT_BACK_PRIOR + PAIR_PRIOR;
            let place = pair.iter().map(|(product, _)| planogram.back(change, *product)).sum::<f64>() / 2.0;
            for (key, _, near) in &self.who {
                if pair.iter().all(|(product, count)| holdings.in_cart(*key, *product) + count >= 0) {
                    out.push((single(*key, pair), weight + place + near));
                }
            }
        }
        for swap in &self.swaps {
            let [taken, put] = *swap;
            let score = planogram.weight(change, swap)
                + planogram.belief(change, holdings, taken.0)
                + planogram.back(change, put.0)
                + base
                + SWAP_PRIOR;
            for (key, _, near) in &self.who {
                if holdings.in_cart(*key, put.0) > 0 {
                    out.push((single(*key, swap), score + near));
                }
            }
        }
        let best = out.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
        out.retain(|(_, score)| *score >= best - SPREAD);
        out.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        out.dedup_by(|later, earlier| later.0 == earlier.0);
        out
    }

    fn put_back(
        &self,
        planogram: &Planogram,
        change: &Change,
        holdings: &Holdings,
        back: (ProductKey, i16),
        out: &mut Vec<(Explanation, f64)>,
    ) {
        let (product, count) = back;
        let place = planogram.back(change, product);
        let weight = planogram.weight(change, &[back]) + change.spread + change.aside;
        let best_near = self.who.iter().map(|(_, _, near)| *near).fold(f64::NEG_INFINITY, f64::max);
        let mut held = false;
        for (key, staff, near) in &self.who {
            let step = |session| vec![Move { session, product, count }];
            if *staff {
                // Restocking: any number of what belongs here.
                out.push((step(None), weight + place + near - 2.0));
                continue;
            }
            if holdings.in_cart(*key, product) + count < 0 {
                continue;
            }
            held = true;
            let kinds = holdings.cart(*key).filter(|(_, count)| *count > 0).count().max(1) as f64;
            let near = near.max(best_near + OTHERS_CART_PRIOR);
            let score = weight + place + PUT_BACK_PRIOR + count_prior(-count) - kinds.ln() + near;
            out.push((step(Some(*key)), score));
        }
        if !held && change.plates.iter().any(|(plate, _)| planogram.is_home(product, *plate)) {
            let score = weight + place + count_prior(-count) + best_near + NO_CART_PRIOR;
            out.push((vec![Move { session: None, product, count }], score));
        }
    }
}

/// Log-prior of two explanations of changes within a few seconds of each other: one person's next reach is
/// at the same place or takes its time, and what is taken from one plate again and again is taken by one.
/// `alone` are the sessions of one person.
pub(super) fn habit(
    first: &Change,
    firsts: &[Move],
    second: &Change,
    seconds: &[Move],
    alone: &BTreeSet<SessionKey>,
) -> f64 {
    let apart = first.from.since(second.from).max(second.from.since(first.from));
    let (Some((here, _)), Some((there, _))) = (first.plates.first(), second.plates.first()) else {
        return 0.0;
    };
    if apart > HABIT || firsts.is_empty() || seconds.is_empty() {
        return 0.0;
    }
    let sessions = |moves: &[Move]| moves.iter().filter_map(|step| step.session).collect::<BTreeSet<_>>();
    let (firsts, seconds) = (sessions(firsts), sessions(seconds));
    if here == there {
        let other = !firsts.is_empty() && !seconds.is_empty() && firsts.is_disjoint(&seconds);
        return if other && apart > REACHES_AGAIN { OTHERS_PLATE_PRIOR } else { 0.0 };
    }
    let neighbours = first.plates.iter().any(|(plate, _)| {
        second.plates.iter().any(|(other, _)| other == plate || beside(*plate).contains(other))
    });
    let busy = firsts.intersection(&seconds).any(|key| alone.contains(key));
    if busy && !neighbours { TWO_PLACES_PRIOR } else { 0.0 }
}

/// Each session's log-likelihood of having been at the event.
fn who(change: &Change, shoppers: &[Shopper]) -> Vec<(SessionKey, bool, f64)> {
    let known: BTreeSet<TrackId> =
        shoppers.iter().flat_map(|shopper| shopper.tracks.iter().copied()).collect();
    let stranger = change.near.iter().filter(|(track, _)| !known.contains(track)).map(|(_, near)| *near);
    let stranger = stranger.fold(f64::NEG_INFINITY, f64::max);
    let crowd = (shoppers.len().max(1) as f64).ln();
    let mut who: Vec<(SessionKey, bool, f64)> = shoppers
        .iter()
        .map(|shopper| {
            let seen = shopper.tracks.iter().filter_map(|track| change.near.get(track)).copied();
            let own = seen.fold(f64::NEG_INFINITY, f64::max);
            let near = if change.near.is_empty() {
                // No floor view at all: anyone.
                -2.0 - crowd
            } else {
                own.max(stranger + STRANGER - crowd).max(ABSENT)
            };
            (shopper.key, shopper.staff, near)
        })
        .collect();
    let best = who.iter().map(|(_, _, near)| *near).fold(f64::NEG_INFINITY, f64::max);
    who.retain(|(_, _, near)| *near >= best - SPREAD);
    who
}

fn count_prior(count: i16) -> f64 {
    let index = usize::from(count.unsigned_abs()).saturating_sub(1);
    COUNT_PRIOR.get(index).copied().unwrap_or(-8.0)
}

fn normal(off: f64, sd: f64) -> f64 {
    (-0.5 * (off / sd).powi(2)).exp() / (sd * (2.0 * std::f64::consts::PI).sqrt())
}

fn beside(plate: PlateId) -> Vec<PlateId> {
    let mut out = vec![PlateId { plate: plate.plate.saturating_add(1), ..plate }];
    if plate.plate > 0 {
        out.push(PlateId { plate: plate.plate - 1, ..plate });
    }
    out
}

/// Steps up to this many are parted in every possible way; more only between neighbours in the list.
const PARTED_MAX: usize = 5;

/// Parts a shelf event's steps into changes that one explanation each may cover: every way to do so.
pub(super) fn partitions(id: &MessageId, steps: &[Step]) -> Vec<Vec<Change>> {
    let mut parted: Vec<Vec<Vec<&Step>>> = vec![Vec::new()];
    for (index, step) in steps.iter().enumerate() {
        let mut next = Vec::new();
        for runs in parted {
            let joinable = if index < PARTED_MAX { 0 } else { runs.len().saturating_sub(1) };
            for run in joinable..runs.len() {
                let mut joined = runs.clone();
                joined[run].push(step);
                next.push(joined);
            }
            let mut alone = runs;
            alone.push(vec![step]);
            next.push(alone);
        }
        parted = next;
    }
    let named = |runs: &Vec<Vec<&Step>>| {
        let name =
            |index: usize| if runs.len() == 1 { id.clone() } else { MessageId(format!("{id}.{index}")) };
        runs.iter().enumerate().map(|(index, run)| change(name(index), run, steps)).collect()
    };
    parted.iter().map(named).collect()
}

fn change(id: MessageId, run: &[&Step], all: &[Step]) -> Change {
    let delta = run.iter().map(|step| step.delta.grams()).sum::<f64>();
    let variance = run.iter().map(|step| step.sd.grams().powi(2)).sum::<f64>();
    let size = run.iter().map(|step| step.delta.grams().abs()).sum::<f64>().max(0.1);
    let mut plates: BTreeMap<PlateId, f64> = BTreeMap::new();
    let mut near: BTreeMap<TrackId, f64> = BTreeMap::new();
    for step in run {
        let share = step.delta.grams().abs() / size;
        *plates.entry(step.plate).or_default() += share;
    }
    let tracks: BTreeSet<TrackId> =
        run.iter().flat_map(|step| step.near.iter().map(|near| near.track)).collect();
    for track in tracks {
        let score: f64 = run
            .iter()
            .map(|step| {
                let found = step.near.iter().find(|near| near.track == track);
                let score = found.map_or(ABSENT, |near| f64::from(near.score) / 100.0);
                score * step.delta.grams().abs() / size
            })
            .sum();
        near.insert(track, score);
    }
    // One explanation of several steps says nothing of how it is spread over them: uniform over the change.
    let joints = (run.len() - 1) as f64;
    let mut plates: Vec<(PlateId, f64)> = plates.into_iter().collect();
    plates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let again = run.len() - plates.len();
    let spread = -joints * size.max(30.0).ln() - again as f64 * 1.5 - (plates.len() - 1) as f64 * 0.5;
    let from = run.iter().map(|step| step.from).min().unwrap_or_default();
    let others = all.iter().filter(|other| run.iter().all(|step| step.plate != other.plate));
    let echo = ECHO * others.map(|other| other.delta.grams().abs()).fold(0.0, f64::max);
    let greatest =
        |steps: &mut dyn Iterator<Item = &Step>| steps.map(|step| step.delta.0.abs()).max().unwrap_or(0);
    let is_greatest = greatest(&mut run.iter().copied()) >= greatest(&mut all.iter());
    let aside = if is_greatest { 0.0 } else { ASIDE_PRIOR };
    Change { id, from, delta, sd: variance.sqrt(), plates, near, spread, echo, aside }
}

/// A cart as lines, in order of product; counts of zero and less are no lines.
pub(super) fn lines(map: &StoreMap, cart: impl Iterator<Item = (ProductKey, i16)>) -> Vec<CartLine> {
    cart.filter(|(_, count)| *count > 0)
        .filter_map(|(product, count)| {
            let product = map.products.get(usize::from(product))?.id.clone();
            let quantity = u32::from(count.unsigned_abs());
            Some(CartLine { product, quantity, confidence: 1.0, evidence: Vec::new() })
        })
        .collect()
}
