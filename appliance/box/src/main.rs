//! `box`: Stile on one machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};

/// All of Stile in one process against the simulated store.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the receipts of a recorded store visit in the AutoCheckout file format.
    Replay {
        /// Folder with plate_data.json, full_targets.json, planogram.json and products.json.
        dir: PathBuf,
        /// Write the result here too.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Replay { dir, json } => replay(&dir, json.as_deref()),
    }
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
