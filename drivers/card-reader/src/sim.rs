//! A simulated OSDP reader: libosdp's peripheral device on the far end of the line, so that what is tested is
//! the protocol itself, secure channel and all.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use libosdp::{
    OsdpCardFormats, OsdpCommand, OsdpEvent, OsdpEventCardRead, OsdpLedColor, OsdpStatusReport,
    OsdpStatusReportType, PdCapEntity, PdCapability, PdId, PdInfoBuilder, PeripheralDevice,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Signal;
use crate::codec::Bits;
use crate::osdp::{Key, Line, Stream};

/// Longest time between two looks at the line, milliseconds.
const LOOK_MS: i64 = 5;
/// Events that libosdp can queue; more wait here.
const EVENTS_MAX: usize = 32;
/// Signals kept for the world to hear; older ones are forgotten.
const SIGNALS_MAX: usize = 16;

/// The world's side of a simulated reader: shows cards, opens its housing, hears its buzzer, pulls its cable.
#[derive(Debug)]
pub struct SimHandle {
    shared: Arc<Mutex<World>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct World {
    events: VecDeque<OsdpEvent>,
    signals: Vec<Signal>,
    tamper: bool,
    power_failing: bool,
    key: Option<Key>,
    secure: bool,
    stop: bool,
}

/// A reader at `address` on a stream that does not block. Without a key it is as from the factory: it takes the
/// first one it is given.
///
/// # Panics
/// When libosdp or the system refuse, or the address is above 126.
#[must_use]
pub fn start(stream: Box<dyn Stream>, address: u8, key: Option<Key>) -> SimHandle {
    let (peripheral, mut handle) = stepped(stream, address, key);
    let thread = std::thread::Builder::new().name("osdp-sim".to_owned()).spawn(move || peripheral.run());
    handle.thread = Some(thread.expect("the system gives a thread"));
    handle
}

/// Two ends of a line that do not block.
///
/// # Panics
/// When the system gives no sockets.
#[must_use]
pub fn line() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().expect("the system gives sockets");
    for end in [&one, &other] {
        end.set_nonblocking(true).expect("a socket can be set to not block");
    }
    (one, other)
}

impl SimHandle {
    /// Shows a card.
    ///
    /// # Panics
    /// For a card of no bits.
    pub fn present(&self, bits: &Bits) {
        assert!(!bits.is_empty(), "a card has bits");
        let read = OsdpEventCardRead {
            reader_no: 0,
            format: OsdpCardFormats::Unspecified,
            direction: false,
            nr_bits: bits.len(),
            data: bits.as_bytes().to_vec(),
        };
        let mut world = lock(&self.shared);
        if world.events.len() < EVENTS_MAX {
            world.events.push_back(OsdpEvent::CardRead(read));
        }
    }

    /// Opens (`true`) or closes the housing.
    pub fn tamper(&self, open: bool) {
        let mut world = lock(&self.shared);
        world.tamper = open;
        let report = world.local();
        world.events.push_back(OsdpEvent::Status(report));
    }

    /// Lets the supply fail (`true`) or come back.
    pub fn power_failing(&self, failing: bool) {
        let mut world = lock(&self.shared);
        world.power_failing = failing;
        let report = world.local();
        world.events.push_back(OsdpEvent::Status(report));
    }

    /// Takes the signals heard since the last call, at most the newest 16.
    #[must_use]
    pub fn signals(&self) -> Vec<Signal> {
        std::mem::take(&mut lock(&self.shared).signals)
    }

    /// The key that the reader has; one from the factory gets it in install mode.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        lock(&self.shared).key.clone()
    }

    /// Whether the reader talks through a secure channel.
    #[must_use]
    pub fn secure(&self) -> bool {
        lock(&self.shared).secure
    }

    /// Pulls the cable: its end of the line closes.
    pub fn unplug(&mut self) {
        lock(&self.shared).stop = true;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the simulated reader did not panic");
        }
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        if let Some(thread) = self.thread.take() {
            // Its panic was printed; a second one here would hide it.
            let _ = thread.join();
        }
    }
}

