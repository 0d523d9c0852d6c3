//! Logging: one line an event on standard error, which is the journal on a box.

use tracing_subscriber::EnvFilter;

/// Starts logging for a program. `STILE_LOG` overrides the level by the directives of `tracing-subscriber`'s
/// `EnvFilter`, for example `info,gated=debug`. A second call changes nothing.
pub fn init() {
    init_at("info");
}

/// As [`init`], with other directives where `STILE_LOG` is not set: a program for people at a terminal is quieter.
pub fn init_at(directives: &str) {
    let filter = EnvFilter::try_from_env("STILE_LOG").unwrap_or_else(|_| EnvFilter::new(directives));
    // Fails only when a logger is installed already, as in tests.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
