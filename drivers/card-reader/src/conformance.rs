//! What every card reader must do, simulated or on wires: run it on the simulators always, on hardware with a
//! bench that can hold a card in front of it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::codec::{Bits, Format, encode};
use crate::{Card, CardReader, ErrorKind, Report, Signal, Status};

/// The longest a reader takes to come online or to show a card, with much room: OSDP gives up after 8 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// The world in front of the reader: a simulator's handle, or a bench with cards.
pub trait Bench {
    /// Holds a card of these bits in front of the reader.
    fn present(&mut self, bits: &Bits);
    /// Opens or closes the housing; `false` where the reader cannot tell.
    fn tamper(&mut self, open: bool) -> bool;
    /// Signals that reached the reader since the last call; `None` where it cannot be told.
    fn signals(&mut self) -> Option<Vec<Signal>>;
    /// Takes the reader's line away.
    fn unplug(&mut self);
}

impl Bench for crate::sim::SimHandle {
    fn present(&mut self, bits: &Bits) {
        Self::present(self, bits);
    }

    fn tamper(&mut self, open: bool) -> bool {
        Self::tamper(self, open);
        true
    }

    fn signals(&mut self) -> Option<Vec<Signal>> {
        Some(Self::signals(self))
    }

    fn unplug(&mut self) {
        Self::unplug(self);
    }
}

/// Runs the suite on a reader that was just opened, with nothing in front of it.
///
/// # Panics
/// When the device does not conform; the message says in what.
pub async fn check<R: CardReader>(reader: &mut R, bench: &mut impl Bench) {
    let Report::Status(_) = report(reader).await else { panic!("the first report is the status") };
    let status = if wants_link(bench) { status(reader, |status| status.secure).await } else { None };
    shows_cards(reader, bench).await;
    waiting_is_cancel_safe(reader, bench).await;
    signals(reader, bench).await;
    if bench.tamper(true) {
        assert!(status.is_some(), "a reader that can be asked has a status");
        self::status(reader, |status| status.tamper == Some(true)).await;
        bench.tamper(false);
        self::status(reader, |status| status.tamper == Some(false)).await;
    }
    bench.unplug();
    for _ in 0..2 {
        let kind = loop {
            match tokio::time::timeout(PATIENCE, reader.next_report()).await.expect("it fails in time") {
                Ok(Report::Status(_)) => {}
                Ok(Report::Card(card)) => panic!("{card:?} out of nothing"),
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(kind, ErrorKind::Disconnected, "a reader without a line says so, each time");
    }
}

/// Whether the reader has a link that must come up first.
fn wants_link(bench: &mut impl Bench) -> bool {
    bench.signals().is_some()
}

async fn shows_cards<R: CardReader>(reader: &mut R, bench: &mut impl Bench) {
    let cards = [
        (Format::H10301, 0, 1),
        (Format::H10301, 255, 65535),
        (Format::H10301, 123, 4567),
        (Format::H10306, 65535, 21845),
        (Format::H10304, 43690, 524_287),
        (Format::H10304, 1, 0),
    ];
    for (format, facility, number) in cards {
        let bits = encode(format, facility, number).expect("fields that fit");
        let before = Instant::now();
        bench.present(&bits);
        let card = card(reader).await;
        assert_eq!(card.bits, bits, "a card comes whole");
        assert_eq!((card.format, card.facility, card.number), (format, Some(facility), Some(number)));
        assert!(card.reported >= before, "a card is stamped when it arrives");
        assert!(
            !format!("{card:?}").contains(&number.to_string()) || number < 100,
            "a card prints no number"
        );
    }
    let [one, two] = [7, 8].map(|number| encode(Format::H10301, 1, number).expect("fields that fit"));
    bench.present(&one);
    bench.present(&two);
    assert_eq!(card(reader).await.number, Some(7), "cards keep their order");
    assert_eq!(card(reader).await.number, Some(8));
}

async fn waiting_is_cancel_safe<R: CardReader>(reader: &mut R, bench: &mut impl Bench) {
    for _ in 0..3 {
        if let Poll::Ready(report) = pin!(reader.next_report()).poll(&mut Context::from_waker(Waker::noop()))
        {
            panic!("{report:?} out of nothing");
        }
    }
    bench.present(&encode(Format::H10301, 1, 9).expect("fields that fit"));
    let mut cut_off = 0;
    let card = loop {
        match tokio::time::timeout(Duration::from_millis(1), card(reader)).await {
            Ok(card) => break card,
            Err(_) => cut_off += 1,
        }
        assert!(cut_off < 20_000, "no card is lost to cancelled waits");
    };
    assert_eq!(card.number, Some(9));
}

async fn signals<R: CardReader>(reader: &mut R, bench: &mut impl Bench) {
    for signal in [Signal::Good, Signal::Bad] {
        match bench.signals() {
            None => {
                let kind = reader.signal(signal).expect_err("nobody can be told").kind();
                assert_eq!(kind, ErrorKind::Unsupported);
            }
            Some(_) => {
                reader.signal(signal).expect("signal");
                let start = Instant::now();
                let heard = loop {
                    let heard = bench.signals().unwrap_or_default();
                    if !heard.is_empty() {
                        break heard;
                    }
                    assert!(start.elapsed() < PATIENCE, "{signal:?} never reaches the reader");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                };
                assert_eq!(heard, [signal]);
            }
        }
    }
}

async fn report<R: CardReader>(reader: &mut R) -> Report {
    let report = tokio::time::timeout(PATIENCE, reader.next_report()).await.expect("a report in time");
    report.expect("a report")
}

async fn card<R: CardReader>(reader: &mut R) -> Card {
    loop {
        if let Report::Card(card) = report(reader).await {
            return card;
        }
    }
}

async fn status<R: CardReader>(reader: &mut R, wanted: impl Fn(Status) -> bool) -> Option<Status> {
    loop {
        if let Report::Status(status) = report(reader).await
            && wanted(status)
        {
            return Some(status);
        }
    }
}
