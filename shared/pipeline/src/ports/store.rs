//! The system of record: events, the ledger of outcomes, counts and checkpoints.

use std::net::IpAddr;

use async_trait::async_trait;
use event::{EventKey, Origin, PayloadHash, Timestamp};

use super::Score;
use crate::{DependencyError, Outcome, Position};

/// A score as stored. `None` in its place means: not scored yet, to be scored later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskScore {
    pub score: u8,
    pub reasons: Vec<String>,
    pub rules_version: String,
}

impl From<Score> for RiskScore {
    fn from(score: Score) -> Self {
        RiskScore { score: score.risk_score, reasons: score.reasons, rules_version: score.rules_version }
    }
}

/// A row of `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub event_type: String,
    pub schema_version: u32,
    pub received_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub user_id: Option<String>,
    pub payload_hash: PayloadHash,
    /// The client's JSON, byte for byte.
    pub payload: String,
    pub risk: Option<RiskScore>,
}

/// What the processor wants to record about one Kafka record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub position: Position,
    pub origin: Origin,
    /// `None` if the record is no event.
    pub key: Option<EventKey>,
    pub kind: VerdictKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// Store the event; the outcome is `outcome` (`valid` or `fraud`) if the row is new, else `duplicate`.
    Store { outcome: Outcome, row: Box<EventRow> },
    /// Record the outcome only; one of `duplicate`, `blocked`, `dead_lettered`.
    Close { outcome: Outcome, reason: String },
}

/// A row of `record_outcomes`: how one Kafka record ended. Written once, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    pub position: Position,
    pub origin: Origin,
    pub key: Option<EventKey>,
    pub outcome: Outcome,
    /// `<tag>` or `<tag>: <detail>`; empty for `valid` and `fraud`.
    pub reason: String,
    pub risk: Option<RiskScore>,
    pub recorded_at: Timestamp,
}

#[async_trait]
pub trait EventStore: Send + Sync {
    /// Records a batch in one transaction: event rows, hourly counts of the rows really inserted, one ledger
    /// entry per record, and the checkpoint of each partition.
    ///
    /// Idempotent by position: for a record that already has a ledger entry nothing is written and the existing
    /// entry is returned, so that a redelivery publishes byte-equal outcomes. The store has the last word on
    /// duplicates: a `Store` verdict whose event already has a row becomes `duplicate`, with a reason that starts
    /// with `payload-differs` if the payload hash is another, else `already-stored`. Entries are returned in the
    /// order of the verdicts. An `Err` means that nothing or everything was written.
    async fn record(&self, verdicts: Vec<Verdict>, now: Timestamp) -> Result<Vec<LedgerEntry>, DependencyError>;
}
