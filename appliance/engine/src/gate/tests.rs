//! Tables for the gate, and its safety rules checked over every short sequence of inputs and over long random
//! ones.

use std::collections::BTreeMap;

use super::*;

const START: Instant = Instant(1_000_000);
const ALICE: MemberHandle = MemberHandle(1);
const BOB: MemberHandle = MemberHandle(2);

fn admitted(member: MemberHandle, passages: u8) -> Admitted {
    let grant = Grant {
        member,
        party: passages,
        party_member: 0,
        staff: false,
        wide: false,
        age_proof: false,
        guest: false,
    };
    Admitted { grant, passages }
}

/// A gate with its oracle: each input is checked against the rules of the design, "Safety of the gate".
#[derive(Clone)]
struct Bench {
    gate: Gate,
    now: Instant,
    /// What the turnstile's lines are, as far as anybody drove them.
    lines: Outputs,
    entry_since: Option<Instant>,
    entry_ended: Option<Instant>,
    exit_since: Option<Instant>,
    passage: [Option<bool>; 2],
    open: bool,
    ready: bool,
    fire: Option<bool>,
    emergency: Option<bool>,
    exit_requests: u32,
    /// Passages granted and neither taken nor lapsed.
    live: BTreeMap<MemberHandle, u32>,
    out: Vec<Command>,
}

impl Bench {
    /// Opened, with every line reported, ready and idle.
    fn new() -> Self {
        let mut bench = Self::closed();
        bench.input(Input::Found);
        for input in [
            Input::PassageLine(Direction::Entry, false),
            Input::PassageLine(Direction::Exit, false),
            Input::Ready(true),
            Input::Detector(false),
            Input::FireAlarm(false),
            Input::EmergencyButton(false),
        ] {
            bench.input(input);
        }
        bench
    }

