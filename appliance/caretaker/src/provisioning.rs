//! What a box is: the provisioning file that it was given, and the files that services read because of it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use engine::message::{Provisioning, ProvisioningState};
use engine::store::StoreMap;
use osimage::key::PublicKey;
use osimage::provision::{Accepted, Broker, LENGTH_MAX, Network, Provision, Refusal, Role};
use runtime::manifest::{Manifest, ServiceName};

use crate::files;
use crate::place::{Place, partition};

/// The kept file, on identity.
const KEPT: &str = "provision";
/// Groups that read what is told (appliance/systemd's sysusers.d).
const STILE: u32 = 900;
const GATED: u32 = 901;
const CONSOLE: u32 = 905;
const MOSQUITTO: u32 = 906;

/// A file that was found, or why it cannot be read.
#[derive(Debug)]
pub struct Offer {
    /// From where, for people.
    pub from: String,
    /// What it is.
    pub file: Result<Accepted, Refusal>,
}

/// What a box is to be.
#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    /// By which file; none: it does not know.
    pub accepted: Option<Accepted>,
    /// It is new: keep it.
    pub keep: bool,
    /// What screens say of it.
    pub told: Provisioning,
}

/// Chooses among the kept file and those that are offered: the newest that is signed, for this box, and of use to it
/// (`works`): a good one must not give way to one with a mistake in it.
#[must_use]
pub fn choose(
    kept: Option<Accepted>,
    offers: Vec<Offer>,
    serial: &str,
    works: impl Fn(&Provision) -> Result<()>,
) -> Choice {
    let mut choice = Choice { accepted: kept, ..Choice::default() };
    if choice.accepted.is_some() {
        choice.told.state = ProvisioningState::Accepted;
        choice.told.detail = "kept from before".to_owned();
    }
    for Offer { from, file } in offers {
        let checked = match file {
            Err(Refusal::Absent) => continue,
            file => file.map_err(anyhow::Error::from).and_then(|accepted| {
                accepted.check_serial(serial)?;
                works(&accepted.provision)?;
                Ok(accepted)
            }),
        };
        let accepted = match checked {
            Ok(accepted) => accepted,
            Err(refusal) => {
                // A good one elsewhere outweighs it.
                if !choice.keep {
                    choice.told = Provisioning {
                        state: ProvisioningState::Refused,
                        detail: format!("{from}: {refusal:#}"),
                    };
                }
                continue;
            }
        };
        let issued = accepted.provision.issued;
        match &choice.accepted {
            Some(newest) if newest.text == accepted.text => {
                if choice.told.state == ProvisioningState::Accepted {
                    choice.told.detail = from;
                }
            }
            Some(newest) if issued <= newest.provision.issued => {
                let detail = format!(
                    "{from}: made at {issued}, not newer than the one in use ({} seconds since 1970)",
                    newest.provision.issued
                );
                if !choice.keep {
                    choice.told = Provisioning { state: ProvisioningState::Refused, detail };
                }
            }
            Some(_) | None => {
                choice.told = Provisioning { state: ProvisioningState::Accepted, detail: from };
                choice.accepted = Some(accepted);
                choice.keep = true;
            }
        }
    }
    choice
}

/// Reads all there are, and keeps the one that is chosen. `identity`: whether it is mounted.
#[must_use]
pub fn take(place: &Place, sticks: &[Stick], identity: bool) -> Choice {
    let keys = keys(place);
    let serial = serial(place);
    let read = |bytes: &[u8]| Accepted::read(bytes, &keys);
    let kept = kept(place, &keys);
    let mut offers = Vec::new();
    if let Some(bytes) = place.partition(partition::PROVISION).and_then(|path| head(path).ok()) {
        let file = read(&bytes);
        // It stays there for a reset, when a stick has long brought a newer one: no reason to complain at each start.
        let outdated = file.as_ref().ok().zip(kept.as_ref());
        if outdated.is_none_or(|(flashed, kept)| flashed.provision.issued >= kept.provision.issued) {
            offers.push(Offer { from: "partition provision".to_owned(), file });
        }
    }
    offers.extend(sticks.iter().map(|(from, bytes)| Offer { from: from.clone(), file: read(bytes) }));
    let works = |provision: &Provision| told(provision, &base(place, provision)?).map(drop);
    let mut choice = choose(kept, offers, &serial, works);
    if let Some(accepted) = choice.accepted.as_ref().filter(|_| choice.keep) {
        let kept = match identity {
            true => files::replace(&place.identity(KEPT), accepted.text.as_bytes(), 0o600),
            false => Ok(()),
        };
        if let Err(error) = kept {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(error, "the provisioning file is used and not kept");
            choice.told.detail += &format!(" (not kept: {error})");
        }
    }
    choice
}

