//! The functions that mappings call, and how many calls each may get at once.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pipeline::chain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{InvocationOutcome, judge};
use crate::invoker::Invoker;

/// Where functions are called. The mappings of a process share it, and with it the limit of calls at once to each
/// function.
#[derive(Clone)]
pub struct Functions {
    invoker: Arc<dyn Invoker>,
    concurrency: Option<NonZeroUsize>,
    /// The limits by function name.
    limits: Arc<Mutex<BTreeMap<String, CallLimit>>>,
}

impl Functions {
    /// Calls without a limit of their own: each mapping makes as many at once as it may.
    pub fn new(invoker: Arc<dyn Invoker>) -> Self {
        Functions { invoker, concurrency: None, limits: Arc::default() }
    }

    /// At most this many calls at once to each function, over all mappings. Mappings that share a function must give it
    /// the same name.
    pub fn with_concurrency(self, calls: NonZeroUsize) -> Self {
        Functions { concurrency: Some(calls), limits: Arc::default(), ..self }
    }

    /// The function for one mapping, which makes at most `concurrency` calls at once over all its pollers.
    pub(crate) fn function(&self, name: &str, concurrency: Option<NonZeroUsize>) -> Function {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let of_all = limits.entry(name.to_owned()).or_insert_with(|| CallLimit::new(self.concurrency)).clone();
        let (name, invoker) = (name.into(), Arc::clone(&self.invoker));
        Function { name, invoker, of_mapping: CallLimit::new(concurrency), of_all }
    }
}

/// One permit for each call at once; `None` means no limit.
#[derive(Clone)]
struct CallLimit(Option<Arc<Semaphore>>);

impl CallLimit {
    fn new(calls: Option<NonZeroUsize>) -> Self {
        CallLimit(calls.map(|calls| Arc::new(Semaphore::new(calls.get().min(Semaphore::MAX_PERMITS)))))
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(self.0.as_ref()?).acquire_owned().await.ok()
    }
}

/// The function of one mapping.
#[derive(Clone)]
pub(crate) struct Function {
    name: Arc<str>,
    invoker: Arc<dyn Invoker>,
    of_mapping: CallLimit,
    of_all: CallLimit,
}

/// Leave to make one call. Dropping it lets the next in the queue go.
#[derive(Debug)]
pub(crate) struct Slot {
    _of_mapping: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl Function {
    /// Queues for a slot; first come, first served.
    pub(crate) async fn slot(&self) -> Slot {
        // In this order: a mapping queues for what all share only with calls that it may make.
        let _of_mapping = self.of_mapping.permit().await;
        Slot { _of_mapping, _of_all: self.of_all.permit().await }
    }

    /// Makes one attempt, and gives the slot back when it has ended.
    pub(crate) async fn invoke(&self, event: Bytes, slot: Slot) -> InvocationOutcome {
        let outcome = match self.invoker.invoke(&self.name, event).await {
            Ok(reply) => judge(reply),
            Err(error) => InvocationOutcome::Unavailable(chain(&error)),
        };
        drop(slot);
        outcome
    }
}
