//! API keys, by their hash.

use std::collections::BTreeSet;

use async_trait::async_trait;
use event::{TenantId, Timestamp};
use pipeline::DependencyError;
use pipeline::ports::{ApiKey, ApiKeys, KeyHash, Scope};
use time::OffsetDateTime;
use tokio_postgres::Row;

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::parameter;
use crate::text::storable;

const FIND: &str = "SELECT * FROM api_keys WHERE hash = $1";

const LIST: &str = "SELECT * FROM api_keys ORDER BY tenant, name, hash";

const PUT: &str = "
    INSERT INTO api_keys AS k (hash, tenant, name, kind, scopes, rate_limit_per_min, burst, expires_at, revoked)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (hash) DO UPDATE SET
        tenant = excluded.tenant, name = excluded.name, kind = excluded.kind, scopes = excluded.scopes,
        rate_limit_per_min = excluded.rate_limit_per_min, burst = excluded.burst, expires_at = excluded.expires_at,
        revoked = excluded.revoked";

/// [`ApiKeys`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresApiKeys {
    database: Database,
}

impl PostgresApiKeys {
    pub fn new(database: Database) -> Self {
        PostgresApiKeys { database }
    }

    async fn find_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, PostgresError> {
        let hash = hash.0.as_slice();
        let rows = self.database.query(FIND, &[parameter(&hash)]).await?;
        rows.first().map(key_of).transpose()
    }

    async fn put_key(&self, key: &ApiKey) -> Result<(), PostgresError> {
        let scopes: Vec<String> = key.scopes.iter().map(Scope::to_string).collect();
        let name = storable(&key.name);
        let (hash, tenant, name, kind) = (key.hash.0.as_slice(), key.tenant.as_str(), name.as_ref(), key.kind.as_str());
        let (limit, burst) = (key.rate_limit_per_min.map(i64::from), key.burst.map(i64::from));
        let expires_at = key.expires_at.map(Timestamp::to_utc);
        let parameters = [
            parameter(&hash),
            parameter(&tenant),
            parameter(&name),
            parameter(&kind),
            parameter(&scopes),
            parameter(&limit),
            parameter(&burst),
            parameter(&expires_at),
            parameter(&key.revoked),
        ];
        self.database.execute(PUT, &parameters).await.map(drop)
    }

    async fn list_keys(&self) -> Result<Vec<ApiKey>, PostgresError> {
        self.database.query(LIST, &[]).await?.iter().map(key_of).collect()
    }
}

fn key_of(row: &Row) -> Result<ApiKey, PostgresError> {
    let corrupt = |column| Corrupt("api_keys").column(column);
    let hash: &[u8] = row.try_get("hash")?;
    let scopes: Vec<&str> = row.try_get("scopes")?;
    let scopes: Option<BTreeSet<Scope>> = scopes.into_iter().map(|scope| scope.parse().ok()).collect();
    let count = |column: &'static str| {
        let count: Option<i64> = row.try_get(column)?;
        count.map(|count| u32::try_from(count).map_err(|_| corrupt(column))).transpose()
    };
    Ok(ApiKey {
        hash: KeyHash(hash.try_into().map_err(|_| corrupt("hash"))?),
        tenant: TenantId::new(row.try_get("tenant")?).map_err(|_| corrupt("tenant"))?,
        name: row.try_get("name")?,
        kind: row.try_get::<_, &str>("kind")?.parse().map_err(|_| corrupt("kind"))?,
        scopes: scopes.ok_or_else(|| corrupt("scopes"))?,
        rate_limit_per_min: count("rate_limit_per_min")?,
        burst: count("burst")?,
        expires_at: row.try_get::<_, Option<OffsetDateTime>>("expires_at")?.map(Timestamp::from),
        revoked: row.try_get("revoked")?,
    })
}

#[async_trait]
impl ApiKeys for PostgresApiKeys {
    async fn find(&self, hash: &KeyHash) -> Result<Option<ApiKey>, DependencyError> {
        self.find_key(hash).await.map_err(|error| error.into_dependency("looking up an API key"))
    }

    async fn put(&self, key: &ApiKey) -> Result<(), DependencyError> {
        self.put_key(key).await.map_err(|error| error.into_dependency("writing an API key"))
    }

    async fn list(&self) -> Result<Vec<ApiKey>, DependencyError> {
        self.list_keys().await.map_err(|error| error.into_dependency("listing the API keys"))
    }
}
