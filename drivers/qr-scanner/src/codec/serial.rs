//! Codes on a serial line: text, then a terminator that the scanner is configured to send.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Decoded;
use super::text::{Assembler, BadText, Framing};

const LF: u8 = 0x0a;
const CR: u8 = 0x0d;
const ETX: u8 = 0x03;

/// What ends a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terminator {
    /// Carriage return, line feed, or both.
    #[default]
    Line,
    /// Carriage return alone; line feeds belong to the text.
    Cr,
    /// Line feed alone; carriage returns belong to the text.
    Lf,
    /// Carriage return and line feed; one of them alone belongs to the text.
    CrLf,
    /// End of text, 0x03.
    Etx,
    /// Nothing but a pause.
    Gap,
}

/// Finds codes in the bytes of a serial line.
#[derive(Clone, Debug)]
pub struct Decoder {
    terminator: Terminator,
    assembler: Assembler,
    /// A carriage return that may be half of a terminator.
    held: bool,
}

impl Decoder {
    /// A decoder; with [`Terminator::Gap`] the framing's `gap_ends` is set.
    #[must_use]
    pub fn new(terminator: Terminator, framing: Framing) -> Self {
        let gap_ends = framing.gap_ends || terminator == Terminator::Gap;
        Self { terminator, assembler: Assembler::new(Framing { gap_ends, ..framing }), held: false }
    }

    /// Takes one byte that arrived at `at`; [`Self::expire`] must have been called with that time before.
    ///
    /// # Errors
    /// A code that is lost; the rest of it is dropped silently up to its terminator or a pause.
    pub fn push(&mut self, byte: u8, at: Instant) -> Result<Option<Decoded>, BadText> {
        let held = std::mem::take(&mut self.held);
        if held && byte != LF {
            self.assembler.byte(CR, at)?;
        }
        let ends = match self.terminator {
            Terminator::Line => byte == CR || byte == LF,
            Terminator::Cr => byte == CR,
            Terminator::Lf => byte == LF,
            Terminator::CrLf => {
                if byte == CR {
                    self.held = true;
                    return Ok(None);
                }
                held && byte == LF
            }
            Terminator::Etx => byte == ETX,
            Terminator::Gap => false,
        };
        if ends {
            return self.assembler.end();
        }
        self.assembler.byte(byte, at).map(|()| None)
    }

    /// Ends or drops a code that paused too long before `now`.
    ///
    /// # Errors
    /// `CutOff` when a code stopped before its terminator.
    pub fn expire(&mut self, now: Instant) -> Result<Option<Decoded>, BadText> {
        let begun = self.deadline().is_some();
        let expired = self.assembler.expire(now);
        if begun && self.deadline().is_none() {
            self.held = false;
        }
        expired
    }

    /// When [`Self::expire`] is to be called; `None` between codes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.assembler.deadline()
    }
}

