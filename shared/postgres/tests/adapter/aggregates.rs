use std::sync::Arc;
use std::time::Duration;

use event::{EventId, EventKey, TenantId, Timestamp};
use pipeline::ports::{EventPlace, EventStore, LateScore, RiskScore, UnscoredEvent, UnscoredEvents};
use pipeline::tracked::{Decided, State, Tracked};
use pipeline::{Outcome, Position};
use postgres::partitions::{PartitionPolicy, maintain};
use postgres::{Database, Drain, LogEnd, PostgresAggregates, PostgresEventStore, PostgresUnscoredEvents};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::{event, first_copy, stored, valid};

use super::{database, execute, scalar};

const TOPIC: &str = "raw-events";

fn noon() -> Timestamp {
    Timestamp::parse("2026-11-20T12:00:00Z").unwrap()
}

fn risk(score: u8) -> Option<RiskScore> {
    Some(RiskScore { score, reasons: vec![], rules_version: "1".into() })
}

/// A click of campaign c1 by one of three users.
fn click(partition: i32, offset: i64) -> Tracked<'static, Decided> {
    let json = format!(r#"{{"type":"click","user_id":"u{}","campaign_id":"c1","geo_country":"DE"}}"#, offset % 3);
    let id = format!("e-{partition}-{offset}");
    let event = event(&TenantId::new("acme").unwrap(), &id, &json, noon());
    stored(Position::new(TOPIC, partition, offset), event, valid(risk(1)))
}

async fn record(database: &Database, records: &[Tracked<'static, Decided>]) {
    PostgresEventStore::new(database.clone(), DEDUP_WINDOW).record(records, noon()).await.unwrap();
}

/// Counts everything that is recorded; returns the number of records.
async fn count(aggregates: &PostgresAggregates, batches: i64) -> u64 {
    let pass = aggregates.begin().await.unwrap();
    let mut counted = 0;
    loop {
        match aggregates.count_some(&pass, batches).await.unwrap() {
            Drain::Counted { records, .. } => counted += records,
            Drain::Empty => break,
            Drain::Busy => tokio::task::yield_now().await,
        }
    }
    aggregates.complete(&pass).await.unwrap();
    counted
}

/// The cell of a dimension, as `valid fraud unscored duplicate blocked`.
async fn cell(database: &Database, dimension: &str) -> String {
    let query = format!(
        "SELECT concat_ws(' ', sum(valid), sum(fraud), sum(unscored), sum(duplicate), sum(blocked)) FROM aggregates
         WHERE dimension = '{dimension}'"
    );
    scalar(database, &query).await
}

/// What the ledger says, in the same form.
async fn ledger(database: &Database) -> String {
    let query = "SELECT concat_ws(' ', count(*) FILTER (WHERE outcome = 'valid' AND risk_score IS NOT NULL),
                                       count(*) FILTER (WHERE outcome = 'fraud'),
                                       count(*) FILTER (WHERE outcome = 'valid' AND risk_score IS NULL),
                                       count(*) FILTER (WHERE outcome = 'duplicate'),
                                       count(*) FILTER (WHERE outcome = 'blocked'))
                 FROM record_outcomes";
    scalar(database, query).await
}

#[tokio::test]
async fn a_record_counts_once_in_each_of_its_cells_whatever_comes_again() {
    let database = database().await;
    let aggregates = PostgresAggregates::new(database.clone());
    let mut blocked = click(0, 7);
    blocked.close(Outcome::Blocked, "block-list");
    let copy = Tracked { position: Position::new(TOPIC, 0, 8), ..click(0, 5) };
    record(&database, &[click(0, 5), click(0, 6), blocked, copy]).await;
    assert_eq!(count(&aggregates, 10).await, 4);
    // Below, partly again, and with a hole that is filled later.
    record(&database, &[click(0, 0), click(0, 3), click(0, 5)]).await;
    record(&database, &[click(0, 1)]).await;
    record(&database, &[click(0, 6), click(0, 0)]).await;
    assert_eq!(count(&aggregates, 1).await, 3);
    assert_eq!(count(&aggregates, 10).await, 0);
    for dimension in ["", "campaign_id", "geo_country", "campaign_id,geo_country"] {
        assert_eq!(cell(&database, dimension).await, "5 0 0 1 1", "{dimension}");
    }
    assert_eq!(ledger(&database).await, "5 0 0 1 1");
    let place: String = scalar(
        &database,
        "SELECT concat_ws(' ', tenant, value, second_value, event_type, quarter AT TIME ZONE 'UTC') FROM aggregates
         WHERE dimension = 'campaign_id,geo_country'",
    )
    .await;
    assert_eq!(place, "acme c1 DE click 2026-11-20 12:00:00");
}

#[tokio::test]
async fn a_batch_whose_ledger_rows_have_expired_hides_no_later_one() {
    let database = database().await;
    let aggregates = PostgresAggregates::new(database.clone());
    record(&database, &[click(0, 0)]).await;
    execute(&database, "DELETE FROM record_outcomes").await;
    record(&database, &[click(0, 1), click(0, 2)]).await;
    assert_eq!(count(&aggregates, 1).await, 2);
    assert_eq!(aggregates.oldest_uncounted().await.unwrap(), None);
    assert_eq!(cell(&database, "campaign_id").await, "2 0 0 0 0");
}

