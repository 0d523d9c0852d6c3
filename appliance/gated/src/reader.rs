//! A reader of entry codes or cards at a lane: a task of its own that opens the device, opens it again when it
//! was lost, and hands what it reads to the lane's loop. A slow or broken device delays nothing but itself.

use std::pin::Pin;
use std::time::Instant as RealInstant;

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
#[derive(Debug)]
pub(crate) enum Event {
    /// A code was read; when its last report arrived.
    Code { text: Vec<u8>, reported: RealInstant },
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
        open: Open<S, qr_scanner::Error>,
    ) -> Self {
        Self { name: name.into(), run: Box::new(move |port| Box::pin(scan(open, port))) }
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

type ScannerSlot<S> = Slot<S, qr_scanner::Error>;

enum Woken {
    Signal(Option<Signal>),
    Scan(Result<Scan, qr_scanner::Error>),
}

async fn scan<S: QrScanner + 'static>(open: Open<S, qr_scanner::Error>, mut port: Port) {
    let mut slot = Slot::new(Some(open), port.clock.now());
    while let Ok(next) = serve(slot, &mut port).await {
        slot = next;
    }
}

/// One thing that happens to the reader.
async fn serve<S: QrScanner + 'static>(
    mut slot: ScannerSlot<S>,
    port: &mut Port,
) -> Result<ScannerSlot<S>, Ended> {
    let Some(scanner) = slot.device() else {
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
        scan = scanner.next_scan() => Woken::Scan(scan),
    };
    let failed = match woken {
        Woken::Signal(None) => return Err(Ended),
        Woken::Signal(Some(signal)) => scanner.signal(signal),
        Woken::Scan(Ok(Scan { text, reported, .. })) => {
            port.tell(Event::Code { text, reported }).await?;
            return Ok(slot);
        }
        Woken::Scan(Err(error)) => Err(error),
    };
    match failed {
        Ok(()) => {}
        Err(error) if error.kind() == qr_scanner::ErrorKind::Garbled => {
            port.tell(Event::Garbled(chain(&error))).await?;
        }
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
