//! OSDP from end to end: our panel against libosdp's own reader, with the secure channel.

use std::time::{Duration, Instant};

use card_reader::codec::{Bits, Format, encode};
use card_reader::osdp::{Key, Osdp, Settings, open, open_on};
use card_reader::{CardReader, ErrorKind, Report, Signal, Status, conformance, sim};

fn settings() -> Settings {
    toml::from_str("path = \"/dev/none\"\nkey_file = \"/none\"").expect("settings")
}

fn key(first: u8) -> Key {
    Key::new(std::array::from_fn(|index| first.wrapping_add(index as u8 * 7))).expect("a key")
}

fn pair(panel: Key, reader: Option<Key>, settings: &Settings) -> (Osdp, sim::SimHandle) {
    let (ours, theirs) = sim::line();
    let handle = sim::start(Box::new(theirs), settings.address, reader);
    (open_on(Box::new(ours), panel, settings).expect("it opens"), handle)
}

async fn report(reader: &mut Osdp) -> Report {
    tokio::time::timeout(Duration::from_secs(20), reader.next_report())
        .await
        .expect("in time")
        .expect("a report")
}

async fn until(reader: &mut Osdp, wanted: impl Fn(&Status) -> bool) -> Status {
    loop {
        if let Report::Status(status) = report(reader).await
            && wanted(&status)
        {
            return status;
        }
    }
}

#[test]
fn settings_have_defaults_and_refuse_the_unknown() {
    assert_eq!((settings().baud, settings().address, settings().install), (9600, 0, false));
    assert!(toml::from_str::<Settings>("path = \"/dev/none\"\nkey_file = \"/none\"\nspeed = 1").is_err());
    assert!(toml::from_str::<Settings>("path = \"/dev/none\"").is_err(), "a reader needs a key");
}

