//! The character device driver on the kernel's simulated chip. Run it as root in a machine whose kernel has
//! gpio-sim (tests/vm does, and sets `STILE_VM`); elsewhere every test says that it was skipped.

use std::time::{Duration, Instant};

use turnstile::cdev::{self, Release};
use turnstile::conformance::{self, Bench};
use turnstile::gpiosim::{GpioSim, Wiring};
use turnstile::{ErrorKind, Line, Output, Outputs, Turnstile};

const NONE: Outputs = Outputs::INACTIVE;

/// A new chip, or none where the kernel has no gpio-sim.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn chip(name: &str, wiring: Wiring) -> Option<GpioSim> {
    if !GpioSim::is_available() {
        assert!(std::env::var_os("STILE_VM").is_none(), "the virtual machine has gpio-sim");
        println!("skipped: no gpio-sim");
        return None;
    }
    Some(GpioSim::create(name, wiring).expect("a simulated chip"))
}

fn all() -> Outputs {
    Outputs { unlock_a: true, unlock_b: true, stop: true, beacon_red: true, beacon_green: true, wide: true }
}

#[tokio::test]
async fn lines_by_name_conform() {
    let Some(mut sim) = chip("by-name", Wiring::default()) else { return };
    let mut turnstile = cdev::open(&sim.settings()).expect("open");
    conformance::check(&mut turnstile, &mut sim).await;
}

#[tokio::test]
async fn lines_by_offset_and_active_low_conform() {
    let Some(mut sim) = chip("by-offset", Wiring { active_low: true, debounce_us: 0 }) else { return };
    let mut turnstile = cdev::open(&sim.settings_by_offset()).expect("open");
    conformance::check(&mut turnstile, &mut sim).await;
    turnstile.drive(all()).expect("drive");
    assert_eq!(sim.outputs(), all());
    drop(turnstile);
    assert_eq!(sim.outputs(), NONE);
}

#[tokio::test]
async fn opening_conforms() {
    for (name, active_low) in [("opening", false), ("opening-low", true)] {
        let Some(mut sim) = chip(name, Wiring { active_low, debounce_us: 0 }) else { return };
        let settings = sim.settings();
        conformance::check_opening(|| cdev::open(&settings), &mut sim).await;
    }
}

#[tokio::test]
async fn debouncing_conforms() {
    let debounce = Duration::from_millis(50);
    let wiring = Wiring { active_low: false, debounce_us: 50_000 };
    let Some(mut sim) = chip("debounce", wiring) else { return };
    let mut turnstile = cdev::open(&sim.settings()).expect("open");
    conformance::check_debounce(&mut turnstile, &mut sim, debounce).await;
}

#[tokio::test]
async fn a_pulled_chip_fails_until_reopened() {
    let Some(mut sim) = chip("pulled", Wiring::default()) else { return };
    let settings = sim.settings();
    let mut turnstile = cdev::open(&settings).expect("open");
    for _ in Line::ALL {
        turnstile.next_edge().await.expect("a level");
    }
    let reader = tokio::spawn(async move {
        let kind = turnstile.next_edge().await.expect_err("the chip is gone").kind();
        (kind, turnstile)
    });
    tokio::task::yield_now().await;
    sim.unplug().expect("unplug");
    let woken =
        tokio::time::timeout(Duration::from_secs(10), reader).await.expect("a waiting reader is woken");
    let (kind, mut turnstile) = woken.expect("joined");
    assert_eq!(kind, ErrorKind::Disconnected);
    assert_eq!(turnstile.drive(all()).expect_err("gone").kind(), ErrorKind::Disconnected);
    let error = cdev::open(&settings).expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("pulled.unlock_a"), "{error}");
    sim.plug().expect("plug");
    assert_eq!(turnstile.drive(all()).expect_err("it stays gone").kind(), ErrorKind::Disconnected);
    let mut again = cdev::open(&settings).expect("open again");
    again.drive(Outputs { beacon_green: true, ..NONE }).expect("drive");
    drop(turnstile);
    assert!(sim.outputs().beacon_green, "the dead driver's end does not touch the new one's lines");
}

#[tokio::test]
async fn who_holds_a_line_is_named() {
    let Some(sim) = chip("held", Wiring::default()) else { return };
    let holder = cdev::open(&sim.settings()).expect("open");
    let mut settings = sim.settings();
    settings.outputs = Default::default();
    let error = cdev::open(&settings).expect_err("the inputs are held");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("held by \"stile-gated\""), "{error}");
    drop(holder);
    cdev::open(&settings).expect("free again");
}

#[tokio::test]
async fn the_failsafe_takes_dead_lines_and_leaves_live_ones() {
    let Some(mut sim) = chip("failsafe", Wiring::default()) else { return };
    let settings = sim.settings();
    let (release, missing) = Release::find(settings.chip.as_deref(), &settings.outputs);
    assert_eq!((release.lines(), missing.len()), (Output::ALL.len(), 0));
    let mut turnstile = cdev::open(&settings).expect("open");
    turnstile.drive(all()).expect("drive");
    let failures = release.make_inactive();
    assert_eq!(failures.len(), Output::ALL.len());
    assert!(failures.iter().all(|(_, error)| error.kind() == ErrorKind::Busy), "{failures:?}");
    assert_eq!(sim.outputs(), all(), "a living holder keeps its levels");
    drop(turnstile);
    let before = Instant::now();
    assert!(release.make_inactive().is_empty());
    println!("six lines made inactive in {:?}", before.elapsed());
    assert_eq!(sim.outputs(), NONE);
}

/// What one change costs the bench: through a file that stays open, and through one opened each time as the
/// `gpiosim` crate does.
#[tokio::test]
async fn the_bench_is_quick() {
    const CHANGES: u32 = 1_000;
    let Some(mut sim) = chip("bench", Wiring::default()) else { return };
    let before = Instant::now();
    for change in 0..CHANGES {
        sim.set(Line::PassageA, change % 2 == 0);
    }
    let kept_open = before.elapsed() / CHANGES;
    let chip = sim.chip_path().and_then(|path| path.file_name()).expect("plugged in").to_owned();
    let offset = GpioSim::input_offset(Line::PassageA);
    let pull = std::fs::read_dir("/sys/devices/platform")
        .expect("sysfs")
        .flatten()
        .map(|device| device.path().join(&chip).join(format!("sim_gpio{offset}/pull")))
        .find(|path| path.exists())
        .expect("the line");
    let before = Instant::now();
    for change in 0..CHANGES {
        std::fs::write(&pull, if change % 2 == 0 { "pull-up" } else { "pull-down" }).expect("written");
    }
    println!(
        "a change of a line: {kept_open:?} kept open, {:?} opened each time",
        before.elapsed() / CHANGES
    );
}
