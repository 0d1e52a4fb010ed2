//! Redrive marks: one item for each step of a letter; the items of one origin share a partition.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValuesOnConditionCheckFailure};
use event::{Origin, Timestamp};
use futures::stream::{self, StreamExt, TryStreamExt};
use pipeline::ports::{BeginVerdict, KEEP_MARKS, LetterId, Mark, MarkKey, MarkState, RedriveMarks};
use pipeline::{DependencyError, Position};

use crate::attributes::{Item, number, text};
use crate::rounds::Rounds;
use crate::table::Table;
use crate::tables::{EXPIRES_AT, PARTITION_KEY, SORT_KEY};
use crate::{DynamoDb, DynamoDbError};

const STATE: &str = "state";
const RUN: &str = "run";
const AT: &str = "at";
const UNTIL: &str = "until";
const POSITION: &str = "position";

const UNDER_WAY: &str = "under-way";
const DONE: &str = "done";

/// Concurrent writes of one call. High enough that only its rate slows a redriver down.
const CONCURRENT_WRITES: usize = 16;
/// DynamoDB's limit on the keys of a `BatchGetItem`.
const KEYS_PER_READ: usize = 100;

fn partition_of(origin: &Origin) -> String {
    format!("redrive#{origin}")
}

/// Attempts have ten digits, so that they sort as numbers do.
fn sort_of(key: &MarkKey) -> String {
    format!("{:010}#{}", key.letter.attempt, key.step)
}

fn key_of(key: &MarkKey) -> Item {
    Item::from([
        (PARTITION_KEY.to_owned(), text(partition_of(&key.letter.origin))),
        (SORT_KEY.to_owned(), text(sort_of(key))),
    ])
}

/// Redrive marks in the table `access`.
#[derive(Clone, Debug)]
pub struct DynamoRedriveMarks {
    table: Table,
}

impl DynamoRedriveMarks {
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>) -> Self {
        DynamoRedriveMarks { table: Table::new(dynamodb, table) }
    }

    async fn begin_step(
        &self,
        key: &MarkKey,
        run: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<BeginVerdict, DynamoDbError> {
        let request = self
            .table
            .client()
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(mark_item(key, run, now, &MarkState::UnderWay { until })))
            .condition_expression(
                "attribute_not_exists(#pk) OR (#state = :under_way AND (#run = :run OR #until <= :now))",
            )
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_names("#pk", PARTITION_KEY)
            .expression_attribute_names("#state", STATE)
            .expression_attribute_names("#run", RUN)
            .expression_attribute_names("#until", UNTIL)
            .expression_attribute_values(":under_way", text(UNDER_WAY))
            .expression_attribute_values(":run", text(run))
            .expression_attribute_values(":now", number(now.as_millis()));
        let Err(error) = request.send().await else { return Ok(BeginVerdict::Ours) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(refusal)) => {
                let Some(item) = refusal.item() else {
                    // The service did not return the item, although asked to: wait as long as a step of ours takes.
                    return Ok(BeginVerdict::UnderWay { until });
                };
                Ok(match self.read_mark(item)?.state {
                    MarkState::UnderWay { until } => BeginVerdict::UnderWay { until },
                    MarkState::Done { .. } => BeginVerdict::Done,
                })
            }
            Some(_) | None => Err(DynamoDbError::of_sdk(&self.table.name, error)),
        }
    }

    async fn finish_step(
        &self,
        key: &MarkKey,
        position: Option<&Position>,
        run: &str,
        now: Timestamp,
    ) -> Result<(), DynamoDbError> {
        let state = MarkState::Done { position: position.cloned() };
        self.table.put(mark_item(key, run, now, &state)).await
    }

    /// The existing marks for at most [`KEYS_PER_READ`] keys, in any order.
    async fn read_marks(&self, keys: &[MarkKey]) -> Result<Vec<Mark>, DynamoDbError> {
        let mut left: Vec<Item> = keys.iter().map(key_of).collect();
        let mut marks = Vec::with_capacity(keys.len());
        let mut rounds = Rounds::new();
        loop {
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let wanted = wanted.map_err(|error| DynamoDbError::unbuildable(&self.table.name, error))?;
            let request = self.table.client().batch_get_item().request_items(&self.table.name, wanted);
            let answer = request.send().await.map_err(|error| DynamoDbError::of_sdk(&self.table.name, error))?;
            for item in answer.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                marks.push(self.read_mark(&item)?);
            }
            let unprocessed = answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.table.name));
            left = unprocessed.map(|keys| keys.keys).unwrap_or_default();
            if left.is_empty() {
                return Ok(marks);
            }
            rounds.wait_after(DynamoDbError::Unprocessed { table: self.table.name.clone() }).await?;
        }
    }

    fn read_mark(&self, item: &Item) -> Result<Mark, DynamoDbError> {
        let item = self.table.attributes(item);
        let origin = item.read(PARTITION_KEY, |value| value.as_s().ok()?.strip_prefix("redrive#")?.parse().ok())?;
        let (attempt, step) = item.read(SORT_KEY, |value| {
            let (attempt, step) = value.as_s().ok()?.split_once('#')?;
            Some((attempt.parse().ok()?, step.parse().ok()?))
        })?;
        let position = |value: &AttributeValue| value.as_s().ok()?.parse().ok();
        let state = match item.text(STATE)? {
            DONE if item.item.contains_key(POSITION) => {
                MarkState::Done { position: Some(item.read(POSITION, position)?) }
            }
            DONE => MarkState::Done { position: None },
            // There are only two states. An item with an unknown state has no `until`, so reading that fails.
            _ => MarkState::UnderWay { until: Timestamp::from_millis(item.number(UNTIL)?) },
        };
        Ok(Mark {
            key: MarkKey { letter: LetterId { origin, attempt }, step },
            run: item.text(RUN)?.to_owned(),
            at: Timestamp::from_millis(item.number(AT)?),
            state,
        })
    }
}

