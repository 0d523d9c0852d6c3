//! What a program and its worker say to each other, as bytes. Pure; any bytes give a message or an error.
//!
//! A request is of one size and the picture lies in memory that both see; an answer is as long as its head says,
//! and no longer than [`BODY_MAX`]. Numbers are little endian. Both ends come from one source, so a version that
//! differs is an error and nothing is negotiated.

/// Version of these messages.
pub const VERSION: u16 = 1;
/// Bytes of a request.
pub const REQUEST_LEN: usize = 28;
/// Bytes of the length in front of an answer and of a greeting.
pub const HEAD_LEN: usize = 4;
/// Longest body of an answer: far more than the codes of a picture need.
pub const BODY_MAX: usize = 1 << 20;
/// Longest text of a code in bytes of UTF-8: a version 40 code holds 7,089 digits or 1,817 characters of three
/// bytes.
pub const TEXT_MAX: usize = 8 * 1024;
/// Most codes of one answer.
pub const CODES_MAX: usize = 255;
/// Longest explanation, bytes.
pub const DETAIL_MAX: usize = 300;

const _: () = assert!(TEXT_MAX <= u16::MAX as usize);

const REQUEST_MAGIC: [u8; 4] = *b"CRrq";
const ANSWER_MAGIC: [u8; 4] = *b"CRan";
const GREETING_MAGIC: [u8; 4] = *b"CRhi";

/// How the bytes in the shared memory are a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `GREY`, one byte a pixel.
    Grey,
    /// `YUYV`.
    Yuyv,
    /// `MJPG`.
    Mjpeg,
    /// A file: png, jpeg, webp, gif, bmp or pnm; its size is inside.
    File,
}

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// All codes, by all means, however long it takes: a still picture.
    Still,
    /// One code, within a time: a frame of a stream, of which the next comes soon.
    Frame {
        /// Microseconds after which no further attempt begins.
        budget_us: u32,
    },
}

/// One picture to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Repeated in the answer.
    pub id: u32,
    /// What the bytes are.
    pub source: Source,
    /// How many they are.
    pub len: u32,
    /// Pixels a line; 0 for a file.
    pub width: u32,
    /// Lines; 0 for a file.
    pub height: u32,
    /// How thoroughly to look.
    pub effort: Effort,
}

/// A code in a picture.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Code {
    /// What it says; bytes that are no text are replaced.
    pub text: String,
    /// Its corners in the picture's pixels: top left, top right, bottom right, bottom left of the symbol
    /// itself, which may stand on its head.
    pub points: [[f64; 2]; 4],
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The picture was searched.
    Read(Vec<Code>),
    /// The bytes are no picture, and why.
    NoPicture(String),
    /// The decoder refused the picture.
    Failed,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Of the request.
    pub id: u32,
    /// Microseconds that the search took.
    pub micros: u32,
    /// Attempts that were made.
    pub attempts: u8,
    /// What was found.
    pub outcome: Outcome,
}

/// The worker's first words: it reads, and this is how it is locked in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Layers that hold, a bit each ([`crate::sandbox::Layers`]).
    pub layers: u8,
    /// Why the others do not.
    pub detail: String,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The first bytes are not those of this message.
    #[error("the first bytes are not those of the message")]
    Magic,
    /// It ends too early, or too late.
    #[error("the message has the wrong length")]
    Length,
    /// A field has a value that nothing means.
    #[error("{0} makes no sense")]
    Field(&'static str),
    /// The other end comes from another build.
    #[error("the worker speaks version {0} of the messages instead of {VERSION}")]
    Version(u16),
}

