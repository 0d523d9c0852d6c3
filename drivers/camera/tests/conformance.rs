//! What every camera keeps to; run on the simulator in each format.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use camera::sim::{Sim, SimHandle};
use camera::{Camera, ErrorKind, Format, Rgb, codec};

/// A camera on a bench: what a test can do to it from outside.
trait Bench {
    fn width(&self) -> u32;
    fn height(&self) -> u32;
    fn show(&mut self, picture: &Rgb, captured_ms: u64);
    fn unplug(&mut self);
    fn plug(&mut self);
}

struct SimBench(SimHandle, u32, u32);

impl Bench for SimBench {
    fn width(&self) -> u32 {
        self.1
    }
    fn height(&self) -> u32 {
        self.2
    }
    fn show(&mut self, picture: &Rgb, captured_ms: u64) {
        self.0.push(picture, captured_ms);
    }
    fn unplug(&mut self) {
        self.0.unplug();
    }
    fn plug(&mut self) {
        self.0.plug();
    }
}

fn flat(bench: &impl Bench, level: u8) -> Rgb {
    let mut picture = Rgb::new(bench.width(), bench.height());
    picture.data.fill(level);
    picture
}

/// Polls once and drops the future, as a `select!` that chose another branch does.
fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn near(picture: &Rgb, level: u8) -> bool {
    picture.data.iter().all(|value| value.abs_diff(level) <= 4)
}

async fn suite(mut camera: impl Camera, mut bench: impl Bench) {
    let size = (bench.width(), bench.height());

    // A frame carries what was shown, its time and its size.
    bench.show(&flat(&bench, 90), 1000);
    let first = camera.next_frame().await.unwrap();
    assert_eq!((first.width, first.height), size);
    assert_eq!(first.captured_ms, 1000);
    assert!(near(&codec::decode(&first).unwrap(), 90));

    // Nothing shown: it waits, and a cancelled wait loses nothing.
    assert!(poll_once(camera.next_frame()).is_pending());
    bench.show(&flat(&bench, 120), 1100);
    let next = camera.next_frame().await.unwrap();
    assert_eq!(next.sequence, first.sequence + 1);
    assert!(near(&codec::decode(&next).unwrap(), 120));

    // A slow reader loses the oldest frames and can tell from the numbers.
    for step in 0..5 {
        bench.show(&flat(&bench, 40 * step as u8), 1200 + 100 * step);
    }
    let late = camera.next_frame().await.unwrap();
    assert_eq!(late.sequence, next.sequence + 4);
    assert!(near(&codec::decode(&late).unwrap(), 120));
    assert_eq!(camera.next_frame().await.unwrap().sequence, late.sequence + 1);
    assert!(poll_once(camera.next_frame()).is_pending());

    // Unplugged: an error at once, each time; plugged again: frames again.
    bench.unplug();
    for _ in 0..2 {
        assert_eq!(camera.next_frame().await.unwrap_err().kind(), ErrorKind::Disconnected);
    }
    bench.plug();
    bench.show(&flat(&bench, 200), 2000);
    let again = camera.next_frame().await.unwrap();
    assert_eq!(again.captured_ms, 2000);
    assert!(near(&codec::decode(&again).unwrap(), 200));
}

fn sim(format: Format) -> (Sim, SimBench) {
    let (camera, handle) = Sim::new(48, 32, format);
    (camera, SimBench(handle, 48, 32))
}

#[tokio::test]
async fn the_simulator_conforms_in_every_format() {
    for format in [Format::Yuyv, Format::Mjpeg, Format::Grey] {
        let (camera, bench) = sim(format);
        suite(camera, bench).await;
    }
}

#[tokio::test]
async fn unplugging_wakes_a_reader_that_waits() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Grey);
    let reader = tokio::spawn(async move { camera.next_frame().await.unwrap_err().kind() });
    tokio::task::yield_now().await;
    handle.unplug();
    assert_eq!(reader.await.unwrap(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn a_covered_lens_gives_black_frames() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Yuyv);
    let mut picture = Rgb::new(8, 8);
    picture.data.fill(180);
    handle.dark(true);
    handle.push(&picture, 1);
    let black = codec::decode(&camera.next_frame().await.unwrap()).unwrap();
    assert!(black.data.iter().all(|value| *value == 0));
    handle.dark(false);
    handle.push(&picture, 2);
    assert!(near(&codec::decode(&camera.next_frame().await.unwrap()).unwrap(), 180));
}

#[tokio::test]
async fn lost_exposures_leave_a_gap_in_the_numbers() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Grey);
    let picture = Rgb::new(8, 8);
    handle.push(&picture, 1);
    handle.drop_next(2);
    for ms in 2..5 {
        handle.push(&picture, ms);
    }
    assert_eq!(camera.next_frame().await.unwrap().sequence, 0);
    let after = camera.next_frame().await.unwrap();
    assert_eq!((after.sequence, after.captured_ms), (3, 4));
}

#[tokio::test]
async fn a_broken_frame_is_an_error_of_that_frame_only() {
    let (mut camera, handle) = Sim::new(8, 8, Format::Yuyv);
    handle.push_bytes(vec![0; 5], 1);
    handle.push(&Rgb::new(8, 8), 2);
    let broken = camera.next_frame().await.unwrap();
    assert_eq!(codec::decode(&broken).unwrap_err().kind(), ErrorKind::BadFrame);
    let good = camera.next_frame().await.unwrap();
    codec::decode(&good).unwrap();
}
