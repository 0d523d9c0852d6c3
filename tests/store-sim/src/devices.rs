//! The world's side of every simulated device: carries codes, passages, masses and pictures from the world to
//! the drivers, unlock pulses back, and the day's device faults.

use camera::Format;
use engine::message::Direction;
use engine::store::StoreMap;
use engine::time::{Instant, Millis};
use engine::units::{CameraId, LaneId};
use load_cell::sim::ModuleSpec;
use tokio::io::DuplexStream;
use turnstile::Line;

use crate::dice::Dice;
use crate::fault::{Fault, FaultKind};
use crate::world::World;

/// Time between two frames of a camera.
const FRAME: Millis = Millis(100);
/// Every other camera exposes half a period later, as cameras that nobody synchronised do.
const STAGGER: Millis = Millis(50);
/// The world's step.
const STEP: Millis = Millis(50);

/// The driver's ends, for services.
pub struct Opened {
    /// In the order of the map's lanes.
    pub lanes: Vec<OpenedLane>,
    /// In the order of the map's cameras.
    pub cameras: Vec<(CameraId, camera::sim::Sim)>,
    /// In the order of the map's gondolas.
    pub lines: Vec<OpenedLine>,
}

/// A lane's devices. Direction A of the turnstile is the entry.
pub struct OpenedLane {
    /// Which.
    pub lane: LaneId,
    /// Its turnstile.
    pub turnstile: turnstile::sim::Sim,
    /// Its code reader, on lanes for entry.
    pub scanner: Option<qr_scanner::sim::Sim>,
}

/// A weighing line: one a gondola, one module a shelf (address = shelf + 1), one channel a plate.
pub struct OpenedLine {
    /// Which gondola.
    pub gondola: u16,
    /// What is on it.
    pub modules: Vec<ModuleSpec>,
    /// The master's end.
    pub transport: DuplexStream,
    /// The modules' end: run it as a task.
    pub sim: load_cell::sim::Sim,
}

/// A pulse on an unlock line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlock {
    /// Which lane.
    pub lane: LaneId,
    /// When the world saw it.
    pub at: Instant,
}

/// The world's ends.
pub struct Devices {
    lanes: Vec<LaneEnds>,
    cameras: Vec<CameraEnd>,
    lines: Vec<LineEnd>,
    in_force: Vec<bool>,
    loss_percent: u8,
    dice: Dice,
    picture: camera::Rgb,
    unlocks: Vec<Unlock>,
    /// Pictures drawn so far.
    frames: u64,
    draws: bool,
}

struct LaneEnds {
    lane: LaneId,
    turnstile: turnstile::sim::SimHandle,
    scanner: Option<qr_scanner::sim::SimHandle>,
    unlocks: u64,
}

struct CameraEnd {
    id: CameraId,
    handle: camera::sim::SimHandle,
    format: Format,
    next: Instant,
}

struct LineEnd {
    gondola: u16,
    modules: Vec<ModuleSpec>,
    handle: load_cell::sim::SimHandle,
}