impl Request {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let source = match self.source {
            Source::Grey => 0,
            Source::Yuyv => 1,
            Source::Mjpeg => 2,
            Source::File => 3,
        };
        let (effort, budget_us) = match self.effort {
            Effort::Still => (0, 0),
            Effort::Frame { budget_us } => (1, budget_us),
        };
        let mut out = [0; REQUEST_LEN];
        out[..4].copy_from_slice(&REQUEST_MAGIC);
        out[4..8].copy_from_slice(&self.id.to_le_bytes());
        out[8] = source;
        out[9] = effort;
        let fields = [self.len, self.width, self.height, budget_us];
        for (slot, field) in out[12..].chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// When they are none.
    pub fn decode(bytes: &[u8; REQUEST_LEN]) -> Result<Self, Bad> {
        let mut input = Input(bytes);
        if input.take::<4>()? != REQUEST_MAGIC {
            return Err(Bad::Magic);
        }
        let id = input.u32()?;
        let [source, effort, ..] = input.take::<4>()?;
        let source = match source {
            0 => Source::Grey,
            1 => Source::Yuyv,
            2 => Source::Mjpeg,
            3 => Source::File,
            _ => return Err(Bad::Field("the kind of picture")),
        };
        let (len, width, height) = (input.u32()?, input.u32()?, input.u32()?);
        let budget_us = input.u32()?;
        let effort = match effort {
            0 => Effort::Still,
            1 => Effort::Frame { budget_us },
            _ => return Err(Bad::Field("the effort")),
        };
        Ok(Self { id, source, len, width, height, effort })
    }
}

impl Answer {
    /// As bytes, length first. Codes beyond the bounds are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(64);
        body.extend(ANSWER_MAGIC);
        body.extend(self.id.to_le_bytes());
        body.extend(self.micros.to_le_bytes());
        body.push(self.attempts);
        match &self.outcome {
            Outcome::Read(codes) => {
                body.push(0);
                for code in codes.iter().filter(|code| code.text.len() <= TEXT_MAX).take(CODES_MAX) {
                    if body.len() + 66 + code.text.len() > BODY_MAX {
                        break;
                    }
                    for value in code.points.iter().flatten() {
                        body.extend(value.to_le_bytes());
                    }
                    body.extend((code.text.len() as u16).to_le_bytes());
                    body.extend(code.text.as_bytes());
                }
            }
            Outcome::NoPicture(detail) => {
                body.push(1);
                body.extend(shortened(detail).as_bytes());
            }
            Outcome::Failed => body.push(2),
        }
        framed(body)
    }

    /// From the bytes after the length.
    ///
    /// # Errors
    /// When they are none.
    pub fn decode(body: &[u8]) -> Result<Self, Bad> {
        let mut input = Input(body);
        if input.take::<4>()? != ANSWER_MAGIC {
            return Err(Bad::Magic);
        }
        let (id, micros) = (input.u32()?, input.u32()?);
        let [attempts] = input.take()?;
        let [kind] = input.take()?;
        let outcome = match kind {
            0 => {
                let mut codes = Vec::new();
                while !input.0.is_empty() {
                    if codes.len() == CODES_MAX {
                        return Err(Bad::Field("the number of codes"));
                    }
                    codes.push(input.code()?);
                }
                Outcome::Read(codes)
            }
            1 => Outcome::NoPicture(input.rest()?),
            2 if input.0.is_empty() => Outcome::Failed,
            2 => return Err(Bad::Length),
            _ => return Err(Bad::Field("the outcome")),
        };
        Ok(Self { id, micros, attempts, outcome })
    }
}

impl Greeting {
    /// As bytes, length first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(GREETING_MAGIC);
        body.extend(VERSION.to_le_bytes());
        body.push(self.layers);
        body.extend(shortened(&self.detail).as_bytes());
        framed(body)
    }

    /// From the bytes after the length.
    ///
    /// # Errors
    /// When they are none, or the version is another.
    pub fn decode(body: &[u8]) -> Result<Self, Bad> {
        let mut input = Input(body);
        if input.take::<4>()? != GREETING_MAGIC {
            return Err(Bad::Magic);
        }
        let version = u16::from_le_bytes(input.take()?);
        if version != VERSION {
            return Err(Bad::Version(version));
        }
        let [layers] = input.take()?;
        Ok(Self { layers, detail: input.rest()? })
    }
}

