//! What a record on `processed-events` says to those outside of the pipeline.

use std::borrow::Cow;

use event::{EventId, TenantId, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Outcome, TraceId};

/// An outcome as tenants are told of it: the members of a record's value that are not our own.
#[derive(Debug, Deserialize)]
pub struct Announcement<'a> {
    /// Identifies the outcome, also if it is published twice.
    #[serde(borrow)]
    pub outcome_id: Cow<'a, str>,
    pub outcome: Outcome,
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// Absent if the record was no event.
    pub tenant: Option<TenantId>,
    pub id: Option<EventId>,
    #[serde(borrow, rename = "type")]
    pub event_type: Option<Cow<'a, str>>,
    pub received_at: Option<Timestamp>,
    pub occurred_at: Option<Timestamp>,
    pub recorded_at: Timestamp,
    #[serde(borrow)]
    pub user_id: Option<Cow<'a, str>>,
    pub risk_score: Option<u8>,
    pub risk_reasons: Option<Vec<String>>,
    #[serde(borrow)]
    pub rules_version: Option<Cow<'a, str>>,
    pub trace_id: Option<TraceId>,
    /// The client's JSON, byte for byte, of an event that is stored.
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

impl<'a> Announcement<'a> {
    /// # Errors
    /// If it is not the value of an outcome.
    pub fn read(value: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(value)
    }

    /// The event, if the outcome is that of an event of this tenant. The key of a record does not tell: that of what is no event
    /// begins with the name of a topic, which a tenant may have, too.
    pub fn event_of(&self, tenant: &str) -> Option<&EventId> {
        self.id.as_ref().filter(|_| self.tenant.as_ref().is_some_and(|of| of.as_str() == tenant))
    }
}
