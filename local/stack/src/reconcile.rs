//! Checks that every record below the checkpoints has exactly one outcome, that what was stored is there, and that the
//! archive has it too.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use archive::{ArchiveReader, OffsetRanges, S3Objects};
use kafka::{KafkaClient, KafkaConfig, PartitionWatermarks};
use pipeline::clock::{Clock as _, SystemClock};
use pipeline::topic::RAW_EVENTS;
use postgres::ledger::{OffsetRange, PartitionAccount, Reconciliation};
use postgres::lost_events::{AbsentEvent, LostEvents, TenantLoss, lost_events};
use postgres::{Database, PostgresConfig};
use settings::{Settings, Variables as _};

use crate::archived::ArchiveProof;
use crate::listed::{MAX_LISTED, list};
use crate::log_content::{Offsets, records_at};
use crate::minutes::MinuteAccounts;
use crate::output;
use crate::progress::{GroupProgress, OVERDUE};
use crate::session::Session;

/// Prints the sums per partition; exit status 1 if anything is unaccounted, lost, or missing in the archive. Without
/// `ARCHIVE_BUCKET` the archive is not checked. `minutes` is how many of the last minutes are shown one by one.
///
/// # Errors
/// If Postgres, Kafka or the archive cannot be read.
pub async fn command(session: &Session, minutes: Option<u16>) -> anyhow::Result<ExitCode> {
    session.require("DATABASE_URL")?;
    let mut settings = Settings::new(session);
    let postgres = PostgresConfig::from_settings(&mut settings);
    let kafka = KafkaConfig::from_settings(&mut settings);
    let (postgres, kafka) = settings.build(postgres.zip(kafka))?;
    let database = Database::connect(&postgres).await?;
    let kafka = KafkaClient::connect(&kafka, "reconcile").await?;
    // First, because what is committed and recorded in the meantime is in the ledger that is read afterwards.
    let progress = GroupProgress::gather(&database, &kafka, OVERDUE).await?;
    let proof = LedgerProof::gather(&database, &kafka).await?;
    output::text(&proof)?;
    output::text(format_args!("\n{progress}\n"))?;
    if let Some(count) = minutes {
        let accounts = MinuteAccounts::gather(&database, &kafka, SystemClock.now(), count).await?;
        output::text(format_args!("{accounts}\n"))?;
    }
    let lost = lost_events(&database, MAX_LISTED).await?;
    output::text(LossReport(&lost))?;
    let missing = if let Some(bucket) = session.get("ARCHIVE_BUCKET") {
        let objects = S3Objects::connect(&session.aws("AWS_ENDPOINT_URL_S3").await, bucket);
        let archive = ArchiveProof::gather(&kafka, &ArchiveReader::new(Arc::new(objects))).await?;
        output::text(format_args!("\n{archive}"))?;
        archive.missing()
    } else {
        output::line("\nthe archive is not checked: ARCHIVE_BUCKET is not set")?;
        0
    };
    let is_whole = proof.is_complete() && progress.skips_nothing() && lost.count() == 0 && missing == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares the ledger of `raw-events` with what Kafka has.
#[derive(Debug)]
pub struct LedgerProof {
    lines: Vec<ReconciledPartition>,
}

/// One partition.
#[derive(Debug)]
struct ReconciledPartition {
    /// The log that is processed now.
    account: PartitionAccount,
    /// Its offsets without an outcome that hold a record in Kafka.
    missing: OffsetRanges,
    /// Its offsets without an outcome that Kafka has deleted: nobody can tell any more whether they held a record.
    unknown: OffsetRanges,
    /// Records in Kafka before the first one in the ledger.
    before_floor: OffsetRanges,
    /// Number of records at or above the checkpoint: not processed yet.
    waiting: u64,
    /// How far the checkpoint lies beyond the end of the log.
    beyond_end: i64,
    /// The logs before this one. Kafka has none of their records.
    ended: Vec<PartitionAccount>,
}

impl LedgerProof {
    /// Reads the whole ledger, and from Kafka what has no outcome.
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn gather(database: &Database, kafka: &KafkaClient) -> anyhow::Result<Self> {
        let reconciliation = postgres::ledger::reconcile(database).await?;
        let watermarks = kafka.topics().watermarks(RAW_EVENTS).await?;
        let accounts = by_partition(reconciliation, &watermarks);
        let doubtful = accounts.iter().map(|(marks, account, _)| (marks.partition, doubtful(marks, account))).collect();
        let records = records_at(kafka, RAW_EVENTS, &doubtful).await?;
        Ok(Self::compare(accounts, &records))
    }

    /// `records` are those in Kafka of the [`doubtful`] offsets.
    fn compare(accounts: Vec<Accounts>, records: &Offsets) -> Self {
        let none = OffsetRanges::default();
        let lines = accounts.into_iter().map(|(marks, account, ended)| {
            let records = records.get(&marks.partition).unwrap_or(&none);
            let PartitionAccount { floor_offset: floor, next_offset: next, .. } = account;
            ReconciledPartition {
                missing: records.within(floor..=next - 1),
                unknown: gaps(&account).within(floor..=marks.earliest - 1),
                before_floor: records.within(marks.earliest..=floor - 1),
                waiting: records.within(next..=marks.latest - 1).len(),
                beyond_end: (next - marks.latest).max(0),
                account,
                ended,
            }
        });
        LedgerProof { lines: lines.collect() }
    }

    /// Number of records below a checkpoint that have no outcome, or that were never processed.
    pub fn unaccounted(&self) -> u64 {
        self.lines.iter().map(|line| line.missing.len() + line.before_floor.len()).sum()
    }

    /// Whether every record is proved to have its outcome or to wait for it.
    pub fn is_complete(&self) -> bool {
        let has_no_gaps = |account: &PartitionAccount| account.missing.is_empty();
        self.unaccounted() == 0
            && self
                .lines
                .iter()
                .all(|line| line.unknown.is_empty() && line.beyond_end == 0 && line.ended.iter().all(has_no_gaps))
    }
}

/// What Kafka has of a partition, the account of its present log, and those of the logs before it.
type Accounts = (PartitionWatermarks, PartitionAccount, Vec<PartitionAccount>);

fn by_partition(reconciliation: Reconciliation, watermarks: &[PartitionWatermarks]) -> Vec<Accounts> {
    let mut present = BTreeMap::new();
    let mut ended: BTreeMap<i32, Vec<PartitionAccount>> = BTreeMap::new();
    for account in reconciliation.partitions.into_iter().filter(|account| account.topic == RAW_EVENTS) {
        if account.is_present {
            present.insert(account.partition, account);
        } else {
            ended.entry(account.partition).or_default().push(account);
        }
    }
    let accounts = watermarks.iter().map(|marks| {
        let account = present.remove(&marks.partition).unwrap_or_else(|| untouched(marks));
        (*marks, account, ended.remove(&marks.partition).unwrap_or_default())
    });
    accounts.collect()
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

/// The offsets below the checkpoint without an outcome.
fn gaps(account: &PartitionAccount) -> OffsetRanges {
    OffsetRanges::union_of(account.missing.iter().map(|OffsetRange { first, last }| *first..=*last))
}

/// The offsets in Kafka without an outcome. Whether they hold records must be looked up.
fn doubtful(marks: &PartitionWatermarks, account: &PartitionAccount) -> OffsetRanges {
    let (before, after) = (marks.earliest..=account.floor_offset - 1, account.next_offset..=marks.latest - 1);
    let gaps = gaps(account).within(marks.earliest..=marks.latest - 1);
    OffsetRanges::union_of(gaps.ranges().iter().cloned().chain([before, after]))
}

impl fmt::Display for LedgerProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>9} {:>4} {:>10} {:>10} {:>10} {:>10} {:>10}  outcomes",
            "partition", "log", "from", "checkpoint", "rows", "missing", "waiting"
        )?;
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        let line = |f: &mut fmt::Formatter<'_>,
                    account: &PartitionAccount,
                    missing: &dyn fmt::Display,
                    waiting: u64| {
            let present = account.outcomes.iter().filter(|(_, count)| **count > 0);
            let outcomes: Vec<String> = present.map(|(outcome, count)| format!("{outcome} {count}")).collect();
            let PartitionAccount { partition, incarnation, floor_offset, next_offset, rows, .. } = account;
            writeln!(
                f,
                "{partition:>9} {incarnation:>4} {floor_offset:>10} {next_offset:>10} {rows:>10} {missing:>10} {waiting:>10}  {}",
                outcomes.join(", ")
            )
        };
        for ReconciledPartition { account, missing, before_floor, waiting, ended, .. } in &self.lines {
            for account in ended {
                line(f, account, &"ended", 0)?;
            }
            line(f, account, &(missing.len() + before_floor.len()), *waiting)?;
            for (outcome, count) in ended.iter().chain([account]).flat_map(|account| &account.outcomes) {
                *sums.entry(outcome).or_default() += count;
            }
        }
        for ReconciledPartition { account, missing, unknown, before_floor, beyond_end, ended, waiting: _ } in
            &self.lines
        {
            let partition = account.partition;
            list(f, partition, before_floor, "are in Kafka and were never processed")?;
            list(f, partition, missing, "have records and no outcome")?;
            list(f, partition, unknown, "have no outcome and are unknown: Kafka has deleted them")?;
            for account in ended {
                let why = format!("of log {} have no outcome and are unknown: that log has ended", account.incarnation);
                list(f, partition, &gaps(account), &why)?;
            }
            if *beyond_end > 0 {
                let (checkpoint, end) = (account.next_offset, account.next_offset - beyond_end);
                writeln!(
                    f,
                    "partition {partition}: the checkpoint {checkpoint} lies beyond the end of the log, {end}. The topic was made \
                     again, or lost its tail, or this is another cluster, and none of its records was processed since. Check \
                     that the trigger runs: when the processor finds another record at a known position, it begins a new log"
                )?;
            }
        }
        let sums: Vec<String> = sums.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
        writeln!(f, "sums: {}", sums.join(", "))?;
        writeln!(f, "unaccounted: {}", self.unaccounted())
    }
}

