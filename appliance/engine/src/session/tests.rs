//! Behaviours of the store as tables, and its oracles as properties.

use proptest::prelude::*;

use super::*;
use crate::cart::{Near, Step};
use crate::message::Direction;
use crate::store::{Facing, Lane, Plate, Product};
use crate::units::{LaneId, ProductId};

const WATER: u16 = 1;
const TEA: u16 = 2;

/// Eight plates in a row on one shelf, product n on plate n; masses in grams. 3 and 4 are twins.
const MASSES: [f64; 8] = [500.0, 330.0, 250.0, 250.4, 120.0, 90.0, 45.0, 800.0];

fn plate(number: u16) -> PlateId {
    PlateId { gondola: 1, shelf: 1, plate: number }
}

fn product(number: u16) -> ProductId {
    ProductId(format!("P{number}"))
}

fn map() -> StoreMap {
    let numbers = 1..=8_u16;
    let money = |minor| Money { minor, currency: Currency::KRW };
    StoreMap {
        name: "test".to_owned(),
        bounds: [0.0, 0.0, 5.0, 5.0],
        gondolas: Vec::new(),
        lanes: vec![Lane {
            id: LaneId::from("door"),
            position: [0.0, 0.0],
            inward: [0.0, 1.0],
            entry: true,
            exit: true,
        }],
        cameras: Vec::new(),
        plates: numbers
            .clone()
            .map(|n| Plate {
                id: plate(n),
                position: [f64::from(n), 2.0, 1.0],
                front: [0.0, -1.0],
                width: 0.3,
            })
            .collect(),
        products: numbers
            .clone()
            .zip(MASSES)
            .map(|(n, grams)| Product {
                id: product(n),
                names: [("en".to_owned(), format!("Product {n}"))].into(),
                price: money(i64::from(n) * 100),
                mass: Mass::from_grams(grams),
                mass_sd: Mass::from_grams(0.8),
            })
            .collect(),
        facings: numbers.map(|n| Facing { product: product(n), plates: vec![plate(n)] }).collect(),
    }
}

/// Feeds a store, keeps its journal and what it said.
struct Bench {
    store: Store,
    journal: Vec<(Instant, MessageId, Input)>,
    said: Vec<Command>,
    now: u64,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        Self { store: Store::new(map(), policy), journal: Vec::new(), said: Vec::new(), now: 1_000_000 }
    }

    fn input(&mut self, input: Input) {
        let id = MessageId(format!("l/{}", self.journal.len()));
        self.store.handle(Instant(self.now), &id, &input, &mut self.said);
        self.journal.push((Instant(self.now), id, input));
    }

    fn passage(&mut self, track: Option<u64>, direction: Direction, authority: Authority) -> Passage {
        self.now += 2000;
        let id = MessageId(format!("gate/{}", self.journal.len()));
        let passage = Passage { id, lane: LaneId::from("door"), at: Instant(self.now), direction, authority };
        let track = track.map(TrackId);
        let evidence = match direction {
            Direction::Entry => Evidence::Entered { passage: passage.clone(), track },
            Direction::Exit => Evidence::Left { passage: passage.clone(), track },
        };
        self.input(Input::Evidence(evidence));
        passage
    }

    fn enter(&mut self, track: u64) {
        let grant = Grant {
            member: MemberHandle(track),
            party: 1,
            party_member: 0,
            staff: false,
            wide: false,
            age_proof: false,
            guest: false,
        };
        self.passage(Some(track), Direction::Entry, Authority::Grant(grant));
    }

    fn leave(&mut self, track: u64) {
        self.passage(Some(track), Direction::Exit, Authority::Free);
        self.mark();
    }

    fn mark(&mut self) {
        self.now += 1000;
        let at = Instant(self.now - 200);
        self.input(Input::Evidence(Evidence::Watermark { at }));
    }

    fn step(&self, number: u16, grams: f64, near: &[(u64, i32)]) -> Step {
        Step {
            plate: plate(number),
            delta: Mass::from_grams(grams),
            sd: Mass::from_grams(0.8),
            from: Instant(self.now),
            to: Instant(self.now + 300),
            level: Mass(10_000),
            near: near.iter().map(|(track, score)| Near { track: TrackId(*track), score: *score }).collect(),
        }
    }

    /// A step of `number`'s plate by those near (track, hundredths of a nat).
    fn shelf(&mut self, number: u16, grams: f64, near: &[(u64, i32)]) {
        self.now += 2000;
        let steps = vec![self.step(number, grams, near)];
        self.input(Input::Evidence(Evidence::Shelf(ShelfEvent { steps })));
        self.mark();
    }

    fn receipts(&self) -> Vec<&Receipt> {
        fn receipt(command: &Command) -> Option<&Receipt> {
            if let Command::Settle(receipt) = command { Some(receipt) } else { None }
        }
        self.said.iter().filter_map(receipt).collect()
    }

    fn reviews(&self) -> Vec<&Review> {
        fn review(command: &Command) -> Option<&Review> {
            if let Command::Review(review) = command { Some(review) } else { None }
        }
        self.said.iter().filter_map(review).collect()
    }

    /// `track:product x count` of every receipt.
    fn charged(&self) -> String {
        let mut out: Vec<String> = Vec::new();
        for receipt in self.receipts() {
            let member = receipt.member.map_or(0, |member| member.0);
            let lines: Vec<String> =
                receipt.lines.iter().map(|line| format!("{}x{}", line.product, line.quantity)).collect();
            out.push(format!("{member}:{}", lines.join(",")));
        }
        out.sort();
        out.join(" ")
    }
}

