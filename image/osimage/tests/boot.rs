//! What a disk would boot, read from images made here: file systems, kernels and hash trees, whole and damaged.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod made;

use std::collections::BTreeMap;
use std::io::Cursor;

use osimage::assemble;
use osimage::boot::{self, Boot};
use osimage::inspect::inspect;
use osimage::layout::Layout;
use osimage::plan::plan;

use made::{fat, kernel, tree};

const LAYOUT: &str = r#"
name = "pc"
[[partition]]
name = "esp"
type = "esp"
size = "2 MiB"
[[partition]]
name = "kernel-a"
type = "linux"
size = "1 MiB"
[[partition]]
name = "root-a"
type = "root-x86-64"
size = "1 MiB"
[[partition]]
name = "verity-a"
type = "root-x86-64-verity"
size = "1 MiB"
[[partition]]
name = "kernel-b"
type = "linux"
size = "1 MiB"
"#;

const PI: &str = r#"
name = "pi"
[[partition]]
name = "select"
type = "basic-data"
size = "1 MiB"
[[partition]]
name = "boot-a"
type = "basic-data"
size = "1 MiB"
[[partition]]
name = "boot-b"
type = "basic-data"
size = "1 MiB"
"#;

fn disk(layout: &str, contents: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let layout = Layout::parse(layout, "test").unwrap();
    let sizes = contents.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.len() as u64)).collect();
    let plan = plan(&layout, &sizes).unwrap();
    let mut readers: BTreeMap<String, &[u8]> =
        contents.iter().map(|(name, bytes)| ((*name).to_owned(), &bytes[..])).collect();
    let mut image = Cursor::new(Vec::new());
    assemble::apply(&plan, &mut readers, &mut image).unwrap();
    let mut bytes = image.into_inner();
    bytes.resize(plan.size as usize, 0);
    bytes
}

const ENTRY_A: &str = "title a\nefi /EFI/stile/a.efi\n";
const ENTRY_B: &str = "title b\nefi /EFI/stile/b.efi\n";

fn pc(entries: &[(&str, &str)]) -> Vec<u8> {
    let root: Vec<u8> = (0..20 * 4096u32).map(|i| (i.wrapping_mul(40_503) >> 8) as u8).collect();
    let (tree, hash) = tree(&root);
    let kernel = kernel(
        "ID=stile\nIMAGE_ID=stile-x86-64\nIMAGE_VERSION=\"7\"\n",
        &format!("root=/dev/mapper/root roothash={hash} quiet"),
    );
    let kernels = [("EFI/stile/a.efi", "MZ"), ("EFI/stile/b.efi", "MZ")];
    let esp = fat(2, &[entries, &kernels].concat());
    disk(LAYOUT, &[("esp", esp), ("kernel-a", kernel), ("root-a", root), ("verity-a", tree)])
}

fn read(bytes: &[u8]) -> Boot {
    boot::read(&mut Cursor::new(bytes))
}

#[test]
fn the_slot_that_boots_is_the_one_of_the_boot_loader() {
    let one = read(&pc(&[("loader/entries/stile-000001-a.conf", ENTRY_A)]));
    assert_eq!((one.next, one.by.as_deref()), (Some('a'), Some("stile-000001-a.conf")));
    assert_eq!(one.troubles, [""; 0]);
    let [a, b] = &one.slots[..] else { panic!("two slots") };
    assert_eq!((a.state.as_str(), a.generation, a.version.as_deref()), ("good", Some(1), Some("7")));
    assert_eq!((b.state.as_str(), b.generation, b.version.as_deref()), ("not bootable", None, None));

    let trial = read(&pc(&[
        ("loader/entries/stile-000001-a.conf", ENTRY_A),
        ("loader/entries/stile-000002-b+2-1.conf", ENTRY_B),
    ]));
    assert_eq!((trial.next, trial.slots[1].tries_left), (Some('b'), Some(2)));
    let text = trial.to_string();
    assert!(text.contains("boots slot b (stile-000002-b+2-1.conf)"), "{text}");
    assert!(text.contains("on trial, 2 tries left"), "{text}");

    let failed = read(&pc(&[
        ("loader/entries/stile-000001-a.conf", ENTRY_A),
        ("loader/entries/stile-000002-b+0-3.conf", ENTRY_B),
    ]));
    assert_eq!((failed.next, failed.slots[1].state.as_str()), (Some('a'), "tried and failed"));
    let nothing = read(&pc(&[]));
    assert!(nothing.next.is_none() && nothing.to_string().contains("boots nothing"), "{nothing}");
}

#[test]
fn a_raspberry_pi_is_read_from_its_own_files() {
    let select = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
    let release = "IMAGE_VERSION=9\n";
    let bytes = disk(
        PI,
        &[
            ("select", fat(1, &[("autoboot.txt", select)])),
            ("boot-a", fat(1, &[("os-release", release), ("cmdline.txt", "roothash=zz")])),
        ],
    );
    let boot = read(&bytes);
    assert_eq!((boot.next, boot.by.as_deref()), (Some('a'), Some("autoboot.txt")));
    assert_eq!(boot.slots[0].version.as_deref(), Some("9"));
    assert_eq!(boot.slots[0].root_hash, None, "a hash that is none");
    assert_eq!(boot.troubles, [""; 0]);
}

#[test]
fn a_root_that_is_not_the_one_of_its_kernel_is_told() {
    let bytes = pc(&[("loader/entries/stile-000001-a.conf", ENTRY_A)]);
    let good = inspect(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!((good.roots.len(), good.roots[0].good, &good.roots[0].damage), (1, Some(20 * 4096), &None));
    let root_at = 4 << 20;
    let mut changed = bytes;
    changed[root_at + 3 * 4096 + 5] ^= 1;
    let bad = inspect(&mut Cursor::new(&changed)).unwrap();
    assert_eq!(bad.roots[0].damage.as_deref(), Some("file system is damaged in block 3, byte 12288"));
    assert!(bad.to_string().contains("root a  DAMAGED: file system is damaged in block 3"), "{bad}");
}

#[test]
fn any_bytes_of_a_boot_partition_are_read_or_a_trouble() {
    let good = pc(&[("loader/entries/stile-000001-a+3.conf", ENTRY_A)]);
    let esp = 1 << 20..3 << 20;
    let used: Vec<usize> = esp.clone().filter(|at| good[*at] != 0).collect();
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = move |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % limit as u64) as usize
    };
    for _ in 0..3000 {
        let mut changed = good.clone();
        for _ in 0..=next(4) {
            // The boot sector, the file allocation table and folders: where something is, and anywhere.
            let at = if next(3) > 0 { used[next(used.len())] } else { esp.start + next(16 << 10) };
            changed[at] = [0, 0xFF, 0x80, next(256) as u8][next(4)];
        }
        let boot = read(&changed);
        assert!(boot.slots.len() == 2);
    }
    assert_eq!(read(&good).next, Some('a'));
}
