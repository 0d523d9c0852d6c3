//! The role manifest: one TOML file that says what a box is and where its devices are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use engine::store::StoreMap;
use engine::units::CameraId;
use serde::{Deserialize, Serialize};

use crate::bus::{Bus, MqttSettings};

/// A box's role. Unknown keys are refused, so that a misspelt one cannot silently do nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// For people: what this box is ("entry gate 1").
    pub name: String,
    /// The role that this manifest describes ("entry-gate"); for people and screens.
    #[serde(default)]
    pub role: String,
    /// The services that run on this box; read by the caretaker, which lets their units start.
    #[serde(default)]
    pub services: BTreeSet<ServiceName>,
    /// Where services keep what must survive, each in a folder of its own name.
    pub state_dir: PathBuf,
    /// Whom the gate admits; none: `admission.toml` in the gate's own folder.
    #[serde(default)]
    pub admission: Option<PathBuf>,
    /// The store map, JSON.
    pub store_map: PathBuf,
    /// How services talk to each other.
    #[serde(default)]
    pub bus: BusSettings,
    /// The staff page.
    #[serde(default)]
    pub console: ConsoleSettings,
    /// The touchscreen of this box; none: its windows are those of a desktop.
    #[serde(default)]
    pub screen: Option<ScreenSettings>,
    /// Gate lanes that this box drives.
    #[serde(default)]
    pub lanes: Vec<LaneSettings>,
    /// Ceiling cameras that this box reads.
    #[serde(default)]
    pub cameras: Vec<CameraSettings>,
    /// Load-cell lines that this box reads.
    #[serde(default)]
    pub load_cells: Vec<LoadCellSettings>,
    /// When shoppers may come in; none: always.
    #[serde(default)]
    pub hours: Option<OpeningHours>,
    /// Where models and their manifest lie.
    #[serde(default = "default_models_dir")]
    pub models_dir: PathBuf,
}

/// A service that a box may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceName {
    /// Turnstile and readers.
    Gated,
    /// Ceiling cameras.
    Visiond,
    /// Carts and the ledger.
    Cartd,
    /// The touchscreen.
    Kiosk,
    /// Staff page and HTTP API.
    Console,
}

/// The touchscreen of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScreenSettings {
    /// What it shows.
    pub shows: ScreenShows,
    /// The lane whose gate screen it is; needed by a gate screen.
    #[serde(default)]
    pub lane: Option<String>,
    /// The name of the help kiosk, in calls to staff and in scans; none: `kiosk-1`.
    #[serde(default)]
    pub name: Option<String>,
    /// Language in which it greets, a tag like `ko`; none: Korean.
    #[serde(default)]
    pub language: Option<String>,
    /// How far the panel's picture is turned clockwise: 0, 90, 180 or 270 degrees.
    #[serde(default)]
    pub rotation: u16,
    /// Digits that open the technician's page; none: only a box that is not provisioned shows it.
    #[serde(default)]
    pub technician_code: Option<String>,
}

/// What a screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScreenShows {
    /// The gate screen of a lane.
    Gate,
    /// The help kiosk.
    Help,
}

/// How services talk to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BusSettings {
    /// All in one process.
    #[default]
    Local,
    /// Through an MQTT 5 broker.
    Mqtt(MqttSettings),
}

/// The staff page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSettings {
    /// Address to serve on; loopback unless the operator chooses otherwise.
    pub listen: SocketAddr,
    /// Bearer token that decisions and answers must carry; none: anyone who reaches the address may decide.
    #[serde(default)]
    pub token: Option<String>,
    /// Issuer key file of `stile-token`, by which the phone page gets passes for a day; for demonstrations. None: the
    /// page gives out nothing.
    #[serde(default)]
    pub phone_issuer: Option<PathBuf>,
}

/// A lane that this box drives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSettings {
    /// The lane's name in the store map.
    pub id: String,
    /// Whether electrical direction A is the entry, as the installer wired it.
    pub entry_is_a: bool,
    /// How it operates, where that is not the usual; read by the gate service.
    #[serde(default)]
    pub gate: toml::Table,
    /// Its turnstile: `kind`, and the keys of that kind. Read by the gate service, which knows the drivers.
    pub turnstile: toml::Table,
    /// Its readers, each with `kind` and the keys of that kind; none on a lane that nobody enters by.
    #[serde(default)]
    pub readers: Vec<toml::Table>,
}

/// A ceiling camera.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraSettings {
    /// Its number in the store map.
    pub id: CameraId,
    /// `kind`, and the keys of that kind. Read by the vision service, which knows the drivers.
    pub device: toml::Table,
}

/// The load cells of a gondola, on one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadCellSettings {
    /// The gondola's number in the store map.
    pub gondola: u16,
    /// `kind`, and the keys of that kind. Read by the cart service, which knows the drivers.
    pub line: toml::Table,
}

