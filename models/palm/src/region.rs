//! Where the palm is: the largest circle inside the hand gives place and size, the gaps between the fingers
//! the direction.

use zeroize::Zeroizing;

/// Side of a [`Region`] in pixels.
pub(crate) const SIDE: usize = 128;

/// Code points along one side of a [`Region`].
pub(crate) const POINTS: usize = 32;

/// The picture is looked at in blocks of this many pixels a side to find the hand.
const BLOCK: usize = 4;

/// Smallest radius of the palm in pixels: below it veins are thinner than the filters resolve.
const RADIUS_MIN: f32 = 60.0;

/// Side of the region in radii of the palm: a little more than the square that fits into the circle.
const SIDE_IN_RADII: f32 = 1.5;

/// Least difference between the brightest and the darkest block for anything to be there.
const CONTRAST_MIN: u8 = 30;

/// Brightness from which a pixel is glare.
const GLARE: f32 = 250.0;

/// A near-infrared picture, one byte a pixel, row by row from the top left.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    width: usize,
    height: usize,
    pixels: &'a [u8],
}

impl<'a> Picture<'a> {
    /// A picture of `width` x `height`.
    ///
    /// # Errors
    ///
    /// [`NoPalm::Size`] when `pixels` is not of that size, or a side is not 128 to 2,048.
    pub fn new(width: u32, height: u32, pixels: &'a [u8]) -> Result<Self, NoPalm> {
        let side = 128..=2048;
        let expected = u64::from(width) * u64::from(height);
        if !side.contains(&width) || !side.contains(&height) || pixels.len() as u64 != expected {
            return Err(NoPalm::Size { width, height, bytes: pixels.len() });
        }
        Ok(Self { width: width as usize, height: height as usize, pixels })
    }

    /// Brightness at a place between pixels; `None` outside.
    fn at(&self, x: f32, y: f32) -> Option<f32> {
        if !(x >= 0.0 && y >= 0.0 && x < (self.width - 1) as f32 && y < (self.height - 1) as f32) {
            return None;
        }
        let (left, top) = (x as usize, y as usize);
        let (fx, fy) = (x - left as f32, y - top as f32);
        let row = |line: usize| {
            let start = line * self.width + left;
            let (a, b) = (f32::from(self.pixels[start]), f32::from(self.pixels[start + 1]));
            a + (b - a) * fx
        };
        let (upper, lower) = (row(top), row(top + 1));
        Some(upper + (lower - upper) * fy)
    }
}

/// Why a picture shows no usable palm. An expected outcome: the shopper tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPalm {
    /// The bytes are no picture of that size.
    #[error("{bytes} bytes are no picture of {width}x{height}: sides of 128 to 2048, one byte a pixel")]
    Size {
        /// Pixels a line.
        width: u32,
        /// Lines.
        height: u32,
        /// Bytes that came.
        bytes: usize,
    },
    /// Nothing stands out from the background.
    #[error("nothing is over the scanner")]
    Empty,
    /// Something is there, but its largest circle is too small: too far away, or no palm.
    #[error("palm of radius {radius} pixels is too small, {} are needed", RADIUS_MIN as u32)]
    Small {
        /// Radius of the largest circle inside it, in pixels.
        radius: u32,
    },
    /// The palm reaches over the edge of the picture.
    #[error("palm is not wholly in the picture")]
    Cut,
}

/// A palm in a picture.
#[derive(Clone, Copy)]
pub struct Palm {
    centre: [f32; 2],
    radius: f32,
    /// Direction of the fingers, clockwise from straight up, in radians.
    turn: f32,
    /// Brightness that separates the hand from what is behind it.
    floor: f32,
    guided: bool,
}

/// The part of a palm that is compared, upright and in standard size. Its pixels are overwritten when it is
/// dropped.
pub struct Region {
    pub(crate) pixels: Zeroizing<Vec<f32>>,
    /// One bit a code point, row by row: it lies on the hand and is not glare.
    pub(crate) valid: [u32; POINTS],
}

impl Palm {
    /// Finds the palm in `picture`: bright hand, dark background, as near-infrared light on a hand gives.
    ///
    /// # Errors
    ///
    /// [`NoPalm`] when there is none that can be compared.
    pub fn find(picture: &Picture<'_>) -> Result<Self, NoPalm> {
        let (columns, rows) = (picture.width / BLOCK, picture.height / BLOCK);
        let blocks = block_means(picture, columns, rows);
        let floor = otsu(&blocks).ok_or(NoPalm::Empty)?;
        let mut hand: Vec<bool> = blocks.iter().map(|value| *value > floor).collect();
        fill_holes(&mut hand, columns, rows);
        let distance = distance_to_background(&hand, columns, rows);
        let deepest = distance.iter().copied().fold(0.0, f32::max);
        let radius = deepest * BLOCK as f32;
        if radius < RADIUS_MIN {
            return Err(NoPalm::Small { radius: radius as u32 });
        }
        let centre = deepest_place(&distance, columns, deepest);
        // Outside counts as background, so the circle of a hand that is cut off touches the edge.
        let edge = radius + 1.5 * BLOCK as f32;
        let inside = |middle: f32, side: usize| middle - edge >= 0.0 && middle + edge <= side as f32;
        if !inside(centre[0], picture.width) || !inside(centre[1], picture.height) {
            return Err(NoPalm::Cut);
        }
        let on_hand = |x: f32, y: f32| {
            let (column, row) = (x / BLOCK as f32, y / BLOCK as f32);
            column >= 0.0
                && row >= 0.0
                && (column as usize) < columns
                && (row as usize) < rows
                && hand[row as usize * columns + column as usize]
        };
        let turn = finger_direction(centre, radius, on_hand);
        let floor = f32::from(floor);
        Ok(Self { centre, radius, turn: turn.unwrap_or(0.0), floor, guided: turn.is_none() })
    }

