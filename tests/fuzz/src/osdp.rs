//! OSDP through libosdp, from both ends, and a link with somebody on the wire. Time stands still but for the steps
//! and the C library's random numbers begin alike, so that an input does the same each time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use card_reader::codec::Bits;
use card_reader::osdp::{Key, Line, Panel, Settings, clock, seed_challenges};
use card_reader::{Error, Report, sim};
use tokio::sync::mpsc;

use crate::{Input, Seed};

/// Steps of an input at most; an exchange takes some three.
const STEPS_MAX: usize = 400;
/// Steps after the end of an input, in which what was shown is heard: some ten polls.
const IDLE_STEPS: u32 = 40;
/// Time of a step, milliseconds: libosdp polls a reader every 50.
const STEP_MS: i64 = 20;

/// One direction of a wire.
type Wire = Arc<Mutex<VecDeque<u8>>>;

/// One end of two wires.
struct End {
    from: Wire,
    to: Wire,
}

/// A descriptor to show; nobody waits on it.
static NULL: LazyLock<File> = LazyLock::new(|| File::open("/dev/null").expect("/dev/null"));

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let mut wire = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        if wire.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { wire.read(buf) }
    }
}

impl Write for End {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner).extend(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        NULL.as_fd()
    }
}

fn take(wire: &Wire) -> Vec<u8> {
    wire.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

fn put(wire: &Wire, bytes: &[u8]) {
    wire.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
}

fn key() -> Key {
    Key::new(*b"fuzzed key of 16").expect("a key")
}

fn settings(install: bool) -> Settings {
    Settings { path: String::new(), baud: 9600, address: 0, key_file: String::new(), install }
}

fn begin() {
    clock::fix(1_000_000);
    seed_challenges(1);
}

/// A packet of the standard: start, address, length, control, security block, code, data, check.
fn packet(address: u8, control: u8, block: &[u8], code: u8, data: &[u8]) -> Vec<u8> {
    let crc = control & 4 != 0;
    let length = 6 + block.len() + data.len() + if crc { 2 } else { 1 };
    let [low, high] = (length as u16).to_le_bytes();
    let mut bytes = vec![0x53, address, low, high, control];
    bytes.extend(block);
    bytes.push(code);
    bytes.extend(data);
    if crc {
        // CRC-16 of the standard: polynomial 0x1021, from 0x1D0F.
        let crc = bytes.iter().fold(0x1d0f_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
                if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 }
            })
        });
        bytes.extend(crc.to_le_bytes());
    } else {
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes.push(sum.wrapping_neg());
    }
    bytes
}

/// A chunk of an input as bytes on the wire. Its first byte says how: bit 7, as they are; else as a packet whose
/// sequence number is that of `control`, bit 6 with a security block, bit 5 with a checksum for a CRC.
fn chunk(input: &mut Input, address: u8, control: u8) -> Vec<u8> {
    let kind = input.byte();
    let length = usize::from(input.byte());
    if kind & 0x80 != 0 {
        return input.bytes(length).to_vec();
    }
    let crc = if kind & 0x20 != 0 { 0 } else { 4 };
    let block = if kind & 0x40 != 0 { vec![3, 0x10 | kind & 0x0f, input.byte()] } else { Vec::new() };
    let secure = if block.is_empty() { 0 } else { 8 };
    let code = input.byte();
    packet(address, control & 3 | crc | secure, &block, code, input.bytes(length))
}

/// What a panel makes of a reader that says anything. First byte odd: in install mode, where libosdp goes on
/// without encryption.
pub fn panel(input: &[u8]) {
    begin();
    let mut input = Input(input);
    let settings = settings(input.byte() & 1 == 1);
    let (to_panel, from_panel) = (Wire::default(), Wire::default());
    let end = End { from: Arc::clone(&to_panel), to: Arc::clone(&from_panel) };
    let mut panel = Panel::new(Line::panel(Box::new(end)), key(), &settings).expect("a panel");
    let (sender, mut receiver) = mpsc::channel::<Result<Report, Error>>(64);
    for _ in 0..STEPS_MAX {
        assert!(panel.fill(), "the line stays");
        panel.step(&sender);
        clock::skip(STEP_MS);
        let sent = take(&from_panel);
        // Behind an optional mark byte: start, address, length, control.
        if let Some(start) = sent.iter().position(|byte| *byte == 0x53) {
            let control = sent.get(start + 4).copied().unwrap_or(0);
            if input.is_empty() {
                break;
            }
            put(&to_panel, &chunk(&mut input, 0x80, control));
        }
        while let Ok(report) = receiver.try_recv() {
            if let Ok(Report::Card(card)) = report {
                panic!("{card:?} of a reader that knows no key");
            }
        }
    }
}