#[tokio::test]
async fn statistics_stay_when_their_events_and_ledger_rows_are_deleted() {
    const DAY: Duration = Duration::from_secs(86_400);
    let policy = PartitionPolicy { ahead_days: 1, retention_days: 3, ledger_retention: 3 * DAY };
    let database = database().await;
    let aggregates = PostgresAggregates::new(database.clone());
    maintain(&database, noon(), policy).await.unwrap();
    record(&database, &[click(0, 0), click(0, 1), click(0, 2)]).await;
    assert_eq!(count(&aggregates, 10).await, 3);
    let cells = async || -> String {
        scalar(&database, "SELECT string_agg(a::text, '|' ORDER BY a::text) FROM aggregates a").await
    };
    let before = cells().await;
    assert!(before.contains("campaign_id"), "{before}");
    let report = maintain(&database, noon().plus(20 * DAY), policy).await.unwrap();
    assert!(report.dropped.contains(&"2026-11-20".to_owned()) && report.deleted_outcomes == 3, "{report:?}");
    assert_eq!(scalar::<i64>(&database, "SELECT count(*) FROM events").await, 0);
    assert_eq!(ledger(&database).await, "0 0 0 0 0");
    assert_eq!(count(&aggregates, 10).await, 0);
    assert_eq!(cells().await, before);
}

#[tokio::test]
async fn runs_at_once_with_recording_count_each_record_once() {
    let database = database().await;
    let aggregates = Arc::new(PostgresAggregates::new(database.clone()));
    let recording = (0..3).map(|partition| {
        let database = database.clone();
        tokio::spawn(async move {
            for batch in 0..40 {
                let first = batch * 5;
                let records: Vec<_> = (first..first + 7).map(|offset| click(partition, offset)).collect();
                record(&database, &records).await;
            }
        })
    });
    let recording: Vec<_> = recording.collect();
    let counting: Vec<_> = (0..2)
        .map(|_| {
            let aggregates = Arc::clone(&aggregates);
            tokio::spawn(async move {
                for _ in 0..20 {
                    count(&aggregates, 3).await;
                }
            })
        })
        .collect();
    // A run that is stopped anywhere has counted whole transactions.
    for steps in 0..30 {
        let pass = aggregates.begin().await.unwrap();
        let stopped =
            tokio::time::timeout(std::time::Duration::from_micros(steps * 300), aggregates.count_some(&pass, 2));
        let _ = stopped.await;
    }
    for task in recording.into_iter().chain(counting) {
        task.await.unwrap();
    }
    count(&aggregates, 100).await;
    assert_eq!(ledger(&database).await, "606 0 0 0 0");
    for dimension in ["", "campaign_id", "campaign_id,geo_country"] {
        assert_eq!(cell(&database, dimension).await, "606 0 0 0 0", "{dimension}");
    }
}

#[tokio::test]
async fn a_late_score_moves_its_event_and_adds_its_amount() {
    let database = database().await;
    let aggregates = PostgresAggregates::new(database.clone());
    let place = |id: &str| EventPlace {
        received_at: noon(),
        key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new(id).unwrap() },
    };
    let mut records = Vec::new();
    for (offset, amount) in [(0, "0.1"), (1, "0.2"), (2, "0.3")] {
        let json = format!(r#"{{"type":"transaction","user_id":"u","amount":{amount},"currency":"EUR"}}"#);
        let mut event = event(&TenantId::new("acme").unwrap(), &format!("t-{offset}"), &json, noon());
        event.event_type = "transaction".into();
        event.facts = event::Facts::of_data("transaction", &json);
        let state = State::Open { event, found: valid(if offset == 0 { risk(1) } else { None }) };
        records.push(first_copy(Position::new(TOPIC, 0, offset), state));
    }
    record(&database, &records).await;
    assert_eq!(count(&aggregates, 10).await, 3);
    assert_eq!(cell(&database, "currency").await, "1 0 2 0 0");
    let score = |offset: usize, outcome, points| {
        let Tracked { position, origin, .. } = &records[offset];
        let event = UnscoredEvent {
            place: place(&format!("t-{offset}")),
            event_type: "transaction".into(),
            ip: None,
            user_id: None,
            origin: origin.clone(),
            position: position.clone(),
        };
        LateScore { event, risk: risk(points).unwrap(), outcome }
    };
    let unscored = PostgresUnscoredEvents::new(database.clone());
    let scores = vec![score(1, Outcome::Valid, 5), score(2, Outcome::Fraud, 99)];
    assert_eq!(unscored.settle(scores.clone(), noon()).await.unwrap().len(), 2);
    assert_eq!(unscored.settle(scores, noon()).await.unwrap().len(), 0, "they have their scores");
    assert_eq!(count(&aggregates, 10).await, 2);
    for dimension in ["", "currency"] {
        assert_eq!(cell(&database, dimension).await, "2 1 0 0 0", "{dimension}");
    }
    let sums: String = scalar(
        &database,
        "SELECT string_agg(concat_ws(' ', status, events, sum, min, max), '|' ORDER BY status)
         FROM aggregate_measures WHERE dimension = 'currency' AND value = 'EUR'",
    )
    .await;
    assert_eq!(sums, "fraud 1 0.3 0.3 0.3|valid 2 0.3 0.1 0.2");
    let day = Timestamp::from_millis(noon().as_millis() + 900_000);
    assert_eq!(aggregates.verify(noon(), day).await.unwrap().different, 0);
}

