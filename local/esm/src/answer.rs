//! What a reply means for the batch. The functions are pure, and the truth table of replies and commits is tested here.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::batch::InvocationBatch;
use crate::event::partition_key;
use crate::invoker::Reply;

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InvocationOutcome {
    /// The function answered.
    Answered(Bytes),
    /// The function failed: error, crash or timeout. Counts as an attempt.
    Failed(String),
    /// The function did not run, because it is at its concurrency limit. Does not count as an attempt (AWS: "throttles
    /// do not count").
    Throttled,
    /// The service failed. Does not count as an attempt either.
    Unavailable(String),
}

/// Decides what a reply means. For a failed function, AWS and the local host answer 200 with a header, cargo-lambda
/// 500, and the Runtime Interface Emulator 200 with an error object or with plain text (timeout), 502 after a crash,
/// and 400 without a body while it is busy.
pub(crate) fn judge(reply: Reply) -> InvocationOutcome {
    let error = error_object(&reply.body);
    match (reply.status, error) {
        (429, _) => InvocationOutcome::Throttled,
        (400, _) if reply.body.is_empty() => InvocationOutcome::Throttled,
        (_, Some(error)) => InvocationOutcome::Failed(error),
        (200..=299, None) if reply.marked_failed => InvocationOutcome::Failed("an error without a type".to_owned()),
        (200..=299, None) => match parse_json(&reply.body) {
            Ok(()) => InvocationOutcome::Answered(reply.body),
            Err(()) => InvocationOutcome::Failed("an answer that is not JSON".to_owned()),
        },
        (502, None) => InvocationOutcome::Failed("a crash (HTTP 502)".to_owned()),
        (status, None) => InvocationOutcome::Unavailable(format!("HTTP {status}")),
    }
}

fn parse_json(body: &[u8]) -> Result<(), ()> {
    if body.is_empty() {
        return Ok(());
    }
    serde_json::from_slice::<&RawValue>(body).map(|_| ()).map_err(|_| ())
}

/// `errorType: errorMessage` of a Lambda error object.
fn error_object(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ErrorObject {
        error_type: String,
        error_message: String,
    }
    let error: ErrorObject = serde_json::from_slice(body).ok()?;
    Some(format!("{}: {}", error.error_type, error.error_message))
}

/// What happens with the batch after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BatchOutcome {
    /// For each partition of the batch, in order: the lowest offset to send again, or `None` if all records are done.
    PerPartition(Vec<Option<i64>>),
    /// The whole batch must be sent again, for this reason.
    RetryAll(String),
}

