//! `kiosk`: the touch screens of a box, or pictures of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use engine::kiosk::Language;
use engine::message::HealthState;
use engine::store::StoreMap;
use kiosk::{Painter, Settings, Shows, Window};
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::manifest::{BusSettings, Manifest, ScreenSettings, ScreenShows};
use tokio::sync::watch;

/// How often the program looks whether its manifest and its display are still what they were.
const LOOK: Duration = Duration::from_secs(3);
/// How long a last message may take to the broker on this box.
const FAREWELL: Duration = Duration::from_secs(1);

/// The gate screens and the help kiosk of a box.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the box's screen, or on a desktop a window for each of its screens; the help kiosk's reader comes over
    /// the bus. A box without a role manifest that can be read shows the technician's page.
    Run {
        /// The box's role manifest.
        #[arg(long, value_name = "FILE")]
        manifest: PathBuf,
        /// What the box says of itself, for the technician's page: the caretaker's boot.json.
        #[arg(long = "box", value_name = "FILE")]
        box_file: Option<PathBuf>,
        /// Greet in English instead of Korean, whatever the manifest says.
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
        Command::Run { manifest, box_file, english } => run(&manifest, box_file, english),
        Command::Picture { all, out, only, size } => pictures(all, &out, &only, (size[0], size[1])),
    }
}

/// What the role manifest makes of this program.
struct Plan {
    screens: Vec<Settings>,
    map: StoreMap,
    bus: BusSettings,
    rotation: u16,
}

impl Plan {
    fn of(manifest: &Manifest, box_file: Option<&Path>, english: bool) -> anyhow::Result<Self> {
        let map = manifest.load_store_map()?;
        let screen = manifest.screen.as_ref();
        let tag = if english { Some("en") } else { screen.and_then(|screen| screen.language.as_deref()) };
        let language = match tag {
            None => Language::Korean,
            Some(tag) => *Language::ALL
                .iter()
                .find(|language| language.tag() == tag)
                .with_context(|| format!("screen.language {tag:?} is none of ours"))?,
        };
        let kiosk = |name: Option<&str>| Shows::Help(name.unwrap_or("kiosk-1").to_owned());
        let shows = match screen {
            Some(ScreenSettings { shows: ScreenShows::Gate, lane, .. }) => {
                let lane = lane.as_deref().context("screen.lane is missing: whose gate screen is it?")?;
                vec![Shows::Gate(lane.into())]
            }
            Some(ScreenSettings { shows: ScreenShows::Help, name, .. }) => vec![kiosk(name.as_deref())],
            None => {
                let gates = manifest.lanes.iter().map(|lane| Shows::Gate(lane.id.as_str().into()));
                std::iter::once(kiosk(None)).chain(gates).collect()
            }
        };
        let rotation = screen.map_or(0, |screen| screen.rotation);
        ensure!([0, 90, 180, 270].contains(&rotation), "screen.rotation is {rotation}: 0, 90, 180 or 270");
        let code = screen.and_then(|screen| screen.technician_code.clone());
        if let Some(code) = &code {
            let digits = code.len() >= 4 && code.bytes().all(|byte| byte.is_ascii_digit());
            ensure!(digits && code.len() <= 12, "screen.technician_code must be 4 to 12 digits");
        }
        let settings = |shows| Settings {
            technician_code: code.clone(),
            box_file: box_file.map(Path::to_owned),
            ..Settings::new(shows, language)
        };
        let screens = shows.into_iter().map(settings).collect();
        Ok(Self { screens, map, bus: manifest.bus.clone(), rotation })
    }

    /// For a box that does not know what it is.
    fn technician(trouble: Option<String>, box_file: Option<&Path>, english: bool) -> Self {
        let language = if english { Language::English } else { Language::Korean };
        let shows = Shows::Technician(trouble);
        let screen = Settings { box_file: box_file.map(Path::to_owned), ..Settings::new(shows, language) };
        let map = StoreMap {
            name: String::new(),
            bounds: [0.0, 0.0, 1.0, 1.0],
            gondolas: Vec::new(),
            lanes: Vec::new(),
            cameras: Vec::new(),
            plates: Vec::new(),
            products: Vec::new(),
            facings: Vec::new(),
        };
        Self { screens: vec![screen], map, bus: BusSettings::Local, rotation: 0 }
    }
}

