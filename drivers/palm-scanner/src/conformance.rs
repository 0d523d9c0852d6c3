//! What every palm scanner must do, simulated or on a cable: run it on the simulator always, on hardware with
//! a bench that can hold a target over it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::{ErrorKind, Illumination, PalmScanner, Signal, sim};

/// What is around the scanner: a simulator's handle, or a bench with a grey target and a switched cable.
pub trait Bench {
    /// Holds an evenly grey target over the scanner for one frame.
    fn show(&mut self, level: u8);
    /// Pulls the cable.
    fn unplug(&mut self);
    /// Puts the cable back.
    fn plug(&mut self);
}

impl Bench for sim::SimHandle {
    fn show(&mut self, level: u8) {
        self.present(&vec![level; usize::from(sim::WIDTH) * usize::from(sim::HEIGHT)]);
    }
    fn unplug(&mut self) {
        Self::unplug(self);
    }
    fn plug(&mut self) {
        Self::plug(self);
    }
}

/// Runs the suite on a scanner that was just opened, with nothing over it.
///
/// # Panics
///
/// When the device does not conform; the message says in what.
pub async fn check(scanner: &mut impl PalmScanner, bench: &mut impl Bench) {
    assert_eq!(error(scanner).await, ErrorKind::NotArmed, "no frame before it is armed");
    for (step, light) in [Illumination::Nm850, Illumination::Nm940, Illumination::Unlit, Illumination::Nm850]
        .into_iter()
        .enumerate()
    {
        scanner.arm(light).expect("arm");
        let level = 60 + 20 * step as u8;
        bench.show(level);
        let frame = scanner.next_frame().await.unwrap_or_else(|error| panic!("{error} instead of a frame"));
        assert_eq!(frame.illumination, light, "a frame tells its light");
        assert_eq!(frame.sequence as usize, step, "frames are numbered");
        assert_eq!(frame.data.len(), (frame.width * frame.height) as usize, "a frame has one byte a pixel");
        let mean = frame.data.iter().map(|v| u64::from(*v)).sum::<u64>() / frame.data.len() as u64;
        assert!(mean.abs_diff(u64::from(level)) <= 8, "a target of level {level} came as {mean}");
    }
    assert!(poll_once(scanner.next_frame()).is_pending(), "a frame out of nothing");
    bench.show(100);
    let after = scanner
        .next_frame()
        .await
        .unwrap_or_else(|error| panic!("a frame is lost to a cancelled wait: {error}"));
    assert_eq!(after.sequence, 4, "frames are numbered");
    for signal in [Signal::Good, Signal::Bad, Signal::Idle] {
        scanner.signal(signal).expect("signal");
    }

    bench.unplug();
    assert_eq!(error(scanner).await, ErrorKind::Disconnected, "an unplugged scanner says so");
    let refused = scanner.arm(Illumination::Nm850).err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::Disconnected), "an unplugged scanner cannot be armed");
    let refused = scanner.signal(Signal::Good).err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::Disconnected), "an unplugged scanner shows nothing");
    bench.plug();
    assert_eq!(error(scanner).await, ErrorKind::NotArmed, "a scanner that was plugged in again is not armed");
    scanner.arm(Illumination::Nm850).expect("arm");
    bench.show(120);
    let again = scanner.next_frame().await.unwrap_or_else(|error| panic!("{error} instead of a frame"));
    assert_eq!(again.sequence, 0, "a new stream is numbered anew");
}

async fn error(scanner: &mut impl PalmScanner) -> ErrorKind {
    scanner.next_frame().await.err().expect("an error instead of a frame").kind()
}

/// Polls once and drops the future, as a `select!` that chose another branch does.
fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}
