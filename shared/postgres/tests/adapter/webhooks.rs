use postgres::PostgresWebhooks;
use testkit::contracts::webhooks::webhooks_contract;

use crate::database;

#[tokio::test]
async fn endpoints_and_deliveries_keep_their_contract() {
    webhooks_contract(&PostgresWebhooks::new(database().await)).await;
}
