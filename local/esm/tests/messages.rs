//! On-failure destinations in SQS and SNS: what is sent, by the shape of the two APIs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use esm::{Destinations as _, MessageError, MessageService, MessageTarget};
use serde_json::{Value, json};

/// What was asked for, and the status to answer with.
struct Service {
    seen: Mutex<Vec<(HeaderMap, Bytes)>>,
    status: StatusCode,
}

async fn answer(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    service.seen.lock().unwrap().push((headers, body));
    (service.status, "AccessDenied")
}

fn target(service: MessageService) -> MessageTarget {
    let name = if service == MessageService::Sqs { "sqs" } else { "sns" };
    MessageTarget {
        service,
        arn: format!("arn:aws:{name}:eu-west-1:123456789012:given-up"),
        region: "eu-west-1".into(),
        account: "123456789012".into(),
        name: "given-up".into(),
    }
}

/// Sends one text; returns the endpoint, the request, and how it ended.
async fn sent(
    service: MessageService,
    status: u16,
    text: &str,
) -> (String, HeaderMap, Bytes, Result<(), MessageError>) {
    let state = Arc::new(Service { seen: Mutex::default(), status: StatusCode::from_u16(status).unwrap() });
    let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&state));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let credentials = aws_sdk_lambda::config::Credentials::new("id", "secret", None, None, "test");
    let sdk: SdkConfig = aws::sdk_config()
        .await
        .into_builder()
        .endpoint_url(endpoint.clone())
        .credentials_provider(aws_sdk_lambda::config::SharedCredentialsProvider::new(credentials))
        .build();
    let result = sdk.messages(&target(service)).send(text).await;
    let (headers, body) = state.seen.lock().unwrap().remove(0);
    (endpoint, headers, body, result)
}

fn signed_for(headers: &HeaderMap) -> String {
    let authorization = headers["authorization"].to_str().unwrap();
    let scope = authorization.split("Credential=").nth(1).unwrap().split(',').next().unwrap();
    scope.split('/').skip(2).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn a_queue_gets_a_message_of_the_json_protocol() {
    let text = r#"{"a":"ü & \"b\""}"#;
    let (endpoint, headers, body, result) = sent(MessageService::Sqs, 200, text).await;
    result.unwrap();
    assert_eq!(headers["x-amz-target"], "AmazonSQS.SendMessage");
    assert_eq!(headers["content-type"], "application/x-amz-json-1.0");
    assert_eq!(signed_for(&headers), "eu-west-1/sqs/aws4_request");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({ "QueueUrl": format!("{endpoint}/123456789012/given-up"), "MessageBody": text }));
}

#[tokio::test]
async fn a_topic_gets_a_message_of_the_query_protocol() {
    let (_, headers, body, result) = sent(MessageService::Sns, 200, "{\"a\":\"ü & b\"}").await;
    result.unwrap();
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(signed_for(&headers), "eu-west-1/sns/aws4_request");
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A123456789012%3Agiven-up\
         &Message=%7B%22a%22%3A%22%C3%BC+%26+b%22%7D"
    );
}

#[tokio::test]
async fn a_refusal_is_an_error_with_what_the_service_says() {
    for service in [MessageService::Sqs, MessageService::Sns] {
        let (_, _, _, result) = sent(service, 403, "x").await;
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot send to {}", target(service).arn));
        assert_eq!(error.source.to_string(), "status 403: AccessDenied");
    }
}
