//! Card bits to numbers and back: the Wiegand layouts in common use, with their parity. Pure; any bits give
//! fields or an error.
//!
//! The layouts are HID's published ones: H10301 (26 bits), H10306 (34 bits) and H10304 (37 bits).

/// Most bits of one card: what an OSDP card read can carry (64 bytes).
pub const BITS_MAX: usize = 512;

/// Bits in the order in which they were sent.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bits {
    /// First bit in the highest bit of the first byte; unused bits of the last byte are zero.
    bytes: Vec<u8>,
    len: usize,
}

/// Leaves the bits out: they are the credential.
impl std::fmt::Debug for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bits({})", self.len)
    }
}

/// What the bits of a card mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// 26 bits: facility 8, number 16.
    H10301,
    /// 34 bits: facility 16, number 16.
    H10306,
    /// 37 bits: facility 16, number 19.
    H10304,
    /// Any other count: only the bits are known.
    Raw,
}

/// Where a format keeps its fields: two parity bits around facility and number.
struct Layout {
    format: Format,
    len: usize,
    facility: usize,
    number: usize,
    /// Bits that each parity bit covers: the even one from the front, the odd one to the back.
    covered: usize,
}

/// H10304's parities both cover its middle bit.
const LAYOUTS: [Layout; 3] = [
    Layout { format: Format::H10301, len: 26, facility: 8, number: 16, covered: 12 },
    Layout { format: Format::H10306, len: 34, facility: 16, number: 16, covered: 16 },
    Layout { format: Format::H10304, len: 37, facility: 16, number: 19, covered: 18 },
];

/// What a format says of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The format.
    pub format: Format,
    /// Facility code, where the format has one.
    pub facility: Option<u32>,
    /// Card number, where the format has one.
    pub number: Option<u32>,
}

/// What makes no card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCard {
    /// A parity bit is wrong.
    #[error("parity of {bits} bits is wrong")]
    Parity {
        /// Bits that came.
        bits: usize,
    },
    /// Not one of the counts that cards here have.
    #[error("{bits} bits are no card of this store")]
    Count {
        /// Bits that came.
        bits: usize,
    },
    /// A pulse of one data line while the other was still low, or one where none can be.
    #[error("data lines disturbed each other after {bits} bits")]
    Collision {
        /// Bits before it.
        bits: usize,
    },
}

impl Bits {
    /// No bits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first `len` bits of `bytes`; `None` when there are fewer, or more than [`BITS_MAX`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8], len: usize) -> Option<Self> {
        if len > BITS_MAX {
            return None;
        }
        let mut bytes = bytes.get(..len.div_ceil(8))?.to_vec();
        if let Some(last) = bytes.last_mut()
            && !len.is_multiple_of(8)
        {
            *last &= 0xff << (8 - len % 8);
        }
        Some(Self { bytes, len })
    }

    /// The low `len` bits of `value`, highest first.
    ///
    /// # Panics
    /// When `len` is above 64.
    #[must_use]
    pub fn from_value(value: u64, len: usize) -> Self {
        assert!(len <= 64, "a value has 64 bits");
        let mut bits = Self::new();
        for at in (0..len).rev() {
            bits.push(value >> at & 1 != 0);
        }
        bits
    }

    /// Adds a bit; whether there was room below [`BITS_MAX`].
    pub fn push(&mut self, bit: bool) -> bool {
        if self.len == BITS_MAX {
            return false;
        }
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if bit && let Some(last) = self.bytes.last_mut() {
            *last |= 0x80 >> (self.len % 8);
        }
        self.len += 1;
        true
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bits, first in the highest bit of the first byte, padded with zeros.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bit `at`, counted from the first; `false` behind the last.
    #[must_use]
    pub fn get(&self, at: usize) -> bool {
        at < self.len && self.bytes[at / 8] & 0x80 >> (at % 8) != 0
    }

    fn value(&self, start: usize, len: usize) -> u32 {
        (start..start + len).fold(0, |value, at| value << 1 | u32::from(self.get(at)))
    }

    fn ones(&self, start: usize, len: usize) -> usize {
        (start..start + len).filter(|at| self.get(*at)).count()
    }
}

