//! The decoder over codes drawn here: what it finds, where, and what it survives.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use code_reader::decode::{Decoder, read_picture};
use code_reader::wire::{Code, Effort};
use image::{GrayImage, Luma};
use zxingcpp::{BarcodeCreator, BarcodeFormat, BarcodeWriter};

fn decode(picture: &GrayImage) -> Result<Vec<Code>, code_reader::decode::Error> {
    Decoder::default().read(picture, Effort::Still).map(|found| found.codes)
}

fn drawn(text: &str, version: &str) -> GrayImage {
    let mut creator = BarcodeCreator::new(BarcodeFormat::QRCode);
    creator.set_options(version);
    let code = creator.from_str(text).unwrap();
    let drawn = code.to_image_with(&BarcodeWriter::new().scale(4).add_quiet_zones(true)).unwrap();
    GrayImage::from_raw(drawn.width() as u32, drawn.height() as u32, drawn.data()).unwrap()
}

/// A white sheet with pictures on it.
fn sheet(width: u32, height: u32, placed: &[(&GrayImage, i64, i64)]) -> GrayImage {
    let mut sheet = GrayImage::from_pixel(width, height, Luma([255]));
    for (picture, x, y) in placed {
        image::imageops::overlay(&mut sheet, *picture, *x, *y);
    }
    sheet
}

#[test]
fn every_code_of_a_picture_is_found_once() {
    let (first, second) = (drawn(&"1234567890".repeat(23), "version=6,ecLevel=M"), drawn("STILE", ""));
    let picture = sheet(900, 400, &[(&first, 20, 20), (&second, 400, 30), (&second, 600, 200)]);
    let codes = decode(&picture).unwrap();
    let mut texts: Vec<&str> = codes.iter().map(|code| code.text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, [&"1234567890".repeat(23), "STILE", "STILE"]);
}

#[test]
fn corners_are_the_codes_own() {
    let code = drawn("corner order", "");
    let turned = image::imageops::rotate180(&code);
    let side = f64::from(code.width());
    let upright = &decode(&sheet(400, 400, &[(&code, 100, 50)])).unwrap()[0];
    let over = &decode(&sheet(400, 400, &[(&turned, 100, 50)])).unwrap()[0];
    let [left, top] = upright.points[0];
    assert!(left >= 100.0 && left < 100.0 + side / 2.0 && top >= 50.0 && top < 50.0 + side / 2.0);
    assert!(upright.points[1][0] > left + side / 2.0 && upright.points[3][1] > top + side / 2.0);
    for (mine, theirs) in [(0, 2), (1, 3), (2, 0), (3, 1)] {
        for axis in 0..2 {
            assert!(
                (upright.points[mine][axis] - over.points[theirs][axis]).abs() < 8.0,
                "{upright:?} {over:?}"
            );
        }
    }
}

#[test]
fn corners_of_a_repaired_picture_are_in_the_original() {
    // Noise that only the ladder gets through: blur, then contrast of a few grey levels.
    let code = drawn(&"9876543210".repeat(45), "version=10,ecLevel=M");
    let mut found_by_ladder = 0;
    for sigma in [2.0, 3.0, 4.0, 4.5, 5.0] {
        let picture = image::imageops::blur(&sheet(500, 500, &[(&code, 120, 60)]), sigma);
        let small = image::imageops::resize(&picture, 250, 250, image::imageops::FilterType::Triangle);
        for code in decode(&small).unwrap() {
            found_by_ladder += 1;
            assert!(
                (code.points[0][0] - 66.0).abs() < 8.0 && (code.points[0][1] - 36.0).abs() < 8.0,
                "{code:?}"
            );
        }
    }
    assert!(found_by_ladder > 0);
}

#[test]
fn light_on_dark_is_read() {
    let mut picture = sheet(400, 400, &[(&drawn("dark mode", ""), 100, 100)]);
    image::imageops::invert(&mut picture);
    assert_eq!(decode(&picture).unwrap()[0].text, "dark mode");
}

#[test]
fn small_and_empty_pictures_hold_nothing() {
    for (width, height) in [(0, 0), (1, 1), (1, 100), (100, 1), (3, 3)] {
        assert_eq!(decode(&GrayImage::new(width, height)).unwrap(), []);
    }
}

#[test]
fn broken_pictures_are_errors_and_never_panic() {
    let mut png = Vec::new();
    let picture = drawn("a picture to break", "");
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    for length in [0, 1, 8, 30, png.len() / 2] {
        assert!(read_picture(&png[..length]).is_err(), "{length}");
    }
    let mut state = 5_u64;
    for _ in 0..300 {
        let mut bytes = png.clone();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = (state >> 33) as usize % bytes.len();
            bytes[place] = (state >> 20) as u8;
        }
        if let Ok(picture) = read_picture(&bytes) {
            decode(&picture).unwrap();
        }
    }
}

/// A code that hangs out of the frame with a corner is read by looking past the edge, and its corners are where
/// they are; the next frame is searched where it was.
#[test]
fn a_corner_may_hang_out_of_the_frame() {
    let code = drawn(&"9876543210".repeat(45), "version=10,ecLevel=M");
    let lying = sheet(600, 600, &[(&code, 170, 170)]);
    // Turned by 45 degrees about its middle, the lower right corner lies at the right edge: 6 modules of the
    // symbol are beyond it.
    let half = f64::from(code.width()) / 2.0;
    let (middle, turn) = (170.0 + half, -std::f64::consts::FRAC_PI_4);
    let reach = (half - 16.0) * std::f64::consts::SQRT_2;
    let right = (middle + reach - 24.0) as u32;
    let cut = GrayImage::from_fn(right, 600, |x, y| {
        let (dx, dy) = (f64::from(x) - middle, f64::from(y) - middle);
        let from = |value: f64| (value + middle).clamp(0.0, 599.0) as u32;
        let (sin, cos) = turn.sin_cos();
        *lying.get_pixel(from(dx * cos + dy * sin), from(dy * cos - dx * sin))
    });
    let mut decoder = Decoder::default();
    for _ in 0..2 {
        let found = decoder.read(&cut, Effort::Frame { budget_us: 10_000_000 }).unwrap();
        assert_eq!(found.codes.len(), 1);
        // Its upper left corner is at the left, half way down.
        let [x, y] = found.codes[0].points[0];
        assert!(
            (x - (middle - reach)).abs() < 8.0 && (y - middle).abs() < 8.0,
            "{:?}",
            found.codes[0].points
        );
    }
}

/// Each frame begins with a look at the whole picture and goes on for its time only.
#[test]
fn a_frame_takes_its_time_and_no_more() {
    let noise = GrayImage::from_fn(1280, 720, |x, y| Luma([(x / 7 * 13 + y / 5 * 29) as u8]));
    let mut decoder = Decoder::default();
    let at_least = decoder.read(&noise, Effort::Frame { budget_us: 0 }).unwrap();
    assert_eq!((at_least.codes.len(), at_least.attempts), (0, 1));
    let all = decoder.read(&noise, Effort::Frame { budget_us: 60_000_000 }).unwrap();
    assert!(all.attempts >= 8, "{}", all.attempts);
}
