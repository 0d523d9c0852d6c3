//! Who changed a plate: what a person's body and hands did about that time, as numbers, and a small network
//! that says how likely that is of the one who did it against those who stood by.
//!
//! The network is fitted by `models/training/who.py` to traces of simulated days; `weights.rs` is what it
//! wrote.

use crate::cart::weights;
use crate::message::{FloorView, Person};
use crate::store::Plate;
use crate::time::{Instant, Millis};
use crate::units::TrackId;

/// How many numbers describe a person at a step.
pub const FEATURES: usize = 24;
/// The step's own time: a hand is there a little before the level moves, and leaves when it has settled.
const BEFORE: Millis = Millis(400);
const AFTER: Millis = Millis(100);
/// The hand goes out and comes back within these times.
const OUT: Millis = Millis(900);
const BACK: Millis = Millis(700);
/// Before that the person comes and looks.
const LOOKS: [Millis; 2] = [Millis(2500), Millis(400)];
const COMES: [Millis; 2] = [Millis(1600), Millis(900)];
/// How tall somebody is shows within this time.
const TALL: Millis = Millis(4000);
/// Half the depth of a plate, and the height above it where a hand holds what stands there, metres.
const PLATE_DEEP: f64 = 0.20;
const GRIP_HEIGHT: f64 = 0.24;
/// The wrist stays some 8 cm in front of what the hand holds.
const WRIST: f64 = 0.08;
/// Error of "the hand is where the item is", metres: key points sit on the wrist.
const GRIP_SD: f64 = 0.12;
/// People who reach into a shelf have their heads about here, metres in front of the plate's middle.
const STANDS: f64 = 0.4;
/// Whoever is farther away than this has not done it, metres, and standard deviations of where they are.
const FAR: (f64, f64) = (1.3, 2.0);

/// A view's person as seen from a plate: metres to the right along its front edge, and out from its middle.
struct Seen<'a> {
    at: Instant,
    person: &'a Person,
    along: f64,
    out: f64,
}

impl Seen<'_> {
    fn speed(&self) -> f64 {
        self.person.velocity[0].hypot(self.person.velocity[1])
    }

    /// From where people stand who reach into this plate.
    fn away(&self) -> f64 {
        self.along.hypot(self.out - STANDS)
    }
}

