//! When a partition of ours may be formatted. Pure: what was found in, what is to be done out.
//!
//! The rule: **nothing is formatted that may hold data.**
//! - *identity* is made in memory and copied in an order ([`making`]) that leaves a mark in its first sector until
//!   everything is on the medium, and gives it the magic number of a file system last. Marked: it was never finished,
//!   and is made anew. Blank from the start: it was never begun. Anything else has held data: it is repaired, and
//!   left alone where it cannot be.
//! - *state* is formatted only while identity has noted that it is being made. The note is written before, and becomes
//!   "made" after the file system was mounted and flushed; services start after that. A factory reset is the note
//!   set back.

/// Bytes of a partition's start that tell what it is.
pub const HEAD_BYTES: usize = 1 << 20;
/// What stands in the first sector of a partition that is being made.
const MARK: &[u8] = b"stile: this partition is being made\n";
/// A sector is written whole or not at all.
const SECTOR: usize = 512;
/// The magic number of ext4 (`s_magic`): in the third sector.
const EXT4_MAGIC_AT: usize = 1024 + 0x38;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];
const LUKS_MAGIC: &[u8] = b"LUKS\xba\xbe";
/// Copied at once.
const CHUNK: usize = 1 << 20;

/// What the start of a partition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Zeros: as it was flashed.
    Blank,
    /// The making was begun and not finished.
    BeingMade,
    /// A file system.
    Ext4,
    /// An encrypted one.
    Luks,
    /// Something that is none of these.
    Unknown,
}

/// What identity notes of the state partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing: a new box, or an identity that is newer than the state.
    None,
    /// Its making was begun; nothing was kept in it yet.
    Making,
    /// It may hold data.
    Made,
}

/// What is to be done with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It holds nothing: make it.
    Make,
    /// It may hold data: check, repair and mount it.
    Use,
    /// It may hold data and is not what it was: leave it alone, and say so.
    Leave(&'static str),
}

/// What the start of a partition says: its first [`HEAD_BYTES`], or all.
#[must_use]
pub fn found(head: &[u8]) -> Found {
    if head.starts_with(MARK) {
        return Found::BeingMade;
    }
    if head.starts_with(LUKS_MAGIC) {
        return Found::Luks;
    }
    if head.get(EXT4_MAGIC_AT..EXT4_MAGIC_AT + 2) == Some(&EXT4_MAGIC) {
        return Found::Ext4;
    }
    if head.iter().all(|byte| *byte == 0) { Found::Blank } else { Found::Unknown }
}

/// What to do with identity.
#[must_use]
pub const fn identity(found: Found) -> Step {
    match found {
        Found::Blank | Found::BeingMade => Step::Make,
        // Also where only the first superblock is lost: the check knows the others.
        Found::Ext4 | Found::Unknown => Step::Use,
        Found::Luks => Step::Leave("identity is encrypted, which ours never is"),
    }
}

/// What to do with the state.
#[must_use]
pub const fn state(found: Found, note: Note) -> Step {
    match (note, found) {
        (Note::Making, _) | (Note::None, Found::Blank | Found::BeingMade) => Step::Make,
        // Held data once; an identity without a note does not make it empty.
        (Note::Made | Note::None, Found::Ext4 | Found::Luks) => Step::Use,
        (Note::Made, Found::Unknown) => Step::Use,
        (Note::Made, Found::Blank | Found::BeingMade) => {
            Step::Leave("its start is blank, though it was made; reset it to make a new one")
        }
        (Note::None, Found::Unknown) => {
            Step::Leave("it holds something that nobody here has made; reset it to make a new one")
        }
    }
}

