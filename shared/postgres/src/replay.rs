//! Runs of the replayer and their results.

use std::collections::BTreeMap;

use async_trait::async_trait;
use event::Timestamp;
use pipeline::DependencyError;
use pipeline::decisions::recording::entry_of;
use pipeline::ports::{LedgerEntry, ReplayProgress, ReplayRuns, ReprocessedOutcomes, TakeOver};
use pipeline::tracked::{Read, Tracked};

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::{Corrupt, entry_from_row};
use crate::statement::parameter;
use crate::store::{EntryColumns, FIND_ENTRIES, PositionColumns, ordinal};
use crate::text::{storable, storable_list, storable_shared};

/// If the run exists with a different request, its row is not changed and not returned.
const TAKE_OVER: &str = "
    INSERT INTO replay_progress AS r (run, request, holder, partitions, offsets, counts, started_at, updated_at)
    VALUES ($1, $2, $3, '{}', '{}', '', $4, $4)
    ON CONFLICT (run) DO UPDATE SET holder = excluded.holder, updated_at = excluded.updated_at
    WHERE r.request = excluded.request
    RETURNING partitions, offsets, counts";

const SAVE: &str = "
    UPDATE replay_progress SET partitions = $3, offsets = $4, counts = $5, updated_at = $6
    WHERE run = $1 AND holder = $2";

const ADD: &str = "
    INSERT INTO reprocessed_outcomes (
        version, topic, partition, record_offset, origin_topic, origin_partition, origin_offset, tenant, event_id,
        outcome, reason, risk_score, risk_reasons, rules_version, incarnation, digest, origin_digest, reprocessed_at,
        trace_id)
    SELECT $19::text, w.topic, w.partition, w.record_offset, w.origin_topic, w.origin_partition, w.origin_offset, w.tenant,
           w.event_id, w.outcome, w.reason, w.risk_score, string_to_array(w.risk_reasons, E'\\x1f'), w.rules_version,
           w.incarnation, w.digest, w.origin_digest, w.reprocessed_at, w.trace_id
    FROM unnest($1::text[], $2::int4[], $3::int8[], $4::text[], $5::int4[], $6::int8[], $7::text[], $8::text[],
                $9::text[], $10::text[], $11::int2[], $12::text[], $13::text[], $14::int4[], $15::bytea[], $16::bytea[],
                $17::timestamptz[], $18::bytea[])
        AS w (topic, partition, record_offset, origin_topic, origin_partition, origin_offset, tenant, event_id, outcome,
              reason, risk_score, risk_reasons, rules_version, incarnation, digest, origin_digest, reprocessed_at,
              trace_id)
    ON CONFLICT DO NOTHING";

/// [`ReplayRuns`] and [`ReprocessedOutcomes`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresReplay {
    database: Database,
}

impl PostgresReplay {
    pub fn new(database: Database) -> Self {
        PostgresReplay { database }
    }

    async fn taken_over(
        &self,
        run: &str,
        request: &str,
        holder: &str,
        now: Timestamp,
    ) -> Result<TakeOver, PostgresError> {
        let now = now.to_utc();
        let parameters = [parameter(&run), parameter(&request), parameter(&holder), parameter(&now)];
        let rows = self.database.query(TAKE_OVER, &parameters).await?;
        if let Some(row) = rows.first() {
            let partitions: Vec<i32> = row.try_get("partitions")?;
            let offsets: Vec<i64> = row.try_get("offsets")?;
            let next = partitions.into_iter().zip(offsets).collect();
            return Ok(TakeOver::Ours(ReplayProgress { next, counts: row.try_get("counts")? }));
        }
        // Runs are never deleted, so the conflicting row is still there.
        let rows =
            self.database.query("SELECT request FROM replay_progress WHERE run = $1", &[parameter(&run)]).await?;
        let row = rows.first().ok_or_else(|| Corrupt("replay_progress").column("run"))?;
        Ok(TakeOver::Other { request: row.try_get("request")? })
    }

    async fn saved(
        &self,
        run: &str,
        holder: &str,
        progress: &ReplayProgress,
        now: Timestamp,
    ) -> Result<bool, PostgresError> {
        let (partitions, offsets): (Vec<i32>, Vec<i64>) = progress.next.iter().unzip();
        let now = now.to_utc();
        let parameters = [
            parameter(&run),
            parameter(&holder),
            parameter(&partitions),
            parameter(&offsets),
            parameter(&progress.counts),
            parameter(&now),
        ];
        Ok(self.database.execute(SAVE, &parameters).await? > 0)
    }

    async fn found(&self, records: &[Tracked<'_, Read>]) -> Result<Vec<Option<LedgerEntry>>, PostgresError> {
        let columns = PositionColumns::of(records.iter().map(|record| &record.position));
        let rows = self.database.query(FIND_ENTRIES, &columns.parameters()).await?;
        let mut entries = BTreeMap::<usize, Vec<LedgerEntry>>::new();
        for row in &rows {
            entries.entry(ordinal(row)?).or_default().push(entry_from_row(row)?);
        }
        let found = records.iter().enumerate().map(|(index, record)| entry_of(record, entries.remove(&index)?));
        Ok(found.collect())
    }

    async fn added(&self, version: &str, entries: &[LedgerEntry]) -> Result<u64, PostgresError> {
        let entries: Vec<LedgerEntry> = entries.iter().cloned().map(storable_entry).collect();
        let columns = EntryColumns::of(entries.iter());
        let at: Vec<_> = entries.iter().map(|entry| entry.recorded_at.to_utc()).collect();
        let mut parameters = columns.parameters(&at).to_vec();
        parameters.push(parameter(&version));
        self.database.execute(ADD, &parameters).await
    }
}

/// The entry, with all characters replaced that Postgres cannot store.
fn storable_entry(mut entry: LedgerEntry) -> LedgerEntry {
    entry.reason = storable(&entry.reason).into_owned();
    if let Some(risk) = &mut entry.risk {
        risk.reasons = storable_list(std::mem::take(&mut risk.reasons));
        risk.rules_version = storable_shared(risk.rules_version.clone());
    }
    entry
}

#[async_trait]
impl ReplayRuns for PostgresReplay {
    async fn take_over(
        &self,
        run: &str,
        request: &str,
        holder: &str,
        now: Timestamp,
    ) -> Result<TakeOver, DependencyError> {
        let result = self.taken_over(run, request, holder, now).await;
        result.map_err(|error| error.into_dependency("taking over a replay"))
    }

    async fn save(
        &self,
        run: &str,
        holder: &str,
        progress: &ReplayProgress,
        now: Timestamp,
    ) -> Result<bool, DependencyError> {
        let result = self.saved(run, holder, progress, now).await;
        result.map_err(|error| error.into_dependency("saving a replay's progress"))
    }
}

#[async_trait]
impl ReprocessedOutcomes for PostgresReplay {
    async fn first_outcomes(&self, records: &[Tracked<'_, Read>]) -> Result<Vec<Option<LedgerEntry>>, DependencyError> {
        self.found(records).await.map_err(|error| error.into_dependency("looking up first outcomes"))
    }

    async fn add(&self, version: &str, entries: &[LedgerEntry]) -> Result<u64, DependencyError> {
        self.added(version, entries).await.map_err(|error| error.into_dependency("adding reprocessed outcomes"))
    }
}
