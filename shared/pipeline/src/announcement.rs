//! What is told about an outcome outside of the pipeline.

use std::borrow::Cow;

use event::{EventId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Outcome, TraceId};

/// An outcome as tenants are told of it: the members of a value on `processed-events` that are not our own, with the same
/// names. Written, it has no tenant and no `outcome_id`, because both are said in other ways.
#[derive(Debug, Serialize, Deserialize)]
pub struct Announcement<'a> {
    /// Identifies the outcome, also if it is published twice.
    #[serde(borrow, skip_serializing)]
    pub outcome_id: Cow<'a, str>,
    /// Absent if the record was no event.
    #[serde(skip_serializing)]
    pub tenant: Option<TenantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<Cow<'a, str>>,
    pub outcome: Outcome,
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    pub recorded_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk_score: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk_reasons: Option<Cow<'a, [String]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules_version: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The client's JSON, byte for byte, of an event that is stored.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
}

impl<'a> Announcement<'a> {
    /// # Errors
    /// If it is not the value of an outcome.
    pub fn read(value: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }
}
