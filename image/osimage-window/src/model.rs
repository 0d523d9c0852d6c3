//! What the window shows, without a window: files, disks, the lines that `osimage --json` prints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// A disk, as `osimage disks --json` tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Disk {
    /// Its device.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Maker and model.
    pub model: Option<String>,
    /// Why an image cannot be written to it.
    pub refusal: Option<String>,
}

impl Disk {
    /// What it is, for people.
    pub fn label(&self) -> String {
        let size = format!("{:.1} GB", self.size as f64 / 1e9);
        match &self.model {
            Some(model) => format!("{model}, {size}"),
            None => size,
        }
    }
}

/// A line of `osimage flash --json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// So far.
    Progress {
        /// The device.
        target: String,
        /// write, verify, ...
        phase: String,
        /// Bytes of this phase.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// A disk is whole.
    Done {
        /// The device.
        target: String,
        /// Bytes written now.
        written: u64,
        /// How long it took.
        seconds: f64,
    },
    /// A disk is not.
    Failed {
        /// The device.
        target: String,
        /// Why.
        error: String,
    },
}

/// What lies in a folder, by file name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Disk images, packed or not.
    pub images: Vec<String>,
    /// Public keys.
    pub keys: Vec<String>,
    /// Signed provisioning files.
    pub provisions: Vec<String>,
}

impl Files {
    /// Looks into a folder; nothing is in one that cannot be read.
    pub fn read(folder: &Path) -> Self {
        let listed = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = listed.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        let ending = |ends: &[&str]| {
            let fits = |name: &&String| ends.iter().any(|end| name.ends_with(end));
            names.iter().filter(fits).cloned().collect::<Vec<_>>()
        };
        Self {
            images: ending(&[".img", ".img.zst", ".img.xz", ".img.gz"]),
            keys: ending(&[".pub"]),
            provisions: ending(&[".provision"]),
        }
    }
}

/// How a disk fares.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// It is being written: the share that is done, and words.
    Busy(f32, String),
    /// It is whole.
    Good(String),
    /// It is not.
    Bad(String),
}

/// The speed of one phase on one disk.
#[derive(Debug)]
struct Pace {
    phase: String,
    since: Instant,
    from: u64,
}

/// How all of them fare.
#[derive(Debug, Default)]
pub struct Run {
    states: BTreeMap<String, State>,
    paces: BTreeMap<String, Pace>,
}

impl Run {
    /// A run on these devices.
    pub fn new(targets: impl IntoIterator<Item = String>) -> Self {
        let waits = |target| (target, State::Busy(0.0, "checking the image".to_owned()));
        Self { states: targets.into_iter().map(waits).collect(), paces: BTreeMap::new() }
    }

    /// How a disk fares; none: it is not in this run.
    pub fn state(&self, target: &str) -> Option<&State> {
        self.states.get(target)
    }

    /// A line that was printed at `now`.
    pub fn hear(&mut self, line: Line, now: Instant) {
        let (target, state) = match line {
            Line::Progress { target, phase, done, total } => {
                let told = self.pace(&target, &phase, done, total, now);
                let share = if total == 0 { 0.0 } else { done as f32 / total as f32 };
                (target, State::Busy(share, told))
            }
            Line::Done { target, written, seconds } => {
                let told = format!("written and read back: {:.0} MB in {seconds:.0} s", written as f64 / 1e6);
                (target, State::Good(told))
            }
            Line::Failed { target, error } => (target, State::Bad(error)),
        };
        self.states.insert(target, state);
    }

    /// It has ended, with these last words; what is not done never will be.
    pub fn end(&mut self, said: &str) {
        let said = said.trim().trim_start_matches("osimage: ");
        let why = if said.is_empty() { "stopped: the disk is not whole, and does not start" } else { said };
        for state in self.states.values_mut().filter(|state| matches!(state, State::Busy(..))) {
            *state = State::Bad(why.to_owned());
        }
    }

    fn pace(&mut self, target: &str, phase: &str, done: u64, total: u64, now: Instant) -> String {
        let fresh = || Pace { phase: phase.to_owned(), since: now, from: done };
        let pace = self.paces.entry(target.to_owned()).or_insert_with(fresh);
        if pace.phase != phase {
            *pace = fresh();
        }
        let words = match phase {
            "resume" => "reading what an earlier run wrote",
            "write" => "writing",
            "verify" => "reading back",
            "finish" => "finishing",
            other => other,
        };
        let elapsed = now.saturating_duration_since(pace.since);
        let moved = done.saturating_sub(pace.from);
        if elapsed < Duration::from_secs(1) || moved == 0 {
            return words.to_owned();
        }
        let speed = moved as f64 / elapsed.as_secs_f64();
        let left = total.saturating_sub(done) as f64 / speed;
        format!("{words}, {:.0} MB/s, {left:.0} s left", speed / 1e6)
    }
}

/// Who must have signed an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The holder of this public key, a file.
    Key(String),
    /// Nobody: it is not looked at.
    Anybody,
}

/// What is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Where the files are.
    pub folder: PathBuf,
    /// The image.
    pub image: Option<String>,
    /// Whose signature it must have.
    pub key: Option<Signer>,
    /// Devices, each with its provisioning file.
    pub targets: BTreeMap<String, Option<String>>,
}

