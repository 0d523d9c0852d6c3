//! QR codes in a picture. One decoder (zxing-cpp), tried again on sharpened, enlarged, evened out, bordered and
//! shrunk copies until something is found: everything for a still picture; for a frame of a stream what fits
//! its time, and the rest with the next frame.
//!
//! Which copies there are, and their order, was measured on the phone-screen set (`tests/decoders`). This runs in
//! the worker; tests and benchmarks call it directly.

use std::borrow::Cow;
use std::io::Cursor;
use std::time::{Duration, Instant};

use image::imageops::crop_imm;
use image::{DynamicImage, GrayImage, ImageReader, Limits};
use zxingcpp::{Barcode, BarcodeFormat, BarcodeReader, Binarizer, ImageFormat, ImageView, PointI, TextMode};

use crate::prepare::{closed, doubled, evened, halved, padded, sharpened, smoothed};
use crate::wire::{CODES_MAX, Code, Effort};

/// Longest side of a picture that is read at all.
pub const SIDE_MAX: u32 = 20_000;
/// Most memory that a picture may unfold to: a 12-megapixel photo needs 48 MB with four channels.
pub const UNFOLDED_BYTES_MAX: u64 = 512 << 20;
/// Pictures above this are not enlarged: their modules are large enough, and it costs time.
const DOUBLE_PIXELS_MAX: u32 = 1920 * 1200;
/// Pictures with a side below this are not shrunk.
const HALVE_SIDE_MIN: u32 = 200;
/// Border for codes that hang out of the frame, pixels. 40 read a corner of 7 modules, 100 one of 12.
const BORDER: usize = 100;
/// Codes, read or not, that are looked for where only their place is wanted.
const PLACES_MAX: i32 = 4;
/// A place is searched with this share of its size around it.
const MARGIN: f64 = 0.25;

/// What an entry code can be. The small kinds have so little redundancy that a bad picture of a large code now
/// and then holds one by chance, so that a frame is not searched for them.
const ENTRY_FORMATS: [BarcodeFormat; 1] = [BarcodeFormat::QRCode];
/// What a still picture is searched for.
const ALL_FORMATS: [BarcodeFormat; 3] =
    [BarcodeFormat::QRCode, BarcodeFormat::MicroQRCode, BarcodeFormat::RMQRCode];

/// Why a picture was not searched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no picture of a known kind, or a broken or enormous one.
    #[error("not a picture that can be read (png, jpeg, webp, gif, bmp, pnm)")]
    Picture(#[source] image::ImageError),
    /// The decoder refused it: a bug, which must not take other pictures with it.
    #[error("the decoder failed on this picture")]
    Decoder,
}

/// Reads a picture file as grey values; what is transparent is white, as on paper.
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
    limits.max_alloc = Some(UNFOLDED_BYTES_MAX);
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

/// What a search found, and how often it looked.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The codes.
    pub codes: Vec<Code>,
    /// Copies that were searched.
    pub attempts: u8,
}

/// A copy of a picture to search in.
struct Attempt {
    make: fn(&GrayImage) -> Option<Cow<'_, GrayImage>>,
    binarizer: Binarizer,
    /// From the copy's coordinates to the picture's: a border to take off, then a factor.
    border: f64,
    scale: f64,
    /// Microseconds for a thousand of the picture's pixels, measured; a first guess that each search corrects.
    cost: f64,
}

impl Attempt {
    const fn new(make: fn(&GrayImage) -> Option<Cow<'_, GrayImage>>, cost: f64) -> Self {
        Self { make, binarizer: Binarizer::LocalAverage, border: 0.0, scale: 1.0, cost }
    }

    const fn scaled(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    const fn global(self) -> Self {
        Self { binarizer: Binarizer::GlobalHistogram, ..self }
    }

    const fn bordered(self) -> Self {
        Self { border: BORDER as f64, ..self }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "an attempt may decline")]
fn plain(picture: &GrayImage) -> Option<Cow<'_, GrayImage>> {
    Some(Cow::Borrowed(picture))
}

