//! Screens as windows: on a desktop, or the whole of a box's display.

use std::cell::RefCell;
use std::rc::Rc;

use runtime::watchdog::Watchdog;
use slint::{ComponentHandle, PhysicalSize, PlatformError};
use tokio::sync::watch;

use crate::app;
use crate::app::ui::App;
use crate::{Action, Remote};

/// Why no window came.
#[derive(Debug, thiserror::Error)]
#[error("open window {title}")]
pub struct Error {
    title: String,
    #[source]
    source: PlatformError,
}

/// A window to open.
#[derive(Debug)]
pub struct Window {
    /// Its title.
    pub title: String,
    /// Its first size, pixels; it may be resized to any.
    pub size: (u32, u32),
    /// The screen it shows.
    pub remote: Remote,
}

/// Opens the windows and runs them until all are closed, or until the services behind them have ended. Must
/// be called on the process's first thread, once.
///
/// The service manager hears that the screens are ready, and that they live, when a step of every screen's service
/// has reached the loop that draws them: a hung service is noticed, and so is a hung display.
///
/// # Errors
/// There is no display, or a window cannot be opened; the message names the window.
pub fn run_windows(windows: Vec<Window>) -> Result<(), Error> {
    let mut apps = Vec::new();
    let mut first = None;
    let alive = Rc::new(RefCell::new(Alive::new(windows.len(), Watchdog::from_environment())));
    for (number, window) in windows.into_iter().enumerate() {
        let title = window.title.clone();
        first.get_or_insert_with(|| title.clone());
        let wrap = |source| Error { title: title.clone(), source };
        follow(window.remote.steps.clone(), number, Rc::clone(&alive)).map_err(wrap)?;
        apps.push(open(window).map_err(wrap)?);
    }
    let title = first.unwrap_or_default();
    slint::run_event_loop().map_err(|source| Error { title, source })
}

/// Which screens have shown a step since the watchdog was last fed.
struct Alive {
    stepped: Vec<bool>,
    ready: bool,
    watchdog: Watchdog,
}

impl Alive {
    fn new(screens: usize, watchdog: Watchdog) -> Self {
        Self { stepped: vec![false; screens], ready: false, watchdog }
    }

    /// A screen's step has arrived; true when that was the last one missing.
    fn stepped(&mut self, screen: usize) -> bool {
        if let Some(stepped) = self.stepped.get_mut(screen) {
            *stepped = true;
        }
        if !self.stepped.iter().all(|stepped| *stepped) {
            return false;
        }
        self.stepped.fill(false);
        if !std::mem::replace(&mut self.ready, true) {
            self.watchdog.ready();
        }
        self.watchdog.step_done();
        true
    }
}

fn follow(
    mut steps: watch::Receiver<u64>,
    screen: usize,
    alive: Rc<RefCell<Alive>>,
) -> Result<(), PlatformError> {
    let follow = async move {
        while steps.changed().await.is_ok() {
            alive.borrow_mut().stepped(screen);
        }
    };
    slint::spawn_local(follow).map(|_| ()).map_err(|error| PlatformError::Other(error.to_string()))
}

fn open(window: Window) -> Result<App, PlatformError> {
    let app = App::new()?;
    app.set_family(crate::fonts::family().into());
    let Window { title, size: (width, height), remote: Remote { mut views, actions, steps: _ } } = window;
    app.window().set_size(PhysicalSize::new(width, height));
    app::show(&app, &views.borrow_and_update());
    app::listen(&app, move |action: Action| {
        // A full queue means that the service hangs; a touch more would not wake it.
        if actions.try_send(action).is_err() {
            tracing::warn!("touch lost: the screen's service does not take it");
        }
    });
    let weak = app.as_weak();
    slint::spawn_local(async move {
        while views.changed().await.is_ok() {
            let Some(app) = weak.upgrade() else { return };
            app::show(&app, &views.borrow_and_update());
        }
        // The service has ended, and with it the process wants to.
        let _ = slint::quit_event_loop();
    })
    .map_err(|error| PlatformError::Other(error.to_string()))?;
    app.show()?;
    tracing::info!(title, "window open");
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hung_screen_is_enough() {
        let mut alive = Alive::new(2, Watchdog::from_environment());
        assert!(!alive.stepped(0));
        assert!(!alive.stepped(0), "the other has shown nothing");
        assert!(alive.stepped(1));
        assert!(!alive.stepped(1), "fed once for both");
        assert!(alive.stepped(0));
    }
}
