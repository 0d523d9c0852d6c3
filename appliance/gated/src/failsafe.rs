//! The watcher that makes the lines inactive when this process dies in a way that runs no code of ours.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The program beside ours.
const PROGRAM: &str = "gate-failsafe";
/// What it says once it watches.
const ARMED: &str = "armed";
/// How much sooner than its watcher the kernel shall take this process when memory is short (`proc(5)`, of 1,000).
const WORSE_THAN_WATCHER: i32 = 100;
/// Largest `oom_score_adj`.
const OOM_SCORE_MAX: i32 = 1000;

/// The watcher; it outlives us on purpose, by the time it needs.
#[derive(Debug)]
pub struct Watcher {
    _child: Child,
}

/// Why nobody watches; the lines then depend on the unit's `ExecStopPost=` and on the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Unwatched {
    /// The program cannot be started.
    #[error("cannot start {PROGRAM}")]
    Start(#[source] std::io::Error),
    /// It ended, or said something else than that it watches.
    #[error("{PROGRAM} does not watch: it said {0:?}")]
    NotArmed(String),
}

/// Starts the watcher and waits until it watches.
///
/// # Errors
/// When it cannot; it has then said why on standard error.
pub fn watch(manifest: &Path) -> Result<Watcher, Unwatched> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| PROGRAM.into());
    let mut child = Command::new(program)
        .arg("--watch")
        .arg(std::process::id().to_string())
        .arg("--manifest")
        .arg(manifest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Unwatched::Start)?;
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut said).map_err(Unwatched::Start)?;
    }
    if said.trim() != ARMED {
        return Err(Unwatched::NotArmed(said));
    }
    die_first();
    Ok(Watcher { _child: child })
}

/// When memory is short the kernel must not take the watcher right after us, while our locked memory is not yet back.
/// The watcher has inherited our score, under the unit one with which it is never taken, and we worsen ours.
fn die_first() {
    const PATH: &str = "/proc/self/oom_score_adj";
    let score = std::fs::read_to_string(PATH).ok().and_then(|score| score.trim().parse::<i32>().ok());
    let worse = score.map(|score| (score + WORSE_THAN_WATCHER).min(OOM_SCORE_MAX));
    if let Some(Err(error)) = worse.map(|worse| std::fs::write(PATH, worse.to_string())) {
        tracing::warn!(%error, "gate and watcher have one score when memory is short");
    }
}
