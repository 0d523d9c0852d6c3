//! The network.

use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::value::TensorRef;

use crate::card::{self, Card};
use crate::maps::{self, COLUMNS, MAPS, ROWS};
use crate::picture::{self, HEIGHT, WIDTH};
use crate::{Detect, Detection, Error, check_picture, library};

/// Names in the model file.
const INPUT: &str = "picture";
const OUTPUT: &str = "maps";

/// The people detector. One works for one thread at a time; load one for each worker.
pub struct Detector {
    session: Session,
    card: Card,
    /// The network's input, kept between pictures.
    planes: Vec<f32>,
}

impl Detector {
    /// Opens the model that `models` (the folder of `manifest.toml`) describes, with the ONNX Runtime at `library`, and
    /// tries it on a black picture. The first library opened in a process serves all its detectors.
    ///
    /// # Errors
    /// `Error::NoLibrary` or `Error::Library` for the runtime; `Error::Read`, `Error::Manifest` or
    /// `Error::Hash` for the
    /// files; `Error::Model` when the runtime refuses the model or it answers in another shape.
    pub fn load(models: &Path, library: &Path) -> Result<Self, Error> {
        let (card, bytes) = card::load(models)?;
        let environment = library::environment(library)?;
        let path: PathBuf = models.join(card.file());
        let fault = |source: ort::Error| Error::Model { path: path.clone(), source: source.into() };
        // One worker a core runs its own detector; threads inside one would only wait for each other.
        let session = Session::builder(&environment)
            .and_then(|builder| Ok(builder.with_intra_threads(1)?.with_inter_threads(1)?))
            .and_then(|builder| Ok(builder.with_intra_op_spinning(false)?.with_inter_op_spinning(false)?))
            .and_then(|mut builder| builder.commit_from_memory(&bytes))
            .map_err(fault)?;
        let mut detector = Self { session, card, planes: vec![0.0; 3 * WIDTH * HEIGHT] };
        match detector.maps() {
            Ok(maps) if maps.len() == MAPS * ROWS * COLUMNS => Ok(detector),
            Ok(maps) => {
                let source =
                    format!("it answers with {} values instead of {MAPS} x {ROWS} x {COLUMNS}", maps.len());
                Err(Error::Model { path, source: source.into() })
            }
            Err(source) => Err(Error::Model { path, source: source.into() }),
        }
    }

    /// The network's answer to what stands in `planes`.
    fn maps(&mut self) -> Result<Vec<f32>, ort::Error> {
        let shape = [1_usize, 3, HEIGHT, WIDTH];
        let input = TensorRef::from_array_view((shape, self.planes.as_slice()))?;
        let outputs = self.session.run(ort::inputs![INPUT => input])?;
        let output = outputs.get(OUTPUT).ok_or_else(|| ort::Error::new("it has no output named maps"))?;
        Ok(output.try_extract_tensor::<f32>()?.1.to_vec())
    }
}

impl Detect for Detector {
    /// Pictures of 320 x 192 pixels go in as they are; others are scaled evenly to fit.
    fn detect(&mut self, width: u32, height: u32, rgb: &[u8]) -> Result<Vec<Detection>, Error> {
        check_picture(width, height, rgb)?;
        let fit = picture::fit(width as usize, height as usize, rgb, &mut self.planes);
        let maps = self.maps().map_err(|source| Error::Inference(source.into()))?;
        let mut people = maps::read(&maps, self.card.head_least, self.card.hand_least);
        for person in &mut people {
            person.head = fit.back(person.head);
            person.foot = fit.back(person.foot);
            for hand in &mut person.hands {
                hand.at = fit.back(hand.at);
            }
        }
        Ok(people)
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").field("card", &self.card).finish_non_exhaustive()
    }
}
