//! Command line of [`osimage`].

mod docs;
mod flash;
mod image;
mod keys;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use osimage::bmap::{Bmap, TEXT_MAX};
use osimage::{release, source};

/// Exit status when an image, a signature or a provisioning file is not what it must be.
const EXIT_IMAGE: u8 = 4;
/// Exit status when a target was refused; nothing was written on it.
const EXIT_REFUSED: u8 = 3;
/// Exit status when a target failed while it was written.
const EXIT_TARGET: u8 = 5;

/// What the man pages and `--help` say of them.
const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  something else failed, and was named
  2  wrong arguments
  3  a target was refused (in use, too small, write-protected, not a disk); nothing was written on it
  4  an image, a signature or a provisioning file is damaged, missing or not trusted
  5  a target failed while it was written; of several targets, the highest status counts";

/// Puts disk images of a box together, signs and checks them, and writes them to cards.
#[derive(Parser)]
#[command(name = "osimage", version, after_help = EXIT_STATUS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what an image would be, without writing anything.
    Plan(Inputs),
    /// Write an image and its block map (IMAGE.bmap); same inputs give the same bytes.
    Assemble {
        #[command(flatten)]
        inputs: Inputs,
        /// The image to write.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Print what is in an image or on a disk, and check it: partitions, hashes, slots, versions, roots.
    ///
    /// The root file system of each slot is checked against the root hash that its kernel is given (dm-verity).
    /// Exit status 4 when one of them, or a partition table, is damaged.
    Inspect {
        /// An image that is not packed, or a disk.
        image: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print which slot a disk would boot, and generation, tries left and version of each.
    Slots {
        /// An image that is not packed, or a disk.
        image: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sign an image: writes IMAGE.sig.
    Sign {
        /// The image, packed or not.
        image: PathBuf,
        /// The secret key, `release.key` of the operator's keys.
        #[arg(long)]
        key: PathBuf,
        /// The block map; IMAGE.bmap when left out.
        #[arg(long)]
        bmap: Option<PathBuf>,
    },
    /// Check an image, or a disk that it was flashed to, against the block map and its signature.
    ///
    /// A disk is the image until a box has started from it: then its boot partition is another.
    Verify {
        /// The image, packed or not, or a disk; for a disk give --bmap.
        image: PathBuf,
        /// The block map; IMAGE.bmap when left out.
        #[arg(long)]
        bmap: Option<PathBuf>,
        /// Public keys, one of which must have signed the image; without it no signature is asked for.
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Write an image to disks, several at once, and read it back. Everything on them is lost.
    ///
    /// Only mapped blocks are written; the first MiB comes last, so that a disk is whole or does not start. The
    /// partition table is made for the real size of the disk. A run that was cut is gone on with by the same
    /// command.
    Flash(flash::Flash),
    /// List the disks of this machine: size, model, and why one could not be flashed.
    Disks {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new folder with all keys of an operator.
    Keys {
        /// The folder to make.
        folder: PathBuf,
        /// Whose keys they are, for the certificates.
        #[arg(long, default_value = "Stile operator")]
        name: String,
    },
    /// Sign the provisioning file of a box.
    Provision(keys::Provision),
    /// Make a signed update bundle (with RAUC) from the parts of a slot, after checking that they fit the layout
    /// and each other.
    Bundle(keys::Bundle),
    /// Print the completion script of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write those of all commands.
    Man {
        /// Where to write them: one a command, osimage.1, osimage-flash.1, ...
        folder: Option<PathBuf>,
    },
}

#[derive(Args)]
struct Inputs {
    /// The partition layout, one of image/layouts.
    #[arg(long, short)]
    layout: PathBuf,
    /// What goes into a partition.
    #[arg(long, short, value_name = "PARTITION=FILE", value_parser = content)]
    content: Vec<(String, PathBuf)>,
}

fn content(text: &str) -> Result<(String, PathBuf), String> {
    let (partition, file) = text.split_once('=').ok_or("not of the form PARTITION=FILE")?;
    Ok((partition.to_owned(), PathBuf::from(file)))
}

/// The program.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Plan(inputs) => image::print_plan(&inputs)?,
        Command::Assemble { inputs, output } => image::assemble(&inputs, &output)?,
        Command::Inspect { image, json } => return image::inspect(&image, json),
        Command::Slots { image, json } => image::slots(&image, json)?,
        Command::Sign { image, key, bmap } => image::sign(&image, &key, bmap)?,
        Command::Verify { image, bmap, key } => return image::verify(&image, bmap, key.as_deref()),
        Command::Flash(flash) => return flash.run(),
        Command::Disks { json } => image::disks(json)?,
        Command::Keys { folder, name } => keys::make(&folder, &name)?,
        Command::Provision(provision) => provision.run()?,
        Command::Bundle(bundle) => bundle.run()?,
        Command::Completions { shell } => print(&docs::completions(shell)?)?,
        Command::Man { folder: None } => print(&docs::man_page()?)?,
        Command::Man { folder: Some(folder) } => docs::write_man_pages(&folder)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An image file with its block map.
struct Image {
    path: PathBuf,
    /// Where its signature lies: beside the block map.
    signature: PathBuf,
    bmap: Bmap,
    /// SHA-256 of the block map's text.
    identity: [u8; 32],
}

impl Image {
    /// The block map lies beside the image, under the name that it has when it is not packed, or at `bmap`.
    fn load(path: &Path, bmap: Option<PathBuf>) -> Result<Self> {
        let bmap = bmap.unwrap_or_else(|| beside(&source::unpacked_name(path), ".bmap"));
        let text = read_text(&bmap, TEXT_MAX, "block map")?;
        let signature = beside(&bmap.with_extension(""), ".sig");
        let name = || format!("read {}", bmap.display());
        Ok(Self {
            path: path.to_owned(),
            signature,
            bmap: Bmap::parse(&text).with_context(name)?,
            identity: release::identity(&text),
        })
    }

    /// Who of the public keys in the file `keys` signed the image.
    fn check_signature(&self, keys: &Path) -> Result<osimage::key::KeyId> {
        let keys = osimage::key::PublicKey::read_all(keys)?;
        let file = &self.signature;
        let text = read_text(file, release::LENGTH_MAX, "signature")?;
        release::check(&text, &self.identity, &keys).with_context(|| format!("check {}", file.display()))
    }
}

/// A text file, unless it is longer than any of its kind.
fn read_text(path: &Path, length_max: u64, kind: &str) -> Result<String> {
    let read = || format!("read {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(read)?;
    let length = file.take(length_max + 1).read_to_string(&mut text).with_context(read)?;
    if length as u64 > length_max {
        bail!("{} has more than {length_max} bytes, too many for a {kind}", path.display());
    }
    Ok(text)
}

/// Writes a file under a name of its own first, so that under its name is a whole one or none.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = beside(path, ".part");
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads may stop reading: `osimage inspect box.img | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("print"),
    }
}

fn complain(text: &str) {
    // Nobody reads the complaints; the exit status tells, too.
    let _ = writeln!(io::stderr(), "osimage: {text}");
}