impl World {
    fn local(&self) -> OsdpStatusReport {
        let mut report = [0; 64];
        report[0] = u8::from(self.tamper);
        report[1] = u8::from(self.power_failing);
        OsdpStatusReport { type_: OsdpStatusReportType::Local, nr_entries: 2, report }
    }

    /// What a command does to the reader; below zero it is refused.
    fn obey(&mut self, command: &mut OsdpCommand) -> i32 {
        match command {
            OsdpCommand::Led(led) => {
                let signal = match led.temporary.on_color {
                    OsdpLedColor::Green => Signal::Good,
                    OsdpLedColor::Red => Signal::Bad,
                    _ => return 0,
                };
                if self.signals.len() == SIGNALS_MAX {
                    self.signals.remove(0);
                }
                self.signals.push(signal);
            }
            OsdpCommand::KeySet(set) => {
                let Some(key) = <[u8; 16]>::try_from(&*set.data).ok().and_then(|key| Key::new(key).ok())
                else {
                    return -1;
                };
                self.key = Some(key);
            }
            OsdpCommand::Status(report) => *report = self.local(),
            OsdpCommand::Buzzer(_) => {}
            _ => return -1,
        }
        0
    }
}

/// The reader itself, stepped by whoever has its thread.
pub struct Peripheral {
    device: PeripheralDevice,
    line: Line,
    world: Arc<Mutex<World>>,
}

impl Peripheral {
    fn new(line: Line, address: u8, key: Option<Key>, world: Arc<Mutex<World>>) -> Self {
        let reader = PdInfoBuilder::new()
            .address(address.into())
            .and_then(|reader| reader.baud_rate(9600))
            .expect("an address of 0 to 126")
            .id(&PdId::from_number(1))
            .capabilities(&[
                PdCapability::CommunicationSecurity(PdCapEntity::new(1, 1)),
                PdCapability::AudibleOutput(PdCapEntity::new(1, 1)),
                PdCapability::LedControl(PdCapEntity::new(1, 1)),
                PdCapability::CardDataFormat(PdCapEntity::new(1, 0)),
            ]);
        let reader = match key {
            Some(key) => reader.secure_channel_key(key.bytes()),
            None => reader,
        };
        let mut device = PeripheralDevice::new(reader, line.channel()).expect("libosdp takes the reader");
        // libosdp never frees the closure.
        let weak = Arc::downgrade(&world);
        device.set_command_callback(move |command| {
            weak.upgrade().map_or(-1, |world| lock(&world).obey(command))
        });
        Self { device, line, world }
    }

    /// Answers what has arrived; `false` when the cable is pulled at either end.
    pub fn step(&mut self) -> bool {
        let plugged = self.line.fill();
        self.device.refresh();
        let mut world = lock(&self.world);
        world.secure = self.device.is_sc_active();
        if world.secure
            && let Some(event) = world.events.front()
            && self.device.notify_event(event.clone()).is_ok()
        {
            world.events.pop_front();
        }
        plugged && !world.stop
    }

    fn run(mut self) {
        while self.step() {
            self.line.with_fd(|line| {
                let mut wait = [PollFd::from_borrowed_fd(line, PollFlags::IN)];
                let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK_MS * 1_000_000 };
                // An interrupted wait is a short one.
                let _ = poll(&mut wait, Some(&timeout));
            });
        }
    }
}

/// A reader that somebody steps by hand, on the clock of that thread.
///
/// # Panics
/// As [`start`].
#[must_use]
pub fn stepped(stream: Box<dyn Stream>, address: u8, key: Option<Key>) -> (Peripheral, SimHandle) {
    let shared = Arc::new(Mutex::new(World { key: key.clone(), ..World::default() }));
    let peripheral = Peripheral::new(Line::reader(stream), address, key, Arc::clone(&shared));
    (peripheral, SimHandle { shared, thread: None })
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
