//! The Invoke API client with the replies of each backend.

use std::time::Duration;

use aws_config::Region;
use aws_sdk_lambda::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use esm::{Invoker as _, LambdaInvoker, Reply};

/// Answers as the function's name says, with the event as body.
async fn answer(Path(function): Path<String>, event: Bytes) -> Response {
    match function.as_str() {
        "ok" => event.into_response(),
        "function-error" => ([("x-amz-function-error", "Unhandled")], event).into_response(),
        "rie-managed-error" => ([("error-type", "Runtime.Unknown")], event).into_response(),
        "cargo-lambda-error" => (StatusCode::INTERNAL_SERVER_ERROR, event).into_response(),
        "throttled" => {
            (StatusCode::TOO_MANY_REQUESTS, [("x-amzn-errortype", "TooManyRequestsException")], "{}").into_response()
        }
        "busy" => StatusCode::BAD_REQUEST.into_response(),
        _ => (StatusCode::NOT_FOUND, "{}").into_response(),
    }
}

async fn invoker(endpoint: String) -> LambdaInvoker {
    let credentials = Credentials::new("id", "secret", None, None, "test");
    let aws = aws::sdk_config()
        .await
        .into_builder()
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    LambdaInvoker::new(&aws)
}

#[tokio::test]
async fn replies_are_passed_on_unchanged() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/2015-03-31/functions/{function}/invocations", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let invoker = invoker(endpoint).await;
    let table = [
        ("ok", 200, false, "{\"a\":1}"),
        ("function-error", 200, true, "{\"a\":1}"),
        ("rie-managed-error", 200, true, "{\"a\":1}"),
        ("cargo-lambda-error", 500, false, "{\"a\":1}"),
        ("throttled", 429, false, "{}"),
        ("busy", 400, false, ""),
        ("nobody", 404, false, "{}"),
    ];
    for (function, status, marked_failed, body) in table {
        let reply = invoker.invoke(function, Bytes::from_static(b"{\"a\":1}")).await.unwrap();
        assert_eq!(reply, Reply { status, marked_failed, body: Bytes::from_static(body.as_bytes()) }, "{function}");
    }
}

#[tokio::test]
async fn no_reply_is_an_error() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let invoker = invoker(endpoint).await;
    let sent = tokio::time::timeout(Duration::from_secs(10), invoker.invoke("f", Bytes::new())).await.unwrap();
    assert_eq!(sent.unwrap_err().to_string(), "no reply from f");
}
