//! Endpoints of webhooks, and the deliveries that have failed: see the migration `V12__webhooks.sql`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use event::{TenantId, Timestamp};
use pipeline::{DependencyError, Outcome};
use time::OffsetDateTime;
use tokio_postgres::Row;
use webhooks::{
    Backlog, DeadDelivery, DueDelivery, EndpointId, Failure, MAX_ENDPOINTS, WebhookDeliveries, WebhookDelivery,
    WebhookEndpoint, WebhookEndpoints,
};

use crate::database::Database;
use crate::error::PostgresError;
use crate::ledger::Corrupt;
use crate::statement::parameter;
use crate::text::storable;

const LIST: &str = "SELECT * FROM webhook_endpoints WHERE $1::text IS NULL OR tenant = $1 ORDER BY id";
const GET: &str = "SELECT * FROM webhook_endpoints WHERE id = $1";

/// Two calls at once may each find room for one more; the limit is against mistakes, so that is good enough.
const PUT: &str = "
    INSERT INTO webhook_endpoints AS w (
        id, tenant, url, outcomes, event_types, secret_version, previous_until, paused, created_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
    WHERE (SELECT count(*) FROM webhook_endpoints WHERE tenant = $2 AND id <> $1) < $10
    ON CONFLICT (id) DO UPDATE SET
        url = excluded.url, outcomes = excluded.outcomes, event_types = excluded.event_types,
        secret_version = excluded.secret_version, previous_until = excluded.previous_until, paused = excluded.paused";

const PAUSE: &str = "UPDATE webhook_endpoints SET paused = coalesce(paused, $2) WHERE id = $1";
const DELETE: &str = "DELETE FROM webhook_endpoints WHERE id = $1";

const KEEP: &str = "
    INSERT INTO webhook_deliveries (endpoint, message, body, attempts, due_at, failed_at, error)
    SELECT w.endpoint, w.message, w.body, w.attempts, w.due_at, $7, w.error
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int4[], $5::timestamptz[], $6::text[])
        AS w (endpoint, message, body, attempts, due_at, error)
    JOIN webhook_endpoints e ON e.id = w.endpoint
    ON CONFLICT DO NOTHING";

/// Locked rows are being taken by somebody else.
const TAKE: &str = "
    WITH due AS (
        SELECT d.endpoint, d.message, d.due_at
        FROM webhook_endpoints e
        CROSS JOIN LATERAL (
            SELECT endpoint, message, due_at FROM webhook_deliveries
            WHERE endpoint = e.id AND due_at <= $1
            ORDER BY due_at LIMIT $3
            FOR UPDATE SKIP LOCKED
        ) d
        WHERE e.paused IS NULL
        ORDER BY d.due_at
        LIMIT $4
    )
    UPDATE webhook_deliveries d SET due_at = $2
    FROM due WHERE d.endpoint = due.endpoint AND d.message = due.message
    RETURNING d.endpoint, d.message, d.body, d.attempts, due.due_at";

const SETTLE: &str = "
    WITH delivered AS (
        DELETE FROM webhook_deliveries d USING unnest($1::text[], $2::text[]) AS w (endpoint, message)
        WHERE d.endpoint = w.endpoint AND d.message = w.message
    )
    UPDATE webhook_deliveries d
    SET attempts = w.attempts, due_at = w.due_at, error = w.error, failed_at = $8
    FROM unnest($3::text[], $4::text[], $5::int4[], $6::timestamptz[], $7::text[])
        AS w (endpoint, message, attempts, due_at, error)
    WHERE d.endpoint = w.endpoint AND d.message = w.message";

const BACKLOG: &str = "
    SELECT d.endpoint, count(*) AS waiting, min(d.due_at) FILTER (WHERE e.paused IS NULL) AS first_due
    FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint
    WHERE d.due_at IS NOT NULL
    GROUP BY d.endpoint ORDER BY d.endpoint";

const DEAD: &str = "
    SELECT message, octet_length(body) AS body_bytes, attempts, error, failed_at FROM webhook_deliveries
    WHERE endpoint = $1 AND due_at IS NULL ORDER BY failed_at DESC, message LIMIT $2";

