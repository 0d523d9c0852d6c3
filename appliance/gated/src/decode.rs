//! The camera decode path: QR codes in a picture. One decoder (zxing-cpp), tried again on sharpened,
//! enlarged, evened out and shrunk copies of the picture until something is found.
//!
//! The ladder and its order come from measurements on phone screens: sharpening repairs moiré, motion and
//! defocus, enlarging repairs small codes, dividing by the local mean repairs glare and rolling-shutter
//! bands.

use std::borrow::Cow;
use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageReader, Limits};
use serde::Serialize;
use zxingcpp::{BarcodeFormat, BarcodeReader, Binarizer, ImageFormat, ImageView, PointI, TextMode};

/// Longest side of a picture that is read at all.
const SIDE_MAX: u32 = 20_000;
/// Most memory that a picture may unfold to: a 12-megapixel photo needs 48 MB with four channels.
const BYTES_MAX: u64 = 512 << 20;
/// Pictures above this are not enlarged: their modules are large enough, and it costs time.
const ENLARGE_PIXELS_MAX: u32 = 1920 * 1200;
/// Pictures with a side below this are not shrunk.
const SHRINK_SIDE_MIN: u32 = 200;
/// Most codes of one picture.
const CODES_MAX: i32 = 255;

/// A code in a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Code {
    /// What it says; bytes that are no text are replaced.
    pub text: String,
    /// Its corners in the picture's pixels: top left, top right, bottom right, bottom left of the symbol
    /// itself, which may stand on its head.
    pub points: [[f64; 2]; 4],
}

/// Why a picture was not decoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    /// It is no picture of a known kind, or a broken or enormous one.
    #[error("not a picture that can be read (png, jpeg, webp, gif, bmp, pnm)")]
    Picture(#[source] image::ImageError),
    /// The decoder refused or failed: a bug, which must not take other pictures with it.
    #[error("the decoder failed on this picture")]
    Decoder,
}

/// Decodes every code in a picture file, and tells how many milliseconds the search took.
///
/// # Errors
/// When the file is no picture, or the decoder fails on it.
pub fn decode_file(path: &Path) -> Result<(Vec<Code>, f64), Error> {
    let bytes = fs::read(path).map_err(Error::Read)?;
    // Both decoders eat what strangers made.
    catch_unwind(AssertUnwindSafe(|| {
        let picture = read_picture(&bytes)?;
        let start = Instant::now();
        let codes = decode(&picture)?;
        Ok((codes, start.elapsed().as_secs_f64() * 1000.0))
    }))
    .unwrap_or(Err(Error::Decoder))
}

/// Reads a picture as grey values; what is transparent is white, as on paper.
///
/// # Errors
/// When it is none, or too large.
pub fn read_picture(bytes: &[u8]) -> Result<GrayImage, Error> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| Error::Picture(image::ImageError::IoError(error)))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(BYTES_MAX);
    reader.limits(limits);
    let picture = reader.decode().map_err(Error::Picture)?;
    if !picture.color().has_alpha() {
        return Ok(picture.into_luma8());
    }
    let picture = match picture {
        DynamicImage::ImageLumaA8(picture) => picture,
        other => other.into_luma_alpha8(),
    };
    let (width, height) = picture.dimensions();
    let grey = picture.pixels().map(|pixel| {
        let [luma, alpha] = pixel.0.map(u32::from);
        ((luma * alpha + 255 * (255 - alpha)) / 255) as u8
    });
    Ok(GrayImage::from_raw(width, height, grey.collect()).expect("one grey value for each pixel"))
}

/// Decodes every code in a grey picture.
///
/// # Errors
/// When the decoder refuses the picture.
pub fn decode(picture: &GrayImage) -> Result<Vec<Code>, Error> {
    if picture.width() == 0 || picture.height() == 0 {
        return Ok(Vec::new());
    }
    for (binarizer, rung) in LADDER {
        let Some((copy, scale)) = rung(picture) else { continue };
        let codes = search(&copy, scale, binarizer)?;
        if !codes.is_empty() {
            return Ok(codes);
        }
    }
    Ok(Vec::new())
}

