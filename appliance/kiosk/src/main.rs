//! `kiosk`: the touch screens of a box, or pictures of them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use engine::kiosk::Language;
use kiosk::{Painter, Settings, Shows, Window};
use runtime::clock::Clock;
use runtime::manifest::Manifest;
use tokio::sync::watch;

/// The gate screens and the help kiosk of a box.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Opens a window for each of the box's screens. It needs a desktop; the kiosk's reader comes over the
    /// bus.
    Run {
        /// The box's role manifest.
        #[arg(long, value_name = "FILE")]
        manifest: PathBuf,
        /// Name of the help kiosk, in calls to staff and in scans.
        #[arg(long, value_name = "NAME", default_value = "kiosk-1")]
        name: String,
        /// Greet in English instead of Korean.
        #[arg(long)]
        english: bool,
    },
    /// Writes pictures of the screens, without a display.
    Picture {
        /// Every state in every language; without it the first page of each.
        #[arg(long)]
        all: bool,
        /// Where to; the folder is made.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Only states whose name contains this.
        #[arg(long, value_name = "TEXT", default_value = "")]
        only: String,
        /// Width and height in pixels. The default is a 15-inch screen held upright, at half its resolution.
        #[arg(long, value_names = ["WIDTH", "HEIGHT"], num_args = 2, default_values_t = [540, 960])]
        size: Vec<u32>,
    },
}

fn main() -> anyhow::Result<()> {
    runtime::telemetry::init();
    kiosk::fonts::warn_without_hangul();
    match Arguments::parse().command {
        Command::Run { manifest, name, english } => {
            run(&manifest, &name, if english { Language::English } else { Language::Korean })
        }
        Command::Picture { all, out, only, size } => pictures(all, &out, &only, (size[0], size[1])),
    }
}

fn run(manifest: &std::path::Path, name: &str, language: Language) -> anyhow::Result<()> {
    let manifest = Manifest::load(manifest)?;
    let map = Arc::new(manifest.load_store_map()?);
    let mut screens = vec![(Shows::Help(name.to_owned()), "Help kiosk".to_owned())];
    for lane in &manifest.lanes {
        screens.push((Shows::Gate(lane.id.as_str().into()), format!("Gate {}", lane.id)));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (stop, stopped) = watch::channel(false);
    let bus = runtime.block_on(async { manifest.join_bus("kiosk") });
    let mut windows = Vec::new();
    let mut services = Vec::new();
    for (shows, title) in screens {
        let (face, remote) = kiosk::face();
        let settings = Settings { shows, language };
        let service =
            kiosk::run(settings, Arc::clone(&map), bus.clone(), Clock::system(), stopped.clone(), face);
        services.push(runtime.spawn(service));
        windows.push(Window { title, size: (540, 960), remote });
    }
    kiosk::run_windows(windows)?;
    stop.send_replace(true);
    for service in services {
        runtime.block_on(service)?.context("screen ended")?;
    }
    Ok(())
}

fn pictures(all: bool, out: &std::path::Path, only: &str, size: (u32, u32)) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("make folder {}", out.display()))?;
    let painter = Painter::start()?;
    let mut count = 0;
    for language in Language::ALL {
        for scene in kiosk::showcase::scenes(language) {
            let first = scene.name.starts_with("gate-idle") || scene.name.starts_with("help-idle");
            if !(all || first) || !scene.name.contains(only) {
                continue;
            }
            let started = std::time::Instant::now();
            let picture = painter.paint(&scene.view, size)?;
            tracing::info!(scene = scene.name, ms = started.elapsed().as_secs_f64() * 1000.0, "drawn");
            picture.save_png(&out.join(format!("{}.png", scene.name)))?;
            count += 1;
        }
    }
    ensure!(count > 0, "no state's name contains {only:?}");
    tracing::info!(count, folder = %out.display(), "pictures written");
    Ok(())
}
