//! Checks that every record below the checkpoints has exactly one outcome, and that the archive has it too.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use archive::{ArchiveReader, S3Objects};
use kafka::{KafkaClient, KafkaConfig, PartitionWatermarks};
use pipeline::topic::RAW_EVENTS;
use postgres::ledger::{OffsetRange, PartitionAccount, Reconciliation};
use postgres::{Database, PostgresConfig};
use settings::{Settings, Variables as _};

use crate::archived::ArchiveProof;
use crate::session::Session;

/// Prints the sums per partition; exit status 1 if anything is unaccounted or missing in the archive. Without
/// `ARCHIVE_BUCKET` the archive is not checked.
///
/// # Errors
/// If Postgres, Kafka or the archive cannot be read.
pub async fn command(session: &Session) -> anyhow::Result<ExitCode> {
    session.require("DATABASE_URL")?;
    let mut settings = Settings::new(session);
    let postgres = PostgresConfig::from_settings(&mut settings);
    let kafka = KafkaConfig::from_settings(&mut settings);
    let (postgres, kafka) = settings.build(postgres.zip(kafka))?;
    let database = Database::connect(&postgres).await?;
    let kafka = KafkaClient::connect(&kafka, "reconcile").await?;
    let proof = LedgerProof::gather(&database, &kafka).await?;
    print!("{proof}");
    let missing = if let Some(bucket) = session.get("ARCHIVE_BUCKET") {
        let objects = S3Objects::connect(&session.aws("AWS_ENDPOINT_URL_S3").await, bucket);
        let archive = ArchiveProof::gather(&kafka, &ArchiveReader::new(Arc::new(objects))).await?;
        print!("\n{archive}");
        archive.missing()
    } else {
        println!("\nthe archive is not checked: ARCHIVE_BUCKET is not set");
        0
    };
    Ok(if proof.unaccounted() == 0 && missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares the ledger of `raw-events` with what Kafka has.
#[derive(Debug)]
pub struct LedgerProof {
    lines: Vec<ReconciledPartition>,
}

/// One partition.
#[derive(Debug)]
struct ReconciledPartition {
    account: PartitionAccount,
    /// Number of records in Kafka before the first one in the ledger.
    before_floor: i64,
    /// Number of records at or above the checkpoint: not processed yet.
    waiting: i64,
}

impl LedgerProof {
    /// Reads the whole ledger.
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn gather(database: &Database, kafka: &KafkaClient) -> anyhow::Result<Self> {
        let reconciliation = postgres::ledger::reconcile(database).await?;
        let watermarks = kafka.topics().watermarks(RAW_EVENTS).await?;
        Ok(Self::compare(reconciliation, &watermarks))
    }

    fn compare(reconciliation: Reconciliation, watermarks: &[PartitionWatermarks]) -> Self {
        let mut accounts: BTreeMap<i32, PartitionAccount> = reconciliation
            .partitions
            .into_iter()
            .filter(|account| account.topic == RAW_EVENTS)
            .map(|account| (account.partition, account))
            .collect();
        let lines = watermarks.iter().map(|marks| {
            let account = accounts.remove(&marks.partition).unwrap_or_else(|| untouched(marks));
            ReconciledPartition {
                before_floor: (account.floor_offset - marks.earliest).max(0),
                waiting: (marks.latest - account.next_offset).max(0),
                account,
            }
        });
        LedgerProof { lines: lines.collect() }
    }

    /// Number of records below a checkpoint that have no outcome, or that were never processed.
    pub fn unaccounted(&self) -> u64 {
        self.lines.iter().map(|line| line.account.difference.unsigned_abs() + line.before_floor.unsigned_abs()).sum()
    }
}

/// The sums of a partition without any processed record.
fn untouched(marks: &PartitionWatermarks) -> PartitionAccount {
    PartitionAccount {
        topic: RAW_EVENTS.to_owned(),
        partition: marks.partition,
        incarnation: 0,
        is_present: true,
        floor_offset: marks.earliest,
        next_offset: marks.earliest,
        rows: 0,
        difference: 0,
        missing: Vec::new(),
        outcomes: BTreeMap::new(),
    }
}

impl fmt::Display for LedgerProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>9} {:>10} {:>10} {:>10} {:>10} {:>10}  outcomes",
            "partition", "from", "checkpoint", "rows", "difference", "waiting"
        )?;
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for ReconciledPartition { account, before_floor: _, waiting } in &self.lines {
            let outcomes: Vec<String> = account
                .outcomes
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(outcome, count)| format!("{outcome} {count}"))
                .collect();
            writeln!(
                f,
                "{:>9} {:>10} {:>10} {:>10} {:>10} {waiting:>10}  {}",
                account.partition,
                account.floor_offset,
                account.next_offset,
                account.rows,
                account.difference,
                outcomes.join(", ")
            )?;
            for (outcome, count) in &account.outcomes {
                *sums.entry(outcome).or_default() += count;
            }
        }
        for ReconciledPartition { account, before_floor, .. } in &self.lines {
            if *before_floor > 0 {
                let (from, to) = (account.floor_offset - before_floor, account.floor_offset - 1);
                writeln!(
                    f,
                    "partition {}: offsets {from} to {to} are in Kafka and were never processed",
                    account.partition
                )?;
            }
            for OffsetRange { first, last } in &account.missing {
                writeln!(f, "partition {}: no outcome for offsets {first} to {last}", account.partition)?;
            }
        }
        let sums: Vec<String> = sums.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
        writeln!(f, "sums: {}", sums.join(", "))?;
        writeln!(f, "unaccounted: {}", self.unaccounted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(floor_offset: i64, next_offset: i64, rows: i64) -> Reconciliation {
        let account = PartitionAccount {
            floor_offset,
            next_offset,
            rows,
            difference: next_offset - floor_offset - rows,
            missing: vec![OffsetRange { first: 3, last: 3 }],
            ..untouched(&PartitionWatermarks { partition: 0, earliest: 0, latest: 0 })
        };
        Reconciliation { partitions: vec![account] }
    }

    fn marks(earliest: i64, latest: i64) -> [PartitionWatermarks; 1] {
        [PartitionWatermarks { partition: 0, earliest, latest }]
    }

    #[test]
    fn a_missing_row_is_unaccounted_and_named() {
        let proof = LedgerProof::compare(account(0, 10, 9), &marks(0, 12));
        assert_eq!(proof.unaccounted(), 1);
        let text = proof.to_string();
        assert!(text.contains("no outcome for offsets 3 to 3"), "{text}");
    }

    #[test]
    fn records_from_before_the_ledger_began_are_unaccounted_while_kafka_has_them() {
        assert_eq!(LedgerProof::compare(account(5, 10, 5), &marks(2, 10)).unaccounted(), 3);
        assert_eq!(LedgerProof::compare(account(5, 10, 5), &marks(7, 10)).unaccounted(), 0);
    }

    #[test]
    fn waiting_records_are_not_lost() {
        let proof = LedgerProof::compare(Reconciliation::default(), &marks(0, 4));
        assert_eq!(proof.unaccounted(), 0);
        assert_eq!(proof.lines[0].waiting, 4);
    }
}
