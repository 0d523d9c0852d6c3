//! `/dev/hidrawN`: the reports of a HID device while the kernel's driver holds its interface
//! (`linux/hidraw.h`). Stalled endpoints are the kernel's to clear.
#![expect(unsafe_code, reason = "hidraw's ioctls have no safe wrapper")]

use std::ffi::c_void;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Direction, Getter, Ioctl, IoctlOutput, Opcode, opcode};
use tokio::io::unix::AsyncFd;

use crate::beeper::Write;
use crate::codec::descriptor::DESCRIPTOR_MAX;
use crate::{Cause, Error, ErrorKind, epoll};

/// Longest report that hidraw hands out (`HID_MAX_BUFFER_SIZE`).
const REPORT_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Hidraw {
    fd: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Hidraw {
    /// Opens a node for this process alone, as far as others ask for the lock too: hidraw itself gives each
    /// reader every report.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(Error::opening)?;
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(Error::opening)?;
        // What cannot be waited for is no device of this kind.
        let fd = epoll::register(fd)
            .map_err(|error| Error::new(ErrorKind::Unsupported, "open", Some(Cause::Io(error))))?;
        Ok(Self { fd, buffer: vec![0; REPORT_MAX] })
    }

    pub(crate) fn descriptor(&self) -> Result<Vec<u8>, Error> {
        // SAFETY: HIDIOCGRDESCSIZE is _IOR('H', 1, int) and writes one int.
        let size: i32 = unsafe {
            let get = Getter::<{ opcode::read::<i32>(b'H', 1) }, i32>::new();
            rustix::ioctl::ioctl(&self.fd, get).map_err(Error::opening)?
        };
        let size = u32::try_from(size).unwrap_or(0).min(DESCRIPTOR_MAX as u32);
        let mut answer = Box::new(RawDescriptor { size, value: [0; DESCRIPTOR_MAX] });
        // SAFETY: HIDIOCGRDESC is _IOR('H', 2, struct hidraw_report_descriptor): it reads `size`, checks it, and
        // writes that many bytes of `value`.
        unsafe { rustix::ioctl::ioctl(&self.fd, GetDescriptor(&mut answer)).map_err(Error::opening)? };
        Ok(answer.value[..size as usize].to_vec())
    }

    /// The next input report. Cancel-safe.
    pub(crate) async fn read(&mut self) -> Result<&[u8], Error> {
        let lost = |error| Error::lost("read", error);
        loop {
            let mut guard = self.fd.readable().await.map_err(lost)?;
            match guard.try_io(|fd| Ok(rustix::io::read(fd, &mut self.buffer)?)) {
                Ok(Ok(0)) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(Ok(length)) => return Ok(&self.buffer[..length]),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(lost(error)),
                Err(_would_block) => {}
            }
        }
    }

    /// Writes to the same open file; hidraw's writes block whatever its flags are.
    pub(crate) fn writer(&self) -> Result<Write, Error> {
        let fd = self.fd.get_ref().try_clone().map_err(Error::opening)?;
        Ok(Box::new(move |output| {
            if output.feature {
                let mut bytes = output.bytes.clone();
                // SAFETY: HIDIOCSFEATURE(len) is _IOC(READ | WRITE, 'H', 6, len) and touches `len` bytes.
                unsafe { rustix::ioctl::ioctl(&fd, SetFeature(&mut bytes))? };
                return Ok(());
            }
            let written = rustix::io::write(&fd, &output.bytes);
            written.map(|_| ()).map_err(io::Error::from)
        }))
    }
}

#[repr(C)]
struct RawDescriptor {
    size: u32,
    value: [u8; DESCRIPTOR_MAX],
}

struct GetDescriptor<'a>(&'a mut RawDescriptor);

// SAFETY: the opcode carries the size of the structure that the pointer points to, and nothing is made of the
// result but the structure itself.
unsafe impl Ioctl for GetDescriptor<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read::<RawDescriptor>(b'H', 2)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<(), Errno> {
        Ok(())
    }
}

struct SetFeature<'a>(&'a mut [u8]);

// SAFETY: the opcode carries the length of the slice that the pointer points to.
unsafe impl Ioctl for SetFeature<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::from_components(Direction::ReadWrite, b'H', 6, self.0.len())
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<(), Errno> {
        Ok(())
    }
}
