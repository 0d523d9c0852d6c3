use osimage::key::SecretKey;
use osimage::provision::Role;
use proptest::prelude::*;

use super::*;

const TEXT: &str = r#"
issued = 100
store = "Seoul 1/2"
role = "entry-gate"
store_map = '''{"name": "s", "bounds": [0, 0, 9, 9], "gondolas": [], "lanes": [
{"id": "entry-1", "position": [1, 0], "inward": [0, 1], "entry": true, "exit": false},
{"id": "exit-1", "position": [2, 0], "inward": [0, 1], "entry": false, "exit": true}], "cameras": [],
"plates": [], "products": [],
"facings": []}'''
[box]
name = "entry-1"
[network]
method = "static"
address = "10.0.0.5/24"
gateway = "10.0.0.1"
dns = ["10.0.0.2"]
[time]
servers = ["10.0.0.3", "ntp.example"]
[broker]
host = "broker.example"
port = 8883
user = "u"
password = "secret"
ca = "-----BEGIN CERTIFICATE-----\n"
[admission]
store_group = 7
[manifest.screen]
language = "en"
[secrets.gated]
osdp-entry = "00112233445566778899aabbccddeeff"
"#;

fn provision(edit: impl Fn(&str) -> String) -> Provision {
    Provision::parse(&edit(TEXT)).expect("valid")
}

fn signed(key: &SecretKey, issued: u64, serial: Option<&str>) -> Accepted {
    let mut provision = provision(str::to_owned);
    provision.issued = issued;
    provision.target.serial = serial.map(str::to_owned);
    let text = provision.sign(key).unwrap();
    Accepted::read(text.as_bytes(), &[key.public()]).unwrap()
}

#[test]
fn which_file() {
    let key = SecretKey::generate().unwrap();
    let offer = |from: &str, file| Offer { from: from.to_owned(), file };
    let good = |issued| signed(&key, issued, None);
    let other = signed(&key, 300, Some("S123"));
    let unsigned = || Accepted::read(b"stile-provision 1 x", &[]);
    for (name, kept, offers, issued, keep, state, says) in [
        ("nothing", None, vec![offer("p", Err(Refusal::Absent))], None, false, ProvisioningState::None, ""),
        ("first", None, vec![offer("p", Ok(good(1)))], Some(1), true, ProvisioningState::Accepted, "p"),
        (
            "again",
            Some(good(1)),
            vec![offer("p", Ok(good(1)))],
            Some(1),
            false,
            ProvisioningState::Accepted,
            "p",
        ),
        ("kept", Some(good(1)), vec![], Some(1), false, ProvisioningState::Accepted, "kept"),
        (
            "newer",
            Some(good(1)),
            vec![offer("p", Ok(good(2)))],
            Some(2),
            true,
            ProvisioningState::Accepted,
            "p",
        ),
        (
            "older",
            Some(good(2)),
            vec![offer("p", Ok(good(1)))],
            Some(2),
            false,
            ProvisioningState::Refused,
            "not newer",
        ),
        (
            "other box",
            None,
            vec![offer("p", Ok(other.clone()))],
            None,
            false,
            ProvisioningState::Refused,
            "made for box S123, this is S456",
        ),
        (
            "bad stick",
            Some(good(1)),
            vec![offer("stick", unsigned())],
            Some(1),
            false,
            ProvisioningState::Refused,
            "stick: ",
        ),
        (
            "good stick beside a bad partition",
            None,
            vec![offer("p", unsigned()), offer("stick", Ok(good(4)))],
            Some(4),
            true,
            ProvisioningState::Accepted,
            "stick",
        ),
        (
            "bad stick beside a good partition",
            None,
            vec![offer("p", Ok(good(4))), offer("stick", unsigned())],
            Some(4),
            true,
            ProvisioningState::Accepted,
            "p",
        ),
    ] {
        let choice = choose(kept, offers, "S456", |_| Ok(()));
        assert_eq!(choice.accepted.map(|it| it.provision.issued), issued, "{name}");
        assert_eq!((choice.keep, choice.told.state), (keep, state), "{name}");
        assert!(choice.told.detail.contains(says), "{name}: {}", choice.told.detail);
    }
}

