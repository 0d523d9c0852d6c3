//! `vm`: builds what the virtual machine runs, boots it, shows what comes out and judges it.

mod qemu;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::Deserialize;
use vm::initramfs::Initramfs;
use vm::report::{self, Step};

use crate::qemu::{Machine, Time};

/// Runs the drivers' conformance suites and the lane scenarios in a virtual machine, on the kernel's own
/// interfaces.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only these steps; without any, all of them.
    steps: Vec<String>,
    /// Lists the steps and ends.
    #[arg(long)]
    list: bool,
    /// Entries of the latency figure.
    #[arg(long, default_value_t = 300)]
    entries: u32,
    /// How often the gate is killed in each way.
    #[arg(long, default_value_t = 5)]
    deaths: u32,
    /// Runs what the last call built, without asking cargo.
    #[arg(long)]
    as_built: bool,
    /// The folder that kernel.sh filled.
    #[arg(long, default_value = ".cache/vm/kernel")]
    kernel: PathBuf,
    /// Where the root file system and the console's log are left.
    #[arg(long, default_value = "out/vm")]
    out: PathBuf,
    /// What the machine's clocks follow: its own instructions (2 ns each; other work on this machine does not show,
    /// idle time is skipped), or this machine's clock.
    #[arg(long, value_enum, default_value = "instructions")]
    time: Time,
}

/// A program of ours that goes into the machine.
struct Program {
    /// Its path there.
    path: &'static str,
    /// The package that has it.
    package: &'static str,
    /// The target's name: a program, or a test.
    target: &'static str,
    /// The steps that need it; none: every step.
    needed_by: &'static [&'static str],
}

/// The steps that run the gate service.
const GATE: &[&str] = &["lane", "death", "latency"];

const BINS: [Program; 3] = [
    Program { path: "init", package: "vm", target: "vm-guest", needed_by: &[] },
    Program { path: "bin/gated", package: "gated", target: "gated", needed_by: GATE },
    Program { path: "bin/gate-failsafe", package: "gate-failsafe", target: "gate-failsafe", needed_by: GATE },
];

const TESTS: [Program; 3] = [
    Program { path: "tests/turnstile", package: "turnstile", target: "kernel", needed_by: &["turnstile"] },
    Program {
        path: "tests/qr-scanner",
        package: "qr-scanner",
        target: "devices",
        needed_by: &["qr-scanner"],
    },
    Program { path: "tests/camera", package: "camera", target: "v4l2", needed_by: &["camera"] },
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let mut steps = steps(arguments);
    if arguments.list {
        steps.iter().for_each(|step| say(&format!("{:<18} {}", step.name, step.command.join(" "))));
        return Ok(true);
    }
    for name in &arguments.steps {
        ensure!(steps.iter().any(|step| step.name == *name), "there is no step {name}; --list lists them");
    }
    steps.retain(|step| arguments.steps.is_empty() || arguments.steps.contains(&step.name));
    ensure!(
        arguments.kernel.join("stamp").exists(),
        "{} holds no kernel; tests/vm/kernel.sh {0} makes it",
        arguments.kernel.display()
    );
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;
    // Two runs would take each other's files away.
    let lock = File::create(arguments.out.join("lock")).context("cannot make the lock")?;
    ensure!(
        lock.try_lock().is_ok(),
        "another run uses {}; give this one its own with --out",
        arguments.out.display()
    );
    let began = Instant::now();
    let programs = build(&steps, &arguments.out.join("programs.json"), arguments.as_built)?;
    let archive = arguments.out.join("initramfs.cpio");
    let size = pack(&archive, &arguments.kernel, &programs, &steps)?;
    say(&format!("built in {:.0} s, root file system {} MB", began.elapsed().as_secs_f64(), size >> 20));
    let machine = Machine {
        kernel: arguments.kernel.join("vmlinuz"),
        initramfs: archive,
        console: arguments.out.join("console.log"),
        time: arguments.time,
    };
    machine.run(&steps)
}

fn steps(arguments: &Arguments) -> Vec<Step> {
    let (entries, deaths) = (arguments.entries.to_string(), arguments.deaths.to_string());
    // An entry takes some 1 s here: the pulse, the passage, and the pause after it. A death takes 2.
    let latency = 120 + u64::from(arguments.entries) * 2;
    let death = 180 + u64::from(arguments.deaths) * 60;
    let suite = ["--test-threads=1", "--nocapture"];
    let camera = [("STILE_CAMERA", "/dev/video0")];
    [
        ("turnstile", [&["/tests/turnstile"], &suite[..]].concat(), &[][..], 120),
        ("qr-scanner", [&["/tests/qr-scanner"], &suite[..]].concat(), &[], 180),
        ("camera", [&["/tests/camera"], &suite[..]].concat(), &camera, 120),
        ("camera-pulled", vec!["/init", "camera-pulled"], &[], 90),
        ("floor", vec!["/init", "floor"], &[], 60),
        ("lane", vec!["/init", "lane"], &[], 180),
        ("death", vec!["/init", "death", &deaths], &[], death),
        ("latency", vec!["/init", "latency", &entries], &[], latency),
    ]
    .into_iter()
    .map(|(name, command, environment, limit)| Step {
        name: name.to_owned(),
        command: command.iter().map(|part| (*part).to_owned()).collect(),
        environment: environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        limit: Duration::from_secs(limit),
    })
    .collect()
}

