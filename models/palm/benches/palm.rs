//! What a palm costs: finding it, coding it, and searching 10,000 members, on one core. Synthetic palms; the
//! work does not depend on what is in them.

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

use divan::{Bencher, black_box};
use palm::{Consent, Gallery, Key, MemberId, Palm, Picture, Probe, Template, Thresholds};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use synthetic::{HEIGHT, Hand, Pose, WIDTH};

const MEMBERS: u64 = 10_000;

fn main() {
    divan::main();
}

fn pixels(hand: u64, take: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(hand << 8 | take);
    Hand::new(hand).picture(&Pose::free(&mut random), &mut random)
}

fn picture(pixels: &[u8]) -> Picture<'_> {
    Picture::new(WIDTH as u32, HEIGHT as u32, pixels).expect("a picture of this size")
}

fn palm(pixels: &[u8]) -> Palm {
    Palm::find(&picture(pixels)).expect("a palm")
}

/// 9,999 members with the palms of 20 others, and one with hand 0.
fn gallery() -> Gallery {
    let mut gallery = Gallery::new(Key::from_secret(&[1; 32]), Thresholds::default());
    let consent = Consent { id: [0; 16], given_ms: 0, text_version: 1, expires_ms: u64::MAX };
    let template = |hand| {
        let pixels = pixels(hand, 0);
        [Template::extract(&palm(&pixels).region(&picture(&pixels)))]
    };
    let others: Vec<_> = (1..=20).map(template).collect();
    let own = template(0);
    for member in 0..MEMBERS {
        let sample = if member == MEMBERS / 2 { &own } else { &others[(member % 20) as usize] };
        gallery.enrol(MemberId(member.to_be_bytes()), consent, 1, sample).expect("a member");
    }
    gallery
}

#[divan::bench]
fn find_palm(bencher: Bencher<'_, '_>) {
    let pixels = pixels(0, 1);
    bencher.bench_local(|| Palm::find(&picture(black_box(&pixels))).is_ok());
}

#[divan::bench]
fn extract(bencher: Bencher<'_, '_>) {
    let pixels = pixels(0, 1);
    let region = palm(&pixels).region(&picture(&pixels));
    bencher.bench_local(|| Template::extract(black_box(&region)).coverage());
}

#[divan::bench]
fn search_member_of_10_000(bencher: Bencher<'_, '_>) {
    let (gallery, pixels) = (gallery(), pixels(0, 1));
    let probe = Probe::new(gallery.key(), picture(&pixels), palm(&pixels));
    bencher.bench_local(|| gallery.search(black_box(&probe)));
}

/// The first pass, and the second pass over the short list.
#[divan::bench]
fn search_stranger_in_10_000(bencher: Bencher<'_, '_>) {
    let (gallery, pixels) = (gallery(), pixels(99, 1));
    let probe = Probe::new(gallery.key(), picture(&pixels), palm(&pixels));
    bencher.bench_local(|| gallery.search(black_box(&probe)));
}
