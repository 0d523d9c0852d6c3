//! Commands on keys and on what they sign besides images.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::Args;
use osimage::bundle::{self, Contents, Made, Signer};
use osimage::key::{PublicKey, SecretKey};
use osimage::key_folder;
use osimage::layout::Layout;
use osimage::provision::{self, Accepted};

use super::{content, print, read_text, write_whole};

pub fn make(folder: &Path, name: &str) -> Result<()> {
    key_folder::make(folder, name)?;
    let id = |file: &str| anyhow::Ok(PublicKey::read_all(&folder.join(file))?[0].id());
    print(&format!(
        "{}: keys of {name}; release {}, provision {}\nKeep the folder secret and a copy of it in another place: \
         boxes take updates from whoever has it.\n",
        folder.display(),
        id("release.pub")?,
        id("provision.pub")?
    ))
}

/// `osimage provision`.
#[derive(Args)]
pub struct Provision {
    /// What the box is given, as TOML without the lines that options bring: store, role, [box], [network], ...
    settings: PathBuf,
    /// The secret key, `provision.key` of the operator's keys.
    #[arg(long)]
    key: PathBuf,
    /// The file to write.
    #[arg(long, short)]
    output: PathBuf,
    /// Name of the box, in the place of the one in the file.
    #[arg(long)]
    name: Option<String>,
    /// Serial number of the only box that may take the file.
    #[arg(long)]
    serial: Option<String>,
    /// The store map, a file of JSON.
    #[arg(long)]
    store_map: Option<PathBuf>,
    /// Whom the box admits, a file of TOML.
    #[arg(long)]
    admission: Option<PathBuf>,
    /// When it is issued, in seconds since 1970; now when left out. A box refuses a file older than its own.
    #[arg(long)]
    issued: Option<u64>,
}

impl Provision {
    pub fn run(self) -> Result<()> {
        let read = |path: &Path| read_text(path, provision::LENGTH_MAX as u64, "provisioning file");
        let malformed = |path: &Path| format!("{} is malformed", path.display());
        let key = SecretKey::read(&self.key)?;
        let mut settings: toml::Table =
            read(&self.settings)?.parse().with_context(|| malformed(&self.settings))?;
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let issued = self.issued.unwrap_or_else(now);
        settings.insert("issued".to_owned(), i64::try_from(issued).context("read --issued")?.into());
        if let Some(path) = &self.store_map {
            settings.insert("store_map".to_owned(), read(path)?.into());
        }
        if let Some(path) = &self.admission {
            let admission: toml::Table = read(path)?.parse().with_context(|| malformed(path))?;
            settings.insert("admission".to_owned(), admission.into());
        }
        let named = [("name", self.name), ("serial", self.serial)];
        for (word, value) in named.into_iter().filter_map(|(word, value)| Some((word, value?))) {
            let entry = settings.entry("box").or_insert_with(|| toml::Table::new().into());
            let table = entry.as_table_mut().with_context(|| malformed(&self.settings))?;
            table.insert(word.to_owned(), value.into());
        }
        let text = toml::to_string(&settings).context("write settings")?;
        let made = provision::Provision::parse(&text).with_context(|| malformed(&self.settings))?;
        let file = made.sign(&key)?;
        // As a box will read it.
        Accepted::read(file.as_bytes(), &[key.public()]).context("read back what was signed")?;
        write_whole(&self.output, file.as_bytes())?;
        let bound = made.target.serial.map_or_else(|| "any box".to_owned(), |serial| format!("box {serial}"));
        print(&format!(
            "{}: {} of {:?}, {}, for {bound}, signed by key {}\n",
            self.output.display(),
            made.target.name,
            made.store,
            made.role,
            key.public().id()
        ))
    }
}

/// `osimage bundle`.
#[derive(Args)]
pub struct Bundle {
    /// The partition layout, one of image/layouts.
    #[arg(long, short)]
    layout: PathBuf,
    /// What goes into a part of the slot: root, verity, and kernel or boot.
    #[arg(long, short, value_name = "PART=FILE", value_parser = content)]
    content: Vec<(String, PathBuf)>,
    /// The folder of the operator's keys.
    #[arg(long)]
    keys: PathBuf,
    /// Which boxes take it; what the kernel says when left out.
    #[arg(long)]
    compatible: Option<String>,
    /// Its version; what the kernel says when left out.
    #[arg(long)]
    version: Option<String>,
    /// The RAUC to make it with, if not the one of this machine.
    #[arg(long, default_value = "rauc")]
    rauc: String,
    /// The bundle to write.
    #[arg(long, short)]
    output: PathBuf,
}

impl Bundle {
    pub fn run(self) -> Result<()> {
        let layout = Layout::load(&self.layout)?;
        let images: std::collections::BTreeMap<String, PathBuf> = self.content.into_iter().collect();
        let contents =
            Contents { layout: &layout, images: &images, compatible: self.compatible, version: self.version };
        let file = |name: &str| self.keys.join(name);
        let (certificate, key, keyring) = (file("rauc.cert.pem"), file("rauc.key.pem"), file("rauc-ca.pem"));
        let signer = Signer { rauc: &self.rauc, certificate: &certificate, key: &key, keyring: &keyring };
        let Made { compatible, version } = bundle::make(&contents, &signer, &self.output)
            .with_context(|| format!("make {}", self.output.display()))?;
        print(&format!("{}: version {version} for {compatible}\n", self.output.display()))
    }
}
