//! Screens as windows on a desktop.

use slint::{ComponentHandle, PhysicalSize, PlatformError};

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
/// # Errors
/// There is no display, or a window cannot be opened; the message names the window.
pub fn run_windows(windows: Vec<Window>) -> Result<(), Error> {
    let mut apps = Vec::new();
    let mut first = None;
    for window in windows {
        let title = window.title.clone();
        first.get_or_insert_with(|| title.clone());
        let wrap = |source| Error { title: title.clone(), source };
        apps.push(open(window).map_err(wrap)?);
    }
    let title = first.unwrap_or_default();
    slint::run_event_loop().map_err(|source| Error { title, source })
}

fn open(window: Window) -> Result<App, PlatformError> {
    let app = App::new()?;
    let Window { title, size: (width, height), remote: Remote { mut views, actions } } = window;
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
