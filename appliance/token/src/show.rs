//! Showing a pass's code.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use engine::admission::issue::SHOW_STEP;
use engine::time::Instant;

use crate::files;
use crate::issue::{self, Pass};
use crate::picture::Modules;

#[derive(Args)]
pub struct Arguments {
    /// The pass file.
    pass: PathBuf,
    /// The moment that is signed.
    #[arg(long, value_name = "TIME", value_parser = files::time, conflicts_with = "watch")]
    at: Option<Instant>,
    /// Which of the party scans: 0 for the member, 1 for the next one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=15), default_value_t = 0)]
    party_member: u8,
    /// Print the digits instead of a QR code.
    #[arg(long, conflicts_with_all = ["png", "watch"])]
    digits: bool,
    /// Write a picture instead of printing a QR code.
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    png: Option<PathBuf>,
    /// Pixels of a module in the picture.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), default_value_t = 8)]
    scale: u32,
    /// Show a new code every ten seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

pub fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let pass = issue::read(&arguments.pass)?;
    let digits = |at: Instant| match &pass {
        Pass::Device(device) => device.show(at, arguments.party_member),
        Pass::Wallet(wallet) => wallet.show(at),
    };
    let at = arguments.at.unwrap_or_else(files::now);
    if arguments.digits {
        writeln!(out, "{}", digits(at))?;
        return Ok(());
    }
    if let Some(path) = &arguments.png {
        Modules::of(&digits(at))?.png(path, arguments.scale)?;
        writeln!(out, "{} is written", path.display())?;
        return Ok(());
    }
    if !arguments.watch {
        write!(out, "{}", Modules::of(&digits(at))?.terminal())?;
        return Ok(());
    }
    loop {
        let now = files::now();
        // Home, the code, then clear what is left of a larger one.
        write!(out, "\x1b[H{}\x1b[J", Modules::of(&digits(now))?.terminal())?;
        out.flush()?;
        let step = SHOW_STEP * 1000;
        std::thread::sleep(Duration::from_millis(step - now.0 % step));
    }
}
