//! Both ways of calling a function, with the replies of each backend.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::Region;
use aws_sdk_lambda::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use esm::{Invoker, InvokerError, LambdaInvoker, Reply, UrlInvoker};

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

/// For functions that all must have a URL.
struct Nobody;

#[async_trait]
impl Invoker for Nobody {
    async fn invoke(&self, function: &str, _event: Bytes) -> Result<Reply, InvokerError> {
        Err(InvokerError { function: function.to_owned(), source: "it has no URL".into() })
    }
}

/// Serves [`answer`] and returns its endpoint.
async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/2015-03-31/functions/{function}/invocations", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

const EVENT: Bytes = Bytes::from_static(b"{\"a\":1}");
/// What [`answer`] replies: the function, its status, whether it is marked failed, its body.
const REPLIES: [(&str, u16, bool, &str); 7] = [
    ("ok", 200, false, "{\"a\":1}"),
    ("function-error", 200, true, "{\"a\":1}"),
    ("rie-managed-error", 200, true, "{\"a\":1}"),
    ("cargo-lambda-error", 500, false, "{\"a\":1}"),
    ("throttled", 429, false, "{}"),
    ("busy", 400, false, ""),
    ("nobody", 404, false, "{}"),
];

async fn assert_replies_are_passed_on(invoker: &dyn Invoker) {
    for (function, status, marked_failed, body) in REPLIES {
        let reply = invoker.invoke(function, EVENT).await.unwrap();
        assert_eq!(reply, Reply { status, marked_failed, body: Bytes::from_static(body.as_bytes()) }, "{function}");
    }
}

#[tokio::test]
async fn replies_of_the_invoke_api_are_passed_on_unchanged() {
    assert_replies_are_passed_on(&invoker(serve().await).await).await;
}

#[tokio::test]
async fn replies_of_a_functions_own_url_are_passed_on_unchanged() {
    let endpoint = serve().await;
    let url = |name: &str| format!("{name}={endpoint}/2015-03-31/functions/{name}/invocations").parse().unwrap();
    let invoker = UrlInvoker::new(REPLIES.map(|(name, ..)| url(name)), Arc::new(Nobody)).unwrap();
    assert_replies_are_passed_on(&invoker).await;
}

#[tokio::test]
async fn only_a_function_with_a_url_is_called_there() {
    let endpoint = serve().await;
    // The emulator's path names every function `function`, here "throttled": the mapping's name must not matter.
    let url = format!("archiver={endpoint}/2015-03-31/functions/throttled/invocations").parse().unwrap();
    let invoker = UrlInvoker::new([url], Arc::new(invoker(endpoint).await)).unwrap();
    assert_eq!(invoker.invoke("archiver", EVENT).await.unwrap().status, 429);
    assert_eq!(invoker.invoke("ok", EVENT).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_function_with_two_urls_is_refused() {
    let urls = ["f=http://a/", "f=http://b/"].map(|url| url.parse().unwrap());
    let error = UrlInvoker::new(urls, Arc::new(Nobody)).unwrap_err().to_string();
    assert_eq!(error, "invalid event source mapping: the function f has two URLs");
}

#[tokio::test]
async fn no_reply_is_an_error() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", taken.local_addr().unwrap());
    drop(taken);
    let lambda = invoker(endpoint.clone()).await;
    let own_url = UrlInvoker::new([format!("f={endpoint}/p").parse().unwrap()], Arc::new(Nobody)).unwrap();
    let invokers: [(&dyn Invoker, String); 2] =
        [(&lambda, "no reply from f".to_owned()), (&own_url, format!("no reply from f at {endpoint}/p"))];
    for (invoker, expected) in invokers {
        let sent = tokio::time::timeout(Duration::from_secs(10), invoker.invoke("f", Bytes::new())).await.unwrap();
        assert_eq!(sent.unwrap_err().to_string(), expected);
    }
}
