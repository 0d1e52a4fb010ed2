//! Claims in the table `dedup`: one item per event id.
//!
//! | attribute | type | meaning |
//! |---|---|---|
//! | `pk` | string | `tenant/id` |
//! | `owner` | string | origin of the record that owns the id |
//! | `payload_hash` | binary | SHA-256 of its content |
//! | `expires_at` | number | end of the window, in whole seconds since the epoch, rounded up; the TTL attribute |
//!
//! An item has at most 750 bytes, so a claim is one write unit.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, KeysAndAttributes};
use event::{EventKey, Origin, PayloadHash, Timestamp};
use futures::stream::{self, StreamExt, TryStreamExt};
use pipeline::DependencyError;
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict, HeldClaim, HeldClaims};

use crate::attributes::{Attributes, Item, number, text};
use crate::rounds::Rounds;
use crate::tables::{EXPIRES_AT, PARTITION_KEY};
use crate::{DynamoDb, DynamoDbError};

const OWNER: &str = "owner";
const PAYLOAD_HASH: &str = "payload_hash";

/// Most statements in one `BatchExecuteStatement` (API reference).
const INSERTS_PER_REQUEST: usize = 25;
/// Most keys in one `BatchGetItem` (API reference). Their items are 70 kB at most, far below its 16 MB.
const KEYS_PER_REQUEST: usize = 100;
/// Concurrent requests of one call.
const CONCURRENT_REQUESTS: usize = 8;
/// A claim needs a second round only if its item changed between our insert and our take-over, that is if another
/// processor or the TTL was faster. More rounds than this in a row are not a coincidence but an error.
const ROUNDS: u32 = 4;

/// Claims in DynamoDB; see the table above.
///
/// A new id costs one write. A copy or redelivery costs one write, which is charged although it is refused, and one
/// read.
#[derive(Clone, Debug)]
pub struct DynamoClaims {
    dynamodb: DynamoDb,
    table: String,
    ttl: Duration,
    insert: String,
}

/// The content of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    owner: Origin,
    payload_hash: PayloadHash,
    /// Seconds since the epoch.
    expires_at: i64,
}

/// What to do with a claim whose id was not free.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding<'a> {
    Verdict(ClaimVerdict),
    /// The claim has expired, but the TTL has not removed it yet: it may be taken over from its holder.
    Expired(&'a Held),
    /// The TTL has removed it in the meantime: the id may be claimed.
    Gone,
}

fn judge<'a>(claim: &Claim, held: Option<&'a Held>, now: Timestamp) -> Finding<'a> {
    match held {
        None => Finding::Gone,
        Some(held) if held.expires_at <= now.as_secs() => Finding::Expired(held),
        Some(held) if held.owner.is_same(&claim.origin) => Finding::Verdict(ClaimVerdict::Own),
        Some(held) => Finding::Verdict(ClaimVerdict::Taken {
            owner: held.owner.clone(),
            same_payload: held.payload_hash == claim.payload_hash,
        }),
    }
}

impl DynamoClaims {
    /// Claims in `table` that hold for `ttl`.
    pub fn new(dynamodb: &DynamoDb, table: impl Into<String>, ttl: Duration) -> Self {
        let table = table.into();
        let insert = format!(
            "INSERT INTO \"{table}\" VALUE {{'{PARTITION_KEY}': ?, '{OWNER}': ?, '{PAYLOAD_HASH}': ?, '{EXPIRES_AT}': ?}}"
        );
        DynamoClaims { dynamodb: dynamodb.clone(), table, ttl, insert }
    }

