use super::super::fuzz::{LAYOUTS, newland_fixed};
use super::*;

/// The common layout.
fn common() -> Layout {
    Layout::parse(DESCRIPTOR).unwrap()
}

fn layout(name: &str) -> Layout {
    let (_, descriptor) = LAYOUTS.into_iter().find(|(other, _)| *other == name).unwrap();
    Layout::parse(descriptor).unwrap()
}

/// A report without AIM fields and with data before the count, behind another report and a vendor page.
const OTHER: &[u8] = &[
    0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, 0x85, 0x05, 0x75, 0x08, 0x95, 0x10, 0x09, 0x02, 0x81, 0x02,
    0xc0, 0x05, 0x8c, 0x09, 0x02, 0xa1, 0x01, 0x85, 0x02, 0x75, 0x08, 0x95, 0x38, 0x09, 0xfe, 0x81, 0x02,
    0x95, 0x04, 0x81, 0x03, 0x95, 0x01, 0x0b, 0x3b, 0x00, 0x01, 0x00, 0x81, 0x02, 0x75, 0x01, 0x95, 0x07,
    0x81, 0x03, 0x95, 0x01, 0x09, 0xff, 0x81, 0x02, 0xc0,
];

fn push_all(decoder: &mut Decoder, reports: &[Vec<u8>], at: Instant) -> Vec<Decoded> {
    reports.iter().filter_map(|report| decoder.push(report, at).unwrap()).collect()
}

#[test]
fn common_layout_is_what_scanners_send() {
    let layout = common();
    assert_eq!(layout.report_length(), 62);
    let reports = layout.encode(&[b'7'; 455], *b"]Q1");
    assert_eq!(reports.len(), 9);
    assert_eq!(reports[0][..6], [2, 56, b']', b'Q', b'1', b'7']);
    assert_eq!(reports[0][61] & 1, 1);
    assert_eq!(usize::from(reports[8][1]), 455 - 8 * 56);
    assert_eq!(reports[8][61] & 1, 0);
}

/// The example of the Access-IS LSR118 manual, appendix B.1.1: 60 bytes in two reports.
#[test]
fn printed_example_is_read() {
    let text = b"M1GATHERGOOD/MICHAEL YABCDEF LHRDURAK 3542 052Y003D23  ]]]]]]";
    let (first, second) = text[..60].split_at(56);
    let report = |piece: &[u8], more: u8| {
        let mut report = vec![2, piece.len() as u8, b']', b'Q', b'0'];
        report.extend(piece);
        report.resize(61, 0);
        report.extend([b's', 0, more]);
        report
    };
    let mut decoder = Decoder::new(layout("access-is"));
    assert_eq!(decoder.layout().report_length(), 64);
    let codes = push_all(&mut decoder, &[report(first, 1), report(second, 0)], Instant::now());
    assert_eq!(codes, [Decoded { text: text[..60].to_vec(), aim: *b"]Q0" }]);
}

/// Byte places of the Newland FM420 guide, "Getting Scanned Data", by the descriptor and by given places.
#[test]
fn printed_places_are_read() {
    let mut report = vec![2, 5];
    report.extend(b"12345");
    report.resize(64, 0);
    report[62] = 0x73;
    for layout in [layout("newland"), Layout::fixed(&newland_fixed(), &[]).unwrap()] {
        let mut decoder = Decoder::new(layout);
        assert_eq!(decoder.layout().report_length(), 64);
        report[63] = 1;
        assert_eq!(decoder.push(&report, Instant::now()), Ok(None));
        report[63] = 0;
        let code = decoder.push(&report, Instant::now()).unwrap().unwrap();
        assert_eq!(code, Decoded { text: b"1234512345".to_vec(), aim: [0; 3] });
    }
}