/// Reads the answer of a function that has not failed.
///
/// AWS (Developer Guide, "Retry configurations for Kafka"): nothing, null, an empty object or an empty list is
/// success; an answer it cannot read, or an item that was not in the event, makes the whole batch fail. Without
/// `ReportBatchItemFailures` the answer is not read.
pub(crate) fn read_answer(batch: &InvocationBatch, partial_answers: bool, answer: &[u8]) -> BatchOutcome {
    let done = || BatchOutcome::PerPartition(vec![None; batch.spans.len()]);
    if !partial_answers || answer.is_empty() || answer == b"\"\"" {
        return done();
    }
    let failures = match serde_json::from_slice::<Option<PartialAnswer>>(answer) {
        Ok(answer) => answer.and_then(|answer| answer.batch_item_failures).unwrap_or_default(),
        Err(error) => return BatchOutcome::RetryAll(format!("the answer cannot be read: {error}")),
    };
    let keys: Vec<String> = batch.spans.iter().map(|span| partition_key(&span.of)).collect();
    let mut lowest = vec![None; batch.spans.len()];
    for ItemFailure { item_identifier: ItemIdentifier { partition, offset } } in failures {
        let span = keys.iter().position(|key| *key == partition).filter(|span| batch.spans[*span].contains(offset));
        let Some(span) = span else {
            return BatchOutcome::RetryAll(format!(
                "the answer names {partition}/{offset}, which was not in the event"
            ));
        };
        let first_failed = lowest[span].map_or(offset, |known: i64| known.min(offset));
        lowest[span] = Some(first_failed);
    }
    BatchOutcome::PerPartition(lowest)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartialAnswer {
    #[serde(default)]
    batch_item_failures: Option<Vec<ItemFailure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemFailure {
    item_identifier: ItemIdentifier,
}

#[derive(Deserialize)]
struct ItemIdentifier {
    partition: String,
    offset: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::batch;

    fn reply(status: u16, marked_failed: bool, body: &'static str) -> InvocationOutcome {
        judge(Reply { status, marked_failed, body: Bytes::from_static(body.as_bytes()) })
    }

    #[test]
    fn every_backend_is_understood() {
        const ERROR: &str = r#"{"errorType":"E","errorMessage":"m"}"#;
        let failed = |text: &str| InvocationOutcome::Failed(text.to_owned());
        let answered = |text: &'static str| InvocationOutcome::Answered(Bytes::from_static(text.as_bytes()));
        let table = [
            ("AWS", 200, false, "{}", answered("{}")),
            ("AWS, no answer", 200, false, "", answered("")),
            ("AWS, function error", 200, true, ERROR, failed("E: m")),
            ("AWS, odd function error", 200, true, "{}", failed("an error without a type")),
            ("AWS, throttle", 429, false, r#"{"Reason":"x"}"#, InvocationOutcome::Throttled),
            (
                "AWS, service error",
                500,
                false,
                r#"{"Message":"x"}"#,
                InvocationOutcome::Unavailable("HTTP 500".to_owned()),
            ),
            (
                "AWS, unknown function",
                404,
                false,
                r#"{"Message":"x"}"#,
                InvocationOutcome::Unavailable("HTTP 404".to_owned()),
            ),
            ("cargo-lambda, function error", 500, false, ERROR, failed("E: m")),
            ("RIE, function error", 200, false, ERROR, failed("E: m")),
            ("RIE, function error, managed instances", 200, true, "oops", failed("an error without a type")),
            ("RIE, timeout", 200, false, "Task timed out after 3.00 seconds", failed("an answer that is not JSON")),
            ("RIE, crash", 502, false, "", failed("a crash (HTTP 502)")),
            ("RIE, busy", 400, false, "", InvocationOutcome::Throttled),
        ];
        for (case, status, marked_failed, body, expected) in table {
            assert_eq!(reply(status, marked_failed, body), expected, "{case}");
        }
    }

    #[test]
    fn truth_table_of_partial_answers() {
        // Partition t-0 holds 10, 11, 13 (12 is compacted away), partition t-1 holds 5 and 6.
        let batch = batch(&[(0, &[10, 11, 13]), (1, &[5, 6])]);
        let spans = |zero: Option<i64>, one: Option<i64>| Some(vec![zero, one]);
        let done = spans(None, None);
        let table: &[(&str, Option<Vec<Option<i64>>>)] = &[
            ("", done.clone()),
            ("null", done.clone()),
            ("\"\"", done.clone()),
            ("{}", done.clone()),
            (r#"{"batchItemFailures":null}"#, done.clone()),
            (r#"{"batchItemFailures":[]}"#, done),
            (r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":10}}]}"#, spans(Some(10), None)),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":13}},
                   {"itemIdentifier":{"partition":"t-1","offset":6}},{"itemIdentifier":{"partition":"t-0","offset":11}}]}"#,
                spans(Some(11), Some(6)),
            ),
            // Not in the event: a gap, another partition, below and above.
            (r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":12}}]}"#, None),
            (r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-2","offset":10}}]}"#, None),
            (r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-1","offset":4}}]}"#, None),
            (
                r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":10}},
                   {"itemIdentifier":{"partition":"t-1","offset":7}}]}"#,
                None,
            ),
            // Not readable.
            (r#"{"batchItemFailures":[{"itemIdentifier":"t-0-10"}]}"#, None),
            (r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#, None),
            (r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":"10"}}]}"#, None),
            (r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0"}}]}"#, None),
            (r#"{"batchItemFailures":[{"id":{"partition":"t-0","offset":10}}]}"#, None),
            (r#"{"batchItemFailures":{}}"#, None),
            ("true", None),
            ("[1]", None),
        ];
        for (answer, expected) in table {
            let found = match read_answer(&batch, true, answer.as_bytes()) {
                BatchOutcome::PerPartition(spans) => Some(spans),
                BatchOutcome::RetryAll(_) => None,
            };
            assert_eq!(found, *expected, "{answer}");
        }
    }

    #[test]
    fn without_partial_answers_the_answer_is_not_read() {
        let batch = batch(&[(0, &[10])]);
        for answer in ["", "17", r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"t-0","offset":10}}]}"#] {
            assert_eq!(
                read_answer(&batch, false, answer.as_bytes()),
                BatchOutcome::PerPartition(vec![None]),
                "{answer}"
            );
        }
    }
}
