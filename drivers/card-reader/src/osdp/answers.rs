//! What libosdp is shown of the bytes that arrive: after each command at most one answer, whole and checked.
//!
//! While its secure channel stands, libosdp 3.2.7 checks the authentication code of packets with a security block of
//! the channel (SCS_15 to SCS_18) and refuses packets without a block, but takes packets with a block of the
//! handshake (SCS_11 to SCS_14) as they are: whoever is on the wire could answer a poll with a card of their choice.
//! The handshake has two answers only, so every other packet with such a block is dropped here. That libosdp sees
//! nothing but whole packets, one at a time, also keeps its own framing out of reach of noise.

use std::collections::VecDeque;

/// Bytes that wait to become a packet: a few of the largest. More is noise, and the oldest goes.
const WAITING_MAX: usize = 1024;
/// Longest packet that libosdp takes (`OSDP_PACKET_BUF_SIZE`).
const PACKET_MAX: usize = 256;
/// Start, address, length (2), control.
const HEADER: usize = 5;
const START: u8 = 0x53;
/// In the address of every answer.
const ANSWER: u8 = 0x80;
/// The packet ends with a CRC-16, else with a checksum of one byte.
const CONTROL_CRC: u8 = 0x04;
/// A security block follows the header.
const CONTROL_BLOCK: u8 = 0x08;
const REPLY_NAK: u8 = 0x41;
const REPLY_CCRYPT: u8 = 0x76;
const REPLY_RMAC_I: u8 = 0x78;

/// The way of the bytes to libosdp.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: VecDeque<u8>,
    ready: VecDeque<u8>,
    /// A command went out and was not answered yet.
    asked: bool,
}

impl Answers {
    /// Takes what has arrived.
    pub(super) fn arrive(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        let excess = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..excess);
    }

    /// A command goes out: what has come before is no answer to it.
    pub(super) fn ask(&mut self) {
        self.forget();
        self.asked = true;
    }

    /// Drops what has come.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.ready.clear();
    }

    /// Copies what libosdp may see; how many bytes that is.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> usize {
        if self.ready.is_empty() && self.asked {
            self.next();
        }
        let count = buf.len().min(self.ready.len());
        buf.iter_mut().zip(self.ready.drain(..count)).for_each(|(to, from)| *to = from);
        count
    }

    /// Makes the first whole packet ready. Bytes before it, and packets that no reader sends, go.
    fn next(&mut self) {
        let bytes = self.waiting.make_contiguous();
        let mut start = 0;
        while let Some(at) = bytes[start..].iter().position(|byte| *byte == START) {
            start += at;
            let packet = &bytes[start..];
            let Some(length) = length(packet) else {
                // Its header is not there yet.
                break;
            };
            if !(HEADER + 2..=PACKET_MAX).contains(&length) || packet[1] & ANSWER == 0 {
                start += 1;
                continue;
            }
            let Some(packet) = packet.get(..length) else { break };
            if is_whole(packet) && !is_forged(packet) {
                self.ready.extend(packet);
                self.waiting.drain(..start + length);
                self.asked = false;
                return;
            }
            start += 1;
        }
        let start = if bytes[start..].contains(&START) { start } else { bytes.len() };
        self.waiting.drain(..start);
    }
}

/// Length of the packet that begins here; `None` when its header is not whole.
fn length(packet: &[u8]) -> Option<usize> {
    (packet.len() >= HEADER).then(|| usize::from(u16::from_le_bytes([packet[2], packet[3]])))
}

fn is_whole(packet: &[u8]) -> bool {
    if packet[4] & CONTROL_CRC != 0 {
        let (content, crc) = packet.split_at(packet.len() - 2);
        crc16(content).to_le_bytes() == crc
    } else {
        packet.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }
}

/// Whether this has a block of the handshake around an answer that is none of it.
fn is_forged(packet: &[u8]) -> bool {
    if packet[4] & CONTROL_BLOCK == 0 {
        return false;
    }
    let &[block_length, kind, ..] = &packet[HEADER..] else { return true };
    let code = packet.get(HEADER + usize::from(block_length)).copied();
    match kind {
        0x12 => code != Some(REPLY_CCRYPT) && code != Some(REPLY_NAK),
        0x14 => code != Some(REPLY_RMAC_I) && code != Some(REPLY_NAK),
        kind => !(0x15..=0x18).contains(&kind),
    }
}

/// CRC-16 of the standard: polynomial 0x1021, from 0x1D0F.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0x1d0f, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 },
        )
    })
}

/// An answer of the reader at address 0, with a CRC.
#[cfg(test)]
pub(super) fn packet(sequence: u8, block: &[u8], code: u8, data: &[u8]) -> Vec<u8> {
    let length = (HEADER + 3 + block.len() + data.len()) as u8;
    let secured = if block.is_empty() { 0 } else { CONTROL_BLOCK };
    let mut bytes = vec![START, ANSWER, length, 0, sequence & 3 | CONTROL_CRC | secured];
    bytes.extend(block);
    bytes.push(code);
    bytes.extend(data);
    let crc = crc16(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answers: &mut Answers) -> Vec<u8> {
        let mut bytes = vec![0; 600];
        let count = answers.read(&mut bytes);
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn one_whole_answer_a_command_in_any_pieces_and_noise() {
        let ack = packet(1, &[], 0x40, &[]);
        let noisy = [&[0xff, 0x53, 0x53, 0x80, 0xff, 0x53, 0x80, 3, 0, 0][..], &ack, &ack].concat();
        for cut in 0..=noisy.len() {
            let mut answers = Answers::default();
            answers.arrive(&ack);
            assert_eq!(shown(&mut answers), [], "nobody asked");
            answers.ask();
            let mut all = Vec::new();
            for piece in [&noisy[..cut], &noisy[cut..]] {
                answers.arrive(piece);
                all.extend(shown(&mut answers));
                all.extend(shown(&mut answers));
            }
            assert_eq!(all, ack, "cut at {cut}");
            answers.ask();
            assert_eq!(shown(&mut answers), [], "a late answer is none");
            answers.arrive(&ack);
            assert_eq!(shown(&mut answers), ack);
        }
    }

    #[test]
    fn damaged_and_forged_packets_are_not_shown() {
        let good = packet(1, &[3, 0x12, 1], REPLY_CCRYPT, &[7; 32]);
        let mut answers = Answers::default();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            answers.ask();
            answers.arrive(&bad);
            assert_eq!(shown(&mut answers), [], "byte {at}");
        }
        for kind in (0..=0xff).filter(|kind| !(0x15..=0x18).contains(kind)) {
            answers.ask();
            answers.arrive(&packet(1, &[3, kind, 1], 0x50, &[0, 0, 26, 0, 1, 2, 3, 4]));
            assert_eq!(shown(&mut answers), [], "a card in block {kind:#x}");
        }
        answers.ask();
        answers.arrive(&good);
        assert_eq!(shown(&mut answers), good);
    }

    #[test]
    fn noise_is_bounded() {
        let mut answers = Answers::default();
        answers.ask();
        (0..10_000).for_each(|_| answers.arrive(&[START; 100]));
        assert!(answers.waiting.len() <= WAITING_MAX);
        assert_eq!(shown(&mut answers), []);
    }
}
