//! The Lambda function `query`.

use std::sync::Arc;

use query::{App, Config, router};
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("query")?;
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await?);
    Ok(lambda::http::serve(router(app)).await?)
}
