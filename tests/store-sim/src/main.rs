//! Runs a simulated day without services and prints its truth as JSON; draws what the cameras see at a time.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use engine::time::Millis;
use store_sim::{Options, World, phone};

/// A simulated day in the store, without services, behind a gate that opens for everyone.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Decides everything about the day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes that come, alone or as a party.
    #[arg(long, default_value_t = 50)]
    shoppers: u32,
    /// Scales put-backs, hand-overs and other hard cases; 1 is an ordinary day.
    #[arg(long, default_value_t = 1.0)]
    difficulty: f64,
    /// Mean seconds between two arrivals.
    #[arg(long, default_value_t = 10.5)]
    arrivals: f64,
    /// Draw the faults of the day too (they are listed; without services only devices would feel them).
    #[arg(long)]
    faults: bool,
    /// Write a PNG of every camera, and of a phone's screen, into this folder, at the time of --at.
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// Seconds after the start at which to take the pictures.
    #[arg(long, default_value_t = 90.0)]
    at: f64,
    /// Leave the trail of everyone's places out.
    #[arg(long)]
    brief: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = Options {
        seed: arguments.seed,
        shoppers: arguments.shoppers,
        difficulty: arguments.difficulty,
        arrival_seconds: arguments.arrivals,
        faults: arguments.faults,
        ..Options::default()
    };
    let mut world = World::new(options);
    world.open_gate();
    if let Some(folder) = &arguments.pictures {
        world.step(options.start.after(Millis((arguments.at * 1000.0) as u64)));
        take_pictures(&mut world, folder)?;
    }
    let began = std::time::Instant::now();
    let limit = options.start.after(Millis::from_seconds(3600 + 60 * u64::from(options.shoppers)));
    while !world.finished() && world.now() < limit {
        world.step(world.now().after(Millis(1000)));
    }
    let real = began.elapsed().as_secs_f64();
    let simulated = world.now().since(options.start).as_seconds();
    let mut truth = world.truth().clone();
    if arguments.brief {
        truth.trail.clear();
    }
    let report = serde_json::json!({
        "seed": options.seed,
        "shoppers": options.shoppers,
        "finished": world.finished(),
        "seconds": simulated,
        "seconds_real": real,
        "digest": format!("{:016x}", world.truth().digest()?),
        "faults": world.faults(),
        "truth": truth,
    });
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &report).context("writing the truth to standard output")?;
    writeln!(out).context("writing to standard output")
}

fn take_pictures(world: &mut World, folder: &std::path::Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut picture = camera::Rgb::new(0, 0);
    for camera in 0..world.map().cameras.len() {
        world.render(camera, &mut picture);
        save(&picture, &folder.join(format!("camera-{camera}.png")))?;
    }
    let mut dice = store_sim::dice::Dice::new(world.options().seed, 98);
    let text = world.office().phone(world.now(), 1, &mut dice).show(world.now(), 0);
    let screen = phone::picture(&text, 6).context("drawing a code")?;
    save(&screen, &folder.join("phone.png"))
}

fn save(picture: &camera::Rgb, file: &std::path::Path) -> anyhow::Result<()> {
    image::save_buffer(file, &picture.data, picture.width, picture.height, image::ExtendedColorType::Rgb8)
        .with_context(|| format!("writing {}", file.display()))
}
