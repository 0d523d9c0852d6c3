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
