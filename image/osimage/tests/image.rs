//! Layout, plan, image, block map and inspection together, and the bytes of each against arbitrary ones.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use osimage::bmap::{Bmap, BmapError};
use osimage::gpt::{Copy, Table};
use osimage::inspect::inspect;
use osimage::layout::{Attribute, Layout};
use osimage::plan::{Plan, PlanError, plan};
use osimage::{ALIGNMENT, SECTOR, assemble, provision};

/// A small deterministic generator (SplitMix64), so that a failure repeats.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

const SMALL: &str = r#"
name = "small"
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
attributes = ["read-only"]
[[partition]]
name = "root-b"
type = "root-x86-64"
size = "3 MiB"
attributes = ["read-only", "no-auto"]
[[partition]]
name = "state"
type = "linux"
size = "2 MiB"
attributes = ["grow-file-system"]
"#;

fn layout() -> Layout {
    Layout::parse(SMALL, "small.toml").unwrap()
}

/// Content with stretches of zeros in it, as file systems have.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut seed = Seed(seed);
    (0..length).map(|at| if at / 5000 % 3 == 1 { 0 } else { seed.next() as u8 }).collect()
}

fn contents() -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([("esp".to_owned(), content(1, 1_234_567)), ("root-a".to_owned(), content(2, 3 << 20))])
}

fn assembled(contents: &BTreeMap<String, Vec<u8>>) -> (Plan, Vec<u8>, Bmap) {
    let sizes = contents.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect();
    let plan = plan(&layout(), &sizes).unwrap();
    let mut readers: BTreeMap<String, &[u8]> =
        contents.iter().map(|(n, b)| (n.clone(), b.as_slice())).collect();
    let mut image = Cursor::new(Vec::new());
    assemble::apply(&plan, &mut readers, &mut image).unwrap();
    image.get_mut().resize(plan.size as usize, 0);
    let bmap = Bmap::of_plan(&plan, &mut image).unwrap();
    (plan, image.into_inner(), bmap)
}

fn u64s(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect()
}

#[test]
fn same_inputs_give_the_same_bytes() {
    let (_, first, first_map) = assembled(&contents());
    let (_, second, second_map) = assembled(&contents());
    assert!(first == second);
    assert_eq!(first_map.to_xml(), second_map.to_xml());
}

#[test]
fn contents_lie_in_their_partitions_and_both_tables_tell_so() {
    let (plan, image, _) = assembled(&contents());
    assert_eq!(image.len() as u64, 12 * ALIGNMENT);
    let mut disk = Cursor::new(image.as_slice());
    for copy in [Copy::Primary, Copy::Backup] {
        assert_eq!(Table::read(&mut disk, copy).unwrap(), plan.table, "{copy}");
    }
    for (name, bytes) in contents() {
        let partition = plan.table.partitions.iter().find(|p| p.name == name).unwrap();
        assert!(image[partition.start() as usize..][..bytes.len()] == bytes, "{name}");
        assert_eq!(partition.start() % ALIGNMENT, 0);
    }
    assert_eq!(image[510..512], [0x55, 0xAA]);
    assert_eq!(image[450], 0xEE);
}

#[test]
fn the_bytes_of_a_known_entry_are_as_uefi_has_them() {
    let (_, image, _) = assembled(&contents());
    let entry = &image[1024..1152];
    // EFI system partition C12A7328-F81F-11D2-BA4B-00A0C93EC93B, mixed-endian; sectors 2048 to 6143; "esp"
    let kind = [0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B];
    assert_eq!(entry[..16], kind);
    assert_eq!(entry[32..48], [0, 8, 0, 0, 0, 0, 0, 0, 0xFF, 0x17, 0, 0, 0, 0, 0, 0]);
    assert_eq!(entry[56..64], [b'e', 0, b's', 0, b'p', 0, 0, 0]);
}

