//! What every scanner must do, simulated or on a cable: run on the simulator always, on the kernel's own
//! interfaces with emulated devices, and on hardware with a bench that can show a code on a screen.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::{Error, ErrorKind, QrScanner, Scan, Signal};

/// Longest wait for anything that must happen; an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// The world in front of the scanner: a simulator's handle, an emulated device, or a robot with a phone.
pub trait Bench: Send {
    /// What it opens.
    type Scanner: QrScanner;

    /// Opens the scanner as a service would, once.
    ///
    /// # Errors
    /// As the scanner's own `open`.
    fn open(&mut self) -> Result<Self::Scanner, Error>;

    /// Shows a QR code of this text; returns when the scanner has sent it, or when nobody takes it.
    fn show(&mut self, text: &[u8]) -> impl Future<Output = ()> + Send;

    /// Shows one that takes more than one report (or byte, or key), and stops halfway.
    fn show_half(&mut self, text: &[u8]) -> impl Future<Output = ()> + Send;

    /// Pulls the cable.
    fn unplug(&mut self) -> impl Future<Output = ()> + Send;

    /// Puts it back.
    fn plug(&mut self) -> impl Future<Output = ()> + Send;

    /// Signals that the scanner was told since the last call; `None` when this one can tell nobody.
    fn signals(&mut self) -> impl Future<Output = Option<Vec<Signal>>> + Send;

    /// Whether it tells the symbology.
    fn tells_aim(&self) -> bool;
}

impl Bench for crate::sim::SimHandle {
    type Scanner = crate::sim::Sim;

    fn open(&mut self) -> Result<Self::Scanner, Error> {
        Self::open(self)
    }

    async fn show(&mut self, text: &[u8]) {
        Self::show(self, text);
    }

    async fn show_half(&mut self, text: &[u8]) {
        Self::show_half(self, text);
    }

    async fn unplug(&mut self) {
        Self::unplug(self);
    }

    async fn plug(&mut self) {
        Self::plug(self);
    }

    async fn signals(&mut self) -> Option<Vec<Signal>> {
        Some(Self::signals(self))
    }

    fn tells_aim(&self) -> bool {
        true
    }
}

/// Runs the suite on a scanner that is plugged in, not open, with nothing in front of it.
///
/// # Panics
/// When the device does not conform; the message says in what.
pub async fn check<B: Bench>(bench: &mut B) {
    let mut scanner = opened(bench).await;
    codes_come_whole(&mut scanner, bench).await;
    waiting_loses_nothing(&mut scanner, bench).await;
    signals_are_told(&mut scanner, bench).await;
    only_one_may_read(&mut scanner, bench).await;
    let scanner = a_pulled_cable_is_told(scanner, bench).await;
    closing_lets_go(scanner, bench).await;
}

async fn codes_come_whole<B: Bench>(scanner: &mut B::Scanner, bench: &mut B) {
    for length in [1, 8, 13, 55, 56, 57, 112, 238, 455, 1000] {
        let text: Vec<u8> = (0..length).map(|index| b'0' + (index * 7 % 10) as u8).collect();
        let before = Instant::now();
        let scan = shown(scanner, bench, &text).await;
        assert_eq!(scan.text, text, "a code of {length} digits comes whole");
        assert!(scan.reported >= before, "a code is stamped when its last report arrives");
        let aim = if bench.tells_aim() { *b"]Q1" } else { [0; 3] };
        assert_eq!(scan.aim, aim, "a QR code is called one by a scanner that tells");
    }
    let other = b"http://Example.com/01/09506000134352?a=~{[|\\]}`'\"";
    assert_eq!(shown(scanner, bench, other).await.text, other, "all of ASCII comes as it is shown");
    let (_, (first, second)) = tokio::join!(
        async {
            bench.show(b"first").await;
            bench.show(b"second").await;
        },
        async { (next(scanner).await, next(scanner).await) },
    );
    assert_eq!(
        (first.text.as_slice(), second.text.as_slice()),
        (&b"first"[..], &b"second"[..]),
        "codes keep order"
    );
}