#[expect(clippy::unnecessary_wraps, reason = "an attempt may decline")]
fn own<'a>(picture: GrayImage) -> Option<Cow<'a, GrayImage>> {
    Some(Cow::Owned(picture))
}

fn twice(picture: &GrayImage) -> Option<GrayImage> {
    (picture.width() * picture.height() <= DOUBLE_PIXELS_MAX).then(|| doubled(picture))
}

fn half(picture: &GrayImage) -> Option<GrayImage> {
    (picture.width().min(picture.height()) >= HALVE_SIDE_MIN).then(|| halved(picture))
}

/// For still pictures, all in turn until something is found.
const STILL: [Attempt; 10] = [
    Attempt::new(plain, 0.0),
    Attempt::new(|picture| own(sharpened(picture)), 0.0),
    Attempt::new(|picture| own(twice(picture)?), 0.0).scaled(2.0),
    Attempt::new(|picture| own(evened(picture, 15, 15)), 0.0),
    Attempt::new(|picture| own(sharpened(&twice(&evened(picture, 15, 15))?)), 0.0).scaled(2.0),
    Attempt::new(|picture| own(half(picture)?), 0.0).scaled(0.5),
    Attempt::new(plain, 0.0).global(),
    Attempt::new(|picture| own(padded(picture, BORDER)), 0.0).bordered(),
    Attempt::new(|picture| own(smoothed(picture)), 0.0),
    Attempt::new(|picture| own(smoothed(&twice(picture)?)), 0.0).scaled(2.0).global(),
];

/// For frames: the first always, the others in turn.
const FRAME_FIRST: Attempt = Attempt::new(plain, 2.0);
const FRAME: [Attempt; 9] = [
    Attempt::new(|picture| own(padded(picture, BORDER)), 3.0).bordered(),
    Attempt::new(|picture| own(evened(&half(picture)?, 9, 9)), 1.5).scaled(0.5),
    Attempt::new(plain, 1.0).global(),
    Attempt::new(|picture| own(evened(picture, 25, 25)), 3.0).global(),
    Attempt::new(|picture| own(sharpened(&evened(&half(picture)?, 9, 9))), 2.0).scaled(0.5),
    Attempt::new(|picture| own(twice(picture)?), 12.0).scaled(2.0),
    Attempt::new(|picture| own(smoothed(picture)), 4.0),
    Attempt::new(|picture| own(evened(picture, 25, 1)), 5.0),
    Attempt::new(|picture| own(closed(picture)), 6.0),
];

/// A decoder with its memory of the frames before.
pub struct Decoder {
    /// Which attempt of [`FRAME`] comes next.
    next: usize,
    /// Cost of each, learnt.
    costs: [f64; 1 + FRAME.len()],
    /// Where the last frames had something like a code, and for how many frames that is still believed.
    place: Option<(Place, u8)>,
}

#[derive(Clone, Copy)]
struct Place {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        let mut costs = [FRAME_FIRST.cost; 1 + FRAME.len()];
        for (cost, attempt) in costs[1..].iter_mut().zip(&FRAME) {
            *cost = attempt.cost;
        }
        Self { next: 0, costs, place: None }
    }
}

impl Decoder {
    /// Looks for codes in a grey picture.
    ///
    /// # Errors
    /// When the decoder refuses the picture.
    pub fn read(&mut self, picture: &GrayImage, effort: Effort) -> Result<Found, Error> {
        if picture.width() == 0 || picture.height() == 0 {
            return Ok(Found { codes: Vec::new(), attempts: 0 });
        }
        match effort {
            Effort::Still => read_still(picture),
            Effort::Frame { budget_us } => {
                self.read_frame(picture, Duration::from_micros(u64::from(budget_us)))
            }
        }
    }

