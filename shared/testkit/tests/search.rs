//! Runs the contract of searches on its fake.

use std::sync::Arc;

use testkit::contracts::search::search_contract;
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::fakes::search::FakeSearch;
use testkit::fakes::store::FakeStore;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let store = Arc::new(FakeStore::new(DEDUP_WINDOW));
    search_contract(&FakeSearch::new(Arc::clone(&store)), &*store).await;
}
