//! Tests of claims on the embedded DynamoDB: the contract, and failing requests.

use std::time::Duration;

use dynamodb::DynamoClaims;
use event::{EventId, EventKey, Origin, PayloadHash, TenantId, Timestamp};
use pipeline::ErrorClass;
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict};
use testkit::contracts::claims::{claims_contract, held_claims_contract};

use crate::support::{DEDUP, Fault, Service, claims, start};

const TTL: Duration = Duration::from_secs(60);
const INSERT: &str = "BatchExecuteStatement";
const READ: &str = "BatchGetItem";
const TAKE_OVER: &str = "PutItem";

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn store(service: &Service) -> DynamoClaims {
    DynamoClaims::new(&service.dynamodb, DEDUP, TTL)
}

#[tokio::test]
async fn the_contract_holds() {
    let service = start().await;
    claims_contract(&store(&service), TTL).await;
    held_claims_contract(&store(&service), TTL).await;
}

#[tokio::test]
async fn a_new_id_costs_a_twenty_fifth_of_a_request() {
    let service = start().await;
    let store = store(&service);
    store.claim(&claims(51, 0), NOW).await.unwrap();
    assert_eq!((service.network.requests(INSERT), service.network.requests(READ)), (3, 0));
    store.claim(&claims(51, 0), NOW).await.unwrap();
    assert_eq!((service.network.requests(INSERT), service.network.requests(READ)), (6, 1));
}

#[tokio::test]
async fn throttling_is_waited_out() {
    let service = start().await;
    let store = store(&service);
    service.network.disturb(INSERT, 2, Fault::Throttle);
    service.network.disturb(INSERT, 2, Fault::ThrottleStatements);
    assert_eq!(store.claim(&claims(30, 0), NOW).await.unwrap(), vec![ClaimVerdict::New; 30]);

    service.network.disturb(READ, 1, Fault::Throttle);
    service.network.disturb(READ, 1, Fault::LeaveUnprocessed);
    assert_eq!(store.claim(&claims(30, 0), NOW).await.unwrap(), vec![ClaimVerdict::Own; 30]);

    service.network.disturb(TAKE_OVER, 3, Fault::Throttle);
    let later = NOW.plus(TTL);
    assert_eq!(store.claim(&claims(30, 1), later).await.unwrap(), vec![ClaimVerdict::New; 30]);
}

#[tokio::test]
async fn throttling_without_end_is_overload() {
    for (operation, fault) in [(INSERT, Fault::Throttle), (INSERT, Fault::ThrottleStatements)] {
        let service = start().await;
        service.network.disturb(operation, 100, fault);
        let error = store(&service).claim(&claims(1, 0), NOW).await.unwrap_err();
        assert_eq!((error.class, error.tag), (ErrorClass::Overload, "throttled"), "{fault:?}");
    }
    let service = start().await;
    store(&service).claim(&claims(1, 0), NOW).await.unwrap();
    service.network.disturb(READ, 100, Fault::LeaveUnprocessed);
    let error = store(&service).claim(&claims(1, 0), NOW).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Overload, "throttled"));
}

#[tokio::test]
async fn a_missing_right_is_not_repeated_and_not_the_records_fault() {
    let service = start().await;
    service.network.disturb(INSERT, 1, Fault::Deny);
    let error = store(&service).claim(&claims(1, 0), NOW).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Transient, "denied"));
    assert_eq!(service.network.requests(INSERT), 1);
}

#[tokio::test]
async fn a_missing_table_is_told() {
    let service = start().await;
    let store = DynamoClaims::new(&service.dynamodb, "nowhere", TTL);
    let error = store.claim(&claims(1, 0), NOW).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Transient, "table-missing"));
}

#[tokio::test]
async fn a_lost_answer_never_makes_a_duplicate_of_the_owner() {
    let service = start().await;
    let store = store(&service);
    service.network.disturb(INSERT, 1, Fault::LoseAnswer);
    assert_eq!(store.claim(&claims(3, 0), NOW).await.unwrap(), vec![ClaimVerdict::Own; 3]);

    // Take-overs that took effect without an answer to us.
    service.network.disturb(TAKE_OVER, 3, Fault::LoseAnswer);
    let later = NOW.plus(TTL);
    assert_eq!(store.claim(&claims(3, 1), later).await.unwrap(), vec![ClaimVerdict::Own; 3]);
    let taken = claims(3, 1).into_iter().map(|c| ClaimVerdict::Taken { owner: c.origin, same_payload: true });
    assert_eq!(store.claim(&claims(3, 2), later).await.unwrap(), taken.collect::<Vec<_>>());
}

#[tokio::test]
async fn single_statements_of_unknown_effect_are_claimed_once() {
    let service = start().await;
    let store = store(&service);
    service.network.disturb(INSERT, 1, Fault::SpoilOddAnswers);
    let expected = [ClaimVerdict::New, ClaimVerdict::Own, ClaimVerdict::New, ClaimVerdict::Own];
    assert_eq!(store.claim(&claims(4, 0), NOW).await.unwrap(), expected);
}

#[tokio::test]
async fn an_item_that_goes_away_is_claimed_again_but_not_for_ever() {
    let service = start().await;
    let store = store(&service);
    store.claim(&claims(2, 0), NOW).await.unwrap();
    service.network.disturb(READ, 1, Fault::FindNothing);
    let taken = claims(2, 0).into_iter().map(|c| ClaimVerdict::Taken { owner: c.origin, same_payload: true });
    assert_eq!(store.claim(&claims(2, 1), NOW).await.unwrap(), taken.collect::<Vec<_>>());

    service.network.disturb(READ, 100, Fault::FindNothing);
    let error = store.claim(&claims(2, 1), NOW).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Transient, "contended"));
}

#[tokio::test]
async fn items_hold_what_is_documented_and_stay_below_a_write_unit() {
    let service = start().await;
    let claim = Claim {
        key: EventKey { tenant: TenantId::new(&"t".repeat(64)).unwrap(), id: EventId::new(&"i".repeat(256)).unwrap() },
        origin: Origin::new("o".repeat(249), i32::MAX, i64::MAX),
        payload_hash: PayloadHash::of(b"a"),
    };
    store(&service).claim(std::slice::from_ref(&claim), NOW).await.unwrap();
    let client = aws_sdk_dynamodb::Client::new(&service.config);
    let mut items = client.scan().table_name(DEDUP).send().await.unwrap().items.unwrap();
    let item = items.pop().unwrap();
    assert_eq!(item["pk"].as_s().unwrap(), &claim.key.to_string());
    assert_eq!(item["owner"].as_s().unwrap(), &claim.origin.to_string());
    assert_eq!(item["payload_hash"].as_b().unwrap().as_ref(), claim.payload_hash.0);
    assert_eq!(item["expires_at"].as_n().unwrap(), "1800000060");
    let bytes: usize = item
        .iter()
        .map(|(name, value)| {
            let value = value.as_s().map_or_else(|_| value.as_b().map_or(21, |b| b.as_ref().len()), String::len);
            name.len() + value
        })
        .sum();
    assert!(bytes <= 700, "{bytes}");
}
