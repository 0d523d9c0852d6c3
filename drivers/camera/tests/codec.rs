//! The pixel codecs against formulas, against each other and against arbitrary bytes.

use camera::{Error, ErrorKind, Format, Frame, Rgb, codec};

/// A small deterministic generator (SplitMix64), so that a failure repeats.
struct Seed(u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn frame(format: Format, width: u32, height: u32, data: Vec<u8>) -> Frame {
    Frame { captured_ms: 0, sequence: 0, width, height, format, data }
}

fn gradient(width: u32, height: u32) -> Rgb {
    let mut picture = Rgb::new(width, height);
    for (index, pixel) in picture.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (index as u32 % width, index as u32 / width);
        pixel[0] = (x * 255 / width) as u8;
        pixel[1] = (y * 255 / height) as u8;
        pixel[2] = ((x + y) * 255 / (width + height)) as u8;
    }
    picture
}

fn largest_error(a: &Rgb, b: &Rgb) -> u8 {
    a.data.iter().zip(&b.data).map(|(a, b)| a.abs_diff(*b)).max().expect("a picture with pixels")
}

#[test]
fn yuyv_levels_are_those_of_bt_601() {
    // colour, then Y U V of the standard's 8-bit limited range
    let table: [([u8; 3], [u8; 3]); 6] = [
        ([0, 0, 0], [16, 128, 128]),
        ([255, 255, 255], [235, 128, 128]),
        ([255, 0, 0], [82, 90, 240]),
        ([0, 255, 0], [144, 54, 34]),
        ([0, 0, 255], [41, 240, 110]),
        ([128, 128, 128], [126, 128, 128]),
    ];
    for (rgb, yuv) in table {
        let picture = Rgb { width: 2, height: 1, data: [rgb, rgb].concat() };
        let bytes = codec::encode_yuyv(&picture);
        assert_eq!(bytes, [yuv[0], yuv[1], yuv[0], yuv[2]], "{rgb:?}");
        let back = codec::decode(&frame(Format::Yuyv, 2, 1, bytes)).unwrap();
        assert!(largest_error(&picture, &back) <= 3, "{rgb:?} came back as {:?}", back.data);
    }
}

#[test]
fn yuyv_keeps_every_grey() {
    for level in 0..=255u8 {
        let picture = Rgb { width: 2, height: 1, data: vec![level; 6] };
        let back = codec::decode(&frame(Format::Yuyv, 2, 1, codec::encode_yuyv(&picture))).unwrap();
        assert!(largest_error(&picture, &back) <= 1, "{level}");
    }
}

#[test]
fn smooth_pictures_survive_every_colour_format_and_odd_sizes() {
    for (width, height) in [(320, 192), (33, 17), (1, 1), (2, 5), (7, 3)] {
        let picture = gradient(width, height);
        let yuyv = codec::decode(&frame(Format::Yuyv, width, height, codec::encode_yuyv(&picture))).unwrap();
        // Two neighbours share their colour: at 1/7 of full scale a pixel the error is visible, at 320 it is
        // not.
        let limit = if width >= 320 { 4 } else { 80 };
        assert!(largest_error(&picture, &yuyv) <= limit, "{width}x{height}");
        let jpeg = codec::encode_mjpeg(&picture, 95).unwrap();
        let back = codec::decode(&frame(Format::Mjpeg, width, height, jpeg)).unwrap();
        assert_eq!((back.width, back.height, back.data.len()), (width, height, picture.data.len()));
        if width >= 320 {
            assert!(largest_error(&picture, &back) <= 16);
        }
    }
}

#[test]
fn grey_keeps_grey() {
    let picture =
        Rgb { width: 2, height: 2, data: [9u8, 80, 170, 255].iter().flat_map(|v| [*v; 3]).collect() };
    let back = codec::decode(&frame(Format::Grey, 2, 2, codec::encode_grey(&picture))).unwrap();
    assert_eq!(back.data, picture.data);
}

#[test]
fn a_jpeg_without_huffman_tables_decodes_as_usb_cameras_send_it() {
    let picture = gradient(64, 48);
    let jpeg = codec::encode_mjpeg(&picture, 90).unwrap();
    let mut bare = jpeg[..2].to_vec();
    let mut at = 2;
    while jpeg[at + 1] != 0xDA {
        let len = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xC4 {
            bare.extend_from_slice(&jpeg[at..at + len]);
        }
        at += len;
    }
    bare.extend_from_slice(&jpeg[at..]);
    assert!(bare.len() < jpeg.len());
    let whole = codec::decode(&frame(Format::Mjpeg, 64, 48, jpeg)).unwrap();
    let back = codec::decode(&frame(Format::Mjpeg, 64, 48, bare)).unwrap();
    assert_eq!(whole.data, back.data);
}

