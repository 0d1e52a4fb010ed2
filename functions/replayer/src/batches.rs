//! Reads the archive batch by batch.

use archive::reader::Tally;
use archive::{ArchiveReader, Filter, Records};
use pipeline::{ErrorClass, Record};
use tokio::time::{Instant, timeout_at};

use crate::counts::Counts;
use crate::error::ReplayerError;

/// Records of the archive, partition by partition, in the order of their offsets.
pub struct Batches {
    records: Records,
    size: usize,
    deadline: Instant,
    /// The archive reader's tally that was already added to the counts.
    tally: Tally,
    is_finished: bool,
}

impl Batches {
    /// # Errors
    /// If the archive cannot be listed.
    pub async fn open(
        reader: &ArchiveReader,
        filter: &Filter,
        size: usize,
        deadline: Instant,
    ) -> Result<Self, ReplayerError> {
        let records = reader.records(filter).await.map_err(ReplayerError::Archive)?;
        Ok(Batches { records, size, deadline, tally: Tally::default(), is_finished: false })
    }

    /// The next records; `None` at the end, or if the time is up. Adds what was fetched for them to the counts.
    ///
    /// # Errors
    /// If an object cannot be fetched. One that is damaged or missing is counted and skipped.
    pub async fn next(&mut self, counts: &mut Counts) -> Result<Option<Vec<Record>>, ReplayerError> {
        let batch = self.read(counts).await;
        counts.add_fetched(self.tally, self.records.tally());
        self.tally = self.records.tally();
        batch
    }

    async fn read(&mut self, counts: &mut Counts) -> Result<Option<Vec<Record>>, ReplayerError> {
        let mut batch = Vec::with_capacity(self.size);
        while batch.len() < self.size {
            // Giving up here loses no record: a record only counts as processed once its batch does.
            let Ok(record) = timeout_at(self.deadline, self.records.next()).await else { return Ok(None) };
            match record {
                Ok(Some(record)) => batch.push(record),
                Ok(None) => {
                    self.is_finished = true;
                    break;
                }
                Err(error) => match error.class() {
                    ErrorClass::Transient | ErrorClass::Overload => return Err(ReplayerError::Archive(error)),
                    ErrorClass::Permanent => {
                        tracing::error!(
                            error = pipeline::chain(&error),
                            "an archived object is damaged or missing and was skipped: restore it, then start a run with another name"
                        );
                        counts.damaged_objects += 1;
                    }
                },
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Whether the end was reached.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }
}
