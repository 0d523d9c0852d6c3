use super::*;
use crate::message::StaffAnswer;
use crate::store::Facing;
use crate::units::{Currency, Mass};

fn map() -> StoreMap {
    let product = |id: &str, ko: &str, en: &str, price| Product {
        id: id.into(),
        names: [("ko".to_owned(), ko.to_owned()), ("en".to_owned(), en.to_owned())].into(),
        price: Money { minor: price, currency: Currency::KRW },
        mass: Mass(5000),
        mass_sd: Mass(10),
    };
    StoreMap {
        name: "Test".to_owned(),
        bounds: [0.0, 0.0, 8.0, 6.0],
        gondolas: Vec::new(),
        lanes: Vec::new(),
        cameras: Vec::new(),
        plates: Vec::new(),
        products: vec![
            product("8801115114154", "서울우유 1L", "Seoul milk 1 l", 2980),
            product("071142008582", "생수 500ml", "Spring water", 900),
            product("00012345600012", "바나나", "Banana", 4980),
            product("own-7", "바닐라 라떼", "Vanilla latte", 3000),
            product("8801043014809", "신라면 큰컵", "Shin ramyun big cup", 1500),
        ],
        facings: vec![Facing {
            product: "8801115114154".into(),
            plates: vec![
                PlateId { gondola: 1, shelf: 2, plate: 3 },
                PlateId { gondola: 1, shelf: 2, plate: 4 },
            ],
        }],
    }
}

#[test]
fn gtins_are_found_in_every_form() {
    let milk = Some("08801115114154");
    let water = Some("00071142008582");
    let table = [
        ("8801115114154", milk),
        (" 8801115114154\r\n", milk),
        ("08801115114154", milk),
        ("8801115114155", None),
        ("071142008582", water),
        ("0071142008582", water),
        ("00071142008582", water),
        ("96385074", Some("00000096385074")),
        ("]E08801115114154", milk),
        ("]E496385074", Some("00000096385074")),
        ("https://id.gs1.org/01/08801115114154", milk),
        ("https://shop.example/ko/01/08801115114154/10/ABC?17=271231", milk),
        ("HTTPS://EXAMPLE.COM/gtin/8801115114154#x", milk),
        ("https://shop.example/01/8801115114155", None),
        ("https://shop.example/01", None),
        ("https://shop.example/about", None),
        ("(01)08801115114154(17)271231(10)ABC", milk),
        ("(01)0880111511415", None),
        ("]C1010880111511415417271231", milk),
        ("]d20108801115114154\u{1d}10ABC", milk),
        ("\u{1d}010880111511415410ABC", milk),
        ("010880111511415410ABC", milk),
        ("]C1", None),
        ("]", None),
        ("]C", None),
        ("]ÄÖ", None),
        ("(01)한글한글한글한글한글한글한글", None),
        ("", None),
        ("hello", None),
        ("12345", None),
    ];
    for (text, expected) in table {
        assert_eq!(gtin(text).as_deref(), expected, "{text:?}");
    }
    assert_eq!(gtin(&"01".repeat(228)), None, "an entry code is no product");
}

#[test]
fn any_text_is_survived() {
    let catalogue = Catalogue::new(&map());
    let letters: Vec<char> = "01(]Cd2)/:ht가ㄴ\u{1d}9 €".chars().collect();
    let mut seed = 7_u64;
    for length in 0..40 {
        for _ in 0..200 {
            let mut text = String::new();
            for _ in 0..length {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push(letters[(seed >> 33) as usize % letters.len()]);
            }
            let _ = catalogue.scanned(&text);
            let _ = catalogue.search(&text, Language::Korean);
        }
    }
}

#[test]
fn scans_find_products_of_this_store() {
    let catalogue = Catalogue::new(&map());
    let table = [
        ("8801115114154", Scanned::Product("8801115114154".into())),
        ("0071142008582", Scanned::Product("071142008582".into())),
        ("https://x.example/01/00071142008582", Scanned::Product("071142008582".into())),
        ("own-7", Scanned::Product("own-7".into())),
        ("00012345600012", Scanned::Product("00012345600012".into())),
        ("96385074", Scanned::Unknown("96385074".to_owned())),
        ("https://stile.example/", Scanned::NotAProduct),
    ];
    for (text, expected) in table {
        assert_eq!(catalogue.scanned(text), expected, "{text:?}");
    }
    let found = catalogue.found(&"8801115114154".into(), Language::English).unwrap();
    assert_eq!((found.name.as_str(), found.price.minor), ("Seoul milk 1 l", 2980));
    assert_eq!(found.place, Some(PlateId { gondola: 1, shelf: 2, plate: 3 }));
    assert_eq!(catalogue.found(&"own-7".into(), Language::English).unwrap().place, None);
}

