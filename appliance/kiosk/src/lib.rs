//! The touch screens: the gate screen of a lane, the help kiosk and the technician's page, in a desktop window, on a
//! box's own display (feature `linuxkms`), or drawn to memory.
//!
//! It deliberately decides nothing: what a screen does is `engine::kiosk`, what a gate says comes from gated.

mod app;
pub mod fonts;
pub mod keyboard;
#[cfg(feature = "linuxkms")]
pub mod kms;
pub mod picture;
pub mod showcase;
pub mod state;
pub mod technician;
pub mod theme;
pub mod view;
pub mod window;
pub mod words;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::kiosk::{Command, Language};
use engine::message::{BoxView, Health, HealthState, topic};
use engine::store::StoreMap;
use engine::time::{Instant, Millis};
use engine::units::LaneId;
use runtime::bus::{Bus, Message, Subscription};
use runtime::clock::Clock;
use tokio::sync::{mpsc, watch};

pub use picture::{Painter, Picture, picture};
pub use state::Action;
use state::{Gate, Help, State};
use technician::Technician;
pub use view::View;
pub use window::{Window, run_windows};

/// Touches that wait for the service; a finger makes a few a second.
const ACTIONS_MAX: usize = 64;

/// A screen's loop comes round at least so often: its steps feed the service manager's watchdog (20 s in the unit).
const STEP_MAX: Millis = Millis::from_seconds(4);
/// Largest file of what the box says of itself, bytes; a full one has some two thousand.
const BOX_FILE_MAX: u64 = 64 * 1024;

/// What a screen shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The gate screen of this lane.
    Gate(LaneId),
    /// A help kiosk of this name ("kiosk-1").
    Help(String),
    /// The technician's page only, on a box that does not know what it is; with what is wrong with its role manifest,
    /// if it has one.
    Technician(Option<String>),
}

/// How a screen is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What it shows.
    pub shows: Shows,
    /// The language in which it greets.
    pub language: Language,
    /// Digits that open the technician's page; none: nothing does.
    pub technician_code: Option<String>,
    /// Where the box says of itself what the technician's page shows, for the time when nobody says it on the bus.
    pub box_file: Option<PathBuf>,
}

impl Settings {
    /// A screen without a technician's page.
    #[must_use]
    pub fn new(shows: Shows, language: Language) -> Self {
        Self { shows, language, technician_code: None, box_file: None }
    }
}

/// Why a screen could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lane is not in the store map.
    #[error("lane {0} is not in the store map")]
    UnknownLane(LaneId),
}

/// The service's end of a screen.
#[derive(Debug)]
pub struct Face {
    views: watch::Sender<View>,
    actions: mpsc::Receiver<Action>,
    steps: watch::Sender<u64>,
}

/// The window's end of a screen: what to draw, and where touches go.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The newest view.
    pub views: watch::Receiver<View>,
    /// Touches.
    pub actions: mpsc::Sender<Action>,
    /// Steps of the service's loop, counted a few times in a watchdog's interval.
    pub steps: watch::Receiver<u64>,
}

/// A new screen's two ends.
#[must_use]
pub fn face() -> (Face, Remote) {
    let (views, seen) = watch::channel(View::default());
    let (actions, touched) = mpsc::channel(ACTIONS_MAX);
    let (steps, stepped) = watch::channel(0);
    (Face { views, actions: touched, steps }, Remote { views: seen, actions, steps: stepped })
}

