//! The conformance suite on the kernel's own interfaces, each with an emulated scanner behind it, as far as this
//! machine has what emulates them; in the virtual machine (`STILE_VM` is set) all of them must be there.
#![expect(clippy::print_stdout, reason = "a test says what it leaves out, and what it measured")]

mod gadget;
mod pty;
mod uhid;
mod uinput;

use std::time::{Duration, Instant};

use qr_scanner::codec::report::DESCRIPTOR;
use qr_scanner::conformance::{self, Bench};
use qr_scanner::sim::{Sim, SimHandle};
use qr_scanner::{QrScanner, arrivals};

use crate::gadget::Way;

/// Codes of one latency figure.
const CODES: usize = 100;

#[tokio::test]
async fn sim() {
    let (sim, mut handle): (Sim, SimHandle) = Sim::new();
    drop(sim);
    conformance::check(&mut handle).await;
}

#[tokio::test]
async fn serial_over_a_pty() {
    let Some(mut bench) = there(pty::Pty::new(), "pseudo-terminal") else { return };
    conformance::check(&mut bench).await;
    measure("serial over a pty", &mut bench).await;
}

#[tokio::test]
async fn keyboard_over_uinput() {
    let Some(mut bench) = there(uinput::Keyboard::new(0x8c03), "uinput") else { return };
    conformance::check(&mut bench).await;
    arrival_is_told(&mut bench).await;
    uinput::keys_reach_nobody_else(&mut bench).await;
}

#[tokio::test]
async fn hidraw_over_uhid() {
    let Some(mut bench) = there(uhid::Uhid::new("U1", DESCRIPTOR), "uhid") else { return };
    conformance::check(&mut bench).await;
    arrival_is_told(&mut bench).await;
    measure("hidraw over uhid", &mut bench).await;
}

#[tokio::test]
async fn features_and_triggers_are_written() {
    let Some(mut bench) = there(uhid::Uhid::new("U2", uhid::BEEPS_BY_FEATURE), "uhid") else { return };
    uhid::a_feature_is_a_beep(&mut bench).await;
    let Some(mut bench) = there(uhid::Uhid::new("U3", DESCRIPTOR), "uhid") else { return };
    uhid::the_trigger_is_pulled(&mut bench).await;
}

#[tokio::test]
async fn hidraw_over_usb() {
    let _turn = gadget::CONTROLLER.lock().await;
    let Some(mut bench) = there(gadget::HidPos::new("hidraw", Way::Kernel, true), "USB gadget") else {
        return;
    };
    conformance::check(&mut bench).await;
    arrival_is_told(&mut bench).await;
    measure("hidraw over USB", &mut bench).await;
}

#[tokio::test]
async fn usbfs_over_usb() {
    let _turn = gadget::CONTROLLER.lock().await;
    let Some(mut bench) = there(gadget::HidPos::new("usbfs", Way::Detach, true), "USB gadget") else {
        return;
    };
    conformance::check(&mut bench).await;
    measure("usbfs over USB", &mut bench).await;
    gadget::a_stall_is_cleared(&mut bench).await;
}

#[tokio::test]
async fn usbfs_where_no_driver_is() {
    let _turn = gadget::CONTROLLER.lock().await;
    let bench = gadget::HidPos::new("undriven", Way::Undriven, false);
    let Some(mut bench) = there(bench, "USB gadget") else { return };
    conformance::check(&mut bench).await;
}

#[tokio::test]
async fn two_like_scanners() {
    let _turn = gadget::CONTROLLER.lock().await;
    let left = gadget::HidPos::new("left", Way::Kernel, true);
    let Some(mut left) = there(left, "USB gadget") else { return };
    let right = gadget::HidPos::new("right", Way::Kernel, true);
    let Some(mut right) = there(right, "second USB controller") else { return };
    gadget::like_scanners_keep_their_lanes(&mut left, &mut right).await;
}

#[tokio::test]
async fn serial_over_usb() {
    let _turn = gadget::CONTROLLER.lock().await;
    let Some(mut bench) = there(gadget::Acm::new(), "USB gadget") else { return };
    conformance::check(&mut bench).await;
    arrival_is_told(&mut bench).await;
    measure("serial over USB", &mut bench).await;
}

/// The bench, or a word about why there is none; in the virtual machine that is a failure.
fn there<B>(bench: std::io::Result<B>, what: &str) -> Option<B> {
    match bench {
        Ok(bench) => Some(bench),
        Err(error) if std::env::var_os("STILE_VM").is_some() => panic!("no {what}: {error}"),
        Err(error) => {
            // On a line of its own, behind the name of the test.
            println!("\nskipped: no {what}: {error}");
            None
        }
    }
}

/// A scanner that is plugged in is announced, and can be opened then.
async fn arrival_is_told<B: Bench>(bench: &mut B) {
    bench.unplug().await;
    let mut arrivals = arrivals().expect("watches");
    bench.plug().await;
    let opened = async {
        loop {
            // Its node may be announced before what it belongs to; there is another announcement then.
            arrivals.next().await.expect("an arrival");
            if bench.open().is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), opened).await.expect("an arrival with a scanner");
}

/// From the moment when the emulated scanner sends to the moment when its code is here.
async fn measure<B: Bench>(what: &str, bench: &mut B) {
    let mut scanner = open(bench).await;
    let mut taken = Vec::with_capacity(CODES);
    for number in 0..CODES {
        let text = format!("{number:013}");
        let began = Instant::now();
        let ((), scan) = tokio::join!(bench.show(text.as_bytes()), scanner.next_scan());
        taken.push(scan.expect("a code").reported.duration_since(began));
    }
    taken.sort();
    let (half, most) = (taken[CODES / 2], taken[CODES - 1]);
    println!("\nmeasured: {what}: 13 digits sent to code here p50 {half:.2?}, slowest of {CODES} {most:.2?}");
}

async fn open<B: Bench>(bench: &mut B) -> B::Scanner {
    let opened = async {
        loop {
            match bench.open() {
                Ok(scanner) => break scanner,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), opened).await.expect("a scanner to open")
}

/// Runs what may be refused for now (`EAGAIN`) until it is not, at most for a few seconds.
async fn retry<T>(mut attempt: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(error)
                if error.kind() == std::io::ErrorKind::WouldBlock
                    && began.elapsed() < Duration::from_secs(10) =>
            {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            other => break other,
        }
    }
}
