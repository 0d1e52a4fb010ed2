//! Runs the history contract on its fake.

use std::sync::Arc;

use testkit::contracts::history::history_contract;
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::fakes::history::FakeHistory;
use testkit::fakes::store::FakeStore;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let store = Arc::new(FakeStore::new(DEDUP_WINDOW));
    history_contract(&FakeHistory::new(Arc::clone(&store)), &*store).await;
}
