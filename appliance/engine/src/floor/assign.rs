//! Optimal assignment by shortest augmenting paths (Jonker and Volgenant, "A shortest augmenting path
//! algorithm for dense and sparse linear assignment problems", Computing 38, 1987).

/// Assigns each row at most one column, each column at most one row, at the least total cost, where a row
/// without a column costs `unassigned`. `costs[row][column]` is infinite where the pair is forbidden.
///
/// Returns the column of each row.
pub(super) fn assign(costs: &[Vec<f64>], columns: usize, unassigned: f64) -> Vec<Option<usize>> {
    let rows = costs.len();
    // Every row has a private column of its own at the cost of staying alone, so a full assignment always
    // exists.
    let width = columns + rows;
    let cost = |row: usize, column: usize| {
        if column < columns {
            costs[row][column]
        } else if column == columns + row {
            unassigned
        } else {
            f64::INFINITY
        }
    };
    // Index `width` of the column arrays is the virtual start of each augmenting path.
    let mut row_price = vec![0.0; rows];
    let mut column_price = vec![0.0; width + 1];
    let mut row_of: Vec<Option<usize>> = vec![None; width + 1];
    for start in 0..rows {
        row_of[width] = Some(start);
        let mut column = width;
        let mut shortest = vec![f64::INFINITY; width];
        let mut previous = vec![width; width];
        let mut done = vec![false; width + 1];
        while let Some(row) = row_of[column] {
            done[column] = true;
            let (mut step, mut next) = (f64::INFINITY, width);
            for candidate in 0..width {
                if done[candidate] {
                    continue;
                }
                let reduced = cost(row, candidate) - row_price[row] - column_price[candidate];
                if reduced < shortest[candidate] {
                    shortest[candidate] = reduced;
                    previous[candidate] = column;
                }
                if shortest[candidate] < step {
                    step = shortest[candidate];
                    next = candidate;
                }
            }
            for candidate in 0..=width {
                if done[candidate] {
                    if let Some(row) = row_of[candidate] {
                        row_price[row] += step;
                    }
                    column_price[candidate] -= step;
                } else if candidate < width {
                    shortest[candidate] -= step;
                }
            }
            column = next;
        }
        while column != width {
            let back = previous[column];
            row_of[column] = row_of[back];
            column = back;
        }
    }
    let mut assigned = vec![None; rows];
    for (column, row) in row_of.iter().enumerate().take(columns) {
        if let Some(row) = row {
            assigned[*row] = Some(column);
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: f64 = f64::INFINITY;

    #[test]
    fn small_cases() {
        type Case<'a> = (&'a [&'a [f64]], usize, &'a [Option<usize>]);
        let cases: &[Case<'_>] = &[
            (&[], 3, &[]),
            (&[&[]], 0, &[None]),
            (&[&[1.0]], 1, &[Some(0)]),
            (&[&[11.0]], 1, &[None]),
            (&[&[NEVER]], 1, &[None]),
            // The greedy choice (0, 0) would cost 1 + 9.
            (&[&[1.0, 2.0], &[2.0, 9.0]], 2, &[Some(1), Some(0)]),
            (&[&[1.0], &[2.0]], 1, &[Some(0), None]),
            (&[&[3.0, 1.0, 4.0]], 3, &[Some(1)]),
        ];
        for (costs, columns, expected) in cases {
            let costs: Vec<Vec<f64>> = costs.iter().map(|row| row.to_vec()).collect();
            assert_eq!(assign(&costs, *columns, 10.0), *expected, "{costs:?}");
        }
    }

    #[test]
    fn never_dearer_than_any_permutation() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 31)
        };
        for _ in 0..300 {
            let costs: Vec<Vec<f64>> = (0..4)
                .map(|_| (0..3).map(|_| if next() < 0.3 { NEVER } else { next() * 20.0 }).collect())
                .collect();
            let total = |columns: &[Option<usize>]| -> f64 {
                columns
                    .iter()
                    .enumerate()
                    .map(|(row, column)| column.map_or(8.0, |column| costs[row][column]))
                    .sum()
            };
            let found = total(&assign(&costs, 3, 8.0));
            let mut best = f64::INFINITY;
            for code in 0..256_usize {
                let columns: Vec<Option<usize>> =
                    (0..4).map(|row| Some(code >> (2 * row) & 3).filter(|column| *column < 3)).collect();
                let used = |column| columns.iter().filter(|used| **used == Some(column)).count();
                if (0..3).all(|column| used(column) <= 1) {
                    best = best.min(total(&columns));
                }
            }
            assert!((found - best).abs() < 1e-9, "{found} is not {best} for {costs:?}");
        }
    }
}
