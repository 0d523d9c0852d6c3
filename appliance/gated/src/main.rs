//! `gated`: runs the gate service, or the camera decode path on still pictures.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use engine::units::LaneId;
use gated::decode::{Code, decode_file};
use gated::{Lane, SERVICE, Settings, provision};
use runtime::clock::Clock;
use runtime::manifest::{Devices, Manifest};
use runtime::shutdown;
use serde::Serialize;

/// The gate service.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the lanes of a role manifest. Today only simulated devices can be opened (`devices = "sim"`).
    Run {
        /// The role manifest. Its state folder must hold admission.toml: store_group, [[issuers]] with id and
        /// key.
        #[arg(long)]
        manifest: PathBuf,
    },
    /// Finds the QR codes in pictures: one JSON line a file.
    DecodeImage {
        /// Pictures: png, jpeg, webp, gif, bmp, pnm.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// A line of `decode-image`.
#[derive(Serialize)]
struct Line<'a> {
    file: std::borrow::Cow<'a, str>,
    codes: Vec<Code>,
    ms: f64,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { manifest } => run(&manifest).map(|()| ExitCode::SUCCESS),
        Command::DecodeImage { files } => decode_images(&files),
    }
}

fn decode_images(files: &[PathBuf]) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut exit = ExitCode::SUCCESS;
    for file in files {
        match decode_file(file) {
            Ok((codes, ms)) => {
                let line = Line { file: file.to_string_lossy(), codes, ms: (ms * 1000.0).round() / 1000.0 };
                let json = serde_json::to_string(&line).context("cannot write a line as JSON")?;
                writeln!(out, "{json}").context("cannot write to standard output")?;
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                writeln!(std::io::stderr(), "gated: {}: {error:#}", file.display())
                    .context("cannot write to standard error")?;
                exit = ExitCode::FAILURE;
            }
        }
    }
    Ok(exit)
}

fn run(path: &std::path::Path) -> Result<()> {
    runtime::telemetry::init();
    let manifest = Manifest::load(path)?;
    let map = manifest.load_store_map()?;
    let settings = Settings {
        state: manifest.state_dir.join("gated.db"),
        admission: provision::load(&manifest.state_dir.join(provision::FILE))?,
        sender: SERVICE.to_owned(),
    };
    let mut lanes = Vec::new();
    for lane in &manifest.lanes {
        let known = map.lanes.iter().find(|known| known.id.0 == lane.id);
        let known = known.with_context(|| format!("lane {} is not in the store map", lane.id))?;
        match lane.devices {
            Devices::Sim => {
                tracing::warn!(lane = lane.id, "devices are simulated: nobody will come");
                let (_, turnstile) = turnstile::sim::Sim::new();
                let (_, scanner) = qr_scanner::sim::Sim::new();
                lanes.push(Lane {
                    id: LaneId(lane.id.clone()),
                    takes_entries: known.entry,
                    entry_is_a: lane.entry_is_a,
                    turnstile: Box::new(move || turnstile.open()),
                    scanner: Some(Box::new(move || scanner.open())),
                });
            }
        }
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        let bus = manifest.join_bus(SERVICE);
        gated::run(settings, lanes, bus, Clock::system(), shutdown::signalled())
            .await
            .context("the gate service failed")
    })
}
