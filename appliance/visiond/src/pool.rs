//! Detectors that cameras take turns with.

use tokio::sync::{Mutex, mpsc};

/// Idle detectors. Cameras are served in the order in which they came, so that none starves when detection is
/// slow.
pub struct Pool<D> {
    idle: Mutex<mpsc::Receiver<Seat<D>>>,
}

/// A detector on loan. Who drops it without [`Seat::give_back`], as a panic does, loses the detector for
/// good: nobody knows what state it was left in.
pub struct Seat<D> {
    /// The detector.
    pub detector: D,
    back: mpsc::Sender<Self>,
}

impl<D> Pool<D> {
    pub fn new(detectors: Vec<D>) -> Self {
        let (back, idle) = mpsc::channel(detectors.len().max(1));
        for detector in detectors {
            Seat { detector, back: back.clone() }.give_back();
        }
        Self { idle: Mutex::new(idle) }
    }

    /// Waits for a detector; `None` when every one is lost.
    pub async fn borrow(&self) -> Option<Seat<D>> {
        // Only seats hold the sending side, so the channel closes with the last of them.
        self.idle.lock().await.recv().await
    }
}

impl<D> Seat<D> {
    pub fn give_back(self) {
        let back = self.back.clone();
        // There is room for every detector; it fails only when the service has ended.
        let _ = back.try_send(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lost_detector_is_not_waited_for() {
        let pool = Pool::new(vec![1, 2]);
        drop(pool.borrow().await.expect("the first"));
        let last = pool.borrow().await.expect("the second");
        last.give_back();
        drop(pool.borrow().await.expect("the second again"));
        assert!(pool.borrow().await.is_none());
    }
}
