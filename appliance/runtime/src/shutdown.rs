//! When a service's program should end: Ctrl-C, or the service manager's SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A flag that becomes true at the first Ctrl-C or SIGTERM. Call it inside a tokio runtime, once a program.
#[must_use]
pub fn signalled() -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let terminate = async {
            match signal(SignalKind::terminate()) {
                Ok(mut signal) => {
                    signal.recv().await;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot listen for SIGTERM; only Ctrl-C ends this program cleanly");
                    std::future::pending().await
                }
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminate => {}
        }
        // Nobody listens any more when the service has ended by itself.
        let _ = stop.send(true);
    });
    stopped
}
