//! The first process of the machine: mounts, modules, then every step under a time limit, then off.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::mount::MountFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::system::RebootCommand;
use vm::report::{Line, MEASURED, PORT, SKIPPED, STEPS, Step};

use crate::say;

/// Lines of a failed step's output that go to the host.
const TAIL_LINES: usize = 25;

const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/tmp"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Modules with settings of their own. Two USB ports, so that two gadgets can be plugged in at once; two cameras.
const MODULE_SETTINGS: [(&str, &CStr); 2] =
    [("dummy_hcd", c"num=2"), ("vivid", c"n_devs=1 node_types=0x1 num_inputs=1 input_types=0")];

/// Never returns: a first process that ends takes the kernel with it.
pub fn run() -> ! {
    if let Err(error) = prepare() {
        say(&format!("init: {error:#}"));
    } else if let Err(error) = supervise() {
        say(&format!("init: {error:#}"));
    }
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn prepare() -> Result<()> {
    for (kind, path) in MOUNTS {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {path}"))?;
        rustix::mount::mount(kind, path, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {path}"))?;
    }
    for name in std::fs::read_to_string("/modules/order").context("cannot read /modules/order")?.lines() {
        load(name)?;
    }
    rustix::mount::mount("configfs", "/sys/kernel/config", "configfs", MountFlags::empty(), None)
        .context("cannot mount configfs")
}

fn load(name: &str) -> Result<()> {
    let file =
        File::open(format!("/modules/{name}.ko")).with_context(|| format!("cannot open module {name}"))?;
    let settings =
        MODULE_SETTINGS.iter().find(|(known, _)| *known == name).map_or(c"", |(_, settings)| settings);
    match rustix::system::finit_module(&file, settings, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot load module {name}")),
    }
}

/// Runs the steps in a process of their own, and buries everybody whose parent died before them.
fn supervise() -> Result<()> {
    let runner = Command::new("/proc/self/exe").arg("steps").spawn().context("cannot start the steps")?;
    let runner = Pid::from_child(&runner);
    loop {
        let ended = rustix::process::wait(WaitOptions::empty()).context("cannot wait")?;
        if let Some((pid, status)) = ended
            && pid == runner
        {
            ensure!(status.exit_status() == Some(0), "the steps ended with {status:?}");
            return Ok(());
        }
    }
}

/// Runs every step of the list and reports.
pub fn steps() -> Result<()> {
    let mut port = File::options().write(true).open(PORT).with_context(|| format!("cannot open {PORT}"))?;
    let uptime = std::fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let seconds = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    tell(&mut port, &Line::Up { seconds, kernel })?;
    let list = std::fs::read(STEPS).with_context(|| format!("cannot read {STEPS}"))?;
    let list: Vec<Step> = serde_json::from_slice(&list).with_context(|| format!("{STEPS} is not valid"))?;
    for step in list {
        tell(&mut port, &Line::Began { step: step.name.clone() })?;
        say(&format!("==== {}", step.name));
        let began = Instant::now();
        let failure = one(&step, &mut port)?;
        let seconds = began.elapsed().as_secs_f64();
        tell(&mut port, &Line::Ended { step: step.name, seconds, failure })?;
    }
    tell(&mut port, &Line::Done)
}

fn tell(port: &mut File, line: &Line) -> Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    port.write_all(text.as_bytes()).with_context(|| format!("cannot write to {PORT}"))
}

/// Runs one step; why it failed, if it did.
fn one(step: &Step, port: &mut File) -> Result<Option<String>> {
    let (program, arguments) = step.command.split_first().context("a step without a command")?;
    let spawned = Command::new(program)
        .args(arguments)
        .envs(&step.environment)
        .env("STILE_VM", "1")
        .env("RUST_BACKTRACE", "1")
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Ok(Some(format!("cannot start {program}: {error}"))),
    };
    let group = Pid::from_child(&child);
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let (sender, said) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|pipe| read(pipe, Arc::clone(&tail), sender.clone())),
        child.stderr.take().map(|pipe| read(pipe, Arc::clone(&tail), sender.clone())),
    ];
    drop(sender);
    let deadline = Instant::now() + step.limit;
    let mut late = false;
    // The channel closes when the step and all whom it left behind have closed their output.
    let status = loop {
        if let Ok(text) = said.recv_timeout(Duration::from_millis(50)) {
            tell(port, &Line::Said { step: step.name.clone(), text })?;
        } else if let Some(status) = child.try_wait().context("cannot wait for a step")? {
            break status;
        } else if Instant::now() > deadline && !late {
            late = true;
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    };
    // Whoever is left must not disturb the next step.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    for reader in readers.into_iter().flatten() {
        let _ = reader.join();
    }
    for text in said {
        tell(port, &Line::Said { step: step.name.clone(), text })?;
    }
    if status.success() && !late {
        return Ok(None);
    }
    let why = if late { format!("not done after {} s", step.limit.as_secs()) } else { status.to_string() };
    let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    let tail: Vec<&str> = tail.iter().map(String::as_str).collect();
    Ok(Some(format!("{why}\n{}", tail.join("\n"))))
}

/// Copies a step's output to the console, keeps its end, and passes on what the host should see.
fn read(
    pipe: impl std::io::Read + Send + 'static,
    tail: Arc<Mutex<VecDeque<String>>>,
    said: mpsc::Sender<String>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            say(&line);
            let text = line.strip_prefix(MEASURED);
            let skipped = line.starts_with(SKIPPED).then_some(line.as_str());
            if let Some(text) = text.or(skipped) {
                let _ = said.send(text.to_owned());
            }
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line);
        }
    })
}
