//! What keeps the lanes punctual on a busy box: memory that is never paged out, and loops that run before
//! everything else where the operating system allows it.

use rustix::mm::{MlockAllFlags, mlockall};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Real-time priority of the lanes: above every service, below the kernel's own interrupt threads (50).
const PRIORITY: u8 = 20;

/// What could not be had; the gate serves all the same.
#[derive(Debug, thiserror::Error)]
pub enum Degraded {
    /// Pages may be written out and must be read back when a shopper comes.
    #[error("memory cannot be locked")]
    Memory(#[source] std::io::Error),
    /// Another program may run first.
    #[error("real-time priority cannot be had")]
    Priority(#[source] std::io::Error),
}

/// Keeps all memory that this process has used, and will use, in RAM. Not what it never touches: the kernel takes
/// a dead process's memory apart before its files, so every page that is locked for nothing makes the lines fall
/// later.
///
/// # Errors
/// Without `CAP_IPC_LOCK` or a sufficient `LimitMEMLOCK=`.
pub fn lock_memory() -> Result<(), Degraded> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|error| Degraded::Memory(error.into()))
}

/// A thread of its own for the lanes, before everything else where the operating system allows it. It ends
/// when it is dropped.
pub struct Thread {
    runtime: Handle,
    // Closed by dropping it.
    _end: oneshot::Sender<()>,
}

impl Thread {
    /// Starts it; what could not be had comes beside it.
    ///
    /// # Errors
    /// When no thread or no asynchronous runtime can be made.
    pub fn start() -> std::io::Result<(Self, Result<(), Degraded>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("lanes".to_owned()).spawn(move || {
            // Who started us is waiting for exactly this.
            let _ = tell.send(raise_priority());
            // The sender never sends: its end is ours.
            let _ = runtime.block_on(ended);
        })?;
        let raised = told.recv().map_err(std::io::Error::other)?;
        Ok((Self { runtime: handle, _end: end }, raised))
    }

    /// Where to run the lanes.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.runtime.clone()
    }
}

/// Gives the calling thread real-time priority, `SCHED_FIFO`: it runs until it waits, and it only ever waits.
fn raise_priority() -> Result<(), Degraded> {
    let value = ThreadPriorityValue::try_from(PRIORITY)
        .map_err(|what| Degraded::Priority(std::io::Error::other(what)))?;
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(value),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
    .map_err(|error| match error {
        thread_priority::Error::OS(code) => Degraded::Priority(std::io::Error::from_raw_os_error(code)),
        other => Degraded::Priority(std::io::Error::other(other)),
    })
}
