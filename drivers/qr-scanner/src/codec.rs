//! HID POS bar code reports: where the fields lie is read from the device's report descriptor (HID 1.11
//! section 6.2.2, HID Usage Tables 1.5 section 21, "Bar Code Scanner page 0x8C"), because vendors lay them
//! out differently.

use std::time::{Duration, Instant};

/// Report descriptor of the common (Honeywell style) layout: report 2, byte count, AIM identifier, 56 bytes
/// of decoded data, one bit "decoded data continued".
pub const DESCRIPTOR: [u8; 62] = [
    0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x85, 0x02, 0x09, 0x12, 0xa1, 0x02, 0x15, 0x00, 0x26, 0xff, 0x00,
    0x75, 0x08, 0x95, 0x01, 0x05, 0x01, 0x09, 0x3b, 0x81, 0x02, 0x95, 0x03, 0x05, 0x8c, 0x09, 0xfb, 0x09,
    0xfc, 0x09, 0xfd, 0x81, 0x02, 0x95, 0x38, 0x09, 0xfe, 0x82, 0x02, 0x01, 0x25, 0x01, 0x75, 0x01, 0x95,
    0x01, 0x09, 0xff, 0x81, 0x02, 0x75, 0x07, 0x81, 0x03, 0xc0, 0xc0,
];

/// Longest text of one code: the 7,089 digits of a version 40-L QR code.
pub const TEXT_MAX: usize = 7089;

/// Longest pause between two reports of one code. Interrupt endpoints are polled every 1 to 10 ms, so a
/// longer pause means that the rest was lost and the next report begins a new code.
pub const CONTINUATION_GAP_MAX: Duration = Duration::from_millis(250);

/// Longest descriptor the kernel hands out (`HID_MAX_DESCRIPTOR_SIZE`).
const DESCRIPTOR_MAX: usize = 4096;
/// Longest report considered, in bits; interrupt reports end at 1,024 bytes at high speed.
const REPORT_BITS_MAX: u32 = 8 * 1024;
/// Deepest nesting of push items; real descriptors use one or two.
const STACK_MAX: usize = 16;
/// Most local usages kept before a main item; the widest list in use names three.
const USAGES_MAX: usize = 64;

const BYTE_COUNT: u32 = 0x0001_003b;
const AIM: [u32; 3] = [0x008c_00fb, 0x008c_00fc, 0x008c_00fd];
const DECODED_DATA: u32 = 0x008c_00fe;
const DECODED_DATA_CONTINUED: u32 = 0x008c_00ff;

/// Where a scanner's input report keeps its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    report_id: Option<u8>,
    bits: u32,
    count: Option<Field>,
    aim: [Option<u32>; 3],
    data: Field,
    continued: Option<Field>,
}

/// Bits of a report, counted after the report id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    offset: u32,
    size: u32,
    count: u32,
}

/// A report descriptor that does not describe a bar code scanner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDescriptor {
    /// It ends inside an item, or is empty, or is longer than any.
    #[error("report descriptor is cut off or over-long at byte {0}")]
    Length(usize),
    /// A value out of all proportion.
    #[error("report descriptor item at byte {0} has an impossible value")]
    Value(usize),
    /// No input field "decoded data" of whole bytes.
    #[error("report descriptor has no decoded data (usage 8C:FE) in bytes")]
    NoDecodedData,
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

