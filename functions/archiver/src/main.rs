//! The Lambda function `archiver`.

use std::sync::Arc;

use archiver::{App, Config, handle};
use lambda::invocation::serve;
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("archiver")?;
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await);
    Ok(serve("archiver", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?)
}
