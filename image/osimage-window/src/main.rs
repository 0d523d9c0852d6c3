//! `osimage-window`: which image goes on which disks, for those who do not like terminals.
//!
//! It deliberately writes to no disk and checks no image: it runs `osimage` and shows what it says, so there
//! is one implementation, and what the window does can be done again in a terminal.

mod model;
mod tool;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Writes disk images to cards, in a window.
#[derive(Parser)]
#[command(name = "osimage-window", version)]
struct Arguments {
    /// Where images, public keys and provisioning files lie; this folder when left out.
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { folder } = Arguments::parse();
    let folder = folder.or_else(|| std::env::current_dir().ok()).unwrap_or_default();
    match window::run(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when standard error is gone.
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("osimage-window: {error:#}\n"),
            );
            ExitCode::FAILURE
        }
    }
}
