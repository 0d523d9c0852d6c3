//! The store in the machine: one lane, one shelf of three plates. The host provisions the box with it, the player
//! plays it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::admission::issue::{Issuer, Terms};
use engine::store::{Facing, Gondola, Lane, Plate, Product, StoreMap};
use engine::time::{Instant, Millis};
use engine::units::{Currency, LaneId, Mass, MemberHandle, Money, PlateId, ProductId};

/// The lane.
pub const LANE: &str = "entry-1";
/// The store group of its passes.
pub const STORE_GROUP: u32 = 77;
const ISSUER_SEED: [u8; 32] = [1; 32];
/// USB ids of no real product: the vendor id that the Linux Foundation lends to gadgets, and a free number.
pub const SCANNER: (u16, u16) = (0x1d6b, 0x8c01);
/// The name of the simulated terminal strip: its lines are `strip.unlock_a` and so on.
pub const STRIP: &str = "strip";
/// Where the weighing modules' line appears.
pub const SHELF_LINE: &str = "/dev/stile-shelf-1";
/// Mass of one pack, tenths of a gram; the same for all three products, which lie on plates of their own.
pub const PACK: [i32; 3] = [3_300, 5_000, 7_400];

/// The store map. `shelf`: with its shelf, plates and products.
#[must_use]
pub fn map(shelf: bool) -> StoreMap {
    let lane =
        Lane { id: LaneId::from(LANE), position: [0.0, 0.0], inward: [0.0, 1.0], entry: true, exit: true };
    let mut map = StoreMap {
        name: "virtual".to_owned(),
        bounds: [-5.0, -5.0, 5.0, 5.0],
        gondolas: vec![],
        lanes: vec![lane],
        cameras: vec![],
        plates: vec![],
        products: vec![],
        facings: vec![],
    };
    if shelf {
        map.gondolas.push(Gondola { id: 1, footprint: [-2.0, 3.0, 2.0, 3.5], height: 1.5 });
        for (index, mass) in PACK.into_iter().enumerate() {
            let number = index as u16;
            let id = PlateId { gondola: 1, shelf: 0, plate: number };
            let product = ProductId(format!("880100000000{number}"));
            let names = BTreeMap::from([("en".to_owned(), format!("Product {number}"))]);
            let x = -1.0 + f64::from(number);
            map.plates.push(Plate { id, position: [x, 3.0, 1.0], front: [0.0, -1.0], width: 0.9 });
            let price = Money { minor: 1_500 + 500 * i64::from(number), currency: Currency::KRW };
            let mass = Mass(i64::from(mass));
            map.products.push(Product { id: product.clone(), names, price, mass, mass_sd: Mass(10) });
            map.facings.push(Facing { product, plates: vec![id] });
        }
    }
    map
}

/// The issuer of the store's passes.
#[must_use]
pub fn issuer() -> Issuer {
    Issuer::new(1, STORE_GROUP, &ISSUER_SEED)
}

/// What the gate is provisioned with: the issuer's public key.
#[must_use]
pub fn admission() -> String {
    let key: String = issuer().public_key().map(|byte| format!("{byte:02x}")).concat();
    format!("store_group = {STORE_GROUP}\n[[issuers]]\nid = 1\nkey = \"{key}\"\n")
}

/// What the phone of somebody who was never here shows now. `member` must be new.
#[must_use]
pub fn code(member: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Instant(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let terms = Terms { validity: 1000, ..Terms::single(MemberHandle(member), now.before(Millis(60_000))) };
    issuer().device(&terms, &[7; 32]).show(now, 0)
}
