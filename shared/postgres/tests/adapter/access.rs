//! Keys, limits, blocks, marks and trails: the contracts, what is forgotten, and what is cleaned up.

use std::time::Duration;

use event::{AddressKey, Origin, Timestamp};
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::ports::{
    ActionState, AddressCount, AddressCounters as _, AuditEntry, AuditTrail as _, Block, BlockList as _, Grant,
    LetterId, LetterStep, MarkKey, RateLeases as _, RedriveMarks as _, TokenRequest,
};
use pipeline::token_bucket::BucketLimit;
use postgres::partitions::{self, PartitionPolicy};
use postgres::{
    Database, PostgresAddressCounters, PostgresApiKeys, PostgresAuditTrail, PostgresBlockList, PostgresRateLeases,
    PostgresRedriveMarks,
};
use testkit::contracts::address_counters::address_counters_contract;
use testkit::contracts::api_keys::api_keys_contract;
use testkit::contracts::audit::audit_trail_contract;
use testkit::contracts::block_list::block_list_contract;
use testkit::contracts::rate_leases::rate_leases_contract;
use testkit::contracts::redrive::redrive_marks_contract;

use crate::{database, execute, scalar};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contracts_hold() {
    let database = database().await;
    api_keys_contract(&PostgresApiKeys::new(database.clone())).await;
    audit_trail_contract(&PostgresAuditTrail::new(database.clone(), "contract")).await;
    rate_leases_contract(&PostgresRateLeases::new(database.clone())).await;
    address_counters_contract(&PostgresAddressCounters::new(database.clone())).await;
    block_list_contract(&PostgresBlockList::new(database.clone())).await;
    redrive_marks_contract(&PostgresRedriveMarks::new(database)).await;
}

/// Batches that have the same addresses in different orders would deadlock if each locked them in its own order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_with_the_same_addresses_do_not_deadlock() {
    let database = database().await;
    let counters = PostgresAddressCounters::new(database.clone());
    let mut there: Vec<AddressCount> = (0..500_u32)
        .map(|n| AddressCount { address: AddressKey::of(std::net::IpAddr::V4(n.into())), minute: 1, count: 1 })
        .collect();
    let forth = there.clone();
    there.reverse();
    for _ in 0..10 {
        let (one, other) = tokio::join!(counters.add(&forth), counters.add(&there));
        one.unwrap();
        other.unwrap();
    }
    assert_eq!(scalar::<i64>(&database, "SELECT sum(events)::int8 FROM address_counts").await, 10_000);
}

/// What clients and operators write may have characters that Postgres cannot store.
#[tokio::test]
async fn a_zero_character_fails_nothing() {
    let database = database().await;
    let now = SystemClock.now();
    let trail = PostgresAuditTrail::new(database.clone(), "zero");
    let entry = AuditEntry {
        started_at: now,
        run: "r\0".to_owned(),
        action: "block".to_owned(),
        by: Some("a\0b".to_owned()),
        state: ActionState::Finished,
        request: "{}".to_owned(),
        result: "\0".to_owned(),
    };
    trail.record(&entry).await.unwrap();
    assert_eq!(trail.entries(now).await.unwrap()[0].by.as_deref(), Some("a\u{fffd}b"));

    let marks = PostgresRedriveMarks::new(database.clone());
    let letter = LetterId { origin: Origin::new("a\0b", 0, 1), attempt: 0 };
    let key = MarkKey { letter, step: LetterStep::Send };
    marks.begin(std::slice::from_ref(&key), "run\0", now, now.plus(DAY)).await.unwrap();
    assert_eq!(marks.of_origin(&key.letter.origin).await.unwrap()[0].key, key);

    let limit = BucketLimit { per_minute: 600, burst: 100, lend_for: Duration::ZERO };
    let request = TokenRequest { limit, need: 1, want: 1, now };
    let granted = PostgresRateLeases::new(database).take("tenant\0key", request).await.unwrap();
    assert_eq!(granted, Grant::Granted(1));
}

#[tokio::test]
async fn what_is_not_needed_any_more_is_removed_and_nothing_else() {
    let database = database().await;
    let now = SystemClock.now();
    let ago = |by: Duration| Timestamp::from_millis(now.as_millis() - i64::try_from(by.as_millis()).unwrap());
    let address: AddressKey = "203.0.113.7".parse().unwrap();
    let counts = [3 * DAY, DAY].map(|by| AddressCount { address, minute: ago(by).minute(), count: 1 });
    PostgresAddressCounters::new(database.clone()).add(&counts).await.unwrap();
    let limit = BucketLimit { per_minute: 600, burst: 100, lend_for: Duration::ZERO };
    for (bucket, at) in [("old", ago(DAY)), ("new", now)] {
        let request = TokenRequest { limit, need: 1, want: 1, now: at };
        PostgresRateLeases::new(database.clone()).take(bucket, request).await.unwrap();
    }
    let block = |address: &str, until| Block {
        address: address.parse().unwrap(),
        allows: false,
        from: Timestamp::EPOCH,
        until,
        reason: String::new(),
    };
    let blocks = [
        block("203.0.113.1", Some(ago(2 * DAY))),
        block("203.0.113.2", Some(ago(DAY / 2))),
        block("203.0.113.3", None),
    ];
    PostgresBlockList::new(database.clone()).block(&blocks).await.unwrap();
    let mark = |offset| MarkKey {
        letter: LetterId { origin: Origin::new("t", 0, offset), attempt: 0 },
        step: LetterStep::Send,
    };
    let marks = PostgresRedriveMarks::new(database.clone());
    marks.finish(&[(mark(1), None)], "run", ago(91 * DAY)).await.unwrap();
    marks.finish(&[(mark(2), None)], "run", ago(89 * DAY)).await.unwrap();
    let entry = |started_at| AuditEntry {
        started_at,
        run: "run".to_owned(),
        action: "redrive".to_owned(),
        by: None,
        state: ActionState::Finished,
        request: String::new(),
        result: String::new(),
    };
    let trail = PostgresAuditTrail::new(database.clone(), "redrive");
    for by in [401 * DAY, 399 * DAY] {
        trail.record(&entry(ago(by))).await.unwrap();
    }

    let policy = PartitionPolicy { ahead_days: 0, retention_days: 1, ledger_retention: DAY };
    assert_eq!(partitions::maintain(&database, now, policy).await.unwrap().deleted_access, 5);
    assert_eq!(partitions::maintain(&database, now, policy).await.unwrap().deleted_access, 0);
    let left = "SELECT (SELECT count(*) FROM address_counts) * 10000 + (SELECT count(*) FROM rate_buckets) * 1000
                     + (SELECT count(*) FROM blocks) * 100 + (SELECT count(*) FROM redrive_marks) * 10
                     + (SELECT count(*) FROM audit_trail)";
    assert_eq!(scalar::<i64>(&database, left).await, 11_211);
}

#[tokio::test]
async fn a_row_that_this_build_cannot_read_is_named() {
    let database: Database = database().await;
    execute(&database, "INSERT INTO blocks VALUES ('nowhere', false, 'epoch', NULL, '')").await;
    let error = PostgresBlockList::new(database).list().await.unwrap_err();
    assert_eq!(error.source.to_string(), "table blocks has a row with an invalid address");
}
