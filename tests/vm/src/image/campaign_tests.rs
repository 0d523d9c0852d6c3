//! The judge judged: small made-up disks and recordings, sound ones and such as must be found.

use std::io::Write as _;

use fatfs::{FormatVolumeOptions, FsOptions};
use osimage::SECTOR;
use osimage::gpt::{Guid, Partition, Table};

use super::*;
use crate::log::made::Made;

/// Partitions: name, first byte, bytes.
const PARTITIONS: [(&str, u64, u64); 7] = [
    ("esp", 1 << 20, 4 << 20),
    ("root-a", 5 << 20, 256 << 10),
    ("verity-a", 6 << 20, 64 << 10),
    ("root-b", 7 << 20, 256 << 10),
    ("verity-b", 8 << 20, 64 << 10),
    ("identity", 9 << 20, 1 << 20),
    ("state", 10 << 20, 8 << 20),
];
const DISK: u64 = 20 << 20;

/// A box in a folder, and what it writes.
struct Box1 {
    folder: tempfile::TempDir,
    esp: Vec<u8>,
    made: Made,
    recording: Recording,
}

fn content(version: u8, kind: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 97) as u8 ^ version.wrapping_mul(31) ^ kind).collect()
}

fn start_of(name: &str) -> u64 {
    PARTITIONS.iter().find(|(known, ..)| *known == name).expect("a partition").1
}

impl Box1 {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut versions = BTreeMap::new();
        for version in [1, 2] {
            let at = folder.path().join(format!("version-{version}"));
            std::fs::create_dir(&at).expect("a folder");
            for (kind, file, length) in
                [(1, "root.squashfs", 200 << 10), (2, "root.verity", 40 << 10), (3, "uki.efi", 90 << 10)]
            {
                std::fs::write(at.join(file), content(version, kind, length)).expect("written");
            }
            versions.insert(version.to_string(), at);
        }
        // The ESP with slot a, proven.
        let mut esp = std::io::Cursor::new(vec![0; 4 << 20]);
        fatfs::format_volume(&mut esp, FormatVolumeOptions::new()).expect("a FAT");
        let esp = edit(esp.into_inner(), |root| {
            for folder in ["EFI", "EFI/BOOT", "EFI/stile", "loader", "loader/entries"] {
                root.create_dir(folder).expect("a folder");
            }
            put(root, "EFI/BOOT/BOOTX64.EFI", b"the loader");
            put(root, "EFI/stile/a.efi", &content(1, 3, 90 << 10));
            put(root, "loader/entries/stile-000001-a.conf", b"title a\nefi /EFI/stile/a.efi\n");
        });
        // The state with a ledger of one receipt.
        let var = folder.path().join("var");
        std::fs::create_dir_all(var.join("lib/stile/cartd")).expect("a folder");
        let ledger = rusqlite::Connection::open(var.join("lib/stile/cartd/ledger.db")).expect("a ledger");
        ledger
            .execute_batch("CREATE TABLE receipts (id TEXT PRIMARY KEY); INSERT INTO receipts VALUES ('r1')")
            .expect("a receipt");
        drop(ledger);
        let base = folder.path().join("base.raw");
        let mut bytes = vec![0; DISK as usize];
        let table = Table {
            disk: Guid(1),
            sectors: DISK / SECTOR,
            partitions: (1..)
                .zip(PARTITIONS)
                .map(|(number, (name, start, length))| Partition {
                    number,
                    kind: Guid(7),
                    guid: Guid(u128::from(number) + 10),
                    first: start / SECTOR,
                    last: (start + length) / SECTOR - 1,
                    attributes: 0,
                    name: name.to_owned(),
                })
                .collect(),
        }
        .encode();
        bytes[..table.head.len()].copy_from_slice(&table.head);
        bytes[table.tail_at as usize..][..table.tail.len()].copy_from_slice(&table.tail);
        let mut fill = |name: &str, data: &[u8]| {
            bytes[start_of(name) as usize..][..data.len()].copy_from_slice(data);
        };
        fill("esp", &esp);
        fill("root-a", &content(1, 1, 200 << 10));
        fill("verity-a", &content(1, 2, 40 << 10));
        fill("identity", &file_system(folder.path(), "identity", "1M", None));
        fill("state", &file_system(folder.path(), "state", "8M", Some(&var)));
        std::fs::write(&base, bytes).expect("written");
        let recording = Recording {
            base,
            log: folder.path().join("writes.log"),
            versions,
            ledger: "/lib/stile/cartd".to_owned(),
            receipts: vec![(0, "r1".to_owned())],
            ..Recording::default()
        };
        Self { folder, esp, made: Made::new(), recording }
    }

    fn write(&mut self, partition: &str, data: &[u8]) {
        let mut data = data.to_vec();
        data.resize(data.len().next_multiple_of(512), 0);
        for (index, chunk) in data.chunks(64 << 10).enumerate() {
            let at = start_of(partition) + (index as u64 * (64 << 10));
            self.made.write(at / 512, chunk);
        }
    }

    /// A change of the ESP, as the sectors that it touches, then a flush.
    fn change_esp(&mut self, change: impl FnOnce(&Dir<'_, '_>)) {
        let after = edit(self.esp.clone(), change);
        for (index, (old, new)) in self.esp.chunks(512).zip(after.chunks(512)).enumerate() {
            if old != new {
                self.made.write(start_of("esp") / 512 + index as u64, new);
            }
        }
        self.esp = after;
        self.made.flush();
    }

    fn write_slot(&mut self) {
        self.write("root-b", &content(2, 1, 200 << 10));
        self.made.flush();
        self.write("verity-b", &content(2, 2, 40 << 10));
        self.made.flush();
    }

    fn activate(&mut self) {
        self.change_esp(|root| put(root, "EFI/stile/b.efi", &content(2, 3, 90 << 10)));
        self.change_esp(|root| {
            put(root, "loader/entries/stile-000002-b+3.conf", b"title b\nefi /EFI/stile/b.efi\n");
        });
    }

    fn outcome(self, plan: &Plan) -> Outcome {
        let Self { folder, made, recording, .. } = self;
        std::fs::write(&recording.log, made.finish()).expect("written");
        let outcome = run(&recording, plan).expect("judged");
        drop(folder);
        outcome
    }
}

