//! Polling of load-cell lines: one task a line, ten rounds a second, a silent module asked less often so that
//! it does not slow its neighbours down.

use std::io;
use std::time::Duration;

use engine::store::StoreMap;
use engine::time::Instant;
use engine::units::{Mass, PlateId};
use load_cell::{Channel, ChannelState, ErrorKind, LoadCells, Reading};
use runtime::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Pause between rounds: 10 Hz.
const ROUND: Duration = Duration::from_millis(100);

/// A module that failed this often in a row counts as silent.
const FAILURES_MAX: u32 = 3;

/// Rounds between two tries of a silent module: one a second, so that even a shelf unit of dead modules keeps
/// its pace.
const SILENT_ROUNDS: u32 = 10;

/// Which plates are on a line, by module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) gondola: u16,
    modules: Vec<Module>,
}

#[derive(Clone, Debug, PartialEq)]
struct Module {
    address: u8,
    plates: Vec<PlateId>,
}

/// One round of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Round {
    pub(crate) gondola: u16,
    pub(crate) readings: Vec<PlateReading>,
    /// What is wrong, for people; empty when all is well.
    pub(crate) faults: Vec<String>,
    /// No module answers.
    pub(crate) dead: bool,
}

/// What a plate showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PlateReading {
    pub(crate) plate: PlateId,
    pub(crate) at: Instant,
    /// `None` when it did not answer.
    pub(crate) mass: Option<Mass>,
    /// The module calls the mass at rest.
    pub(crate) at_rest: bool,
}

/// A shelf that no module address can serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plate {0} cannot be wired: shelves are 0 to 246, plates of a shelf 0 to 39")]
pub struct BadPlate(pub PlateId);

impl Plan {
    /// The modules of a gondola: address = shelf + 1, channel = plate.
    pub(crate) fn of(map: &StoreMap, gondola: u16) -> Result<Self, BadPlate> {
        let mut plates: Vec<PlateId> =
            map.plates.iter().map(|plate| plate.id).filter(|plate| plate.gondola == gondola).collect();
        plates.sort_unstable();
        let mut modules: Vec<Module> = Vec::new();
        for plate in plates {
            let address = u8::try_from(plate.shelf + 1).ok().filter(|address| *address <= 247);
            let address = address.ok_or(BadPlate(plate))?;
            if plate.plate >= u16::from(load_cell::codec::CHANNELS_MAX) {
                return Err(BadPlate(plate));
            }
            match modules.last_mut().filter(|module| module.address == address) {
                Some(module) => module.plates.push(plate),
                None => modules.push(Module { address, plates: vec![plate] }),
            }
        }
        Ok(Self { gondola, modules })
    }
}

/// Opens a line's transport, at the start and after it was lost.
pub type Open<T> = Box<dyn FnMut() -> io::Result<T> + Send>;

/// An open transport that cannot be opened again.
#[must_use]
pub fn opened<T: Send + 'static>(transport: T) -> Open<T> {
    let mut transport = Some(transport);
    Box::new(move || transport.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
}

