//! Audit trails: who asked for which action, when, and what came of it.

use std::time::Duration;

use async_trait::async_trait;
use event::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

use crate::DependencyError;

/// The subject of the trail of keys and blocks, which both operators and the processor change.
pub const ACCESS_TRAIL: &str = "access";

/// How long an entry is kept.
pub const KEEP_TRAIL: Duration = Duration::from_secs(400 * 86_400);

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum ActionState {
    /// Begun. If an entry stays in this state, its run was killed.
    Started,
    Finished,
    Failed,
}

impl ActionState {
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// An action in the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    pub started_at: Timestamp,
    /// Unique among actions.
    pub run: String,
    pub action: String,
    /// Who asked for it, as given in the request.
    pub by: Option<String>,
    pub state: ActionState,
    /// The request, as JSON text.
    pub request: String,
    /// The result, as JSON text; empty until the action has ended.
    pub result: String,
}

/// The trail of the requests of operators to one function, and their results.
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// Writes the entry, and replaces an earlier one with the same start and run.
    async fn record(&self, entry: &AuditEntry) -> Result<(), DependencyError>;

    /// The entries whose actions started on the UTC day of `day`, oldest first.
    async fn entries(&self, day: Timestamp) -> Result<Vec<AuditEntry>, DependencyError>;
}
