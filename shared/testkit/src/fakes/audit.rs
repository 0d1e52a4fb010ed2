//! An audit trail in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use event::Timestamp;
use pipeline::ports::{AuditEntry, AuditTrail};
use pipeline::{Dependency, DependencyError};

use super::Faults;

/// An [`AuditTrail`] in memory.
#[derive(Debug, Default)]
pub struct FakeAuditTrail {
    pub faults: Faults,
    entries: Mutex<BTreeMap<(Timestamp, String), AuditEntry>>,
}

#[async_trait]
impl AuditTrail for FakeAuditTrail {
    async fn record(&self, entry: &AuditEntry) -> Result<(), DependencyError> {
        self.faults.apply(Dependency::Dynamodb, || {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.insert((entry.started_at, entry.run.clone()), entry.clone());
        })
    }

    async fn entries(&self, day: Timestamp) -> Result<Vec<AuditEntry>, DependencyError> {
        self.faults.apply(Dependency::Dynamodb, || {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let same_day = |entry: &&AuditEntry| entry.started_at.to_utc().date() == day.to_utc().date();
            entries.values().filter(same_day).cloned().collect()
        })
    }
}
