//! From what a screen knows to what it draws: pure, so that every picture can be tested as text.

use std::fmt;

use engine::kiosk::{self, CallView, Language};
use engine::message::Notice;
use engine::store::StoreMap;
use engine::time::Instant;
use engine::units::PlateId;

use crate::keyboard::KeyPage;
use crate::state::{Gate, Help, State};
use crate::words::{self, Say};

/// A page of a screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// The gate screen.
    #[default]
    Gate,
    /// Help kiosk: nobody is there.
    Idle,
    /// Help kiosk: what to do.
    Home,
    /// Help kiosk: search by name.
    Search,
    /// Help kiosk: price and place.
    Product,
    /// Help kiosk: something did not work.
    Message,
    /// Help kiosk: waiting for staff.
    Call,
    /// The way to the technician's page.
    Code,
    /// What the box says of itself.
    Technician,
}

/// What a page means, by colour; never without a sign and words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to decide.
    #[default]
    Calm,
    /// Go.
    Good,
    /// Refused.
    Bad,
    /// Take care.
    Warn,
}

/// The sign of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Glyph {
    /// No sign.
    #[default]
    None,
    /// Go.
    Check,
    /// Refused.
    Cross,
    /// Wait.
    Wait,
    /// Hold a phone here.
    Phone,
    /// A question.
    Search,
    /// Staff.
    Bell,
    /// A person.
    Person,
    /// Do not go on.
    Stop,
    /// The way out.
    Leave,
    /// Attention.
    Warning,
}

/// A language to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// BCP 47 tag.
    pub tag: &'static str,
    /// Its own name.
    pub label: &'static str,
    /// Whether it is the screen's language.
    pub on: bool,
}

/// A line of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The product.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its price.
    pub price: String,
}

/// A step of a staff call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub label: &'static str,
    /// It has happened.
    pub done: bool,
    /// It is the newest.
    pub now: bool,
}

/// A part of the floor map, in shares of its width and height, from the top left.
#[derive(Clone, Debug, PartialEq)]
pub struct MapBox {
    /// Left, top, width, height.
    pub place: [f64; 4],
    /// What stands on it.
    pub label: String,
    /// The product stands here.
    pub here: bool,
    /// A gate lane.
    pub gate: bool,
}

/// A line of the technician's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub label: String,
    /// What is so.
    pub text: String,
    /// Whether that is well.
    pub tone: Tone,
}

/// The warning before everything is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The question.
    pub title: &'static str,
    /// How long still.
    pub text: String,
    /// The button.
    pub button: &'static str,
}

/// A whole screen. Texts that a page does not show are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The page.
    pub page: Page,
    /// Controls within reach from a seat.
    pub low_reach: bool,
    /// Black ground.
    pub high_contrast: bool,
    /// Languages to choose from.
    pub languages: Vec<Choice>,
    /// Its meaning.
    pub tone: Tone,
    /// Its sign.
    pub glyph: Glyph,
    /// The headline.
    pub title: String,
    /// What to do.
    pub text: String,
    /// The headline in the other language.
    pub other_title: String,
    /// What to do, in the other language.
    pub other_text: String,
    /// Where to hold a product.
    pub scan_hint: String,
    /// Button to the search.
    pub search_label: String,
    /// Empty search field.
    pub search_hint: String,
    /// What was typed.
    pub query: String,
    /// Nothing found.
    pub no_hits: String,
    /// Products found.
    pub hits: Vec<Row>,
    /// Keys, each with whether it is a vowel.
    pub keys: Vec<(char, bool)>,
    /// Keys of the bottom row: other letters, digits, space, clear.
    pub bottom_keys: [String; 4],
    /// The price.
    pub price: String,
    /// The place in words.
    pub place: String,
    /// Width of the floor by its depth.
    pub map_aspect: f64,
    /// The floor.
    pub map: Vec<MapBox>,
    /// How far a call is.
    pub steps: Vec<Step>,
    /// What the box says of itself.
    pub facts: Vec<Fact>,
    /// Button: stop waiting.
    pub cancel_label: String,
    /// Button: call staff.
    pub call_label: String,
    /// How far a call is, on the button.
    pub call_state: String,
    /// Button: back.
    pub back_label: String,
    /// Spoken name of the reach toggle.
    pub reach_label: String,
    /// Spoken name of the contrast toggle.
    pub contrast_label: String,
    /// The question before everything is forgotten.
    pub leaving: Option<Leaving>,
}

