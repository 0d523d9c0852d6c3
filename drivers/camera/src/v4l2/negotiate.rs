//! Agreeing with a camera on what it sends.

use std::io;

use rustix::io::Errno;
use v4l::device::Device;
use v4l::format::FieldOrder;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::FrameSizeEnum;
use v4l::parameters::Capabilities;
use v4l::video::Capture;
use v4l::{FourCC, Fraction};

use super::Settings;
use crate::{Error, Format, codec};

/// A frame rate this much off, in percent, is the one that was asked for: cameras offer 29.97 for 30.
const RATE_PERCENT: u64 = 5;
/// Entries of one list that an error repeats; real cameras list some twenty.
const ENTRIES_MAX: usize = 128;
/// Longest buffer that is used: the largest frame that the codec takes, 8192 x 8192 YUYV.
pub(super) const BUFFER_MAX: u32 = 128 * 1024 * 1024;

/// Lines of which the driver makes more bytes than pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Padding {
    line: usize,
    stride: usize,
    lines: usize,
}

impl Padding {
    /// The padding of lines of `stride` bytes; `None` where there is none, or no fixed lines.
    fn of(settings: &Settings, stride: u32) -> Option<Self> {
        let line = match settings.format {
            Format::Yuyv => codec::yuyv_len(settings.width, 1),
            Format::Grey => settings.width as usize,
            Format::Mjpeg => return None,
        };
        let stride = stride as usize;
        (stride > line).then_some(Self { line, stride, lines: settings.height as usize })
    }

    /// The lines alone. What is missing stays missing, so that the codec sees a short frame as one.
    pub(super) fn remove(self, data: &[u8]) -> Vec<u8> {
        let lines = data.chunks(self.stride).take(self.lines);
        lines.flat_map(|line| &line[..line.len().min(self.line)]).copied().collect()
    }
}

pub(super) fn check(settings: &Settings) -> Result<(), Error> {
    let wrong = |what: &str| Err(unsupported(&settings.path, what));
    let side = 1..=codec::SIDE_MAX;
    if !side.contains(&settings.width) || !side.contains(&settings.height) {
        return wrong("width and height must be 1 to 8192");
    }
    if settings.frames_per_s > 240 {
        return wrong("frames_per_s must be 0 to 240");
    }
    if !(2..=16).contains(&settings.buffers) {
        return wrong("buffers must be 2 to 16");
    }
    Ok(())
}

pub(super) fn negotiate(device: &Device, settings: &Settings) -> Result<Option<Padding>, Error> {
    let Settings { path, width, height, .. } = settings;
    let code = four_cc(settings.format);
    let refuse = || {
        let asked = format!("{}x{} {}", width, height, settings.format);
        match offers(device) {
            Some(offers) => unsupported(path, format!("it does not offer {asked}, but {offers}")),
            None => unsupported(path, "it does not capture single-planar video"),
        }
    };
    let mut wanted = v4l::Format::new(*width, *height, code);
    wanted.field_order = FieldOrder::Progressive;
    let got = device.set_format(&wanted).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::INVAL) => refuse(),
        Some(Errno::NOTTY) => unsupported(path, "it is no video device"),
        _ => refused(path, "setting the format of", error),
    })?;
    if (got.fourcc, got.width, got.height) != (code, *width, *height) {
        return Err(refuse());
    }
    if got.size > BUFFER_MAX {
        return Err(unsupported(path, format!("its frames take {} bytes each", got.size)));
    }
    if settings.frames_per_s > 0 {
        let got = set_rate(device, settings.frames_per_s)
            .map_err(|error| refused(path, "setting the frame rate of", error))?;
        if !got.is_none_or(|got| is_rate(settings.frames_per_s, got.numerator, got.denominator)) {
            let offered = device.enum_frameintervals(code, *width, *height).unwrap_or_default();
            let offered = rates(offered.iter().map(|offer| &offer.interval));
            let asked = settings.frames_per_s;
            return Err(unsupported(path, format!("it does not offer {asked} frames/s, but {offered}")));
        }
    }
    Ok(Padding::of(settings, got.stride))
}