    fn closed() -> Self {
        Self {
            gate: Gate::new(LaneId::from("entry-1"), true, START),
            now: START,
            lines: Outputs::default(),
            entry_since: None,
            entry_ended: None,
            exit_since: None,
            passage: [None; 2],
            open: false,
            ready: false,
            fire: None,
            emergency: None,
            exit_requests: 0,
            live: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    fn live(&self) -> u32 {
        self.live.values().sum()
    }

    /// Lets time pass, with ticks at every deadline as the shell gives them.
    fn wait(&mut self, span: Millis) {
        let end = self.now.after(span);
        let mut ticks = 0;
        while let Some(deadline) = self.gate.deadline().filter(|deadline| *deadline <= end) {
            assert!(deadline >= self.now, "a deadline in the past is a busy loop");
            ticks += if deadline == self.now { 1 } else { 0 };
            assert!(ticks < 8, "the gate keeps asking for the same moment");
            self.now = deadline;
            self.input(Input::Tick);
        }
        self.now = end;
    }

    fn go_through(&mut self, direction: Direction) {
        self.input(Input::PassageLine(direction, true));
        self.input(Input::PassageLine(direction, false));
    }

    /// The oracle.
    fn input(&mut self, input: Input) {
        let expect_refusal = self.gate.refuses();
        let mut passage = None;
        match &input {
            Input::Grant(admitted) => {
                *self.live.entry(admitted.grant.member).or_default() += u32::from(admitted.passages)
            }
            Input::PassageLine(direction, active) => {
                let before = self.passage[*direction as usize].replace(*active);
                passage = (*active && before == Some(false)).then_some(*direction);
            }
            Input::Ready(active) => self.ready = *active,
            Input::FireAlarm(active) => self.fire = Some(*active),
            Input::EmergencyButton(active) => {
                let before = self.emergency.replace(*active);
                self.exit_requests += u32::from(*active && before == Some(false));
            }
            Input::Lost | Input::Found => {
                self.open = matches!(input, Input::Found);
                self.ready = false;
                self.fire = self.fire.filter(|fire| *fire);
                self.passage = [None; 2];
                self.emergency = None;
                // The lines of a lost turnstile fall to inactive by hardware.
                self.note_lines(Outputs::default());
            }
            Input::Deny(_) | Input::Detector(_) | Input::Tick => {}
        }
        let granted = matches!(input, Input::Grant(_));
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        self.gate.handle(self.now, input, &mut out);
        for command in &out {
            match command {
                Command::Drive(outputs) => {
                    assert!(self.open, "nothing is driven while the turnstile is lost");
                    self.note_lines(*outputs);
                }
                Command::Passed { at, direction, authority } => {
                    assert_eq!(*at, self.now);
                    assert_eq!(
                        passage.take(),
                        Some(*direction),
                        "a passage is reported once, when it happens"
                    );
                    match (direction, authority) {
                        (Direction::Exit, authority) => {
                            assert_eq!(*authority, Authority::Free, "exit is free")
                        }
                        (Direction::Entry, Authority::Grant(grant)) => {
                            let live = self
                                .live
                                .get_mut(&grant.member)
                                .expect("a passage uses a grant that was given");
                            assert!(*live > 0, "one grant, at most its passages");
                            *live -= 1;
                        }
                        (Direction::Entry, Authority::Free) => {
                            assert_eq!(self.fire, Some(true), "entry is free in an evacuation only");
                        }
                        (Direction::Entry, Authority::None) => {
                            assert_eq!(self.live(), 0, "who uses a live grant is not a tailgater");
                        }
                    }
                }
                Command::Lapsed { member, passages } => {
                    let live = self.live.get_mut(member).expect("only what was granted lapses");
                    *live = live.checked_sub(u32::from(*passages)).expect("no more lapses than was granted");
                }
                Command::Signal(signal) => {
                    assert!(granted || *signal == Signal::Bad, "a good signal answers a grant");
                    assert!(*signal == Signal::Bad || expect_refusal.is_none());
                }
            }
        }
        self.live.retain(|_, live| *live > 0);
        self.out = out;
        self.check_levels();
    }

    fn note_lines(&mut self, outputs: Outputs) {
        match (self.entry_since, outputs.unlock_entry) {
            (None, true) => {
                if let Some(ended) = self.entry_ended {
                    assert!(
                        self.now.since(ended) >= UNLOCK_GAP || ended > self.now,
                        "pulses need a gap to be two"
                    );
                }
                self.entry_since = Some(self.now);
            }
            (Some(_), false) => {
                self.entry_since = None;
                self.entry_ended = self.open.then_some(self.now);
            }
            (None, false) | (Some(_), true) => {}
        }
        match (self.exit_since, outputs.unlock_exit) {
            (None, true) => {
                self.exit_requests =
                    self.exit_requests.checked_sub(1).expect("an exit pulse answers the emergency button");
                self.exit_since = Some(self.now);
            }
            (Some(_), false) => self.exit_since = None,
            (None, false) | (Some(_), true) => {}
        }
        self.lines = outputs;
    }

    fn check_levels(&self) {
        if self.fire == Some(true) {
            assert_eq!(self.lines, Outputs::default(), "fire alarm: nothing we do holds a line");
            assert_eq!(self.gate.view().notice, Notice::Evacuate);
            assert_eq!(self.live(), 0);
        }
        if !self.open || !self.ready || self.fire.is_none() {
            assert_eq!(self.lines, Outputs::default(), "a lost or broken turnstile has inactive lines");
            assert_eq!(self.live(), 0);
        }
        assert!(!self.lines.unlock_entry || self.live() > 0, "no unlock without a live grant");
        for since in [self.entry_since, self.exit_since].into_iter().flatten() {
            assert!(self.now.since(since) < UNLOCK_MAX, "an unlock is a pulse");
            assert!(self.gate.deadline().is_some_and(|deadline| deadline <= since.after(UNLOCK_MAX)));
        }
        let view = self.gate.view();
        assert_eq!(view.status == GateStatus::Open, self.live() > 0 || self.fire == Some(true));
    }

    /// Phase 2: everything heals, and the gate must lock and serve again.
    fn heal(mut self) {
        self.input(Input::Lost);
        self.wait(Millis(10));
        self.input(Input::Found);
        for input in [
            Input::PassageLine(Direction::Entry, false),
            Input::PassageLine(Direction::Exit, false),
            Input::FireAlarm(false),
            Input::EmergencyButton(false),
            Input::Detector(false),
            Input::Ready(true),
        ] {
            self.input(input);
        }
        self.wait(Millis::from_seconds(120));
        let view = self.gate.view();
        assert_eq!((view.status, view.notice), (GateStatus::Closed, Notice::Idle));
        assert_eq!((self.live(), self.lines, self.gate.deadline()), (0, Outputs::default(), None));
        self.input(Input::Grant(admitted(BOB, 1)));
        assert!(self.lines.unlock_entry, "a healed gate serves");
    }
}

fn alphabet() -> Vec<Option<Input>> {
    vec![
        Some(Input::Grant(admitted(ALICE, 1))),
        Some(Input::Grant(admitted(BOB, 2))),
        Some(Input::Deny(DenyReason::Stale)),
        Some(Input::PassageLine(Direction::Entry, true)),
        Some(Input::PassageLine(Direction::Entry, false)),
        Some(Input::PassageLine(Direction::Exit, true)),
        Some(Input::PassageLine(Direction::Exit, false)),
        Some(Input::Ready(true)),
        Some(Input::Ready(false)),
        Some(Input::Detector(true)),
        Some(Input::Detector(false)),
        Some(Input::FireAlarm(true)),
        Some(Input::FireAlarm(false)),
        Some(Input::EmergencyButton(true)),
        Some(Input::EmergencyButton(false)),
        Some(Input::Lost),
        Some(Input::Found),
        None,
    ]
}

#[test]
fn every_short_sequence_is_safe() {
    fn deeper(bench: &Bench, alphabet: &[Option<Input>], depth: usize, count: &mut u64) {
        *count += 1;
        if depth == 0 {
            return;
        }
        for symbol in alphabet {
            // Time passes by 120 ms with each symbol, and by 9 s with the symbol of waiting.
            let mut next = bench.clone();
            match symbol {
                Some(input) => {
                    next.wait(Millis(120));
                    next.input(input.clone());
                }
                None => next.wait(Millis::from_seconds(9)),
            }
            deeper(&next, alphabet, depth - 1, count);
        }
    }
    let alphabet = alphabet();
    let mut count = 0;
    for start in [Bench::new(), Bench::closed()] {
        deeper(&start, &alphabet, 4, &mut count);
    }
    let mut granted = Bench::new();
    granted.input(Input::Grant(admitted(BOB, 2)));
    deeper(&granted, &alphabet, 4, &mut count);
    eprintln!("gate: {count} short sequences, none breaks a safety rule");
}

#[test]
fn random_days_are_safe_and_heal() {
    let alphabet = alphabet();
    let mut state: u64 = 2026;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let (mut steps, mut entries) = (0, 0);
    for _ in 0..400 {
        let mut bench = Bench::new();
        let calm = random(3) > 0;
        for _ in 0..400 {
            let span = [0, 3, 40, 99, 100, 150, 300, 700, 2_500, 9_000][random(10) as usize];
            bench.wait(Millis(span));
            match random(4) {
                0 => bench.input(Input::Grant(admitted(MemberHandle(random(5)), 1 + random(4) as u8))),
                1 => bench.go_through(if random(4) == 0 { Direction::Exit } else { Direction::Entry }),
                _ if calm => bench.input(Input::Detector(random(2) == 0)),
                _ => match &alphabet[random(alphabet.len() as u64) as usize] {
                    Some(input) => bench.input(input.clone()),
                    None => bench.wait(Millis::from_seconds(9)),
                },
            }
            steps += 1;
        }
        entries += bench.gate.view().entries;
        bench.heal();
    }
    assert!(entries > 1_000, "the walk must go through the gate to prove anything: {entries}");
    eprintln!(
        "gate: {steps} random steps with {entries} entries, none breaks a safety rule, every day heals"
    );
}

#[test]
fn a_grant_is_a_pulse_and_a_passage() {
    let mut bench = Bench::new();
    assert_eq!(bench.gate.view().notice, Notice::Idle);
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!(bench.out[0], Command::Signal(Signal::Good));
    assert!(bench.lines.unlock_entry && bench.lines.beacon_green);
    assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining: 1 });
    bench.wait(Millis(299));
    assert!(bench.lines.unlock_entry);
    bench.wait(Millis(1));
    assert!(!bench.lines.unlock_entry && bench.lines.beacon_green);
    bench.wait(Millis(1_500));
    bench.go_through(Direction::Entry);
    assert_eq!((bench.live(), bench.gate.view().entries, bench.gate.view().unlocks), (0, 1, 1));
    assert_eq!(bench.gate.view().status, GateStatus::Closed);
    bench.wait(Millis::from_seconds(2));
    assert_eq!(bench.gate.view().notice, Notice::Idle);
}

