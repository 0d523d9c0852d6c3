//! From phone shown to code read: phones are brought to a simulated camera in real time, its frames go through
//! the scanner and its worker process, and the clock runs from the exposure of the first frame that has the whole
//! code in it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use camera::Format;
use camera::sim::Sim;
use clap::Args;
use code_reader::CameraScanner;
use code_reader::worker::{Program, Settings};
use qr_scanner::QrScanner;
use store_sim::phone::show::Show;

use crate::table::quantile;

/// Time between frames: 30 a second.
const FRAME: Duration = Duration::from_micros(33_333);
/// How long each phone is shown, hand movement included, frames.
const FRAMES: u32 = 66;
/// A code is in the frame "still" when it moves less than this in one frame time, pixels of a 1280 wide frame.
const STILL_PX: f32 = 12.0;

#[derive(Args)]
pub struct Shows {
    /// Seed of the people.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many of them.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Pixels a line: 640 or 1280.
    #[arg(long, default_value_t = 1280)]
    width: u32,
    /// Time for the attempts of one frame, ms.
    #[arg(long, default_value_t = 20)]
    budget_ms: u64,
}

/// What a set of shows gave.
#[derive(Default)]
struct Outcome {
    from_whole: Vec<f64>,
    from_still: Vec<f64>,
    missed: Vec<String>,
    wrong: usize,
    repeated: usize,
    searches: Vec<f64>,
    latencies: Vec<f64>,
    skipped: u64,
}

pub fn run(arguments: &Shows) -> Result<()> {
    let size = if arguments.width == 640 { (640, 480) } else { (1280, 720) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut outcome = Outcome::default();
    let budget = Duration::from_millis(arguments.budget_ms);
    for index in 0..arguments.count {
        let show = Show::new(arguments.seed, index, size);
        // Drawn before its time begins: drawing takes as long as a frame lasts.
        let frames: Vec<_> =
            (0..FRAMES).map(|number| show.frame((FRAME * number).as_millis() as u32)).collect();
        runtime
            .block_on(one(&show, &frames, size, budget, &mut outcome))
            .with_context(|| format!("show {index}"))?;
    }
    let read = outcome.from_whole.len();
    println!(
        "{} phones shown to a camera of {}x{} at 30 frames/s (seed {}): \
         {read} read, {} not, {} wrong, {} reported twice",
        arguments.count,
        size.0,
        size.1,
        arguments.seed,
        outcome.missed.len(),
        outcome.wrong,
        outcome.repeated
    );
    let line = |name: &str, values: &[f64]| {
        let of = |share| quantile(values, share);
        println!(
            "{name:<46} p50 {:6.1}  p90 {:6.1}  p99 {:6.1}  slowest {:6.1} ms",
            of(0.5),
            of(0.9),
            of(0.99),
            of(1.0)
        );
    };
    line("whole code in the frame to code read", &outcome.from_whole);
    line("whole and nearly still to code read", &outcome.from_still);
    line("a frame: arrival to answer", &outcome.latencies);
    line("a frame: search alone", &outcome.searches);
    println!("frames replaced by a newer one before their turn: {}", outcome.skipped);
    for missed in &outcome.missed {
        println!("not read: {missed}");
    }
    Ok(())
}

async fn one(
    show: &Show,
    frames: &[store_sim::phone::show::Frame],
    size: (u32, u32),
    budget: Duration,
    outcome: &mut Outcome,
) -> Result<()> {
    let (camera, handle) = Sim::new(size.0, size.1, Format::Grey);
    let settings = Settings::frames(Program::own()?);
    let mut scanner = CameraScanner::new(camera, settings, budget, Duration::from_secs(1))?;
    let status = scanner.status();
    let started = Instant::now();
    while status().worker.layers.is_none() && started.elapsed() < Duration::from_secs(5) {
        // The worker's greeting: a gate's camera streams long before the first shopper.
        handle.push_bytes(vec![0; (size.0 * size.1) as usize], 0);
        let _ = tokio::time::timeout(FRAME, scanner.next_scan()).await;
    }
    let begin = Instant::now();
    let at = |number: usize| begin + FRAME * number as u32;
    let still_px = STILL_PX * size.0 as f32 / 1280.0;
    let whole = frames.iter().position(|frame| frame.whole);
    let still = frames.iter().position(|frame| frame.whole && frame.speed_px < still_px);
    let mut read = None;
    for (number, frame) in frames.iter().enumerate() {
        handle.push_bytes(frame.picture.as_raw().clone(), (FRAME * number as u32).as_millis() as u64);
        while let Ok(scan) = tokio::time::timeout_at(at(number + 1).into(), scanner.next_scan()).await {
            let scan = scan?;
            if scan.text != show.truth().as_bytes() {
                outcome.wrong += 1;
            } else if read.is_some() {
                outcome.repeated += 1;
            } else {
                read = Some(scan.reported);
            }
        }
        // Half a second more shows whether it is reported again.
        if read.is_some_and(|read| read.elapsed() > Duration::from_millis(500)) {
            break;
        }
    }
    let ms = |from: usize, to: Instant| to.saturating_duration_since(at(from)).as_secs_f64() * 1e3;
    match (read, whole) {
        (Some(read), Some(whole)) => {
            outcome.from_whole.push(ms(whole, read));
            outcome.from_still.extend(still.map(|still| ms(still, read)));
        }
        _ => outcome.missed.push(show.describe()),
    }
    let status = status();
    outcome.skipped += status.skipped;
    outcome.searches.extend(status.timings.iter().map(|timing| timing.search.as_secs_f64() * 1e3));
    outcome.latencies.extend(status.timings.iter().map(|timing| timing.latency.as_secs_f64() * 1e3));
    Ok(())
}
