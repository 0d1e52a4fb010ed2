//! The records of `raw-events` by the minute in which they were written, and how those of each minute ended.

use std::collections::BTreeMap;
use std::fmt;

use event::Timestamp;
use kafka::KafkaClient;
use pipeline::Outcome;
use pipeline::topic::RAW_EVENTS;
use postgres::Database;
use postgres::ledger::{OffsetSpan, outcomes_in};

/// The last minutes, oldest first; the present one is the last.
#[derive(Debug)]
pub struct MinuteAccounts {
    minutes: Vec<MinuteAccount>,
}

/// The records of one minute, by Kafka's timestamps.
#[derive(Debug)]
struct MinuteAccount {
    start: Timestamp,
    /// Number of offsets. A transaction's marker is one, too.
    received: i64,
    /// The ledger's rows of these offsets, by outcome.
    outcomes: BTreeMap<String, i64>,
}

impl MinuteAccounts {
    /// The `count` minutes that end with the one of `now`.
    ///
    /// # Errors
    /// If Postgres or Kafka cannot be read.
    pub async fn gather(database: &Database, kafka: &KafkaClient, now: Timestamp, count: u16) -> anyhow::Result<Self> {
        let starts = starts(now, count);
        let mut bounds = kafka.topics().offsets_since(RAW_EVENTS, &starts).await?;
        // What another clock has written ahead of this one belongs to the present minute.
        let watermarks = kafka.topics().watermarks(RAW_EVENTS).await?;
        bounds.push(watermarks.iter().map(|marks| (marks.partition, marks.latest)).collect());
        let groups: Vec<Vec<OffsetSpan>> = bounds.windows(2).map(spans).collect();
        let outcomes = outcomes_in(database, RAW_EVENTS, &groups).await?;
        let minutes = starts.into_iter().zip(groups).zip(outcomes).map(|((start, spans), outcomes)| {
            let received = spans.iter().map(|span| span.end - span.first).sum();
            MinuteAccount { start, received, outcomes }
        });
        Ok(MinuteAccounts { minutes: minutes.collect() })
    }
}

/// When each of the `count` minutes begins that end with the one of `now`.
fn starts(now: Timestamp, count: u16) -> Vec<Timestamp> {
    let minute = |back: u16| Timestamp::from_millis((now.minute() - i64::from(back)) * 60_000);
    (0..count).rev().map(minute).collect()
}

/// The offsets between two neighbouring bounds.
fn spans(bounds: &[BTreeMap<i32, i64>]) -> Vec<OffsetSpan> {
    let [firsts, ends] = bounds else { return Vec::new() };
    let span = |(partition, first): (&i32, &i64)| {
        let end = ends.get(partition).copied().unwrap_or(*first).max(*first);
        OffsetSpan { partition: *partition, first: *first, end }
    };
    firsts.iter().map(span).collect()
}

impl fmt::Display for MinuteAccounts {
    /// Leaves out the minutes without a record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>16} {:>10} {:>10}", "minute", "received", "recorded")?;
        for outcome in Outcome::ALL {
            write!(f, " {:>13}", outcome.as_str())?;
        }
        writeln!(f)?;
        for MinuteAccount { start, received, outcomes } in self.minutes.iter().filter(|minute| minute.received > 0) {
            let recorded: i64 = outcomes.values().sum();
            let text = start.to_string();
            write!(f, "{:>16} {received:>10} {recorded:>10}", text.get(..16).unwrap_or(&text))?;
            for outcome in Outcome::ALL {
                write!(f, " {:>13}", outcomes.get(outcome.as_str()).copied().unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        let (received, recorded) = self.minutes.iter().fold((0, 0), |(received, recorded), minute| {
            (received + minute.received, recorded + minute.outcomes.values().sum::<i64>())
        });
        writeln!(f, "the last {} minutes: received {received}, recorded {recorded}", self.minutes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_the_present_one() {
        let now = Timestamp::parse("2026-11-20T12:00:59.999Z").unwrap();
        let starts: Vec<String> = starts(now, 3).iter().map(ToString::to_string).collect();
        assert_eq!(starts, ["2026-11-20T11:58:00.000Z", "2026-11-20T11:59:00.000Z", "2026-11-20T12:00:00.000Z"]);
    }

    #[test]
    fn neighbouring_bounds_are_the_spans_of_a_minute() {
        let bounds = [BTreeMap::from([(0, 5), (1, 2)]), BTreeMap::from([(0, 9), (1, 2)])];
        let span = |partition, first, end| OffsetSpan { partition, first, end };
        assert_eq!(spans(&bounds), [span(0, 5, 9), span(1, 2, 2)]);
    }

    #[test]
    fn minutes_without_a_record_are_left_out() {
        let minute = |minute: i64, received, valid| MinuteAccount {
            start: Timestamp::from_millis(minute * 60_000),
            received,
            outcomes: BTreeMap::from([("valid".to_owned(), valid)]),
        };
        let text = MinuteAccounts { minutes: vec![minute(1, 3, 2), minute(2, 0, 0), minute(3, 4, 4)] }.to_string();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("1970-01-01T00:01          3          2             2"), "{text}");
        assert!(text.ends_with("the last 3 minutes: received 7, recorded 6\n"), "{text}");
    }
}