#[test]
fn a_grant_not_taken_lapses() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(7_999));
    assert_eq!(bench.live(), 1);
    bench.wait(Millis(1));
    assert_eq!(bench.live(), 0);
    assert_eq!(bench.gate.view().notice, Notice::ScanHere);
    bench.go_through(Direction::Entry);
    assert_eq!(bench.gate.view().notice, Notice::StepBack);
}

#[test]
fn a_second_person_on_one_grant_is_told_to_step_back() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(900));
    bench.go_through(Direction::Entry);
    bench.wait(Millis(400));
    bench.input(Input::PassageLine(Direction::Entry, true));
    let passed = Command::Passed { at: bench.now, direction: Direction::Entry, authority: Authority::None };
    assert!(bench.out.contains(&passed));
    assert!(bench.lines.beacon_red);
    assert_eq!(bench.gate.view().notice, Notice::StepBack);
}

#[test]
fn a_contact_that_bounces_is_one_person() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 2)));
    bench.wait(Millis(900));
    for _ in 0..3 {
        // The oracle lets a silent edge be silent; what counts is the total.
        bench.go_through(Direction::Entry);
        bench.wait(Millis(10));
    }
    assert_eq!((bench.live(), bench.gate.view().entries), (1, 1));
}

#[test]
fn a_party_counts_down_with_a_pulse_for_each() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 3)));
    for (place, remaining) in [(0, 2), (1, 1), (2, 0)] {
        bench.wait(Millis(700));
        bench.input(Input::PassageLine(Direction::Entry, true));
        let passed = bench.out.iter().find_map(|command| match command {
            Command::Passed { authority: Authority::Grant(grant), .. } => Some(grant.party_member),
            _ => None,
        });
        assert_eq!(passed, Some(place));
        assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining });
        bench.input(Input::PassageLine(Direction::Entry, false));
    }
    bench.wait(Millis(700));
    assert_eq!((bench.gate.view().unlocks, bench.gate.view().status), (3, GateStatus::Closed));
}

