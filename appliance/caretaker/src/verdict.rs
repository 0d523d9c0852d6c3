//! Whether a version is well. Pure: what the role asks for, what the version before saw, and what services say now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::message::HealthState;
use serde::{Deserialize, Serialize};

/// A version has this long to become well.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// It must have been well for this long without a break.
pub const STEADY: Duration = Duration::from_secs(10);

/// What the outside world decides, and no version of ours: no reason to go back.
const NOT_OURS: [&str; 3] = ["gated/admission", "cartd/payment", "caretaker/"];

/// What a role asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its services, by the names of their units.
    pub services: BTreeSet<String>,
    /// Its lanes.
    pub lanes: BTreeSet<String>,
}

/// How devices were when a proven version looked: `service/device`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Baseline {
    /// Which version looked.
    pub version: String,
    /// What it saw.
    pub devices: BTreeMap<String, HealthState>,
    /// Services that did not run.
    pub stopped: BTreeSet<String>,
    /// What did not hold on its boot, before services started.
    pub troubles: Vec<String>,
}

/// What is seen now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What services say of devices, `service/device`, with the detail.
    pub devices: BTreeMap<String, (HealthState, String)>,
    /// Units that run and have said that they are ready.
    pub active: BTreeSet<String>,
    /// Whether the bus was there.
    pub bus: bool,
    /// What did not hold on this boot, before services started.
    pub troubles: Vec<String>,
    /// Why the other slot could not read the state, if it could not.
    pub formats: Option<String>,
}

/// One criterion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is checked: the name on the screen.
    pub name: String,
    /// How it is.
    pub outcome: Outcome,
}

/// How a criterion is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Met.
    Fine,
    /// Not met, and was not with the version before either.
    AsBefore(String),
    /// Not met yet: it may come.
    Missing(String),
    /// Cannot be met by waiting.
    Never(String),
}

/// All criteria, the gate's first.
#[must_use]
pub fn checks(expected: &Expected, baseline: Option<&Baseline>, seen: &Seen) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |name: &str, outcome| checks.push(Check { name: name.to_owned(), outcome });
    let was_down = |device: &str| {
        baseline.is_some_and(|it| it.devices.get(device).is_some_and(|state| *state == HealthState::Down))
    };

    for service in &expected.services {
        let outcome = if seen.active.contains(service) {
            Outcome::Fine
        } else if baseline.is_some_and(|baseline| baseline.stopped.contains(service)) {
            Outcome::AsBefore(format!("{service} does not run"))
        } else {
            Outcome::Missing(format!("{service} does not run or is not ready"))
        };
        check(&format!("service-{service}"), outcome);
    }

    for (number, trouble) in seen.troubles.iter().enumerate() {
        let before = baseline.is_some_and(|baseline| baseline.troubles.contains(trouble));
        let outcome =
            if before { Outcome::AsBefore(trouble.clone()) } else { Outcome::Never(trouble.clone()) };
        check(&format!("boot-{}", number + 1), outcome);
    }

    let with_bus = expected.services.iter().any(|service| service != "kiosk");
    if with_bus && !seen.bus {
        check("bus", Outcome::Missing("the bus does not answer, so that nobody can be asked".to_owned()));
    }

    // What the role names must answer; what the version before knew must still be there.
    let mut devices: BTreeSet<String> =
        expected.lanes.iter().map(|lane| format!("gated/turnstile-{lane}")).collect();
    devices.extend(seen.devices.keys().cloned());
    devices.extend(baseline.into_iter().flat_map(|it| it.devices.keys().cloned()));
    devices.retain(|device| {
        let service = device.split('/').next().unwrap_or_default();
        expected.services.contains(service) && !NOT_OURS.iter().any(|prefix| device.starts_with(prefix))
    });
    let gate_first = |device: &String| !device.starts_with("gated/");
    let mut devices: Vec<String> = devices.into_iter().collect();
    devices.sort_by_key(gate_first);
    for device in devices {
        let what = in_words(&device);
        let outcome = match seen.devices.get(&device) {
            Some((HealthState::Up | HealthState::Degraded, _)) => Outcome::Fine,
            Some((HealthState::Down, detail)) if was_down(&device) => {
                Outcome::AsBefore(format!("{what} is out of order, as before: {detail}"))
            }
            Some((HealthState::Down, detail)) if detail.is_empty() => {
                Outcome::Missing(format!("{what} is out of order"))
            }
            Some((HealthState::Down, detail)) => {
                Outcome::Missing(format!("{what} is out of order: {detail}"))
            }
            None if was_down(&device) => Outcome::AsBefore(format!("{what} does not answer, as before")),
            None => Outcome::Missing(format!("{what} does not answer")),
        };
        check(&device.replace('/', "-"), outcome);
    }

    let outcome = seen.formats.clone().map_or(Outcome::Fine, Outcome::Never);
    check("way-back", outcome);
    checks
}

