//! Recorded store visits in the AutoCheckout file format (CPS-IoT Week 2020: JSON lines as MongoDB exports
//! them), replayed through the same sensing and session store as live readings.
//!
//! Key points are in inches, the planogram in metres, plate samples are base64 of little-endian 32-bit floats
//! in an array of samples x shelves x plates with NaN where no plate is. Fields whose value is zero are left
//! out.

mod format;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::cart::Evidence;
use engine::cart::sense::Sensing;
use engine::message::{Authority, Direction, FloorView, Grant, Hand, Passage, Person, Receipt, Review};
use engine::session::{Command, Doubt, Input, Policy, Store};
use engine::store::{Facing, Plate, Product, StoreMap};
use engine::time::{Instant, Millis};
use engine::units::{Currency, LaneId, Mass, MemberHandle, MessageId, Money, PlateId, ProductId, TrackId};
use serde::Serialize;

use self::format::{
    Coordinates, KeyPoint, Metadata, PlanogramRecord, PlateName, PlateRecord, Point, ProductRecord, Target,
    TargetsRecord, Text, records, time,
};

/// Metres in an inch.
const INCH: f64 = 0.0254;
/// Samples averaged into one reading: 60 Hz becomes 10 Hz, what load-cell modules give.
const BATCH: usize = 6;
/// Sampling rate where a record does not tell, Hz.
const RATE: f64 = 60.0;
/// How deep a hand reaches, metres; `engine::cart` takes a plate's position to be this far behind its front
/// edge.
const REACH_DEPTH: f64 = 0.2;
/// Readings go on at their last value for this long after the end, so that the last change settles.
const TAIL: Millis = Millis(3000);
/// Mass and its standard deviation where the catalogue has none, grams: median of that store, and anything.
const UNKNOWN_MASS: (f64, f64) = (134.0, 110.0);
/// Spread of packs about the catalogue's mass, grams and share: the recorded bottle is 1.3 g off.
const PACK_SD: (f64, f64) = (1.5, 0.007);
/// See `Policy::misplaced`: in the labelled cases of that competition a misplaced thing is taken again in
/// about one case of four, while a given facing is visited in one case of thirty.
const MISPLACED: f64 = 2.0;
/// Least score of a key point that counts as seen.
const SCORE_MIN: f64 = 0.2;
/// Standard deviation of recorded key points, metres.
const HAND_SD: f64 = 0.05;

/// What a recording gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Replay {
    /// Shoppers who took something, in order of their ids.
    pub receipts: Vec<ReplayReceipt>,
    /// Shelf events that a person would have been asked about.
    pub reviews: Vec<ReplayReview>,
    /// Parts of the recording that could not be read; left out when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What a shopper took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayReceipt {
    /// The recording's target id.
    pub shopper: String,
    /// Their cart at the end.
    pub lines: Vec<ReplayLine>,
}

/// A product in a shopper's cart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayLine {
    /// Bar code.
    pub product: String,
    /// How many.
    pub quantity: u32,
    /// Probability that this line is exactly right, 0 to 1.
    pub confidence: f64,
}

/// A shelf event that a person would have been asked about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayReview {
    /// Seconds since the recording began.
    pub seconds: f64,
    /// Plates that changed.
    pub plates: Vec<PlateId>,
    /// By how much, grams.
    pub delta_grams: f64,
    /// What it may have been, likeliest first.
    pub candidates: Vec<ReplayCandidate>,
}

/// One explanation of a shelf event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayCandidate {
    /// Target id; `None` for nobody.
    pub shopper: Option<String>,
    /// Products and signed counts, positive into the cart.
    pub items: Vec<(String, i32)>,
    /// Posterior probability, 0 to 1.
    pub probability: f64,
}

/// A recording that cannot be used, naming file, line and field.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or unreadable.
    #[error("reading {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is not a record of this format.
    #[error("{} line {line}, field {field}", file.display())]
    Record {
        /// Which file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Path of the field; "." for the whole record.
        field: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A record's value does not fit the format.
    #[error("{} line {line}, field {field}: {what}", file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A file has no record.
    #[error("{} has no records", file.display())]
    Empty {
        /// Which.
        file: PathBuf,
    },
}

/// A recording in memory.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The store, from planogram and products.
    pub map: StoreMap,
    /// Target ids; a shopper's track is the place in this list plus one.
    pub shoppers: Vec<String>,
    /// Floor views from key points, in order of time.
    pub views: Vec<FloorView>,
    /// Plate readings in grams in order of time; NaN where a plate did not answer.
    pub readings: Vec<(Instant, PlateId, f64)>,
    /// Parts that could not be read.
    pub warnings: Vec<String>,
}