#[test]
fn several_reports_may_carry_text() {
    let mut decoder = Decoder::new(layout("two-reports"));
    let now = Instant::now();
    let mut long = vec![3, 3, b'a', b'b', b'c'];
    long.resize(63, 0);
    let mut short = vec![2, 2, b'd', b'e'];
    short.resize(17, 0);
    assert_eq!(decoder.push(&[1, 9], now), Ok(None), "a status report is none of a code");
    assert_eq!(decoder.push(&long, now).unwrap().unwrap().text, b"abc");
    assert_eq!(decoder.push(&short, now).unwrap().unwrap().text, b"de");
    long[62] = 1;
    assert_eq!(decoder.push(&long, now), Ok(None));
    assert_eq!(decoder.push(&short, now).unwrap().unwrap().text, b"abcde", "one code over two reports");
}

#[test]
fn signals_are_written_as_the_descriptor_says() {
    let output = |bytes: &[u8]| Output { feature: false, bytes: bytes.to_vec() };
    let layout_of = |name| layout(name);
    assert_eq!(common().signal(Signal::Good), Some(&output(&[4, 0x08])));
    assert_eq!(common().signal(Signal::Bad), Some(&output(&[4, 0x04])));
    assert_eq!(common().trigger(), Some(&output(&[4, 0x02])));
    assert_eq!(layout_of("two-reports").signal(Signal::Good), Some(&output(&[5, 0x05])), "lamp and beep");
    assert_eq!(layout_of("two-reports").signal(Signal::Bad), Some(&output(&[5, 0x02])));
    assert_eq!(layout_of("newland").signal(Signal::Good), None);
    let feature = [0x05, 0x8c, 0x75, 8, 0x95, 1, 0x09, 0xfe, 0x81, 2, 0x75, 1, 0x09, 0x86, 0xb1, 2];
    let layout = Layout::parse(&feature).unwrap();
    assert_eq!(layout.signal(Signal::Good), Some(&Output { feature: true, bytes: vec![0, 1] }));
    // Beside the beep lies the volume: writing one would write the other.
    let settings =
        [0x05, 0x8c, 0x75, 8, 0x95, 1, 0x09, 0xfe, 0x81, 2, 0x09, 0x86, 0x09, 0x80, 0x95, 2, 0xb1, 2];
    assert_eq!(Layout::parse(&settings).unwrap().signal(Signal::Good), None);
}

#[test]
fn given_layouts_are_checked() {
    let fixed = newland_fixed();
    let mut table = vec![Fixed { data_bytes: 0, ..fixed.clone() }, Fixed { data_at: 0, ..fixed.clone() }];
    table.push(Fixed { count_at: Some(0), ..fixed.clone() });
    table.push(Fixed { data_at: 60_000, ..fixed.clone() });
    table.push(Fixed { data_bytes: u16::MAX, ..fixed.clone() });
    for bad in table {
        assert_eq!(Layout::fixed(&bad, DESCRIPTOR), Err(BadDescriptor::BadFixed), "{bad:?}");
    }
    let unnumbered =
        Fixed { report_id: 0, data_at: 0, data_bytes: 4, count_at: None, aim_at: None, continued_at: None };
    let layout = Layout::fixed(&unnumbered, DESCRIPTOR).unwrap();
    assert_eq!(layout.signal(Signal::Good), common().signal(Signal::Good), "the descriptor still beeps");
    let code = Decoder::new(layout).push(b"12\0\0", Instant::now()).unwrap().unwrap();
    assert_eq!(code.text, b"12");
}

#[test]
fn every_layout_and_length_comes_back() {
    let now = Instant::now();
    let others: Vec<&[u8]> = LAYOUTS.into_iter().map(|(_, bytes)| bytes).chain([OTHER]).collect();
    for descriptor in others {
        let layout = Layout::parse(descriptor).unwrap();
        let first = layout.texts[0].clone();
        let mut decoder = Decoder::new(layout.clone());
        for length in [1, 13, 32, 55, 56, 57, 112, 238, 455, TEXT_MAX] {
            if first.continued.is_none() && length > 32 {
                continue;
            }
            let text: Vec<u8> = (0..length).map(|index| b'0' + (index % 10) as u8).collect();
            let codes = push_all(&mut decoder, &layout.encode(&text, *b"]Q1"), now);
            assert_eq!(codes.len(), 1, "{length}");
            assert_eq!(codes[0].text, text);
            assert_eq!(codes[0].aim, if first.aim[0].is_some() { *b"]Q1" } else { [0; 3] });
        }
    }
}

