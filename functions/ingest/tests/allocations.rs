//! How often a request allocates memory. A count is the same on every machine, so it shows a change that a benchmark
//! would lose in its noise. `cargo test -p ingest --test allocations -- --nocapture` prints the counts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use event::Timestamp;
use ingest::{App, Config, router};
use lambda::http::Peer;
use pipeline::ports::{ApiKey, ApiKeys as _, NewRecord, RecordPublisher};
use pipeline::{DependencyError, Position, topic};
use testkit::fakes::api_keys::FakeApiKeys;
use testkit::fakes::rate_leases::FakeRateLeases;
use testkit::keys::server_key;
use tower::ServiceExt as _;

/// Acknowledges everything and allocates only its answer.
struct Discarding {
    topic: Arc<str>,
}

#[async_trait]
impl RecordPublisher for Discarding {
    async fn publish(&self, records: Vec<NewRecord>, _: Duration) -> Vec<Result<Position, DependencyError>> {
        (0..).zip(records).map(|(offset, _)| Ok(Position::new(Arc::clone(&self.topic), 0, offset))).collect()
    }

    async fn close(&self, _: Duration) -> Result<(), DependencyError> {
        Ok(())
    }
}

struct FixedClock;

impl pipeline::clock::Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_197_720_000)
    }
}

async fn service() -> Router {
    let config = Config::from_variables(&BTreeMap::from([("KAFKA_BROKERS", "unused:9092")])).unwrap();
    let keys = FakeApiKeys::default();
    let key = ApiKey { rate_limit_per_min: Some(u32::MAX), ..server_key("sample-key") };
    keys.put(&key).await.unwrap();
    let publisher = Discarding { topic: topic::RAW_EVENTS.into() };
    let leases = Arc::new(FakeRateLeases::default());
    let app = App::new(&config, Arc::new(keys), leases, Arc::new(publisher), Arc::new(FixedClock)).unwrap();
    router(Arc::new(app))
}

fn post(path: &str, body: &Bytes) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "curl/8.5.0")
        .header("x-api-key", "sample-key")
        .extension(Peer::Socket("203.0.113.7".parse().unwrap()))
        .body(Body::from(body.clone()))
        .unwrap()
}

/// Allocations of one accepted POST, from the request to the answer, after a first one has filled the caches.
fn allocations(path: &str, body: String) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let router = runtime.block_on(service());
    let body = Bytes::from(body);
    let mut count = 0;
    for _ in 0..2 {
        let (request, router) = (post(path, &body), router.clone());
        let mut response = None;
        count = allocation_counter::measure(|| response = Some(runtime.block_on(router.oneshot(request)))).count_total;
        assert_eq!(response.unwrap().unwrap().status(), StatusCode::ACCEPTED);
    }
    count
}

/// Events as the demo and the benchmark send them (`local/stack/src/demo/traffic.rs`).
fn event(number: usize) -> String {
    let common =
        format!(r#""id":"demo-1795197-{number}","timestamp":"2026-11-20T18:01:59.250Z","client_ip":"198.18.4.7""#);
    match number % 4 {
        0 => format!(
            r#"{{{common},"type":"transaction","user_id":"user-7","amount":19.93,"currency":"EUR","metadata":{{"channel":"web"}}}}"#
        ),
        1 => format!(
            r#"{{{common},"type":"sensor","device_id":"device-7","reading":21.5,"unit":"celsius","location":"hall-7"}}"#
        ),
        2 => format!(
            r#"{{{common},"type":"click","user_id":"user-7","campaign_id":"campaign-9","geo_country":"DE","device_type":"mobile"}}"#
        ),
        _ => format!(
            r#"{{{common},"type":"page_view","method":"GET","path":"/articles/7","status":200,"bytes":4096,"user_agent":"Mozilla/5.0 (X11; Linux x86_64)"}}"#
        ),
    }
}

/// An event whose id is its fingerprint, with an object in it and an escape.
fn event_without_an_id(number: usize) -> String {
    format!(
        r#"{{"type":"sensor","device_id":"d-{number}","reading":21.5,"unit":"\u00b0C","location":{{"lat":52.5,"lon":13.4}}}}"#
    )
}

fn batch(event: fn(usize) -> String) -> String {
    format!("[{}]", (0..500).map(event).collect::<Vec<_>>().join(","))
}

#[test]
fn a_batch_allocates_little_per_event() {
    let count = allocations("/events/batch", batch(event));
    println!("batch of 500 events: {count}");
    assert!(count <= 500 * 5, "{count} allocations");
}

#[test]
fn a_batch_without_ids_allocates_little_per_event() {
    let count = allocations("/events/batch", batch(event_without_an_id));
    println!("batch of 500 events without ids: {count}");
    assert!(count <= 500 * 11, "{count} allocations");
}

#[test]
fn a_single_event_allocates_little() {
    let count = allocations("/events", event(0));
    println!("single event: {count}");
    assert!(count <= 45, "{count} allocations");
}
