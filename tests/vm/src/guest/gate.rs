//! The gate service under test: the real program, with a role manifest that names the kernel's own devices, and
//! what a service manager does around it.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use engine::admission::issue::{Issuer, Terms};
use engine::store::{Lane, StoreMap};
use engine::time::Millis;
use engine::units::{LaneId, MemberHandle};
use rustix::process::{Pid, Signal};
use turnstile::gpiosim::{GpioSim, Wiring};
use turnstile::{Line, Output};

use crate::gadget::{PRODUCT, Scanner, VENDOR};
use crate::{lines, wait};

/// Where `gated run` finds its role.
pub const MANIFEST: &str = "/etc/stile/gated.toml";
const STORE_MAP: &str = "/etc/stile/store.json";
const STATE: &str = "/var/lib/stile";
const NOTIFY: &str = "/run/notify";
const LANE: &str = "entry-1";
const STORE_GROUP: u32 = 77;
const ISSUER_SEED: [u8; 32] = [1; 32];
/// The limits that gated.service sets for itself.
pub const WATCHDOG: Duration = Duration::from_millis(1200);
/// From the start of the process to ready; some 1 s here.
const START_MAX: Duration = Duration::from_secs(20);
/// A code that is neither taken nor refused by then was not read.
pub const ANSWER_MAX: Duration = Duration::from_secs(2);

/// One lane: its turnstile's terminal strip, its scanner, and the phones of its shoppers.
pub struct Rig {
    /// The strip.
    pub strip: GpioSim,
    /// The scanner.
    pub scanner: Scanner,
    members: u64,
}

impl Rig {
    /// Makes the devices and provisions the gate.
    pub fn new() -> Result<Self> {
        let strip = GpioSim::create("strip", Wiring::default()).context("cannot make the simulated chip")?;
        let scanner = Scanner::new("lane")?;
        let rig = Self { strip, scanner, members: 0 };
        rig.provision()?;
        Ok(rig)
    }

    fn provision(&self) -> Result<()> {
        let lane = Lane {
            id: LaneId::from(LANE),
            position: [0.0, 0.0],
            inward: [0.0, 1.0],
            entry: true,
            exit: true,
        };
        let map = StoreMap {
            name: "virtual".to_owned(),
            bounds: [-5.0, -5.0, 5.0, 5.0],
            gondolas: vec![],
            lanes: vec![lane],
            cameras: vec![],
            plates: vec![],
            products: vec![],
            facings: vec![],
        };
        put(STORE_MAP, &serde_json::to_string(&map)?)?;
        let manifest = toml::toml! {
            name = "virtual"
            state_dir = STATE
            store_map = STORE_MAP
            [bus]
            kind = "local"
        };
        let mut manifest = manifest;
        let mut turnstile =
            toml::Table::try_from(self.strip.settings()).context("settings of the turnstile")?;
        turnstile.insert("kind".to_owned(), "cdev".into());
        let reader = toml::toml! {
            kind = "hid-pos"
            select = { vendor = 0, product = 0 }
        };
        let mut reader = reader;
        for (key, value) in [("vendor", VENDOR), ("product", PRODUCT)] {
            reader["select"][key] = i64::from(value).into();
        }
        let mut table = toml::Table::new();
        table.insert("id".to_owned(), LANE.into());
        table.insert("entry_is_a".to_owned(), true.into());
        table.insert("turnstile".to_owned(), turnstile.into());
        table.insert("readers".to_owned(), vec![reader].into());
        manifest.insert("lanes".to_owned(), vec![table].into());
        put(MANIFEST, &toml::to_string(&manifest)?)?;
        let key: String =
            Issuer::new(1, STORE_GROUP, &ISSUER_SEED).public_key().map(|byte| format!("{byte:02x}")).concat();
        let admission = format!("store_group = {STORE_GROUP}\n[[issuers]]\nid = 1\nkey = \"{key}\"\n");
        put(&format!("{STATE}/gated/admission.toml"), &admission)
    }

    /// What the phone of somebody who was never here shows now.
    pub fn code(&mut self) -> Result<String> {
        self.members += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let now = engine::time::Instant(u64::try_from(now.as_millis())?);
        // Another run of this program must not meet its own codes in the gate's memory.
        let member = u64::from(std::process::id()) << 32 | self.members;
        let terms =
            Terms { validity: 1000, ..Terms::single(MemberHandle(member), now.before(Millis(60_000))) };
        Ok(Issuer::new(1, STORE_GROUP, &ISSUER_SEED).device(&terms, &[7; 32]).show(now, 0))
    }