#[test]
fn a_quick_party_member_still_gets_an_own_pulse() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 2)));
    bench.wait(Millis(150));
    bench.go_through(Direction::Entry);
    assert!(!bench.lines.unlock_entry, "the pulse of the first ends with the passage");
    bench.wait(Millis(199));
    assert!(!bench.lines.unlock_entry);
    bench.wait(Millis(1));
    assert!(bench.lines.unlock_entry);
}

#[test]
fn slow_people_keep_their_grant() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(7_000));
    bench.input(Input::Detector(true));
    bench.wait(Millis(20_000));
    assert_eq!(bench.live(), 1, "somebody is still in the passage");
    bench.input(Input::Detector(false));
    bench.wait(Millis(1_900));
    bench.go_through(Direction::Entry);
    assert_eq!(bench.gate.view().entries, 1);
    assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining: 0 });

    let mut wide = Bench::new();
    let grant = Grant { wide: true, ..admitted(BOB, 1).grant };
    wide.input(Input::Grant(Admitted { grant, passages: 1 }));
    assert!(wide.lines.wide);
    wide.wait(Millis(15_999));
    assert_eq!(wide.live(), 1);
}

#[test]
fn exits_need_nothing() {
    let mut bench = Bench::new();
    bench.go_through(Direction::Exit);
    assert_eq!((bench.gate.view().exits, bench.gate.view().notice), (1, Notice::Goodbye));
    bench.input(Input::Grant(admitted(ALICE, 1)));
    bench.wait(Millis(500));
    bench.go_through(Direction::Exit);
    assert_eq!(bench.live(), 1, "somebody leaving takes no grant");
    bench.input(Input::Ready(false));
    bench.wait(Millis(500));
    bench.go_through(Direction::Exit);
    assert_eq!(bench.gate.view().exits, 3);
}

