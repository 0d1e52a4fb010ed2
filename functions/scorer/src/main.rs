//! The Lambda function `scorer`.

use std::sync::Arc;

use lambda::invocation::serve;
use scorer::{App, Config, handle};
use settings::ProcessEnvironment;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("scorer");
    let app = Arc::new(App::new(Config::from_variables(&ProcessEnvironment)?)?);
    let serving = Arc::clone(&app);
    serve("scorer", move |event, invocation| {
        let app = Arc::clone(&serving);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?;
    Ok(())
}
