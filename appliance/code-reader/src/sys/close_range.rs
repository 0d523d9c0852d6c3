//! `close_range(2)`.

#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::io;

/// Closes every descriptor from `first` on. For a process that is about to give up its rights and uses none of
/// them any more.
///
/// # Errors
/// When the kernel is older than 5.9.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory. Descriptors that vanish make later calls on
    // them fail; the caller owns none of them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
