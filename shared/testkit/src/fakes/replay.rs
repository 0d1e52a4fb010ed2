//! The stored progress and results of a replayer, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use event::Timestamp;
use pipeline::decisions::recording::entry_of;
use pipeline::ports::{LedgerEntry, ReplayProgress, ReplayRuns, ReprocessedOutcomes, TakeOver};
use pipeline::tracked::{Read, Tracked};
use pipeline::{Dependency, DependencyError, Position};

use super::Faults;
use super::store::FakeStore;

/// [`ReplayRuns`], and [`ReprocessedOutcomes`] with the ledger of a [`FakeStore`].
#[derive(Debug)]
pub struct FakeReplay {
    pub faults: Faults,
    store: Arc<FakeStore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    runs: BTreeMap<String, Run>,
    outcomes: BTreeMap<(String, Position), LedgerEntry>,
}

#[derive(Debug)]
struct Run {
    request: String,
    holder: String,
    progress: ReplayProgress,
}

impl FakeReplay {
    pub fn new(store: Arc<FakeStore>) -> Self {
        FakeReplay { faults: Faults::default(), store, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The progress of a run.
    pub fn progress(&self, run: &str) -> Option<ReplayProgress> {
        self.state().runs.get(run).map(|run| run.progress.clone())
    }

    /// The outcomes of a version, by position.
    pub fn outcomes(&self, version: &str) -> Vec<LedgerEntry> {
        let state = self.state();
        let of_version = state.outcomes.iter().filter(|((of, _), _)| of == version);
        of_version.map(|(_, entry)| entry.clone()).collect()
    }
}

#[async_trait]
impl ReplayRuns for FakeReplay {
    async fn take_over(
        &self,
        run: &str,
        request: &str,
        holder: &str,
        _now: Timestamp,
    ) -> Result<TakeOver, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            let mut state = self.state();
            let run = state.runs.entry(run.to_owned()).or_insert_with(|| Run {
                request: request.to_owned(),
                holder: String::new(),
                progress: ReplayProgress::default(),
            });
            if run.request != request {
                return TakeOver::Other { request: run.request.clone() };
            }
            holder.clone_into(&mut run.holder);
            TakeOver::Ours(run.progress.clone())
        })
    }

    async fn save(
        &self,
        run: &str,
        holder: &str,
        progress: &ReplayProgress,
        _now: Timestamp,
    ) -> Result<bool, DependencyError> {
        // Other tasks get a turn, as they do during a real call.
        tokio::task::yield_now().await;
        self.faults.apply(Dependency::Postgres, || match self.state().runs.get_mut(run) {
            Some(run) if run.holder == holder => {
                run.progress = progress.clone();
                true
            }
            Some(_) | None => false,
        })
    }
}

#[async_trait]
impl ReprocessedOutcomes for FakeReplay {
    async fn first_outcomes(&self, records: &[Tracked<'_, Read>]) -> Result<Vec<Option<LedgerEntry>>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            records.iter().map(|record| entry_of(record, self.store.entries_at(&record.position))).collect()
        })
    }

    async fn add(&self, version: &str, entries: &[LedgerEntry]) -> Result<u64, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            let mut state = self.state();
            let before = state.outcomes.len();
            for entry in entries {
                let key = (version.to_owned(), entry.position.clone());
                state.outcomes.entry(key).or_insert_with(|| entry.clone());
            }
            (state.outcomes.len() - before) as u64
        })
    }
}
