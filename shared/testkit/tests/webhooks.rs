//! The fake keeps the contract.

use testkit::contracts::webhooks::webhooks_contract;
use testkit::fakes::webhooks::FakeWebhooks;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    webhooks_contract(&FakeWebhooks::default()).await;
}
