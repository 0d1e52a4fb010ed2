//! The Lambda function `notifier`.

use std::sync::Arc;

use lambda::invocation::serve;
use notifier::{App, Config, handle};
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("notifier")?;
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await?);
    Ok(serve("notifier", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?)
}
