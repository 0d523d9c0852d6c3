//! Finding the palm: place, size and direction of synthetic hands, and pictures without one.

mod synthetic;

use palm::{NoPalm, Palm, Picture, Template};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use synthetic::{HEIGHT, Hand, Pose, WIDTH};

fn picture(pixels: &[u8]) -> Picture<'_> {
    Picture::new(WIDTH as u32, HEIGHT as u32, pixels).expect("a picture of this size")
}

#[test]
fn size_and_direction_follow_the_hand() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let hand = Hand::new(5);
    let plain = hand.picture(&Pose::default(), &mut random);
    let upright = Palm::find(&picture(&plain)).unwrap();
    assert!(!upright.assumed_upright());
    assert!((95.0..115.0).contains(&upright.radius()), "{}", upright.radius());
    for degrees in [-25.0, -12.0, -4.0, 3.0, 9.0, 20.0f32] {
        let pose = Pose { turn: degrees.to_radians(), ..Pose::default() };
        let pixels = hand.picture(&pose, &mut random);
        let palm = Palm::find(&picture(&pixels)).unwrap();
        let turned = (palm.turn() - upright.turn()).to_degrees();
        assert!((turned - degrees).abs() < 4.0, "{degrees} degrees were found as {turned}");
    }
    for radius in [75.0, 90.0] {
        let pixels = hand.picture(&Pose { radius, ..Pose::default() }, &mut random);
        let palm = Palm::find(&picture(&pixels)).unwrap();
        let found = palm.radius() / upright.radius() * 105.0;
        assert!((found - radius).abs() < 0.05 * radius, "a radius of {radius} was found as {found}");
    }
}

#[test]
fn a_hand_that_fills_the_region_is_covered() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let pixels = Hand::new(6).picture(&Pose::free(&mut random), &mut random);
    let palm = Palm::find(&picture(&pixels)).unwrap();
    assert!(Template::extract(&palm.region(&picture(&pixels))).coverage() > 0.8);
}

#[test]
fn what_is_no_palm_is_refused_with_its_reason() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let hand = Hand::new(7);
    let empty: Vec<u8> = (0..WIDTH * HEIGHT).map(|_| (random.next_u32() % 20) as u8).collect();
    let far = hand.picture(&Pose { radius: 40.0, ..Pose::default() }, &mut random);
    let cut = hand.picture(&Pose { centre: [60.0, 270.0], radius: 110.0, ..Pose::default() }, &mut random);
    let full = vec![200; WIDTH * HEIGHT];
    assert_eq!(Palm::find(&picture(&empty)).err(), Some(NoPalm::Empty));
    assert!(matches!(Palm::find(&picture(&far)).err(), Some(NoPalm::Small { .. })));
    assert!(matches!(Palm::find(&picture(&cut)).err(), Some(NoPalm::Cut | NoPalm::Small { .. })));
    assert_eq!(Palm::find(&picture(&full)).err(), Some(NoPalm::Empty));
    let size = Picture::new(640, 480, &full[1..]).err().unwrap();
    assert_eq!(
        size.to_string(),
        "307199 bytes are no picture of 640x480: sides of 128 to 2048, one byte a pixel"
    );
}

#[test]
fn any_picture_gives_a_palm_or_a_reason() {
    for seed in 0..60 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (width, height) = (128 + random.next_u32() % 200, 128 + random.next_u32() % 200);
        let block = 1 + random.next_u32() % 150;
        let salt = random.next_u64();
        let pixels: Vec<u8> = (0..width * height)
            .map(|i| {
                let cell = u64::from(i % width / block) << 32 | u64::from(i / width / block);
                ((cell ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
            })
            .collect();
        let picture = Picture::new(width, height, &pixels).unwrap();
        if let Ok(palm) = Palm::find(&picture) {
            let coverage = Template::extract(&palm.region(&picture)).coverage();
            assert!((0.0..=1.0).contains(&coverage), "seed {seed}");
        }
    }
}