type Dir<'a, 'b> = fatfs::Dir<'a, &'b mut std::io::Cursor<Vec<u8>>>;

fn edit(bytes: Vec<u8>, change: impl FnOnce(&Dir<'_, '_>)) -> Vec<u8> {
    let mut cursor = std::io::Cursor::new(bytes);
    let fat = fatfs::FileSystem::new(&mut cursor, FsOptions::new()).expect("a FAT");
    change(&fat.root_dir());
    fat.unmount().expect("unmounted");
    cursor.into_inner()
}

fn put(root: &Dir<'_, '_>, path: &str, data: &[u8]) {
    let mut file = root.create_file(path).expect("a file");
    file.truncate().expect("cut");
    file.write_all(data).expect("written");
}

fn file_system(folder: &Path, name: &str, size: &str, content: Option<&Path>) -> Vec<u8> {
    let image = folder.join(name);
    let mut command = crate::tool("mke2fs");
    command.args(["-q", "-t", "ext4", "-F"]);
    if let Some(content) = content {
        command.arg("-d").arg(content);
    }
    assert!(command.arg(&image).arg(size).status().expect("mke2fs runs").success());
    std::fs::read(&image).expect("read")
}

fn plan() -> Plan {
    Plan { torn: 6, seed: 1, limit: 0, defect: None, only: None, entries: 0..usize::MAX }
}

