//! The service beside the others: says on the bus what the box is and why it went back, takes what sticks
//! bring, fetches updates when it is this box's turn, and restarts when nobody is at a lane.

use std::collections::{BTreeSet, VecDeque};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use engine::message::{BoxView, ClockView, HealthState, Provisioning, ProvisioningState, topic};
use osimage::provision::Updates;
use osimage::slots::State;
use runtime::shutdown;
use runtime::watchdog::Watchdog;
use tokio::task::JoinHandle;

use crate::backend::{Boot, PENDING};
use crate::boots;
use crate::ears::{Ears, active};
use crate::files;
use crate::first_boot::{self, Told, now_ms};
use crate::health::{restart, retell, say};
use crate::place::Place;
use crate::provisioning;
use crate::slot::running;
use crate::stick;
use crate::update::{self, Bundle};
use crate::volumes;
use crate::wave::{Restart, Window, is_its_turn, place_of};

/// Here, with its reason, while a restart is asked for that is no update's.
pub const RESTART: &str = "/run/caretaker/restart";
/// Asked for by a person: its hours do not matter.
pub const AT_ONCE: &str = "/run/caretaker/at-once";
/// systemd takes down what runs within this; only then is it asked again.
const RESTART_AGAIN: Duration = Duration::from_secs(300);
const STEP: Duration = Duration::from_secs(2);
/// A view is said again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// An update is looked for this often.
const LOOK_FOR_UPDATES: Duration = Duration::from_secs(3600);
/// The first look, and how long to wait for a version that has not proven itself: the box has other things to do.
const FIRST_LOOK: Duration = Duration::from_secs(300);

/// Runs until it is told to stop.
///
/// # Errors
/// When the asynchronous runtime does not start.
pub fn run(place: &Place) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        let mut watchdog = Watchdog::from_environment();
        let mut stop = shutdown::signalled();
        let mut watch = Watch::new(place.clone());
        watchdog.ready();
        loop {
            watch.step().await;
            watchdog.step_done();
            tokio::select! {
                () = tokio::time::sleep(STEP) => {}
                _ = stop.changed() => return Ok(()),
            }
        }
    })
}

struct Watch {
    place: Place,
    ears: Ears,
    updates: Updates,
    window: Option<Window>,
    said: Option<(Instant, BoxView)>,
    /// None before the first look.
    sticks: Option<BTreeSet<PathBuf>>,
    errands: VecDeque<PathBuf>,
    restarted: Option<Instant>,
    waits_for: String,
    look_at: Instant,
    job: Option<Job>,
}

/// What takes longer than a step: one at a time, and the box is not restarted meanwhile.
struct Job {
    /// "stick" or "update".
    name: &'static str,
    /// What was done, or why not; None: there was nothing to do.
    task: JoinHandle<Option<Result<String>>>,
}

impl Watch {
    fn new(place: Place) -> Self {
        stick::clean(&place);
        let provision = provisioning::take(&place, &[], false).accepted.map(|accepted| accepted.provision);
        let updates = provision.map(|provision| provision.updates).unwrap_or_default();
        let window = updates.window.as_ref().and_then(|text| {
            Window::parse(text, updates.zone.as_deref())
                // Without a window that can be read no hour is right but when a person asks.
                .inspect_err(|error| tracing::error!(%error, "updates wait for a person"))
                .ok()
        });
        // Restarted in between: what waits is found again.
        let pending = Boot::open(&place).and_then(|boot| boot.primary()).ok().flatten();
        let here = running(&place).ok().map(|running| running.slot);
        if let Some(slot) = pending.filter(|slot| here.is_some_and(|here| here != *slot)) {
            let _ = files::replace(&place.at(PENDING), slot.name().as_bytes(), 0o644);
        }
        Self {
            ears: Ears::new(&place, "caretaker"),
            place,
            updates,
            window,
            said: None,
            sticks: None,
            errands: VecDeque::new(),
            restarted: None,
            waits_for: String::new(),
            look_at: Instant::now() + FIRST_LOOK,
            job: None,
        }
    }

    async fn step(&mut self) {
        self.ears.listen();
        self.say_what_the_box_is();
        self.look_for_sticks();
        self.tell_what_was_done().await;
        self.start_a_job();
        self.restart_when_nobody_minds();
    }

