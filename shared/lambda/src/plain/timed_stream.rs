//! A connection that ends when the client takes too long for the head of a request, when nothing happens between two
//! requests, or when the client does not read its answer.
//!
//! `hyper` has one limit for both the head and the time between two requests. A load balancer keeps connections open
//! for a minute and must not find one closed, but a head has no reason to take a minute. The time for a body is left to
//! the handler, which can answer 408.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// A head is awaited or has begun; the timer runs.
const HEAD: u8 = 0;
/// A request is with the handler, or its answer has not ended; there is no limit.
const REQUEST: u8 = 1;
/// The answer has ended; the timer does not run yet.
const ANSWERED: u8 = 2;
/// The next request is awaited; the timer runs.
const IDLE: u8 = 3;

/// What a connection waits for. The service and the stream of one connection share it; both run in one task.
#[derive(Debug, Default)]
pub(super) struct Phase(AtomicU8);

impl Phase {
    /// A request has begun, and ends when the returned value is dropped.
    pub(super) fn request_begins(self: &Arc<Self>) -> OpenRequest {
        self.0.store(REQUEST, Ordering::Relaxed);
        OpenRequest(Arc::clone(self))
    }
}

pub(super) struct OpenRequest(Arc<Phase>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.store(ANSWERED, Ordering::Relaxed);
    }
}

/// The body of an answer, whose request is open until it has ended.
pub(super) struct Answering {
    body: Body,
    _open: OpenRequest,
}

impl Answering {
    pub(super) const fn new(body: Body, open: OpenRequest) -> Self {
        Answering { body, _open: open }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pub(super) struct TimedStream {
    stream: TcpStream,
    phase: Arc<Phase>,
    head_timeout: Duration,
    idle_timeout: Duration,
    reading: Pin<Box<Sleep>>,
    /// Runs while the client does not take what is written.
    writing: Option<Pin<Box<Sleep>>>,
}

impl TimedStream {
    /// The first head must come within `head_timeout`, too.
    pub(super) fn new(stream: TcpStream, phase: Arc<Phase>, head_timeout: Duration, idle_timeout: Duration) -> Self {
        let reading = Box::pin(tokio::time::sleep(head_timeout));
        TimedStream { stream, phase, head_timeout, idle_timeout, reading, writing: None }
    }

    fn enter(&mut self, phase: u8, timeout: Duration) {
        self.phase.0.store(phase, Ordering::Relaxed);
        self.reading.as_mut().reset(Instant::now() + timeout);
    }

    fn written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let timeout = self.idle_timeout;
        let timer = self.writing.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let phase = self.phase.0.load(Ordering::Relaxed);
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            if buffer.filled().len() > before && matches!(phase, ANSWERED | IDLE) {
                let timeout = self.head_timeout;
                self.enter(HEAD, timeout);
            }
            return Poll::Ready(read);
        }
        if phase == REQUEST {
            return Poll::Pending;
        }
        if phase == ANSWERED {
            let timeout = self.idle_timeout;
            self.enter(IDLE, timeout);
        }
        self.reading.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
