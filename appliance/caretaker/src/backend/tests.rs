use super::*;

/// A kernel for UEFI of this many bytes: the least that has a length and an `os-release`.
fn kernel(version: u32, length: usize) -> Vec<u8> {
    let text = format!("IMAGE_VERSION={version}\n");
    let mut bytes = vec![u8::try_from(version).unwrap(); length];
    bytes[..0x400].fill(0);
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x80;
    bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
    bytes[0x86] = 1;
    bytes[0x94] = 240;
    bytes[0x98..0x9a].copy_from_slice(&0x20b_u16.to_le_bytes());
    let section = 0x98 + 240;
    bytes[section..section + 6].copy_from_slice(b".osrel");
    bytes[section + 8..section + 12].copy_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
    bytes[section + 16..section + 20].copy_from_slice(&u32::try_from(length - 0x400).unwrap().to_le_bytes());
    bytes[section + 20..section + 24].copy_from_slice(&0x400_u32.to_le_bytes());
    bytes[0x400..0x400 + text.len()].copy_from_slice(text.as_bytes());
    bytes
}

fn put(place: &Place, path: &str, bytes: &[u8]) {
    let path = place.at(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn partition_of(kernel: Vec<u8>) -> Vec<u8> {
    let mut partition = kernel;
    partition.resize(0x8000, 0xee);
    partition
}

/// A fresh PC: version 1 in a, nothing in b.
fn pc(folder: &Path) -> Place {
    let place = Place::below(folder);
    put(&place, "/proc/cmdline", b"stile.slot=a");
    put(&place, "/dev/stile/kernel-a", &partition_of(kernel(1, 0x1234)));
    put(&place, "/dev/stile/kernel-b", &[0; 0x8000]);
    put(&place, "/dev/stile/esp/EFI/stile/a.efi", &kernel(1, 0x1234));
    put(&place, "/dev/stile/esp/loader/entries/stile-000001-a.conf", b"title x\nefi /EFI/stile/a.efi\n");
    place
}

fn rauc(place: &Place, arguments: &str) -> Result<String> {
    let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
    called_by_rauc(place, &arguments)
}

fn entries(place: &Place) -> Vec<String> {
    let listed = fs::read_dir(place.at("/dev/stile/esp/loader/entries")).unwrap();
    let mut names: Vec<String> =
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_update_as_rauc_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = pc(folder.path());
    assert_eq!(rauc(&place, "get-current").unwrap(), "a");
    assert_eq!(rauc(&place, "get-primary").unwrap(), "a");
    assert_eq!(rauc(&place, "get-state a").unwrap(), "good");
    assert_eq!(rauc(&place, "get-state b").unwrap(), "bad");
    // Install: bad, written, primary.
    rauc(&place, "set-state b bad").unwrap();
    put(&place, "/dev/stile/kernel-b", &partition_of(kernel(2, 0x2345)));
    rauc(&place, "set-primary b").unwrap();
    assert_eq!(entries(&place), ["stile-000001-a.conf", "stile-000002-b+3.conf"]);
    assert_eq!(
        fs::read(place.at("/dev/stile/esp/EFI/stile/b.efi")).unwrap(),
        kernel(2, 0x2345),
        "not a byte more"
    );
    assert_eq!(rauc(&place, "get-primary").unwrap(), "b");
    assert_eq!(rauc(&place, "get-state b").unwrap(), "good");
    assert!(place.at(PENDING).exists());
    let boot = Boot::open(&place).unwrap();
    let release = boot.release(Slot::B).unwrap();
    assert_eq!((release.as_str(), boot.before_restart().unwrap()), ("IMAGE_VERSION=2\n", None));
    drop(boot);
    // On trial: neither marked by somebody else, nor updated again.
    put(&place, "/proc/cmdline", b"stile.slot=b");
    for refused in
        ["set-state a bad", "set-state a good x", "set-primary c", "set-state b fine", "", "get-state"]
    {
        assert!(rauc(&place, refused).is_err(), "{refused}");
    }
    rauc(&place, "set-state b good").unwrap();
    assert_eq!(entries(&place), ["stile-000001-a.conf", "stile-000002-b.conf"]);
    // Back to a, which is proven, and again.
    rauc(&place, "set-primary a").unwrap();
    assert_eq!(rauc(&place, "get-primary").unwrap(), "a");
    assert!(entries(&place).contains(&"stile-000002-b.conf".to_owned()));
}

#[test]
fn what_the_file_system_lost_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = pc(folder.path());
    for lost in ["EFI/stile/a.efi", "loader/entries/stile-000001-a.conf"] {
        fs::remove_file(place.at("/dev/stile/esp").join(lost)).unwrap();
        Boot::open(&place).unwrap().prove(Slot::A).unwrap();
        assert_eq!(rauc(&place, "get-primary").unwrap(), "a", "{lost}");
        for entry in entries(&place) {
            fs::rename(
                place.at("/dev/stile/esp/loader/entries").join(entry),
                place.at("/dev/stile/esp/loader/entries/stile-000001-a.conf"),
            )
            .unwrap();
        }
    }
    // One garbled byte.
    let mut garbled = kernel(1, 0x1234);
    garbled[0x800] ^= 1;
    put(&place, "/dev/stile/esp/EFI/stile/a.efi", &garbled);
    Boot::open(&place).unwrap().prove(Slot::A).unwrap();
    let chosen = Boot::open(&place).unwrap().esp().unwrap().chosen().unwrap();
    assert_eq!(fs::read(place.at("/dev/stile/esp").join(chosen.kernel)).unwrap(), kernel(1, 0x1234));
}

#[test]
fn errors_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let place = pc(folder.path());
    let said = |place: &Place, arguments: &str| format!("{:#}", rauc(place, arguments).unwrap_err());
    assert!(said(&place, "set-state a bad").contains("slot b would be the only one left"));
    rauc(&place, "set-state b bad").unwrap();
    assert!(said(&place, "set-primary b").contains("partition kernel-b holds no kernel"));
    put(&place, "/dev/stile/kernel-b", &kernel(2, 0x2345)[..0x2000]);
    assert!(said(&place, "set-primary b").contains("cut off"));
    assert_eq!(entries(&place), ["stile-000001-a.conf"], "nothing half is offered");
    fs::remove_file(place.at("/dev/stile/kernel-b")).unwrap();
    assert!(said(&place, "set-primary b").contains("no partition kernel-b"));
    fs::remove_dir_all(place.at("/dev/stile/esp")).unwrap();
    assert!(said(&place, "get-primary").contains("no partition esp"));
}

