//! Runs the contracts of the ports that share the table `access`, on their fakes.

use std::time::Duration;

use event::Timestamp;
use pipeline::ErrorClass;
use pipeline::ports::{Grant, RateLeases, TokenRequest};
use pipeline::token_bucket::BucketLimit;
use testkit::contracts::address_counters::address_counters_contract;
use testkit::contracts::api_keys::api_keys_contract;
use testkit::contracts::audit::audit_trail_contract;
use testkit::contracts::block_list::block_list_contract;
use testkit::contracts::rate_leases::rate_leases_contract;
use testkit::fakes::address_counters::FakeAddressCounters;
use testkit::fakes::api_keys::FakeApiKeys;
use testkit::fakes::audit::FakeAuditTrail;
use testkit::fakes::block_list::FakeBlockList;
use testkit::fakes::rate_leases::FakeRateLeases;

#[tokio::test]
async fn the_fakes_keep_the_contracts() {
    api_keys_contract(&FakeApiKeys::default()).await;
    audit_trail_contract(&FakeAuditTrail::default()).await;
    rate_leases_contract(&FakeRateLeases::default()).await;
    address_counters_contract(&FakeAddressCounters::default()).await;
    block_list_contract(&FakeBlockList::default()).await;
}

#[tokio::test]
async fn tokens_of_a_lost_answer_are_lost_and_not_doubled() {
    let store = FakeRateLeases::default();
    store.faults.lose_answer(1, ErrorClass::Transient);
    let limit = BucketLimit { per_minute: 600, burst: 100, lend_for: Duration::ZERO };
    let request = TokenRequest { limit, need: 1, want: 60, now: Timestamp::EPOCH };
    assert!(store.take("bucket", request).await.is_err());
    assert_eq!(store.take("bucket", request).await.unwrap(), Grant::Granted(40));
}
