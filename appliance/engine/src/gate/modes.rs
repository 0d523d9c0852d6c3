//! What a lane does when nothing is wrong: modes of its directions, whom it serves, opening hours, capacity.

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::message::{DenyReason, Direction, GateMode, GateModes, GateService, Notice, OrderRefusal};
use crate::time::Instant;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Modes {
    takes_entries: bool,
    exit_by_controller: bool,
    capacity: Option<u32>,
    pub(super) now: GateModes,
    /// When the store opens or closes by itself.
    turns: Option<Instant>,
}

impl Modes {
    pub(super) fn new(settings: &Settings) -> Self {
        let exit = match (settings.exit_released_by_controller, settings.exit) {
            (true, _) => GateMode::Free,
            (false, GateMode::Locked) => GateMode::Controlled,
            (false, exit) => exit,
        };
        let (entry, service) = (settings.entry, settings.service);
        Self {
            takes_entries: settings.takes_entries,
            exit_by_controller: settings.exit_released_by_controller,
            capacity: settings.capacity,
            now: GateModes { entry, exit, service, ..GateModes::default() },
            turns: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.turns
    }

    pub(super) fn advance(&mut self, now: Instant) {
        if self.turns.is_some_and(|turns| now >= turns) {
            self.turns = None;
            self.now.store_open = !self.now.store_open;
        }
    }

    pub(super) fn hours(&mut self, open: bool, turns: Option<Instant>) {
        self.now.store_open = open;
        self.turns = turns;
    }

    pub(super) fn set_mode(&mut self, direction: Direction, mode: GateMode) -> Result<(), OrderRefusal> {
        match (direction, mode) {
            (Direction::Entry, mode) => self.now.entry = mode,
            (Direction::Exit, GateMode::Locked) => return Err(OrderRefusal::ExitNeverLocked),
            (Direction::Exit, mode) if self.exit_by_controller && mode != GateMode::Free => {
                return Err(OrderRefusal::ExitByController);
            }
            (Direction::Exit, mode) => self.now.exit = mode,
        }
        Ok(())
    }

    pub(super) fn count(&mut self, direction: Direction) {
        self.now.inside = match direction {
            Direction::Entry => self.now.inside.saturating_add(1),
            Direction::Exit => self.now.inside.saturating_sub(1),
        };
    }

    fn full(&self, more: u32) -> bool {
        self.capacity.is_some_and(|capacity| self.now.inside.saturating_add(more) > capacity)
    }

    /// Why nobody's code would open.
    pub(super) fn refuses_all(&self) -> Option<DenyReason> {
        if !self.takes_entries {
            return Some(DenyReason::LaneClosed);
        }
        if self.now.service == GateService::Maintenance {
            return Some(DenyReason::UnderMaintenance);
        }
        (self.now.entry == GateMode::Locked).then_some(DenyReason::LaneClosed)
    }

    /// Why a code of shoppers would not open for so many of them.
    pub(super) fn refuses_shoppers(&self, passages: u8) -> Option<DenyReason> {
        match self.now.service {
            GateService::Maintenance => return Some(DenyReason::UnderMaintenance),
            GateService::Cleaning => return Some(DenyReason::LaneClosed),
            GateService::Staff => return Some(DenyReason::StaffOnly),
            GateService::Shopping => {}
        }
        if !self.now.store_open {
            return Some(DenyReason::StoreClosed);
        }
        if self.now.entry == GateMode::Controlled {
            return Some(DenyReason::AskStaff);
        }
        self.full(u32::from(passages)).then_some(DenyReason::StoreFull)
    }

    /// Whether entries need nothing at all.
    pub(super) fn entry_free(&self) -> bool {
        let free = self.now.entry == GateMode::Free && self.takes_entries;
        free && self.refuses_shoppers(1).is_none()
    }

    /// Whether we hold the exit released; otherwise the controller does, or it is released on request.
    pub(super) fn exit_free(&self) -> bool {
        self.now.exit == GateMode::Free && !self.exit_by_controller
    }

    /// Whether people work at the lane itself: nobody is told off, no passage is an incident.
    pub(super) fn being_worked_on(&self) -> bool {
        matches!(self.now.service, GateService::Cleaning | GateService::Maintenance)
    }

    pub(super) fn only_exit(&self) -> bool {
        !self.takes_entries
    }

    /// What the screen says while nobody is there.
    pub(super) fn notice(&self) -> Notice {
        match (self.now.service, self.now.entry) {
            (GateService::Maintenance, _) => Notice::Maintenance,
            (GateService::Cleaning, _) => Notice::Cleaning,
            _ if !self.takes_entries => Notice::ExitOnly,
            (_, GateMode::Locked) => Notice::LaneClosed,
            (GateService::Staff, _) => Notice::StaffOnly,
            _ if !self.now.store_open => Notice::StoreClosed { opens: self.turns },
            (_, GateMode::Controlled) => Notice::AskStaff,
            _ if self.full(1) => Notice::StoreFull,
            (_, GateMode::Free) => Notice::Free,
            (_, GateMode::Single | GateMode::Group) => Notice::Idle,
        }
    }

    #[cfg(test)]
    pub(super) fn each_time(&mut self, change: &mut impl FnMut(&mut Instant)) {
        self.turns.iter_mut().for_each(change);
    }
}
