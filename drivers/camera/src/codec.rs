//! Pixels to bytes and back: YUYV, MJPEG and GREY. Pure; any bytes give a picture or an error.

use std::borrow::Cow;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::{Error, Format, Frame, Rgb};

/// Longest side of a frame in pixels; bounds the memory that a lying header can ask for (192 MiB).
pub const SIDE_MAX: u32 = 8192;

/// JPEG quality, 1 to 100, that the simulator writes; webcams sit around 85.
pub const MJPEG_QUALITY: u8 = 85;

/// Bytes of a YUYV frame; a line of odd width carries its last pixel twice.
#[must_use]
pub const fn yuyv_len(width: u32, height: u32) -> usize {
    (width as usize).div_ceil(2) * 4 * height as usize
}

/// Writes `picture` as YUYV, BT.601 limited range; the two pixels of a pair share their mean colour.
///
/// # Panics
///
/// When `picture.data` is not `width * height * 3` bytes.
#[must_use]
pub fn encode_yuyv(picture: &Rgb) -> Vec<u8> {
    let mut out = vec![0; yuyv_len(picture.width, picture.height)];
    if out.is_empty() {
        return out;
    }
    let line_in = picture.width as usize * 3;
    let line_out = (picture.width as usize).div_ceil(2) * 4;
    for (rgb, yuyv) in rows(picture, line_in).zip(out.chunks_exact_mut(line_out)) {
        for (pair, quad) in rgb.chunks(6).zip(yuyv.chunks_exact_mut(4)) {
            let left = [i32::from(pair[0]), i32::from(pair[1]), i32::from(pair[2])];
            let right = if pair.len() == 6 {
                [i32::from(pair[3]), i32::from(pair[4]), i32::from(pair[5])]
            } else {
                left
            };
            let [r, g, b] = [left[0] + right[0], left[1] + right[1], left[2] + right[2]];
            quad[0] = luma(left);
            quad[1] = byte(((-38 * r - 74 * g + 112 * b + 256) >> 9) + 128);
            quad[2] = luma(right);
            quad[3] = byte(((112 * r - 94 * g - 18 * b + 256) >> 9) + 128);
        }
    }
    out
}

/// Writes `picture` as a baseline JPEG of `quality` 1 to 100.
///
/// # Errors
///
/// [`Error::Encode`] when a side is zero or above 65,535.
///
/// # Panics
///
/// When `picture.data` is not `width * height * 3` bytes.
pub fn encode_mjpeg(picture: &Rgb, quality: u8) -> Result<Vec<u8>, Error> {
    let _ = rows(picture, 1);
    let fail = |source| Error::Encode { width: picture.width, height: picture.height, source };
    let (Ok(width), Ok(height)) = (u16::try_from(picture.width), u16::try_from(picture.height)) else {
        let source = jpeg_encoder::EncodingError::Write("a side is longer than 65535".into());
        return Err(fail(source));
    };
    let mut out = Vec::new();
    jpeg_encoder::Encoder::new(&mut out, quality.clamp(1, 100))
        .encode(&picture.data, width, height, jpeg_encoder::ColorType::Rgb)
        .map_err(fail)?;
    Ok(out)
}

/// Writes the brightness of `picture` as GREY, full range.
///
/// # Panics
///
/// When `picture.data` is not `width * height * 3` bytes.
#[must_use]
pub fn encode_grey(picture: &Rgb) -> Vec<u8> {
    rows(picture, 3)
        .map(|p| byte((77 * i32::from(p[0]) + 150 * i32::from(p[1]) + 29 * i32::from(p[2]) + 128) >> 8))
        .collect()
}

/// Reads the pixels of `frame`.
///
/// # Errors
///
/// [`Error::Side`], [`Error::Length`], [`Error::Truncated`], [`Error::Picture`] or [`Error::Jpeg`], each naming
/// the sizes, when the bytes are not such a frame.
pub fn decode(frame: &Frame) -> Result<Rgb, Error> {
    let mut picture = Rgb { width: 0, height: 0, data: Vec::new() };
    decode_into(frame, &mut picture)?;
    Ok(picture)
}

