//! What a client reads, whole: the timeline of an event for each way in which it can stand, statistics, and each problem
//! document.
//! `INSTA_UPDATE=always cargo test -p query` writes them anew; look at the difference before you commit it.
//!
//! What is told was decided by the pipeline's own steps, from sample records of the processor.

mod search;
mod stats;

use std::num::NonZeroU32;

use event::schema::Registry;
use lambda::kafka_trigger::decode;
use pipeline::dead_letter::{DeadLetter, dead_letter};
use pipeline::decisions::dedup::ClaimPlan;
use pipeline::decisions::intake::Reader;
use pipeline::decisions::limits::{Blocks, LimitPlan, LimitPolicy};
use pipeline::decisions::{late, verdicts};
use pipeline::ports::{
    AddressCounters as _, BlockList as _, ClaimStore as _, LedgerEntry, Scorer as _, UnscoredEvents as _,
};
use pipeline::{DependencyError, Record, RecordHeaders};
use testkit::fakes::address_counters::FakeAddressCounters;
use testkit::fakes::block_list::FakeBlockList;
use testkit::fakes::claims::FakeClaims;
use testkit::fakes::scorer::FakeScorer;
use testkit::fakes::unscored::FakeUnscoredEvents;

use super::*;

const FRAUD_THRESHOLD: u8 = 80;

/// The service, and what the processor would have beside its store.
struct World {
    service: Service,
    claims: FakeClaims,
    counters: FakeAddressCounters,
    block_list: FakeBlockList,
    scorer: FakeScorer,
    per_minute: u32,
    /// The store refuses this event.
    refused: &'static str,
}

impl World {
    async fn new() -> Self {
        World {
            service: Service::start().await,
            claims: FakeClaims::new(DEDUP_WINDOW),
            counters: FakeAddressCounters::default(),
            block_list: FakeBlockList::default(),
            scorer: FakeScorer::default(),
            per_minute: 100,
            refused: "",
        }
    }

    /// With the records of samples of the processor, a second between two of them.
    async fn after_samples(cases: &[&str]) -> Self {
        let world = World::new().await;
        for (case, seconds) in cases.iter().zip(1..) {
            world.process(&records(case), after(seconds)).await;
        }
        world
    }

    /// Decides on records and records the decisions, step by step as the processor does.
    async fn decide_and_record(&self, records: &[Record], now: Timestamp) -> Result<Vec<LedgerEntry>, DependencyError> {
        let (registry, foreign_tenant) = (Registry::embedded().unwrap(), TenantId::new("kafka").unwrap());
        let reader = Reader { registry: &registry, foreign_tenant: &foreign_tenant, now: Timestamp::EPOCH };
        let plan = ClaimPlan::new(reader.read_all(records), now, DEDUP_WINDOW);
        let answers = self.claims.claim(&plan.claims, now).await.unwrap();
        let blocks = Blocks::new(self.block_list.list().await.unwrap());
        let policy = LimitPolicy { per_minute: NonZeroU32::new(self.per_minute), block_for: Duration::from_secs(900) };
        let plan = LimitPlan::new(plan.resolve(answers).unwrap(), &blocks, policy);
        let totals = self.counters.add(&plan.counts).await.unwrap();
        let limited = plan.resolve(&totals).unwrap();
        self.block_list.block(&limited.blocks).await.unwrap();
        let scores = self.scorer.score(&verdicts::ScorePlan::new(&limited.records).requests).await.ok();
        let mut decided = verdicts::decide(limited.records, scores, FRAUD_THRESHOLD).unwrap();
        for record in &mut decided {
            if record.key().is_some_and(|key| key.id.as_str() == self.refused) {
                verdicts::refuse(record, "data-exception");
            }
        }
        self.service.store.record(&decided, now).await
    }

    async fn process(&self, records: &[Record], now: Timestamp) -> Vec<LedgerEntry> {
        self.decide_and_record(records, now).await.unwrap()
    }

    async fn mark(&self, letter: &DeadLetter, step: LetterStep) -> MarkKey {
        let key = MarkKey { letter: letter.id.clone(), step };
        self.service.marks.begin(std::slice::from_ref(&key), "run-1", after(60), after(120)).await.unwrap();
        key
    }

