//! The complete answers that a client gets: receipts and problem documents. `INSTA_UPDATE=always cargo test -p ingest`
//! writes them again; look at the difference before you commit it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use api_keys::KeyError;
use axum::body::to_bytes;
use axum::response::Response;
use event::{EventError, EventId};
use ingest::IngestError;
use ingest::answer::{ItemOutcome, batch, problem, single};
use ingest::body::BodyError;
use ingest::rate::RateError;
use pipeline::{BreakerOpen, Dependency, DependencyError, ErrorClass, Position};

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
    ItemOutcome::Accepted { id: EventId::new("order-1").unwrap(), position: Position::new("raw-events", 3, 42) }
}

fn unknown() -> ItemOutcome {
    let error = IngestError::Unacknowledged(failure(ErrorClass::Transient, "breaker-open", 42));
    ItemOutcome::Unknown { id: EventId::new("order-2").unwrap(), error }
}

#[tokio::test]
async fn receipts() {
    insta::assert_snapshot!("receipt_of_one_event", shown(single(&accepted())).await);
    insta::assert_snapshot!("receipt_of_an_unknown_result", shown(single(&unknown())).await);
    let rejected = ItemOutcome::Rejected(IngestError::Event(EventError::NotAnObject));
    insta::assert_snapshot!("receipt_of_a_batch", shown(batch(&[accepted(), rejected])).await);
    insta::assert_snapshot!("receipt_of_a_batch_with_an_unknown_result", shown(batch(&[accepted(), unknown()])).await);
}

#[tokio::test]
async fn problems() {
    let problems = [
        ("problem_key_missing", IngestError::Key(KeyError::Missing)),
        ("problem_key_revoked", IngestError::Key(KeyError::Revoked)),
        (
            "problem_rate",
            IngestError::Rate(RateError::Exceeded { limit: 60, retry_after: Duration::from_millis(1_200) }),
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