/// The events that the ledger has as stored and that have no row.
struct LossReport<'a>(&'a LostEvents);

impl fmt::Display for LossReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostEvents { tenants, named } = self.0;
        for AbsentEvent { position, tenant, event_id, outcome } in named {
            writeln!(
                f,
                "{position}: the ledger has event {event_id} of {tenant} as {outcome}, and events has no row of it"
            )?;
        }
        let absent: i64 = tenants.iter().map(|tenant| tenant.absent).sum();
        let unnamed = usize::try_from(absent).unwrap_or_default().saturating_sub(named.len());
        if unnamed > 0 {
            writeln!(f, "and {unnamed} more that have no row")?;
        }
        for TenantLoss { tenant, lost, absent } in tenants.iter().filter(|tenant| tenant.absent > tenant.lost) {
            let expired = absent - lost;
            writeln!(
                f,
                "{expired} of the {absent} of {tenant} were received before the oldest day that is kept, and have expired"
            )?;
        }
        writeln!(f, "lost events: {}", self.0.count())
    }
}

#[cfg(test)]
mod tests {
    use pipeline::Position;

    use super::*;

    fn account(floor_offset: i64, next_offset: i64, missing: &[(i64, i64)]) -> PartitionAccount {
        PartitionAccount {
            floor_offset,
            next_offset,
            missing: missing.iter().map(|(first, last)| OffsetRange { first: *first, last: *last }).collect(),
            ..untouched(&PartitionWatermarks { partition: 0, earliest: 0, latest: 0 })
        }
    }