    async fn finish(&self, key: MarkKey, copy: Option<Position>) {
        self.service.marks.finish(&[(key, copy)], "run-1", after(61)).await.unwrap();
    }

    async fn shown(&self, path: &str) -> String {
        shown(&self.service.get(path).await)
    }
}

/// The records of a sample of the processor.
fn records(case: &str) -> Vec<Record> {
    decode(&sample("processor", case)).unwrap()
}

/// The letter of the first dead-lettered record.
fn letter(records: &[Record], ledger: &[LedgerEntry]) -> DeadLetter {
    let mut letters = records.iter().zip(ledger).filter_map(|(record, entry)| {
        let letter = dead_letter(record, entry)?;
        Some(Record { headers: RecordHeaders(letter.headers), ..record.clone() })
    });
    DeadLetter::read(letters.next().unwrap()).unwrap()
}

/// Status, headers and body; not the body's length, which would differ with every other difference.
fn shown(answer: &Answer) -> String {
    let shown = answer.headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH.as_str());
    let headers: String = shown.map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{}\n{headers}{}", answer.status, serde_json::to_string_pretty(&answer.body).unwrap())
}

#[tokio::test]
async fn timelines_of_stored_events() {
    let world = World::after_samples(&["valid-batch"]).await;
    insta::assert_snapshot!("timeline_valid", world.shown("/events/order-1").await);
    insta::assert_snapshot!("timeline_fraud", world.shown("/events/order-2").await);
    let receipt = world.shown("/events/order-1?partition=0&offset=100").await;
    insta::assert_snapshot!("timeline_with_a_processed_receipt", receipt);
    let receipt = world.shown("/events/order-1?partition=0&offset=900").await;
    insta::assert_snapshot!("timeline_with_a_pending_receipt", receipt);
}

#[tokio::test]
async fn timelines_of_events_stored_without_the_scorer() {
    let world = World::new().await;
    world.scorer.faults.fail(1, ErrorClass::Transient);
    world.process(&records("valid-batch"), after(1)).await;
    insta::assert_snapshot!("timeline_unscored", world.shown("/events/order-2").await);
    let unscored = FakeUnscoredEvents::new(world.service.store.clone());
    let events = unscored.find(None, 100).await.unwrap();
    let scores = world.scorer.score(&late::score_requests(&events)).await.unwrap();
    unscored.settle(late::late_scores(events, scores, FRAUD_THRESHOLD), after(300)).await.unwrap();
    insta::assert_snapshot!("timeline_scored_later", world.shown("/events/order-2").await);
}

#[tokio::test]
async fn timelines_of_copies() {
    let world = World::after_samples(&["valid-batch", "duplicates"]).await;
    insta::assert_snapshot!("timeline_with_duplicates", world.shown("/events/order-1").await);
    insta::assert_snapshot!("timeline_of_a_redriven_copy_and_a_duplicate", world.shown("/events/order-3").await);
    // The batch of the first copy failed after claiming, so that copy is not recorded yet.
    let world = World::new().await;
    let duplicates = records("duplicates");
    let (first, copy) = (&duplicates[..1], &duplicates[1..2]);
    world.service.store.faults.fail(1, ErrorClass::Transient);
    world.decide_and_record(first, after(1)).await.unwrap_err();
    world.process(copy, after(2)).await;
    insta::assert_snapshot!("timeline_duplicate", world.shown("/events/order-1").await);
}

#[tokio::test]
async fn timelines_of_blocked_events() {
    let world = World { per_minute: 1, ..World::new().await };
    world.process(&records("valid-batch"), after(1)).await;
    world.process(&records("duplicates")[4..], after(2)).await;
    insta::assert_snapshot!("timeline_blocked_by_the_rate", world.shown("/events/click-1").await);
    insta::assert_snapshot!("timeline_blocked_by_the_list", world.shown("/events/order-3").await);
}