#[test]
fn a_damaged_table_is_told_and_the_other_copy_used() {
    let (_, good, _) = assembled(&contents());
    let whole = inspect(&mut Cursor::new(&good)).unwrap();
    assert_eq!((whole.primary_damage, whole.backup_damage), (None, None));
    let names: Vec<_> = whole.partitions.iter().map(|row| (row.name.as_str(), row.kind.as_str())).collect();
    let expected = [("esp", "esp"), ("root-a", "root-x86-64"), ("root-b", "root-x86-64"), ("state", "linux")];
    assert_eq!(names, expected);

    let mut damaged = good.clone();
    damaged[1024 + 40] ^= 1;
    let found = inspect(&mut Cursor::new(&damaged)).unwrap();
    let damage = found.primary_damage.unwrap();
    assert!(damage.starts_with("primary partition table is damaged: checksum of its entries is"), "{damage}");
    assert_eq!((found.backup_damage, found.partitions), (None, whole.partitions));
    let last = damaged.len() - 512;
    damaged[last] ^= 1;
    let error = inspect(&mut Cursor::new(&damaged)).unwrap_err();
    assert!(error.to_string().contains("no backup partition table: signature is missing"), "{error}");
}

#[test]
fn any_change_of_a_header_is_found() {
    let (_, good, _) = assembled(&contents());
    for at in 512..512 + 92 {
        for bit in 0..8 {
            let mut bad = good[..4 << 20].to_vec();
            bad.resize(good.len(), 0);
            bad[at] ^= 1 << bit;
            assert!(Table::read(&mut Cursor::new(bad), Copy::Primary).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn hostile_headers_with_right_checksums_are_errors() {
    let (_, good, _) = assembled(&contents());
    for round in 0..3000 {
        let mut seed = Seed(round);
        let mut bad = good[..64 << 10].to_vec();
        for _ in 0..=seed.below(3) {
            let at = 512 + 8 + seed.below(84);
            bad[at] = seed.next() as u8;
        }
        let entry = 1024 + seed.below(128);
        bad[entry] = seed.next() as u8;
        let checksum = crc(&bad[1024..1024 + 128 * 128]);
        bad[512 + 88..512 + 92].copy_from_slice(&checksum.to_le_bytes());
        bad[512 + 16..512 + 20].fill(0);
        let length = u32::from_le_bytes(bad[524..528].try_into().unwrap()).min(512) as usize;
        let checksum = crc(&bad[512..512 + length]);
        bad[512 + 16..512 + 20].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(table) = Table::read(&mut Cursor::new(&bad), Copy::Primary) {
            assert!(
                table.partitions.iter().all(|p| p.first <= p.last && p.last < table.sectors),
                "round {round}"
            );
        }
    }
}

/// CRC-32 bit by bit, as the specification defines it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn a_plan_refuses_what_cannot_be() {
    let missing = plan(&layout(), &u64s(&[("esp", 1)])).unwrap_err();
    assert_eq!(missing.to_string(), "partition \"root-a\" of layout \"small\" needs content");
    let unknown = plan(&layout(), &u64s(&[("esp", 1), ("root-a", 1), ("boot", 1)])).unwrap_err();
    assert_eq!(unknown, PlanError::Unknown { layout: "small".into(), partition: "boot".into() });
    let large = plan(&layout(), &u64s(&[("esp", (2 << 20) + 1), ("root-a", 1)])).unwrap_err();
    assert_eq!(large.to_string(), "content of partition \"esp\" has 2097153 bytes, 2097152 fit");
    let huge = SMALL.replace("\"2 MiB\"", "\"9000000 GiB\"");
    let huge = plan(&Layout::parse(&huge, "x").unwrap(), &u64s(&[("esp", 1), ("root-a", 1)])).unwrap_err();
    assert_eq!(huge, PlanError::TooLong { layout: "small".into() });
}

#[test]
fn a_malformed_layout_names_file_and_key() {
    let cases = [
        ("name = \"esp\"", "name = \"esp\"\ncolour = 3", "unknown field `colour`"),
        ("type = \"esp\"", "type = \"swap\"", "unknown variant `swap`"),
        ("size = \"2 MiB\"", "size = \"2 MB\"", "\"2 MB\" is no size"),
        ("size = \"2 MiB\"", "size = \"0 MiB\"", "\"0 MiB\" is no size"),
        ("size = \"2 MiB\"", "", "missing field `size`"),
        ("name = \"state\"", "name = \"esp\"", "has two partitions named \"esp\""),
        ("name = \"state\"", "name = \"sta/te\"", "names a partition \"sta/te\""),
    ];
    for (from, to, message) in cases {
        let error = Layout::parse(&SMALL.replacen(from, to, 1), "some/file.toml").unwrap_err();
        let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
        let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        assert!(text.contains(message) && text.contains("some/file.toml"), "{text}");
    }
    assert!(
        Layout::parse("name = \"x\"\npartition = []", "x").unwrap_err().to_string().contains("0 partitions")
    );
}

#[test]
fn the_layouts_of_the_repository_can_be_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../layouts");
    let required = [
        ("x86-64-efi.toml", u64s(&[("esp", 1), ("kernel-a", 1), ("root-a", 1), ("verity-a", 1)])),
        ("raspberry-pi.toml", u64s(&[("select", 1), ("boot-a", 1), ("root-a", 1), ("verity-a", 1)])),
    ];
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), required.len());
    for (file, contents) in required {
        let layout = Layout::load(&folder.join(file)).unwrap();
        assert_eq!(format!("{}.toml", layout.name), file);
        let plan = plan(&layout, &contents).unwrap();
        let partitions = &plan.table.partitions;
        let state = partitions.last().unwrap();
        assert_eq!(state.name, "state", "{file}: state grows, so it is last");
        assert_ne!(state.attributes & Attribute::GrowFileSystem.bit(), 0, "{file}");
        let length = |name: &str| partitions.iter().find(|p| p.name == name).map(|p| p.len());
        assert_eq!(length(provision::PARTITION), Some(provision::LENGTH_MAX as u64), "{file}");
        for pair in ["kernel", "boot", "root", "verity"] {
            let lengths = ["a", "b"].map(|slot| length(&format!("{pair}-{slot}")));
            assert_eq!(lengths[0], lengths[1], "{file}: slots of {pair} have one length");
        }
        let larger = plan.table.on_disk_of(64 << 30);
        assert_eq!(larger.partitions.last().unwrap().last, ((64 << 30) - ALIGNMENT) / SECTOR - 1, "{file}");
    }
}

