//! Waiting for another process to die.
//!
//! A pidfd (`pidfd_open(2)`, Linux 5.3) becomes readable when the process has ended, however it ended. The
//! kernel closes the files of a process before it says so: its GPIO lines are free by then.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

/// The process that we watch.
#[derive(Debug)]
pub struct Ward {
    /// None when it is dead already.
    pidfd: Option<OwnedFd>,
}

impl Ward {
    /// Takes a process under watch; one that is dead already is found dead by [`Ward::wait`].
    ///
    /// # Errors
    /// When the kernel has no pidfds or may not give one.
    pub fn take(pid: Pid) -> io::Result<Self> {
        let parent = getppid() == Some(pid);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::SRCH) => None,
            Err(errno) => return Err(errno.into()),
        };
        // When our parent died in between, its number may belong to somebody else by now.
        let orphaned = parent && getppid() != Some(pid);
        Ok(Self { pidfd: pidfd.filter(|_| !orphaned) })
    }

    /// Waits for its death.
    ///
    /// # Errors
    /// When waiting is refused; then nothing is known.
    pub fn wait(&self) -> io::Result<()> {
        let Some(pidfd) = &self.pidfd else { return Ok(()) };
        loop {
            match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
