//! Update bundles: what a box installs into the slot that it does not run from. RAUC makes and installs them;
//! what is in one, and whether it belongs together, is decided here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::boot::Kernel;
use crate::layout::Layout;
use crate::part::Part;
use crate::plan::BLOCK;
use crate::program::{self, ProgramError};
use crate::unhex;
use crate::verity::{self, VerityError};

/// What a bundle is made of.
pub struct Contents<'a> {
    /// The partitions of the boards that it is for.
    pub layout: &'a Layout,
    /// The file of each slot class: `root`, `verity`, `kernel` or `boot`.
    pub images: &'a BTreeMap<String, PathBuf>,
    /// Which boxes take it; none: what the kernel says that it belongs to.
    pub compatible: Option<String>,
    /// Its version; none: what the kernel says.
    pub version: Option<String>,
}

/// Who signs a bundle, and with what program.
pub struct Signer<'a> {
    /// The RAUC to use: `rauc`, or the path of one.
    pub rauc: &'a str,
    /// Certificate, PEM.
    pub certificate: &'a Path,
    /// Its key, PEM.
    pub key: &'a Path,
    /// What boxes check with, PEM: the bundle is checked with it, too.
    pub keyring: &'a Path,
}

/// Why a bundle is not made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A part of a slot has no file.
    #[error("slots of layout {layout:?} have a part {class:?}, which is not given")]
    Missing {
        /// The layout.
        layout: String,
        /// The part.
        class: String,
    },
    /// A file for a part that slots do not have.
    #[error("slots of layout {layout:?} have no part {class:?}")]
    Unknown {
        /// The layout.
        layout: String,
        /// The part.
        class: String,
    },
    /// It does not fit into its partition.
    #[error("{class} has {length} bytes, its partitions have room for {room}")]
    TooLarge {
        /// The part.
        class: String,
        /// Its length.
        length: u64,
        /// Length of the shorter partition.
        room: u64,
    },
    /// A file cannot be read or written.
    #[error("{doing} {path}")]
    Io {
        /// Read or write.
        doing: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not say what is asked of it.
    #[error("kernel says no {what}")]
    Silent {
        /// What.
        what: &'static str,
    },
    /// A value that would break the manifest.
    #[error("{what} {value:?} is not of letters, digits, dots, hyphens, underscores and plus signs")]
    Word {
        /// Compatible or version.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The root file system is not the one that the kernel expects.
    #[error("root and verity do not belong to the kernel, whose root hash is {root_hash}")]
    Verity {
        /// What the kernel says.
        root_hash: String,
        /// What is wrong.
        source: VerityError,
    },
    /// RAUC did not make it.
    #[error("make bundle")]
    Program(#[from] ProgramError),
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Which boxes take it.
    pub compatible: String,
    /// Its version.
    pub version: String,
}

/// Checks that the contents belong together, and what they are.
///
/// # Errors
///
/// [`BundleError`].
pub fn check(contents: &Contents<'_>) -> Result<Made, BundleError> {
    let rooms = rooms(contents.layout);
    let layout = || contents.layout.name.clone();
    if let Some(class) = contents.images.keys().find(|class| !rooms.contains_key(*class)) {
        return Err(BundleError::Unknown { layout: layout(), class: class.clone() });
    }
    for (class, room) in &rooms {
        let path = contents.images.get(class);
        let path = path.ok_or_else(|| BundleError::Missing { layout: layout(), class: class.clone() })?;
        let length = length(path)?.next_multiple_of(BLOCK);
        if length > *room {
            return Err(BundleError::TooLarge { class: class.clone(), length, room: *room });
        }
    }
    let kernel = kernel(contents.images)?;
    if let (Some(root), Some(tree)) = (contents.images.get("root"), contents.images.get("verity")) {
        let root_hash = kernel.root_hash.clone().ok_or(BundleError::Silent { what: "root hash" })?;
        let hash = unhex(&root_hash).ok_or(BundleError::Silent { what: "root hash" })?;
        let checked = verity::check_files(&mut open(root)?, length(root)?, &mut open(tree)?, &hash);
        checked.map_err(|source| BundleError::Verity { root_hash, source })?;
    }
    let word = |what: &'static str, value: Option<String>| {
        let value = value.ok_or(BundleError::Silent { what })?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '~');
        let good = !value.is_empty() && value.chars().all(plain);
        if good { Ok(value) } else { Err(BundleError::Word { what, value }) }
    };
    Ok(Made {
        compatible: word("compatible", contents.compatible.clone().or(kernel.image))?,
        version: word("version", contents.version.clone().or(kernel.version))?,
    })
}

