//! `vm-image`: boots the built image in a virtual PC, proves it step by step, records what it writes, and cuts its
//! power by the thousand.
//!
//! It deliberately knows nothing of how the image is made, and judges a disk only by what firmware, kernel and
//! services would find on it.

mod bench;
mod campaign;
mod check;
mod log;
mod machine;
mod record;
mod replay;
mod server;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::bench::Bench;
use crate::campaign::{Defect, Plan, Point, Recording};
use crate::machine::Time;

/// Proves the image in a virtual PC.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The disk image.
    #[arg(long, default_value = "out/image/stile-x86-64-sim.img")]
    image: PathBuf,
    /// The operator's keys that it was made with.
    #[arg(long, default_value = "out/keys")]
    keys: PathBuf,
    /// Bundles for the steps with updates.
    #[arg(long, default_value = "out/vm-image/bundles")]
    bundles: PathBuf,
    /// Where disks, consoles and pictures are left.
    #[arg(long, default_value = "out/vm-image")]
    out: PathBuf,
    /// Size of the disks, MiB.
    #[arg(long, default_value_t = 6144)]
    disk: u64,
    /// More for the kernel's command line.
    #[arg(long, default_value = "")]
    command_line: String,
    /// What the machine's clocks follow: this machine's clock, or its own instructions (2 ns each; other work on this
    /// machine does not show, but idle time is skipped, and with it what a shopper has to pass).
    #[arg(long, value_enum, default_value = "host")]
    time: Time,
    /// For an image without a caretaker: makes the files that it would have made, after the start.
    #[arg(long)]
    stand_in: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs steps of the proof.
    Prove {
        /// Only these; without any, all.
        steps: Vec<String>,
        /// The short form: from power to a served shopper.
        #[arg(long)]
        short: bool,
        /// Lists the steps and ends.
        #[arg(long)]
        list: bool,
    },
    /// Boots it for a person: a window, or VNC where there is no display.
    Play {
        /// The staff page's port on this machine.
        #[arg(long, default_value_t = 8480)]
        port: u16,
        /// QEMU's -display; by default a window, or VNC on port 5900.
        #[arg(long)]
        display: Option<String>,
    },
    /// Records what the box writes: first boot, shoppers, an update, its proof, shoppers again.
    Record {
        /// The folder for it.
        recording: PathBuf,
        /// The folder in which the image was built (root.squashfs, root.verity, uki.efi).
        #[arg(long, default_value = "out/image/work-stile-x86-64-sim")]
        built: PathBuf,
        /// The same of the bundle's version.
        #[arg(long)]
        next: Option<PathBuf>,
        /// A factory reset at the end.
        #[arg(long)]
        reset: bool,
        /// No shoppers, and the power goes as soon as the update is activated.
        #[arg(long)]
        no_visits: bool,
    },
    /// Boots the disk of a point of a recording for real, until a shopper is let in.
    Boot {
        /// The recording's folder.
        recording: PathBuf,
        /// The points (ENTRY or ENTRY:TORN).
        points: Vec<Point>,
        /// As for cut.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// So many more, drawn from the seed.
        #[arg(long, default_value_t = 0)]
        sample: usize,
    },
    /// Judges every point of a recording at which the power may have gone.
    Cut {
        /// The recording's folder.
        recording: PathBuf,
        /// Torn variants of the writes between two flushes.
        #[arg(long, default_value_t = 4)]
        torn: u32,
        /// Where they are drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// At most so many points; 0: all.
        #[arg(long, default_value_t = 0)]
        limit: u64,
        /// A defect, to see that it is found.
        #[arg(long, value_enum)]
        defect: Option<Defect>,
        /// Only this point (ENTRY or ENTRY:TORN).
        #[arg(long)]
        point: Option<Point>,
        /// Only points from this entry on.
        #[arg(long, default_value_t = 0)]
        from: usize,
        /// Only points before this entry.
        #[arg(long, default_value_t = usize::MAX)]
        to: usize,
        /// Writes the outcome here as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    let Arguments { image, keys, bundles, out, disk, command_line, time, stand_in, command } = arguments;
    let bench = Bench { image, keys, out, disk_bytes: disk << 20, command_line, bundles, time, stand_in };
    match command {
        Command::Prove { list: true, .. } => {
            for step in steps::STEPS {
                say(&format!("{:<16} {}", step.name, step.shows));
            }
            Ok(true)
        }
        Command::Prove { steps, short, list: false } => prove(&bench, &steps, short),
        Command::Record { recording, built, next, reset, no_visits } => {
            let what = record::What { visits: !no_visits, reset };
            record::record(&bench, &recording, &built, next.as_deref(), &what)
        }
        Command::Boot { recording, points, seed, sample } => {
            record::boot_points(&bench, &recording, points, seed, sample)
        }
        Command::Play { port, display } => play(&bench, port, display),
        Command::Cut { recording, torn, seed, limit, defect, point, from, to, json } => {
            let what = Recording::read(&recording)?;
            let began = Instant::now();
            let plan = Plan { torn, seed, limit, defect, only: point, entries: from..to };
            let outcome = campaign::run(&what, &plan)?;
            let took = began.elapsed().as_secs_f64();
            say(&format!(
                "{} points ({} torn): {} bricks, {} fall back to the other slot, {} with lost receipts, \
                 {} unsound states, {} unsound identities; {took:.0} s",
                outcome.points,
                outcome.torn,
                outcome.bricks,
                outcome.falls_back,
                outcome.lost_receipts,
                outcome.state,
                outcome.identity
            ));
            for (what, count) in &outcome.boots {
                say(&format!("   boots {what}: {count}"));
            }
            let defect = defect.and_then(|defect| clap::ValueEnum::to_possible_value(&defect));
            let defect = defect.map_or_else(String::new, |value| format!(" --defect {}", value.get_name()));
            for failed in &outcome.failed {
                say(&format!("   {failed}"));
                let point = failed.split(": ").next().unwrap_or_default();
                say(&format!(
                    "     again: vm-image cut {} --torn {torn} --seed {seed}{defect} --point {point}",
                    recording.display()
                ));
            }
            if let Some(json) = json {
                std::fs::write(&json, serde_json::to_vec_pretty(&outcome)?)
                    .with_context(|| format!("cannot write {}", json.display()))?;
            }
            Ok(outcome.failed.is_empty())
        }
    }
}