/// A box whose image has the manifests, and a key.
fn place_with(folder: &std::path::Path, key: &SecretKey) -> Place {
    let place = Place::below(folder);
    let ours = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/entry-gate.toml");
    put(&place, "/usr/share/stile/manifests/entry-gate.toml", &std::fs::read(ours).unwrap());
    put(&place, "/usr/share/stile/keys/provision.pub", key.public().to_string().as_bytes());
    place
}

fn put(place: &Place, path: &str, bytes: &[u8]) {
    let path = place.at(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// What was flashed stays in its partition; once a stick has brought something newer, it is no trouble.
#[test]
fn a_newer_file_from_a_stick() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::generate().unwrap();
    let place = place_with(folder.path(), &key);
    put(&place, "/dev/stile/provision", signed(&key, 5, None).text.as_bytes());
    assert!(take(&place, &[], true).keep);
    let stick = ("stick".to_owned(), signed(&key, 6, None).text.into_bytes());
    assert!(take(&place, &[stick], true).keep);
    let choice = take(&place, &[], true);
    assert_eq!(choice.accepted.map(|it| it.provision.issued), Some(6));
    assert_eq!(choice.told.state, ProvisioningState::Accepted, "{}", choice.told.detail);
}

/// Signed, newer, and with a mistake: the box goes on with what it has, and says why.
#[test]
fn a_file_with_a_mistake_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::generate().unwrap();
    let place = place_with(folder.path(), &key);
    put(&place, "/dev/stile/provision", signed(&key, 5, None).text.as_bytes());
    assert!(take(&place, &[], true).keep);
    for (from, to, says) in [
        ("language = \"en\"", "langauge = \"en\"", "langauge"),
        ("[0, 0, 9, 9]", "[0, 0]", "store_map"),
        ("role = \"entry-gate\"", "role = \"kiosk\"", "no manifest for the role kiosk"),
    ] {
        let mut wrong = provision(|text| text.replace(from, to));
        wrong.issued = 7;
        let text = wrong.sign(&key).unwrap();
        let choice = take(&place, &[("stick".to_owned(), text.into_bytes())], true);
        assert_eq!(choice.accepted.map(|it| it.provision.issued), Some(5), "{says}");
        assert_eq!(choice.told.state, ProvisioningState::Refused, "{says}");
        assert!(choice.told.detail.contains(says), "{says} in {}", choice.told.detail);
    }
}

#[test]
fn taken_from_the_partition_and_kept_for_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::generate().unwrap();
    assert_eq!(take(&Place::below(folder.path()), &[], true), Choice::default());
    let place = place_with(folder.path(), &key);
    let put = |path: &str, bytes: &[u8]| put(&place, path, bytes);
    let mut bytes = signed(&key, 5, None).text.into_bytes();
    bytes.resize(LENGTH_MAX, 0);
    put("/dev/stile/provision", &bytes);
    let choice = take(&place, &[], true);
    assert!(choice.keep && choice.accepted.is_some(), "{choice:?}");
    put("/dev/stile/provision", &[0; 4096]);
    let kept = take(&place, &[], true);
    assert_eq!((kept.keep, kept.accepted), (false, choice.accepted));
}

