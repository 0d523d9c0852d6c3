//! Views as text, and the service over a bus.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use engine::kiosk::Language;
use engine::message::{KioskScan, StaffAnswer, StaffCall, StaffCallState, topic};
use engine::time::Instant;
use runtime::bus::Bus;
use runtime::clock::Clock;
use tokio::sync::watch;

use crate::showcase::{REASONS, sample_map, scenes};
use crate::view::Page;
use crate::{Action, Painter, Settings, Shows, face, run, words};

#[test]
fn views_are_as_reviewed() {
    let mut text = String::new();
    for language in Language::ALL {
        for scene in scenes(language) {
            writeln!(text, "== {} ==\n{}", scene.name, scene.view).unwrap();
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/views.txt");
    if std::env::var_os("UPDATE_VIEWS").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(file).unwrap();
    let first = text.lines().zip(reviewed.lines()).position(|(now, before)| now != before);
    assert!(
        text == reviewed,
        "the screens differ from src/views.txt at line {:?}; look at them, then UPDATE_VIEWS=1 cargo test",
        first.map(|line| line + 1)
    );
}

#[test]
fn every_refusal_says_what_and_what_to_do() {
    // REASONS is complete: a reason that serde knows but the list does not would have no picture.
    let listed: BTreeSet<_> = REASONS.iter().collect();
    assert_eq!(listed.len(), REASONS.len());
    for language in Language::ALL {
        for reason in REASONS {
            let says = words::refused(language, reason);
            assert!(!says.title.is_empty() && !says.text.is_empty(), "{reason:?} in {language:?}");
            // 12 mm letters on a screen 178 mm wide inside its margins: two lines of title, three of text.
            let width =
                |text: &str| -> usize { text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum() };
            assert!(width(says.title) <= 36, "{}", says.title);
            assert!(width(says.text) <= 66, "{}", says.text);
        }
    }
}

#[test]
fn the_scene_names_are_unique() {
    let mut names = BTreeSet::new();
    for language in Language::ALL {
        for scene in scenes(language) {
            assert!(names.insert(scene.name.clone()), "{}", scene.name);
        }
    }
}

#[test]
fn pictures_come_without_a_display() {
    let painter = Painter::start().unwrap();
    let scenes = scenes(Language::Korean);
    let find = |name: &str| &scenes.iter().find(|scene| scene.name == name).unwrap().view;
    let welcome = painter.paint(find("gate-welcome-ko"), (270, 480)).unwrap();
    assert_eq!(welcome.rgb.len(), 270 * 480 * 3);
    let crate::theme::Rgb(red, green, blue) = crate::theme::DAY.good;
    assert_eq!(welcome.rgb[..3], [red, green, blue], "the whole screen is green");
    let again = painter.paint(find("gate-welcome-ko"), (270, 480)).unwrap();
    assert!(welcome == again, "the same view is the same picture");
    let refused = painter.paint(find("gate-refused-stale-ko"), (480, 270)).unwrap();
    assert_eq!((refused.width, refused.height), (480, 270));
    assert_ne!(refused.rgb[..3], welcome.rgb[..3]);
    assert!(painter.paint(find("help-idle-ko"), (0, 100)).is_err());
    assert!(painter.paint(find("help-idle-ko"), (100, 100_000)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_kiosk_answers_scans_and_calls_staff_over_the_bus() {
    let bus = Bus::local();
    let clock = Clock::starting_at(Instant(1_790_000_000_000));
    let mut calls = bus.subscribe(topic::STAFF_CALL);
    let (stop, stopped) = watch::channel(false);
    let (face, remote) = face();
    let mut views = remote.views.clone();
    let settings = Settings::new(Shows::Help("kiosk-1".to_owned()), Language::Korean);
    let service = tokio::spawn(run(settings, Arc::new(sample_map()), bus.clone(), clock, stopped, face));

    let elsewhere = KioskScan { kiosk: "kiosk-2".to_owned(), text: "8801115114154".to_owned() };
    views.wait_for(|view| view.page == Page::Idle).await.unwrap();
    bus.publish(topic::KIOSK_SCAN, &elsewhere);
    let here = KioskScan { kiosk: "kiosk-1".to_owned(), ..elsewhere };
    bus.publish(topic::KIOSK_SCAN, &here);
    let product = views.wait_for(|view| view.page == Page::Product).await.unwrap().clone();
    assert_eq!((product.title.as_str(), product.price.as_str()), ("서울우유 1L", "2,980원"));

    remote.actions.send(Action::Call).await.unwrap();
    let call: StaffCall = calls.recv().await.parse().unwrap();
    let again: StaffCall = calls.recv().await.parse().unwrap();
    assert_eq!(call, again, "repeated until staff devices have it");
    bus.publish(topic::STAFF_ANSWER, &StaffAnswer { call: call.id, state: StaffCallState::Coming });
    views.wait_for(|view| view.steps.iter().all(|step| step.done) && view.page == Page::Call).await.unwrap();

    stop.send_replace(true);
    service.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_screen_of_no_lane_is_refused() {
    let (_stop, stopped) = watch::channel(false);
    let settings = Settings::new(Shows::Gate("nowhere".into()), Language::English);
    let clock = Clock::starting_at(Instant(1));
    let error =
        run(settings, Arc::new(sample_map()), Bus::local(), clock, stopped, face().0).await.unwrap_err();
    assert_eq!(error.to_string(), "lane nowhere is not in the store map");
}
