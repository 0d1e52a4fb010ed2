//! Tests of the table `access` on the embedded DynamoDB: the contracts, and failing requests.

use std::time::Duration;

use dynamodb::{DynamoAddressCounters, DynamoApiKeys, DynamoBlockList, DynamoRateLeases};
use event::{AddressKey, Timestamp};
use pipeline::ErrorClass;
use pipeline::ports::{AddressCount, AddressCounters, Block, BlockList, RateLeases};
use testkit::contracts::address_counters::address_counters_contract;
use testkit::contracts::api_keys::api_keys_contract;
use testkit::contracts::block_list::block_list_contract;
use testkit::contracts::rate_leases::rate_leases_contract;

use crate::support::{ACCESS, Fault, start};

#[tokio::test]
async fn the_contracts_hold() {
    let service = start().await;
    api_keys_contract(&DynamoApiKeys::new(&service.dynamodb, ACCESS)).await;
    rate_leases_contract(&DynamoRateLeases::new(&service.dynamodb, ACCESS)).await;
    address_counters_contract(&DynamoAddressCounters::new(&service.dynamodb, ACCESS)).await;
    block_list_contract(&DynamoBlockList::new(&service.dynamodb, ACCESS)).await;
}

#[tokio::test]
async fn tokens_are_lost_and_never_doubled_when_an_answer_is() {
    let service = start().await;
    let store = DynamoRateLeases::new(&service.dynamodb, ACCESS);
    service.network.disturb("UpdateItem", 1, Fault::LoseAnswer);
    let granted = store.take("bucket", 0, 60, 100).await.unwrap();
    assert_eq!(granted, 40, "the repeated call gets the tokens that the call with the lost answer left");
    assert_eq!(store.take("bucket", 0, 60, 100).await.unwrap(), 0);
}

#[tokio::test]
async fn a_lease_costs_one_request_or_two_when_it_runs_out() {
    let service = start().await;
    let store = DynamoRateLeases::new(&service.dynamodb, ACCESS);
    store.take("bucket", 0, 60, 100).await.unwrap();
    assert_eq!(service.network.requests("UpdateItem"), 1);
    store.take("bucket", 0, 60, 100).await.unwrap();
    assert_eq!(service.network.requests("UpdateItem"), 3);
    store.take("bucket", 0, 60, 100).await.unwrap();
    assert_eq!(service.network.requests("UpdateItem"), 4);
}

#[tokio::test]
async fn throttling_is_waited_out_and_overload_when_it_does_not_end() {
    let service = start().await;
    let store = DynamoAddressCounters::new(&service.dynamodb, ACCESS);
    let address: AddressKey = "203.0.113.7".parse().unwrap();
    let counts = [AddressCount { address, minute: 0, count: 3 }];
    service.network.disturb("UpdateItem", 3, Fault::Throttle);
    assert_eq!(store.add(&counts).await.unwrap(), [3]);
    service.network.disturb("UpdateItem", 100, Fault::Throttle);
    let error = store.add(&counts).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Overload, "throttled"));
}

#[tokio::test]
async fn counters_and_blocks_carry_an_end() {
    let service = start().await;
    let counters = DynamoAddressCounters::new(&service.dynamodb, ACCESS);
    let address: AddressKey = "203.0.113.7".parse().unwrap();
    counters.add(&[AddressCount { address, minute: 1, count: 1 }]).await.unwrap();
    DynamoRateLeases::new(&service.dynamodb, ACCESS).take("bucket", 1, 1, 1).await.unwrap();
    let until = Timestamp::from_millis(1_000);
    let block = Block { address, from: Timestamp::EPOCH, until: Some(until), reason: "test".into() };
    DynamoBlockList::new(&service.dynamodb, ACCESS).block(&[block]).await.unwrap();

    let client = aws_sdk_dynamodb::Client::new(&service.config);
    let items = client.scan().table_name(ACCESS).send().await.unwrap().items.unwrap();
    let mut ends: Vec<(&str, Duration)> = items
        .iter()
        .map(|item| {
            let end = item["expires_at"].as_n().unwrap().parse().unwrap();
            (item["pk"].as_s().unwrap().as_str(), Duration::from_secs(end))
        })
        .collect();
    ends.sort();
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let minutes = |n: u64| Duration::from_secs(n * 60);
    assert_eq!(
        ends,
        [
            ("address#203.0.113.7", minutes(2) + hours(48)),
            ("blocks", Duration::from_secs(1) + hours(24)),
            ("rate#bucket", minutes(2) + hours(2)),
        ]
    );
}
