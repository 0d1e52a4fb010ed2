//! The adapter on a real server: the one of `DATABASE_URL`, else a temporary one. Each test has its own database. With
//! `DB_POOLER=transaction`, `DATABASE_URL` may be that of a PgBouncer before the server (pooler.sh).
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod access;
mod aggregates;
mod claims;
mod fingerprint;
mod history;
mod ledger;
mod lost_events;
mod partitions;
mod plans;
mod replay;
mod replica;
mod search;
mod stats;
mod store;
mod unscored;
mod verification;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Database, PostgresConfig, migrations};
use services::postgres::ThrowAwayPostgres;
use settings::{ProcessEnvironment, Settings, Variables as _};
use tokio::sync::OnceCell;

/// An empty database with the schema.
async fn database() -> Database {
    let database = empty_database().await;
    migrations::apply(&database).await.unwrap();
    database
}

async fn empty_database() -> Database {
    Database::connect(&config(&database_url().await)).await.unwrap()
}

fn config(url: &str) -> PostgresConfig {
    let pooler = ProcessEnvironment.get("DB_POOLER").unwrap_or_else(|| "none".to_owned());
    let variables = BTreeMap::from([("DATABASE_URL", url), ("DB_POOL_SIZE", "8"), ("DB_POOLER", &pooler)]);
    let mut settings = Settings::new(&variables);
    let config = PostgresConfig::from_settings(&mut settings);
    settings.build(config).unwrap()
}

async fn database_url() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Never dropped: the server ends when this process ends.
    static SERVER: OnceCell<ThrowAwayPostgres> = OnceCell::const_new();
    let name = format!("forebay_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    match ProcessEnvironment.get("DATABASE_URL") {
        Some(url) => {
            let server = Database::connect(&config(&url)).await.unwrap();
            server.connection().await.unwrap().batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
            let (base, query) = url.split_once('?').unwrap_or((&url, ""));
            let base = base.rsplit_once('/').unwrap().0;
            format!("{base}/{name}?{query}")
        }
        None => {
            let server = SERVER.get_or_init(async || ThrowAwayPostgres::start(None, None).await.unwrap()).await;
            server.create_database(&name).await.unwrap()
        }
    }
}

/// The first column of the first row.
async fn scalar<T: for<'a> tokio_postgres::types::FromSql<'a>>(database: &Database, query: &str) -> T {
    database.connection().await.unwrap().query_typed_one(query, &[]).await.unwrap().get(0)
}

/// As [`scalar`], without the limit of a statement: a busy machine may need minutes for what is asked of every time zone.
async fn unhurried<T: for<'a> tokio_postgres::types::FromSql<'a>>(database: &Database, query: &str) -> T {
    let mut client = database.connection().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("SET LOCAL statement_timeout = 0").await.unwrap();
    transaction.query_typed_one(query, &[]).await.unwrap().get(0)
}

async fn execute(database: &Database, statements: &str) {
    database.connection().await.unwrap().batch_execute(statements).await.unwrap();
}