#[test]
fn binary_text_survives() {
    let layout = common();
    let text: Vec<u8> = (0..=255).collect();
    let codes = push_all(&mut Decoder::new(layout.clone()), &layout.encode(&text, *b"]Q1"), Instant::now());
    assert_eq!(codes[0].text, text);
}

#[test]
fn bad_reports_lose_only_their_code() {
    let layout = common();
    let now = Instant::now();
    let code = layout.encode(&[b'1'; 200], *b"]Q1");
    let next = layout.encode(&[b'2'; 100], *b"]Q1");
    for broken in 0..code.len() {
        for how in ["short", "empty", "count"] {
            let mut decoder = Decoder::new(layout.clone());
            let mut errors = 0;
            for (index, report) in code.iter().enumerate() {
                let mut report = report.clone();
                if index == broken {
                    match how {
                        "short" => report.truncate(30),
                        "empty" => report.clear(),
                        _ => report[1] = 57,
                    }
                }
                match decoder.push(&report, now) {
                    Ok(code) => assert_eq!(code, None, "a fragment is no code"),
                    Err(_) => errors += 1,
                }
            }
            assert_eq!(errors, 1);
            let later = now + CONTINUATION_GAP_MAX * 2;
            let codes: Vec<_> =
                next.iter().filter_map(|report| decoder.push(report, later).unwrap()).collect();
            assert_eq!(codes.len(), 1, "{how} {broken}");
            assert_eq!(codes[0].text, vec![b'2'; 100]);
        }
    }
}

#[test]
fn a_pause_starts_a_new_code() {
    let layout = common();
    let now = Instant::now();
    let code = layout.encode(&[b'1'; 100], *b"]Q1");
    let mut decoder = Decoder::new(layout.clone());
    decoder.push(&code[0], now).unwrap();
    let codes = push_all(&mut decoder, &layout.encode(b"42", *b"]Q1"), now + CONTINUATION_GAP_MAX * 2);
    assert_eq!(codes[0].text, b"42");
    let mut decoder = Decoder::new(layout).with_gap(Duration::from_secs(5));
    decoder.push(&code[0], now).unwrap();
    assert_eq!(push_all(&mut decoder, &code[1..], now + Duration::from_secs(4))[0].text, [b'1'; 100]);
}

#[test]
fn endless_code_is_refused() {
    let layout = common();
    let mut decoder = Decoder::new(layout.clone());
    let report = layout.encode(&[b'1'; 100], *b"]Q1")[0].clone();
    let now = Instant::now();
    let refused = (0..1000).filter(|_| decoder.push(&report, now) == Err(BadReport::TooLong)).count();
    assert_eq!(refused, 1, "the rest of a refused code stays silent");
}

#[test]
fn no_decoded_data_is_no_scanner() {
    let keyboard = [0x05, 0x01, 0x09, 0x06, 0xa1, 0x01, 0xc0];
    let narrow = [0x05, 0x8c, 0x75, 7, 0x95, 8, 0x09, 0xfe, 0x81, 2];
    let output = [0x05, 0x8c, 0x75, 8, 0x95, 8, 0x09, 0xfe, 0x91, 2];
    let none = [0x05, 0x8c, 0x75, 8, 0x95, 0, 0x09, 0xfe, 0x81, 2];
    for descriptor in [&DESCRIPTOR[..39], &keyboard, &narrow, &output, &none] {
        assert_eq!(Layout::parse(descriptor), Err(BadDescriptor::NoDecodedData), "{descriptor:02x?}");
    }
}