#[tokio::test]
async fn conforms() {
    let settings = Settings { address: 101, ..settings() };
    let (mut reader, mut handle) = pair(key(1), Some(key(1)), &settings);
    conformance::check(&mut reader, &mut handle).await;
    assert_eq!(reader.signal(Signal::Good).unwrap_err().kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn a_pulled_reader_comes_back_on_a_new_line() {
    let (mut reader, mut handle) = pair(key(1), Some(key(1)), &settings());
    until(&mut reader, |status| status.secure).await;
    handle.unplug();
    let error = loop {
        match reader.next_report().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    drop(reader);
    let (mut reader, handle) = pair(key(1), Some(key(1)), &settings());
    until(&mut reader, |status| status.secure).await;
    let bits = Bits::from_bytes(&[0xde, 0xad, 0xbe, 0xef, 0x12, 0x34, 0x56], 56).unwrap();
    handle.present(&bits);
    loop {
        if let Report::Card(card) = report(&mut reader).await {
            assert_eq!((card.bits, card.format), (bits, Format::Raw));
            break;
        }
    }
}

#[tokio::test]
async fn a_reader_with_another_key_never_counts() {
    let (mut reader, handle) = pair(key(1), Some(key(2)), &settings());
    handle.present(&encode(Format::H10301, 1, 1).unwrap());
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Ok(report) = tokio::time::timeout_at(deadline.into(), reader.next_report()).await {
        match report.unwrap() {
            Report::Status(status) => assert!(!status.secure, "{status:?}"),
            Report::Card(card) => panic!("{card:?} from a reader with another key"),
        }
    }
    assert!(!handle.secure());
}

#[tokio::test]
async fn a_reader_from_the_factory_gets_its_key_in_install_mode_only() {
    let (mut reader, handle) = pair(key(3), None, &settings());
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Ok(report) = tokio::time::timeout_at(deadline.into(), reader.next_report()).await {
        assert!(matches!(report.unwrap(), Report::Status(status) if !status.secure));
    }
    assert!(handle.key().is_none(), "no key goes out on an open line");

    let install = Settings { install: true, ..settings() };
    let (mut reader, handle) = pair(key(3), None, &install);
    until(&mut reader, |status| status.secure).await;
    assert!(handle.key().is_some());
    handle.present(&encode(Format::H10301, 1, 77).unwrap());
    loop {
        if let Report::Card(card) = report(&mut reader).await {
            assert_eq!(card.number, Some(77));
            break;
        }
    }
}

#[tokio::test]
async fn noise_on_the_line_does_not_take_the_reader_down() {
    use rand::RngExt;
    use std::io::Write;
    let (ours, mut theirs) = sim::line();
    let noise = theirs.try_clone().unwrap();
    let mut reader = open_on(Box::new(ours), key(1), &settings()).unwrap();
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(7);
    for _ in 0..200 {
        let bytes: [u8; 64] = rng.random();
        // A full line is noise enough.
        let _ = theirs.write(&bytes);
    }
    let handle = sim::start(Box::new(noise), 0, Some(key(1)));
    until(&mut reader, |status| status.secure).await;
    handle.present(&encode(Format::H10301, 1, 5).unwrap());
    loop {
        if let Report::Card(card) = report(&mut reader).await {
            assert_eq!(card.number, Some(5));
            break;
        }
    }
}

#[tokio::test]
async fn opens_a_terminal_line_and_says_why_not() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "000102030405060708090a0b0c0d0e0f\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key_file, mode).unwrap();
    let key_file = key_file.to_str().unwrap().to_owned();

    let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&far).unwrap();
    unlockpt(&far).unwrap();
    let path = ptsname(&far, Vec::new()).unwrap().into_string().unwrap();
    let flags = rustix::fs::fcntl_getfl(&far).unwrap();
    rustix::fs::fcntl_setfl(&far, flags | rustix::fs::OFlags::NONBLOCK).unwrap();

    let settings = Settings { path, key_file, ..settings() };
    let mut reader = open(&settings).unwrap();
    assert_eq!(open(&settings).unwrap_err().kind(), ErrorKind::Busy);
    let key = Key::load(&settings.key_file).unwrap();
    let handle = sim::start(Box::new(std::fs::File::from(far)), 0, Some(key));
    until(&mut reader, |status| status.secure).await;
    drop(reader);
    drop(handle);

    let kinds = [
        Settings { path: "/dev/no-such-line".into(), ..settings.clone() },
        Settings { path: "/dev/null".into(), ..settings.clone() },
        Settings { key_file: "/no/such/key".into(), ..settings.clone() },
        Settings { baud: 300, ..settings.clone() },
        Settings { address: 127, ..settings },
    ]
    .map(|settings| open(&settings).unwrap_err().kind());
    let expected = [
        ErrorKind::NotFound,
        ErrorKind::Unsupported,
        ErrorKind::Key,
        ErrorKind::Unsupported,
        ErrorKind::Unsupported,
    ];
    assert_eq!(kinds, expected);
}

/// A measurement, not a test: `cargo test -p card-reader --test osdp -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_a_reader_and_time_to_a_card() {
    let (mut reader, handle) = pair(key(1), Some(key(1)), &settings());
    let start = Instant::now();
    until(&mut reader, |status| status.secure).await;
    println!("secure after {:.0?}", start.elapsed());
    let ticks = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut stats = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap());
        let stat = stats.find(|stat| stat.contains("(osdp)")).unwrap();
        // User and system time, in hundredths of a second.
        let fields: Vec<i64> =
            stat.split(") ").last().unwrap().split(' ').filter_map(|n| n.parse().ok()).collect();
        fields[10] + fields[11]
    };
    let before = ticks();
    tokio::time::sleep(Duration::from_secs(20)).await;
    println!("{:.2} % of a core while idle", (ticks() - before) as f64 / 20.0);
    let mut taken = Vec::new();
    for number in 0..100 {
        tokio::time::sleep(Duration::from_millis(37)).await;
        let start = Instant::now();
        handle.present(&encode(Format::H10301, 1, number).unwrap());
        while !matches!(report(&mut reader).await, Report::Card(_)) {}
        taken.push(start.elapsed());
    }
    taken.sort();
    println!("shown to reported: p50 {:.0?}, p99 {:.0?}", taken[50], taken[98]);
}
