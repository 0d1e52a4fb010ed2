//! The event of an HTTP trigger, through ingest's whole handler.
//!
//! Beyond not panicking: what a client can put into the event of any trigger (`Host`, path, query string, headers,
//! body) ends in an answer, never in an error of the invocation. An answer has the format of the trigger, and the same
//! event is answered the same again.

#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use event::Timestamp;
use ingest::{App, Config, router};
use lambda::http_trigger;
use libfuzzer_sys::fuzz_target;
use pipeline::clock::Clock;
use pipeline::ports::{ApiKey, ApiKeys as _, NewRecord, RecordPublisher};
use pipeline::{DependencyError, Position, topic};
use serde_json::{Value, json};
use testkit::fakes::api_keys::FakeApiKeys;
use testkit::fakes::rate_leases::FakeRateLeases;
use testkit::keys::publishable_key;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let config = Config::from_variables(&BTreeMap::from([("KAFKA_BROKERS", "unused:9092")])).unwrap();
    let keys = FakeApiKeys::default();
    let key = ApiKey { rate_limit_per_min: Some(u32::MAX), ..publishable_key("sample-key") };
    RUNTIME.block_on(keys.put(&key)).unwrap();
    let leases = Arc::new(FakeRateLeases::default());
    let app = App::new(&config, Arc::new(keys), leases, Arc::new(Discarding), Arc::new(FixedClock)).unwrap();
    router(Arc::new(app))
});

/// Acknowledges everything at the same position.
struct Discarding;

#[async_trait]
impl RecordPublisher for Discarding {
    async fn publish(&self, records: Vec<NewRecord>, _: Duration) -> Vec<Result<Position, DependencyError>> {
        records.iter().map(|_| Ok(Position::new(topic::RAW_EVENTS, 0, 0))).collect()
    }

    async fn close(&self, _: Duration) -> Result<(), DependencyError> {
        Ok(())
    }
}

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_197_720_000)
    }
}

fuzz_target!(|data: &str| {
    // The event itself, whatever it is.
    if let Some(answer) = answer(data) {
        check(&answer);
    }
    // Seven lines that a client chooses, in the event of every trigger.
    let mut lines = data.splitn(7, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, query, host, proto) = (line(), line(), line(), line());
    let (name, value, body) = (line(), line(), line());
    let headers = json!({"host": host, "x-forwarded-proto": proto, "x-api-key": "sample-key", name: value});
    let is_base64 = data.len() % 2 == 0;
    let common = json!({"headers": headers, "body": body, "isBase64Encoded": is_base64, "path": path,
        "httpMethod": "POST", "resource": "/{proxy+}", "pathParameters": {"proxy": path},
        "queryStringParameters": {query: value}});
    let with = |more: Value| {
        let mut event = common.clone();
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event.to_string()
    };
    let events = [
        with(json!({"requestContext": {"stage": "prod", "identity": {"sourceIp": "203.0.113.7"}}})),
        with(json!({"version": "1.0", "requestContext": {"stage": "prod", "identity": {"sourceIp": "203.0.113.7"}}})),
        with(json!({"requestContext": {"elb": {"targetGroupArn": "arn"}}})),
        with(json!({"version": "2.0", "rawPath": path, "rawQueryString": query, "routeKey": "ANY /{proxy+}",
            "requestContext": {"stage": "prod", "http": {"method": "POST", "sourceIp": "203.0.113.7"}}})),
    ];
    for event in events {
        let first = answer(&event).expect("a client cannot make an invocation fail");
        check(&first);
        assert_eq!(answer(&event), Some(first));
    }
});

/// `None` if the invocation fails.
fn answer(event: &str) -> Option<Value> {
    let answer = RUNTIME.block_on(http_trigger::answer(ROUTER.clone(), event, None)).ok()?;
    Some(serde_json::from_str(answer.get()).unwrap())
}

fn check(answer: &Value) {
    let status = answer["statusCode"].as_u64().unwrap();
    assert!((200..600).contains(&status) && status != 500, "{answer}");
    assert!(answer["headers"].is_object() || answer["multiValueHeaders"].is_object());
    assert_eq!(answer["isBase64Encoded"], false);
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert!(body.is_object() || body.is_null());
}
