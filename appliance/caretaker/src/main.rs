//! `caretaker`: see the crate's documentation, and `caretaker help`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use caretaker::place::Place;
use caretaker::{backend, first_boot, health, slot, update, volumes, watch, why};
use clap::{Parser, Subcommand};

/// The caretaker of a box: its slots, its state, its updates.
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
    /// Whether this version is well; marks its slot good, or restarts.
    Health {
        /// Ends a trial that could not be judged.
        #[arg(long)]
        give_up: bool,
    },
    /// The service beside the others: tells what the box is, fetches updates, restarts when nobody is at a lane.
    Watch,
    /// Installs a bundle: a file, or an address.
    Update {
        /// The bundle.
        bundle: String,
        /// Restart as soon as nobody is at a lane, whatever the hour.
        #[arg(long)]
        now: bool,
    },
    /// What became of boots and updates, and why the box went back.
    Why {
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// Factory reset: restarts, and forgets the state (ledger, carts, logs). Identity and provisioning stay.
    Reset {
        /// Really.
        #[arg(long)]
        yes: bool,
    },
    /// Writes all that a helper far away needs as one file, and prints its name.
    Support {
        /// Where; none: with the state.
        #[arg(long)]
        to: Option<PathBuf>,
    },
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(std::io::stderr(), "caretaker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let place = Place::below(&arguments.root);
    match arguments.command {
        Command::Slot { .. } | Command::Why { .. } | Command::Update { .. } | Command::Support { .. } => {
            runtime::telemetry::init_at("warn");
        }
        Command::FirstBoot
        | Command::Health { .. }
        | Command::Watch
        | Command::Reset { .. }
        | Command::BootBackend { .. } => runtime::telemetry::init(),
    }
    match arguments.command {
        Command::Slot { udev } => {
            let slot = slot::running(&place)?.slot;
            say(&if udev { format!("STILE_SLOT={slot}") } else { slot.to_string() })
        }
        Command::FirstBoot => first_boot::run(&place),
        Command::Health { give_up: true } => health::give_up(&place),
        Command::Health { give_up: false } => health::run(&place).map(drop),
        Command::Watch => watch::run(&place),
        Command::Update { bundle, now } => update::command(&place, &bundle, now, &mut std::io::stdout()),
        Command::Why { json: true } => {
            say(&serde_json::to_string(&why::gather(&place)).context("cannot be written as JSON")?)
        }
        Command::Why { json: false } => why::print(&why::gather(&place), &mut std::io::stdout())
            .context("cannot write to standard output"),
        Command::Reset { yes: false } => bail!("a reset forgets ledger, carts and logs: say --yes"),
        Command::Reset { yes: true } => {
            volumes::forget_state(&place)?;
            watch::ask_restart(&place, "a factory reset")?;
            say(if watch::runs() {
                "the box restarts as soon as nobody is at a lane, with a new state; identity and provisioning stay"
            } else {
                "the state is made anew at the next start; identity and provisioning stay"
            })
        }
        Command::Support { to } => say(&why::support(&place, to)?.display().to_string()),
        Command::BootBackend { arguments } => {
            let answer = backend::called_by_rauc(&place, &arguments)?;
            if answer.is_empty() { Ok(()) } else { say(&answer) }
        }
    }
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}
