//! Where things are on a box, below a root that tests choose.

use std::path::{Path, PathBuf};

/// The root of everything that the caretaker touches: `/` on a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    root: PathBuf,
}

/// Names of partitions, as in the layouts.
pub mod partition {
    /// The EFI system partition of a PC.
    pub const ESP: &str = "esp";
    /// What chooses on a Raspberry Pi.
    pub const SELECT: &str = "select";
    /// The provisioning file, raw.
    pub const PROVISION: &str = "provision";
    /// What survives a factory reset.
    pub const IDENTITY: &str = "identity";
    /// What services keep.
    pub const STATE: &str = "state";
}

impl Place {
    /// Below another root.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The box itself.
    #[must_use]
    pub fn here() -> Self {
        Self::below(Path::new("/"))
    }

    /// Whether this is the box itself.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path below the root.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What others read about the box: `/run/stile`.
    #[must_use]
    pub fn told(&self, file: &str) -> PathBuf {
        self.at("/run/stile").join(file)
    }

    /// What survives a factory reset, mounted.
    #[must_use]
    pub fn identity(&self, file: &str) -> PathBuf {
        self.at("/run/caretaker/identity").join(file)
    }

    /// What the caretaker keeps with the state.
    #[must_use]
    pub fn kept(&self, file: &str) -> PathBuf {
        self.at("/var/lib/stile/caretaker").join(file)
    }

    /// A partition of the disk that the box started from, by its name in the layout.
    #[must_use]
    pub fn partition(&self, name: &str) -> Option<PathBuf> {
        ["/dev/stile", "/dev/disk/by-partlabel"]
            .into_iter()
            .map(|folder| self.at(folder).join(name))
            .find(|path| path.exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layouts, udev's rules, RAUC's slots and the names here speak of the same partitions.
    #[test]
    fn partitions_are_those_of_the_layouts() {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image");
        let read =
            |path: &str| std::fs::read_to_string(image.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let rules = read("reference/boot/61-stile-slots.rules");
        for (layout, rauc, own) in [
            ("x86-64-efi", "system.conf", partition::ESP),
            ("raspberry-pi", "system.raspberry-pi.conf", partition::SELECT),
        ] {
            let layout: toml::Table = read(&format!("layouts/{layout}.toml")).parse().expect("TOML");
            let partitions = layout["partition"].as_array().expect("partitions");
            let names: Vec<&str> = partitions.iter().map(|it| it["name"].as_str().expect("a name")).collect();
            for name in [own, partition::PROVISION, partition::IDENTITY, partition::STATE] {
                assert!(names.contains(&name), "{name} in {names:?}");
            }
            for name in &names {
                let pattern = match name.split_once('-') {
                    Some((kind, "a" | "b")) => format!("{kind}-[ab]"),
                    _ => (*name).to_owned(),
                };
                assert!(rules.contains(&pattern), "{pattern} in udev's rules");
            }
            let slots = read(&format!("reference/boot/{rauc}"));
            let devices: Vec<&str> =
                slots.lines().filter_map(|line| line.strip_prefix("device=/dev/stile/")).collect();
            assert_eq!(devices.len(), 6);
            assert!(devices.iter().all(|device| names.contains(device)), "{devices:?} in {names:?}");
        }
    }
}
