//! `gated`: runs the gate service, or the camera decode path on still pictures.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use code_reader::program::Role;
use code_reader::worker::Program;
use engine::message::HealthState;
use gated::decode::{Code, Stills};
use gated::hours::Hours;
use gated::journal::{self, Entry};
use gated::{Lane, SERVICE, Settings, chain, devices, failsafe, provision, publish_health, realtime};
use runtime::clock::Clock;
use runtime::manifest::Manifest;
use runtime::shutdown;
use serde::Serialize;
use tokio::sync::watch;

/// How long a last message may take to the broker on this box.
const FAREWELL: Duration = Duration::from_secs(1);

/// Under this name health says whether the settings can be read.
const SETTINGS: &str = "settings";

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
        /// The role manifest. The file that it names under `admission`, else gated/admission.toml in its state
        /// folder, says whom the gate admits.
        #[arg(long)]
        manifest: PathBuf,
    },
    /// Decides again what the journals of a lane say it was told, and compares.
    Replay {
        /// Journals, oldest first: gated.journal.1 gated.journal.
        #[arg(required = true)]
        journals: Vec<PathBuf>,
        /// Prints every step, not only those that are decided otherwise now.
        #[arg(long)]
        all: bool,
    },
    /// Finds the QR codes in pictures: one JSON line a file.
    DecodeImage {
        /// Pictures: png, jpeg, webp, gif, bmp, pnm.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// This program as the worker that reads pictures for it, without rights.
    #[command(hide = true)]
    CodeReader {
        #[command(subcommand)]
        role: Role,
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
        Command::Replay { journals, all } => replay(&journals, all),
        Command::DecodeImage { files } => decode_images(&files),
        Command::CodeReader { role } => Ok(role.run()),
    }
}

/// Counts devices that come; none where the kernel does not let us watch.
fn watch_arrivals() -> Option<watch::Receiver<u64>> {
    let mut arrivals = qr_scanner::arrivals()
        .inspect_err(|error| tracing::warn!("{}; lost readers are tried again after pauses", chain(error)))
        .ok()?;
    let (tell, told) = watch::channel(0);
    tokio::spawn(async move {
        while arrivals.next().await.is_ok() && !tell.is_closed() {
            tell.send_modify(|count| *count += 1);
        }
    });
    Some(told)
}

fn replay(journals: &[PathBuf], all: bool) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut failed = Ok(());
    let replayed = journal::replay(journals, |entry, now| {
        let Entry::Step { lane, at, told, decided, missed } = entry else { return };
        let differs = now.is_some_and(|now| now != decided);
        if !all && !differs {
            return;
        }
        let mut print = || -> std::io::Result<()> {
            if *missed > 0 {
                writeln!(out, "{lane} {missed} steps before this one were not written down")?;
            }
            writeln!(out, "{lane} {} {told:?}", at.0)?;
            for command in decided {
                writeln!(out, "    {command:?}")?;
            }
            for command in now.filter(|_| differs).into_iter().flatten() {
                writeln!(out, "    now: {command:?}")?;
            }
            Ok(())
        };
        if failed.is_ok() {
            failed = print();
        }
    })?;
    failed.context("cannot write to standard output")?;
    let journal::Replayed { steps, different, skipped, cut_off } = replayed;
    let cut = if cut_off { "; the last line is cut off" } else { "" };
    writeln!(out, "{steps} steps decided again, {different} of them otherwise, {skipped} not decidable{cut}")
        .context("cannot write to standard output")?;
    Ok(if different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn decode_images(files: &[PathBuf]) -> Result<ExitCode> {
    let mut stills = Stills::new(Program::own().context("cannot tell which program this is")?);
    let mut out = std::io::stdout().lock();
    let mut exit = ExitCode::SUCCESS;
    for file in files {
        match stills.decode_file(file) {
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

/// What the manifest asks for; a mistake in it shows here, before any line is driven.
fn prepare(manifest: &Manifest) -> Result<(Vec<Lane<devices::AnyTurnstile>>, Settings)> {
    let map = manifest.load_store_map()?;
    let lanes = devices::lanes(&manifest.lanes, &map)?;
    let state = manifest.state_of(SERVICE);
    let admission = manifest.admission.clone().unwrap_or_else(|| state.join(provision::FILE));
    let settings = Settings {
        sender: sender(manifest),
        journal: Some(state.join("gated.journal")),
        hours: manifest.hours.as_ref().map(Hours::new).transpose()?,
        ..Settings::new(state.join("gated.db"), provision::load(&admission)?)
    };
    Ok((lanes, settings))
}

/// One name a box: the gates of a store hear each other.
fn sender(manifest: &Manifest) -> String {
    match manifest.role.as_str() {
        "all-in-one" => SERVICE.to_owned(),
        // What is a level of a topic, and the part before the dot of a message's id.
        _ => format!("{SERVICE}-{}", manifest.name.replace(['/', '+', '#', '.', ' '], "-")),
    }
}

/// A gate without lanes has nobody else who says why: screens and the staff page read it on the bus.
fn tell_down(manifest: &Manifest, error: &anyhow::Error) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let bus = manifest.join_bus(SERVICE);
        publish_health(&bus, &Clock::system(), SETTINGS, HealthState::Down, format!("{error:#}"));
        tokio::time::sleep(FAREWELL).await;
    });
}

fn run(path: &std::path::Path) -> Result<()> {
    runtime::telemetry::init();
    let manifest = Manifest::load(path)?;
    let (lanes, settings) = prepare(&manifest).inspect_err(|error| tell_down(&manifest, error))?;
    // Before any line is driven; without it the unit's ExecStopPost and the kernel are what is left.
    let watcher = failsafe::watch(path);
    if let Err(error) = &watcher {
        tracing::warn!("{}", chain(error));
    }
    let (lanes_thread, raised) = realtime::Thread::start().context("cannot start the lanes' thread")?;
    for degraded in [realtime::lock_memory(), raised].into_iter().filter_map(Result::err) {
        tracing::warn!("{}", chain(&degraded));
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        let settings =
            Settings { lanes_on: Some(lanes_thread.handle()), arrivals: watch_arrivals(), ..settings };
        let bus = manifest.join_bus(SERVICE);
        publish_health(&bus, &Clock::system(), SETTINGS, HealthState::Up, String::new());
        gated::run(settings, lanes, bus, Clock::system(), shutdown::signalled())
            .await
            .context("the gate service failed")
    })
}
