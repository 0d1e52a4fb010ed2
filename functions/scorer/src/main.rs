//! The Lambda function `scorer`.

use std::sync::Arc;

use lambda::invocation::{InvocationError, serve};
use scorer::{Rules, handle};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::logs::init("scorer");
    let rules = Arc::new(Rules::shipped()?);
    tracing::info!(rules.version = rules.version(), "rules loaded");
    serve("scorer", move |request, _invocation| {
        let answer = handle(&request, &rules).map_err(InvocationError::from);
        async move { answer }
    })
    .await?;
    Ok(())
}
