//! Everything that query asks can be asked of a server that only answers queries.

use std::collections::BTreeMap;
use std::time::Duration;

use event::{EventId, EventKey, TenantId, Timestamp};
use pipeline::Position;
use pipeline::ports::{EventHistory as _, EventSearch as _, EventStore as _};
use postgres::{
    Database, PostgresConfig, PostgresEventHistory, PostgresEventSearch, PostgresEventStore, PostgresStatistics,
    migrations,
};
use services::postgres::ThrowAwayPostgres;
use settings::Settings;
use statistics::{ReportRequest, SeriesInterval, Statistics as _, Subset, quarter_of};
use testkit::contracts::store::DEDUP_WINDOW;
use testkit::events::{event, stored, valid};

use super::config;
use super::search::request;

#[tokio::test]
async fn a_replica_answers_timelines_searches_and_statistics() {
    let primary = ThrowAwayPostgres::start(None, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let standby = primary.start_standby(&folder.path().join("standby"), primary.port()).await.unwrap();
    primary.commit_on_standby_too().await.unwrap();
    let url = standby.url();
    let variables = BTreeMap::from([("DATABASE_READ_URL", url.as_str())]);
    let mut settings = Settings::new(&variables);
    let replica = PostgresConfig::replica_from_settings(&mut settings, Some(&config(&primary.url()))).unwrap();
    let (database, replica) = (Database::connect(&config(&primary.url())).await.unwrap(), Database::connect(&replica));
    migrations::apply(&database).await.unwrap();
    let replica = replica.await.unwrap();

    let tenant = TenantId::new("acme").unwrap();
    let noon = Timestamp::EPOCH.plus(Duration::from_secs(12 * 3600));
    let record = stored(Position::new("raw-events", 0, 0), event(&tenant, "a", "{}", noon), valid(None));
    PostgresEventStore::new(database, DEDUP_WINDOW).record(&[record], noon).await.unwrap();

    // What is on the standby's disk need not be seen yet.
    let key = EventKey { tenant: tenant.clone(), id: EventId::new("a").unwrap() };
    let history = PostgresEventHistory::new(replica.clone());
    let patience = async {
        while history.look_up(&key, &[]).await.unwrap().is_unknown() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), patience).await.unwrap();
    let page = PostgresEventSearch::new(replica.clone()).search(&request()).await.unwrap().unwrap();
    assert_eq!(page.events[0].place.id, key.id);
    let part = Subset { tenant, dimension: "", value: String::new() };
    let range = statistics::Range { from: quarter_of(Timestamp::EPOCH), to: quarter_of(noon) };
    let timezone = "Asia/Kolkata".to_owned();
    let asked = ReportRequest { part, range, interval: SeriesInterval::Day, timezone, pairs: &[] };
    let report = PostgresStatistics::new(replica).report(&asked).await.unwrap().unwrap();
    assert_eq!((report.complete_until, report.periods.len()), (None, 1));
}