/// What `track` did about a step of `plate` between `from` and `to`; `None` when they were too far away, or
/// in no view. Views come in order of time; those from four seconds before until a second after are looked
/// at.
pub fn features<'a>(
    plate: &Plate,
    views: impl Iterator<Item = &'a FloorView>,
    track: TrackId,
    from: Instant,
    to: Instant,
) -> Option<[f64; FEATURES]> {
    let (first, last) = (from.before(TALL), to.after(BACK));
    let seen: Vec<Seen> = views
        .filter(|view| view.at >= first && view.at <= last)
        .filter_map(|view| Some((view.at, view.people.iter().find(|person| person.track == track)?)))
        .map(|(at, person)| {
            let (along, out) = from_plate(plate, person.position);
            Seen { at, person, along, out }
        })
        .collect();
    let within =
        |least: Instant, most: Instant| seen.iter().filter(move |seen| seen.at >= least && seen.at <= most);
    let then: Vec<&Seen> = within(from.before(BEFORE), to.after(AFTER)).collect();
    let count = then.len() as f64;
    let nearest = then.iter().min_by(|a, b| {
        let off = |seen: &Seen| seen.along.hypot((seen.out - 0.3).max(0.0));
        off(a).total_cmp(&off(b))
    })?;
    let mean = |value: &dyn Fn(&Seen) -> f64| then.iter().map(|seen| value(seen)).sum::<f64>() / count;
    let sd = mean(&|seen| seen.person.position_sd.min(3.0));
    if nearest.away() > FAR.0 + FAR.1 * (sd - 0.1).max(0.0) {
        return None;
    }
    let tall = seen.iter().map(|seen| seen.person.head).fold(0.0, f64::max);
    let head = then.iter().map(|seen| seen.person.head).fold(f64::INFINITY, f64::min);
    let slowest = then.iter().map(|seen| seen.speed()).fold(f64::INFINITY, f64::min);
    let along = mean(&|seen| seen.along.abs()).min(1.2);

    // The hands at the step.
    let (mut grip, mut grips, mut both, mut elsewhere) = (0.7_f64, 0.0, 0.0, 0.0);
    for seen in &then {
        let offs = seen.person.hands.iter().map(|hand| (off_grip(plate, hand.position), hand.sd));
        let mut most = 0.0_f64;
        let mut least = f64::INFINITY;
        for (off, sd) in offs {
            grip = grip.min(off + 0.5 * sd);
            let variance = GRIP_SD * GRIP_SD + sd * sd;
            most = most.max(GRIP_SD * GRIP_SD / variance * (-0.5 * off * off / variance).exp());
            least = least.min(off - sd);
        }
        grips += most;
        if seen.person.hands.len() >= 2 {
            both += 1.0;
            elsewhere += f64::from(least > 0.2);
        }
    }
    // And on their way there and back.
    let (mut reach, mut arm) = (0.6_f64, 0.0_f64);
    for seen in within(from.before(OUT), to.after(BACK)) {
        for hand in &seen.person.hands {
            let (hand_along, hand_out) = from_plate(plate, [hand.position[0], hand.position[1]]);
            let aside = (hand_along.abs() - plate.width / 2.0).max(0.0);
            let depth = 0.5 * outside(hand_out, -PLATE_DEEP, 0.45);
            let height = outside(hand.position[2] - plate.position[2], -0.1, 0.3);
            reach = reach.min((aside * aside + depth * depth + height * height).sqrt() + 0.5 * hand.sd);
            if hand.sd < 0.2 {
                arm = arm.max((seen.out - hand_out).min(0.7));
            }
        }
    }
    let looks: Vec<&Seen> = within(from.before(LOOKS[0]), from.before(LOOKS[1])).collect();
    let stays = looks.iter().filter(|seen| seen.away() < 0.6 && seen.speed() < 0.4).count();
    let came = middle(within(from.before(COMES[0]), from.before(COMES[1])).map(|seen| seen.out));
    let after = || within(to.after(AFTER), to.after(BACK));
    let near = middle(after().map(Seen::away)).unwrap_or_else(|| nearest.away());
    let speed = mean(&|seen| seen.speed());
    let leaves = middle(after().map(Seen::speed)).unwrap_or(speed);
    Some([
        along,
        along * along,
        nearest.along.abs().min(1.2),
        mean(&|seen| seen.out).clamp(-1.0, 1.5),
        nearest.out.clamp(-1.0, 1.5),
        f64::from(nearest.out < 0.0),
        speed.min(1.0),
        slowest.min(1.0),
        head - 1.45,
        (tall - head).min(0.6),
        grips / count,
        grip,
        elsewhere / count,
        both / count,
        reach,
        arm,
        stays as f64 / looks.len().max(1) as f64,
        came.map_or(0.0, |came| (came - nearest.out).clamp(-0.6, 0.8)),
        near.min(1.5),
        leaves.min(1.0),
        plate.position[2],
        sd.min(1.0),
        f64::from(sd > 0.4),
        (to.since(from).as_seconds()).min(3.0),
    ])
}

/// How likely those numbers are of who did it, against those who did not: log odds, comparable between the
/// people at one step only.
#[must_use]
pub fn log_odds(features: &[f64; FEATURES]) -> f64 {
    let mut sum = weights::LAST_BIAS;
    for ((row, bias), last) in weights::FIRST.iter().zip(weights::FIRST_BIAS).zip(weights::LAST) {
        let inner = features.iter().zip(row).map(|(value, weight)| value * weight).sum::<f64>() + bias;
        sum += last * inner.tanh();
    }
    sum
}

/// Metres along a plate's front edge and out from its middle, on the floor.
fn from_plate(plate: &Plate, at: [f64; 2]) -> (f64, f64) {
    let away = [at[0] - plate.position[0], at[1] - plate.position[1]];
    let out = away[0] * plate.front[0] + away[1] * plate.front[1];
    let along = away[1] * plate.front[0] - away[0] * plate.front[1];
    (along, out)
}

/// How far a hand is from where it holds what stands on `plate`, metres.
fn off_grip(plate: &Plate, hand: [f64; 3]) -> f64 {
    let (along, out) = from_plate(plate, [hand[0], hand[1]]);
    let off = [
        outside(along, -plate.width / 2.0, plate.width / 2.0),
        outside(out, -PLATE_DEEP, PLATE_DEEP + WRIST),
        outside(hand[2] - plate.position[2], -0.05, GRIP_HEIGHT),
    ];
    off.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn outside(value: f64, least: f64, most: f64) -> f64 {
    (least - value).max(value - most).max(0.0)
}

/// The median; `None` of nothing.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