/// What to draw for `state`.
#[must_use]
pub fn view(state: &State, now: Instant) -> View {
    match state {
        State::Gate(gate) => gate_view(gate, now),
        State::Help(help) => help_view(help, now),
        State::Nobodys => base(Language::Korean),
    }
}

pub(crate) fn base(language: Language) -> View {
    let texts = words::of(language);
    let languages = Language::ALL.map(|other| Choice {
        tag: other.tag(),
        label: words::of(other).name,
        on: other == language,
    });
    View {
        languages: languages.to_vec(),
        call_label: texts.call.to_owned(),
        back_label: texts.back.to_owned(),
        reach_label: texts.low_reach.to_owned(),
        contrast_label: texts.high_contrast.to_owned(),
        map_aspect: 1.0,
        ..View::default()
    }
}

fn gate_view(gate: &Gate, now: Instant) -> View {
    // A lane that nobody has heard of yet is no open lane.
    let notice = gate.shown.as_ref().map_or(&Notice::OutOfOrder, |shown| &shown.notice);
    let other = match gate.language {
        Language::Korean => Language::English,
        Language::English => Language::Korean,
    };
    let (tone, glyph) = match notice {
        Notice::Idle | Notice::ScanHere => (Tone::Calm, Glyph::Phone),
        Notice::Welcome { .. } => (Tone::Good, Glyph::Check),
        Notice::Goodbye | Notice::ExitOnly => (Tone::Good, Glyph::Leave),
        Notice::Free => (Tone::Good, Glyph::Check),
        Notice::StoreFull | Notice::AskStaff => (Tone::Warn, Glyph::Wait),
        Notice::Refused { reason: engine::message::DenyReason::LaneBusy } => (Tone::Warn, Glyph::Wait),
        Notice::Refused { .. } => (Tone::Bad, Glyph::Cross),
        Notice::StepBack | Notice::WrongWay | Notice::LaneClosed | Notice::Cleaning => {
            (Tone::Warn, Glyph::Stop)
        }
        Notice::StoreClosed { .. } | Notice::StaffOnly => (Tone::Warn, Glyph::Stop),
        Notice::Maintenance => (Tone::Warn, Glyph::Warning),
        Notice::OutOfOrder => (Tone::Bad, Glyph::Warning),
        Notice::Evacuate => (Tone::Good, Glyph::Leave),
    };
    let (says, also) = (words::notice(gate.language, notice), words::notice(other, notice));
    let call = gate.call.view(now).map(|call| words::call(gate.language, call).1.to_owned());
    let base = base(gate.language);
    View {
        page: Page::Gate,
        tone,
        glyph,
        title: says.title.to_owned(),
        text: says.text.to_owned(),
        other_title: also.title.to_owned(),
        other_text: also.text.to_owned(),
        call_state: call.unwrap_or_default(),
        languages: base.languages.iter().filter(|choice| !choice.on).cloned().collect(),
        ..base
    }
}

