//! One entry a codec for fuzzers: any bytes, nothing returned, panics on a broken promise; and valid samples
//! to begin with.

use std::time::{Duration, Instant};

use super::descriptor::Fields;
use super::report::{self, Fixed, Layout};
use super::text::Framing;
use super::{Decoded, TEXT_MAX, keymap, serial};

/// Any bytes as a report descriptor; what is accepted must be able to carry a code.
///
/// # Panics
/// When a layout does not decode what it encodes.
pub fn descriptor(bytes: &[u8]) {
    let _ = Fields::parse(bytes);
    let Ok(layout) = Layout::parse(bytes) else { return };
    let text = b"0123456789";
    let reports = layout.encode(text, *b"]Q1");
    let mut decoder = report::Decoder::new(layout);
    let now = Instant::now();
    for report in reports {
        // Fields of a strange descriptor may overlap nothing but be too narrow for their values, so the text
        // may be refused or cut; it must not grow.
        if let Ok(Some(code)) = decoder.push(&report, now) {
            assert!(code.text.len() <= TEXT_MAX);
        }
    }
}

/// Two bytes (little endian) of descriptor length, the descriptor, then reports: a byte of length, a byte of
/// pause before it in 2 ms, the report.
///
/// # Panics
/// When a code is longer than any.
pub fn report(bytes: &[u8]) {
    let [low, high, rest @ ..] = bytes else { return };
    let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (descriptor, mut rest) = rest.split_at(length);
    let Ok(layout) = Layout::parse(descriptor) else { return };
    let mut decoder = report::Decoder::new(layout);
    let mut now = Instant::now();
    while let [length, pause, more @ ..] = rest {
        let (report, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        now += Duration::from_millis(2 * u64::from(*pause));
        check(decoder.push(report, now).ok().flatten().as_ref(), TEXT_MAX);
    }
}

/// A byte of settings (terminator in the low 3 bits, AIM, prefix, suffix, short codes), then pairs: a byte of
/// pause in 2 ms, a byte of the line.
///
/// # Panics
/// When a code is empty or longer than the settings allow.
pub fn serial(bytes: &[u8]) {
    use serial::Terminator::{Cr, CrLf, Etx, Gap, Lf, Line};
    let [settings, rest @ ..] = bytes else { return };
    let terminator = [Line, Cr, Lf, CrLf, Etx, Gap, Line, Cr][usize::from(settings & 7)];
    let framing = framing(*settings);
    let text_max = framing.text_max;
    let mut decoder = serial::Decoder::new(terminator, framing);
    let mut now = Instant::now();
    for pair in rest.chunks_exact(2) {
        now += Duration::from_millis(2 * u64::from(pair[0]));
        check(decoder.expire(now).ok().flatten().as_ref(), text_max);
        check(decoder.push(pair[1], now).ok().flatten().as_ref(), text_max);
    }
}

/// A byte of settings as for [`serial`] (terminator in the low 2 bits), then triples: a byte of pause in 2 ms,
/// the key's number, and a byte whose lowest bit is down and whose highest bit makes it dropped events.
///
/// # Panics
/// When a code is empty or longer than the settings allow.
pub fn keymap(bytes: &[u8]) {
    use keymap::{Event, Terminator};
    let [settings, rest @ ..] = bytes else { return };
    let terminator =
        [Terminator::Either, Terminator::Enter, Terminator::Tab, Terminator::Gap][usize::from(settings & 3)];
    let framing = framing(*settings);
    let text_max = framing.text_max;
    let mut decoder = keymap::Decoder::new(terminator, framing);
    let mut now = Instant::now();
    for triple in rest.chunks_exact(3) {
        now += Duration::from_millis(2 * u64::from(triple[0]));
        let down = triple[2] & 1 != 0;
        let event =
            if triple[2] & 0x80 != 0 { Event::Dropped } else { Event::Key(u16::from(triple[1]), down) };
        check(decoder.expire(now).ok().flatten().as_ref(), text_max);
        check(decoder.push(event, now).ok().flatten().as_ref(), text_max);
    }
}

fn framing(settings: u8) -> Framing {
    Framing {
        aim: settings & 0x08 != 0,
        prefix: if settings & 0x10 != 0 { b"\x02".to_vec() } else { Vec::new() },
        suffix: if settings & 0x20 != 0 { b"##".to_vec() } else { Vec::new() },
        text_max: if settings & 0x40 != 0 { 8 } else { TEXT_MAX },
        ..Framing::default()
    }
}

fn check(code: Option<&Decoded>, text_max: usize) {
    if let Some(code) = code {
        assert!((1..=text_max).contains(&code.text.len()), "{} bytes", code.text.len());
    }
}

/// A valid sample: the target that it is for, its name, its bytes.
pub type Sample = (&'static str, String, Vec<u8>);

/// Valid samples for every target of this file, by the target's function name.
#[must_use]
pub fn samples() -> Vec<Sample> {
    let texts: [&[u8]; 4] = [b"7", b"0123456789012", &[b'4'; 227], &[b'9'; 455]];
    let mut all: Vec<Sample> = Vec::new();
    for (layout, descriptor) in LAYOUTS {
        all.push(("descriptor", layout.into(), descriptor.to_vec()));
        for text in texts {
            let Ok(parsed) = Layout::parse(descriptor) else { continue };
            let mut bytes = (descriptor.len() as u16).to_le_bytes().to_vec();
            bytes.extend(descriptor);
            for report in parsed.encode(text, *b"]Q1") {
                bytes.extend([report.len() as u8, 1]);
                bytes.extend(report);
            }
            all.push(("report", format!("{layout}-{}", text.len()), bytes));
        }
    }
    for text in texts {
        for settings in [0_u8, 1, 2, 3, 4, 5, 0x39, 0x08] {
            use serial::Terminator::{Cr, CrLf, Etx, Gap, Lf, Line};
            let terminator = [Line, Cr, Lf, CrLf, Etx, Gap][usize::from(settings & 7).min(5)];
            let line = serial::encode(text, *b"]Q1", terminator, &framing(settings));
            let pairs = line.iter().flat_map(|byte| [0, *byte]);
            let bytes = std::iter::once(settings).chain(pairs).collect();
            all.push(("serial", format!("{settings:02x}-{}", text.len()), bytes));
        }
        for settings in [0_u8, 1, 3] {
            let triples = keymap::encode(text).into_iter().flat_map(|event| match event {
                keymap::Event::Key(key, down) => [1, key as u8, u8::from(down)],
                keymap::Event::Dropped => [1, 0, 0x80],
            });
            let bytes = std::iter::once(settings).chain(triples).collect();
            all.push(("keymap", format!("{settings:02x}-{}", text.len()), bytes));
        }
    }
    all
}

/// Descriptors whose reports are those that manuals print, by the manual's maker.
pub const LAYOUTS: [(&str, &[u8]); 5] = [
    ("common", report::DESCRIPTOR),
    // Honeywell and Access-IS LSR118 product manual, appendix B: report 2 of 64 bytes, count at 1, AIM at 2,
    // 56 bytes of text at 5, further symbology identifier at 61, reserved 62, continued in bit 0 of 63.
    (
        "access-is",
        &[
            0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x12, 0xa1, 0x02, 0x85, 0x02, 0x15, 0x00, 0x26, 0xff,
            0x00, 0x75, 0x08, 0x95, 0x01, 0x05, 0x01, 0x09, 0x3b, 0x81, 0x02, 0x05, 0x8c, 0x19, 0xfb, 0x29,
            0xfd, 0x95, 0x03, 0x81, 0x02, 0x95, 0x38, 0x09, 0xfe, 0x82, 0x02, 0x01, 0x06, 0x00, 0xff, 0x95,
            0x02, 0x09, 0x01, 0x09, 0x02, 0x81, 0x02, 0x05, 0x8c, 0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x09,
            0xff, 0x81, 0x02, 0xc0, 0xc0,
        ],
    ),
    // Newland FM420 and IDTech 2DScan FX100 integration guides, "HID-POS": report 2 of 64 bytes, count at 1,
    // 56 bytes of text at 2, reserved 58 to 61, vendor's symbology at 62, continued in bit 0 of 63; report 4
    // takes 63 bytes of commands.
    (
        "newland",
        &[
            0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x85, 0x02, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95,
            0x01, 0x0b, 0x3b, 0x00, 0x01, 0x00, 0x81, 0x02, 0x95, 0x38, 0x09, 0xfe, 0x82, 0x02, 0x01, 0x95,
            0x04, 0x81, 0x03, 0x06, 0x00, 0xff, 0x95, 0x01, 0x09, 0x01, 0x81, 0x02, 0x05, 0x8c, 0x25, 0x01,
            0x75, 0x01, 0x09, 0xff, 0x81, 0x02, 0x95, 0x07, 0x81, 0x03, 0x85, 0x04, 0x06, 0x00, 0xff, 0x26,
            0xff, 0x00, 0x75, 0x08, 0x95, 0x3f, 0x09, 0x02, 0x91, 0x02, 0xc0,
        ],
    ),
    // Two input reports with text, a short and a long one, behind a status report and pushed globals; a good
    // read lamp and beeps in an output report, as HUT 1.5 section 21 allows.
    (
        "two-reports",
        &[
            0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x85, 0x01, 0x75, 0x08, 0x95, 0x01, 0x09, 0x15, 0x81, 0x02,
            0xa4, 0x85, 0x02, 0x95, 0x01, 0x0b, 0x3b, 0x00, 0x01, 0x00, 0x81, 0x02, 0x95, 0x0e, 0x09, 0xfe,
            0x81, 0x02, 0x95, 0x01, 0x09, 0xff, 0x81, 0x02, 0xb4, 0xa4, 0x85, 0x03, 0x97, 0x01, 0x00, 0x00,
            0x00, 0x0b, 0x3b, 0x00, 0x01, 0x00, 0x81, 0x02, 0x95, 0x3c, 0x09, 0xfe, 0x81, 0x02, 0x95, 0x01,
            0x09, 0xff, 0x81, 0x02, 0xb4, 0x85, 0x05, 0x75, 0x01, 0x95, 0x03, 0x09, 0x7d, 0x09, 0x85, 0x09,
            0x86, 0x91, 0x02, 0x95, 0x05, 0x91, 0x03, 0xc0,
        ],
    ),
    // Neither report id, count, nor continuation: the least that is a scanner.
    ("bare", &[0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x75, 0x08, 0x95, 0x20, 0x09, 0xfe, 0x81, 0x02, 0xc0]),
];

/// What the settings would give for the Newland layout, if its descriptor were of no use.
#[must_use]
pub fn newland_fixed() -> Fixed {
    Fixed {
        report_id: 2,
        data_at: 2,
        data_bytes: 56,
        count_at: Some(1),
        aim_at: None,
        continued_at: Some(63),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splitmix64: random bytes from a seed without a dependency.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = *state;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    fn run(target: &str, bytes: &[u8]) {
        match target {
            "descriptor" => descriptor(bytes),
            "report" => report(bytes),
            "serial" => serial(bytes),
            "keymap" => keymap(bytes),
            other => panic!("no target {other}"),
        }
    }

    #[test]
    fn samples_are_valid() {
        for (layout, bytes) in LAYOUTS {
            assert!(Layout::parse(bytes).is_ok(), "{layout}");
        }
        for (target, name, bytes) in samples() {
            run(target, &bytes);
            assert!(!bytes.is_empty(), "{target} {name}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 7;
        let samples = samples();
        for round in 0..20_000 {
            let (target, _, sample) = &samples[round % samples.len()];
            let mut bytes = sample.clone();
            for _ in 0..random(&mut state) % 12 {
                let place = random(&mut state) as usize % bytes.len();
                match random(&mut state) % 4 {
                    0 => bytes[place] ^= 1 << (random(&mut state) % 8),
                    1 => bytes.insert(place, random(&mut state) as u8),
                    2 if bytes.len() > 1 => drop(bytes.remove(place)),
                    _ => bytes[place] = random(&mut state) as u8,
                }
            }
            if random(&mut state).is_multiple_of(4) {
                bytes.truncate(random(&mut state) as usize % bytes.len());
            }
            run(target, &bytes);
        }
    }

    #[test]
    fn pure_noise_is_survived() {
        let mut state = 11;
        for target in ["descriptor", "report", "serial", "keymap"] {
            for _ in 0..5_000 {
                let length = random(&mut state) as usize % 300;
                let bytes: Vec<u8> = (0..length).map(|_| random(&mut state) as u8).collect();
                run(target, &bytes);
            }
        }
    }
}
