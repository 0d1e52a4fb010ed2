//! The Lambda function `rescorer`.

use std::sync::Arc;

use lambda::invocation::serve;
use rescorer::{App, Config, handle};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("rescorer");
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await?);
    let serving = Arc::clone(&app);
    serve("rescorer", move |event, invocation| {
        let app = Arc::clone(&serving);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?;
    Ok(app.close().await?)
}