    fn read_frame(&mut self, picture: &GrayImage, budget: Duration) -> Result<Found, Error> {
        let start = Instant::now();
        let codes = self.timed(0, picture, &FRAME_FIRST)?;
        let mut attempts = 1;
        if !codes.is_empty() {
            self.found(&codes, picture);
            return Ok(Found { codes, attempts });
        }
        let part = self.place.map(|(place, _)| place.clipped(picture));
        for _ in 0..FRAME.len() {
            let index = self.next;
            // The border is for what hangs out of the frame, and finds the place: it needs the whole frame.
            let whole = FRAME[index].border > 0.0;
            let part = part.as_ref().filter(|_| !whole);
            let target = part.map_or(picture, |(part, _)| part);
            let pixels = f64::from(target.width() * target.height()) / 1000.0;
            let left = budget.saturating_sub(start.elapsed());
            if self.costs[index + 1] * pixels > left.as_secs_f64() * 1e6 {
                // What would never fit is passed over, what fits a fresh frame waits for one.
                if self.costs[index + 1] * pixels < budget.as_secs_f64() * 0.8e6 {
                    break;
                }
                self.next = (self.next + 1) % FRAME.len();
                continue;
            }
            self.next = (self.next + 1) % FRAME.len();
            attempts += 1;
            let mut codes = if whole {
                let begun = Instant::now();
                let (codes, place) = look_for_places(picture, &FRAME[index])?;
                self.learn(index + 1, pixels, begun.elapsed());
                self.place = place.map(|place| (place, 2 * FRAME.len() as u8)).or(self.place);
                codes
            } else {
                self.timed(index + 1, target, &FRAME[index])?
            };
            if codes.is_empty() {
                continue;
            }
            if let Some((_, [x, y])) = part {
                for point in codes.iter_mut().flat_map(|code| &mut code.points) {
                    point[0] += x;
                    point[1] += y;
                }
            }
            self.found(&codes, picture);
            // What read this frame will read the next.
            self.next = index;
            return Ok(Found { codes, attempts });
        }
        self.place = self.place.and_then(|(place, left)| left.checked_sub(1).map(|left| (place, left)));
        Ok(Found { codes: Vec::new(), attempts })
    }

    fn found(&mut self, codes: &[Code], picture: &GrayImage) {
        let place = codes.first().and_then(|code| Place::around(&code.points, picture));
        self.place = place.map(|place| (place, 2 * FRAME.len() as u8));
    }

    fn timed(&mut self, slot: usize, picture: &GrayImage, attempt: &Attempt) -> Result<Vec<Code>, Error> {
        let begun = Instant::now();
        let codes = match (attempt.make)(picture) {
            Some(copy) => codes_of(&search(&copy, attempt.binarizer, Some(1))?, attempt),
            None => Vec::new(),
        };
        let pixels = f64::from(picture.width() * picture.height()) / 1000.0;
        self.learn(slot, pixels, begun.elapsed());
        Ok(codes)
    }

    /// A slow search weighs at once, a quick one little by little.
    fn learn(&mut self, slot: usize, kilopixels: f64, took: Duration) {
        let cost = took.as_secs_f64() * 1e6 / kilopixels.max(1.0);
        let known = &mut self.costs[slot];
        *known = if cost > *known { 0.5 * (*known + cost) } else { 0.9 * *known + 0.1 * cost };
    }
}

impl Place {
    /// The box around corners, with a margin, inside the picture.
    fn around(points: &[[f64; 2]; 4], picture: &GrayImage) -> Option<Self> {
        let span = |axis: usize, side: u32| {
            let low = points.iter().map(|point| point[axis]).fold(f64::INFINITY, f64::min);
            let high = points.iter().map(|point| point[axis]).fold(f64::NEG_INFINITY, f64::max);
            let margin = MARGIN * (high - low);
            let low = (low - margin).clamp(0.0, f64::from(side));
            let high = (high + margin).clamp(0.0, f64::from(side));
            (low as u32, (high - low) as u32)
        };
        let ((x, width), (y, height)) = (span(0, picture.width()), span(1, picture.height()));
        // A place that small is a speck, and one as large as the frame saves nothing.
        (width >= 40 && height >= 40).then_some(Self { x, y, width, height })
    }

