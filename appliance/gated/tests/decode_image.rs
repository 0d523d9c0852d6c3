//! `gated decode-image` as people and scripts call it.

use std::fs;
use std::process::Command;

use serde_json::Value;
use zxingcpp::{BarcodeCreator, BarcodeFormat, BarcodeWriter};

#[test]
fn one_line_a_file_and_broken_ones_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.png");
    let drawn = BarcodeCreator::new(BarcodeFormat::QRCode).from_str("hello").unwrap();
    let drawn = drawn.to_image_with(&BarcodeWriter::new().scale(5).add_quiet_zones(true)).unwrap();
    let picture =
        image::GrayImage::from_raw(drawn.width() as u32, drawn.height() as u32, drawn.data()).unwrap();
    picture.save(&good).unwrap();
    let empty = folder.path().join("empty.png");
    image::GrayImage::from_pixel(60, 60, image::Luma([200])).save(&empty).unwrap();
    let broken = folder.path().join("broken.png");
    fs::write(&broken, b"no picture").unwrap();
    let absent = folder.path().join("absent.png");

    let run = |files: &[&std::path::Path]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_gated")).arg("decode-image").args(files).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status, lines, String::from_utf8(output.stderr).unwrap())
    };
    let (status, lines, errors) = run(&[&broken, &good, &absent, &empty]);
    assert!(!status.success());
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["file"], good.to_str().unwrap());
    assert_eq!(lines[0]["codes"][0]["text"], "hello");
    assert_eq!(lines[0]["codes"][0]["points"].as_array().unwrap().len(), 4);
    assert!(lines[0]["codes"][0]["points"][0][0].is_f64() && lines[0]["ms"].as_f64().unwrap() > 0.0);
    assert_eq!(lines[1]["codes"], Value::Array(Vec::new()));
    assert!(errors.contains("broken.png") && errors.contains("absent.png"), "{errors}");
    assert_eq!(errors.lines().count(), 2);

    let (status, lines, errors) = run(&[&good]);
    assert!(status.success() && lines.len() == 1 && errors.is_empty());
}
