//! The bulk framing against a fixed frame, damage and arbitrary bytes.

use palm_scanner::Illumination;
use palm_scanner::codec::{BadFrame, BulkFrame, Deframer, HEADER_LEN, TRANSFER_MAX, encode};

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
    fn below(&mut self, limit: u64) -> usize {
        (self.next() % limit) as usize
    }
}

fn frame(sequence: u8, width: u16, height: u16) -> BulkFrame {
    let mut seed = Seed(u64::from(sequence));
    let data: Vec<u8> = (0..usize::from(width) * usize::from(height)).map(|_| seed.next() as u8).collect();
    let illumination = Illumination::Nm850;
    BulkFrame { sequence, device_ms: 70_000, width, height, illumination, data: data.into() }
}

fn take_all(deframer: &mut Deframer) -> Vec<Result<BulkFrame, BadFrame>> {
    std::iter::from_fn(|| deframer.next_frame()).collect()
}

#[test]
fn a_frame_is_these_bytes() {
    let mut frame = frame(7, 2, 2);
    frame.data = vec![1, 2, 3, 4].into();
    let bytes = encode(&frame);
    assert_eq!(bytes[..12], [b'P', b'V', 7, 0x10, 0x70, 0x11, 0x01, 0x00, 2, 0, 2, 0]);
    // zlib.crc32 of those twelve bytes and of 1, 2, 3, 4
    assert_eq!(bytes[12..16], 0x652E_CC8Du32.to_le_bytes());
    assert_eq!(bytes[16..], [1, 2, 3, 4]);
}

#[test]
fn frames_come_out_whatever_the_transfers_are() {
    let frames: Vec<BulkFrame> = (0..6).map(|n| frame(n, 64, 48)).collect();
    let stream: Vec<u8> = frames.iter().flat_map(|frame| encode(frame).to_vec()).collect();
    for size in [1, 7, 16, 512, 3088, TRANSFER_MAX] {
        let mut deframer = Deframer::new();
        let mut got = Vec::new();
        for transfer in stream.chunks(size) {
            deframer.push(transfer);
            got.extend(take_all(&mut deframer));
        }
        assert_eq!(got.len(), frames.len(), "transfers of {size}");
        for (got, sent) in got.iter().zip(&frames) {
            let got = got.as_ref().ok().unwrap();
            assert_eq!((got.sequence, got.device_ms, got.width), (sent.sequence, sent.device_ms, sent.width));
            assert_eq!(got.data, sent.data);
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let good = encode(&frame(3, 4, 4)).to_vec();
    let patched = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let mut stray = b"xyzP".to_vec();
    stray.extend(&good);
    let mut huge = patched(9, 0xFF);
    huge[11] = 0xFF;
    let table = [
        (stray, "4 bytes belong to no frame"),
        (patched(3, 0x11), "frame 3 is of unknown format 0x11"),
        (patched(8, 0), "frame 3 claims 0x4 pixels, allowed are 1 to 1310720 in all"),
        (huge, "frame 3 claims 65284x65284 pixels, allowed are 1 to 1310720 in all"),
    ];
    for (bytes, message) in table {
        let mut deframer = Deframer::new();
        deframer.push(&bytes);
        let first = take_all(&mut deframer).into_iter().next().unwrap();
        assert_eq!(first.err().unwrap().to_string(), message);
    }
    let mut deframer = Deframer::new();
    deframer.push(&patched(20, good[20] ^ 1));
    let error = deframer.next_frame().unwrap().err().unwrap();
    assert!(matches!(error, BadFrame::Checksum { sequence: 3, width: 4, height: 4, .. }), "{error}");
}

#[test]
fn a_lost_or_damaged_byte_costs_only_its_frame() {
    let frames: Vec<Vec<u8>> = (0..3).map(|n| encode(&frame(n, 40, 30)).to_vec()).collect();
    for at in (0..frames[1].len()).filter(|at| at % 37 == 0 || *at < HEADER_LEN) {
        for lose in [true, false] {
            let mut second = frames[1].clone();
            if lose {
                second.remove(at);
            } else {
                second[at] ^= 0x40;
            }
            let mut deframer = Deframer::new();
            // A damaged length may wait for more than one frame of bytes, as the next frames of a stream
            // bring.
            deframer.push(&[&frames[0], &second, &frames[2]].map(Vec::as_slice).concat());
            let mut got: Vec<u8> = Vec::new();
            for _ in 0..60 {
                got.extend(take_all(&mut deframer).into_iter().flatten().map(|frame| frame.sequence));
                if got.ends_with(&[2]) {
                    break;
                }
                deframer.push(&frames[0][..HEADER_LEN]);
                deframer.push(&[0; 32_000]);
            }
            assert_eq!(got, [0, 2], "byte {at}, lost: {lose}");
        }
    }
}

#[test]
fn any_bytes_give_frames_or_errors() {
    for round in 0..600 {
        let mut seed = Seed(round);
        let mut deframer = Deframer::new();
        for _ in 0..seed.below(20) {
            let transfer: Vec<u8> = match seed.below(3) {
                0 => (0..seed.below(600)).map(|_| seed.next() as u8).collect(),
                1 => (0..seed.below(600)).map(|_| b"PV\x00\x10\x01"[seed.below(5)]).collect(),
                _ => {
                    let mut bytes = encode(&frame(1, 20, 20)).to_vec();
                    bytes.truncate(seed.below(420));
                    bytes
                }
            };
            deframer.push(&transfer);
            for frame in take_all(&mut deframer).into_iter().flatten() {
                assert_eq!(frame.data.len(), usize::from(frame.width) * usize::from(frame.height));
            }
        }
    }
}
