//! Time to find the people in one 320 x 192 picture, on one core: the bar is 7 ms.

use std::path::Path;

use divan::Bencher;
use recognition::{Detect, Detector, library_path};

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 200)]
fn detect(bencher: Bencher) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = library_path().expect("ONNX Runtime is installed: make deps");
    let mut detector = Detector::load(&folder.join("../onnx"), &library).expect("the committed model");
    let frame = std::fs::read(folder.join("tests/golden/frame.ppm")).expect("the golden frame");
    let rgb = frame[frame.len() - 320 * 192 * 3..].to_vec();
    bencher.bench_local(|| detector.detect(320, 192, &rgb).expect("detects"));
}
