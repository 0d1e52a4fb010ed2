//! Counts the allocations that one batch costs the handler, from the trigger's text to the records for Kafka. The
//! ports allocate next to nothing, so that the figure is our own code's.
#![expect(clippy::unwrap_used, reason = "a test: a missing value fails it")]

mod policy;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use async_trait::async_trait;
use base64_simd::STANDARD;
use event::schema::Registry;
use event::{AddressKey, AddressRange, Timestamp};
use lambda::invocation::Invocation;
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::ports::{
    AddressCount, AddressCounters, Block, BlockList, Claim, ClaimStore, ClaimVerdict, EventStore, LedgerEntry,
    MinuteTotal, NewRecord, RecordPublisher, RiskScore, Score, ScoreRequest, Scorer,
};
use pipeline::tracked::{Decided, State, Tracked};
use pipeline::{DependencyError, Outcome, Position, header};
use processor::{App, Ports, handle};
use serde_json::json;
use serde_json::value::RawValue;
use settings::shared::StateStore;
use testkit::fakes::audit::FakeAuditTrail;
use testkit::fakes::objects::FakeObjects;
use tokio::runtime::Builder;

use crate::policy::policy;

const RECORDS: usize = 500;
/// The goal for the whole process is 20; the Kafka client needs about 8 for each record that it writes.
/// One of them is the text of what statistics keep of the event.
const MAX_PER_RECORD: f64 = 11.0;

/// Answers every call in the simplest way.
struct Answers {
    topic: Arc<str>,
    rules_version: Arc<str>,
}

#[async_trait]
impl ClaimStore for Answers {
    async fn claim(&self, claims: &[Claim], _: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError> {
        Ok(vec![ClaimVerdict::New; claims.len()])
    }
}

#[async_trait]
impl AddressCounters for Answers {
    async fn add(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DependencyError> {
        Ok(counts.iter().map(|count| count.count.into()).collect())
    }

    async fn totals(&self, _: AddressKey) -> Result<Vec<MinuteTotal>, DependencyError> {
        Ok(Vec::new())
    }

    async fn forget(&self, _: AddressKey) -> Result<(), DependencyError> {
        Ok(())
    }
}

#[async_trait]
impl BlockList for Answers {
    async fn list(&self) -> Result<Vec<Block>, DependencyError> {
        Ok(Vec::new())
    }

    async fn block(&self, _: &[Block]) -> Result<(), DependencyError> {
        Ok(())
    }

    async fn unblock(&self, _: AddressRange) -> Result<bool, DependencyError> {
        Ok(false)
    }
}

#[async_trait]
impl Scorer for Answers {
    async fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Score>, DependencyError> {
        let score = |request: &ScoreRequest| Score {
            event_id: request.event_id.clone(),
            risk_score: 0,
            reasons: Vec::new(),
            rules_version: Arc::clone(&self.rules_version),
        };
        Ok(requests.iter().map(score).collect())
    }
}

#[async_trait]
impl EventStore for Answers {
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError> {
        let entry = |record: &Tracked<'_, Decided>| {
            let (outcome, reason, risk): (Outcome, String, Option<RiskScore>) = match &record.state {
                State::Open { found, .. } => (found.outcome, String::new(), found.risk.clone()),
                State::Closed { outcome, reason, .. } => (*outcome, reason.clone(), None),
            };
            LedgerEntry {
                position: record.position.clone(),
                digest: record.digest,
                origin: record.origin.clone(),
                trace_id: record.trace_id,
                key: record.key().cloned(),
                outcome,
                reason,
                risk,
                recorded_at: now,
            }
        };
        Ok(records.iter().map(entry).collect())
    }
}

#[async_trait]
impl RecordPublisher for Answers {
    async fn publish(&self, records: Vec<NewRecord>, _: Duration) -> Vec<Result<Position, DependencyError>> {
        records.iter().map(|_| Ok(Position::new(Arc::clone(&self.topic), 0, 0))).collect()
    }

    async fn close(&self, _: Duration) -> Result<(), DependencyError> {
        Ok(())
    }
}

fn app() -> App {
    let answers = Arc::new(Answers { topic: Arc::from("processed-events"), rules_version: Arc::from("1") });
    let ports = Ports {
        claims: answers.clone(),
        counters: answers.clone(),
        block_list: answers.clone(),
        audit: Arc::new(FakeAuditTrail::default()),
        scorer: answers.clone(),
        store: answers.clone(),
        publisher: answers,
        objects: Arc::new(FakeObjects::default()),
        clock: Arc::new(SystemClock),
    };
    let mut policy = policy();
    policy.limits.per_minute = NonZeroU32::new(100_000);
    policy.dedup_store = StateStore::Postgres;
    App::new(policy, Registry::embedded().unwrap(), ports)
}

/// A trigger event with what ingest writes for transactions.
fn batch() -> Box<RawValue> {
    let now = SystemClock.now();
    let record = |offset: usize| {
        let id = format!("order-{offset:08}");
        let data = json!({
            "type": "transaction", "id": id, "user_id": format!("u-{offset}"), "amount": 12.5, "currency": "EUR",
            "metadata": {"order": "o-1"},
        });
        let envelope = json!({
            "envelope": 1, "id": id, "id_source": "client", "type": "transaction", "schema": 1, "tenant": "acme",
            "received_at": now, "ip": format!("203.0.113.{}", offset % 200), "user_agent": "sample/1.0", "data": data,
        });
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        json!({
            "topic": "raw-events", "partition": 0, "offset": offset, "timestamp": now.as_millis(),
            "timestampType": "CREATE_TIME", "key": STANDARD.encode_to_string(format!("acme/{id}")),
            "value": STANDARD.encode_to_string(envelope.to_string()),
            "headers": [
                {header::EVENT_ID: id.as_bytes()}, {header::EVENT_TYPE: b"transaction"},
                {header::TRACEPARENT: traceparent.as_bytes()},
            ],
        })
    };
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let event = json!({"eventSource": "aws:kafka", "records": {"raw-events-0": records}});
    RawValue::from_string(event.to_string()).unwrap()
}

#[test]
fn a_record_costs_few_allocations() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let (app, event) = (app(), batch());
    let invoke = || {
        let deadline = Instant::now() + Duration::from_secs(60);
        let invocation = Invocation { request_id: "test".to_owned(), deadline };
        let answer = runtime.block_on(handle(&event, &invocation, &app)).unwrap();
        assert_eq!(answer.get(), r#"{"batchItemFailures":[]}"#);
    };
    // The first batch fills the cache of the block list.
    invoke();
    let per_record = measure(invoke).count_total as f64 / RECORDS as f64;
    println!("{per_record:.2} allocations per record");
    assert!(per_record <= MAX_PER_RECORD, "{per_record:.2} allocations per record");
}
