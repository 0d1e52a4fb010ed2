//! Runs the contract of late scores on its fake.

use std::sync::Arc;

use testkit::contracts::store::DEDUP_WINDOW;
use testkit::contracts::unscored::unscored_contract;
use testkit::fakes::store::FakeStore;
use testkit::fakes::unscored::FakeUnscoredEvents;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let store = Arc::new(FakeStore::new(DEDUP_WINDOW));
    unscored_contract(&FakeUnscoredEvents::new(Arc::clone(&store)), &*store, &*store).await;
}
