//! The system of record: events, the ledger of outcomes, counts and checkpoints.

use std::sync::Arc;

use async_trait::async_trait;
use event::{EventKey, Origin, RecordDigest, Timestamp};

use super::Score;
use crate::tracked::{Decided, Tracked};
use crate::{DependencyError, Outcome, Position, TraceId};

/// A score as stored. `None` in its place means: not scored yet, to be scored later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskScore {
    pub score: u8,
    pub reasons: Vec<String>,
    pub rules_version: Arc<str>,
}

impl From<Score> for RiskScore {
    fn from(score: Score) -> Self {
        RiskScore { score: score.risk_score, reasons: score.reasons, rules_version: score.rules_version }
    }
}

/// A row of `record_outcomes`: how one Kafka record ended. Written once, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// With the incarnation of its log.
    pub position: Position,
    /// `None` in entries from before there were digests, and for a record that could not be decoded.
    pub digest: Option<RecordDigest>,
    pub origin: Origin,
    /// The trace that the record belongs to; `None` if it names none, and in entries from before they were kept.
    pub trace_id: Option<TraceId>,
    pub key: Option<EventKey>,
    pub outcome: Outcome,
    /// `<tag>` or `<tag>: <detail>`; empty for `valid` and `fraud`.
    pub reason: String,
    pub risk: Option<RiskScore>,
    pub recorded_at: Timestamp,
}

impl LedgerEntry {
    /// The origin of the record if it is its own first copy.
    pub fn as_origin(&self) -> Origin {
        self.position.as_origin(self.digest)
    }

    /// Whether the record is its own first copy, and not a redriven or replayed one.
    pub fn is_first_copy(&self) -> bool {
        self.as_origin().is_same(&self.origin)
    }
}

#[async_trait]
pub trait EventStore: Send + Sync {
    /// Records a batch in one transaction: event rows, hourly counts of the rows really inserted, one ledger
    /// entry per record, and the checkpoint of each partition.
    ///
    /// Idempotent by position and content: for a record that already has a ledger entry, nothing is written and the
    /// existing entry is returned, so that a redelivery publishes byte-equal outcomes. Another record at a known position
    /// is recorded as a new one, in a new incarnation of its log ([`crate::decisions::recording::Logs`]). The store has the last word on duplicates, by
    /// the rule of [`crate::decisions::recording`]: an open record whose event already has a row becomes `duplicate`.
    /// Entries are returned in the order of the records. An `Err` means that either everything or nothing was written.
    async fn record(
        &self,
        records: &[Tracked<'_, Decided>],
        now: Timestamp,
    ) -> Result<Vec<LedgerEntry>, DependencyError>;
}
