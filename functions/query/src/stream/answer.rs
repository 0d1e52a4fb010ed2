//! What a client reads about an outcome.

use std::borrow::Cow;

use event::{EventId, TenantId, Timestamp};
use pipeline::{Outcome, TraceId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::timeline::Risk;

/// The part of a record's value on `processed-events` that is used here.
#[derive(Deserialize)]
pub struct OutcomeRecord<'a> {
    #[serde(borrow)]
    outcome_id: Cow<'a, str>,
    pub outcome: Outcome,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    pub tenant: Option<TenantId>,
    id: Option<EventId>,
    #[serde(borrow, rename = "type")]
    pub event_type: Option<Cow<'a, str>>,
    received_at: Option<Timestamp>,
    recorded_at: Timestamp,
    occurred_at: Option<Timestamp>,
    #[serde(borrow)]
    pub user_id: Option<Cow<'a, str>>,
    risk_score: Option<u8>,
    risk_reasons: Option<Vec<String>>,
    #[serde(borrow)]
    rules_version: Option<Cow<'a, str>>,
    trace_id: Option<TraceId>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

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

impl OutcomeRecord<'_> {
    /// The JSON of an outcome with an event, on one line.
    ///
    /// # Errors
    /// Never in practice: everything in it can be written as JSON.
    pub fn to_line(&self, id: &EventId, with_data: bool) -> Result<String, serde_json::Error> {
        let risk = self.risk_score.map(|score| Risk {
            score,
            reasons: self.risk_reasons.clone().unwrap_or_default(),
            rules_version: self.rules_version.as_deref().unwrap_or_default().into(),
        });
        let line = serde_json::to_string(&StreamedOutcome {
            outcome_id: &self.outcome_id,
            outcome: self.outcome,
            reason: &self.reason,
            id,
            event_type: self.event_type.as_deref(),
            received_at: self.received_at,
            recorded_at: self.recorded_at,
            occurred_at: self.occurred_at,
            user_id: self.user_id.as_deref(),
            risk,
            trace_id: self.trace_id,
            data: self.data.filter(|_| with_data),
            without_data: self.data.is_some() && !with_data,
        })?;
        // The client's JSON is passed on byte for byte, and may have line breaks between its members; within a text JSON has
        // none.
        Ok(if line.contains(['\n', '\r']) { line.replace(['\n', '\r'], " ") } else { line })
    }

    /// The event, if the outcome is that of an event of this tenant.
    pub fn event_of(&self, tenant: &TenantId) -> Option<&EventId> {
        self.id.as_ref().filter(|_| self.tenant.as_ref() == Some(tenant))
    }
}
