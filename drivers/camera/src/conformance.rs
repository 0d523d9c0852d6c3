//! What every camera must do, simulated or on a cable: run it on the simulator always, on hardware with a
//! bench that can show a picture.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::{Camera, ErrorKind, Rgb, codec};

/// What is around the camera: a simulator's handle, or a bench with a screen and a switched cable.
pub trait Bench {
    /// Lets the camera expose one frame of an evenly grey picture at `captured_ms`.
    fn show(&mut self, level: u8, captured_ms: u64);
    /// Pulls the cable.
    fn unplug(&mut self);
    /// Puts the cable back.
    fn plug(&mut self);
}

impl Bench for crate::sim::SimHandle {
    fn show(&mut self, level: u8, captured_ms: u64) {
        let mut picture = Rgb::new(self.width(), self.height());
        picture.data.fill(level);
        self.push(&picture, captured_ms);
    }
    fn unplug(&mut self) {
        Self::unplug(self);
    }
    fn plug(&mut self) {
        Self::plug(self);
    }
}

/// Runs the suite on a camera that was just opened and has exposed nothing yet.
///
/// # Panics
///
/// When the device does not conform; the message says in what.
pub async fn check(camera: &mut impl Camera, bench: &mut impl Bench) {
    bench.show(90, 1000);
    let first = camera.next_frame().await.expect("a frame");
    assert_eq!(first.captured_ms, 1000, "a frame carries its time");
    assert_level(&first, 90);

    assert!(poll_once(camera.next_frame()).is_pending(), "a frame out of nothing");
    bench.show(120, 1100);
    let next = camera.next_frame().await.expect("a frame");
    assert_eq!(
        next.sequence,
        first.sequence + 1,
        "frames are numbered, and none is lost to a cancelled wait"
    );
    assert_eq!((next.width, next.height), (first.width, first.height), "the size stays");
    assert_level(&next, 120);

    for step in 0..5u8 {
        bench.show(40 * step, 1200 + 100 * u64::from(step));
    }
    let late = camera.next_frame().await.expect("a frame");
    assert!(late.sequence > next.sequence + 1, "a slow reader loses the oldest frames");
    assert_eq!(
        late.sequence,
        next.sequence + 1 + (late.captured_ms as u32 - 1200) / 100,
        "lost frames count"
    );
    let mut last = late.sequence;
    while let Poll::Ready(frame) = poll_once(camera.next_frame()) {
        last += 1;
        assert_eq!(frame.expect("a frame").sequence, last, "frames keep their order");
    }
    assert_eq!(last, next.sequence + 5, "the newest frame is kept");

    bench.unplug();
    for _ in 0..2 {
        let kind = camera.next_frame().await.err().map(|error| error.kind());
        assert_eq!(kind, Some(ErrorKind::Disconnected), "an unplugged camera says so, each time");
    }
    bench.plug();
    bench.show(200, 2000);
    let again = camera.next_frame().await.expect("a frame");
    assert_eq!(again.captured_ms, 2000, "a camera that is plugged in again streams again");
    assert_level(&again, 200);
}

/// Runs what needs no control over the picture, on a camera that streams by itself (a real one, or the kernel's
/// `vivid`) at 2 frames a second or more. `now_ms` is the time line of its stamps.
///
/// # Panics
///
/// When the device does not conform; the message says in what.
pub async fn check_streaming(camera: &mut impl Camera, now_ms: impl Fn() -> u64) {
    let started = now_ms();
    let first = next_soon(camera).await;
    let mut before = first.clone();
    let mut missing = 0;
    for _ in 0..20 {
        let frame = next_soon(camera).await;
        let seen = now_ms();
        codec::decode(&frame).expect("a frame that decodes");
        assert_eq!(
            (frame.width, frame.height, frame.format),
            (before.width, before.height, before.format),
            "size and format stay"
        );
        assert!(frame.sequence > before.sequence, "frames are numbered and keep their order");
        missing += frame.sequence - before.sequence - 1;
        assert!(frame.captured_ms + 1 >= before.captured_ms, "frames are stamped in order");
        assert!(frame.captured_ms <= seen + 5, "no frame comes from the future");
        assert!(seen - frame.captured_ms.min(seen) <= FRESH_MS_MAX, "a frame that is waited for is fresh");
        assert!(frame.captured_ms + FRESH_MS_MAX >= started, "no frame is older than the stream");
        before = frame;
    }
    assert!(missing <= 10, "{missing} of some 30 frames are missing to a reader that keeps up");

    // A slow reader gets the newest ones, and the numbers tell how many it missed.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let late = next_soon(camera).await;
    assert!(late.sequence > before.sequence + 1, "a slow reader loses the oldest frames");
    assert!(now_ms() - late.captured_ms.min(now_ms()) <= 2 * FRESH_MS_MAX, "the newest frames are kept");

    // A wait that is given up loses nothing.
    let mut last = late.sequence;
    let mut taken = 0;
    for _ in 0..100_000 {
        if let Poll::Ready(frame) = poll_once(camera.next_frame()) {
            let frame = frame.expect("a frame");
            assert!(frame.sequence > last, "frames keep their order");
            last = frame.sequence;
            taken += 1;
            if taken == 5 {
                return;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("frames are lost to cancelled waits");
}

/// Oldest that a frame may be when a waiting reader gets it: the exposure, the bus and a loaded machine.
const FRESH_MS_MAX: u64 = 1000;

async fn next_soon(camera: &mut impl Camera) -> crate::Frame {
    let patience = std::time::Duration::from_secs(15);
    tokio::time::timeout(patience, camera.next_frame()).await.expect("a frame in time").expect("a frame")
}

/// Polls once and drops the future, as a `select!` that chose another branch does.
fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn assert_level(frame: &crate::Frame, level: u8) {
    let picture = codec::decode(frame).expect("a frame that decodes");
    let mean = picture.data.iter().map(|value| u64::from(*value)).sum::<u64>() / picture.data.len() as u64;
    assert!(mean.abs_diff(u64::from(level)) <= 4, "a picture of level {level} came as {mean}");
}
