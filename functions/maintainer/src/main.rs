//! The Lambda function `maintainer`.

use std::sync::Arc;

use lambda::invocation::serve;
use maintainer::{App, Config, handle};
use settings::ProcessEnvironment;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::health::exit_if_asked();
    lambda::start("maintainer")?;
    let app = Arc::new(App::connect(Config::from_variables(&ProcessEnvironment)?).await?);
    Ok(serve("maintainer", move |event, invocation| {
        let app = Arc::clone(&app);
        async move { handle(&event, &invocation, &app).await }
    })
    .await?)
}
