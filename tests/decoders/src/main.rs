//! QR decoders side by side: decode rate, false reads and CPU time of each, on the phone-screen set and on any
//! folder of pictures with their texts beside them.
//!
//! It is deliberately a workspace of its own: the peers are measured here and never shipped.

mod latency;
mod peer;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use code_reader::program::Role;
use image::GrayImage;
use peer::{Peer, Reading};
use store_sim::phone::set::{negatives, pictures};
use table::Table;

/// Measures QR decoders.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All decoders on the phone-screen set and on folders of pictures.
    Compare(Compare),
    /// From phone shown to code read, over phones that are brought to a simulated camera in real time.
    Shows(latency::Shows),
    /// This program as the worker that reads for it.
    #[command(hide = true)]
    CodeReader {
        #[command(subcommand)]
        role: Role,
    },
}

#[derive(Args)]
struct Compare {
    /// Folders of pictures; NAME.txt beside NAME.png is the text. A picture without one counts as empty of
    /// codes where its folder begins with "falsepositives", and is left out otherwise.
    folders: Vec<PathBuf>,
    /// Seed of the phone-screen set.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Phone pictures of each condition, level, frame size and profile; 0 leaves the set out.
    #[arg(long, default_value_t = 2)]
    count: usize,
    /// Only these decoders.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Python with the packages of requirements.txt; without it ZBar and OpenCV are left out.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Lists what was read and is not what the picture says.
    #[arg(long)]
    wrong: bool,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Compare(arguments) => compare(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Shows(arguments) => latency::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::CodeReader { role } => Ok(role.run()),
    }
}

fn compare(arguments: &Compare) -> Result<()> {
    // A decoder's panic is one line of its column, not a page of ours.
    std::panic::set_hook(Box::new(|_| {}));
    let mut peers = open_peers(arguments);
    let tell = arguments.wrong;
    if arguments.count > 0 {
        let mut table = Table::new(peers.iter().map(|(name, _)| name.clone()).collect());
        let set = pictures(arguments.seed, arguments.count).chain(negatives(arguments.seed, arguments.count));
        for picture in set {
            let place = format!("{}/{}", picture.folder, picture.name);
            let truth = picture.truth.as_deref();
            read_all(&mut peers, &mut table, &picture.folder, &place, &picture.frame, truth, tell)?;
        }
        println!("phone-screen set, seed {}, {} of each\n{table}", arguments.seed, arguments.count);
    }
    for folder in &arguments.folders {
        let mut table = Table::new(peers.iter().map(|(name, _)| name.clone()).collect());
        let mut files = Vec::new();
        list(folder, &mut files).with_context(|| format!("cannot list {}", folder.display()))?;
        for file in files {
            let parent = file.parent().unwrap_or(folder);
            let kind = parent.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let truth = std::fs::read(file.with_extension("txt")).ok();
            if truth.is_none() && !kind.starts_with("falsepositives") {
                continue;
            }
            let Some(picture) = open(&file) else { continue };
            let truth = truth.map(|bytes| String::from_utf8_lossy(&bytes).replace("\r\n", "\n"));
            let place = file.display().to_string();
            read_all(&mut peers, &mut table, &kind, &place, &picture, truth.as_deref(), tell)?;
        }
        println!("{}\n{table}", folder.display());
    }
    Ok(())
}

fn open_peers(arguments: &Compare) -> Vec<(String, Peer)> {
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let mut peers = Vec::new();
    let here: [(&str, fn() -> Peer); 7] = [
        ("still", peer::still),
        ("one-frame", || peer::frames(1)),
        ("six-frames", || peer::frames(6)),
        ("zxing-cpp", peer::zxing_cpp),
        ("rxing", || peer::rxing(false)),
        ("rxing-filtered", || peer::rxing(true)),
        ("rqrr", peer::rqrr),
    ];
    for (name, open) in here {
        if wanted(name) {
            peers.push((name.to_owned(), open()));
        }
    }
    for name in ["zbar", "opencv", "opencv-aruco"] {
        if let (true, Some(python)) = (wanted(name), &arguments.python) {
            match Peer::python(python, name) {
                Ok(peer) => peers.push((name.to_owned(), peer)),
                Err(error) => eprintln!("decoders: without {name}: {error:#}"),
            }
        }
    }
    peers
}

fn read_all(
    peers: &mut [(String, Peer)],
    table: &mut Table,
    kind: &str,
    place: &str,
    picture: &GrayImage,
    truth: Option<&str>,
    tell: bool,
) -> Result<()> {
    for (index, (name, peer)) in peers.iter_mut().enumerate() {
        let (reading, ms) = peer.read(picture).with_context(|| format!("{name} on {place}"))?;
        let texts = match reading {
            Reading::Texts(texts) => texts,
            Reading::Failed => {
                table.failed(index);
                Vec::new()
            }
        };
        let texts: Vec<String> = texts.iter().map(|text| text.replace("\r\n", "\n")).collect();
        if tell && !texts.is_empty() && !texts.iter().any(|text| Some(text.as_str()) == truth) {
            println!("{name} read {texts:?} in {place}, which says {truth:?}");
        }
        table.add(index, kind, truth, &texts, ms);
    }
    Ok(())
}

fn open(file: &std::path::Path) -> Option<GrayImage> {
    let picture = image::open(file).ok()?;
    if !picture.color().has_alpha() {
        return Some(picture.into_luma8());
    }
    // What is transparent is white, as on paper.
    let picture = picture.into_luma_alpha8();
    let (width, height) = picture.dimensions();
    let grey = picture.pixels().map(|pixel| {
        let [luma, alpha] = pixel.0.map(u32::from);
        ((luma * alpha + 255 * (255 - alpha)) / 255) as u8
    });
    GrayImage::from_raw(width, height, grey.collect())
}

fn list(folder: &std::path::Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|ext| ["png", "jpg", "webp", "gif"].iter().any(|known| ext == *known))
        {
            found.push(path);
        }
    }
    Ok(())
}
