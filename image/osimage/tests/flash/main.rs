//! Flashing to media that fail: short writes, failed writes, lost writes, lying media, power cuts.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod medium;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use osimage::bmap::{Bmap, BmapError, Range};
use osimage::disk::AsImage;
use osimage::flash::{Event, FailureKind, FlashError, Flashed, Job, Phase, Target, flash};
use osimage::gpt::{Copy, Table};
use osimage::layout::Layout;
use osimage::plan::plan;
use osimage::source::Source;
use osimage::{ALIGNMENT, assemble};
use sha2::{Digest, Sha256};

use medium::{Card, Counts, Faults, card, card_with};

const LAYOUT: &str = r#"
name = "card"
[[partition]]
name = "esp"
type = "esp"
size = "2 MiB"
content = "required"
[[partition]]
name = "provision"
type = "linux"
size = "1 MiB"
[[partition]]
name = "root-a"
type = "root-x86-64"
size = "3 MiB"
content = "required"
[[partition]]
name = "state"
type = "linux"
size = "3 MiB"
attributes = ["grow-file-system"]
"#;

/// Bytes under one hash here, so that a small image has many stretches.
const STRETCH: u64 = 256 << 10;

/// Bytes that many readers share.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

struct Image {
    bytes: Arc<Vec<u8>>,
    bmap: Arc<Bmap>,
    table: Table,
}

fn image() -> Image {
    image_in(STRETCH)
}

/// The image with a hash for each so many bytes.
fn image_in(stretch: u64) -> Image {
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
    let mut bytes = image.into_inner();
    bytes.resize(plan.size as usize, 0);
    let ranges = plan.mapped().into_iter().flat_map(|part| {
        let starts = (part.start..part.end).step_by(stretch as usize);
        starts.map(move |start| (start, part.end.min(start + stretch)))
    });
    let ranges = ranges
        .map(|(start, end)| Range {
            first: start / 4096,
            last: end / 4096 - 1,
            sha256: Sha256::digest(&bytes[start as usize..end as usize]).into(),
        })
        .collect();
    let bmap = Bmap { image_size: plan.size, block_size: 4096, ranges };
    Image { bytes: Arc::new(bytes), bmap: Arc::new(bmap), table: plan.table }
}