const ALONE: &[(u64, i32)] = &[(1, 0)];
const FIRST: &[(u64, i32)] = &[(1, 0), (2, -700)];
const SECOND: &[(u64, i32)] = &[(2, 0), (1, -700)];

#[test]
fn table() {
    type Script = &'static [(u16, f64, &'static [(u64, i32)])];
    let cases: &[(&str, Script, &str)] = &[
        ("nothing taken", &[], "1: 2:"),
        ("one thing", &[(1, -500.6, ALONE)], "1:P1x1 2:"),
        ("two at once", &[(2, -660.9, ALONE)], "1:P2x2 2:"),
        ("one after the other", &[(2, -330.0, ALONE), (2, -329.1, ALONE)], "1:P2x2 2:"),
        ("put back at home", &[(1, -500.0, ALONE), (1, 500.0, ALONE)], "1: 2:"),
        ("put back elsewhere", &[(1, -500.0, ALONE), (7, 500.0, ALONE)], "1: 2:"),
        (
            "misplaced, then taken by another",
            &[(1, -500.0, FIRST), (7, 500.0, FIRST), (7, -500.2, SECOND)],
            "1: 2:P1x1",
        ),
        ("each their own", &[(1, -500.0, FIRST), (5, -120.0, SECOND)], "1:P1x1 2:P5x1"),
        ("twins by their plate", &[(3, -250.2, FIRST), (4, -250.2, SECOND)], "1:P3x1 2:P4x1"),
        ("a hand pressed: no product", &[(1, -4.0, ALONE)], "1: 2:"),
        ("a bag set down and taken up", &[(1, 2100.0, ALONE), (1, -2100.0, ALONE)], "1: 2:"),
        ("swapped on the plate", &[(5, -120.0, ALONE), (6, 30.0, ALONE)], "1:P6x1 2:"),
        ("each takes one of the same", &[(2, -660.0, &[(1, 0), (2, 0)])], "1:P2x1 2:P2x1"),
        ("handed over: stays with who took it", &[(1, -500.0, FIRST), (1, 500.0, SECOND)], "1: 2:"),
    ];
    for (name, script, expect) in cases {
        let mut bench = Bench::new(Policy { doubt: Doubt::Likeliest, ..Policy::default() });
        bench.enter(1);
        bench.enter(2);
        for (number, grams, near) in *script {
            bench.shelf(*number, *grams, near);
        }
        bench.leave(1);
        bench.leave(2);
        bench.now += 700_000;
        bench.input(Input::Tick);
        assert_eq!(bench.charged(), *expect, "{name}");
        assert_eq!(bench.store.view(Instant(bench.now)).settled, 2, "{name}");
        assert_eq!(bench.store.deadline(), None, "{name}");
    }
}