/// `gated/turnstile-entry-1` for people.
fn in_words(device: &str) -> String {
    let (service, name) = device.split_once('/').unwrap_or(("", device));
    match (service, name) {
        ("gated", name) => match name.strip_prefix("turnstile-") {
            Some(lane) => format!("gate self-test: lane {lane}"),
            None => format!("gate self-test: {name}"),
        },
        ("visiond", "service") => "the cameras' service".to_owned(),
        ("visiond", name) => name.to_owned(),
        ("cartd", "service") => "the ledger".to_owned(),
        ("cartd", name) => name.to_owned(),
        ("kiosk", name) => format!("the display: {name}"),
        (service, name) => format!("{service}: {name}"),
    }
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Look again.
    Wait,
    /// Well.
    Good,
    /// Not well; why, for people. `give_up`: another try would end the same.
    Bad {
        /// All that is not met.
        reason: String,
        /// Whether to leave at once, without the tries that are left.
        give_up: bool,
    },
}

/// What follows of the criteria: `fine_for` since when all have been met, `waited` since the services were started.
#[must_use]
pub fn judge(checks: &[Check], fine_for: Duration, waited: Duration) -> Verdict {
    let never: Vec<&str> = texts(checks, |outcome| match outcome {
        Outcome::Never(text) => Some(text),
        Outcome::Fine | Outcome::AsBefore(_) | Outcome::Missing(_) => None,
    });
    if !never.is_empty() {
        return Verdict::Bad { reason: never.join("; "), give_up: true };
    }
    let missing = missing(checks);
    if missing.is_empty() {
        return if fine_for >= STEADY { Verdict::Good } else { Verdict::Wait };
    }
    if waited < PATIENCE {
        return Verdict::Wait;
    }
    // Without its gate a lane stands still: that is not tried twice more. For what is outside another start may help.
    let no_gate =
        |check: &Check| check.name == "service-gated" && matches!(check.outcome, Outcome::Missing(_));
    Verdict::Bad { reason: missing.join("; "), give_up: checks.iter().any(no_gate) }
}

/// What is not met yet.
#[must_use]
pub fn missing(checks: &[Check]) -> Vec<&str> {
    texts(checks, |outcome| match outcome {
        Outcome::Missing(text) => Some(text),
        Outcome::Fine | Outcome::AsBefore(_) | Outcome::Never(_) => None,
    })
}

fn texts(checks: &[Check], of: impl Fn(&Outcome) -> Option<&str>) -> Vec<&str> {
    checks.iter().filter_map(|check| of(&check.outcome)).collect()
}

#[cfg(test)]
mod tests {
    use HealthState::{Degraded, Down, Up};

    use super::*;

    fn expected(services: &[&str], lanes: &[&str]) -> Expected {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Expected { services: own(services), lanes: own(lanes) }
    }

    fn seen(active: &[&str], devices: &[(&str, HealthState, &str)]) -> Seen {
        Seen {
            active: active.iter().map(|name| (*name).to_owned()).collect(),
            devices: devices
                .iter()
                .map(|(device, state, it)| ((*device).to_owned(), (*state, (*it).to_owned())))
                .collect(),
            bus: true,
            troubles: Vec::new(),
            formats: None,
        }
    }

    fn verdict(expected: &Expected, baseline: Option<&Baseline>, seen: &Seen) -> Verdict {
        judge(&checks(expected, baseline, seen), STEADY, PATIENCE)
    }

