//! A phone's display with an entry code on it: what an app draws, in the display's own pixels.

use qrcode::types::QrError;
use qrcode::{Color, EcLevel, QrCode};

use crate::dice::Dice;

/// Modules of quiet zone that the app draws.
const QUIET: f32 = super::QUIET as f32;

/// How the app draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Theme {
    /// Luminance of light parts of the code, as a share of the display's white.
    pub light: f32,
    /// Luminance of dark parts of the code.
    pub dark: f32,
    /// Luminance of the page around the code.
    pub page: f32,
    /// Light modules on dark ground.
    pub inverted: bool,
}

impl Theme {
    /// Dark on white.
    pub const LIGHT: Self = Self { light: 1.0, dark: 0.004, page: 0.96, inverted: false };
}

/// A display with its picture, which integrates over rectangles at once.
#[derive(Clone)]
pub struct Screen {
    /// Millimetres from the middle of the code to the right edge and to the left edge.
    pub half_width_mm: f32,
    /// Millimetres from the code's middle to the display's upper edge (negative) and lower edge.
    pub span_mm: [f32; 2],
    /// Side of a module.
    pub module_mm: f32,
    /// Modules on a side, without the quiet zone.
    pub modules: usize,
    /// Distance between two display pixels.
    pub pitch_mm: f32,
    texels_mm: f32,
    width: usize,
    height: usize,
    /// Sums of luminance above and left of each texel's corner, in 1/255 of white.
    sums: Vec<u32>,
}

impl Screen {
    /// Draws `text` as an entry code whose quiet zone nearly fills a display of `width_mm` with
    /// `pitch_mm` between its pixels.
    ///
    /// # Errors
    /// When the text is too long for a QR code.
    pub fn draw(
        text: &str,
        width_mm: f32,
        pitch_mm: f32,
        theme: Theme,
        dice: &mut Dice,
    ) -> Result<Self, QrError> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M)?;
        let modules = code.width();
        Ok(Self::lay_out(modules, &|x, y| code[(x, y)] == Color::Dark, width_mm, pitch_mm, theme, dice))
    }

    /// The same page with any square pattern of `modules` on a side in the code's place.
    pub fn lay_out(
        modules: usize,
        dark: &dyn Fn(usize, usize) -> bool,
        width_mm: f32,
        pitch_mm: f32,
        theme: Theme,
        dice: &mut Dice,
    ) -> Self {
        // An app gives each module a whole number of pixels.
        let across = modules as f32 + 2.0 * QUIET;
        let module_pixels = (width_mm * 0.94 / pitch_mm / across).floor().max(1.0);
        let module_mm = module_pixels * pitch_mm;
        // Texels of a third of a module keep edges where they are.
        let texels_mm = module_mm / 3.0;
        let width = (width_mm / texels_mm) as usize;
        let height = (width_mm * 2.1 / texels_mm) as usize;
        let mut page = vec![(theme.page * 255.0) as u8; width * height];
        let mut fill = |left: f32, top: f32, right: f32, bottom: f32, value: f32| {
            let [left, right] = [left, right].map(|x| ((x * width as f32) as usize).min(width));
            let [top, bottom] = [top, bottom].map(|y| ((y * height as f32) as usize).min(height));
            for row in page.chunks_exact_mut(width).take(bottom).skip(top) {
                row[left..right].fill((value * 255.0) as u8);
            }
        };
        // The status bar, the member's name and what an app writes under a code.
        let ink = if theme.page > 0.5 { 0.15 } else { 0.75 };
        let mut words = |top: f32, size: f32, from: f32, to: f32| {
            let mut x = from;
            while x < to {
                let letter = size * dice.between(0.15, 0.35) as f32;
                if !dice.chance(0.15) {
                    fill(x, top, (x + letter * 0.7).min(to), top + size * dice.between(0.3, 0.5) as f32, ink);
                }
                x += letter;
            }
        };
        words(0.015, 0.022, 0.05, 0.25);
        words(0.015, 0.022, 0.80, 0.95);
        words(0.10, 0.040, 0.20, 0.75);
        for line in 0..4 {
            words(0.72 + 0.045 * line as f32, 0.026, 0.08, 0.9);
        }
        fill(0.08, 0.90, 0.92, 0.95, if theme.page > 0.5 { 0.35 } else { 0.55 });
        let side = (across * 3.0) as usize;
        let (left, top) = ((width.saturating_sub(side)) / 2, height * 2 / 5 - side / 2);
        for y in 0..side {
            for x in 0..side {
                let module =
                    |texel: usize| (texel / 3).checked_sub(super::QUIET).filter(|place| *place < modules);
                let marked = matches!((module(x), module(y)), (Some(x), Some(y)) if dark(x, y));
                let value = if marked == theme.inverted { theme.light } else { theme.dark };
                if left + x < width && top + y < height {
                    page[(top + y) * width + left + x] = (value * 255.0).round() as u8;
                }
            }
        }
        let stride = width + 1;
        let mut sums = vec![0_u32; stride * (height + 1)];
        for (y, row) in page.chunks_exact(width).enumerate() {
            let mut line = 0;
            for (x, value) in row.iter().enumerate() {
                line += u32::from(*value);
                sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1] + line;
            }
        }
        let middle = (top as f32 + side as f32 / 2.0) * texels_mm;
        Self {
            half_width_mm: (left as f32 + side as f32 / 2.0) * texels_mm,
            span_mm: [-middle, height as f32 * texels_mm - middle],
            module_mm,
            modules,
            pitch_mm,
            texels_mm,
            width,
            height,
            sums,
        }
    }

    /// Mean luminance, as a share of white, of the square of `reach_mm` to each side around a point in
    /// millimetres from the code's middle; `None` off the display.
    pub fn mean(&self, x_mm: f32, y_mm: f32, reach_mm: f32) -> Option<f32> {
        if x_mm.abs() > self.half_width_mm || y_mm < self.span_mm[0] || y_mm > self.span_mm[1] {
            return None;
        }
        let (x, y) =
            ((x_mm + self.half_width_mm) / self.texels_mm, (y_mm - self.span_mm[0]) / self.texels_mm);
        let reach = (reach_mm / self.texels_mm).max(0.05);
        let (left, right) = ((x - reach).max(0.0), (x + reach).min(self.width as f32));
        let (top, bottom) = ((y - reach).max(0.0), (y + reach).min(self.height as f32));
        let area = (right - left) * (bottom - top);
        if area <= 0.0 {
            return None;
        }
        let sum =
            self.sum(right, bottom) - self.sum(left, bottom) - self.sum(right, top) + self.sum(left, top);
        Some((sum / f64::from(area) / 255.0) as f32)
    }

    /// Sum of everything above and left of a point, between texels in proportion. Double precision: the
    /// difference of large sums is what counts.
    fn sum(&self, x: f32, y: f32) -> f64 {
        let (column, row) = ((x as usize).min(self.width - 1), (y as usize).min(self.height - 1));
        let (dx, dy) = (f64::from(x) - column as f64, f64::from(y) - row as f64);
        let at = |column: usize, row: usize| f64::from(self.sums[row * (self.width + 1) + column]);
        let upper = at(column, row) * (1.0 - dx) + at(column + 1, row) * dx;
        let lower = at(column, row + 1) * (1.0 - dx) + at(column + 1, row + 1) * dx;
        upper * (1.0 - dy) + lower * dy
    }

    /// Half the side of the code with its quiet zone, millimetres.
    #[must_use]
    pub fn reach_mm(&self) -> f32 {
        (self.modules as f32 / 2.0 + QUIET) * self.module_mm
    }
}