fn prove(bench: &Bench, names: &[String], short: bool) -> Result<bool> {
    for name in names {
        ensure!(
            steps::STEPS.iter().any(|step| step.name == *name),
            "there is no step {name}; --list lists them"
        );
    }
    ensure!(
        bench.image.exists(),
        "there is no {}; `make image VARIANT=stile-sim` makes it",
        bench.image.display()
    );
    std::fs::create_dir_all(&bench.out).with_context(|| format!("cannot make {}", bench.out.display()))?;
    let wanted = |step: &&steps::Step| {
        if names.is_empty() { !short || step.short } else { names.iter().any(|name| name == step.name) }
    };
    let (mut good, mut all) = (0, 0);
    for step in steps::STEPS.iter().filter(wanted) {
        let began = Instant::now();
        let outcome = (step.run)(bench);
        let took = began.elapsed().as_secs_f64();
        all += 1;
        match outcome {
            Ok(saw) => {
                good += 1;
                say(&format!("ok      {:<16} {took:>5.0} s  {saw}", step.name));
            }
            Err(error) => say(&format!("FAILED  {:<16} {took:>5.0} s  {error:#}", step.name)),
        }
    }
    say(&format!("{good} of {all} steps went well"));
    Ok(good == all)
}

fn play(bench: &Bench, port: u16, display: Option<String>) -> Result<bool> {
    let disk = bench.disk("play")?;
    let mut setup = bench.setup("play", &disk);
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    setup.display =
        display.unwrap_or_else(|| if has_display { "gtk".to_owned() } else { "vnc=127.0.0.1:0".to_owned() });
    setup.console_port = port;
    let (mut machine, up) = bench::boot(&setup)?;
    say(&format!(
        "version {} in slot {}, staff page http://127.0.0.1:{port}/, display {}",
        up.version, up.slot, setup.display
    ));
    say("enter: a new shopper shows a code and goes in; o: somebody goes out; q: off");
    for line in std::io::stdin().lines() {
        use vm::player::Command as Ask;
        let answer = match line.context("no keyboard")?.trim() {
            "" => {
                let wait = std::time::Duration::from_secs(4);
                let shown = machine.ask(Ask::Show { again: false, wait }, bench::ANSWER_MAX);
                shown.and_then(|shown| {
                    machine.ask(Ask::Pass { entry: true }, bench::ANSWER_MAX)?;
                    Ok(shown)
                })
            }
            "o" => machine.ask(Ask::Pass { entry: false }, bench::ANSWER_MAX),
            "q" => return Ok(true),
            _ => continue,
        };
        match answer {
            Ok(answer) => say(&format!("{answer}")),
            Err(error) => say(&format!("{error:#}")),
        }
    }
    Ok(true)
}

/// A program of the system, also where it lies only for administrators.
pub fn tool(name: &str) -> std::process::Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = std::process::Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// A line for people.
#[expect(clippy::print_stdout, reason = "the lines are what the program is for")]
pub fn say(line: &str) {
    println!("{line}");
}
