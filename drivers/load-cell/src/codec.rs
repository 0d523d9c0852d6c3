//! The register map and the RTU frame as bytes: pure, total over any input.

/// Most channels of a module: the whole map must fit one request of 125 registers.
pub const CHANNELS_MAX: u8 = 40;

/// Most registers that one read may ask for (Modbus application protocol V1.1b3, 6.3 and 6.4).
pub const QUANTITY_MAX: u16 = 125;

/// Longest RTU frame in bytes (Modbus over serial line V1.02, 2.5.1).
pub const FRAME_MAX: usize = 256;

/// Registers before the first channel.
pub const HEADER: u16 = 2;

/// Registers of one channel.
pub const PER_CHANNEL: u16 = 3;

/// Function code: read holding registers.
pub const READ_HOLDING: u8 = 0x03;

/// Function code: read input registers.
pub const READ_INPUT: u8 = 0x04;

const MODULE_READY: u16 = 1 << 0;
const MODULE_FAULT: u16 = 1 << 1;
const CHANNEL_OK: u16 = 1 << 0;
const CHANNEL_OPEN: u16 = 1 << 1;
const CHANNEL_OVERLOAD: u16 = 1 << 2;
const CHANNEL_UNSTABLE: u16 = 1 << 3;

/// One conversion of a whole module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Calibrated and converting.
    pub ready: bool,
    /// The module reports a hardware fault.
    pub fault: bool,
    /// Channels, by plate index.
    pub channels: Vec<Channel>,
}

/// One load cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Mass in tenths of a gram; meaningless unless `state` is `Stable` or `Unstable`.
    pub tenths: i32,
    /// How the cell is.
    pub state: ChannelState,
}

/// How a channel is. Where a module sets several bits, the first of this list in reverse order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// A valid mass at rest.
    Stable,
    /// A valid mass that moves.
    Unstable,
    /// Beyond the cell's capacity.
    Overload,
    /// No plate on this channel, or its cell is not connected.
    Open,
    /// The module gives no valid conversion and no reason.
    Invalid,
}

impl Channel {
    /// The mass in tenths of a gram, when the module vouches for it.
    #[must_use]
    pub fn mass(&self) -> Option<i32> {
        match self.state {
            ChannelState::Stable | ChannelState::Unstable => Some(self.tenths),
            ChannelState::Overload | ChannelState::Open | ChannelState::Invalid => None,
        }
    }
}

/// Registers that do not follow the map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRegisters {
    /// Register 1 holds no possible number of channels.
    #[error("channel count {0} in register 1 is not within 1 to {CHANNELS_MAX}")]
    ChannelCount(u16),
    /// More or fewer registers than the map of that many channels.
    #[error("{got} registers where {channels} channels take {expected}")]
    Length {
        /// Registers given.
        got: usize,
        /// Channels by register 1.
        channels: u8,
        /// Registers of such a map.
        expected: u16,
    },
}

/// Registers of the map of a module with that many channels.
#[must_use]
pub const fn map_length(channels: u8) -> u16 {
    HEADER + PER_CHANNEL * channels as u16
}

/// The number of channels from the first two registers.
///
/// # Errors
/// When register 1 is missing or out of range.
pub fn channel_count(registers: &[u16]) -> Result<u8, BadRegisters> {
    let count = registers.get(1).copied().unwrap_or(0);
    match u8::try_from(count) {
        Ok(count @ 1..=CHANNELS_MAX) => Ok(count),
        _ => Err(BadRegisters::ChannelCount(count)),
    }
}

/// Reads a whole map.
///
/// # Errors
/// When the registers are not the map of the number of channels that they name.
pub fn decode(registers: &[u16]) -> Result<Reading, BadRegisters> {
    let count = channel_count(registers)?;
    let expected = map_length(count);
    if registers.len() != usize::from(expected) {
        return Err(BadRegisters::Length { got: registers.len(), channels: count, expected });
    }
    let channels = registers[usize::from(HEADER)..]
        .chunks_exact(usize::from(PER_CHANNEL))
        .map(|words| Channel {
            tenths: ((u32::from(words[0]) << 16) | u32::from(words[1])).cast_signed(),
            state: state(words[2]),
        })
        .collect();
    Ok(Reading { ready: registers[0] & MODULE_READY != 0, fault: registers[0] & MODULE_FAULT != 0, channels })
}