/// Reads the recording in `dir` and replays it.
///
/// # Errors
/// A file that is missing, empty or malformed; a cut-off last line is a warning only.
pub fn replay(dir: &Path) -> Result<Replay, Error> {
    Ok(Recording::read(dir)?.replay())
}

impl Recording {
    /// Reads `plate_data.json`, `full_targets.json`, `planogram.json` and `products.json` of `dir`.
    ///
    /// # Errors
    /// A file that is missing, empty or malformed; a cut-off last line is a warning only.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let products: Vec<(usize, ProductRecord)> = records(&dir.join("products.json"), &mut warnings)?;
        let rows: Vec<(usize, PlanogramRecord)> = records(&dir.join("planogram.json"), &mut warnings)?;
        let targets: Vec<(usize, TargetsRecord)> = records(&dir.join("full_targets.json"), &mut warnings)?;
        let plates: Vec<(usize, PlateRecord)> = records(&dir.join("plate_data.json"), &mut warnings)?;
        let readings = readings(&dir.join("plate_data.json"), plates)?;
        let (shoppers, views) = views(&dir.join("full_targets.json"), targets)?;
        let answering: BTreeSet<PlateId> = readings.iter().map(|(_, plate, _)| *plate).collect();
        let map = map(&products, &rows, &answering, &mut warnings);
        Ok(Self { map, shoppers, views, readings, warnings })
    }

    /// Runs sensing and the session store over the recording, as cartd does with live readings, and settles
    /// everybody at its end by the likeliest explanation: a recording has no reviewer.
    #[must_use]
    pub fn replay(&self) -> Replay {
        let policy = Policy {
            review_timeout: Millis(u64::MAX / 4),
            doubt: Doubt::Likeliest,
            currency: Currency::USD,
            misplaced: MISPLACED,
            ..Policy::default()
        };
        let mut run = Run {
            sensing: Sensing::new(&self.map, &BTreeMap::new()).with_sure_hands(),
            store: Store::new(self.map.clone(), policy),
            commands: Vec::new(),
            inputs: 0,
        };
        let first_view = self.views.first().map(|view| view.at);
        let first_reading = self.readings.first().map(|reading| reading.0);
        let start = first_view.into_iter().chain(first_reading).min().unwrap_or_default();
        for (index, shopper) in self.shoppers.iter().enumerate() {
            run.input(start, &entered(index, shopper, start));
        }
        let mut views = self.views.iter().peekable();
        let mut readings = self.readings.iter().peekable();
        let mut last: BTreeMap<PlateId, f64> = BTreeMap::new();
        let mut now = start;
        while views.peek().is_some() || readings.peek().is_some() {
            now = now.after(Millis(100));
            while let Some(view) = views.next_if(|view| view.at <= now) {
                run.sensing.floor(view);
            }
            while let Some((at, plate, grams)) = readings.next_if(|(at, _, _)| *at <= now) {
                run.sensing.grams(*at, *plate, *grams);
                last.insert(*plate, *grams);
            }
            run.poll(now);
        }
        let end = now;
        while now.since(end) < TAIL {
            now = now.after(Millis(100));
            for (plate, grams) in &last {
                run.sensing.grams(now, *plate, *grams);
            }
            run.poll(now);
        }
        run.input(now, &Input::Close);
        self.report(start, &run.commands)
    }

    fn report(&self, start: Instant, commands: &[Command]) -> Replay {
        let mut out = Replay { warnings: self.warnings.clone(), ..Replay::default() };
        for command in commands {
            match command {
                Command::Settle(receipt) => out.receipts.extend(self.receipt(receipt)),
                Command::Review(review) => out.reviews.push(self.review(start, review)),
                Command::Close(_) => {}
            }
        }
        out.receipts.sort_by(|a, b| a.shopper.cmp(&b.shopper));
        out
    }

    fn receipt(&self, receipt: &Receipt) -> Option<ReplayReceipt> {
        let index = usize::try_from(receipt.member?.0).ok()?;
        let lines: Vec<ReplayLine> = receipt
            .lines
            .iter()
            .map(|line| ReplayLine {
                product: line.product.0.clone(),
                quantity: line.quantity,
                confidence: (line.confidence * 1e4).round() / 1e4,
            })
            .collect();
        let shopper = self.shoppers.get(index)?.clone();
        (!lines.is_empty()).then_some(ReplayReceipt { shopper, lines })
    }

    fn review(&self, start: Instant, review: &Review) -> ReplayReview {
        ReplayReview {
            seconds: review.at.since(start).as_seconds(),
            plates: review.plates.clone(),
            delta_grams: review.delta.grams(),
            candidates: review
                .candidates
                .iter()
                .map(|candidate| ReplayCandidate {
                    shopper: candidate
                        .session
                        .as_ref()
                        .map(|session| session.0.strip_prefix("visit/").unwrap_or(&session.0).to_owned()),
                    items: candidate
                        .items
                        .iter()
                        .map(|(product, count)| (product.0.clone(), *count))
                        .collect(),
                    probability: (candidate.probability * 1e4).round() / 1e4,
                })
                .collect(),
        }
    }
}

