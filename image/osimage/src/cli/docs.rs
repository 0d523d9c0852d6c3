//! What the program says of itself: completions and man pages.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

pub fn completions(shell: Shell) -> Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "osimage", &mut script);
    String::from_utf8(script).context("make completions")
}

pub fn man_page() -> Result<String> {
    let mut page = Vec::new();
    Man::new(Cli::command()).render(&mut page).context("make man page")?;
    String::from_utf8(page).context("make man page")
}

pub fn write_man_pages(folder: &Path) -> Result<()> {
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder)
    };
    write().with_context(|| format!("write man pages to {}", folder.display()))
}
