//! Who may see the page, and what it says.

use engine::message::{ClockView, Provisioning, Rollback};

use super::*;

const NOW: Instant = Instant(1_790_000_000_000);

fn after(seconds: u64) -> Instant {
    NOW.after(Millis::from_seconds(seconds))
}

fn type_code(technician: &mut Technician, now: Instant, digits: &str) {
    for digit in digits.chars() {
        assert!(technician.act(now, &Action::Key(digit)));
    }
}

fn opened() -> Technician {
    let mut technician = Technician::behind(Some("2580".to_owned()), Language::English);
    technician.act(NOW, &Action::Technician);
    type_code(&mut technician, NOW, "2580");
    technician
}

fn said(technician: &Technician, label: &str) -> Option<(String, Tone)> {
    let facts = technician.view(NOW).facts;
    facts.into_iter().find(|fact| fact.label == label).map(|fact| (fact.text, fact.tone))
}

#[test]
fn a_code_opens_it_and_time_closes_it() {
    let mut technician = Technician::behind(Some("2580".to_owned()), Language::English);
    assert!(!technician.act(NOW, &Action::Call), "a shopper's touch is the shopper's");
    technician.act(NOW, &Action::Technician);
    assert_eq!(technician.view(NOW).page, Page::Code);
    type_code(&mut technician, NOW, "258");
    technician.act(NOW, &Action::Key(crate::keyboard::DELETE));
    assert_eq!(technician.view(NOW).query, "●●", "digits are not shown");
    type_code(&mut technician, NOW, "80");
    assert_eq!(technician.view(NOW).page, Page::Technician);
    technician.tick(after(179), true);
    assert!(technician.shown());
    technician.tick(after(180), true);
    assert!(!technician.shown());
    assert!(!opened().act(NOW, &Action::Back) || !technician.shown());
}

#[test]
fn without_a_code_nobody_gets_in() {
    let mut technician = Technician::behind(None, Language::Korean);
    technician.act(NOW, &Action::Technician);
    assert!(!technician.shown());
}

#[test]
fn codes_cannot_be_tried_for_ever() {
    let mut technician = Technician::behind(Some("2580".to_owned()), Language::English);
    technician.act(NOW, &Action::Technician);
    for _ in 0..5 {
        assert_ne!(technician.view(NOW).text, words::of(Language::English).locked);
        type_code(&mut technician, NOW, "0000");
    }
    assert_eq!(technician.view(NOW).text, words::of(Language::English).locked);
    type_code(&mut technician, NOW, "2580");
    assert_eq!(technician.view(NOW).page, Page::Code, "not even the right one");
    // Closed and opened again it is as locked as before.
    technician.act(NOW, &Action::Back);
    technician.act(after(299), &Action::Technician);
    type_code(&mut technician, after(299), "2580");
    assert_eq!(technician.view(after(299)).page, Page::Code);
    type_code(&mut technician, after(300), "2580");
    assert_eq!(technician.view(after(300)).page, Page::Technician);
}

#[test]
fn a_box_that_does_not_know_itself_shows_nothing_else() {
    let mut technician = Technician::always(None, Language::English);
    for action in [Action::Back, Action::Done, Action::Call, Action::Technician] {
        assert!(technician.act(NOW, &action) && technician.shown(), "{action:?}");
    }
    technician.tick(after(100_000), false);
    assert!(technician.shown());
    let refused = Provisioning {
        state: ProvisioningState::Refused,
        detail: "signed by a key this image does not know: 3f2a9c01".to_owned(),
    };
    technician.read(BoxView { provisioning: refused, development_keys: true, ..BoxView::default() });
    let view = technician.view(NOW);
    assert_eq!(view.title, "This box is not provisioned");
    assert_eq!(view.back_label, "", "there is nowhere to go back to");
    let (text, tone) = said(&technician, "Provisioning").expect("said");
    assert!(text.contains("3f2a9c01") && tone == Tone::Bad, "{text}");
    assert_eq!(said(&technician, "Signing keys").map(|said| said.1), Some(Tone::Bad));
}

#[test]
fn it_says_why_the_box_went_back_and_what_is_broken() {
    let mut technician = opened();
    let rollback = Rollback {
        at: NOW.before(Millis::from_seconds(3600)),
        from_version: "1.3.0".to_owned(),
        from_slot: "b".to_owned(),
        reason: "health: scanner down".to_owned(),
    };
    let seen = BoxView {
        version: "1.2.0".to_owned(),
        slot: "a".to_owned(),
        boot: BootState::Good,
        rollback: Some(rollback),
        clock: ClockView { trusted: true, source: "10.0.0.1".to_owned() },
        ..BoxView::default()
    };
    let hear = |technician: &mut Technician, topic: &str, payload: Vec<u8>| {
        let message = Message { topic: topic.to_owned(), payload: payload.into() };
        technician.take(&message)
    };
    hear(&mut technician, topic::BOX_VIEW, serde_json::to_vec(&seen).unwrap()).unwrap();
    for (device, state) in [("service", HealthState::Up), ("scanner", HealthState::Down)] {
        let health = Health {
            service: "gated".to_owned(),
            device: device.to_owned(),
            state,
            since: NOW.before(Millis::from_seconds(180)),
            detail: String::new(),
        };
        let topic = format!("{}/gated/{device}", topic::HEALTH);
        hear(&mut technician, &topic, serde_json::to_vec(&health).unwrap()).unwrap();
    }
    assert!(hear(&mut technician, topic::BOX_VIEW, b"{".to_vec()).is_err());
    assert_eq!(said(&technician, "Image"), Some(("1.2.0, a".to_owned(), Tone::Calm)));
    let (text, _) = said(&technician, "Last rollback").expect("said");
    assert!(text.starts_with("health: scanner down\n1.3.0, b, 2026-09-21"), "{text}");
    assert_eq!(said(&technician, "gated scanner"), Some(("down, for 3 min".to_owned(), Tone::Bad)));
    let labels: Vec<String> = technician.view(NOW).facts.into_iter().map(|fact| fact.label).collect();
    let place = |label: &str| labels.iter().position(|other| other == label);
    assert!(place("gated scanner") < place("gated service"), "what is wrong comes first: {labels:?}");
    assert!(
        said(&technician, "Clock")
            .is_some_and(|(text, tone)| text.contains("10.0.0.1") && tone == Tone::Good)
    );
}

#[test]
fn devices_are_bounded() {
    let mut technician = opened();
    for number in 0..2 * DEVICES_MAX {
        let health = Health {
            service: "visiond".to_owned(),
            device: format!("camera-{number}"),
            state: HealthState::Up,
            since: NOW,
            detail: String::new(),
        };
        let payload = serde_json::to_vec(&health).unwrap();
        let message = Message { topic: format!("{}/x", topic::HEALTH), payload: payload.into() };
        technician.take(&message).unwrap();
    }
    assert_eq!(technician.health.len(), DEVICES_MAX);
}
