//! Wires, lines and frames of the other devices.

use std::time::Duration;

use camera::{Format, Frame, Rgb};
use card_reader::codec::{BITS_MAX, decode, encode};
use card_reader::wiegand::{Data, Decoder, Pulse};
use load_cell::codec as modbus_codec;
use palm_scanner::Illumination;
use palm_scanner::codec::{BulkFrame, Deframer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Input, Seed};

/// Wiegand pulses: a byte of noise limit in 10 µs, then triples: pause in 10 µs (little endian), and a byte whose
/// lowest bit is the line and whose second ends the frame.
pub fn wiegand(input: &[u8]) {
    let mut input = Input(input);
    let noise = Duration::from_micros(10 * u64::from(input.byte()));
    let mut decoder = Decoder::new(noise, Duration::from_millis(40));
    let mut at = Duration::ZERO;
    let mut pulses = 0;
    while !input.is_empty() {
        at += Duration::from_micros(10 * u64::from(input.word()));
        let what = input.byte();
        let data = if what & 1 == 1 { Data::One } else { Data::Zero };
        decoder.push(Pulse { data, at });
        pulses += 1;
        if what & 2 != 0 {
            decoder.end();
        }
        while let Some(frame) = decoder.take() {
            let Ok(bits) = frame else { continue };
            assert!(bits.len() <= BITS_MAX && bits.len() <= pulses, "no bit without a pulse");
            let Ok(fields) = decode(&bits) else { continue };
            if let (Some(facility), Some(number)) = (fields.facility, fields.number) {
                assert_eq!(encode(fields.format, facility, number), Some(bits), "fields are the bits");
            }
        }
    }
}

/// A Modbus frame: two bytes of registers' count, then the bytes between two silences. First byte odd: with a CRC
/// that fits.
pub fn modbus(input: &[u8]) {
    let mut input = Input(input);
    let fit = input.byte() & 1 == 1;
    let count = usize::from(input.byte()) % 128;
    let registers: Vec<u16> = (0..count).map(|_| input.word()).collect();
    if let Ok(reading) = modbus_codec::decode(&registers) {
        let again = modbus_codec::encode(&reading);
        assert_eq!(modbus_codec::decode(&again).as_ref(), Ok(&reading), "a reading survives its registers");
    }
    let mut bytes = input.0.to_vec();
    if fit {
        let crc = modbus_codec::crc16(&bytes);
        bytes.extend(crc.to_le_bytes());
    }
    if let Some(frame) = modbus_codec::unframe(&bytes) {
        assert_eq!(modbus_codec::frame(&frame), bytes, "a frame is its bytes");
        let answer = modbus_codec::frame(&modbus_codec::answer(&frame, &registers));
        assert!(answer.len() <= 256 && modbus_codec::unframe(&answer).is_some(), "an answer is a frame");
    }
}

/// The load cells' master: two reads, each answered with a piece of the input. A piece: a byte of kind, a byte of
/// length, the bytes; kind odd: as the body of a frame with a CRC that fits.
pub fn load_cells(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut cells = load_cell::LoadCells::new(ours);
        let mut input = Input(input);
        for _ in 0..2 {
            let read = cells.read(1);
            let answer = async {
                let mut asked = [0; 64];
                while let Ok(1..) = theirs.read(&mut asked).await {
                    if input.is_empty() {
                        continue;
                    }
                    let (kind, length) = (input.byte(), usize::from(input.byte()));
                    let mut bytes = input.bytes(length).to_vec();
                    if kind & 1 == 1 {
                        let crc = modbus_codec::crc16(&bytes);
                        bytes.extend(crc.to_le_bytes());
                    }
                    // More than the pipe holds waits until it is read.
                    if theirs.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                reading = read => {
                    if let Ok(reading) = reading {
                        assert!(!reading.channels.is_empty() && reading.channels.len() <= 32, "{reading:?}");
                    }
                }
                () = answer => {}
            }
        }
    });
}

/// Bulk transfers of the palm scanner: a byte of length in 16, then the transfer.
pub fn palm(input: &[u8]) {
    let mut input = Input(input);
    let mut deframer = Deframer::new();
    let mut given = 0;
    let mut taken = 0;
    while !input.is_empty() {
        let length = 16 * usize::from(input.byte()) + 1;
        let transfer = input.bytes(length);
        given += transfer.len();
        deframer.push(transfer);
        while let Some(frame) = deframer.next_frame() {
            let Ok(frame) = frame else { continue };
            assert_eq!(frame.data.len(), usize::from(frame.width) * usize::from(frame.height));
            let bytes = palm_scanner::codec::encode(&frame);
            taken += bytes.len();
            assert!(taken <= given, "no frame without its bytes");
        }
    }
}

