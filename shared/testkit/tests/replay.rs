//! Runs the contracts of replaying on their fake.

use std::sync::Arc;

use async_trait::async_trait;
use pipeline::ports::LedgerEntry;
use testkit::contracts::replay::{ReprocessedView, replay_runs_contract, reprocessed_outcomes_contract};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::fakes::replay::FakeReplay;
use testkit::fakes::store::FakeStore;

struct View<'a>(&'a FakeReplay);

#[async_trait]
impl ReprocessedView for View<'_> {
    async fn outcomes(&self, version: &str) -> Vec<LedgerEntry> {
        self.0.outcomes(version)
    }
}

#[tokio::test]
async fn the_fake_keeps_the_contracts() {
    let store = Arc::new(FakeStore::new(DEDUP_WINDOW));
    let replay = FakeReplay::new(Arc::clone(&store));
    replay_runs_contract(&replay).await;
    reprocessed_outcomes_contract(&replay, &*store, &View(&replay)).await;
}