    fn say_what_the_box_is(&mut self) {
        let mut told: Told = first_boot::told(&self.place);
        let before = told.view.clone();
        told.view.addresses = addresses(&self.place);
        told.view.clock = clock(&self.place);
        if told.view != before
            && let Err(error) = first_boot::tell(&self.place, &told)
        {
            tracing::error!(error = %format!("{error:#}"), "boot.json is not what it should be");
        }
        let due = match &self.said {
            None => true,
            Some((at, view)) => *view != told.view || at.elapsed() >= SAY_AGAIN,
        };
        if !due {
            return;
        }
        let said = told.view.clone();
        let view = BoxView { at: engine::time::Instant(now_ms()), ..told.view };
        self.ears.bus.publish_view(topic::BOX_VIEW, &view);
        let returned = boots::returned(&self.place)
            .filter(|back| u64::from(back.generation) >= view.generation || view.generation == 0);
        let (state, detail) = match returned {
            Some(back) => (HealthState::Degraded, back.rollback.reason),
            None => (HealthState::Up, String::new()),
        };
        say(&self.ears, "rollback", state, detail);
        let (state, detail) = match said.troubles.is_empty() {
            true => (HealthState::Up, String::new()),
            false => (HealthState::Down, said.troubles.join("; ")),
        };
        say(&self.ears, "boot", state, detail);
        self.said = Some((Instant::now(), said));
    }

    fn look_for_sticks(&mut self) {
        let found: BTreeSet<_> = stick::devices(&self.place).into_iter().collect();
        let before = self.sticks.replace(found.clone());
        let Some(before) = before else {
            // One that was plugged in at the start, udev may have found too late for the first boot. It must not send
            // the box on an errand, though: somebody may have forgotten it, and that would happen at each start.
            if !found.is_empty() {
                self.take_provisioning_file();
            }
            return;
        };
        let new: Vec<_> = found.difference(&before).cloned().collect();
        if new.is_empty() {
            return;
        }
        self.take_provisioning_file();
        // After that, so that the stick may bring both.
        self.errands.extend(new);
    }

