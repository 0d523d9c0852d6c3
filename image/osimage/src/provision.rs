//! Provisioning files: what makes a box of an image the box of one place in one store, signed by the
//! operator.
//!
//! Text in UTF-8, at most 1 MiB. The first line is `stile-provision 1 <key id> <signature>`; everything after
//! it is TOML, and what the signature is over (see [`crate::key`], purpose `STILE-PROVISION-1`). It lies raw
//! at the start of the partition `provision`, followed by zeros, or in a file `stile.provision` on a USB
//! stick.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::key::{KeyId, LineError, PublicKey, SecretKey, SignatureLine};

/// The partition in which it lies.
pub const PARTITION: &str = "provision";

/// The file's name on a USB stick.
pub const FILE_NAME: &str = "stile.provision";

/// Longest provisioning file, in bytes: the length of its partition.
pub const LENGTH_MAX: usize = 1 << 20;

const WORD: &str = "stile-provision";
const PURPOSE: &str = "STILE-PROVISION-1";

/// Longest name of a box: it becomes the host name.
const NAME_MAX: usize = 63;

/// What a box is given.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provision {
    /// When it was made, in seconds since 1970 (UTC): a box that keeps a newer file refuses an older one.
    pub issued: u64,
    /// The store, as the operator calls it.
    pub store: String,
    /// What the box does there.
    pub role: Role,
    /// The store map as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_map: Option<String>,
    /// The box.
    #[serde(rename = "box")]
    pub target: BoxName,
    /// How it gets its address.
    #[serde(default)]
    pub network: Network,
    /// Where it gets the time.
    #[serde(default)]
    pub time: Time,
    /// The operator's MQTT broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
    /// Where and when it updates itself.
    #[serde(default)]
    pub updates: Updates,
    /// Whom it admits: what the gate reads as `admission.toml`. The gate checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<toml::Table>,
    /// What differs from the role's manifest: tables are merged key by key, all else replaces.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub manifest: toml::Table,
    /// Files that one service alone may read, by service ("gated", "console") and name: on the box
    /// `/run/stile/secrets/SERVICE/NAME`, which the manifest names (`key_file`, `phone_issuer`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
}

/// Without what is secret.
impl fmt::Debug for Provision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Provision({} of {:?}, {}, issued {})",
            self.target.name, self.store, self.role, self.issued
        )
    }
}

/// Longest secret, bytes.
const SECRET_MAX: usize = 4096;

/// What a box does in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Lets shoppers in.
    EntryGate,
    /// Lets shoppers out.
    ExitGate,
    /// Tells prices and helps.
    Kiosk,
    /// Watches the floor and keeps the carts.
    StoreBox,
    /// All of these.
    AllInOne,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::EntryGate, Self::ExitGate, Self::Kiosk, Self::StoreBox, Self::AllInOne];

    /// As in the file, and as the role's manifest is named.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::EntryGate => "entry-gate",
            Self::ExitGate => "exit-gate",
            Self::Kiosk => "kiosk",
            Self::StoreBox => "store-box",
            Self::AllInOne => "all-in-one",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The box that a file is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxName {
    /// Its name, also its host name: 1 to 63 lower-case letters, digits and hyphens.
    pub name: String,
    /// The serial number of the only box that may take the file; none: any box may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// How a box gets its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// From the store's router, on `interface` or on every wired one.
    Dhcp {
        /// Name of the interface.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// As told here.
    Static {
        /// Name of the interface; none: every wired one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
        /// Address and prefix length, as `10.0.0.5/24`.
        address: String,
        /// The way out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway: Option<IpAddr>,
        /// Name servers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dns: Vec<IpAddr>,
    },
}

/// From the store's router.
impl Default for Network {
    fn default() -> Self {
        Self::Dhcp { interface: None }
    }
}

/// Where a box gets the time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// Names or addresses of NTP servers, best first, at most 8; none: those that DHCP names.
    pub servers: Vec<String>,
}

