//! `cartd`: the service's program, and what a technician does with its ledger.

use std::path::{Path, PathBuf};

use cartd::ledger::{self, Summary};
use cartd::payment::Provider;
use cartd::{Settings, run};
use clap::{Parser, Subcommand};
use engine::message::Receipt;
use engine::session::Policy;
use runtime::clock::Clock;
use runtime::manifest::Manifest;
use runtime::shutdown;

/// Keeps carts: shelves in, receipts out.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service. There is no payment provider yet: receipts wait for one.
    Run {
        /// The role manifest.
        #[arg(long)]
        manifest: PathBuf,
    },
    /// Look at a ledger file.
    #[command(subcommand)]
    Ledger(LedgerCommand),
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Check a ledger whole and print what it holds as JSON. Works beside a running cartd.
    Check {
        /// The ledger.
        file: PathBuf,
    },
    /// Print every receipt, one JSON line each, oldest first. Works beside a running cartd.
    Receipts {
        /// The ledger.
        file: PathBuf,
    },
    /// Rename a damaged ledger, so that cartd starts a new one. Nothing is deleted.
    SetAside {
        /// The ledger.
        file: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run { manifest } => serve(&manifest),
        Command::Ledger(LedgerCommand::Check { file }) => {
            let summary: Summary = ledger::check(&file)?;
            print(&serde_json::to_string(&summary)?);
            Ok(())
        }
        Command::Ledger(LedgerCommand::Receipts { file }) => {
            for receipt in ledger::receipts(&file)? {
                print(&serde_json::to_string::<Receipt>(&receipt)?);
            }
            Ok(())
        }
        Command::Ledger(LedgerCommand::SetAside { file }) => {
            let aside = ledger::set_aside(&file, Clock::system().now())?;
            print(&format!("{} is now {}", file.display(), aside.display()));
            Ok(())
        }
    }
}

#[tokio::main]
async fn serve(manifest: &Path) -> anyhow::Result<()> {
    runtime::telemetry::init();
    let manifest = Manifest::load(manifest)?;
    let map = manifest.load_store_map()?;
    let bus = manifest.join_bus("cartd");
    let settings = Settings {
        ledger: manifest.state_of("cartd").join("ledger.db"),
        policy: Policy::default(),
        payment: Provider::None,
        trace: false,
    };
    tracing::warn!("this build has no payment provider: receipts wait for one");
    let lines = cartd::devices::lines(&manifest.load_cells)?;
    run(settings, map, lines, bus, Clock::system(), shutdown::signalled()).await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn print(line: &str) {
    println!("{line}");
}