    /// Radius of the largest circle inside the palm, in pixels.
    #[must_use]
    pub fn radius(&self) -> f32 {
        self.radius
    }

    /// Direction of the fingers in radians, clockwise from straight up.
    #[must_use]
    pub fn turn(&self) -> f32 {
        self.turn
    }

    /// Whether the fingers could not be told apart, so that the hand is taken to point straight up, as a hand
    /// rest makes it.
    #[must_use]
    pub fn assumed_upright(&self) -> bool {
        self.guided
    }

    /// Cuts the region out of the picture in which the palm was found.
    #[must_use]
    pub fn region(&self, picture: &Picture<'_>) -> Region {
        self.region_posed(picture, 0.0, 1.0)
    }

    /// As [`Palm::region`], turned by `turn` radians more and with its side multiplied by `scale`.
    pub(crate) fn region_posed(&self, picture: &Picture<'_>, turn: f32, scale: f32) -> Region {
        let step = self.radius * SIDE_IN_RADII * scale / SIDE as f32;
        let (sin, cos) = (self.turn + turn).sin_cos();
        let place = |column: f32, row: f32| {
            let (x, y) = ((column - SIDE as f32 / 2.0) * step, (row - SIDE as f32 / 2.0) * step);
            [self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos]
        };
        let mut pixels = Zeroizing::new(vec![self.floor; SIDE * SIDE]);
        for row in 0..SIDE {
            for column in 0..SIDE {
                let [x, y] = place(column as f32 + 0.5, row as f32 + 0.5);
                if let Some(value) = picture.at(x - 0.5, y - 0.5) {
                    pixels[row * SIDE + column] = value;
                }
            }
        }
        let spacing = SIDE / POINTS;
        let mut valid = [0; POINTS];
        for (row, bits) in valid.iter_mut().enumerate() {
            for column in 0..POINTS {
                let mean = (0..spacing * spacing)
                    .map(|i| pixels[(row * spacing + i / spacing) * SIDE + column * spacing + i % spacing])
                    .sum::<f32>()
                    / (spacing * spacing) as f32;
                if mean > self.floor && mean < GLARE {
                    *bits |= 1 << column;
                }
            }
        }
        Region { pixels, valid }
    }
}

fn block_means(picture: &Picture<'_>, columns: usize, rows: usize) -> Vec<u8> {
    let mut means = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        for column in 0..columns {
            let mut sum = 0u32;
            for y in 0..BLOCK {
                let start = (row * BLOCK + y) * picture.width + column * BLOCK;
                sum +=
                    picture.pixels[start..start + BLOCK].iter().map(|value| u32::from(*value)).sum::<u32>();
            }
            means.push((sum / (BLOCK * BLOCK) as u32) as u8);
        }
    }
    means
}

/// The brightness that best parts `values` in two (N. Otsu, 1979); `None` when they are all alike.
fn otsu(values: &[u8]) -> Option<u8> {
    let mut histogram = [0u64; 256];
    for value in values {
        histogram[usize::from(*value)] += 1;
    }
    let darkest = values.iter().min()?;
    let brightest = values.iter().max()?;
    if brightest - darkest < CONTRAST_MIN {
        return None;
    }
    let count = values.len() as f64;
    let total: f64 = histogram.iter().enumerate().map(|(level, n)| level as f64 * *n as f64).sum();
    let (mut below, mut sum_below, mut best) = (0.0, 0.0, (0.0, 0u8));
    for level in 0..=254u8 {
        let n = histogram[usize::from(level)] as f64;
        below += n;
        sum_below += f64::from(level) * n;
        let above = count - below;
        if below == 0.0 || above == 0.0 {
            continue;
        }
        let gap = sum_below / below - (total - sum_below) / above;
        let spread = below * above * gap * gap;
        if spread > best.0 {
            best = (spread, level);
        }
    }
    Some(best.1)
}

/// Takes as hand what is dark but does not reach the edge of the picture: dark vessels, a ring, dirt.
fn fill_holes(hand: &mut [bool], columns: usize, rows: usize) {
    let mut background = vec![false; hand.len()];
    let mut open: Vec<usize> = (0..hand.len())
        .filter(|at| {
            at % columns == 0 || (at + 1) % columns == 0 || *at < columns || *at >= columns * (rows - 1)
        })
        .collect();
    while let Some(at) = open.pop() {
        if hand[at] || background[at] {
            continue;
        }
        background[at] = true;
        let column = at % columns;
        open.extend((column > 0).then(|| at - 1));
        open.extend((column + 1 < columns).then_some(at + 1));
        open.extend(at.checked_sub(columns));
        open.extend((at + columns < hand.len()).then_some(at + columns));
    }
    for (hand, background) in hand.iter_mut().zip(background) {
        *hand = !background;
    }
}