/// Where and when a box updates itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Updates {
    /// Where its bundles are: the start of an HTTPS address; none: they are brought by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Certificates that the server's own must lead to, as PEM; none: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// When it may, as `02:00-05:00`; none: whenever no lane is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The time zone of the window, as `Asia/Seoul`; none: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// An MQTT broker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who the box is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Certificates that the broker's own must lead to, as PEM; none: the connection is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Without the password.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({}:{})", self.host, self.port)
    }
}

/// A file whose signature is good.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// What it says.
    pub provision: Provision,
    /// Who signed it.
    pub key: KeyId,
    /// The whole file, without padding: what to keep.
    pub text: String,
}

/// Why a file is not taken.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// There is none: only zeros, or nothing at all.
    #[error("no provisioning file")]
    Absent,
    /// It is longer than any.
    #[error("provisioning file has {found} bytes, at most {LENGTH_MAX} are allowed")]
    TooLong {
        /// How long it is.
        found: usize,
    },
    /// It is no text.
    #[error("provisioning file is no text: byte {at} is not UTF-8")]
    Text {
        /// Where.
        at: usize,
    },
    /// It does not start as such a file does.
    #[error("first line is not that of a provisioning file: {0}")]
    FirstLine(LineError),
    /// The signing key is not one of those that this image knows.
    #[error("signed by a key this image does not know: {key}")]
    UnknownKey {
        /// Which.
        key: KeyId,
    },
    /// The text is not what was signed, or somebody else signed it.
    #[error("signature of key {key} does not match: the file was changed after it was signed")]
    Signature {
        /// Which key.
        key: KeyId,
    },
    /// What was signed makes no sense.
    #[error("{0}")]
    Content(#[from] ContentError),
    /// It is for another box.
    #[error("made for box {wanted}, this is {here}")]
    OtherBox {
        /// The serial number in the file.
        wanted: String,
        /// The serial number of this box.
        here: String,
    },
}

