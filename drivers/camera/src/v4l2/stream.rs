//! Reading what a camera sends, through the `v4l` crate. That crate panics in places, also when it lets go of
//! a stream, and its `next` gives buffers back twice after a failure; what guards against that is here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use v4l::buffer::{Flags, Type};
use v4l::device::{Device, Handle};
use v4l::io::traits::{CaptureStream, Stream as Switch};
use v4l::prelude::MmapStream;

use super::negotiate::{BUFFER_MAX, Padding, check, negotiate, refused, unsupported};
use super::{Settings, descriptor};
use crate::Error;

/// More buffers than any driver gives; the kernel's own limit was 32 for long.
const BUFFERS_MAX: usize = 64;

/// Streams that the kernel did not let stop. Dropped, they would end the process: the crate panics on the
/// refusal, and once more on what follows from it.
static STUCK: Mutex<Vec<Box<dyn Source>>> = Mutex::new(Vec::new());

/// A stream of the crate's, or one that a test makes up.
trait Source: Switch<Item = [u8]> + for<'a> CaptureStream<'a> + Send {}

impl<T: Switch<Item = [u8]> + for<'a> CaptureStream<'a> + Send> Source for T {}

/// A device that streams.
pub(super) struct Stream {
    // Before the reader, which then is the one that closes the device: there, a panic does no harm.
    handle: Arc<Handle>,
    reader: Reader,
}

/// The buffers of a stream.
struct Reader {
    /// There until it is dropped.
    source: Option<Box<dyn Source>>,
    /// Whether the buffer that the source holds is not with the driver already.
    held: bool,
    padding: Option<Padding>,
}

/// A filled buffer.
pub(super) struct Read {
    pub data: Vec<u8>,
    pub sequence: u32,
    /// On the monotonic clock, where the driver stamps with it.
    pub stamp_ms: Option<u64>,
}

impl Stream {
    pub(super) fn open(settings: &Settings) -> Result<Self, Error> {
        // Text that is not UTF-8 and colour spaces it does not know are two things that the crate panics on.
        caught(|| Self::start(settings))
            .unwrap_or_else(|panic| Err(refused(&settings.path, "opening", panic)))
    }

    fn start(settings: &Settings) -> Result<Self, Error> {
        check(settings)?;
        release_stuck();
        let path = &settings.path;
        let device = device(path).map_err(|error| refused(path, "opening", error))?;
        let padding = negotiate(&device, settings)?;
        // One more than shall be with the driver: the source holds one, as `next` shows it in place.
        let count = settings.buffers + 1;
        let mut source = MmapStream::with_buffers(&device, Type::VideoCapture, count).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::INVAL | Errno::NOTTY) => unsupported(path, "it does not stream"),
                _ => refused(path, "getting buffers of", error),
            }
        })?;
        // Without it the crate waits for ever, and this thread for no bell.
        source.set_timeout(Duration::ZERO);
        let mut reader = Reader { source: Some(Box::new(source)), held: true, padding };
        reader.start(path)?;
        Ok(Self { handle: device.handle(), reader })
    }

    /// Takes the next buffer; `None` when there is none, or a damaged one.
    pub(super) fn read(&mut self) -> io::Result<Option<Read>> {
        self.reader.read()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        descriptor(&self.handle)
    }
}

impl Reader {
    /// Gives the driver its buffers and lets it stream.
    fn start(&mut self, path: &str) -> Result<(), Error> {
        let Some(source) = &mut self.source else { return Ok(()) };
        // Left to itself the crate starts with the first read. Of buffer 0 it thinks that it holds it.
        let mut given = 0;
        for index in 1..BUFFERS_MAX {
            match source.queue(index) {
                Ok(()) => given += 1,
                // The driver may give fewer buffers than asked, or more; the crate does not tell.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => break,
                Err(error) => return Err(refused(path, "queueing a buffer of", error)),
            }
        }
        if given == 0 {
            return Err(unsupported(path, "it gives fewer than two buffers"));
        }
        source.start().map_err(|error| refused(path, "starting", error))
    }

