//! The technician's page: what the box says of itself, to whoever stands before it.
//!
//! A long press on a corner of the screen and a code open it; on a box that does not know what it is, it is all
//! there is. It changes nothing on the box.

pub mod words;

use std::collections::BTreeMap;

use engine::kiosk::Language;
use engine::message::{BootState, BoxView, Health, HealthState, ProvisioningState, topic};
use engine::time::{Instant, Millis};
use runtime::bus::{BadMessage, Message};

use crate::state::Action;
use crate::view::{Fact, Glyph, Page, Tone, View, base};

/// Digits of the longest code.
const CODE_MAX: usize = 12;
/// Wrong codes in a row before nobody may try for a while: a code of four digits is then found in 3.5 days at best.
const TRIES_MAX: u8 = 5;
/// How long nobody may try then.
const LOCKED: Millis = Millis::from_seconds(300);
/// An untouched page gives the screen back to shoppers after this.
const IDLE: Millis = Millis::from_seconds(180);
/// Devices that are shown; the largest box has some thirty.
const DEVICES_MAX: usize = 200;
/// How often an open page tells the time anew.
const REFRESH: Millis = Millis::from_seconds(10);

/// What the technician's page knows.
#[derive(Debug)]
pub struct Technician {
    code: Option<String>,
    always: bool,
    stage: Stage,
    language: Language,
    wrong: u8,
    locked_until: Option<Instant>,
    touched: Instant,
    seen: Option<BoxView>,
    health: BTreeMap<(String, String), Health>,
    trouble: Option<String>,
    connected: bool,
    heard: bool,
}

#[derive(Debug)]
enum Stage {
    Closed,
    Code { typed: String, wrong: bool },
    Open,
}

impl Technician {
    /// A closed page that `code` opens; without a code nothing does.
    #[must_use]
    pub fn behind(code: Option<String>, language: Language) -> Self {
        Self {
            code,
            always: false,
            stage: Stage::Closed,
            language,
            wrong: 0,
            locked_until: None,
            touched: Instant(0),
            seen: None,
            health: BTreeMap::new(),
            trouble: None,
            connected: false,
            heard: false,
        }
    }

    /// A page that stays open, on a box that does not know what it is; with what is wrong with its role manifest, if
    /// it has one.
    #[must_use]
    pub fn always(trouble: Option<String>, language: Language) -> Self {
        Self { always: true, stage: Stage::Open, trouble, ..Self::behind(None, language) }
    }

    /// Whether the screen is the technician's.
    #[must_use]
    pub fn shown(&self) -> bool {
        !matches!(self.stage, Stage::Closed)
    }

    /// Somebody touched the screen: true when that was for the technician.
    pub fn act(&mut self, now: Instant, action: &Action) -> bool {
        if !self.shown() {
            if *action == Action::Technician && self.code.is_some() {
                self.stage = Stage::Code { typed: String::new(), wrong: false };
                self.touched = now;
            }
            return *action == Action::Technician;
        }
        self.touched = now;
        match action {
            Action::Language(language) => self.language = *language,
            Action::Back | Action::Done if !self.always => self.stage = Stage::Closed,
            Action::Key(key) => self.key(now, *key),
            // Nothing else is on this page.
            _ => {}
        }
        true
    }

    fn key(&mut self, now: Instant, key: char) {
        let locked = self.locked(now);
        let Stage::Code { typed, wrong } = &mut self.stage else { return };
        if locked {
            return;
        }
        *wrong = false;
        if key == crate::keyboard::DELETE {
            typed.pop();
        } else if key.is_ascii_digit() && typed.len() < CODE_MAX {
            typed.push(key);
        }
        let Some(code) = &self.code else { return };
        if typed.len() < code.len() {
            return;
        }
        if typed == code {
            (self.stage, self.wrong) = (Stage::Open, 0);
            return;
        }
        typed.clear();
        *wrong = true;
        self.wrong += 1;
        if self.wrong >= TRIES_MAX {
            (self.wrong, self.locked_until) = (0, Some(now.after(LOCKED)));
        }
    }