/// A whole code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The bytes of the symbol.
    pub text: Vec<u8>,
    /// AIM identifier, zeros when not told.
    pub aim: [u8; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Globals {
    page: u32,
    size: u32,
    count: u32,
    report_id: Option<u8>,
}

impl Layout {
    /// Walks a report descriptor and finds the fields by their usages.
    ///
    /// # Errors
    /// When it is no descriptor, or has no decoded data.
    pub fn parse(descriptor: &[u8]) -> Result<Self, BadDescriptor> {
        if descriptor.is_empty() || descriptor.len() > DESCRIPTOR_MAX {
            return Err(BadDescriptor::Length(descriptor.len()));
        }
        let mut found: Vec<(Option<u8>, u32, Field)> = Vec::new();
        let mut used: Vec<(Option<u8>, u32)> = Vec::new();
        let mut globals = Globals::default();
        let mut stack = Vec::new();
        let mut usages: Vec<u32> = Vec::new();
        let mut usage_minimum = None;
        let mut at = 0;
        while at < descriptor.len() {
            let start = at;
            let prefix = descriptor[at];
            if prefix == 0xfe {
                // A long item: one byte of length, one of tag, then data; none is defined, so it is skipped.
                let length = usize::from(*descriptor.get(at + 1).ok_or(BadDescriptor::Length(start))?);
                at += 3 + length;
                if at > descriptor.len() {
                    return Err(BadDescriptor::Length(start));
                }
                continue;
            }
            let size = [0, 1, 2, 4][usize::from(prefix & 3)];
            let bytes = descriptor.get(at + 1..at + 1 + size).ok_or(BadDescriptor::Length(start))?;
            let value = bytes.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            at += 1 + size;
            let usage = |value: u32| if size == 4 { value } else { globals.page << 16 | value };
            match prefix & 0xfc {
                0x04 => globals.page = value & 0xffff,
                0x74 => globals.size = value,
                0x94 => globals.count = value,
                0x84 => globals.report_id = Some(value as u8),
                0xa4 if stack.len() < STACK_MAX => stack.push(globals),
                0xa4 => return Err(BadDescriptor::Value(start)),
                0xb4 => globals = stack.pop().ok_or(BadDescriptor::Value(start))?,
                0x08 if usages.len() < USAGES_MAX => usages.push(usage(value)),
                0x18 => usage_minimum = Some(usage(value)),
                0x28 => {
                    let first = usage_minimum.take().ok_or(BadDescriptor::Value(start))?;
                    let room = USAGES_MAX - usages.len();
                    usages.extend((first..=usage(value)).take(room));
                }
                0x80 => {
                    let constant = value & 1 != 0;
                    let id = globals.report_id;
                    let index = used.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
                        used.push((id, 0));
                        used.len() - 1
                    });
                    let offset = used[index].1;
                    let bits =
                        globals.size.checked_mul(globals.count).filter(|bits| *bits <= REPORT_BITS_MAX);
                    let end = bits.map(|bits| offset + bits).filter(|end| *end <= REPORT_BITS_MAX);
                    used[index].1 = end.ok_or(BadDescriptor::Value(start))?;
                    if !constant {
                        fields(&usages, offset, globals, |usage, field| found.push((id, usage, field)));
                    }
                    usages.clear();
                    usage_minimum = None;
                }
                0x90 | 0xb0 | 0xa0 | 0xc0 => {
                    usages.clear();
                    usage_minimum = None;
                }
                _ => {}
            }
        }
        let (report_id, data) = found
            .iter()
            .find(|(_, usage, field)| *usage == DECODED_DATA && field.is_bytes())
            .map(|(id, _, field)| (*id, *field))
            .ok_or(BadDescriptor::NoDecodedData)?;
        let field =
            |usage| found.iter().find(|entry| entry.0 == report_id && entry.1 == usage).map(|entry| entry.2);
        Ok(Self {
            report_id,
            bits: used.iter().find(|(id, _)| *id == report_id).map_or(0, |(_, bits)| *bits),
            count: field(BYTE_COUNT).filter(|field| field.size <= 32),
            aim: AIM.map(|usage| field(usage).filter(Field::is_bytes).map(|field| field.offset)),
            data,
            continued: field(DECODED_DATA_CONTINUED).filter(|field| field.size <= 32),
        })
    }

    /// Bytes of a whole report, with its id.
    #[must_use]
    pub fn report_length(&self) -> usize {
        self.bits.div_ceil(8) as usize + usize::from(self.report_id.is_some())
    }

    /// The reports that a scanner of this layout sends for `text`.
    #[must_use]
    pub fn encode(&self, text: &[u8], aim: [u8; 3]) -> Vec<Vec<u8>> {
        let room = self.data.count as usize;
        let pieces = text.len().div_ceil(room).max(1);
        (0..pieces)
            .map(|index| {
                let piece = &text[index * room..text.len().min((index + 1) * room)];
                let mut body = vec![0_u8; self.bits.div_ceil(8) as usize];
                if let Some(count) = self.count {
                    put(&mut body, count.offset, count.size, piece.len() as u32);
                }
                for (offset, byte) in self.aim.iter().zip(aim) {
                    if let Some(offset) = offset {
                        put(&mut body, *offset, 8, u32::from(byte));
                    }
                }
                for (place, byte) in piece.iter().enumerate() {
                    put(&mut body, self.data.offset + 8 * place as u32, 8, u32::from(*byte));
                }
                if let Some(continued) = self.continued {
                    put(&mut body, continued.offset, continued.size, u32::from(index + 1 < pieces));
                }
                let mut report: Vec<u8> = self.report_id.into_iter().collect();
                report.extend(body);
                report
            })
            .collect()
    }
}

