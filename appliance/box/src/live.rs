//! The simulated store in real time, with its screens and its staff page.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use console::Console;
use engine::kiosk::Language;
use engine::message::{KioskScan, topic};
use engine::time::Millis;
use kiosk::{Painter, Remote, Shows, View, Window};
use runtime::bus::Bus;
use runtime::manifest::ConsoleSettings;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::day::{Day, Plan};
use crate::report::Table;

/// Name of the help kiosk.
const KIOSK: &str = "kiosk-1";
/// Size of a screen's window and picture, pixels: a 15-inch screen held upright, at half its resolution.
const SCREEN: (u32, u32) = (540, 960);
/// How often somebody asks the help kiosk for a price.
const ASKS: Millis = Millis::from_seconds(20);
/// How often a progress line is printed.
const TELLS: Millis = Millis::from_seconds(10);

/// How to run the store.
#[derive(Clone, Debug)]
pub struct Live {
    /// The day.
    pub plan: Plan,
    /// The staff page.
    pub console: ConsoleSettings,
    /// Where pictures of the screens go when there is no display.
    pub pictures: PathBuf,
    /// Open no windows even on a desktop.
    pub headless: bool,
    /// How the services talk to each other.
    pub bus: runtime::manifest::BusSettings,
}

/// Runs the store until its day is over or somebody presses Ctrl-C, and returns the table of what has happened.
/// Must be called on the process's first thread.
///
/// # Errors
/// When the console's address is taken, a service cannot start, or one ends badly.
pub fn run(live: &Live, tell: fn(&str)) -> anyhow::Result<Table> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let (day, bus, screens, beside) = runtime.block_on(open(live, tell))?;
    let windows = !live.headless && has_display();
    let day = if windows {
        tell("windows: the gate screen of entry-1 and the help kiosk");
        let day = runtime.spawn(follow(day, bus, tell));
        let windows = screens.into_iter().map(|(title, remote)| Window { title, size: SCREEN, remote });
        kiosk::run_windows(windows.collect()).context("cannot open the windows; try --headless")?;
        day
    } else {
        let painter = Painter::start().context("cannot draw the screens")?;
        tell(&format!("no display: pictures of the screens in {}", live.pictures.display()));
        std::fs::create_dir_all(&live.pictures)
            .with_context(|| format!("cannot make {}", live.pictures.display()))?;
        let painter = Arc::new(painter);
        for (title, remote) in screens {
            runtime.spawn(draw(title, remote, Arc::clone(&painter), live.pictures.clone()));
        }
        runtime.spawn(follow(day, bus, tell))
    };
    runtime.block_on(async move {
        let table = day.await.context("the day panicked")??;
        let mut beside = beside;
        while let Some(ended) = beside.join_next().await {
            ended.context("a screen or the console panicked")??;
        }
        Ok(table)
    })
}

type Opened = (Day, Bus, Vec<(String, Remote)>, JoinSet<anyhow::Result<()>>);

async fn open(live: &Live, tell: fn(&str)) -> anyhow::Result<Opened> {
    let bus = match &live.bus {
        runtime::manifest::BusSettings::Local => Bus::local(),
        runtime::manifest::BusSettings::Mqtt(settings) => {
            tell(&format!("bus: MQTT broker at {}:{}", settings.host, settings.port));
            Bus::mqtt(settings, &format!("stile-box-{}", std::process::id()))
        }
    };
    let day = Day::start(&live.plan, bus.clone())?;
    let clock = day.clock().clone();
    let map = Arc::new(day.map().clone());
    let mut beside = JoinSet::new();

    let console = Console::bind(&live.console, (*map).clone()).await?;
    tell(&format!("console: http://{}/", reachable(console.address())));
    let (console_bus, console_clock, stop) = (bus.clone(), clock.clone(), day.stopping());
    beside.spawn(async move { Ok(console.run(console_bus, console_clock, stop).await?) });

    let mut screens = Vec::new();
    let entry = map.lanes.iter().find(|lane| lane.entry).map(|lane| lane.id.clone());
    let shows = [entry.map(Shows::Gate), Some(Shows::Help(KIOSK.to_owned()))];
    for shows in shows.into_iter().flatten() {
        let title = match &shows {
            Shows::Gate(lane) => format!("gate-{lane}"),
            Shows::Help(name) => name.clone(),
            Shows::Technician(_) => "technician".to_owned(),
        };
        let (face, remote) = kiosk::face();
        let settings = kiosk::Settings::new(shows, Language::Korean);
        let (map, bus, clock) = (Arc::clone(&map), bus.clone(), clock.clone());
        let stop = day.stopping();
        beside.spawn(async move { Ok(kiosk::run(settings, map, bus, clock, stop, face).await?) });
        screens.push((title, remote));
    }
    Ok((day, bus, screens, beside))
}

/// Steps the day until it is over or Ctrl-C; somebody asks the help kiosk for a price now and then.
async fn follow(mut day: Day, bus: Bus, tell: fn(&str)) -> anyhow::Result<Table> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let products: Vec<String> = day.map().products.iter().map(|product| product.id.to_string()).collect();
    let (mut told, mut asked, mut questions) = (Millis(0), Millis(0), 0_usize);
    loop {
        tokio::select! {
            more = day.step() => if !more? { break },
            _ = &mut interrupt => {
                tell("closing the store");
                break;
            }
        }
        let now = day.elapsed();
        if now.0 >= told.0 + TELLS.0 {
            told = now;
            tell(&day.line());
        }
        if now.0 >= asked.0 + ASKS.0 && !products.is_empty() {
            asked = now;
            let text = products[(questions * 7) % products.len()].clone();
            bus.publish(topic::KIOSK_SCAN, &KioskScan { kiosk: KIOSK.to_owned(), text });
            questions += 1;
        }
    }
    day.end().await
}

/// Writes a picture of each new page of a screen, one file for each kind of page.
async fn draw(title: String, mut remote: Remote, painter: Arc<Painter>, folder: PathBuf) {
    let mut drawn = BTreeSet::new();
    loop {
        let view = remote.views.borrow_and_update().clone();
        let name = format!("{title}-{}.png", page_name(&view));
        if drawn.insert(name.clone())
            && let Err(error) = save(&painter, view, &folder, &name).await
        {
            tracing::warn!(name, error = %format!("{error:#}"), "no picture of the screen");
        }
        if remote.views.changed().await.is_err() {
            return;
        }
    }
}

async fn save(painter: &Arc<Painter>, view: View, folder: &Path, name: &str) -> anyhow::Result<()> {
    let (painter, path) = (Arc::clone(painter), folder.join(name));
    tokio::task::spawn_blocking(move || painter.paint(&view, SCREEN)?.save_png(&path))
        .await
        .context("drawing panicked")?
        .context("cannot draw")
}

fn page_name(view: &View) -> String {
    format!("{:?}-{:?}", view.page, view.glyph).to_lowercase()
}

fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
}

/// An address that a browser on this machine can open.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address }
}
