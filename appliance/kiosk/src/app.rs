//! The only place that touches the Slint component: copies a [`View`] into its global, and turns touches into
//! [`Action`]s.

use std::rc::Rc;

use engine::kiosk::Language;
use slint::{Color, ComponentHandle, ModelRc, SharedString, VecModel};

use crate::state::Action;
use crate::theme::{CONTRAST, DAY, Palette, Rgb};
use crate::view::{Glyph, Page, Tone, View};

/// What the Slint compiler made of `ui/`.
pub(crate) mod ui {
    slint::include_modules!();
}

/// Shows `view` on `app`.
pub(crate) fn show(app: &ui::App, view: &View) {
    let global = app.global::<ui::Ui>();
    let text = |text: &str| SharedString::from(whole_words(text));
    global.set_page(page(view.page));
    global.set_colours(colours(if view.high_contrast { &CONTRAST } else { &DAY }));
    global.set_low_reach(view.low_reach);
    global.set_high_contrast(view.high_contrast);
    global.set_languages(model(view.languages.iter().map(|choice| ui::Choice {
        id: choice.tag.into(),
        label: text(choice.label),
        on: choice.on,
    })));
    global.set_tone(tone(view.tone));
    global.set_glyph(glyph(view.glyph));
    global.set_title(text(&view.title));
    global.set_text(text(&view.text));
    global.set_other_title(text(&view.other_title));
    global.set_other_text(text(&view.other_text));
    global.set_scan_hint(text(&view.scan_hint));
    global.set_search_label(text(&view.search_label));
    global.set_search_hint(text(&view.search_hint));
    global.set_query(text(&view.query));
    global.set_no_hits(text(&view.no_hits));
    global.set_hits(model(view.hits.iter().map(|row| ui::Row {
        id: row.id.as_str().into(),
        name: text(&row.name),
        price: text(&row.price),
    })));
    global.set_keys(model(
        view.keys.iter().map(|(key, vowel)| ui::Key { label: key.to_string().into(), vowel: *vowel }),
    ));
    let [letters, digits, space, clear] = &view.bottom_keys;
    global.set_key_page(text(letters));
    global.set_key_digits(text(digits));
    global.set_key_space(text(space));
    global.set_key_clear(text(clear));
    global.set_price(text(&view.price));
    global.set_place(text(&view.place));
    global.set_map_aspect(view.map_aspect as f32);
    global.set_map(model(view.map.iter().map(|part| {
        let [x, y, width, height] = part.place.map(|share| share as f32);
        ui::MapBox { x, y, width, height, label: text(&part.label), here: part.here, gate: part.gate }
    })));
    global.set_steps(model(view.steps.iter().map(|step| ui::Step {
        label: text(step.label),
        done: step.done,
        now: step.now,
    })));
    global.set_cancel_label(text(&view.cancel_label));
    global.set_call_label(text(&view.call_label));
    global.set_call_state(text(&view.call_state));
    global.set_back_label(text(&view.back_label));
    global.set_reach_label(text(&view.reach_label));
    global.set_contrast_label(text(&view.contrast_label));
    let leaving = view.leaving.as_ref();
    global.set_leaving(leaving.is_some());
    global.set_leaving_title(text(leaving.map_or("", |leaving| leaving.title)));
    global.set_leaving_text(text(leaving.map_or("", |leaving| &leaving.text)));
    global.set_more_time_label(text(leaving.map_or("", |leaving| leaving.button)));
}

/// Calls `act` for each touch on `app`.
pub(crate) fn listen(app: &ui::App, act: impl Fn(Action) + 'static) {
    app.global::<ui::Ui>().on_act(move |what, argument| {
        if let Some(action) = action(what, &argument) {
            act(action);
        }
    });
}

fn action(what: ui::Act, argument: &str) -> Option<Action> {
    Some(match what {
        ui::Act::Language => {
            Action::Language(*Language::ALL.iter().find(|language| language.tag() == argument)?)
        }
        ui::Act::Search => Action::Search,
        ui::Act::Key => Action::Key(argument.chars().next()?),
        ui::Act::Delete => Action::Key(crate::keyboard::DELETE),
        ui::Act::Space => Action::Key(' '),
        ui::Act::Page if argument == "digits" => Action::Digits,
        ui::Act::Page => Action::Letters,
        ui::Act::Clear => Action::Clear,
        ui::Act::Choose => Action::Choose(argument.into()),
        ui::Act::Call => Action::Call,
        ui::Act::Cancel => Action::Cancel,
        ui::Act::Back => Action::Back,
        ui::Act::Done => Action::Done,
        ui::Act::MoreTime => Action::MoreTime,
        ui::Act::LowReach => Action::LowReach(argument == "on"),
        ui::Act::HighContrast => Action::HighContrast(argument == "on"),
        ui::Act::Elsewhere => Action::Elsewhere,
    })
}

/// Holds Korean words together at line ends: Unicode lets a line break between any two syllables, which no
/// sign writer does.
fn whole_words(text: &str) -> String {
    let hangul = |letter: char| ('가'..='힣').contains(&letter);
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for letter in text.chars() {
        if hangul(before) && (hangul(letter) || matches!(letter, '.' | ',' | '?' | '!')) {
            out.push('\u{2060}');
        }
        out.push(letter);
        before = letter;
    }
    out
}

fn model<T: Clone + 'static>(items: impl Iterator<Item = T>) -> ModelRc<T> {
    ModelRc::from(Rc::new(VecModel::from_iter(items)))
}

fn colours(palette: &Palette) -> ui::Colours {
    let colour = |rgb: Rgb| Color::from_rgb_u8(rgb.0, rgb.1, rgb.2);
    ui::Colours {
        paper: colour(palette.paper),
        card: colour(palette.card),
        ink: colour(palette.ink),
        soft: colour(palette.soft),
        line: colour(palette.line),
        brand: colour(palette.brand),
        on_brand: colour(palette.on_brand),
        good: colour(palette.good),
        on_good: colour(palette.on_good),
        bad: colour(palette.bad),
        on_bad: colour(palette.on_bad),
        warn: colour(palette.warn),
        on_warn: colour(palette.on_warn),
    }
}

fn page(page: Page) -> ui::PageKind {
    match page {
        Page::Gate => ui::PageKind::Gate,
        Page::Idle => ui::PageKind::Idle,
        Page::Home => ui::PageKind::Home,
        Page::Search => ui::PageKind::Search,
        Page::Product => ui::PageKind::Product,
        Page::Message => ui::PageKind::Message,
        Page::Call => ui::PageKind::Call,
    }
}

fn tone(tone: Tone) -> ui::Tone {
    match tone {
        Tone::Calm => ui::Tone::Calm,
        Tone::Good => ui::Tone::Good,
        Tone::Bad => ui::Tone::Bad,
        Tone::Warn => ui::Tone::Warn,
    }
}

fn glyph(glyph: Glyph) -> ui::Glyph {
    match glyph {
        Glyph::None => ui::Glyph::None,
        Glyph::Check => ui::Glyph::Check,
        Glyph::Cross => ui::Glyph::Cross,
        Glyph::Wait => ui::Glyph::Wait,
        Glyph::Phone => ui::Glyph::Phone,
        Glyph::Search => ui::Glyph::Search,
        Glyph::Bell => ui::Glyph::Bell,
        Glyph::Person => ui::Glyph::Person,
        Glyph::Stop => ui::Glyph::Stop,
        Glyph::Leave => ui::Glyph::Leave,
        Glyph::Warning => ui::Glyph::Warning,
    }
}
