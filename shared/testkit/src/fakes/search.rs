//! Searching events in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pipeline::ports::{EventSearch, FoundEvent, SearchPage, SearchPlace, SearchRequest, StoredStatus};
use pipeline::{Dependency, DependencyError};

use crate::contracts::store::StoredRow;
use crate::fakes::Faults;
use crate::fakes::store::FakeStore;

/// An [`EventSearch`] over the content of a [`FakeStore`].
#[derive(Debug)]
pub struct FakeSearch {
    pub faults: Faults,
    gives_up: AtomicBool,
    store: Arc<FakeStore>,
}

impl FakeSearch {
    pub fn new(store: Arc<FakeStore>) -> Self {
        FakeSearch { faults: Faults::default(), gives_up: AtomicBool::new(false), store }
    }

    /// From now on every search has too many events to look through.
    pub fn give_up(&self) {
        self.gives_up.store(true, Ordering::Relaxed);
    }

    fn page(&self, request: &SearchRequest) -> SearchPage {
        let rows = self.store.events().into_iter().filter(|row| is_wanted(row, request));
        let mut events: Vec<FoundEvent> = rows.map(found).collect();
        events.retain(|event| request.after.as_ref().is_none_or(|after| event.place < *after));
        events.sort_by(|one, other| other.place.cmp(&one.place));
        let has_more = events.len() > request.limit;
        events.truncate(request.limit);
        SearchPage { events, has_more }
    }
}

fn is_wanted(row: &StoredRow, request: &SearchRequest) -> bool {
    let event = &row.event;
    let has_term = |(name, value): &(&str, String)| event.facts.terms.contains(&event::term(name, value));
    event.key.tenant == request.tenant
        && (request.from..request.to).contains(&event.received_at)
        && request.event_type.as_ref().is_none_or(|wanted| event.event_type == *wanted)
        && request.status.is_none_or(|wanted| wanted == StoredStatus::of(row.outcome, row.risk.as_ref()))
        && request.user_id.as_ref().is_none_or(|wanted| event.user_id.as_deref() == Some(wanted))
        && request.dimensions.iter().all(has_term)
}

fn found(row: StoredRow) -> FoundEvent {
    let event = row.event;
    FoundEvent {
        place: SearchPlace { received_at: event.received_at, id: event.key.id },
        event_type: event.event_type.into_owned(),
        outcome: row.outcome,
        occurred_at: event.occurred_at,
        user_id: event.user_id.map(|id| id.into_owned()),
        risk: row.risk,
        trace_id: row.trace_id,
    }
}

#[async_trait]
impl EventSearch for FakeSearch {
    async fn search(&self, request: &SearchRequest) -> Result<Option<SearchPage>, DependencyError> {
        self.faults.apply(Dependency::Postgres, || {
            let gives_up = self.gives_up.load(Ordering::Relaxed);
            (!gives_up).then(|| self.page(request))
        })
    }
}