/// A file on a stick: where it was found, and its bytes.
pub type Stick = (String, Vec<u8>);

/// Whether a file is the operator's word for this very box: signed, for its serial number where it names one, with its
/// name, and no older than the one in use.
///
/// # Errors
/// What is wrong with it.
pub fn permit(place: &Place, bytes: &[u8]) -> Result<()> {
    let keys = keys(place);
    let accepted = Accepted::read(bytes, &keys)?;
    accepted.check_serial(&serial(place))?;
    let kept = kept(place, &keys).context("this box has not been provisioned")?.provision;
    let Provision { issued, target, .. } = accepted.provision;
    ensure!(target.name == kept.target.name, "is for box {:?}, this is {:?}", target.name, kept.target.name);
    ensure!(issued >= kept.issued, "is older than the one in use (made at {issued} and {})", kept.issued);
    Ok(())
}

/// The manifest of a role, as the image has it.
///
/// # Errors
/// When the image has none.
pub fn base(place: &Place, provision: &Provision) -> Result<String> {
    let path = place.at("/usr/share/stile/manifests").join(format!("{}.toml", provision.role));
    files::text(&path).with_context(|| format!("this image has no manifest for the role {}", provision.role))
}

/// The file in use.
fn kept(place: &Place, keys: &[PublicKey]) -> Option<Accepted> {
    files::text(&place.identity(KEPT)).and_then(|text| Accepted::read(text.as_bytes(), keys).ok())
}

/// The keys that may sign.
fn keys(place: &Place) -> Vec<PublicKey> {
    let path = place.at("/usr/share/stile/keys/provision.pub");
    PublicKey::read_all(&path).unwrap_or_else(|error| {
        tracing::error!(error = %format!("{:#}", anyhow::Error::new(error)), "no key may sign for this box");
        Vec::new()
    })
}

/// The serial number of the box, "unknown" where it has none.
#[must_use]
pub fn serial(place: &Place) -> String {
    let sources = [
        "/sys/class/dmi/id/product_serial",
        "/sys/class/dmi/id/board_serial",
        "/proc/device-tree/serial-number",
    ];
    let found = sources.into_iter().filter_map(|path| files::text(&place.at(path)));
    found.filter_map(|text| sensible(&text)).next().unwrap_or_else(|| "unknown".to_owned())
}

/// Makers who have no number leave one of these.
fn sensible(text: &str) -> Option<String> {
    let text = text.trim_matches(|it: char| it.is_whitespace() || it == '\0');
    let folded = text.to_ascii_lowercase();
    let filler = ["none", "default string", "system serial number", "not specified", "0", "123456789"];
    let is_filler = filler.contains(&folded.as_str()) || folded.contains("filled by o");
    (!text.is_empty() && text.len() <= 64 && !is_filler).then(|| text.to_owned())
}

pub(crate) fn head(path: PathBuf) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than allowed, so that a file that is too long is called so.
    File::open(path)?.take(LENGTH_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Absolute path.
    pub path: String,
    /// Content.
    pub text: String,
    /// Who may read it.
    pub readers: Readers,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Whoever wants.
    All,
    /// A group.
    Group(u32),
    /// One user, who owns it.
    User(u32),
}

