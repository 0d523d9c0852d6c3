//! Where a PE file (a kernel for UEFI) ends: a slot's partition is larger than the kernel in it.

/// Sections of an image at most, as Windows loads them.
const SECTIONS_MAX: u16 = 96;
const SECTION_BYTES: usize = 40;
/// Entry of the signatures in the table of data directories; its address is a place in the file.
const SIGNATURES: usize = 4;

/// Why a file's end cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No PE file.
    #[error("not a kernel for UEFI: {0}")]
    NotPe(&'static str),
}

/// Bytes from the start that [`length`] needs at most.
pub const HEAD: usize = 1 << 16;

/// Length of the PE file whose first bytes are `head` (the first [`HEAD`], or all).
///
/// # Errors
/// When it is none, or its tables lie behind `head`.
pub fn length(head: &[u8]) -> Result<u64, Error> {
    let short = Error::NotPe("its headers are cut off");
    if head.get(..2) != Some(b"MZ") {
        return Err(Error::NotPe("no MZ at its start"));
    }
    let at = usize::try_from(u32_at(head, 0x3c).ok_or(short)?).map_err(|_| short)?;
    if head.get(at..at.checked_add(4).ok_or(short)?) != Some(b"PE\0\0") {
        return Err(Error::NotPe("no PE header"));
    }
    let sections = u16_at(head, at + 6).ok_or(short)?;
    if sections == 0 || sections > SECTIONS_MAX {
        return Err(Error::NotPe("an impossible number of sections"));
    }
    let optional = usize::from(u16_at(head, at + 20).ok_or(short)?);
    let directories = match u16_at(head, at + 24).ok_or(short)? {
        0x20b => at + 24 + 112,
        0x10b => at + 24 + 96,
        _ => return Err(Error::NotPe("an unknown kind of optional header")),
    };
    let header_bytes = u64::from(u32_at(head, at + 24 + 60).ok_or(short)?);
    let table = at + 24 + optional;
    let mut end = header_bytes;
    for number in 0..usize::from(sections) {
        let section = table + number * SECTION_BYTES;
        let size = u64::from(u32_at(head, section + 16).ok_or(short)?);
        let place = u64::from(u32_at(head, section + 20).ok_or(short)?);
        if size > 0 {
            end = end.max(place + size);
        }
    }
    let count = u32_at(head, directories - 4).ok_or(short)?;
    let signatures = directories + SIGNATURES * 8;
    if count as usize > SIGNATURES && signatures + 8 <= table {
        let place = u64::from(u32_at(head, signatures).ok_or(short)?);
        let size = u64::from(u32_at(head, signatures + 4).ok_or(short)?);
        end = end.max(place + size);
    }
    Ok(end)
}

/// Where a section lies in the file, and how long its content is; `None` when there is none of that name.
#[must_use]
pub fn section(head: &[u8], name: &[u8]) -> Option<(u64, u64)> {
    let at = usize::try_from(u32_at(head, 0x3c)?).ok()?;
    if head.get(..2) != Some(b"MZ") || head.get(at..at.checked_add(4)?) != Some(b"PE\0\0") {
        return None;
    }
    let count = u16_at(head, at + 6)?.min(SECTIONS_MAX);
    let table = at + 24 + usize::from(u16_at(head, at + 20)?);
    (0..usize::from(count)).map(|number| table + number * SECTION_BYTES).find_map(|section| {
        let found = head.get(section..section + 8)?.split(|byte| *byte == 0).next()?;
        let (used, size) = (u32_at(head, section + 8)?, u32_at(head, section + 16)?);
        let place = u64::from(u32_at(head, section + 20)?);
        (found == name).then_some((place, u64::from(used.min(size))))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A made PE file: sections (place, size), and signatures (place, size).
    fn made(sections: &[(u32, u32)], signatures: Option<(u32, u32)>) -> Vec<u8> {
        let mut head = vec![0; 0x400];
        head[..2].copy_from_slice(b"MZ");
        head[0x3c] = 0x80;
        head[0x80..0x84].copy_from_slice(b"PE\0\0");
        head[0x86] = u8::try_from(sections.len()).unwrap();
        head[0x94] = 240;
        head[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
        head[0x98 + 60..0x98 + 64].copy_from_slice(&0x400_u32.to_le_bytes());
        head[0x98 + 108] = 16;
        if let Some((place, size)) = signatures {
            head[0x98 + 112 + 32..][..4].copy_from_slice(&place.to_le_bytes());
            head[0x98 + 112 + 36..][..4].copy_from_slice(&size.to_le_bytes());
        }
        for (number, (place, size)) in sections.iter().enumerate() {
            let at = 0x98 + 240 + number * SECTION_BYTES;
            head[at + 16..at + 20].copy_from_slice(&size.to_le_bytes());
            head[at + 20..at + 24].copy_from_slice(&place.to_le_bytes());
        }
        head
    }

    #[test]
    fn ends() {
        assert_eq!(length(&made(&[(0x400, 0x200), (0x600, 0x1000)], None)), Ok(0x1600));
        assert_eq!(length(&made(&[(0x400, 0x200)], Some((0x600, 0x58)))), Ok(0x658));
        assert_eq!(length(&made(&[(0x400, 0x200), (0, 0)], None)), Ok(0x600));
        let mut named = made(&[(0x400, 0x200), (0x600, 0x200)], None);
        let second = 0x98 + 240 + SECTION_BYTES;
        named[second..second + 6].copy_from_slice(b".osrel");
        named[second + 8] = 0x55;
        assert_eq!(section(&named, b".osrel"), Some((0x600, 0x55)));
        assert_eq!(section(&named, b".linux"), None);
        for (bytes, says) in [
            (vec![], "MZ"),
            (vec![0; 1024], "MZ"),
            (b"MZ".to_vec(), "cut off"),
            (made(&[], None), "number of sections"),
            (made(&[(0x400, 0x200)], None)[..0x150].to_vec(), "cut off"),
        ] {
            assert!(length(&bytes).unwrap_err().to_string().contains(says), "{says}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = length(&bytes);
            let mut near = made(&[(0x400, 0x200)], None);
            for (at, byte) in bytes.iter().enumerate().take(near.len()) {
                if byte % 7 == 0 {
                    near[at] = *byte;
                }
            }
            let _ = (length(&near), section(&near, b".osrel"), section(&bytes, b".osrel"));
        }
    }
}
