//! Runs the contracts of redriving on their fakes.

use std::sync::Arc;

use async_trait::async_trait;
use event::{Origin, Timestamp};
use pipeline::ports::{BeginVerdict, Mark, MarkKey, RedriveMarks};
use pipeline::{DependencyError, Position};
use testkit::contracts::redrive::{redrive_marks_contract, topic_source_contract};
use testkit::fakes::publisher::FakePublisher;
use testkit::fakes::redrive::{FakeRedriveMarks, FakeTopics};

#[tokio::test]
async fn the_fake_marks_keep_the_contract() {
    redrive_marks_contract(&FakeRedriveMarks::default()).await;
}

#[tokio::test]
async fn the_fake_topics_keep_the_contract() {
    let publisher = Arc::new(FakePublisher::new(3));
    topic_source_contract(&*publisher, &FakeTopics::new(Arc::clone(&publisher))).await;
}

/// Marks that never expire: a run that dies would keep its letters for ever.
struct Eternal(FakeRedriveMarks);

#[async_trait]
impl RedriveMarks for Eternal {
    async fn begin(
        &self,
        keys: &[MarkKey],
        run: &str,
        _: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<BeginVerdict>, DependencyError> {
        self.0.begin(keys, run, Timestamp::EPOCH, until).await
    }

    async fn finish(
        &self,
        done: &[(MarkKey, Option<Position>)],
        run: &str,
        now: Timestamp,
    ) -> Result<(), DependencyError> {
        self.0.finish(done, run, now).await
    }

    async fn find(&self, keys: &[MarkKey]) -> Result<Vec<Option<Mark>>, DependencyError> {
        let mut marks = self.0.find(keys).await?;
        for mark in marks.iter_mut().flatten() {
            mark.at = mark.at.max(Timestamp::from_millis(1_795_197_720_000));
        }
        Ok(marks)
    }

    async fn of_origin(&self, origin: &Origin) -> Result<Vec<Mark>, DependencyError> {
        self.0.of_origin(origin).await
    }
}

#[tokio::test]
#[should_panic = "an expired mark blocks no run"]
async fn the_contract_finds_marks_that_never_lapse() {
    redrive_marks_contract(&Eternal(FakeRedriveMarks::default())).await;
}