struct Run {
    sensing: Sensing,
    store: Store,
    commands: Vec<Command>,
    inputs: u64,
}

impl Run {
    fn poll(&mut self, now: Instant) {
        for evidence in self.sensing.poll(now) {
            self.input(now, &Input::Evidence(evidence));
        }
    }

    fn input(&mut self, at: Instant, input: &Input) {
        self.inputs += 1;
        let id = match input {
            Input::Evidence(Evidence::Entered { passage, .. }) => passage.id.clone(),
            Input::Evidence(_) | Input::Decision(_) | Input::Tick | Input::Close => {
                MessageId(format!("recorded/{}", self.inputs))
            }
        };
        self.store.handle(at, &id, input, &mut self.commands);
    }
}

fn entered(index: usize, shopper: &str, at: Instant) -> Input {
    let grant = Grant {
        member: MemberHandle(index as u64),
        party: 1,
        party_member: 0,
        staff: false,
        wide: false,
        age_proof: false,
        guest: false,
    };
    let passage = Passage {
        id: MessageId(shopper.to_owned()),
        lane: LaneId("recorded".to_owned()),
        at,
        direction: Direction::Entry,
        authority: Authority::Grant(grant),
    };
    Input::Evidence(Evidence::Entered { passage, track: Some(TrackId(index as u64 + 1)) })
}

fn readings(file: &Path, records: Vec<(usize, PlateRecord)>) -> Result<Vec<(Instant, PlateId, f64)>, Error> {
    let mut out = Vec::new();
    let mut answering = BTreeSet::new();
    for (line, record) in records {
        let bad = |field, what: String| Error::Value { file: file.to_owned(), line, field, what };
        let data = record.document.plate_data;
        let at = time(record.document.header.as_ref(), record.timestamp).ok_or_else(|| {
            bad("document.header.t_origin", "no time of the form 2020-04-22T05:06:36.859Z".to_owned())
        })?;
        let gondola = data.plate_id.shelf_id.gondola_id.id.index();
        let gondola = gondola.ok_or_else(|| {
            bad("document.plate_data.plate_id.shelf_id.gondola_id.id", "not a small whole number".to_owned())
        })?;
        let shape: Option<Vec<usize>> =
            data.values.shape.iter().map(|number| number.index().map(usize::from)).collect();
        let field = "document.plate_data.values.shape";
        let Some([samples, shelves, plates]) =
            shape.as_deref().and_then(|shape| <[usize; 3]>::try_from(shape).ok())
        else {
            return Err(bad(field, "not samples, shelves, plates".to_owned()));
        };
        let bytes = &data.values.data.0;
        let expected = samples * shelves * plates * 4;
        if bytes.len() != expected {
            let what = format!("{} bytes for {samples} x {shelves} x {plates} floats", bytes.len());
            return Err(bad("document.plate_data.values.data", what));
        }
        let rate = data.freq_samp.map_or(RATE, |rate| rate.0);
        let rate = if rate.is_finite() && rate > 1.0 { rate } else { RATE };
        let value = |sample: usize, shelf: usize, plate: usize| {
            let at = ((sample * shelves + shelf) * plates + plate) * 4;
            let bytes: [u8; 4] =
                bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
            f64::from(f32::from_le_bytes(bytes))
        };
        for (shelf, plate) in (0..shelves).flat_map(|shelf| (0..plates).map(move |plate| (shelf, plate))) {
            let id = PlateId { gondola, shelf: shelf as u16, plate: plate as u16 };
            for start in (0..samples).step_by(BATCH) {
                let batch = start..(start + BATCH).min(samples);
                // A record's time is the middle of its samples: it is issued half a batch later.
                let middle = (batch.start + batch.end - 1) as f64 / 2.0 - (samples.max(1) - 1) as f64 / 2.0;
                let seconds = middle / rate;
                let values: Vec<f64> = batch.map(|sample| value(sample, shelf, plate)).collect();
                let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
                let mean = finite.iter().sum::<f64>() / finite.len() as f64;
                if mean.is_finite() {
                    answering.insert(id);
                }
                out.push((Instant((at.0 as f64 + seconds * 1000.0).round() as u64), id, mean));
            }
        }
    }
    out.retain(|(_, plate, _)| answering.contains(plate));
    out.sort_by_key(|(at, plate, _)| (*at, *plate));
    Ok(out)
}