impl Image {
    fn job(&self) -> Job {
        let bytes = Arc::clone(&self.bytes);
        Job {
            bmap: Arc::clone(&self.bmap),
            image: Sha256::digest(self.bmap.to_xml()).into(),
            open: Arc::new(move || Ok(Source::plain(Cursor::new(Shared(Arc::clone(&bytes)))))),
            patience: Duration::from_secs(60),
            record_step: 512 << 10,
        }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What a card of `size` bytes holds in the end where the image is mapped, and the ends.
    fn assert_whole(&self, card: &[u8], provision: &[u8]) {
        let size = card.len() as u64;
        let expected = self.table.on_disk_of(size);
        for copy in [Copy::Primary, Copy::Backup] {
            assert_eq!(Table::read(&mut Cursor::new(card), copy).unwrap(), expected, "{copy}");
        }
        let provision_at = 3 * ALIGNMENT as usize;
        assert!(card[provision_at..].starts_with(provision));
        for range in &self.bmap.ranges {
            let (start, end) = (self.bmap.start(range), self.bmap.start(range) + self.bmap.length(range));
            let inside = start >= ALIGNMENT && end <= self.bmap.image_size - ALIGNMENT;
            if inside && start != provision_at as u64 {
                let (start, end) = (start as usize, end as usize);
                assert!(card[start..end] == self.bytes[start..end], "bytes {start} to {end}");
            }
        }
    }

    /// All of the image between its ends is on the card, and a backup table perhaps: a table is missing.
    fn is_blank(card: &[u8]) -> bool {
        let table = |at: usize| card[at..].starts_with(b"EFI PART");
        !table(512) && card[510..512] != [0x55, 0xAA]
    }
}

fn run(job: &Job, card: &Card) -> Result<Flashed, FlashError> {
    run_all(job, std::slice::from_ref(card)).remove(0)
}

fn run_all(job: &Job, cards: &[Card]) -> Vec<Result<Flashed, FlashError>> {
    flash(job, cards.iter().map(|card| target(card, None)).collect(), |_, _| {})
}

fn provisioned(job: &Job, card: &Card, file: &[u8]) -> Result<Flashed, FlashError> {
    flash(job, vec![target(card, Some(file.to_vec()))], |_, _| {}).remove(0)
}

fn target(card: &Card, provision: Option<Vec<u8>>) -> Target {
    Target { medium: Box::new(card.clone()), provision }
}

fn text(error: &FlashError) -> String {
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn an_image_is_written_where_it_is_mapped_and_nowhere_else() {
    let image = image();
    for size in [image.len(), image.len() + (3 << 20), image.len() + (3 << 20) + 512] {
        let target = card(size, Faults::default());
        let before = target.bytes();
        let done = run(&image.job(), &target).unwrap();
        assert!(done.fitted && done.resumed == 0 && done.size == size as u64);
        let after = target.bytes();
        image.assert_whole(&after, &[]);
        image.bmap.verify(&mut AsImage::new(Cursor::new(&after), image.len() as u64).unwrap()).unwrap();
        let mut changed = after.clone();
        changed[5 << 20] ^= 1;
        let read = &mut AsImage::new(Cursor::new(&changed), image.len() as u64).unwrap();
        assert!(matches!(image.bmap.verify(read), Err(BmapError::Damage { .. })));
        let hole = (6 << 20) + 5000;
        assert!(after[hole..][..1 << 16] == before[hole..][..1 << 16], "an unmapped block was written");
        if size == image.len() {
            assert!(after == *image.bytes || differs_only_unmapped(&image, &after));
        }
    }
}

fn differs_only_unmapped(image: &Image, card: &[u8]) -> bool {
    image.bmap.verify(&mut Cursor::new(card)).is_ok()
}

#[test]
fn the_state_partition_and_the_backup_table_reach_the_end_of_the_card() {
    let image = image();
    let size = 64 << 20;
    let target = card(size, Faults::default());
    run(&image.job(), &target).unwrap();
    let bytes = target.bytes();
    let table = Table::read(&mut Cursor::new(&bytes), Copy::Backup).unwrap();
    let state = table.partitions.last().unwrap();
    assert_eq!((state.name.as_str(), state.start() + state.len()), ("state", 63 << 20));
    assert_eq!(table.disk, image.table.disk);
    let old_tail = &bytes[image.len() - ALIGNMENT as usize..image.len()];
    assert!(old_tail.iter().all(|byte| *byte == 0), "no table where the image ends");
}

#[test]
fn a_table_of_another_tool_is_taken_as_it_is() {
    let mut image = image();
    let mut bytes = image.bytes.to_vec();
    // Another tool's image: no partition table in its first MiB, but a loader.
    bytes[..ALIGNMENT as usize].fill(0x90);
    for range in &mut Arc::get_mut(&mut image.bmap).unwrap().ranges {
        let start = range.first as usize * 4096;
        range.sha256 = Sha256::digest(&bytes[start..(range.last as usize + 1) * 4096]).into();
    }
    image.bytes = Arc::new(bytes);
    let target = card(image.len() + (2 << 20), Faults::default());
    assert!(!run(&image.job(), &target).unwrap().fitted);
    assert!(differs_only_unmapped(&image, &target.bytes()[..image.len()]));
}

#[test]
fn a_table_that_we_could_not_write_is_taken_as_it_is() {
    let mut image = image();
    let mut bytes = image.bytes.to_vec();
    // The first partition starts where our entries lie, and the checksums say that it is meant so.
    bytes[1024 + 32] = 20;
    bytes[1024 + 33] = 0;
    bytes[512 + 40] = 20;
    let entries = crc32fast::hash(&bytes[1024..1024 + 128 * 128]);
    bytes[512 + 88..512 + 92].copy_from_slice(&entries.to_le_bytes());
    bytes[512 + 16..512 + 20].fill(0);
    let header = crc32fast::hash(&bytes[512..512 + 92]);
    bytes[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
    assert!(!Table::read(&mut Cursor::new(&bytes), Copy::Primary).unwrap().can_be_encoded());
    for range in &mut Arc::get_mut(&mut image.bmap).unwrap().ranges {
        let start = range.first as usize * 4096;
        range.sha256 = Sha256::digest(&bytes[start..(range.last as usize + 1) * 4096]).into();
    }
    image.bytes = Arc::new(bytes);
    let target = card(image.len() + (2 << 20), Faults::default());
    assert!(!run(&image.job(), &target).unwrap().fitted);
    assert!(AsImage::new(Cursor::new(target.bytes()), image.len() as u64).is_err());
}

#[test]
fn images_of_any_length_are_written() {
    for length in [1, 511, 4096, 5000, 1 << 20, (1 << 20) + 1, (2 << 20) + 700, 3 << 20] {
        let bytes: Vec<u8> = (0..length).map(|i: usize| (i / 3) as u8).collect();
        let last = length.div_ceil(4096) as u64 - 1;
        let ranges = vec![Range { first: 0, last, sha256: Sha256::digest(&bytes).into() }];
        let bmap = Bmap { image_size: length as u64, block_size: 4096, ranges };
        let table = image().table;
        let image = Image { bytes: Arc::new(bytes), bmap: Arc::new(bmap), table };
        for more in [0, 100, 5 << 20] {
            let target = card(length + more, Faults::default());
            run(&image.job(), &target).unwrap();
            assert!(target.bytes()[..length] == image.bytes[..], "{length} bytes on {} more", more);
        }
    }
}

#[test]
fn short_writes_are_continued() {
    let image = image();
    let target = card(image.len(), Faults { write_max: Some(7_777), ..Faults::default() });
    run(&image.job(), &target).unwrap();
    image.assert_whole(&target.bytes(), &[]);
}

#[test]
fn a_power_cut_at_any_write_leaves_a_whole_card_or_a_blank_one_and_a_second_run_mends_it() {
    let image = image();
    let size = image.len() + (2 << 20);
    let good = card(size, Faults::default());
    run(&image.job(), &good).unwrap();
    let (writes, all) = (good.counts().writes, good.counts().carried);
    assert!(writes > 40, "{writes} writes");
    let mut spared = 0;
    for cut in 0..=writes {
        let pattern = [0, u64::MAX, 0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA][cut % 4];
        let faults = Faults { cut_after: Some(cut), lose: pattern, ..Faults::default() };
        let cut_card = card(size, faults);
        let result = run(&image.job(), &cut_card);
        assert_eq!(result.is_ok(), cut == writes);
        let bytes = cut_card.bytes();
        // Before the wipe is flushed the card is still what it was.
        let whole = Table::read(&mut Cursor::new(&bytes), Copy::Primary).is_ok();
        assert!(
            cut <= 2 || whole || Image::is_blank(&bytes),
            "cut after {cut} of {writes}, losing {pattern:x}"
        );
        if whole {
            image.assert_whole(&bytes, &[]);
        }
        let again = card_with(bytes, Faults::default());
        let done = run(&image.job(), &again).unwrap();
        image.assert_whole(&again.bytes(), &[]);
        spared += u64::from(done.resumed > 0);
        assert!(again.look().carried <= all + 8192, "a second run writes no more than a first one");
    }
    assert!(spared * 2 > writes as u64, "{spared} of {writes} second runs went on where the first ended");
}

#[test]
fn a_second_run_writes_only_what_is_missing_and_trusts_nothing() {
    let image = image();
    let job = image.job();
    let first = card(image.len(), Faults { cut_after: Some(26), ..Faults::default() });
    run(&job, &first).unwrap_err();
    let bytes = first.bytes();
    let again = card_with(bytes.clone(), Faults::default());
    let done = run(&job, &again).unwrap();
    assert!(done.resumed >= 1 << 20, "{done:?}");
    let late = 2 * ALIGNMENT;
    assert_eq!(done.resumed + done.written + late, image.bmap.mapped());

    let mut changed = bytes.clone();
    changed[(1 << 20) + 300_000] ^= 1;
    let mended = card_with(changed, Faults::default());
    let other = run(&job, &mended).unwrap();
    assert_eq!(other.resumed + STRETCH, done.resumed, "the changed stretch is written again");
    image.assert_whole(&mended.bytes(), &[]);

    let another = Job { image: [9; 32], ..job };
    let fresh = card_with(bytes, Faults::default());
    assert_eq!(run(&another, &fresh).unwrap().resumed, 0, "a record of another image says nothing");
}

#[test]
fn random_cuts_one_after_another_end_in_a_whole_card() {
    let image = image();
    let job = image.job();
    for seed in 0..60u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = |limit: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        let mut bytes = card(image.len() + (next(4) << 20) as usize, Faults::default()).bytes();
        for _ in 0..next(5) {
            let faults = Faults {
                cut_after: Some(next(60) as usize),
                lose: next(u64::MAX),
                write_max: [None, Some(100_000)][next(2) as usize],
                ..Faults::default()
            };
            let target = card_with(bytes, faults);
            let _ = provisioned(&job, &target, b"stile-provision");
            bytes = target.bytes();
            if Table::read(&mut Cursor::new(&bytes), Copy::Primary).is_ok() {
                image.assert_whole(&bytes, b"stile-provision");
            }
        }
        let last = card_with(bytes, Faults::default());
        provisioned(&job, &last, b"stile-provision").unwrap();
        image.assert_whole(&last.bytes(), b"stile-provision");
    }
}

#[test]
fn a_write_read_or_flush_that_fails_is_told_with_its_place_and_leaves_a_blank_card() {
    let image = image();
    let good = card(image.len(), Faults::default());
    run(&image.job(), &good).unwrap();
    let Counts { writes, reads, flushes, .. } = good.counts();
    let failing = (1..=writes)
        .map(|write| Faults { fail_write: Some(write), ..Faults::default() })
        .chain((1..=reads).step_by(3).map(|read| Faults { fail_read: Some(read), ..Faults::default() }))
        .chain((1..=flushes).map(|flush| Faults { fail_flush: Some(flush), ..Faults::default() }));
    for faults in failing {
        let bad = card(image.len(), faults);
        let error = run(&image.job(), &bad).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Io);
        assert!(text(&error).contains(" target at byte ") && text(&error).contains("os error 5"));
        let untouched = bad.look().flushes == 0;
        assert!(untouched || Image::is_blank(&bad.bytes()), "{}", text(&error));
    }
}

#[test]
fn every_trouble_has_its_name() {
    let image = image();
    let table = [
        (Faults { write_protected: true, ..Faults::default() }, FailureKind::WriteProtected),
        (Faults { pulled_at: Some(20), ..Faults::default() }, FailureKind::Gone),
        (Faults { lost_from: Some(9 << 20), ..Faults::default() }, FailureKind::Lies),
        (Faults { wraps_at: Some(8 << 20), ..Faults::default() }, FailureKind::Lies),
        (Faults { stuck_byte: Some(4_500_000), ..Faults::default() }, FailureKind::ReadBack),
        (Faults { fail_write: Some(20), ..Faults::default() }, FailureKind::Io),
    ];
    for (faults, kind) in table {
        let error = run(&image.job(), &card(16 << 20, faults)).unwrap_err();
        assert_eq!(error.kind(), kind, "{}", text(&error));
    }
    let pulled = |at| {
        let error = run(&image.job(), &card(16 << 20, Faults { pulled_at: Some(at), ..Faults::default() }));
        text(&error.unwrap_err())
    };
    assert!(pulled(1).starts_with("pulled out at 0 %"), "{}", pulled(1));
    let middle: u64 = pulled(40).split(' ').nth(3).unwrap().parse().unwrap();
    assert!((10..90).contains(&middle), "{}", pulled(40));
    let protected = card(16 << 20, Faults { write_protected: true, ..Faults::default() });
    assert!(text(&run(&image.job(), &protected).unwrap_err()).starts_with("target is write-protected"));
    let lost = card(16 << 20, Faults { lost_from: Some(9 << 20), ..Faults::default() });
    let lost = text(&run(&image.job(), &lost).unwrap_err());
    assert_eq!(
        lost,
        "card lies about its size: it says 16777216 bytes, but what was written at byte 16773120 is lost"
    );
    let wraps = card(16 << 20, Faults { wraps_at: Some(8 << 20), ..Faults::default() });
    let wraps = text(&run(&image.job(), &wraps).unwrap_err());
    assert!(wraps.contains("is what was written at byte "), "{wraps}");
}

#[test]
fn a_card_whose_cache_hides_its_size_is_found_when_the_image_went_through_it() {
    let image = image();
    // Room for all marks: only after the image was written are they gone from the cache.
    let faults = Faults { lost_from: Some(13 << 20), cached_writes: 40, ..Faults::default() };
    let target = card(16 << 20, faults);
    let error = run(&image.job(), &target).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Lies, "{}", text(&error));
    assert!(target.look().writes > 45, "not found at the first look");
    assert!(Image::is_blank(&target.bytes()));
}