/// Writes a whole map, as a module holds it. Channels beyond [`CHANNELS_MAX`] are cut off.
#[must_use]
pub fn encode(reading: &Reading) -> Vec<u16> {
    let channels = &reading.channels[..reading.channels.len().min(usize::from(CHANNELS_MAX))];
    let mut registers = vec![
        if reading.ready { MODULE_READY } else { 0 } | if reading.fault { MODULE_FAULT } else { 0 },
        channels.len() as u16,
    ];
    for channel in channels {
        let bits = channel.tenths.cast_unsigned();
        registers.extend([(bits >> 16) as u16, bits as u16, status(channel.state)]);
    }
    registers
}

fn state(status: u16) -> ChannelState {
    if status & CHANNEL_OPEN != 0 {
        ChannelState::Open
    } else if status & CHANNEL_OVERLOAD != 0 {
        ChannelState::Overload
    } else if status & CHANNEL_OK == 0 {
        ChannelState::Invalid
    } else if status & CHANNEL_UNSTABLE != 0 {
        ChannelState::Unstable
    } else {
        ChannelState::Stable
    }
}

const fn status(state: ChannelState) -> u16 {
    match state {
        ChannelState::Stable => CHANNEL_OK,
        ChannelState::Unstable => CHANNEL_OK | CHANNEL_UNSTABLE,
        ChannelState::Overload => CHANNEL_OVERLOAD,
        ChannelState::Open => CHANNEL_OPEN,
        ChannelState::Invalid => 0,
    }
}

/// CRC-16/MODBUS: reflected polynomial 0xA001, initial value 0xFFFF, sent low byte first.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0xFFFF_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc
}

/// A frame that arrived whole: the bytes between two silences, with a CRC that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Module address; 0 is a broadcast.
    pub address: u8,
    /// Function code.
    pub function: u8,
    /// Bytes between the function code and the CRC.
    pub body: Vec<u8>,
}

/// Takes the bytes between two silences apart; `None` when they are no frame (too short, too long, wrong
/// CRC), which a module ignores as the specification asks.
#[must_use]
pub fn unframe(bytes: &[u8]) -> Option<Frame> {
    if bytes.len() < 4 || bytes.len() > FRAME_MAX {
        return None;
    }
    let (content, crc) = bytes.split_at(bytes.len() - 2);
    (crc16(content).to_le_bytes() == crc).then(|| Frame {
        address: content[0],
        function: content[1],
        body: content[2..].to_vec(),
    })
}