fn views(file: &Path, records: Vec<(usize, TargetsRecord)>) -> Result<(Vec<String>, Vec<FloorView>), Error> {
    let mut shoppers: Vec<String> = Vec::new();
    let mut views = Vec::new();
    for (line, record) in records {
        let at = time(record.document.header.as_ref(), record.timestamp).ok_or_else(|| Error::Value {
            file: file.to_owned(),
            line,
            field: "document.header.t_origin",
            what: "no time of the form 2020-04-22T05:06:36.859Z".to_owned(),
        })?;
        let mut people = Vec::new();
        for target in record.document.targets.targets {
            let Text(name) = &target.target_id.id;
            let index = shoppers.iter().position(|shopper| shopper == name).unwrap_or_else(|| {
                shoppers.push(name.clone());
                shoppers.len() - 1
            });
            people.extend(person(index, &target));
        }
        views.push(FloorView { at, people, cameras: Vec::new() });
    }
    views.sort_by_key(|view| view.at);
    Ok((shoppers, views))
}

fn person(index: usize, target: &Target) -> Option<Person> {
    let head = target.head.as_ref().and_then(place);
    let others = [&target.neck, &target.l_shoulder, &target.r_shoulder];
    let trunk = others.into_iter().flatten().find_map(place);
    let hands: Vec<Hand> = [&target.l_wrist, &target.r_wrist]
        .into_iter()
        .flatten()
        .filter_map(place)
        .map(|position| Hand { position, sd: HAND_SD })
        .collect();
    // The neck is above the feet more often than the head, which leans into the shelf.
    let body = trunk.or(head).or_else(|| hands.first().map(|hand| hand.position))?;
    Some(Person {
        track: TrackId(index as u64 + 1),
        position: [body[0], body[1]],
        position_sd: 0.08,
        velocity: [0.0; 2],
        head: head.unwrap_or(body)[2],
        hands,
        tangled: Vec::new(),
    })
}

/// A key point in metres; `None` when it was not seen (its point is left out, all zero, or not finite).
fn place(point: &KeyPoint) -> Option<[f64; 3]> {
    let Point { x, y, z } = point.point?;
    let place = [x.0 * INCH, y.0 * INCH, z.0 * INCH];
    let seen = place.iter().all(|value| value.is_finite()) && place != [0.0; 3];
    (seen && point.score.is_none_or(|score| score.0.is_nan() || score.0 >= SCORE_MIN)).then_some(place)
}

