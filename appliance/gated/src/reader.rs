//! A reader of entry codes or cards at a lane: a task of its own that opens the device, opens it again when it
//! was lost, and hands what it reads to the lane's loop. A slow or broken device delays nothing but itself.

use std::pin::Pin;
use std::time::Instant as RealInstant;

use card_reader::{CardReader, Report};
use engine::admission::CardNumber;
use qr_scanner::{QrScanner, Scan, Signal};
use runtime::clock::Clock;
use tokio::sync::{mpsc, watch};

use crate::Open;
use crate::lane::{Told, chain};
use crate::slot::Slot;

/// Signals on their way to a reader; what does not fit would beep long after the person has gone.
const SIGNALS_MAX: usize = 4;

/// A device at which shoppers show a credential.
pub struct Reader {
    name: String,
    run: Box<dyn FnOnce(Port) -> Task + Send>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a reader tells its lane.
pub(crate) enum Event {
    /// A code was read; when its last report arrived.
    Code { text: Vec<u8>, reported: RealInstant },
    /// A card was read; when the last of it arrived.
    Card { number: CardNumber, reported: RealInstant },
    /// What staff should know of the device; empty when all is well.
    Status(String),
    /// What was shown could not be read whole.
    Garbled(String),
    /// The device works.
    Up,
    /// The device is not there, and why.
    Down(String),
}

/// A reader's end of the lane.
pub(crate) struct Port {
    index: usize,
    clock: Clock,
    events: mpsc::Sender<Told>,
    signals: mpsc::Receiver<Signal>,
    arrivals: watch::Receiver<u64>,
}

/// A lane's end of a reader.
pub(crate) struct Attached {
    /// Its name within the lane, as health says it.
    pub name: String,
    signals: mpsc::Sender<Signal>,
}

impl Reader {
    /// A QR scanner or a camera that reads codes. `name` is its own within the lane ("scanner").
    pub fn scanner<S: QrScanner + 'static>(
        name: impl Into<String>,
        mut open: Open<S, qr_scanner::Error>,
    ) -> Self {
        Self::of(name.into(), Box::new(move || open().map(Codes)))
    }

    /// A card reader. `name` is its own within the lane ("card-reader").
    pub fn cards<C: CardReader + 'static>(
        name: impl Into<String>,
        mut open: Open<C, card_reader::Error>,
    ) -> Self {
        Self::of(name.into(), Box::new(move || open().map(Cards)))
    }

    fn of<D: Device + 'static>(name: String, open: Open<D, D::Error>) -> Self {
        Self { name, run: Box::new(move |port| Box::pin(read(open, port))) }
    }

    /// Its name within the lane.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Prepares the reader's task; it sends to `events` under `index`, and tries again to open a lost device
    /// whenever `arrivals` changes.
    pub(crate) fn attach(
        self,
        index: usize,
        clock: Clock,
        events: mpsc::Sender<Told>,
        arrivals: watch::Receiver<u64>,
    ) -> (Attached, Task) {
        let (signals, receiver) = mpsc::channel(SIGNALS_MAX);
        let task = (self.run)(Port { index, clock, events, signals: receiver, arrivals });
        (Attached { name: self.name, signals }, task)
    }
}

impl Attached {
    /// Tells the person at the reader, if it can.
    pub(crate) fn signal(&self, signal: Signal) {
        // A reader that cannot beep is lost or has just beeped; the light of the turnstile tells as well.
        let _ = self.signals.try_send(signal);
    }
}

/// The lane is gone.
struct Ended;

impl Port {
    async fn tell(&self, event: Event) -> Result<(), Ended> {
        self.events.send(Told::Reader(self.index, event)).await.map_err(|_| Ended)
    }
}

/// What scanners and card readers have in common.
trait Device: Send {
    type Error: std::error::Error + Send;

    /// What is shown next. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Event, Self::Error>> + Send;
    fn signal(&mut self, signal: Signal) -> Result<(), Self::Error>;
    /// Whether the device goes on after this.
    fn goes_on(error: &Self::Error) -> bool;
}

struct Codes<S>(S);

impl<S: QrScanner> Device for Codes<S> {
    type Error = qr_scanner::Error;

    async fn next(&mut self) -> Result<Event, Self::Error> {
        self.0.next_scan().await.map(|Scan { text, reported, .. }| Event::Code { text, reported })
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Self::Error> {
        self.0.signal(signal)
    }

    fn goes_on(error: &Self::Error) -> bool {
        error.kind() == qr_scanner::ErrorKind::Garbled
    }
}

struct Cards<C>(C);

impl<C: CardReader> Device for Cards<C> {
    type Error = card_reader::Error;

