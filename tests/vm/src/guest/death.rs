//! How the gate may die while an unlock line is active, and how long the line stays so.
//!
//! Each way is tried on a kernel that lets go of a dead process's outputs, and on one that keeps their level, as
//! Raspberry Pi's does: there only `gate-failsafe` makes them inactive.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use turnstile::Output;

use crate::figure::Figure;
use crate::gate::{Gate, MANIFEST, Rig, WATCHDOG, watchers};
use crate::{lines, say, wait};

/// What the design allows (design.md, section 5).
const INACTIVE_WITHIN: Duration = Duration::from_millis(50);
/// A line that is still active by then will stay so.
const FOR_EVER: Duration = Duration::from_secs(3);
const CGROUP: &str = "/sys/fs/cgroup/gate";

/// A way to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Asked to end.
    Term,
    /// What a panic that aborts, an assertion in C, and the service manager's watchdog end in.
    Abort,
    /// A bad pointer.
    Segv,
    /// No code of ours runs.
    Kill,
    /// The kernel takes the memory back.
    OutOfMemory,
    /// It hangs, and the service manager notices.
    Watchdog,
}

impl Way {
    const ALL: [Self; 6] =
        [Self::Term, Self::Abort, Self::Segv, Self::Kill, Self::OutOfMemory, Self::Watchdog];

    fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Abort => "SIGABRT (panic that aborts)",
            Self::Segv => "SIGSEGV",
            Self::Kill => "SIGKILL",
            Self::OutOfMemory => "out of memory",
            Self::Watchdog => "SIGSTOP, watchdog bite",
        }
    }
}

/// Kills the gate `times` times in each way (once by the watchdog, which takes long).
pub fn run(times: u32) -> Result<()> {
    let mut rig = Rig::new()?;
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
        .context("cannot use memory control groups")?;
    fs::create_dir_all(CGROUP).with_context(|| format!("cannot make {CGROUP}"))?;
    let mut late = Vec::new();
    for keep in [false, true] {
        lines::keep_released(keep)?;
        let kernel = if keep { "kernel keeps released outputs" } else { "kernel lets outputs go" };
        for way in Way::ALL {
            let times = if way == Way::Watchdog { times.div_ceil(5) } else { times };
            let (mut after_death, mut hung) = (Vec::new(), Vec::new());
            for _ in 0..times {
                let death = die(&mut rig, way).with_context(|| format!("{}, {kernel}", way.name()))?;
                after_death.push(death.inactive);
                hung.extend(death.hung);
            }
            let figure = Figure::of(format!("{} to inactive, {kernel}", way.name()), after_death);
            say(&figure.line());
            if figure.worst() > INACTIVE_WITHIN {
                late.push(figure.name().to_owned());
            }
            if !hung.is_empty() {
                say(&Figure::of(format!("SIGSTOP to inactive in all, {kernel}"), hung).line());
            }
        }
    }
    without_watcher(&mut rig)?;
    lines::keep_released(false)?;
    ensure!(late.is_empty(), "not inactive within {} ms: {}", INACTIVE_WITHIN.as_millis(), late.join("; "));
    Ok(())
}

struct Death {
    /// From the signal (or from taking the memory) to the inactive line.
    inactive: Duration,
    /// From the hang to the inactive line, where the gate hung.
    hung: Option<Duration>,
}

/// Starts the gate, lets somebody in, and kills it in the middle of the pulse.
fn die(rig: &mut Rig, way: Way) -> Result<Death> {
    wait("the watcher of the gate before to end", Duration::from_secs(5), || {
        Ok(watchers()?.is_empty().then_some(()))
    })?;
    fs::write(Path::new(CGROUP).join("memory.max"), "max").context("cannot lift the memory limit")?;
    let gate = Gate::start(Some(Path::new(CGROUP)))?;
    rig.let_in()?;
    let mut hung = None;
    if way == Way::Watchdog {
        gate.signal(Signal::STOP)?;
        hung = Some(Instant::now());
        ensure!(lines::is_active(&rig.strip, Output::UnlockA)?, "the pulse was over before the gate hung");
        // What systemd does: WatchdogSec= after the last sign of life it aborts the process, and continues it, so
        // that a stopped one can die.
        while gate.fed.recv_timeout(WATCHDOG).is_ok() {}
    }
    // A gate that dies when its pulse is over by itself proves nothing.
    ensure!(lines::is_active(&rig.strip, Output::UnlockA)?, "the pulse was over before the gate died");
    let killed = Instant::now();
    match way {
        Way::Term => gate.signal(Signal::TERM)?,
        Way::Abort => gate.signal(Signal::ABORT)?,
        Way::Segv => gate.signal(Signal::SEGV)?,
        Way::Kill => gate.signal(Signal::KILL)?,
        Way::OutOfMemory => take_memory()?,
        Way::Watchdog => {
            gate.signal(Signal::ABORT)?;
            gate.signal(Signal::CONT)?;
        }
    }
    let Some(at) = lines::seen(&rig.strip, Output::UnlockA, false, FOR_EVER)? else {
        bail!("the unlock line stays active for {} s", FOR_EVER.as_secs());
    };
    wait("every other output", INACTIVE_WITHIN, || Ok(lines::active(&rig.strip)?.is_empty().then_some(())))?;
    let status = gate.ended()?;
    ensure!((way == Way::Term) == status.success(), "it ended with {status}");
    let hung = hung.map(|since| at - since);
    Ok(Death { inactive: at.saturating_duration_since(killed), hung })
}

/// Lowers the limit of the gate's control group to half of what it uses: the kernel kills the larger process.
fn take_memory() -> Result<()> {
    let at = |name: &str| Path::new(CGROUP).join(name);
    let used = fs::read_to_string(at("memory.current")).context("cannot read the memory in use")?;
    let half = used.trim().parse::<u64>().context("the memory in use is no number")? / 2;
    // The write returns when the kernel has got there; the line is looked at meanwhile.
    std::thread::spawn(move || fs::write(at("memory.max"), half.to_string()));
    Ok(())
}

/// On a kernel that keeps outputs, with the gate and its watcher killed at once, the line must stay active
/// (otherwise nothing above was shown), until the service manager runs `gate-failsafe` as `ExecStopPost=` does.
fn without_watcher(rig: &mut Rig) -> Result<()> {
    let gate = Gate::start(None)?;
    rig.let_in()?;
    let watchers = watchers()?;
    ensure!(watchers.len() == 1, "the gate has {} watchers", watchers.len());
    for watcher in watchers {
        rustix::process::kill_process(watcher, Signal::KILL).context("cannot kill the watcher")?;
    }
    gate.signal(Signal::KILL)?;
    gate.ended()?;
    let stays = lines::seen(&rig.strip, Output::UnlockA, false, Duration::from_secs(1))?.is_none();
    ensure!(stays, "nobody was there to make the line inactive, and yet it is: this test shows nothing");
    let began = Instant::now();
    let status = Command::new("/bin/gate-failsafe")
        .args(["--manifest", MANIFEST])
        .status()
        .context("cannot start gate-failsafe")?;
    ensure!(status.success(), "gate-failsafe ended with {status}");
    ensure!(lines::active(&rig.strip)?.is_empty(), "gate-failsafe left outputs active");
    let took = began.elapsed();
    say(&Figure::of("ExecStopPost (start of gate-failsafe to its end)", vec![took]).line());
    Ok(())
}