impl Choice {
    /// Why nothing can be written yet.
    pub fn lacks(&self) -> Option<String> {
        if self.image.is_none() {
            return Some("No image in this folder: *.img, *.img.zst, *.img.xz, *.img.gz".to_owned());
        }
        if self.key.is_none() {
            return Some("Choose whose key must have signed the image.".to_owned());
        }
        if self.targets.is_empty() {
            return Some("Choose the disks to write.".to_owned());
        }
        let named: Vec<_> = self.targets.values().flatten().collect();
        if !named.is_empty() && named.len() < self.targets.len() {
            return Some("Some disks have a provisioning file, some have none.".to_owned());
        }
        let twice = named.iter().enumerate().find(|(number, name)| named[..*number].contains(name));
        twice.map(|(_, name)| format!("{name} is for one box, and chosen twice."))
    }

    /// What is lost.
    pub fn warning(&self) -> String {
        let targets: Vec<_> = self.targets.keys().map(String::as_str).collect();
        format!("Everything on {} is lost.", targets.join(" and "))
    }

    /// The arguments of `osimage`.
    pub fn arguments(&self) -> Vec<String> {
        let path = |name: &String| self.folder.join(name).display().to_string();
        let mut arguments = ["flash", "--json", "--until-input-ends"].map(str::to_owned).to_vec();
        if let Some(Signer::Key(key)) = &self.key {
            arguments.extend(["--key".to_owned(), path(key)]);
        }
        arguments.push("--to".to_owned());
        arguments.extend(self.targets.keys().cloned());
        let provisions: Vec<_> = self.targets.values().flatten().map(path).collect();
        if !provisions.is_empty() {
            arguments.push("--provision".to_owned());
            arguments.extend(provisions);
        }
        arguments.push("--".to_owned());
        arguments.extend(self.image.as_ref().map(path));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(targets: &[(&str, Option<&str>)]) -> Choice {
        let own = |(target, file): &(&str, Option<&str>)| ((*target).to_owned(), file.map(str::to_owned));
        Choice {
            folder: PathBuf::from("/f"),
            image: Some("box.img.zst".to_owned()),
            key: Some(Signer::Key("release.pub".to_owned())),
            targets: targets.iter().map(own).collect(),
        }
    }

    #[test]
    fn what_is_asked_of_osimage() {
        let choice =
            chosen(&[("/dev/sdb", Some("gate-1.provision")), ("/dev/sdc", Some("gate-2.provision"))]);
        assert_eq!(choice.lacks(), None);
        assert_eq!(
            choice.arguments().join(" "),
            "flash --json --until-input-ends --key /f/release.pub --to /dev/sdb /dev/sdc \
             --provision /f/gate-1.provision /f/gate-2.provision -- /f/box.img.zst"
        );
        assert_eq!(choice.warning(), "Everything on /dev/sdb and /dev/sdc is lost.");
        for (targets, says) in [
            (&[][..], "Choose the disks"),
            (&[("/dev/sdb", Some("a")), ("/dev/sdc", None)], "some have none"),
            (&[("/dev/sdb", Some("a")), ("/dev/sdc", Some("a"))], "chosen twice"),
        ] {
            assert!(chosen(targets).lacks().unwrap().contains(says));
        }
        assert!(Choice { image: None, ..chosen(&[]) }.lacks().unwrap().starts_with("No image"));
        assert!(Choice { key: None, ..chosen(&[]) }.lacks().unwrap().contains("whose key"));
        let unchecked = Choice { key: Some(Signer::Anybody), ..choice };
        assert!(!unchecked.arguments().contains(&"--key".to_owned()));
    }

    #[test]
    fn what_lies_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.img", "a.img.zst", "a.img.bmap", "release.pub", "gate-1.provision", "x.txt"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let files = Files::read(folder.path());
        assert_eq!(files.images, ["a.img.zst", "b.img"]);
        assert_eq!(
            (files.keys, files.provisions),
            (vec!["release.pub".into()], vec!["gate-1.provision".into()])
        );
        assert_eq!(Files::read(Path::new("/no/such/folder")), Files::default());
    }

    #[test]
    fn a_run_is_told_in_words() {
        let mut run = Run::new(["/dev/sdb".to_owned(), "/dev/sdc".to_owned()]);
        let began = Instant::now();
        let mut hear = |text: &str, after: u64| {
            run.hear(serde_json::from_str(text).expect(text), began + Duration::from_secs(after));
            run.state("/dev/sdb").unwrap().clone()
        };
        let at = |done: u64| {
            format!(
                r#"{{"progress":{{"target":"/dev/sdb","phase":"write","done":{done},"total":100000000}}}}"#
            )
        };
        assert_eq!(hear(&at(0), 0), State::Busy(0.0, "writing".to_owned()));
        assert_eq!(hear(&at(40_000_000), 2), State::Busy(0.4, "writing, 20 MB/s, 3 s left".to_owned()));
        let good = r#"{"done":{"target":"/dev/sdb","size":1,"written":100000000,"resumed":0,"seconds":5.4}}"#;
        assert_eq!(hear(good, 5), State::Good("written and read back: 100 MB in 5 s".to_owned()));
        run.end("osimage: pulled out\n");
        assert_eq!(run.state("/dev/sdc"), Some(&State::Bad("pulled out".to_owned())));
        assert!(matches!(run.state("/dev/sdb"), Some(State::Good(_))), "what is done stays so");
        assert_eq!(run.state("/dev/sdd"), None);
    }
}
