//! Time to draw one camera's frame, and its still background, on one core.

use divan::Bencher;
use store_sim::body::{Body, Figure};
use store_sim::dice::Dice;
use store_sim::layout::Layout;
use store_sim::render::Renderer;

fn main() {
    divan::main();
}

/// People in the middle of the first camera's picture.
fn bodies(map: &engine::store::StoreMap, count: usize) -> Vec<Body> {
    let mut dice = Dice::new(1, 1);
    let camera = &map.cameras[0].model;
    (0..count)
        .map(|index| {
            let pixel = [60.0 + 40.0 * index as f64, 100.0];
            let position = camera.on_plane(pixel, 1.0).unwrap_or([1.0, 1.0]);
            let mut body = Body::pose(&Figure::random(&mut dice), position, 1.0, 0.7, [None, None]);
            body.hold(1, [0.1, 0.1, 0.2], [200, 30, 30]);
            body
        })
        .collect()
}

#[divan::bench(args = [0, 1, 3, 6])]
fn frame(bencher: Bencher, people: usize) {
    let map = Layout::new(1).map;
    let mut renderer = Renderer::new(&map, 0, 1);
    let bodies = bodies(&map, people);
    let mut out = camera::Rgb::new(320, 192);
    bencher.bench_local(|| renderer.frame(&bodies, &mut out));
}

#[divan::bench(sample_count = 5)]
fn background(bencher: Bencher) {
    let map = Layout::new(1).map;
    bencher.bench_local(|| Renderer::new(&map, 0, 1));
}
