//! What a client reads about an outcome.

use event::{EventId, Timestamp};
use pipeline::announcement::Announcement;
use pipeline::{Outcome, TraceId};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::timeline::Risk;

/// The `data` of a server-sent event, on one line.
#[derive(Serialize, ToSchema)]
pub(crate) struct StreamedOutcome<'a> {
    /// The position of the record on `raw-events`, with `#scored` behind it for a score that came late. The same outcome may
    /// come twice, and this is how to know it.
    outcome_id: &'a str,
    #[schema(schema_with = crate::schemas::outcome)]
    outcome: Outcome,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[schema(value_type = String)]
    id: &'a EventId,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    event_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    received_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    /// What the client gave as its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Risk)]
    risk: Option<Risk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    trace_id: Option<TraceId>,
    /// What the client sent, if the event was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    data: Option<&'a RawValue>,
    /// True if `data` is left out because the answer would be larger than the gateway takes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    without_data: bool,
}

/// The JSON of an outcome with an event, on one line.
///
/// # Errors
/// Never in practice: everything in it can be written as JSON.
pub fn to_line(outcome: &Announcement<'_>, id: &EventId, with_data: bool) -> Result<String, serde_json::Error> {
    let risk = outcome.risk_score.map(|score| Risk {
        score,
        reasons: outcome.risk_reasons.clone().unwrap_or_default(),
        rules_version: outcome.rules_version.as_deref().unwrap_or_default().into(),
    });
    let line = serde_json::to_string(&StreamedOutcome {
        outcome_id: &outcome.outcome_id,
        outcome: outcome.outcome,
        reason: &outcome.reason,
        id,
        event_type: outcome.event_type.as_deref(),
        received_at: outcome.received_at,
        recorded_at: outcome.recorded_at,
        occurred_at: outcome.occurred_at,
        user_id: outcome.user_id.as_deref(),
        risk,
        trace_id: outcome.trace_id,
        data: outcome.data.filter(|_| with_data),
        without_data: outcome.data.is_some() && !with_data,
    })?;
    // The client's JSON is passed on byte for byte, and may have line breaks between its members; within a text JSON has
    // none.
    Ok(if line.contains(['\n', '\r']) { line.replace(['\n', '\r'], " ") } else { line })
}
