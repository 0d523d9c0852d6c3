//! Programs of the image that the host wants to run, and files that it wants to see or to make.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};
use vm::player::Ran;

/// Bytes of a program's output that are kept, from its end.
const OUTPUT_MAX: usize = 16 << 10;
/// Bytes of a file that are read, from its end.
const FILE_MAX: u64 = 64 << 10;
/// Bytes of one filling file.
const FILLING: usize = 1 << 20;

/// Runs a program and waits for its end, or makes it.
pub fn run(
    argv: &[String],
    limit: Duration,
    kill_on: Option<&str>,
    kill_after: Option<Duration>,
) -> Result<Ran> {
    let (program, arguments) = argv.split_first().context("no program")?;
    let began = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let group = Pid::from_child(&child);
    let output = Arc::new(Mutex::new(Vec::new()));
    let readers = [
        child.stdout.take().map(|pipe| collect(pipe, Arc::clone(&output))),
        child.stderr.take().map(|pipe| collect(pipe, Arc::clone(&output))),
    ];
    let holds = |text: &str| {
        let output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output.windows(text.len().max(1)).any(|window| window == text.as_bytes())
    };
    let mut killed = false;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait")? {
            break status;
        }
        let asked = kill_on.is_some_and(holds) || kill_after.is_some_and(|after| began.elapsed() >= after);
        if asked || began.elapsed() > limit {
            killed = asked;
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
            break child.wait().context("cannot wait")?;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // What it left running may hold its output open for ever; two seconds for the rest of it are enough.
    let deadline = Instant::now() + Duration::from_secs(2);
    for reader in readers.into_iter().flatten() {
        while !reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let output = output.lock().unwrap_or_else(PoisonError::into_inner);
    let tail = &output[output.len().saturating_sub(OUTPUT_MAX)..];
    let output = String::from_utf8_lossy(tail).into_owned();
    Ok(Ran { status: status.code(), killed, output, seconds: began.elapsed().as_secs_f64() })
}

fn collect(mut pipe: impl Read + Send + 'static, to: Arc<Mutex<Vec<u8>>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
            to.extend_from_slice(&bytes[..count]);
            let surplus = to.len().saturating_sub(4 * OUTPUT_MAX);
            to.drain(..surplus);
        }
    })
}

/// The end of a file as text.
pub fn read(path: &str) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {path}"))?;
    let length = file.metadata().with_context(|| format!("cannot look at {path}"))?.len();
    // Files of /proc and /sys say 0, and some cannot seek.
    if length > FILE_MAX {
        file.seek(SeekFrom::Start(length - FILE_MAX)).with_context(|| format!("cannot seek in {path}"))?;
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).with_context(|| format!("cannot read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Fills a file system; how many bytes went in.
pub fn fill(folder: &str, keep: u64) -> Result<u64> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    let block = vec![0xa5; FILLING];
    let mut written = 0;
    let mut file =
        File::create(Path::new(folder).join("filling")).with_context(|| format!("cannot fill {folder}"))?;
    loop {
        let space = rustix::fs::statvfs(folder).with_context(|| format!("cannot look at {folder}"))?;
        let free = (space.f_bavail * space.f_frsize).saturating_sub(keep);
        if free == 0 {
            break;
        }
        let count = usize::try_from(free).unwrap_or(FILLING).min(FILLING);
        match file.write(&block[..count]) {
            Ok(count) => written += count as u64,
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
            Err(error) => return Err(error).with_context(|| format!("cannot fill {folder}")),
        }
    }
    file.sync_all().with_context(|| format!("cannot sync {folder}"))?;
    Ok(written)
}

/// Kills every process of that name; how many.
pub fn kill_all(comm: &str) -> Result<u32> {
    let killed =
        named(comm)?.into_iter().filter(|pid| rustix::process::kill_process(*pid, Signal::KILL).is_ok());
    Ok(u32::try_from(killed.count()).unwrap_or(u32::MAX))
}

/// Waits for a process of that name, after `spare` others, and kills it `after` it was seen; whether one was killed.
pub fn hunt(comm: &str, spare: u32, after: Duration, limit: Duration) -> Result<bool> {
    let began = Instant::now();
    let mut seen = BTreeSet::new();
    while began.elapsed() < limit {
        for pid in named(comm)? {
            if seen.insert(pid.as_raw_pid()) && seen.len() > spare as usize {
                std::thread::sleep(after);
                return Ok(rustix::process::kill_process(pid, Signal::KILL).is_ok());
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

fn named(comm: &str) -> Result<Vec<Pid>> {
    let entries = fs::read_dir("/proc").context("cannot list processes")?.flatten();
    Ok(entries
        .filter(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim() == comm))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
        .collect())
}
