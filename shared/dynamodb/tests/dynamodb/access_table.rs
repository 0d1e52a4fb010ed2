//! Tests of the table `access` on the embedded DynamoDB: the contracts, and failing requests.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use dynamodb::{DynamoAddressCounters, DynamoApiKeys, DynamoAuditTrail, DynamoBlockList, DynamoRateLeases};
use event::{AddressKey, Timestamp};
use pipeline::ErrorClass;
use pipeline::ports::{
    AddressCount, AddressCounters, ApiKeys, Block, BlockList, Grant, KeyHash, KeyKind, RateLeases, Scope, TokenRequest,
};
use pipeline::token_bucket::BucketLimit;
use testkit::contracts::address_counters::address_counters_contract;
use testkit::contracts::api_keys::api_keys_contract;
use testkit::contracts::audit::audit_trail_contract;
use testkit::contracts::block_list::block_list_contract;
use testkit::contracts::rate_leases::rate_leases_contract;

use crate::support::{ACCESS, Fault, start};

#[tokio::test]
async fn the_contracts_hold() {
    let service = start().await;
    api_keys_contract(&DynamoApiKeys::new(&service.dynamodb, ACCESS)).await;
    audit_trail_contract(&DynamoAuditTrail::new(&service.dynamodb, ACCESS, "contract")).await;
    rate_leases_contract(&DynamoRateLeases::new(&service.dynamodb, ACCESS)).await;
    address_counters_contract(&DynamoAddressCounters::new(&service.dynamodb, ACCESS)).await;
    block_list_contract(&DynamoBlockList::new(&service.dynamodb, ACCESS)).await;
}

fn tokens(need: u32, want: u32) -> TokenRequest {
    let limit = BucketLimit { per_minute: 600, burst: 100, lend_for: Duration::ZERO };
    TokenRequest { limit, need, want, now: Timestamp::from_millis(1_000_000) }
}

#[tokio::test]
async fn tokens_are_lost_and_never_doubled_when_an_answer_is() {
    let service = start().await;
    let store = DynamoRateLeases::new(&service.dynamodb, ACCESS);
    service.network.disturb("UpdateItem", 1, Fault::LoseAnswer);
    let granted = store.take("bucket", tokens(1, 60)).await.unwrap();
    assert_eq!(granted, Grant::Granted(40), "the repeated call gets what the call with the lost answer left");
    assert!(matches!(store.take("bucket", tokens(1, 60)).await.unwrap(), Grant::Refused { .. }));
}

#[tokio::test]
async fn a_lease_of_a_full_bucket_costs_one_request_and_of_another_two() {
    let service = start().await;
    let store = DynamoRateLeases::new(&service.dynamodb, ACCESS);
    store.take("bucket", tokens(1, 60)).await.unwrap();
    assert_eq!(service.network.requests("UpdateItem"), 1);
    store.take("bucket", tokens(1, 60)).await.unwrap();
    assert_eq!(service.network.requests("UpdateItem"), 3);
    store.take("bucket", tokens(1, 60)).await.unwrap();
    assert_eq!(service.network.requests("UpdateItem"), 4, "a refusal writes nothing");
}

#[tokio::test]
async fn a_bucket_is_kept_until_it_is_full_again() {
    let service = start().await;
    let store = DynamoRateLeases::new(&service.dynamodb, ACCESS);
    // Ten days until it is full.
    let limit = BucketLimit { per_minute: 10, burst: 144_000, lend_for: Duration::ZERO };
    let request = TokenRequest { limit, ..tokens(144_000, 144_000) };
    store.take("slow", request).await.unwrap();
    let client = aws_sdk_dynamodb::Client::new(&service.config);
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let item = client.get_item().table_name(ACCESS).key("pk", text("rate#slow")).key("sk", text("bucket"));
    let item = item.send().await.unwrap().item.unwrap();
    let end: i64 = item["expires_at"].as_n().unwrap().parse().unwrap();
    assert!(end >= request.now.as_secs() + 10 * 86_400, "{end}");
}

#[tokio::test]
async fn keys_from_before_there_were_kinds_and_scopes_work_on() {
    let service = start().await;
    let store = DynamoApiKeys::new(&service.dynamodb, ACCESS);
    let client = aws_sdk_dynamodb::Client::new(&service.config);
    for (hash, trusted, kind) in
        [(KeyHash([1; 32]), true, KeyKind::Server), (KeyHash([2; 32]), false, KeyKind::Publishable)]
    {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        let put = client.put_item().table_name(ACCESS).item("pk", text(&format!("key#{hash}"))).item("sk", text("key"));
        let put = put.item("tenant", text("acme")).item("name", text("web"));
        let put =
            put.item("trusted_collector", AttributeValue::Bool(trusted)).item("revoked", AttributeValue::Bool(false));
        put.send().await.unwrap();
        let key = store.find(&hash).await.unwrap().unwrap();
        assert_eq!((key.kind, key.expires_at), (kind, None));
        assert_eq!(key.scopes, BTreeSet::from([Scope::Write, Scope::Read]));
        store.put(&key).await.unwrap();
        assert!(store.list().await.unwrap().contains(&key), "listed after its next change");
    }
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
    DynamoRateLeases::new(&service.dynamodb, ACCESS).take("bucket", tokens(1, 1)).await.unwrap();
    let until = Timestamp::from_millis(1_000);
    let block = Block {
        address: address.into(),
        allows: false,
        from: Timestamp::EPOCH,
        until: Some(until),
        reason: "test".into(),
    };
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
            ("rate#bucket", Duration::from_secs(1_000) + hours(2)),
        ]
    );
}