fn help_view(help: &Help, now: Instant) -> View {
    let shown = help.kiosk.view(now);
    let texts = words::of(shown.language);
    let mut view = View {
        low_reach: shown.low_reach,
        high_contrast: shown.high_contrast,
        search_label: texts.search.to_owned(),
        scan_hint: if shown.reader { texts.scan_hint } else { texts.reader_down }.to_owned(),
        leaving: shown.leaving_s.map(|seconds| Leaving {
            title: texts.leaving,
            text: words::leaving(shown.language, seconds),
            button: texts.more_time,
        }),
        ..base(shown.language)
    };
    match shown.page {
        kiosk::Page::Idle => {
            view.page = Page::Idle;
            let other = match shown.language {
                Language::Korean => Language::English,
                Language::English => Language::Korean,
            };
            say(&mut view, Tone::Calm, Glyph::Search, texts.greeting);
            view.other_title = words::of(other).greeting.title.to_owned();
        }
        kiosk::Page::Home => {
            view.page = Page::Home;
            say(&mut view, Tone::Calm, Glyph::Search, texts.home);
        }
        kiosk::Page::Search { query, hits } => {
            view.page = Page::Search;
            view.search_hint = texts.search_hint.to_owned();
            view.no_hits = texts.no_hits.to_owned();
            view.query = query;
            let row = |hit: kiosk::Hit| Row {
                id: hit.product.0,
                name: hit.name,
                price: words::price(shown.language, hit.price),
            };
            view.hits = hits.into_iter().map(row).collect();
            view.keys = help.keys.keys().chars().map(|key| (key, crate::keyboard::is_vowel(key))).collect();
            view.bottom_keys = bottom_keys(help.keys, shown.language);
        }
        kiosk::Page::Found(found) => {
            view.page = Page::Product;
            view.title = found.name;
            view.price = words::price(shown.language, found.price);
            view.place = match found.place {
                Some(plate) => words::place(shown.language, plate.gondola, plate.shelf + 1),
                None => texts.no_place.to_owned(),
            };
            (view.map_aspect, view.map) = floor(&help.map, found.place);
        }
        kiosk::Page::NotFound { scanned } => {
            view.page = Page::Message;
            say(&mut view, Tone::Warn, Glyph::Search, texts.not_found);
            view.other_title = scanned;
        }
        kiosk::Page::NotAProduct => {
            view.page = Page::Message;
            say(&mut view, Tone::Warn, Glyph::Warning, texts.not_a_product);
        }
        kiosk::Page::Call(call) => {
            view.page = Page::Call;
            let (tone, glyph) = match call {
                CallView::Sending => (Tone::Calm, Glyph::Wait),
                CallView::Sent | CallView::Seen => (Tone::Calm, Glyph::Bell),
                CallView::Coming => (Tone::Good, Glyph::Person),
                CallView::Closed => (Tone::Good, Glyph::Check),
                CallView::Lost => (Tone::Warn, Glyph::Warning),
            };
            let (says, _) = words::call(shown.language, call);
            say(&mut view, tone, glyph, says);
            view.cancel_label = texts.cancel_call.to_owned();
            let reached = match call {
                CallView::Sending | CallView::Lost => 0,
                CallView::Sent => 1,
                CallView::Seen => 2,
                CallView::Coming | CallView::Closed => 3,
            };
            let steps = texts.steps.iter().enumerate();
            view.steps = steps
                .map(|(index, label)| Step { label, done: index < reached, now: index + 1 == reached })
                .collect();
        }
    }
    view
}

fn say(view: &mut View, tone: Tone, glyph: Glyph, says: Say) {
    view.tone = tone;
    view.glyph = glyph;
    view.title = says.title.to_owned();
    view.text = says.text.to_owned();
}

fn bottom_keys(keys: KeyPage, language: Language) -> [String; 4] {
    let texts = words::of(language);
    let hangul = words::of(Language::Korean).key_letters;
    let latin = words::of(Language::English).key_letters;
    let letters = match keys {
        KeyPage::Hangul => latin,
        KeyPage::Latin => hangul,
        KeyPage::Digits => texts.key_letters,
    };
    [letters, texts.key_digits, texts.key_space, texts.key_clear].map(ToOwned::to_owned)
}

