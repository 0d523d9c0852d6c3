//! How long a screen takes from its changed view to drawn pixels: every scene in turn, the whole picture each time,
//! with the software renderer that a box without a graphics processor uses.

use divan::Bencher;
use engine::kiosk::Language;
use kiosk::Painter;

fn main() {
    divan::main();
}

/// Pixels: the desktop window's size, and a 15-inch screen held upright.
#[divan::bench(args = [(540, 960), (1080, 1920)], sample_count = 20, sample_size = 1)]
fn draw_changed_screen(bencher: Bencher, size: (u32, u32)) {
    let painter = Painter::start().expect("Slint starts without a display");
    let scenes = kiosk::showcase::scenes(Language::Korean);
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % scenes.len();
        painter.paint(&scenes[next].view, size).expect("drawn")
    });
}
