//! Publishes late outcomes.

use pipeline::DependencyError;
use pipeline::decisions::publication;
use pipeline::ports::{EventPlace, LateOutcome, NewRecord};

use crate::error::RescorerError;
use crate::run::{BATCH, Run};

impl Run<'_> {
    /// Publishes the entries of the outbox, and removes those that Kafka has acknowledged. After a crash between the
    /// two an outcome is published again, byte for byte.
    ///
    /// # Errors
    /// If Kafka or Postgres fails. A record that Kafka refuses permanently is not an error: it stays in the outbox, and
    /// the run goes on with the others.
    pub async fn publish_outbox(&mut self) -> Result<(), RescorerError> {
        let events = &self.app.events;
        let mut after: Option<EventPlace> = None;
        // Running out of time is not a failure: the next run publishes the remaining entries.
        while !self.time_left().is_zero() {
            let read = || events.unpublished(after.as_ref(), BATCH);
            let entries = self.app.postgres.call(self.end_deadline, "reading the outbox", read).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.place());
            let (done, result) = self.publish(&entries).await;
            if !done.is_empty() {
                let mark = || events.mark_published(&done);
                self.app.postgres.call(self.end_deadline, "clearing the outbox", mark).await?;
                self.published += done.len();
            }
            result?;
        }
        Ok(())
    }

    /// Publishes each entry once. Returns the entries that Kafka has, and one retryable error, if there is any. There
    /// are no retries here, because an entry that failed stays in the outbox for the next run.
    async fn publish(&mut self, entries: &[LateOutcome]) -> (Vec<EventPlace>, Result<(), DependencyError>) {
        let mut places = Vec::with_capacity(entries.len());
        let mut records: Vec<NewRecord> = Vec::with_capacity(entries.len());
        for entry in entries {
            match publication::late_outcome(entry) {
                Ok(record) => {
                    places.push(entry.place());
                    records.push(record);
                }
                Err(error) => self.refuse(entry.place(), &error),
            }
        }
        let wait = self.app.policy.publish_timeout.min(self.time_left());
        let (kafka, publisher) = (&self.app.kafka, &*self.app.publisher);
        let answers = kafka.publish_once("publishing late outcomes", publisher, records, wait).await;
        let (mut done, mut result) = (Vec::with_capacity(answers.len()), Ok(()));
        for (place, answer) in places.into_iter().zip(answers) {
            match answer {
                Ok(_) => done.push(place),
                Err(error) if error.is_retryable() => result = Err(error),
                Err(error) => self.refuse(place, &error),
            }
        }
        (done, result)
    }

    fn refuse(&mut self, place: EventPlace, error: &(dyn std::error::Error + 'static)) {
        let EventPlace { key, .. } = &place;
        tracing::error!(
            tenant = %key.tenant,
            event.id = %key.id,
            error = pipeline::chain(error),
            "kafka refused a late outcome permanently: it stays in the outbox, and every run tries it again"
        );
        self.undeliverable.insert(place);
    }
}