const REVIVE: &str = "
    UPDATE webhook_deliveries SET due_at = $3, attempts = 0
    WHERE endpoint = $1 AND due_at IS NULL AND ($2::text IS NULL OR message = $2)";

const FORGET: &str = "DELETE FROM webhook_deliveries WHERE due_at IS NULL AND failed_at < $1";

/// [`WebhookEndpoints`] and [`WebhookDeliveries`] on Postgres.
#[derive(Clone, Debug)]
pub struct PostgresWebhooks {
    database: Database,
}

impl PostgresWebhooks {
    pub fn new(database: Database) -> Self {
        PostgresWebhooks { database }
    }

    async fn listed(&self, tenant: Option<&TenantId>) -> Result<Vec<WebhookEndpoint>, PostgresError> {
        let tenant = tenant.map(|tenant| tenant.as_str().to_owned());
        let rows = self.database.query(LIST, &[parameter(&tenant)]).await?;
        rows.iter().map(endpoint_from_row).collect()
    }

    async fn found(&self, id: &EndpointId) -> Result<Option<WebhookEndpoint>, PostgresError> {
        let rows = self.database.query(GET, &[parameter(&id.as_str())]).await?;
        rows.first().map(endpoint_from_row).transpose()
    }

    async fn written(&self, endpoint: &WebhookEndpoint) -> Result<bool, PostgresError> {
        let WebhookEndpoint {
            id,
            tenant,
            target,
            outcomes,
            event_types,
            secret_version,
            previous_until,
            paused,
            created_at,
        } = endpoint;
        let (id, tenant, url) = (id.as_str(), tenant.as_str(), target.as_str());
        let outcomes: Vec<&str> = outcomes.iter().map(|outcome| outcome.as_str()).collect();
        let event_types: Vec<&str> = event_types.iter().map(String::as_str).collect();
        let secret_version = small(*secret_version);
        let previous_until = previous_until.map(Timestamp::to_utc);
        let paused = paused.as_deref().map(|why| storable(why).into_owned());
        let (created_at, most) = (created_at.to_utc(), i64::from(MAX_ENDPOINTS));
        let parameters = [
            parameter(&id),
            parameter(&tenant),
            parameter(&url),
            parameter(&outcomes),
            parameter(&event_types),
            parameter(&secret_version),
            parameter(&previous_until),
            parameter(&paused),
            parameter(&created_at),
            parameter(&most),
        ];
        Ok(self.database.execute(PUT, &parameters).await? > 0)
    }

    async fn taken(
        &self,
        now: Timestamp,
        until: Timestamp,
        of_each: u32,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, PostgresError> {
        let (now, until) = (now.to_utc(), until.to_utc());
        let (of_each, limit) = (i64::from(of_each), i64::from(limit));
        let parameters = [parameter(&now), parameter(&until), parameter(&of_each), parameter(&limit)];
        let rows = self.database.query(TAKE, &parameters).await?;
        let mut due = rows.iter().map(due_from_row).collect::<Result<Vec<_>, _>>()?;
        // An UPDATE returns its rows in any order.
        due.sort_by(|a, b| a.due_at.cmp(&b.due_at).then_with(|| a.delivery.message_id.cmp(&b.delivery.message_id)));
        Ok(due)
    }

    async fn waiting(&self) -> Result<Backlog, PostgresError> {
        let rows = self.database.query(BACKLOG, &[]).await?;
        let mut backlog = Backlog::default();
        for row in &rows {
            let waiting: i64 = row.try_get("waiting")?;
            backlog.waiting.push((endpoint_id(row, "endpoint")?, u64::try_from(waiting).unwrap_or(0)));
            let first: Option<OffsetDateTime> = row.try_get("first_due")?;
            let first = first.map(Timestamp::from);
            backlog.first_due = [backlog.first_due, first].into_iter().flatten().min();
        }
        Ok(backlog)
    }

    async fn given_up(&self, endpoint: &EndpointId, limit: u32) -> Result<Vec<DeadDelivery>, PostgresError> {
        let (endpoint, limit) = (endpoint.as_str(), i64::from(limit));
        let rows = self.database.query(DEAD, &[parameter(&endpoint), parameter(&limit)]).await?;
        let dead = |row: &Row| {
            let failed_at: OffsetDateTime = row.try_get("failed_at")?;
            Ok(DeadDelivery {
                message_id: row.try_get("message")?,
                attempts: count(row, "attempts")?,
                error: row.try_get("error")?,
                failed_at: Timestamp::from(failed_at),
                body_bytes: count(row, "body_bytes")?.into(),
            })
        };
        rows.iter().map(dead).collect()
    }
}

/// What failed, in columns.
struct Failures<'a> {
    endpoint: Vec<&'a str>,
    message: Vec<&'a str>,
    attempts: Vec<i32>,
    due_at: Vec<Option<OffsetDateTime>>,
    error: Vec<String>,
}

