//! The worker's loop: a request from descriptor 0, a picture out of descriptor 1, an answer to descriptor 0.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use image::GrayImage;
use rustix::stdio::{stdin, stdout};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zxingcpp::{BarcodeCreator, BarcodeFormat, BarcodeWriter};

use crate::decode::{self, Decoder, read_picture};
use crate::sandbox::{Bounds, enter};
use crate::wire::{Answer, Effort, Greeting, Outcome, REQUEST_LEN, Request, Source};

/// What the worker reads to itself before it says that it can.
const WARM_UP: &str = "STILE CODE READER";

/// Serves until the program closes its end.
pub fn run(bounds: Bounds, picture_bytes_max: u32) -> ExitCode {
    // Nothing to say and nobody to say it to: what panics is answered as a failure.
    std::panic::set_hook(Box::new(|_| {}));
    let entered = enter(bounds);
    let mut decoder = Decoder::default();
    // Whatever of decoding the walls would not allow is found out here, and not by a shopper.
    if !warm_up() {
        return ExitCode::FAILURE;
    }
    let greeting = Greeting { layers: entered.layers.bits(), detail: entered.detail };
    if write_all(&greeting.encode()).is_err() {
        return ExitCode::FAILURE;
    }
    let mut bytes = Vec::new();
    let mut requests = io::stdin().lock();
    loop {
        let mut request = [0; REQUEST_LEN];
        match requests.read_exact(&mut request) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
        // A program that sends what makes no sense is not ours.
        let Ok(request) = Request::decode(&request) else { return ExitCode::FAILURE };
        if request.len > picture_bytes_max {
            return ExitCode::FAILURE;
        }
        bytes.resize(request.len as usize, 0);
        if fetch(&mut bytes).is_err() {
            return ExitCode::FAILURE;
        }
        let answer = answer(&mut decoder, &request, &mut bytes);
        if write_all(&answer.encode()).is_err() {
            return ExitCode::FAILURE;
        }
    }
}

fn answer(decoder: &mut Decoder, request: &Request, bytes: &mut Vec<u8>) -> Answer {
    let mut micros = 0;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let picture = grey(request, bytes).map_err(Outcome::NoPicture)?;
        let start = Instant::now();
        let found = decoder.read(&picture, request.effort).map_err(|_| Outcome::Failed)?;
        micros = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
        if request.source == Source::Grey {
            // The memory goes round.
            *bytes = picture.into_raw();
        }
        Ok(found)
    }));
    let (outcome, attempts) = match result {
        Ok(Ok(found)) => (Outcome::Read(found.codes), found.attempts),
        Ok(Err(outcome)) => (outcome, 0),
        Err(_) => (Outcome::Failed, 0),
    };
    Answer { id: request.id, micros, attempts, outcome }
}

/// The picture as grey values, or why it is none.
fn grey(request: &Request, bytes: &mut Vec<u8>) -> Result<GrayImage, String> {
    let (width, height) = (request.width, request.height);
    let pixels = u64::from(width) * u64::from(height);
    let wrong_len = |expected: u64| {
        let found = bytes.len();
        (found as u64 != expected)
            .then(|| format!("a frame of {width}x{height} holds {found} bytes instead of {expected}"))
    };
    match request.source {
        Source::File => match read_picture(bytes) {
            Ok(picture) => Ok(picture),
            Err(error) => Err(match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        },
        Source::Grey => match wrong_len(pixels) {
            Some(wrong) => Err(wrong),
            None => GrayImage::from_raw(width, height, std::mem::take(bytes)).ok_or_else(String::new),
        },
        Source::Yuyv => {
            // A line of odd width carries its last pixel twice.
            let line = width.div_ceil(2) as usize * 4;
            if let Some(wrong) = wrong_len(line as u64 * u64::from(height)) {
                return Err(wrong);
            }
            let luma = bytes
                .chunks_exact(line.max(1))
                .flat_map(|row| row.chunks_exact(2).map(|pair| pair[0]).take(width as usize));
            GrayImage::from_raw(width, height, luma.collect()).ok_or_else(String::new)
        }
        Source::Mjpeg => {
            let options = DecoderOptions::default()
                .set_max_width(width as usize)
                .set_max_height(height as usize)
                .jpeg_set_out_colorspace(ColorSpace::Luma);
            let mut jpeg = JpegDecoder::new_with_options(ZCursor::new(bytes.as_slice()), options);
            let luma = jpeg.decode().map_err(|error| error.to_string())?;
            GrayImage::from_raw(width, height, luma)
                .filter(|picture| picture.as_raw().len() as u64 == pixels)
                .ok_or_else(|| "the JPEG is of another size than the stream".to_owned())
        }
    }
}

fn warm_up() -> bool {
    let drawn = BarcodeCreator::new(BarcodeFormat::QRCode)
        .from_str(WARM_UP)
        .and_then(|code| code.to_image_with(&BarcodeWriter::new().scale(3).add_quiet_zones(true)));
    let Ok(drawn) = drawn else { return false };
    let (width, height) = (drawn.width() as u32, drawn.height() as u32);
    let Some(picture) = GrayImage::from_raw(width, height, drawn.data()) else { return false };
    // A decoder of its own: what it learns about time from a tiny picture would mislead.
    let mut decoder: Decoder = decode::Decoder::default();
    let read = [Effort::Still, Effort::Frame { budget_us: 1_000_000 }]
        .map(|effort| decoder.read(&picture, effort).map(|found| found.codes));
    // And through every attempt once, over a picture with nothing in it.
    let nothing = decoder.read(&GrayImage::new(400, 400), Effort::Still);
    read.iter().all(|codes| codes.as_ref().is_ok_and(|codes| codes.iter().any(|code| code.text == WARM_UP)))
        && nothing.is_ok_and(|found| found.codes.is_empty())
}

fn fetch(bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pread(stdout(), &mut bytes[done..], done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(stdin(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
