//! An entry code as a QR code: in the terminal, and as a picture.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use image::{GrayImage, Luma};
use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code (ISO/IEC 18004).
const QUIET: usize = 4;

/// The modules of a code, quiet zone included; true is dark.
pub struct Modules {
    side: usize,
    code: QrCode,
}

impl Modules {
    pub fn of(digits: &str) -> anyhow::Result<Self> {
        let code =
            QrCode::with_error_correction_level(digits, EcLevel::M).context("no QR code of this text")?;
        Ok(Self { side: code.width() + 2 * QUIET, code })
    }

    fn dark(&self, x: usize, y: usize) -> bool {
        let inside = QUIET..self.side - QUIET;
        inside.contains(&x) && inside.contains(&y) && self.code[(x - QUIET, y - QUIET)] == Color::Dark
    }

    /// Two rows of modules a line, black on white whatever the terminal's colours are: many readers do not take
    /// inverted codes.
    pub fn terminal(&self) -> String {
        let mut text = String::new();
        for y in (0..self.side).step_by(2) {
            text.push_str("\x1b[38;2;0;0;0;48;2;255;255;255m");
            for x in 0..self.side {
                text.push(match (self.dark(x, y), self.dark(x, y + 1)) {
                    (true, true) => '█',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (false, false) => ' ',
                });
            }
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\x1b[0m");
        }
        text
    }

    /// Writes a PNG file with so many pixels a module.
    pub fn png(&self, path: &Path, scale: u32) -> anyhow::Result<()> {
        let side = self.side as u32 * scale;
        let picture = GrayImage::from_fn(side, side, |x, y| {
            Luma([if self.dark((x / scale) as usize, (y / scale) as usize) { 0 } else { 255 }])
        });
        picture
            .save_with_format(path, image::ImageFormat::Png)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
