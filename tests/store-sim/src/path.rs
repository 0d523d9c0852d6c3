//! Ways around the shelf units: A* on a fine grid, then pulled straight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use engine::store::StoreMap;

use crate::layout::MOUTH_Y;

/// Cell edge, metres.
const CELL: f64 = 0.1;
/// Least distance from a shopper's middle to a shelf unit or wall, metres: half a slim pair of shoulders.
pub const CLEARANCE: f64 = 0.26;
/// Cost of a straight step; a diagonal one costs 14. Integers keep the order of expansion exact.
const STRAIGHT: u32 = 10;
const DIAGONAL: u32 = 14;
/// Added cost of a cell within reach of a standing person.
const CROWDED: u32 = 40;
/// Persons push ways aside within this distance, metres.
const CROWD_RADIUS: f64 = 0.45;

/// What a shopper's middle can and cannot stand on, inside the fence.
#[derive(Clone, Debug)]
pub struct Grid {
    origin: [f64; 2],
    columns: usize,
    rows: usize,
    blocked: Vec<bool>,
}

impl Grid {
    /// The free floor of a store.
    #[must_use]
    pub fn new(map: &StoreMap) -> Self {
        let [left, near, right, far] = map.bounds;
        let columns = ((right - left) / CELL).ceil() as usize;
        let rows = ((far - near) / CELL).ceil() as usize;
        let mut grid = Self { origin: [left, near], columns, rows, blocked: vec![false; columns * rows] };
        for cell in 0..grid.blocked.len() {
            let [x, y] = grid.centre(cell);
            let walled =
                x < left + CLEARANCE || x > right - CLEARANCE || y > far - CLEARANCE || y < MOUTH_Y - 0.15;
            let shelved =
                map.gondolas.iter().any(|gondola| distance_to_box([x, y], gondola.footprint) < CLEARANCE);
            grid.blocked[cell] = walled || shelved;
        }
        grid
    }

    /// Whether a shopper can stand there.
    #[must_use]
    pub fn free(&self, at: [f64; 2]) -> bool {
        self.cell(at).is_some_and(|cell| !self.blocked[cell])
    }

    /// The way from one place to another, without its start; empty when there is none. `crowd` are places of
    /// people who will not move soon.
    #[must_use]
    pub fn way(&self, from: [f64; 2], to: [f64; 2], crowd: &[[f64; 2]]) -> Vec<[f64; 2]> {
        let (Some(start), Some(goal)) = (self.nearest_free(from), self.nearest_free(to)) else {
            return Vec::new();
        };
        let mut extra = vec![0_u32; self.blocked.len()];
        for person in crowd {
            let reach = (CROWD_RADIUS / CELL) as isize + 1;
            let (column, row) = self.place(*person);
            for near_row in row - reach..=row + reach {
                for near_column in column - reach..=column + reach {
                    if let Some(cell) = self.index(near_column, near_row)
                        && distance(self.centre(cell), *person) < CROWD_RADIUS
                    {
                        extra[cell] += CROWDED;
                    }
                }
            }
        }
        let Some(cells) = self.search(start, goal, &extra) else { return Vec::new() };
        let mut way: Vec<[f64; 2]> = Vec::new();
        let mut anchor = from;
        for pair in cells.windows(2) {
            // Keep a corner only where the straight line from the last one would hit a shelf or person.
            if !self.clear(anchor, self.centre(pair[1]), &extra) {
                anchor = self.centre(pair[0]);
                way.push(anchor);
            }
        }
        way.push(if self.free(to) { to } else { self.centre(goal) });
        way
    }

    /// Moves a point out of walls and shelf units, to the nearest free cell if it is inside one.
    #[must_use]
    pub fn pushed_free(&self, at: [f64; 2]) -> [f64; 2] {
        if self.free(at) {
            return at;
        }
        self.nearest_free(at).map_or(at, |cell| {
            let [x, y] = self.centre(cell);
            let clamp = |value: f64, middle: f64| value.clamp(middle - CELL * 0.49, middle + CELL * 0.49);
            [clamp(at[0], x), clamp(at[1], y)]
        })
    }

