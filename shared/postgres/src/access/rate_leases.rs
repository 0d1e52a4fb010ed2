//! Rate leases: one token bucket for each key, as the instant when it is full again.

use async_trait::async_trait;
use pipeline::DependencyError;
use pipeline::ports::{Grant, RateLeases, TokenRequest};
use pipeline::token_bucket::{self, FullAt, Taken};

use crate::database::Database;
use crate::error::PostgresError;
use crate::statement::parameter;
use crate::text::storable;

/// Writes the bucket if it is full (`$4`), or as it was seen (`$5`). Returns the bucket only if it was not written.
const SET: &str = "
    WITH written AS (
        INSERT INTO rate_buckets AS b (bucket, full_at, expires_at) VALUES ($1, $2, $3)
        ON CONFLICT (bucket) DO UPDATE SET full_at = excluded.full_at, expires_at = excluded.expires_at
        WHERE b.full_at <= $4 OR b.full_at = $5
        RETURNING 1
    )
    SELECT (SELECT full_at FROM rate_buckets WHERE bucket = $1) AS full_at WHERE NOT EXISTS (SELECT FROM written)";

/// Moves the bucket if it is between now (`$4`) and the latest instant (`$5`). Returns the bucket only if it was not moved.
const MOVE: &str = "
    WITH written AS (
        UPDATE rate_buckets SET full_at = full_at + $2, expires_at = $3
        WHERE bucket = $1 AND full_at > $4 AND full_at <= $5
        RETURNING 1
    )
    SELECT (SELECT full_at FROM rate_buckets WHERE bucket = $1) AS full_at WHERE NOT EXISTS (SELECT FROM written)";

/// [`RateLeases`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresRateLeases {
    database: Database,
}

impl PostgresRateLeases {
    pub fn new(database: Database) -> Self {
        PostgresRateLeases { database }
    }

    /// Writes the bucket as decided. `Some` is the bucket as it is, if the decision does not fit it.
    async fn write(
        &self,
        bucket: &str,
        request: &TokenRequest,
        seen: Option<FullAt>,
        taken: Taken,
    ) -> Result<Option<FullAt>, PostgresError> {
        let expires_at = token_bucket::kept_until(request).to_utc();
        let (sql, by, above, limit) = match taken {
            Taken::Refused { .. } => return Ok(None),
            // What was never seen equals nothing.
            Taken::Set { full_at, .. } => (SET, full_at, token_bucket::full_since(request), seen),
            Taken::Move { adding, latest, .. } => (MOVE, adding, token_bucket::micros(request.now), Some(latest)),
        };
        let bucket = storable(bucket);
        let bucket = bucket.as_ref();
        let parameters =
            [parameter(&bucket), parameter(&by), parameter(&expires_at), parameter(&above), parameter(&limit)];
        let rows = self.database.query(sql, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        // If the bucket is missing now, the next attempt finds a full one.
        Ok(Some(row.try_get::<_, Option<FullAt>>("full_at")?.unwrap_or(0)))
    }
}

#[async_trait]
impl RateLeases for PostgresRateLeases {
    async fn take(&self, bucket: &str, request: TokenRequest) -> Result<Grant, DependencyError> {
        let write = |seen, taken| self.write(bucket, &request, seen, taken);
        let granted = token_bucket::take_from_store(&request, write).await;
        granted.map_err(|error| error.into_dependency("taking rate tokens"))
    }
}
