//! The camera decode path on still pictures: files in, codes out, by way of a worker without rights.
//!
//! Neither the file nor the picture in it is looked at here; both come from strangers.

use std::fs;
use std::path::Path;

pub use code_reader::wire::Code;
use code_reader::wire::{Effort, Outcome, Source};
use code_reader::worker::{self, Picture, Program, Settings, Worker};

/// Why a picture was not decoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[source] std::io::Error),
    /// It is no picture of a known kind, or a broken or enormous one; the worker's words.
    #[error("{0}")]
    Picture(String),
    /// The decoder refused it: a bug, which must not take other pictures with it.
    #[error("the decoder failed on this picture")]
    Decoder,
    /// There is no answer.
    #[error("no answer from the decoder")]
    Worker(#[source] worker::Error),
}

/// Reads picture files with one worker after the other.
pub struct Stills(Worker);

impl Stills {
    /// Starts `program` as the worker with the first picture.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self(Worker::new(Settings::stills(program)))
    }

    /// Decodes every code in a picture file, and tells how many milliseconds the search took.
    ///
    /// # Errors
    /// When the file is no picture, or the decoder or its worker fails on it. The next picture is not affected.
    pub fn decode_file(&mut self, path: &Path) -> Result<(Vec<Code>, f64), Error> {
        let bytes = fs::read(path).map_err(Error::Read)?;
        let picture = Picture { bytes: &bytes, source: Source::File, width: 0, height: 0 };
        let answer = self.0.read(picture, Effort::Still).map_err(Error::Worker)?;
        match answer.outcome {
            Outcome::Read(codes) => Ok((codes, f64::from(answer.micros) / 1000.0)),
            Outcome::NoPicture(why) => Err(Error::Picture(why)),
            Outcome::Failed => Err(Error::Decoder),
        }
    }
}
