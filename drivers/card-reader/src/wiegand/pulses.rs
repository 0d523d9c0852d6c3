//! Pulses to frames of bits. Pure: time comes with the pulses.

use std::collections::VecDeque;
use std::time::Duration;

use crate::codec::{BITS_MAX, BadCard, Bits};

/// Which of the two lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// D0: a zero.
    Zero,
    /// D1: a one.
    One,
}

/// The start of a pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// The line.
    pub data: Data,
    /// When, on the kernel's monotonic clock (or any that does not jump).
    pub at: Duration,
}

/// Fewest bits that are told as a card that did not arrive whole; fewer are a touch of the wires.
const BITS_TOLD_MIN: usize = 8;

/// Frames kept for a caller that does not take them: a person shows a card a second.
const FRAMES_MAX: usize = 8;

/// Puts pulses together.
#[derive(Clone, Debug)]
pub struct Decoder {
    noise: Duration,
    pause: Duration,
    bits: Bits,
    last: Option<Pulse>,
    bad: Option<BadCard>,
    frames: VecDeque<Result<Bits, BadCard>>,
}

impl Decoder {
    /// A decoder that takes edges within `noise` of a pulse for noise, and `pause` without one for the end of a
    /// frame.
    #[must_use]
    pub fn new(noise: Duration, pause: Duration) -> Self {
        Self { noise, pause, bits: Bits::new(), last: None, bad: None, frames: VecDeque::new() }
    }

    /// Takes a pulse. One that is older than the last counts as at its time.
    pub fn push(&mut self, pulse: Pulse) {
        if let Some(last) = self.last {
            let gap = pulse.at.saturating_sub(last.at);
            if gap > self.pause {
                self.end();
            } else if gap < self.noise {
                // The same line again is its edge ringing. The other line cannot pulse yet: the frame is spoilt.
                if pulse.data != last.data {
                    self.spoil();
                }
                return;
            }
        }
        self.last = Some(pulse);
        if self.bad.is_none() && !self.bits.push(pulse.data == Data::One) {
            self.bad = Some(BadCard::Count { bits: BITS_MAX + 1 });
        }
    }

    /// No pulse came for the pause: the frame is complete.
    pub fn end(&mut self) {
        let bits = std::mem::take(&mut self.bits);
        self.last = None;
        let frame = match self.bad.take() {
            Some(bad) => Err(bad),
            None if bits.len() < BITS_TOLD_MIN => return,
            None => Ok(bits),
        };
        if self.frames.len() == FRAMES_MAX {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
    }

    /// The oldest complete frame.
    pub fn take(&mut self) -> Option<Result<Bits, BadCard>> {
        self.frames.pop_front()
    }

    fn spoil(&mut self) {
        let bits = self.bits.len();
        self.bad.get_or_insert(BadCard::Collision { bits });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Format, encode};

    const NOISE: Duration = Duration::from_micros(100);
    const PAUSE: Duration = Duration::from_millis(40);

    fn pulses(bits: &Bits, start: Duration, gap: Duration) -> Vec<Pulse> {
        (0..bits.len())
            .map(|at| Pulse {
                data: if bits.get(at) { Data::One } else { Data::Zero },
                at: start + gap * u32::try_from(at).unwrap(),
            })
            .collect()
    }

    #[test]
    fn cards_at_every_allowed_speed() {
        for gap_us in [200, 1000, 2000, 20_000] {
            let mut decoder = Decoder::new(NOISE, PAUSE);
            let card = encode(Format::H10301, 7, 1234).unwrap();
            for pulse in pulses(&card, Duration::from_secs(5), Duration::from_micros(gap_us)) {
                decoder.push(pulse);
                assert_eq!(decoder.take(), None);
            }
            decoder.end();
            assert_eq!(decoder.take(), Some(Ok(card)));
            assert_eq!(decoder.take(), None);
        }
    }

    #[test]
    fn a_pause_between_time_stamps_ends_a_card_too() {
        let mut decoder = Decoder::new(NOISE, PAUSE);
        let [one, two] = [1, 2].map(|number| encode(Format::H10301, 7, number).unwrap());
        let gap = Duration::from_millis(2);
        pulses(&one, Duration::ZERO, gap).into_iter().for_each(|pulse| decoder.push(pulse));
        pulses(&two, Duration::from_millis(2 * 25 + 41), gap)
            .into_iter()
            .for_each(|pulse| decoder.push(pulse));
        assert_eq!(decoder.take(), Some(Ok(one)));
        decoder.end();
        assert_eq!(decoder.take(), Some(Ok(two)));
    }

    #[test]
    fn ringing_is_dropped_and_crosstalk_spoils() {
        let card = encode(Format::H10304, 9, 99).unwrap();
        let gap = Duration::from_millis(1);
        let mut decoder = Decoder::new(NOISE, PAUSE);
        for pulse in pulses(&card, Duration::ZERO, gap) {
            decoder.push(pulse);
            decoder.push(Pulse { at: pulse.at + Duration::from_micros(60), ..pulse });
        }
        decoder.end();
        assert_eq!(decoder.take(), Some(Ok(card.clone())), "the same line rings");
        let ringing = pulses(&card, Duration::ZERO, gap);
        for (index, pulse) in ringing.iter().enumerate() {
            decoder.push(*pulse);
            if index == 10 {
                let data = if pulse.data == Data::One { Data::Zero } else { Data::One };
                decoder.push(Pulse { data, at: pulse.at + Duration::from_micros(30) });
            }
        }
        decoder.end();
        assert_eq!(decoder.take(), Some(Err(BadCard::Collision { bits: 11 })));
        ringing.into_iter().for_each(|pulse| decoder.push(pulse));
        decoder.end();
        assert_eq!(decoder.take(), Some(Ok(card)), "the next card is whole again");
    }

    #[test]
    fn a_touch_is_no_card_and_a_stuck_oscillator_is_bounded() {
        let mut decoder = Decoder::new(NOISE, PAUSE);
        for pulse in pulses(&Bits::from_value(0b10, 3), Duration::ZERO, Duration::from_millis(1)) {
            decoder.push(pulse);
        }
        decoder.end();
        assert_eq!(decoder.take(), None);
        for index in 0..100_000 {
            decoder.push(Pulse { data: Data::One, at: Duration::from_millis(index) });
        }
        decoder.end();
        assert_eq!(decoder.take(), Some(Err(BadCard::Count { bits: BITS_MAX + 1 })));
        for index in 0..100 {
            let start = Duration::from_secs(1000 + index);
            for pulse in pulses(&Bits::from_value(index, 26), start, Duration::from_millis(1)) {
                decoder.push(pulse);
            }
            decoder.end();
        }
        assert_eq!(std::iter::from_fn(|| decoder.take()).count(), FRAMES_MAX);
    }
}
