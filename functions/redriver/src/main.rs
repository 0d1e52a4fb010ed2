//! The Lambda function `redriver`.

use std::sync::Arc;

use lambda::invocation::serve;
use redriver::{App, Config, handle};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("redriver");
    let app = Arc::new(App::connect(&Config::from_variables(&ProcessEnvironment)?).await?);
    let served = Arc::clone(&app);
    serve("redriver", move |event, invocation| {
        let app = Arc::clone(&served);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?;
    Ok(app.close().await?)
}
