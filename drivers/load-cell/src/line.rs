//! The transport under the master: shared, so that the master can start its framing afresh after an error
//! without losing the port, and half-duplex, so that a late answer is never taken for the next one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes thrown away at once before a request: one late answer of each module of a full line and a good deal
/// of noise.
const STALE_MAX: usize = 16 * 1024;

pub(crate) struct Line<T>(Arc<Mutex<Port<T>>>);

struct Port<T> {
    transport: T,
    /// Bytes received since the last request began: tells a silent module from a garbled answer.
    received: usize,
}

impl<T> Clone for Line<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Line<T> {
    pub(crate) fn new(transport: T) -> Self {
        Self(Arc::new(Mutex::new(Port { transport, received: 0 })))
    }

    /// Bytes received since the last request.
    pub(crate) fn received(&self) -> usize {
        self.port().received
    }

    fn port(&self) -> MutexGuard<'_, Port<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncRead + Unpin> Port<T> {
    /// Throws away what arrived before the master speaks: on a half-duplex line nobody may answer yet.
    fn discard_stale(&mut self, context: &mut Context<'_>) {
        let mut scratch = [0_u8; 256];
        for _ in 0..STALE_MAX / scratch.len() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.transport).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // Nothing more, the end, or an error that the read of the answer will meet again.
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        self.received = 0;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Line<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut port = self.port();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut port.transport).poll_read(context, buffer);
        port.received += buffer.filled().len() - before;
        polled
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Line<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut port = self.port();
        port.discard_stale(context);
        Pin::new(&mut port.transport).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port().transport).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.port().transport).poll_shutdown(context)
    }
}
