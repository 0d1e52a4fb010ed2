//! Claims, for deployments that do not use DynamoDB because of its cost.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::ClientWrapper;
use event::{Origin, Timestamp};
use pipeline::DependencyError;
use pipeline::ports::{Claim, ClaimStore, ClaimVerdict};
use time::OffsetDateTime;

use crate::database::Database;
use crate::error::PostgresError;
use crate::text::storable;

/// How often claims are read again that another transaction made while our statement ran. Once is enough: by then they
/// are committed, unless they expire in the meantime.
const ATTEMPTS: u32 = 5;

/// Takes free or expired claims, and returns the owners of the others. In the order of the keys, so that two batches
/// with the same keys cannot deadlock. `owner_topic` is NULL for a claim that another transaction made or took over
/// after the statement began. The probe has no condition on the expiry, or the planner could use the index of expiries
/// instead of the key's.
const CLAIM: &str = "
    WITH wanted AS (
        SELECT * FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::int4[], $6::int8[], $7::bytea[])
            AS w (ordinal, tenant, event_id, owner_topic, owner_partition, owner_offset, payload_hash)
    ), made AS (
        INSERT INTO claims AS c (tenant, event_id, owner_topic, owner_partition, owner_offset, payload_hash, expires_at)
        SELECT tenant, event_id, owner_topic, owner_partition, owner_offset, payload_hash, $9 FROM wanted
        ON CONFLICT (tenant, event_id) DO UPDATE SET
            owner_topic = excluded.owner_topic,
            owner_partition = excluded.owner_partition,
            owner_offset = excluded.owner_offset,
            payload_hash = excluded.payload_hash,
            expires_at = excluded.expires_at
        WHERE c.expires_at <= $8
        RETURNING c.tenant, c.event_id
    )
    SELECT w.ordinal, made.tenant IS NOT NULL AS is_new,
           CASE WHEN c.expires_at > $8 THEN c.owner_topic END AS owner_topic, c.owner_partition, c.owner_offset,
           c.payload_hash = w.payload_hash AS same_payload
    FROM wanted w
    LEFT JOIN made ON made.tenant = w.tenant AND made.event_id = w.event_id
    LEFT JOIN LATERAL (
        SELECT * FROM claims c WHERE c.tenant = w.tenant AND c.event_id = w.event_id LIMIT 1
    ) c ON true";

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
        let mut verdicts: Vec<Option<ClaimVerdict>> = vec![None; claims.len()];
        let mut open: Vec<(usize, &Claim)> = claims.iter().enumerate().collect();
        open.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                break;
            }
            let client = self.database.connection().await?;
            let result = self.database.within(self.ask(&client, &open, now)).await;
            for (index, verdict) in Database::give_back(client, result)? {
                if let Some(slot) = verdicts.get_mut(index) {
                    *slot = Some(verdict);
                }
            }
            open.retain(|(index, _)| verdicts.get(*index).is_some_and(Option::is_none));
        }
        verdicts.into_iter().collect::<Option<_>>().ok_or(PostgresError::Contention)
    }

    /// Answers what is certain. A claim that another transaction has just made is not answered yet.
    async fn ask(
        &self,
        client: &ClientWrapper,
        claims: &[(usize, &Claim)],
        now: Timestamp,
    ) -> Result<Vec<(usize, ClaimVerdict)>, PostgresError> {
        let topics: Vec<_> = claims.iter().map(|(_, claim)| storable(&claim.origin.topic)).collect();
        let ordinal: Vec<i32> = (0..).take(claims.len()).collect();
        let tenant: Vec<&str> = claims.iter().map(|(_, claim)| claim.key.tenant.as_str()).collect();
        let event_id: Vec<&str> = claims.iter().map(|(_, claim)| claim.key.id.as_str()).collect();
        let topic: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
        let partition: Vec<i32> = claims.iter().map(|(_, claim)| claim.origin.partition).collect();
        let offset: Vec<i64> = claims.iter().map(|(_, claim)| claim.origin.offset).collect();
        let payload_hash: Vec<&[u8]> = claims.iter().map(|(_, claim)| claim.payload_hash.0.as_slice()).collect();
        let (now, expires_at): (OffsetDateTime, OffsetDateTime) = (now.to_utc(), now.plus(self.ttl).to_utc());
        let statement = client.prepare_cached(CLAIM).await?;
        let rows = client
            .query(
                &statement,
                &[&ordinal, &tenant, &event_id, &topic, &partition, &offset, &payload_hash, &now, &expires_at],
            )
            .await?;
        let mut verdicts = Vec::with_capacity(rows.len());
        for row in rows {
            let at = usize::try_from(row.try_get::<_, i32>("ordinal")?).unwrap_or(usize::MAX);
            let (Some((index, claim)), Some(topic)) = (claims.get(at), topic.get(at)) else { continue };
            let verdict = if row.try_get("is_new")? {
                ClaimVerdict::New
            } else if let Some(owner_topic) = row.try_get::<_, Option<&str>>("owner_topic")? {
                let (partition, offset) = (row.try_get("owner_partition")?, row.try_get("owner_offset")?);
                if owner_topic == *topic && partition == claim.origin.partition && offset == claim.origin.offset {
                    ClaimVerdict::Own
                } else {
                    let same_payload = row.try_get("same_payload")?;
                    ClaimVerdict::Taken { owner: Origin::new(owner_topic, partition, offset), same_payload }
                }
            } else {
                continue;
            };
            verdicts.push((*index, verdict));
        }
        Ok(verdicts)
    }
}

#[async_trait]
impl ClaimStore for PostgresClaims {
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<ClaimVerdict>, DependencyError> {
        self.claim_all(claims, now).await.map_err(|error| error.into_dependency("claiming event ids"))
    }
}
