//! HID POS bar code reports: where the fields lie is read from the device's report descriptor by their usages
//! (HID Usage Tables 1.5 section 21, "Bar Code Scanner page 0x8C"), because vendors lay them out differently.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::descriptor::{BadDescriptor, Field, Fields, Kind, REPORT_BITS_MAX};
use super::{Decoded, TEXT_MAX};
use crate::Signal;

/// Report descriptor of the common layout (report 2: byte count, AIM identifier, 56 bytes of decoded data, one
/// bit "decoded data continued") with a trigger report 4: prevent, initiate, error beep, good read beep.
pub const DESCRIPTOR: &[u8] = &[
    0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x85, 0x02, 0x09, 0x12, 0xa1, 0x02, 0x15, 0x00, 0x26, 0xff, 0x00,
    0x75, 0x08, 0x95, 0x01, 0x05, 0x01, 0x09, 0x3b, 0x81, 0x02, 0x95, 0x03, 0x05, 0x8c, 0x09, 0xfb, 0x09,
    0xfc, 0x09, 0xfd, 0x81, 0x02, 0x95, 0x38, 0x09, 0xfe, 0x82, 0x02, 0x01, 0x25, 0x01, 0x75, 0x01, 0x95,
    0x01, 0x09, 0xff, 0x81, 0x02, 0x75, 0x07, 0x81, 0x03, 0xc0, 0x85, 0x04, 0x09, 0x14, 0xa1, 0x02, 0x75,
    0x01, 0x95, 0x04, 0x09, 0x5f, 0x09, 0x60, 0x09, 0x85, 0x09, 0x86, 0x91, 0x06, 0x91, 0x03, 0xc0, 0xc0,
];

/// Longest pause between two reports of one code. Interrupt endpoints are polled every 1 to 10 ms, so a
/// longer pause means that the rest was lost and the next report begins a new code.
pub const CONTINUATION_GAP_MAX: Duration = Duration::from_millis(250);

const BYTE_COUNT: u32 = 0x0001_003b;
const AIM: [u32; 3] = [0x008c_00fb, 0x008c_00fc, 0x008c_00fd];
const DECODED_DATA: u32 = 0x008c_00fe;
const DECODED_DATA_CONTINUED: u32 = 0x008c_00ff;

const PREVENT_READ: u32 = 0x008c_005f;
const INITIATE_READ: u32 = 0x008c_0060;
const GOOD_READ_LED: u32 = 0x008c_007d;
const ERROR_BEEP: u32 = 0x008c_0085;
const GOOD_READ_BEEP: u32 = 0x008c_0086;
const NOT_ON_FILE_BEEP: u32 = 0x008c_0087;
const UNDEFINED: u32 = 0x008c_0000;

/// Usages that do nothing when a report carries a zero for them. A report with any other usage is never
/// written: its zeros would change the scanner's settings.
const HARMLESS: [u32; 7] =
    [UNDEFINED, PREVENT_READ, INITIATE_READ, GOOD_READ_LED, ERROR_BEEP, GOOD_READ_BEEP, NOT_ON_FILE_BEEP];

/// How a scanner lays out its reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    texts: Vec<Text>,
    good: Option<Output>,
    bad: Option<Output>,
    trigger: Option<Output>,
}

/// Where one input report keeps the pieces of a code: bit offsets behind the report id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    report_id: Option<u8>,
    bits: u32,
    count: Option<Bits>,
    aim: [Option<u32>; 3],
    data: u32,
    room: u32,
    continued: Option<Bits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bits {
    offset: u32,
    size: u32,
}

/// A report to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// It goes by SET_REPORT as a feature, not as an output.
    pub feature: bool,
    /// Report id (0 where reports have none), then the report.
    pub bytes: Vec<u8>,
}

/// A layout told by the settings, for a scanner whose descriptor names its fields wrongly or not at all. All
/// offsets are bytes from the start of the report, counting its id where it has one, as manuals print them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixed {
    /// Id of the report with the text; 0 where reports have none.
    pub report_id: u8,
    /// First byte of the text.
    pub data_at: u16,
    /// Bytes of text that a report has room for.
    pub data_bytes: u16,
    /// The byte that counts the text's bytes; without it trailing zeros are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_at: Option<u16>,
    /// First of the three bytes of the AIM identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim_at: Option<u16>,
    /// The byte whose lowest bit says that the code goes on in the next report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_at: Option<u16>,
}