/// Reads the fields of a card whose count names its format.
///
/// # Errors
/// [`BadCard::Parity`] when the count is that of a known format and a parity bit is wrong.
pub fn decode(bits: &Bits) -> Result<Fields, BadCard> {
    let Some(layout) = LAYOUTS.iter().find(|layout| layout.len == bits.len()) else {
        return Ok(Fields { format: Format::Raw, facility: None, number: None });
    };
    let Layout { format, len, facility, number, covered } = *layout;
    let even = bits.ones(0, covered + 1).is_multiple_of(2);
    let odd = !bits.ones(len - 1 - covered, covered + 1).is_multiple_of(2);
    if !even || !odd {
        return Err(BadCard::Parity { bits: len });
    }
    Ok(Fields {
        format,
        facility: Some(bits.value(1, facility)),
        number: Some(bits.value(1 + facility, number)),
    })
}

/// The bits of a card, or `None` where a field does not fit the format; [`Format::Raw`] has no fields.
#[must_use]
pub fn encode(format: Format, facility: u32, number: u32) -> Option<Bits> {
    let layout = LAYOUTS.iter().find(|layout| layout.format == format)?;
    let Layout { len, covered, .. } = *layout;
    if u64::from(facility) >> layout.facility != 0 || u64::from(number) >> layout.number != 0 {
        return None;
    }
    let data = u64::from(facility) << layout.number | u64::from(number);
    let bare = Bits::from_value(data << 1, len);
    let even = !bare.ones(1, covered).is_multiple_of(2);
    let odd = bare.ones(len - 1 - covered, covered).is_multiple_of(2);
    Some(Bits::from_value(u64::from(even) << (len - 1) | data << 1 | u64::from(odd), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_cards_decode() {
        // Facility 123, number 4567 in H10301, worked out by hand: 0 01111011 0001000111010111 with an even
        // parity of 001111011 0001 (7 ones) = 1 and an odd one of 000111010111 (7 ones) = 0.
        let bits = Bits::from_value(0b10_1111_0110_0010_0011_1010_1110, 26);
        let fields = decode(&bits).unwrap();
        assert_eq!(fields, Fields { format: Format::H10301, facility: Some(123), number: Some(4567) });
        assert_eq!(encode(Format::H10301, 123, 4567), Some(bits));
    }

    #[test]
    fn every_single_bit_error_is_seen() {
        for (format, facility, number) in
            [(Format::H10301, 255, 65535), (Format::H10306, 40000, 1), (Format::H10304, 3, 524_287)]
        {
            let good = encode(format, facility, number).unwrap();
            let fields = decode(&good).unwrap();
            assert_eq!((fields.facility, fields.number), (Some(facility), Some(number)));
            for flipped in 0..good.len() {
                let mut bad = Bits::new();
                (0..good.len()).for_each(|at| assert!(bad.push(good.get(at) != (at == flipped))));
                assert_eq!(decode(&bad), Err(BadCard::Parity { bits: good.len() }), "bit {flipped}");
            }
        }
    }

    #[test]
    fn fields_that_do_not_fit_are_refused() {
        assert_eq!(encode(Format::H10301, 256, 0), None);
        assert_eq!(encode(Format::H10301, 0, 65536), None);
        assert_eq!(encode(Format::H10304, 0, 1 << 19), None);
        assert_eq!(encode(Format::Raw, 0, 0), None);
    }

    #[test]
    fn other_counts_are_raw() {
        for len in [0, 1, 25, 27, 32, 56, 512] {
            let bits = Bits::from_bytes(&[0xa5; 64], len).unwrap();
            assert_eq!(decode(&bits).unwrap().format, Format::Raw);
        }
        assert_eq!(Bits::from_bytes(&[0; 65], 513), None);
        assert_eq!(Bits::from_bytes(&[0; 3], 25), None);
        assert_eq!(Bits::from_bytes(&[0xff; 2], 9).unwrap().as_bytes(), [0xff, 0x80]);
    }
}
