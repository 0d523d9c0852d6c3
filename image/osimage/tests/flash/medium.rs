//! A medium that does what bad cards do.

use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use osimage::medium::Medium;
use rustix::io::Errno;

/// What a card does wrong.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Longest write that is taken at once.
    pub write_max: Option<usize>,
    /// Writes until the power is cut; from then on nothing is taken.
    pub cut_after: Option<usize>,
    /// Of the writes since the last flush, which of them a cut loses: by bits of this number.
    pub lose: u64,
    /// Bytes from here on are not kept: the card is smaller than it says.
    pub lost_from: Option<u64>,
    /// Bytes from here on land at the start again: so are other cards that are smaller than they say.
    pub wraps_at: Option<u64>,
    /// What this many writes last are kept in a cache, which hides the size of the card.
    pub cached_writes: usize,
    /// The write that fails once.
    pub fail_write: Option<usize>,
    /// The read that fails once.
    pub fail_read: Option<usize>,
    /// The flush that fails.
    pub fail_flush: Option<usize>,
    /// The write before which it is pulled out.
    pub pulled_at: Option<usize>,
    /// It takes no write from the start.
    pub write_protected: bool,
    /// The write that never ends.
    pub hang_at: Option<usize>,
    /// A byte that does not keep its value.
    pub stuck_byte: Option<u64>,
}

/// The card outlives the program that writes to it.
pub struct Store {
    pub bytes: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
    cache: Vec<(u64, Vec<u8>)>,
    pub writes: usize,
    pub reads: usize,
    pub flushes: usize,
    /// Bytes that writes carried.
    pub carried: u64,
    pub cut: bool,
    pub gone: bool,
}

/// What a card was asked for.
#[derive(Clone, Copy)]
pub struct Counts {
    pub writes: usize,
    pub reads: usize,
    pub flushes: usize,
    /// Bytes that writes carried.
    pub carried: u64,
}

/// A card to look at from outside.
#[derive(Clone)]
pub struct Card {
    store: Arc<Mutex<Store>>,
    pub faults: Faults,
    /// Opened to let a hanging write end.
    pub gate: Arc<(Mutex<bool>, Condvar)>,
}

pub fn card(size: usize, faults: Faults) -> Card {
    let old = (0..size).map(|i| ((i * 31) >> 3) as u8 | 1).collect();
    card_with(old, faults)
}

pub fn card_with(bytes: Vec<u8>, faults: Faults) -> Card {
    let store = Store {
        bytes,
        pending: Vec::new(),
        cache: Vec::new(),
        writes: 0,
        reads: 0,
        flushes: 0,
        carried: 0,
        cut: false,
        gone: false,
    };
    Card { store: Arc::new(Mutex::new(store)), faults, gate: Arc::default() }
}

impl Card {
    pub fn look(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.look().bytes.clone()
    }

    pub fn counts(&self) -> Counts {
        let store = self.look();
        Counts { writes: store.writes, reads: store.reads, flushes: store.flushes, carried: store.carried }
    }

    /// Lets a hanging write end.
    pub fn let_go(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

impl Store {
    /// Brings the pending writes to the medium, but those that are lost.
    fn settle(&mut self, faults: &Faults, lose: u64) {
        for (index, (at, bytes)) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if lose >> (index % 64) & 1 == 0 {
                self.keep(faults, at, &bytes);
                if faults.cached_writes > 0 {
                    self.cache.push((at, bytes));
                }
            }
        }
        let old = self.cache.len().saturating_sub(faults.cached_writes);
        self.cache.drain(..old);
    }

    fn keep(&mut self, faults: &Faults, at: u64, bytes: &[u8]) {
        if (faults.lost_from, faults.wraps_at, faults.stuck_byte) == (None, None, None) {
            return self.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        for (at, byte) in (at..).zip(bytes) {
            let place = match (faults.lost_from, faults.wraps_at) {
                (Some(from), _) if at >= from => continue,
                (_, Some(length)) => at % length,
                _ => at,
            };
            let byte = if faults.stuck_byte == Some(place) { byte ^ 8 } else { *byte };
            self.bytes[place as usize] = byte;
        }
    }
}

fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.raw_os_error())
}

impl Medium for Card {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.look().bytes.len() as u64)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let faults = self.faults;
        let mut store = self.look();
        store.writes += 1;
        if faults.hang_at == Some(store.writes) {
            drop(store);
            let (open, changed) = &*self.gate;
            drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
            store = self.look();
        }
        if faults.pulled_at.is_some_and(|at| store.writes >= at) {
            store.gone = true;
            // As the kernel does it: the node is gone, the error is a general one.
            return Err(error(Errno::IO));
        }
        if faults.write_protected {
            return Err(error(Errno::PERM));
        }
        if faults.cut_after.is_some_and(|after| store.writes > after) && !store.cut {
            store.cut = true;
            store.settle(&faults, faults.lose);
        }
        if store.cut {
            return Err(io::Error::other("no power"));
        }
        if faults.fail_write == Some(store.writes) {
            return Err(error(Errno::IO));
        }
        let length = bytes.len().min(faults.write_max.unwrap_or(usize::MAX));
        if at as usize + length > store.bytes.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        store.pending.push((at, bytes[..length].to_vec()));
        store.carried += length as u64;
        Ok(length)
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let faults = self.faults;
        let mut store = self.look();
        assert!(store.pending.is_empty(), "read back before a flush");
        store.reads += 1;
        if store.cut {
            return Err(io::Error::other("no power"));
        }
        if faults.fail_read == Some(store.reads) {
            return Err(error(Errno::IO));
        }
        if faults.wraps_at.is_none() {
            buffer.copy_from_slice(&store.bytes[at as usize..][..buffer.len()]);
        }
        for (place, byte) in (at..).zip(buffer.iter_mut()).filter(|_| faults.wraps_at.is_some()) {
            let place = faults.wraps_at.map_or(place, |length| place % length);
            *byte = *store.bytes.get(place as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        for (start, bytes) in &store.cache {
            let end = start + bytes.len() as u64;
            let (from, to) = (at.max(*start), (at + buffer.len() as u64).min(end));
            if faults.cached_writes > 0 && from < to {
                let mut part = &bytes[(from - start) as usize..(to - start) as usize];
                part.read_exact(&mut buffer[(from - at) as usize..(to - at) as usize])?;
            }
        }
        Ok(buffer.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        let faults = self.faults;
        let mut store = self.look();
        store.flushes += 1;
        if store.cut {
            return Err(io::Error::other("no power"));
        }
        if faults.fail_flush == Some(store.flushes) {
            return Err(error(Errno::IO));
        }
        store.settle(&faults, 0);
        Ok(())
    }

    fn is_present(&self) -> bool {
        !self.look().gone
    }
}
