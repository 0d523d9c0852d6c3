//! What every scanner must do, simulated or on a cable: run it on the simulator always, on hardware with a
//! bench that can show a code on a screen.

use std::time::Instant;

use crate::{QrScanner, Signal};

/// The world in front of the scanner: a simulator's handle, or a bench with a phone.
pub trait Bench {
    /// Shows a QR code of this text.
    fn show(&mut self, text: &[u8]);
}

impl Bench for crate::sim::SimHandle {
    fn show(&mut self, text: &[u8]) {
        Self::show(self, text);
    }
}

/// Runs the suite on a scanner that was just opened, with nothing in front of it.
///
/// # Panics
/// When the device does not conform; the message says in what.
pub async fn check<S: QrScanner>(scanner: &mut S, bench: &mut impl Bench) {
    for length in [1, 8, 13, 55, 56, 57, 112, 238, 455, 1000] {
        let text: Vec<u8> = (0..length).map(|index| b'0' + (index * 7 % 10) as u8).collect();
        let before = Instant::now();
        bench.show(&text);
        let scan = scanner.next_scan().await.expect("a code");
        assert_eq!(scan.text, text, "a code of {length} digits comes whole");
        assert!(scan.reported >= before, "a code is stamped when its last report arrives");
        assert!(scan.aim == [0; 3] || scan.aim[..2] == *b"]Q", "a QR code is called one: {:?}", scan.aim);
    }
    bench.show(b"http://example.com/01/09506000134352");
    bench.show(b"second");
    assert_eq!(scanner.next_scan().await.expect("a code").text, b"http://example.com/01/09506000134352");
    assert_eq!(scanner.next_scan().await.expect("a code").text, b"second", "codes keep their order");
    for _ in 0..3 {
        tokio::select! {
            biased;
            scan = scanner.next_scan() => panic!("a code {scan:?} out of nothing"),
            () = async {} => {}
        }
    }
    bench.show(b"third");
    assert_eq!(
        scanner.next_scan().await.expect("a code").text,
        b"third",
        "no code is lost to a cancelled wait"
    );
    for signal in [Signal::Good, Signal::Bad] {
        scanner.signal(signal).expect("signal");
    }
}