fn map(
    products: &[(usize, ProductRecord)],
    rows: &[(usize, PlanogramRecord)],
    answering: &BTreeSet<PlateId>,
    warnings: &mut Vec<String>,
) -> StoreMap {
    let mut catalogue: BTreeMap<ProductId, Product> = BTreeMap::new();
    let known = products.iter().map(|(_, record)| (&record.product_id.id, Some(&record.metadata)));
    let faced = rows.iter().map(|(_, record)| (&record.planogram_product_id.id, None));
    for (id, metadata) in known.chain(faced) {
        let weighed = metadata.is_some_and(|metadata| metadata.weight.0 > 0.0);
        let id = ProductId(id.clone());
        // A product listed twice keeps the entry that has a mass; one that is only faced has none.
        if id.0.is_empty() || (catalogue.contains_key(&id) && !weighed) {
            continue;
        }
        catalogue.insert(id.clone(), product(id, metadata));
    }
    let mut plates: BTreeMap<PlateId, Plate> = BTreeMap::new();
    let mut facings = Vec::new();
    for (line, row) in rows {
        let ids: Option<Vec<PlateId>> = row.plate_ids.iter().map(plate_id).collect();
        let Some(mut ids) = ids else {
            warnings.push(format!(
                "planogram.json line {line}: a plate's number is no small whole number, left out"
            ));
            continue;
        };
        ids.sort();
        if let Some(coordinates) = &row.global_coordinates {
            plates.extend(places(coordinates, &ids).map(|plate| (plate.id, plate)));
        }
        let product = ProductId(row.planogram_product_id.id.clone());
        if !product.0.is_empty() && !ids.is_empty() {
            facings.push(Facing { product, plates: ids });
        }
    }
    // Plates that answer but hold nothing planned stand in line with their shelf.
    for id in answering {
        let same_shelf = |plate: &&Plate| (plate.id.gondola, plate.id.shelf) == (id.gondola, id.shelf);
        let beside =
            plates.values().filter(same_shelf).min_by_key(|plate| plate.id.plate.abs_diff(id.plate)).cloned();
        if let (Some(beside), false) = (beside, plates.contains_key(id)) {
            let steps = f64::from(id.plate) - f64::from(beside.id.plate);
            let [front_x, front_y] = beside.front;
            let [x, y, z] = beside.position;
            let position = [x - front_y * beside.width * steps, y + front_x * beside.width * steps, z];
            plates.insert(*id, Plate { id: *id, position, ..beside });
        }
    }
    facings.retain(|facing| facing.plates.iter().all(|plate| plates.contains_key(plate)));
    let plates: Vec<Plate> = plates.into_values().collect();
    let extent = |axis: usize, pick: fn(f64, f64) -> f64, start: f64| {
        plates.iter().map(|plate| plate.position[axis]).fold(start, pick)
    };
    let bounds = [
        extent(0, f64::min, 0.0) - 3.0,
        extent(1, f64::min, 0.0) - 3.0,
        extent(0, f64::max, 0.0) + 3.0,
        extent(1, f64::max, 0.0) + 3.0,
    ];
    StoreMap {
        name: "recorded".to_owned(),
        bounds,
        gondolas: Vec::new(),
        lanes: Vec::new(),
        cameras: Vec::new(),
        plates,
        products: catalogue.into_values().collect(),
        facings,
    }
}

fn product(id: ProductId, metadata: Option<&Metadata>) -> Product {
    let name = metadata.map_or("", |metadata| metadata.name.as_str());
    let name = if name.is_empty() { id.0.clone() } else { name.to_owned() };
    let grams = metadata.map_or(0.0, |metadata| metadata.weight.0);
    let (mass, sd) =
        if grams > 0.0 && grams < 1e5 { (grams, PACK_SD.0 + PACK_SD.1 * grams) } else { UNKNOWN_MASS };
    let dollars = metadata.map_or(0.0, |metadata| metadata.price.0);
    let cents = if dollars.is_finite() { (dollars * 100.0).round().clamp(0.0, 1e9) as i64 } else { 0 };
    Product {
        id,
        names: [("en".to_owned(), name)].into(),
        price: Money { minor: cents, currency: Currency::USD },
        mass: Mass(Mass::from_grams(mass).0.max(1)),
        mass_sd: Mass::from_grams(sd),
    }
}

/// A facing's plates side by side: its place is the front left corner of the row, x runs along it, y into the
/// shelf.
fn places(coordinates: &Coordinates, ids: &[PlateId]) -> impl Iterator<Item = Plate> {
    let Point { x, y, z } = coordinates.transform.translation;
    let turn = coordinates.transform.rotation.z.0;
    let turn = if turn.is_finite() { turn } else { 0.0 };
    let (sin, cos) = turn.sin_cos();
    let finite = [x, y, z, coordinates.dim_x, coordinates.dim_y].iter().all(|number| number.0.is_finite());
    let width = coordinates.dim_x.0 / ids.len().max(1) as f64;
    let first = ids.first().map_or(0, |id| id.plate);
    ids.iter().filter(move |_| finite).map(move |id| {
        let along = (f64::from(id.plate - first) + 0.5) * width;
        let into = REACH_DEPTH;
        let position = [x.0 + along * cos - into * sin, y.0 + along * sin + into * cos, z.0];
        // The front is opposite to the row's y axis.
        Plate { id: *id, position, front: [sin, -cos], width }
    })
}

fn plate_id(name: &PlateName) -> Option<PlateId> {
    Some(PlateId {
        gondola: name.shelf_id.gondola_id.id.index()?,
        shelf: name.shelf_id.shelf_index.index()?,
        plate: name.plate_index.index()?,
    })
}
