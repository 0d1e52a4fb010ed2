//! Batches that are out: with the function, or waiting to be sent again.

use std::time::Duration;

use futures::FutureExt as _;
use pipeline::chain;
use tokio::task::{JoinError, JoinSet};

use crate::answer::InvocationOutcome;
use crate::batch::{BatchPart, Buffer, InvocationBatch, RetryDelay};
use crate::destination::FailureDestination;
use crate::functions::{Function, Slot};

/// A batch that is out.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) batch: InvocationBatch,
    /// How often the function failed with this batch. Throttles and failures of the service do not count (AWS).
    pub(crate) attempts: u32,
    /// How often it failed with these records in a larger batch, before that was split.
    pub(crate) earlier: u32,
    /// What was split off, to be sent after this batch: the part that comes next is the last one.
    pub(crate) rest: Vec<BatchPart>,
    pub(crate) backoff: RetryDelay,
}

impl Flight {
    pub(crate) fn new(batch: InvocationBatch) -> Self {
        Flight { batch, attempts: 0, earlier: 0, rest: Vec::new(), backoff: RetryDelay::default() }
    }

    /// The next part of a batch that was split.
    pub(crate) fn of_rest(mut rest: Vec<BatchPart>, buffer: &Buffer) -> Option<Self> {
        let (batch, earlier) = buffer.next_part(&mut rest)?;
        Some(Flight { earlier, rest, ..Flight::new(batch) })
    }

    /// The first half of its batch. The second half becomes the next of the rest.
    pub(crate) fn split(mut self, buffer: &Buffer) -> Self {
        let earlier = self.invocations();
        let (batch, part) = buffer.split(self.batch, earlier);
        self.rest.push(part);
        Flight { earlier, rest: self.rest, ..Flight::new(batch) }
    }

    /// The batch without an event; see [`Buffer::give_up`].
    pub(crate) fn give_up(self, buffer: &Buffer) -> Self {
        let invocations = self.invocations();
        Flight { rest: self.rest, ..Flight::new(buffer.give_up(self.batch, invocations)) }
    }

    /// How often the function has failed with these records.
    fn invocations(&self) -> u32 {
        self.earlier.saturating_add(self.attempts)
    }

    /// Without the partitions that the poller no longer owns; see [`Buffer::still_owned`].
    pub(crate) fn still_owned(mut self, buffer: &mut Buffer) -> Option<Self> {
        buffer.keep_owned(&mut self.rest);
        match buffer.still_owned(self.batch) {
            Some(batch) => Some(Flight { batch, ..self }),
            None => Flight::of_rest(self.rest, buffer),
        }
    }
}

/// What happens to batches while a poller reads.
pub(crate) enum FlightEvent {
    /// There is a slot for a new batch.
    Slot(Slot),
    /// The time to send a batch again has come, and there is a slot for it.
    Again(Flight, Slot),
    /// Without an outcome if there was nothing to send to the function.
    Ended(Flight, Option<InvocationOutcome>),
}

/// The batches of one poller that are out. They run as tasks, so none waits while the poller commits.
pub(crate) struct Flights {
    function: Function,
    destination: Option<FailureDestination>,
    invocations: JoinSet<(Flight, Option<InvocationOutcome>)>,
    /// Batches to be sent again, each with its own place in the queue for slots, and the place of the next new batch
    /// (`None`).
    queue: JoinSet<(Option<Flight>, Slot)>,
    /// Whether the next new batch has a place in the queue.
    queues_for_new: bool,
}

impl Flights {
    pub(crate) fn new(function: Function, destination: Option<FailureDestination>) -> Self {
        Flights { function, destination, invocations: JoinSet::new(), queue: JoinSet::new(), queues_for_new: false }
    }

    /// A slot for a new batch. If there is none, it comes as [`FlightEvent::Slot`].
    pub(crate) fn slot(&mut self) -> Option<Slot> {
        if self.queues_for_new {
            return None;
        }
        let free = self.function.slot().now_or_never();
        if free.is_none() {
            let function = self.function.clone();
            self.queue.spawn(async move { (None, function.slot().await) });
            self.queues_for_new = true;
        }
        free
    }

    pub(crate) fn send(&mut self, mut flight: Flight, slot: Slot) {
        let (function, destination) = (self.function.clone(), self.destination.clone());
        self.invocations.spawn(async move {
            let outcome = attempt(&function, destination.as_ref(), &mut flight.batch, slot).await;
            (flight, outcome)
        });
    }

    /// Comes back as [`FlightEvent::Again`]. It keeps no slot while it waits.
    pub(crate) fn send_later(&mut self, flight: Flight, wait: Duration) {
        let function = self.function.clone();
        self.queue.spawn(async move {
            tokio::time::sleep(wait).await;
            (Some(flight), function.slot().await)
        });
    }

    /// The next event. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> FlightEvent {
        tokio::select! {
            Some(ended) = self.invocations.join_next() => {
                let (flight, outcome) = unwind(ended);
                FlightEvent::Ended(flight, outcome)
            }
            Some(ready) = self.queue.join_next() => match unwind(ready) {
                (Some(flight), slot) => FlightEvent::Again(flight, slot),
                (None, slot) => {
                    self.queues_for_new = false;
                    FlightEvent::Slot(slot)
                }
            },
            else => std::future::pending().await,
        }
    }

    /// Gives up every batch and place that waits, and waits for the next end of an invocation. `None` when there are no
    /// more.
    pub(crate) async fn drain(&mut self) -> Option<(Flight, Option<InvocationOutcome>)> {
        // Dropped and not only aborted: a slot that came and was not taken yet goes to the next in its queue.
        self.queue = JoinSet::new();
        self.invocations.join_next().await.map(unwind)
    }

    /// Number of invocations that have not ended.
    pub(crate) fn invocations(&self) -> usize {
        self.invocations.len()
    }
}

/// Keeps what is not sent to the function at the destination, once, and then makes the call, if anything is left to send.
/// The offsets of the batch are committed after both.
async fn attempt(
    function: &Function,
    destination: Option<&FailureDestination>,
    batch: &mut InvocationBatch,
    slot: Slot,
) -> Option<InvocationOutcome> {
    if let Some(destination) = destination {
        if let Err(error) = destination.keep(batch).await {
            let reason = format!("the on-failure destination: {}", chain(&error));
            return Some(InvocationOutcome::Unavailable(reason));
        }
        batch.note_kept();
    }
    if batch.records == 0 { None } else { Some(function.invoke(batch.event.clone(), slot).await) }
}

/// A panic of a task goes on in the poller, as if it had made the call itself. Tasks that are awaited are never aborted.
fn unwind<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