/// Puts a frame together, CRC included.
#[must_use]
pub fn frame(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![frame.address, frame.function];
    bytes.extend_from_slice(&frame.body);
    let crc = crc16(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a module with these registers answers to a frame addressed to it.
#[must_use]
pub fn answer(request: &Frame, registers: &[u16]) -> Frame {
    let exception =
        |code| Frame { address: request.address, function: request.function | 0x80, body: vec![code] };
    if request.function != READ_INPUT && request.function != READ_HOLDING {
        return exception(EXCEPTION_FUNCTION);
    }
    let &[start_high, start_low, quantity_high, quantity_low] = request.body.as_slice() else {
        return exception(EXCEPTION_VALUE);
    };
    let start = usize::from(u16::from_be_bytes([start_high, start_low]));
    let quantity = u16::from_be_bytes([quantity_high, quantity_low]);
    if quantity == 0 || quantity > QUANTITY_MAX {
        return exception(EXCEPTION_VALUE);
    }
    let Some(asked) = registers.get(start..start + usize::from(quantity)) else {
        return exception(EXCEPTION_ADDRESS);
    };
    let mut body = vec![(quantity * 2) as u8];
    body.extend(asked.iter().flat_map(|register| register.to_be_bytes()));
    Frame { address: request.address, function: request.function, body }
}

const EXCEPTION_FUNCTION: u8 = 0x01;
const EXCEPTION_ADDRESS: u8 = 0x02;
const EXCEPTION_VALUE: u8 = 0x03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_fits_the_published_check_value_and_example() {
        // CRC-16/MODBUS of "123456789" in the catalogue of parametrised CRC algorithms.
        assert_eq!(crc16(b"123456789"), 0x4B37);
        // Read one input register at 0 of module 1, a frame found in countless manuals.
        assert_eq!(
            unframe(&[0x01, 0x04, 0x00, 0x00, 0x00, 0x01, 0x31, 0xCA]).map(|frame| frame.function),
            Some(4)
        );
    }

    #[test]
    fn a_reading_survives_its_registers() {
        let states = [
            ChannelState::Stable,
            ChannelState::Unstable,
            ChannelState::Overload,
            ChannelState::Open,
            ChannelState::Invalid,
        ];
        let masses = [0, 1, -1, 65_535, 65_536, -70_000, i32::MAX, i32::MIN];
        for (ready, fault) in [(true, false), (false, true)] {
            let channels = masses
                .iter()
                .flat_map(|tenths| states.map(|state| Channel { tenths: *tenths, state }))
                .collect::<Vec<_>>();
            let reading = Reading { ready, fault, channels };
            assert_eq!(decode(&encode(&reading)), Ok(reading));
        }
    }

    #[test]
    fn the_map_is_as_documented() {
        let registers = [1, 2, 0x0001, 0x86A0, 1, 0xFFFF, 0xFFFF, 2];
        let reading = decode(&registers).expect("a map of two channels");
        assert_eq!(reading.channels[0], Channel { tenths: 100_000, state: ChannelState::Stable });
        assert_eq!(reading.channels[0].mass(), Some(100_000));
        assert_eq!(reading.channels[1], Channel { tenths: -1, state: ChannelState::Open });
        assert_eq!(reading.channels[1].mass(), None);
        assert!(reading.ready && !reading.fault);
    }

    #[test]
    fn wrong_maps_say_what_is_wrong() {
        for (registers, error) in [
            (&[][..], BadRegisters::ChannelCount(0)),
            (&[1, 0], BadRegisters::ChannelCount(0)),
            (&[1, 41], BadRegisters::ChannelCount(41)),
            (&[1, 2, 0, 0, 1], BadRegisters::Length { got: 5, channels: 2, expected: 8 }),
        ] {
            assert_eq!(decode(registers), Err(error));
        }
    }

    #[test]
    fn answers_and_exceptions() {
        let registers: Vec<u16> = (0..8).collect();
        let ask =
            |function, body: &[u8]| answer(&Frame { address: 9, function, body: body.to_vec() }, &registers);
        assert_eq!(ask(4, &[0, 1, 0, 2]).body, [4, 0, 1, 0, 2]);
        assert_eq!(ask(3, &[0, 7, 0, 1]).body, [2, 0, 7]);
        for (function, body, code) in [
            (4, &[0, 7, 0, 2][..], 2),
            (4, &[255, 255, 0, 1], 2),
            (4, &[0, 0, 0, 0], 3),
            (4, &[0, 0, 0, 126], 3),
            (4, &[0, 0, 1], 3),
            (6, &[0, 0, 0, 1], 1),
            (0x90, &[], 1),
        ] {
            let answered = ask(function, body);
            assert_eq!(
                (answered.function, answered.body),
                (function | 0x80, vec![code]),
                "{function} {body:?}"
            );
        }
    }

    #[test]
    fn any_bytes_are_taken_without_panic() {
        let mut seed = 7_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u32
        };
        let registers: Vec<u16> = (0..122).collect();
        for _ in 0..20_000 {
            let length = random() as usize % 300;
            let bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            let _ = unframe(&bytes);
            let words: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0] & 1, pair[1]])).collect();
            let _ = decode(&words);
            if let [address, function, body @ ..] = bytes.as_slice() {
                let body = body.iter().copied().take(random() as usize % 6).collect();
                let answered = answer(&Frame { address: *address, function: function % 5, body }, &registers);
                assert!(frame(&answered).len() <= FRAME_MAX);
                assert_eq!(unframe(&frame(&answered)), Some(answered));
            }
        }
    }
}