    fn search(&self, start: usize, goal: usize, extra: &[u32]) -> Option<Vec<usize>> {
        let mut cost = vec![u32::MAX; self.blocked.len()];
        let mut parent = vec![usize::MAX; self.blocked.len()];
        let mut open = BinaryHeap::new();
        cost[start] = 0;
        open.push(Reverse((self.estimate(start, goal), start)));
        while let Some(Reverse((_, cell))) = open.pop() {
            if cell == goal {
                let mut cells = vec![goal];
                let mut last = goal;
                while last != start {
                    last = parent[last];
                    cells.push(last);
                }
                cells.reverse();
                return Some(cells);
            }
            let (column, row) = ((cell % self.columns) as isize, (cell / self.columns) as isize);
            for (right, up) in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)] {
                let Some(next) = self.index(column + right, row + up) else { continue };
                if self.blocked[next] {
                    continue;
                }
                let step = if right != 0 && up != 0 { DIAGONAL } else { STRAIGHT };
                let total = cost[cell] + step + extra[next];
                if total < cost[next] {
                    cost[next] = total;
                    parent[next] = cell;
                    open.push(Reverse((total + self.estimate(next, goal), next)));
                }
            }
        }
        None
    }

    fn estimate(&self, from: usize, to: usize) -> u32 {
        let across = (from % self.columns).abs_diff(to % self.columns) as u32;
        let along = (from / self.columns).abs_diff(to / self.columns) as u32;
        STRAIGHT * (across.max(along)) + (DIAGONAL - STRAIGHT) * across.min(along)
    }

    fn clear(&self, from: [f64; 2], to: [f64; 2], extra: &[u32]) -> bool {
        let steps = (distance(from, to) / (CELL * 0.5)).ceil() as usize;
        (0..=steps).all(|step| {
            let part = if steps == 0 { 0.0 } else { step as f64 / steps as f64 };
            let at = [from[0] + (to[0] - from[0]) * part, from[1] + (to[1] - from[1]) * part];
            // The start may be a bit inside a blocked cell.
            step == 0 || self.cell(at).is_some_and(|cell| !self.blocked[cell] && extra[cell] == 0)
        })
    }

    fn nearest_free(&self, at: [f64; 2]) -> Option<usize> {
        if let Some(cell) = self.cell(at)
            && !self.blocked[cell]
        {
            return Some(cell);
        }
        let (column, row) = self.place(at);
        for ring in 1..30_isize {
            let mut best: Option<(f64, usize)> = None;
            for up in -ring..=ring {
                for right in -ring..=ring {
                    if up.abs().max(right.abs()) != ring {
                        continue;
                    }
                    let Some(cell) = self.index(column + right, row + up) else { continue };
                    let away = distance(self.centre(cell), at);
                    if !self.blocked[cell] && best.is_none_or(|(least, _)| away < least) {
                        best = Some((away, cell));
                    }
                }
            }
            if let Some((_, cell)) = best {
                return Some(cell);
            }
        }
        None
    }

    fn place(&self, at: [f64; 2]) -> (isize, isize) {
        let along = |axis: usize| ((at[axis] - self.origin[axis]) / CELL).floor() as isize;
        (along(0), along(1))
    }

    fn cell(&self, at: [f64; 2]) -> Option<usize> {
        let (column, row) = self.place(at);
        self.index(column, row)
    }

    fn index(&self, column: isize, row: isize) -> Option<usize> {
        let (column, row) = (usize::try_from(column).ok()?, usize::try_from(row).ok()?);
        (column < self.columns && row < self.rows).then_some(row * self.columns + column)
    }

    fn centre(&self, cell: usize) -> [f64; 2] {
        [
            self.origin[0] + ((cell % self.columns) as f64 + 0.5) * CELL,
            self.origin[1] + ((cell / self.columns) as f64 + 0.5) * CELL,
        ]
    }
}

/// Metres between two places.
#[must_use]
pub fn distance(one: [f64; 2], other: [f64; 2]) -> f64 {
    (one[0] - other[0]).hypot(one[1] - other[1])
}

/// Metres from a place to a box given as least x, least y, greatest x, greatest y; 0 inside.
fn distance_to_box(at: [f64; 2], bounds: [f64; 4]) -> f64 {
    let gap = |axis: usize| (bounds[axis] - at[axis]).max(at[axis] - bounds[axis + 2]).max(0.0);
    gap(0).hypot(gap(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    #[test]
    fn every_plate_can_be_walked_to() {
        for seed in 0..10 {
            let layout = Layout::new(seed);
            let grid = Grid::new(&layout.map);
            for plate in &layout.map.plates {
                let stop = [0, 1].map(|axis| plate.position[axis] + plate.front[axis] * 0.6);
                assert!(grid.free(stop), "seed {seed}: no place in front of {}", plate.id);
                let way = grid.way([2.0, 1.75], stop, &[]);
                assert_eq!(way.last(), Some(&stop), "seed {seed}: {}", plate.id);
                let mut last = [2.0, 1.75];
                for corner in way {
                    for step in 1..=20 {
                        let part = f64::from(step) / 20.0;
                        let at = [0, 1].map(|axis| last[axis] + (corner[axis] - last[axis]) * part);
                        let hit = layout
                            .map
                            .gondolas
                            .iter()
                            .any(|gondola| distance_to_box(at, gondola.footprint) < CLEARANCE - 0.1);
                        assert!(!hit, "seed {seed}: the way to {} runs through a shelf", plate.id);
                    }
                    last = corner;
                }
            }
        }
    }

    #[test]
    fn people_in_the_way_are_walked_around() {
        let grid = Grid::new(&Layout::new(1).map);
        let way = grid.way([1.0, 1.9], [9.0, 1.9], &[[5.0, 1.9]]);
        assert!(way.len() > 1, "{way:?}");
    }
}