/// Asks for a frame rate; the interval in seconds that the driver makes of it comes back, or nothing where it
/// has but one.
fn set_rate(device: &Device, frames_per_s: u32) -> io::Result<Option<Fraction>> {
    let mut parameters = match device.params() {
        Ok(parameters) => parameters,
        Err(error) => {
            return match Errno::from_io_error(&error) {
                Some(Errno::NOTTY | Errno::INVAL) => Ok(None),
                _ => Err(error),
            };
        }
    };
    if !parameters.capabilities.contains(Capabilities::TIME_PER_FRAME) {
        return Ok(None);
    }
    parameters.interval = Fraction::new(1, frames_per_s);
    Ok(Some(device.set_params(&parameters)?.interval))
}

/// Whether an interval of `numerator / denominator` seconds is the rate that was asked for.
fn is_rate(frames_per_s: u32, numerator: u32, denominator: u32) -> bool {
    let asked = u64::from(frames_per_s) * u64::from(numerator);
    u64::from(denominator).abs_diff(asked) * 100 <= asked * RATE_PERCENT
}

fn four_cc(format: Format) -> FourCC {
    FourCC::new(match format {
        Format::Yuyv => b"YUYV",
        Format::Mjpeg => b"MJPG",
        Format::Grey => b"GREY",
    })
}

/// What a camera offers of the formats that we read, if it offers any format.
fn offers(device: &Device) -> Option<String> {
    let offered = device.enum_formats().ok().filter(|offered| !offered.is_empty())?;
    let lists: Vec<String> = [Format::Mjpeg, Format::Yuyv, Format::Grey]
        .into_iter()
        .filter(|format| offered.iter().any(|offer| offer.fourcc == four_cc(*format)))
        .map(|format| {
            let offered = device.enum_framesizes(four_cc(format)).unwrap_or_default();
            format!("{format} ({})", sizes(offered.iter().map(|offer| &offer.size)))
        })
        .collect();
    Some(if lists.is_empty() { "none of MJPG, YUYV and GREY".to_owned() } else { lists.join(", ") })
}

fn sizes<'a>(sizes: impl Iterator<Item = &'a FrameSizeEnum>) -> String {
    listed(sizes.map(|size| match size {
        FrameSizeEnum::Discrete(size) => format!("{}x{}", size.width, size.height),
        FrameSizeEnum::Stepwise(size) => {
            format!("{}x{} to {}x{}", size.min_width, size.min_height, size.max_width, size.max_height)
        }
    }))
}

fn rates<'a>(intervals: impl Iterator<Item = &'a FrameIntervalEnum>) -> String {
    let rate = |interval: &Fraction| {
        format!("{:.4}", f64::from(interval.denominator) / f64::from(interval.numerator.max(1)))
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    };
    listed(intervals.map(|interval| match interval {
        FrameIntervalEnum::Discrete(interval) => rate(interval),
        FrameIntervalEnum::Stepwise(interval) => {
            format!("{} to {}", rate(&interval.max), rate(&interval.min))
        }
    }))
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.take(ENTRIES_MAX).collect();
    if texts.is_empty() { "nothing that it names".to_owned() } else { texts.join(" ") }
}

pub(super) fn unsupported(path: &str, what: impl Into<String>) -> Error {
    Error::Unsupported { path: path.to_owned(), what: what.into() }
}

pub(super) fn refused(path: &str, doing: &'static str, error: io::Error) -> Error {
    let path = path.to_owned();
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Error::NotFound { path },
        Some(Errno::BUSY) => Error::Busy { path },
        _ => Error::Io { path, doing, source: error },
    }
}

#[cfg(test)]
mod tests {
    use v4l::{frameinterval, framesize};

    use super::*;
    use crate::ErrorKind;
    use crate::v4l2::stream::Stream;

    fn settings() -> Settings {
        toml::from_str("path = \"/dev/v4l/by-path/none\"\nwidth = 640\nheight = 480").expect("settings")
    }