    #[test]
    fn by_role_and_against_the_version_before() {
        let gate = expected(&["gated", "kiosk"], &["entry-1"]);
        let all = expected(&["cartd", "gated", "kiosk", "visiond"], &["entry-1"]);
        let before = Baseline {
            version: "6".to_owned(),
            devices: [("visiond/camera-3".to_owned(), Down), ("gated/reader-1".to_owned(), Up)].into(),
            stopped: ["kiosk".to_owned()].into(),
            troubles: Vec::new(),
        };
        let lane = ("gated/turnstile-entry-1", Up, "");
        let reader = ("gated/reader-1", Up, "");
        let camera = ("visiond/camera-3", Down, "no /dev/video0");
        let running = ["cartd", "gated", "kiosk", "visiond"];
        for (name, expected, baseline, seen, bad) in [
            ("well", &gate, None, seen(&["gated", "kiosk"], &[lane]), None),
            (
                "working badly",
                &gate,
                None,
                seen(&["gated", "kiosk"], &[("gated/turnstile-entry-1", Degraded, "slow")]),
                None,
            ),
            ("no gate", &gate, None, seen(&["kiosk"], &[lane]), Some("gated does not run or is not ready")),
            (
                "silent lane",
                &gate,
                None,
                seen(&["gated", "kiosk"], &[]),
                Some("gate self-test: lane entry-1 does not answer"),
            ),
            (
                "broken lane",
                &gate,
                None,
                seen(&["gated", "kiosk"], &[("gated/turnstile-entry-1", Down, "no chip X")]),
                Some("gate self-test: lane entry-1 is out of order: no chip X"),
            ),
            (
                "no display",
                &gate,
                None,
                seen(&["gated"], &[lane]),
                Some("kiosk does not run or is not ready"),
            ),
            ("no display before either", &gate, Some(&before), seen(&["gated"], &[lane, reader]), None),
            (
                "lost a reader",
                &gate,
                Some(&before),
                seen(&["gated", "kiosk"], &[lane]),
                Some("gate self-test: reader-1 does not answer"),
            ),
            (
                "a camera that was broken before",
                &all,
                Some(&before),
                seen(&running, &[lane, reader, camera]),
                None,
            ),
            (
                "a camera that was not",
                &all,
                None,
                seen(&running, &[lane, camera]),
                Some("camera-3 is out of order: no /dev/video0"),
            ),
            (
                "the ledger",
                &all,
                None,
                seen(&running, &[lane, ("cartd/service", Down, "database disk image is malformed")]),
                Some("the ledger is out of order: database"),
            ),
            (
                "payment is not ours",
                &all,
                None,
                seen(&running, &[lane, ("cartd/payment", Down, "no network")]),
                None,
            ),
            (
                "a role without cameras",
                &gate,
                Some(&before),
                seen(&["gated", "kiosk"], &[lane, reader, camera]),
                None,
            ),
            (
                "not provisioned",
                &expected(&["kiosk"], &[]),
                None,
                Seen { bus: false, ..seen(&["kiosk"], &[]) },
                None,
            ),
            (
                "no bus",
                &gate,
                None,
                Seen { bus: false, ..seen(&["gated", "kiosk"], &[lane]) },
                Some("the bus does not answer"),
            ),
        ] {
            match (verdict(expected, baseline, &seen), bad) {
                (Verdict::Good, None) => {}
                (Verdict::Bad { reason, give_up }, Some(says)) => {
                    assert!(reason.contains(says), "{name}: {reason}");
                    assert_eq!(give_up, name == "no gate", "{name}");
                }
                (other, _) => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_did_not_hold_before_services_started() {
        let trouble = "the manifest of a box of role entry-gate is not valid: unknown field `x`".to_owned();
        let seen = Seen { troubles: vec![trouble.clone()], ..seen(&["kiosk"], &[]) };
        let alone = expected(&["kiosk"], &[]);
        let want = Verdict::Bad { reason: trouble.clone(), give_up: true };
        assert_eq!(verdict(&alone, None, &seen), want);
        let before = Baseline { troubles: vec![trouble], ..Baseline::default() };
        assert_eq!(verdict(&alone, Some(&before), &seen), Verdict::Good);
    }

    #[test]
    fn patience() {
        let gate = expected(&["gated"], &["entry-1"]);
        let missing = checks(&gate, None, &seen(&[], &[]));
        let fine = checks(&gate, None, &seen(&["gated"], &[("gated/turnstile-entry-1", Up, "")]));
        let just_short = Duration::from_millis(1);
        assert_eq!(judge(&missing, Duration::ZERO, PATIENCE - just_short), Verdict::Wait);
        assert!(matches!(judge(&missing, Duration::ZERO, PATIENCE), Verdict::Bad { give_up: true, .. }));
        let silent = checks(&gate, None, &seen(&["gated"], &[]));
        assert!(matches!(judge(&silent, Duration::ZERO, PATIENCE), Verdict::Bad { give_up: false, .. }));
        assert_eq!(judge(&fine, STEADY - just_short, PATIENCE * 2), Verdict::Wait);
        assert_eq!(judge(&fine, STEADY, Duration::ZERO), Verdict::Good);
        let seen = Seen { formats: Some("6 cannot read ledger 2".to_owned()), ..Seen::default() };
        let never = checks(&Expected::default(), None, &seen);
        let want = Verdict::Bad { reason: "6 cannot read ledger 2".to_owned(), give_up: true };
        assert_eq!(judge(&never, STEADY, Duration::ZERO), want);
    }
}