    /// The proof if Kafka has the offsets from `earliest` to `latest`, all of them with records but `empty`.
    fn proof(accounts: Vec<PartitionAccount>, (earliest, latest): (i64, i64), empty: &[i64]) -> LedgerProof {
        let marks = [PartitionWatermarks { partition: 0, earliest, latest }];
        let accounts = by_partition(Reconciliation { partitions: accounts }, &marks);
        let records = |(marks, account, _): &Accounts| {
            let asked = doubtful(marks, account);
            let held = (earliest..latest).filter(|offset| asked.contains(*offset) && !empty.contains(offset));
            (marks.partition, OffsetRanges::union_of(held.map(|offset| offset..=offset)))
        };
        let records = accounts.iter().map(records).collect();
        LedgerProof::compare(accounts, &records)
    }

    #[test]
    fn a_record_without_an_outcome_is_unaccounted_and_named() {
        let proof = proof(vec![account(0, 10, &[(3, 3)])], (0, 12), &[]);
        assert_eq!((proof.unaccounted(), proof.lines[0].waiting), (1, 2));
        assert!(!proof.is_complete());
        let text = proof.to_string();
        assert!(text.contains("offsets 3 to 3 have records and no outcome"), "{text}");
    }

    #[test]
    fn an_offset_that_never_was_a_record_is_neither_missing_nor_waiting() {
        let proof = proof(vec![account(2, 10, &[(3, 4), (7, 7)])], (0, 12), &[0, 1, 3, 4, 7, 10, 11]);
        assert_eq!((proof.unaccounted(), proof.lines[0].waiting), (0, 0));
        assert!(proof.is_complete());
    }