impl Field {
    fn is_bytes(&self) -> bool {
        self.size == 8 && self.count > 0
    }
}

/// Names the fields of one Input item: with one usage for many values the field is an array (the text), else
/// each value has a usage of its own and the last usage repeats.
fn fields(usages: &[u32], offset: u32, globals: Globals, mut found: impl FnMut(u32, Field)) {
    let Globals { size, count, .. } = globals;
    match usages {
        [] => {}
        [usage] => found(*usage, Field { offset, size, count }),
        [many @ .., last] => {
            let singles = many.len().min(count as usize) as u32;
            for (index, usage) in (0..singles).zip(many) {
                found(*usage, Field { offset: offset + index * size, size, count: 1 });
            }
            if count > singles {
                found(*last, Field { offset: offset + singles * size, size, count: count - singles });
            }
        }
    }
}

fn get(body: &[u8], offset: u32, size: u32) -> u32 {
    (0..size).fold(0, |value, bit| {
        let at = offset + bit;
        let byte = body.get((at / 8) as usize).copied().unwrap_or(0);
        value | u32::from(byte >> (at % 8) & 1) << bit
    })
}

fn put(body: &mut [u8], offset: u32, size: u32, value: u32) {
    for bit in 0..size {
        let at = offset + bit;
        if value >> bit & 1 != 0 {
            body[(at / 8) as usize] |= 1 << (at % 8);
        }
    }
}

/// Puts reports together to codes.
#[derive(Clone, Debug)]
pub struct Decoder {
    layout: Layout,
    text: Vec<u8>,
    last: Option<Instant>,
    /// A report of this code was bad: the rest of it is worth nothing.
    spoilt: bool,
}

