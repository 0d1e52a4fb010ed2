//! What a client reads about the events that were found.

use event::{EventId, Timestamp};
use pipeline::TraceId;
use pipeline::ports::{FoundEvent, SearchPage, SearchRequest, StoredStatus};
use serde::Serialize;

use super::cursor::Cursor;
use crate::timeline::Risk;

#[derive(Debug, Serialize)]
pub struct SearchAnswer {
    range: SearchedRange,
    events: Vec<Hit>,
    /// To be sent for the next page; `null` on the last.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct SearchedRange {
    from: Timestamp,
    to: Timestamp,
}

#[derive(Debug, Serialize)]
struct Hit {
    id: EventId,
    #[serde(rename = "type")]
    event_type: String,
    status: &'static str,
    received_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<Risk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<TraceId>,
}

impl SearchAnswer {
    pub fn new(request: &SearchRequest, page: SearchPage) -> Self {
        let last = page.events.last().filter(|_| page.has_more);
        let next = last.map(|last| Cursor::new(request.from, request.to, &last.place).to_text());
        let range = SearchedRange { from: request.from, to: request.to };
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