#[test]
fn steps_are_parted_by_what_explains_them() {
    type Case = (&'static str, &'static [(u16, f64)], &'static str);
    let cases: [Case; 4] = [
        ("one thing over two plates", &[(1, -200.0), (2, -300.0)], "1:P1x1"),
        ("two things from two plates", &[(1, -500.3), (2, -329.5)], "1:P1x1,P2x1"),
        ("the neighbour feels it", &[(7, -9.0), (8, -800.0)], "1:P8x1"),
        ("one after another on one plate", &[(5, -120.0), (5, -120.4)], "1:P5x2"),
    ];
    for (name, steps, expect) in cases {
        let mut bench = Bench::new(Policy::default());
        bench.enter(1);
        bench.now += 2000;
        let steps = steps.iter().map(|(number, grams)| bench.step(*number, *grams, ALONE)).collect();
        bench.input(Input::Evidence(Evidence::Shelf(ShelfEvent { steps })));
        bench.mark();
        bench.leave(1);
        assert_eq!(bench.charged(), expect, "{name}");
    }
}

#[test]
fn the_receipt_comes_with_the_watermark_and_adds_up() {
    let mut bench = Bench::new(Policy::default());
    bench.enter(1);
    bench.shelf(WATER, -500.0, ALONE);
    bench.shelf(TEA, -660.0, ALONE);
    bench.passage(Some(1), Direction::Exit, Authority::Free);
    assert!(bench.receipts().is_empty());
    assert!(bench.said.iter().any(|command| matches!(command, Command::Close(_))));
    bench.mark();
    let receipt = bench.receipts()[0].clone();
    assert_eq!(receipt.total, Money { minor: 100 + 2 * 200, currency: Currency::KRW });
    assert!(
        receipt.lines.iter().all(|line| line.confidence > 0.95 && line.evidence.len() == 1),
        "{receipt:?}"
    );
    assert!(receipt.settled.since(receipt.left) <= Millis::from_seconds(30));
}

#[test]
fn events_are_weighed_in_order_of_time_whatever_order_they_come_in() {
    let mut bench = Bench::new(Policy::default());
    bench.enter(1);
    bench.now += 2000;
    let pick = ShelfEvent { steps: vec![bench.step(1, -500.0, ALONE)] };
    bench.now += 3000;
    let back = ShelfEvent { steps: vec![bench.step(7, 500.0, ALONE)] };
    bench.input(Input::Evidence(Evidence::Shelf(back)));
    bench.input(Input::Evidence(Evidence::Shelf(pick)));
    bench.mark();
    bench.leave(1);
    assert_eq!(bench.charged(), "1:");
}

/// Shoppers 1 and 2 stand together; one of them took product 5.
fn undecided(policy: Policy) -> Bench {
    let mut bench = Bench::new(policy);
    bench.enter(1);
    bench.enter(2);
    bench.shelf(1, -500.0, FIRST);
    // Time enough for one of them to do both.
    bench.now += 4000;
    bench.shelf(5, -120.0, &[(1, 0), (2, -5)]);
    bench.leave(1);
    bench
}

#[test]
fn a_person_decides_what_is_unclear() {
    let mut bench = undecided(Policy::default());
    assert!(bench.receipts().is_empty());
    assert_eq!(bench.reviews().len(), 1);
    let review = bench.reviews()[0].clone();
    assert_eq!(review.plates, [plate(5)]);
    let view = bench.store.view(Instant(bench.now));
    assert_eq!(view.sessions[0].state, SessionState::InReview);
    let second = view.sessions[1].session.clone();
    let decision = ReviewDecision {
        id: MessageId::from("console/1"),
        event: review.event,
        session: Some(second),
        items: vec![(product(5), 1)],
        by: "staff".to_owned(),
    };
    bench.input(Input::Decision(decision.clone()));
    assert_eq!(bench.charged(), "1:P1x1");
    bench.input(Input::Decision(decision));
    bench.leave(2);
    assert_eq!(bench.charged(), "1:P1x1 2:P5x1");
    assert!(bench.store.view(Instant(bench.now)).reviews.is_empty());
}

#[test]
fn nobody_is_at_two_places_at_once() {
    let take = |pause: u64| {
        let mut bench = Bench::new(Policy::default());
        bench.enter(1);
        bench.enter(2);
        bench.shelf(1, -500.0, FIRST);
        bench.now += pause;
        // A little likelier the first shopper, by how they stand.
        bench.shelf(5, -120.0, &[(1, -40), (2, -110)]);
        bench.shelf(5, -120.0, &[(1, -40), (2, -110)]);
        let view = bench.store.view(Instant(bench.now));
        let carries = |index: usize| view.sessions[index].lines.iter().any(|line| line.product == product(5));
        [carries(0), carries(1)]
    };
    assert_eq!(take(8000), [true, false]);
    assert_eq!(take(0), [false, true], "two seconds after their first reach it was the other, both times");
}

#[test]
fn without_an_answer_nobody_is_charged_for_it() {
    let mut bench = undecided(Policy { review_timeout: Millis::from_seconds(20), ..Policy::default() });
    let deadline = bench.store.deadline().unwrap();
    assert!(deadline > Instant(bench.now));
    bench.now = deadline.0;
    bench.input(Input::Tick);
    assert_eq!(bench.charged(), "1:P1x1");
    assert_eq!(bench.store.deadline(), None);
}

#[test]
fn later_evidence_decides_twins() {
    // Product 3 or 4 from plate 7, where neither belongs; the put-back on 4's own plate tells which it was,
    // and that shopper 1 holds none of it any more.
    let mut bench = Bench::new(Policy::default());
    bench.enter(1);
    bench.shelf(7, -250.2, ALONE);
    let unsure = bench.store.view(Instant(bench.now)).sessions[0].lines.clone();
    assert!(unsure.iter().all(|line| line.confidence < 0.9), "{unsure:?}");
    bench.shelf(4, 250.4, ALONE);
    bench.leave(1);
    assert_eq!(bench.charged(), "1:");
    assert!(bench.reviews().is_empty());
}

#[test]
fn staff_and_strangers() {
    let mut bench = Bench::new(Policy::default());
    let staff = Grant {
        member: MemberHandle(9),
        party: 1,
        party_member: 0,
        staff: true,
        wide: false,
        age_proof: false,
        guest: false,
    };
    bench.passage(Some(9), Direction::Entry, Authority::Grant(staff));
    bench.passage(Some(8), Direction::Entry, Authority::None);
    bench.shelf(1, 6000.0, &[(9, 0)]);
    bench.shelf(1, -500.0, &[(9, 0)]);
    bench.shelf(2, -330.0, &[(8, 0)]);
    bench.leave(9);
    bench.leave(8);
    let receipts = bench.receipts();
    assert_eq!(receipts.len(), 1, "staff get none: {receipts:?}");
    assert_eq!((receipts[0].member, receipts[0].lines.len()), (None, 1));
    assert_eq!(bench.store.view(Instant(bench.now)).settled, 2);
}

#[test]
fn a_party_shares_one_session() {
    let mut bench = Bench::new(Policy::default());
    for (track, party_member) in [(1, 0), (2, 1)] {
        let grant = Grant {
            member: MemberHandle(7),
            party: 3,
            party_member,
            staff: false,
            wide: false,
            age_proof: false,
            guest: false,
        };
        bench.passage(Some(track), Direction::Entry, Authority::Grant(grant));
    }
    bench.shelf(1, -500.0, FIRST);
    bench.shelf(5, -120.0, SECOND);
    bench.leave(1);
    assert!(bench.receipts().is_empty());
    bench.leave(2);
    assert_eq!(bench.charged(), "7:P1x1,P5x1");
}

#[test]
fn passages_without_a_track_and_repeats() {
    let mut bench = Bench::new(Policy::default());
    let grant = Grant {
        member: MemberHandle(1),
        party: 1,
        party_member: 0,
        staff: false,
        wide: false,
        age_proof: false,
        guest: false,
    };
    let entry = bench.passage(None, Direction::Entry, Authority::Grant(grant));
    bench.input(Input::Evidence(Evidence::Entered { passage: entry.clone(), track: None }));
    assert_eq!(bench.store.view(Instant(bench.now)).sessions.len(), 1);
    bench.input(Input::Evidence(Evidence::Bound { passage: entry.id, track: Some(TrackId(4)) }));
    bench.input(Input::Evidence(Evidence::Continued { from: TrackId(4), to: TrackId(5) }));
    bench.shelf(1, -500.0, &[(5, 0)]);
    let exit = bench.passage(None, Direction::Exit, Authority::Free);
    bench.mark();
    assert!(bench.receipts().is_empty());
    bench.input(Input::Evidence(Evidence::Bound { passage: exit.id, track: None }));
    bench.mark();
    assert_eq!(bench.charged(), "1:P1x1", "the only one inside has left");
}

#[test]
fn a_killed_sensing_does_not_keep_anyone_inside() {
    let mut bench = Bench::new(Policy::default());
    bench.enter(1);
    bench.passage(None, Direction::Exit, Authority::Free);
    bench.mark();
    bench.now = bench.store.deadline().unwrap().0;
    bench.input(Input::Tick);
    assert_eq!(bench.receipts().len(), 1);
}

#[test]
fn who_comes_in_after_an_unknown_exit_is_not_who_left() {
    let mut bench = Bench::new(Policy::default());
    bench.enter(1);
    bench.enter(2);
    bench.shelf(1, -500.0, &[(1, 0)]);
    let unknown = bench.passage(None, Direction::Exit, Authority::Free);
    bench.input(Input::Evidence(Evidence::Bound { passage: unknown.id, track: None }));
    let grant = Grant {
        member: MemberHandle(3),
        party: 1,
        party_member: 0,
        staff: false,
        wide: false,
        age_proof: false,
        guest: false,
    };
    let entry = bench.passage(None, Direction::Entry, Authority::Grant(grant));
    bench.input(Input::Evidence(Evidence::Bound { passage: entry.id, track: Some(TrackId(3)) }));
    bench.shelf(2, -134.0, &[(3, 0)]);
    bench.mark();
    assert!(bench.receipts().is_empty(), "nobody knows yet who left");
    bench.passage(Some(2), Direction::Exit, Authority::Free);
    bench.mark();
    let members: Vec<_> = bench.receipts().iter().filter_map(|receipt| receipt.member).collect();
    assert_eq!(members.len(), 2, "the other of the two must have been the unknown: {members:?}");
    assert!(!members.contains(&MemberHandle(3)));
}

#[test]
fn closing_settles_everyone_by_the_likeliest() {
    let mut bench = Bench::new(Policy { doubt: Doubt::Likeliest, ..Policy::default() });
    bench.enter(1);
    bench.enter(2);
    bench.shelf(1, -500.0, &[(1, 0), (2, -60)]);
    bench.input(Input::Close);
    assert_eq!(bench.charged(), "1:P1x1 2:");
    assert_eq!(bench.reviews().len(), 1);
}

#[derive(Clone, Debug)]
enum Act {
    Enter(u64),
    Leave(u64),
    Pick(u64, u16, u16),
    Back(u64, u16),
    Noise(u16, i32),
    Decide(bool),
    Tick,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1..6_u64).prop_map(Act::Enter),
        2 => (1..6_u64).prop_map(Act::Leave),
        6 => (1..6_u64, 1..9_u16, 1..3_u16).prop_map(|(who, what, count)| Act::Pick(who, what, count)),
        3 => (1..6_u64, 1..9_u16).prop_map(|(who, place)| Act::Back(who, place)),
        1 => (1..9_u16, -40..40_i32).prop_map(|(place, grams)| Act::Noise(place, grams)),
        1 => any::<bool>().prop_map(Act::Decide),
        1 => Just(Act::Tick),
    ]
}

