//! The touch screens: the gate screen of a lane and the help kiosk, on a desktop window or drawn to memory.
//!
//! It deliberately decides nothing: what a screen does is `engine::kiosk`, what a gate says comes from gated.
//! Opening a screen without a desktop (linuxkms) is not here yet.

mod app;
pub mod fonts;
pub mod keyboard;
pub mod picture;
pub mod showcase;
pub mod state;
pub mod theme;
pub mod view;
pub mod window;
pub mod words;

use std::sync::Arc;

use engine::kiosk::{Command, Language};
use engine::message::{Health, HealthState, topic};
use engine::store::StoreMap;
use engine::units::LaneId;
use runtime::bus::{Bus, Message, Subscription};
use runtime::clock::Clock;
use tokio::sync::{mpsc, watch};

pub use picture::{Painter, Picture, picture};
pub use state::Action;
use state::{Gate, Help, State};
pub use view::View;
pub use window::{Window, run_windows};

/// Touches that wait for the service; a finger makes a few a second.
const ACTIONS_MAX: usize = 64;

/// What a screen shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// The gate screen of this lane.
    Gate(LaneId),
    /// A help kiosk of this name ("kiosk-1").
    Help(String),
}

/// How a screen is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What it shows.
    pub shows: Shows,
    /// The language in which it greets.
    pub language: Language,
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
}

/// The window's end of a screen: what to draw, and where touches go.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The newest view.
    pub views: watch::Receiver<View>,
    /// Touches.
    pub actions: mpsc::Sender<Action>,
}

/// A new screen's two ends.
#[must_use]
pub fn face() -> (Face, Remote) {
    let (views, seen) = watch::channel(View::default());
    let (actions, touched) = mpsc::channel(ACTIONS_MAX);
    (Face { views, actions: touched }, Remote { views: seen, actions })
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
    let mut feed = Feed::new(&settings.shows, &bus);
    report(&settings.shows, &bus, &clock);
    let mut commands = Vec::new();
    loop {
        let now = clock.now();
        for Command::Call(call) in commands.drain(..) {
            bus.publish(topic::STAFF_CALL, &call);
        }
        let view = view::view(&state, now);
        face.views.send_if_modified(|shown| {
            let changed = *shown != view;
            *shown = view;
            changed
        });
        tokio::select! {
            message = feed.recv() => {
                if let Err(error) = state.take(clock.now(), &message, &mut commands) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "message left aside");
                }
            }
            Some(action) = face.actions.recv() => state.act(clock.now(), action, &mut commands),
            () = clock.until(state.deadline(now)) => state.tick(clock.now(), &mut commands),
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
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
    }
}

fn report(shows: &Shows, bus: &Bus, clock: &Clock) {
    let device = match shows {
        Shows::Gate(lane) => format!("screen-{lane}"),
        Shows::Help(name) => format!("screen-{name}"),
    };
    let health = Health {
        service: "kiosk".to_owned(),
        device: device.clone(),
        state: HealthState::Up,
        since: clock.now(),
        detail: String::new(),
    };
    bus.publish_view(&format!("{}/kiosk/{device}", topic::HEALTH), &health);
}

struct Feed {
    answers: Subscription,
    view: Subscription,
    health: Option<Subscription>,
}

impl Feed {
    fn new(shows: &Shows, bus: &Bus) -> Self {
        let (view, health) = match shows {
            Shows::Gate(lane) => (format!("{}/{lane}", topic::GATE_VIEW), None),
            Shows::Help(name) => {
                (topic::KIOSK_SCAN.to_owned(), Some(format!("{}/+/{name}-scanner", topic::HEALTH)))
            }
        };
        Self {
            answers: bus.subscribe(topic::STAFF_ANSWER),
            view: bus.subscribe(&view),
            health: health.map(|filter| bus.subscribe(&filter)),
        }
    }

    async fn recv(&mut self) -> Message {
        let health = async {
            match &mut self.health {
                Some(health) => health.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.answers.recv() => message,
            message = self.view.recv() => message,
            message = health => message,
        }
    }
}

#[cfg(test)]
mod tests;