fn mark_item(key: &MarkKey, run: &str, now: Timestamp, state: &MarkState) -> Item {
    let mut item = key_of(key);
    item.insert(RUN.to_owned(), text(run));
    item.insert(AT.to_owned(), number(now.as_millis()));
    item.insert(EXPIRES_AT.to_owned(), number(now.plus(KEEP_MARKS).as_secs()));
    match state {
        MarkState::UnderWay { until } => {
            item.insert(STATE.to_owned(), text(UNDER_WAY));
            item.insert(UNTIL.to_owned(), number(until.as_millis()));
        }
        MarkState::Done { position } => {
            item.insert(STATE.to_owned(), text(DONE));
            if let Some(position) = position {
                item.insert(POSITION.to_owned(), text(position.to_string()));
            }
        }
    }
    item
}

#[async_trait]
impl RedriveMarks for DynamoRedriveMarks {
    async fn begin(
        &self,
        keys: &[MarkKey],
        run: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<BeginVerdict>, DependencyError> {
        let writes: Vec<_> = keys.iter().map(|key| self.begin_step(key, run, now, until)).collect();
        let verdicts = stream::iter(writes).buffered(CONCURRENT_WRITES).try_collect().await;
        verdicts.map_err(|error: DynamoDbError| error.while_doing("marking letters"))
    }

    async fn finish(
        &self,
        done: &[(MarkKey, Option<Position>)],
        run: &str,
        now: Timestamp,
    ) -> Result<(), DependencyError> {
        let writes: Vec<_> =
            done.iter().map(|(key, position)| self.finish_step(key, position.as_ref(), run, now)).collect();
        let written = stream::iter(writes).buffer_unordered(CONCURRENT_WRITES).try_collect::<()>().await;
        written.map_err(|error: DynamoDbError| error.while_doing("marking letters as done"))
    }

    async fn find(&self, keys: &[MarkKey]) -> Result<Vec<Option<Mark>>, DependencyError> {
        // DynamoDB refuses a batch that contains a key twice.
        let mut wanted = keys.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let reads: Vec<_> = wanted.chunks(KEYS_PER_READ).map(|keys| self.read_marks(keys)).collect();
        let found: Vec<Vec<Mark>> = stream::iter(reads)
            .buffer_unordered(CONCURRENT_WRITES)
            .try_collect()
            .await
            .map_err(|error: DynamoDbError| error.while_doing("reading redrive marks"))?;
        let by_key: HashMap<MarkKey, Mark> = found.into_iter().flatten().map(|mark| (mark.key.clone(), mark)).collect();
        Ok(keys.iter().map(|key| by_key.get(key).cloned()).collect())
    }

    async fn of_origin(&self, origin: &Origin) -> Result<Vec<Mark>, DependencyError> {
        let marks = self.table.partition(partition_of(origin), |item| self.read_mark(item)).await;
        marks.map_err(|error| error.while_doing("reading an origin's redrive marks"))
    }
}