impl Devices {
    /// All devices of a world, both ends. Cameras speak `format`.
    #[must_use]
    pub fn new(world: &World, format: Format) -> (Self, Opened) {
        let map = world.map();
        let mut opened = Opened { lanes: Vec::new(), cameras: Vec::new(), lines: Vec::new() };
        let mut lanes = Vec::new();
        for lane in &map.lanes {
            let (turnstile, handle) = turnstile::sim::Sim::new();
            let (scanner, scanner_handle) = lane.entry.then(qr_scanner::sim::Sim::new).unzip();
            opened.lanes.push(OpenedLane { lane: lane.id.clone(), turnstile, scanner });
            lanes.push(LaneEnds {
                lane: lane.id.clone(),
                turnstile: handle,
                scanner: scanner_handle,
                unlocks: 0,
            });
        }
        let mut cameras = Vec::new();
        for (index, camera) in map.cameras.iter().enumerate() {
            let (sim, handle) = camera::sim::Sim::new(camera.model.width, camera.model.height, format);
            opened.cameras.push((camera.id, sim));
            let next = world.now().after(if index % 2 == 0 { FRAME } else { Millis(FRAME.0 + STAGGER.0) });
            cameras.push(CameraEnd { id: camera.id, handle, format, next });
        }
        let mut lines = Vec::new();
        for gondola in &map.gondolas {
            let modules = modules(map, gondola.id);
            let (transport, sim, handle) = load_cell::sim::line(&modules);
            opened.lines.push(OpenedLine { gondola: gondola.id, modules: modules.clone(), transport, sim });
            lines.push(LineEnd { gondola: gondola.id, modules, handle });
        }
        let devices = Self {
            lanes,
            cameras,
            lines,
            in_force: vec![false; world.faults().len()],
            loss_percent: 0,
            dice: Dice::new(world.options().seed, 7),
            picture: camera::Rgb::new(0, 0),
            unlocks: Vec::new(),
            frames: 0,
            draws: true,
        };
        devices.load(world);
        (devices, opened)
    }

    /// Draws no pictures from now on: cameras give no frames. For days that look only at the gate and the
    /// shelves.
    pub fn stop_cameras(&mut self) {
        self.draws = false;
    }

    /// Moves the world on to `now`, step by step, with everything that goes between it and the devices.
    pub fn step(&mut self, world: &mut World, now: Instant) {
        while world.now().after(STEP) <= now {
            self.break_and_mend(world);
            self.gather_unlocks(world);
            world.step(world.now().after(STEP));
            self.show_codes(world);
            self.report_passages(world);
            self.load(world);
            if self.draws {
                self.expose(world);
            }
        }
    }

    /// Every unlock pulse of an entry lane so far, for the oracles.
    #[must_use]
    pub fn unlocks(&self) -> &[Unlock] {
        &self.unlocks
    }

    /// Pictures drawn so far, over all cameras.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Handle of a lane's turnstile, for latency (`unlocked_at`) and for opening it again after a killed
    /// service.
    #[must_use]
    pub fn turnstile(&self, lane: &LaneId) -> Option<&turnstile::sim::SimHandle> {
        self.lanes.iter().find(|ends| ends.lane == *lane).map(|ends| &ends.turnstile)
    }

    /// Handle of a lane's code reader, for opening it again.
    #[must_use]
    pub fn scanner(&self, lane: &LaneId) -> Option<&qr_scanner::sim::SimHandle> {
        self.lanes.iter().find(|ends| ends.lane == *lane).and_then(|ends| ends.scanner.as_ref())
    }

    /// Opens a camera again for a service that was killed with its driver; the old driver sees no more
    /// frames.
    #[must_use]
    pub fn reopen_camera(&mut self, id: CameraId) -> Option<camera::sim::Sim> {
        let end = self.cameras.iter_mut().find(|end| end.id == id)?;
        let (sim, handle) = camera::sim::Sim::new(end.handle.width(), end.handle.height(), end.format);
        end.handle = handle;
        // Whatever is wrong with the camera now is found wrong again at the next step.
        self.in_force.fill(false);
        Some(sim)
    }

    /// Opens a gondola's weighing line again for a service that was killed with its driver.
    #[must_use]
    pub fn reopen_line(&mut self, world: &World, gondola: u16) -> Option<OpenedLine> {
        let end = self.lines.iter_mut().find(|end| end.gondola == gondola)?;
        let (transport, sim, handle) = load_cell::sim::line(&end.modules);
        end.handle = handle;
        let opened = OpenedLine { gondola, modules: end.modules.clone(), transport, sim };
        self.in_force.fill(false);
        self.load(world);
        Some(opened)
    }

    fn break_and_mend(&mut self, world: &World) {
        let now = world.now();
        for (index, fault) in world.faults().iter().enumerate() {
            let holds = fault.holds(now);
            if holds != self.in_force[index] {
                self.in_force[index] = holds;
                self.set_fault(fault, holds);
            }
        }
    }

