//! `console`: the staff page and HTTP API of one store.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use runtime::clock::Clock;
use runtime::manifest::Manifest;

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
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let service = console::run(manifest.console.clone(), map, bus, Clock::system(), stopped);
    tokio::pin!(service);
    tokio::select! {
        ended = &mut service => return ended.context("console ended"),
        signal = tokio::signal::ctrl_c() => signal.context("wait for Ctrl-C")?,
    }
    stop.send_replace(true);
    service.await.context("console ended")
}
