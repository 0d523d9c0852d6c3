//! `gated`: runs the gate service, or the camera decode path on still pictures.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use gated::decode::{Code, decode_file};
use gated::{SERVICE, Settings, devices, provision, realtime};
use runtime::clock::Clock;
use runtime::manifest::Manifest;
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
    /// Runs the lanes of a role manifest.
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
    let (lanes_thread, raised) = realtime::Thread::start().context("cannot start the lanes' thread")?;
    for degraded in [realtime::lock_memory(), raised].into_iter().filter_map(Result::err) {
        tracing::warn!("{:#}", anyhow::Error::new(degraded));
    }
    let settings = Settings {
        state: manifest.state_dir.join("gated.db"),
        admission: provision::load(&manifest.state_dir.join(provision::FILE))?,
        sender: SERVICE.to_owned(),
        lanes_on: Some(lanes_thread.handle()),
        arrivals: None,
    };
    let lanes = devices::lanes(&manifest.lanes, &map)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        let bus = manifest.join_bus(SERVICE);
        gated::run(settings, lanes, bus, Clock::system(), shutdown::signalled())
            .await
            .context("the gate service failed")
    })
}
