//! What became of each boot: a trail of the newest on identity, which every slot reads and writes, and a log with the
//! state. The trail says how far a boot came, so that the next one can explain it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};

use engine::message::Rollback;
use engine::time::Instant;
use osimage::slots::{Slot, State};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::place::Place;

/// Boots that the trail remembers.
const TRAIL_MAX: usize = 16;
/// Lines of the log.
const LOG_MAX: usize = 500;
/// No line of the log is longer, bytes.
const LINE_MAX: u64 = 16 << 10;

const TRAIL: &str = "trail.json";
const ROLLBACK: &str = "rollback.json";
/// The log.
pub const LOG: &str = "boots.json-lines";

/// How far a boot has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Kernel and root are good, identity is mounted.
    #[default]
    Identity,
    /// The state is mounted.
    State,
    /// The box knows what it is; services start.
    Provisioned,
    /// The health gate looks.
    Checking,
    /// The slot is marked good.
    Good,
}

impl Stage {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Identity => "identity mounted",
            Self::State => "state mounted",
            Self::Provisioned => "provisioned",
            Self::Checking => "services being checked",
            Self::Good => "healthy",
        }
    }
}

/// One boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Boot {
    /// The kernel's id of it.
    pub boot: String,
    /// When it was noted first; milliseconds since 1970 by a clock that may not have been set yet.
    pub at: u64,
    /// The slot, "a" or "b"; empty when nobody can tell.
    pub slot: String,
    /// The image's version.
    pub version: String,
    /// The generation of the entry; 0 on a board without.
    pub generation: u32,
    /// Whether the slot was on trial.
    pub trial: bool,
    /// How far it came.
    pub stage: Stage,
    /// What went wrong, in the words of whoever saw it; the newest.
    pub failure: Option<String>,
}

/// The newest boots, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trail {
    /// At most sixteen.
    pub boots: VecDeque<Boot>,
}

/// The last return to another slot, and of which entry it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Returned {
    /// What screens show.
    #[serde(flatten)]
    pub rollback: Rollback,
    /// The generation of the entry that was left; 0 on a board without.
    pub generation: u32,
    /// How often it was tried.
    pub tries: u32,
}

/// What is known of the slot that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Which.
    pub slot: Slot,
    /// Its state.
    pub state: State,
    /// Version of its image, as its kernel says.
    pub version: Option<String>,
    /// Of its newest entry.
    pub generation: u32,
    /// How often that was tried.
    pub tries: u32,
}

/// Whether the box has come back from the other slot, and why; nothing when that is known already.
#[must_use]
pub fn look_back(
    trail: &Trail,
    generation: u32,
    other: &Other,
    known: Option<&Returned>,
    panic: Option<&str>,
    at: Instant,
) -> Option<Returned> {
    if other.state != State::Exhausted || (other.generation != 0 && other.generation < generation) {
        return None;
    }
    let of_it = |boot: &&Boot| {
        boot.slot == other.slot.name()
            && if other.generation == 0 { boot.trial } else { boot.generation == other.generation }
    };
    let boots: Vec<&Boot> = trail.boots.iter().filter(of_it).collect();
    let version = other
        .version
        .clone()
        .or_else(|| boots.last().map(|boot| boot.version.clone()))
        .unwrap_or_else(|| "of an unknown number".to_owned());
    let tries = other.tries.max(u32::try_from(boots.len()).unwrap_or(u32::MAX));
    let tried_since = |known: &Returned| boots.last().is_some_and(|boot| boot.at > known.rollback.at.0);
    let same = known.is_some_and(|known| {
        known.generation == other.generation
            // Without generations the same version may have been tried again since.
            && (other.generation != 0 || !tried_since(known))
            && known.rollback.from_version == version
            && known.rollback.from_slot == other.slot.name()
    });
    if same {
        return None;
    }
    let rollback = Rollback {
        at,
        from_version: version.clone(),
        from_slot: other.slot.name().to_owned(),
        reason: reason(&version, tries, &boots, panic),
    };
    Some(Returned { rollback, generation: other.generation, tries })
}

/// Why a version was left, for people.
#[must_use]
pub fn reason(version: &str, tries: u32, boots: &[&Boot], panic: Option<&str>) -> String {
    let times = match tries {
        0 => "was activated".to_owned(),
        1 => "was tried once".to_owned(),
        tries => format!("was tried {tries} times"),
    };
    let mut text = format!("version {version} {times} and never became healthy: ");
    match boots.iter().map(|boot| boot.stage).max() {
        Some(stage) => text += &format!("it got as far as '{}'", stage.words()),
        None => text += "it never got as far as 'identity mounted' (kernel, initial RAM disk or root)",
    }
    let failure = boots.iter().rev().find_map(|boot| boot.failure.as_deref());
    if let Some(failure) = failure {
        text += &format!("; last failure: {failure}");
    }
    if let Some(panic) = panic {
        text += &format!("; the kernel's last words: {panic}");
    }
    if failure.is_none() && panic.is_none() {
        text += "; it said nothing of a failure: it hung, was reset or lost power";
    }
    text
}