async fn waiting_loses_nothing<B: Bench>(scanner: &mut B::Scanner, bench: &mut B) {
    for _ in 0..3 {
        tokio::select! {
            biased;
            scan = scanner.next_scan() => panic!("a code {scan:?} out of nothing"),
            () = async {} => {}
        }
    }
    let text = [b'3'; 455];
    let patiently = async {
        loop {
            // Each wait is given up at the first chance, in the middle of the code too.
            tokio::select! {
                biased;
                scan = scanner.next_scan() => break scan.expect("a code"),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let (_, scan) = tokio::join!(bench.show(&text), within("a code whose waits were cancelled", patiently));
    assert_eq!(scan.text, text, "no part of a code is lost to a cancelled wait");
}

async fn signals_are_told<B: Bench>(scanner: &mut B::Scanner, bench: &mut B) {
    let _ = bench.signals().await;
    for signal in [Signal::Good, Signal::Bad] {
        scanner.signal(signal).expect("signal");
        let told = async {
            loop {
                match bench.signals().await {
                    None => break,
                    Some(told) if told.is_empty() => idle().await,
                    Some(told) => {
                        assert_eq!(told, [signal], "the shopper is told what was meant");
                        break;
                    }
                }
            }
        };
        within("a signal", told).await;
    }
}

async fn only_one_may_read<B: Bench>(scanner: &mut B::Scanner, bench: &mut B) {
    let kind = bench.open().err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Busy), "a second reader is refused");
    assert_eq!(shown(scanner, bench, b"still ours").await.text, b"still ours", "and the first one reads on");
}

async fn a_pulled_cable_is_told<B: Bench>(mut scanner: B::Scanner, bench: &mut B) -> B::Scanner {
    bench.show_half(&[b'5'; 300]).await;
    let (_, lost) = tokio::join!(bench.unplug(), within("the loss", lost(&mut scanner)));
    assert_eq!(lost, ErrorKind::Disconnected, "a pulled cable is told at once");
    assert_eq!(
        within("the loss, again", self::lost(&mut scanner)).await,
        ErrorKind::Disconnected,
        "and again"
    );
    let kind = within("a missing scanner", async {
        loop {
            match bench.open() {
                Err(error) if error.kind() == ErrorKind::NotFound => break error.kind(),
                // The kernel takes its nodes away a moment after the device is gone.
                Err(_) => idle().await,
                Ok(_) => idle().await,
            }
        }
    });
    assert_eq!(kind.await, ErrorKind::NotFound, "what is not plugged in is not found");
    drop(scanner);
    bench.plug().await;
    let mut scanner = opened(bench).await;
    assert_eq!(
        shown(&mut scanner, bench, b"after").await.text,
        b"after",
        "a half code from before is not mixed in"
    );
    scanner
}

async fn closing_lets_go<B: Bench>(scanner: B::Scanner, bench: &mut B) {
    drop(scanner);
    let mut scanner = opened(bench).await;
    assert_eq!(shown(&mut scanner, bench, b"reopened").await.text, b"reopened");
}

/// Opens as soon as it can be opened.
async fn opened<B: Bench>(bench: &mut B) -> B::Scanner {
    let mut last = None;
    let opening = async {
        loop {
            match bench.open() {
                Ok(scanner) => break scanner,
                Err(error) => last = Some(error),
            }
            idle().await;
        }
    };
    match tokio::time::timeout(PATIENCE, opening).await {
        Ok(scanner) => scanner,
        Err(_) => panic!("no scanner within {PATIENCE:?}: {last:?}"),
    }
}

async fn shown<B: Bench>(scanner: &mut B::Scanner, bench: &mut B, text: &[u8]) -> Scan {
    tokio::join!(bench.show(text), next(scanner)).1
}

async fn next<S: QrScanner>(scanner: &mut S) -> Scan {
    within("a code", scanner.next_scan()).await.expect("a code")
}

async fn lost<S: QrScanner>(scanner: &mut S) -> ErrorKind {
    loop {
        match scanner.next_scan().await {
            // What was begun before may be told as cut off.
            Err(error) if error.kind() == ErrorKind::Garbled => {}
            Err(error) => break error.kind(),
            Ok(scan) => panic!("half a code is no code: {scan:?}"),
        }
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("no {what} within {PATIENCE:?}"),
    }
}

/// Between two looks at something that has no event.
async fn idle() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}