    fn locked(&self, now: Instant) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, connected: bool) {
        self.connected = connected;
        if self.shown() && !self.always && now >= self.touched.after(IDLE) {
            self.stage = Stage::Closed;
        }
    }

    /// When time alone next changes something.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.shown().then(|| now.after(REFRESH))
    }

    /// A message came over the bus: what the box says of itself, or how a device is.
    ///
    /// # Errors
    /// The message is not what its topic carries.
    pub fn take(&mut self, message: &Message) -> Result<(), BadMessage> {
        if message.topic == topic::BOX_VIEW {
            self.seen = Some(message.parse()?);
            self.heard = true;
        } else if message.topic.starts_with(topic::HEALTH) {
            let health: Health = message.parse()?;
            let key = (health.service.clone(), health.device.clone());
            if self.health.len() < DEVICES_MAX || self.health.contains_key(&key) {
                self.health.insert(key, health);
            }
        }
        Ok(())
    }

    /// Whether the box has said anything of itself on the bus.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// What the box says of itself in a file, where there is no bus.
    pub fn read(&mut self, seen: BoxView) {
        self.seen = Some(seen);
    }

    /// What to draw.
    #[must_use]
    pub fn view(&self, now: Instant) -> View {
        let texts = words::of(self.language);
        let base = View { back_label: texts.close.to_owned(), ..base(self.language) };
        match &self.stage {
            Stage::Code { typed, wrong } => View {
                page: Page::Code,
                title: texts.code.to_owned(),
                text: match (self.locked(now), wrong) {
                    (true, _) => texts.locked.to_owned(),
                    (false, true) => texts.wrong.to_owned(),
                    (false, false) => String::new(),
                },
                query: "●".repeat(typed.len()),
                keys: "123456789"
                    .chars()
                    .chain(['0', crate::keyboard::DELETE])
                    .map(|key| (key, false))
                    .collect(),
                ..base
            },
            Stage::Open | Stage::Closed => {
                let unknown = self.always && self.trouble.is_none();
                View {
                    page: Page::Technician,
                    tone: if self.always { Tone::Warn } else { Tone::Calm },
                    glyph: if self.always { Glyph::Warning } else { Glyph::None },
                    title: if unknown { texts.unprovisioned } else { texts.title }.to_owned(),
                    text: if unknown { texts.provision.to_owned() } else { String::new() },
                    back_label: if self.always { String::new() } else { base.back_label.clone() },
                    facts: self.facts(now),
                    ..base
                }
            }
        }
    }

    fn facts(&self, now: Instant) -> Vec<Fact> {
        let texts = words::of(self.language);
        let mut facts = Vec::new();
        let mut say = |label: &str, text: String, tone| {
            facts.push(Fact { label: label.to_owned(), text, tone });
        };
        match &self.seen {
            Some(seen) => self.box_facts(seen, &mut say),
            None => say(texts.image, texts.no_box.to_owned(), Tone::Warn),
        }
        if let Some(trouble) = &self.trouble {
            say(texts.manifest, trouble.clone(), Tone::Bad);
        }
        let clock = self.seen.as_ref().map(|seen| &seen.clock);
        let (right, source) = match clock {
            Some(clock) if clock.trusted => (texts.trusted, clock.source.as_str()),
            Some(clock) => (texts.untrusted, clock.source.as_str()),
            None => (texts.untrusted, ""),
        };
        let trusted = clock.is_some_and(|clock| clock.trusted);
        let tone = if trusted { Tone::Good } else { Tone::Warn };
        say(texts.clock, listed(&[&utc(now), right, source]), tone);
        if !self.always {
            let bus = if self.connected { texts.connected } else { texts.not_connected };
            say(texts.bus, bus.to_owned(), if self.connected { Tone::Good } else { Tone::Bad });
            if self.health.is_empty() {
                say(texts.no_health, String::new(), Tone::Warn);
            }
        }
        // What is wrong comes first.
        let mut health: Vec<&Health> = self.health.values().collect();
        health.sort_by_key(|health| tone_of(health.state) == Tone::Good);
        for health in health {
            let state = words::health(self.language, health.state);
            let since = words::ago(self.language, now.0.saturating_sub(health.since.0) / 1000);
            let text = listed(&[state, &health.detail, &since]);
            say(&format!("{} {}", health.service, health.device), text, tone_of(health.state));
        }
        facts
    }

    fn box_facts(&self, seen: &BoxView, say: &mut impl FnMut(&str, String, Tone)) {
        let texts = words::of(self.language);
        if seen.development_keys {
            say(texts.keys, texts.development_keys.to_owned(), Tone::Bad);
        }
        let tone = match seen.provisioning.state {
            ProvisioningState::Accepted => Tone::Good,
            ProvisioningState::None => Tone::Warn,
            ProvisioningState::Refused => Tone::Bad,
        };
        let state = words::provisioning(self.language, seen.provisioning.state);
        say(texts.provisioning, listed(&[state, &seen.provisioning.detail]), tone);
        for trouble in &seen.troubles {
            say(texts.trouble, trouble.clone(), Tone::Bad);
        }
        if !seen.name.is_empty() {
            say(texts.name, seen.name.clone(), Tone::Calm);
        }
        if !(seen.store.is_empty() && seen.role.is_empty()) {
            say(texts.role, listed(&[&seen.store, &seen.role]), Tone::Calm);
        }
        say(texts.serial, listed(&[&seen.serial]), Tone::Calm);
        let generation = if seen.generation > 0 { format!("#{}", seen.generation) } else { String::new() };
        say(texts.image, listed(&[&seen.version, &seen.slot, &generation]), Tone::Calm);
        let tone = match seen.boot {
            BootState::Good => Tone::Good,
            BootState::Trial | BootState::Unknown => Tone::Warn,
        };
        say(texts.boot, listed(&[words::boot(self.language, seen.boot), &seen.stage]), tone);
        match &seen.rollback {
            None => say(texts.rollback, texts.no_rollback.to_owned(), Tone::Calm),
            Some(back) => {
                let at = if back.at.0 > 0 { utc(back.at) } else { String::new() };
                let left = listed(&[&back.from_version, &back.from_slot, &at]);
                say(texts.rollback, format!("{}\n{left}", listed(&[&back.reason])), Tone::Warn);
            }
        }
        if seen.addresses.is_empty() {
            say(texts.address, texts.no_address.to_owned(), Tone::Warn);
        } else {
            say(texts.address, seen.addresses.join("\n"), Tone::Calm);
        }
    }
}

fn tone_of(state: HealthState) -> Tone {
    match state {
        HealthState::Up => Tone::Good,
        HealthState::Degraded => Tone::Warn,
        HealthState::Down => Tone::Bad,
    }
}

/// The parts that say something, in one line; a dash when none does.
fn listed(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

/// Date and time in UTC, to the minute.
fn utc(at: Instant) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests;