/// What cargo answers, as far as we ask.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds what the steps need; path in the machine to path here. `known` keeps what was built, for the next call.
fn build(steps: &[Step], known: &Path, as_built: bool) -> Result<BTreeMap<String, PathBuf>> {
    if as_built {
        let built = std::fs::read(known).with_context(|| format!("cannot read {}", known.display()))?;
        return serde_json::from_slice(&built).with_context(|| format!("{} is not valid", known.display()));
    }
    let mut built = BTreeMap::new();
    for (call, target, programs) in
        [(&["build"][..], "--bin", BINS), (&["test", "--no-run"], "--test", TESTS)]
    {
        let needed: Vec<&Program> = programs
            .iter()
            .filter(|program| {
                let needed_by = program.needed_by;
                needed_by.is_empty() || steps.iter().any(|step| needed_by.contains(&step.name.as_str()))
            })
            .collect();
        if needed.is_empty() {
            continue;
        }
        let mut arguments = call.to_vec();
        for program in &needed {
            arguments.extend(["-p", program.package, target, program.target]);
        }
        if needed.iter().any(|program| program.package == "turnstile") {
            arguments.extend(["--features", "turnstile/gpiosim"]);
        }
        let messages = cargo(&arguments)?;
        for program in needed {
            let executable = messages
                .iter()
                .filter(|message| message.target.as_ref().is_some_and(|target| target.name == program.target))
                .find_map(|message| message.executable.clone());
            let executable = executable.with_context(|| format!("cargo built no {}", program.target))?;
            built.insert(program.path.to_owned(), executable);
        }
    }
    std::fs::write(known, serde_json::to_vec(&built)?)
        .with_context(|| format!("cannot write {}", known.display()))?;
    Ok(built)
}

fn cargo(arguments: &[&str]) -> Result<Vec<Message>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo {} failed", arguments.join(" "));
    let messages = String::from_utf8(output.stdout).context("cargo's answer is not UTF-8")?;
    Ok(messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Writes the machine's root file system; returns its size in bytes.
fn pack(to: &Path, kernel: &Path, programs: &BTreeMap<String, PathBuf>, steps: &[Step]) -> Result<u64> {
    let file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut archive = Initramfs::new(BufWriter::new(file));
    for folder in ["dev", "proc", "sys", "tmp", "run", "etc/stile", "var/lib/stile"] {
        archive.folder(folder)?;
    }
    archive.file(report::STEPS.trim_start_matches('/'), false, &serde_json::to_vec(steps)?)?;
    for (path, executable) in programs {
        archive.copy(path, true, executable)?;
    }
    for library in libraries(programs.values())? {
        let path = library.to_str().context("a library's path is not UTF-8")?;
        archive.copy(path.trim_start_matches('/'), true, &library)?;
    }
    let order = kernel.join("modules/order");
    let names =
        std::fs::read_to_string(&order).with_context(|| format!("cannot read {}", order.display()))?;
    archive.file("modules/order", false, names.as_bytes())?;
    for name in names.lines() {
        let module = format!("modules/{name}.ko");
        archive.copy(&module, false, &kernel.join(&module))?;
    }
    let file = archive.finish()?.into_inner().context("cannot write the root file system")?;
    Ok(file.metadata()?.len())
}

/// The shared libraries of the programs and the loader, at the paths where the loader looks for them.
fn libraries<'a>(programs: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
        ensure!(output.status.success(), "ldd {} failed", program.display());
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", "/lib64/ld-linux-x86-64.so.2 (0x…)", or the
            // kernel's own "linux-vdso.so.1 (0x…)".
            let path = line.split("=>").last().unwrap_or_default().trim();
            let path = path.split(" (").next().unwrap_or_default();
            if path == "not found" {
                bail!("{}: {} not found", program.display(), line.trim());
            }
            if path.starts_with('/') && !libraries.iter().any(|known| known == Path::new(path)) {
                libraries.push(PathBuf::from(path));
            }
        }
    }
    Ok(libraries)
}

/// A line for whoever started this.
#[expect(clippy::print_stdout, reason = "the lines are what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