#[tokio::test]
async fn timelines_of_dead_letters() {
    let world = World::new().await;
    let bad = records("bad-records");
    let violation = &bad[6..7];
    let ledger = world.process(violation, after(1)).await;
    insta::assert_snapshot!("timeline_dead_lettered", world.shown("/events/order-8").await);
    let letter = letter(violation, &ledger);
    let mark = world.mark(&letter, LetterStep::Park).await;
    insta::assert_snapshot!("timeline_parking_under_way", world.shown("/events/order-8").await);
    world.finish(mark, None).await;
    insta::assert_snapshot!("timeline_parked", world.shown("/events/order-8").await);
    world.service.marks.faults.fail(1, ErrorClass::Transient);
    insta::assert_snapshot!("timeline_without_its_redrives", world.shown("/events/order-8").await);
}

#[tokio::test]
async fn timelines_of_a_redriven_letter() {
    let mut world = World { refused: "order-2", ..World::new().await };
    let batch = records("valid-batch");
    let ledger = world.process(&batch, after(1)).await;
    insta::assert_snapshot!("timeline_dead_lettered_by_the_store", world.shown("/events/order-2").await);
    let letter = letter(&batch, &ledger);
    let mark = world.mark(&letter, LetterStep::Send).await;
    insta::assert_snapshot!("timeline_redrive_under_way", world.shown("/events/order-2").await);

    let sent = letter.redriven();
    let position = Position::new("raw-events", 0, 500);
    let copy = Record { position: position.clone(), headers: RecordHeaders(sent.headers), ..letter.record.clone() };
    world.finish(mark, Some(position)).await;
    insta::assert_snapshot!("timeline_redriven_and_pending", world.shown("/events/order-2").await);
    world.refused = "";
    world.process(&[copy], after(62)).await;
    insta::assert_snapshot!("timeline_redriven_and_stored", world.shown("/events/order-2").await);
}

#[tokio::test]
async fn problems_of_events_that_are_not_known() {
    let world = World::after_samples(&["valid-batch"]).await;
    insta::assert_snapshot!("problem_unknown", world.shown("/events/order-7").await);
    let processed = world.shown("/events/order-7?partition=0&offset=100").await;
    insta::assert_snapshot!("problem_unknown_and_its_receipt_processed", processed);
    let pending = world.shown("/events/order-7?partition=0&offset=900").await;
    insta::assert_snapshot!("problem_pending", pending);
}

#[tokio::test]
async fn problems_of_bad_requests() {
    let service = Service::start().await;
    let paths = [
        ("problem_id", "/events/a%00"),
        ("problem_half_receipt", "/events/a?partition=2"),
        ("problem_half_receipt_without_partition", "/events/a?offset=2"),
        ("problem_number", "/events/a?partition=x&offset=0"),
        ("problem_parameter_twice", "/events/a?offset=1&offset=2&partition=0"),
        ("problem_path", "/other"),
    ];
    for (name, path) in paths {
        insta::assert_snapshot!(name, shown(&service.get(path).await));
    }
    let post = service.send(Request::post("/events/a").body(Body::empty()).unwrap()).await;
    insta::assert_snapshot!("problem_method", shown(&post));
}

#[tokio::test]
async fn problems_of_keys() {
    let service = Service::start().await;
    let request = || Request::get("/events/a");
    let requests = [
        ("problem_key_missing", request()),
        ("problem_key_unknown", request().header("x-api-key", "no-such-key")),
        ("problem_key_revoked", request().header("x-api-key", "revoked-key")),
    ];
    for (name, request) in requests {
        insta::assert_snapshot!(name, shown(&service.send(request.body(Body::empty()).unwrap()).await));
    }
    service.keys.faults.fail(1, ErrorClass::Transient);
    insta::assert_snapshot!("problem_key_store_down", shown(&service.get("/events/a").await));
}

#[tokio::test]
async fn problems_of_outages() {
    let service = Service::start().await;
    for (name, class) in [
        ("problem_history_down", ErrorClass::Transient),
        ("problem_history_overloaded", ErrorClass::Overload),
        ("problem_history_unreadable", ErrorClass::Permanent),
    ] {
        service.history.faults.fail(1, class);
        insta::assert_snapshot!(name, shown(&service.get("/events/a").await));
    }
}
