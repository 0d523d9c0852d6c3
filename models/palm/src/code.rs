//! The competitive code: at each of 32 x 32 points, which of six directions a dark line runs in.

use std::f32::consts::{LN_2, PI};
use std::sync::LazyLock;

use zeroize::Zeroize;

use crate::region::{POINTS, Region, SIDE};

/// Words of one bit a point.
pub(crate) const WORDS: usize = POINTS * POINTS / 64;

/// Least number of points that two codes must share to be compared: with fewer, chance brings codes together.
pub(crate) const SHARED_MIN: u32 = 400;

/// Points that a probe is moved in each direction, at most: eight pixels of the region.
const SHIFT: i32 = 2;

/// Words that are looked at first when two protected templates are compared: 256 points.
const SAMPLE: usize = WORDS / 4;

const DIRECTIONS: usize = 6;

/// Side of a filter in pixels.
const FILTER: usize = 35;

/// Angular frequency of the filters, radians a pixel (Kong and Zhang 2004).
const OMEGA: f32 = 0.5767;

const SPACING: usize = SIDE / POINTS;

/// Filters reach this far past a point, the nearest multiple of the spacing.
const MARGIN: usize = FILTER.div_ceil(2).next_multiple_of(SPACING);

/// Points of one padded line in one of the [`SPACING`] interleaved parts.
const LINE: usize = (SIDE + 2 * MARGIN) / SPACING;

/// Three bits a direction so that the number of differing bits is the angle between two directions in steps
/// of 30 degrees.
const BITS: [[bool; 3]; DIRECTIONS] = [
    [false, false, false],
    [false, false, true],
    [false, true, true],
    [true, true, true],
    [true, true, false],
    [true, false, false],
];

/// The code of one palm picture. Overwritten when dropped; neither printed nor copied.
pub struct Template {
    pub(crate) planes: [[u64; WORDS]; 3],
    pub(crate) mask: [u64; WORDS],
}

impl Drop for Template {
    fn drop(&mut self) {
        self.planes.zeroize();
        self.mask.zeroize();
    }
}

impl Template {
    /// Codes `region`. Takes some 2 ms on one core.
    #[must_use]
    pub fn extract(region: &Region) -> Self {
        let image = Interleaved::new(region);
        let mut template = Self { planes: [[0; WORDS]; 3], mask: [0; WORDS] };
        for row in 0..POINTS {
            let strengths: [[f32; POINTS]; DIRECTIONS] =
                std::array::from_fn(|direction| image.filter_row(&FILTERS[direction], row));
            let strength = |direction: usize, column: usize| strengths[direction][column];
            for column in 0..POINTS {
                // Veins are darker than skin: the direction of the least response wins.
                let winner = (1..DIRECTIONS).fold(0, |best, direction| {
                    if strength(direction, column) < strength(best, column) { direction } else { best }
                });
                let point = row * POINTS + column;
                for (plane, bit) in template.planes.iter_mut().zip(BITS[winner]) {
                    plane[point / 64] |= u64::from(bit) << (point % 64);
                }
                if region.valid[row] >> column & 1 == 1 && strength(winner, column) < 0.0 {
                    template.mask[point / 64] |= 1 << (point % 64);
                }
            }
        }
        template
    }

    /// Share of the points that can be compared, 0 to 1.
    #[must_use]
    pub fn coverage(&self) -> f32 {
        let points: u32 = self.mask.iter().map(|word| word.count_ones()).sum();
        points as f32 / (POINTS * POINTS) as f32
    }

    /// How unlike two templates are: the share of differing bits, 0 to 1, in the position that suits best of
    /// those up to two points apart. For measuring error rates and setting thresholds; a gate searches a
    /// [`crate::Gallery`].
    #[must_use]
    pub fn distance(&self, other: &Self) -> f32 {
        Self::positions().map(|(dx, dy)| self.shifted(dx, dy).distance_in_place(other)).fold(1.0, f32::min)
    }

    /// The positions in which a probe is compared: moved by up to [`SHIFT`] points in each direction.
    pub(crate) fn positions() -> impl Iterator<Item = (i32, i32)> {
        (-SHIFT..=SHIFT).flat_map(|dy| (-SHIFT..=SHIFT).map(move |dx| (dx, dy)))
    }