#[test]
fn a_raspberry_pi() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::below(folder.path());
    for (number, slot) in [(4_u32, "a"), (5, "b")] {
        let uevent = format!("PARTN={number}\nPARTNAME=boot-{slot}\n");
        put(&place, &format!("/sys/class/block/mmcblk0p{number}/uevent"), uevent.as_bytes());
    }
    let runs = |number: u32| {
        put(&place, "/proc/device-tree/chosen/bootloader/partition", &number.to_be_bytes());
    };
    runs(4);
    let fresh = Select::fresh(Numbers { a: 4, b: 5 });
    put(&place, "/dev/stile/select/autoboot.txt", fresh.autoboot.unwrap().as_bytes());
    assert_eq!(rauc(&place, "get-current").unwrap(), "a");
    rauc(&place, "set-state b bad").unwrap();
    rauc(&place, "set-primary b").unwrap();
    assert_eq!(rauc(&place, "get-primary").unwrap(), "b");
    assert_eq!(Boot::open(&place).unwrap().before_restart().unwrap(), Some("0 tryboot"));
    assert_eq!(Boot::open(&place).unwrap().state(Slot::B).unwrap(), State::Trial { left: 2 });
    runs(5);
    rauc(&place, "set-state b good").unwrap();
    let text = files::text(&place.at("/dev/stile/select/autoboot.txt")).unwrap();
    assert_eq!(text, "[all]\ntryboot_a_b=1\nboot_partition=5\n[tryboot]\nboot_partition=4\n");
    assert_eq!(Boot::open(&place).unwrap().before_restart().unwrap(), None);
}