    #[test]
    fn an_offset_that_kafka_has_deleted_is_unknown() {
        let proof = proof(vec![account(0, 10, &[(3, 6)])], (5, 10), &[5, 6]);
        assert_eq!(proof.unaccounted(), 0);
        assert!(!proof.is_complete());
        let text = proof.to_string();
        assert!(text.contains("offsets 3 to 4 have no outcome and are unknown: Kafka has deleted them"), "{text}");
    }

    #[test]
    fn records_from_before_the_ledger_began_are_unaccounted_while_kafka_has_them() {
        assert_eq!(proof(vec![account(5, 10, &[])], (2, 10), &[]).unaccounted(), 3);
        assert_eq!(proof(vec![account(5, 10, &[])], (7, 10), &[]).unaccounted(), 0);
    }

    #[test]
    fn waiting_records_are_not_lost() {
        let proof = proof(vec![], (0, 4), &[]);
        assert_eq!((proof.unaccounted(), proof.lines[0].waiting), (0, 4));
        assert!(proof.is_complete());
    }

    #[test]
    fn a_checkpoint_beyond_the_end_of_the_log_proves_nothing() {
        let proof = proof(vec![account(0, 120, &[])], (0, 20), &[]);
        assert_eq!(proof.unaccounted(), 0);
        assert!(!proof.is_complete());
        let text = proof.to_string();
        assert!(text.contains("the checkpoint 120 lies beyond the end of the log, 20"), "{text}");
    }

    #[test]
    fn lost_events_are_named_and_the_expired_ones_among_them_counted() {
        assert_eq!(LossReport(&LostEvents::default()).to_string(), "lost events: 0\n");
        let absent = AbsentEvent {
            position: Position::new(RAW_EVENTS, 1, 7),
            tenant: "acme".to_owned(),
            event_id: "a".to_owned(),
            outcome: "fraud".to_owned(),
        };
        let tenants = vec![TenantLoss { tenant: "acme".to_owned(), lost: 2, absent: 3 }];
        let text = LossReport(&LostEvents { tenants, named: vec![absent] }).to_string();
        let expected = "\
raw-events/1/7: the ledger has event a of acme as fraud, and events has no row of it
and 2 more that have no row
1 of the 3 of acme were received before the oldest day that is kept, and have expired
lost events: 2
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_logs_before_are_listed_and_their_gaps_are_unknown() {
        let ended = PartitionAccount { is_present: false, ..account(0, 9, &[]) };
        let present = PartitionAccount { incarnation: 1, ..account(0, 4, &[]) };
        assert!(proof(vec![ended.clone(), present.clone()], (0, 4), &[]).is_complete());
        let ended = PartitionAccount { missing: vec![OffsetRange { first: 2, last: 3 }], ..ended };
        let proof = proof(vec![ended, present], (0, 4), &[]);
        assert_eq!(proof.unaccounted(), 0);
        assert!(!proof.is_complete());
        let text = proof.to_string();
        assert!(text.contains("offsets 2 to 3 of log 0 have no outcome and are unknown: that log has ended"), "{text}");
    }
}
