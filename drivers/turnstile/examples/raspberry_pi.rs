//! The first process of an emulated Raspberry Pi: takes a turnstile's pins by their registers, drives them one after
//! the other, and says what they must be. `vm-pi` (tests/vm) looks at the chip from outside and answers each line.
//!
//! Needs `gate-failsafe` as /bin/gate-failsafe and its manifest as /manifest.toml.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use rustix::mount::{MountFlags, mount};
use turnstile::{Edge, Line, Output, Outputs, Turnstile, rpi};

type Failure = Box<dyn Error>;

/// The mini UART: the other one belongs to the radio.
const CONSOLE: &str = "/dev/ttyS1";
const MANIFEST: &str = "/manifest.toml";
/// Runs as the process that is killed with its lines active.
const HOLD: &str = "hold";

fn main() -> ExitCode {
    let done = if std::env::args().nth(1).as_deref() == Some(HOLD) { hold() } else { first() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            if let Ok(mut console) = OpenOptions::new().write(true).open(CONSOLE) {
                let _ = writeln!(console, "stile-pi: failed: {text}");
            }
            loop {
                std::thread::park();
            }
        }
    }
}

/// With nobody to return to: ends in waiting for the power to go.
fn first() -> Result<(), Failure> {
    for (name, folder) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        std::fs::create_dir_all(folder)?;
        mount(name, folder, name, MountFlags::empty(), None)?;
    }
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE)?;
    let mut answers = BufReader::new(console.try_clone()?).lines();
    let mut tell = |says: &str, active: &[Output]| -> Result<(), Failure> {
        let names: Vec<_> = active.iter().map(|output| output.name()).collect();
        writeln!(&console, "stile-pi: {says}: {}", names.join(" "))?;
        answers.next().ok_or("nobody answers")??;
        Ok(())
    };
    let model = std::fs::read_to_string("/proc/device-tree/model")?;
    tell(&format!("up on a {}", model.trim_end_matches('\0')), &[])?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut pins = rpi::open(&settings()?)?;
    let mut at_rest = Vec::new();
    runtime.block_on(async {
        while at_rest.len() < Line::ALL.len() {
            let Edge { line, active, .. } = pins.next_edge().await?;
            at_rest.push((line, active));
        }
        Ok::<_, Failure>(())
    })?;
    if let Some((line, active)) = at_rest.iter().find(|(line, active)| *active != line.at_rest()) {
        return Err(format!("{} is {active} with nobody there", line.name()).into());
    }
    tell("taken", &[])?;
    for output in Output::ALL {
        pins.drive(only(output))?;
        tell("drive", &[output])?;
    }
    pins.drive(Outputs::INACTIVE)?;
    tell("drive", &[])?;
    drop(pins);

    let mut child = Command::new("/proc/self/exe").arg(HOLD).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut said)?;
    if said.trim() != HOLD {
        return Err(format!("who holds the line said {said:?}").into());
    }
    tell("held by another process", &[Output::UnlockA])?;
    child.kill()?;
    child.wait()?;
    // No kernel request holds the pin, so nothing lets it go.
    tell("killed", &[Output::UnlockA])?;
    let status = Command::new("/bin/gate-failsafe").args(["--manifest", MANIFEST]).status()?;
    if !status.success() {
        return Err(format!("gate-failsafe ended with {status}").into());
    }
    tell("gate-failsafe", &[])?;
    tell("done", &[])?;
    loop {
        std::thread::park();
    }
}

fn hold() -> Result<(), Failure> {
    let mut pins = rpi::open(&settings()?)?;
    pins.drive(only(Output::UnlockA))?;
    writeln!(std::io::stdout(), "{HOLD}")?;
    loop {
        std::thread::park();
    }
}

/// Those of the manifest's only lane.
fn settings() -> Result<rpi::Settings, Failure> {
    let manifest: toml::Table = std::fs::read_to_string(MANIFEST)?.parse()?;
    let lane = manifest["lanes"][0]["turnstile"].clone();
    let mut lane: toml::Table = lane.try_into()?;
    lane.remove("kind");
    Ok(lane.try_into()?)
}

fn only(output: Output) -> Outputs {
    let mut outputs = Outputs::INACTIVE;
    match output {
        Output::UnlockA => outputs.unlock_a = true,
        Output::UnlockB => outputs.unlock_b = true,
        Output::Stop => outputs.stop = true,
        Output::BeaconRed => outputs.beacon_red = true,
        Output::BeaconGreen => outputs.beacon_green = true,
        Output::Wide => outputs.wide = true,
    }
    outputs
}
