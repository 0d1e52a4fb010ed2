//! Runs the contracts of the four ports that share the table `access`, on their fakes.

use pipeline::ErrorClass;
use pipeline::ports::RateLeases;
use testkit::contracts::address_counters::address_counters_contract;
use testkit::contracts::api_keys::api_keys_contract;
use testkit::contracts::block_list::block_list_contract;
use testkit::contracts::rate_leases::rate_leases_contract;
use testkit::fakes::address_counters::FakeAddressCounters;
use testkit::fakes::api_keys::FakeApiKeys;
use testkit::fakes::block_list::FakeBlockList;
use testkit::fakes::rate_leases::FakeRateLeases;

#[tokio::test]
async fn the_fakes_keep_the_contracts() {
    api_keys_contract(&FakeApiKeys::default()).await;
    rate_leases_contract(&FakeRateLeases::default()).await;
    address_counters_contract(&FakeAddressCounters::default()).await;
    block_list_contract(&FakeBlockList::default()).await;
}

#[tokio::test]
async fn tokens_of_a_lost_answer_are_lost_and_not_doubled() {
    let store = FakeRateLeases::default();
    store.faults.lose_answer(1, ErrorClass::Transient);
    assert!(store.take("bucket", 0, 60, 100).await.is_err());
    assert_eq!(store.take("bucket", 0, 60, 100).await.unwrap(), 40);
}
