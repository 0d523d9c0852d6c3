//! `code-reader`: the decoder behind a wall, and the proof that the wall stands.

use std::io::Write;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use code_reader::program::{Role, self_check};
use code_reader::sandbox::Layers;

/// Reads codes in pictures for the program that starts it, with no rights of its own.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Tries what must not work from inside the walls, and says what came of it.
    #[arg(long)]
    self_check: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(role) => Ok(role.run()),
        None => check(),
    }
}

fn check() -> Result<ExitCode> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let findings = self_check(|| Command::new(&program)).context("cannot start a worker")?;
    let mut out = std::io::stdout().lock();
    let mut exit = ExitCode::SUCCESS;
    for finding in findings {
        let what = finding.what.to_possible_value().map(|value| value.get_name().to_owned());
        let walls = match finding.layers {
            Layers::ALL => "all walls",
            Layers::SECCOMP => "seccomp alone",
            Layers::LANDLOCK => "landlock alone",
            Layers::LIMITS => "limits alone",
            _ => "no wall",
        };
        let verdict = format!("{:?}", finding.verdict).to_lowercase();
        let note = if finding.is_good() { "" } else { "  <- not as it should be" };
        writeln!(out, "{walls:<15} {:<12} {verdict}{note}", what.unwrap_or_default())
            .context("cannot write to standard output")?;
        if !finding.is_good() {
            exit = ExitCode::FAILURE;
        }
    }
    Ok(exit)
}
