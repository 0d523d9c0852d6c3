//! Tells that something was plugged in, so that a lost scanner is opened at once and not after a pause.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::{Cause, Error, ErrorKind, epoll};

/// Most folders watched: `/dev`, `/dev/input` and one for each USB bus.
const FOLDERS_MAX: usize = 32;

/// Waits for devices.
pub struct Arrivals {
    fd: AsyncFd<OwnedFd>,
    dev: PathBuf,
    /// USB devices as udev tells of them, where udev runs.
    #[cfg(feature = "hid")]
    usb: Option<nusb::hotplug::HotplugWatch>,
}

/// Watches for devices that could be scanners: new or newly permitted nodes under `/dev` (hidraw, serial lines,
/// input, usbfs), and USB devices that udev announces. To be called in a tokio runtime.
///
/// # Errors
/// `Io` when the kernel has no more watches.
pub fn arrivals() -> Result<Arrivals, Error> {
    Arrivals::under(Path::new("/dev"))
}

impl Arrivals {
    fn under(dev: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::new(ErrorKind::Io, "watch for", Some(Cause::Io(error)));
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let fd = epoll::register(fd.map_err(|error| failed(error.into()))?).map_err(failed)?;
        #[cfg(feature = "hid")]
        let arrivals = Self { fd, dev: dev.to_owned(), usb: nusb::watch_devices().ok() };
        #[cfg(not(feature = "hid"))]
        let arrivals = Self { fd, dev: dev.to_owned() };
        arrivals.watch().map_err(|error| failed(error.into()))?;
        Ok(arrivals)
    }

    /// Returns when something arrived since the last call; several arrivals at once are one. Cancel-safe.
    ///
    /// # Errors
    /// When the kernel takes the watch away.
    pub async fn next(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        #[cfg(feature = "hid")]
        if self.usb_arrived(context) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let failed = |error: io::Error| Error::new(ErrorKind::Io, "watch for", Some(Cause::Io(error)));
            let mut guard = ready!(self.fd.poll_read_ready(context)).map_err(failed)?;
            match guard.try_io(|fd| read(fd.get_ref())) {
                Ok(Ok(arrived)) => {
                    // A folder may have come with it: `/dev/input`, or another USB bus.
                    self.watch().map_err(|error| failed(error.into()))?;
                    if arrived {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(Err(error)) => return Poll::Ready(Err(failed(error))),
                Err(_would_block) => {}
            }
        }
    }

    #[cfg(feature = "hid")]
    fn usb_arrived(&mut self, context: &mut Context<'_>) -> bool {
        use futures_util::StreamExt;
        let mut arrived = false;
        while let Some(watch) = &mut self.usb {
            match watch.poll_next_unpin(context) {
                Poll::Ready(Some(nusb::hotplug::HotplugEvent::Connected(_))) => arrived = true,
                Poll::Ready(Some(nusb::hotplug::HotplugEvent::Disconnected(_))) => {}
                Poll::Ready(None) => self.usb = None,
                Poll::Pending => break,
            }
        }
        arrived
    }

    /// Watches every folder that there is; one that is watched already stays so.
    fn watch(&self) -> Result<(), Errno> {
        let buses = std::fs::read_dir(self.dev.join("bus/usb")).into_iter().flatten().flatten();
        let fixed = ["", "input", "bus/usb"].map(|folder| self.dev.join(folder));
        let folders = fixed.into_iter().chain(buses.map(|bus| bus.path()));
        for folder in folders.take(FOLDERS_MAX) {
            // Attributes too: udev hands a node to its group after the kernel made it.
            let wanted = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
            match inotify::add_watch(&self.fd, &folder, wanted) {
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads all that waits; whether a node that could be a scanner was among it.
fn read(fd: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut reader = Reader::new(fd, &mut buffer);
    let mut read = false;
    let mut arrived = false;
    loop {
        match reader.next() {
            Ok(event) => {
                read = true;
                let name = event.file_name().map(|name| name.to_bytes());
                // After an overflow it may have been anything.
                let overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                arrived |= overflow || name.is_some_and(could_be_scanner);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if read => return Ok(arrived),
            Err(error) => return Err(error.into()),
        }
    }
}

fn could_be_scanner(name: &[u8]) -> bool {
    // `001` is a device on a USB bus, `input` a folder that may have come with its nodes in it.
    let is_usbfs = name.len() == 3 && name.iter().all(u8::is_ascii_digit);
    let prefixes: [&[u8]; 4] = [b"hidraw", b"tty", b"event", b"input"];
    is_usbfs || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Arrivals").field("dev", &self.dev).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    async fn arrives(arrivals: &mut Arrivals) -> bool {
        // Nothing is written while this waits, so the time-out decides nothing but when to give up.
        tokio::time::timeout(Duration::from_millis(20), arrivals.next())
            .await
            .is_ok_and(|arrived| arrived.is_ok())
    }

    #[tokio::test]
    async fn nodes_that_could_be_scanners_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let dev = folder.path();
        let mut arrivals = Arrivals::under(dev).unwrap();
        #[cfg(feature = "hid")]
        {
            // The machine's own devices are none of this test's.
            arrivals.usb = None;
        }
        let touch = |path: &str| {
            let path = dev.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        assert!(!arrives(&mut arrivals).await);
        for (path, want) in [
            ("hidraw0", true),
            ("sda", false),
            ("ttyACM0", true),
            ("input/event3", true),
            ("input/event4", true),
            ("input/mouse0", false),
            ("bus/usb/001/002", false),
            ("bus/usb/001/003", true),
            ("ttyUSB0", true),
        ] {
            touch(path);
            assert_eq!(arrives(&mut arrivals).await, want, "{path}");
            assert!(!arrives(&mut arrivals).await, "{path} is told once");
        }
        fs::set_permissions(dev.join("hidraw0"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        assert!(arrives(&mut arrivals).await, "a node that is permitted now may be opened now");
    }
}
