//! Wiegand readers: two open-collector lines that rest high; a short low pulse on D0 is a zero, on D1 a one
//! (SIA AC-01: pulses of 20 to 100 µs, 0.2 to 20 ms apart). Input only, and nothing on the wires is encrypted.

mod gpio;
mod pulses;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use gpio::{Gpio, LineId};
pub use pulses::{Data, Decoder, Pulse};

use crate::codec::BadCard;
use crate::{Card, CardReader, Cause, Error, ErrorKind, Report, Signal, Status};

/// Where the wires are and which cards they may carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// GPIO chip, as `/dev/gpiochip0`.
    pub chip: String,
    /// Line of D0 (green wire), by name or offset.
    pub d0: LineId,
    /// Line of D1 (white wire), by name or offset.
    pub d1: LineId,
    /// Lets the chip pull the lines up; `false` where the board has resistors.
    #[serde(default = "yes")]
    pub pull_up: bool,
    /// The lines come inverted, through an optocoupler: a pulse is a rising edge.
    #[serde(default)]
    pub inverted: bool,
    /// Bit counts of this store's cards, 1 to 512. Those of 26, 34 and 37 are checked by their parity.
    #[serde(default = "common_counts")]
    pub bit_counts: Vec<u16>,
    /// Pause that ends a card, milliseconds, 1 to 250. Pulses are at most 20 ms apart.
    #[serde(default = "pause")]
    pub pause_ms: u16,
    /// Edges closer to the last pulse than this are noise, microseconds. Pulses start 200 µs apart or more.
    #[serde(default = "bounce")]
    pub noise_us: u16,
}

fn yes() -> bool {
    true
}

fn common_counts() -> Vec<u16> {
    vec![26, 34, 37]
}

fn pause() -> u16 {
    40
}

fn bounce() -> u16 {
    100
}

/// Longest pause that ends a card, milliseconds; longer, and two people's cards run together.
const PAUSE_MS_MAX: u16 = 250;

/// Where pulses come from.
pub trait Edges: Send {
    /// The next pulse. Cancel-safe.
    ///
    /// # Errors
    /// When the lines are gone.
    fn next_pulse(&mut self) -> impl Future<Output = Result<Pulse, Error>> + Send;
}

/// A reader on two wires.
#[derive(Debug)]
pub struct Wiegand<E> {
    edges: E,
    decoder: Decoder,
    bit_counts: Vec<u16>,
    pause: Duration,
    /// When the card that is being sent ends if no pulse follows.
    ends: Option<tokio::time::Instant>,
    last: Instant,
    told: bool,
    lost: bool,
}

/// Requests the two lines.
///
/// # Errors
/// `NotFound` without such a chip or line, `Busy` where somebody holds it, `Unsupported` for settings that fit no
/// reader, `Io` for any other refusal.
pub fn open(settings: &Settings) -> Result<Wiegand<Gpio>, Error> {
    check(settings)?;
    Wiegand::new(Gpio::open(settings)?, settings)
}

impl<E: Edges> Wiegand<E> {
    /// A reader whose pulses come from `edges`; of the settings only those of cards and pulses matter.
    ///
    /// # Errors
    /// `Unsupported` for settings that fit no reader.
    pub fn new(edges: E, settings: &Settings) -> Result<Self, Error> {
        check(settings)?;
        let pause = Duration::from_millis(settings.pause_ms.into());
        Ok(Self {
            edges,
            decoder: Decoder::new(Duration::from_micros(settings.noise_us.into()), pause),
            bit_counts: settings.bit_counts.clone(),
            pause,
            ends: None,
            last: Instant::now(),
            told: false,
            lost: false,
        })
    }

    fn card(&self, frame: Result<crate::codec::Bits, BadCard>) -> Result<Card, Error> {
        let bits = frame?;
        if !self.bit_counts.iter().any(|count| usize::from(*count) == bits.len()) {
            return Err(BadCard::Count { bits: bits.len() }.into());
        }
        let fields = crate::codec::decode(&bits)?;
        let crate::codec::Fields { format, facility, number } = fields;
        Ok(Card { bits, format, facility, number, reported: self.last })
    }
}

impl<E: Edges> CardReader for Wiegand<E> {
    async fn next_report(&mut self) -> Result<Report, Error> {
        if self.lost {
            return Err(Error::new(ErrorKind::Disconnected, "read", None));
        }
        if !self.told {
            self.told = true;
            return Ok(Report::Status(Status { online: true, ..Status::default() }));
        }
        loop {
            // The decoder keeps what a longer pause between two pulses has already ended.
            if let Some(frame) = self.decoder.take() {
                return self.card(frame).map(Report::Card);
            }
            let pulse = match self.ends {
                None => self.edges.next_pulse().await,
                Some(ends) => tokio::select! {
                    // Pulses that wait in the kernel come before the pause that they end.
                    biased;
                    pulse = self.edges.next_pulse() => pulse,
                    () = tokio::time::sleep_until(ends) => {
                        self.ends = None;
                        self.decoder.end();
                        continue;
                    }
                },
            };
            match pulse {
                Ok(pulse) => {
                    self.decoder.push(pulse);
                    self.last = Instant::now();
                    self.ends = Some(tokio::time::Instant::now() + self.pause);
                }
                Err(error) => {
                    self.lost = true;
                    return Err(error);
                }
            }
        }
    }

    fn signal(&mut self, _signal: Signal) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Unsupported, "signal", Some(Cause::Setting("Wiegand wires only listen"))))
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    if settings.bit_counts.is_empty()
        || settings
            .bit_counts
            .iter()
            .any(|count| !(1..=crate::codec::BITS_MAX).contains(&usize::from(*count)))
    {
        return Err(Error::setting("bit_counts must name counts of 1 to 512"));
    }
    if !(1..=PAUSE_MS_MAX).contains(&settings.pause_ms) {
        return Err(Error::setting("pause_ms must be 1 to 250"));
    }
    if u32::from(settings.noise_us) >= u32::from(settings.pause_ms) * 1000 {
        return Err(Error::setting("noise_us must be shorter than pause_ms"));
    }
    if settings.d0 == settings.d1 {
        return Err(Error::setting("d0 and d1 must be two lines"));
    }
    Ok(())
}
