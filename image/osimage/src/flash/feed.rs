//! One reader, many cards: a bounded queue that every card takes all pieces from.
//!
//! A card that is so slow that the queue is full while another card waits is cut off, and goes on by itself
//! with a reader of its own: a slow or dead card does not stop the others.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::FlashError;
use super::piece::Piece;

/// Pieces in memory at most: 32 MiB, a second of a fast card.
const QUEUE_MAX: usize = 32;

/// The queue.
pub(super) struct Feed {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: VecDeque<Arc<Piece>>,
    /// Pieces that left the queue.
    gone: usize,
    /// Pieces that each card has taken; `None` when it takes no more.
    taken: Vec<Option<usize>>,
    end: Option<End>,
}

#[derive(Clone)]
enum End {
    Whole,
    Failed(Arc<FlashError>),
}

/// What a card gets.
pub(super) enum Taken {
    /// The next piece.
    Piece(Arc<Piece>),
    /// There are no more.
    End,
    /// It was too slow, and goes on by itself.
    CutOff,
    /// The image cannot be read, or is damaged.
    Failed(Arc<FlashError>),
}

impl Feed {
    pub(super) fn new(cards: usize) -> Self {
        let taken = vec![Some(0); cards];
        let state = State { queue: VecDeque::new(), gone: 0, taken, end: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Puts a piece into the queue when there is room. `false` when nobody takes any more.
    pub(super) fn put(&self, piece: Arc<Piece>) -> bool {
        let mut state = self.lock();
        loop {
            let Some(slowest) = state.taken.iter().flatten().min().copied() else { return false };
            while state.gone < slowest {
                state.queue.pop_front();
                state.gone += 1;
            }
            if state.queue.len() < QUEUE_MAX {
                state.queue.push_back(piece);
                self.changed.notify_all();
                return true;
            }
            let newest = state.gone + state.queue.len();
            if state.taken.iter().flatten().any(|taken| *taken == newest) {
                for taken in state.taken.iter_mut().filter(|taken| **taken == Some(slowest)) {
                    *taken = None;
                }
                self.changed.notify_all();
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Ends the queue: all pieces were put, or there will be no more.
    pub(super) fn end(&self, result: Result<(), FlashError>) {
        self.lock().end = Some(match result {
            Ok(()) => End::Whole,
            Err(error) => End::Failed(Arc::new(error)),
        });
        self.changed.notify_all();
    }

    /// Takes the next piece for `card`, waiting for it.
    pub(super) fn take(&self, card: usize) -> Taken {
        let mut state = self.lock();
        loop {
            let Some(taken) = state.taken[card] else { return Taken::CutOff };
            if let Some(piece) = state.queue.get(taken - state.gone).cloned() {
                state.taken[card] = Some(taken + 1);
                self.changed.notify_all();
                return Taken::Piece(piece);
            }
            match state.end.clone() {
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(End::Whole) => return Taken::End,
                Some(End::Failed(error)) => return Taken::Failed(error),
            }
        }
    }

    /// `card` takes no more.
    pub(super) fn leave(&self, card: usize) {
        self.lock().taken[card] = None;
        self.changed.notify_all();
    }

    /// A thread that panicked left the queue whole: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(index: usize) -> Arc<Piece> {
        Arc::new(Piece::for_test(index))
    }

    #[test]
    fn every_card_gets_every_piece_in_order() {
        let feed = Arc::new(Feed::new(3));
        let takers: Vec<_> = (0..3)
            .map(|card| {
                let feed = Arc::clone(&feed);
                std::thread::spawn(move || {
                    let mut got = Vec::new();
                    loop {
                        match feed.take(card) {
                            Taken::Piece(piece) => got.push(piece.index),
                            Taken::End | Taken::CutOff => return got,
                            Taken::Failed(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        for index in 0..200 {
            feed.put(piece(index));
        }
        feed.end(Ok(()));
        let mut whole = 0;
        for taker in takers {
            let got = taker.join().unwrap();
            // A thread that the scheduler forgot may have been cut off, but what it got is the start.
            assert!(got.iter().copied().eq(0..got.len()));
            whole += usize::from(got.len() == 200);
        }
        assert!(whole >= 1);
    }

    #[test]
    fn a_card_that_takes_nothing_is_cut_off_only_when_another_waits() {
        let feed = Feed::new(2);
        for index in 0..QUEUE_MAX {
            assert!(feed.put(piece(index)));
            assert!(matches!(feed.take(0), Taken::Piece(piece) if piece.index == index));
        }
        assert!(feed.put(piece(QUEUE_MAX)), "card 0 waits: card 1 is cut off and the piece fits");
        assert!(matches!(feed.take(1), Taken::CutOff));
        assert!(matches!(feed.take(0), Taken::Piece(_)));
        feed.leave(0);
        assert!(!feed.put(piece(99)), "nobody takes any more");
    }

    #[test]
    fn what_ends_the_image_ends_every_card_after_what_is_queued() {
        let feed = Feed::new(1);
        feed.put(piece(0));
        feed.end(Err(FlashError::TooSmall { target: 1, image: 2 }));
        assert!(matches!(feed.take(0), Taken::Piece(_)));
        assert!(matches!(feed.take(0), Taken::Failed(_)));
    }
}
