//! A cap on the bytes of bodies that all open requests hold together.
//!
//! A byte counts from its arrival until its request is answered. The length that a client announces does not count: an
//! announcement costs nothing, so with it one client could shut out the others.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The first bytes of a body do not count, so that small requests are served while large ones use up the cap. Together
/// they are at most this many for each connection.
const FREE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(super) const fn new(limit: usize) -> Self {
        Budget { limit, used: AtomicUsize::new(0) }
    }

    pub(super) fn reservation(self: &Arc<Self>) -> Reservation {
        let (received, reserved) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Reservation { budget: Arc::clone(self), received, reserved, exceeded: AtomicBool::new(false) }
    }
}

/// What the body of one request takes of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    received: AtomicUsize,
    reserved: AtomicUsize,
    exceeded: AtomicBool,
}

impl Reservation {
    /// Whether the body was cut off because of the cap.
    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), OverBudget> {
        let received = self.received.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let more = received.saturating_sub(FREE_BYTES) - self.reserved.load(Ordering::Relaxed);
        let take = |used: usize| used.checked_add(more).filter(|used| *used <= self.budget.limit);
        if self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            self.exceeded.store(true, Ordering::Relaxed);
            return Err(OverBudget);
        }
        self.reserved.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.reserved.get_mut(), Ordering::Relaxed);
    }
}

/// The server answers 503, whatever the handler makes of this.
#[derive(Debug, thiserror::Error)]
#[error("too many bytes of bodies are in flight")]
pub(super) struct OverBudget;

/// A body whose bytes count.
pub(super) struct Counted {
    body: Incoming,
    reservation: Arc<Reservation>,
}

impl Counted {
    pub(super) const fn new(body: Incoming, reservation: Arc<Reservation>) -> Self {
        Counted { body, reservation }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| {
            frame.map(|frame| {
                let frame = frame?;
                self.reservation.take(frame.data_ref().map_or(0, Bytes::len))?;
                Ok(frame)
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_took_is_free_when_it_ends() {
        let budget = Arc::new(Budget::new(100));
        let (first, second) = (budget.reservation(), budget.reservation());
        assert!(first.take(FREE_BYTES).is_ok() && second.take(FREE_BYTES).is_ok());
        assert_eq!(budget.used.load(Ordering::Relaxed), 0, "the first bytes of each are free");
        assert!(first.take(60).is_ok() && second.take(40).is_ok());
        assert!(second.take(1).is_err() && second.is_exceeded() && !first.is_exceeded());
        drop(first);
        assert_eq!(budget.used.load(Ordering::Relaxed), 40);
        drop(second);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
