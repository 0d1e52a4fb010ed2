//! Reports what one invocation did: its counts, and the metrics.

use std::collections::BTreeMap;

use archive::writer::PackedObject;
use event::Timestamp;
use pipeline::ports::PutResult;
use pipeline::{DependencyError, Record};
use telemetry::list::{ARCHIVE_DELAY, ARCHIVE_OBJECT_BYTES, ARCHIVE_OBJECTS, RECORDS_ARCHIVED};

const CREATED: &str = "created";
const ALREADY_THERE: &str = "already-there";
const FAILED: &str = "failed";

/// Makes the series of bounded labels visible at 0.
pub(crate) fn begin() {
    for result in [CREATED, ALREADY_THERE, FAILED] {
        ARCHIVE_OBJECTS.begin([result]);
    }
}

/// An object and the result of writing it.
pub(crate) struct Write {
    pub(crate) object: PackedObject,
    pub(crate) result: Result<PutResult, DependencyError>,
}

/// The counts of one invocation.
#[derive(Debug, Default)]
pub(crate) struct BatchReport<'a> {
    pub(crate) created: usize,
    pub(crate) already_there: usize,
    pub(crate) unwritten: usize,
    /// Bytes in created objects, before compression.
    pub(crate) lines_bytes: u64,
    /// Bytes in created objects, compressed.
    pub(crate) stored_bytes: u64,
    /// Records in created objects by topic. A redelivered record is not counted again.
    pub(crate) records_written: BTreeMap<&'a str, u64>,
}

impl<'a> BatchReport<'a> {
    pub(crate) fn of(writes: &'a [Write]) -> Self {
        let mut report = BatchReport::default();
        for Write { object, result } in writes {
            match result {
                Ok(PutResult::Created) => {
                    report.created += 1;
                    report.lines_bytes += object.lines_bytes;
                    report.stored_bytes += object.body.len() as u64;
                    *report.records_written.entry(object.key.series.topic()).or_default() += object.key.records;
                }
                Ok(PutResult::AlreadyThere) => report.already_there += 1,
                Err(_) => report.unwritten += 1,
            }
        }
        report
    }

    /// Adds to the metrics, at `now`. The records are those of the batch, topic by topic.
    pub(crate) fn count(&self, writes: &[Write], delivered: &[Record], now: Timestamp) {
        for (topic, records) in &self.records_written {
            RECORDS_ARCHIVED.add(*records, [topic]);
        }
        for (result, objects) in
            [(CREATED, self.created), (ALREADY_THERE, self.already_there), (FAILED, self.unwritten)]
        {
            ARCHIVE_OBJECTS.add(objects as u64, [result]);
        }
        let created = writes.iter().filter(|write| matches!(write.result, Ok(PutResult::Created)));
        ARCHIVE_OBJECT_BYTES.record_all(created.map(|write| write.object.body.len() as f64), []);
        // Until everything is there, the oldest record may not be.
        if self.unwritten > 0 {
            return;
        }
        for of_topic in delivered.chunk_by(|a, b| a.position.topic == b.position.topic) {
            if let (Some(first), Some(oldest)) = (of_topic.first(), Record::oldest(of_topic)) {
                ARCHIVE_DELAY.record(now.since(oldest).as_secs_f64(), [&first.position.topic]);
            }
        }
    }
}