    fn set_fault(&mut self, fault: &Fault, holds: bool) {
        match &fault.kind {
            FaultKind::ReaderUnplugged { lane } => {
                if let Some(scanner) = self.scanner(lane) {
                    if holds { scanner.unplug() } else { scanner.plug() }
                }
            }
            FaultKind::CameraDark { camera } => {
                if let Some(end) = self.cameras.iter().find(|end| end.id == *camera) {
                    end.handle.dark(holds);
                }
            }
            FaultKind::CameraUnplugged { camera } => {
                if let Some(end) = self.cameras.iter().find(|end| end.id == *camera) {
                    if holds { end.handle.unplug() } else { end.handle.plug() }
                }
            }
            FaultKind::FrameLoss { percent } => self.loss_percent = if holds { *percent } else { 0 },
            FaultKind::PlateStuck { plate } => {
                if let Some(end) = self.lines.iter().find(|end| end.gondola == plate.gondola) {
                    end.handle.stick(plate.shelf as u8 + 1, plate.plate as u8, holds);
                }
            }
            FaultKind::LineDown { gondola } => {
                if let Some(end) = self.lines.iter().find(|end| end.gondola == *gondola) {
                    if holds { end.handle.unplug() } else { end.handle.plug() }
                }
            }
            // Whoever runs the services carries these out.
            FaultKind::BusDown | FaultKind::ServiceKilled { .. } => {}
        }
    }

    fn gather_unlocks(&mut self, world: &mut World) {
        for ends in &mut self.lanes {
            let unlocks = ends.turnstile.unlocks();
            // Only the entry direction is ever locked.
            for _ in ends.unlocks..unlocks {
                world.unlock(&ends.lane);
                self.unlocks.push(Unlock { lane: ends.lane.clone(), at: world.now() });
            }
            ends.unlocks = unlocks;
        }
    }

    fn show_codes(&self, world: &mut World) {
        for shown in world.take_shown() {
            if let Some(scanner) = self.scanner(&shown.lane) {
                scanner.show(shown.text.as_bytes());
            }
        }
    }

    fn report_passages(&self, world: &World) {
        for ends in &self.lanes {
            // The detector sees a body before the passage line counts it.
            ends.turnstile.set(Line::Detector, world.detects(&ends.lane));
            ends.turnstile.set(Line::PassageA, world.passage(&ends.lane, Direction::Entry));
            ends.turnstile.set(Line::PassageB, world.passage(&ends.lane, Direction::Exit));
        }
    }

    fn load(&self, world: &World) {
        for (plate, tenths) in world.map().plates.iter().zip(world.counts()) {
            if let Some(end) = self.lines.iter().find(|end| end.gondola == plate.id.gondola) {
                end.handle.set_counts(plate.id.shelf as u8 + 1, plate.id.plate as u8, *tenths);
            }
        }
    }

    fn expose(&mut self, world: &mut World) {
        let now = world.now();
        for (index, end) in self.cameras.iter_mut().enumerate() {
            if now < end.next {
                continue;
            }
            end.next = end.next.after(FRAME);
            if self.loss_percent > 0 && self.dice.below(100) < usize::from(self.loss_percent) {
                end.handle.drop_next(1);
            }
            world.render(index, &mut self.picture);
            end.handle.push(&self.picture, now.0);
            self.frames += 1;
        }
    }
}

/// One module a shelf, with a channel for each of its plates.
fn modules(map: &StoreMap, gondola: u16) -> Vec<ModuleSpec> {
    let mut modules: Vec<ModuleSpec> = Vec::new();
    for plate in map.plates.iter().filter(|plate| plate.id.gondola == gondola) {
        let (address, channels) = (plate.id.shelf as u8 + 1, plate.id.plate as u8 + 1);
        match modules.iter_mut().find(|module| module.address == address) {
            Some(module) => module.channels = module.channels.max(channels),
            None => modules.push(ModuleSpec { address, channels }),
        }
    }
    modules
}