    #[test]
    fn settings_have_defaults_and_limits() {
        assert_eq!(settings().format, Format::Mjpeg);
        assert_eq!((settings().frames_per_s, settings().buffers), (10, 4));
        assert_eq!(toml::from_str::<Settings>(&toml::to_string(&settings()).unwrap()), Ok(settings()));
        for bad in [
            Settings { width: 0, ..settings() },
            Settings { height: 8193, ..settings() },
            Settings { frames_per_s: 241, ..settings() },
            Settings { buffers: 1, ..settings() },
            Settings { buffers: 17, ..settings() },
        ] {
            assert_eq!(Stream::open(&bad).map(drop).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        assert!(toml::from_str::<Settings>("path = \"x\"\nwidth = 1\nheight = 1\nfps = 3").is_err());
    }

    #[test]
    fn says_why_it_does_not_open() {
        let kind = |path: &str| {
            let settings = Settings { path: path.to_owned(), ..settings() };
            let error = Stream::open(&settings).map(drop).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
            error.kind()
        };
        assert_eq!(kind("/dev/v4l/by-path/none"), ErrorKind::NotFound);
        assert_eq!(kind("/dev/null"), ErrorKind::Unsupported);
    }

    #[test]
    fn rates_may_be_a_little_off() {
        assert!(is_rate(30, 1001, 30_000));
        assert!(is_rate(10, 1, 10));
        assert!(is_rate(25, 2, 50));
        assert!(!is_rate(10, 1, 15));
        assert!(!is_rate(10, 0, 1));
        assert!(!is_rate(1, u32::MAX, u32::MAX / 2));
    }

    #[test]
    fn offers_read_well() {
        let discrete = [[640, 480], [1280, 720]]
            .map(|[width, height]| FrameSizeEnum::Discrete(framesize::Discrete { width, height }));
        assert_eq!(sizes(discrete.iter()), "640x480 1280x720");
        let stepwise = framesize::Stepwise {
            min_width: 48,
            max_width: 1920,
            step_width: 2,
            min_height: 32,
            max_height: 1080,
            step_height: 2,
        };
        assert_eq!(sizes([FrameSizeEnum::Stepwise(stepwise)].iter()), "48x32 to 1920x1080");
        assert_eq!(sizes([].iter()), "nothing that it names");
        let interval =
            |numerator, denominator| FrameIntervalEnum::Discrete(Fraction::new(numerator, denominator));
        assert_eq!(rates([interval(1, 30), interval(2, 15)].iter()), "30 7.5");
        let (min, max, step) = (Fraction::new(1, 60), Fraction::new(1, 5), Fraction::new(0, 1));
        let stepwise = FrameIntervalEnum::Stepwise(frameinterval::Stepwise { min, max, step });
        assert_eq!(rates([stepwise].iter()), "5 to 60");
        assert_eq!(rates([interval(0, 0)].iter()), "0");
        let many: Vec<_> = (1..10_000).map(|rate| interval(1, rate)).collect();
        assert!(rates(many.iter()).len() < 1000, "an error is no list without end");
    }

    #[test]
    fn padding_of_lines_is_removed_and_short_frames_stay_short() {
        let settings = Settings { width: 4, height: 2, format: Format::Yuyv, ..settings() };
        assert_eq!(Padding::of(&settings, 8), None);
        assert_eq!(Padding::of(&settings, 0), None, "a driver that does not tell");
        let padding = Padding::of(&settings, 10).expect("padded lines");
        let data: Vec<u8> = (0..20).collect();
        assert_eq!(padding.remove(&data), [&data[..8], &data[10..18]].concat());
        assert_eq!(padding.remove(&data[..13]), [&data[..8], &data[10..13]].concat());
        assert_eq!(padding.remove(&[0; 1000]).len(), 16, "no more lines than the frame has");
        assert_eq!(Padding::of(&Settings { format: Format::Mjpeg, ..settings }, 99), None);
    }
}