#[tokio::test]
async fn counts_are_complete_up_to_the_last_mark_that_was_recorded_before_the_run() {
    let database = database().await;
    let aggregates = PostgresAggregates::new(database.clone());
    let at = |seconds: i64| Timestamp::from_millis(noon().as_millis() + seconds * 1000);
    let until = "SELECT coalesce(max(extract(epoch FROM complete_until))::int8, 0) FROM aggregation_progress";
    let until = || async { scalar::<i64>(&database, until).await - noon().as_millis() / 1000 };
    let ends =
        |first, second| [LogEnd { partition: 0, end_offset: first }, LogEnd { partition: 1, end_offset: second }];
    aggregates.mark(at(1), TOPIC, &ends(1, 0)).await.unwrap();
    aggregates.mark(at(2), TOPIC, &ends(2, 1)).await.unwrap();
    count(&aggregates, 10).await;
    assert_eq!(until().await, -noon().as_millis() / 1000, "nothing is recorded");
    record(&database, &[click(0, 0), click(0, 1)]).await;
    let before = aggregates.begin().await.unwrap();
    record(&database, &[click(1, 0)]).await;
    assert!(matches!(aggregates.count_some(&before, 10).await.unwrap(), Drain::Counted { records: 2, .. }));
    assert_eq!(aggregates.count_some(&before, 10).await.unwrap(), Drain::Empty);
    aggregates.complete(&before).await.unwrap();
    assert_eq!(until().await, 1, "what came after the run began is not counted");
    assert!(aggregates.oldest_uncounted().await.unwrap().is_some());
    count(&aggregates, 10).await;
    assert_eq!((until().await, aggregates.oldest_uncounted().await.unwrap()), (2, None));
    assert_eq!(scalar::<i64>(&database, "SELECT count(*) FROM aggregation_marks").await, 0);
}

#[tokio::test]
async fn what_is_counted_is_compared_with_the_payloads_of_the_events() {
    let database = database().await;
    let aggregates = PostgresAggregates::new(database.clone());
    let (from, to) = (noon(), Timestamp::from_millis(noon().as_millis() + 900_000));
    let verify = || async {
        let verification = aggregates.verify(from, to).await.unwrap();
        (verification.events, verification.cells, verification.different, verification.examples)
    };
    record(&database, &[click(0, 0), click(0, 1)]).await;
    count(&aggregates, 10).await;
    assert_eq!(verify().await, (2, 4, 0, vec![]));
    // Recorded, and not counted yet.
    record(&database, &[click(0, 2), click(1, 0)]).await;
    assert_eq!(verify().await, (4, 4, 0, vec![]));
    count(&aggregates, 10).await;
    assert_eq!(verify().await, (4, 4, 0, vec![]));
    for damage in [
        "UPDATE aggregates SET valid = valid + 1 WHERE dimension = 'geo_country'",
        "UPDATE aggregates SET subjects = NULL WHERE dimension = 'campaign_id'",
        "DELETE FROM aggregates WHERE dimension = ''",
        "INSERT INTO aggregates SELECT tenant, dimension, value || 'x', quarter, event_type, second_value, 1, 0, 0, 0, 0, 0
         FROM aggregates WHERE dimension = 'campaign_id,geo_country'",
    ] {
        execute(&database, damage).await;
    }
    let (_, _, different, examples) = verify().await;
    assert_eq!((different, examples.len()), (4, 4), "{examples:?}");
    let expected = "click of acme at 2026-11-20T12:00:00.000Z, = : the events make valid 4, fraud 0, unscored 0, subjects 3 []; \
                    stored is valid 0, fraud 0, unscored 0, subjects 0 []";
    assert_eq!(examples[0], expected);
}

#[tokio::test]
async fn one_run_counts_at_a_time() {
    let database = database().await;
    let aggregates = PostgresAggregates::new(database.clone());
    record(&database, &[click(0, 0)]).await;
    let pass = aggregates.begin().await.unwrap();
    let other = database.connection().await.unwrap();
    other.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({})", 0x666f_7265_6261_7903_i64)).await.unwrap();
    assert_eq!(aggregates.count_some(&pass, 10).await.unwrap(), Drain::Busy);
    other.batch_execute("ROLLBACK").await.unwrap();
    assert!(matches!(aggregates.count_some(&pass, 10).await.unwrap(), Drain::Counted { records: 1, .. }));
}