    fn read(&mut self) -> io::Result<Option<Read>> {
        let Some(source) = &mut self.source else { return Ok(None) };
        if !self.held {
            // After a failure `next` would give back once more what it gave back before it failed. This
            // buffer cannot be looked at, so its frame is lost; but the source holds one again.
            return match source.dequeue() {
                Ok(_) => {
                    self.held = true;
                    Ok(None)
                }
                Err(error) => none_yet(error),
            };
        }
        let (bytes, meta) = match source.next() {
            Ok(read) => read,
            Err(error) => {
                self.held = false;
                return none_yet(error);
            }
        };
        if meta.flags.contains(Flags::ERROR) {
            return Ok(None);
        }
        let bytes = &bytes[..bytes.len().min(meta.bytesused as usize).min(BUFFER_MAX as usize)];
        let data = self.padding.map_or_else(|| bytes.to_vec(), |padding| padding.remove(bytes));
        let monotonic = meta.flags & Flags::TIMESTAMP_MASK == Flags::TIMESTAMP_MONOTONIC;
        let stamp = meta.timestamp;
        let stamp_ms =
            stamp.sec.unsigned_abs().saturating_mul(1000).saturating_add(stamp.usec.unsigned_abs() / 1000);
        Ok(Some(Read { data, sequence: meta.sequence, stamp_ms: monotonic.then_some(stamp_ms) }))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(stuck) = self.source.take().and_then(released) {
            STUCK.lock().unwrap_or_else(PoisonError::into_inner).push(stuck);
        }
    }
}

/// Stops a stream and lets it go. It comes back when it cannot be stopped now, for instance because another
/// program has claimed a higher priority (`VIDIOC_S_PRIORITY`) on the device.
fn released(mut source: Box<dyn Source>) -> Option<Box<dyn Source>> {
    match source.stop() {
        // A device that is gone has stopped already.
        Err(error) if Errno::from_io_error(&error) != Some(Errno::NODEV) => Some(source),
        _ => {
            // What the kernel does not take back now it takes when the process ends.
            let _ = caught(|| drop(source));
            None
        }
    }
}

/// Tries once more to stop the streams that could not be stopped; until then their cameras are busy.
fn release_stuck() {
    let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
    *stuck = stuck.drain(..).filter_map(released).collect();
}

fn device(path: &str) -> io::Result<Device> {
    if path.contains('\0') {
        // The crate panics.
        return Err(Errno::INVAL.into());
    }
    let device = Device::with_path(path)?;
    // The crate leaves the camera open to programs that this process starts.
    fcntl_setfd(descriptor(&device.handle()), FdFlags::CLOEXEC)?;
    Ok(device)
}

/// Nothing, where the error only says that there is nothing.
fn none_yet(error: io::Error) -> io::Result<Option<Read>> {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    if matches!(error.kind(), WouldBlock | Interrupted | TimedOut) { Ok(None) } else { Err(error) }
}

