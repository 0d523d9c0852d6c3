//! What lies between the display and the lens: lamps mirrored in the glass, and its cracks.

use crate::dice::Dice;

/// A lamp that the glass mirrors: a bar with soft edges, in millimetres on the phone.
#[derive(Clone, Copy, Debug)]
pub struct Lamp {
    /// Middle of the mirror image.
    pub middle: [f32; 2],
    /// Direction of the bar, radians.
    pub angle: f32,
    /// Half its length.
    pub half_length_mm: f32,
    /// Half its width, up to half the brightness.
    pub half_width_mm: f32,
    /// How soft its edges are.
    pub soft_mm: f32,
    /// Mirrored luminance in its middle, cd/m².
    pub nits: f32,
}

impl Lamp {
    /// Mirrored light at a point.
    pub fn light(&self, x: f32, y: f32) -> f32 {
        let (sin, cos) = self.angle.sin_cos();
        let (dx, dy) = (x - self.middle[0], y - self.middle[1]);
        let (along, across) = ((dx * cos + dy * sin).abs(), (dy * cos - dx * sin).abs());
        let edge = |beyond: f32| 1.0 / (1.0 + (beyond / self.soft_mm * 2.0).exp());
        self.nits * edge(along - self.half_length_mm) * edge(across - self.half_width_mm)
    }
}

/// Broken glass: cracks from a point of impact, pieces that bend light, and a dead spot.
#[derive(Clone, Debug)]
pub struct Cracks {
    impact: [f32; 2],
    dead_mm: f32,
    width_mm: f32,
    /// Straight parts of cracks, with the box around each.
    parts: Vec<[[f32; 2]; 2]>,
    /// Directions of the long cracks, rising, and how far the piece after each bends light.
    pieces: Vec<(f32, [f32; 2])>,
}

impl Cracks {
    /// `count` long cracks from `impact`, each `width_mm` wide, pieces that shift light by up to `bend_mm`.
    pub fn new(
        impact: [f32; 2],
        count: usize,
        width_mm: f32,
        bend_mm: f32,
        dead_mm: f32,
        dice: &mut Dice,
    ) -> Self {
        let mut parts = Vec::new();
        let mut pieces = Vec::new();
        let turn = dice.between(0.0, std::f64::consts::TAU);
        for index in 0..count {
            let spread = std::f64::consts::TAU / count as f64;
            let mut angle = turn + spread * (index as f64 + dice.between(-0.35, 0.35));
            let bend = dice.between(0.0, f64::from(bend_mm));
            let way = dice.between(0.0, std::f64::consts::TAU);
            let direction = angle.rem_euclid(std::f64::consts::TAU) as f32;
            pieces.push((direction, [(bend * way.cos()) as f32, (bend * way.sin()) as f32]));
            let mut at = impact.map(f64::from);
            for _ in 0..dice.below(4) + 4 {
                let length = dice.between(4.0, 14.0);
                let next = [at[0] + length * angle.cos(), at[1] + length * angle.sin()];
                parts.push([at.map(|v| v as f32), next.map(|v| v as f32)]);
                // Now and then a crack branches to its neighbour.
                if dice.chance(0.3) {
                    let side = angle + if dice.chance(0.5) { 1.2 } else { -1.2 };
                    let reach = dice.between(3.0, 12.0);
                    let branch = [next[0] + reach * side.cos(), next[1] + reach * side.sin()];
                    parts.push([next.map(|v| v as f32), branch.map(|v| v as f32)]);
                }
                at = next;
                angle += dice.between(-0.3, 0.3);
            }
        }
        pieces.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self { impact, dead_mm, width_mm, parts, pieces }
    }

    /// At a point seen by a pixel of `reach_mm` to each side: how far the display is shifted, how much light is
    /// scattered (0 to 1), how dead the display is.
    pub fn at(&self, x: f32, y: f32, reach_mm: f32) -> ([f32; 2], f32, f32) {
        let (dx, dy) = (x - self.impact[0], y - self.impact[1]);
        let dead =
            (self.dead_mm - dx.hypot(dy) + 0.5).clamp(0.0, 1.0) * f32::from(u8::from(self.dead_mm > 0.0));
        let angle = dy.atan2(dx).rem_euclid(std::f32::consts::TAU);
        let piece = self.pieces.iter().rfind(|(from, _)| *from <= angle).or(self.pieces.last());
        let shift = piece.map_or([0.0; 2], |(_, shift)| *shift);
        let reach = self.width_mm / 2.0 + reach_mm;
        let mut scatter = 0.0_f32;
        for [[ax, ay], [bx, by]] in &self.parts {
            if x < ax.min(*bx) - reach
                || x > ax.max(*bx) + reach
                || y < ay.min(*by) - reach
                || y > ay.max(*by) + reach
            {
                continue;
            }
            let (lx, ly) = (bx - ax, by - ay);
            let along = (((x - ax) * lx + (y - ay) * ly) / (lx * lx + ly * ly).max(1e-6)).clamp(0.0, 1.0);
            let distance = (x - ax - along * lx).hypot(y - ay - along * ly);
            // The share of the pixel that the crack covers.
            scatter = scatter.max(
                ((reach - distance) / (2.0 * reach_mm)).clamp(0.0, 1.0)
                    * (self.width_mm / (2.0 * reach_mm)).min(1.0),
            );
        }
        (shift, scatter, dead)
    }
}
