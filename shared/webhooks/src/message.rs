//! What an endpoint is told.

use bytes::Bytes;
use event::{RecordDigest, Timestamp};
use pipeline::announcement::Announcement;
use serde::Serialize;
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
    data: &'a Announcement<'a>,
}

impl WebhookMessage {
    /// The message about an outcome.
    ///
    /// # Errors
    /// Never in practice: everything in an outcome can be written as JSON.
    pub fn about(outcome: &Announcement<'_>) -> Result<Self, WebhookMessageError> {
        let kind = format!("event.{}", outcome.outcome.as_str());
        let body = serde_json::to_vec(&Body { kind, timestamp: outcome.recorded_at, data: outcome })?;
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
    use super::*;

    const FRAUD: &str = r#"{"outcome_id":"raw-events/3/41","outcome":"fraud","reason":"risk-score","tenant":"acme","id":"order-1",
        "type":"transaction","received_at":"2026-11-20T18:02:00.000Z","recorded_at":"2026-11-20T18:02:01.000Z","origin":"raw-events/3/41",
        "ip":"10.0.0.1","user_id":"u\n1","risk_score":100,"risk_reasons":["private-range"],"rules_version":"1","schema":1,"id_source":"client",
        "data":{ "amount" : 1.10,"type":"transaction"}}"#;

    #[test]
    fn a_message_has_what_the_tenant_may_know_and_nothing_of_our_own() {
        let outcome = Announcement::read(FRAUD.as_bytes()).unwrap();
        let message = WebhookMessage::about(&outcome).unwrap();
        let expected = r#"{"type":"event.fraud","timestamp":"2026-11-20T18:02:01.000Z","data":{"id":"order-1","type":"transaction","outcome":"fraud","reason":"risk-score","received_at":"2026-11-20T18:02:00.000Z","recorded_at":"2026-11-20T18:02:01.000Z","user_id":"u\n1","risk_score":100,"risk_reasons":["private-range"],"rules_version":"1","data":{ "amount" : 1.10,"type":"transaction"}}}"#;
        assert_eq!(String::from_utf8(message.body.to_vec()).unwrap(), expected);
    }

    #[test]
    fn an_outcome_has_one_id_and_its_late_score_another() {
        let read = |text: &str| WebhookMessage::about(&Announcement::read(text.as_bytes()).unwrap()).unwrap().id;
        let late = FRAUD.replace("raw-events/3/41\",\"outcome", "raw-events/3/41#scored\",\"outcome");
        assert_eq!(read(FRAUD), read(FRAUD));
        assert_ne!(read(FRAUD), read(&late));
        assert!(read(FRAUD).bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        assert!(Announcement::read(b"{}").is_err());
    }
}