/// What libosdp's reader makes of a panel that says anything.
pub fn reader(input: &[u8]) {
    begin();
    let mut input = Input(input);
    let known = (input.byte() & 1 == 0).then(key);
    let (to_reader, from_reader) = (Wire::default(), Wire::default());
    let end = End { from: Arc::clone(&to_reader), to: Arc::clone(&from_reader) };
    let (mut reader, handle) = sim::stepped(Box::new(end), 0, known);
    let mut sequence = 0;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        put(&to_reader, &chunk(&mut input, 0, sequence));
        sequence = sequence % 3 + 1;
        assert!(reader.step(), "the line stays");
        clock::skip(STEP_MS);
        let _ = take(&from_reader);
        let _ = handle.signals();
    }
}

/// A panel and a reader with a key, and somebody on the wire who changes, drops and adds bytes. Whatever they do,
/// no card is reported that was not shown.
pub fn link(input: &[u8]) {
    begin();
    let mut input = Input(input);
    let [to_panel, from_panel, to_reader, from_reader] = [(); 4].map(|()| Wire::default());
    let ours = End { from: Arc::clone(&to_panel), to: Arc::clone(&from_panel) };
    let theirs = End { from: Arc::clone(&to_reader), to: Arc::clone(&from_reader) };
    let mut panel = Panel::new(Line::panel(Box::new(ours)), key(), &settings(false)).expect("a panel");
    let (mut reader, handle) = sim::stepped(Box::new(theirs), 0, Some(key()));
    let (sender, mut receiver) = mpsc::channel::<Result<Report, Error>>(64);
    let shown: Rc<RefCell<Vec<Bits>>> = Rc::default();
    let (mut heard, mut control, mut idle) = (0, 0, 0);
    for _ in 0..STEPS_MAX {
        assert!(panel.fill() && reader.step(), "the line stays");
        panel.step(&sender);
        clock::skip(STEP_MS);
        let (mut down, mut up) = (take(&from_panel), take(&from_reader));
        if let Some(start) = down.iter().position(|byte| *byte == 0x53) {
            control = down.get(start + 4).copied().unwrap_or(0);
        }
        // The world does something only once the channel stands, so that inputs need no bytes for the way there.
        if !input.is_empty() && handle.secure() {
            match input.byte() {
                0 => {
                    let count = usize::from(input.word()) % 513;
                    let bits = Bits::from_bytes(input.bytes(count.div_ceil(8)), count);
                    if let Some(bits) = bits.filter(|bits| !bits.is_empty()) {
                        handle.present(&bits);
                        shown.borrow_mut().push(bits);
                    }
                }
                1 => handle.tamper(input.byte() & 1 == 1),
                2 => handle.power_failing(input.byte() & 1 == 1),
                3 => tamper_with(&mut up, &mut input),
                4 => tamper_with(&mut down, &mut input),
                5 => up.clear(),
                6 => down.clear(),
                7 => up.extend(up.clone()),
                8 => {
                    let length = usize::from(input.byte());
                    up.extend(input.bytes(length));
                }
                9 => {
                    let length = usize::from(input.byte());
                    down.extend(input.bytes(length));
                }
                // An answer of their own, in the place of the reader's and in its turn.
                10 => up = chunk(&mut input, 0x80, control),
                _ => {}
            }
        }
        put(&to_reader, &down);
        put(&to_panel, &up);
        idle += u32::from(input.is_empty());
        if idle > IDLE_STEPS {
            break;
        }
        while let Ok(report) = receiver.try_recv() {
            if let Ok(Report::Card(card)) = report {
                heard += 1;
                assert!(shown.borrow().contains(&card.bits), "a card that nobody showed");
                assert!(heard <= shown.borrow().len(), "a card was heard twice");
            }
        }
    }
}