    /// Shows a code, and waits for the unlock line: when it became active, or `None`.
    pub fn show(&mut self, code: &str) -> Result<Option<Instant>> {
        self.scanner.show(code.as_bytes())?;
        lines::seen(&self.strip, Output::UnlockA, true, ANSWER_MAX)
    }

    /// Shows codes of new shoppers until one is let in: a gate that has just started may not read yet. When the
    /// unlock line became active.
    pub fn let_in(&mut self) -> Result<Instant> {
        let began = Instant::now();
        loop {
            let code = self.code()?;
            if let Some(at) = self.show(&code)? {
                return Ok(at);
            }
            ensure!(began.elapsed() < START_MAX, "nobody is let in for {} s", START_MAX.as_secs());
        }
    }

    /// Somebody goes through: the passage line is active for a moment.
    pub fn pass(&self) -> Result<()> {
        let offset = GpioSim::input_offset(Line::PassageA);
        self.strip.pull(offset, true).context("cannot switch the passage line")?;
        std::thread::sleep(Duration::from_millis(150));
        self.strip.pull(offset, false).context("cannot switch the passage line")?;
        // The engine's debouncing, and its pause before the next pulse.
        std::thread::sleep(Duration::from_millis(350));
        Ok(())
    }
}

fn put(path: &str, text: &str) -> Result<()> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {path}"))
}

/// The gate service's process.
pub struct Gate {
    child: Child,
    /// When it fed the watchdog.
    pub fed: Receiver<Instant>,
}

impl Gate {
    /// Starts it and waits until it says that it is ready. With a `cgroup` it and its children live in there.
    pub fn start(cgroup: Option<&Path>) -> Result<Self> {
        let _ = fs::remove_file(NOTIFY);
        let socket = UnixDatagram::bind(NOTIFY).with_context(|| format!("cannot bind {NOTIFY}"))?;
        let mut command = match cgroup {
            None => Command::new("/bin/gated"),
            Some(cgroup) => {
                let mut command = Command::new("/proc/self/exe");
                command.arg("in-cgroup").arg(cgroup).arg("/bin/gated");
                command
            }
        };
        let child = command
            .args(["run", "--manifest", MANIFEST])
            .env("NOTIFY_SOCKET", NOTIFY)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .env("STILE_LOG", "info")
            .spawn()
            .context("cannot start gated")?;
        let mut gate = Self { child, fed: mpsc::channel().1 };
        socket.set_read_timeout(Some(START_MAX))?;
        let mut text = [0; 256];
        loop {
            let length = socket.recv(&mut text).context("gated did not say that it is ready")?;
            if text[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                break;
            }
        }
        socket.set_read_timeout(None)?;
        let (sender, fed) = mpsc::channel();
        gate.fed = fed;
        std::thread::spawn(move || {
            while let Ok(length) = socket.recv(&mut text) {
                let fed = text[..length].split(|byte| *byte == b'\n').any(|line| line == b"WATCHDOG=1");
                if fed && sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Ok(gate)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.pid(), signal).with_context(|| format!("cannot send {signal:?}"))
    }

    /// Waits until it is dead.
    pub fn ended(mut self) -> Result<ExitStatus> {
        wait("gated to end", Duration::from_secs(10), || Ok(self.child.try_wait()?))
    }

    /// Asks it to end, and waits.
    pub fn stop(self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.ended()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The watchers that run: `gate-failsafe --watch`.
pub fn watchers() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A zombie still has its name and no memory.
        let path = entry.path();
        let named = fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "gate-failsafe");
        if named && fs::read(path.join("cmdline")).is_ok_and(|line| !line.is_empty()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Becomes `program` in a control group.
pub fn in_cgroup(cgroup: &str, program: &str, arguments: &[&str]) -> Result<()> {
    use std::os::unix::process::CommandExt;

    let members = PathBuf::from(cgroup).join("cgroup.procs");
    let mut file = fs::File::options()
        .write(true)
        .open(&members)
        .with_context(|| format!("cannot open {}", members.display()))?;
    write!(file, "{}", std::process::id()).with_context(|| format!("cannot join {cgroup}"))?;
    // As OOMScoreAdjust= of gated.service.
    fs::write("/proc/self/oom_score_adj", "-1000").context("cannot set the score for a lack of memory")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot start {program}"))
}

/// Becomes `program` as a user (number) with a group of the same number.
pub fn as_user(user: &str, program: &str, arguments: &[&str]) -> Result<()> {
    use std::os::unix::process::CommandExt;

    let id: u32 = user.parse().context("not a user's number")?;
    Err(Command::new(program).args(arguments).uid(id).gid(id).exec())
        .with_context(|| format!("cannot start {program}"))
}
