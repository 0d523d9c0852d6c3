//! `box`: Stile on one machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use appliance_box::day::{self, Plan};
use appliance_box::live::{self, Live};
use appliance_box::report::Table;
use appliance_box::services::{Files, models_dir};
use clap::{Args, Parser, Subcommand};
use runtime::manifest::{BusSettings, ConsoleSettings, Manifest};
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
    /// Run the simulated store in real time, with its screens and the console; Ctrl-C closes it.
    Run {
        #[command(flatten)]
        store: StoreArguments,
        /// Take bus, console, models and state folder from this role manifest.
        #[arg(long)]
        manifest: Option<PathBuf>,
        /// Folder for pictures of the screens when there is no display.
        #[arg(long, default_value = "out/screens")]
        pictures: PathBuf,
        /// Open no windows even on a desktop.
        #[arg(long)]
        headless: bool,
        /// Write the table here as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
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
    // A simulated store breaks things on purpose; the table says how it went.
    runtime::telemetry::init_at("error");
    match Arguments::parse().command {
        Command::Run { store, manifest, pictures, headless, json } => {
            let scratch = day::fresh_state()?;
            let live = live(&store, manifest.as_deref(), scratch.path(), pictures, headless)?;
            print_table(&live::run(&live, tell)?, json.as_deref())
        }
        Command::Day { store, json } => one_day(&store, json.as_deref()),
        Command::Replay { dir, json } => replay(&dir, json.as_deref()),
    }
}

fn one_day(store: &StoreArguments, json: Option<&Path>) -> anyhow::Result<()> {
    let scratch = day::fresh_state()?;
    let plan = plan(store, scratch.path())?;
    print_table(&day::run(&plan, &mut tell)?, json)
}

fn live(
    store: &StoreArguments,
    manifest: Option<&Path>,
    scratch: &Path,
    pictures: PathBuf,
    headless: bool,
) -> anyhow::Result<Live> {
    let mut live = Live {
        plan: plan(store, scratch)?,
        console: ConsoleSettings::default(),
        pictures,
        headless,
        bus: BusSettings::Local,
    };
    if let Some(path) = manifest {
        let manifest = Manifest::load(path)?;
        live.console = manifest.console;
        live.bus = manifest.bus;
        live.plan.files.models = manifest.models_dir;
        if store.state.is_none() {
            live.plan.files.state = manifest.state_dir;
        }
    }
    make_folder(&live.plan.files.state)?;
    Ok(live)
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn plan(store: &StoreArguments, scratch: &Path) -> anyhow::Result<Plan> {
    let state = store.state.clone().unwrap_or_else(|| scratch.to_owned());
    make_folder(&state)?;
    Ok(Plan {
        world: Options {
            seed: store.seed,
            shoppers: store.shoppers,
            faults: store.faults,
            difficulty: store.difficulty,
            ..Options::default()
        },
        files: Files { state, models: models_dir(), onnxruntime: recognition::library_path()? },
        trace: store.trace.clone(),
    })
}

fn tell(line: &str) {
    // A closed standard error is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn print_table(table: &Table, json: Option<&Path>) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{table}")?;
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(table)? + "\n";
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
