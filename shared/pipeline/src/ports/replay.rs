//! What a replay remembers of itself, and what it leaves when it processes records once more.

use std::collections::BTreeMap;

use async_trait::async_trait;
use event::Timestamp;

use super::LedgerEntry;
use crate::{DependencyError, Position};

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// For each partition that was begun, the first offset not dealt with.
    pub next: BTreeMap<i32, i64>,
    /// What was counted so far, as the replayer writes it; empty at the start.
    pub counts: String,
}

/// The answer to who wants to work on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// It is theirs, and this far.
    Ours(ReplayProgress),
    /// The name belongs to a run with another request.
    Other { request: String },
}

#[async_trait]
pub trait ReplayRuns: Send + Sync {
    /// Gives the run of that name to `holder`, whoever had it before, and begins it if there is none. A run keeps the
    /// request it began with.
    async fn take_over(
        &self,
        run: &str,
        request: &str,
        holder: &str,
        now: Timestamp,
    ) -> Result<TakeOver, DependencyError>;

    /// Replaces the run's progress. `false`, and nothing is saved, if `holder` does not have the run (any more).
    async fn save(
        &self,
        run: &str,
        holder: &str,
        progress: &ReplayProgress,
        now: Timestamp,
    ) -> Result<bool, DependencyError>;
}

/// Outcomes under other rules, beside the ledger.
#[async_trait]
pub trait ReprocessedOutcomes: Send + Sync {
    /// The ledger's entry of each record; `None` if it has none.
    async fn first_outcomes(&self, positions: &[Position]) -> Result<Vec<Option<LedgerEntry>>, DependencyError>;

    /// Adds what is not there yet, by version and position, and tells how many were added. No entry ever changes, and
    /// neither does the ledger. An entry's `recorded_at` is when it was reprocessed. An `Err` means that all or nothing
    /// was added.
    async fn add(&self, version: &str, entries: &[LedgerEntry]) -> Result<u64, DependencyError>;
}
