//! Flashing to media that fail: short writes, failed writes, lost writes, lying media, power cuts.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

use osimage::ALIGNMENT;
use osimage::assemble;
use osimage::bmap::Bmap;
use osimage::flash::{FlashError, Phase, Target, flash};
use osimage::layout::Layout;
use osimage::plan::plan;

const LAYOUT: &str = r#"
name = "card"
[[partition]]
name = "esp"
type = "esp"
size = "2 MiB"
content = "required"
[[partition]]
name = "root-a"
type = "root-x86-64"
size = "3 MiB"
content = "required"
[[partition]]
name = "state"
type = "linux"
size = "3 MiB"
"#;

fn image() -> (Vec<u8>, Bmap) {
    let layout = Layout::parse(LAYOUT, "card.toml").unwrap();
    let esp: Vec<u8> = (0..1_500_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let root: Vec<u8> = (0..2_000_000u32).map(|i| (i.wrapping_mul(40_503) >> 8) as u8).collect();
    let contents = [("esp", &esp), ("root-a", &root)];
    let sizes = contents.iter().map(|(n, b)| ((*n).to_owned(), b.len() as u64)).collect();
    let plan = plan(&layout, &sizes).unwrap();
    let mut readers: BTreeMap<String, &[u8]> =
        contents.iter().map(|(n, b)| ((*n).to_owned(), &b[..])).collect();
    let mut image = Cursor::new(Vec::new());
    assemble::apply(&plan, &mut readers, &mut image).unwrap();
    image.get_mut().resize(plan.size as usize, 0);
    let bmap = Bmap::of_plan(&plan, &mut image).unwrap();
    (image.into_inner(), bmap)
}

/// What a card does wrong.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Longest write that is taken at once.
    write_max: Option<usize>,
    /// Writes until the power is cut; from then on nothing is taken.
    cut_after: Option<usize>,
    /// Of the writes since the last flush, which of them a cut loses: by bits of this number.
    lose: u64,
    /// Bytes from here on are not kept: the card is smaller than it says.
    fake_from: Option<u64>,
    /// The write that fails once.
    fail_write: Option<usize>,
    /// The flush that fails.
    fail_flush: Option<usize>,
}

/// The card outlives the program that writes to it.
struct Medium {
    bytes: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
    writes: usize,
    flushes: usize,
    cut: bool,
}

struct Card {
    medium: Rc<RefCell<Medium>>,
    at: u64,
    faults: Faults,
}

fn card(size: usize, faults: Faults) -> (Card, Rc<RefCell<Medium>>) {
    let old = (0..size).map(|i| ((i * 31) >> 3) as u8 | 1).collect();
    let medium = Medium { bytes: old, pending: Vec::new(), writes: 0, flushes: 0, cut: false };
    let medium = Rc::new(RefCell::new(medium));
    (Card { medium: Rc::clone(&medium), at: 0, faults }, medium)
}