/// Plays acts as far as they make sense; returns how many entered.
fn play(bench: &mut Bench, acts: &[Act]) -> usize {
    let mut inside: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
    let mut entered = 0;
    let mut decided = false;
    for act in acts {
        match act {
            Act::Enter(who) if !inside.contains_key(who) => {
                inside.insert(*who, Vec::new());
                bench.enter(*who);
                entered += 1;
            }
            Act::Leave(who) if inside.remove(who).is_some() => bench.leave(*who),
            Act::Pick(who, what, count) if inside.contains_key(who) => {
                let near: Vec<(u64, i32)> =
                    inside.keys().map(|other| (*other, if other == who { 0 } else { -250 })).collect();
                bench.shelf(*what, -MASSES[usize::from(*what) - 1] * f64::from(*count), &near);
                let cart = inside.entry(*who).or_default();
                cart.extend(std::iter::repeat_n(*what, usize::from(*count)));
            }
            Act::Back(who, place) => {
                if let Some(what) = inside.get_mut(who).and_then(Vec::pop) {
                    bench.shelf(*place, MASSES[usize::from(what) - 1], &[(*who, 0)]);
                }
            }
            Act::Noise(place, grams) => bench.shelf(*place, f64::from(*grams), &[]),
            Act::Decide(first) => {
                let reviews = bench.store.view(Instant(bench.now)).reviews;
                if let Some(review) = reviews.first() {
                    let chosen = if *first { review.candidates.first() } else { review.candidates.last() };
                    let decision = ReviewDecision {
                        id: MessageId(format!("console/{}", bench.journal.len())),
                        event: review.event.clone(),
                        session: chosen.and_then(|candidate| candidate.session.clone()),
                        items: chosen.map(|candidate| candidate.items.clone()).unwrap_or_default(),
                        by: "staff".to_owned(),
                    };
                    bench.input(Input::Decision(decision));
                    decided = true;
                }
            }
            Act::Tick => {
                bench.now += 5_000;
                bench.input(Input::Tick);
            }
            Act::Enter(_) | Act::Leave(_) | Act::Pick(..) => {}
        }
        // Items conserved: every hypothesis' carts are what its explanations say, and no cart holds less than
        // none.
        assert!(decided || bench.store.belief.conserved(&bench.store.planogram));
    }
    for who in inside.keys() {
        bench.leave(*who);
    }
    entered
}

