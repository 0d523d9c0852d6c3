//! Partition layouts: what a TOML file of `image/layouts` says.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::ALIGNMENT;
use crate::gpt::{Guid, NAME_MAX, PARTITIONS_MAX};

/// The partitions of a board's disk, in order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Name of the layout; the ids of its partitions are made from it.
    pub name: String,
    /// The partitions.
    #[serde(rename = "partition")]
    pub partitions: Vec<Entry>,
}

/// One partition of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, also in the partition table.
    pub name: String,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its length.
    pub size: Size,
    /// Whether an image must bring something to put there.
    #[serde(default)]
    pub content: Content,
    /// Its attributes.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// EFI system partition.
    Esp,
    /// FAT partition that a Raspberry Pi boots from.
    BasicData,
    /// Any Linux file system.
    Linux,
    /// Root file system for x86-64.
    #[serde(rename = "root-x86-64")]
    RootX86_64,
    /// Hashes of a root file system for x86-64.
    #[serde(rename = "root-x86-64-verity")]
    RootX86_64Verity,
    /// Root file system for 64-bit ARM.
    #[serde(rename = "root-arm64")]
    RootArm64,
    /// Hashes of a root file system for 64-bit ARM.
    #[serde(rename = "root-arm64-verity")]
    RootArm64Verity,
}

impl Kind {
    /// The id of the UEFI specification or of the UAPI discoverable partitions specification.
    #[must_use]
    pub const fn guid(self) -> Guid {
        Guid(match self {
            Self::Esp => 0xC12A_7328_F81F_11D2_BA4B_00A0_C93E_C93B,
            Self::BasicData => 0xEBD0_A0A2_B9E5_4433_87C0_68B6_B726_99C7,
            Self::Linux => 0x0FC6_3DAF_8483_4772_8E79_3D69_D847_7DE4,
            Self::RootX86_64 => 0x4F68_BCE3_E8CD_4DB1_96E7_FBCA_F984_B709,
            Self::RootX86_64Verity => 0x2C73_57ED_EBD2_46D9_AEC1_23D4_37EC_2BF5,
            Self::RootArm64 => 0xB921_B045_1DF0_41C3_AF44_4C6F_280D_3FAE,
            Self::RootArm64Verity => 0xDF33_00CE_D69F_4C92_978C_9BFB_0F38_D820,
        })
    }
}

/// Whether an image must bring something to put in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// It may stay empty.
    #[default]
    Optional,
    /// The box does not start without it.
    Required,
}

/// An attribute bit of a partition, as the UAPI discoverable partitions specification defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribute {
    /// Mounted read-only.
    ReadOnly,
    /// Not mounted by itself.
    NoAuto,
    /// Its file system grows to the partition's length when it is mounted.
    GrowFileSystem,
}

impl Attribute {
    /// The bit.
    #[must_use]
    pub const fn bit(self) -> u64 {
        match self {
            Self::GrowFileSystem => 1 << 59,
            Self::ReadOnly => 1 << 60,
            Self::NoAuto => 1 << 63,
        }
    }
}

/// A length, written as a whole number of `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size {
    /// In bytes, a multiple of one MiB.
    pub bytes: u64,
}

impl TryFrom<String> for Size {
    type Error = SizeError;

    fn try_from(text: String) -> Result<Self, SizeError> {
        let parse = || {
            let (number, unit) = text.split_once(' ')?;
            let unit = match unit {
                "MiB" => ALIGNMENT,
                "GiB" => 1 << 30,
                _ => return None,
            };
            let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
            (bytes > 0).then_some(Self { bytes })
        };
        parse().ok_or_else(|| SizeError { text: text.clone() })
    }
}

/// A length that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is no size: a whole number of MiB or GiB, such as \"64 MiB\"")]
pub struct SizeError {
    text: String,
}

/// Why a layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file cannot be read.
    #[error("read layout {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not the TOML of a layout.
    #[error("layout {path} is malformed")]
    Parse {
        /// The file.
        path: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Two partitions have the same name.
    #[error("layout {path} has two partitions named {name:?}")]
    Twice {
        /// The file.
        path: String,
        /// The name.
        name: String,
    },
    /// A name that does not fit into a partition table.
    #[error(
        "layout {path} names a partition {name:?}: 1 to {NAME_MAX} letters, digits and hyphens are allowed"
    )]
    Name {
        /// The file.
        path: String,
        /// The name.
        name: String,
    },
    /// None, or more partitions than a table holds.
    #[error("layout {path} has {count} partitions, 1 to {PARTITIONS_MAX} are allowed")]
    Count {
        /// The file.
        path: String,
        /// How many.
        count: usize,
    },
}

impl Layout {
    /// Reads the layout in the file at `path`.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] naming the file and what is wrong in it.
    pub fn load(path: &Path) -> Result<Self, LayoutError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| LayoutError::Read { path: name.clone(), source })?;
        Self::parse(&text, &name)
    }

    /// Reads a layout from `text`; `path` is where it came from, for messages.
    ///
    /// # Errors
    ///
    /// As [`Layout::load`].
    pub fn parse(text: &str, path: &str) -> Result<Self, LayoutError> {
        let layout: Self = toml::from_str(text)
            .map_err(|source| LayoutError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let count = layout.partitions.len();
        if count == 0 || count > PARTITIONS_MAX {
            return Err(LayoutError::Count { path: path.to_owned(), count });
        }
        let mut names = BTreeSet::new();
        for Entry { name, .. } in &layout.partitions {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            if !plain || name.is_empty() || name.len() > NAME_MAX {
                return Err(LayoutError::Name { path: path.to_owned(), name: name.clone() });
            }
            if !names.insert(name) {
                return Err(LayoutError::Twice { path: path.to_owned(), name: name.clone() });
            }
        }
        Ok(layout)
    }
}
