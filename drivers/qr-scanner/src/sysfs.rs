//! Finds device nodes by what sysfs says of the device behind them: no udev needed, nothing opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::select::{Identity, Select};
use crate::{Cause, Error, ErrorKind};

/// Where `/sys` and `/dev` are; tests have their own.
#[derive(Clone, Debug)]
pub(crate) struct Sysfs {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its name in sysfs and under `/dev` (or `/dev/input`).
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Its directory in sysfs, without links.
    pub(crate) directory: PathBuf,
    pub(crate) identity: Identity,
}

/// Longest attribute read; a report descriptor has at most 4,096 bytes, a key bitmap some 200.
const ATTRIBUTE_MAX: u64 = 4096;

impl Sysfs {
    pub(crate) fn new() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into() }
    }

    /// The nodes of a class (`hidraw`, `tty`, `input`) that `wanted` likes, in the order of their names.
    pub(crate) fn nodes(&self, class: &str, wanted: impl Fn(&Node) -> bool) -> Vec<Node> {
        let Ok(entries) = fs::read_dir(self.sys.join("class").join(class)) else { return Vec::new() };
        let named = entries.flatten().filter_map(|entry| self.node(class, entry.file_name().to_str()?));
        let mut nodes: Vec<Node> = named.filter(wanted).collect();
        nodes.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        nodes
    }

    fn node(&self, class: &str, name: &str) -> Option<Node> {
        let directory = fs::canonicalize(self.sys.join("class").join(class).join(name)).ok()?;
        let identity = self.identity(&directory);
        let folder = if class == "input" { self.dev.join("input") } else { self.dev.clone() };
        Some(Node { path: folder.join(name), name: name.to_owned(), directory, identity })
    }

    /// The one node that the selection means. A path alone is taken as it is, even if sysfs does not know it.
    pub(crate) fn choose(
        &self,
        class: &str,
        select: &Select,
        wanted: impl Fn(&Node) -> bool,
    ) -> Result<PathBuf, Error> {
        let path = match &select.path {
            Some(path) => Some(fs::canonicalize(path).map_err(Error::opening)?),
            None => None,
        };
        if let Some(path) = path.as_ref().filter(|_| !select.names_identity()) {
            return Ok(path.clone());
        }
        let mut nodes = self.nodes(class, |node| {
            select.fits(&node.identity) && path.as_ref().is_none_or(|path| *path == node.path) && wanted(node)
        });
        // A scanner with two such interfaces is one scanner; its first interface is meant. The sort keeps the
        // order of the names.
        nodes.sort_by(|a, b| a.identity.usb_port.cmp(&b.identity.usb_port));
        nodes.dedup_by(|later, first| {
            first.identity.usb_port.is_some() && first.identity.usb_port == later.identity.usb_port
        });
        match nodes.as_slice() {
            [] => Err(Error::new(ErrorKind::NotFound, "open", None)),
            [node] => Ok(node.path.clone()),
            many => {
                let names: Vec<String> = many.iter().map(Node::describe).collect();
                Err(ambiguous(&names))
            }
        }
    }

    /// Walks up from a device's directory to what it is a part of.
    fn identity(&self, directory: &Path) -> Identity {
        let parents: Vec<&Path> = directory.ancestors().take_while(|path| *path != self.sys).collect();
        if let Some(usb) = parents.iter().find(|path| path.join("idVendor").is_file()) {
            return Identity {
                usb_port: usb.file_name().and_then(|name| name.to_str()).map(str::to_owned),
                vendor: hex(usb, "idVendor"),
                product: hex(usb, "idProduct"),
                serial: text(usb, "serial"),
            };
        }
        for path in parents {
            if let Some(identity) = hid_identity(path).or_else(|| input_identity(path)) {
                return identity;
            }
        }
        Identity::default()
    }
}

impl Node {
    fn describe(&self) -> String {
        let port = self.identity.usb_port.as_deref().unwrap_or("-");
        format!("{} (usb_port {port}, serial {})", self.name, self.identity.serial.as_deref().unwrap_or("-"))
    }
}

pub(crate) fn ambiguous(names: &[String]) -> Error {
    Error::new(ErrorKind::Ambiguous, "open", Some(Cause::Candidates(names.join(", "))))
}

/// A HID device that is on no USB port (Bluetooth, uhid): `HID_ID=0005:00000C2E:00000B6A`.
fn hid_identity(directory: &Path) -> Option<Identity> {
    let uevent = text(directory, "uevent")?;
    let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let mut ids = value("HID_ID")?.split(':').skip(1);
    let mut id = || u32::from_str_radix(ids.next()?, 16).ok().and_then(|id| u16::try_from(id).ok());
    let (vendor, product) = (id(), id());
    let serial = value("HID_UNIQ").filter(|serial| !serial.is_empty()).map(str::to_owned);
    Some(Identity { usb_port: None, vendor, product, serial })
}

/// An input device that is no HID device (uinput).
fn input_identity(directory: &Path) -> Option<Identity> {
    let id = directory.join("id");
    let vendor = Some(hex(&id, "vendor")?);
    Some(Identity { usb_port: None, vendor, product: hex(&id, "product"), serial: text(directory, "uniq") })
}

/// Bytes of an attribute; none when there is none, or it is too long.
pub(crate) fn bytes(directory: &Path, name: &str) -> Option<Vec<u8>> {
    let file = fs::File::open(directory.join(name)).ok()?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, ATTRIBUTE_MAX), &mut bytes).ok()?;
    Some(bytes)
}

/// Text of an attribute without its line end; none when empty.
pub(crate) fn text(directory: &Path, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes(directory, name)?).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

