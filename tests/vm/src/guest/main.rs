//! What runs inside the virtual machine: the first process (`init`), and one step a call otherwise.

mod camera;
mod death;
mod figure;
mod floor;
mod gadget;
mod gate;
mod init;
mod lane;
mod latency;
mod lines;
mod player;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run()
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["steps"] => init::steps(),
        ["echo"] => floor::echo(),
        ["in-cgroup", cgroup, program, ref arguments @ ..] => gate::in_cgroup(cgroup, program, arguments),
        ["floor"] => floor::run(),
        ["player"] => player::run(),
        ["as", user, program, ref arguments @ ..] => gate::as_user(user, program, arguments),
        ["hang"] => player::hang(),
        ["camera-pulled"] => camera::run(),
        ["lane"] => lane::run(),
        ["death", times] => times.parse().map_err(anyhow::Error::from).and_then(death::run),
        ["latency", entries] => entries.parse().map_err(anyhow::Error::from).and_then(latency::run),
        _ => Err(anyhow::anyhow!("no step {arguments:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Asks again and again until there is an answer, at most for `limit`.
fn wait<T>(what: &str, limit: Duration, mut answer: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = answer()? {
            return Ok(answer);
        }
        if began.elapsed() > limit {
            bail!("waited {:.1} s for {what} in vain", limit.as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A line for the console; the host sees it too when it begins as `vm::report` says.
#[expect(clippy::print_stdout, reason = "the lines are what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