    async fn claim_all(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DynamoDbError> {
        let expires_at = window_end(now, self.ttl);
        // An id counts as ours unless a step below finds another owner; `open` are the ids that are still undecided.
        let mut verdicts = vec![ClaimVerdict::New; claims.len()];
        let mut open: Vec<usize> = (0..claims.len()).collect();
        for _ in 0..ROUNDS {
            let occupied = self.insert_all(claims, open, expires_at).await?;
            let held = self.read_all(claims, &occupied).await?;
            let mut expired = Vec::new();
            open = Vec::new();
            for index in occupied {
                let claim = &claims[index];
                match judge(claim, held.get(&claim.key.to_string()), now) {
                    Finding::Verdict(verdict) => verdicts[index] = verdict,
                    Finding::Expired(held) => expired.push((index, held)),
                    Finding::Gone => open.push(index),
                }
            }
            open.extend(self.take_over_all(claims, &expired, expires_at).await?);
            if open.is_empty() {
                return Ok(verdicts);
            }
        }
        Err(DynamoDbError::Contended { table: self.table.clone() })
    }

    /// Inserts the claims at `indexes` whose ids are free; returns the indexes of the others.
    async fn insert_all(
        &self,
        claims: &[Claim],
        indexes: Vec<usize>,
        expires_at: i64,
    ) -> Result<Vec<usize>, DynamoDbError> {
        let requests: Vec<_> = indexes
            .chunks(INSERTS_PER_REQUEST)
            .map(|chunk| self.insert_batch(claims, chunk.to_vec(), expires_at))
            .collect();
        stream::iter(requests).buffer_unordered(CONCURRENT_REQUESTS).try_concat().await
    }

    /// A statement that failed with an unknown result is sent again. If it had taken effect, the answer is then that
    /// the id is occupied, by ourselves.
    async fn insert_batch(
        &self,
        claims: &[Claim],
        mut indexes: Vec<usize>,
        expires_at: i64,
    ) -> Result<Vec<usize>, DynamoDbError> {
        let mut occupied = Vec::new();
        let mut rounds = Rounds::new();
        loop {
            let statements = indexes.iter().map(|&index| self.insert_statement(&claims[index], expires_at));
            let statements = statements.collect::<Result<Vec<_>, _>>()?;
            let request = self.dynamodb.client().batch_execute_statement().set_statements(Some(statements));
            let answer = request.send().await.map_err(|error| DynamoDbError::of_sdk(&self.table, error))?;
            let answers = answer.responses();
            if answers.len() != indexes.len() {
                return Err(DynamoDbError::Incomplete {
                    table: self.table.clone(),
                    statements: indexes.len(),
                    answers: answers.len(),
                });
            }
            let mut failed = Vec::new();
            let mut failure: Option<DynamoDbError> = None;
            for (&index, error) in indexes.iter().zip(answers.iter().map(|answer| answer.error())) {
                match error {
                    None => {}
                    Some(error) if error.code() == Some(&BatchStatementErrorCodeEnum::DuplicateItem) => {
                        occupied.push(index);
                    }
                    Some(error) => {
                        failed.push(index);
                        // An error that another round cannot fix fails the whole call.
                        if failure.as_ref().is_none_or(DynamoDbError::may_pass_soon) {
                            failure = Some(DynamoDbError::of_statement(&self.table, error));
                        }
                    }
                }
            }
            let Some(failure) = failure else { return Ok(occupied) };
            rounds.wait_after(failure).await?;
            indexes = failed;
        }
    }

    fn insert_statement(&self, claim: &Claim, expires_at: i64) -> Result<BatchStatementRequest, DynamoDbError> {
        BatchStatementRequest::builder()
            .statement(&self.insert)
            .parameters(text(claim.key.to_string()))
            .parameters(text(claim.origin.to_string()))
            .parameters(hash(claim))
            .parameters(number(expires_at))
            .build()
            .map_err(|error| DynamoDbError::unbuildable(&self.table, error))
    }

    /// The present holders of the ids of the claims at `indexes`, by key. Free ids are not included.
    async fn read_all(&self, claims: &[Claim], indexes: &[usize]) -> Result<HashMap<String, Held>, DynamoDbError> {
        let requests: Vec<_> = indexes
            .chunks(KEYS_PER_REQUEST)
            .map(|chunk| self.read_batch(chunk.iter().map(|&index| claims[index].key.to_string()).collect()))
            .collect();
        stream::iter(requests).buffer_unordered(CONCURRENT_REQUESTS).try_concat().await.map(HashMap::from_iter)
    }

    async fn read_batch(&self, keys: Vec<String>) -> Result<Vec<(String, Held)>, DynamoDbError> {
        let keys = keys.into_iter().map(|key| Item::from([(PARTITION_KEY.to_owned(), text(key))])).collect();
        // An eventually consistent read may miss the claim that has just refused our insert.
        let mut wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .build()
            .map_err(|error| DynamoDbError::unbuildable(&self.table, error))?;
        let mut found = Vec::new();
        let mut rounds = Rounds::new();
        loop {
            let request = self.dynamodb.client().batch_get_item().request_items(&self.table, wanted);
            let mut answer = request.send().await.map_err(|error| DynamoDbError::of_sdk(&self.table, error))?;
            let items = answer.responses.as_mut().and_then(|tables| tables.remove(&self.table));
            for item in items.unwrap_or_default() {
                found.push(self.held(&item)?);
            }
            let unprocessed = answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.table));
            let Some(unprocessed) = unprocessed else { return Ok(found) };
            rounds.wait_after(DynamoDbError::Unprocessed { table: self.table.clone() }).await?;
            wanted = unprocessed;
        }
    }

    fn held(&self, item: &Item) -> Result<(String, Held), DynamoDbError> {
        let item = Attributes { table: &self.table, item };
        let held = Held {
            owner: item.parsed(OWNER)?,
            payload_hash: PayloadHash(item.hash(PAYLOAD_HASH)?),
            expires_at: item.number(EXPIRES_AT)?,
        };
        Ok((item.text(PARTITION_KEY)?.to_owned(), held))
    }

    /// Takes over expired claims; returns the indexes of those that were changed or removed in the meantime.
    async fn take_over_all(
        &self,
        claims: &[Claim],
        expired: &[(usize, &Held)],
        expires_at: i64,
    ) -> Result<Vec<usize>, DynamoDbError> {
        let requests: Vec<_> = expired
            .iter()
            .map(|&(index, held)| async move {
                let taken = self.take_over(&claims[index], held, expires_at).await?;
                Ok(if taken { None } else { Some(index) })
            })
            .collect();
        let lost = stream::iter(requests).buffer_unordered(CONCURRENT_REQUESTS).try_collect::<Vec<_>>().await?;
        Ok(lost.into_iter().flatten().collect())
    }

    async fn take_over(&self, claim: &Claim, held: &Held, expires_at: i64) -> Result<bool, DynamoDbError> {
        let request = self
            .dynamodb
            .client()
            .put_item()
            .table_name(&self.table)
            .item(PARTITION_KEY, text(claim.key.to_string()))
            .item(OWNER, text(claim.origin.to_string()))
            .item(PAYLOAD_HASH, hash(claim))
            .item(EXPIRES_AT, number(expires_at))
            .condition_expression("#owner = :owner AND #expires_at = :expires_at")
            .expression_attribute_names("#owner", OWNER)
            .expression_attribute_names("#expires_at", EXPIRES_AT)
            .expression_attribute_values(":owner", text(held.owner.to_string()))
            .expression_attribute_values(":expires_at", number(held.expires_at));
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(DynamoDbError::of_sdk(&self.table, error)),
        }
    }
}

