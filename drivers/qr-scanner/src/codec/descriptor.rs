//! HID report descriptors (HID 1.11 section 6.2.2): which field lies where in which report.
//!
//! Nothing is known of bar codes here; `report` picks the fields by their usages.

/// Longest descriptor the kernel hands out (`HID_MAX_DESCRIPTOR_SIZE`).
pub const DESCRIPTOR_MAX: usize = 4096;
/// Longest report considered, in bits; interrupt reports end at 1,024 bytes at high speed.
pub(super) const REPORT_BITS_MAX: u32 = 8 * 1024;
/// Deepest nesting of push items; real descriptors use one or two.
const STACK_MAX: usize = 16;
/// Most local usages kept before a main item; the widest list of a scanner in use names eight.
const USAGES_MAX: usize = 64;
/// Most fields of a descriptor; a scanner with keyboard, POS and vendor collections has some 40.
const FIELDS_MAX: usize = 1024;

/// Which way a report goes, in the order of preference for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Device to host.
    Input,
    /// Host to device.
    Output,
    /// Both ways, on the control pipe.
    Feature,
}

/// A field of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which way its report goes.
    pub kind: Kind,
    /// Id of its report; `None` where the device numbers none.
    pub report_id: Option<u8>,
    /// Usage page in the high 16 bits, usage in the low.
    pub usage: u32,
    /// Bits before it, counted after the report id.
    pub offset: u32,
    /// Bits of one value.
    pub size: u32,
    /// Values.
    pub count: u32,
}

/// All fields with a usage that a descriptor names; padding has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    fields: Vec<Field>,
    bits: Vec<(Kind, Option<u8>, u32)>,
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
    /// The layout that the settings give does not fit in a report.
    #[error("the given report layout is longer than any report, or has no data")]
    BadFixed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Globals {
    page: u32,
    size: u32,
    count: u32,
    report_id: Option<u8>,
}

/// Local items, forgotten at each main item.
#[derive(Clone, Debug, Default)]
struct Locals {
    usages: Vec<u32>,
    minimum: Option<u32>,
    /// Usages named inside an open delimiter set: only the first, the preferred one, counts.
    delimited: Option<usize>,
}

impl Fields {
    /// Walks a report descriptor.
    ///
    /// # Errors
    /// When it ends inside an item, or asks for what no report can hold.
    pub fn parse(descriptor: &[u8]) -> Result<Self, BadDescriptor> {
        if descriptor.is_empty() || descriptor.len() > DESCRIPTOR_MAX {
            return Err(BadDescriptor::Length(descriptor.len()));
        }
        let mut all = Self::default();
        let mut globals = Globals::default();
        let mut stack = Vec::new();
        let mut locals = Locals::default();
        let mut at = 0;
        while at < descriptor.len() {
            let start = at;
            let bad = BadDescriptor::Value(start);
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
            let usage = if size == 4 { value } else { globals.page << 16 | value };
            match prefix & 0xfc {
                0x04 => globals.page = value & 0xffff,
                0x74 => globals.size = value,
                0x94 => globals.count = value,
                0x84 => {
                    // Id 0 is reserved, and there is one byte for it.
                    globals.report_id = Some(u8::try_from(value).ok().filter(|id| *id > 0).ok_or(bad)?);
                }
                0xa4 if stack.len() < STACK_MAX => stack.push(globals),
                0xa4 => return Err(bad),
                0xb4 => globals = stack.pop().ok_or(bad)?,
                0x08 => locals.usage(usage),
                0x18 => locals.minimum = Some(usage),
                0x28 => locals.range(usage).ok_or(bad)?,
                0xa8 => locals.delimited = (value == 1).then_some(0),
                0x80 => all.main(Kind::Input, value, globals, &mut locals).ok_or(bad)?,
                0x90 => all.main(Kind::Output, value, globals, &mut locals).ok_or(bad)?,
                0xb0 => all.main(Kind::Feature, value, globals, &mut locals).ok_or(bad)?,
                // Collection and its end.
                0xa0 | 0xc0 => locals = Locals::default(),
                _ => {}
            }
        }
        Ok(all)
    }

