//! Enrolment, search and erasure with synthetic palms. The error rates printed here are of synthetic palms
//! and promise nothing about real ones.

mod synthetic;

use palm::{
    Consent, EnrolError, Gallery, Key, MemberId, Outcome, Palm, Picture, Probe, Template, Thresholds, Vault,
    VaultError,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ring::rand::SystemRandom;
use synthetic::{HEIGHT, Hand, Pose, WIDTH};

const CONSENT: Consent = Consent { id: [9; 16], given_ms: 1000, text_version: 3, expires_ms: 1_000_000 };

fn picture(pixels: &[u8]) -> Picture<'_> {
    Picture::new(WIDTH as u32, HEIGHT as u32, pixels).expect("a picture of this size")
}

fn template(pixels: &[u8]) -> Template {
    let picture = picture(pixels);
    let palm = Palm::find(&picture).expect("a palm");
    Template::extract(&palm.region(&picture))
}

/// Pictures of a hand, each laid on anew.
fn pictures(hand: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = ChaCha8Rng::seed_from_u64(hand ^ 0xFACE);
    let shape = Hand::new(hand);
    (0..count).map(|_| shape.picture(&Pose::free(&mut random), &mut random)).collect()
}

fn member(number: u64) -> MemberId {
    MemberId(number.to_be_bytes())
}

fn gallery(secret: u8) -> Gallery {
    Gallery::new(Key::from_secret(&[secret; 32]), Thresholds::default())
}

fn enrolled(secret: u8, hands: std::ops::Range<u64>) -> Gallery {
    let mut gallery = gallery(secret);
    for hand in hands {
        let samples: Vec<Template> = pictures(hand, 3).iter().map(|pixels| template(pixels)).collect();
        gallery
            .enrol(member(hand), CONSENT, 2000, &samples)
            .unwrap_or_else(|error| panic!("hand {hand}: {error}"));
    }
    gallery
}

fn search(gallery: &Gallery, pixels: &[u8]) -> Outcome {
    let picture = picture(pixels);
    gallery.search(&Probe::new(gallery.key(), picture, Palm::find(&picture).expect("a palm")))
}

