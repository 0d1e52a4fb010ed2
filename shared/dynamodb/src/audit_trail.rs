//! Audit trails: one item for each action; the actions of one day and trail share a partition.

use async_trait::async_trait;
use event::Timestamp;
use pipeline::DependencyError;
use pipeline::ports::{AuditEntry, AuditTrail, KEEP_TRAIL};

use crate::attributes::{Item, number, text};
use crate::table::Table;
use crate::tables::{EXPIRES_AT, PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const ACTION: &str = "action";
const STATE: &str = "state";
const BY: &str = "by";
const REQUEST: &str = "request";
const RESULT: &str = "result";

/// An audit trail in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoAuditTrail {
    table: Table,
    /// What its actions are about, such as `redrive`.
    subject: &'static str,
}

impl DynamoAuditTrail {
    /// The trail of the actions that are about `subject`.
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>, subject: &'static str) -> Self {
        DynamoAuditTrail { table: Table::new(dynamodb, table), subject }
    }

    /// `redrive-audit#2026-11-20`.
    fn partition_of(&self, day: Timestamp) -> String {
        let day = day.to_string();
        format!("{}-audit#{}", self.subject, day.split('T').next().unwrap_or_default())
    }

    async fn put_entry(&self, entry: &AuditEntry) -> Result<(), DynamoDbError> {
        let mut item = Item::from([
            (PARTITION_KEY.to_owned(), text(self.partition_of(entry.started_at))),
            // All times have the same length as text, so entries sort by time.
            (SORT_KEY.to_owned(), text(format!("{}#{}", entry.started_at, entry.run))),
            (ACTION.to_owned(), text(entry.action.as_str())),
            (STATE.to_owned(), text(entry.state.as_str())),
            (REQUEST.to_owned(), text(entry.request.as_str())),
            (RESULT.to_owned(), text(entry.result.as_str())),
            (EXPIRES_AT.to_owned(), number(entry.started_at.plus(KEEP_TRAIL).as_secs())),
        ]);
        if let Some(by) = &entry.by {
            item.insert(BY.to_owned(), text(by.as_str()));
        }
        self.table.put(item).await
    }

    fn read_entry(&self, item: &Item) -> Result<AuditEntry, DynamoDbError> {
        let item = self.table.attributes(item);
        let (started_at, run) = item.read(SORT_KEY, |value| {
            let (at, run) = value.as_s().ok()?.split_once('#')?;
            Some((Timestamp::parse(at).ok()?, run.to_owned()))
        })?;
        Ok(AuditEntry {
            started_at,
            run,
            action: item.text(ACTION)?.to_owned(),
            by: if item.item.contains_key(BY) { Some(item.text(BY)?.to_owned()) } else { None },
            state: item.parsed(STATE)?,
            request: item.text(REQUEST)?.to_owned(),
            result: item.text(RESULT)?.to_owned(),
        })
    }
}

#[async_trait]
impl AuditTrail for DynamoAuditTrail {
    async fn record(&self, entry: &AuditEntry) -> Result<(), DependencyError> {
        self.put_entry(entry).await.map_err(|error| error.while_doing("writing the audit trail"))
    }

    async fn entries(&self, day: Timestamp) -> Result<Vec<AuditEntry>, DependencyError> {
        let entries = self.table.partition(self.partition_of(day), |item| self.read_entry(item)).await;
        entries.map_err(|error| error.while_doing("reading the audit trail"))
    }
}