    /// Moved right by `dx` and down by `dy` points; what moves in cannot be compared.
    pub(crate) fn shifted(&self, dx: i32, dy: i32) -> Self {
        let shift = |plane: &[u64; WORDS]| {
            let row_bits = |row: i32| -> u32 {
                let Ok(row) = usize::try_from(row) else { return 0 };
                if row >= POINTS {
                    return 0;
                }
                let bits = (plane[row / 2] >> (row % 2 * 32) & 0xFFFF_FFFF) as u32;
                if dx >= 0 { bits << dx } else { bits >> -dx }
            };
            std::array::from_fn(|word| {
                let row = word as i32 * 2 - dy;
                u64::from(row_bits(row)) | u64::from(row_bits(row + 1)) << 32
            })
        };
        Self { planes: self.planes.each_ref().map(shift), mask: shift(&self.mask) }
    }

    /// Share of differing bits where both can be compared, 0 (same) to 1; about 0.5 for unrelated bits, and 1
    /// when too few points are shared.
    pub(crate) fn distance_in_place(&self, other: &Self) -> f32 {
        self.differences(other, 0..WORDS).distance(SHARED_MIN)
    }

    /// As [`Template::distance_in_place`] for two protected templates, whose secret order makes their first
    /// words a random sample of the points: when that sample already lies beyond `hopeless`, its distance is
    /// the answer.
    pub(crate) fn distance_if_near(&self, other: &Self, hopeless: f32) -> f32 {
        let sample = self.differences(other, 0..SAMPLE);
        let early = sample.distance(SHARED_MIN / 4);
        if early > hopeless {
            return early;
        }
        let rest = self.differences(other, SAMPLE..WORDS);
        Differences { shared: sample.shared + rest.shared, bits: sample.bits + rest.bits }
            .distance(SHARED_MIN)
    }

    fn differences(&self, other: &Self, words: std::ops::Range<usize>) -> Differences {
        let (mut shared, mut ones, mut twos) = (0, 0, 0);
        for word in words {
            let mask = self.mask[word] & other.mask[word];
            let differs = |plane: usize| self.planes[plane][word] ^ other.planes[plane][word];
            let (a, b, c) = (differs(0), differs(1), differs(2));
            // A full adder counts three planes with two population counts.
            shared += mask.count_ones();
            ones += ((a ^ b ^ c) & mask).count_ones();
            twos += ((a & b | c & (a ^ b)) & mask).count_ones();
        }
        Differences { shared, bits: ones + 2 * twos }
    }
}

/// What two templates share, and in how many bits of that they differ.
struct Differences {
    shared: u32,
    bits: u32,
}

impl Differences {
    fn distance(&self, shared_min: u32) -> f32 {
        if self.shared < shared_min { 1.0 } else { self.bits as f32 / (3 * self.shared) as f32 }
    }
}

type Filter = [[f32; FILTER]; FILTER];

/// Gabor filters of six directions, 30 degrees apart, without response to even brightness.
static FILTERS: LazyLock<[Filter; DIRECTIONS]> = LazyLock::new(|| {
    // Half-amplitude bandwidth of one octave.
    let kappa = (2.0 * LN_2).sqrt() * 3.0;
    std::array::from_fn(|direction| {
        let (sin, cos) = (direction as f32 * PI / DIRECTIONS as f32).sin_cos();
        let mut filter = [[0.0; FILTER]; FILTER];
        for (row, line) in filter.iter_mut().enumerate() {
            for (column, weight) in line.iter_mut().enumerate() {
                let (x, y) = (column as f32 - (FILTER / 2) as f32, row as f32 - (FILTER / 2) as f32);
                let (across, along) = (x * cos + y * sin, y * cos - x * sin);
                let spread = OMEGA * OMEGA / (8.0 * kappa * kappa) * (4.0 * across * across + along * along);
                *weight = (-spread).exp() * (OMEGA * across).cos();
            }
        }
        let mean = filter.as_flattened().iter().sum::<f32>() / (FILTER * FILTER) as f32;
        filter.as_flattened_mut().iter_mut().for_each(|weight| *weight -= mean);
        filter
    })
});

/// The region with its edge pixels repeated outwards, columns sorted by their remainder modulo the spacing,
/// so that the pixels under one filter weight for all points of a row are neighbours.
struct Interleaved(Vec<[[f32; LINE]; SPACING]>);