fn run(path: &Path, box_file: Option<PathBuf>, english: bool) -> anyhow::Result<()> {
    let box_file = box_file.as_deref();
    let known = path.exists();
    let plan = if known {
        let planned = Manifest::load(path).map_err(Into::into);
        planned.and_then(|manifest| Plan::of(&manifest, box_file, english)).unwrap_or_else(|error| {
            let error = format!("{error:#}");
            tracing::error!(error, "the role manifest is of no use: showing the technician's page");
            Plan::technician(Some(error), box_file, english)
        })
    } else {
        tracing::warn!(manifest = %path.display(), "no role manifest: showing the technician's page");
        Plan::technician(None, box_file, english)
    };
    let on_display = take_display(plan.rotation)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (stop, stopped) = watch::channel(false);
    let bus = runtime.block_on(async {
        match &plan.bus {
            BusSettings::Local => Bus::local(),
            BusSettings::Mqtt(settings) => Bus::mqtt(settings, "kiosk"),
        }
    });
    let clock = Clock::system();
    let map = Arc::new(plan.map);
    let shows: Vec<Shows> = plan.screens.iter().map(|screen| screen.shows.clone()).collect();
    let mut windows = Vec::new();
    let mut services = Vec::new();
    for screen in plan.screens {
        let title = match &screen.shows {
            Shows::Gate(lane) => format!("Gate {lane}"),
            Shows::Help(_) => "Help kiosk".to_owned(),
            Shows::Technician(_) => "Technician".to_owned(),
        };
        let (face, remote) = kiosk::face();
        let service = kiosk::run(screen, Arc::clone(&map), bus.clone(), clock.clone(), stopped.clone(), face);
        services.push(runtime.spawn(service));
        windows.push(Window { title, size: (540, 960), remote });
    }
    // Signals, a role manifest for a box that had none, and a display that comes or goes end the program; the service
    // manager starts it again.
    let reasons = runtime.spawn(ended(path.to_owned(), known, on_display, stop.clone()));
    let opened = kiosk::run_windows(windows);
    if let Err(error) = &opened {
        runtime.block_on(tell_down(&shows, &bus, &clock, &chain(error)));
    }
    reasons.abort();
    stop.send_replace(true);
    for service in services {
        runtime.block_on(service)?.context("screen ended")?;
    }
    Ok(opened?)
}

/// Takes the box's display where the program can and there is no desktop; true when it has it. How far the picture
/// is turned is told to Slint by the environment, so the program may start itself anew once.
#[cfg(feature = "linuxkms")]
fn take_display(rotation: u16) -> anyhow::Result<bool> {
    use std::os::unix::process::CommandExt as _;

    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if cfg!(feature = "desktop") && (set("DISPLAY") || set("WAYLAND_DISPLAY")) {
        return Ok(false);
    }
    let wanted = rotation.to_string();
    if std::env::var_os(kiosk::kms::ROTATION).is_none_or(|rotation| rotation != *wanted) {
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let error = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(kiosk::kms::ROTATION, wanted)
            .exec();
        return Err(error).context("cannot start anew with the display's rotation");
    }
    kiosk::kms::take(rotation).context("cannot take the display")?;
    Ok(true)
}

#[cfg(not(feature = "linuxkms"))]
#[expect(clippy::unnecessary_wraps, reason = "the other build may fail")]
fn take_display(_rotation: u16) -> anyhow::Result<bool> {
    Ok(false)
}

#[cfg(feature = "linuxkms")]
fn displays() -> Vec<String> {
    kiosk::kms::connected()
}

#[cfg(not(feature = "linuxkms"))]
fn displays() -> Vec<String> {
    Vec::new()
}

/// Sets `stop` when the program must end.
async fn ended(manifest: PathBuf, known: bool, on_display: bool, stop: watch::Sender<bool>) {
    let mut signalled = runtime::shutdown::signalled();
    let before = displays();
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = signalled.wait_for(|signalled| *signalled) => break,
            _ = look.tick() => {}
        }
        if manifest.exists() != known {
            tracing::info!("the role manifest has come or gone");
            break;
        }
        if on_display && displays() != before {
            tracing::info!("another display is connected");
            break;
        }
    }
    stop.send_replace(true);
}

/// Says on the bus that there is no screen, and gives the message a moment to leave.
async fn tell_down(shows: &[Shows], bus: &Bus, clock: &Clock, detail: &str) {
    for shows in shows {
        kiosk::report(shows, bus, clock, HealthState::Down, detail);
    }
    tokio::time::sleep(FAREWELL).await;
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn pictures(all: bool, out: &Path, only: &str, size: (u32, u32)) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("make folder {}", out.display()))?;
    let painter = Painter::start()?;
    let mut count = 0;
    for language in Language::ALL {
        for scene in kiosk::showcase::scenes(language) {
            let first = ["gate-idle", "help-idle", "technician-open"]
                .iter()
                .any(|first| scene.name.starts_with(first));
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