/// The writes, in order and each flushed before the next, that put the image of a file system on a partition.
/// `image` has at least three sectors.
pub fn making(image: &[u8]) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
    let mut mark = vec![0; SECTOR];
    mark[..MARK.len()].copy_from_slice(MARK);
    let magic = EXT4_MAGIC_AT / SECTOR * SECTOR;
    let body = image.chunks(CHUNK).enumerate().map(move |(number, chunk)| {
        let at = number * CHUNK;
        let mut bytes = chunk.to_vec();
        if at == 0 {
            // The mark stays, the magic number is not there yet.
            bytes[..SECTOR].copy_from_slice(&{
                let mut mark = vec![0; SECTOR];
                mark[..MARK.len()].copy_from_slice(MARK);
                mark
            });
            bytes[magic..magic + SECTOR].fill(0);
        }
        (at as u64, bytes)
    });
    std::iter::once((0, mark))
        .chain(body)
        .chain(std::iter::once((magic as u64, image[magic..magic + SECTOR].to_vec())))
        .chain(std::iter::once((0, image[..SECTOR].to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with a magic number and something in every sector but the first, as mke2fs leaves it.
    fn image() -> Vec<u8> {
        let mut image: Vec<u8> =
            (0..CHUNK + 3 * SECTOR).map(|at| u8::try_from(at / SECTOR % 251).unwrap() | 1).collect();
        image[..SECTOR].fill(0);
        image[EXT4_MAGIC_AT..EXT4_MAGIC_AT + 2].copy_from_slice(&EXT4_MAGIC);
        image
    }

    /// A medium on which a write was cut: any of its sectors may be there, in any order; here by two patterns.
    fn cut(medium: &[u8], at: usize, bytes: &[u8], sectors: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut medium = medium.to_vec();
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            if sectors(number) {
                medium[at + number * SECTOR..][..sector.len()].copy_from_slice(sector);
            }
        }
        medium
    }

    #[test]
    fn identity_is_made_again_until_it_is_whole_and_never_after() {
        let image = image();
        for before in [vec![0; image.len()], cut(&vec![0x55; image.len()], 0, &vec![0; CHUNK], |_| true)] {
            let mut medium = before;
            assert_eq!(identity(found(&medium[..CHUNK])), Step::Make);
            let writes: Vec<_> = making(&image).collect();
            for (at, bytes) in &writes {
                let at = usize::try_from(*at).unwrap();
                for torn in [
                    cut(&medium, at, bytes, |number| number % 2 == 0),
                    cut(&medium, at, bytes, |number| number % 2 == 1),
                    cut(&medium, at, bytes, |number| number == 2),
                    cut(&medium, at, bytes, |number| number == 0),
                ] {
                    let whole = torn[SECTOR..] == image[SECTOR..];
                    match identity(found(&torn[..CHUNK])) {
                        Step::Make => {}
                        Step::Use => assert!(whole, "used before it was whole"),
                        Step::Leave(why) => panic!("{why}"),
                    }
                }
                medium = cut(&medium, at, bytes, |_| true);
            }
            assert_eq!(medium, image);
            assert_eq!(found(&medium[..CHUNK]), Found::Ext4);
            assert_eq!(identity(Found::Ext4), Step::Use);
        }
    }

    #[test]
    fn what_held_data_is_never_made() {
        for found in [Found::Ext4, Found::Luks, Found::Unknown, Found::Blank, Found::BeingMade] {
            assert_ne!(state(found, Note::Made), Step::Make, "{found:?}");
            assert_eq!(state(found, Note::Making), Step::Make, "{found:?}");
        }
        // An identity that was lost and made anew knows nothing of the state.
        for (found, want) in [(Found::Ext4, Step::Use), (Found::Luks, Step::Use), (Found::Blank, Step::Make)]
        {
            assert_eq!(state(found, Note::None), want, "{found:?}");
        }
        assert!(matches!(state(Found::Unknown, Note::None), Step::Leave(_)));
        assert_eq!(identity(Found::Unknown), Step::Use);
    }

    /// Cuts inside the first boot's making of the state: note, format, mount, note. The world is (note, content).
    #[test]
    fn a_cut_while_the_state_is_made_heals() {
        // What mke2fs and cryptsetup may leave when they are cut.
        let halves = [Found::Blank, Found::Unknown, Found::Luks, Found::Ext4];
        for half in halves {
            for note in [Note::None, Note::Making] {
                let begun = note == Note::Making;
                let content = if begun { half } else { Found::Blank };
                assert_eq!(state(content, note), Step::Make, "{note:?} {content:?}");
            }
        }
        // From the moment at which services may write, it is used.
        assert_eq!(state(Found::Ext4, Note::Made), Step::Use);
    }

    #[test]
    fn heads() {
        assert_eq!(found(&[0; 4096]), Found::Blank);
        assert_eq!(found(&[]), Found::Blank);
        assert_eq!(found(b"LUKS\xba\xbe\0\x02"), Found::Luks);
        assert_eq!(found(b"stile: this partition is being made\n\0"), Found::BeingMade);
        assert_eq!(found(b"something else"), Found::Unknown);
    }
}