/// Makes a bundle at `output`, whole or not at all.
///
/// # Errors
///
/// [`BundleError`].
pub fn make(contents: &Contents<'_>, signer: &Signer<'_>, output: &Path) -> Result<Made, BundleError> {
    let made = check(contents)?;
    let mut part = output.as_os_str().to_owned();
    part.push(".part");
    let (part, folder) = (PathBuf::from(&part), PathBuf::from(part).with_extension("folder"));
    let write = |path: &Path| fail("write", path);
    fs::create_dir(&folder).map_err(write(&folder))?;
    let result = fill(contents, &made, &folder).and_then(|()| {
        let option = |name: &str, path: &Path| {
            let mut option = std::ffi::OsString::from(name);
            option.push(path);
            option
        };
        let arguments = [
            "bundle".into(),
            option("--cert=", signer.certificate),
            option("--key=", signer.key),
            option("--keyring=", signer.keyring),
            folder.clone().into(),
            part.clone().into(),
        ];
        program::run(signer.rauc, "rauc", arguments)?;
        fs::rename(&part, output).map_err(write(output))
    });
    // What is left over has names that say what it is.
    let _ = fs::remove_dir_all(&folder);
    let _ = fs::remove_file(&part);
    result.map(|()| made)
}

fn fill(contents: &Contents<'_>, made: &Made, folder: &Path) -> Result<(), BundleError> {
    for (class, path) in contents.images {
        let target = folder.join(format!("{class}.img"));
        fs::copy(path, &target).map_err(fail("read", path))?;
        let file = File::options().write(true).open(&target).map_err(fail("write", &target))?;
        // Whole blocks, which adaptive updates and the partitions are made of.
        let length = length(&target)?.next_multiple_of(BLOCK);
        file.set_len(length).map_err(fail("write", &target))?;
    }
    let manifest = folder.join("manifest.raucm");
    let text = manifest_text(made, contents.images.keys().map(String::as_str));
    fs::write(&manifest, text).map_err(fail("write", &manifest))
}

fn manifest_text<'a>(made: &Made, classes: impl Iterator<Item = &'a str>) -> String {
    let mut text = format!(
        "[update]\ncompatible={}\nversion={}\n\n[bundle]\nformat=verity\n",
        made.compatible, made.version
    );
    for class in classes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n[image.{class}]\nfilename={class}.img\n");
        // Large, and much of them stays from release to release.
        if ["root", "kernel"].contains(&class) {
            text.push_str("adaptive=block-hash-index\n");
        }
    }
    text
}

/// The parts of a slot, and the room for each: partitions that there are for a and b.
fn rooms(layout: &Layout) -> BTreeMap<String, u64> {
    let size = |name: String| layout.partitions.iter().find(|entry| entry.name == name).map(|e| e.size.bytes);
    let classes = layout.partitions.iter().filter_map(|entry| entry.name.strip_suffix("-a"));
    let pairs = classes.filter_map(|class| {
        Some((class.to_owned(), size(format!("{class}-a"))?.min(size(format!("{class}-b"))?)))
    });
    pairs.collect()
}

fn kernel(images: &BTreeMap<String, PathBuf>) -> Result<Kernel, BundleError> {
    if let Some(path) = images.get("kernel") {
        let length = length(path)?;
        return Kernel::of_unified(Part::new(&mut open(path)?, 0, length), length)
            .map_err(fail("read", path));
    }
    if let Some(path) = images.get("boot") {
        let length = length(path)?;
        return Kernel::of_boot_partition(Part::new(&mut open(path)?, 0, length)).map_err(fail("read", path));
    }
    Ok(Kernel::default())
}

fn open(path: &Path) -> Result<File, BundleError> {
    File::open(path).map_err(fail("read", path))
}

fn length(path: &Path) -> Result<u64, BundleError> {
    Ok(fs::metadata(path).map_err(fail("read", path))?.len())
}

fn fail(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError + use<> {
    let path = path.display().to_string();
    move |source| BundleError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_as_rauc_reads_it() {
        let made = Made { compatible: "stile-x86-64".to_owned(), version: "7".to_owned() };
        assert_eq!(
            manifest_text(&made, ["kernel", "root", "verity"].into_iter()),
            "[update]\ncompatible=stile-x86-64\nversion=7\n\n[bundle]\nformat=verity\n\n\
             [image.kernel]\nfilename=kernel.img\nadaptive=block-hash-index\n\n\
             [image.root]\nfilename=root.img\nadaptive=block-hash-index\n\n\
             [image.verity]\nfilename=verity.img\n"
        );
    }
}