    fn clipped(self, picture: &GrayImage) -> (GrayImage, [f64; 2]) {
        let (x, y) = (self.x.min(picture.width() - 1), self.y.min(picture.height() - 1));
        let (width, height) = (self.width.min(picture.width() - x), self.height.min(picture.height() - y));
        (crop_imm(picture, x, y, width, height).to_image(), [f64::from(x), f64::from(y)])
    }
}

fn read_still(picture: &GrayImage) -> Result<Found, Error> {
    let mut attempts = 0;
    for attempt in &STILL {
        let Some(copy) = (attempt.make)(picture) else { continue };
        attempts += 1;
        let codes = codes_of(&search(&copy, attempt.binarizer, None)?, attempt);
        if !codes.is_empty() {
            return Ok(Found { codes, attempts });
        }
    }
    Ok(Found { codes: Vec::new(), attempts })
}

/// One search that also tells where something like a code is.
fn look_for_places(picture: &GrayImage, attempt: &Attempt) -> Result<(Vec<Code>, Option<Place>), Error> {
    let Some(copy) = (attempt.make)(picture) else { return Ok((Vec::new(), None)) };
    let found = reader(attempt.binarizer, PLACES_MAX, &ENTRY_FORMATS).return_errors(true).from(view(&copy)?);
    let found = found.map_err(|_| Error::Decoder)?;
    let codes = codes_of(&found, attempt);
    let area = |place: &Place| place.width * place.height;
    let places = found.iter().filter_map(|barcode| Place::around(&corners(barcode, attempt), picture));
    Ok((codes, places.max_by_key(area)))
}

fn reader(binarizer: Binarizer, codes_max: i32, formats: &[BarcodeFormat]) -> BarcodeReader {
    BarcodeReader::new()
        .formats(formats)
        .try_harder(true)
        .try_rotate(true)
        .try_invert(true)
        .try_downscale(true)
        .max_number_of_symbols(codes_max)
        .text_mode(TextMode::Plain)
        .binarizer(binarizer)
}

fn view(picture: &GrayImage) -> Result<ImageView<'_>, Error> {
    let (width, height) = picture.dimensions();
    ImageView::from_slice(picture.as_raw(), width, height, ImageFormat::Lum).map_err(|_| Error::Decoder)
}

fn search(picture: &GrayImage, binarizer: Binarizer, codes_max: Option<i32>) -> Result<Vec<Barcode>, Error> {
    let reader = match codes_max {
        Some(codes_max) => reader(binarizer, codes_max, &ENTRY_FORMATS),
        None => reader(binarizer, CODES_MAX as i32, &ALL_FORMATS),
    };
    let found = reader.from(view(picture)?);
    found.map_err(|_| Error::Decoder)
}

fn corners(barcode: &Barcode, attempt: &Attempt) -> [[f64; 2]; 4] {
    let at = barcode.position();
    let point =
        |point: PointI| [point.x, point.y].map(|value| (f64::from(value) - attempt.border) / attempt.scale);
    [at.top_left, at.top_right, at.bottom_right, at.bottom_left].map(point)
}

/// The codes that were read, each once.
fn codes_of(found: &[Barcode], attempt: &Attempt) -> Vec<Code> {
    let mut codes: Vec<Code> = Vec::new();
    for barcode in found.iter().filter(|barcode| barcode.is_valid()) {
        let code = Code { text: barcode.text(), points: corners(barcode, attempt) };
        if !codes.iter().any(|other| is_same(other, &code)) {
            codes.push(code);
        }
    }
    codes
}

/// The same symbol found twice: the same text, and each centre within the other's reach.
fn is_same(one: &Code, other: &Code) -> bool {
    let centre =
        |code: &Code| [0, 1].map(|axis| code.points.iter().map(|point| point[axis]).sum::<f64>() / 4.0);
    let (ours, theirs) = (centre(one), centre(other));
    let reach = (one.points[0][0] - one.points[2][0]).hypot(one.points[0][1] - one.points[2][1]) / 4.0;
    one.text == other.text && (ours[0] - theirs[0]).hypot(ours[1] - theirs[1]) <= reach
}
