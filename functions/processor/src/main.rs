//! The Lambda function `processor`.

use std::sync::Arc;

use event::schema::Registry;
use lambda::invocation::serve;
use lambda::shutdown::FLUSH_TIMEOUT;
use processor::config::Config;
use processor::{App, adapters};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("processor");
    let config = Config::from_variables(&ProcessEnvironment)?;
    let (ports, publisher) = adapters::connect(&config).await?;
    let app = Arc::new(App::new(config.policy, Registry::embedded()?, ports));
    serve("processor", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { app.handle(&event, &invocation).await }
    })
    .await?;
    Ok(publisher.close(FLUSH_TIMEOUT).await?)
}
