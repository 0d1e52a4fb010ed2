//! Finding events by what is known about them.

use async_trait::async_trait;
use event::{EventId, TenantId, Timestamp};

use super::RiskScore;
use crate::{DependencyError, Outcome, TraceId};

/// Which stored events are meant by their score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum StoredStatus {
    Valid,
    Fraud,
    /// Valid, because nothing has scored it yet.
    Unscored,
}

impl StoredStatus {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// That of a row with this outcome and, if it has one, this score.
    pub fn of(outcome: Outcome, risk: Option<&RiskScore>) -> Self {
        match (outcome, risk) {
            (Outcome::Fraud, _) => StoredStatus::Fraud,
            (_, Some(_)) => StoredStatus::Valid,
            (_, None) => StoredStatus::Unscored,
        }
    }
}

/// Where an event stands among those of its tenant, the newest of which comes first. No two have the same place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SearchPlace {
    pub received_at: Timestamp,
    pub id: EventId,
}

/// What a search asks for. An event is found if it meets every condition that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRequest {
    pub tenant: TenantId,
    pub event_type: Option<String>,
    pub status: Option<StoredStatus>,
    pub user_id: Option<String>,
    /// Declared dimensions ([`event::TypeDefinition`]), and the values that the event must have there.
    pub dimensions: Vec<(&'static str, String)>,
    /// Received at this time or later.
    pub from: Timestamp,
    /// Received before this time.
    pub to: Timestamp,
    /// Only events that come after this place, which are older ones: the last of the page before.
    pub after: Option<SearchPlace>,
    /// The most events to return.
    pub limit: usize,
}

/// An event of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundEvent {
    pub place: SearchPlace,
    pub event_type: String,
    /// `valid` or `fraud`.
    pub outcome: Outcome,
    pub occurred_at: Option<Timestamp>,
    pub user_id: Option<String>,
    /// `None` until it is scored.
    pub risk: Option<RiskScore>,
    pub trace_id: Option<TraceId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchPage {
    /// The newest first.
    pub events: Vec<FoundEvent>,
    /// There are more events after the last of these.
    pub has_more: bool,
}

#[async_trait]
pub trait EventSearch: Send + Sync {
    /// A page of the stored events that meet the conditions. Sees what was recorded before the call, and changes nothing.
    ///
    /// `None` if there are so many events to look through that the search was given up.
    async fn search(&self, request: &SearchRequest) -> Result<Option<SearchPage>, DependencyError>;
}
