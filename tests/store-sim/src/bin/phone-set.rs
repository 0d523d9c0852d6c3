//! `phone-set`: writes the phone-screen set as pictures with their texts beside them, for any decoder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use store_sim::phone::set::{Picture, negatives, pictures};

/// Writes pictures of entry codes on phones, one folder a condition, with the text beside each.
#[derive(Parser)]
struct Arguments {
    /// Where to. Folders are made.
    #[arg(long)]
    out: PathBuf,
    /// The set's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pictures of each condition, level, frame size and profile.
    #[arg(long, default_value_t = 1)]
    count: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for picture in pictures(arguments.seed, arguments.count) {
        write(&arguments.out, &picture)?;
    }
    for picture in negatives(arguments.seed, arguments.count) {
        write(&arguments.out, &picture)?;
    }
    Ok(())
}

fn write(out: &Path, picture: &Picture) -> Result<()> {
    let folder = out.join(&picture.folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{}.png", picture.name));
    picture.frame.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if let Some(truth) = &picture.truth {
        let path = path.with_extension("txt");
        fs::write(&path, truth).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
