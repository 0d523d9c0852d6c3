//! `osimage flash`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use osimage::device::{Device, Identity};
use osimage::flash::{self, Event, FailureKind, Flashed, Job, Phase, Progress, Target};
use osimage::key::PublicKey;
use osimage::provision::{self, Accepted};
use osimage::source::Source;
use osimage::unit::{self, Outcome, Unit};
use serde::Serialize;

use super::{EXIT_IMAGE, EXIT_REFUSED, EXIT_TARGET, Image, complain, print};

/// `osimage flash`.
#[derive(Args)]
pub struct Flash {
    /// The image, plain or packed (.zst, .xz, .gz).
    image: PathBuf,
    /// Disks, or files.
    #[arg(long, required = true, num_args = 1..)]
    to: Vec<PathBuf>,
    /// The block map; IMAGE.bmap when left out.
    #[arg(long)]
    bmap: Option<PathBuf>,
    /// Public keys, one of which must have signed the image; checked before the first byte is written.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Provisioning files, one a target and in the same order.
    #[arg(long, num_args = 1..)]
    provision: Vec<PathBuf>,
    /// Public keys, one of which must have signed the provisioning files.
    #[arg(long, requires = "provision")]
    provision_key: Option<PathBuf>,
    /// Where a line of JSON a target is appended; osimage/units.jsonl in the user's state folder when left out.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Append no record.
    #[arg(long, conflicts_with = "record")]
    no_record: bool,
    /// Seconds that a target may take for one write before it is given up.
    #[arg(long, default_value_t = Job::PATIENCE.as_secs())]
    patience: u64,
    /// Print progress and results as lines of JSON.
    #[arg(long)]
    json: bool,
    /// Stop as soon as standard input ends: for a program that may not send a signal to this one.
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

/// One line of `flash --json`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Line<'a> {
    Progress {
        target: &'a str,
        #[serde(flatten)]
        progress: Progress,
    },
    Done {
        target: &'a str,
        #[serde(flatten)]
        flashed: Flashed,
        seconds: f64,
    },
    Failed {
        target: &'a str,
        kind: FailureKind,
        error: &'a str,
    },
}

/// A target that is being written.
struct Running {
    name: String,
    unit: Unit,
    bar: ProgressBar,
    phase: Option<Phase>,
    /// The last percent that was printed.
    percent: u64,
}

impl Flash {
    pub fn run(self) -> Result<ExitCode> {
        if self.until_input_ends {
            std::thread::spawn(|| {
                let _ = io::copy(&mut io::stdin(), &mut io::sink());
                // As after a signal: what is not done does not start, and is gone on with the next time.
                std::process::exit(EXIT_TARGET.into());
            });
        }
        let checked = match self.check() {
            Ok(checked) => checked,
            Err(error) => {
                complain(&format!("{error:#}"));
                return Ok(ExitCode::from(EXIT_IMAGE));
            }
        };
        self.check_targets()?;
        self.write(&checked)
    }

    /// Everything that can be wrong before a target is touched.
    fn check(&self) -> Result<Checked> {
        let image = Image::load(&self.image, self.bmap.clone())?;
        let signer = self.key.as_ref().map(|key| image.check_signature(key)).transpose()?;
        if !self.provision.is_empty() && self.provision.len() != self.to.len() {
            bail!("{} provisioning files for {} targets", self.provision.len(), self.to.len());
        }
        let keys = self.provision_key.as_deref().map(PublicKey::read_all).transpose()?;
        let read = |path: &PathBuf| {
            let name = || format!("read {}", path.display());
            let length = fs::metadata(path).with_context(name)?.len();
            if length > provision::LENGTH_MAX as u64 {
                bail!("{} has {length} bytes, too many for a provisioning file", path.display());
            }
            let bytes = fs::read(path).with_context(name)?;
            let accepted = match &keys {
                Some(keys) => Accepted::read(&bytes, keys),
                None => Accepted::read_unchecked(&bytes),
            };
            accepted.with_context(name)
        };
        let provision = self.provision.iter().map(read).collect::<Result<_>>()?;
        Ok(Checked { image, signer: signer.map(|key| key.to_string()), provision })
    }

