//! The audit trail of redrivers: one item for each action; the actions of one day share a partition.

use std::time::Duration;

use async_trait::async_trait;
use event::Timestamp;
use pipeline::DependencyError;
use pipeline::ports::{AuditEntry, RedriveAudit};

use crate::attributes::{Item, number, text};
use crate::table::Table;
use crate::tables::{EXPIRES_AT, PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const ACTION: &str = "action";
const STATE: &str = "state";
const BY: &str = "by";
const REQUEST: &str = "request";
const RESULT: &str = "result";

const KEEP: Duration = Duration::from_secs(400 * 86_400);

/// `redrive-audit#2026-11-20`.
fn partition_of(day: Timestamp) -> String {
    let day = day.to_string();
    format!("redrive-audit#{}", day.split('T').next().unwrap_or_default())
}

/// The audit trail of the redriver in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoRedriveAudit {
    table: Table,
}

impl DynamoRedriveAudit {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoRedriveAudit { table: Table::new(dynamodb, table) }
    }

    async fn put_entry(&self, entry: &AuditEntry) -> Result<(), DynamoDbError> {
        let mut item = Item::from([
            (PARTITION_KEY.to_owned(), text(partition_of(entry.started_at))),
            // All times have the same length as text, so entries sort by time.
            (SORT_KEY.to_owned(), text(format!("{}#{}", entry.started_at, entry.run))),
            (ACTION.to_owned(), text(entry.action.as_str())),
            (STATE.to_owned(), text(entry.state.as_str())),
            (REQUEST.to_owned(), text(entry.request.as_str())),
            (RESULT.to_owned(), text(entry.result.as_str())),
            (EXPIRES_AT.to_owned(), number(entry.started_at.plus(KEEP).as_secs())),
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
impl RedriveAudit for DynamoRedriveAudit {
    async fn record(&self, entry: &AuditEntry) -> Result<(), DependencyError> {
        self.put_entry(entry).await.map_err(|error| error.while_doing("writing the audit trail"))
    }

    async fn entries(&self, day: Timestamp) -> Result<Vec<AuditEntry>, DependencyError> {
        let entries = self.table.partition(partition_of(day), |item| self.read_entry(item)).await;
        entries.map_err(|error| error.while_doing("reading the audit trail"))
    }
}