/// What is wrong with what a provisioning file says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// It is not TOML of this form. The parser's own message would show the line, which may be a secret.
    #[error("line {line} of the provisioning text: {what}")]
    Form {
        /// Line, from 1; the signature's line is not counted.
        line: usize,
        /// What does not fit there.
        what: String,
    },
    /// A value is out of its range.
    #[error("{key} must be {expected}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl Provision {
    /// Reads and checks TOML without a signature's line.
    ///
    /// # Errors
    ///
    /// [`ContentError`] naming the line or the key.
    pub fn parse(text: &str) -> Result<Self, ContentError> {
        let provision: Self = toml::from_str(text).map_err(|error| ContentError::Form {
            line: error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count()) + 1,
            what: error.message().to_owned(),
        })?;
        provision.check()?;
        Ok(provision)
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    ///
    /// [`ContentError::Value`].
    pub fn check(&self) -> Result<(), ContentError> {
        let good = |good: bool, key, expected| {
            if good { Ok(()) } else { Err(ContentError::Value { key, expected }) }
        };
        good(is_host_label(&self.target.name), "box.name", "1 to 63 lower-case letters, digits and hyphens")?;
        let word = |text: &String| word_of(text, 64);
        good(word(&self.store), "store", "1 to 64 bytes of printable text")?;
        good(self.target.serial.as_ref().is_none_or(word), "box.serial", "1 to 64 bytes of printable text")?;
        if let Some(map) = &self.store_map {
            good(serde_json::from_str::<serde::de::IgnoredAny>(map).is_ok(), "store_map", "JSON")?;
        }
        let (Network::Dhcp { interface } | Network::Static { interface, .. }) = &self.network;
        good(
            interface.as_deref().is_none_or(is_interface),
            "network.interface",
            "1 to 15 letters, digits, hyphens, dots and underscores",
        )?;
        if let Network::Static { address, gateway, .. } = &self.network {
            let address = address_and_prefix(address).ok_or(ContentError::Value {
                key: "network.address",
                expected: "an address with the length of its prefix, as 10.0.0.5/24",
            })?;
            let same = gateway.is_none_or(|gateway| gateway.is_ipv4() == address.0.is_ipv4());
            good(same, "network.gateway", "of the same family as network.address")?;
        }
        let servers = &self.time.servers;
        good(
            servers.len() <= 8 && servers.iter().all(|server| is_host(server)),
            "time.servers",
            "at most 8 names or addresses",
        )?;
        let Updates { url, ca, window, zone } = &self.updates;
        let https = |url: &String| url.starts_with("https://") && word_of(url, 512);
        good(url.as_ref().is_none_or(https), "updates.url", "an address that starts with https://")?;
        good(ca.as_deref().is_none_or(is_pem), "updates.ca", "certificates in PEM")?;
        good(
            window.as_deref().is_none_or(is_window),
            "updates.window",
            "two times of a day, as 02:00-05:00",
        )?;
        let named = |zone: &String| word_of(zone, 64) && !zone.contains("..") && !zone.starts_with('/');
        good(zone.as_ref().is_none_or(named), "updates.zone", "the name of a time zone, as Asia/Seoul")?;
        for (service, files) in &self.secrets {
            good(["gated", "console"].contains(&service.as_str()), "secrets", "for gated or console")?;
            good(
                files.iter().all(|(name, text)| is_host_label(name) && text.len() <= SECRET_MAX),
                "secrets",
                "files of at most 4096 bytes, named by lower-case letters, digits and hyphens",
            )?;
        }
        if let Some(broker) = &self.broker {
            good(is_host(&broker.host), "broker.host", "a name or an address")?;
            good(broker.port != 0, "broker.port", "1 to 65535")?;
            let plain = |text: &Option<String>| text.as_ref().is_none_or(|t| !t.contains(char::is_control));
            good(plain(&broker.user), "broker.user", "text of one line")?;
            good(plain(&broker.password), "broker.password", "text of one line")?;
            good(
                broker.password.is_none() || broker.ca.is_some(),
                "broker.ca",
                "the certificates of the broker's authority: without them anybody on the line reads the password",
            )?;
            good(broker.ca.as_deref().is_none_or(is_pem), "broker.ca", "certificates in PEM")?;
        }
        Ok(())
    }

    /// The signed file.
    ///
    /// # Errors
    ///
    /// [`Refusal::Content`] or [`Refusal::TooLong`].
    pub fn sign(&self, key: &SecretKey) -> Result<String, Refusal> {
        self.check()?;
        let body =
            toml::to_string(self).map_err(|error| ContentError::Form { line: 1, what: error.to_string() })?;
        let line = SignatureLine { key: key.public().id(), signature: key.sign(PURPOSE, body.as_bytes()) };
        let text = format!("{}\n{body}", line.to_text(WORD));
        if text.len() > LENGTH_MAX { Err(Refusal::TooLong { found: text.len() }) } else { Ok(text) }
    }
}

impl Accepted {
    /// Reads a file or the start of the partition, whose padding of zeros is left out, and checks that one of
    /// `keys` signed it. Whom it is for is not checked: see [`Accepted::check_serial`].
    ///
    /// # Errors
    ///
    /// [`Refusal`]; [`Refusal::Absent`] when there is nothing to refuse.
    pub fn read(bytes: &[u8], keys: &[PublicKey]) -> Result<Self, Refusal> {
        let (line, body, text) = split(bytes)?;
        let mut known = keys.iter().filter(|key| key.id() == line.key).peekable();
        if known.peek().is_none() {
            return Err(Refusal::UnknownKey { key: line.key });
        }
        if !known.any(|key| key.verifies(PURPOSE, body.as_bytes(), &line.signature)) {
            return Err(Refusal::Signature { key: line.key });
        }
        Ok(Self { provision: Provision::parse(body)?, key: line.key, text: text.to_owned() })
    }

