//! A small store and visits to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cartd::ledger::{Entry, Error, Ledger};
use engine::cart::{Evidence, Near, ShelfEvent, Step};
use engine::message::{Authority, Direction, Grant, Passage};
use engine::session::{Input, Policy};
use engine::store::{Facing, Gondola, Lane, Plate, Product, StoreMap};
use engine::time::Instant;
use engine::units::{Currency, LaneId, Mass, MemberHandle, MessageId, Money, PlateId, ProductId, TrackId};

pub const START: Instant = Instant(1_800_000_000_000);
pub const PLATES: u16 = 3;
pub const PRICE: i64 = 1_500;
/// Mass of one product of plate 0, tenths of a gram; plate n's product has n + 1 times as much.
pub const MASS: i64 = 2_000;

pub fn plate(number: u16) -> PlateId {
    PlateId { gondola: 1, shelf: 0, plate: number }
}

pub fn product(number: u16) -> ProductId {
    ProductId(format!("880000000000{number}"))
}

pub fn map() -> StoreMap {
    let lane = |id: &str, x: f64, entry: bool| Lane {
        id: LaneId(id.to_owned()),
        position: [x, 0.0],
        inward: [0.0, 1.0],
        entry,
        exit: !entry,
    };
    let map = StoreMap {
        name: "test".to_owned(),
        bounds: [0.0, 0.0, 6.0, 6.0],
        gondolas: vec![Gondola { id: 1, footprint: [1.0, 4.0, 4.0, 4.6], height: 1.5 }],
        lanes: vec![lane("entry-1", 1.0, true), lane("exit-1", 5.0, false)],
        cameras: vec![],
        plates: (0..PLATES)
            .map(|number| Plate {
                id: plate(number),
                position: [1.5 + f64::from(number), 4.0, 1.0],
                front: [0.0, -1.0],
                width: 0.4,
            })
            .collect(),
        products: (0..PLATES)
            .map(|number| Product {
                id: product(number),
                names: BTreeMap::from([("en".to_owned(), format!("thing {number}"))]),
                price: Money { minor: PRICE, currency: Currency::KRW },
                mass: Mass(MASS * i64::from(number + 1)),
                mass_sd: Mass(10),
            })
            .collect(),
        facings: (0..PLATES)
            .map(|number| Facing { product: product(number), plates: vec![plate(number)] })
            .collect(),
    };
    map.validate().expect("a sound map");
    map
}

/// Opens the ledger; waits while a thread of a dropped cartd, or a child process between fork and exec, still
/// holds it.
pub fn open(path: &Path) -> Result<Ledger, Error> {
    open_with(path, &map(), &Policy::default(), START)
}

pub fn open_with(path: &Path, map: &StoreMap, policy: &Policy, now: Instant) -> Result<Ledger, Error> {
    let began = std::time::Instant::now();
    loop {
        match Ledger::open(path, map.clone(), policy.clone(), now) {
            Err(Error::InUse { .. }) if began.elapsed().as_secs() < 20 => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

pub fn open_at_once(path: &Path) -> Result<Ledger, Error> {
    Ledger::open(path, map(), Policy::default(), START)
}

/// A ledger file in a folder of its own.
pub fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state").join("ledger.db");
    (folder, path)
}

pub fn passage(visit: u64, direction: Direction, at: Instant) -> Passage {
    let entry = direction == Direction::Entry;
    let grant = Grant {
        member: MemberHandle(visit + 1),
        party: 1,
        party_member: 0,
        staff: false,
        wide: false,
        age_proof: false,
        guest: false,
    };
    Passage {
        id: MessageId(format!("gated-1.7/{}", visit * 2 + u64::from(!entry))),
        lane: LaneId(if entry { "entry-1" } else { "exit-1" }.to_owned()),
        at,
        direction,
        // Every fifth visitor came in without a credential.
        authority: match (entry, visit % 5) {
            (true, 4) => Authority::None,
            (true, _) => Authority::Grant(grant),
            (false, _) => Authority::Free,
        },
    }
}

pub fn has_member(visit: u64) -> bool {
    visit % 5 != 4
}

/// Everything that one shopper causes who takes one thing; visits do not overlap.
pub fn visit(number: u64) -> Vec<Entry> {
    let start = START.0 + number * 60_000;
    let at = |seconds: u64| Instant(start + seconds * 1000);
    let track = TrackId(number + 1);
    let taken = (number % u64::from(PLATES)) as u16;
    let delta = Mass(-MASS * i64::from(taken + 1));
    let step = Step {
        plate: plate(taken),
        delta,
        sd: Mass(10),
        from: at(10),
        to: at(11),
        level: Mass(1_000_000 + delta.0 * (number / u64::from(PLATES) + 1) as i64),
        near: vec![Near { track, score: 0 }],
    };
    let evidence = [
        (at(1), Evidence::Entered { passage: passage(number, Direction::Entry, at(0)), track: Some(track) }),
        (at(12), Evidence::Shelf(ShelfEvent { steps: vec![step] })),
        (at(21), Evidence::Left { passage: passage(number, Direction::Exit, at(20)), track: Some(track) }),
        (at(31), Evidence::Watermark { at: at(30) }),
    ];
    evidence.into_iter().map(|(at, evidence)| Entry { at, input: Input::Evidence(evidence) }).collect()
}