#[test]
fn search_understands_syllables_initials_and_case() {
    let catalogue = Catalogue::new(&map());
    let table: [(&str, &[&str]); 18] = [
        ("우유", &["서울우유 1L"]),
        ("서울 우유", &["서울우유 1L"]),
        ("ㅅㅇㅇㅇ", &["서울우유 1L"]),
        ("ㅂㄴㄴ", &["바나나"]),
        ("바", &["바나나", "바닐라 라떼"]),
        ("반", &["바나나", "바닐라 라떼"]),
        ("바나", &["바나나"]),
        ("바ㄴ", &["바나나", "바닐라 라떼"]),
        ("시", &["신라면 큰컵"]),
        ("ㅅㄹㅁ", &["신라면 큰컵"]),
        ("라", &["바닐라 라떼", "신라면 큰컵"]),
        ("MILK", &["서울우유 1L"]),
        ("big cup", &["신라면 큰컵"]),
        ("1L", &["서울우유 1L"]),
        ("8801", &["서울우유 1L", "신라면 큰컵"]),
        ("500ml", &["생수 500ml"]),
        ("없는것", &[]),
        ("바나나나나나", &[]),
    ];
    for (query, expected) in table {
        let names: Vec<String> =
            catalogue.search(query, Language::Korean).into_iter().map(|hit| hit.name).collect();
        assert_eq!(names, expected, "{query:?}");
    }
    assert_eq!(catalogue.search("", Language::Korean).len(), 5);
}

const T0: Instant = Instant(1_000_000);

struct Bench {
    kiosk: Kiosk,
    now: Instant,
    calls: Vec<StaffCall>,
}

impl Bench {
    fn new() -> Self {
        Self { kiosk: Kiosk::new("kiosk-1", &map(), Language::Korean), now: T0, calls: Vec::new() }
    }

    fn put(&mut self, input: Input) -> Page {
        let mut out = Vec::new();
        self.kiosk.handle(self.now, input, &mut out);
        self.calls.extend(out.into_iter().map(|Command::Call(call)| call));
        self.kiosk.view(self.now).page
    }

    fn touch(&mut self, touch: Touch) -> Page {
        self.put(Input::Touch(touch))
    }

    fn answer(&mut self, state: StaffCallState) -> Page {
        let call = self.calls.last().unwrap().id.clone();
        self.put(Input::Answer(StaffAnswer { call, state }))
    }

    /// Lets time pass as the shell does: from deadline to deadline.
    fn wait(&mut self, seconds: u64) -> Page {
        let end = self.now.after(Millis::from_seconds(seconds));
        while let Some(next) = self.kiosk.deadline(self.now).filter(|next| *next <= end) {
            assert!(next >= self.now, "a deadline in the past never ends");
            self.now = self.now.max(next);
            self.put(Input::Tick);
        }
        self.now = end;
        self.put(Input::Tick)
    }
}

#[test]
fn a_shopper_scans_searches_and_goes_back() {
    let mut bench = Bench::new();
    assert_eq!(bench.put(Input::Tick), Page::Idle);
    let Page::Found(found) = bench.put(Input::Scan("8801115114154".into())) else { panic!("not found") };
    assert_eq!(found.name, "서울우유 1L");
    assert_eq!(bench.touch(Touch::Back), Page::Home);
    assert_eq!(bench.touch(Touch::Language(Language::English)), Page::Home);
    assert!(matches!(bench.touch(Touch::Search), Page::Search { hits, .. } if hits.len() == 5));
    let Page::Search { hits, .. } = bench.touch(Touch::Query("ban".into())) else { panic!("no search") };
    assert_eq!(hits[0].name, "Banana");
    assert!(matches!(bench.touch(Touch::Choose(hits[0].product.clone())), Page::Found(_)));
    assert!(matches!(bench.touch(Touch::Back), Page::Search { query, .. } if query == "ban"));
    let scanned = "96385074".to_owned();
    assert_eq!(bench.put(Input::Scan(scanned.clone())), Page::NotFound { scanned });
    assert_eq!(bench.put(Input::Scan("https://x.example".into())), Page::NotAProduct);
    assert_eq!(bench.touch(Touch::Choose("nothing".into())), Page::NotAProduct);
    assert_eq!(bench.touch(Touch::Done), Page::Idle);
    assert_eq!(bench.kiosk.view(bench.now).language, Language::Korean, "the next shopper starts afresh");
}

