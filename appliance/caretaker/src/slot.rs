//! Which slot runs, as whoever started it says.

use std::fs;

use osimage::slots::Slot;
use osimage::slots::entry::Name;

use crate::files;
use crate::place::Place;

/// Variables of systemd-boot (its documentation, "Boot Loader Interface").
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Nobody says which slot runs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot tell which slot runs: no stile.slot= on the kernel's command line, no EFI variable LoaderEntrySelected \
     or StubImageIdentifier of ours, no boot partition in the device tree"
)]
pub struct Unknown;

/// What a boot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The slot.
    pub slot: Slot,
    /// The entry that was chosen, where a boot loader has entries; its counter has counted this boot.
    pub entry: Option<Name>,
}

/// Which slot runs.
///
/// # Errors
/// When nobody says.
pub fn running(place: &Place) -> Result<Running, Unknown> {
    // The identifier has no counter; the path of the file is told where systemd-boot has counted.
    let selected = variable(place, "LoaderEntrySelected").and_then(|text| Name::parse(&text));
    let counted = variable(place, "LoaderBootCountPath")
        .and_then(|path| Name::parse(path.rsplit(['\\', '/']).next().unwrap_or_default()));
    let same = |counted: &Name| {
        selected.is_none_or(|it| (it.slot, it.generation) == (counted.slot, counted.generation))
    };
    let entry = counted.filter(same).or(selected);
    let of = |slot| Running { slot, entry: entry.filter(|entry| entry.slot == slot) };
    files::text(&place.at("/proc/cmdline"))
        .and_then(|text| from_command_line(&text))
        .or(entry.map(|entry| entry.slot))
        .or_else(|| variable(place, "StubImageIdentifier").and_then(|path| from_kernel(&path)))
        .or_else(|| from_device_tree(place))
        .map(of)
        .ok_or(Unknown)
}

/// `stile.slot=`; the last one counts.
fn from_command_line(text: &str) -> Option<Slot> {
    Slot::named(text.split_whitespace().filter_map(|word| word.strip_prefix("stile.slot=")).next_back()?)
}

/// `\EFI\stile\b.efi` or `\EFI\stile\b-000007.efi`.
fn from_kernel(path: &str) -> Option<Slot> {
    let folded = path.to_ascii_lowercase();
    let file = folded.replace('/', "\\").strip_prefix("\\efi\\stile\\")?.strip_suffix(".efi")?.to_owned();
    Slot::named(file.split('-').next()?)
}

/// Text of an EFI variable: four bytes of attributes, then UTF-16.
fn variable(place: &Place, name: &str) -> Option<String> {
    let bytes = fs::read(place.at("/sys/firmware/efi/efivars").join(format!("{name}-{LOADER}"))).ok()?;
    let units = bytes.get(4..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    String::from_utf16(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()).ok()
}

/// The partition that the firmware of a Raspberry Pi booted from.
fn from_device_tree(place: &Place) -> Option<Slot> {
    let bytes = fs::read(place.at("/proc/device-tree/chosen/bootloader/partition")).ok()?;
    let number = u32::from_be_bytes(bytes.try_into().ok()?);
    Slot::ALL.into_iter().find(|slot| partition_number(place, &format!("boot-{slot}")) == Some(number))
}

/// The number of a partition by its name, from the kernel: udev may not have come to it yet.
#[must_use]
pub fn partition_number(place: &Place, name: &str) -> Option<u32> {
    let named = format!("PARTNAME={name}");
    fs::read_dir(place.at("/sys/class/block")).ok()?.flatten().find_map(|entry| {
        let text = files::text(&entry.path().join("uevent"))?;
        let is = text.lines().any(|line| line == named);
        let number = text.lines().find_map(|line| line.strip_prefix("PARTN="))?.parse().ok();
        if is { number } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(place: &Place, path: &str, bytes: &[u8]) {
        let path = place.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn utf16(text: &str) -> Vec<u8> {
        [6, 0, 0, 0].into_iter().chain(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes)).collect()
    }

    #[test]
    fn in_this_order() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::below(folder.path());
        assert_eq!(running(&place), Err(Unknown));
        put(&place, "/proc/device-tree/chosen/bootloader/partition", &5_u32.to_be_bytes());
        assert_eq!(running(&place), Err(Unknown));
        put(&place, "/sys/class/block/mmcblk0p4/uevent", b"DEVTYPE=partition\nPARTN=4\nPARTNAME=boot-a\n");
        put(&place, "/sys/class/block/mmcblk0p5/uevent", b"DEVTYPE=partition\nPARTN=5\nPARTNAME=boot-b\n");
        put(&place, "/sys/class/block/mmcblk0/uevent", b"DEVTYPE=disk\n");
        assert_eq!(running(&place).map(|it| it.slot), Ok(Slot::B));
        let variables = "/sys/firmware/efi/efivars";
        put(&place, &format!("{variables}/StubImageIdentifier-{LOADER}"), &utf16("\\EFI\\stile\\a.efi"));
        assert_eq!(running(&place).map(|it| it.slot), Ok(Slot::A));
        let selected = format!("{variables}/LoaderEntrySelected-{LOADER}");
        put(&place, &selected, &utf16("stile-000007-b.conf"));
        let entry = Name::parse("stile-000007-b.conf");
        assert_eq!(running(&place), Ok(Running { slot: Slot::B, entry }));
        let counted = format!("{variables}/LoaderBootCountPath-{LOADER}");
        put(&place, &counted, &utf16("\\loader\\entries\\stile-000007-b+2-1.conf"));
        let entry = Name::parse("stile-000007-b+2-1.conf");
        assert_eq!(running(&place), Ok(Running { slot: Slot::B, entry }));
        put(&place, &counted, &utf16("\\loader\\entries\\stile-000006-a+2-1.conf"));
        assert_eq!(running(&place).map(|it| it.entry), Ok(Name::parse("stile-000007-b.conf")));
        fs::remove_file(place.at(&counted)).unwrap();
        put(&place, "/proc/cmdline", b"root=/dev/x stile.slot=b quiet stile.slot=a\n");
        assert_eq!(running(&place), Ok(Running { slot: Slot::A, entry: None }));
        // What is not ours says nothing.
        put(&place, "/proc/cmdline", b"stile.slot=c\n");
        put(&place, &selected, &utf16("debian.conf"));
        put(&place, &format!("{variables}/StubImageIdentifier-{LOADER}"), &utf16("\\EFI\\Linux\\b.efi"));
        assert_eq!(running(&place).map(|it| it.slot), Ok(Slot::B));
        put(&place, &selected, b"\x06\0\0\0\x00\xd8");
        assert_eq!(running(&place).map(|it| it.slot), Ok(Slot::B));
    }
}
