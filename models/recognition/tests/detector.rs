//! The committed model through ONNX Runtime: the answers of the Python reference, and what happens to bad files.
//!
//! Where ONNX Runtime is not installed the tests that need it say so and pass.

use std::path::{Path, PathBuf};

use recognition::{Detect, Detector, Error, library_path};
use serde::Deserialize;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx")
}

/// A frame that models/eval/evaluate.py chose and answered.
fn golden_frame() -> (u32, u32, Vec<u8>) {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frame.ppm"))
        .expect("tests/golden/frame.ppm");
    let header = b"P6 320 192 255\n";
    assert!(bytes.starts_with(header));
    (320, 192, bytes[header.len()..].to_vec())
}

#[derive(Deserialize)]
struct GoldenPerson {
    head: [f32; 2],
    foot: [f32; 2],
    score: f32,
    hands: Vec<GoldenHand>,
}

#[derive(Deserialize)]
struct GoldenHand {
    at: [f32; 2],
    score: f32,
}

fn detector() -> Option<Detector> {
    match library_path() {
        Ok(library) => Some(Detector::load(&models(), &library).expect("the committed model loads")),
        Err(error) => {
            say_skipped(&error);
            None
        }
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn say_skipped(error: &Error) {
    eprintln!("skipped: {error}");
}

fn close(one: [f32; 2], other: [f32; 2]) -> bool {
    // Half a tenth of a pixel: other runtimes and processors sum in other orders.
    (one[0] - other[0]).abs() < 0.05 && (one[1] - other[1]).abs() < 0.05
}

#[test]
fn answers_as_the_python_reference_does() {
    let Some(mut detector) = detector() else { return };
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/people.json"))
            .expect("tests/golden/people.json");
    let golden: Vec<GoldenPerson> = serde_json::from_str(&text).expect("golden people");
    assert!(!golden.is_empty());
    let (width, height, rgb) = golden_frame();
    let people = detector.detect(width, height, &rgb).expect("detects");
    assert_eq!(people.len(), golden.len(), "{people:?}");
    for (person, golden) in people.iter().zip(&golden) {
        assert!(close(person.head, golden.head), "head {person:?}, golden {:?}", golden.head);
        assert!(close(person.foot, golden.foot), "foot {person:?}, golden {:?}", golden.foot);
        assert!((person.score - golden.score).abs() < 1e-3, "{person:?}, golden {}", golden.score);
        assert_eq!(person.hands.len(), golden.hands.len(), "{person:?}");
        for (hand, golden) in person.hands.iter().zip(&golden.hands) {
            assert!(close(hand.at, golden.at) && (hand.score - golden.score).abs() < 1e-3, "{person:?}");
        }
    }
}

#[test]
fn a_larger_picture_gives_the_same_people_in_its_own_pixels() {
    let Some(mut detector) = detector() else { return };
    let (width, height, rgb) = golden_frame();
    let people = detector.detect(width, height, &rgb).expect("detects");
    let doubled: Vec<u8> = (0..height * 2)
        .flat_map(|row| (0..width * 2).map(move |column| (row / 2 * width + column / 2) as usize * 3))
        .flat_map(|start| [rgb[start], rgb[start + 1], rgb[start + 2]])
        .collect();
    let larger = detector.detect(width * 2, height * 2, &doubled).expect("detects");
    assert_eq!(larger.len(), people.len());
    for (one, other) in people.iter().zip(&larger) {
        assert!(close(one.head.map(|value| value * 2.0), other.head), "{one:?}, {other:?}");
    }
}

#[test]
fn pictures_that_are_too_short_are_refused() {
    let Some(mut detector) = detector() else { return };
    for (width, height, bytes) in
        [(320, 192, 10), (0, 0, 0), (u32::MAX, u32::MAX, 3), (320, 192, 320 * 192 * 4)]
    {
        let error = detector.detect(width, height, &vec![0; bytes]).expect_err("refused");
        assert!(matches!(error, Error::Picture { .. }), "{error}");
    }
    assert!(detector.detect(7, 500, &vec![128; 7 * 500 * 3]).expect("odd sizes work").is_empty());
}

/// A models folder with this model and this hash in its manifest.
fn folder(model: &[u8], hash: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("people.onnx"), model).expect("writes");
    let text = format!(
        "[people]\nfile = \"people.onnx\"\nsha256 = \"{hash}\"\nhead_least = 0.3\nhand_least = 0.3\n"
    );
    std::fs::write(folder.path().join("manifest.toml"), text).expect("writes");
    folder
}

/// Loads with any library: the files are checked before it is opened.
fn fault(models: &Path) -> Error {
    Detector::load(models, Path::new("/nonexistent/libonnxruntime.so")).expect_err("refused")
}

#[test]
fn a_changed_model_is_refused_by_name() {
    let folder = folder(b"not what was trained", &"0".repeat(64));
    let error = fault(folder.path());
    assert!(matches!(error, Error::Hash { .. }) && error.to_string().contains("people.onnx"), "{error}");
}

#[test]
fn missing_and_malformed_files_are_named() {
    let empty = tempfile::tempdir().expect("a folder");
    let error = fault(empty.path());
    assert!(matches!(error, Error::Read { .. }) && error.to_string().contains("manifest.toml"), "{error}");
    std::fs::write(empty.path().join("manifest.toml"), "[people]\nfile = 3\n").expect("writes");
    let error = fault(empty.path());
    assert!(
        matches!(error, Error::Manifest { .. }) && error.to_string().contains("manifest.toml"),
        "{error}"
    );
    let card = "[people]\nfile = \"../people.onnx\"\nsha256 = \"\"\nhead_least = 0.3\nhand_least = 0.3\n";
    std::fs::write(empty.path().join("manifest.toml"), card).expect("writes");
    assert!(matches!(fault(empty.path()), Error::Manifest { .. }));
}

#[test]
fn a_missing_library_is_named() {
    let error = fault(&models());
    let text = error.to_string();
    assert!(
        matches!(error, Error::NoLibrary(_)) && text.contains("/nonexistent/libonnxruntime.so"),
        "{text}"
    );
}

#[test]
fn a_model_that_the_runtime_refuses_is_named() {
    let Ok(library) = library_path() else { return };
    // The refusal tells the true hash.
    let Error::Hash { found, .. } = fault(folder(b"garbage", "").path()) else { panic!("no hash fits") };
    let folder = folder(b"garbage", &found);
    let error = Detector::load(folder.path(), &library).expect_err("refused");
    assert!(matches!(error, Error::Model { .. }) && error.to_string().contains("people.onnx"), "{error}");
}
