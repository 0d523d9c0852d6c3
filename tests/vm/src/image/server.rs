//! The operator's update server: nginx with a certificate of its own, on loopback, and the step that updates from it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use osimage::provision::Updates;
use vm::player::Command as Ask;

use crate::bench::{ANSWER_MAX, BOOT_MAX, Bench, boot, let_in};
use crate::steps::{bundle, pass, proven};

/// The first look at a server comes five minutes after the start; then both slots are hashed, which takes minutes each
/// when it is emulated, and the box starts anew.
const FETCH_MAX: Duration = Duration::from_secs(1_800);
/// What the caretaker says of updates.
const UPDATE_HEALTH: &str = "stile/health/caretaker/update";
/// Where the machine reaches it: QEMU hands connections to this address on.
pub const ADDRESS: &str = "10.0.2.100";

/// The box looks for its update, fetches what it has not got, and restarts when the lane is quiet; nobody helps.
pub fn served(bench: &Bench) -> Result<String> {
    let file = bundle(bench, "served.raucb")?;
    let server = Server::start(&bench.out.join("served/server"), &file, "stile-x86-64.raucb")?;
    let url = Some(format!("https://{ADDRESS}/stile"));
    let updates = Updates { url, ca: Some(server.ca.clone()), ..Updates::default() };
    let disk = bench.disk_with("served", updates)?;
    let mut setup = bench.setup("served", &disk);
    setup.server_port = server.port;
    let (mut machine, before) = boot(&setup)?;
    let_in(&mut machine, BOOT_MAX)?;
    pass(&mut machine)?;
    proven(&mut machine)?;
    let began = Instant::now();
    let up = machine.up(FETCH_MAX).or_else(|error| {
        let told = machine.ask(Ask::Retained { topic: UPDATE_HEALTH.to_owned() }, ANSWER_MAX)?;
        Err(error.context(format!("no restart into an update; the caretaker says {told}")))
    })?;
    let took = began.elapsed();
    ensure!(up.slot != before.slot, "still in slot {} after the update", up.slot);
    let_in(&mut machine, Duration::from_secs(180))?;
    proven(&mut machine)?;
    let Sent { answers, bytes } = server.sent()?;
    let whole = std::fs::metadata(&file).context("the bundle")?.len();
    ensure!(bytes < whole / 2, "{bytes} bytes were fetched of a bundle of {whole}");
    Ok(format!(
        "{} {} -> {} {} by itself in {:.0} s; fetched {bytes} bytes of {whole} in {answers} answers",
        before.slot,
        before.version,
        up.slot,
        up.version,
        took.as_secs_f64()
    ))
}

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    folder: PathBuf,
    /// Its port on loopback.
    pub port: u16,
    /// Its certificate, PEM.
    pub ca: String,
}

/// What went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Answers.
    pub answers: u64,
    /// Bytes of them, with their headers.
    pub bytes: u64,
}

impl Server {
    /// Serves `file` as `https://ADDRESS/stile/NAME`; its own files are in `folder`.
    ///
    /// # Errors
    /// Without nginx or openssl.
    pub fn start(folder: &Path, file: &Path, name: &str) -> Result<Self> {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder.join("www/stile")).context("cannot make the server's folder")?;
        // nginx takes other paths as its own.
        let folder = std::fs::canonicalize(folder).context("the server's folder")?;
        let at = |name: &str| folder.join(name).display().to_string();
        std::os::unix::fs::symlink(std::fs::canonicalize(file)?, folder.join("www/stile").join(name))
            .context("cannot offer the file")?;
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
            ])
            .args([
                "-subj",
                "/CN=updates of the virtual store",
                "-addext",
                &format!("subjectAltName=IP:{ADDRESS}"),
            ])
            .args(["-keyout", &at("key.pem"), "-out", &at("ca.pem")])
            .output()
            .context("cannot start openssl")?;
        ensure!(made.status.success(), "no certificate: {}", String::from_utf8_lossy(&made.stderr).trim());
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.context("no free port")?.port();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("  {kind}_temp_path {};\n", at(kind)))
            .collect();
        let settings = format!(
            "daemon off;\nuser root;\npid {};\nevents {{}}\nhttp {{\n{temporary}  \
             log_format sent '$status $bytes_sent';\n  access_log {} sent;\n  \
             server {{\n    listen 127.0.0.1:{port} ssl;\n    ssl_certificate {};\n    \
             ssl_certificate_key {};\n    root {};\n  }}\n}}\n",
            at("pid"),
            at("sent.log"),
            at("ca.pem"),
            at("key.pem"),
            at("www"),
        );
        std::fs::write(folder.join("nginx.conf"), settings).context("cannot write nginx's settings")?;
        let process = Command::new("/usr/sbin/nginx")
            .args(["-c", &at("nginx.conf"), "-e", &at("error.log")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        let ca = std::fs::read_to_string(folder.join("ca.pem")).context("the certificate")?;
        let mut server = Self { process, folder, port, ca };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.try_wait().context("nginx")?;
            let said = std::fs::read_to_string(server.folder.join("error.log")).unwrap_or_default();
            ensure!(ended.is_none() && began.elapsed() < Duration::from_secs(20), "nginx: {}", said.trim());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    /// What it has sent.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn sent(&self) -> Result<Sent> {
        let log = std::fs::read_to_string(self.folder.join("sent.log")).context("nginx's log")?;
        let mut sent = Sent::default();
        for line in log.lines() {
            let (status, bytes) = line.split_once(' ').with_context(|| format!("nginx logged {line:?}"))?;
            ensure!(["200", "206"].contains(&status), "nginx answered {status}");
            sent.answers += 1;
            sent.bytes += bytes.parse::<u64>().with_context(|| format!("nginx logged {line:?}"))?;
        }
        Ok(sent)
    }
}

/// Its workers end with it.
impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}