fn hex(directory: &Path, name: &str) -> Option<u16> {
    u16::from_str_radix(&text(directory, name)?, 16).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A made-up `/sys` and `/dev`.
    pub(crate) struct Tree {
        pub(crate) folder: tempfile::TempDir,
    }

    impl Tree {
        pub(crate) fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        pub(crate) fn sysfs(&self) -> Sysfs {
            let root = self.folder.path().canonicalize().unwrap();
            Sysfs { sys: root.join("sys"), dev: root.join("dev") }
        }

        pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        /// A USB device on a port.
        pub(crate) fn usb(&self, port: &str, vendor: &str, product: &str, serial: &str) -> String {
            let device = format!("sys/devices/pci0/usb1/{port}");
            self.write(&format!("{device}/idVendor"), format!("{vendor}\n"));
            self.write(&format!("{device}/idProduct"), format!("{product}\n"));
            if !serial.is_empty() {
                self.write(&format!("{device}/serial"), format!("{serial}\n"));
            }
            device
        }

        /// A node of a class in a device's directory.
        pub(crate) fn node(&self, class: &str, name: &str, directory: &str) {
            let root = self.folder.path();
            fs::create_dir_all(root.join(directory)).unwrap();
            let links = root.join("sys/class").join(class);
            fs::create_dir_all(&links).unwrap();
            symlink(root.join(directory), links.join(name)).unwrap();
            let folder = if class == "input" { "dev/input" } else { "dev" };
            self.write(&format!("{folder}/{name}"), "");
        }

        fn hidraw(&self, name: &str, device: &str, interface: &str) {
            self.node("hidraw", name, &format!("{device}/{interface}/0003:0C2E:0B6A.0001/hidraw/{name}"));
        }
    }

    fn two_alike() -> Tree {
        let tree = Tree::new();
        for (port, name) in [("1-1", "hidraw10"), ("1-2.3", "hidraw9")] {
            let device = tree.usb(port, "0c2e", "0b6a", port);
            tree.hidraw(name, &device, &format!("{port}:1.0"));
        }
        tree
    }

    fn chosen(tree: &Tree, select: &str) -> Result<String, ErrorKind> {
        let select: Select =
            toml::from_str(&select.replace("DEV", tree.sysfs().dev.to_str().unwrap())).unwrap();
        let path = tree.sysfs().choose("hidraw", &select, |_| true).map_err(|error| error.kind())?;
        Ok(path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn two_like_scanners_keep_their_lanes() {
        let tree = two_alike();
        let nine = || Ok("hidraw9".to_owned());
        let table = [
            ("usb_port = '1-1'", Ok("hidraw10".to_owned())),
            ("usb_port = '1-2.3'", nine()),
            ("serial = '1-2.3'", nine()),
            ("vendor = 0x0c2e\nusb_port = '1-2.3'", nine()),
            ("path = 'DEV/hidraw9'", nine()),
            ("path = 'DEV/hidraw9'\nvendor = 0x0c2e", nine()),
            ("path = 'DEV/hidraw9'\nusb_port = '1-1'", Err(ErrorKind::NotFound)),
            ("path = 'DEV/hidraw8'", Err(ErrorKind::NotFound)),
            ("vendor = 0x0c2e", Err(ErrorKind::Ambiguous)),
            ("", Err(ErrorKind::Ambiguous)),
            ("vendor = 0x1eab", Err(ErrorKind::NotFound)),
            ("usb_port = '1-2'", Err(ErrorKind::NotFound)),
        ];
        for (select, want) in table {
            assert_eq!(chosen(&tree, select), want, "{select}");
        }
        let names = tree.sysfs().choose("hidraw", &Select::default(), |_| true).unwrap_err();
        let cause = std::error::Error::source(&names).unwrap().to_string();
        assert_eq!(
            cause,
            "these fit: hidraw10 (usb_port 1-1, serial 1-1), hidraw9 (usb_port 1-2.3, serial 1-2.3)"
        );
    }

    #[test]
    fn links_and_second_interfaces_and_empty_boxes() {
        let tree = two_alike();
        let root = tree.sysfs();
        symlink("hidraw9", root.dev.join("door")).unwrap();
        assert_eq!(chosen(&tree, "path = 'DEV/door'\nusb_port = '1-2.3'"), Ok("hidraw9".into()));
        tree.hidraw("hidraw11", "sys/devices/pci0/usb1/1-1", "1-1:1.1");
        assert_eq!(
            chosen(&tree, "usb_port = '1-1'"),
            Ok("hidraw10".into()),
            "one scanner with two interfaces"
        );
        assert_eq!(chosen(&Tree::new(), ""), Err(ErrorKind::NotFound));
    }

    #[test]
    fn devices_without_a_usb_port_have_an_identity_too() {
        let tree = Tree::new();
        let device = "sys/devices/virtual/misc/uhid/0005:0C2E:0B6A.0002";
        tree.write(
            &format!("{device}/uevent"),
            "DRIVER=hid-generic\nHID_ID=0005:00000C2E:00000B6A\nHID_UNIQ=S7\n",
        );
        tree.node("hidraw", "hidraw0", &format!("{device}/hidraw/hidraw0"));
        assert_eq!(chosen(&tree, "vendor = 0x0c2e\nproduct = 0x0b6a\nserial = 'S7'"), Ok("hidraw0".into()));
        let input = "sys/devices/virtual/input/input3";
        tree.write(&format!("{input}/id/vendor"), "05f9\n");
        tree.write(&format!("{input}/id/product"), "2204\n");
        tree.write(&format!("{input}/uniq"), "\n");
        tree.node("input", "event3", &format!("{input}/event3"));
        let select = Select { vendor: Some(0x05f9), product: Some(0x2204), ..Select::default() };
        let path = tree.sysfs().choose("input", &select, |_| true).unwrap();
        assert_eq!(path, tree.sysfs().dev.join("input/event3"));
    }
}
