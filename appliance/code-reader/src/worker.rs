//! The program's side of a worker: starts it, gives it pictures, waits no longer than a picture may take, and
//! starts another when one is lost.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::sandbox::Layers;
use crate::wire::{Answer, Bad, Effort, Greeting, HEAD_LEN, Outcome, Request, Source, body_len};

/// A worker that does not greet in this time has failed. Starting takes some 10 ms; a box under load is slower.
const GREETING_WAIT: Duration = Duration::from_secs(5);
/// Answers in a row after which an earlier loss is forgotten.
const GOOD_RUN: u32 = 30;
/// The first loss is followed by a new worker at once; each further one by twice this much more waiting.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between workers.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A worker is replaced after this many pictures, so that whatever it gathers has an end: an hour at 30 a
/// second.
const LIFE_PICTURES: u32 = 108_000;

/// The program that is started as a worker; `serve` and its options are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// What comes before `serve`.
    pub arguments: Vec<String>,
}

impl Program {
    /// This program itself, which carries [`crate::program::Role`] as its subcommand `code-reader`: one file to
    /// ship, and never a worker of another build.
    ///
    /// # Errors
    /// When the kernel does not tell which program this is.
    pub fn own() -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, arguments: vec!["code-reader".to_owned()] })
    }
}

/// What to do about a kernel without some of the walls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Go on with the walls there are, and say which are missing.
    #[default]
    BestEffort,
    /// Read nothing without all of them.
    Required,
}

/// How a worker is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What to start.
    pub program: Program,
    /// What to do about missing walls.
    pub policy: Policy,
    /// Address space of the worker, MiB.
    pub memory_mib: u64,
    /// Largest picture, bytes as they come.
    pub picture_bytes_max: u32,
    /// A picture without an answer after this time is given up, and the worker with it.
    pub deadline: Duration,
}

impl Settings {
    /// For a camera's frames: 64 MB at most, a quarter of a second each.
    #[must_use]
    pub fn frames(program: Program) -> Self {
        Self {
            program,
            policy: Policy::default(),
            memory_mib: 512,
            picture_bytes_max: 64 << 20,
            deadline: Duration::from_millis(250),
        }
    }

    /// For picture files of any size and patience.
    #[must_use]
    pub fn stills(program: Program) -> Self {
        Self {
            memory_mib: 6 * 1024,
            picture_bytes_max: 1 << 30,
            deadline: Duration::from_secs(60),
            ..Self::frames(program)
        }
    }
}

/// What happened to the workers so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Workers started.
    pub starts: u64,
    /// Workers that ended by themselves or were killed by somebody.
    pub crashes: u64,
    /// Workers that were ended because they did not answer in time.
    pub hangs: u64,
    /// Workers that were ended because of a senseless answer.
    pub garbage: u64,
    /// Pictures answered.
    pub answers: u64,
    /// Pictures that the decoder refused.
    pub refused: u64,
    /// Layers that stand around the present worker; none before the first.
    pub layers: Option<Layers>,
    /// Why the others do not.
    pub missing: String,
    /// Process id of the newest worker.
    pub process: Option<u32>,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read, {} refused by the decoder; ", self.answers, self.refused)?;
        write!(f, "{} workers, {} crashed, {} hung, ", self.starts, self.crashes, self.hangs)?;
        write!(f, "{} answered nonsense", self.garbage)?;
        if !self.missing.is_empty() {
            write!(f, "; walls missing: {}", self.missing)?;
        }
        Ok(())
    }
}

