//! Wiegand from pulses to cards, through the driver's waiting.

use std::time::Duration;

use card_reader::codec::{Bits, Format, encode};
use card_reader::wiegand::{Data, Edges, Pulse, Settings, Wiegand, open};
use card_reader::{CardReader, Error, ErrorKind, Report, Signal, conformance};
use tokio::sync::mpsc;

fn settings() -> Settings {
    toml::from_str("chip = \"/dev/gpiochip-none\"\nd0 = 17\nd1 = \"WIEGAND_D1\"").expect("settings")
}

struct Wires(mpsc::UnboundedReceiver<Pulse>);

impl Edges for Wires {
    async fn next_pulse(&mut self) -> Result<Pulse, Error> {
        self.0.recv().await.ok_or_else(|| Error::new(ErrorKind::Disconnected, "read", None))
    }
}

struct Far {
    wires: Option<mpsc::UnboundedSender<Pulse>>,
    at: Duration,
}

impl Far {
    fn send(&mut self, bits: &Bits) {
        self.at += Duration::from_millis(100);
        for index in 0..bits.len() {
            self.at += Duration::from_millis(2);
            let data = if bits.get(index) { Data::One } else { Data::Zero };
            let wires = self.wires.as_ref().expect("plugged");
            wires.send(Pulse { data, at: self.at }).expect("a reader");
        }
    }
}

impl conformance::Bench for Far {
    fn present(&mut self, bits: &Bits) {
        self.send(bits);
    }

    fn tamper(&mut self, _open: bool) -> bool {
        false
    }

    fn signals(&mut self) -> Option<Vec<Signal>> {
        None
    }

    fn unplug(&mut self) {
        self.wires = None;
    }
}

fn pair(settings: &Settings) -> (Wiegand<Wires>, Far) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        Wiegand::new(Wires(receiver), settings).expect("it opens"),
        Far { wires: Some(sender), at: Duration::ZERO },
    )
}

#[tokio::test(start_paused = true)]
async fn conforms() {
    let (mut reader, mut far) = pair(&settings());
    conformance::check(&mut reader, &mut far).await;
}

#[tokio::test(start_paused = true)]
async fn bad_cards_are_one_error_each() {
    let (mut reader, mut far) = pair(&Settings { bit_counts: vec![26, 32], ..settings() });
    assert!(matches!(reader.next_report().await, Ok(Report::Status(status)) if !status.secure));
    let good = encode(Format::H10301, 1, 2).unwrap();
    let mut parity = Bits::new();
    (0..26).for_each(|at| assert!(parity.push(good.get(at) != (at == 13))));
    for bad in [parity, encode(Format::H10306, 1, 2).unwrap(), Bits::from_value(5, 25)] {
        far.send(&bad);
        assert_eq!(reader.next_report().await.unwrap_err().kind(), ErrorKind::Garbled);
        far.send(&good);
        assert!(matches!(reader.next_report().await, Ok(Report::Card(card)) if card.number == Some(2)));
    }
    far.send(&Bits::from_value(0xdead_beef, 32));
    let Ok(Report::Card(card)) = reader.next_report().await else { panic!("32 bits are a card here") };
    assert_eq!((card.format, card.bits.as_bytes()), (Format::Raw, &[0xde, 0xad, 0xbe, 0xef][..]));
}

#[tokio::test]
async fn says_why_it_does_not_open() {
    let kind = |settings: Settings| open(&settings).unwrap_err().kind();
    assert_eq!(kind(settings()), ErrorKind::NotFound, "no such chip");
    assert_eq!(kind(Settings { bit_counts: vec![], ..settings() }), ErrorKind::Unsupported);
    assert_eq!(kind(Settings { bit_counts: vec![513], ..settings() }), ErrorKind::Unsupported);
    assert_eq!(kind(Settings { pause_ms: 0, ..settings() }), ErrorKind::Unsupported);
    assert_eq!(kind(Settings { noise_us: 40_000, ..settings() }), ErrorKind::Unsupported);
    assert_eq!(kind(Settings { d1: settings().d0, ..settings() }), ErrorKind::Unsupported);
    assert!(toml::from_str::<Settings>("chip = \"/dev/gpiochip0\"\nd0 = 1\nd1 = 2\nd2 = 3").is_err());
}
