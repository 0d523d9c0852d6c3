//! `caretaker`: see the crate's documentation, and `caretaker help`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use caretaker::place::Place;
use caretaker::{backend, first_boot, slot};
use clap::{Parser, Subcommand};

/// The caretaker of a box.
#[derive(Parser)]
#[command(name = "caretaker", version)]
struct Arguments {
    /// Root of everything that it touches; for tests.
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints which slot runs: a or b.
    Slot {
        /// As a property for a udev rule.
        #[arg(long)]
        udev: bool,
    },
    /// Before services start: identity, state, provisioning.
    FirstBoot,
    /// What RAUC asks of its custom boot loader.
    #[command(hide = true)]
    BootBackend {
        /// get-primary, set-primary SLOT, get-state SLOT, set-state SLOT good|bad, get-current.
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    // RAUC's handler is a link to this program.
    let called = arguments.first().and_then(|name| Path::new(name).file_name()?.to_str().map(str::to_owned));
    if called.as_deref() == Some("boot-backend") {
        arguments.insert(1, "boot-backend".into());
    }
    match run(Arguments::parse_from(arguments)) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(std::io::stderr(), "caretaker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let place = Place::below(&arguments.root);
    match arguments.command {
        Command::Slot { udev } => {
            let slot = slot::running(&place)?.slot;
            say(&if udev { format!("STILE_SLOT={slot}") } else { slot.to_string() })?;
        }
        Command::FirstBoot => {
            runtime::telemetry::init();
            first_boot::run(&place)?;
        }
        Command::BootBackend { arguments } => {
            runtime::telemetry::init();
            let answer = backend::called_by_rauc(&place, &arguments)?;
            if !answer.is_empty() {
                say(&answer)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}