/// The floor as boxes with y down the screen, so that the map stands as the installer drew it.
fn floor(map: &StoreMap, place: Option<PlateId>) -> (f64, Vec<MapBox>) {
    let [x0, y0, x1, y1] = map.bounds;
    let (width, depth) = ((x1 - x0).max(0.1), (y1 - y0).max(0.1));
    let share = |left: f64, low: f64, right: f64, high: f64| {
        let [left, right] = [left, right].map(|x| ((x - x0) / width).clamp(0.0, 1.0));
        let [top, bottom] = [high, low].map(|y| ((y1 - y) / depth).clamp(0.0, 1.0));
        [left, top, right - left, bottom - top]
    };
    let mut boxes: Vec<MapBox> = map
        .gondolas
        .iter()
        .map(|gondola| {
            let [left, low, right, high] = gondola.footprint;
            let here = place.is_some_and(|plate| plate.gondola == gondola.id);
            let label = if here { gondola.id.to_string() } else { String::new() };
            MapBox { place: share(left, low, right, high), label, here, gate: false }
        })
        .collect();
    for lane in &map.lanes {
        let [x, y] = lane.position;
        // A bar across the passage, 1.2 m long, reaching 0.3 m into the store.
        let [along, into] = [0.6, 0.3];
        let [dx, dy] = lane.inward;
        let reach = |at: f64, way: f64, side: f64| {
            let (a, b) = (at - side.abs() * along, at + way * into + side.abs() * along);
            (a.min(b), a.max(b))
        };
        let ((left, right), (low, high)) = (reach(x, dx, dy), reach(y, dy, dx));
        let place = share(left, low, right, high);
        boxes.push(MapBox { place, label: String::new(), here: false, gate: true });
    }
    (width / depth, boxes)
}

impl fmt::Display for View {
    /// One line a part, without what is empty: for snapshots.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} {:?} {:?}", self.page, self.tone, self.glyph)?;
        if self.low_reach || self.high_contrast {
            writeln!(f, "  low reach {}, high contrast {}", self.low_reach, self.high_contrast)?;
        }
        let lines = [
            ("title", &self.title),
            ("text", &self.text),
            ("other title", &self.other_title),
            ("other text", &self.other_text),
            ("scan", &self.scan_hint),
            ("search", &self.search_label),
            ("hint", &self.search_hint),
            ("query", &self.query),
            ("no hits", &self.no_hits),
            ("price", &self.price),
            ("place", &self.place),
            ("cancel", &self.cancel_label),
            ("call", &self.call_label),
            ("call state", &self.call_state),
            ("back", &self.back_label),
        ];
        for (name, text) in lines.into_iter().filter(|(_, text)| !text.is_empty()) {
            writeln!(f, "  {name}: {text}")?;
        }
        for choice in &self.languages {
            writeln!(f, "  language: {}{}", choice.label, if choice.on { " *" } else { "" })?;
        }
        for row in &self.hits {
            writeln!(f, "  hit: {} {} {}", row.id, row.name, row.price)?;
        }
        if !self.keys.is_empty() {
            let keys: String = self.keys.iter().map(|(key, _)| *key).collect();
            writeln!(f, "  keys: {keys} {}", self.bottom_keys.join(" "))?;
        }
        for part in &self.map {
            let [x, y, width, height] = part.place;
            let kind = if part.gate {
                "lane"
            } else if part.here {
                "here"
            } else {
                "shelf"
            };
            writeln!(f, "  map: {kind} {x:.2} {y:.2} {width:.2} {height:.2} {}", part.label)?;
        }
        for step in &self.steps {
            let mark = if step.now {
                "now"
            } else if step.done {
                "done"
            } else {
                "to come"
            };
            writeln!(f, "  step: {} ({mark})", step.label)?;
        }
        for Fact { label, text, tone } in &self.facts {
            writeln!(f, "  {tone:?}: {label}: {text}")?;
        }
        if let Some(leaving) = &self.leaving {
            writeln!(f, "  leaving: {} {} [{}]", leaving.title, leaving.text, leaving.button)?;
        }
        Ok(())
    }
}