/// When shoppers may come in: intervals of a day like `07:00-23:00`; a day without one is closed. Midnight is
/// `24:00` at the end and `00:00` at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpeningHours {
    /// Name in the IANA time zone database, `Asia/Seoul`.
    pub zone: String,
    /// Monday.
    pub mon: Vec<String>,
    /// Tuesday.
    pub tue: Vec<String>,
    /// Wednesday.
    pub wed: Vec<String>,
    /// Thursday.
    pub thu: Vec<String>,
    /// Friday.
    pub fri: Vec<String>,
    /// Saturday.
    pub sat: Vec<String>,
    /// Sunday.
    pub sun: Vec<String>,
}

impl OpeningHours {
    /// From Monday to Sunday, each with its key.
    #[must_use]
    pub fn days(&self) -> [(&'static str, &[String]); 7] {
        let Self { zone: _, mon, tue, wed, thu, fri, sat, sun } = self;
        [("mon", mon), ("tue", tue), ("wed", wed), ("thu", thu), ("fri", fri), ("sat", sat), ("sun", sun)]
            .map(|(name, intervals)| (name, intervals.as_slice()))
    }
}

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8480)), token: None, phone_issuer: None }
    }
}

fn default_models_dir() -> PathBuf {
    PathBuf::from("/usr/share/stile/models")
}

/// What is wrong with a manifest or the store map that it names.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is not valid; the source names line and key.
    #[error("manifest {path} is not valid")]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// The store map is not valid JSON of its form; the source names line, column and field.
    #[error("store map {path} is not valid")]
    StoreMap {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The store map contradicts itself.
    #[error("store map {path} contradicts itself")]
    StoreMapContent {
        /// Which file.
        path: PathBuf,
        /// Which entry, and how.
        #[source]
        source: engine::store::BadStoreMap,
    },
}

impl Manifest {
    /// The folder in which a service keeps what must survive.
    #[must_use]
    pub fn state_of(&self, service: &str) -> PathBuf {
        self.state_dir.join(service)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Names the file, and the line and key at fault.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = read(path)?;
        toml::from_str(&text).map_err(|source| Error::Manifest { path: path.to_owned(), source })
    }

    /// Reads and checks the store map that the manifest names; a relative path is taken from the working folder.
    ///
    /// # Errors
    /// Names the file and the entry at fault.
    pub fn load_store_map(&self) -> Result<StoreMap, Error> {
        load_store_map(&self.store_map)
    }

    /// Joins the bus that the manifest names.
    #[must_use]
    pub fn join_bus(&self, client_id: &str) -> Bus {
        match &self.bus {
            BusSettings::Local => Bus::local(),
            BusSettings::Mqtt(settings) => Bus::mqtt(settings, client_id),
        }
    }
}

/// Reads and checks a store map.
///
/// # Errors
/// Names the file and the entry at fault.
pub fn load_store_map(path: &Path) -> Result<StoreMap, Error> {
    let text = read(path)?;
    let map: StoreMap =
        serde_json::from_str(&text).map_err(|source| Error::StoreMap { path: path.to_owned(), source })?;
    map.validate().map_err(|source| Error::StoreMapContent { path: path.to_owned(), source })?;
    Ok(map)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const GOOD: &str = r#"
        name = "all in one"
        role = "entry-gate"
        services = ["gated", "kiosk"]
        state_dir = "/var/lib/stile"
        store_map = "/etc/stile/store.json"
        [bus]
        kind = "mqtt"
        host = "127.0.0.1"
        port = 1883
        [[lanes]]
        id = "entry-1"
        entry_is_a = true
        turnstile = { kind = "sim" }
        [screen]
        shows = "gate"
        lane = "entry-1"
        rotation = 90
    "#;

    fn load(text: &str) -> Result<Manifest, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("role.toml");
        std::fs::write(&path, text).expect("written");
        Manifest::load(&path)
    }

    #[test]
    fn a_manifest_is_read_whole() {
        let manifest = load(GOOD).expect("valid");
        assert_eq!(manifest.lanes[0].id, "entry-1");
        assert!(matches!(manifest.bus, BusSettings::Mqtt(ref mqtt) if mqtt.port == 1883));
        assert_eq!(manifest.services, BTreeSet::from([ServiceName::Gated, ServiceName::Kiosk]));
        assert_eq!(manifest.screen.as_ref().map(|screen| screen.rotation), Some(90));
        assert_eq!(manifest.state_of("gated"), Path::new("/var/lib/stile/gated"));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        for (from, to, named) in [
            ("entry_is_a = true", "entry_is_b = true", "entry_is_b"),
            ("name =", "nmae =", "nmae"),
            ("port = 1883", "port = 1883\ntls = true", "tls"),
            ("turnstile =", "turnstyle =", "turnstyle"),
            ("\"kiosk\"", "\"kisok\"", "kisok"),
            ("rotation =", "rotate =", "rotate"),
        ] {
            let error = load(&GOOD.replace(from, to)).expect_err("refused");
            let text = format!("{error}: {}", error.source().expect("a cause"));
            assert!(text.contains("role.toml") && text.contains(named), "{named} not named in: {text}");
        }
    }
}
