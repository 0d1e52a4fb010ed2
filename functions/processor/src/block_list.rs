//! A short-lived cache of the block list.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pipeline::DependencyError;
use pipeline::decisions::limits::Blocks;
use pipeline::guard::Guard;
use pipeline::ports::{Block, BlockList};
use tokio::time::Instant;

/// Reads the list from the store at most once per `keep_for`, so that an operator's change takes effect within that
/// time.
pub struct CachedBlockList {
    store: Arc<dyn BlockList>,
    keep_for: Duration,
    cached: Mutex<Option<(Instant, Arc<Blocks>)>>,
}

impl CachedBlockList {
    pub fn new(store: Arc<dyn BlockList>, keep_for: Duration) -> Self {
        CachedBlockList { store, keep_for, cached: Mutex::new(None) }
    }

    /// The list, at most `keep_for` old.
    ///
    /// # Errors
    /// If the cached list is too old and the store does not answer. An outdated list is not used, because it may let in
    /// an address that an operator has just blocked.
    pub async fn current(&self, guard: &Guard, deadline: Instant) -> Result<Arc<Blocks>, DependencyError> {
        let asked_at = Instant::now();
        if let Some((at, blocks)) = &*self.cached.lock().unwrap_or_else(PoisonError::into_inner)
            && asked_at.saturating_duration_since(*at) < self.keep_for
        {
            return Ok(Arc::clone(blocks));
        }
        let list = guard.call(deadline, "reading the block list", || self.store.list()).await?;
        let blocks = Arc::new(Blocks::new(list));
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked_at, Arc::clone(&blocks)));
        Ok(blocks)
    }

    /// Adds entries to the store. The next call of [`CachedBlockList::current`] on this instance sees them.
    ///
    /// # Errors
    /// If the store cannot add them all; some may have been added.
    pub async fn add(&self, blocks: &[Block], guard: &Guard, deadline: Instant) -> Result<(), DependencyError> {
        guard.call(deadline, "blocking addresses", || self.store.block(blocks)).await?;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}