impl Decoder {
    /// A decoder for reports of this layout.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self { layout, text: Vec::new(), last: None, spoilt: false }
    }

    /// Takes one input report that arrived at `at`. `Ok(None)`: more reports follow, or it is none of a code.
    ///
    /// # Errors A report that does not fit; the rest of its code is dropped silently, then the next code is
    /// decoded as ever.
    pub fn push(&mut self, report: &[u8], at: Instant) -> Result<Option<Decoded>, BadReport> {
        let body = match (self.layout.report_id, report) {
            (None, body) => body,
            (Some(id), [first, body @ ..]) if *first == id => body,
            (Some(_), [_, ..]) => return Ok(None),
            (Some(_), []) => {
                let want = self.layout.report_length();
                return Err(self.spoil(at, true, BadReport::Short { got: 0, want }));
            }
        };
        if self.last.is_some_and(|last| at.saturating_duration_since(last) > CONTINUATION_GAP_MAX) {
            self.start_over();
        }
        let want = self.layout.bits.div_ceil(8) as usize;
        if body.len() < want {
            // The flag may be in the missing part, so the rest is taken to follow; if it does not, the pause
            // ends it.
            let want = self.layout.report_length();
            return Err(self.spoil(at, true, BadReport::Short { got: report.len(), want }));
        }
        let Layout { data, count, continued, .. } = self.layout;
        let start = data.offset;
        let bytes = (0..data.count).map(|index| get(body, start + 8 * index, 8) as u8);
        let more = continued.is_some_and(|field| get(body, field.offset, field.size) != 0);
        let length = match count {
            Some(field) => {
                let length = get(body, field.offset, field.size);
                if length > data.count {
                    let bad = BadReport::Count { got: length, max: data.count };
                    return Err(self.spoil(at, more, bad));
                }
                length as usize
            }
            // Without a count the text is padded with zeros.
            None => bytes
                .clone()
                .collect::<Vec<u8>>()
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1),
        };
        if self.text.len() + length > TEXT_MAX && !self.spoilt {
            return Err(self.spoil(at, more, BadReport::TooLong));
        }
        let spoilt = self.spoilt;
        if !spoilt {
            self.text.extend(bytes.take(length));
        }
        if more {
            self.last = Some(at);
            return Ok(None);
        }
        let text = std::mem::take(&mut self.text);
        self.start_over();
        let aim = self.layout.aim.map(|offset| offset.map_or(0, |offset| get(body, offset, 8) as u8));
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
        self.last = None;
        self.spoilt = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The common layout.
    fn honeywell() -> Layout {
        Layout::parse(&DESCRIPTOR).unwrap()
    }

    /// A report without AIM fields and with data before the count, behind another report and a vendor page.
    const OTHER: &[u8] = &[
        0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, 0x85, 0x05, 0x75, 0x08, 0x95, 0x10, 0x09, 0x02, 0x81, 0x02,
        0xc0, 0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x85, 0x02, 0x75, 0x08, 0x95, 0x38, 0x09, 0xfe, 0x81, 0x02,
        0x95, 0x04, 0x81, 0x03, 0x95, 0x01, 0x0b, 0x3b, 0x00, 0x01, 0x00, 0x81, 0x02, 0x75, 0x01, 0x95, 0x07,
        0x81, 0x03, 0x95, 0x01, 0x09, 0xff, 0x81, 0x02, 0xc0,
    ];

    /// Neither report id, count nor continuation.
    const BARE: &[u8] =
        &[0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x75, 0x08, 0x95, 0x20, 0x09, 0xfe, 0x81, 0x02, 0xc0];

    fn push_all(decoder: &mut Decoder, reports: &[Vec<u8>], at: Instant) -> Vec<Decoded> {
        reports.iter().filter_map(|report| decoder.push(report, at).unwrap()).collect()
    }

    #[test]
    fn common_layout_is_what_scanners_send() {
        let layout = honeywell();
        assert_eq!(layout.report_length(), 62);
        let reports = layout.encode(&[b'7'; 455], *b"]Q1");
        assert_eq!(reports.len(), 9);
        assert_eq!(reports[0][..6], [2, 56, b']', b'Q', b'1', b'7']);
        assert_eq!(reports[0][61] & 1, 1);
        assert_eq!(usize::from(reports[8][1]), 455 - 8 * 56);
        assert_eq!(reports[8][61] & 1, 0);
    }

    #[test]
    fn every_layout_and_length_comes_back() {
        let now = Instant::now();
        for descriptor in [&DESCRIPTOR[..], OTHER, BARE] {
            let layout = Layout::parse(descriptor).unwrap();
            let mut decoder = Decoder::new(layout.clone());
            for length in [1, 13, 32, 55, 56, 57, 112, 238, 455, TEXT_MAX] {
                if layout.continued.is_none() && length > 32 {
                    continue;
                }
                let text: Vec<u8> = (0..length).map(|index| b'0' + (index % 10) as u8).collect();
                let codes = push_all(&mut decoder, &layout.encode(&text, *b"]Q1"), now);
                assert_eq!(codes.len(), 1, "{length}");
                assert_eq!(codes[0].text, text);
                assert_eq!(codes[0].aim, if layout.aim[0].is_some() { *b"]Q1" } else { [0; 3] });
            }
        }
    }

    #[test]
    fn binary_text_survives() {
        let layout = honeywell();
        let text: Vec<u8> = (0..=255).collect();
        let codes =
            push_all(&mut Decoder::new(layout.clone()), &layout.encode(&text, *b"]Q1"), Instant::now());
        assert_eq!(codes[0].text, text);
    }

    #[test]
    fn bad_reports_lose_only_their_code() {
        let layout = honeywell();
        let now = Instant::now();
        let code = layout.encode(&[b'1'; 200], *b"]Q1");
        let next = layout.encode(&[b'2'; 100], *b"]Q1");
        for broken in 0..code.len() {
            for how in ["short", "empty", "count"] {
                let mut decoder = Decoder::new(layout.clone());
                let mut errors = 0;
                for (index, report) in code.iter().enumerate() {
                    let mut report = report.clone();
                    if index == broken {
                        match how {
                            "short" => report.truncate(30),
                            "empty" => report.clear(),
                            _ => report[1] = 57,
                        }
                    }
                    match decoder.push(&report, now) {
                        Ok(code) => assert_eq!(code, None, "a fragment is no code"),
                        Err(_) => errors += 1,
                    }
                }
                assert_eq!(errors, 1);
                let later = now + CONTINUATION_GAP_MAX * 2;
                let codes: Vec<_> =
                    next.iter().filter_map(|report| decoder.push(report, later).unwrap()).collect();
                assert_eq!(codes.len(), 1, "{how} {broken}");
                assert_eq!(codes[0].text, vec![b'2'; 100]);
            }
        }
    }

    #[test]
    fn a_pause_starts_a_new_code() {
        let layout = honeywell();
        let mut decoder = Decoder::new(layout.clone());
        let now = Instant::now();
        let code = layout.encode(&[b'1'; 100], *b"]Q1");
        decoder.push(&code[0], now).unwrap();
        let codes = push_all(&mut decoder, &layout.encode(b"42", *b"]Q1"), now + CONTINUATION_GAP_MAX * 2);
        assert_eq!(codes[0].text, b"42");
    }

    #[test]
    fn endless_code_is_refused() {
        let layout = honeywell();
        let mut decoder = Decoder::new(layout.clone());
        let report = layout.encode(&[b'1'; 100], *b"]Q1")[0].clone();
        let now = Instant::now();
        let refused = (0..1000).filter(|_| decoder.push(&report, now) == Err(BadReport::TooLong)).count();
        assert_eq!(refused, 1, "the rest of a refused code stays silent");
    }

    #[test]
    fn bad_descriptors_are_refused() {
        use BadDescriptor::{Length, NoDecodedData, Value};
        let table: [(&[u8], BadDescriptor); 9] = [
            (&[], Length(0)),
            (&[0x05], Length(0)),
            (&[0x05, 0x8c, 0x26, 0xff], Length(2)),
            (&[0xfe, 0x10], Length(0)),
            (&[0xb4], Value(0)),
            (&[0x75, 0x08, 0x97, 0xff, 0xff, 0xff, 0xff, 0x81, 0x02], Value(7)),
            (&[0x29, 0x03], Value(0)),
            (&DESCRIPTOR[..39], NoDecodedData),
            (&[0x05, 0x01, 0x09, 0x06, 0xa1, 0x01, 0xc0], NoDecodedData),
        ];
        for (descriptor, want) in table {
            assert_eq!(Layout::parse(descriptor), Err(want), "{descriptor:02x?}");
        }
    }

    /// Splitmix64: random bytes from a seed without a dependency.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = *state;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 7;
        let now = Instant::now();
        let mut accepted = 0;
        for round in 0..50_000 {
            let mut descriptor = [&DESCRIPTOR[..], OTHER, BARE][round % 3].to_vec();
            for _ in 0..random(&mut state) % 6 {
                let place = random(&mut state) as usize % descriptor.len();
                descriptor[place] = random(&mut state) as u8;
            }
            if random(&mut state).is_multiple_of(4) {
                descriptor.truncate(random(&mut state) as usize % descriptor.len());
            }
            let Ok(layout) = Layout::parse(&descriptor) else { continue };
            accepted += 1;
            let mut decoder = Decoder::new(layout.clone());
            for _ in 0..8 {
                let length = random(&mut state) as usize % 80;
                let mut report: Vec<u8> = (0..length).map(|_| random(&mut state) as u8).collect();
                if let (Some(id), Some(first)) = (layout.report_id, report.first_mut()) {
                    *first = id;
                }
                let _ = decoder.push(&report, now);
            }
            let _ = layout.encode(b"0123456789", *b"]Q1");
        }
        assert!(accepted > 1000, "{accepted}");
    }
}
