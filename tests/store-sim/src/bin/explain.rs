//! Runs the engine again on traces of simulated days and says what became of every item.
//!
//! A trace (`box day --trace DIR`) holds what the cameras saw, what the plates showed, every passage and
//! the truth. This program gives the first three to the tracker, the sensing and the store, as visiond and
//! cartd do, and compares the receipts with the truth afterwards: seconds instead of minutes for a change
//! in the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use engine::cart::sense::Sensing;
use engine::cart::{Evidence, Step, who};
use engine::floor::{Sighting, Tracker};
use engine::message::{Authority, Direction, FloorView, Passage, PlateReadings, Receipt, Review, topic};
use engine::session::{Command, Input, Policy, Store};
use engine::store::StoreMap;
use engine::time::{Instant, Millis};
use engine::units::{MemberHandle, MessageId, PlateId, ProductId, TrackId};
use serde::Deserialize;

/// As in a simulated day: nobody answers.
const REVIEW_TIMEOUT: Millis = Millis::from_seconds(20);
/// A track is that of the person nearest to it, within this, metres.
const SAME: f64 = 0.9;
/// A step belongs to what a hand did at most this long before or after it.
const SLACK: Millis = Millis(700);

/// Runs the engine again on traces of simulated days and says what became of every item.
#[derive(Parser)]
struct Arguments {
    /// Folders that `box day --trace` wrote.
    traces: Vec<PathBuf>,
    /// List every item that was lost or charged wrongly.
    #[arg(long)]
    list: bool,
    /// List whom each track followed, from when to when.
    #[arg(long)]
    tracks: bool,
    /// Write for every step and everyone near it what `models/eval/who.py` fits, one line each.
    #[arg(long)]
    features: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Truth {
    visits: Vec<Visit>,
    events: Vec<Event>,
    trail: Vec<Trail>,
}

#[derive(Deserialize)]
struct Visit {
    member: MemberHandle,
    people: Vec<u32>,
    left: Option<Instant>,
    out: BTreeMap<ProductId, u32>,
}

#[derive(Deserialize)]
struct Event {
    at: Instant,
    person: u32,
    kind: Kind,
    product: Option<ProductId>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    PickUp { plate: PlateId },
    PutBack { plate: PlateId },
    Touch {},
    HandOver {},
    Passage { inward: bool },
}

#[derive(Deserialize)]
struct Trail {
    at: Instant,
    person: u32,
    position: [f64; 2],
}

/// A day as the engine lived it again.
struct Day {
    truth: Truth,
    /// Where everyone was, by time.
    places: BTreeMap<Instant, Vec<(u32, [f64; 2])>>,
    views: Vec<FloorView>,
    /// Whom each track of each view follows.
    whose: Vec<BTreeMap<TrackId, u32>>,
    steps: Vec<(MessageId, Step)>,
    receipts: Vec<Receipt>,
    reviews: Vec<Review>,
    passages: BTreeMap<MessageId, Passage>,
    bound: BTreeMap<MessageId, Option<TrackId>>,
    continued: Vec<(TrackId, TrackId)>,
    features: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut features =
        arguments.features.as_deref().map(File::create).transpose().context("create features")?;
    let mut sums = Tally::default();
    for folder in &arguments.traces {
        let day = Day::replay(folder, features.is_some())
            .with_context(|| format!("replay {}", folder.display()))?;
        if arguments.tracks {
            day.tell_tracks()?;
        }
        let tally = day.judge(arguments.list)?;
        say(&format!("{} {}", folder.display(), tally.line()))?;
        sums.add(&tally);
        if let Some(file) = &mut features {
            for line in &day.features {
                writeln!(file, "{line}")?;
            }
        }
    }
    say(&format!("all {}", sums.line()))?;
    for (class, count) in &sums.classes {
        say(&format!("{count:5} {class}"))?;
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

impl Day {
    fn replay(folder: &Path, features: bool) -> anyhow::Result<Self> {
        let open = |name: &str| File::open(folder.join(name)).with_context(|| format!("open {name}"));
        let truth: Truth = serde_json::from_reader(BufReader::new(open("truth.json")?))?;
        let map: StoreMap = serde_json::from_reader(BufReader::new(open("map.json")?))?;
        let mut places: BTreeMap<Instant, Vec<(u32, [f64; 2])>> = BTreeMap::new();
        for step in &truth.trail {
            places.entry(step.at).or_default().push((step.person, step.position));
        }
        let mut day = Self {
            truth,
            places,
            views: Vec::new(),
            whose: Vec::new(),
            steps: Vec::new(),
            receipts: Vec::new(),
            reviews: Vec::new(),
            passages: BTreeMap::new(),
            bound: BTreeMap::new(),
            continued: Vec::new(),
            features: Vec::new(),
        };
        let policy = Policy { review_timeout: REVIEW_TIMEOUT, ..Policy::default() };
        let mut services = Services {
            tracker: Tracker::new(&map),
            sensing: Sensing::new(&map, &BTreeMap::new()),
            store: Store::new(map.clone(), policy),
            map,
            next: 0,
            polled: Instant(0),
        };
        for line in BufReader::new(open("bus.jsonl")?).lines() {
            let line = line?;
            let parts =
                line.strip_prefix("{\"topic\":\"").and_then(|rest| rest.split_once("\",\"message\":"));
            let (topic_name, text) = parts.context("a line is no message")?;
            let text = text.strip_suffix('}').context("a line is cut off")?;
            match topic_name {
                topic::TRACE_SIGHTING => {
                    services.tracker.observe(&serde_json::from_str::<Sighting>(text)?);
                }
                topic::TRACE_READINGS => {
                    for (at, plate, mass) in serde_json::from_str::<PlateReadings>(text)?.readings {
                        services.sensing.weight(at, plate, mass);
                    }
                }
                topic::PASSAGE => {
                    let passage: Passage = serde_json::from_str(text)?;
                    services.sensing.passage(&passage);
                    day.passages.insert(passage.id.clone(), passage);
                }
                topic::FLOOR_VIEW => {
                    let at = serde_json::from_str::<FloorView>(text)?.at;
                    let view = services.tracker.view(at);
                    services.sensing.floor(&view);
                    day.whose.push(day.matched(&view));
                    day.views.push(view);
                    services.poll(at, &mut day, features);
                }
                _ => {}
            }
        }
        Ok(day)
    }

    /// Whom each track follows in a view: the nearest pairs first, each person and track once. The tracks
    /// follow heads, which lean far over low shelves, the truth tells where people stand.
    fn matched(&self, view: &FloorView) -> BTreeMap<TrackId, u32> {
        let Some((_, people)) = self.places.range(..=view.at.after(Millis(100))).next_back() else {
            return BTreeMap::new();
        };
        let mut pairs: Vec<(f64, TrackId, u32)> = Vec::new();
        for found in &view.people {
            for (person, place) in people {
                let away = (found.position[0] - place[0]).hypot(found.position[1] - place[1]);
                if away < SAME {
                    pairs.push((away, found.track, *person));
                }
            }
        }
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut matched = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (_, track, person) in pairs {
            if !matched.contains_key(&track) && taken.insert(person) {
                matched.insert(track, person);
            }
        }
        matched
    }

    fn person_of(&self, at: Instant, track: TrackId) -> Option<u32> {
        let index = self.views.partition_point(|view| view.at < at);
        self.whose.get(index)?.get(&track).copied()
    }

    fn visit_of(&self, person: u32) -> Option<MemberHandle> {
        self.truth.visits.iter().find(|visit| visit.people.contains(&person)).map(|visit| visit.member)
    }

    /// Which track follows a person about then.
    fn track_of(&self, at: Instant, person: u32) -> Option<TrackId> {
        let mut votes: BTreeMap<TrackId, u32> = BTreeMap::new();
        let first = self.views.partition_point(|view| view.at < at.before(Millis(1000)));
        let near = self.views.iter().zip(&self.whose).skip(first);
        for (_, whose) in near.take_while(|(view, _)| view.at <= at.after(Millis(1000))) {
            for (track, _) in whose.iter().filter(|(_, other)| **other == person) {
                *votes.entry(*track).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(track, _)| track)
    }

    /// The members whose sessions own each track, by the passages it was bound to and its continuations.
    fn owners(&self) -> BTreeMap<TrackId, MemberHandle> {
        let mut owners = BTreeMap::new();
        for (passage, track) in &self.bound {
            let member = self.passages.get(passage).and_then(|passage| match &passage.authority {
                Authority::Grant(grant) => Some(grant.member),
                Authority::Free | Authority::Order { .. } | Authority::None => None,
            });
            if let (Some(track), Some(member)) = (track, member) {
                owners.entry(*track).or_insert(member);
            }
        }
        for (from, to) in &self.continued {
            if let Some(member) = owners.get(from).copied() {
                owners.insert(*to, member);
            }
        }
        owners
    }

    /// What the senses made of one thing that a hand did.
    fn class(&self, event: &Event, plate: PlateId, owners: &BTreeMap<TrackId, MemberHandle>) -> &'static str {
        let found = self.steps.iter().find(|(_, step)| {
            step.plate == plate && step.from.before(SLACK) <= event.at && event.at <= step.to.after(SLACK)
        });
        let Some((id, step)) = found else { return "1 no step on the plate" };
        let Some(track) = self.track_of(event.at, event.person) else { return "2 person not tracked" };
        let owner = owners.get(&track).copied();
        if owner.is_none() {
            return "3 track has no session";
        }
        if owner != self.visit_of(event.person) {
            return "4 track of another's session (swap)";
        }
        let score =
            |wanted: TrackId| step.near.iter().find(|near| near.track == wanted).map(|near| near.score);
        let Some(own) = score(track) else { return "5 person not listed near" };
        let rival = step
            .near
            .iter()
            .filter(|near| owners.get(&near.track).is_none_or(|other| Some(*other) != owner))
            .map(|near| near.score)
            .max()
            .unwrap_or(-1400);
        let reviewed = self.reviews.iter().any(|review| review.event.0.starts_with(&id.0));
        match (own - rival, reviewed) {
            (..=-1, _) => "6 another ranked first",
            (0..230, true) => "7 close rival, reviewed",
            (0..230, false) => "7 close rival",
            (_, true) => "8 well ranked, reviewed",
            (_, false) => "9 well ranked",
        }
    }

    fn judge(&self, list: bool) -> anyhow::Result<Tally> {
        let owners = self.owners();
        let mut tally = Tally { reviews: self.reviews.len(), ..Tally::default() };
        let events: Vec<(&Event, PlateId, &'static str)> = self
            .truth
            .events
            .iter()
            .filter_map(|event| match event.kind {
                Kind::PickUp { plate } | Kind::PutBack { plate } => {
                    Some((event, plate, self.class(event, plate, &owners)))
                }
                Kind::Touch {} | Kind::HandOver {} | Kind::Passage { .. } => None,
            })
            .collect();
        for (_, _, class) in &events {
            *tally.classes.entry(format!("all moves: {class}")).or_default() += 1;
        }
        for (event, _, _) in &events {
            let Some(track) = self.track_of(event.at, event.person) else { continue };
            let index = self.views.partition_point(|view| view.at < event.at);
            let Some(view) = self.views.get(index) else { continue };
            let Some(person) = view.people.iter().find(|person| person.track == track) else { continue };
            let visit = self.visit_of(event.person);
            let owner = owners.get(&track).copied();
            let among = person.tangled.iter().any(|other| owners.get(other).copied() == visit);
            let verdict = match (owner.is_none(), owner == visit, among) {
                (true, _, _) => "nobody's",
                (_, true, _) => "its own",
                (_, _, true) => "of one it is tangled with",
                (_, _, false) => "of another",
            };
            let many = person.tangled.len().min(4);
            *tally.classes.entry(format!("tangled with {many}: {verdict}")).or_default() += 1;
        }
        for (passage, track) in &self.bound {
            self.judge_passage(passage, *track, &mut tally, list)?;
        }
        for visit in self.truth.visits.iter().filter(|visit| visit.left.is_some()) {
            tally.visits += 1;
            let receipt = self.receipts.iter().find(|receipt| receipt.member == Some(visit.member));
            let mut charged: BTreeMap<&ProductId, u32> = BTreeMap::new();
            for line in receipt.iter().flat_map(|receipt| &receipt.lines) {
                *charged.entry(&line.product).or_default() += line.quantity;
            }
            let products: BTreeSet<&ProductId> = visit.out.keys().chain(charged.keys().copied()).collect();
            let mut exact = true;
            for product in products {
                let wanted = visit.out.get(product).copied().unwrap_or(0);
                let got = charged.get(product).copied().unwrap_or(0);
                tally.right += wanted.min(got);
                tally.lost += wanted.saturating_sub(got);
                tally.wrong += got.saturating_sub(wanted);
                exact &= wanted == got;
                if wanted == got {
                    continue;
                }
                let mine = |event: &Event| visit.people.contains(&event.person);
                let behind = events.iter().filter(|(event, _, _)| {
                    event.product.as_ref() == Some(product) && (got > wanted || mine(event))
                });
                let behind: Vec<&(&Event, PlateId, &'static str)> = behind.collect();
                let worst = behind.iter().map(|(_, _, class)| *class).min().unwrap_or("0 never moved");
                let (side, count) =
                    if wanted > got { ("lost", wanted - got) } else { ("wrong", got - wanted) };
                *tally.classes.entry(format!("{side}: {worst}")).or_default() += count;
                if list {
                    say(&format!("  {side} {count} of {product} {:?} {worst}", visit.people))?;
                    for (event, plate, class) in behind {
                        self.list(event, *plate, class, &owners)?;
                    }
                }
            }
            tally.exact += usize::from(exact);
        }
        Ok(tally)
    }

    fn judge_passage(
        &self,
        id: &MessageId,
        track: Option<TrackId>,
        tally: &mut Tally,
        list: bool,
    ) -> anyhow::Result<()> {
        let Some(passage) = self.passages.get(id) else { return Ok(()) };
        let entered = passage.direction == Direction::Entry;
        let person = self.truth.events.iter().find(|event| {
            matches!(event.kind, Kind::Passage { inward } if inward == entered)
                && event.at.0.abs_diff(passage.at.0) < 400
        });
        let Some(person) = person else { return Ok(()) };
        let side = format!("{:?}", passage.direction).to_lowercase();
        let Some(track) = track else {
            *tally.classes.entry(format!("{side}: nobody bound")).or_default() += 1;
            if list {
                say(&format!("  {side} {id} of {} at {} bound to nobody", person.person, passage.at.0))?;
            }
            return Ok(());
        };
        // Where the bound track is about the passage.
        let near =
            self.views.iter().zip(&self.whose).filter(|(view, _)| view.at.0.abs_diff(passage.at.0) < 1500);
        let mut votes: BTreeMap<Option<u32>, u32> = BTreeMap::new();
        for (view, whose) in near {
            if view.people.iter().any(|found| found.track == track) {
                *votes.entry(whose.get(&track).copied()).or_default() += 1;
            }
        }
        let most = votes.iter().max_by_key(|(_, count)| **count).and_then(|(person, _)| *person);
        let verdict = if most == Some(person.person) { "right" } else { "wrong" };
        *tally.classes.entry(format!("{side}: {verdict}")).or_default() += 1;
        if list && verdict == "wrong" {
            say(&format!(
                "  {side} {id} of {} at {}: track {track:?} is {most:?}",
                person.person, passage.at.0
            ))?;
        }
        Ok(())
    }

    /// Whom each track followed: a change counts when it lasts for half a second.
    fn tell_tracks(&self) -> anyhow::Result<()> {
        let owners = self.owners();
        let mut runs: BTreeMap<TrackId, Vec<Run>> = BTreeMap::new();
        for (view, whose) in self.views.iter().zip(&self.whose) {
            for found in &view.people {
                let person = whose.get(&found.track).copied();
                let runs = runs.entry(found.track).or_default();
                match runs.last_mut().filter(|run| run.person == person) {
                    Some(run) => (run.to, run.to_at, run.views) = (view.at, found.position, run.views + 1),
                    None => runs.push(Run {
                        person,
                        from: view.at,
                        from_at: found.position,
                        to: view.at,
                        to_at: found.position,
                        views: 1,
                    }),
                }
            }
        }
        let start = self.views.first().map_or(Instant(0), |view| view.at);
        for (track, mut runs) in runs {
            runs.retain(|run| run.views >= 5);
            runs.dedup_by(|later, earlier| {
                let same = later.person == earlier.person;
                if same {
                    (earlier.to, earlier.to_at) = (later.to, later.to_at);
                }
                same
            });
            let owner = owners.get(&track).and_then(|owner| {
                self.truth.visits.iter().find(|visit| visit.member == *owner).map(|visit| &visit.people)
            });
            let line: Vec<String> = runs
                .iter()
                .map(|run| {
                    let [from, to] = [run.from, run.to].map(|at| at.since(start).as_seconds());
                    let who = run.person.map_or("-".to_owned(), |person| person.to_string());
                    let [x, y] = run.from_at;
                    let [u, v] = run.to_at;
                    format!("{who} {from:.1}({x:.1},{y:.1})..{to:.1}({u:.1},{v:.1})")
                })
                .collect();
            say(&format!("  track {} of {owner:?}: {}", track.0 % 100_000, line.join(" | ")))?;
        }
        for event in &self.truth.events {
            if let Kind::Passage { inward } = event.kind {
                say(&format!(
                    "  {} {} {}",
                    event.at.since(start).as_seconds(),
                    event.person,
                    if inward { "in" } else { "out" }
                ))?;
            }
        }
        Ok(())
    }

    fn dump(&self, map: &StoreMap, step: &Step) -> String {
        let Some(plate) = map.plates.iter().find(|plate| plate.id == step.plate) else {
            return String::new();
        };
        let truth: Vec<(u32, Option<TrackId>, u64)> = self
            .truth
            .events
            .iter()
            .filter(|event| match event.kind {
                Kind::PickUp { plate } | Kind::PutBack { plate } => {
                    plate == step.plate
                        && step.from.before(SLACK) <= event.at
                        && event.at <= step.to.after(SLACK)
                }
                _ => false,
            })
            .map(|event| (event.person, self.track_of(event.at, event.person), event.at.0))
            .collect();
        let tracks: BTreeSet<TrackId> = self
            .views
            .iter()
            .rev()
            .take(100)
            .flat_map(|view| view.people.iter().map(|person| person.track))
            .collect();
        let first = self.views.len().saturating_sub(400);
        let people: BTreeMap<u64, [f64; who::FEATURES]> = tracks
            .into_iter()
            .filter_map(|track| {
                let views = self.views[first..].iter();
                Some((track.0, who::features(plate, views, track, step.from, step.to)?))
            })
            .collect();
        serde_json::json!({
            "plate": step.plate, "from": step.from, "to": step.to, "truth": truth, "people": people,
            "near": step.near,
        })
        .to_string()
    }

    fn list(
        &self,
        event: &Event,
        plate: PlateId,
        class: &str,
        owners: &BTreeMap<TrackId, MemberHandle>,
    ) -> anyhow::Result<()> {
        let what = match event.kind {
            Kind::PickUp { .. } => "pick",
            Kind::PutBack { .. } | Kind::Touch {} | Kind::HandOver {} | Kind::Passage { .. } => "back",
        };
        let near = self
            .steps
            .iter()
            .find(|(_, step)| {
                step.plate == plate && step.from.before(SLACK) <= event.at && event.at <= step.to.after(SLACK)
            })
            .map(|(id, step)| {
                let people: Vec<String> = step
                    .near
                    .iter()
                    .take(4)
                    .map(|near| {
                        let person = self.person_of(step.from, near.track);
                        let owner = owners.get(&near.track).and_then(|owner| {
                            self.truth
                                .visits
                                .iter()
                                .find(|visit| visit.member == *owner)
                                .map(|visit| &visit.people)
                        });
                        format!("{}:{} is {person:?} owned {owner:?}", near.track.0, near.score)
                    })
                    .collect();
                format!(
                    "{id} {}..{} delta {} [{}]",
                    step.from.0,
                    step.to.0,
                    step.delta.grams(),
                    people.join(", ")
                )
            });
        say(&format!(
            "    {what} by {} on {plate} at {}: {class}; {}",
            event.person,
            event.at.0,
            near.unwrap_or_default()
        ))
    }
}

/// A while in which a track followed one person, or nobody.
struct Run {
    person: Option<u32>,
    from: Instant,
    from_at: [f64; 2],
    to: Instant,
    to_at: [f64; 2],
    views: usize,
}

/// The engine's parts of visiond and cartd.
struct Services {
    tracker: Tracker,
    sensing: Sensing,
    store: Store,
    map: StoreMap,
    next: u64,
    polled: Instant,
}

impl Services {
    fn poll(&mut self, now: Instant, day: &mut Day, features: bool) {
        if now.since(self.polled) < Millis(100) {
            return;
        }
        self.polled = now;
        let mut inputs: Vec<Input> = self.sensing.poll(now).into_iter().map(Input::Evidence).collect();
        if self.store.deadline().is_some_and(|deadline| deadline <= now) {
            inputs.push(Input::Tick);
        }
        for input in inputs {
            let id = MessageId(format!("e{}", self.next));
            self.next += 1;
            match &input {
                Input::Evidence(Evidence::Shelf(event)) => {
                    day.steps.extend(event.steps.iter().map(|step| (id.clone(), step.clone())));
                    for step in event.steps.iter().filter(|_| features) {
                        let line = day.dump(&self.map, step);
                        day.features.push(line);
                    }
                }
                Input::Evidence(Evidence::Bound { passage, track }) => {
                    day.bound.insert(passage.clone(), *track);
                }
                Input::Evidence(Evidence::Continued { from, to }) => day.continued.push((*from, *to)),
                _ => {}
            }
            let mut out = Vec::new();
            self.store.handle(now, &id, &input, &mut out);
            for command in out {
                match command {
                    Command::Settle(receipt) => day.receipts.push(receipt),
                    Command::Review(review) => day.reviews.push(review),
                    Command::Close(_) => {}
                }
            }
        }
    }
}

/// Counts of one or more days.
#[derive(Default)]
struct Tally {
    visits: usize,
    exact: usize,
    right: u32,
    lost: u32,
    wrong: u32,
    reviews: usize,
    classes: BTreeMap<String, u32>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.visits += other.visits;
        self.exact += other.exact;
        self.right += other.right;
        self.lost += other.lost;
        self.wrong += other.wrong;
        self.reviews += other.reviews;
        for (class, count) in &other.classes {
            *self.classes.entry(class.clone()).or_default() += count;
        }
    }

    fn line(&self) -> String {
        let ratio = |part: u32, rest: u32| f64::from(part) / f64::from((part + rest).max(1));
        let (precision, recall) = (ratio(self.right, self.wrong), ratio(self.right, self.lost));
        let f1 = 2.0 * precision * recall / (precision + recall).max(1e-9);
        format!(
            "visits {} exact {} precision {precision:.3} recall {recall:.3} F1 {f1:.3} reviews {}",
            self.visits, self.exact, self.reviews
        )
    }
}