#[test]
fn what_others_are_told() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let base = |role: Role| files::text(&folder.join(format!("{}.toml", role.word()))).expect("a manifest");
    for role in Role::ALL {
        let provision = Provision { role, manifest: toml::Table::new(), ..provision(str::to_owned) };
        let told = told(&provision, &base(role)).unwrap_or_else(|error| panic!("{role}: {error:#}"));
        assert!(told.iter().any(|file| file.path.starts_with("/run/stile/services/")), "{role}");
    }
    let told = told(&provision(str::to_owned), &base(Role::EntryGate)).unwrap();
    let text = |path: &str| {
        &told.iter().find(|file| file.path.ends_with(path)).unwrap_or_else(|| panic!("no {path}")).text
    };
    let manifest: Manifest = toml::from_str(text("manifest.toml")).unwrap();
    assert_eq!(manifest.name, "entry-1");
    assert_eq!(manifest.screen.and_then(|screen| screen.language).as_deref(), Some("en"));
    assert!(text("10-stile.network").contains("Address=10.0.0.5/24\nGateway=10.0.0.1\nDNS=10.0.0.2\n"));
    assert!(text("timesyncd.conf.d/10-stile.conf").contains("NTP=10.0.0.3 ntp.example"));
    let bridge = text("bridge.conf");
    for line in [
        "address broker.example:8883",
        "topic gate/passage both 1 stile/ Seoul-1-2/stile/",
        "topic health/# out 1 stile/ Seoul-1-2/entry-1/stile/",
        "bridge_cafile",
    ] {
        assert!(bridge.contains(line), "{line} in {bridge}");
    }
    assert_eq!(text("admission.toml"), "store_group = 7\n");
    assert!(told.iter().any(|file| file.path == "/run/stile/services/gated"));
    let secrets: Vec<_> = told.iter().filter(|file| file.readers == Readers::User(GATED)).collect();
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets[0].path, "/run/stile/secrets/gated/osdp-entry");
    assert!(!text("manifest.toml").contains("00112233"));
    let folder = tempfile::tempdir().unwrap();
    let place = Place::below(folder.path());
    tell(&place, &told).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &place.at(&secrets[0].path).metadata().unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o400);
}

#[test]
fn a_manifest_that_does_not_fit_names_the_key() {
    let provision = provision(|text| text.replace("language = \"en\"", "langauge = \"en\""));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let base = files::text(&folder.join("entry-gate.toml")).unwrap();
    let error = format!("{:#}", told(&provision, &base).unwrap_err());
    assert!(error.contains("langauge") && error.contains("entry-gate"), "{error}");
}

#[test]
fn what_a_gate_cannot_start_without_must_be_there() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let said = |role: Role, provision: Provision| {
        let base = files::text(&folder.join(format!("{}.toml", role.word()))).unwrap();
        told(&Provision { role, ..provision }, &base).map(|_| ()).map_err(|error| format!("{error:#}"))
    };
    let manifest = toml::Table::new();
    let bare = || Provision { admission: None, manifest: manifest.clone(), ..provision(str::to_owned) };
    let error = said(Role::EntryGate, bare()).unwrap_err();
    assert!(error.contains("[admission] is missing"), "{error}");
    assert_eq!(said(Role::StoreBox, bare()), Ok(()), "no gate there");
    let error = said(Role::StoreBox, Provision { store_map: None, ..bare() }).unwrap_err();
    assert!(error.contains("the store map is missing"), "{error}");
    // Somebody else brings it.
    let elsewhere = toml::from_str("admission = \"/var/lib/stile/gated/admission.toml\"").unwrap();
    assert_eq!(said(Role::EntryGate, Provision { manifest: elsewhere, ..bare() }), Ok(()));
}

#[test]
fn serial_numbers() {
    for (text, want) in [
        ("S456\n", Some("S456")),
        ("10000000abcdef\0", Some("10000000abcdef")),
        ("To Be Filled By O.E.M.", None),
        ("Default string", None),
        ("\n", None),
    ] {
        assert_eq!(sensible(text).as_deref(), want);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), prefix in any::<bool>()) {
        let mut file = if prefix { b"stile-provision 1 ".to_vec() } else { Vec::new() };
        file.extend(bytes);
        let key = SecretKey::generate().unwrap();
        prop_assert!(Accepted::read(&file, &[key.public()]).is_err());
    }
}