#[test]
fn a_fire_alarm_ends_everything_and_frees_everybody() {
    let mut bench = Bench::new();
    bench.input(Input::Grant(admitted(ALICE, 2)));
    bench.input(Input::FireAlarm(true));
    assert_eq!((bench.lines, bench.live()), (Outputs::default(), 0));
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneClosed));
    for direction in [Direction::Exit, Direction::Entry] {
        bench.input(Input::PassageLine(direction, true));
        assert_eq!(bench.out, [Command::Passed { at: bench.now, direction, authority: Authority::Free }]);
    }
    bench.input(Input::Lost);
    bench.input(Input::Found);
    bench.input(Input::Ready(true));
    assert_eq!(bench.gate.view().notice, Notice::Evacuate, "an alarm outlives a lost cable");
    bench.input(Input::FireAlarm(false));
    assert_eq!(bench.gate.refuses(), None);
}

#[test]
fn a_broken_turnstile_is_out_of_order() {
    for broken in [Input::Lost, Input::Ready(false)] {
        let mut bench = Bench::new();
        bench.input(Input::Grant(admitted(ALICE, 1)));
        bench.input(broken);
        assert_eq!(bench.live(), 0);
        let view = bench.gate.view();
        assert_eq!((view.status, view.notice), (GateStatus::Malfunction, Notice::OutOfOrder));
        assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneFaulty));
        bench.heal();
    }
}

#[test]
fn lines_that_were_active_when_opened_are_no_passages() {
    let mut bench = Bench::closed();
    bench.input(Input::Found);
    assert_eq!(
        bench.out,
        [Command::Drive(Outputs::default())],
        "an opened turnstile is driven to the safe state"
    );
    bench.input(Input::PassageLine(Direction::Entry, true));
    bench.input(Input::Ready(true));
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneFaulty), "the fire line is not known yet");
    bench.input(Input::FireAlarm(false));
    assert_eq!((bench.gate.view().entries, bench.gate.refuses()), (0, None));
}

#[test]
fn somebody_in_the_passage_blocks_it() {
    let mut bench = Bench::new();
    bench.input(Input::Detector(true));
    bench.wait(Millis(2_999));
    assert_eq!(bench.gate.view().status, GateStatus::Closed);
    bench.wait(Millis(1));
    assert_eq!((bench.gate.view().status, bench.gate.view().notice), (GateStatus::Blocked, Notice::StepBack));
    bench.input(Input::Detector(false));
    assert_eq!((bench.gate.view().status, bench.gate.view().notice), (GateStatus::Closed, Notice::Idle));
}

#[test]
fn the_emergency_button_releases_the_exit() {
    let mut bench = Bench::new();
    bench.input(Input::EmergencyButton(true));
    assert!(bench.lines.unlock_exit);
    bench.wait(Millis(300));
    assert!(!bench.lines.unlock_exit);
}

#[test]
fn refusals_are_shown_but_never_over_a_welcome() {
    let mut bench = Bench::new();
    bench.input(Input::Deny(DenyReason::Stale));
    assert_eq!(bench.gate.view().notice, Notice::Refused { reason: DenyReason::Stale });
    bench.wait(Millis(4_000));
    assert_eq!(bench.gate.view().notice, Notice::ScanHere);
    bench.wait(Millis(6_000));
    assert_eq!(bench.gate.view().notice, Notice::Idle);
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneBusy));
    bench.input(Input::Deny(DenyReason::LaneBusy));
    assert_eq!((bench.out.len(), bench.gate.view().denials), (0, 1));
    assert_eq!(bench.gate.view().notice, Notice::Welcome { remaining: 1 });
}

#[test]
fn an_exit_lane_takes_no_entries() {
    let gate = Gate::new(LaneId::from("exit-1"), false, START);
    let mut bench = Bench { gate, ..Bench::closed() };
    bench.input(Input::Found);
    bench.input(Input::Ready(true));
    bench.input(Input::FireAlarm(false));
    assert_eq!(bench.gate.refuses(), Some(DenyReason::LaneClosed));
    bench.input(Input::Grant(admitted(ALICE, 1)));
    assert_eq!((bench.live(), bench.lines.unlock_entry), (0, false));
}
