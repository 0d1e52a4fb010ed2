use std::time::Duration;

use postgres::PostgresClaims;
use testkit::contracts::claims::claims_contract;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_keep_the_contract() {
    let ttl = Duration::from_secs(60);
    claims_contract(&PostgresClaims::new(super::database().await, ttl), ttl).await;
}
