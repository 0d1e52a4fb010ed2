//! What the streams of one instance share.

use std::sync::Arc;
use std::time::Duration;

use lambda::guard::guard;
use pipeline::Dependency;
use pipeline::guard::Guard;
use pipeline::ports::TopicTail;
use telemetry::list::{STREAMED_EVENTS, STREAMS_OPEN};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::StreamConfig;

pub struct Streams {
    pub tail: Arc<dyn TopicTail>,
    pub guard: Guard,
    /// When a stream ends by itself.
    pub longest: Duration,
    slots: Arc<Semaphore>,
    all: usize,
}

impl Streams {
    pub fn new(config: &StreamConfig, tail: Arc<dyn TopicTail>, breaker_open: Duration) -> Self {
        STREAMS_OPEN.begin([]);
        STREAMED_EVENTS.begin([]);
        let all = config.connections.get();
        let slots = Arc::new(Semaphore::new(all));
        Streams { tail, guard: guard(Dependency::Kafka, breaker_open), longest: config.longest, slots, all }
    }

    /// A place for one more stream, if there is one.
    pub fn slot(&self) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let slot = Slot { permit: Some(permit), slots: Arc::clone(&self.slots), all: self.all };
        slot.report();
        Some(slot)
    }
}

/// Held while a stream is open.
pub struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Arc<Semaphore>,
    all: usize,
}

impl Slot {
    fn report(&self) {
        let open = self.all.saturating_sub(self.slots.available_permits());
        STREAMS_OPEN.set(u32::try_from(open).unwrap_or(u32::MAX).into(), []);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.permit = None;
        self.report();
    }
}
