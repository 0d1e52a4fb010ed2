//! Looks for losses: records below a checkpoint that have no outcome. Each look goes on where the one before has ended.

use kafka::offsets_with_records;
use pipeline::topic::RAW_EVENTS;
use postgres::verification::{UnverifiedLog, look, note_verified, unverified_logs};
use telemetry::list::UNACCOUNTED_RECORDS;

use crate::app::App;
use crate::error::MaintainerError;

/// Most offsets of a log that one run looks at. Six partitions with 10,000 records a second have 6,000,000 an hour each; what is
/// left is for the next run.
const MOST_OFFSETS: i64 = 20_000_000;

/// Number of records below the checkpoints that have no outcome. Of a log that has ended, and of offsets that Kafka has
/// deleted, nobody can tell whether they held a record, so each offset counts.
///
/// What is accounted for is noted, log by log, and not looked at again. A loss is found again by every look until its records
/// have outcomes, or the ledger's retention has passed.
///
/// # Errors
/// If Postgres fails, or Kafka although something is missing.
pub async fn verify(app: &App) -> Result<u64, MaintainerError> {
    let database = app.database().await?;
    let failed = MaintainerError::database;
    let mut unaccounted = 0;
    for name in unverified_logs(database).await.map_err(failed("finding what is not verified yet"))? {
        let seen = look(database, name, MOST_OFFSETS).await.map_err(failed("reading what is not verified yet"))?;
        let Some(log) = seen else { continue };
        let in_kafka = in_kafka(app, &log).await?;
        let lost = || lost_offsets(&log, in_kafka.as_ref());
        let records = lost().count() as u64;
        let verified = lost().next().unwrap_or(log.next_offset);
        note_verified(database, &log.name, verified).await.map_err(failed("noting what is verified"))?;
        if records > 0 {
            tracing::error!(
                topic = log.name.topic,
                partition = log.name.partition,
                log = log.name.incarnation,
                records,
                first = verified,
                last = lost().last(),
                "records have no outcome: they are lost unless their batch is delivered again"
            );
        }
        unaccounted += records;
    }
    UNACCOUNTED_RECORDS.set(unaccounted as f64, []);
    Ok(unaccounted)
}

/// What Kafka has of the missing offsets.
struct InKafka {
    /// The oldest offset that it has at all.
    earliest: i64,
    /// Those with a record, lowest first.
    records: Vec<i64>,
}

/// `None` if nothing is missing, or the log cannot be read.
async fn in_kafka(app: &App, log: &UnverifiedLog) -> Result<Option<InKafka>, MaintainerError> {
    let is_readable = log.is_present && log.name.topic == RAW_EVENTS;
    if log.missing.is_empty() || !is_readable {
        return Ok(None);
    }
    let partition = log.name.partition;
    let kafka = app.kafka().await?;
    let marks = kafka.topics().watermarks(RAW_EVENTS).await.map_err(MaintainerError::topics)?;
    let Some(marks) = marks.into_iter().find(|of| of.partition == partition) else { return Ok(None) };
    let asked = log.missing.iter().map(|range| range.first..=range.last).collect();
    let held = offsets_with_records(kafka, RAW_EVENTS, &[(partition, asked)].into()).await;
    let records = held.map_err(MaintainerError::Log)?.remove(&partition).unwrap_or_default();
    Ok(Some(InKafka { earliest: marks.earliest, records }))
}

/// The missing offsets that count as lost, lowest first. Not as a list: there may be as many as one look has offsets.
fn lost_offsets(log: &UnverifiedLog, in_kafka: Option<&InKafka>) -> impl Iterator<Item = i64> {
    let missing = log.missing.iter().flat_map(|range| range.first..=range.last);
    missing.filter(move |offset| {
        in_kafka.is_none_or(|InKafka { earliest, records }| offset < earliest || records.binary_search(offset).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use postgres::ledger::OffsetRange;
    use postgres::verification::LogName;

    use super::*;

    #[test]
    fn an_offset_without_a_record_is_no_loss_and_what_cannot_be_read_is_one() {
        let log = UnverifiedLog {
            name: LogName { topic: RAW_EVENTS.to_owned(), partition: 3, incarnation: 0 },
            is_present: true,
            verified_offset: 10,
            next_offset: 100,
            missing: vec![OffsetRange { first: 20, last: 22 }, OffsetRange { first: 40, last: 40 }],
        };
        let lost = |earliest: i64, records: &[i64]| -> Vec<i64> {
            lost_offsets(&log, Some(&InKafka { earliest, records: records.to_vec() })).collect()
        };
        assert_eq!(lost(0, &[]), [0; 0]);
        assert_eq!(lost(0, &[21, 40]), [21, 40]);
        assert_eq!(lost(22, &[40]), [20, 21, 40], "what Kafka has deleted may be lost");
        assert_eq!(lost_offsets(&log, None).collect::<Vec<_>>(), [20, 21, 22, 40]);
    }
}
