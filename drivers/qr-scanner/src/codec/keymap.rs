//! Keys to text, for scanners that pose as a keyboard: the US layout, whatever the box's own layout is.
//!
//! Key numbers are those of the kernel's `input-event-codes.h`. Entry codes are digits alone, and those lie on the
//! same keys everywhere; where a country types them with shift (France), `digits_only` takes the keys for what
//! they are. Other text wants a scanner set to US.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Decoded;
use super::text::{Assembler, BadText, Framing};

/// What ends a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terminator {
    /// Enter (either one) or Tab.
    #[default]
    Either,
    /// Enter; Tab belongs to the text.
    Enter,
    /// Tab; Enter belongs to the text, as a carriage return.
    Tab,
    /// Nothing but a pause.
    Gap,
}

/// An input event, as evdev tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key went down (true) or up.
    Key(u16, bool),
    /// The kernel's queue overflowed (`SYN_DROPPED`): events are missing here.
    Dropped,
}

const TAB: u16 = 15;
const ENTER: u16 = 28;
const LEFT_CTRL: u16 = 29;
const LEFT_SHIFT: u16 = 42;
const RIGHT_SHIFT: u16 = 54;
const LEFT_ALT: u16 = 56;
const CAPS_LOCK: u16 = 58;
const NUM_LOCK: u16 = 69;
const SCROLL_LOCK: u16 = 70;
const KEYPAD_ENTER: u16 = 96;
const RIGHT_CTRL: u16 = 97;
const RIGHT_ALT: u16 = 100;
const LEFT_META: u16 = 125;
const RIGHT_META: u16 = 126;

/// Characters of the keys from 0 on, unshifted and shifted; a blank is a key without one.
const PLAIN: &[u8; 58] = b"  1234567890-=  qwertyuiop[]  asdfghjkl;'` \\zxcvbnm,./ *  ";
const SHIFTED: &[u8; 58] = b"  !@#$%^&*()_+  QWERTYUIOP{}  ASDFGHJKL:\"~ |ZXCVBNM<>? *  ";
const SPACE: u16 = 57;
/// The keypad, from 71 on: a scanner means its digits whatever Num Lock says.
const KEYPAD: &[u8; 13] = b"789-456+1230.";
const KEYPAD_FIRST: u16 = 71;

/// Finds codes in the events of a keyboard.
#[derive(Clone, Debug)]
pub struct Decoder {
    terminator: Terminator,
    assembler: Assembler,
    /// Modifiers that are down: one bit each.
    held: u8,
    caps: bool,
    digits_only: bool,
    /// Digits typed on the keypad while Alt is down.
    alt_code: Option<u16>,
}

const SHIFT: u8 = 0b0000_0011;
const CTRL: u8 = 0b0000_1100;
const ALT: u8 = 0b0011_0000;
const META: u8 = 0b1100_0000;

fn modifier(key: u16) -> Option<u8> {
    Some(match key {
        LEFT_SHIFT => 1,
        RIGHT_SHIFT => 1 << 1,
        LEFT_CTRL => 1 << 2,
        RIGHT_CTRL => 1 << 3,
        LEFT_ALT => 1 << 4,
        RIGHT_ALT => 1 << 5,
        LEFT_META => 1 << 6,
        RIGHT_META => 1 << 7,
        _ => return None,
    })
}

impl Decoder {
    /// A decoder; with [`Terminator::Gap`] the framing's `gap_ends` is set.
    #[must_use]
    pub fn new(terminator: Terminator, framing: Framing) -> Self {
        let gap_ends = framing.gap_ends || terminator == Terminator::Gap;
        let assembler = Assembler::new(Framing { gap_ends, ..framing });
        Self { terminator, assembler, held: 0, caps: false, digits_only: false, alt_code: None }
    }

    /// The same, but shift means nothing on the row of digits.
    #[must_use]
    pub fn digits_only(self, digits_only: bool) -> Self {
        Self { digits_only, ..self }
    }