proptest! {
    #![proptest_config(crate::properties(200))]

    #[test]
    fn every_session_settles_once_and_the_journal_replays(acts in proptest::collection::vec(act(), 1..40)) {
        let mut bench = Bench::new(Policy::default());
        let entered = play(&mut bench, &acts);
        // Phase two: nothing new comes, and everyone must settle.
        bench.now += 700_000;
        bench.input(Input::Tick);
        let receipts = bench.receipts();
        let ids: BTreeSet<&MessageId> = receipts.iter().map(|receipt| &receipt.id).collect();
        prop_assert_eq!(receipts.len(), entered);
        prop_assert_eq!(ids.len(), entered);
        prop_assert_eq!(bench.store.open_sessions().count(), 0);
        for receipt in &receipts {
            let sum: i64 = receipt.lines.iter().map(|line| line.price.minor * i64::from(line.quantity)).sum();
            prop_assert_eq!(receipt.total.minor, sum);
        }
        let mut again = Store::new(map(), Policy::default());
        let mut said = Vec::new();
        for (at, id, input) in &bench.journal {
            again.handle(*at, id, input, &mut said);
        }
        prop_assert_eq!(&said, &bench.said);
        prop_assert_eq!(&again, &bench.store);
        // A ledger that was sent everything twice (killed between storing and forgetting) says the same
        // passages once.
        let count = again.view(Instant(bench.now)).settled;
        for (at, id, input) in &bench.journal {
            if matches!(input, Input::Evidence(Evidence::Entered { .. } | Evidence::Left { .. })) {
                again.handle(Instant(at.0.max(bench.now)), id, input, &mut said);
            }
        }
        prop_assert_eq!(again.view(Instant(bench.now)).settled, count);
    }
}
