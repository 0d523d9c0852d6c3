//! How many people are inside, as the box's lanes and the store's other boxes count passages.

use std::sync::{Arc, Mutex, PoisonError};

use engine::gate::Input;
use engine::message::Direction;
use engine::units::LaneId;
use tokio::sync::mpsc;

use crate::lane::Told;

/// The count, and the lanes that want to know it; clones share both.
#[derive(Clone, Default)]
pub(crate) struct Occupancy {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    inside: u32,
    lanes: Vec<(LaneId, mpsc::Sender<Told>)>,
}

impl Occupancy {
    /// From now on `lane` is told of passages elsewhere.
    pub(crate) fn tell(&self, lane: LaneId, inbox: mpsc::Sender<Told>) {
        self.lock().lanes.push((lane, inbox));
    }

    /// Somebody passed, at `lane` of this box or at another box; that lane itself has counted already.
    pub(crate) fn passed(&self, lane: Option<&LaneId>, direction: Direction) {
        let mut shared = self.lock();
        shared.inside = match direction {
            Direction::Entry => shared.inside.saturating_add(1),
            Direction::Exit => shared.inside.saturating_sub(1),
        };
        let told = Input::Inside(shared.inside);
        for (_, inbox) in shared.lanes.iter().filter(|(id, _)| Some(id) != lane) {
            // A lane that is behind learns it from the next passage.
            let _ = inbox.try_send(Told::Input(told.clone()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
