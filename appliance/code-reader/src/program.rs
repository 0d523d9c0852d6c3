//! The worker as a program: its command line, and the check that its walls stand.

use std::fs::File;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Args, Subcommand, ValueEnum};
use rustix::process::{Pid, Signal};

use crate::sandbox::{Bounds, Layers, die_with, enter};
use crate::serve;

/// What a worker can be asked for on its command line. A program that starts itself as its own worker carries
/// this as a hidden subcommand.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Reads pictures for the program that started it: requests on descriptor 0, pictures in descriptor 1.
    Serve(Serve),
    /// Tries one forbidden thing from inside the walls. For the self-check.
    #[command(hide = true)]
    Probe {
        /// What to try.
        what: Forbidden,
        /// Layers that stand, a bit each.
        #[arg(long, default_value_t = Layers::ALL.bits())]
        layers: u8,
    },
}

/// How to serve.
#[derive(Args, Debug)]
pub struct Serve {
    /// Process id of the program that started this.
    #[arg(long)]
    pub parent: i32,
    /// Address space, MiB.
    #[arg(long)]
    pub memory_mib: u64,
    /// CPU time of the whole life, seconds.
    #[arg(long)]
    pub cpu_seconds: u64,
    /// Largest picture, bytes as they come.
    #[arg(long)]
    pub picture_bytes_max: u32,
}

/// What a worker must not be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forbidden {
    /// Open a file to read it.
    OpenFile,
    /// Make a file.
    MakeFile,
    /// Open an internet socket.
    Socket,
    /// Connect to a TCP port of this box.
    Connect,
    /// Open a Unix socket.
    UnixSocket,
    /// Start a program.
    Start,
    /// Kill another process: the one that started it.
    Kill,
    /// Take more memory than allowed.
    Memory,
}

/// Exit code of a probe that was refused.
const REFUSED: u8 = 3;
/// Address space of a probe, and what it tries to take beyond that.
const PROBE_MEMORY: u64 = 1 << 30;

impl Role {
    /// Runs to the end of the process.
    #[must_use]
    pub fn run(self) -> ExitCode {
        match self {
            Self::Serve(arguments) => {
                let Some(parent) = Pid::from_raw(arguments.parent) else { return ExitCode::FAILURE };
                if !die_with(parent) {
                    return ExitCode::FAILURE;
                }
                let bounds = Bounds {
                    memory_bytes: arguments.memory_mib << 20,
                    cpu_seconds: arguments.cpu_seconds,
                    layers: Layers::ALL,
                };
                serve::run(bounds, arguments.picture_bytes_max)
            }
            Self::Probe { what, layers } => {
                let parent = rustix::process::getppid();
                let layers = Layers::from_bits(layers);
                let entered = enter(Bounds { memory_bytes: PROBE_MEMORY, cpu_seconds: 60, layers });
                if entered.layers != layers {
                    return ExitCode::FAILURE;
                }
                if attempt(what, parent) { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
            }
        }
    }
}

/// Whether the forbidden thing worked.
fn attempt(what: Forbidden, parent: Option<Pid>) -> bool {
    match what {
        Forbidden::OpenFile => File::open("/proc/version").is_ok(),
        Forbidden::MakeFile => {
            let path = std::env::temp_dir().join(format!("code-reader-probe-{}", std::process::id()));
            let made = File::create(&path).is_ok();
            if made {
                let _ = std::fs::remove_file(path);
            }
            made
        }
        Forbidden::Socket => UdpSocket::bind("127.0.0.1:0").is_ok(),
        // Nobody listens there: refused by the network is reached, refused by the walls is not.
        Forbidden::Connect => match TcpStream::connect("127.0.0.1:9") {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        },
        Forbidden::UnixSocket => UnixDatagram::unbound().is_ok(),
        Forbidden::Start => Command::new("/bin/true").status().is_ok(),
        // Signal 0: asks whether it could.
        Forbidden::Kill => parent.is_some_and(|parent| rustix::process::test_kill_process(parent).is_ok()),
        Forbidden::Memory => Vec::<u8>::new().try_reserve_exact(2 * PROBE_MEMORY as usize).is_ok(),
    }
}

/// One line of the self-check.
#[derive(Debug)]
pub struct Finding {
    /// What was tried.
    pub what: Forbidden,
    /// With which layers.
    pub layers: Layers,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of trying a forbidden thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It worked.
    Worked,
    /// The kernel refused it.
    Refused,
    /// The kernel ended the process for it (SIGSYS).
    Killed,
    /// The walls could not be put up, or the probe ended otherwise.
    Unclear,
}

/// Tries everything forbidden behind all walls, then what single walls are there for, then behind none: there it
/// must work, or the check would prove nothing. `worker` starts the program that carries [`Role`].
///
/// # Errors
/// When the program cannot be started.
pub fn self_check(worker: impl Fn() -> Command) -> std::io::Result<Vec<Finding>> {
    use Forbidden::{Connect, Kill, MakeFile, Memory, OpenFile, Socket, Start, UnixSocket};
    let everything = [OpenFile, MakeFile, Socket, Connect, UnixSocket, Start, Kill, Memory];
    let plan: [(Layers, &[Forbidden]); 5] = [
        (Layers::ALL, &everything),
        (Layers::SECCOMP, &[OpenFile, MakeFile, Socket, Connect, UnixSocket, Start, Kill]),
        (Layers::LANDLOCK, &[OpenFile, MakeFile, Connect, Start]),
        (Layers::LIMITS, &[OpenFile, MakeFile, Socket, Memory]),
        (Layers::NONE, &everything),
    ];
    let mut findings = Vec::new();
    for (layers, forbidden) in plan {
        for what in forbidden {
            let name = what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let status = worker().args(["probe", &name, "--layers", &layers.bits().to_string()]).status()?;
            findings.push(Finding { what: *what, layers, verdict: Verdict::of(status) });
        }
    }
    Ok(findings)
}

impl Finding {
    /// Whether it is as it should be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self.verdict {
            Verdict::Refused | Verdict::Killed => self.layers != Layers::NONE,
            Verdict::Worked => self.layers == Layers::NONE,
            Verdict::Unclear => false,
        }
    }
}

impl Verdict {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Worked,
            (Some(code), _) if code == i32::from(REFUSED) => Self::Refused,
            (_, Some(signal)) if signal == Signal::SYS.as_raw() => Self::Killed,
            _ => Self::Unclear,
        }
    }
}