/// Why a picture has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The picture has more bytes than the settings allow.
    #[error("the picture has {0} bytes, more than a worker takes")]
    TooLarge(usize),
    /// Too many workers were lost; the next one comes in a while.
    #[error("the decoder is resting after failures")]
    Resting,
    /// No worker can be started.
    #[error("cannot start the decoder {program}")]
    Start {
        /// Its file.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The worker has fewer walls than the policy wants.
    #[error("the decoder is not locked in: {0}")]
    Unprotected(String),
    /// It ended, and how.
    #[error("the decoder ended ({0})")]
    Crashed(String),
    /// It took too long.
    #[error("the decoder did not answer in {} ms", .0.as_millis())]
    Hung(Duration),
    /// It said what makes no sense.
    #[error("the decoder answered nonsense")]
    Garbage(#[source] Bad),
}

/// What a shell can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// This picture is lost, and perhaps it was at fault; go on with the next.
    Lost,
    /// Go on later: a new worker comes after a pause.
    Resting,
    /// It will not work until somebody changes something.
    Unusable,
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge(_) | Self::Crashed(_) | Self::Hung(_) | Self::Garbage(_) => ErrorKind::Lost,
            Self::Resting => ErrorKind::Resting,
            Self::Start { .. } | Self::Unprotected(_) => ErrorKind::Unusable,
        }
    }
}

/// A picture as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// What they are.
    pub source: Source,
    /// Pixels a line; 0 for a file.
    pub width: u32,
    /// Lines; 0 for a file.
    pub height: u32,
}

/// One worker after the other. The thread that reads must live as long as this: the kernel ends a worker with
/// the thread that started it.
pub struct Worker {
    settings: Settings,
    live: Option<Live>,
    health: Health,
    /// Losses without a good run between them.
    losses: u32,
    good: u32,
    not_before: Option<Instant>,
}

/// A worker that greeted.
struct Live {
    child: Child,
    socket: UnixStream,
    memory: File,
    pictures: u32,
}

/// Ends the process and takes its status, so that no zombie stays.
impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    /// A worker that is started with the first picture, or by [`Worker::start`].
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, live: None, health: Health::default(), losses: 0, good: 0, not_before: None }
    }

    /// What happened so far.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Starts a worker unless one is there.
    ///
    /// # Errors
    /// [`Error::Resting`], [`Error::Start`], [`Error::Unprotected`], or how the new worker failed to greet.
    pub fn start(&mut self) -> Result<(), Error> {
        if self.live.is_some() {
            return Ok(());
        }
        if self.not_before.is_some_and(|until| Instant::now() < until) {
            return Err(Error::Resting);
        }
        self.health.starts += 1;
        let started = Live::start(&self.settings).and_then(|(live, greeting)| {
            let layers = Layers::from_bits(greeting.layers);
            self.health.layers = Some(layers);
            self.health.missing = greeting.detail;
            if self.settings.policy == Policy::Required && !layers.contain(Layers::ALL) {
                return Err(Error::Unprotected(self.health.missing.clone()));
            }
            Ok(live)
        });
        match started {
            Ok(live) => {
                self.health.process = Some(live.child.id());
                self.live = Some(live);
                Ok(())
            }
            Err(error) => {
                self.count_loss(&error);
                Err(error)
            }
        }
    }

    /// Reads one picture. Takes no longer than the deadline, and a greeting where a worker has to be started.
    ///
    /// # Errors
    /// See [`Error`]. The worker is gone after any of the kind [`ErrorKind::Lost`] but [`Error::TooLarge`], and
    /// a new one was started already unless it has to wait.
    pub fn read(&mut self, picture: Picture<'_>, effort: Effort) -> Result<Answer, Error> {
        if picture.bytes.len() > self.settings.picture_bytes_max as usize {
            return Err(Error::TooLarge(picture.bytes.len()));
        }
        self.start()?;
        let Some(live) = &mut self.live else { return Err(Error::Resting) };
        match live.ask(picture, effort, self.settings.deadline) {
            Ok(answer) => {
                self.health.answers += 1;
                self.health.refused += u64::from(answer.outcome == Outcome::Failed);
                self.good += 1;
                if self.good >= GOOD_RUN {
                    self.losses = 0;
                }
                if live.pictures >= LIFE_PICTURES {
                    self.live = None;
                }
                Ok(answer)
            }
            Err(error) => {
                self.live = None;
                self.count_loss(&error);
                // The next picture should find a worker that has started.
                let _ = self.start();
                Err(error)
            }
        }
    }

    fn count_loss(&mut self, error: &Error) {
        match error {
            Error::Hung(_) => self.health.hangs += 1,
            Error::Garbage(_) => self.health.garbage += 1,
            Error::Crashed(_) => self.health.crashes += 1,
            Error::TooLarge(_) | Error::Resting | Error::Start { .. } | Error::Unprotected(_) => {}
        }
        self.good = 0;
        let pause = match self.losses.checked_sub(1) {
            None => Duration::ZERO,
            Some(again) => PAUSE_MIN.saturating_mul(1 << again.min(16)).min(PAUSE_MAX),
        };
        self.losses = self.losses.saturating_add(1);
        self.not_before = Instant::now().checked_add(pause);
    }
}

