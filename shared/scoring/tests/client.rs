//! The scorer's client passes the contract suite of its port, with the real scorer behind the Lambda Invoke API.
#![expect(clippy::unwrap_used, reason = "helpers of tests: whatever is missing is a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use pipeline::ErrorClass;
use pipeline::ports::{ScoreRequest, Scorer as _};
use scorer::Rules;
use scoring::ScorerClient;
use serde_json::value::RawValue;

/// Serves the scorer as AWS does, and functions that fail in every way a function can.
async fn serve() -> String {
    let rules = Arc::new(Rules::shipped().unwrap());
    let router = Router::new().route(
        "/2015-03-31/functions/{function}/invocations",
        post(move |Path(function): Path<String>, body: String| {
            let rules = Arc::clone(&rules);
            async move { answer(&function, body, &rules) }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn answer(function: &str, body: String, rules: &Rules) -> Response {
    match function {
        "scorer" => {
            let request = RawValue::from_string(body).unwrap();
            scorer::answer(&request, rules).unwrap().get().to_owned().into_response()
        }
        "failing" => {
            ([("x-amz-function-error", "Unhandled")], r#"{"errorType":"boom","errorMessage":"secret"}"#).into_response()
        }
        "odd" => r#"{"risk_score":1}"#.into_response(),
        "busy" => {
            let headers = [("x-amzn-errortype", "TooManyRequestsException")];
            (StatusCode::TOO_MANY_REQUESTS, headers, r#"{"Reason":"ConcurrentInvocationLimitExceeded"}"#)
                .into_response()
        }
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn config(endpoint: &str) -> SdkConfig {
    let sdk = aws::sdk_config().await;
    sdk.into_builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(aws_sdk_lambda::config::SharedCredentialsProvider::new(
            aws_sdk_lambda::config::Credentials::new("test", "test", None, None, "test"),
        ))
        .build()
}

#[tokio::test]
async fn keeps_the_contract() {
    let config = config(&serve().await).await;
    testkit::contracts::scorer::suite(&ScorerClient::new(&config, "scorer")).await;
}

#[tokio::test]
async fn failures_are_classed() {
    let config = config(&serve().await).await;
    let request: ScoreRequest = serde_json::from_str(r#"{"event_id":"a"}"#).unwrap();
    let expected = BTreeMap::from([
        ("failing", ("function-error", ErrorClass::Transient)),
        ("odd", ("bad-answer", ErrorClass::Transient)),
        ("busy", ("throttled", ErrorClass::Overload)),
        ("down", ("unavailable", ErrorClass::Transient)),
    ]);
    for (function, (tag, class)) in expected {
        let error = ScorerClient::new(&config, function).score(std::slice::from_ref(&request)).await.unwrap_err();
        assert_eq!((error.tag, error.class), (tag, class), "{function}");
        // A function's message may quote its request.
        assert!(!pipeline::chain(&error).contains("secret"));
    }
}
