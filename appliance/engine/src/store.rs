//! The store as its owner describes it: products, where they stand, plates, cameras, lanes. One file, checked as a
//! whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::floor::camera::CameraModel;
use crate::units::{CameraId, LaneId, Mass, Money, PlateId, ProductId};

/// Everything that services need to know about one store. Lengths in metres; x and y span the floor, z points up and
/// is 0 on the floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreMap {
    /// The store's name, as printed on receipts.
    pub name: String,
    /// Walkable rectangle: least x, least y, greatest x, greatest y.
    pub bounds: [f64; 4],
    /// Shelf units, as boxes that stand on the floor.
    pub gondolas: Vec<Gondola>,
    /// Gate lanes.
    pub lanes: Vec<Lane>,
    /// Ceiling cameras with their calibration.
    pub cameras: Vec<Camera>,
    /// Load-cell plates.
    pub plates: Vec<Plate>,
    /// Products that may be sold here.
    pub products: Vec<Product>,
    /// Which product stands on which plates.
    pub facings: Vec<Facing>,
}

/// A shelf unit's footprint and height.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gondola {
    /// Number, as in `PlateId::gondola`.
    pub id: u16,
    /// Footprint: least x, least y, greatest x, greatest y, metres.
    pub footprint: [f64; 4],
    /// Height of its top, metres.
    pub height: f64,
}

/// A gate lane and where its passage line lies on the floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Name, as in topics and manifests.
    pub id: LaneId,
    /// Middle of the passage line, metres.
    pub position: [f64; 2],
    /// Unit vector from the street into the store.
    pub inward: [f64; 2],
    /// Whether shoppers may come in here.
    pub entry: bool,
    /// Whether shoppers may leave here. Leaving never needs a credential.
    pub exit: bool,
}

/// A ceiling camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Number.
    pub id: CameraId,
    /// Lens and pose.
    pub model: CameraModel,
}

/// A plate and its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plate {
    /// Name.
    pub id: PlateId,
    /// Middle of the plate's top, metres.
    pub position: [f64; 3],
    /// Unit vector on the floor from the shelf towards the shopper.
    pub front: [f64; 2],
    /// Width along the shelf, metres.
    pub width: f64,
}

/// A product of the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// GTIN or the operator's own number.
    pub id: ProductId,
    /// Name by BCP 47 language tag ("ko", "en"); at least one.
    pub names: BTreeMap<String, String>,
    /// Price of one.
    pub price: Money,
    /// Mass of one.
    pub mass: Mass,
    /// Standard deviation of one's mass (packs differ).
    pub mass_sd: Mass,
}

/// A product's place: one or more neighbouring plates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facing {
    /// What stands there.
    pub product: ProductId,
    /// Where.
    pub plates: Vec<PlateId>,
}

/// What is wrong with a store map, naming the entry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadStoreMap {
    /// Two entries share a name.
    #[error("{kind} {id} is listed twice")]
    Duplicate {
        /// "product", "plate", "camera", "lane", "gondola".
        kind: &'static str,
        /// Its name.
        id: String,
    },
    /// A facing names a product or plate that the map does not list.
    #[error("facing of product {product} names {kind} {id}, which is not in the store map")]
    Unknown {
        /// The facing's product.
        product: ProductId,
        /// "product" or "plate".
        kind: &'static str,
        /// The missing name.
        id: String,
    },
    /// A value is out of its range.
    #[error("{kind} {id}: {what}")]
    Value {
        /// Kind of the entry.
        kind: &'static str,
        /// Its name.
        id: String,
        /// Which value, and what it must be.
        what: &'static str,
    },
}

impl Product {
    /// The name in `language`, else in English, else any.
    #[must_use]
    pub fn name(&self, language: &str) -> &str {
        self.names
            .get(language)
            .or_else(|| self.names.get("en"))
            .or_else(|| self.names.values().next())
            .map_or(self.id.0.as_str(), String::as_str)
    }
}

impl StoreMap {
    /// Checks names and ranges; every service calls this once when it loads the map.
    ///
    /// # Errors
    /// The first fault, naming the entry.
    pub fn validate(&self) -> Result<(), BadStoreMap> {
        unique("product", self.products.iter().map(|product| product.id.to_string()))?;
        unique("plate", self.plates.iter().map(|plate| plate.id.to_string()))?;
        unique("camera", self.cameras.iter().map(|camera| camera.id.to_string()))?;
        unique("lane", self.lanes.iter().map(|lane| lane.id.to_string()))?;
        unique("gondola", self.gondolas.iter().map(|gondola| gondola.id.to_string()))?;
        for product in &self.products {
            let bad = |what| BadStoreMap::Value { kind: "product", id: product.id.to_string(), what };
            if product.mass.0 <= 0 || product.mass_sd.0 < 0 {
                return Err(bad("mass must be above zero"));
            }
            if product.names.is_empty() {
                return Err(bad("needs a name in at least one language"));
            }
            if product.price.minor < 0 {
                return Err(bad("price must not be negative"));
            }
        }
        for plate in &self.plates {
            if !plate.position.iter().chain([&plate.width]).all(|value| value.is_finite()) {
                let id = plate.id.to_string();
                return Err(BadStoreMap::Value { kind: "plate", id, what: "position must be finite" });
            }
        }
        let products: BTreeSet<&ProductId> = self.products.iter().map(|product| &product.id).collect();
        let plates: BTreeSet<PlateId> = self.plates.iter().map(|plate| plate.id).collect();
        for facing in &self.facings {
            let unknown = |kind, id| BadStoreMap::Unknown { product: facing.product.clone(), kind, id };
            if !products.contains(&facing.product) {
                return Err(unknown("product", facing.product.to_string()));
            }
            if let Some(plate) = facing.plates.iter().find(|plate| !plates.contains(plate)) {
                return Err(unknown("plate", plate.to_string()));
            }
            if facing.plates.is_empty() {
                let id = facing.product.to_string();
                return Err(BadStoreMap::Value { kind: "facing", id, what: "needs at least one plate" });
            }
        }
        Ok(())
    }

    /// The product of that name.
    #[must_use]
    pub fn product(&self, id: &ProductId) -> Option<&Product> {
        self.products.iter().find(|product| product.id == *id)
    }
}

fn unique(kind: &'static str, ids: impl Iterator<Item = String>) -> Result<(), BadStoreMap> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id.clone()) {
            return Err(BadStoreMap::Duplicate { kind, id });
        }
    }
    Ok(())
}
