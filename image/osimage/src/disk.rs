//! A disk that an image was flashed to, read as that image: what flashing fits to the disk is undone, so that
//! the rest can be compared with the image's block map.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use crate::gpt::{Copy, GptError, Table};
use crate::layout::Attribute;
use crate::provision::{self, Accepted, Refusal};
use crate::{ALIGNMENT, SECTOR};

/// A disk as the image that it was made from.
pub struct AsImage<D> {
    disk: D,
    size: u64,
    at: u64,
    /// Parts that are not as the disk has them, by their start.
    parts: Vec<(u64, Vec<u8>)>,
}

impl<D: Read + Seek> AsImage<D> {
    /// Reads a disk as an image of `size` bytes.
    ///
    /// # Errors
    ///
    /// [`GptError`] when the disk has no partition table of such an image.
    pub fn new(mut disk: D, size: u64) -> Result<Self, GptError> {
        let mut table = Table::read(&mut disk, Copy::Primary)?;
        let fail = |source| GptError::Read { copy: Copy::Primary, at: 0, source };
        let mut parts = Vec::new();
        let partition = table.partitions.iter().find(|partition| partition.name == provision::PARTITION);
        if let Some(partition) = partition {
            let at = partition.start();
            let mut file = vec![0; partition.len().min(provision::LENGTH_MAX as u64) as usize];
            disk.seek(SeekFrom::Start(at)).and_then(|_| disk.read_exact(&mut file)).map_err(fail)?;
            // Whoever signed it: a file is no damage. What is none is shown as it is.
            if !matches!(Accepted::read_unchecked(&file), Err(Refusal::FirstLine(_) | Refusal::Text { .. })) {
                file.fill(0);
            }
            parts.push((at, file));
        }
        let end = size.saturating_sub(ALIGNMENT) / SECTOR;
        let grown = |bits: u64| bits & Attribute::GrowFileSystem.bit() != 0;
        if let Some(last) = table.partitions.iter_mut().max_by_key(|p| p.last)
            && grown(last.attributes)
            && last.first < end
        {
            last.last = end - 1;
        }
        table.sectors = size / SECTOR;
        if !table.can_be_encoded() || size < 3 * ALIGNMENT {
            return Err(GptError::Field { copy: Copy::Primary, field: "end of the image", value: size });
        }
        let encoded = table.encode();
        let mut head = vec![0; ALIGNMENT as usize];
        disk.seek(SeekFrom::Start(0)).and_then(|_| disk.read_exact(&mut head)).map_err(fail)?;
        head[446..encoded.head.len()].copy_from_slice(&encoded.head[446..]);
        let mut tail = vec![0; ALIGNMENT as usize];
        let start = (encoded.tail_at - (size - ALIGNMENT)) as usize;
        tail[start..start + encoded.tail.len()].copy_from_slice(&encoded.tail);
        parts.extend([(0, head), (size - ALIGNMENT, tail)]);
        Ok(Self { disk, size, at: 0, parts })
    }
}

impl<D: Read + Seek> Read for AsImage<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let starts = self.parts.iter().map(|(start, _)| *start).filter(|start| *start > self.at);
        let border = starts.min().unwrap_or(self.size).min(self.size);
        let inside =
            self.parts.iter().find(|(start, bytes)| (*start..*start + bytes.len() as u64).contains(&self.at));
        let read = match inside {
            Some((start, bytes)) => Cursor::new(&bytes[(self.at - start) as usize..]).read(buffer)?,
            None => {
                let left = usize::try_from(border.saturating_sub(self.at)).unwrap_or(usize::MAX);
                let length = buffer.len().min(left);
                self.disk.seek(SeekFrom::Start(self.at))?;
                self.disk.read(&mut buffer[..length])?
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl<D> Seek for AsImage<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
