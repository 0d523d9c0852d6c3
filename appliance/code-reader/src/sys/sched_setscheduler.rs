//! `sched_setscheduler(2)`.

#![expect(unsafe_code, reason = "a system call without a safe wrapper")]

use std::io;

/// Makes this thread an ordinary one: a gate runs in real time, and its children would inherit that.
///
/// # Errors
/// When the kernel refuses.
pub fn become_ordinary() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure lives through the call, which only reads it; 0 means this thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