    async fn tell_what_was_done(&mut self) {
        let Some(Job { name, task }) = self.job.take_if(|job| job.task.is_finished()) else { return };
        match task.await {
            Ok(Some(Ok(done))) => say(&self.ears, name, HealthState::Up, done),
            Ok(Some(Err(error))) => {
                let detail = format!("{error:#}");
                tracing::error!("{detail}");
                say(&self.ears, name, HealthState::Degraded, detail);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(name, %error, "the task failed"),
        }
    }

    fn start_a_job(&mut self) {
        if self.job.is_some() {
            return;
        }
        let place = self.place.clone();
        if let Some(device) = self.errands.pop_front() {
            let task = tokio::task::spawn_blocking(move || stick::serve(&place, &device));
            self.job = Some(Job { name: "stick", task });
        } else if let Some(url) = self.update_to_look_for() {
            let now = now_ms() / 1000;
            let task = tokio::task::spawn_blocking(move || fetch(&place, &url, now).transpose());
            self.job = Some(Job { name: "update", task });
        }
    }

    fn take_provisioning_file(&mut self) {
        if !volumes::is_mounted(&self.place, &self.place.identity("")) {
            // It could not be kept: the box would take it, restart, and find it again.
            return;
        }
        let choice = provisioning::take(&self.place, &stick::provisioning_files(&self.place), true);
        let before = first_boot::told(&self.place).view.provisioning;
        if choice.keep {
            let why = format!("a provisioning file was taken from {}", choice.told.detail);
            if let Err(error) = ask_restart(&self.place, &why) {
                tracing::error!(error = %format!("{error:#}"), "it holds from the next start on");
            }
        }
        // A stick without a file says nothing new.
        let nothing = Provisioning::default();
        if choice.told != before && choice.told != nothing && choice.told.state == ProvisioningState::Refused
            || choice.keep
        {
            retell(&self.place, |told| told.view.provisioning = choice.told);
        }
    }

    /// Where to look for an update now, at most once in an hour.
    fn update_to_look_for(&mut self) -> Option<String> {
        let url = self.updates.url.clone()?;
        let its_hour = match (&self.window, &self.updates.window) {
            (Some(window), _) => window.has(now_ms() / 1000),
            (None, None) => true,
            (None, Some(_)) => false,
        };
        if !its_hour || Instant::now() < self.look_at || self.place.at(PENDING).exists() {
            return None;
        }
        // Before it has proven itself nothing can be installed.
        let proven = Boot::open(&self.place)
            .and_then(|boot| boot.state(boot.running.slot))
            .is_ok_and(|state| state == State::Good);
        self.look_at = Instant::now() + if proven { LOOK_FOR_UPDATES } else { FIRST_LOOK };
        proven.then_some(url)
    }

    fn restart_when_nobody_minds(&mut self) {
        if self.restarted.is_some_and(|at| at.elapsed() < RESTART_AGAIN) {
            return;
        }
        let wanted = files::text(&self.place.at(RESTART));
        let asked = wanted.is_some() || self.place.at(AT_ONCE).exists();
        let pending = self.place.at(PENDING).exists();
        let Some(why) = wanted.or_else(|| pending.then(|| "an update".to_owned())) else { return };
        let busy = self.job.as_ref().map(|job| job.name).or_else(|| self.errands.front().map(|_| "stick"));
        let decision = match busy {
            // A bundle that is half written, or a stick that is half served.
            Some(name) => Restart::Later(format!("{name}: not done yet")),
            None => self.may_restart(asked),
        };
        match decision {
            Restart::Later(reason) => {
                if self.waits_for != reason {
                    tracing::info!(why, reason, "the restart waits");
                    self.waits_for = reason;
                }
            }
            Restart::Now => {
                tracing::info!(why, "restarting");
                self.restarted = Some(Instant::now());
                let restarted = Boot::open(&self.place)
                    .and_then(|boot| boot.before_restart())
                    .and_then(|argument| restart(&self.place, argument));
                if let Err(error) = restarted {
                    tracing::error!(error = %format!("{error:#}"), "cannot restart");
                }
            }
        }
    }

    fn may_restart(&self, asked: bool) -> Restart {
        let expected = self.ears.expected();
        let gate_runs = active(&self.place, &expected.services).contains("gated");
        let lanes = self.ears.lanes(&expected, gate_runs);
        let bad_window = self.window.is_none() && self.updates.window.is_some();
        match crate::wave::restart(&lanes, self.window.as_ref(), now_ms() / 1000, asked) {
            Restart::Now if bad_window && !asked => Restart::Later("its window cannot be read".to_owned()),
            decision => decision,
        }
    }
}

/// Installs what lies at the address, when it is newer than ours, has not failed here, and it is our turn.
fn fetch(place: &Place, url: &str, now: u64) -> Result<Option<String>> {
    let compatible = update::compatible(place)?;
    let address = format!("{}/{compatible}.raucb", url.trim_end_matches('/'));
    let bundle = update::inspect(place, &address)?;
    if let Some(reason) = refuse(place, &bundle, now) {
        tracing::info!(version = bundle.version, reason, "no update now");
        return Ok(None);
    }
    update::command(place, &address, false, &mut std::io::sink())?;
    Ok(Some(format!(
        "version {} is installed; it starts in its hours, when nobody is at a lane",
        bundle.version
    )))
}

/// Why a bundle is not for now.
fn refuse(place: &Place, bundle: &Bundle, now: u64) -> Option<String> {
    let told = first_boot::told(place).view;
    if bundle.version == told.version {
        return Some("it runs already".to_owned());
    }
    if is_older(&bundle.version, &told.version) {
        // Who has the web server has no word of the operator's; a technician's stick can go back.
        return Some(format!("it is older than {}", told.version));
    }
    if let Some(back) = boots::returned(place).filter(|back| back.rollback.from_version == bundle.version) {
        return Some(format!("it failed here: {}", back.rollback.reason));
    }
    let own = place_of(&format!("{}\0{}", told.serial, told.name), &bundle.version);
    match bundle.released {
        Some(released) if !is_its_turn(own, released, now) => Some("its turn has not come".to_owned()),
        Some(_) | None => None,
    }
}

/// Whether a version is before another; false where they are no numbers with dots between.
fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>();
    numbers(version).zip(numbers(than)).is_some_and(|(version, than)| version < than)
}

/// The address by which others reach the box, with its interface.
fn addresses(place: &Place) -> Vec<String> {
    let routes = files::text(&place.at("/proc/net/route")).unwrap_or_default();
    let interface = routes
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(1) == Some(&"00000000"))
        .and_then(|fields| fields.first().map(|name| (*name).to_owned()))
        .unwrap_or_default();
    // Nothing is sent: the kernel is asked which address it would take (documentation's own network, RFC 5737).
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    own.map(|own| format!("{interface} {}", own.ip()).trim().to_owned()).into_iter().collect()
}

/// How far the clock can be trusted, as systemd-timesyncd and the kernel say.
fn clock(place: &Place) -> ClockView {
    let is = |path: &str| place.at(path).exists();
    if is("/run/systemd/timesync/synchronized") {
        return ClockView { trusted: true, source: "a time server".to_owned() };
    }
    let set = files::text(&place.at("/sys/class/rtc/rtc0/hctosys")).is_some_and(|text| text.trim() == "1");
    if set {
        return ClockView { trusted: true, source: "rtc".to_owned() };
    }
    ClockView {
        trusted: false,
        source: "no time server was reached, and no clock runs without power".to_owned(),
    }
}