#[test]
fn a_plan_is_printed_for_people() {
    let plan = plan(&layout(), &u64s(&[("esp", 5), ("root-a", 6)])).unwrap();
    let text = plan.to_string();
    let lines: Vec<_> =
        text.lines().map(|line| line.split_whitespace().take(5).collect::<Vec<_>>()).collect();
    assert_eq!(lines[0][..4], ["layout", "small,", "12", "MiB,"]);
    assert_eq!(
        lines[2..],
        [
            ["1", "esp", "1", "2", "5"],
            ["2", "root-a", "3", "3", "6"],
            ["3", "root-b", "6", "3", "empty"],
            ["4", "state", "9", "2", "empty"],
        ]
    );
}

#[test]
fn a_content_that_changed_since_the_plan_is_an_error() {
    let plan = plan(&layout(), &u64s(&[("esp", 10), ("root-a", 10)])).unwrap();
    for (length, found) in [(9, 9), (11, 11), (50, 11)] {
        let bytes = vec![1; length];
        let mut readers =
            BTreeMap::from([("esp".to_owned(), &bytes[..]), ("root-a".to_owned(), &bytes[..10.min(length)])]);
        let error = assemble::apply(&plan, &mut readers, &mut Cursor::new(Vec::new())).unwrap_err();
        let expected = format!("content of partition \"esp\" has {found} bytes, 10 were planned");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_block_map_covers_tables_contents_and_the_start_of_what_is_empty() {
    let (plan, image, bmap) = assembled(&contents());
    let again = Bmap::parse(&bmap.to_xml()).unwrap();
    assert_eq!(again, bmap);
    bmap.verify(&mut Cursor::new(&image)).unwrap();
    for part in plan.mapped() {
        for at in [part.start, part.end - 1] {
            let mut bad = image.clone();
            bad[at as usize] ^= 1;
            let error = bmap.verify(&mut Cursor::new(&bad)).unwrap_err();
            assert!(matches!(error, BmapError::Damage { .. }), "{error}");
        }
    }
    let unmapped = plan.table.partitions[2].start() + ALIGNMENT;
    let mut free = image.clone();
    free[unmapped as usize] = 1;
    bmap.verify(&mut Cursor::new(&free)).unwrap();
    let short = bmap.verify(&mut Cursor::new(&image[1..])).unwrap_err();
    assert!(short.to_string().starts_with("image has 12582911 bytes"), "{short}");
}

#[test]
fn a_block_map_of_bmaptool_is_read() {
    // The form that bmaptool 3.6 writes, with its comment and spaces; hashes of 8192 zero bytes and of 512.
    let template = "<?xml version=\"1.0\" ?>\n<!-- This file contains the block map for an image file -->\n\n\
        <bmap version=\"2.0\">\n    <!-- Image size in bytes: 16.5 KiB -->\n    \
        <ImageSize> 16896 </ImageSize>\n\n\
        <BlockSize> 4096 </BlockSize>\n    <BlocksCount> 5 </BlocksCount>\n\n\
        <MappedBlocksCount> 3     </MappedBlocksCount>\n    <ChecksumType> sha256 </ChecksumType>\n\n\
        <BmapFileChecksum> HASH </BmapFileChecksum>\n    <BlockMap>\n\
        <Range chksum=\"9f1dcbc35c350d6027f98be0f5c8b43b42ca52b7604459c0c42be3aa88913d47\"> 0-1 </Range>\n\
        <Range chksum=\"076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560\"> 4 </Range>\n\
        </BlockMap>\n</bmap>\n";
    let xml = signed(template);
    let bmap = Bmap::parse(&xml).unwrap();
    assert_eq!((bmap.ranges.len(), bmap.mapped()), (2, 8192 + 512));
    bmap.verify(&mut Cursor::new(vec![0; 16896])).unwrap();
    assert!(matches!(Bmap::parse(&xml.replace("0-1", "0-2")), Err(BmapError::Hash { .. })));
    for (from, to) in [
        ("0-1", "1-0"),
        ("> 4 <", "> 1 <"),
        ("> 4 <", "> 5 <"),
        ("0-1", "x"),
        ("9f1d", "9f1x"),
        ("sha256", "md5"),
    ] {
        assert!(Bmap::parse(&signed(&template.replace(from, to))).is_err(), "{to}");
    }
}

fn signed(template: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(template.replace("HASH", &"0".repeat(64)));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    template.replace("HASH", &hex)
}

#[test]
fn any_text_is_a_block_map_or_an_error() {
    let (_, _, bmap) = assembled(&contents());
    let good = bmap.to_xml();
    for round in 0..2000 {
        let mut seed = Seed(round);
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=seed.below(4) {
            let at = seed.below(bytes.len());
            match seed.below(3) {
                0 => bytes[at] = seed.next() as u8,
                1 => bytes.truncate(at.max(1)),
                _ => {
                    bytes.remove(at);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'<');
            }
        }
        if bytes != good.as_bytes() {
            assert!(Bmap::parse(&String::from_utf8_lossy(&bytes)).is_err(), "round {round}");
        }
    }
}