    /// The fields in the order of the descriptor.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter()
    }

    /// The field of this usage in one report.
    #[must_use]
    pub fn find(&self, kind: Kind, report_id: Option<u8>, usage: u32) -> Option<&Field> {
        self.iter().find(|field| field.kind == kind && field.report_id == report_id && field.usage == usage)
    }

    /// Bits of a report, with its padding, without its id.
    #[must_use]
    pub fn bits(&self, kind: Kind, report_id: Option<u8>) -> u32 {
        let found = self.bits.iter().find(|entry| entry.0 == kind && entry.1 == report_id);
        found.map_or(0, |entry| entry.2)
    }

    /// Takes one Input, Output or Feature item. `None` when no report could hold it.
    fn main(&mut self, kind: Kind, flags: u32, globals: Globals, locals: &mut Locals) -> Option<()> {
        let Globals { size, count, report_id, .. } = globals;
        let locals = std::mem::take(locals);
        let known = self.bits.iter().position(|entry| entry.0 == kind && entry.1 == report_id);
        let index = known.unwrap_or_else(|| {
            self.bits.push((kind, report_id, 0));
            self.bits.len() - 1
        });
        let offset = self.bits[index].2;
        let bits = size.checked_mul(count).filter(|bits| *bits <= REPORT_BITS_MAX)?;
        let end = Some(offset + bits).filter(|end| *end <= REPORT_BITS_MAX)?;
        self.bits[index].2 = end;
        let constant = flags & 1 != 0;
        if constant {
            return Some(());
        }
        let mut found = |usage, offset, count| {
            self.fields.push(Field { kind, report_id, usage, offset, size, count });
        };
        // With one usage for many values the field is an array (the text), else each value has a usage of its
        // own and the last usage repeats.
        match locals.usages.as_slice() {
            [] => {}
            [usage] => found(*usage, offset, count),
            [many @ .., last] => {
                let singles = many.len().min(count as usize) as u32;
                for (index, usage) in (0..singles).zip(many) {
                    found(*usage, offset + index * size, 1);
                }
                if count > singles {
                    found(*last, offset + singles * size, count - singles);
                }
            }
        }
        (self.fields.len() <= FIELDS_MAX).then_some(())
    }
}

impl Locals {
    fn usage(&mut self, usage: u32) {
        if let Some(named) = &mut self.delimited {
            *named += 1;
            if *named > 1 {
                return;
            }
        }
        if self.usages.len() < USAGES_MAX {
            self.usages.push(usage);
        }
    }