/// Asks for a restart as soon as nobody is at a lane, whatever the hour.
///
/// # Errors
/// Names the file.
pub fn ask_restart(place: &Place, why: &str) -> Result<()> {
    Ok(files::replace(&place.at(RESTART), why.as_bytes(), 0o644)?)
}

/// As [`ask_restart`], for the update that waits.
///
/// # Errors
/// Names the file.
pub fn ask_at_once(place: &Place) -> Result<()> {
    Ok(files::replace(&place.at(AT_ONCE), b"", 0o644)?)
}

/// Whether `watch` runs and would see to a restart.
#[must_use]
pub fn runs() -> bool {
    Path::new("/run/systemd/system").exists()
        && Command::new("systemctl")
            .args(["is-active", "--quiet", "caretaker-watch.service"])
            .status()
            .is_ok_and(|it| it.success())
}

#[cfg(test)]
mod tests {
    use engine::message::Rollback;

    use super::*;

    #[test]
    fn which_bundles_are_not_for_now() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        let told = Told {
            view: BoxView { version: "6".to_owned(), serial: "S1".to_owned(), ..BoxView::default() },
            ..Told::default()
        };
        first_boot::tell(&place, &told).unwrap();
        let bundle = |version: &str, released| Bundle {
            version: version.to_owned(),
            compatible: String::new(),
            released,
        };
        let day = 24 * 3600;
        assert!(refuse(&place, &bundle("6", None), day).unwrap().contains("already"));
        assert!(refuse(&place, &bundle("5.9.12", None), day).unwrap().contains("older than 6"));
        assert!(is_older("0.9.2", "0.10.1") && !is_older("0.10", "0.9.9") && !is_older("1.2-rc1", "1.3"));
        assert_eq!(refuse(&place, &bundle("7", None), day), None);
        assert_eq!(refuse(&place, &bundle("7", Some(0)), 7 * day), None);
        assert!(refuse(&place, &bundle("7", Some(2 * day)), day).unwrap().contains("turn"));
        let rollback = Rollback {
            from_version: "7".to_owned(),
            reason: "version 7 was tried".to_owned(),
            ..Rollback::default()
        };
        boots::keep_returned(&place, &boots::Returned { rollback, ..boots::Returned::default() }).unwrap();
        assert!(refuse(&place, &bundle("7", None), day).unwrap().contains("version 7 was tried"));
    }

    #[tokio::test]
    async fn no_restart_while_a_stick_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        ask_restart(&place, "a factory reset").unwrap();
        let mut watch = Watch::new(place);
        let (pull, pulled) = std::sync::mpsc::channel::<()>();
        let task = tokio::task::spawn_blocking(move || {
            let _ = pulled.recv();
            Some(Ok("version 7 is installed".to_owned()))
        });
        watch.job = Some(Job { name: "stick", task });
        watch.errands.push_back("/dev/none".into());
        watch.step().await;
        assert_eq!(watch.waits_for, "stick: not done yet");
        drop(pull);
        // The second stick, too, before the restart.
        while watch.job.is_some() || !watch.errands.is_empty() {
            assert_eq!(watch.waits_for, "stick: not done yet");
            tokio::task::yield_now().await;
            watch.step().await;
        }
        assert!(watch.waits_for.contains("quiet"), "{}", watch.waits_for);
    }

    #[tokio::test]
    async fn says_what_the_box_is_and_why_it_went_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        let told = Told {
            view: BoxView { version: "6".to_owned(), generation: 2, ..BoxView::default() },
            ..Told::default()
        };
        first_boot::tell(&place, &told).unwrap();
        let rollback = Rollback { reason: "version 7 was tried once".to_owned(), ..Rollback::default() };
        boots::keep_returned(&place, &boots::Returned { rollback, generation: 3, tries: 1 }).unwrap();
        let mut watch = Watch::new(place);
        let mut heard = watch.ears.bus.subscribe("#");
        watch.step().await;
        let mut topics = Vec::new();
        while let Some(message) = heard.try_recv() {
            if message.topic == topic::BOX_VIEW {
                assert_eq!(message.parse::<BoxView>().unwrap().version, "6");
            }
            if message.topic.ends_with("caretaker/rollback") {
                let health: engine::message::Health = message.parse().unwrap();
                assert_eq!(
                    (health.state, health.detail.as_str()),
                    (HealthState::Degraded, "version 7 was tried once")
                );
            }
            topics.push(message.topic);
        }
        assert_eq!(
            topics,
            ["stile/box/view", "stile/health/caretaker/rollback", "stile/health/caretaker/boot"]
        );
        watch.step().await;
        assert!(heard.try_recv().is_none(), "said once while nothing changes");
    }
}