impl<'a> Failures<'a> {
    fn of(failed: &'a [(WebhookDelivery, Failure)]) -> Self {
        let (endpoint, message) = keys(failed.iter().map(|(delivery, _)| delivery));
        let failures = || failed.iter().map(|(_, failure)| failure);
        Failures {
            endpoint,
            message,
            attempts: failures().map(|failure| small(failure.attempts)).collect(),
            due_at: failures().map(|failure| failure.due_at.map(Timestamp::to_utc)).collect(),
            error: failures().map(|failure| storable(&failure.error).into_owned()).collect(),
        }
    }
}

fn keys<'a>(deliveries: impl Iterator<Item = &'a WebhookDelivery>) -> (Vec<&'a str>, Vec<&'a str>) {
    deliveries.map(|delivery| (delivery.endpoint.as_str(), delivery.message_id.as_str())).unzip()
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn count(row: &Row, column: &'static str) -> Result<u32, PostgresError> {
    let number: i32 = row.try_get(column)?;
    u32::try_from(number).map_err(|_| Corrupt("webhook_deliveries").column(column))
}

fn endpoint_id(row: &Row, column: &'static str) -> Result<EndpointId, PostgresError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| Corrupt("webhook_endpoints").column(column))
}

fn endpoint_from_row(row: &Row) -> Result<WebhookEndpoint, PostgresError> {
    let corrupt = |column| Corrupt("webhook_endpoints").column(column);
    let outcomes: Vec<&str> = row.try_get("outcomes")?;
    let outcomes: Result<BTreeSet<Outcome>, _> = outcomes.into_iter().map(str::parse).collect();
    let event_types: Vec<String> = row.try_get("event_types")?;
    let version: i32 = row.try_get("secret_version")?;
    let previous_until: Option<OffsetDateTime> = row.try_get("previous_until")?;
    let created_at: OffsetDateTime = row.try_get("created_at")?;
    Ok(WebhookEndpoint {
        id: endpoint_id(row, "id")?,
        tenant: TenantId::new(row.try_get("tenant")?).map_err(|_| corrupt("tenant"))?,
        target: row.try_get::<_, &str>("url")?.parse().map_err(|_| corrupt("url"))?,
        outcomes: outcomes.map_err(|_| corrupt("outcomes"))?,
        event_types: event_types.into_iter().collect(),
        secret_version: u32::try_from(version).map_err(|_| corrupt("secret_version"))?,
        previous_until: previous_until.map(Timestamp::from),
        paused: row.try_get("paused")?,
        created_at: Timestamp::from(created_at),
    })
}

fn due_from_row(row: &Row) -> Result<DueDelivery, PostgresError> {
    let body: Vec<u8> = row.try_get("body")?;
    let due_at: OffsetDateTime = row.try_get("due_at")?;
    let delivery = WebhookDelivery {
        endpoint: endpoint_id(row, "endpoint")?,
        message_id: row.try_get("message")?,
        body: Bytes::from(body),
    };
    Ok(DueDelivery { delivery, attempts: count(row, "attempts")?, due_at: Timestamp::from(due_at) })
}

#[async_trait]
impl WebhookEndpoints for PostgresWebhooks {
    async fn list(&self, tenant: Option<&TenantId>) -> Result<Vec<WebhookEndpoint>, DependencyError> {
        self.listed(tenant).await.map_err(|error| error.into_dependency("listing webhooks"))
    }

    async fn get(&self, id: &EndpointId) -> Result<Option<WebhookEndpoint>, DependencyError> {
        self.found(id).await.map_err(|error| error.into_dependency("reading a webhook"))
    }

    async fn put(&self, endpoint: &WebhookEndpoint) -> Result<bool, DependencyError> {
        self.written(endpoint).await.map_err(|error| error.into_dependency("writing a webhook"))
    }

    async fn pause(&self, id: &EndpointId, why: &str) -> Result<(), DependencyError> {
        let why = storable(why).into_owned();
        let paused = self.database.execute(PAUSE, &[parameter(&id.as_str()), parameter(&why)]).await;
        paused.map(drop).map_err(|error| error.into_dependency("pausing a webhook"))
    }

    async fn delete(&self, id: &EndpointId) -> Result<bool, DependencyError> {
        let deleted = self.database.execute(DELETE, &[parameter(&id.as_str())]).await;
        deleted.map(|rows| rows > 0).map_err(|error| error.into_dependency("deleting a webhook"))
    }
}

#[async_trait]
impl WebhookDeliveries for PostgresWebhooks {
    async fn keep(&self, failed: &[(WebhookDelivery, Failure)], now: Timestamp) -> Result<(), DependencyError> {
        if failed.is_empty() {
            return Ok(());
        }
        let Failures { endpoint, message, attempts, due_at, error } = Failures::of(failed);
        let body: Vec<&[u8]> = failed.iter().map(|(delivery, _)| delivery.body.as_ref()).collect();
        let now = now.to_utc();
        let parameters = [
            parameter(&endpoint),
            parameter(&message),
            parameter(&body),
            parameter(&attempts),
            parameter(&due_at),
            parameter(&error),
            parameter(&now),
        ];
        let kept = self.database.execute(KEEP, &parameters).await;
        kept.map(drop).map_err(|error| error.into_dependency("keeping deliveries"))
    }

    async fn take(
        &self,
        now: Timestamp,
        until: Timestamp,
        of_each: u32,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, DependencyError> {
        let taken = self.taken(now, until, of_each, limit).await;
        taken.map_err(|error| error.into_dependency("taking deliveries"))
    }

    async fn settle(
        &self,
        delivered: &[WebhookDelivery],
        failed: &[(WebhookDelivery, Failure)],
        now: Timestamp,
    ) -> Result<(), DependencyError> {
        let (done_endpoint, done_message) = keys(delivered.iter());
        let Failures { endpoint, message, attempts, due_at, error } = Failures::of(failed);
        let now = now.to_utc();
        let parameters = [
            parameter(&done_endpoint),
            parameter(&done_message),
            parameter(&endpoint),
            parameter(&message),
            parameter(&attempts),
            parameter(&due_at),
            parameter(&error),
            parameter(&now),
        ];
        let settled = self.database.execute(SETTLE, &parameters).await;
        settled.map(drop).map_err(|error| error.into_dependency("settling deliveries"))
    }

    async fn backlog(&self) -> Result<Backlog, DependencyError> {
        self.waiting().await.map_err(|error| error.into_dependency("counting deliveries"))
    }

    async fn dead(&self, endpoint: &EndpointId, limit: u32) -> Result<Vec<DeadDelivery>, DependencyError> {
        self.given_up(endpoint, limit).await.map_err(|error| error.into_dependency("listing dead deliveries"))
    }

    async fn revive(
        &self,
        endpoint: &EndpointId,
        message_id: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, DependencyError> {
        let (endpoint, message_id, now) = (endpoint.as_str(), message_id.map(str::to_owned), now.to_utc());
        let parameters = [parameter(&endpoint), parameter(&message_id), parameter(&now)];
        let revived = self.database.execute(REVIVE, &parameters).await;
        revived.map_err(|error| error.into_dependency("reviving dead deliveries"))
    }

    async fn forget(&self, before: Timestamp) -> Result<u64, DependencyError> {
        let forgotten = self.database.execute(FORGET, &[parameter(&before.to_utc())]).await;
        forgotten.map_err(|error| error.into_dependency("forgetting dead deliveries"))
    }
}