impl Trail {
    /// As kept; an unreadable one is empty.
    #[must_use]
    pub fn load(place: &Place) -> Self {
        let text = files::text(&place.identity(TRAIL));
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// A boot begins; the one before is returned.
    pub fn begin(&mut self, boot: Boot) -> Option<Boot> {
        if self.boots.back().is_some_and(|newest| newest.boot == boot.boot) {
            return None;
        }
        let before = self.boots.back().cloned();
        self.boots.push_back(boot);
        while self.boots.len() > TRAIL_MAX {
            self.boots.pop_front();
        }
        before
    }

    /// The boot that runs.
    pub fn newest(&mut self) -> Option<&mut Boot> {
        self.boots.back_mut()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Names the file.
    pub fn keep(&self, place: &Place) -> Result<(), files::Error> {
        replace_json(place, TRAIL, self)
    }
}

/// Notes how far this boot has come; what cannot be noted is logged.
pub fn reached(place: &Place, stage: Stage) {
    note(place, |boot| boot.stage = boot.stage.max(stage));
}

/// Notes what went wrong in this boot.
pub fn failed(place: &Place, failure: &str) {
    note(place, |boot| boot.failure = Some(failure.to_owned()));
}

fn note(place: &Place, change: impl FnOnce(&mut Boot)) {
    let mut trail = Trail::load(place);
    let before = trail.clone();
    if let Some(boot) = trail.newest() {
        change(boot);
    }
    if trail != before
        && let Err(error) = trail.keep(place)
    {
        tracing::error!(error = %format!("{:#}", anyhow::Error::new(error)), "the trail of boots is not kept");
    }
}

/// The last return, as kept.
#[must_use]
pub fn returned(place: &Place) -> Option<Returned> {
    serde_json::from_str(&files::text(&place.identity(ROLLBACK))?).ok()
}

/// Keeps the last return.
///
/// # Errors
/// Names the file.
pub fn keep_returned(place: &Place, returned: &Returned) -> Result<(), files::Error> {
    replace_json(place, ROLLBACK, returned)
}

/// Adds a boot that is over to the log.
///
/// # Errors
/// Names the file.
pub fn log(place: &Place, boot: &Boot) -> Result<(), files::Error> {
    let mut boots = logged(place);
    boots.push(boot.clone());
    let newest = boots.len().saturating_sub(LOG_MAX);
    let lines = boots[newest..].iter().filter_map(|boot| serde_json::to_string(boot).ok());
    let text: String = lines.map(|line| line + "\n").collect();
    files::replace(&place.kept(LOG), text.as_bytes(), 0o644)
}

/// The log, oldest first; lines that are none are skipped.
#[must_use]
pub fn logged(place: &Place) -> Vec<Boot> {
    let Ok(file) = std::fs::File::open(place.kept(LOG)) else { return Vec::new() };
    read_log(BufReader::new(file))
}

/// Reads a log.
pub fn read_log(mut lines: impl BufRead) -> Vec<Boot> {
    use std::io::Read;
    let mut boots = VecDeque::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return boots.into(),
        }
        if let Ok(boot) = serde_json::from_slice(&line) {
            boots.push_back(boot);
        }
        if boots.len() > LOG_MAX {
            boots.pop_front();
        }
    }
}

/// The kernel's last words before the boot before this one ended, where the firmware kept them.
#[must_use]
pub fn last_words(place: &Place) -> Option<String> {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(place.at("/sys/fs/pstore")).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("dmesg-") {
            texts.push((name, files::text(&entry.path())?));
        }
    }
    texts.sort();
    texts.iter().rev().find_map(|(_, text)| words_of_panic(text))
}

fn words_of_panic(text: &str) -> Option<String> {
    let (_, words) = text.split_once("Kernel panic - not syncing: ")?;
    Some(words.lines().next()?.chars().take(200).collect())
}