/// A report that does not fit the descriptor. The code that it belongs to is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReport {
    /// Shorter than the descriptor says.
    #[error("report has {got} bytes where the descriptor says {want}")]
    Short {
        /// Bytes got.
        got: usize,
        /// Bytes that the descriptor says.
        want: usize,
    },
    /// Its byte count is above what a report holds.
    #[error("report counts {got} bytes of text where it can hold {max}")]
    Count {
        /// The count.
        got: u32,
        /// Room for text.
        max: u32,
    },
    /// The code goes on and on.
    #[error("code is longer than {TEXT_MAX} bytes")]
    TooLong,
}

impl Layout {
    /// Finds the fields of a scanner in its report descriptor.
    ///
    /// # Errors
    /// When it is no descriptor, or has no decoded data.
    pub fn parse(descriptor: &[u8]) -> Result<Self, BadDescriptor> {
        let fields = Fields::parse(descriptor)?;
        let data = fields.iter().filter(|field| field.kind == Kind::Input && field.usage == DECODED_DATA);
        let mut texts: Vec<Text> = Vec::new();
        for field in data.filter(|field| is_bytes(field)) {
            if !texts.iter().any(|text| text.report_id == field.report_id) {
                texts.push(Text::of(&fields, field));
            }
        }
        if texts.is_empty() {
            return Err(BadDescriptor::NoDecodedData);
        }
        Ok(Self { texts, ..Self::outputs(&fields) })
    }

    /// The layout that the settings give; the descriptor, if it is one, still says how to beep.
    ///
    /// # Errors
    /// `BadFixed` when no report can be like that.
    pub fn fixed(fixed: &Fixed, descriptor: &[u8]) -> Result<Self, BadDescriptor> {
        let report_id = (fixed.report_id != 0).then_some(fixed.report_id);
        let id_bytes = u16::from(report_id.is_some());
        let bit =
            |at: u16| at.checked_sub(id_bytes).map(|at| u32::from(at) * 8).ok_or(BadDescriptor::BadFixed);
        let field = |at: Option<u16>, size| at.map(|at| Ok(Bits { offset: bit(at)?, size })).transpose();
        let (count, continued) = (field(fixed.count_at, 8)?, field(fixed.continued_at, 1)?);
        let aim = fixed.aim_at.map(bit).transpose()?;
        let data = bit(fixed.data_at)?;
        let room = u32::from(fixed.data_bytes);
        let ends =
            [Some(data + room * 8), count.map(Bits::end), continued.map(Bits::end), aim.map(|aim| aim + 24)];
        let bits = ends.into_iter().flatten().max().unwrap_or(0);
        if room == 0 || bits > REPORT_BITS_MAX {
            return Err(BadDescriptor::BadFixed);
        }
        let aim = [0, 8, 16].map(|more| aim.map(|aim| aim + more));
        let text = Text { report_id, bits, count, aim, data, room, continued };
        let outputs = Fields::parse(descriptor)
            .map_or_else(|_| Self::outputs(&Fields::default()), |fields| Self::outputs(&fields));
        Ok(Self { texts: vec![text], ..outputs })
    }

    fn outputs(fields: &Fields) -> Self {
        Self {
            texts: Vec::new(),
            good: Output::of(fields, &[GOOD_READ_BEEP, GOOD_READ_LED]),
            bad: Output::of(fields, &[ERROR_BEEP, NOT_ON_FILE_BEEP]),
            trigger: Output::of(fields, &[INITIATE_READ]),
        }
    }

    /// What to write for a signal; `None` when the scanner has nothing for it.
    #[must_use]
    pub fn signal(&self, signal: Signal) -> Option<&Output> {
        match signal {
            Signal::Good => self.good.as_ref(),
            Signal::Bad => self.bad.as_ref(),
        }
    }

    /// What to write to start reading, as if the trigger was pulled.
    #[must_use]
    pub fn trigger(&self) -> Option<&Output> {
        self.trigger.as_ref()
    }

