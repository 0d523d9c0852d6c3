//! What a screen knows: the engine's flow, plus what only a screen needs (typed letters, the lane's newest
//! view).

use std::sync::Arc;

use engine::kiosk::{self, Call, Command, Input, Kiosk, Language};
use engine::message::{GateView, Health, HealthState, KioskScan, StaffAnswer, topic};
use engine::store::StoreMap;
use engine::time::Instant;
use engine::units::{LaneId, ProductId};
use runtime::bus::{BadMessage, Message};

use crate::keyboard::{DELETE, KeyPage, compose};

/// What somebody touched.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A language.
    Language(Language),
    /// To the search.
    Search,
    /// A key with a letter.
    Key(char),
    /// Between the two alphabets.
    Letters,
    /// To the digits.
    Digits,
    /// Deletes all that was typed.
    Clear,
    /// A hit of the search.
    Choose(ProductId),
    /// A person, please.
    Call,
    /// No longer waiting for a person.
    Cancel,
    /// One page back.
    Back,
    /// To the first page.
    Done,
    /// More time.
    MoreTime,
    /// Controls within reach from a seat.
    LowReach(bool),
    /// Black ground.
    HighContrast(bool),
    /// Anywhere else.
    Elsewhere,
    /// A long press on a corner: the technician's page, please.
    Technician,
}

/// What one screen knows.
#[derive(Debug)]
pub enum State {
    /// A gate screen.
    Gate(Gate),
    /// A help kiosk.
    Help(Help),
    /// Nothing for shoppers.
    Nobodys,
}

/// A gate screen's state.
#[derive(Debug)]
pub struct Gate {
    pub(crate) lane: LaneId,
    pub(crate) shown: Option<GateView>,
    pub(crate) call: Call,
    pub(crate) home_language: Language,
    pub(crate) language: Language,
}

/// A help kiosk's state.
#[derive(Debug)]
pub struct Help {
    pub(crate) name: String,
    pub(crate) kiosk: Kiosk,
    pub(crate) typed: Vec<char>,
    pub(crate) keys: KeyPage,
    pub(crate) map: Arc<StoreMap>,
}

impl Gate {
    /// The screen of `lane`, which greets in `language`.
    #[must_use]
    pub fn new(lane: LaneId, language: Language) -> Self {
        let call = Call::new(&lane.0);
        Self { lane, shown: None, call, home_language: language, language }
    }

    fn act(&mut self, now: Instant, action: &Action, out: &mut Vec<Command>) {
        match action {
            Action::Language(language) => self.language = *language,
            Action::Call => self.call.ask(now, out),
            Action::Search
            | Action::Key(_)
            | Action::Letters
            | Action::Digits
            | Action::Clear
            | Action::Choose(_)
            | Action::Cancel
            | Action::Back
            | Action::Done
            | Action::MoreTime
            | Action::LowReach(_)
            | Action::HighContrast(_)
            | Action::Elsewhere
            | Action::Technician => {}
        }
    }
}

impl Help {
    /// The help kiosk `name` of the store of `map`, which greets in `language`.
    #[must_use]
    pub fn new(name: &str, map: Arc<StoreMap>, language: Language) -> Self {
        let kiosk = Kiosk::new(name, &map, language);
        Self { name: name.to_owned(), kiosk, typed: Vec::new(), keys: own_letters(language), map }
    }