/// As [`decode`], into a picture whose memory is used again. After an error its content is unspecified.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_into(frame: &Frame, picture: &mut Rgb) -> Result<(), Error> {
    let (width, height) = (frame.width, frame.height);
    if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX {
        return Err(Error::Side { width, height });
    }
    let expected = match frame.format {
        Format::Yuyv => Some(yuyv_len(width, height)),
        Format::Grey => Some(width as usize * height as usize),
        Format::Mjpeg => None,
    };
    let found = frame.data.len();
    if let Some(expected) = expected
        && expected != found
    {
        return Err(Error::Length { format: frame.format, width, height, expected, found });
    }
    picture.width = width;
    picture.height = height;
    picture.data.resize(width as usize * height as usize * 3, 0);
    match frame.format {
        Format::Yuyv => decode_yuyv(&frame.data, width as usize, &mut picture.data),
        Format::Grey => {
            for (rgb, grey) in picture.data.chunks_exact_mut(3).zip(&frame.data) {
                rgb.fill(*grey);
            }
        }
        Format::Mjpeg => decode_mjpeg(frame, &mut picture.data)?,
    }
    Ok(())
}

fn decode_yuyv(data: &[u8], width: usize, out: &mut [u8]) {
    let line = width.div_ceil(2) * 4;
    for (yuyv, rgb) in data.chunks_exact(line).zip(out.chunks_exact_mut(width * 3)) {
        for (quad, pair) in yuyv.chunks_exact(4).zip(rgb.chunks_mut(6)) {
            let u = i32::from(quad[1]) - 128;
            let v = i32::from(quad[3]) - 128;
            let (red, green, blue) = (409 * v + 128, -100 * u - 208 * v + 128, 516 * u + 128);
            for (pixel, y) in pair.chunks_exact_mut(3).zip([quad[0], quad[2]]) {
                let y = 298 * (i32::from(y) - 16);
                pixel[0] = byte((y + red) >> 8);
                pixel[1] = byte((y + green) >> 8);
                pixel[2] = byte((y + blue) >> 8);
            }
        }
    }
}

fn decode_mjpeg(frame: &Frame, out: &mut [u8]) -> Result<(), Error> {
    let (width, height, found) = (frame.width, frame.height, frame.data.len());
    // Drivers hand over whole buffers, so bytes may follow the end-of-image marker. Inside a scan 0xFF is
    // stuffed, so the last marker is the picture's own.
    let Some(end) = frame.data.windows(2).rposition(|pair| pair == [0xFF, 0xD9]) else {
        return Err(Error::Truncated { width, height, found });
    };
    let fail = |source| Error::Jpeg { width, height, found, source };
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(true)
        .set_max_width(SIDE_MAX as usize)
        .set_max_height(SIDE_MAX as usize);
    let jpeg = with_huffman_tables(&frame.data[..end + 2]);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*jpeg), options);
    decoder.decode_headers().map_err(fail)?;
    let (found_width, found_height) =
        decoder.info().map_or((0, 0), |info| (usize::from(info.width), usize::from(info.height)));
    if (found_width, found_height) != (width as usize, height as usize) {
        return Err(Error::Picture { width, height, found_width, found_height });
    }
    decoder.decode_into(out).map_err(fail)
}

/// Most USB cameras leave the Huffman tables out, as Motion JPEG in AVI files does: the standard ones of
/// ITU-T T.81 annex K are meant. The decoder adds them when it sees the AVI marker, so a JPEG without tables
/// gets that marker.
fn with_huffman_tables(jpeg: &[u8]) -> Cow<'_, [u8]> {
    const START_OF_IMAGE: usize = 2;
    const HUFFMAN: u8 = 0xC4;
    const SCAN: u8 = 0xDA;
    let mut at = START_OF_IMAGE;
    while let Some(&[0xFF, marker, high, low]) = jpeg.get(at..at + 4) {
        match marker {
            HUFFMAN => break,
            SCAN => {
                let avi = *b"\xFF\xE0\x00\x08AVI1\x00\x00";
                return Cow::Owned([&jpeg[..START_OF_IMAGE], &avi, &jpeg[START_OF_IMAGE..]].concat());
            }
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    Cow::Borrowed(jpeg)
}

/// Lines of `line` bytes of a picture whose length is checked here once.
fn rows(picture: &Rgb, line: usize) -> std::slice::ChunksExact<'_, u8> {
    let expected = picture.width as usize * picture.height as usize * 3;
    assert_eq!(picture.data.len(), expected, "an Rgb holds width * height * 3 bytes");
    picture.data.chunks_exact(line)
}

const fn luma([r, g, b]: [i32; 3]) -> u8 {
    byte(((66 * r + 129 * g + 25 * b + 128) >> 8) + 16)
}

#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "clamped to a byte first")]
const fn byte(value: i32) -> u8 {
    if value < 0 {
        0
    } else if value > 255 {
        255
    } else {
        value as u8
    }
}