/// A camera's frame: a byte of format, width and height (little endian, 1 to 512), the bytes.
pub fn camera(input: &[u8]) {
    let mut input = Input(input);
    let format = [Format::Mjpeg, Format::Yuyv, Format::Grey][usize::from(input.byte()) % 3];
    let [width, height] = [(); 2].map(|()| u32::from(input.word()) % 513);
    let frame = Frame { captured_ms: 0, sequence: 0, width, height, format, data: input.0.to_vec() };
    let mut picture = Rgb::new(1, 1);
    if camera::codec::decode_into(&frame, &mut picture).is_ok() {
        assert_eq!((picture.width, picture.height), (width, height));
        assert_eq!(picture.data.len(), width as usize * height as usize * 3);
    }
}

pub fn seeds() -> Vec<Seed> {
    let mut all: Vec<Seed> = Vec::new();
    for (format, facility, number) in [
        (card_reader::codec::Format::H10301, 123, 4567),
        (card_reader::codec::Format::H10306, 4000, 99),
        (card_reader::codec::Format::H10304, 40_000, 500_000),
    ] {
        let bits = encode(format, facility, number).expect("fields that fit");
        let mut bytes = vec![10];
        for at in 0..bits.len() {
            let end = if at + 1 == bits.len() { 2 } else { 0 };
            bytes.extend([200, 0, u8::from(bits.get(at)) | end]);
        }
        all.push(("wiegand", format!("{format:?}"), bytes.clone()));
        // Twice, with a pause between.
        bytes[1..3].copy_from_slice(&5000_u16.to_le_bytes());
        all.push(("wiegand", format!("{format:?}-late"), [&bytes[..], &bytes[1..]].concat()));
    }
    let registers = [1_u16, 2, 0, 12_345, 1, 0xffff, 0xff00, 3];
    let words: Vec<u8> = registers.iter().flat_map(|word| word.to_le_bytes()).collect();
    for (name, body) in
        [("all", [1, 4, 0, 0, 0, 8]), ("one", [1, 3, 0, 1, 0, 1]), ("other", [1, 6, 0, 1, 0, 1])]
    {
        all.push(("modbus", name.to_owned(), [&[1, 8], &words[..], &body].concat()));
    }
    let big_endian: Vec<u8> = registers.iter().flat_map(|word| word.to_be_bytes()).collect();
    let header = [1, 7, 1, 4, 4, 0, 1, 0, 2];
    let map = [&[1, 19, 1, 4, 16][..], &big_endian].concat();
    all.push(("load_cells", "reading".to_owned(), [&header[..], &map, &map].concat()));
    all.push(("load_cells", "exception".to_owned(), vec![1, 3, 1, 0x84, 2, 1, 3, 1, 0x84, 6]));
    all.push(("load_cells", "noise".to_owned(), vec![0, 5, 1, 4, 2, 0xff, 0xff, 0, 2, 9, 9]));

    for (name, width, height, illumination) in
        [("lit", 8_u16, 6_u16, Illumination::Nm850), ("dark", 3, 3, Illumination::Unlit)]
    {
        let pixels: Vec<u8> = (0..width * height).map(|at| (at * 5) as u8).collect();
        let frame =
            BulkFrame { sequence: 1, device_ms: 1000, width, height, illumination, data: pixels.into() };
        let bytes = palm_scanner::codec::encode(&frame);
        all.push(("palm", name.to_owned(), [&[255], &bytes[..]].concat()));
        let (first, rest) = bytes.split_at(17);
        all.push(("palm", format!("{name}-cut"), [&[1], first, &[255], rest, b"PV\x01"].concat()));
    }

    let mut picture = Rgb::new(16, 12);
    picture.data.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 7) as u8);
    let size = [16, 0, 12, 0];
    for quality in [30, 85] {
        let jpeg = camera::codec::encode_mjpeg(&picture, quality).expect("a small picture");
        all.push(("camera", format!("mjpeg-{quality}"), [&[0], &size[..], &jpeg].concat()));
        // As USB cameras send it: without Huffman tables.
        all.push((
            "camera",
            format!("mjpeg-{quality}-bare"),
            [&[0], &size[..], &without_tables(&jpeg)].concat(),
        ));
    }
    all.push((
        "camera",
        "yuyv".to_owned(),
        [&[1], &size[..], &camera::codec::encode_yuyv(&picture)].concat(),
    ));
    all.push((
        "camera",
        "grey".to_owned(),
        [&[2], &size[..], &camera::codec::encode_grey(&picture)].concat(),
    ));
    all
}

/// A JPEG without its segments of Huffman tables.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = jpeg.get(at..at + 4) {
        let end = at + 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker != 0xc4 {
            out.extend(&jpeg[at..end.min(jpeg.len())]);
        }
        at = end;
        if marker == 0xda {
            break;
        }
    }
    out.extend(&jpeg[at.min(jpeg.len())..]);
    out
}
