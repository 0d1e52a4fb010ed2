//! Faults that are injected into the calls of a fake.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use pipeline::{Dependency, DependencyError, ErrorClass};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It fails before it has any effect.
    Before(ErrorClass),
    /// It takes effect, and then its answer is lost.
    After(ErrorClass),
}

/// A queue of faults. Each call of the fake takes one; if the queue is empty, calls succeed.
#[derive(Debug, Default)]
pub struct Faults {
    queue: Mutex<VecDeque<Fault>>,
}

impl Faults {
    /// The next `calls` calls fail without effect.
    pub fn fail(&self, calls: usize, class: ErrorClass) {
        self.push(calls, Fault::Before(class));
    }

    /// The next `calls` calls take effect, but their callers get an error.
    pub fn lose_answer(&self, calls: usize, class: ErrorClass) {
        self.push(calls, Fault::After(class));
    }

    /// Calls that are still to fail.
    pub fn left(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// From now on calls succeed again.
    pub fn clear(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn push(&self, calls: usize, fault: Fault) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).extend(std::iter::repeat_n(fault, calls));
    }

    /// Runs `effect` under the next fault.
    pub(crate) fn apply<T>(&self, dependency: Dependency, effect: impl FnOnce() -> T) -> Result<T, DependencyError> {
        let fault = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let error = |class| DependencyError {
            dependency,
            class,
            tag: "injected",
            doing: "an injected fault",
            source: "injected by a test".into(),
        };
        match fault {
            None => Ok(effect()),
            Some(Fault::Before(class)) => Err(error(class)),
            Some(Fault::After(class)) => {
                effect();
                Err(error(class))
            }
        }
    }
}