/// What `work` returns, or its panic as an error.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        io::Error::other(format!("the library panicked: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicBool, Ordering};

    use v4l::Timestamp;
    use v4l::buffer::Metadata;

    use super::*;
    use crate::ErrorKind;

    /// The crate's stream on a kernel that takes no buffer twice.
    struct Fake {
        buffers: Vec<Vec<u8>>,
        queued: VecDeque<usize>,
        held: usize,
        meta: Metadata,
        /// What the next dequeues fail with.
        failures: VecDeque<Errno>,
        sequence: u32,
        /// While set, the kernel does not let it stop.
        busy: Arc<AtomicBool>,
        dropped: Arc<AtomicBool>,
        panics: bool,
    }

    impl Fake {
        fn new(count: usize) -> Self {
            let meta = Metadata {
                bytesused: 4,
                flags: Flags::TIMESTAMP_MONOTONIC,
                timestamp: Timestamp::new(7, 89_999),
                ..Metadata::default()
            };
            Self {
                buffers: (0..count).map(|_| (0..20).collect()).collect(),
                queued: VecDeque::new(),
                held: 0,
                meta,
                failures: VecDeque::new(),
                sequence: 0,
                busy: Arc::default(),
                dropped: Arc::default(),
                panics: false,
            }
        }

        fn reader(self) -> Reader {
            Reader { source: Some(Box::new(self)), held: true, padding: None }
        }

        fn started(self) -> Reader {
            let mut reader = self.reader();
            reader.start("here").expect("a stream");
            reader
        }
    }

    impl Switch for Fake {
        type Item = [u8];
        fn start(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn stop(&mut self) -> io::Result<()> {
            if self.busy.load(Ordering::SeqCst) { Err(Errno::BUSY.into()) } else { Ok(()) }
        }
    }

    impl<'a> CaptureStream<'a> for Fake {
        fn queue(&mut self, index: usize) -> io::Result<()> {
            if index >= self.buffers.len() || self.queued.contains(&index) {
                return Err(Errno::INVAL.into());
            }
            self.queued.push_back(index);
            Ok(())
        }
        fn dequeue(&mut self) -> io::Result<usize> {
            if let Some(error) = self.failures.pop_front() {
                return Err(error.into());
            }
            self.held = self.queued.pop_front().ok_or(Errno::AGAIN)?;
            self.sequence += 1;
            self.meta.sequence = self.sequence;
            Ok(self.held)
        }
        fn next(&'a mut self) -> io::Result<(&'a [u8], &'a Metadata)> {
            self.queue(self.held)?;
            self.dequeue()?;
            Ok((&self.buffers[self.held], &self.meta))
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            self.dropped.store(true, Ordering::SeqCst);
            assert!(!self.panics, "as the crate does");
        }
    }

    fn next(reader: &mut Reader) -> Read {
        reader.read().expect("no failure").expect("a frame")
    }

    #[test]
    fn a_stream_needs_two_buffers_and_takes_what_it_gets() {
        for count in [0, 1] {
            let error = Fake::new(count).reader().start("here").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("fewer than two buffers"), "{error}");
        }
        for count in [2, 5, 32] {
            let mut reader = Fake::new(count).started();
            for sequence in 1..=100 {
                assert_eq!(next(&mut reader).sequence, sequence);
            }
        }
    }

    #[test]
    fn a_failed_read_costs_a_frame_and_not_the_stream() {
        for failure in [Errno::IO, Errno::AGAIN, Errno::INTR] {
            for count in [2, 5] {
                let mut fake = Fake::new(count);
                fake.failures = [failure, failure].into();
                let mut reader = fake.started();
                for _ in 0..2 {
                    match reader.read() {
                        Ok(None) => assert_ne!(failure, Errno::IO),
                        Ok(Some(_)) => panic!("a frame out of nothing"),
                        Err(error) => assert_eq!(Errno::from_io_error(&error), Some(Errno::IO)),
                    }
                }
                assert!(reader.read().expect("no failure").is_none(), "a frame that cannot be seen");
                assert_eq!(next(&mut reader).sequence, 2, "whose number is missing");
                for sequence in 3..=50 {
                    assert_eq!(next(&mut reader).sequence, sequence);
                }
            }
        }
    }

    #[test]
    fn what_drivers_say_of_a_buffer_is_not_believed() {
        let read = |change: fn(&mut Metadata)| {
            let mut fake = Fake::new(3);
            change(&mut fake.meta);
            fake.started().read().expect("no failure")
        };
        let frame = |change| read(change).expect("a frame");
        assert_eq!(frame(|_| {}).data, [0, 1, 2, 3]);
        assert_eq!(frame(|_| {}).stamp_ms, Some(7089));
        assert_eq!(frame(|meta| meta.bytesused = 0).data, []);
        assert_eq!(frame(|meta| meta.bytesused = u32::MAX).data.len(), 20);
        assert_eq!(frame(|meta| meta.flags = Flags::TIMESTAMP_COPY).stamp_ms, None);
        assert_eq!(frame(|meta| meta.flags = Flags::empty()).stamp_ms, None);
        assert!(frame(|meta| meta.timestamp = Timestamp::new(i64::MIN, i64::MIN)).stamp_ms.is_some());
        assert!(read(|meta| meta.flags |= Flags::ERROR).is_none(), "damaged");
    }

    #[test]
    fn a_stream_that_cannot_be_stopped_is_kept_until_it_can() {
        let mut fake = Fake::new(3);
        fake.panics = true;
        let (busy, dropped) = (Arc::clone(&fake.busy), Arc::clone(&fake.dropped));
        busy.store(true, Ordering::SeqCst);
        drop(fake.started());
        release_stuck();
        assert!(!dropped.load(Ordering::SeqCst));
        busy.store(false, Ordering::SeqCst);
        release_stuck();
        assert!(dropped.load(Ordering::SeqCst), "and its panic is caught");
    }

    #[test]
    fn a_panic_in_the_release_does_no_harm_within_another() {
        let mut fake = Fake::new(3);
        fake.panics = true;
        let dropped = Arc::clone(&fake.dropped);
        let reader = fake.started();
        let outer = caught(move || {
            let _reader = reader;
            panic!("while reading");
        });
        assert_eq!(outer.unwrap_err().to_string(), "the library panicked: while reading");
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[test]
    fn devices_are_not_inherited_and_odd_paths_are_refused() {
        let device = device("/dev/null").expect("a device");
        let flags = rustix::io::fcntl_getfd(descriptor(&device.handle())).expect("its flags");
        assert!(flags.contains(FdFlags::CLOEXEC));
        let odd = super::device("/dev/video\0").map(drop).unwrap_err();
        assert_eq!(Errno::from_io_error(&odd), Some(Errno::INVAL));
    }
}
