//! The complete answers that a client gets: receipts and problem documents. `INSTA_UPDATE=always cargo test -p ingest`
//! writes them again; look at the difference before you commit it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use api_keys::{Counted, KeyError, RateError};
use axum::body::to_bytes;
use axum::response::Response;
use event::schema::Violation;
use event::{EventError, EventId};
use ingest::IngestError;
use ingest::answer::{IdFrom, ItemOutcome, batch, problem, single};
use ingest::body::BodyError;
use lambda::http::AnswerLimit;
use pipeline::ports::Scope;
use pipeline::{BreakerOpen, Dependency, DependencyError, ErrorClass, Position, TraceId};

/// Status, our own headers, and the body.
async fn shown(response: Response) -> String {
    let (parts, body) = response.into_parts();
    let mut headers: Vec<String> =
        parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    headers.sort();
    let body: serde_json::Value = serde_json::from_slice(&to_bytes(body, 100_000).await.unwrap()).unwrap();
    format!("{}\n{}\n{}", parts.status, headers.join("\n"), serde_json::to_string_pretty(&body).unwrap())
}

fn failure(class: ErrorClass, tag: &'static str, probe_in: u64) -> DependencyError {
    let source = BreakerOpen { probe_in: Duration::from_secs(probe_in) };
    DependencyError { dependency: Dependency::Kafka, class, tag, doing: "publishing events", source: source.into() }
}

fn accepted() -> ItemOutcome {
    ItemOutcome::Accepted {
        id: EventId::new("order-1").unwrap(),
        id_source: IdFrom::Client,
        time_doubt: None,
        position: Position::new("raw-events", 3, 42),
    }
}

fn trace_id() -> TraceId {
    "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap()
}

fn unknown() -> ItemOutcome {
    let error = IngestError::Unacknowledged(failure(ErrorClass::Transient, "breaker-open", 42));
    ItemOutcome::Unknown { id: EventId::new("order-2").unwrap(), error }
}

#[tokio::test]
async fn receipts() {
    insta::assert_snapshot!("receipt_of_one_event", shown(single(&accepted(), trace_id())).await);
    insta::assert_snapshot!("receipt_of_an_unknown_result", shown(single(&unknown(), trace_id())).await);
    let rejected = ItemOutcome::Rejected(IngestError::Event(EventError::NotAnObject));
    insta::assert_snapshot!("receipt_of_a_batch", shown(batch(&[accepted(), rejected], trace_id(), None)).await);
    insta::assert_snapshot!(
        "receipt_of_a_batch_with_an_unknown_result",
        shown(batch(&[accepted(), unknown()], trace_id(), None)).await
    );
}

#[tokio::test]
async fn an_answer_fits_the_door_and_keeps_its_counts() {
    const ESCAPED: &str = "as a JSON string";
    let violation = || {
        let long = Violation::new("/\"".repeat(100_000), "type", "x".repeat(100_000));
        ItemOutcome::Rejected(IngestError::Event(EventError::Invalid(vec![long; 16])))
    };
    let outcomes: Vec<ItemOutcome> =
        (0..1_000).map(|index| if index % 2 == 0 { violation() } else { accepted() }).collect();
    let body_of = async |limit| to_bytes(batch(&outcomes, trace_id(), limit).into_body(), usize::MAX).await.unwrap();
    let whole = body_of(None).await;
    let all: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!((all["items"].as_array().unwrap().len(), all.get("items_omitted")), (1_000, None));
    for limit in [2_000, 100_000, 990_000] {
        let body = body_of(Some(AnswerLimit(limit))).await;
        let text = std::str::from_utf8(&body).unwrap();
        let size = serde_json::to_string(text).unwrap().len() - 2;
        assert!(size <= limit, "{size} {ESCAPED}");
        let cut: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let items = cut["items"].as_array().unwrap();
        assert_eq!((&cut["accepted"], &cut["rejected"]), (&500.into(), &500.into()));
        assert_eq!(items.len() + usize::try_from(cut["items_omitted"].as_u64().unwrap()).unwrap(), 1_000);
        assert_eq!(items[..], all["items"].as_array().unwrap()[..items.len()], "from the beginning");
        assert!(size + 40_000 > limit, "{size}: as many as fit");
    }
    let enough = body_of(Some(AnswerLimit(2 * whole.len()))).await;
    assert_eq!(enough, whole, "nothing is cut that fits");
    let one = to_bytes(single(&violation(), trace_id()).into_body(), usize::MAX).await.unwrap();
    assert!(one.len() < 20_000, "{}", one.len());
}

#[tokio::test]
async fn problems() {
    let problems = [
        ("problem_key_missing", IngestError::Key(KeyError::Missing)),
        ("problem_key_revoked", IngestError::Key(KeyError::Revoked)),
        ("problem_key_in_url", IngestError::Key(KeyError::InUrl)),
        ("problem_key_scope", IngestError::Key(KeyError::Scope(Scope::Write))),
        ("problem_batch_beyond_rate", IngestError::Rate(RateError::NeverFits { events: 500, limit: 1000, burst: 100 })),
        (
            "problem_rate",
            IngestError::Rate(RateError::Exceeded {
                counted: Counted::Events,
                limit: 60,
                retry_after: Duration::from_millis(1_200),
            }),
        ),
        ("problem_encoding", IngestError::Body(BodyError::Encoding("br".into()))),
        ("problem_media_type", IngestError::MediaType("text/plain".into())),
        ("problem_empty_batch", IngestError::EmptyBatch),
        ("problem_refused", IngestError::Refused(failure(ErrorClass::Permanent, "too-large", 0))),
        ("problem_path", IngestError::NoSuchPath),
        ("problem_method", IngestError::Method),
    ];
    for (name, error) in problems {
        insta::assert_snapshot!(name, shown(problem(&error)).await);
    }
}