    async fn next(&mut self) -> Result<Event, Self::Error> {
        Ok(match self.0.next_report().await? {
            Report::Status(status) => Event::Status(doubts(&status)),
            Report::Card(card) => {
                let bits = u16::try_from(card.bits.len()).unwrap_or(u16::MAX);
                match CardNumber::new(bits, card.bits.as_bytes()) {
                    Some(number) => Event::Card { number, reported: card.reported },
                    None => Event::Garbled(format!("a card of {bits} bits")),
                }
            }
        })
    }

    fn signal(&mut self, signal: Signal) -> Result<(), Self::Error> {
        let told = self.0.signal(match signal {
            Signal::Good => card_reader::Signal::Good,
            Signal::Bad => card_reader::Signal::Bad,
        });
        // Two wires carry nothing back; the turnstile's light tells.
        told.or_else(
            |error| if error.kind() == card_reader::ErrorKind::Unsupported { Ok(()) } else { Err(error) },
        )
    }

    fn goes_on(error: &Self::Error) -> bool {
        error.kind() == card_reader::ErrorKind::Garbled
    }
}

/// What staff should know of a card reader; empty when all is well.
fn doubts(status: &card_reader::Status) -> String {
    let doubts = [
        (!status.online, "it does not answer"),
        (!status.secure, "what it sends is not encrypted"),
        (status.tamper == Some(true), "its housing is open"),
        (status.power_failing == Some(true), "its supply is failing"),
    ];
    let said: Vec<&str> = doubts.iter().filter(|(doubt, _)| *doubt).map(|(_, text)| *text).collect();
    said.join(", ")
}

type DeviceSlot<D> = Slot<D, <D as Device>::Error>;

enum Woken<E> {
    Signal(Option<Signal>),
    Read(Result<Event, E>),
}

async fn read<D: Device + 'static>(open: Open<D, D::Error>, mut port: Port)
where
    D::Error: 'static,
{
    let mut slot = Slot::new(Some(open), port.clock.now());
    while let Ok(next) = serve(slot, &mut port).await {
        slot = next;
    }
}

/// One thing that happens to the reader.
async fn serve<D: Device + 'static>(mut slot: DeviceSlot<D>, port: &mut Port) -> Result<DeviceSlot<D>, Ended>
where
    D::Error: 'static,
{
    let Some(device) = slot.device() else {
        wait_for_device(slot.due(), port).await?;
        let now = port.clock.now();
        // The kernel may take 50 ms to open a device, and the lane runs on this thread.
        let opening = tokio::task::spawn_blocking(move || {
            let opened = slot.try_open(now);
            (slot, opened)
        });
        let (slot, opened) = opening.await.map_err(|_| Ended)?;
        port.tell(opened.map_or_else(|error| Event::Down(chain(&error)), |()| Event::Up)).await?;
        return Ok(slot);
    };
    let woken = tokio::select! {
        biased;
        signal = port.signals.recv() => Woken::Signal(signal),
        read = device.next() => Woken::Read(read),
    };
    let failed = match woken {
        Woken::Signal(None) => return Err(Ended),
        Woken::Signal(Some(signal)) => device.signal(signal),
        Woken::Read(Ok(event)) => {
            port.tell(event).await?;
            return Ok(slot);
        }
        Woken::Read(Err(error)) => Err(error),
    };
    match failed {
        Ok(()) => {}
        Err(error) if D::goes_on(&error) => port.tell(Event::Garbled(chain(&error))).await?,
        Err(error) => {
            slot.lose(port.clock.now());
            port.tell(Event::Down(chain(&error))).await?;
        }
    }
    Ok(slot)
}

/// Waits until it is worth trying to open the device; signals meanwhile are for nobody.
async fn wait_for_device(due: Option<engine::time::Instant>, port: &mut Port) -> Result<(), Ended> {
    let clock = port.clock.clone();
    let until = clock.until(due);
    tokio::pin!(until);
    loop {
        tokio::select! {
            () = &mut until => return Ok(()),
            arrived = port.arrivals.changed() => {
                if arrived.is_ok() {
                    return Ok(());
                }
                // Nobody watches for arrivals: the pause alone decides.
                until.as_mut().await;
                return Ok(());
            }
            signal = port.signals.recv() => {
                if signal.is_none() {
                    return Err(Ended);
                }
            }
        }
    }
}
