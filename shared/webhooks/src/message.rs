//! What an endpoint is told.

use bytes::Bytes;
use event::{EventId, RecordDigest, Timestamp};
use pipeline::announcement::Announcement;
use pipeline::{Outcome, TraceId};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// One outcome, as it is sent to every endpoint that asks for it, and at every attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookMessage {
    /// `webhook-id`: the same for the same outcome, so that a receiver can tell what it has had.
    pub id: String,
    pub body: Bytes,
}

/// A value that is no outcome, or cannot be written again.
#[derive(Debug, thiserror::Error)]
#[error("not the value of an outcome")]
pub struct WebhookMessageError(#[from] serde_json::Error);

/// The form that Standard Webhooks proposes for bodies ("Payload structure").
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: Timestamp,
    data: Told<'a>,
}

/// An outcome with the names and the order that `GET /stream` has for it.
#[derive(Serialize)]
struct Told<'a> {
    outcome_id: &'a str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    id: &'a EventId,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<Timestamp>,
    recorded_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<ToldRisk<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ToldRisk<'a> {
    score: u8,
    reasons: &'a [String],
    rules_version: &'a str,
}

impl WebhookMessage {
    /// The message about the outcome of an event.
    ///
    /// # Errors
    /// Never in practice: everything in an outcome can be written as JSON.
    pub fn about(outcome: &Announcement<'_>, id: &EventId) -> Result<Self, WebhookMessageError> {
        let data = Told {
            outcome_id: &outcome.outcome_id,
            outcome: outcome.outcome,
            reason: &outcome.reason,
            id,
            event_type: outcome.event_type.as_deref(),
            received_at: outcome.received_at,
            recorded_at: outcome.recorded_at,
            occurred_at: outcome.occurred_at,
            user_id: outcome.user_id.as_deref(),
            risk: outcome.risk_score.map(|score| ToldRisk {
                score,
                reasons: outcome.risk_reasons.as_deref().unwrap_or_default(),
                rules_version: outcome.rules_version.as_deref().unwrap_or_default(),
            }),
            trace_id: outcome.trace_id,
            data: outcome.data,
        };
        let kind = format!("event.{}", outcome.outcome.as_str());
        let body = serde_json::to_vec(&Body { kind, timestamp: outcome.recorded_at, data })?;
        Ok(WebhookMessage { id: id_of(&outcome.outcome_id), body: body.into() })
    }
}

/// A dot would be ambiguous where the signature is made, and topics may have dots in their names: so the id is hashed.
fn id_of(outcome_id: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(outcome_id).into();
    let mut half = [0; RecordDigest::BYTES];
    for (to, from) in half.iter_mut().zip(hash) {
        *to = from;
    }
    format!("msg_{:032x}", u128::from_be_bytes(half))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    const FRAUD: &str = r#"{"outcome_id":"raw-events/3/41","outcome":"fraud","reason":"risk-score","tenant":"acme","id":"order-1",
        "type":"transaction","received_at":"2026-11-20T18:02:00.000Z","recorded_at":"2026-11-20T18:02:01.000Z","origin":"raw-events/3/41",
        "ip":"10.0.0.1","user_id":"u\n1","risk_score":100,"risk_reasons":["private-range"],"rules_version":"1","schema":1,"id_source":"client",
        "data":{ "amount" : 1.10,"type":"transaction"}}"#;

    #[test]
    fn a_message_has_what_the_tenant_may_know_and_nothing_of_our_own() {
        let outcome = Announcement::read(FRAUD.as_bytes()).unwrap();
        let message = WebhookMessage::about(&outcome, outcome.event_of("acme").unwrap()).unwrap();
        let expected = r#"{"type":"event.fraud","timestamp":"2026-11-20T18:02:01.000Z","data":{"outcome_id":"raw-events/3/41","outcome":"fraud","reason":"risk-score","id":"order-1","type":"transaction","received_at":"2026-11-20T18:02:00.000Z","recorded_at":"2026-11-20T18:02:01.000Z","user_id":"u\n1","risk":{"score":100,"reasons":["private-range"],"rules_version":"1"},"data":{ "amount" : 1.10,"type":"transaction"}}}"#;
        assert_eq!(String::from_utf8(message.body.to_vec()).unwrap(), expected);
    }

    /// query has a type of its own for it, which has the schemas besides.
    #[test]
    fn a_message_and_a_stream_have_the_same_members() {
        let all = FRAUD.replace(
            r#""origin""#,
            r#""occurred_at":"2026-11-20T18:01:00.000Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","origin""#,
        );
        let outcome = Announcement::read(all.as_bytes()).unwrap();
        let message = WebhookMessage::about(&outcome, outcome.event_of("acme").unwrap()).unwrap();
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        let document: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let schemas = &document["components"]["schemas"];
        let names = |object: &Value| -> BTreeSet<String> { object.as_object().unwrap().keys().cloned().collect() };
        let mut streamed = names(&schemas["StreamedOutcome"]["properties"]);
        assert!(streamed.remove("without_data"), "only a gateway leaves data out");
        assert_eq!(names(&body["data"]), streamed);
        assert_eq!(names(&body["data"]["risk"]), names(&schemas["Risk"]["properties"]));
    }

    #[test]
    fn an_outcome_has_one_id_and_its_late_score_another() {
        let read = |text: &str| {
            let outcome = Announcement::read(text.as_bytes()).unwrap();
            WebhookMessage::about(&outcome, outcome.event_of("acme").unwrap()).unwrap().id
        };
        let late = FRAUD.replace("raw-events/3/41\",\"outcome", "raw-events/3/41#scored\",\"outcome");
        assert_eq!(read(FRAUD), read(FRAUD));
        assert_ne!(read(FRAUD), read(&late));
        assert!(read(FRAUD).bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        assert!(Announcement::read(b"{}").is_err());
    }
}
