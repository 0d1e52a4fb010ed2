use std::time::Duration;

use postgres::PostgresClaims;
use testkit::contracts::claims::{claims_contract, held_claims_contract};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_keep_the_contract() {
    let ttl = Duration::from_secs(60);
    let store = PostgresClaims::new(super::database().await, ttl);
    claims_contract(&store, ttl).await;
    held_claims_contract(&store, ttl).await;
}