/// The error rate at which as many genuine pairs are refused as impostor pairs are accepted, and where.
fn equal_error_rate(genuine: &[f32], impostor: &[f32]) -> (f32, f32) {
    (0..=1000)
        .map(|step| step as f32 / 1000.0)
        .map(|line| {
            let refused = genuine.iter().filter(|d| **d > line).count() as f32 / genuine.len() as f32;
            let accepted = impostor.iter().filter(|d| **d <= line).count() as f32 / impostor.len() as f32;
            (refused.max(accepted), line)
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .expect("lines to choose from")
}

#[test]
fn synthetic_palms_of_one_hand_are_closer_than_those_of_two() {
    let hands: Vec<Vec<Template>> =
        (0..40).map(|hand| pictures(hand, 3).iter().map(|pixels| template(pixels)).collect()).collect();
    let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
    for (one, samples) in hands.iter().enumerate() {
        for (index, sample) in samples.iter().enumerate() {
            genuine.extend(samples[index + 1..].iter().map(|other| sample.distance(other)));
            impostor.extend(hands[one + 1..].iter().flatten().map(|other| sample.distance(other)));
        }
    }
    let (rate, line) = equal_error_rate(&genuine, &impostor);
    let mean = |distances: &[f32]| distances.iter().sum::<f32>() / distances.len() as f32;
    let worst = genuine.iter().copied().fold(0.0, f32::max);
    let closest = impostor.iter().copied().fold(1.0, f32::min);
    println!(
        "synthetic: EER {:.2} % at {line}; genuine mean {:.3} worst {worst:.3}; \
         impostor mean {:.3} closest {closest:.3}; {} and {} pairs",
        rate * 100.0,
        mean(&genuine),
        mean(&impostor),
        genuine.len(),
        impostor.len(),
    );
    assert!(rate <= 0.01, "equal error rate {rate}");
}

#[test]
fn members_are_found_and_strangers_are_not() {
    let gallery = enrolled(1, 0..24);
    let (mut found, mut probes) = (0, 0);
    for hand in 0..24 {
        for pixels in &pictures(hand, 6)[3..] {
            probes += 1;
            match search(&gallery, pixels) {
                Outcome::Match(who) => {
                    assert_eq!(who, member(hand));
                    found += 1;
                }
                Outcome::NoMatch | Outcome::Ambiguous => {}
            }
        }
    }
    println!("synthetic: {found} of {probes} mated searches found their member");
    assert!(found * 100 >= probes * 98, "{found} of {probes}");
    for hand in 1000..1015 {
        assert_eq!(search(&gallery, &pictures(hand, 1)[0]), Outcome::NoMatch, "stranger {hand}");
    }
}

#[test]
fn an_erased_member_is_a_stranger() {
    let mut gallery = enrolled(2, 0..3);
    let pixels = &pictures(1, 4)[3];
    assert_eq!(search(&gallery, pixels), Outcome::Match(member(1)));
    assert_eq!(gallery.erase(member(1)), Some(CONSENT));
    assert_eq!(gallery.erase(member(1)), None);
    assert_eq!((search(&gallery, pixels), gallery.len()), (Outcome::NoMatch, 2));
}

#[test]
fn one_palm_under_two_members_is_ambiguous() {
    let mut gallery = enrolled(3, 0..2);
    let samples: Vec<Template> = pictures(1, 3).iter().map(|pixels| template(pixels)).collect();
    gallery.enrol(member(77), CONSENT, 2000, &samples).unwrap();
    assert_eq!(search(&gallery, &pictures(1, 4)[3]), Outcome::Ambiguous);
}

#[test]
fn a_new_key_makes_old_templates_worthless() {
    let old = enrolled(4, 0..2);
    let pixels = &pictures(0, 4)[3];
    assert_eq!(search(&old, pixels), Outcome::Match(member(0)));
    let vault = Vault::new(old.key(), 42);
    let sealed = vault.seal(member(0), old.enrolment(member(0)).unwrap(), &SystemRandom::new()).ok().unwrap();
    let mut new = gallery(5);
    new.insert(member(0), vault.open(member(0), &sealed).ok().unwrap()).ok().unwrap();
    assert_eq!(search(&new, pixels), Outcome::NoMatch);
}

#[test]
fn enrolment_refuses_what_would_not_work() {
    let mut gallery = gallery(6);
    let shown = pictures(10, 3);
    let samples = || -> Vec<Template> { shown.iter().map(|pixels| template(pixels)).collect() };
    let stranger = template(&pictures(11, 1)[0]);
    let refusal = |result: Result<&palm::Enrolment, EnrolError>| result.err();
    assert_eq!(refusal(gallery.enrol(member(1), CONSENT, 0, &[])), Some(EnrolError::Samples { found: 0 }));
    let late = CONSENT.expires_ms;
    assert_eq!(refusal(gallery.enrol(member(1), CONSENT, late, &samples())), Some(EnrolError::Expired));
    let mut mixed = samples();
    mixed[1] = stranger;
    let inconsistent = EnrolError::Inconsistent { first: 0, second: 1 };
    assert_eq!(refusal(gallery.enrol(member(1), CONSENT, 0, &mixed)), Some(inconsistent));
    assert!(gallery.is_empty());
    assert_eq!(refusal(gallery.enrol(member(1), CONSENT, 0, &samples())), None);
    assert_eq!(refusal(gallery.enrol(member(1), CONSENT, 0, &samples())), Some(EnrolError::Enrolled));
}

#[test]
fn ended_consent_and_long_absence_are_overdue() {
    let mut gallery = enrolled(7, 0..3);
    let overdue = |gallery: &Gallery, now| gallery.overdue(now, 500_000).collect::<Vec<_>>();
    assert_eq!(overdue(&gallery, 500_000), []);
    gallery.seen(member(2), 300_000);
    assert_eq!(overdue(&gallery, 600_000), [member(0), member(1)]);
    assert_eq!(overdue(&gallery, 1_000_000), [member(0), member(1), member(2)]);
}

#[test]
fn sealed_records_open_only_where_they_belong() {
    let first = enrolled(8, 0..2);
    let vault = Vault::new(first.key(), 42);
    let random = SystemRandom::new();
    let mut sealed = vault.seal(member(0), first.enrolment(member(0)).unwrap(), &random).ok().unwrap();

    let mut second = gallery(8);
    let opened = Vault::new(second.key(), 42).open(member(0), &sealed).ok().unwrap();
    assert_eq!((opened.consent(), opened.last_seen_ms()), (&CONSENT, 2000));
    second.insert(member(0), opened).ok().unwrap();
    assert_eq!(search(&second, &pictures(0, 4)[3]), Outcome::Match(member(0)));

    let refusals = [
        vault.open(member(1), &sealed).err(),
        Vault::new(second.key(), 43).open(member(0), &sealed).err(),
        Vault::new(gallery(9).key(), 42).open(member(0), &sealed).err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Some(VaultError::Sealed { .. })), "{refusal:?}");
    }
    let other = vault.seal(member(0), first.enrolment(member(0)).unwrap(), &random).ok().unwrap();
    assert!(other.body != sealed.body, "each seal has its own key and nonce");
    for at in 0..sealed.body.len() {
        sealed.body[at] ^= 1;
        assert!(vault.open(member(0), &sealed).is_err(), "body byte {at}");
        sealed.body[at] ^= 1;
    }
    for length in 0..sealed.key.len() {
        let key = sealed.key[..length].to_vec();
        let cut = palm::SealedRecord { key, body: sealed.body.clone() };
        assert!(vault.open(member(0), &cut).is_err(), "key of {length} bytes");
    }
    sealed.key[0] = 2;
    assert_eq!(vault.open(member(0), &sealed).err(), Some(VaultError::Version { found: 2 }));
}