/// A copy of the picture, and the factor by which its lengths grew; none where the step makes no sense.
type Rung = fn(&GrayImage) -> Option<(Cow<'_, GrayImage>, f64)>;

/// Cheapest and most promising first.
const LADDER: [(Binarizer, Rung); 9] = [
    (Binarizer::LocalAverage, |picture| Some((Cow::Borrowed(picture), 1.0))),
    (Binarizer::LocalAverage, |picture| Some((Cow::Owned(sharpen(picture)), 1.0))),
    (Binarizer::LocalAverage, |picture| enlarge(picture).map(|copy| (Cow::Owned(copy), 2.0))),
    (Binarizer::LocalAverage, |picture| Some((Cow::Owned(even_out(picture)), 1.0))),
    (Binarizer::LocalAverage, |picture| {
        enlarge(&even_out(picture)).map(|copy| (Cow::Owned(sharpen(&copy)), 2.0))
    }),
    (Binarizer::LocalAverage, |picture| shrink(picture).map(|copy| (Cow::Owned(copy), 0.5))),
    (Binarizer::GlobalHistogram, |picture| Some((Cow::Borrowed(picture), 1.0))),
    (Binarizer::LocalAverage, |picture| Some((Cow::Owned(smooth(picture)), 1.0))),
    (Binarizer::GlobalHistogram, |picture| enlarge(picture).map(|copy| (Cow::Owned(smooth(&copy)), 2.0))),
];

fn search(picture: &GrayImage, scale: f64, binarizer: Binarizer) -> Result<Vec<Code>, Error> {
    let (width, height) = picture.dimensions();
    let view = ImageView::from_slice(picture.as_raw(), width, height, ImageFormat::Lum)
        .map_err(|_| Error::Decoder)?;
    let found = BarcodeReader::new()
        .formats([BarcodeFormat::QRCode, BarcodeFormat::MicroQRCode, BarcodeFormat::RMQRCode])
        .try_harder(true)
        .try_rotate(true)
        .try_invert(true)
        .try_downscale(true)
        .max_number_of_symbols(CODES_MAX)
        .text_mode(TextMode::Plain)
        .binarizer(binarizer)
        .from(view)
        .map_err(|_| Error::Decoder)?;
    let mut codes: Vec<Code> = Vec::new();
    for barcode in found.iter().filter(|barcode| barcode.is_valid()) {
        let at = barcode.position();
        let point = |point: PointI| [f64::from(point.x) / scale, f64::from(point.y) / scale];
        let points = [at.top_left, at.top_right, at.bottom_right, at.bottom_left].map(point);
        let code = Code { text: barcode.text(), points };
        if !codes.iter().any(|other| other.is_same(&code)) {
            codes.push(code);
        }
    }
    Ok(codes)
}

impl Code {
    /// The same symbol found twice: the same text, and each centre within the other's reach.
    fn is_same(&self, other: &Self) -> bool {
        let centre =
            |code: &Self| [0, 1].map(|axis| code.points.iter().map(|point| point[axis]).sum::<f64>() / 4.0);
        let (ours, theirs) = (centre(self), centre(other));
        let reach =
            (self.points[0][0] - self.points[2][0]).hypot(self.points[0][1] - self.points[2][1]) / 4.0;
        self.text == other.text && (ours[0] - theirs[0]).hypot(ours[1] - theirs[1]) <= reach
    }
}

/// Unsharp mask: 2.5 times the picture less 1.5 times its blur of sigma 2.
fn sharpen(picture: &GrayImage) -> GrayImage {
    let blurred = blur(picture);
    let sharp = picture
        .as_raw()
        .iter()
        .zip(&blurred)
        .map(|(pixel, blur)| (2.5 * f32::from(*pixel) - 1.5 * blur).clamp(0.0, 255.0) as u8);
    GrayImage::from_raw(picture.width(), picture.height(), sharp.collect()).expect("one value for each pixel")
}

/// Blur of sigma 2: pictures inside a code's modules disappear.
fn smooth(picture: &GrayImage) -> GrayImage {
    let smooth = blur(picture).into_iter().map(|value| value as u8).collect();
    GrayImage::from_raw(picture.width(), picture.height(), smooth).expect("one value for each pixel")
}

/// Gauss of sigma 2, by rows, then columns.
fn blur(picture: &GrayImage) -> Vec<f32> {
    const KERNEL: [f32; 6] = [0.199_7, 0.176_2, 0.121_1, 0.064_8, 0.027_0, 0.008_8];
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels = picture.as_raw();
    // The kernel is cut off at five pixels; this makes its sum one again.
    let norm = 1.0 / (KERNEL[0] + 2.0 * KERNEL[1..].iter().sum::<f32>());
    let mut rows = vec![0.0_f32; pixels.len()];
    for (row, out) in pixels.chunks_exact(width).zip(rows.chunks_exact_mut(width)) {
        for (x, out) in out.iter_mut().enumerate() {
            let mut sum = KERNEL[0] * f32::from(row[x]);
            for (distance, weight) in KERNEL.iter().enumerate().skip(1) {
                let (left, right) = (x.saturating_sub(distance), (x + distance).min(width - 1));
                sum += weight * (f32::from(row[left]) + f32::from(row[right]));
            }
            *out = sum * norm;
        }
    }
    let mut blurred = vec![0.0_f32; pixels.len()];
    for (y, out) in blurred.chunks_exact_mut(width).enumerate() {
        let row = |y: usize| &rows[y * width..(y + 1) * width];
        for (out, value) in out.iter_mut().zip(row(y)) {
            *out = KERNEL[0] * norm * value;
        }
        for (distance, weight) in KERNEL.iter().enumerate().skip(1) {
            let (above, below) = (row(y.saturating_sub(distance)), row((y + distance).min(height - 1)));
            for ((out, above), below) in out.iter_mut().zip(above).zip(below) {
                *out += weight * norm * (above + below);
            }
        }
    }
    blurred
}

/// Divides by the mean of 15 x 15 pixels, so that light and shadow are one.
fn even_out(picture: &GrayImage) -> GrayImage {
    const REACH: usize = 7;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let stride = width + 1;
    let mut sums = vec![0_u32; stride * (height + 1)];
    for (y, row) in picture.as_raw().chunks_exact(width).enumerate() {
        let mut line = 0_u32;
        for (x, pixel) in row.iter().enumerate() {
            line = line.wrapping_add(u32::from(*pixel));
            sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1].wrapping_add(line);
        }
    }
    let mut even = picture.clone();
    for (y, row) in even.chunks_exact_mut(width).enumerate() {
        let (top, bottom) = (y.saturating_sub(REACH), (y + REACH + 1).min(height));
        for (x, pixel) in row.iter_mut().enumerate() {
            let (left, right) = (x.saturating_sub(REACH), (x + REACH + 1).min(width));
            // Sums wrap in enormous pictures; the difference of four of them is right all the same.
            let sum = sums[bottom * stride + right]
                .wrapping_sub(sums[top * stride + right])
                .wrapping_sub(sums[bottom * stride + left])
                .wrapping_add(sums[top * stride + left]);
            let area = ((bottom - top) * (right - left)) as u32;
            *pixel = (u32::from(*pixel) * 128 * area / sum.max(1)).min(255) as u8;
        }
    }
    even
}

fn enlarge(picture: &GrayImage) -> Option<GrayImage> {
    let (width, height) = picture.dimensions();
    (width * height <= ENLARGE_PIXELS_MAX)
        .then(|| imageops::resize(picture, width * 2, height * 2, FilterType::CatmullRom))
}

fn shrink(picture: &GrayImage) -> Option<GrayImage> {
    let (width, height) = picture.dimensions();
    (width.min(height) >= SHRINK_SIDE_MIN)
        .then(|| imageops::resize(picture, width / 2, height / 2, FilterType::Triangle))
}
