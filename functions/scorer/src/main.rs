//! The Lambda function `scorer`.

use std::sync::Arc;

use lambda::invocation::serve;
use scorer::{App, Config, handle};
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("scorer")?;
    let app = Arc::new(App::new(Config::from_variables(&ProcessEnvironment)?)?);
    Ok(serve("scorer", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?)
}