    fn check_targets(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for path in &self.to {
            if !seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())) {
                bail!("{} is given twice", path.display());
            }
        }
        Ok(())
    }

    fn write(&self, checked: &Checked) -> Result<ExitCode> {
        let Checked { image, signer, provision } = checked;
        let show = Show::new(self.json);
        let mut code = 0;
        let (mut targets, mut running) = (Vec::new(), Vec::new());
        for (index, path) in self.to.iter().enumerate() {
            let accepted = provision.get(index);
            let mut unit = Unit::new(path, &image.path, &image.identity);
            unit.image_key.clone_from(signer);
            if let Some(Accepted { provision, key, .. }) = accepted {
                unit.box_name = Some(provision.target.name.clone());
                unit.box_serial.clone_from(&provision.target.serial);
                unit.provision_key = Some(key.to_string());
            }
            match Device::open(path, &image.path, image.bmap.image_size) {
                Ok(device) => {
                    unit.identity = device.identity();
                    let provision = accepted.map(|accepted| accepted.text.clone().into_bytes());
                    targets.push(Target { medium: Box::new(device), provision });
                    running.push(show.start(path, unit));
                }
                Err(error) => {
                    unit.fail(FailureKind::Refused, &error);
                    code = code.max(EXIT_REFUSED);
                    show.failed(&path.display().to_string(), &unit);
                    self.append(&mut unit);
                }
            }
        }
        let path = image.path.clone();
        let job = Job {
            bmap: Arc::new(image.bmap.clone()),
            image: image.identity,
            open: Arc::new(move || Source::open(&path)),
            patience: Duration::from_secs(self.patience.max(1)),
            record_step: Job::RECORD_STEP,
        };
        let started = Instant::now();
        flash::flash(&job, targets, |number, event| {
            let target = &mut running[number];
            match event {
                Event::Progress(progress) => show.progress(target, progress),
                Event::Done(result) => {
                    target.unit.done(result, started.elapsed().as_secs_f64());
                    match result {
                        Ok(flashed) => show.done(target, *flashed),
                        Err(error) => {
                            code = code.max(exit_code(error.kind()));
                            target.bar.finish_and_clear();
                            show.failed(&target.name, &target.unit);
                        }
                    }
                    self.append(&mut target.unit);
                }
            }
        });
        Ok(ExitCode::from(code))
    }

    /// A record that cannot be kept is complained of, and does not spoil a card that is good.
    fn append(&self, unit: &mut Unit) {
        if self.no_record {
            return;
        }
        let Some(file) = self.record.clone().or_else(unit::default_file) else { return };
        if let Err(error) = unit.append(&file) {
            complain(&format!("append record to {}: {error}", file.display()));
        }
    }
}

struct Checked {
    image: Image,
    signer: Option<String>,
    provision: Vec<Accepted>,
}

const fn exit_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Refused => EXIT_REFUSED,
        FailureKind::Image => EXIT_IMAGE,
        FailureKind::WriteProtected
        | FailureKind::Gone
        | FailureKind::Io
        | FailureKind::Stalled
        | FailureKind::Lies
        | FailureKind::ReadBack
        | FailureKind::Fault => EXIT_TARGET,
    }
}

/// How it is shown: bars on a terminal, else lines.
struct Show {
    json: bool,
    bars: Option<MultiProgress>,
}

impl Show {
    fn new(json: bool) -> Self {
        let bars = (!json && io::stderr().is_terminal()).then(MultiProgress::new);
        Self { json, bars }
    }

    fn start(&self, path: &Path, unit: Unit) -> Running {
        let name = path.display().to_string();
        let bar = match &self.bars {
            None => ProgressBar::hidden(),
            Some(bars) => {
                let Identity { model, .. } = &unit.identity;
                let label = model.as_ref().map_or_else(|| name.clone(), |model| format!("{name} ({model})"));
                bars.add(ProgressBar::new(1).with_prefix(label).with_style(style()))
            }
        };
        Running { name, unit, bar, phase: None, percent: 0 }
    }

    fn progress(&self, target: &mut Running, progress: Progress) {
        let Progress { phase, done, total } = progress;
        let percent = done * 100 / total.max(1);
        let fresh = target.phase != Some(phase);
        if fresh {
            target.phase = Some(phase);
            target.bar.reset();
            target.bar.set_length(total);
            target.bar.set_message(phase.word());
        }
        target.bar.set_position(done);
        if self.json && (fresh || percent != target.percent) {
            // A hundred lines a phase are enough to draw a bar.
            line(&Line::Progress { target: &target.name, progress });
        }
        target.percent = percent;
    }

    fn done(&self, target: &Running, flashed: Flashed) {
        let (name, seconds) = (target.name.as_str(), target.unit.seconds);
        target.bar.finish_and_clear();
        if self.json {
            return line(&Line::Done { target: name, flashed, seconds });
        }
        let speed = flashed.written as f64 / 1e6 / seconds.max(0.1);
        let resumed = match flashed.resumed {
            0 => String::new(),
            bytes => format!(", {:.0} MB of it by an earlier run", bytes as f64 / 1e6),
        };
        let total = (flashed.written + flashed.resumed) as f64 / 1e6;
        self.say(&format!(
            "{name}: {total:.0} MB written and read back in {seconds:.1} s, {speed:.0} MB/s{resumed}"
        ));
    }

    fn failed(&self, name: &str, unit: &Unit) {
        let error = unit.error.as_deref().unwrap_or_default();
        match unit.result {
            Outcome::Failed(kind) if self.json => line(&Line::Failed { target: name, kind, error }),
            Outcome::Failed(_) | Outcome::Good => {
                let text = format!("flash {name}: {error}");
                match &self.bars {
                    None => complain(&text),
                    Some(bars) => bars.suspend(|| complain(&text)),
                }
            }
        }
    }

    fn say(&self, text: &str) {
        let say = || print(&format!("{text}\n"));
        // A reader that went away does not stop the flashing.
        let _ = match &self.bars {
            None => say(),
            Some(bars) => bars.suspend(say),
        };
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix:24} {msg:7} [{bar:30}] {percent:>3} % {decimal_bytes_per_sec:>12} {eta:>4} left";
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn line(line: &Line<'_>) {
    if let Ok(text) = serde_json::to_string(line) {
        // A reader that went away does not stop the flashing.
        let _ = print(&format!("{text}\n"));
    }
}