/// What others are told of a box: role manifest, store map, whom the gate admits, network, time, bridge, host name.
/// `base` is the role's manifest.
///
/// # Errors
/// When manifest and provisioning file do not go together; the source names the key.
pub fn told(provision: &Provision, base: &str) -> Result<Vec<Told>> {
    let mut manifest: toml::Table = base.parse().context("the image's role manifest is no TOML")?;
    manifest.insert("name".to_owned(), provision.target.name.clone().into());
    merge(&mut manifest, &provision.manifest);
    let text = toml::to_string(&manifest).context("the manifest cannot be written")?;
    let checked: Manifest = toml::from_str(&text)
        .with_context(|| format!("the manifest of a box of role {} is not valid", provision.role))?;
    let run = |file: &str, text: String, readers| Told { path: format!("/run/stile/{file}"), text, readers };
    let group = |file: &str, text: String, group| run(file, text, Readers::Group(group));
    let mut told = vec![group("manifest.toml", text, STILE)];
    // Where the role's manifest points elsewhere, somebody else brings it.
    let here = checked.store_map == Path::new("/etc/stile/store.json");
    ensure!(provision.store_map.is_some() || !here, "the store map is missing: no service starts without it");
    let here = checked.admission.as_deref() == Some(Path::new("/etc/stile/admission.toml"));
    let gate = checked.services.contains(&ServiceName::Gated);
    ensure!(
        provision.admission.is_some() || !here || !gate,
        "[admission] is missing: whom would the gate admit?"
    );
    if let Some(map) = &provision.store_map {
        let store: StoreMap = serde_json::from_str(map).context("store_map")?;
        store.validate().context("store_map")?;
        for lane in &checked.lanes {
            let known = store.lanes.iter().any(|known| known.id.0 == lane.id);
            ensure!(known, "manifest: lane {} is not in the store map", lane.id);
        }
        told.push(group("store.json", map.clone(), STILE));
    }
    if let Some(admission) = &provision.admission {
        let text = toml::to_string(admission).context("[admission] cannot be written")?;
        told.push(group("admission.toml", text, GATED));
    }
    for service in &checked.services {
        let name = toml::Value::try_from(service).context("a service without a name")?;
        let name = name.as_str().context("a service without a name")?.to_owned();
        told.push(group(&format!("services/{name}"), String::new(), STILE));
    }
    if let Some(broker) = &provision.broker {
        told.push(group("mosquitto.d/bridge.conf", bridge(provision, broker), MOSQUITTO));
        if let Some(ca) = &broker.ca {
            told.push(group("mosquitto.d/ca.pem", ca.clone(), MOSQUITTO));
        }
    }
    told.push(Told {
        path: "/run/systemd/network/10-stile.network".to_owned(),
        text: network(&provision.network),
        readers: Readers::All,
    });
    if !provision.time.servers.is_empty() {
        let text = format!("[Time]\nNTP={}\n", provision.time.servers.join(" "));
        told.push(Told {
            path: "/run/systemd/timesyncd.conf.d/10-stile.conf".to_owned(),
            text,
            readers: Readers::All,
        });
    }
    if let Some(ca) = &provision.updates.ca {
        // RAUC reads it in a process without rights.
        told.push(Told {
            path: crate::update::SERVER_CA.to_owned(),
            text: ca.clone(),
            readers: Readers::All,
        });
    }
    for (service, files) in &provision.secrets {
        let owner = match service.as_str() {
            "gated" => GATED,
            "console" => CONSOLE,
            other => bail!("secrets of {other}: nobody here reads them"),
        };
        for (name, text) in files {
            told.push(run(&format!("secrets/{service}/{name}"), text.clone(), Readers::User(owner)));
        }
    }
    Ok(told)
}