impl Interleaved {
    fn new(region: &Region) -> Self {
        let line = |row: usize| {
            let source = row.saturating_sub(MARGIN).min(SIDE - 1) * SIDE;
            std::array::from_fn(|part| {
                std::array::from_fn(|index| {
                    let column = (index * SPACING + part).saturating_sub(MARGIN).min(SIDE - 1);
                    region.pixels[source + column]
                })
            })
        };
        Self((0..SIDE + 2 * MARGIN).map(line).collect())
    }

    /// The filter's response at the points of one row.
    fn filter_row(&self, filter: &Filter, row: usize) -> [f32; POINTS] {
        const FIRST: usize = MARGIN + SPACING / 2 - FILTER / 2;
        let mut sum = [0.0; POINTS];
        for (weights, line) in filter.iter().zip(&self.0[row * SPACING + FIRST..]) {
            for (column, weight) in weights.iter().enumerate() {
                let from = FIRST + column;
                let pixels = &line[from % SPACING][from / SPACING..][..POINTS];
                for (sum, pixel) in sum.iter_mut().zip(pixels) {
                    *sum += weight * pixel;
                }
            }
        }
        sum
    }
}

impl Drop for Interleaved {
    fn drop(&mut self) {
        for line in &mut self.0 {
            line.as_flattened_mut().zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    /// A template of fixed pseudo-random bits.
    fn template(seed: u64) -> Template {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
        };
        let planes = std::array::from_fn(|_| std::array::from_fn(|_| next()));
        Template { planes, mask: std::array::from_fn(|_| next() | next()) }
    }

    fn point(template: &Template, column: i32, row: i32) -> Option<[u64; 4]> {
        let inside = 0..POINTS as i32;
        if !inside.contains(&column) || !inside.contains(&row) {
            return None;
        }
        let at = row as usize * POINTS + column as usize;
        let bit = |plane: &[u64; WORDS]| plane[at / 64] >> (at % 64) & 1;
        let [a, b, c] = template.planes.each_ref().map(bit);
        Some([a, b, c, bit(&template.mask)])
    }

    #[test]
    fn shifting_moves_every_point() {
        let template = template(1);
        for (dx, dy) in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (2, -2), (-2, 1), (5, 7)] {
            let shifted = template.shifted(dx, dy);
            for row in 0..POINTS as i32 {
                for column in 0..POINTS as i32 {
                    let from = point(&template, column - dx, row - dy).unwrap_or([0; 4]);
                    assert_eq!(point(&shifted, column, row), Some(from), "({dx}, {dy}) at {column}, {row}");
                }
            }
        }
    }

    #[test]
    fn distance_counts_the_bits_that_differ_where_both_are_valid() {
        let (one, two) = (template(2), template(3));
        let (mut shared, mut differs) = (0u64, 0u64);
        for at in 0..(POINTS * POINTS) as i32 {
            let [a, b] = [&one, &two].map(|t| point(t, at % 32, at / 32).expect("inside"));
            if a[3] & b[3] == 1 {
                shared += 1;
                differs += (0..3).map(|plane| a[plane] ^ b[plane]).sum::<u64>();
            }
        }
        assert_eq!(one.distance_in_place(&two), differs as f32 / (3 * shared) as f32);
        assert_eq!(one.distance_in_place(&one), 0.0);
    }

    #[test]
    fn too_few_shared_points_never_match() {
        let mut one = template(4);
        one.mask = [u64::MAX >> 40; WORDS];
        assert_eq!(one.distance_in_place(&one), 1.0);
    }

    #[test]
    fn protection_keeps_distances_within_a_key_and_hides_them_across_keys() {
        let (one, two) = (template(5), template(6));
        let (key, other) = (Key::from_secret(&[7; 32]), Key::from_secret(&[8; 32]));
        let plain = one.distance_in_place(&two);
        assert_eq!(key.protect(&one).0.distance_in_place(&key.protect(&two).0), plain);
        assert_eq!(key.protect(&one).0.distance_in_place(&key.protect(&one).0), 0.0);
        let across = key.protect(&one).0.distance_in_place(&other.protect(&one).0);
        assert!((across - 0.5).abs() < 0.06, "{across}");
        let hidden = key.protect(&one).0.distance_in_place(&one);
        assert!((hidden - 0.5).abs() < 0.06, "{hidden}");
    }
}
