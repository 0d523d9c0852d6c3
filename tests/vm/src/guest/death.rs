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
use vm::report::MEASURED;

use crate::figure::Figure;
use crate::gate::{Gate, MANIFEST, Rig, WATCHDOG, watchers};
use crate::{lines, say, wait};

/// What the design allows (design.md, section 5).
const INACTIVE_WITHIN: Duration = Duration::from_millis(50);
/// How often a pulse may be over too early.
const TRIES: usize = 5;
/// From one look at the lines to the next. Looking without a pause would take half of the one processor from the
/// dying gate, which ends at ordinary priority: its last thread is the least urgent one.
const LOOK_EVERY: Duration = Duration::from_micros(250);
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
    /// A bad instruction. (Rust's runtime catches the first SIGSEGV, and goes on when nothing was wrong.)
    Ill,
    /// No code of ours runs.
    Kill,
    /// The kernel takes the memory back.
    OutOfMemory,
    /// It hangs, and the service manager notices.
    Watchdog,
}

impl Way {
    const ALL: [Self; 6] =
        [Self::Term, Self::Abort, Self::Ill, Self::Kill, Self::OutOfMemory, Self::Watchdog];

    fn name(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Abort => "SIGABRT (panic that aborts)",
            Self::Ill => "SIGILL",
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
                // The other ways are tried all the same.
                match tries(&mut rig, way) {
                    Ok(death) => {
                        after_death.push(death.inactive);
                        hung.extend(death.hung);
                    }
                    Err(error) => late.push(format!("{}, {kernel}: {error:#}", way.name())),
                }
            }
            if after_death.is_empty() {
                continue;
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
    /// From the signal (or from taking the memory) until every output is inactive.
    inactive: Duration,
    /// From the hang to the inactive line, where the gate hung.
    hung: Option<Duration>,
}

fn tries(rig: &mut Rig, way: Way) -> Result<Death> {
    for _ in 0..TRIES {
        if let Some(death) = die(rig, way)? {
            return Ok(death);
        }
    }
    bail!("{TRIES} times the pulse was over before the gate could be killed")
}

/// Starts the gate, lets somebody in, and kills it in the middle of the pulse. `None` when the pulse was over
/// by itself before that: on a machine with other work the watching process may be late.
fn die(rig: &mut Rig, way: Way) -> Result<Option<Death>> {
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
        if !lines::is_active(&rig.strip, Output::UnlockA)? {
            return Ok(None);
        }
        // What systemd does: WatchdogSec= after the last sign of life it aborts the process, and continues it, so
        // that a stopped one can die.
        while gate.fed.recv_timeout(WATCHDOG).is_ok() {}
    }
    if !lines::is_active(&rig.strip, Output::UnlockA)? {
        return Ok(None);
    }
    let killed = Instant::now();
    match way {
        Way::Term => gate.signal(Signal::TERM)?,
        Way::Abort => gate.signal(Signal::ABORT)?,
        Way::Ill => gate.signal(Signal::ILL)?,
        Way::Kill => gate.signal(Signal::KILL)?,
        Way::OutOfMemory => take_memory()?,
        Way::Watchdog => {
            gate.signal(Signal::ABORT)?;
            gate.signal(Signal::CONT)?;
        }
    }
    let at = loop {
        let active = lines::active(&rig.strip)?;
        let now = Instant::now();
        if active.is_empty() {
            break now;
        }
        ensure!(now - killed < FOR_EVER, "{active:?} stay active for {} s", FOR_EVER.as_secs());
        std::thread::sleep(LOOK_EVERY);
    };
    let status = gate.ended()?;
    ensure!((way == Way::Term) == status.success(), "it ended with {status}");
    let hung = hung.map(|since| at - since);
    Ok(Some(Death { inactive: at - killed, hung }))
}

/// Lowers the limit of the gate's control group a little below what it uses: the kernel kills the larger process.
fn take_memory() -> Result<()> {
    let at = |name: &str| Path::new(CGROUP).join(name);
    let used = fs::read_to_string(at("memory.current")).context("cannot read the memory in use")?;
    let used: u64 = used.trim().parse().context("the memory in use is no number")?;
    // No lower: what the group's files take cannot be had back here, and the kernel would go on to the watcher.
    let limit = used.saturating_sub(1 << 20);
    // The write returns when the kernel has got there; the line is looked at meanwhile.
    std::thread::spawn(move || fs::write(at("memory.max"), limit.to_string()));
    Ok(())
}

/// On a kernel that keeps outputs, with the gate and its watcher killed at once, the line must stay active
/// (otherwise nothing above was shown), until the service manager runs `gate-failsafe` as `ExecStopPost=` does.
fn without_watcher(rig: &mut Rig) -> Result<()> {
    let gate = Gate::start(None)?;
    rig.let_in()?;
    let watchers = watchers()?;
    ensure!(watchers.len() == 1, "the gate has {} watchers", watchers.len());
    let status = fs::read_to_string(format!("/proc/{}/status", gate.pid().as_raw_nonzero()))?;
    // A dying process gives its memory back before it lets go of its lines.
    for line in status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmLck")) {
        say(&format!(
            "{MEASURED}the gate's memory, {}",
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
    }
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
