//! How long the gate takes: from the reader's report to the driven unlock line over the whole service, to
//! verify an entry code, to find a code in a camera's picture.

use std::time::Duration;

use code_reader::decode::Decoder;
use code_reader::wire::Effort;
use divan::Bencher;
use engine::admission::issue::{Device, Issuer, Terms};
use engine::admission::{Admission, GroupKey, Issuers, PartyEntry, Settings, UntrustedClock};
use engine::message::{Ack, Authority, GateView, Passage, SessionClosed, topic};
use engine::time::{Instant, Millis};
use engine::units::{LaneId, MemberHandle, MessageId, SessionId};
use image::{GrayImage, Luma};
use runtime::bus::Bus;
use runtime::clock::Clock;
use runtime::outbox::ack_topic_of;
use turnstile::Line;
use zxingcpp::{BarcodeCreator, BarcodeFormat, BarcodeWriter};

const START: Instant = Instant(1_795_305_600_000);
/// Shoppers of the latency figure.
const SHOPPERS: u64 = 100_000;

fn main() {
    print_latency();
    divan::main();
}

fn issuer() -> Issuer {
    Issuer::new(1, 77, &[1; 32])
}

fn settings() -> Settings {
    let mut issuers = Issuers::default();
    issuers.install(1, issuer().public_key());
    Settings {
        store_group: 77,
        issuers,
        group_key: Some(GroupKey([9; 32])),
        untrusted_clock: UntrustedClock::Refuse,
        party: PartyEntry::CountIn,
        ..Settings::default()
    }
}

fn terms(member: u64) -> Terms {
    Terms { validity: 1000, ..Terms::single(MemberHandle(member), START.before(Millis(60_000))) }
}

fn phone(member: u64) -> Device {
    issuer().device(&terms(member), &[7; 32])
}

/// Simulated devices and virtual time between the shoppers; the path itself runs and is measured in real
/// time.
#[expect(clippy::print_stdout, reason = "the figure is what the benchmark is for")]
fn print_latency() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let mut latencies = runtime.block_on(latencies());
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 1000];
    println!(
        "reader report to unlock line, whole service path, {} entries: p50 {} us, p99 {} us, p99.9 {} us\n\
         (to hold: p99 2000)",
        latencies.len(),
        at(500),
        at(990),
        at(999),
    );
}

async fn latencies() -> Vec<u32> {
    // In memory where there is such a place: the line is driven before anything is stored, and a disk would make this
    // a quarter of an hour.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder");
    let (_, turnstile) = turnstile::sim::Sim::new();
    let (_, scanner) = qr_scanner::sim::Sim::new();
    let (open_turnstile, open_scanner) = (turnstile.clone(), scanner.clone());
    let gate = engine::gate::Settings::new(LaneId::from("entry-1"), true);
    let lane = gated::Lane::new(gate, Box::new(move || open_turnstile.open()))
        .with(gated::Reader::scanner("scanner", Box::new(move || open_scanner.open())));
    let settings = gated::Settings::new(folder.path().join("gated.db"), settings());
    let (bus, clock) = (Bus::local(), Clock::starting_at(START));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut views = bus.subscribe("stile/gate/view/#");
    let carts = tokio::spawn(take_passages(bus.clone()));
    let service = tokio::spawn(gated::run(settings, vec![lane], bus.clone(), clock.clone(), stopped));
    let wait = |ms| tokio::time::sleep(Duration::from_millis(ms));
    wait(100).await;
    let mut latencies = Vec::new();
    for member in 1..=SHOPPERS {
        scanner.show(phone(member).show(clock.now(), 0).as_bytes());
        wait(400).await;
        turnstile.set(Line::PassageA, true);
        wait(150).await;
        turnstile.set(Line::PassageA, false);
        wait(50).await;
        if member % 200 == 0 {
            let newest = std::iter::from_fn(|| views.try_recv()).last().expect("a view");
            let view: GateView = newest.parse().expect("a gate view");
            latencies.extend(&view.latency_us[view.latency_us.len() - 200..]);
            wait(50).await;
        }
    }
    carts.abort();
    let _ = stop.send(true);
    service.await.expect("the service does not panic").expect("the service ends well");
    latencies
}

/// A cart service takes each passage, and everybody has left again at once.
async fn take_passages(bus: Bus) {
    let mut passages = bus.subscribe(topic::PASSAGE);
    loop {
        let passage: Passage = passages.recv().await.parse().expect("a passage");
        bus.publish(&ack_topic_of(&passage.id), &Ack { ids: vec![passage.id.clone()] });
        let Authority::Grant(grant) = &passage.authority else { continue };
        let closed = SessionClosed {
            id: MessageId(format!("closed/bench/{}", passage.id)),
            session: SessionId(passage.id.to_string()),
            member: Some(grant.member),
            people: 1,
        };
        bus.publish(topic::SESSION_CLOSED, &closed);
    }
}

/// Digits to grant, profile D: the design's floor is 0.2 ms.
#[divan::bench]
fn verify_profile_d(bencher: Bencher) {
    let code = phone(1).show(START, 0);
    bencher
        .with_inputs(|| Admission::new(settings()))
        .bench_local_values(|mut admission| admission.check(START, true, code.as_bytes()).expect("admitted"));
}

/// Digits to grant, profile W.
#[divan::bench]
fn verify_profile_w(bencher: Bencher) {
    let code = issuer().wallet_pass(&terms(1), 42, &GroupKey([9; 32])).show(START);
    bencher
        .with_inputs(|| Admission::new(settings()))
        .bench_local_values(|mut admission| admission.check(START, true, code.as_bytes()).expect("admitted"));
}

/// What a camera scanner gives each frame.
const FRAME: Effort = Effort::Frame { budget_us: 20_000 };

/// A picture of 1280 x 720 with an entry code of profile D at 4 pixels a module.
#[divan::bench]
fn decode_camera_picture(bencher: Bencher) {
    let mut creator = BarcodeCreator::new(BarcodeFormat::QRCode);
    creator.set_options("version=10,ecLevel=M");
    let drawn = creator.from_str(phone(1).show(START, 0)).expect("a code");
    let drawn = drawn.to_image_with(&BarcodeWriter::new().scale(4).add_quiet_zones(true)).expect("drawn");
    let code =
        GrayImage::from_raw(drawn.width() as u32, drawn.height() as u32, drawn.data()).expect("pixels");
    let mut picture = GrayImage::from_pixel(1280, 720, Luma([180]));
    image::imageops::overlay(&mut picture, &code, 500, 200);
    let mut decoder = Decoder::default();
    bencher.bench_local(|| {
        let codes = decoder.read(&picture, FRAME).expect("decodes").codes;
        assert_eq!(codes.len(), 1);
        codes
    });
}

/// The same size with nothing in it: as many attempts as the time for a frame allows, in vain.
#[divan::bench]
fn decode_empty_camera_picture(bencher: Bencher) {
    let picture = GrayImage::from_fn(1280, 720, |x, y| Luma([(x / 7 * 13 + y / 5 * 29) as u8]));
    let mut decoder = Decoder::default();
    bencher.bench_local(|| decoder.read(&picture, FRAME).expect("decodes"));
}
