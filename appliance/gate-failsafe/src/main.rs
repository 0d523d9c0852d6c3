//! `gate-failsafe`: makes the outputs of every lane inactive, now or when the gate dies.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use gate_failsafe::watch::Ward;
use gate_failsafe::{lanes, make_inactive};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::Pid;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

const USAGE: &str = "\
Makes the outputs of every lane of a role manifest inactive.

usage: gate-failsafe [--watch PID] --manifest FILE

  --manifest FILE  the gate's role manifest; only its turnstiles are read
  --watch PID      wait until that process is dead, then do it; says \"armed\" when it waits

exit status: 0 all outputs are inactive, 1 some may not be, 2 usage or manifest, 3 cannot watch";

/// Some outputs may be active.
const FAILED: u8 = 1;
/// Called wrongly, or without a manifest that can be read.
const USELESS: u8 = 2;
/// The gate runs unwatched.
const UNWATCHED: u8 = 3;

/// Above the lanes of the gate (20), below the kernel's interrupt threads (50).
const PRIORITY: u8 = 21;

enum Call {
    Help,
    Run { manifest: PathBuf, watch: Option<Pid> },
}

fn main() -> ExitCode {
    match parse(std::env::args_os().skip(1)) {
        Ok(Call::Run { manifest, watch }) => run(&manifest, watch),
        Ok(Call::Help) => {
            // Nobody to tell when standard output is closed.
            let _ = writeln!(std::io::stdout(), "{USAGE}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            say(&format!("{wrong}\n{USAGE}"));
            ExitCode::from(USELESS)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Call, String> {
    let (mut manifest, mut watch) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Call::Help),
            Some("--manifest") => manifest = Some(arguments.next().ok_or("--manifest needs a file")?.into()),
            Some("--watch") => {
                let pid = arguments.next().ok_or("--watch needs a process number")?;
                let number = pid.to_str().and_then(|pid| pid.parse().ok()).filter(|pid| *pid > 0);
                let pid = number.and_then(Pid::from_raw);
                watch = Some(pid.ok_or("--watch needs a process number")?);
            }
            _ => return Err(format!("unknown argument {argument:?}")),
        }
    }
    Ok(Call::Run { manifest: manifest.ok_or("--manifest is missing")?, watch })
}

fn run(manifest: &Path, watch: Option<Pid>) -> ExitCode {
    let mut lanes = match lanes::load(manifest) {
        Ok(lanes) => lanes,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            say(&format!("{error}{}", cause.unwrap_or_default()));
            return ExitCode::from(USELESS);
        }
    };
    let mut exit = ExitCode::SUCCESS;
    if let Some(pid) = watch {
        match wait(pid) {
            Ok(()) => say(&format!("process {} is dead", pid.as_raw_nonzero())),
            Err(Unwatched { armed: false, error }) => {
                say(&format!("cannot watch process {}: {error}", pid.as_raw_nonzero()));
                return ExitCode::from(UNWATCHED);
            }
            Err(Unwatched { armed: true, error }) => {
                // Lines of a living gate are busy, and nothing happens to them.
                say(&format!("stopped watching process {}: {error}", pid.as_raw_nonzero()));
                exit = ExitCode::from(UNWATCHED);
            }
        }
    }
    let before = Instant::now();
    let report = make_inactive(&mut lanes);
    let took = before.elapsed();
    for failure in &report.failures {
        say(failure);
    }
    say(&format!("{report}, after {:.1} ms", took.as_secs_f64() * 1000.0));
    if report.failures.is_empty() { exit } else { ExitCode::from(FAILED) }
}

struct Unwatched {
    armed: bool,
    error: std::io::Error,
}

fn wait(pid: Pid) -> Result<(), Unwatched> {
    let unwatched = |armed| move |error| Unwatched { armed, error };
    // The service manager ends all processes of a unit together: we stay until the gate is gone.
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGHUP,
        signal_hook::consts::SIGQUIT,
    ] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false))).map_err(unwatched(false))?;
    }
    let ward = Ward::take(pid).map_err(unwatched(false))?;
    // When the gate dies for want of memory, reading our own code from a disk may take too long.
    if let Err(errno) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) {
        say(&format!("cannot lock its memory, which may make it slow: {errno}"));
    }
    if let Err(error) = raise_priority() {
        say(&format!("cannot have real-time priority, which may make it slow: {error}"));
    }
    // The gate may have closed its end; it is watched nevertheless.
    let _ = writeln!(std::io::stdout(), "armed");
    ward.wait().map_err(unwatched(true))
}

/// It sleeps until it is needed, and then nothing is more urgent.
fn raise_priority() -> Result<(), thread_priority::Error> {
    let value = ThreadPriorityValue::try_from(PRIORITY)
        .map_err(|_| thread_priority::Error::Priority("it is out of range"))?;
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(value),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
}

/// To the journal; without one there is nobody to tell.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "gate-failsafe: {text}");
}
