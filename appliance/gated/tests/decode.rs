//! The camera decode path over pictures that others took (`STILE_DATA`), and over codes drawn here.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gated::decode::{decode, decode_file, read_picture};
use image::{GrayImage, Luma};
use zxingcpp::{BarcodeCreator, BarcodeFormat, BarcodeWriter};

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
fn broken_pictures_are_errors() {
    let mut png = Vec::new();
    let picture = drawn("a picture to break", "");
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for length in [0, 1, 8, 30, png.len() / 2] {
        let path = folder.path().join("broken.png");
        fs::write(&path, &png[..length]).unwrap();
        assert!(decode_file(&path).is_err(), "{length}");
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
    assert!(decode_file(&folder.path().join("absent.png")).is_err());
}

fn pictures(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pictures(&path, found);
        } else if path.extension().is_some_and(|ext| ["png", "jpg", "webp"].iter().any(|known| ext == *known))
        {
            found.push(path);
        }
    }
}

/// Counts exact texts per folder. The floors are what was measured, less a little for other decoder versions.
#[test]
fn pictures_that_others_took() {
    let data = std::env::var_os("STILE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let root = data.join("qr");
    if !root.is_dir() {
        eprintln!("skipped: no data");
        return;
    }
    let mut files = Vec::new();
    pictures(&root, &mut files);
    let (mut right, mut all, mut ms_sum) = (0, 0, 0.0);
    let mut folders: BTreeMap<PathBuf, (u32, u32)> = BTreeMap::new();
    let mut false_reads = 0;
    for file in files {
        let Ok(want) = fs::read(file.with_extension("txt")) else {
            if file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("falsepositives"))
            {
                false_reads += decode_file(&file).map_or(0, |(codes, _)| codes.len());
            }
            continue;
        };
        let want = String::from_utf8_lossy(&want).replace("\r\n", "\n");
        let (codes, ms) = decode_file(&file).unwrap();
        let exact = codes.iter().any(|code| code.text.replace("\r\n", "\n") == want);
        let folder =
            folders.entry(file.parent().unwrap().strip_prefix(&root).unwrap().to_owned()).or_default();
        folder.0 += u32::from(exact);
        folder.1 += 1;
        if std::env::var_os("STILE_MISSED").is_some() && !exact {
            let texts: Vec<&str> = codes.iter().map(|code| code.text.as_str()).collect();
            eprintln!("missed {} {texts:?} wants {want:?}", file.display());
        }
        let folder = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        if folder.starts_with("qrcode") {
            right += u32::from(exact);
            all += 1;
            ms_sum += ms;
        }
    }
    for (folder, (exact, all)) in &folders {
        eprintln!("{}: {exact} of {all}", folder.display());
    }
    let rate = f64::from(right) / f64::from(all);
    eprintln!(
        "qrcode folders: {right} of {all} ({:.1} %), mean {:.2} ms",
        rate * 100.0,
        ms_sum / f64::from(all)
    );
    eprintln!("codes read in false-positive pictures: {false_reads}");
    assert!(rate >= 0.94, "{right} of {all}");
    assert_eq!(false_reads, 0);
}
