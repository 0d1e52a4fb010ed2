//! The Lambda function `archiver`.

use std::sync::Arc;

use archiver::{App, Config, handle};
use lambda::invocation::serve;
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("archiver");
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await);
    let serving = Arc::clone(&app);
    serve("archiver", move |event, invocation| {
        let app = Arc::clone(&serving);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?;
    Ok(())
}