    /// As [`Accepted::read`], without asking who signed: to show a file, never to obey it.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn read_unchecked(bytes: &[u8]) -> Result<Self, Refusal> {
        let (line, body, text) = split(bytes)?;
        Ok(Self { provision: Provision::parse(body)?, key: line.key, text: text.to_owned() })
    }

    /// Whether the box with this serial number may take the file.
    ///
    /// # Errors
    ///
    /// [`Refusal::OtherBox`].
    pub fn check_serial(&self, here: &str) -> Result<(), Refusal> {
        match &self.provision.target.serial {
            Some(wanted) if wanted != here => {
                Err(Refusal::OtherBox { wanted: wanted.clone(), here: here.to_owned() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The signature, what it is over, and the whole text, of a file that may be padded.
fn split(bytes: &[u8]) -> Result<(SignatureLine, &str, &str), Refusal> {
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let bytes = &bytes[..length];
    if bytes.is_empty() {
        return Err(Refusal::Absent);
    }
    if bytes.len() > LENGTH_MAX {
        return Err(Refusal::TooLong { found: bytes.len() });
    }
    // What does not even start as such a file is named so, text or not.
    if !bytes.starts_with(WORD.as_bytes()) {
        return Err(Refusal::FirstLine(LineError::Word));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Refusal::Text { at: error.valid_up_to() })?;
    let (line, body) = text.split_once('\n').unwrap_or((text, ""));
    let line = SignatureLine::parse(line, WORD).map_err(Refusal::FirstLine)?;
    Ok((line, body, text))
}

/// 1 to `length_max` bytes of one line.
fn word_of(text: &str, length_max: usize) -> bool {
    (1..=length_max).contains(&text.len()) && !text.contains(char::is_control)
}

fn is_pem(text: &str) -> bool {
    text.contains("-----BEGIN CERTIFICATE-----")
}

/// As `02:00-05:00`; it may go over midnight.
fn is_window(text: &str) -> bool {
    let time = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two = |text: &str, limit: u8| {
            text.len() == 2
                && text.bytes().all(|c| c.is_ascii_digit())
                && text.parse().is_ok_and(|n: u8| n < limit)
        };
        Some(two(hour, 24) && two(minute, 60))
    };
    text.split_once('-')
        .is_some_and(|(from, to)| from != to && time(from) == Some(true) && time(to) == Some(true))
}

fn is_interface(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=15).contains(&text.len()) && text.bytes().all(plain)
}

fn is_host_label(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name of RFC 1123 or an address.
fn is_host(text: &str) -> bool {
    let name =
        || text.len() <= 253 && text.split('.').all(|label| is_host_label(&label.to_ascii_lowercase()));
    text.parse::<IpAddr>().is_ok() || name()
}

/// Address and length of the prefix of `10.0.0.5/24`.
fn address_and_prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (1..=longest).contains(&prefix).then_some((address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
issued = 1790000000
store = "Seoul 3"
role = "entry-gate"
store_map = '{"shelves": []}'
[box]
name = "gate-1"
serial = "S123"
[network]
method = "static"
address = "10.0.0.5/24"
gateway = "10.0.0.1"
dns = ["10.0.0.1", "2001:db8::1"]
[time]
servers = ["ntp.example", "10.0.0.1"]
[broker]
host = "broker.example"
port = 8883
user = "gate-1"
password = "hush"
ca = "-----BEGIN CERTIFICATE-----"
[updates]
url = "https://updates.example/stile"
ca = "-----BEGIN CERTIFICATE-----"
window = "22:30-05:00"
zone = "Asia/Seoul"
[admission]
store_group = 7
root_key = "ab"
[[admission.issuers]]
id = 1
[manifest.screen]
rotation = 90
"#;

    fn key() -> SecretKey {
        SecretKey::generate().unwrap()
    }

    #[test]
    fn what_is_signed_is_read_back_also_from_a_padded_partition() {
        let key = key();
        let provision = Provision::parse(TEXT).unwrap();
        let file = provision.sign(&key).unwrap();
        let mut partition = file.clone().into_bytes();
        partition.resize(LENGTH_MAX, 0);
        for bytes in [file.as_bytes(), &partition] {
            let accepted = Accepted::read(bytes, &[self::key().public(), key.public()]).unwrap();
            assert_eq!(
                accepted,
                Accepted { provision: provision.clone(), key: key.public().id(), text: file.clone() }
            );
            accepted.check_serial("S123").unwrap();
            let other = accepted.check_serial("S456").unwrap_err();
            assert_eq!(other.to_string(), "made for box S123, this is S456");
        }
        assert!(!format!("{provision:?}").contains("hush"));
    }

    #[test]
    fn the_first_line_is_as_documented() {
        let key = key();
        let file = Provision::parse(TEXT).unwrap().sign(&key).unwrap();
        let fields: Vec<_> = file.lines().next().unwrap().split(' ').collect();
        assert_eq!(fields[..3], ["stile-provision", "1", &key.public().id().to_string()]);
        assert_eq!(fields[3].len(), 88);
        let body = &file[file.find('\n').unwrap() + 1..];
        // As another program would check it: the purpose, a zero, the body.
        let signed = ["STILE-PROVISION-1\0".as_bytes(), body.as_bytes()].concat();
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let public = engine.decode(key.public().to_string()).unwrap();
        let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
        public.verify(&signed, &engine.decode(fields[3]).unwrap()).unwrap();
    }

    #[test]
    fn every_refusal_names_its_cause() {
        let key = key();
        let file = Provision::parse(TEXT).unwrap().sign(&key).unwrap();
        let id = key.public().id();
        let refusal = |bytes: &[u8], keys: &[PublicKey]| Accepted::read(bytes, keys).unwrap_err().to_string();
        let ours = [key.public()];
        assert_eq!(Accepted::read(&[0; 4096], &ours), Err(Refusal::Absent));
        assert_eq!(Accepted::read(&[], &ours), Err(Refusal::Absent));
        assert_eq!(refusal(file.as_bytes(), &[]), format!("signed by a key this image does not know: {id}"));
        let other = [self::key().public()];
        assert_eq!(
            refusal(file.as_bytes(), &other),
            format!("signed by a key this image does not know: {id}")
        );
        let changed = file.replace("10.0.0.5", "10.0.0.6");
        assert_eq!(
            refusal(changed.as_bytes(), &ours),
            format!("signature of key {id} does not match: the file was changed after it was signed")
        );
        assert!(
            refusal(b"\xEF\xBB\xBFstile", &ours).starts_with("first line is not that of a provisioning file")
        );
        let newer = file.replacen(" 1 ", " 2 ", 1);
        assert!(refusal(newer.as_bytes(), &ours).contains("version \"2\" of the format"));
        let mut torn = file.clone().into_bytes();
        torn[200] = 0xFF;
        assert_eq!(refusal(&torn, &ours), "provisioning file is no text: byte 200 is not UTF-8");
        assert_eq!(
            refusal(&[b'x'; LENGTH_MAX + 1], &ours),
            "provisioning file has 1048577 bytes, at most 1048576 are allowed"
        );
    }

    #[test]
    fn a_text_that_makes_no_sense_is_refused_without_showing_it() {
        let table = [
            ("name = \"gate-1\"", "name = \"Gate 1\"", "box.name"),
            ("role = \"entry-gate\"", "role = \"door\"", "line 4"),
            ("issued = 1790000000", "", "issued"),
            ("10.0.0.5/24", "10.0.0.5", "network.address"),
            ("10.0.0.5/24", "10.0.0.5/33", "network.address"),
            ("gateway = \"10.0.0.1\"", "gateway = \"fe80::1\"", "network.gateway"),
            ("ntp.example", "ntp example", "time.servers"),
            ("port = 8883", "port = 0", "broker.port"),
            ("\"hush\"", "\"hush\\nlisten 1\"", "broker.password"),
            ("\"hush\"", "hush", "line 20"),
            ("22:30", "24:30", "updates.window"),
            ("22:30", "22:3", "updates.window"),
            ("https", "http", "updates.url"),
            ("-----BEGIN CERTIFICATE-----\"\nwindow", "a name\"\nwindow", "updates.ca"),
            ("{\"shelves\": []}", "{", "store_map"),
            ("[time]", "[clock]", "clock"),
        ];
        for (from, to, key) in table {
            let error = Provision::parse(&TEXT.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(key), "{to}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn any_bytes_are_a_file_or_a_refusal() {
        let key = key();
        let file = Provision::parse(TEXT).unwrap().sign(&key).unwrap().into_bytes();
        for at in 0..file.len() {
            for change in [0x01, 0x80, 0x20] {
                let mut bytes = file.clone();
                bytes[at] ^= change;
                assert!(Accepted::read(&bytes, &[key.public()]).is_err(), "byte {at} ^ {change:#x}");
            }
            assert!(Accepted::read(&file[..at], &[key.public()]).is_err(), "cut at {at}");
        }
    }
}