impl Live {
    fn start(settings: &Settings) -> Result<(Self, Greeting), Error> {
        let failed =
            |source: io::Error| Error::Start { program: settings.program.path.display().to_string(), source };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let (memory, seen) = shared_memory(u64::from(settings.picture_bytes_max)).map_err(failed)?;
        // At worst every picture of its life takes its whole time.
        let cpu_seconds = (u64::from(LIFE_PICTURES) * settings.deadline.as_millis() as u64 / 1000).max(60);
        let child = Command::new(&settings.program.path)
            .args(&settings.program.arguments)
            .arg("serve")
            .arg(format!("--parent={}", std::process::id()))
            .arg(format!("--memory-mib={}", settings.memory_mib))
            .arg(format!("--cpu-seconds={cpu_seconds}"))
            .arg(format!("--picture-bytes-max={}", settings.picture_bytes_max))
            // Neither secrets nor switches in the environment are the worker's business.
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(seen)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut live = Self { child, socket, memory, pictures: 0 };
        let body = live.body(Instant::now() + GREETING_WAIT, GREETING_WAIT)?;
        let greeting = Greeting::decode(&body).map_err(Error::Garbage)?;
        Ok((live, greeting))
    }

    fn ask(&mut self, picture: Picture<'_>, effort: Effort, deadline: Duration) -> Result<Answer, Error> {
        let until = Instant::now() + deadline;
        self.pictures += 1;
        let id = self.pictures;
        // The memory has the size that the settings allow, so this fails only where the box has none left.
        self.memory.write_all_at(picture.bytes, 0).map_err(|error| Error::Crashed(error.to_string()))?;
        let request = Request {
            id,
            source: picture.source,
            len: picture.bytes.len() as u32,
            width: picture.width,
            height: picture.height,
            effort,
        };
        if let Err(error) = self.socket.write_all(&request.encode()) {
            return Err(self.ended(&error));
        }
        let answer = Answer::decode(&self.body(until, deadline)?).map_err(Error::Garbage)?;
        if answer.id == id {
            Ok(answer)
        } else {
            Err(Error::Garbage(Bad::Field("the number of the request")))
        }
    }

    /// The body of the next message, waiting no longer than `until`.
    fn body(&mut self, until: Instant, deadline: Duration) -> Result<Vec<u8>, Error> {
        let mut head = [0; HEAD_LEN];
        self.fill(&mut head, until, deadline)?;
        let mut body = vec![0; body_len(head).map_err(Error::Garbage)?];
        self.fill(&mut body, until, deadline)?;
        Ok(body)
    }

    fn fill(&mut self, mut wanted: &mut [u8], until: Instant, deadline: Duration) -> Result<(), Error> {
        while !wanted.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Hung(deadline));
            }
            let read = self.socket.set_read_timeout(Some(left)).and_then(|()| self.socket.read(wanted));
            match read {
                Ok(0) => return Err(self.ended(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => wanted = &mut wanted[count..],
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                    _ => return Err(self.ended(&error)),
                },
            }
        }
        Ok(())
    }

    /// How it ended, as far as that shows.
    fn ended(&mut self, error: &io::Error) -> Error {
        // Its end of the socket closes a moment before it can be waited for; a kill makes sure that it is over,
        // and does not change how it ended.
        let _ = self.child.kill();
        Error::Crashed(match self.child.wait() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => error.to_string(),
            },
            Err(_) => error.to_string(),
        })
    }
}

/// Memory of a fixed size: our end writes, and the worker's end can only read.
fn shared_memory(len: u64) -> io::Result<(File, File)> {
    let memory = memfd_create("code-reader-picture", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let memory = File::from(memory);
    memory.set_len(len)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    let seen = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((memory, File::from(seen)))
}
