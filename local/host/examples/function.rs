//! A function for the tests of the host: does what its event says. With `PORT` it serves HTTP instead.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::get;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "a test program without settings of its own")]
async fn main() -> Result<(), Error> {
    if std::env::var("FAIL_INIT").is_ok() {
        eprintln!("cannot reach the database");
        std::process::exit(3);
    }
    if let Ok(port) = std::env::var("PORT") {
        let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
        let router = Router::new().route("/healthz", get(|| async { "ok" }));
        return Ok(axum::serve(listener, router).await?);
    }
    lambda_runtime::run(service_fn(handle)).await
}

#[expect(clippy::disallowed_methods, reason = "it compares the deadline with the clock")]
async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    match event["do"].as_str().unwrap_or_default() {
        "fail" => Err("this was asked for".into()),
        "exit" => {
            eprintln!("giving up");
            std::process::exit(7);
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(event["ms"].as_u64().unwrap_or_default())).await;
            Ok(json!({ "pid": std::process::id() }))
        }
        "large" => Ok(json!("x".repeat(6 * 1024 * 1024))),
        "context" => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
            Ok(json!({
                "request_id": context.request_id,
                "left_ms": u128::from(context.deadline).saturating_sub(now),
                "arn": context.invoked_function_arn,
                "name": context.env_config.function_name,
                "memory": context.env_config.memory,
                "version": context.env_config.version,
                "greeting": std::env::var("GREETING").unwrap_or_default(),
            }))
        }
        _ => Ok(json!({ "echo": event, "pid": std::process::id() })),
    }
}
