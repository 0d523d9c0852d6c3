//! Writes reports on a thread of tokio's blocking pool: a control transfer to a scanner that does not answer
//! takes seconds, and no lane waits for a beep.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::codec::report::Output;

/// Reports kept while one is being written; a beep that comes later than two others says nothing any more.
const WAITING_MAX: usize = 2;

/// Where reports go: blocks until the device took it.
pub(crate) type Write = Box<dyn FnMut(&Output) -> io::Result<()> + Send>;

pub(crate) struct Beeper {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    write: Mutex<Write>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Output>,
    writing: bool,
    /// What the last write came to, until it was told.
    failed: Option<io::Error>,
}

impl Beeper {
    pub(crate) fn new(write: Write) -> Self {
        let (queue, write) = (Mutex::new(Queue::default()), Mutex::new(write));
        Self { shared: Arc::new(Shared { queue, write }) }
    }

    /// Writes soon; tells how the writes before went. Needs a tokio runtime.
    pub(crate) fn write(&self, output: &Output) -> Result<(), Error> {
        let mut queue = lock(&self.shared.queue);
        if let Some(error) = queue.failed.take() {
            return Err(Error::lost("signal", error));
        }
        if queue.waiting.len() == WAITING_MAX {
            queue.waiting.pop_front();
        }
        queue.waiting.push_back(output.clone());
        if !std::mem::replace(&mut queue.writing, true) {
            let shared = Arc::clone(&self.shared);
            tokio::task::spawn_blocking(move || shared.run());
        }
        Ok(())
    }
}

impl Shared {
    fn run(&self) {
        let mut write = lock(&self.write);
        loop {
            let mut queue = lock(&self.queue);
            let Some(output) = queue.waiting.pop_front() else {
                queue.writing = false;
                return;
            };
            drop(queue);
            let written = write(&output);
            if let Err(error) = written {
                let mut queue = lock(&self.queue);
                queue.waiting.clear();
                queue.failed = Some(error);
            }
        }
    }
}

impl fmt::Debug for Beeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Beeper").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_slow_device_hears_the_newest_and_a_lost_one_is_told() {
        let (release, wait) = mpsc::channel::<io::Result<()>>();
        let (heard, hears) = mpsc::channel();
        let beeper = Beeper::new(Box::new(move |output: &Output| {
            heard.send(output.bytes[0]).unwrap();
            wait.recv().unwrap()
        }));
        let beep = |number: u8| beeper.write(&Output { feature: false, bytes: vec![number] });
        beep(0).unwrap();
        assert_eq!(hears.recv().unwrap(), 0);
        for number in 1..=5 {
            beep(number).unwrap();
        }
        for _ in 0..2 {
            release.send(Ok(())).unwrap();
        }
        assert_eq!((hears.recv().unwrap(), hears.recv().unwrap()), (4, 5));
        release.send(Err(io::Error::other("gone"))).unwrap();
        while lock(&beeper.shared.queue).writing {
            tokio::task::yield_now().await;
        }
        assert_eq!(beep(6).unwrap_err().kind(), crate::ErrorKind::Disconnected);
    }
}