    /// Takes one event that arrived at `at`; [`Self::expire`] must have been called with that time before.
    /// Repeats of a held key are not to be pushed.
    ///
    /// # Errors
    /// A code that is lost; the rest of it is dropped silently up to its terminator or a pause.
    pub fn push(&mut self, event: Event, at: Instant) -> Result<Option<Decoded>, BadText> {
        let Event::Key(key, down) = event else {
            // A modifier may have gone up unseen.
            (self.held, self.alt_code) = (0, None);
            return Err(self.assembler.spoil(at, BadText::Dropped));
        };
        if let Some(bit) = modifier(key) {
            let before = self.held;
            self.held = if down { self.held | bit } else { self.held & !bit };
            if before & ALT != 0 && self.held & ALT == 0 {
                return self.alt_typed(at).map(|()| None);
            }
            return Ok(None);
        }
        if !down {
            return Ok(None);
        }
        match key {
            // Some scanners toggle Caps Lock around letters instead of holding shift.
            CAPS_LOCK => {
                self.caps = !self.caps;
                return Ok(None);
            }
            NUM_LOCK | SCROLL_LOCK => return Ok(None),
            _ => {}
        }
        let is_enter = key == ENTER || key == KEYPAD_ENTER;
        let ends = match self.terminator {
            Terminator::Either => is_enter || key == TAB,
            Terminator::Enter => is_enter,
            Terminator::Tab => key == TAB,
            Terminator::Gap => false,
        };
        if ends {
            self.caps = false;
            return self.assembler.end();
        }
        if self.held & ALT != 0 {
            return self.alt_digit(key, at).map(|()| None);
        }
        match self.character(key) {
            Some(byte) => self.assembler.byte(byte, at).map(|()| None),
            None => self.unknown(key, at).map(|()| None),
        }
    }

    /// Ends or drops a code that paused too long before `now`.
    ///
    /// # Errors
    /// `CutOff` when a code stopped before its terminator.
    pub fn expire(&mut self, now: Instant) -> Result<Option<Decoded>, BadText> {
        let begun = self.assembler.deadline().is_some();
        let expired = self.assembler.expire(now);
        if begun && self.assembler.deadline().is_none() {
            (self.caps, self.alt_code) = (false, None);
        }
        expired
    }

    /// When [`Self::expire`] is to be called; `None` between codes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.assembler.deadline()
    }

    fn character(&self, key: u16) -> Option<u8> {
        if self.held & META != 0 {
            return None;
        }
        let (plain, shifted) = characters(key)?;
        let shift = self.held & SHIFT != 0 && !(self.digits_only && plain.is_ascii_digit());
        let upper = shift != (self.caps && plain.is_ascii_lowercase());
        let byte = if upper { shifted } else { plain };
        if self.held & CTRL == 0 {
            return Some(byte);
        }
        // Control characters (a GS1 separator is Ctrl+]) as terminals have them.
        matches!(byte, b'@'..=b'_' | b'a'..=b'z').then_some(byte & 0x1f)
    }

    /// Alt and digits on the keypad: a character by its number, as Windows has it.
    fn alt_digit(&mut self, key: u16, at: Instant) -> Result<(), BadText> {
        let digit = keypad(key).filter(u8::is_ascii_digit);
        let Some(digit) = digit else { return self.unknown(key, at) };
        let code = self.alt_code.unwrap_or(0).saturating_mul(10).saturating_add(u16::from(digit - b'0'));
        self.alt_code = Some(code);
        self.assembler.touch(at);
        Ok(())
    }

    fn alt_typed(&mut self, at: Instant) -> Result<(), BadText> {
        let Some(code) = self.alt_code.take() else { return Ok(()) };
        match u8::try_from(code) {
            Ok(byte) => self.assembler.byte(byte, at),
            Err(_) => self.unknown(LEFT_ALT, at),
        }
    }

    /// A code with a character missing would be another code: it is lost.
    fn unknown(&mut self, key: u16, at: Instant) -> Result<(), BadText> {
        let known = self.assembler.is_spoilt();
        let bad = self.assembler.spoil(at, BadText::Key(key));
        if known { Ok(()) } else { Err(bad) }
    }
}

fn keypad(key: u16) -> Option<u8> {
    KEYPAD.get(usize::from(key.checked_sub(KEYPAD_FIRST)?)).copied()
}

