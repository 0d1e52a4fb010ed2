//! Claims, for deployments that do not use DynamoDB because of its cost.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use event::{EventKey, Origin, PayloadHash, RecordDigest, Timestamp};
use pipeline::DependencyError;
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict, HeldClaim, HeldClaims};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::{Corrupt, digest_from_row};
use crate::statement::{Parameters, parameter};
use crate::store;
use crate::text::storable;

/// How often claims are read again that another transaction made while our statement ran. Once is enough: by then they
/// are committed, unless they expire in the meantime.
const ATTEMPTS: u32 = 5;

/// Takes free or expired claims, and returns the owners of the others: normally there are none, and nothing is read or
/// sent back. In the order of the keys, so that two batches with the same keys cannot deadlock. `owner_topic` is NULL
/// for a claim that another transaction made or took over after the statement began. NOT IN becomes a hash table
/// whatever the planner thinks of the number of rows, and nothing in it is NULL. The probe has no condition on the
/// expiry, or the planner could use the index of expiries instead of the key's.
const CLAIM: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::bytea[],
                             $10::bytea[])
            AS w (ordinal, tenant, event_id, owner_topic, owner_partition, owner_offset, payload_hash, owner_digest)
    ), made AS (
        INSERT INTO claims AS c (tenant, event_id, owner_topic, owner_partition, owner_offset, payload_hash,
                                 owner_digest, expires_at)
        SELECT tenant, event_id, owner_topic, owner_partition, owner_offset, payload_hash, owner_digest, $9 FROM wanted
        ON CONFLICT (tenant, event_id) DO UPDATE SET
            owner_topic = excluded.owner_topic,
            owner_partition = excluded.owner_partition,
            owner_offset = excluded.owner_offset,
            payload_hash = excluded.payload_hash,
            owner_digest = excluded.owner_digest,
            expires_at = excluded.expires_at
        WHERE c.expires_at <= $8
        RETURNING c.tenant, c.event_id
    )
    SELECT w.ordinal, CASE WHEN c.expires_at > $8 THEN c.owner_topic END AS owner_topic, c.owner_partition,
           c.owner_offset, c.owner_digest, c.payload_hash = w.payload_hash AS same_payload
    FROM wanted w
    LEFT JOIN LATERAL (
        SELECT * FROM claims c WHERE c.tenant = w.tenant AND c.event_id = w.event_id LIMIT 1
    ) c ON true
    WHERE (w.tenant, w.event_id) NOT IN (SELECT made.tenant, made.event_id FROM made)";

/// [`ClaimStore`] on Postgres: one statement, one round trip, one commit per batch.
#[derive(Clone, Debug)]
pub struct PostgresClaims {
    database: Database,
    ttl: Duration,
}

impl PostgresClaims {
    pub fn new(database: Database, ttl: Duration) -> Self {
        PostgresClaims { database, ttl }
    }

