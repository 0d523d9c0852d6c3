//! `visiond`: the vision service's program.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use recognition::Detector;
use runtime::clock::Clock;
use runtime::manifest::Manifest;
use runtime::shutdown;
use visiond::{SERVICE, Settings};

/// Follows people on the floor through the ceiling cameras.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the service. Cameras of the store map that the manifest does not name are reported as down.
    Run {
        /// The role manifest.
        #[arg(long)]
        manifest: PathBuf,
        /// Frames looked at at a time; one processor core each.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
        detectors: u8,
    },
}

fn main() -> Result<()> {
    let Command::Run { manifest, detectors } = Arguments::parse().command;
    runtime::telemetry::init();
    let manifest = Manifest::load(&manifest)?;
    let map = manifest.load_store_map()?;
    let library = recognition::library_path().context("cannot find the inference runtime")?;
    let detectors = (0..detectors)
        .map(|_| Detector::load(&manifest.models_dir, &library))
        .collect::<Result<Vec<_>, _>>()
        .context("cannot load the people detector")?;
    let clock = Clock::system();
    let cameras = visiond::devices::cameras(&manifest.cameras, &clock)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        let bus = manifest.join_bus(SERVICE);
        visiond::run(Settings::default(), map, cameras, detectors, bus, clock, shutdown::signalled())
            .await
            .context("the vision service failed")
    })
}
