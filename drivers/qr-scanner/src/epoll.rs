//! Readiness of a file descriptor by `epoll`, through tokio.
#![expect(unsafe_code, reason = "registering with tokio's reactor asks for a promise about the descriptor")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Hands a descriptor to tokio's reactor. To be called in a tokio runtime.
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open, and names the same open file, until it is dropped, and nobody else drops
    // the one that is handed over here.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(io::Error::from)
}
