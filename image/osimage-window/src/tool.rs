//! Running `osimage`: the window does nothing to a disk itself.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::model::{Disk, Line};

/// The program.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    /// Its first arguments, where a shell runs it.
    before: Vec<PathBuf>,
}

impl Tool {
    /// The one beside ours, or on the path.
    pub fn find() -> Self {
        let beside = std::env::current_exe().ok().map(|own| own.with_file_name("osimage"));
        let program = beside.filter(|path| path.exists()).unwrap_or_else(|| "osimage".into());
        Self { program, before: Vec::new() }
    }

    /// The disks of this machine.
    pub fn disks(&self) -> Result<Vec<Disk>> {
        let output = Command::new(&self.program).args(&self.before).args(["disks", "--json"]).output();
        let output = output.with_context(|| format!("cannot run {}", self.program.display()))?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let disks = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        disks.context("osimage tells its disks otherwise: it is of another version")
    }

    /// Starts it; `tell` is called on another thread. Who may not write to disks is asked for the right to by
    /// `pkexec`, where there is one.
    pub fn start(&self, arguments: &[String], tell: impl Fn(Told) + Send + 'static) -> Result<Running> {
        let asks = !is_root() && on_path("pkexec");
        let mut command = Command::new(if asks { "pkexec".into() } else { self.program.clone() });
        if asks {
            command.arg(&self.program);
        }
        let child = command
            .args(&self.before)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()));
        let mut child = child?;
        let (input, out, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        std::thread::spawn(move || {
            // Drained beside the lines, so that the program never waits for us.
            let complaints = std::thread::spawn(move || {
                let mut said = String::new();
                let _ = errors.map(|mut errors| errors.read_to_string(&mut said));
                said
            });
            for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(Result::ok) {
                // A line of a newer version tells something that we do not show.
                if let Ok(line) = serde_json::from_str(&line) {
                    tell(Told::Line(line));
                }
            }
            tell(Told::End(complaints.join().unwrap_or_default()));
        });
        Ok(Running { child: Arc::new(Mutex::new(child)), input: Mutex::new(input) })
    }
}

/// What is told of a run.
pub enum Told {
    /// A line.
    Line(Line),
    /// It has ended; what it said on standard error.
    End(String),
}

/// A run of `osimage`.
pub struct Running {
    child: Arc<Mutex<Child>>,
    input: Mutex<Option<ChildStdin>>,
}

impl Running {
    /// Stops it. A disk that is not done does not start, and the next run goes on there.
    ///
    /// By the end of its input, because a program that has become root's takes no signal from us.
    pub fn stop(&self) {
        drop(self.input.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let child = Arc::clone(&self.child);
        // It has closed its output, so it ends now.
        std::thread::spawn(move || child.lock().unwrap_or_else(PoisonError::into_inner).wait());
    }
}

fn is_root() -> bool {
    // The owner of what belongs to this process.
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A program that says what osimage says. The shell reads it: a file that was just written cannot always be
    /// started, because a test beside this one may start a process that has inherited it.
    fn says(folder: &std::path::Path, script: &str) -> Tool {
        let file = folder.join("osimage");
        std::fs::write(&file, format!("{script}\n")).unwrap();
        Tool { program: "/bin/sh".into(), before: vec![file] }
    }

    #[test]
    fn disks_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let line =
            r#"{"path":"/dev/sdb","size":32000000000,"model":"Maker X","removable":true,"refusal":null}"#;
        let tool = says(folder.path(), &format!("[ \"$*\" = 'disks --json' ] && echo '{line}'"));
        assert_eq!(tool.disks().unwrap()[0].label(), "Maker X, 32.0 GB");
        assert!(says(folder.path(), "echo no").disks().unwrap_err().to_string().contains("another version"));
        assert_eq!(says(folder.path(), "echo broken >&2; exit 1").disks().unwrap_err().to_string(), "broken");
        let missing = Tool { program: folder.path().join("none"), before: Vec::new() }.disks();
        assert!(missing.unwrap_err().to_string().contains("cannot run"));
    }

    #[test]
    fn lines_are_told_and_the_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let failed = r#"{"failed":{"target":"/dev/sdb","kind":"gone","error":"pulled out at 37 %"}}"#;
        let tool =
            says(folder.path(), &format!("echo '{failed}'; echo noise; echo 'osimage: bad' >&2; exit 5"));
        let (sender, told) = mpsc::channel();
        let running = tool.start(&[], move |told| sender.send(told).unwrap()).unwrap();
        let Told::Line(Line::Failed { error, .. }) = told.recv().unwrap() else {
            panic!("the failure first")
        };
        assert_eq!(error, "pulled out at 37 %");
        let Told::End(said) = told.recv().unwrap() else { panic!("noise is no line") };
        assert_eq!(said, "osimage: bad\n");
        drop(running);
    }

    #[test]
    fn it_can_be_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let tool = says(folder.path(), "cat > /dev/null");
        let (sender, told) = mpsc::channel();
        let running = tool.start(&[], move |told| sender.send(told).unwrap()).unwrap();
        running.stop();
        assert!(matches!(told.recv().unwrap(), Told::End(said) if said.is_empty()));
    }
}
