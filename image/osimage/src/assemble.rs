//! Turns a plan and the contents of its partitions into the bytes of an image.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::CHUNK;
use crate::plan::Plan;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A content could not be read.
    #[error("read content of partition {partition:?}")]
    Content {
        /// The partition.
        partition: String,
        /// Why.
        source: io::Error,
    },
    /// A content has another length than it had when the image was planned.
    #[error("content of partition {partition:?} has {found} bytes, {planned} were planned")]
    Length {
        /// The partition.
        partition: String,
        /// Bytes that came, at most one more than planned.
        found: u64,
        /// Bytes that were planned.
        planned: u64,
    },
    /// The image could not be written.
    #[error("write {part} of the image at byte {at}")]
    Write {
        /// Which part.
        part: String,
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
}

/// Writes the image of `plan`, with the content of each partition by its name, to `image`, which must be
/// empty or all zeros: stretches of zeros are not written. A file has to be stretched to the plan's size
/// afterwards.
///
/// # Errors
///
/// [`AssembleError`] naming the part that failed.
///
/// # Panics
///
/// When a planned content is missing.
pub fn apply<C: Read>(
    plan: &Plan,
    contents: &mut BTreeMap<String, C>,
    image: &mut (impl Write + Seek),
) -> Result<(), AssembleError> {
    for (partition, planned) in plan.table.partitions.iter().zip(&plan.content) {
        let Some(planned) = *planned else { continue };
        let name = &partition.name;
        let content = contents.get_mut(name).expect("a planned content is given");
        copy(content, planned, name, image, partition.start())?;
    }
    let table = plan.table.encode();
    write_at(image, table.tail_at, &table.tail, "backup partition table")?;
    write_at(image, 0, &table.head, "partition table")
}

fn copy(
    content: &mut impl Read,
    planned: u64,
    name: &str,
    image: &mut (impl Write + Seek),
    start: u64,
) -> Result<(), AssembleError> {
    let partition = || name.to_owned();
    let mut buffer = vec![0; CHUNK];
    let mut found = 0;
    loop {
        // One byte more than planned shows a content that has grown.
        let want = (planned + 1 - found).min(CHUNK as u64) as usize;
        let read = match content.read(&mut buffer[..want]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(AssembleError::Content { partition: partition(), source }),
        };
        if found + read as u64 > planned || (read == 0 && found < planned) {
            return Err(AssembleError::Length {
                partition: partition(),
                found: found + read as u64,
                planned,
            });
        }
        if read == 0 {
            return Ok(());
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            write_at(image, start + found, &buffer[..read], name)?;
        }
        found += read as u64;
    }
}

fn write_at(image: &mut (impl Write + Seek), at: u64, bytes: &[u8], part: &str) -> Result<(), AssembleError> {
    let done = image.seek(SeekFrom::Start(at)).and_then(|_| image.write_all(bytes));
    done.map_err(|source| AssembleError::Write { part: part.to_owned(), at, source })
}