#[test]
fn padding_after_the_jpeg_is_ignored() {
    let mut jpeg = codec::encode_mjpeg(&gradient(32, 32), 80).unwrap();
    jpeg.extend([0; 100]);
    codec::decode(&frame(Format::Mjpeg, 32, 32, jpeg)).unwrap();
}

#[test]
fn wrong_frames_name_the_sizes() {
    let jpeg = codec::encode_mjpeg(&gradient(32, 16), 80).unwrap();
    let cut = jpeg[..jpeg.len() / 2].to_vec();
    let cut_len = cut.len();
    let table = [
        (frame(Format::Yuyv, 4, 2, vec![0; 15]), "YUYV frame of 4x2 holds 15 bytes instead of 16".to_owned()),
        (frame(Format::Yuyv, 3, 2, vec![0; 12]), "YUYV frame of 3x2 holds 12 bytes instead of 16".to_owned()),
        (frame(Format::Grey, 4, 2, vec![0; 9]), "GREY frame of 4x2 holds 9 bytes instead of 8".to_owned()),
        (frame(Format::Mjpeg, 32, 16, cut), format!("MJPG frame of 32x16 is cut off after {cut_len} bytes")),
        (frame(Format::Mjpeg, 64, 16, jpeg), "MJPG frame of 64x16 holds a picture of 32x16".to_owned()),
        (frame(Format::Mjpeg, 8, 8, vec![]), "MJPG frame of 8x8 is cut off after 0 bytes".to_owned()),
        (
            frame(Format::Mjpeg, 8, 8, vec![1, 2, 0xFF, 0xD9]),
            "MJPG frame of 8x8 in 4 bytes does not decode".to_owned(),
        ),
        (
            frame(Format::Grey, 0, 8, vec![]),
            "0x8 pixels is no size of a frame: each side must be 1 to 8192".to_owned(),
        ),
        (
            frame(Format::Grey, 8, 8193, vec![]),
            "8x8193 pixels is no size of a frame: each side must be 1 to 8192".to_owned(),
        ),
    ];
    for (frame, message) in table {
        let error = codec::decode(&frame).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), ErrorKind::BadFrame);
    }
}

#[test]
fn a_picture_without_pixels_is_no_jpeg() {
    for (width, height) in [(0, 0), (0, 9), (70_000, 1)] {
        let error = codec::encode_mjpeg(&Rgb::new(width, height), 80).unwrap_err();
        assert!(matches!(error, Error::Encode { .. }), "{width}x{height}");
    }
}

#[test]
fn a_jpeg_cut_anywhere_is_an_error_or_a_picture_of_the_size() {
    let jpeg = codec::encode_mjpeg(&gradient(48, 32), 80).unwrap();
    for len in 0..jpeg.len() {
        let mut cut = jpeg[..len].to_vec();
        assert!(codec::decode(&frame(Format::Mjpeg, 48, 32, cut.clone())).is_err(), "{len}");
        // The same with an end marker put on, as some cameras do when their buffer overflows.
        cut.extend([0xFF, 0xD9]);
        if let Ok(picture) = codec::decode(&frame(Format::Mjpeg, 48, 32, cut)) {
            assert_eq!(picture.data.len(), 48 * 32 * 3);
        }
    }
}

#[test]
fn any_bytes_give_a_picture_or_an_error() {
    let jpeg = codec::encode_mjpeg(&gradient(48, 32), 80).unwrap();
    for round in 0..4000u64 {
        let mut seed = Seed(round);
        let format = [Format::Yuyv, Format::Mjpeg, Format::Grey][(round % 3) as usize];
        let data = match seed.below(3) {
            0 => {
                let len = seed.below(3000) as usize;
                seed.bytes(len)
            }
            1 => {
                let mut data = vec![0xFF, 0xD8];
                let len = seed.below(400) as usize;
                data.extend(seed.bytes(len));
                data.extend([0xFF, 0xD9]);
                data
            }
            _ => {
                let mut data = jpeg.clone();
                for _ in 0..=seed.below(8) {
                    let at = seed.below(data.len() as u64) as usize;
                    data[at] = seed.next() as u8;
                }
                data
            }
        };
        let (width, height) =
            if seed.below(2) == 0 { (48, 32) } else { (seed.below(70) as u32, seed.below(70) as u32) };
        if let Ok(picture) = codec::decode(&frame(format, width, height, data)) {
            assert_eq!(picture.data.len(), (width * height * 3) as usize, "round {round}");
        }
    }
}