/// Lays `over` on `base`: tables key by key, anything else as a whole.
fn merge(base: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// systemd.network(5).
fn network(network: &Network) -> String {
    let (Network::Dhcp { interface } | Network::Static { interface, .. }) = network;
    let mut text = match interface {
        Some(name) => format!("[Match]\nName={name}\n"),
        None => "[Match]\nType=ether\nKind=!*\n".to_owned(),
    };
    text += "\n[Network]\n";
    match network {
        Network::Dhcp { .. } => text += "DHCP=yes\n",
        Network::Static { address, gateway, dns, .. } => {
            text += &format!("Address={address}\n");
            if let Some(gateway) = gateway {
                text += &format!("Gateway={gateway}\n");
            }
            for server in dns {
                text += &format!("DNS={server}\n");
            }
        }
    }
    text
}

/// What a box shares with the others of its store, through the operator's broker: below `stile/`, which way, at most or
/// at least once (0, 1). What is not needed does not leave the box that knows it.
const fn shared(role: Role) -> &'static [(&'static str, &'static str, u8)] {
    match role {
        Role::EntryGate | Role::ExitGate => &[
            ("gate/passage", "both", 1),
            ("gate/seen/#", "both", 1),
            ("gate/view/#", "out", 1),
            ("gate/report", "out", 1),
            ("gate/order", "in", 1),
            ("cart/session-closed", "in", 1),
            ("floor/view", "in", 0),
            ("staff/call", "out", 1),
            ("staff/answer", "in", 1),
            ("ack/#", "both", 1),
        ],
        Role::Kiosk => &[("staff/call", "out", 1), ("staff/answer", "in", 1)],
        Role::StoreBox => &[
            ("gate/passage", "in", 1),
            ("gate/view/#", "in", 1),
            ("gate/report", "in", 1),
            ("gate/order", "out", 1),
            ("cart/#", "out", 1),
            ("store/view", "out", 1),
            ("floor/view", "out", 0),
            ("staff/call", "in", 1),
            ("staff/answer", "out", 1),
            ("ack/#", "both", 1),
        ],
        Role::AllInOne => &[
            ("gate/#", "out", 1),
            ("cart/#", "out", 1),
            ("store/view", "out", 1),
            ("staff/call", "out", 1),
            ("ack/#", "in", 1),
        ],
    }
}

/// mosquitto.conf(5), "Configuring Bridges". The store's own topics lie below the store's name; what each box says of
/// itself, below the box's.
fn bridge(provision: &Provision, broker: &Broker) -> String {
    let Broker { host, port, user, password, ca } = broker;
    let name = &provision.target.name;
    // The store's name is free text; a topic level has none of these.
    let store: String =
        provision.store.chars().map(|it| if "/+# ".contains(it) { '-' } else { it }).collect();
    // With version 5 the bridge asks for nothing of its own back ("no local"), so what goes both ways ends.
    let mut text = format!(
        "connection operator\naddress {host}:{port}\nremote_clientid {store}.{name}\nbridge_protocol_version mqttv50\n\
         cleansession false\ntry_private false\nnotifications false\nrestart_timeout 5 60\n\
         topic admission/# in 1 stile/ {store}/stile/\n\
         topic health/# out 1 stile/ {store}/{name}/stile/\n\
         topic box/# out 1 stile/ {store}/{name}/stile/\n"
    );
    for (topic, direction, quality) in shared(provision.role) {
        text += &format!("topic {topic} {direction} {quality} stile/ {store}/stile/\n");
    }
    if let Some(user) = user {
        text += &format!("remote_username {user}\n");
    }
    if let Some(password) = password {
        text += &format!("remote_password {password}\n");
    }
    if ca.is_some() {
        text += "bridge_cafile /run/stile/mosquitto.d/ca.pem\n";
    }
    text
}

/// Writes what others are told; the manifest last, since services take it as the word that all is there.
///
/// # Errors
/// Names the file.
pub fn tell(place: &Place, told: &[Told]) -> Result<()> {
    let (manifest, others): (Vec<_>, Vec<_>) =
        told.iter().partition(|file| file.path.ends_with("/manifest.toml"));
    for Told { path, text, readers } in others.into_iter().chain(manifest) {
        let path = place.at(path);
        let (mode, owner, group) = match *readers {
            Readers::All => (0o644, None, None),
            Readers::Group(group) => (0o640, None, Some(group)),
            Readers::User(user) => (0o400, Some(user), Some(user)),
        };
        files::replace(&path, text.as_bytes(), mode)?;
        if place.is_here() {
            files::to("change the owner of", &path, std::os::unix::fs::chown(&path, owner, group))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