#[test]
fn an_abandoned_screen_warns_and_forgets() {
    let mut bench = Bench::new();
    bench.touch(Touch::Language(Language::English));
    bench.touch(Touch::HighContrast(true));
    bench.touch(Touch::LowReach(true));
    bench.touch(Touch::Query("secret".into()));
    bench.wait(19);
    assert_eq!(bench.kiosk.view(bench.now).leaving_s, None);
    bench.wait(1);
    assert_eq!(bench.kiosk.view(bench.now).leaving_s, Some(10));
    bench.wait(4);
    assert_eq!(bench.kiosk.view(bench.now).leaving_s, Some(6));
    assert!(matches!(bench.touch(Touch::MoreTime), Page::Search { .. }));
    assert!(matches!(bench.wait(59), Page::Search { .. }));
    assert!(matches!(bench.touch(Touch::Elsewhere), Page::Search { .. }));
    assert_eq!(bench.wait(30), Page::Idle);
    let view = bench.kiosk.view(bench.now);
    assert_eq!((view.low_reach, view.high_contrast, view.language), (false, false, Language::Korean));
    assert!(matches!(bench.touch(Touch::Search), Page::Search { query, .. } if query.is_empty()));
    assert_eq!(bench.wait(3600), Page::Idle);
    assert_eq!(bench.kiosk.deadline(bench.now), None, "an idle kiosk sleeps");
}

#[test]
fn a_call_is_repeated_answered_and_closed() {
    let mut bench = Bench::new();
    bench.put(Input::Scan("8801115114154".into()));
    assert_eq!(bench.touch(Touch::CallStaff), Page::Call(CallView::Sending));
    bench.wait(5);
    assert_eq!(bench.calls.len(), 3, "at once, after 2 s and after 4 s");
    assert!(bench.calls.iter().all(|call| call.id == bench.calls[0].id));
    assert_eq!(bench.wait(5), Page::Call(CallView::Lost));
    assert_eq!(bench.answer(StaffCallState::Sent), Page::Call(CallView::Sent));
    let before = bench.calls.len();
    bench.wait(20);
    assert_eq!(bench.calls.len(), before + 2, "reminded every 10 s");
    assert_eq!(bench.answer(StaffCallState::Coming), Page::Call(CallView::Coming));
    assert_eq!(bench.answer(StaffCallState::Seen), Page::Call(CallView::Coming), "never backwards");
    bench.touch(Touch::CallStaff);
    assert!(bench.calls.iter().all(|call| call.id == bench.calls[0].id), "one call at a time");
    assert_eq!(bench.answer(StaffCallState::Closed), Page::Call(CallView::Closed));
    let before = bench.calls.len();
    assert_eq!(bench.wait(5), Page::Idle);
    assert_eq!(bench.calls.len(), before);
    bench.touch(Touch::CallStaff);
    assert_ne!(bench.calls.last().unwrap().id, bench.calls[0].id);
}

#[test]
fn a_call_outlives_its_page_and_can_be_taken_back() {
    let mut bench = Bench::new();
    bench.touch(Touch::CallStaff);
    bench.answer(StaffCallState::Sent);
    let before = bench.calls.len();
    assert_eq!(bench.wait(300), Page::Idle);
    assert!(bench.calls.len() > before + 25, "still reminding");
    assert_eq!(bench.touch(Touch::CallStaff), Page::Call(CallView::Sent), "the same call");
    assert_eq!(bench.touch(Touch::CancelCall), Page::Home);
    let before = bench.calls.len();
    bench.wait(25);
    assert_eq!(bench.calls.len(), before);
    let other = StaffAnswer { call: "kiosk-2/1".into(), state: StaffCallState::Coming };
    assert_eq!(bench.put(Input::Answer(other)), Page::Home);
}

#[test]
fn a_dead_reader_is_shown() {
    let mut bench = Bench::new();
    bench.put(Input::Reader(false));
    assert!(!bench.kiosk.view(bench.now).reader);
    bench.put(Input::Reader(true));
    assert!(bench.kiosk.view(bench.now).reader);
}