    /// Bytes of the longest report with text, with its id.
    #[must_use]
    pub fn report_length(&self) -> usize {
        self.texts.iter().map(Text::report_length).max().unwrap_or(0)
    }

    /// The reports that a scanner of this layout sends for `text`, in the first of its input reports.
    #[must_use]
    pub fn encode(&self, text: &[u8], aim: [u8; 3]) -> Vec<Vec<u8>> {
        self.texts.first().map_or_else(Vec::new, |first| first.encode(text, aim))
    }
}

impl Text {
    fn of(fields: &Fields, data: &Field) -> Self {
        let field = |usage| fields.find(Kind::Input, data.report_id, usage);
        let bits = |usage| {
            let field = field(usage).filter(|field| (1..=32).contains(&field.size))?;
            Some(Bits { offset: field.offset, size: field.size })
        };
        Self {
            report_id: data.report_id,
            bits: fields.bits(Kind::Input, data.report_id),
            count: bits(BYTE_COUNT),
            aim: AIM.map(|usage| field(usage).filter(|field| is_bytes(field)).map(|field| field.offset)),
            data: data.offset,
            room: data.count,
            continued: bits(DECODED_DATA_CONTINUED),
        }
    }

    fn report_length(&self) -> usize {
        self.bits.div_ceil(8) as usize + usize::from(self.report_id.is_some())
    }

    fn encode(&self, text: &[u8], aim: [u8; 3]) -> Vec<Vec<u8>> {
        let room = self.room as usize;
        let pieces = text.len().div_ceil(room).max(1);
        let report = |index: usize| {
            let piece = &text[index * room..text.len().min((index + 1) * room)];
            let mut body = vec![0_u8; self.bits.div_ceil(8) as usize];
            if let Some(count) = self.count {
                put(&mut body, count, piece.len() as u32);
            }
            for (offset, byte) in self.aim.iter().zip(aim) {
                if let Some(offset) = *offset {
                    put(&mut body, Bits { offset, size: 8 }, u32::from(byte));
                }
            }
            for (place, byte) in (0..).zip(piece) {
                put(&mut body, Bits { offset: self.data + 8 * place, size: 8 }, u32::from(*byte));
            }
            if let Some(continued) = self.continued {
                put(&mut body, continued, u32::from(index + 1 < pieces));
            }
            self.report_id.into_iter().chain(body).collect()
        };
        (0..pieces).map(report).collect()
    }
}

impl Output {
    /// The report that says the first of these usages that the scanner has, and the others that ride with it.
    fn of(fields: &Fields, wanted: &[u32]) -> Option<Self> {
        let kinds = [Kind::Output, Kind::Feature];
        let candidates = wanted.iter().flat_map(|usage| kinds.map(|kind| (*usage, kind)));
        let found = candidates.filter_map(|(usage, kind)| {
            fields
                .iter()
                .find(|field| field.usage == usage && field.kind == kind && (1..=32).contains(&field.size))
        });
        let harmless = |field: &&Field| {
            fields
                .iter()
                .filter(|other| other.kind == field.kind && other.report_id == field.report_id)
                .all(|other| HARMLESS.contains(&other.usage))
        };
        let chosen = found.into_iter().find(harmless)?;
        let Field { kind, report_id, .. } = *chosen;
        let mut body = vec![0_u8; fields.bits(kind, report_id).div_ceil(8) as usize];
        for usage in wanted {
            if let Some(field) = fields.find(kind, report_id, *usage).filter(|field| field.size <= 32) {
                put(&mut body, Bits { offset: field.offset, size: field.size }, 1);
            }
        }
        let bytes = std::iter::once(report_id.unwrap_or(0)).chain(body).collect();
        Some(Self { feature: kind == Kind::Feature, bytes })
    }
}

impl Bits {
    fn end(self) -> u32 {
        self.offset + self.size
    }
}

fn is_bytes(field: &Field) -> bool {
    field.size == 8 && field.count > 0
}

fn get(body: &[u8], Bits { offset, size }: Bits) -> u32 {
    (0..size).fold(0, |value, bit| {
        let at = offset + bit;
        let byte = body.get((at / 8) as usize).copied().unwrap_or(0);
        value | u32::from(byte >> (at % 8) & 1) << bit
    })
}