/// What a scanner with this framing sends for a code.
#[must_use]
pub fn encode(text: &[u8], aim: [u8; 3], terminator: Terminator, framing: &Framing) -> Vec<u8> {
    let end: &[u8] = match terminator {
        Terminator::Line | Terminator::Cr => &[CR],
        Terminator::Lf => &[LF],
        Terminator::CrLf => &[CR, LF],
        Terminator::Etx => &[ETX],
        Terminator::Gap => &[],
    };
    let aim: &[u8] = if framing.aim { &aim } else { &[] };
    [&framing.prefix, aim, text, &framing.suffix, end].concat()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Texts = &'static [&'static [u8]];
    type Code = Result<&'static [u8], BadText>;

    fn codes(decoder: &mut Decoder, bytes: &[u8], at: Instant) -> Vec<Result<Vec<u8>, BadText>> {
        let pushed = bytes.iter().map(|byte| decoder.push(*byte, at));
        pushed.filter_map(Result::transpose).map(|code| code.map(|code| code.text)).collect()
    }

    #[test]
    fn every_terminator_ends_a_code_and_nothing_else_does() {
        use Terminator::{Cr, CrLf, Etx, Gap, Lf, Line};
        let table: [(Terminator, &[u8], Texts); 9] = [
            (Line, b"1\r2\n3\r\n4\n\r\r5", &[b"1", b"2", b"3", b"4"]),
            (Cr, b"1\r2\n3\r\n4\r", &[b"1", b"2\n3", b"\n4"]),
            (Lf, b"1\r\n2\n\n", &[b"1\r", b"2"]),
            (CrLf, b"1\r\n2\r3\n4\r\r\n", &[b"1", b"2\r3\n4\r"]),
            (CrLf, b"\r\n\r\n1\r\n", &[b"1"]),
            (Etx, b"1\r\n2\x033\x03", &[b"1\r\n2", b"3"]),
            (Gap, b"1\r\n\x032", &[]),
            (Line, b"\x00\xff\x80\r", &[b"\x00\xff\x80"]),
            (Line, b"", &[]),
        ];
        for (terminator, bytes, want) in table {
            let mut decoder = Decoder::new(terminator, Framing::default());
            let got: Vec<_> =
                codes(&mut decoder, bytes, Instant::now()).into_iter().map(Result::unwrap).collect();
            assert_eq!(got, want, "{terminator:?} {bytes:02x?}");
        }
    }

    #[test]
    fn prefix_suffix_and_aim_are_stripped_or_missed() {
        let framing =
            Framing { prefix: b"\x02G1".to_vec(), suffix: b"##".to_vec(), aim: true, ..Framing::default() };
        let table: [(&[u8], Code); 6] = [
            (b"\x02G1]Q1123##\r", Ok(b"123")),
            (b"\x02G1]Q1###\r", Ok(b"#")),
            (b"G1]Q1123##\r", Err(BadText::Prefix)),
            (b"\x02G1]Q1123#\r", Err(BadText::Suffix)),
            (b"\x02G1123##\r", Err(BadText::Aim)),
            (b"\x02G1]Q##\r", Err(BadText::Aim)),
        ];
        for (bytes, want) in &table {
            let mut decoder = Decoder::new(Terminator::Cr, framing.clone());
            let got = codes(&mut decoder, bytes, Instant::now());
            assert_eq!(got, [want.clone().map(<[u8]>::to_vec)], "{bytes:02x?}");
        }
        let mut decoder = Decoder::new(Terminator::Cr, framing.clone());
        assert_eq!(decoder.push(b'\r', Instant::now()), Ok(None), "nothing before a terminator is nothing");
        let mut decoder = Decoder::new(Terminator::Cr, framing.clone());
        let sent = encode(b"0123", *b"]Q3", Terminator::Cr, &framing);
        let code = sent.iter().find_map(|byte| decoder.push(*byte, Instant::now()).unwrap()).unwrap();
        assert_eq!(code, Decoded { text: b"0123".to_vec(), aim: *b"]Q3" });
    }

    #[test]
    fn a_pause_cuts_or_ends() {
        let start = Instant::now();
        let later = start + Duration::from_millis(251);
        for (terminator, want) in
            [(Terminator::Cr, Err(BadText::CutOff(3))), (Terminator::Gap, Ok(Some(b"123".to_vec())))]
        {
            let mut decoder = Decoder::new(terminator, Framing::default());
            assert_eq!(decoder.deadline(), None);
            assert_eq!(codes(&mut decoder, b"123", start), []);
            assert_eq!(decoder.deadline(), Some(start + Duration::from_millis(250)));
            assert_eq!(decoder.expire(start + Duration::from_millis(250)), Ok(None));
            assert_eq!(decoder.expire(later).map(|code| code.map(|code| code.text)), want);
            assert_eq!((decoder.expire(later), decoder.deadline()), (Ok(None), None));
        }
        let mut decoder = Decoder::new(Terminator::CrLf, Framing::default());
        assert_eq!(codes(&mut decoder, b"12\r", start), []);
        assert_eq!(decoder.expire(later), Err(BadText::CutOff(2)));
        assert_eq!(
            codes(&mut decoder, b"\n3\r\n", later),
            [Ok(b"\n3".to_vec())],
            "no return is held over a pause"
        );
    }

    #[test]
    fn too_long_is_one_error_and_the_next_code_is_whole() {
        let framing = Framing { text_max: 10, ..Framing::default() };
        let mut decoder = Decoder::new(Terminator::Cr, framing);
        let mut bytes = vec![b'1'; 10_000];
        bytes.extend(b"\r0123456789\r01234567890\r42\r");
        let got = codes(&mut decoder, &bytes, Instant::now());
        let long = || Err(BadText::TooLong(10));
        assert_eq!(got, [long(), Ok(b"0123456789".to_vec()), long(), Ok(b"42".to_vec())]);
    }
}
