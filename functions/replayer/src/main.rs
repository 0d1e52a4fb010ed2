//! The Lambda function `replayer`.

use std::sync::Arc;

use archive::S3Objects;
use event::schema::Registry;
use lambda::invocation::serve;
use pipeline::clock::SystemClock;
use postgres::{Database, PostgresEventStore, PostgresReplay, PostgresUnscoredEvents};
use replayer::{App, Config, LambdaScorers, Ports};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("replayer");
    let config = Config::from_variables(&ProcessEnvironment)?;
    let (database, sdk) = tokio::join!(Database::connect(&config.postgres), aws::sdk_config());
    let database = database?;
    let replay = Arc::new(PostgresReplay::new(database.clone()));
    let ports = Ports {
        objects: Arc::new(S3Objects::connect(&sdk, config.archive_bucket)),
        store: Arc::new(PostgresEventStore::new(database.clone(), config.dedup_window)),
        unscored: Arc::new(PostgresUnscoredEvents::new(database)),
        runs: replay.clone(),
        reprocessed: replay,
        scorers: Arc::new(LambdaScorers::new(sdk)),
        clock: Arc::new(SystemClock),
    };
    let app = Arc::new(App::new(config.policy, Registry::embedded()?, ports));
    serve("replayer", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { app.handle(&event, &invocation).await }
    })
    .await?;
    Ok(())
}