/// Bits beyond the report's end go: a descriptor may name a field of which its report has none.
fn put(body: &mut [u8], Bits { offset, size }: Bits, value: u32) {
    for bit in 0..size {
        let at = offset + bit;
        if value >> bit & 1 != 0
            && let Some(byte) = body.get_mut((at / 8) as usize)
        {
            *byte |= 1 << (at % 8);
        }
    }
}

/// Puts reports together to codes.
#[derive(Clone, Debug)]
pub struct Decoder {
    layout: Layout,
    gap_max: Duration,
    text: Vec<u8>,
    aim: [u8; 3],
    last: Option<Instant>,
    /// A report of this code was bad: the rest of it is worth nothing.
    spoilt: bool,
}

impl Decoder {
    /// A decoder for reports of this layout.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let gap_max = CONTINUATION_GAP_MAX;
        Self { layout, gap_max, text: Vec::new(), aim: [0; 3], last: None, spoilt: false }
    }

    /// The same with another longest pause between two reports of a code.
    #[must_use]
    pub fn with_gap(self, gap_max: Duration) -> Self {
        Self { gap_max, ..self }
    }

    /// The layout that it reads by.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Takes one input report that arrived at `at`. `Ok(None)`: more reports follow, or it is none of a code.
    ///
    /// # Errors
    /// A report that does not fit; the rest of its code is dropped silently, then the next code is decoded as
    /// ever.
    pub fn push(&mut self, report: &[u8], at: Instant) -> Result<Option<Decoded>, BadReport> {
        let numbered = |text: &&Text| match (text.report_id, report) {
            (None, _) | (Some(_), []) => true,
            (Some(id), [first, ..]) => id == *first,
        };
        let Some(text) = self.layout.texts.iter().find(numbered) else { return Ok(None) };
        let Text { report_id, count, aim, data, room, continued, .. } = *text;
        let want = text.report_length();
        if self.last.is_some_and(|last| at.saturating_duration_since(last) > self.gap_max) {
            self.start_over();
        }
        if report.len() < want {
            // The flag may be in the missing part, so the rest is taken to follow; if it does not, the pause
            // ends it.
            return Err(self.spoil(at, true, BadReport::Short { got: report.len(), want }));
        }
        let body = &report[usize::from(report_id.is_some())..];
        let bytes = (0..room).map(|index| get(body, Bits { offset: data + 8 * index, size: 8 }) as u8);
        let more = continued.is_some_and(|field| get(body, field) != 0);
        let length = match count {
            Some(field) => {
                let length = get(body, field);
                if length > room {
                    return Err(self.spoil(at, more, BadReport::Count { got: length, max: room }));
                }
                length as usize
            }
            // Without a count the text is padded with zeros.
            None => {
                (0..).zip(bytes.clone()).filter(|(_, byte)| *byte != 0).last().map_or(0, |(at, _)| at + 1)
            }
        };
        if self.text.len() + length > TEXT_MAX && !self.spoilt {
            return Err(self.spoil(at, more, BadReport::TooLong));
        }
        let spoilt = self.spoilt;
        if !spoilt {
            self.text.extend(bytes.take(length));
        }
        let told = aim.map(|offset| offset.map_or(0, |offset| get(body, Bits { offset, size: 8 }) as u8));
        if told != [0; 3] {
            self.aim = told;
        }
        if more {
            self.last = Some(at);
            return Ok(None);
        }
        let (text, aim) = (std::mem::take(&mut self.text), self.aim);
        self.start_over();
        Ok((!spoilt && !text.is_empty()).then_some(Decoded { text, aim }))
    }

    /// Drops the code of a bad report, and its rest when `more` reports of it follow.
    fn spoil(&mut self, at: Instant, more: bool, bad: BadReport) -> BadReport {
        self.start_over();
        if more {
            self.spoilt = true;
            self.last = Some(at);
        }
        bad
    }

    fn start_over(&mut self) {
        self.text.clear();
        self.aim = [0; 3];
        self.last = None;
        self.spoilt = false;
    }
}

#[cfg(test)]
mod tests;