impl Medium {
    fn settle(&mut self, fake_from: Option<u64>, lose: u64) {
        for (index, (at, bytes)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if lose >> (index % 64) & 1 == 0 && fake_from.is_none_or(|from| at < from) {
                self.bytes[at as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
    }
}

impl Read for Card {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let medium = self.medium.borrow();
        assert!(medium.pending.is_empty(), "read back before a flush");
        if medium.cut {
            return Err(io::Error::other("no power"));
        }
        let read = (&medium.bytes[self.at as usize..]).read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Card {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut medium = self.medium.borrow_mut();
        medium.writes += 1;
        if self.faults.cut_after.is_some_and(|after| medium.writes > after) && !medium.cut {
            medium.cut = true;
            medium.settle(self.faults.fake_from, self.faults.lose);
        }
        if medium.cut {
            return Err(io::Error::other("no power"));
        }
        if self.faults.fail_write == Some(medium.writes) {
            return Err(io::Error::other("bad sector"));
        }
        let length = bytes.len().min(self.faults.write_max.unwrap_or(usize::MAX));
        if self.at as usize + length > medium.bytes.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        medium.pending.push((self.at, bytes[..length].to_vec()));
        self.at += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Card {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => (self.medium.borrow().bytes.len() as u64).saturating_add_signed(by),
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

impl Target for Card {
    fn sync(&mut self) -> io::Result<()> {
        let mut medium = self.medium.borrow_mut();
        medium.flushes += 1;
        if medium.cut {
            return Err(io::Error::other("no power"));
        }
        if self.faults.fail_flush == Some(medium.flushes) {
            return Err(io::Error::other("controller gave up"));
        }
        medium.settle(self.faults.fake_from, 0);
        Ok(())
    }
}

fn run(card: &mut Card, image: &[u8], bmap: &Bmap) -> Result<(), FlashError> {
    flash(&mut Cursor::new(image), bmap, card, |_| {})
}

fn whole(card: &[u8], bmap: &Bmap) -> bool {
    bmap.verify(&mut Cursor::new(&card[..bmap.image_size as usize])).is_ok()
}

/// Only the first MiB, or a part of it, is missing: all else was read back before its tables were written.
fn whole_but_for_its_start(card: &[u8], image: &[u8], bmap: &Bmap) -> bool {
    let start = ALIGNMENT as usize;
    whole(&[&image[..start], &card[start..]].concat(), bmap)
}

/// No firmware takes it for a disk of this image.
fn blank(card: &[u8], bmap: &Bmap) -> bool {
    let table = |at: usize| card[at..].starts_with(b"EFI PART");
    !table(512) && card[510..512] != [0x55, 0xAA] && !table(bmap.image_size as usize - 512)
}

#[test]
fn an_image_is_written_where_it_is_mapped_and_nowhere_else() {
    let (image, bmap) = image();
    for size in [image.len(), image.len() + (3 << 20)] {
        let (mut card, medium) = card(size, Faults::default());
        let before = medium.borrow().bytes.clone();
        run(&mut card, &image, &bmap).unwrap();
        let after = &medium.borrow().bytes;
        assert!(whole(after, &bmap));
        let hole = 8 << 20;
        assert!(after[hole..][..1 << 19] == before[hole..][..1 << 19], "an unmapped block was written");
        if size > image.len() {
            assert!(
                after[size - ALIGNMENT as usize..].iter().all(|byte| *byte == 0),
                "an old backup table may be left"
            );
        }
    }
}

#[test]
fn short_writes_are_continued() {
    let (image, bmap) = image();
    let (mut card, medium) = card(image.len(), Faults { write_max: Some(7_777), ..Faults::default() });
    run(&mut card, &image, &bmap).unwrap();
    assert!(whole(&medium.borrow().bytes, &bmap));
}

#[test]
fn a_power_cut_at_any_write_leaves_a_whole_card_or_a_blank_one() {
    let (image, bmap) = image();
    let (mut good, medium) = card(image.len(), Faults::default());
    run(&mut good, &image, &bmap).unwrap();
    let writes = medium.borrow().writes;
    assert!(writes > 8, "{writes} writes");
    for cut in 0..=writes {
        for lose in [0, u64::MAX, 0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA] {
            let faults = Faults { cut_after: Some(cut), lose, ..Faults::default() };
            let (mut cut_card, medium) = card(image.len(), faults);
            let result = run(&mut cut_card, &image, &bmap);
            assert_eq!(result.is_ok(), cut == writes);
            let medium = medium.borrow();
            // Before the wipe is flushed the card is still what it was.
            let untouched = cut <= 2;
            assert!(
                untouched
                    || whole_but_for_its_start(&medium.bytes, &image, &bmap)
                    || blank(&medium.bytes, &bmap),
                "cut after {cut} of {writes} writes, losing {lose:x}"
            );
        }
    }
}

#[test]
fn a_write_or_flush_that_fails_is_told_and_leaves_a_blank_card() {
    let (image, bmap) = image();
    let (mut good, medium) = card(image.len(), Faults::default());
    run(&mut good, &image, &bmap).unwrap();
    let (writes, flushes) = (medium.borrow().writes, medium.borrow().flushes);
    let failing = (1..=writes)
        .map(|write| Faults { fail_write: Some(write), ..Faults::default() })
        .chain((1..=flushes).map(|flush| Faults { fail_flush: Some(flush), ..Faults::default() }));
    for faults in failing {
        let (mut bad, medium) = card(image.len(), faults);
        let error = run(&mut bad, &image, &bmap).unwrap_err();
        assert!(matches!(error, FlashError::Target { .. }), "{error}");
        assert!(blank(&medium.borrow().bytes, &bmap), "{:?} {:?}", faults.fail_write, faults.fail_flush);
    }
}

#[test]
fn a_card_smaller_than_it_says_is_found_by_reading_back() {
    let (image, bmap) = image();
    let (mut fake, medium) = card(image.len(), Faults { fake_from: Some(4 << 20), ..Faults::default() });
    let error = run(&mut fake, &image, &bmap).unwrap_err();
    assert!(matches!(error, FlashError::ReadBack { start, .. } if start <= 4 << 20), "{error}");
    assert!(blank(&medium.borrow().bytes, &bmap));
}

#[test]
fn a_card_that_is_too_small_is_not_touched() {
    let (image, bmap) = image();
    let (mut small, medium) = card(image.len() - 1, Faults::default());
    let before = medium.borrow().bytes.clone();
    let error = run(&mut small, &image, &bmap).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("target has {} bytes, the image needs {}", image.len() - 1, image.len())
    );
    assert!(medium.borrow().bytes == before);
}

#[test]
fn a_damaged_image_does_not_become_a_card() {
    let (good, bmap) = image();
    for at in [5, (1 << 20) + 9, good.len() - 700] {
        let mut image = good.clone();
        image[at] ^= 4;
        let (mut target, medium) = card(good.len(), Faults::default());
        let error = run(&mut target, &image, &bmap).unwrap_err();
        assert!(matches!(error, FlashError::Image(_)), "{error}");
        assert!(blank(&medium.borrow().bytes, &bmap), "byte {at}");
    }
    let (mut target, _) = card(good.len(), Faults::default());
    assert!(matches!(run(&mut target, &good[..good.len() / 2], &bmap), Err(FlashError::Image(_))));
}

#[test]
fn progress_is_told_in_order_and_to_the_end() {
    let (image, bmap) = image();
    let (mut target, _) = card(image.len(), Faults::default());
    let mut seen = Vec::new();
    flash(&mut Cursor::new(&image), &bmap, &mut target, |progress| seen.push(progress)).unwrap();
    for phase in [Phase::Write, Phase::Verify, Phase::Finish] {
        let steps: Vec<_> = seen.iter().filter(|step| step.phase == phase).collect();
        assert!(steps.windows(2).all(|pair| pair[0].done < pair[1].done), "{phase:?}");
        let last = steps.last().unwrap();
        assert_eq!(last.done, last.total, "{phase:?}");
    }
    assert_eq!(seen.iter().find(|step| step.phase == Phase::Write).unwrap().total, bmap.mapped());
}
