//! The stored progress of replays, and the outcomes of records that were processed again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use event::Timestamp;

use super::LedgerEntry;
use crate::DependencyError;
use crate::tracked::{Read, Tracked};

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// For each partition that was begun, the first offset that is not processed yet.
    pub next: BTreeMap<i32, i64>,
    /// The counts so far, in the replayer's own format; empty at the start.
    pub counts: String,
}

/// The answer to a request to work on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// The run is the caller's, with this progress.
    Ours(ReplayProgress),
    /// The name belongs to a run with another request.
    Other { request: String },
}

#[async_trait]
pub trait ReplayRuns: Send + Sync {
    /// Gives the run of that name to `holder`, whoever had it before, and creates the run if there is none. A run keeps
    /// the request with which it was created.
    async fn take_over(
        &self,
        run: &str,
        request: &str,
        holder: &str,
        now: Timestamp,
    ) -> Result<TakeOver, DependencyError>;

    /// Replaces the run's progress. Saves nothing and returns `false` if `holder` does not have the run, or no longer.
    async fn save(
        &self,
        run: &str,
        holder: &str,
        progress: &ReplayProgress,
        now: Timestamp,
    ) -> Result<bool, DependencyError>;
}

/// Outcomes under other rules, stored apart from the ledger.
#[async_trait]
pub trait ReprocessedOutcomes: Send + Sync {
    /// The ledger's entry of each record; `None` if it has none.
    async fn first_outcomes(&self, records: &[Tracked<'_, Read>]) -> Result<Vec<Option<LedgerEntry>>, DependencyError>;

    /// Adds the entries that do not exist yet, by version and position, and returns how many were added. Existing
    /// entries and the ledger never change. An entry's `recorded_at` is when it was reprocessed. An `Err` means that
    /// all or nothing was added.
    async fn add(&self, version: &str, entries: &[LedgerEntry]) -> Result<u64, DependencyError>;
}