    fn act(&mut self, now: Instant, action: Action, out: &mut Vec<Command>) {
        let touch = match action {
            Action::Language(language) => {
                self.keys = own_letters(language);
                kiosk::Touch::Language(language)
            }
            Action::Search => {
                self.typed.clear();
                self.keys = own_letters(self.kiosk.view(now).language);
                kiosk::Touch::Search
            }
            Action::Key(DELETE) => {
                self.typed.pop();
                kiosk::Touch::Query(compose(&self.typed))
            }
            Action::Key(letter) => {
                // A syllable takes up to five letters.
                if self.typed.len() < 5 * kiosk::QUERY_MAX {
                    self.typed.push(letter);
                }
                kiosk::Touch::Query(compose(&self.typed))
            }
            Action::Clear => {
                self.typed.clear();
                kiosk::Touch::Query(String::new())
            }
            Action::Letters => {
                self.keys = match self.keys {
                    KeyPage::Hangul => KeyPage::Latin,
                    KeyPage::Latin => KeyPage::Hangul,
                    KeyPage::Digits => own_letters(self.kiosk.view(now).language),
                };
                kiosk::Touch::Elsewhere
            }
            Action::Digits => {
                self.keys = KeyPage::Digits;
                kiosk::Touch::Elsewhere
            }
            Action::Choose(product) => kiosk::Touch::Choose(product),
            Action::Call => kiosk::Touch::CallStaff,
            Action::Cancel => kiosk::Touch::CancelCall,
            Action::Back => kiosk::Touch::Back,
            Action::Done => kiosk::Touch::Done,
            Action::MoreTime => kiosk::Touch::MoreTime,
            Action::LowReach(on) => kiosk::Touch::LowReach(on),
            Action::HighContrast(on) => kiosk::Touch::HighContrast(on),
            Action::Elsewhere | Action::Technician => kiosk::Touch::Elsewhere,
        };
        self.kiosk.handle(now, Input::Touch(touch), out);
    }

    /// Nothing that a shopper typed outlives their visit.
    fn forget_when_idle(&mut self, now: Instant) {
        let view = self.kiosk.view(now);
        if view.page == kiosk::Page::Idle {
            self.typed.clear();
            self.keys = own_letters(view.language);
        }
    }
}

/// Letters that a kiosk of this language begins with.
fn own_letters(language: Language) -> KeyPage {
    match language {
        Language::Korean => KeyPage::Hangul,
        Language::English => KeyPage::Latin,
    }
}

impl State {
    /// Somebody touched the screen.
    pub fn act(&mut self, now: Instant, action: Action, out: &mut Vec<Command>) {
        match self {
            Self::Gate(gate) => gate.act(now, &action, out),
            Self::Help(help) => help.act(now, action, out),
            Self::Nobodys => {}
        }
        self.tick(now, out);
    }

    /// The deadline has come, or may have.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Command>) {
        match self {
            Self::Gate(gate) => gate.call.tick(now, out),
            Self::Help(help) => {
                help.kiosk.handle(now, Input::Tick, out);
                help.forget_when_idle(now);
            }
            Self::Nobodys => {}
        }
    }

    /// A message came over the bus.
    ///
    /// # Errors
    /// The message is not what its topic carries.
    pub fn take(
        &mut self,
        now: Instant,
        message: &Message,
        out: &mut Vec<Command>,
    ) -> Result<(), BadMessage> {
        match self {
            Self::Gate(gate) => {
                if message.topic == topic::STAFF_ANSWER {
                    gate.call.answer(now, &message.parse::<StaffAnswer>()?);
                } else if message.topic.starts_with(topic::GATE_VIEW) {
                    let view: GateView = message.parse()?;
                    if view.lane == gate.lane {
                        // The next shopper is greeted in the house's language again.
                        if view.notice.at_rest() {
                            gate.language = gate.home_language;
                        }
                        gate.shown = Some(view);
                    }
                }
            }
            Self::Help(help) => {
                let input = if message.topic == topic::STAFF_ANSWER {
                    Some(Input::Answer(message.parse()?))
                } else if message.topic == topic::KIOSK_SCAN {
                    let scan: KioskScan = message.parse()?;
                    (scan.kiosk == help.name).then_some(Input::Scan(scan.text))
                } else if message.topic.starts_with(topic::HEALTH) {
                    let health: Health = message.parse()?;
                    Some(Input::Reader(health.state != HealthState::Down))
                } else {
                    None
                };
                if let Some(input) = input {
                    help.kiosk.handle(now, input, out);
                }
            }
            Self::Nobodys => {}
        }
        self.tick(now, out);
        Ok(())
    }

    /// When time alone next changes something.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Gate(gate) => gate.call.deadline(),
            Self::Help(help) => help.kiosk.deadline(now),
            Self::Nobodys => None,
        }
    }
}
