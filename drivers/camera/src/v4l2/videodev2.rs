//! The part of the kernel's `linux/videodev2.h` that a capturing camera needs. Layouts and numbers are checked
//! against that header's by the tests below, for 64-bit targets.
#![expect(unsafe_code, reason = "ioctls and memory maps of the kernel")]

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Setter, Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("struct v4l2_buffer is laid out for 64-bit targets only");

pub const CAP_VIDEO_CAPTURE: u32 = 0x1;
pub const CAP_STREAMING: u32 = 0x0400_0000;
pub const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
pub const CAP_TIMEPERFRAME: u32 = 0x1000;
pub const BUF_FLAG_ERROR: u32 = 0x40;
pub const BUF_FLAG_TIMESTAMP_MASK: u32 = 0xe000;
pub const BUF_FLAG_TIMESTAMP_MONOTONIC: u32 = 0x2000;
pub const FRMSIZE_TYPE_DISCRETE: u32 = 1;
const BUF_TYPE_VIDEO_CAPTURE: u32 = 1;
const FIELD_NONE: u32 = 1;
const MEMORY_MMAP: u32 = 1;

/// Entries of one enumeration that are looked at; real cameras list some twenty.
const ENTRIES_MAX: u32 = 128;
/// Longest buffer that is mapped: the largest frame that the codec takes, 8192 x 8192 YUYV.
const BUFFER_MAX: u32 = 128 * 1024 * 1024;

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Capability {
    driver: [u8; 16],
    pub card: [u8; 32],
    bus_info: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FormatDescription {
    index: u32,
    kind: u32,
    flags: u32,
    description: [u8; 32],
    pixel_format: u32,
    media_bus_code: u32,
    reserved: [u32; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PixFormat {
    pub width: u32,
    pub height: u32,
    pub pixel_format: u32,
    field: u32,
    pub bytes_per_line: u32,
    pub size_image: u32,
    colorspace: u32,
    private: u32,
    flags: u32,
    encoding: u32,
    quantization: u32,
    transfer: u32,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct FormatRequest {
    kind: u32,
    padding: u32,
    pix: PixFormat,
    rest: [u8; 152],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct FrameSize {
    index: u32,
    pixel_format: u32,
    pub kind: u32,
    /// Width and height, or least, greatest and step of each.
    pub values: [u32; 6],
    reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct FrameInterval {
    index: u32,
    pixel_format: u32,
    width: u32,
    height: u32,
    pub kind: u32,
    /// Numerator and denominator in seconds, or least, greatest and step of such.
    pub values: [u32; 6],
    reserved: [u32; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct StreamParameters {
    kind: u32,
    capability: u32,
    mode: u32,
    numerator: u32,
    denominator: u32,
    extended_mode: u32,
    read_buffers: u32,
    rest: [u8; 176],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RequestBuffers {
    count: u32,
    kind: u32,
    memory: u32,
    capabilities: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Buffer {
    pub index: u32,
    kind: u32,
    pub bytes_used: u32,
    pub flags: u32,
    field: u32,
    padding: u32,
    pub stamp_s: i64,
    pub stamp_us: i64,
    timecode: [u32; 4],
    pub sequence: u32,
    memory: u32,
    offset: u64,
    length: u32,
    reserved: u32,
    request: u32,
}

/// An opened video device.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
}

/// Memory shared with the driver.
#[derive(Debug)]
pub struct Mapping {
    start: std::ptr::NonNull<std::ffi::c_void>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}

macro_rules! updaters {
    ($($(#[$doc:meta])* $name:ident, $number:literal, $type:ty;)*) => {
        impl Device {
            $($(#[$doc])*
            fn $name(&self, value: &mut $type) -> Result<(), Errno> {
                // SAFETY: the kernel reads and writes exactly this structure for this number; see the tests.
                unsafe { ioctl(&self.fd, Updater::<{ opcode::read_write::<$type>(b'V', $number) }, _>::new(value)) }
            })*
        }
    };
}

updaters! {
    enum_fmt, 2, FormatDescription;
    set_fmt, 5, FormatRequest;
    reqbufs, 8, RequestBuffers;
    querybuf, 9, Buffer;
    qbuf, 15, Buffer;
    dqbuf, 17, Buffer;
    get_parm, 21, StreamParameters;
    set_parm, 22, StreamParameters;
    enum_framesizes, 74, FrameSize;
    enum_frameintervals, 75, FrameInterval;
}

impl Device {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub fn capability(&self) -> Result<Capability, Errno> {
        let mut value = Capability::default();
        // SAFETY: the kernel fills exactly this structure for this number (QUERYCAP only writes).
        unsafe { ioctl(&self.fd, Updater::<{ opcode::read::<Capability>(b'V', 0) }, _>::new(&mut value)) }?;
        Ok(value)
    }

    /// Four-character codes that the camera offers.
    pub fn formats(&self) -> Vec<u32> {
        let describe = |index| {
            let mut value =
                FormatDescription { index, kind: BUF_TYPE_VIDEO_CAPTURE, ..FormatDescription::default() };
            self.enum_fmt(&mut value).ok().map(|()| value.pixel_format)
        };
        (0..ENTRIES_MAX).map_while(describe).collect()
    }

    pub fn frame_sizes(&self, pixel_format: u32) -> Vec<FrameSize> {
        let describe = |index| {
            let mut value = FrameSize { index, pixel_format, ..FrameSize::default() };
            self.enum_framesizes(&mut value).ok().map(|()| value)
        };
        (0..ENTRIES_MAX).map_while(describe).collect()
    }

    pub fn frame_intervals(&self, pixel_format: u32, width: u32, height: u32) -> Vec<FrameInterval> {
        let describe = |index| {
            let mut value = FrameInterval { index, pixel_format, width, height, ..FrameInterval::default() };
            self.enum_frameintervals(&mut value).ok().map(|()| value)
        };
        (0..ENTRIES_MAX).map_while(describe).collect()
    }

    /// Asks for progressive frames of a format and size; what the driver makes of it comes back.
    pub fn set_format(&self, pixel_format: u32, width: u32, height: u32) -> Result<PixFormat, Errno> {
        let pix = PixFormat { width, height, pixel_format, field: FIELD_NONE, ..PixFormat::default() };
        let mut value = FormatRequest { kind: BUF_TYPE_VIDEO_CAPTURE, padding: 0, pix, rest: [0; 152] };
        self.set_fmt(&mut value)?;
        Ok(value.pix)
    }

    /// Asks for an interval in seconds, as a fraction; what the driver makes of it comes back, or nothing where it
    /// has but one.
    pub fn set_interval(&self, numerator: u32, denominator: u32) -> Result<Option<[u32; 2]>, Errno> {
        let mut value = StreamParameters {
            kind: BUF_TYPE_VIDEO_CAPTURE,
            capability: 0,
            mode: 0,
            numerator: 0,
            denominator: 0,
            extended_mode: 0,
            read_buffers: 0,
            rest: [0; 176],
        };
        match self.get_parm(&mut value) {
            Ok(()) if value.capability & CAP_TIMEPERFRAME != 0 => {}
            Ok(()) | Err(Errno::NOTTY | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error),
        }
        (value.numerator, value.denominator) = (numerator, denominator);
        self.set_parm(&mut value)?;
        Ok(Some([value.numerator, value.denominator]))
    }

    /// Asks for buffers and maps what the driver gives.
    pub fn map_buffers(&self, count: u32) -> Result<Vec<Mapping>, Errno> {
        let mut request = RequestBuffers {
            count,
            kind: BUF_TYPE_VIDEO_CAPTURE,
            memory: MEMORY_MMAP,
            ..RequestBuffers::default()
        };
        self.reqbufs(&mut request)?;
        (0..request.count.min(count)).map(|index| self.map(index)).collect()
    }

    fn map(&self, index: u32) -> Result<Mapping, Errno> {
        let mut buffer = self.buffer(index);
        self.querybuf(&mut buffer)?;
        if buffer.length == 0 || buffer.length > BUFFER_MAX {
            return Err(Errno::NOMEM);
        }
        let length = buffer.length as usize;
        // The offset is the lower half of a union.
        let offset = buffer.offset & 0xffff_ffff;
        let at = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let start = unsafe { mmap(at, length, ProtFlags::READ, MapFlags::SHARED, &self.fd, offset) }?;
        std::ptr::NonNull::new(start).map(|start| Mapping { start, length }).ok_or(Errno::FAULT)
    }

    pub fn queue(&self, index: u32) -> Result<(), Errno> {
        self.qbuf(&mut self.buffer(index))
    }

    /// The next filled buffer; `AGAIN` when there is none.
    pub fn dequeue(&self) -> Result<Buffer, Errno> {
        let mut buffer = self.buffer(0);
        self.dqbuf(&mut buffer)?;
        Ok(buffer)
    }

    pub fn stream_on(&self) -> Result<(), Errno> {
        // SAFETY: the kernel reads one int.
        unsafe {
            ioctl(&self.fd, Setter::<{ opcode::write::<u32>(b'V', 18) }, u32>::new(BUF_TYPE_VIDEO_CAPTURE))
        }
    }

    pub fn stream_off(&self) -> Result<(), Errno> {
        // SAFETY: the kernel reads one int.
        unsafe {
            ioctl(&self.fd, Setter::<{ opcode::write::<u32>(b'V', 19) }, u32>::new(BUF_TYPE_VIDEO_CAPTURE))
        }
    }

    fn buffer(&self, index: u32) -> Buffer {
        Buffer { index, kind: BUF_TYPE_VIDEO_CAPTURE, memory: MEMORY_MMAP, ..Buffer::default() }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Capability {
    /// What this device node can do, which may be less than the whole device.
    pub fn flags(&self) -> u32 {
        if self.capabilities & CAP_DEVICE_CAPS != 0 { self.device_caps } else { self.capabilities }
    }
}

impl Mapping {
    /// Copies the first `used` bytes, or all when the driver says more. The driver does not write to a buffer that
    /// is not queued.
    pub fn copy(&self, used: u32) -> Vec<u8> {
        let length = self.length.min(used as usize);
        let mut bytes = Vec::with_capacity(length);
        // SAFETY: the mapping is readable for its whole length as long as `self` lives, also after the device is
        // gone; the copy touches it through raw pointers only.
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.as_ptr().cast::<u8>(), bytes.as_mut_ptr(), length);
            bytes.set_len(length);
        }
        bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and no reference to it outlives a call of `copy`.
        let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;

    /// Sizes, offsets and numbers as a C compiler prints them from linux/videodev2.h on x86-64 and AArch64.
    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Capability>(), 104);
        assert_eq!(offset_of!(Capability, card), 16);
        assert_eq!(offset_of!(Capability, device_caps), 88);
        assert_eq!(size_of::<FormatDescription>(), 64);
        assert_eq!(offset_of!(FormatDescription, pixel_format), 44);
        assert_eq!(size_of::<PixFormat>(), 48);
        assert_eq!(offset_of!(PixFormat, bytes_per_line), 16);
        assert_eq!(offset_of!(PixFormat, size_image), 20);
        assert_eq!((size_of::<FormatRequest>(), offset_of!(FormatRequest, pix)), (208, 8));
        assert_eq!((size_of::<FrameSize>(), offset_of!(FrameSize, values)), (44, 12));
        assert_eq!((size_of::<FrameInterval>(), offset_of!(FrameInterval, values)), (52, 20));
        assert_eq!((size_of::<StreamParameters>(), offset_of!(StreamParameters, numerator)), (204, 12));
        assert_eq!(size_of::<RequestBuffers>(), 20);
        assert_eq!(size_of::<Buffer>(), 88);
        assert_eq!(offset_of!(Buffer, bytes_used), 8);
        assert_eq!(offset_of!(Buffer, flags), 12);
        assert_eq!(offset_of!(Buffer, stamp_s), 24);
        assert_eq!(offset_of!(Buffer, sequence), 56);
        assert_eq!(offset_of!(Buffer, memory), 60);
        assert_eq!(offset_of!(Buffer, offset), 64);
        assert_eq!(offset_of!(Buffer, length), 72);
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(opcode::read::<Capability>(b'V', 0), 0x8068_5600);
        assert_eq!(opcode::read_write::<FormatDescription>(b'V', 2), 0xc040_5602);
        assert_eq!(opcode::read_write::<FormatRequest>(b'V', 5), 0xc0d0_5605);
        assert_eq!(opcode::read_write::<RequestBuffers>(b'V', 8), 0xc014_5608);
        assert_eq!(opcode::read_write::<Buffer>(b'V', 9), 0xc058_5609);
        assert_eq!(opcode::read_write::<Buffer>(b'V', 15), 0xc058_560f);
        assert_eq!(opcode::read_write::<Buffer>(b'V', 17), 0xc058_5611);
        assert_eq!(opcode::write::<u32>(b'V', 18), 0x4004_5612);
        assert_eq!(opcode::write::<u32>(b'V', 19), 0x4004_5613);
        assert_eq!(opcode::read_write::<StreamParameters>(b'V', 21), 0xc0cc_5615);
        assert_eq!(opcode::read_write::<StreamParameters>(b'V', 22), 0xc0cc_5616);
        assert_eq!(opcode::read_write::<FrameSize>(b'V', 74), 0xc02c_564a);
        assert_eq!(opcode::read_write::<FrameInterval>(b'V', 75), 0xc034_564b);
    }

    #[test]
    fn what_is_no_camera_is_refused() {
        let device = Device::new(std::fs::File::open("/dev/null").unwrap().into());
        assert_eq!(device.capability().err(), Some(Errno::NOTTY));
        assert!(device.formats().is_empty());
        assert!(device.frame_sizes(0).is_empty());
        assert!(device.frame_intervals(0, 1, 1).is_empty());
        assert_eq!(device.set_interval(1, 10), Ok(None));
        assert_eq!(device.map_buffers(4).err(), Some(Errno::NOTTY));
    }
}
