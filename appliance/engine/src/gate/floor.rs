//! From the floor tracker's views to crossings of one lane's passage line.

use std::collections::BTreeMap;

use super::Crossing;
use crate::message::{Direction, FloorView};
use crate::store::Lane;
use crate::time::{Instant, Millis};
use crate::units::TrackId;

/// People this far to either side of the lane's middle go through it, metres; lanes are 0.6 to 0.9 m wide.
const HALF_WIDTH: f64 = 0.7;
/// Beyond this distance from the line nobody is looked at, metres.
const REACH: f64 = 2.5;
/// Who is this near to the line has not yet gone to the other side of it, metres: tracks tremble.
const MARGIN: f64 = 0.15;
/// A track not seen for so long is forgotten.
const FORGOTTEN: Millis = Millis(2_000);

/// A lane's passage line and on which side of it people are.
#[derive(Clone, Debug)]
pub struct Line {
    position: [f64; 2],
    inward: [f64; 2],
    sides: BTreeMap<TrackId, (Instant, Side)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Street,
    Store,
}

impl Line {
    /// The line of a lane of the store map.
    #[must_use]
    pub fn new(lane: &Lane) -> Self {
        Self { position: lane.position, inward: lane.inward, sides: BTreeMap::new() }
    }

    /// Takes one view; appends who has crossed since the one before.
    pub fn view(&mut self, view: &FloorView, out: &mut Vec<Crossing>) {
        for person in &view.people {
            let from = [person.position[0] - self.position[0], person.position[1] - self.position[1]];
            let depth = from[0] * self.inward[0] + from[1] * self.inward[1];
            let aside = (from[0] * self.inward[1] - from[1] * self.inward[0]).abs();
            let near = aside <= HALF_WIDTH && depth.abs() <= REACH;
            let side = match depth {
                _ if !near => None,
                depth if depth >= MARGIN => Some(Side::Store),
                depth if depth <= -MARGIN => Some(Side::Street),
                _ => self.sides.get(&person.track).map(|(_, side)| *side),
            };
            let Some(side) = side else {
                self.sides.remove(&person.track);
                continue;
            };
            let direction = match (self.sides.insert(person.track, (view.at, side)), side) {
                (Some((_, Side::Street)), Side::Store) => Direction::Entry,
                (Some((_, Side::Store)), Side::Street) => Direction::Exit,
                (None, _)
                | (Some((_, Side::Street)), Side::Street)
                | (Some((_, Side::Store)), Side::Store) => {
                    continue;
                }
            };
            out.push(Crossing { at: view.at, direction, track: person.track });
        }
        self.sides.retain(|_, (seen, _)| view.at.since(*seen) < FORGOTTEN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Person;
    use crate::units::LaneId;

    fn lane() -> Lane {
        let id = LaneId::from("entry-1");
        Lane { id, position: [2.0, 1.0], inward: [0.0, 1.0], entry: true, exit: true }
    }

    fn walk(line: &mut Line, track: u64, path: &[[f64; 2]]) -> Vec<Crossing> {
        let mut out = Vec::new();
        for (tick, position) in path.iter().enumerate() {
            let person = Person {
                track: TrackId(track),
                position: *position,
                position_sd: 0.05,
                velocity: [0.0, 0.0],
                head: 1.7,
                hands: Vec::new(),
                tangled: Vec::new(),
            };
            let at = Instant(1_000 + 100 * tick as u64);
            line.view(&FloorView { at, people: vec![person], cameras: Vec::new() }, &mut out);
        }
        out
    }

    #[test]
    fn who_walks_through_has_crossed_once() {
        let mut line = Line::new(&lane());
        let inward = walk(&mut line, 7, &[[2.0, 0.2], [2.1, 0.7], [2.0, 0.95], [2.0, 1.05], [2.0, 1.4]]);
        assert_eq!(inward, [Crossing { at: Instant(1_400), direction: Direction::Entry, track: TrackId(7) }]);
        let outward = walk(&mut line, 7, &[[2.0, 1.4], [2.0, 0.6]]);
        assert_eq!(outward.len(), 1);
        assert_eq!(outward[0].direction, Direction::Exit);
    }

    #[test]
    fn who_trembles_on_the_line_or_walks_past_has_not() {
        let mut line = Line::new(&lane());
        assert_eq!(walk(&mut line, 1, &[[2.0, 0.7], [2.0, 1.1], [2.0, 0.9], [2.0, 1.14], [2.0, 0.8]]), []);
        assert_eq!(walk(&mut line, 2, &[[3.5, 0.2], [3.5, 1.8]]), [], "through the next lane");
        assert_eq!(walk(&mut line, 3, &[[2.0, 1.5], [2.0, 1.8]]), [], "found behind the line");
    }
}
