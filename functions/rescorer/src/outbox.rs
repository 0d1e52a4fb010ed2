//! Publishing late outcomes.

use pipeline::decisions::publication;
use pipeline::ports::{EventPlace, LateOutcome, NewRecord};
use pipeline::retry::RetryPolicy;
use pipeline::{Dependency, DependencyError};

use crate::error::{RescorerError, failed};
use crate::run::{BATCH, Run};

impl Run<'_> {
    /// Publishes what the outbox holds, and takes off it what Kafka has acknowledged. After a crash between the two
    /// an outcome goes out again, byte for byte.
    ///
    /// # Errors
    /// If Kafka or Postgres fails. What Kafka refuses for good is no error: it stays, and the rest goes on.
    pub async fn publish_outbox(&mut self) -> Result<(), RescorerError> {
        let events = &self.app.events;
        let mut after: Option<EventPlace> = None;
        // Out of time is no failure: the entries are there for the next run.
        while !self.time_left().is_zero() {
            let read = || events.unpublished(after.as_ref(), BATCH);
            let entries = self.app.postgres.call(RetryPolicy::STANDARD, self.end_deadline, read).await;
            let entries = entries.map_err(failed("reading the outbox"))?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.place());
            let (done, result) = self.publish(&entries).await?;
            if !done.is_empty() {
                let mark = || events.mark_published(&done);
                let marked = self.app.postgres.call(RetryPolicy::STANDARD, self.end_deadline, mark).await;
                marked.map_err(failed("clearing the outbox"))?;
                self.published += done.len();
            }
            result.map_err(failed("publishing late outcomes"))?;
        }
        Ok(())
    }

    /// Publishes each entry, and gives those that Kafka has, with an error that may pass if there is one. The outbox
    /// is the retry: an entry that failed is there for the next run.
    async fn publish(
        &mut self,
        entries: &[LateOutcome],
    ) -> Result<(Vec<EventPlace>, Result<(), DependencyError>), RescorerError> {
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
        let questions = records.len();
        let answers = self.app.kafka.publish(&*self.app.publisher, records, wait).await;
        if answers.len() != questions {
            let answers = answers.len();
            return Err(RescorerError::Answers { dependency: Dependency::Kafka, questions, answers });
        }
        let (mut done, mut result) = (Vec::with_capacity(questions), Ok(()));
        for (place, answer) in places.into_iter().zip(answers) {
            match answer {
                Ok(_) => done.push(place),
                Err(error) if error.is_retryable() => result = Err(error),
                Err(error) => self.refuse(place, &error),
            }
        }
        Ok((done, result))
    }

    fn refuse(&mut self, place: EventPlace, error: &(dyn std::error::Error + 'static)) {
        let EventPlace { key, .. } = &place;
        tracing::error!(
            tenant = %key.tenant,
            event.id = %key.id,
            error = lambda::invocation::chain(error),
            "a late outcome cannot be published"
        );
        self.undeliverable.insert(place);
    }
}