/// The end of the window in whole seconds, rounded up: a claim may hold a moment longer, never shorter.
fn window_end(now: Timestamp, ttl: Duration) -> i64 {
    now.plus(ttl).plus(Duration::from_millis(999)).as_secs()
}

fn hash(claim: &Claim) -> AttributeValue {
    AttributeValue::B(Blob::new(claim.payload_hash.0))
}

#[async_trait]
impl ClaimStore for DynamoClaims {
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError> {
        self.claim_all(claims, now).await.map_err(|error| error.while_doing("claiming event ids"))
    }
}

impl DynamoClaims {
    async fn read(&self, key: &EventKey) -> Result<Option<HeldClaim>, DynamoDbError> {
        let found = self.read_batch(vec![key.to_string()]).await?;
        Ok(found.into_iter().next().map(|(_, Held { owner, payload_hash, expires_at })| HeldClaim {
            owner,
            payload_hash,
            expires_at: Timestamp::from_millis(expires_at.saturating_mul(1000)),
        }))
    }
}

#[async_trait]
impl HeldClaims for DynamoClaims {
    async fn find(&self, key: &EventKey) -> Result<Option<HeldClaim>, DependencyError> {
        self.read(key).await.map_err(|error| error.while_doing("reading a claim"))
    }
}

#[cfg(test)]
mod tests {
    use event::{EventId, TenantId};

    use super::*;

    fn claim(offset: i64, payload: &str) -> Claim {
        Claim {
            key: EventKey { tenant: TenantId::new("acme").unwrap(), id: EventId::new("a").unwrap() },
            origin: Origin::new("raw-events", 0, offset),
            payload_hash: PayloadHash::of(payload.as_bytes()),
        }
    }

    #[test]
    fn judges_by_expiry_then_owner_then_payload() {
        let now = Timestamp::from_millis(10_500);
        let held = Held { owner: claim(1, "").origin, payload_hash: PayloadHash::of(b"a"), expires_at: 11 };
        assert_eq!(judge(&claim(1, "b"), Some(&held), now), Finding::Verdict(ClaimVerdict::Own));
        let taken = |same_payload| Finding::Verdict(ClaimVerdict::Taken { owner: held.owner.clone(), same_payload });
        assert_eq!(judge(&claim(2, "a"), Some(&held), now), taken(true));
        assert_eq!(judge(&claim(2, "b"), Some(&held), now), taken(false));
        assert_eq!(judge(&claim(2, "a"), None, now), Finding::Gone);

        let expired = Held { expires_at: 10, ..held.clone() };
        assert_eq!(judge(&claim(2, "a"), Some(&expired), now), Finding::Expired(&expired));
        assert_eq!(
            judge(&claim(1, "a"), Some(&expired), now),
            Finding::Expired(&expired),
            "an expired claim is expired also for its owner"
        );
    }

    #[test]
    fn windows_end_on_the_next_whole_second() {
        let second = Duration::from_secs(1);
        assert_eq!(window_end(Timestamp::from_millis(5_000), second), 6);
        assert_eq!(window_end(Timestamp::from_millis(5_001), second), 7);
        assert_eq!(window_end(Timestamp::from_millis(5_999), second), 7);
    }
}