#[test]
fn a_card_that_does_not_answer_is_given_up_and_does_not_stop_the_others() {
    let image = image();
    let job = Job { patience: Duration::from_millis(300), ..image.job() };
    let dead = card(image.len(), Faults { hang_at: Some(30), ..Faults::default() });
    let cards = [card(image.len(), Faults::default()), dead.clone(), card(image.len(), Faults::default())];
    let results = run_all(&job, &cards);
    assert!(results[0].is_ok() && results[2].is_ok());
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), FailureKind::Stalled);
    assert!(text(error).starts_with("target does not answer: write at byte "), "{}", text(error));
    image.assert_whole(&cards[0].bytes(), &[]);
    dead.let_go();
}

#[test]
fn a_card_that_the_others_cannot_wait_for_goes_on_by_itself() {
    // More pieces than may wait, so that the card that sleeps is cut off.
    let image = image_in(32 << 10);
    for sleeps_at in [3, 40, 60] {
        let slow = card(image.len(), Faults { hang_at: Some(sleeps_at), ..Faults::default() });
        let cards = [slow, card(image.len(), Faults::default()), card(image.len() - 1, Faults::default())];
        let mut order = Vec::new();
        let targets = cards.iter().map(|card| target(card, None)).collect();
        let results = flash(&image.job(), targets, |number, event| {
            if matches!(event, Event::Done(_)) {
                order.push(number);
            }
            if order.contains(&1) {
                // The other card is whole while this one sleeps.
                cards[0].let_go();
            }
        });
        assert_eq!(order, [2, 1, 0]);
        assert!(results[0].is_ok() && results[1].is_ok());
        assert_eq!(results[2].as_ref().unwrap_err().kind(), FailureKind::Refused);
        image.assert_whole(&cards[0].bytes(), &[]);
        image.assert_whole(&cards[1].bytes(), &[]);
    }
}