    fn range(&mut self, last: u32) -> Option<()> {
        let first = self.minimum.take()?;
        let room = USAGES_MAX - self.usages.len();
        self.usages.extend((first..=last).take(room));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Usage, offset, size, count.
    type Found = (u32, u32, u32, u32);

    fn usages(descriptor: &[u8]) -> Vec<Found> {
        let fields = Fields::parse(descriptor).unwrap();
        fields.iter().map(|field| (field.usage, field.offset, field.size, field.count)).collect()
    }

    #[test]
    fn items_are_read_as_the_standard_says() {
        let table: [(&str, &[u8], &[Found]); 8] = [
            (
                "one usage, many values",
                &[0x05, 1, 0x09, 2, 0x75, 8, 0x95, 3, 0x81, 2],
                &[(0x1_0002, 0, 8, 3)],
            ),
            (
                "the last usage repeats",
                &[0x05, 1, 0x09, 2, 0x09, 3, 0x75, 8, 0x95, 4, 0x81, 2],
                &[(0x1_0002, 0, 8, 1), (0x1_0003, 8, 8, 3)],
            ),
            (
                "usage minimum and maximum",
                &[0x05, 1, 0x19, 2, 0x29, 4, 0x75, 1, 0x95, 3, 0x81, 2],
                &[(0x1_0002, 0, 1, 1), (0x1_0003, 1, 1, 1), (0x1_0004, 2, 1, 1)],
            ),
            (
                "push and pop bring back page, size and count",
                &[
                    0x05, 1, 0x75, 8, 0x95, 1, 0xa4, 0x05, 2, 0x75, 1, 0x95, 8, 0x09, 9, 0x81, 2, 0xb4, 0x09,
                    9, 0x81, 2,
                ],
                &[(0x2_0009, 0, 1, 8), (0x1_0009, 8, 8, 1)],
            ),
            (
                "a 32-bit usage brings its page",
                &[0x05, 1, 0x75, 8, 0x95, 1, 0x0b, 0xfe, 0, 0x8c, 0, 0x81, 2],
                &[(0x8c_00fe, 0, 8, 1)],
            ),
            (
                "32-bit range and 32-bit count",
                &[0x1b, 1, 0, 9, 0, 0x2b, 2, 0, 9, 0, 0x77, 4, 0, 0, 0, 0x97, 2, 0, 0, 0, 0x81, 2],
                &[(0x9_0001, 0, 4, 1), (0x9_0002, 4, 4, 1)],
            ),
            (
                "of a delimiter set the first usage counts",
                &[0x05, 1, 0x75, 8, 0x95, 1, 0xa9, 1, 0x09, 7, 0x09, 8, 0xa9, 0, 0x81, 2],
                &[(0x1_0007, 0, 8, 1)],
            ),
            (
                "constants and long items take room or are skipped",
                &[0x05, 1, 0x75, 8, 0x95, 1, 0xfe, 2, 0xf0, 1, 2, 0x09, 1, 0x81, 3, 0x09, 2, 0x81, 2],
                &[(0x1_0002, 8, 8, 1)],
            ),
        ];
        for (name, descriptor, want) in table {
            assert_eq!(usages(descriptor), want, "{name}");
        }
    }

    #[test]
    fn reports_have_their_own_offsets() {
        let fields = Fields::parse(&[
            0x05, 1, 0x75, 8, 0x95, 2, 0x85, 1, 0x09, 1, 0x81, 2, 0x85, 2, 0x09, 2, 0x81, 2, 0x85, 1, 0x09,
            3, 0x81, 2, 0x09, 4, 0x91, 2, 0x09, 5, 0xb1, 2,
        ])
        .unwrap();
        assert_eq!(fields.find(Kind::Input, Some(1), 0x1_0003).unwrap().offset, 16);
        assert_eq!(fields.find(Kind::Input, Some(2), 0x1_0002).unwrap().offset, 0);
        assert_eq!(fields.find(Kind::Output, Some(1), 0x1_0004).unwrap().offset, 0);
        assert_eq!(fields.find(Kind::Feature, Some(1), 0x1_0005).unwrap().offset, 0);
        assert_eq!(fields.find(Kind::Input, Some(1), 0x1_0004), None);
        assert_eq!(fields.bits(Kind::Input, Some(1)), 32);
        assert_eq!(fields.bits(Kind::Input, None), 0);
    }

    #[test]
    fn bad_descriptors_are_refused() {
        use BadDescriptor::{Length, Value};
        let long = [0xa4; STACK_MAX + 1];
        let huge = vec![0xc0; DESCRIPTOR_MAX + 1];
        let table: [(&[u8], BadDescriptor); 12] = [
            (&[], Length(0)),
            (&huge, Length(DESCRIPTOR_MAX + 1)),
            (&[0x05], Length(0)),
            (&[0x05, 0x8c, 0x26, 0xff], Length(2)),
            (&[0xfe, 0x10], Length(0)),
            (&[0xfe], Length(0)),
            (&[0xb4], Value(0)),
            (&long, Value(STACK_MAX)),
            (&[0x75, 0x08, 0x97, 0xff, 0xff, 0xff, 0xff, 0x81, 0x02], Value(7)),
            (&[0x29, 0x03], Value(0)),
            (&[0x85, 0x00], Value(0)),
            (&[0x86, 0x00, 0x01], Value(0)),
        ];
        for (descriptor, want) in table {
            assert_eq!(Fields::parse(descriptor), Err(want), "{descriptor:02x?}");
        }
    }
}
