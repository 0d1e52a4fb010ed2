//! Looks for losses: records below a checkpoint that have no outcome. Each look goes on where the one before has ended.

use std::collections::BTreeMap;

use kafka::offsets_with_records;
use pipeline::topic::RAW_EVENTS;
use postgres::verification::{UnverifiedLog, note_verified, unverified};
use telemetry::list::UNACCOUNTED_RECORDS;

use crate::app::App;
use crate::error::MaintainerError;

/// Number of records below the checkpoints that have no outcome. Of a log that has ended, and of offsets that Kafka has
/// deleted, nobody can tell whether they held a record, so each offset counts.
///
/// What is accounted for is noted and not looked at again. A loss is found again by every look until its records have
/// outcomes, or the ledger's retention has passed.
///
/// # Errors
/// If Postgres fails, or Kafka although something is missing.
pub async fn verify(app: &App) -> Result<u64, MaintainerError> {
    let database = app.database().await?;
    let failed = MaintainerError::database;
    let mut logs = unverified(database).await.map_err(failed("reading what is not verified yet"))?;
    let records = records_without_outcome(app, &logs).await?;
    let mut unaccounted = 0;
    for log in &mut logs {
        let lost = lost_offsets(log, &records);
        log.verified_offset = lost.first().copied().unwrap_or(log.next_offset);
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            tracing::error!(
                topic = log.topic,
                partition = log.partition,
                log = log.incarnation,
                records = lost.len(),
                first,
                last,
                "records have no outcome: they are lost unless their batch is delivered again"
            );
        }
        unaccounted += lost.len() as u64;
    }
    note_verified(database, &logs).await.map_err(failed("noting what is verified"))?;
    UNACCOUNTED_RECORDS.set(unaccounted as f64, []);
    Ok(unaccounted)
}

/// What Kafka has of the missing offsets: for each partition the oldest offset that it has at all, and those with a record.
type InKafka = BTreeMap<i32, (i64, Vec<i64>)>;

async fn records_without_outcome(app: &App, logs: &[UnverifiedLog]) -> Result<InKafka, MaintainerError> {
    let mut asked = BTreeMap::new();
    for log in logs.iter().filter(|log| is_readable(log) && !log.missing.is_empty()) {
        asked.insert(log.partition, log.missing.iter().map(|range| range.first..=range.last).collect());
    }
    if asked.is_empty() {
        return Ok(InKafka::new());
    }
    let kafka = app.kafka().await?;
    let marks = kafka.topics().watermarks(RAW_EVENTS).await.map_err(MaintainerError::topics)?;
    let mut held = offsets_with_records(kafka, RAW_EVENTS, &asked).await.map_err(MaintainerError::Log)?;
    Ok(marks
        .into_iter()
        .map(|of| (of.partition, (of.earliest, held.remove(&of.partition).unwrap_or_default())))
        .collect())
}

fn is_readable(log: &UnverifiedLog) -> bool {
    log.is_present && log.topic == RAW_EVENTS
}

/// The missing offsets that count as lost, lowest first.
fn lost_offsets(log: &UnverifiedLog, records: &InKafka) -> Vec<i64> {
    let missing = log.missing.iter().flat_map(|range| range.first..=range.last);
    match records.get(&log.partition).filter(|_| is_readable(log)) {
        Some((earliest, held)) => {
            missing.filter(|offset| offset < earliest || held.binary_search(offset).is_ok()).collect()
        }
        None => missing.collect(),
    }
}

#[cfg(test)]
mod tests {
    use postgres::ledger::OffsetRange;

    use super::*;

    fn log(is_present: bool) -> UnverifiedLog {
        UnverifiedLog {
            topic: RAW_EVENTS.to_owned(),
            partition: 3,
            incarnation: 0,
            is_present,
            verified_offset: 10,
            next_offset: 100,
            missing: vec![OffsetRange { first: 20, last: 22 }, OffsetRange { first: 40, last: 40 }],
        }
    }

    #[test]
    fn an_offset_without_a_record_is_no_loss() {
        let in_kafka = |earliest: i64, held: &[i64]| InKafka::from([(3, (earliest, held.to_vec()))]);
        assert_eq!(lost_offsets(&log(true), &in_kafka(0, &[])), [0; 0]);
        assert_eq!(lost_offsets(&log(true), &in_kafka(0, &[21, 40])), [21, 40]);
        assert_eq!(lost_offsets(&log(true), &in_kafka(22, &[40])), [20, 21, 40], "what Kafka has deleted may be lost");
    }

    #[test]
    fn every_offset_of_a_log_that_cannot_be_read_counts() {
        let in_kafka = InKafka::from([(3, (0, Vec::new()))]);
        assert_eq!(lost_offsets(&log(false), &in_kafka), [20, 21, 22, 40]);
        assert_eq!(lost_offsets(&UnverifiedLog { topic: "other".to_owned(), ..log(true) }, &in_kafka).len(), 4);
    }
}
