//! Address counters: one per address and minute. All counts of a batch are one statement.

use std::collections::BTreeMap;

use async_trait::async_trait;
use event::AddressKey;
use pipeline::DependencyError;
use pipeline::ports::{AddressCount, AddressCounters, MinuteTotal};
use tokio_postgres::Row;

use crate::database::Database;
use crate::error::PostgresError;
use crate::statement::parameter;

/// In the order of the keys, so that two batches with the same addresses cannot deadlock.
const ADD: &str = "
    INSERT INTO address_counts AS c (address, minute, events)
    SELECT w.address, w.minute, w.events FROM unnest($1::text[], $2::int8[], $3::int8[]) AS w (address, minute, events)
    ON CONFLICT (address, minute) DO UPDATE SET events = c.events + excluded.events
    RETURNING c.address, c.minute, c.events";

const TOTALS: &str = "SELECT minute, events FROM address_counts WHERE address = $1 ORDER BY minute";

const FORGET: &str = "DELETE FROM address_counts WHERE address = $1";

/// [`AddressCounters`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresAddressCounters {
    database: Database,
}

impl PostgresAddressCounters {
    pub fn new(database: Database) -> Self {
        PostgresAddressCounters { database }
    }

    async fn add_counts(&self, counts: &[AddressCount]) -> Result<Vec<u64>, PostgresError> {
        if counts.is_empty() {
            return Ok(Vec::new());
        }
        let key = |count: &AddressCount| (count.address.to_string(), count.minute);
        let mut sums = BTreeMap::<(String, i64), i64>::new();
        for count in counts {
            *sums.entry(key(count)).or_default() += i64::from(count.count);
        }
        let addresses: Vec<&str> = sums.keys().map(|(address, _)| address.as_str()).collect();
        let minutes: Vec<i64> = sums.keys().map(|(_, minute)| *minute).collect();
        let events: Vec<i64> = sums.values().copied().collect();
        let rows = self.database.query(ADD, &[parameter(&addresses), parameter(&minutes), parameter(&events)]).await?;
        let mut totals = BTreeMap::new();
        for row in &rows {
            let total = u64::try_from(row.try_get::<_, i64>("events")?).unwrap_or(0);
            totals.insert((row.try_get::<_, String>("address")?, row.try_get("minute")?), total);
        }
        let total = |count| totals.get(&key(count)).copied();
        let missing = || PostgresError::Row { table: "the answer", column: "address" };
        counts.iter().map(|count| total(count).ok_or_else(missing)).collect()
    }
}

impl PostgresAddressCounters {
    async fn read_counts(&self, address: AddressKey) -> Result<Vec<MinuteTotal>, PostgresError> {
        let rows = self.database.query(TOTALS, &[parameter(&address.to_string())]).await?;
        let total = |row: &Row| {
            let events = u64::try_from(row.try_get::<_, i64>("events")?).unwrap_or(0);
            Ok(MinuteTotal { minute: row.try_get("minute")?, events })
        };
        rows.iter().map(total).collect()
    }
}

#[async_trait]
impl AddressCounters for PostgresAddressCounters {
    async fn add(&self, counts: &[AddressCount]) -> Result<Vec<u64>, DependencyError> {
        self.add_counts(counts).await.map_err(|error| error.into_dependency("counting addresses"))
    }

    async fn totals(&self, address: AddressKey) -> Result<Vec<MinuteTotal>, DependencyError> {
        self.read_counts(address).await.map_err(|error| error.into_dependency("reading the counts of an address"))
    }

    async fn forget(&self, address: AddressKey) -> Result<(), DependencyError> {
        let forgotten = self.database.execute(FORGET, &[parameter(&address.to_string())]).await;
        forgotten.map(drop).map_err(|error| error.into_dependency("forgetting the counts of an address"))
    }
}
