//! The decoders that are compared: each reads a grey picture and says which texts it found.

use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use code_reader::decode::Decoder;
use code_reader::wire::Effort;
use image::GrayImage;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

/// What a decoder made of one picture.
pub enum Reading {
    /// What it read, perhaps nothing.
    Texts(Vec<String>),
    /// It panicked, or said that it failed.
    Failed,
}

/// A decoder.
pub enum Peer {
    /// In this process.
    Here(Box<dyn FnMut(&GrayImage) -> Vec<String>>),
    /// A Python process that holds ZBar or OpenCV.
    Python { child: Child, requests: ChildStdin, answers: BufReader<ChildStdout> },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    texts: Vec<String>,
    error: Option<String>,
    ms: f64,
}

impl Peer {
    /// Decodes, and tells the CPU milliseconds that it took: wall time would measure the neighbours.
    pub fn read(&mut self, picture: &GrayImage) -> Result<(Reading, f64)> {
        match self {
            Self::Here(read) => {
                let start = cpu_ms();
                let reading = match catch_unwind(AssertUnwindSafe(|| read(picture))) {
                    Ok(texts) => Reading::Texts(texts),
                    Err(_) => Reading::Failed,
                };
                Ok((reading, cpu_ms() - start))
            }
            Self::Python { requests, answers, .. } => {
                requests.write_all(&picture.width().to_le_bytes())?;
                requests.write_all(&picture.height().to_le_bytes())?;
                requests.write_all(picture.as_raw())?;
                requests.flush()?;
                let mut line = String::new();
                answers.read_line(&mut line)?;
                let answer: Answer = serde_json::from_str(&line).context("the Python peer ended")?;
                let reading = match answer.error {
                    None => Reading::Texts(answer.texts),
                    Some(_) => Reading::Failed,
                };
                Ok((reading, answer.ms))
            }
        }
    }

    /// Starts `kind` ("zbar", "opencv", "opencv-aruco") in the interpreter `python`.
    pub fn python(python: &Path, kind: &str) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py");
        let mut child = Command::new(python)
            .args([script, kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let (Some(requests), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the Python peer has no pipes");
        };
        let mut answers = BufReader::new(stdout);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        ensure!(line.trim() == "ready", "{kind} is not installed for {}", python.display());
        Ok(Self::Python { child, requests, answers })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Self::Python { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// zxing-cpp with everything it has switched on.
pub fn zxing_cpp() -> Peer {
    use zxingcpp::{BarcodeFormat, BarcodeReader, Binarizer, ImageFormat, ImageView, TextMode};
    let reader = BarcodeReader::new()
        .formats([BarcodeFormat::QRCode, BarcodeFormat::MicroQRCode, BarcodeFormat::RMQRCode])
        .try_harder(true)
        .try_rotate(true)
        .try_invert(true)
        .try_downscale(true)
        .text_mode(TextMode::Plain)
        .binarizer(Binarizer::LocalAverage);
    Peer::Here(Box::new(move |picture| {
        let (width, height) = picture.dimensions();
        let Ok(view) = ImageView::from_slice(picture.as_raw(), width, height, ImageFormat::Lum) else {
            return Vec::new();
        };
        let found = reader.from(view).unwrap_or_default();
        found.iter().filter(|code| code.is_valid()).map(|code| code.text()).collect()
    }))
}

/// rxing; `filtered` adds its own pyramid and closing.
pub fn rxing(filtered: bool) -> Peer {
    use rxing::{BarcodeFormat, DecodeHints};
    Peer::Here(Box::new(move |picture| {
        let mut hints =
            DecodeHints { TryHarder: Some(true), AlsoInverted: Some(true), ..DecodeHints::default() };
        let (width, height) = picture.dimensions();
        let pixels = picture.as_raw().clone();
        let kind = Some(BarcodeFormat::QR_CODE);
        let found = if filtered {
            rxing::helpers::detect_in_luma_filtered_with_hints(pixels, width, height, kind, &mut hints)
        } else {
            rxing::helpers::detect_in_luma_with_hints(pixels, width, height, kind, &mut hints)
        };
        found.map(|code| code.getText().to_owned()).into_iter().collect()
    }))
}

/// rqrr.
pub fn rqrr() -> Peer {
    Peer::Here(Box::new(|picture| {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let pixels = picture.as_raw();
        let mut prepared =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * width + x]);
        let found = prepared.detect_grids();
        found.iter().filter_map(|grid| grid.decode().ok()).map(|(_, text)| text).collect()
    }))
}

/// Ours, as for a still picture: every attempt, all codes.
pub fn still() -> Peer {
    Peer::Here(Box::new(|picture| {
        let found = Decoder::default().read(picture, Effort::Still);
        found.map_or_else(|_| Vec::new(), |found| found.codes.into_iter().map(|code| code.text).collect())
    }))
}

/// Ours, as for a stream: so many frames of the same picture, 25 ms each, until one is read.
pub fn frames(count: u32) -> Peer {
    Peer::Here(Box::new(move |picture| {
        let mut decoder = Decoder::default();
        for _ in 0..count {
            let found = decoder.read(picture, Effort::Frame { budget_us: 25_000 });
            match found {
                Ok(found) if found.codes.is_empty() => {}
                Ok(found) => return found.codes.into_iter().map(|code| code.text).collect(),
                Err(_) => return Vec::new(),
            }
        }
        Vec::new()
    }))
}
