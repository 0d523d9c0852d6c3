//! Finds people in a ceiling camera's picture: the head, the foot point and the hands of each, in pixels, by one small
//! network that ONNX Runtime executes.
//!
//! It is deliberately not a tracker and knows no camera pose: it sees one picture at a time, gives nobody an identity,
//! recognises no face, and keeps nothing of a picture once it has answered.

use std::path::PathBuf;

mod card;
mod detector;
mod library;
mod maps;
mod picture;
mod scripted;

pub use detector::Detector;
pub use library::library_path;
pub use scripted::Scripted;

/// A person in one picture. Positions are pixels of the picture that was passed in; (0, 0) is the outer corner of its
/// first pixel. They may lie outside the picture: a foot behind a shelf or below the edge is still estimated.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Middle of the head.
    pub head: [f32; 2],
    /// The point on the floor below the body, between the feet.
    pub foot: [f32; 2],
    /// How sure the network is that a head is there, 0 to 1.
    pub score: f32,
    /// Hands that are seen and belong to this person, at most two, surest first.
    pub hands: Vec<HandDetection>,
}

/// A hand in one picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandDetection {
    /// Middle of the hand, pixels.
    pub at: [f32; 2],
    /// How sure the network is that a hand is there, 0 to 1.
    pub score: f32,
}

/// Something that finds people: the network, or a script in tests.
pub trait Detect: Send {
    /// Finds the people in a picture of 8-bit red, green, blue triples, row by row without padding.
    ///
    /// # Errors
    /// `Error::Picture` when `rgb` does not hold width x height triples; `Error::Inference` when the runtime fails.
    fn detect(&mut self, width: u32, height: u32, rgb: &[u8]) -> Result<Vec<Detection>, Error>;
}

/// Why people could not be looked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ONNX Runtime library is not where it was looked for.
    #[error(
        "ONNX Runtime library not found (looked at {}); unpack libonnxruntime.so of the PyPI wheel onnxruntime \
         there, or name it in STILE_ONNXRUNTIME",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoLibrary(Vec<PathBuf>),
    /// The library is there and cannot be used.
    #[error("load ONNX Runtime from {}", .path.display())]
    Library {
        /// The library.
        path: PathBuf,
        /// What the runtime says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A model file or its manifest cannot be read.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest does not say what is needed.
    #[error("model manifest {}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Which key, and what is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model file is not the one that was trained and scored.
    #[error("model {} has SHA-256 {found}, its manifest says {expected}", .path.display())]
    Hash {
        /// The model.
        path: PathBuf,
        /// As the manifest says, hexadecimal.
        expected: String,
        /// As it is, hexadecimal.
        found: String,
    },
    /// The model file is whole, but the runtime refuses it.
    #[error("open model {}", .path.display())]
    Model {
        /// The model.
        path: PathBuf,
        /// What the runtime says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The picture's bytes do not fit its size.
    #[error("picture of {width} x {height} pixels has {bytes} bytes instead of three a pixel")]
    Picture {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Bytes passed in.
        bytes: usize,
    },
    /// The runtime failed on a picture.
    #[error("run the model")]
    Inference(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Checks that `rgb` holds width x height triples.
fn check_picture(width: u32, height: u32, rgb: &[u8]) -> Result<(), Error> {
    let expected = (width as usize).checked_mul(height as usize).and_then(|pixels| pixels.checked_mul(3));
    if width > 0 && height > 0 && expected == Some(rgb.len()) {
        Ok(())
    } else {
        Err(Error::Picture { width, height, bytes: rgb.len() })
    }
}