#[test]
fn a_card_that_is_too_small_is_not_touched() {
    let image = image();
    let small = card(image.len() - 1, Faults::default());
    let before = small.bytes();
    let error = run(&image.job(), &small).unwrap_err();
    let expected = format!("target has {} bytes, the image needs {}", image.len() - 1, image.len());
    assert_eq!(error.to_string(), expected);
    assert!(small.bytes() == before);
}

#[test]
fn a_provisioning_file_goes_into_its_partition_or_nothing_is_written() {
    let image = image();
    let job = image.job();
    let target = card(image.len(), Faults::default());
    provisioned(&job, &target, b"stile-provision 1 ...").unwrap();
    image.assert_whole(&target.bytes(), b"stile-provision 1 ...\0\0\0\0");
    let target = card(image.len(), Faults::default());
    let before = target.bytes();
    let error = provisioned(&job, &target, &[1; (1 << 20) + 1]).unwrap_err();
    assert!(error.to_string().contains("no partition \"provision\" with room for"), "{error}");
    assert!(target.bytes() == before);
}

#[test]
fn a_damaged_image_does_not_become_a_card() {
    let good = image();
    for at in [5, (1 << 20) + 9, good.len() - 700] {
        let mut bytes = good.bytes.to_vec();
        bytes[at] ^= 4;
        let damaged =
            Image { bytes: Arc::new(bytes), bmap: Arc::clone(&good.bmap), table: good.table.clone() };
        let target = card(good.len(), Faults::default());
        let error = run(&damaged.job(), &target).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Image);
        assert!(text(&error).contains("image is damaged in blocks"), "{}", text(&error));
        assert!(Image::is_blank(&target.bytes()), "byte {at}");
    }
    let bytes = Arc::new(good.bytes[..good.len() / 2].to_vec());
    let cut = Image { bytes, bmap: Arc::clone(&good.bmap), table: good.table.clone() };
    let error = run(&cut.job(), &card(good.len(), Faults::default())).unwrap_err();
    assert!(text(&error).contains("read image at byte"), "{}", text(&error));
}

#[test]
fn progress_is_told_in_order_and_to_the_end() {
    let image = image();
    let mut seen = Vec::new();
    let mut done = 0;
    let target = target(&card(image.len(), Faults::default()), None);
    flash(&image.job(), vec![target], |_, event| match event {
        Event::Progress(progress) => seen.push(progress),
        Event::Done(result) => done += usize::from(result.is_ok()),
    });
    assert_eq!(done, 1);
    for phase in [Phase::Write, Phase::Verify, Phase::Finish] {
        let steps: Vec<_> = seen.iter().filter(|step| step.phase == phase).collect();
        assert!(steps.windows(2).all(|pair| pair[0].done < pair[1].done), "{phase:?}");
        let last = steps.last().unwrap();
        assert_eq!(last.done, last.total, "{phase:?}");
    }
    assert!(seen.is_sorted_by_key(|step| step.phase));
    assert_eq!(seen.iter().find(|step| step.phase == Phase::Write).unwrap().total, image.bmap.mapped());
}