fn tamper_with(bytes: &mut [u8], input: &mut Input) {
    let (place, change) = (usize::from(input.byte()), input.byte());
    if !bytes.is_empty() {
        let place = place % bytes.len();
        bytes[place] ^= change;
    }
}

pub fn seeds() -> Vec<Seed> {
    let identity = [0xa0, 0xb2, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let capabilities = [9, 1, 1, 8, 1, 0, 4, 1, 1, 5, 1, 1, 3, 1, 0, 10, 128, 0];
    let reply = |code: u8, data: &[u8]| [&[0, data.len() as u8, code], data].concat();
    let up = [reply(0x45, &identity), reply(0x46, &capabilities)].concat();
    let no_security = [reply(0x45, &identity), reply(0x46, &[8, 1, 0])].concat();
    let nak = reply(0x41, &[6]);
    let card = reply(0x50, &[0, 0, 26, 0, 0xde, 0xad, 0xbe, 0xef]);
    let local = reply(0x48, &[1, 0]);
    let keys = reply(0x53, &[0, 2, b'1', b'#']);
    let mut cryptogram = vec![0x42, 32, 0x01, 0x76];
    cryptogram.extend([7; 32]);
    let ack = reply(0x40, &[]);
    let mut all: Vec<Seed> = vec![
        ("osdp_panel", "secure".into(), [&[0], &up[..], &cryptogram].concat()),
        ("osdp_panel", "install".into(), [&[1], &up[..], &nak, &nak, &card, &local, &keys, &ack].concat()),
        ("osdp_panel", "plain".into(), [&[1], &no_security[..], &card, &local, &ack, &keys].concat()),
        ("osdp_panel", "busy".into(), [&[1], &no_security[..], &reply(0x79, &[]), &card].concat()),
        ("osdp_panel", "vendor".into(), [&[1], &no_security[..], &reply(0x90, &[1, 2, 3, 4]), &ack].concat()),
        ("osdp_panel", "noise".into(), [&[0, 0x80, 8], &[0xff, 0x53, 0x80, 8, 0, 4, 0x45, 9][..]].concat()),
    ];
    let command = |code: u8, data: &[u8]| [&[0, data.len() as u8, code], data].concat();
    let challenge = [&[0x41, 8, 0x01, 0x76][..], &[9; 8]].concat();
    let led = [0, 0, 2, 1, 0, 2, 2, 10, 0, 0, 0, 0, 0, 0];
    let commands = [
        command(0x60, &[]),
        command(0x61, &[0]),
        command(0x62, &[0]),
        challenge,
        command(0x64, &[]),
        command(0x69, &led),
        command(0x6a, &[0, 2, 1, 1, 1]),
        command(0x6b, &[0, 1, 0, 1, 1, 2, b'h', b'i']),
        command(0x75, &[1, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        command(0x6e, &[0, 0x80, 0x25, 0, 0]),
        command(0x80, &[1, 2, 3, 4]),
        command(0x7c, &[1, 16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 7, 7]),
    ];
    for first in [0_u8, 1] {
        all.push(("osdp_reader", format!("commands-{first}"), [vec![first], commands.concat()].concat()));
    }
    let shown = [0, 26, 0, 0xde, 0xad, 0xbe, 0xef];
    let forged = [10, 0x42, 8, 1, 0x50, 0, 0, 26, 0, 0xde, 0xad, 0xbe, 0xc0];
    let world: [(&str, Vec<u8>); 5] = [
        ("forged", [&[99; 20][..], &forged, &[99; 3], &forged, &shown].concat()),
        ("cards", [shown; 3].concat()),
        ("status", [&[1, 1, 2, 1, 1, 0][..], &shown].concat()),
        ("changed", [&shown[..], &[3, 9, 1, 20, 4, 7, 0x80], &shown].concat()),
        ("lost", [&shown[..], &[5, 6, 7, 8, 3, 0xff, 0x53, 0x80, 9, 1, 0x53], &shown].concat()),
    ];
    all.extend(world.map(|(name, bytes)| ("osdp_link", name.to_owned(), bytes)));
    all
}
