//! `console`: the staff page and HTTP API of one store.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use runtime::clock::Clock;
use runtime::manifest::Manifest;
use runtime::shutdown;

/// Serves the staff page and the HTTP API. It opens no devices; everything it shows comes over the bus.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The box's role manifest.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    runtime::telemetry::init();
    let arguments = Arguments::parse();
    let manifest = Manifest::load(&arguments.manifest)?;
    let map = manifest.load_store_map()?;
    let bus = manifest.join_bus("console");
    console::run(manifest.console.clone(), map, bus, Clock::system(), shutdown::signalled())
        .await
        .context("console ended")
}