/// For each block its distance to the nearest one that is not hand, in blocks: the 5-7-11 chamfer metric in
/// two passes, at most 2 % from the Euclidean distance (G. Borgefors, 1986). Outside the picture is
/// background.
fn distance_to_background(hand: &[bool], columns: usize, rows: usize) -> Vec<f32> {
    const FORWARD: [(isize, isize, u32); 8] = [
        (-1, 0, 5),
        (0, -1, 5),
        (-1, -1, 7),
        (1, -1, 7),
        (-2, -1, 11),
        (2, -1, 11),
        (-1, -2, 11),
        (1, -2, 11),
    ];
    let mut distance: Vec<u32> = hand.iter().map(|is_hand| if *is_hand { u32::MAX } else { 0 }).collect();
    let nearest = |distance: &[u32], column: usize, row: usize, sign: isize| {
        let here = distance[row * columns + column];
        FORWARD.iter().fold(here, |least, (dx, dy, cost)| {
            let (x, y) = (column as isize + sign * dx, row as isize + sign * dy);
            let outside = x < 0 || y < 0 || x >= columns as isize || y >= rows as isize;
            let there = if outside { 0 } else { distance[y as usize * columns + x as usize] };
            least.min(there.saturating_add(*cost))
        })
    };
    for row in 0..rows {
        for column in 0..columns {
            distance[row * columns + column] = nearest(&distance, column, row, 1);
        }
    }
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            distance[row * columns + column] = nearest(&distance, column, row, -1);
        }
    }
    distance.into_iter().map(|fifths| fifths as f32 / 5.0).collect()
}

/// The middle of the blocks that are nearly as deep in the hand as the deepest one: steadier than that one
/// alone.
fn deepest_place(distance: &[f32], columns: usize, deepest: f32) -> [f32; 2] {
    let (mut sum, mut weight) = ([0.0, 0.0], 0.0);
    for (index, depth) in distance.iter().enumerate() {
        let share = (depth - 0.94 * deepest).max(0.0);
        sum[0] += share * ((index % columns) as f32 + 0.5);
        sum[1] += share * ((index / columns) as f32 + 0.5);
        weight += share;
    }
    [sum[0] / weight * BLOCK as f32, sum[1] / weight * BLOCK as f32]
}

/// The direction of the middle one of three neighbouring gaps between four fingers, as the mean over the
/// circles around the palm on which they show; `None` when no circle shows them.
fn finger_direction(centre: [f32; 2], radius: f32, on_hand: impl Fn(f32, f32) -> bool) -> Option<f32> {
    let (mut sum, mut count) = (0.0, 0u8);
    for tenth in 12..=20u8 {
        let ring = radius * f32::from(tenth) / 10.0;
        let hit = |degree: usize| {
            let (sin, cos) = (degree as f32).to_radians().sin_cos();
            on_hand(centre[0] + ring * sin, centre[1] - ring * cos)
        };
        let circle: [bool; 360] = std::array::from_fn(hit);
        if let Some(direction) = middle_gap(&circle) {
            sum += direction;
            count += 1;
        }
    }
    (count > 0).then(|| (sum / f32::from(count)).to_radians())
}

/// The middle of three narrow gaps with fingers between and beside them, in degrees from straight up; the
/// three that lie closest together when there are more, and only those within 60 degrees of straight up.
fn middle_gap(circle: &[bool; 360]) -> Option<f32> {
    const GAP: std::ops::RangeInclusive<usize> = 2..=35;
    const FINGER: std::ops::RangeInclusive<usize> = 5..=45;
    // Start at straight down, where the wrist is, so that no run of interest is split.
    let mut runs: Vec<(bool, usize, usize)> = Vec::new();
    for step in 0..360 {
        let value = circle[(180 + step) % 360];
        match runs.last_mut() {
            Some((last, _, length)) if *last == value => *length += 1,
            _ => runs.push((value, step, 1)),
        }
    }
    let fits = |window: &&[(bool, usize, usize)]| {
        window[0].0
            && window.iter().all(|(finger, _, length)| if *finger { FINGER } else { GAP }.contains(length))
    };
    let span = |window: &[(bool, usize, usize)]| window[6].1 + window[6].2 - window[0].1;
    let best = runs.windows(7).filter(fits).min_by_key(|window| span(window))?;
    // Middle of the three gaps: for a spread hand their mean is steadier than the middle one alone.
    let middle = |run: &(bool, usize, usize)| run.1 as f32 + run.2 as f32 / 2.0;
    let direction = (middle(&best[1]) + middle(&best[3]) + middle(&best[5])) / 3.0 - 180.0;
    (direction.abs() <= 60.0).then_some(direction)
}
