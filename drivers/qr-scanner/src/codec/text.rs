//! Codes out of a stream without frames: what ends one, what is stripped from it, what spoils it. Serial ports
//! and keyboard wedges share it.

use std::time::{Duration, Instant};

use super::{Decoded, TEXT_MAX};

/// What a scanner is configured to put around each code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Bytes before each code.
    pub prefix: Vec<u8>,
    /// Bytes after each code, before its terminator.
    pub suffix: Vec<u8>,
    /// An AIM identifier (`]Q1`) stands between prefix and text.
    pub aim: bool,
    /// Longest text, bytes, without what stands around it.
    pub text_max: usize,
    /// Longest pause inside a code.
    pub gap_max: Duration,
    /// The pause is what ends a code; else a code that pauses is lost.
    pub gap_ends: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            prefix: Vec::new(),
            suffix: Vec::new(),
            aim: false,
            text_max: TEXT_MAX,
            gap_max: Duration::from_millis(250),
            gap_ends: false,
        }
    }
}

/// A code that is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// It goes on and on.
    #[error("code is longer than {0} bytes")]
    TooLong(usize),
    /// It stopped before its terminator.
    #[error("code stopped after {0} bytes, without its terminator")]
    CutOff(usize),
    /// It does not begin with the prefix that the settings tell.
    #[error("code does not begin with the prefix of the settings")]
    Prefix,
    /// It does not end with the suffix that the settings tell.
    #[error("code does not end with the suffix of the settings")]
    Suffix,
    /// It does not begin with an AIM identifier.
    #[error("code does not begin with an AIM identifier")]
    Aim,
    /// A key that is on no US keyboard, or no text.
    #[error("key {0} stands for no character")]
    Key(u16),
    /// The kernel's queue overflowed.
    #[error("the kernel dropped events of it")]
    Dropped,
}

/// Collects the bytes of one code after the other.
#[derive(Clone, Debug)]
pub(super) struct Assembler {
    framing: Framing,
    text: Vec<u8>,
    last: Option<Instant>,
    /// Something was wrong with this code: the rest of it is worth nothing.
    spoilt: bool,
}

impl Assembler {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, text: Vec::new(), last: None, spoilt: false }
    }

    /// When the code begun so far is over by its pause.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.last.map(|last| last + self.framing.gap_max)
    }

    /// Ends or drops what began before the longest pause. To be called before anything that arrived at `now`.
    pub(super) fn expire(&mut self, now: Instant) -> Result<Option<Decoded>, BadText> {
        if self.deadline().is_none_or(|deadline| now <= deadline) {
            return Ok(None);
        }
        if self.framing.gap_ends {
            return self.end();
        }
        let (got, spoilt) = (self.text.len(), self.spoilt);
        self.start_over();
        if spoilt || got == 0 { Ok(None) } else { Err(BadText::CutOff(got)) }
    }

    pub(super) fn byte(&mut self, byte: u8, at: Instant) -> Result<(), BadText> {
        self.last = Some(at);
        if self.spoilt {
            return Ok(());
        }
        let Framing { prefix, suffix, aim, text_max, .. } = &self.framing;
        if self.text.len() >= text_max + prefix.len() + suffix.len() + if *aim { 3 } else { 0 } {
            let text_max = *text_max;
            return Err(self.spoil(at, BadText::TooLong(text_max)));
        }
        self.text.push(byte);
        Ok(())
    }

    /// The terminator. Nothing before it is nothing: CR LF ends one code, not two.
    pub(super) fn end(&mut self) -> Result<Option<Decoded>, BadText> {
        let (text, spoilt) = (std::mem::take(&mut self.text), self.spoilt);
        self.start_over();
        if spoilt || text.is_empty() {
            return Ok(None);
        }
        let Framing { prefix, suffix, aim, .. } = &self.framing;
        let text = text.strip_prefix(prefix.as_slice()).ok_or(BadText::Prefix)?;
        let text = text.strip_suffix(suffix.as_slice()).ok_or(BadText::Suffix)?;
        let (aim, text) = match text {
            text if !aim => ([0; 3], text),
            [b']', symbology, modifier, text @ ..] => ([b']', *symbology, *modifier], text),
            _ => return Err(BadText::Aim),
        };
        Ok((!text.is_empty()).then(|| Decoded { text: text.to_vec(), aim }))
    }

    /// Drops the code and what still comes of it.
    pub(super) fn spoil(&mut self, at: Instant, bad: BadText) -> BadText {
        self.text.clear();
        self.spoilt = true;
        self.last = Some(at);
        bad
    }

    /// Something of the code begun so far arrived that is no byte yet.
    pub(super) fn touch(&mut self, at: Instant) {
        self.last = self.last.map(|_| at);
    }

    pub(super) fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    fn start_over(&mut self) {
        self.text.clear();
        self.last = None;
        self.spoilt = false;
    }
}
