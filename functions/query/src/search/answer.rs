//! What a client reads about the events that were found.

use event::{EventId, Timestamp};
use pipeline::TraceId;
use pipeline::ports::{FoundEvent, SearchPage, SearchRequest, StoredStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::cursor::Cursor;
use crate::time_range::TimeRange;
use crate::timeline::Risk;

#[derive(Debug, Serialize, ToSchema)]
pub struct SearchAnswer {
    range: TimeRange,
    /// Those received last first.
    events: Vec<Hit>,
    /// To be sent for the next page; `null` on the last.
    #[schema(required)]
    next: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventFound)]
pub(crate) struct Hit {
    #[schema(value_type = String)]
    id: EventId,
    #[serde(rename = "type")]
    event_type: String,
    #[schema(schema_with = crate::schemas::stored_status)]
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// What the client gave as its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Risk)]
    risk: Option<Risk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    trace_id: Option<TraceId>,
}

impl SearchAnswer {
    pub fn new(request: &SearchRequest, page: SearchPage) -> Self {
        let next = Cursor::of_next(request, &page).map(|next| next.to_text());
        let range = TimeRange { from: request.from, to: request.to };
        SearchAnswer { range, events: page.events.into_iter().map(Hit::from).collect(), next }
    }
}

impl From<FoundEvent> for Hit {
    fn from(event: FoundEvent) -> Self {
        Hit {
            status: StoredStatus::of(event.outcome, event.risk.as_ref()).as_str(),
            id: event.place.id,
            event_type: event.event_type,
            received_at: event.place.received_at,
            occurred_at: event.occurred_at,
            user_id: event.user_id,
            risk: event.risk.map(Risk::from),
            trace_id: event.trace_id,
        }
    }
}
