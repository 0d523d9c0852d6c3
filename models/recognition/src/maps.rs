//! Reads the network's ten maps. models/training/people.py does the same in Python and says what each map holds; the
//! golden test keeps the two alike.

use crate::{Detection, HandDetection};

/// Pixels a cell, each way.
const CELL: usize = 4;
/// Cells of a row.
pub const COLUMNS: usize = crate::picture::WIDTH / CELL;
/// Rows of cells.
pub const ROWS: usize = crate::picture::HEIGHT / CELL;
/// Maps.
pub const MAPS: usize = 10;

/// More heads than this in one picture are not people in a shop.
const HEADS_MAX: usize = 32;
const HANDS_MAX: usize = 64;
/// Two heads nearer than this (pixels) are one, found twice.
const HEAD_APART: f32 = 5.0;
const HAND_APART: f32 = 4.0;
/// A hand belongs to the head that its vector points at, when it misses by less than this: pixels, and a share of the
/// vector's length.
const REACH_SLACK: f32 = 14.0;
const REACH_SHARE: f32 = 0.3;

struct Peak {
    at: [f32; 2],
    score: f32,
    cell: usize,
}

/// People, surest first, in pixels of the network's picture. `maps` holds `MAPS` x `ROWS` x `COLUMNS` values.
pub fn read(maps: &[f32], head_least: f32, hand_least: f32) -> Vec<Detection> {
    let map = |index: usize| &maps[index * ROWS * COLUMNS..(index + 1) * ROWS * COLUMNS];
    let vector = |index: usize, cell: usize| [map(index)[cell], map(index + 1)[cell]];
    let mut people: Vec<Detection> = peaks(map(0), [map(2), map(3)], head_least, HEADS_MAX, HEAD_APART)
        .into_iter()
        .map(|peak| {
            let foot = plus(peak.at, vector(6, peak.cell));
            Detection { head: peak.at, foot, score: peak.score, hands: Vec::new() }
        })
        .collect();
    for hand in peaks(map(1), [map(4), map(5)], hand_least, HANDS_MAX, HAND_APART) {
        let to_head = vector(8, hand.cell);
        let aim = plus(hand.at, to_head);
        let slack = REACH_SLACK + REACH_SHARE * to_head[0].hypot(to_head[1]);
        let owner = people
            .iter_mut()
            .filter(|person| person.hands.len() < 2)
            .map(|person| (apart(aim, person.head), person))
            .filter(|(miss, _)| *miss < slack)
            .min_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((_, person)) = owner {
            person.hands.push(HandDetection { at: hand.at, score: hand.score });
        }
    }
    people
}

/// Cells of at least `least` that are the greatest of their 3 x 3 cells, surest first, `apart` pixels from each other.
fn peaks(map: &[f32], offset: [&[f32]; 2], least: f32, most: usize, distance: f32) -> Vec<Peak> {
    let mut cells: Vec<usize> =
        (0..map.len()).filter(|cell| map[*cell] >= least && greatest(map, *cell)).collect();
    cells.sort_by(|one, other| map[*other].total_cmp(&map[*one]));
    let mut peaks: Vec<Peak> = Vec::new();
    for cell in cells {
        let corner = [(cell % COLUMNS * CELL) as f32, (cell / COLUMNS * CELL) as f32];
        let at = plus(corner, [offset[0][cell], offset[1][cell]]);
        if at.iter().all(|value| value.is_finite()) && peaks.iter().all(|peak| apart(peak.at, at) >= distance)
        {
            peaks.push(Peak { at, score: map[cell], cell });
        }
        if peaks.len() == most {
            break;
        }
    }
    peaks
}

fn greatest(map: &[f32], cell: usize) -> bool {
    let (row, column) = (cell / COLUMNS, cell % COLUMNS);
    let rows = row.saturating_sub(1)..=(row + 1).min(ROWS - 1);
    rows.flat_map(|row| {
        let columns = column.saturating_sub(1)..=(column + 1).min(COLUMNS - 1);
        columns.map(move |column| row * COLUMNS + column)
    })
    .all(|other| map[other] <= map[cell])
}

fn plus(a: [f32; 2], b: [f32; 2]) -> [f32; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

fn apart(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Maps with the given (map, row, column, value) set.
    fn maps(values: &[(usize, usize, usize, f32)]) -> Vec<f32> {
        let mut maps = vec![0.0; MAPS * ROWS * COLUMNS];
        for &(map, row, column, value) in values {
            maps[(map * ROWS + row) * COLUMNS + column] = value;
        }
        maps
    }

    #[test]
    fn a_hand_goes_to_the_head_it_points_at() {
        let maps = maps(&[
            // Two heads at (42, 41) and (80, 40), the second surer.
            (0, 10, 10, 0.8),
            (2, 10, 10, 2.0),
            (3, 10, 10, 1.0),
            (6, 10, 10, 1.0),
            (7, 10, 10, 60.0),
            (0, 10, 20, 0.9),
            // A hand at (60, 60), nearer to the second head, that points at the first.
            (1, 15, 15, 0.7),
            (8, 15, 15, -18.0),
            (9, 15, 15, -19.0),
        ]);
        let people = read(&maps, 0.3, 0.3);
        assert_eq!(people.len(), 2);
        assert_eq!((people[0].head, people[0].hands.len()), ([80.0, 40.0], 0));
        assert_eq!((people[1].head, people[1].foot), ([42.0, 41.0], [43.0, 101.0]));
        assert_eq!(people[1].hands, vec![HandDetection { at: [60.0, 60.0], score: 0.7 }]);
    }

    #[test]
    fn what_points_nowhere_or_is_found_twice_is_dropped() {
        let maps = maps(&[
            (0, 10, 10, 0.8),
            // A second peak two cells on whose offset leads back to the first.
            (0, 10, 12, 0.5),
            (2, 10, 12, -7.0),
            // A hand that points far from any head, and one below the threshold.
            (1, 30, 40, 0.9),
            (1, 12, 12, 0.2),
        ]);
        let people = read(&maps, 0.3, 0.3);
        assert_eq!(people.len(), 1);
        assert!(people[0].hands.is_empty());
    }

    #[test]
    fn a_person_has_two_hands() {
        let mut values = vec![(0, 20, 20, 0.9)];
        for (index, score) in [0.5, 0.8, 0.6].into_iter().enumerate() {
            let column = 16 + 4 * index;
            values.push((1, 24, column, score));
            values.push((8, 24, column, 80.0 - 4.0 * column as f32));
            values.push((9, 24, column, -16.0));
        }
        let people = read(&maps(&values), 0.3, 0.3);
        let scores: Vec<f32> = people[0].hands.iter().map(|hand| hand.score).collect();
        assert_eq!(scores, vec![0.8, 0.6]);
    }

    #[test]
    fn numbers_that_are_none_do_no_harm() {
        let mut maps = vec![f32::NAN; MAPS * ROWS * COLUMNS];
        assert!(read(&maps, 0.3, 0.3).is_empty());
        maps[0] = 0.9;
        assert!(read(&maps, 0.3, 0.3).is_empty());
        maps.fill(f32::INFINITY);
        assert!(read(&maps, 0.3, 0.3).is_empty());
    }
}