/// Runs one screen until `stop` becomes true. The newest view stands in [`Remote::views`], whether a window
/// draws it or not.
///
/// A help kiosk's reader is watched by the health of the device `NAME-scanner`, whoever reports it.
///
/// # Errors
/// The settings name a lane that the store map lacks.
pub async fn run(
    settings: Settings,
    map: Arc<StoreMap>,
    bus: Bus,
    clock: Clock,
    mut stop: watch::Receiver<bool>,
    mut face: Face,
) -> Result<(), Error> {
    let mut state = start(&settings, map)?;
    let mut technician = match &settings.shows {
        Shows::Technician(trouble) => Technician::always(trouble.clone(), settings.language),
        Shows::Gate(_) | Shows::Help(_) => {
            Technician::behind(settings.technician_code.clone(), settings.language)
        }
    };
    let mut feed = Feed::new(&settings.shows, &bus);
    report(&settings.shows, &bus, &clock, HealthState::Up, "");
    let mut commands = Vec::new();
    let mut stepped: Option<Instant> = None;
    loop {
        let now = clock.now();
        for Command::Call(call) in commands.drain(..) {
            bus.publish(topic::STAFF_CALL, &call);
        }
        if stepped.is_none_or(|before| now >= before.after(Millis(STEP_MAX.0 / 2))) {
            stepped = Some(now);
            face.steps.send_modify(|steps| *steps += 1);
            if let Some(seen) = unheard(&settings, &technician, &bus) {
                technician.read(seen);
            }
            technician.tick(now, bus.connected());
        }
        let view = if technician.shown() { technician.view(now) } else { view::view(&state, now) };
        face.views.send_if_modified(|shown| {
            let changed = *shown != view;
            *shown = view;
            changed
        });
        let deadlines = [state.deadline(now), technician.deadline(now), Some(now.after(STEP_MAX))];
        tokio::select! {
            (source, message) = feed.recv() => {
                let taken = match source {
                    Source::Screen => state.take(clock.now(), &message, &mut commands),
                    Source::Box => technician.take(&message),
                };
                if let Err(error) = taken {
                    tracing::warn!(error = &error as &dyn std::error::Error, "message left aside");
                }
            }
            Some(action) = face.actions.recv() => {
                let now = clock.now();
                if !technician.act(now, &action) {
                    state.act(now, action, &mut commands);
                }
            }
            () = clock.until(deadlines.into_iter().flatten().min()) => state.tick(clock.now(), &mut commands),
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

/// What the box says of itself in its file, when somebody looks and the bus does not say it.
fn unheard(settings: &Settings, technician: &Technician, bus: &Bus) -> Option<BoxView> {
    let alone = matches!(settings.shows, Shows::Technician(_));
    let wanted = technician.shown() && (alone || !bus.connected() || !technician.heard());
    let path = settings.box_file.as_deref().filter(|_| wanted)?;
    match read_box(path) {
        Ok(seen) => Some(seen),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "the box says nothing of itself");
            None
        }
    }
}

fn read_box(path: &Path) -> Result<BoxView, std::io::Error> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(BOX_FILE_MAX).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn start(settings: &Settings, map: Arc<StoreMap>) -> Result<State, Error> {
    match &settings.shows {
        Shows::Gate(lane) => {
            if map.lanes.iter().all(|listed| listed.id != *lane) {
                return Err(Error::UnknownLane(lane.clone()));
            }
            Ok(State::Gate(Gate::new(lane.clone(), settings.language)))
        }
        Shows::Help(name) => Ok(State::Help(Help::new(name, map, settings.language))),
        Shows::Technician(_) => Ok(State::Nobodys),
    }
}

/// Tells everybody how a screen is; `detail` says what is wrong with it.
pub fn report(shows: &Shows, bus: &Bus, clock: &Clock, state: HealthState, detail: &str) {
    let device = match shows {
        Shows::Gate(lane) => format!("screen-{lane}"),
        Shows::Help(name) => format!("screen-{name}"),
        Shows::Technician(_) => "screen".to_owned(),
    };
    let health = Health {
        service: "kiosk".to_owned(),
        device: device.clone(),
        state,
        since: clock.now(),
        detail: detail.to_owned(),
    };
    bus.publish_view(&format!("{}/kiosk/{device}", topic::HEALTH), &health);
}

/// Whom a message is for.
enum Source {
    /// The shoppers' page.
    Screen,
    /// The technician's.
    Box,
}

struct Feed {
    /// None on the screen of a box that does not know what it is: it has no bus.
    screen: Option<(Subscription, Subscription)>,
    reader: Option<Subscription>,
    boxes: Subscription,
    health: Subscription,
}

impl Feed {
    fn new(shows: &Shows, bus: &Bus) -> Self {
        let (view, reader) = match shows {
            Shows::Gate(lane) => (Some(format!("{}/{lane}", topic::GATE_VIEW)), None),
            Shows::Help(name) => {
                (Some(topic::KIOSK_SCAN.to_owned()), Some(format!("{}/+/{name}-scanner", topic::HEALTH)))
            }
            Shows::Technician(_) => (None, None),
        };
        Self {
            screen: view.map(|view| (bus.subscribe(topic::STAFF_ANSWER), bus.subscribe(&view))),
            reader: reader.map(|filter| bus.subscribe(&filter)),
            boxes: bus.subscribe(topic::BOX_VIEW),
            health: bus.subscribe(&format!("{}/#", topic::HEALTH)),
        }
    }

    async fn recv(&mut self) -> (Source, Message) {
        let screen = async {
            match &mut self.screen {
                Some((answers, view)) => tokio::select! {
                    message = answers.recv() => message,
                    message = view.recv() => message,
                },
                None => std::future::pending().await,
            }
        };
        let reader = async {
            match &mut self.reader {
                Some(reader) => reader.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = screen => (Source::Screen, message),
            message = reader => (Source::Screen, message),
            message = self.boxes.recv() => (Source::Box, message),
            message = self.health.recv() => (Source::Box, message),
        }
    }
}

#[cfg(test)]
mod tests;