#[test]
fn an_update_in_the_right_order_leaves_a_box_at_every_point() {
    let mut made = Box1::new();
    made.write_slot();
    made.activate();
    made.change_esp(|root| {
        let from = "loader/entries/stile-000002-b+3.conf";
        root.rename(from, root, "loader/entries/stile-000002-b.conf").expect("renamed");
    });
    let outcome = made.outcome(&plan());
    assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
    assert!(outcome.points > 20 && outcome.torn > 10, "{outcome:?}");
    assert!(outcome.boots.contains_key("a with version 1"), "{outcome:?}");
    assert!(outcome.boots.contains_key("b with version 2"), "{outcome:?}");
}

#[test]
fn a_slot_that_is_activated_before_it_is_written_falls_back_and_unproven_bricks() {
    let mut made = Box1::new();
    made.activate();
    made.write_slot();
    let outcome = made.outcome(&plan());
    assert!(outcome.falls_back > 0 && outcome.bricks == 0, "{outcome:?}");

    let mut made = Box1::new();
    made.change_esp(|root| {
        put(root, "EFI/stile/b.efi", &content(2, 3, 90 << 10));
        put(root, "loader/entries/stile-000002-b.conf", b"efi /EFI/stile/b.efi\n");
    });
    made.write_slot();
    let outcome = made.outcome(&plan());
    assert!(outcome.bricks > 0, "{outcome:?}");
    let point: Point = outcome.failed[0].split(": ").next().expect("a point").parse().expect("a point");
    assert_eq!(point.to_string(), outcome.failed[0].split(": ").next().expect("a point"));
}

#[test]
fn a_kernel_replaced_in_place_bricks_when_it_is_torn() {
    let mut made = Box1::new();
    made.change_esp(|root| put(root, "EFI/stile/a.efi", &content(2, 3, 90 << 10)));
    assert!(made.outcome(&plan()).bricks > 0);
}

#[test]
fn one_wrong_bit_in_a_slot_that_boots_is_found() {
    let mut made = Box1::new();
    made.write_slot();
    made.activate();
    let outcome = made.outcome(&Plan { defect: Some(Defect::FlippedBit), ..plan() });
    assert!(outcome.falls_back > 0 && !outcome.boots.contains_key("b with version 2"), "{outcome:?}");
}

#[test]
fn a_promised_receipt_that_is_gone_is_found() {
    let mut made = Box1::new();
    made.write_slot();
    made.recording.receipts.push((6, "r2".to_owned()));
    let outcome = made.outcome(&plan());
    assert!(outcome.lost_receipts > 0 && outcome.lost_receipts < outcome.points, "{outcome:?}");
    assert_eq!(outcome.bricks, 0);
}

#[test]
fn a_state_that_no_journal_mends_is_found() {
    let mut made = Box1::new();
    // The group descriptors, block 1 of a file system of 1 KiB blocks or 2 of 4: all of the first 16 KiB but the head.
    made.made.write(start_of("state") / 512 + 4, &[0xee; 14 << 10]);
    made.made.flush();
    let outcome = made.outcome(&plan());
    assert!(outcome.state > 0, "{outcome:?}");
}

#[test]
fn one_point_is_judged_again_alike() {
    let made = |only| {
        let mut made = Box1::new();
        made.write_slot();
        made.activate();
        made.outcome(&Plan { only, ..plan() })
    };
    let all = made(None);
    let one = made(Some(Point { entry: 5, torn: None }));
    assert!(all.points > 1);
    assert!(one.points <= 1, "{one:?}");
}

#[test]
fn a_ledger_that_was_led_up_by_half_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let ledger = rusqlite::Connection::open(&path).expect("a ledger");
    ledger
        .execute_batch(
            "CREATE TABLE receipts (id TEXT PRIMARY KEY); CREATE TABLE steps (step INTEGER PRIMARY KEY)",
        )
        .expect("made");
    let error = crate::check::receipts(&path).expect_err("half").to_string();
    assert!(error.contains("by half"), "{error}");
    ledger.execute_batch("PRAGMA user_version = 2").expect("set");
    assert_eq!(crate::check::receipts(&path).expect("whole").len(), 0);
}