/// Length of the body that follows, from the first bytes of an answer or a greeting.
///
/// # Errors
/// When it is longer than any.
pub fn body_len(head: [u8; HEAD_LEN]) -> Result<usize, Bad> {
    let len = u32::from_le_bytes(head) as usize;
    if len > BODY_MAX { Err(Bad::Length) } else { Ok(len) }
}

fn framed(body: Vec<u8>) -> Vec<u8> {
    let mut out = (body.len() as u32).to_le_bytes().to_vec();
    out.extend(body);
    out
}

fn shortened(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_MAX)]
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Bad::Length)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn code(&mut self) -> Result<Code, Bad> {
        let mut points = [[0.0; 2]; 4];
        for value in points.iter_mut().flatten() {
            *value = f64::from_le_bytes(self.take()?);
            if !value.is_finite() {
                return Err(Bad::Field("a corner"));
            }
        }
        let len = usize::from(u16::from_le_bytes(self.take()?));
        if len > TEXT_MAX {
            return Err(Bad::Field("the length of a text"));
        }
        let (text, rest) = self.0.split_at_checked(len).ok_or(Bad::Length)?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| Bad::Field("a text"))?.to_owned();
        Ok(Code { text, points })
    }

    fn rest(&mut self) -> Result<String, Bad> {
        if self.0.len() > DETAIL_MAX {
            return Err(Bad::Length);
        }
        let text = std::str::from_utf8(self.0).map_err(|_| Bad::Field("the explanation"))?;
        self.0 = &[];
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            id: 7,
            micros: 1234,
            attempts: 3,
            outcome: Outcome::Read(vec![
                Code { text: "123".into(), points: [[1.0, 2.5]; 4] },
                Code { text: "ä".into(), points: [[0.0; 2]; 4] },
            ]),
        }
    }

    #[test]
    fn messages_survive_the_way() {
        for effort in [Effort::Still, Effort::Frame { budget_us: 9 }] {
            for source in [Source::Grey, Source::Yuyv, Source::Mjpeg, Source::File] {
                let request = Request { id: 1, source, len: 2, width: 3, height: 4, effort };
                assert_eq!(Request::decode(&request.encode()), Ok(request));
            }
        }
        for outcome in [answer().outcome, Outcome::NoPicture("x".into()), Outcome::Failed] {
            let answer = Answer { outcome, ..answer() };
            let bytes = answer.encode();
            assert_eq!(body_len(bytes[..4].try_into().unwrap()).unwrap(), bytes.len() - 4);
            assert_eq!(Answer::decode(&bytes[4..]).unwrap(), answer);
        }
        let greeting = Greeting { layers: 5, detail: "no landlock".into() };
        assert_eq!(Greeting::decode(&greeting.encode()[4..]), Ok(greeting));
    }

    #[test]
    fn what_is_cut_or_changed_never_panics() {
        let bytes = answer().encode();
        for end in 0..bytes.len() - 4 {
            let _ = Answer::decode(&bytes[4..4 + end]);
        }
        let mut state = 3_u64;
        for _ in 0..20_000 {
            let mut changed = bytes.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = (state >> 33) as usize % changed.len();
                changed[place] = (state >> 20) as u8;
            }
            let _ = Answer::decode(&changed[4..]);
            let _ = Greeting::decode(&changed[4..]);
            let _ = Request::decode(changed[..REQUEST_LEN].try_into().unwrap());
        }
        assert_eq!(body_len([0xFF; 4]), Err(Bad::Length));
    }

    #[test]
    fn an_answer_keeps_its_bounds() {
        let code = Code { text: "1".repeat(TEXT_MAX), points: [[0.0; 2]; 4] };
        let long = Code { text: "1".repeat(TEXT_MAX + 1), points: [[0.0; 2]; 4] };
        let mut codes = vec![code; 400];
        codes.push(long);
        let bytes = Answer { outcome: Outcome::Read(codes), ..answer() }.encode();
        assert!(bytes.len() <= 4 + BODY_MAX);
        let Outcome::Read(codes) = Answer::decode(&bytes[4..]).unwrap().outcome else { panic!("codes") };
        assert!(codes.len() > 100);
    }
}
