//! `box`: Stile on one machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use appliance_box::day::{self, Plan};
use appliance_box::services::{Files, models_dir};
use clap::{Args, Parser, Subcommand};
use store_sim::Options;

/// All of Stile in one process against the simulated store.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one simulated day headless, as fast as the machine can, and print its table.
    Day {
        #[command(flatten)]
        store: StoreArguments,
        /// Write the table here as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Print the receipts of a recorded store visit in the AutoCheckout file format.
    Replay {
        /// Folder with plate_data.json, full_targets.json, planogram.json and products.json.
        dir: PathBuf,
        /// Write the result here too.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

/// The simulated store.
#[derive(Args)]
struct StoreArguments {
    /// Decides everything that happens.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Visits: shoppers, or parties on one pass.
    #[arg(long, default_value_t = 50)]
    shoppers: u32,
    /// Break things during the day: readers, cameras, plates, the bus, services.
    #[arg(long)]
    faults: bool,
    /// How often shoppers do hard things (put back, compare, hand over): 1 is an ordinary day.
    #[arg(long, default_value_t = 1.0)]
    difficulty: f64,
    /// Keep ledger and outboxes in this folder instead of a temporary one.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Write the truth and everything said on the bus into this folder, to explain a wrong receipt.
    #[arg(long)]
    trace: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    runtime::telemetry::init();
    match Arguments::parse().command {
        Command::Day { store, json } => one_day(&store, json.as_deref()),
        Command::Replay { dir, json } => replay(&dir, json.as_deref()),
    }
}

fn one_day(store: &StoreArguments, json: Option<&Path>) -> anyhow::Result<()> {
    let scratch = day::fresh_state()?;
    let plan = Plan {
        world: Options {
            seed: store.seed,
            shoppers: store.shoppers,
            faults: store.faults,
            difficulty: store.difficulty,
            ..Options::default()
        },
        files: Files {
            state: store.state.clone().unwrap_or_else(|| scratch.path().to_owned()),
            models: models_dir(),
            onnxruntime: recognition::library_path()?,
        },
        trace: store.trace.clone(),
    };
    let table = day::run(&plan, &mut |line| {
        // A closed standard error is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{line}");
    })?;
    writeln!(std::io::stdout(), "{table}")?;
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&table)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if table.violations.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "the oracles found {} violations; replay with --seed {}",
        table.violations.len(),
        table.seed
    )
}

fn replay(dir: &Path, json: Option<&Path>) -> anyhow::Result<()> {
    let replay = cartd::recorded::replay(dir).with_context(|| format!("cannot replay {}", dir.display()))?;
    for warning in &replay.warnings {
        tracing::warn!("{warning}");
    }
    let text = serde_json::to_string(&replay)?;
    writeln!(std::io::stdout(), "{text}")?;
    if let Some(file) = json {
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
