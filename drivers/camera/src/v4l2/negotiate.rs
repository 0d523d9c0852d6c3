//! Agreeing with a camera on what it sends, and reading it.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Settings;
use super::videodev2::{
    BUF_FLAG_ERROR, BUF_FLAG_TIMESTAMP_MASK, BUF_FLAG_TIMESTAMP_MONOTONIC, CAP_STREAMING, CAP_VIDEO_CAPTURE,
    Device, FRMSIZE_TYPE_DISCRETE, FrameInterval, FrameSize, Mapping,
};
use crate::{Error, Format, codec};

/// A frame rate this much off, in percent, is the one that was asked for: cameras offer 29.97 for 30.
const RATE_PERCENT: u64 = 5;

/// A device that streams.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) device: Device,
    buffers: Vec<Mapping>,
    padding: Option<Padding>,
}

/// A filled buffer.
pub(super) struct Read {
    pub data: Vec<u8>,
    pub sequence: u32,
    /// On the monotonic clock, where the driver stamps with it.
    pub stamp_ms: Option<u64>,
}

/// Lines of which the driver makes more bytes than pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Padding {
    line: usize,
    stride: usize,
    lines: usize,
}

impl Stream {
    pub(super) fn open(settings: &Settings) -> Result<Self, Error> {
        check(settings)?;
        let path = &settings.path;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| refused(path, "opening", error))?;
        let device = Device::new(fd);
        let capability = device.capability().map_err(|_| unsupported(path, "it is no video device"))?;
        if capability.flags() & CAP_VIDEO_CAPTURE == 0 || capability.flags() & CAP_STREAMING == 0 {
            return Err(unsupported(path, "it does not capture and stream single-planar video"));
        }
        let padding = negotiate(&device, settings)?;
        let buffers = device
            .map_buffers(settings.buffers)
            .map_err(|error| refused(path, "getting buffers of", error))?;
        if buffers.len() < 2 {
            return Err(unsupported(path, "it gives fewer than two buffers"));
        }
        for index in (0_u32..).take(buffers.len()) {
            device.queue(index).map_err(|error| refused(path, "queueing a buffer of", error))?;
        }
        device.stream_on().map_err(|error| refused(path, "starting", error))?;
        Ok(Self { device, buffers, padding })
    }

    /// Takes the next buffer and gives it back to the driver; `None` when there is none, or a damaged one.
    pub(super) fn read(&self) -> Result<Option<Read>, Errno> {
        let buffer = match self.device.dequeue() {
            Ok(buffer) => buffer,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error),
        };
        let good = buffer.flags & BUF_FLAG_ERROR == 0;
        let data = self.buffers.get(buffer.index as usize).filter(|_| good).map(|memory| {
            let data = memory.copy(buffer.bytes_used);
            self.padding.map_or(data.clone(), |padding| padding.remove(&data))
        });
        self.device.queue(buffer.index)?;
        let monotonic = buffer.flags & BUF_FLAG_TIMESTAMP_MASK == BUF_FLAG_TIMESTAMP_MONOTONIC;
        let stamp_ms =
            buffer.stamp_s.unsigned_abs().saturating_mul(1000) + buffer.stamp_us.unsigned_abs() / 1000;
        Ok(data.map(|data| Read { data, sequence: buffer.sequence, stamp_ms: monotonic.then_some(stamp_ms) }))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A device that is gone has stopped already.
        let _ = self.device.stream_off();
    }
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
    fn remove(self, data: &[u8]) -> Vec<u8> {
        let lines = data.chunks(self.stride).take(self.lines);
        lines.flat_map(|line| &line[..line.len().min(self.line)]).copied().collect()
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
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

fn negotiate(device: &Device, settings: &Settings) -> Result<Option<Padding>, Error> {
    let Settings { path, width, height, .. } = settings;
    let code = four_cc(settings.format);
    let refuse = || {
        let asked = format!("{}x{} {}", width, height, settings.format);
        unsupported(path, format!("it does not offer {asked}, but {}", offers(device)))
    };
    let got = match device.set_format(code, *width, *height) {
        Ok(got) => got,
        Err(Errno::INVAL) => return Err(refuse()),
        Err(error) => return Err(refused(path, "setting the format of", error)),
    };
    if (got.pixel_format, got.width, got.height) != (code, *width, *height) {
        return Err(refuse());
    }
    if settings.frames_per_s > 0 {
        let got = device
            .set_interval(1, settings.frames_per_s)
            .map_err(|error| refused(path, "setting the frame rate of", error))?;
        if !got.is_none_or(|[numerator, denominator]| is_rate(settings.frames_per_s, numerator, denominator))
        {
            let offered = rates(&device.frame_intervals(code, *width, *height));
            let asked = settings.frames_per_s;
            return Err(unsupported(path, format!("it does not offer {asked} frames/s, but {offered}")));
        }
    }
    Ok(Padding::of(settings, got.bytes_per_line))
}

/// Whether an interval of `numerator / denominator` seconds is the rate that was asked for.
fn is_rate(frames_per_s: u32, numerator: u32, denominator: u32) -> bool {
    let asked = u64::from(frames_per_s) * u64::from(numerator);
    u64::from(denominator).abs_diff(asked) * 100 <= asked * RATE_PERCENT
}

fn four_cc(format: Format) -> u32 {
    u32::from_le_bytes(match format {
        Format::Yuyv => *b"YUYV",
        Format::Mjpeg => *b"MJPG",
        Format::Grey => *b"GREY",
    })
}

/// What a camera offers of the formats that we read.
fn offers(device: &Device) -> String {
    let offered = device.formats();
    let lists: Vec<String> = [Format::Mjpeg, Format::Yuyv, Format::Grey]
        .into_iter()
        .filter(|format| offered.contains(&four_cc(*format)))
        .map(|format| format!("{format} ({})", sizes(&device.frame_sizes(four_cc(format)))))
        .collect();
    if lists.is_empty() { "none of MJPG, YUYV and GREY".to_owned() } else { lists.join(", ") }
}

fn sizes(sizes: &[FrameSize]) -> String {
    let text = |size: &FrameSize| match size.values {
        [width, height, ..] if size.kind == FRMSIZE_TYPE_DISCRETE => format!("{width}x{height}"),
        [least_width, width, _, least_height, height, _] => {
            format!("{least_width}x{least_height} to {width}x{height}")
        }
    };
    listed(sizes.iter().map(text))
}

fn rates(intervals: &[FrameInterval]) -> String {
    let rate = |numerator: u32, denominator: u32| {
        format!("{:.4}", f64::from(denominator) / f64::from(numerator.max(1)))
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    };
    let text = |interval: &FrameInterval| match interval.values {
        [numerator, denominator, ..] if interval.kind == FRMSIZE_TYPE_DISCRETE => {
            rate(numerator, denominator)
        }
        [least, least_of, most, most_of, ..] => {
            format!("{} to {}", rate(most, most_of), rate(least, least_of))
        }
    };
    listed(intervals.iter().map(text))
}

fn listed(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { "nothing that it names".to_owned() } else { texts.join(" ") }
}

fn unsupported(path: &str, what: impl Into<String>) -> Error {
    Error::Unsupported { path: path.to_owned(), what: what.into() }
}

fn refused(path: &str, doing: &'static str, error: Errno) -> Error {
    let path = path.to_owned();
    match error {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Error::NotFound { path },
        Errno::BUSY => Error::Busy { path },
        error => Error::Io { path, doing, source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

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
            assert_eq!(Stream::open(&bad).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        assert!(toml::from_str::<Settings>("path = \"x\"\nwidth = 1\nheight = 1\nfps = 3").is_err());
    }

    #[test]
    fn says_why_it_does_not_open() {
        let kind = |path: &str| {
            let error = Stream::open(&Settings { path: path.to_owned(), ..settings() }).unwrap_err();
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
        let size = |kind, values| {
            let mut size = FrameSize::default();
            (size.kind, size.values) = (kind, values);
            size
        };
        let discrete = [[640, 480, 0, 0, 0, 0], [1280, 720, 0, 0, 0, 0]].map(|values| size(1, values));
        assert_eq!(sizes(&discrete), "640x480 1280x720");
        assert_eq!(sizes(&[size(3, [48, 1920, 2, 32, 1080, 2])]), "48x32 to 1920x1080");
        assert_eq!(sizes(&[]), "nothing that it names");
        let interval = |kind, values| {
            let mut interval = FrameInterval::default();
            (interval.kind, interval.values) = (kind, values);
            interval
        };
        assert_eq!(rates(&[interval(1, [1, 30, 0, 0, 0, 0]), interval(1, [2, 15, 0, 0, 0, 0])]), "30 7.5");
        assert_eq!(rates(&[interval(3, [1, 60, 1, 5, 0, 1])]), "5 to 60");
        assert_eq!(rates(&[interval(1, [0, 0, 0, 0, 0, 0])]), "0");
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