    async fn claim_all(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, PostgresError> {
        let mut verdicts = vec![ClaimVerdict::New; claims.len()];
        let mut open: Vec<usize> = (0..claims.len()).collect();
        open.sort_by(|a, b| claims[*a].key.cmp(&claims[*b].key));
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                return Ok(verdicts);
            }
            let client = self.database.connection().await?;
            let result = self.database.within(self.ask(&client, claims, &open, now)).await;
            let mut undetermined = Vec::new();
            for (index, verdict) in self.database.give_back(client, result)? {
                match verdict {
                    Some(verdict) => verdicts[index] = verdict,
                    None => undetermined.push(index),
                }
            }
            // The answer has them in the order of the question.
            open = undetermined;
        }
        if open.is_empty() { Ok(verdicts) } else { Err(PostgresError::Contention) }
    }

    /// Makes the claims at `indexes`, and returns the index and the verdict of those that were not free. The verdict is
    /// `None` if another transaction has just made the claim, so that its owner is not known yet.
    async fn ask(
        &self,
        client: &ClientWrapper,
        claims: &[Claim],
        indexes: &[usize],
        now: Timestamp,
    ) -> Result<Vec<(usize, Option<ClaimVerdict>)>, PostgresError> {
        let wanted = || indexes.iter().map(|index| &claims[*index]);
        let topics: Vec<_> = wanted().map(|claim| storable(&claim.origin.topic)).collect();
        let ordinal: Vec<i32> = (0..).take(indexes.len()).collect();
        let tenant: Vec<&str> = wanted().map(|claim| claim.key.tenant.as_str()).collect();
        let event_id: Vec<&str> = wanted().map(|claim| claim.key.id.as_str()).collect();
        let topic: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        let partition: Vec<i32> = wanted().map(|claim| claim.origin.partition).collect();
        let offset: Vec<i64> = wanted().map(|claim| claim.origin.offset).collect();
        let payload_hash: Vec<&[u8]> = wanted().map(|claim| claim.payload_hash.0.as_slice()).collect();
        let digest: Vec<Option<&[u8]>> =
            wanted().map(|claim| claim.origin.digest.as_ref().map(RecordDigest::as_bytes)).collect();
        let (now, expires_at) = (now.to_utc(), now.plus(self.ttl).to_utc());
        let parameters: Parameters<'_, 10> = [
            parameter(&ordinal),
            parameter(&tenant),
            parameter(&event_id),
            parameter(&topic),
            parameter(&partition),
            parameter(&offset),
            parameter(&payload_hash),
            parameter(&now),
            parameter(&expires_at),
            parameter(&digest),
        ];
        let [claim] = self.database.ready(client, [CLAIM]).await?;
        let rows = claim.query(client, &parameters).await?;
        let mut held = Vec::with_capacity(rows.len());
        for row in &rows {
            let at = store::ordinal(row)?;
            let (Some(index), Some(topic)) = (indexes.get(at), topic.get(at)) else {
                return Err(PostgresError::Row { table: "the answer", column: "ordinal" });
            };
            held.push((*index, verdict(row, &claims[*index], topic)?));
        }
        Ok(held)
    }
}

/// What a row of the answer says about a claim; `topic` is the storable form of its topic.
fn verdict(row: &Row, claim: &Claim, topic: &str) -> Result<Option<ClaimVerdict>, PostgresError> {
    let Some(owner_topic) = row.try_get::<_, Option<&str>>("owner_topic")? else { return Ok(None) };
    let owner = Origin::new(owner_topic, row.try_get("owner_partition")?, row.try_get("owner_offset")?)
        .with_digest(digest_from_row(row, "claims", "owner_digest")?);
    if owner.is_same(&Origin { topic: topic.into(), ..claim.origin.clone() }) {
        return Ok(Some(ClaimVerdict::Own));
    }
    Ok(Some(ClaimVerdict::Taken { owner, same_payload: row.try_get("same_payload")? }))
}

#[async_trait]
impl ClaimStore for PostgresClaims {
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError> {
        self.claim_all(claims, now).await.map_err(|error| error.into_dependency("claiming event ids"))
    }
}

const FIND: &str = "
    SELECT owner_topic, owner_partition, owner_offset, owner_digest, payload_hash, expires_at
    FROM claims WHERE tenant = $1 AND event_id = $2";

impl PostgresClaims {
    async fn read(&self, key: &EventKey) -> Result<Option<HeldClaim>, PostgresError> {
        let (tenant, id) = (key.tenant.as_str(), key.id.as_str());
        let rows = self.database.query(FIND, &[parameter(&tenant), parameter(&id)]).await?;
        rows.first().map(held).transpose()
    }
}

fn held(row: &Row) -> Result<HeldClaim, PostgresError> {
    let topic: &str = row.try_get("owner_topic")?;
    let hash: &[u8] = row.try_get("payload_hash")?;
    let owner = Origin::new(topic, row.try_get("owner_partition")?, row.try_get("owner_offset")?);
    Ok(HeldClaim {
        owner: owner.with_digest(digest_from_row(row, "claims", "owner_digest")?),
        payload_hash: PayloadHash(hash.try_into().map_err(|_| Corrupt("claims").column("payload_hash"))?),
        expires_at: row.try_get::<_, OffsetDateTime>("expires_at")?.into(),
    })
}

#[async_trait]
impl HeldClaims for PostgresClaims {
    async fn find(&self, key: &EventKey) -> Result<Option<HeldClaim>, DependencyError> {
        self.read(key).await.map_err(|error| error.into_dependency("reading a claim"))
    }
}