/// A line's transport; absent while it cannot be opened.
struct Port<T> {
    open: Open<T>,
    cells: Option<LoadCells<T>>,
    /// Rounds until the next try.
    wait: u32,
    /// Why it is not open.
    why: String,
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Port<T> {
    fn new(open: Open<T>) -> Self {
        Self { open, cells: None, wait: 0, why: String::new() }
    }

    fn cells(&mut self) -> Option<&mut LoadCells<T>> {
        if self.cells.is_none() {
            if self.wait > 0 {
                self.wait -= 1;
                return None;
            }
            match (self.open)() {
                Ok(transport) => self.cells = Some(LoadCells::new(transport)),
                Err(error) => {
                    self.wait = SILENT_ROUNDS - 1;
                    self.why = format!("the line cannot be opened: {error}");
                }
            }
        }
        self.cells.as_mut()
    }
}

/// Reads a line for ever and hands every round over.
pub(crate) async fn poll<T>(plan: Plan, open: Open<T>, clock: Clock, rounds: mpsc::Sender<Round>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut pace = tokio::time::interval(ROUND);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut states = vec![State::default(); plan.modules.len()];
    let mut port = Port::new(open);
    loop {
        pace.tick().await;
        let mut round =
            Round { gondola: plan.gondola, readings: Vec::new(), faults: Vec::new(), dead: false };
        let Some(cells) = port.cells() else {
            let at = clock.now();
            plan.modules.iter().for_each(|module| note(module, None, at, &mut round));
            round.faults.push(port.why.clone());
            round.dead = true;
            if rounds.send(round).await.is_err() {
                return;
            }
            continue;
        };
        let mut silent = 0;
        for (module, state) in plan.modules.iter().zip(&mut states) {
            let reading = state.read(module, cells).await;
            let at = clock.now();
            silent += usize::from(reading.is_none());
            note(module, reading.as_ref(), at, &mut round);
            if let Some(fault) = state.fault(module) {
                round.faults.push(fault);
            }
        }
        round.dead = silent == plan.modules.len() && states.iter().all(State::silent);
        if states.iter().any(|state| state.why == Some(ErrorKind::Disconnected)) {
            // Whoever is plugged in next starts afresh.
            port.cells = None;
            port.why = "the line was unplugged".to_owned();
            port.wait = SILENT_ROUNDS - 1;
            states.fill(State::default());
        }
        // Without a receiver the service is ending, and this task with it.
        if rounds.send(round).await.is_err() {
            return;
        }
    }
}

#[derive(Clone, Copy, Default)]
struct State {
    failures: u32,
    wait: u32,
    why: Option<ErrorKind>,
}

impl State {
    async fn read<T>(&mut self, module: &Module, cells: &mut LoadCells<T>) -> Option<Reading>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.wait > 0 {
            self.wait -= 1;
            return None;
        }
        match cells.read(module.address).await {
            Ok(reading) => {
                *self = Self::default();
                Some(reading)
            }
            Err(error) => {
                tracing::debug!(address = module.address, kind = ?error.kind(), "module not read");
                self.why = Some(error.kind());
                self.failures = self.failures.saturating_add(1);
                if self.silent() {
                    self.wait = SILENT_ROUNDS - 1;
                }
                None
            }
        }
    }

    fn silent(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    fn fault(&self, module: &Module) -> Option<String> {
        let why = match self.why.filter(|_| self.silent())? {
            ErrorKind::Silent => "does not answer",
            ErrorKind::Garbled => "answers garbled",
            ErrorKind::Exception => "refuses to be read",
            ErrorKind::Protocol => "is not a weighing module",
            ErrorKind::Disconnected => "is unreachable: the serial port is gone",
            ErrorKind::Address => "has an impossible address",
        };
        Some(format!("shelf {} {why}", module.address - 1))
    }
}

fn note(module: &Module, reading: Option<&Reading>, at: Instant, round: &mut Round) {
    for plate in &module.plates {
        let channel = reading.and_then(|reading| reading.channels.get(usize::from(plate.plate)));
        let mass = channel.and_then(Channel::mass).map(|tenths| Mass(i64::from(tenths)));
        let at_rest = channel.is_some_and(|channel| channel.state == ChannelState::Stable);
        round.readings.push(PlateReading { plate: *plate, at, mass, at_rest });
        if reading.is_some() && mass.is_none() {
            let why = match channel.map(|channel| channel.state) {
                None => "has no channel",
                Some(ChannelState::Open) => "is open",
                Some(ChannelState::Overload) => "is overloaded",
                Some(ChannelState::Invalid | ChannelState::Stable | ChannelState::Unstable) => "is not valid",
            };
            round.faults.push(format!("plate {plate} {why}"));
        }
    }
    if reading.is_some_and(|reading| reading.fault || !reading.ready) {
        round.faults.push(format!("shelf {} reports a fault", module.address - 1));
    }
}