/// What a key types, plain and with shift.
fn characters(key: u16) -> Option<(u8, u8)> {
    let other = match key {
        TAB => Some(b'\t'),
        ENTER | KEYPAD_ENTER => Some(b'\r'),
        SPACE => Some(b' '),
        98 => Some(b'/'),
        117 => Some(b'='),
        121 => Some(b','),
        _ => keypad(key),
    };
    if let Some(byte) = other {
        return Some((byte, byte));
    }
    let at = usize::from(key);
    let (plain, shifted) = (*PLAIN.get(at)?, *SHIFTED.get(at)?);
    (plain != b' ').then_some((plain, shifted))
}

/// The events that a scanner set to the US layout makes for a code, with Enter at the end. What no key types
/// comes as Alt and its number.
#[must_use]
pub fn encode(text: &[u8]) -> Vec<Event> {
    let stroke = |key| [Event::Key(key, true), Event::Key(key, false)];
    let mut events = Vec::new();
    for byte in text {
        let typed = (2..=SPACE).filter(|key| ![TAB, ENTER, 55].contains(key)).find_map(|key| {
            let (plain, shifted) = characters(key)?;
            (plain == *byte || shifted == *byte).then_some((key, plain != *byte))
        });
        match typed {
            Some((key, false)) => events.extend(stroke(key)),
            Some((key, true)) => {
                events.push(Event::Key(LEFT_SHIFT, true));
                events.extend(stroke(key));
                events.push(Event::Key(LEFT_SHIFT, false));
            }
            None => {
                events.push(Event::Key(LEFT_ALT, true));
                for digit in format!("{byte:04}").bytes() {
                    let place =
                        (0..).zip(KEYPAD).find(|(_, key)| **key == digit).map_or(0, |(place, _)| place);
                    events.extend(stroke(KEYPAD_FIRST + place));
                }
                events.push(Event::Key(LEFT_ALT, false));
            }
        }
    }
    events.extend(stroke(ENTER));
    events
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Codes = Vec<Result<Vec<u8>, BadText>>;

    fn codes(decoder: &mut Decoder, events: &[Event], at: Instant) -> Codes {
        let pushed = events.iter().map(|event| decoder.push(*event, at));
        pushed.filter_map(Result::transpose).map(|code| code.map(|code| code.text)).collect()
    }

    fn typed(events: &[Event]) -> Codes {
        codes(&mut Decoder::new(Terminator::Either, Framing::default()), events, Instant::now())
    }

    /// Keys by name: `+` before a modifier presses it, `-` lets it go; a number is a stroke.
    fn keys(line: &str) -> Vec<Event> {
        let key = |name: &str| match name {
            "shift" => RIGHT_SHIFT,
            "ctrl" => LEFT_CTRL,
            "alt" => LEFT_ALT,
            "meta" => LEFT_META,
            "caps" => CAPS_LOCK,
            "enter" => ENTER,
            "kpenter" => KEYPAD_ENTER,
            "tab" => TAB,
            number => number.parse().unwrap(),
        };
        line.split_whitespace()
            .flat_map(|word| match word.split_at(1) {
                ("+", name) => vec![Event::Key(key(name), true)],
                ("-", name) => vec![Event::Key(key(name), false)],
                ("!", _) => vec![Event::Dropped],
                _ => vec![Event::Key(key(word), true), Event::Key(key(word), false)],
            })
            .collect()
    }

    #[test]
    fn every_byte_comes_back() {
        for byte in 0..=255 {
            assert_eq!(typed(&encode(&[byte])), [Ok(vec![byte])], "{byte:#04x}");
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(typed(&encode(&all)), [Ok(all)]);
    }

    #[test]
    fn the_us_layout_is_the_us_layout() {
        let table: [(&str, &str); 9] = [
            ("2 3 4 5 6 7 8 9 10 11 enter", "1234567890"),
            ("+shift 2 3 4 5 6 7 8 9 10 11 -shift enter", "!@#$%^&*()"),
            ("16 17 18 19 20 21 22 23 24 25 tab", "qwertyuiop"),
            ("30 31 32 33 34 35 36 37 38 44 45 46 47 48 49 50 enter", "asdfghjklzxcvbnm"),
            ("12 13 26 27 39 40 41 43 51 52 53 57 enter", "-=[];'`\\,./ "),
            ("+shift 12 13 26 27 39 40 41 43 51 52 53 57 -shift enter", "_+{}:\"~|<>? "),
            ("71 72 73 75 76 77 79 80 81 82 kpenter", "7894561230"),
            ("98 55 74 78 83 117 121 enter", "/*-+.=,"),
            ("+shift 30 -shift 30 enter", "Aa"),
        ];
        for (events, want) in table {
            assert_eq!(typed(&keys(events)), [Ok(want.into())], "{events}");
        }
    }

    #[test]
    fn locks_and_modifiers() {
        let table: [(&str, Codes); 12] = [
            ("caps 30 2 caps 30 enter", vec![Ok(b"A1a".to_vec())]),
            ("caps +shift 30 2 -shift enter", vec![Ok(b"a!".to_vec())]),
            ("caps 30 enter 30 enter", vec![Ok(b"A".to_vec()), Ok(b"a".to_vec())]),
            ("69 70 82 enter", vec![Ok(b"0".to_vec())]),
            ("+ctrl 27 -ctrl 2 enter", vec![Ok(b"\x1d1".to_vec())]),
            ("+ctrl 2 -ctrl 3 enter 4 enter", vec![Err(BadText::Key(2)), Ok(b"3".to_vec())]),
            ("+alt 82 73 76 -alt enter", vec![Ok(b"\x5f".to_vec())]),
            ("+alt 80 76 76 -alt enter", vec![Ok(b"\xff".to_vec())]),
            ("+alt 79 73 73 73 -alt 2 enter", vec![Err(BadText::Key(LEFT_ALT))]),
            ("+alt 30 31 -alt 2 enter 3 enter", vec![Err(BadText::Key(30)), Ok(b"2".to_vec())]),
            ("2 86 89 3 enter 4 enter", vec![Err(BadText::Key(86)), Ok(b"3".to_vec())]),
            ("+meta 30 -meta enter enter enter", vec![Err(BadText::Key(30))]),
        ];
        for (events, want) in table {
            assert_eq!(typed(&keys(events)), want, "{events}");
        }
    }

    #[test]
    fn digits_may_come_with_shift() {
        let events = keys("+shift 2 3 -shift 4 +shift 30 11 -shift 82 enter");
        let decoder = || Decoder::new(Terminator::Either, Framing::default());
        assert_eq!(codes(&mut decoder(), &events, Instant::now()), [Ok(b"!@3A)0".to_vec())]);
        let mut digits = decoder().digits_only(true);
        assert_eq!(codes(&mut digits, &events, Instant::now()), [Ok(b"123A00".to_vec())]);
    }

    #[test]
    fn dropped_events_lose_their_code_only() {
        let lost = || Err(BadText::Dropped);
        assert_eq!(typed(&keys("2 3 ! 4 enter 5 enter")), [lost(), Ok(b"4".to_vec())]);
        assert_eq!(
            typed(&keys("+shift 2 ! 4 enter 5 enter")),
            [lost(), Ok(b"4".to_vec())],
            "shift is not stuck"
        );
    }

    #[test]
    fn a_pause_cuts_or_ends() {
        let start = Instant::now();
        let later = start + Duration::from_millis(300);
        let mut decoder = Decoder::new(Terminator::Enter, Framing::default());
        assert_eq!(codes(&mut decoder, &keys("caps 30 tab 31"), start), []);
        assert_eq!(decoder.expire(later), Err(BadText::CutOff(3)));
        assert_eq!(codes(&mut decoder, &keys("30 enter"), later), [Ok(b"a".to_vec())], "caps is not stuck");
        let mut decoder = Decoder::new(Terminator::Gap, Framing::default());
        assert_eq!(codes(&mut decoder, &keys("30 enter"), start), []);
        assert_eq!(decoder.expire(later).unwrap().unwrap().text, b"a\r");
        let mut decoder = Decoder::new(Terminator::Tab, Framing::default());
        assert_eq!(codes(&mut decoder, &keys("30 enter 31 tab"), start), [Ok(b"a\rs".to_vec())]);
    }
}
