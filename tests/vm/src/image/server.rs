//! The operator's update server: nginx with a certificate of its own, on loopback, and what it sent.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Where the machine reaches it: QEMU hands connections to this address on.
pub const ADDRESS: &str = "10.0.2.100";

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
            "daemon off;\nuser root;\npid {};\nevents {{}}\nhttp {{\n{temporary}  log_format sent '$status $bytes_sent';\n  \
             access_log {} sent;\n  server {{\n    listen 127.0.0.1:{port} ssl;\n    ssl_certificate {};\n    \
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
