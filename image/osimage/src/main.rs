//! Command line of [`osimage`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use osimage::bmap::{Bmap, TEXT_MAX};
use osimage::device::Device;
use osimage::flash::{Progress, flash};
use osimage::layout::Layout;
use osimage::plan::{Plan, plan};
use osimage::{assemble, inspect};
use serde::Serialize;

/// Puts disk images of a box together, checks them, and writes them to cards.
#[derive(Parser)]
#[command(version)]
struct Cli {
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
    /// Print the partition table of an image, and the hash of each partition.
    Inspect {
        image: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check an image against its block map.
    Verify {
        image: PathBuf,
        /// The block map; IMAGE.bmap when left out.
        #[arg(long)]
        bmap: Option<PathBuf>,
    },
    /// Write an image to files or unmounted devices, several at once, and read it back. Everything on them is
    /// lost.
    Flash {
        image: PathBuf,
        /// Files or devices.
        #[arg(long, required = true, num_args = 1..)]
        to: Vec<PathBuf>,
        /// The block map; IMAGE.bmap when left out.
        #[arg(long)]
        bmap: Option<PathBuf>,
        /// Print progress and results as lines of JSON.
        #[arg(long)]
        json: bool,
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

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "osimage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Plan(inputs) => print(&planned(&inputs)?.0.to_string())?,
        Command::Assemble { inputs, output } => assemble_image(&inputs, &output)?,
        Command::Inspect { image, json } => {
            let mut file = open(&image)?;
            let inspection =
                inspect::inspect(&mut file).with_context(|| format!("inspect {}", image.display()))?;
            if json {
                print(&format!("{}\n", serde_json::to_string(&inspection)?))?;
            } else {
                print(&inspection.to_string())?;
            }
        }
        Command::Verify { image, bmap } => {
            let bmap = read_bmap(&image, bmap)?;
            bmap.verify(&mut open(&image)?).with_context(|| format!("verify {}", image.display()))?;
            print(&format!("{}: {} mapped bytes match\n", image.display(), bmap.mapped()))?;
        }
        Command::Flash { image, to, bmap, json } => return flash_all(&image, &to, bmap, json),
    }
    Ok(ExitCode::SUCCESS)
}

fn planned(inputs: &Inputs) -> Result<(Plan, BTreeMap<String, File>)> {
    let layout = Layout::load(&inputs.layout)?;
    let (mut sizes, mut files) = (BTreeMap::new(), BTreeMap::new());
    for (partition, path) in &inputs.content {
        let file = open(path)?;
        sizes.insert(
            partition.clone(),
            file.metadata().with_context(|| format!("measure {}", path.display()))?.len(),
        );
        if files.insert(partition.clone(), file).is_some() {
            bail!("partition {partition:?} is given content twice");
        }
    }
    Ok((plan(&layout, &sizes).context("plan image")?, files))
}

fn assemble_image(inputs: &Inputs, output: &Path) -> Result<()> {
    let (plan, mut files) = planned(inputs)?;
    print(&plan.to_string())?;
    let part = beside(output, ".part");
    let written = write_image(&plan, &mut files, &part, output);
    if written.is_err() {
        // The error is what counts; a left-over has a name that says what it is.
        let _ = fs::remove_file(&part);
    }
    written
}

/// The image gets its name last: under it is a whole image with its block map, or none.
fn write_image(plan: &Plan, files: &mut BTreeMap<String, File>, part: &Path, output: &Path) -> Result<()> {
    let at = || format!("write {}", part.display());
    let mut image =
        File::options().read(true).write(true).create(true).truncate(true).open(part).with_context(at)?;
    assemble::apply(plan, files, &mut image)?;
    image.set_len(plan.size).with_context(at)?;
    let bmap = Bmap::of_plan(plan, &mut image)?;
    image.sync_all().with_context(at)?;
    let map = beside(output, ".bmap");
    fs::write(&map, bmap.to_xml()).with_context(|| format!("write {}", map.display()))?;
    fs::rename(part, output).with_context(|| format!("write {}", output.display()))?;
    print(&format!("{}: {} bytes, {} mapped\n", output.display(), plan.size, bmap.mapped()))
}

/// One line of `flash --json`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Event<'a> {
    Progress {
        target: String,
        #[serde(flatten)]
        progress: Progress,
    },
    Done {
        target: String,
        bytes: u64,
        seconds: f64,
    },
    Failed {
        target: String,
        error: &'a str,
    },
}

fn flash_all(image: &Path, targets: &[PathBuf], bmap: Option<PathBuf>, json: bool) -> Result<ExitCode> {
    let bmap = read_bmap(image, bmap)?;
    let failed = std::thread::scope(|scope| {
        let workers: Vec<_> =
            targets.iter().map(|target| scope.spawn(|| flash_one(image, target, &bmap, json))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(false)).filter(|good| !good).count()
    });
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether it went well; what happened is printed.
fn flash_one(image: &Path, path: &Path, bmap: &Bmap, json: bool) -> bool {
    let target = || path.display().to_string();
    let started = std::time::Instant::now();
    let mut last = None;
    let progress = |progress: Progress| {
        // A hundred lines a phase are enough to draw a bar.
        let step = (progress.phase, progress.done * 100 / progress.total.max(1));
        if json && last != Some(step) {
            last = Some(step);
            report(&Event::Progress { target: target(), progress });
        }
    };
    let result = (|| {
        let mut source = open(image)?;
        let mut device = Device::open(path, image, bmap.image_size)?;
        flash(&mut source, bmap, &mut device, progress)?;
        anyhow::Ok(())
    })();
    let seconds = started.elapsed().as_secs_f64();
    match result {
        Ok(()) if json => report(&Event::Done { target: target(), bytes: bmap.mapped(), seconds }),
        Ok(()) => {
            let speed = bmap.mapped() as f64 / 1e6 / seconds.max(1e-3);
            let _ = print(&format!(
                "{}: written and verified in {seconds:.1} s, {speed:.0} MB/s\n",
                path.display()
            ));
            return true;
        }
        Err(error) if json => {
            report(&Event::Failed { target: target(), error: &format!("{error:#}") });
            return false;
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "osimage: flash {}: {error:#}", path.display());
            return false;
        }
    }
    true
}

fn report(event: &Event<'_>) {
    if let Ok(line) = serde_json::to_string(event) {
        // A reader that went away does not stop the flashing.
        let _ = print(&format!("{line}\n"));
    }
}

fn read_bmap(image: &Path, path: Option<PathBuf>) -> Result<Bmap> {
    let path = path.unwrap_or_else(|| beside(image, ".bmap"));
    let name = || format!("read {}", path.display());
    let length = fs::metadata(&path).with_context(name)?.len();
    if length > TEXT_MAX {
        bail!("{} has {length} bytes, a block map has at most {TEXT_MAX}", path.display());
    }
    Bmap::parse(&fs::read_to_string(&path).with_context(name)?).with_context(name)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

fn print(text: &str) -> Result<()> {
    io::stdout().lock().write_all(text.as_bytes()).context("print")
}
