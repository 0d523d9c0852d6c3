//! Image files as they come: plain, or packed by zstd, xz or gzip. Read from front to back only.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::CHUNK;

/// Largest window of a zstd stream, as a power of two: what `zstd --ultra -22 --long` makes is still read.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Memory of an xz stream at most, in KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB_MAX: u32 = 256 << 10;

/// How an image is packed, as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// By zstd (RFC 8878).
    Zstd,
    /// By xz.
    Xz,
    /// By gzip (RFC 1952).
    Gzip,
}

impl Packing {
    /// What the first bytes of a file say.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Self::Zstd,
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x1F, 0x8B, 8, ..] => Self::Gzip,
            _ => Self::Plain,
        }
    }

    /// The end of the name of such a file.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Gzip => ".gz",
        }
    }
}

/// The name of the image in a packed file: `box.img` for `box.img.zst`. Block map and signature are named
/// after it.
#[must_use]
pub fn unpacked_name(path: &Path) -> PathBuf {
    let packed = ["zst", "xz", "gz"].iter().any(|ending| path.extension().is_some_and(|e| e == *ending));
    if packed { path.with_extension("") } else { path.to_owned() }
}

/// The bytes of an image, from front to back.
pub struct Source {
    bytes: Bytes,
    at: u64,
}

enum Bytes {
    Plain(Box<dyn ReadSeek>),
    Packed(Box<dyn Read + Send>),
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

impl Source {
    /// Opens an image file, packed or not.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or does not start as its packing must.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut start = Vec::new();
        file.by_ref().take(8).read_to_end(&mut start)?;
        file.seek(SeekFrom::Start(0))?;
        let packed: Box<dyn Read + Send> = match Packing::of(&start) {
            Packing::Plain => return Ok(Self::plain(file)),
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::new(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            Packing::Xz => {
                let file = BufReader::with_capacity(CHUNK, file);
                Box::new(XzReader::new_mem_limit(file, true, XZ_MEMORY_KIB_MAX))
            }
            Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file))),
        };
        Ok(Self { bytes: Bytes::Packed(packed), at: 0 })
    }

    /// An image that is not packed.
    pub fn plain(bytes: impl Read + Seek + Send + 'static) -> Self {
        Self { bytes: Bytes::Plain(Box::new(bytes)), at: 0 }
    }

    /// Fills `buffer` with the bytes from `at`, which must not lie before what was read already.
    ///
    /// # Errors
    ///
    /// As the file's, `UnexpectedEof` at the end of the image.
    pub fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let ahead =
            at.checked_sub(self.at).ok_or_else(|| io::Error::other("an image is read forwards only"))?;
        match &mut self.bytes {
            Bytes::Plain(file) => {
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(buffer)?;
            }
            Bytes::Packed(stream) => {
                if io::copy(&mut stream.by_ref().take(ahead), &mut io::sink())? < ahead {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                stream.read_exact(buffer)?;
            }
        }
        self.at = at + buffer.len() as u64;
        Ok(())
    }
}
