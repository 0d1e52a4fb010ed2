//! The Lambda function `ingest`.

use std::sync::Arc;

use ingest::{App, Config, router};
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("ingest")?;
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await?);
    let served = lambda::http::serve(router(Arc::clone(&app))).await;
    let closed = app.close().await;
    served?;
    Ok(closed?)
}
