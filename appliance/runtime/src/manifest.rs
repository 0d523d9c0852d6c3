//! The role manifest: one TOML file that says what a box is and where its devices are.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use engine::store::StoreMap;
use serde::{Deserialize, Serialize};

use crate::bus::{Bus, MqttSettings};

/// A box's role. Unknown keys are refused, so that a misspelt one cannot silently do nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// For people: what this box is ("entry gate 1").
    pub name: String,
    /// Where services keep what must survive.
    pub state_dir: PathBuf,
    /// The store map, JSON.
    pub store_map: PathBuf,
    /// How services talk to each other.
    #[serde(default)]
    pub bus: BusSettings,
    /// The staff page.
    #[serde(default)]
    pub console: ConsoleSettings,
    /// Gate lanes that this box drives.
    #[serde(default)]
    pub lanes: Vec<LaneSettings>,
    /// When shoppers may come in; none: always.
    #[serde(default)]
    pub hours: Option<OpeningHours>,
    /// Where models and their manifest lie.
    #[serde(default = "default_models_dir")]
    pub models_dir: PathBuf,
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
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        for (from, to, named) in [
            ("entry_is_a = true", "entry_is_b = true", "entry_is_b"),
            ("name =", "nmae =", "nmae"),
            ("port = 1883", "port = 1883\ntls = true", "tls"),
            ("turnstile =", "turnstyle =", "turnstyle"),
        ] {
            let error = load(&GOOD.replace(from, to)).expect_err("refused");
            let text = format!("{error}: {}", error.source().expect("a cause"));
            assert!(text.contains("role.toml") && text.contains(named), "{named} not named in: {text}");
        }
    }
}