fn replace_json<T: Serialize>(place: &Place, file: &str, value: &T) -> Result<(), files::Error> {
    let path = place.identity(file);
    let text = files::to("write", &path, serde_json::to_string(value).map_err(std::io::Error::from))?;
    files::replace(&path, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn boot(slot: &str, generation: u32, stage: Stage, failure: Option<&str>) -> Boot {
        Boot {
            boot: format!("{slot}{generation}{stage:?}"),
            slot: slot.to_owned(),
            version: "7".to_owned(),
            generation,
            trial: true,
            stage,
            failure: failure.map(str::to_owned),
            ..Boot::default()
        }
    }

    fn exhausted(generation: u32, tries: u32) -> Other {
        let version = Some("7".to_owned());
        Other { slot: Slot::B, state: State::Exhausted, version, generation, tries }
    }

    #[test]
    fn reasons() {
        let gate = "gate self-test: lane entry-1 does not answer";
        let state = boot("b", 3, Stage::State, None);
        let failed = boot("b", 3, Stage::State, Some(gate));
        for (tries, boots, panic, want) in [
            (
                3,
                vec![&state, &failed, &state],
                None,
                "version 7 was tried 3 times and never became healthy: it got as far as 'state mounted'; last \
                 failure: gate self-test: lane entry-1 does not answer",
            ),
            (
                3,
                vec![],
                None,
                "version 7 was tried 3 times and never became healthy: it never got as far as 'identity mounted' \
                 (kernel, initial RAM disk or root); it said nothing of a failure: it hung, was reset or lost power",
            ),
            (
                1,
                vec![],
                Some("dm-verity device corrupted"),
                "version 7 was tried once and never became healthy: it never got as far as 'identity mounted' \
                 (kernel, initial RAM disk or root); the kernel's last words: dm-verity device corrupted",
            ),
        ] {
            assert_eq!(reason("7", tries, &boots, panic), want);
        }
    }

    #[test]
    fn a_return_is_noticed_once() {
        let trail =
            Trail { boots: [boot("b", 3, Stage::State, None), boot("a", 2, Stage::Identity, None)].into() };
        let at = Instant(5);
        let found = look_back(&trail, 2, &exhausted(3, 3), None, None, at).expect("noticed");
        assert_eq!((found.generation, found.tries, found.rollback.from_slot.as_str()), (3, 3, "b"));
        assert_eq!(look_back(&trail, 2, &exhausted(3, 3), Some(&found), None, at), None);
        // The next update that fails is another one.
        assert!(look_back(&trail, 2, &exhausted(4, 3), Some(&found), None, at).is_some());
        // An old one that failed before ours was activated.
        assert_eq!(look_back(&trail, 5, &exhausted(3, 3), None, None, at), None);
        for state in [State::Good, State::Trial { left: 2 }, State::Absent] {
            let other = Other { state, ..exhausted(3, 3) };
            assert_eq!(look_back(&trail, 2, &other, None, None, at), None, "{state:?}");
        }
        // A board without generations.
        let other = Other { version: None, ..exhausted(0, 0) };
        let found = look_back(&trail, 0, &other, None, None, at).expect("noticed");
        assert_eq!((found.tries, found.rollback.from_version.as_str()), (1, "7"));
    }

    #[test]
    fn kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        assert_eq!(Trail::load(&place), Trail::default());
        let mut trail = Trail::default();
        for number in 0..40 {
            trail.begin(Boot { boot: number.to_string(), ..Boot::default() });
        }
        assert_eq!(trail.begin(Boot { boot: "39".to_owned(), ..Boot::default() }), None);
        assert_eq!(trail.boots.len(), TRAIL_MAX);
        trail.keep(&place).unwrap();
        reached(&place, Stage::Provisioned);
        reached(&place, Stage::State);
        failed(&place, "no lane");
        let newest = Trail::load(&place).boots.back().cloned().unwrap();
        assert_eq!((newest.stage, newest.failure.as_deref()), (Stage::Provisioned, Some("no lane")));
        for number in 0..3 {
            log(&place, &Boot { generation: number, ..Boot::default() }).unwrap();
        }
        assert_eq!(logged(&place).iter().map(|boot| boot.generation).collect::<Vec<_>>(), [0, 1, 2]);
        std::fs::write(place.identity(TRAIL), "{ half").unwrap();
        assert_eq!(Trail::load(&place), Trail::default());
    }

    #[test]
    fn what_the_kernel_said_last() {
        let text = "<6>[ 1.0] fine\n<0>[ 2.0] Kernel panic - not syncing: dm-verity device corrupted\n<4>[ 2.1] CPU: 0";
        assert_eq!(words_of_panic(text).as_deref(), Some("dm-verity device corrupted"));
        assert_eq!(words_of_panic("fine"), None);
    }

    proptest! {
        #[test]
        fn any_log(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(read_log(bytes.as_slice()).len() <= LOG_MAX);
        }

        #[test]
        fn a_log_with_garbage_between_its_lines(garbage in "[^\n]{0,60}", count in 0_usize..5) {
            let line = serde_json::to_string(&Boot { slot: "a".to_owned(), ..Boot::default() }).unwrap();
            let text = format!("{line}\n#{garbage}\n").repeat(count);
            prop_assert_eq!(read_log(text.as_bytes()).len(), count);
        }
    }
}
