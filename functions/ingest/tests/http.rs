//! The router in this process, with fakes for its ports.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use event::{Envelope, IdSource, Timestamp};
use ingest::{App, Config, router};
use lambda::http::{Deadline, Peer};
use lambda::http_trigger;
use pipeline::breaker::FAILURES_TO_OPEN;
use pipeline::ports::{ApiKey, ApiKeys as _, Scope};
use pipeline::{ErrorClass, Record, topic};
use serde_json::{Value, json};
use testkit::fakes::api_keys::FakeApiKeys;
use testkit::fakes::publisher::FakePublisher;
use testkit::fakes::rate_leases::FakeRateLeases;
use testkit::keys::{publishable_key, server_key};
use testkit::samples::{HTTP_TRIGGERS, sample};
use tower::ServiceExt as _;

const NOW: &str = "2026-11-20T18:02:00.000Z";

struct FixedClock;

impl pipeline::clock::Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::parse(NOW).unwrap()
    }
}

struct Service {
    router: Router,
    publisher: Arc<FakePublisher>,
    keys: Arc<FakeApiKeys>,
}

impl Service {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(variables: &[(&'static str, &'static str)]) -> Self {
        let mut all = BTreeMap::from([("KAFKA_BROKERS", "unused:9092")]);
        all.extend(variables.iter().copied());
        let config = Config::from_variables(&all).unwrap();
        let publisher = Arc::new(FakePublisher::new(3));
        let keys = Arc::new(FakeApiKeys::default());
        for key in [
            publishable_key("sample-key"),
            ApiKey { rate_limit_per_min: Some(1_000_000), ..server_key("server-key") },
            ApiKey { rate_limit_per_min: Some(3), burst: Some(3), ..publishable_key("small-key") },
            ApiKey { revoked: true, ..server_key("revoked-key") },
            ApiKey { expires_at: Some(Timestamp::parse(NOW).unwrap()), ..server_key("expired-key") },
            ApiKey { scopes: BTreeSet::from([Scope::Read]), ..server_key("reading-key") },
        ] {
            keys.put(&key).await.unwrap();
        }
        let app = App::new(
            &config,
            keys.clone(),
            Arc::new(FakeRateLeases::default()),
            publisher.clone(),
            Arc::new(FixedClock),
        )
        .unwrap();
        Service { router: router(Arc::new(app)), publisher, keys }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// A POST of JSON with the sample key.
    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(path, "sample-key").body(body.into()).unwrap()).await
    }

    /// A sample, as the event of its trigger.
    async fn invoke(&self, case: &str) -> Answer {
        self.invoke_with(&serde_json::from_str(&sample("ingest", case)).unwrap()).await
    }

    async fn invoke_with(&self, event: &Value) -> Answer {
        let answer = http_trigger::answer(self.router.clone(), &event.to_string(), None).await.unwrap();
        Answer::of_trigger(&serde_json::from_str(answer.get()).unwrap())
    }

    fn records(&self) -> Vec<Record> {
        self.publisher.records(topic::RAW_EVENTS)
    }

    fn only_value(&self) -> Vec<u8> {
        let records = self.records();
        assert_eq!(records.len(), 1);
        records[0].value.clone().unwrap().to_vec()
    }
}

fn request(path: &str, key: &str) -> axum::http::request::Builder {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-api-key", key)
        .extension(Peer::Socket("203.0.113.7".parse().unwrap()))
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    media_type: String,
    retry_after: Option<String>,
    body: Value,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (media_type, retry_after) = (header(header::CONTENT_TYPE), header(header::RETRY_AFTER));
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer {
            status,
            media_type: media_type.unwrap_or_default(),
            retry_after,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    /// From the answer to a trigger, in any of its formats.
    fn of_trigger(answer: &Value) -> Self {
        assert_eq!(answer["isBase64Encoded"], false);
        let header = |name: &str| {
            let value = answer["headers"].get(name).or_else(|| answer["multiValueHeaders"][name].get(0));
            value.map(|value| value.as_str().unwrap().to_owned())
        };
        Answer {
            status: StatusCode::from_u16(answer["statusCode"].as_u64().unwrap().try_into().unwrap()).unwrap(),
            media_type: header("content-type").unwrap_or_default(),
            retry_after: header("retry-after"),
            body: serde_json::from_str(answer["body"].as_str().unwrap()).unwrap_or_default(),
        }
    }

    /// Status and tag of a problem document.
    fn problem(&self) -> (u16, &str) {
        assert_eq!(self.media_type, "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status.as_u16());
        (self.status.as_u16(), self.body["type"].as_str().unwrap().strip_prefix("urn:forebay:problem:").unwrap())
    }

    fn item_statuses(&self) -> Vec<&str> {
        self.body["items"].as_array().unwrap().iter().map(|item| item["status"].as_str().unwrap()).collect()
    }
}

const CLICK: &str = r#"{"type":"click","id":"c-1","user_id":"u-1","campaign_id":"k"}"#;

#[tokio::test]
async fn an_accepted_event_is_in_kafka_as_its_envelope() {
    let service = Service::start().await;
    let answer = service.invoke("single-transaction").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let record = service.records().remove(0);
    let expected = json!({"status": "accepted", "id": "order-1001", "id_source": "client", "topic": "raw-events",
        "partition": record.position.partition, "offset": 0, "trace_id": record.trace().unwrap().trace_id});
    assert_eq!(answer.body, expected);

    assert_eq!(record.key.as_deref(), Some(&b"acme/order-1001"[..]));
    assert_eq!(record.headers.get("event-id"), Some(&b"order-1001"[..]));
    assert_eq!(record.headers.get("event-type"), Some(&b"transaction"[..]));
    let value = record.value.unwrap();
    let envelope = Envelope::parse(&value).unwrap();
    assert_eq!((envelope.tenant.as_str(), envelope.schema, envelope.id_source), ("acme", 1, IdSource::Client));
    assert_eq!(envelope.received_at.to_string(), NOW);
    assert_eq!(envelope.occurred_at.unwrap().to_string(), "2026-11-20T18:01:59.250Z");
    assert_eq!(envelope.ip.unwrap().to_string(), "203.0.113.7");
    assert_eq!(envelope.user_agent.as_deref(), Some("curl/8.5.0"));
    let sent: Value = serde_json::from_str(&sample("ingest", "single-transaction")).unwrap();
    assert_eq!(envelope.data.get(), sent["body"].as_str().unwrap(), "byte for byte");
}

#[tokio::test]
async fn the_trace_of_a_server_goes_on_in_kafka_and_that_of_a_browser_does_not() {
    let service = Service::start().await;
    const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (key, goes_on) in [("server-key", true), ("sample-key", false)] {
        let answer =
            service.send(request("/events", key).header("traceparent", CLIENT).body(CLICK.into()).unwrap()).await;
        let trace = service.records().pop().unwrap().trace().unwrap();
        assert_eq!(answer.body["trace_id"], json!(trace.trace_id));
        assert_eq!(CLIENT.contains(&trace.trace_id.to_string()), goes_on, "{key}");
        assert_eq!(trace.is_sampled, goes_on, "a browser does not decide what is kept");
        assert!(!trace.to_string().contains("00f067aa0ba902b7"), "the record's span is another: {trace}");
    }
}

#[tokio::test]
async fn one_bad_item_rejects_no_other() {
    let service = Service::start().await;
    let answer = service.invoke("batch-mixed").await;
    assert_eq!(answer.status, StatusCode::MULTI_STATUS);
    assert_eq!(answer.item_statuses(), ["accepted", "accepted", "rejected", "rejected", "rejected"]);
    assert_eq!((&answer.body["accepted"], &answer.body["rejected"]), (&json!(2), &json!(3)));
    assert_eq!(answer.body["items"][1]["id"].as_str().unwrap().len(), 64);
    let problem = &answer.body["items"][2]["problem"];
    assert_eq!((&problem["errors"][0]["field"], &problem["errors"][0]["rule"]), (&json!("/amount"), &json!("type")));
    assert_eq!(answer.body["items"][3]["problem"]["type"], "urn:forebay:problem:unknown_type");
    assert_eq!(service.records().len(), 2);
}

#[tokio::test]
async fn cloud_events_come_in_all_three_modes() {
    let service = Service::start().await;
    assert_eq!(service.invoke("cloudevent-structured").await.body["id"], "/shop/web|c-1");
    assert_eq!(service.invoke("cloudevent-binary").await.body["id"], "/shop/café|c-2");
    let batch = service.invoke("cloudevent-batch").await;
    assert_eq!((batch.status, batch.item_statuses()), (StatusCode::ACCEPTED, vec!["accepted", "accepted"]));
    let records = service.records();
    let binary = records.iter().find(|record| record.key.as_deref() == Some("acme//shop/café|c-2".as_bytes())).unwrap();
    let envelope = Envelope::parse(binary.value.as_ref().unwrap()).unwrap();
    let attributes = r#"{"id":"c-2","source":"/shop/café","specversion":"1.0","type":"impression"}"#;
    assert_eq!(envelope.attributes.unwrap().get(), attributes);
    let registry = event::schema::Registry::embedded().unwrap();
    for record in &records {
        let envelope = Envelope::parse(record.value.as_ref().unwrap()).unwrap();
        assert_eq!(
            registry.check(&envelope).unwrap().user_id().as_deref(),
            Some("u-42"),
            "what ingest wrote, the processor reads"
        );
    }
}

#[tokio::test]
async fn a_compressed_batch_of_equal_events_has_equal_ids() {
    let service = Service::start().await;
    let answer = service.invoke("gzip-batch").await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let items = &answer.body["items"];
    assert_eq!(items[0]["id"], items[1]["id"]);
    assert_eq!(items[0]["partition"], items[1]["partition"]);
    assert_eq!((&items[0]["offset"], &items[1]["offset"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn bad_requests_are_problem_documents() {
    let service = Service::start().await;
    assert_eq!(service.invoke("bad-json").await.problem(), (400, "malformed_json"));
    assert_eq!(service.invoke("bad-key").await.problem(), (401, "api_key_unknown"));
    let violation = service.invoke("schema-violation").await;
    assert_eq!(violation.problem(), (400, "schema_violation"));
    let mut fields: Vec<&str> =
        violation.body["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["/amount", "/currency"]);

    assert_eq!(service.post("/events/batch", "[]").await.problem(), (400, "empty_batch"));
    assert_eq!(service.post("/events/batch", CLICK).await.problem(), (400, "not_a_batch"));
    assert_eq!(service.post("/events", "").await.problem(), (400, "malformed_json"));
    assert_eq!(service.post("/elsewhere", CLICK).await.problem(), (404, "no_such_path"));
    let get = Request::get("/events").header("x-api-key", "sample-key").body(Body::empty()).unwrap();
    assert_eq!(service.send(get).await.problem(), (405, "method_not_allowed"));
    let xml = request("/events", "sample-key").header(header::CONTENT_TYPE, "text/xml");
    let xml = xml.body(Body::from("<x/>")).unwrap();
    let (mut parts, body) = xml.into_parts();
    parts.headers.insert(header::CONTENT_TYPE, "text/xml".parse().unwrap());
    assert_eq!(service.send(Request::from_parts(parts, body)).await.problem(), (415, "unsupported_media_type"));
    let brotli = request("/events", "sample-key").header(header::CONTENT_ENCODING, "br").body(Body::empty()).unwrap();
    assert_eq!(service.send(brotli).await.problem(), (415, "unsupported_encoding"));
    assert!(service.records().is_empty());
}

/// An event in each format, with the same request in it.
fn events_of_every_trigger(more: &Value) -> Vec<Value> {
    let common = json!({"httpMethod": "POST", "path": "/events", "body": CLICK, "isBase64Encoded": false,
        "headers": {"x-api-key": "sample-key", "content-type": "application/json", "x-forwarded-for": "203.0.113.7"}});
    let rest = json!({"requestContext": {"stage": "prod", "identity": {"sourceIp": "203.0.113.7"}}});
    let alb = json!({"requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:1:x"}}});
    let http_api = json!({"version": "2.0", "rawPath": "/events", "rawQueryString": "", "routeKey": "$default",
        "requestContext": {"stage": "$default", "http": {"method": "POST", "sourceIp": "203.0.113.7"}}});
    [rest, alb, http_api].map(|trigger| merged(&merged(&common, &trigger), more)).into()
}

/// `base` with the members of `more`; objects in both are merged.
fn merged(base: &Value, more: &Value) -> Value {
    let (Value::Object(base), Value::Object(more)) = (base, more) else { return more.clone() };
    let mut all = base.clone();
    for (name, value) in more {
        let value = base.get(name).map_or_else(|| value.clone(), |earlier| merged(earlier, value));
        all.insert(name.clone(), value);
    }
    Value::Object(all)
}

#[tokio::test]
async fn whatever_a_client_puts_into_a_trigger_event_is_answered() {
    let service = Service::start().await;
    let long = format!("/{}", "x".repeat(70_000));
    for (more, expected) in [
        // No URL has such a host or scheme, but none is needed.
        (json!({"headers": {"host": "[::1"}}), (202, "")),
        (json!({"headers": {"host": "a:99999"}}), (202, "")),
        (json!({"headers": {"host": ""}}), (202, "")),
        (json!({"headers": {"x-forwarded-proto": "ht tp", "host": "a"}}), (202, "")),
        (json!({"isBase64Encoded": true}), (400, "undecodable_body")),
        (json!({"isBase64Encoded": true, "body": "e30"}), (400, "undecodable_body")),
        (json!({"path": long, "rawPath": long}), (414, "uri_too_long")),
        (json!({"path": "/events/\u{0} é?#%", "rawPath": "/events/\u{0} é?#%"}), (404, "no_such_path")),
        (json!({"path": "", "rawPath": ""}), (404, "no_such_path")),
        (json!({"path": "//[::1", "rawPath": "//[::1"}), (404, "no_such_path")),
        (json!({"httpMethod": "GE T", "requestContext": {"http": {"method": "GE T"}}}), (400, "bad_method")),
        (json!({"httpMethod": "BREW", "requestContext": {"http": {"method": "BREW"}}}), (405, "method_not_allowed")),
        (json!({"headers": {"a b": "c"}}), (400, "bad_header")),
        (json!({"headers": {"a": "b\nc"}}), (400, "bad_header")),
        (json!({"headers": {"a": null}, "queryStringParameters": {"a": null}}), (202, "")),
        (json!({"rawQueryString": "a=\u{0}&%zz#", "queryStringParameters": {"a\u{0}": "%zz#"}}), (202, "")),
    ] {
        for mut event in events_of_every_trigger(&more) {
            // Only this format has the method there.
            if event["version"] != "2.0" {
                event["requestContext"].as_object_mut().unwrap().remove("http");
            }
            let answer = service.invoke_with(&event).await;
            if expected.0 == 202 {
                assert_eq!(answer.status, StatusCode::ACCEPTED, "{event}: {answer:?}");
            } else {
                assert_eq!(answer.problem(), expected, "{event}");
            }
        }
    }
}

#[tokio::test]
async fn every_trigger_gets_the_answer_in_its_own_format() {
    let service = Service::start().await;
    let mut answers = Vec::new();
    for event in events_of_every_trigger(&json!({})) {
        let answer = http_trigger::answer(service.router.clone(), &event.to_string(), None).await.unwrap();
        answers.push(serde_json::from_str::<Value>(answer.get()).unwrap());
    }
    let [rest, alb, http_api] = answers.try_into().unwrap();
    // A REST API would send a header twice that is in both.
    let headers = (rest["headers"].get("content-type"), &rest["multiValueHeaders"]["content-type"]);
    assert_eq!(headers, (None, &json!(["application/json"])));
    assert_eq!(alb["statusDescription"], "202 Accepted");
    assert_eq!(alb["headers"]["content-type"], "application/json");
    assert_eq!(alb["multiValueHeaders"]["content-type"], json!(["application/json"]));
    assert_eq!(
        (&http_api["headers"]["content-type"], &http_api["statusCode"]),
        (&json!("application/json"), &json!(202))
    );
    for record in service.records() {
        let value = record.value.unwrap();
        assert_eq!(Envelope::parse(&value).unwrap().ip.unwrap().to_string(), "203.0.113.7");
    }
}

#[tokio::test]
async fn behind_any_gateway_stage_or_domain_the_path_is_the_same() {
    for case in HTTP_TRIGGERS {
        let service = Service::start().await;
        let answer = service.invoke(case).await;
        assert_eq!((answer.status, &answer.body["id"]), (StatusCode::ACCEPTED, &json!("order-1001")), "{case}");
        let value = service.only_value();
        assert_eq!(Envelope::parse(&value).unwrap().ip.unwrap().to_string(), "203.0.113.7", "{case}");
    }
}

#[tokio::test]
async fn an_event_of_another_trigger_says_what_was_expected() {
    let service = Service::start().await;
    for (event, problem) in [
        ("[]", "it is not a JSON object"),
        ("{}", "it has neither requestContext.http nor httpMethod with a requestContext"),
        (r#"{"records":{}}"#, "it has neither requestContext.http nor httpMethod with a requestContext"),
        (r#"{"headers":7}"#, "its member headers has another type"),
        (r#"{"requestContext":{"http":{"method":7}}}"#, "its member requestContext.http.method has another type"),
    ] {
        let error = http_trigger::answer(service.router.clone(), event, None).await.unwrap_err().to_string();
        let expected = "the event is not an HTTP request: expected the event of an API Gateway (REST API or HTTP API), \
                        a function URL or an Application Load Balancer";
        assert_eq!(error, format!("{expected}; {problem}"));
    }
}

#[tokio::test]
async fn keys_are_checked_before_anything_is_read() {
    let service = Service::start().await;
    let none = Request::post("/events").body(Body::from(CLICK)).unwrap();
    assert_eq!(service.send(none).await.problem(), (401, "api_key_missing"));
    let revoked = request("/events", "revoked-key").body(Body::from(CLICK)).unwrap();
    assert_eq!(service.send(revoked).await.problem(), (403, "api_key_revoked"));
    service.keys.faults.fail(1, ErrorClass::Transient);
    let answer = service.post("/events", CLICK).await;
    assert_eq!((answer.problem(), answer.retry_after.as_deref()), ((503, "api_keys_unavailable"), Some("2")));
}

#[tokio::test]
async fn limits_answer_413_or_400() {
    let service = Service::with(&[
        ("MAX_BODY_BYTES", "2000"),
        ("MAX_EVENT_BYTES", "200"),
        ("MAX_BATCH_EVENTS", "3"),
        ("MAX_JSON_DEPTH", "4"),
    ])
    .await;
    assert_eq!(service.post("/events", " ".repeat(2001)).await.problem(), (413, "body_too_large"));
    let large = format!(r#"{{"type":"page_view","path":"/{}"}}"#, "x".repeat(200));
    assert_eq!(service.post("/events", large.clone()).await.problem(), (413, "item_too_large"));
    assert_eq!(service.post("/events/batch", "[1,2,3,4]").await.problem(), (413, "too_many_items"));
    let deep = r#"{"type":"page_view","path":"/","a":[[[[]]]]}"#;
    assert_eq!(service.post("/events", deep).await.problem(), (400, "too_deep"));
    let endless = "[".repeat(1900);
    assert_eq!(service.post("/events/batch", endless).await.problem(), (400, "not_a_batch"));

    let answer = service.post("/events/batch", format!("[{large},{CLICK},{deep}]")).await;
    assert_eq!(answer.item_statuses(), ["rejected", "accepted", "rejected"]);
    let answer = service.post("/events/batch", format!("[{large},{large}]")).await;
    assert_eq!(answer.problem(), (413, "all_rejected"));
    let answer = service.post("/events/batch", format!("[{large},{deep}]")).await;
    assert_eq!(answer.problem(), (400, "all_rejected"));
    assert_eq!(answer.item_statuses(), ["rejected", "rejected"]);
}

#[tokio::test]
async fn the_rate_limit_counts_events() {
    let service = Service::start().await;
    let send =
        async |body: String| service.send(request("/events/batch", "small-key").body(body.into()).unwrap()).await;
    assert_eq!(send(format!("[{CLICK},{CLICK}]")).await.status, StatusCode::ACCEPTED);
    let answer = send(format!("[{CLICK},{CLICK}]")).await;
    assert_eq!((answer.problem(), answer.retry_after.as_deref()), ((429, "rate_limit_exceeded"), Some("20")));
    assert_eq!(send(format!("[{CLICK}]")).await.status, StatusCode::ACCEPTED, "one was left");
    assert_eq!(send("[1,2,3,4]".to_owned()).await.problem(), (413, "batch_beyond_rate_limit"));
    assert_eq!(service.records().len(), 3);
}

#[tokio::test]
async fn an_unknown_result_is_never_a_success() {
    let service = Service::start().await;
    service.publisher.faults.lose_answer(1, ErrorClass::Transient);
    let answer = service.post("/events", CLICK).await;
    assert_eq!((answer.problem(), answer.retry_after.as_deref()), ((503, "unacknowledged"), Some("2")));
    assert_eq!(answer.body["id"], "c-1");

    service.publisher.refuse("acme/c-2", ErrorClass::Transient);
    let other = CLICK.replace("c-1", "c-2");
    let answer = service.post("/events/batch", format!("[{CLICK},{other},{{}}]")).await;
    assert_eq!((answer.problem(), answer.retry_after.as_deref()), ((503, "unacknowledged"), Some("2")));
    assert_eq!(answer.item_statuses(), ["accepted", "unknown", "rejected"]);
    assert_eq!(answer.body["items"][1]["id"], "c-2");
    let detail = answer.body.to_string();
    assert!(!detail.contains("refused by a test"), "our own troubles are not the client's: {detail}");

    service.publisher.refuse("acme/c-2", ErrorClass::Permanent);
    assert_eq!(service.post("/events", other).await.problem(), (413, "record_refused"));
}

#[tokio::test(start_paused = true)]
async fn while_kafka_is_down_clients_are_told_at_once_when_to_come_back() {
    let service = Service::with(&[("BREAKER_OPEN_SEC", "30")]).await;
    service.publisher.faults.fail(FAILURES_TO_OPEN as usize, ErrorClass::Transient);
    for _ in 0..FAILURES_TO_OPEN {
        let answer = service.post("/events", CLICK).await;
        assert_eq!((answer.problem(), answer.retry_after.as_deref()), ((503, "unacknowledged"), Some("2")));
    }
    tokio::time::advance(Duration::from_millis(10_500)).await;
    let answer = service.post("/events", CLICK).await;
    assert_eq!((answer.problem(), answer.retry_after.as_deref()), ((503, "unacknowledged"), Some("20")));
    let batch = service.post("/events/batch", format!("[{CLICK},{{}}]")).await;
    assert_eq!((batch.problem(), batch.retry_after.as_deref()), ((503, "unacknowledged"), Some("20")));
    assert_eq!(batch.item_statuses(), ["unknown", "rejected"]);
    assert!(service.records().is_empty(), "Kafka is back, and not asked yet");
    tokio::time::advance(Duration::from_millis(19_400)).await;
    assert_eq!(service.post("/events", CLICK).await.retry_after.as_deref(), Some("1"), "never at once");
    tokio::time::advance(Duration::from_millis(100)).await;
    for _ in 0..2 {
        assert_eq!(service.post("/events", CLICK).await.status, StatusCode::ACCEPTED);
    }
    assert_eq!(service.records().len(), 2);
}

#[tokio::test]
async fn without_time_nothing_is_written_and_nothing_is_held_against_kafka() {
    let service = Service::start().await;
    for _ in 0..=FAILURES_TO_OPEN {
        let late = request("/events", "sample-key").extension(Deadline(std::time::Instant::now()));
        let answer = service.send(late.body(CLICK.into()).unwrap()).await;
        assert_eq!((answer.problem(), answer.retry_after.as_deref()), ((503, "unacknowledged"), Some("2")));
    }
    assert!(service.records().is_empty());
    assert_eq!(service.post("/events", CLICK).await.status, StatusCode::ACCEPTED);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_kafka_refuses_is_no_sign_of_trouble() {
    let service = Service::start().await;
    for _ in 0..2 * FAILURES_TO_OPEN {
        service.publisher.refuse("acme/c-1", ErrorClass::Permanent);
        assert_eq!(service.post("/events", CLICK).await.problem(), (413, "record_refused"));
    }
    assert_eq!(service.post("/events", CLICK).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn only_a_server_says_where_events_come_from() {
    let service = Service::start().await;
    let event = r#"{"type":"page_view","path":"/","client_ip":"198.51.100.9"}"#;
    let answer = service.post("/events", event).await;
    assert_eq!(answer.problem(), (400, "schema_violation"));
    assert_eq!(answer.body["errors"][0]["field"], "/client_ip");
    assert_eq!(answer.body["errors"][0]["rule"], "serverKey");

    let trusted = request("/events", "server-key").body(Body::from(event)).unwrap();
    assert_eq!(service.send(trusted).await.status, StatusCode::ACCEPTED);
    let value = service.only_value();
    assert_eq!(Envelope::parse(&value).unwrap().ip.unwrap().to_string(), "198.51.100.9");
}

#[tokio::test]
async fn a_servers_address_is_nobodys() {
    let service = Service::start().await;
    let trusted = request("/events", "server-key").body(Body::from(CLICK)).unwrap();
    assert_eq!(service.send(trusted).await.status, StatusCode::ACCEPTED);
    assert_eq!(Envelope::parse(&service.only_value()).unwrap().ip, None);
}

#[tokio::test]
async fn a_key_must_be_valid_and_may_write() {
    let service = Service::start().await;
    let send = async |key: &str| service.send(request("/events", key).body(Body::from(CLICK)).unwrap()).await;
    assert_eq!(send("expired-key").await.problem(), (403, "api_key_expired"));
    assert_eq!(send("reading-key").await.problem(), (403, "api_key_scope"));
    assert!(service.records().is_empty());
}

#[tokio::test]
async fn a_time_that_is_hardly_true_is_kept_and_the_receipt_says_so() {
    let service = Service::start().await;
    for (time, doubt) in [
        ("1970-01-01T00:00:00Z", json!("before-2000")),
        ("2026-11-22T00:00:00Z", json!("in-the-future")),
        ("2026-11-20T17:00:00Z", Value::Null),
    ] {
        let mut event: Value = serde_json::from_str(CLICK).unwrap();
        event["timestamp"] = json!(time);
        let answer = service.post("/events", event.to_string()).await;
        assert_eq!((answer.status, &answer.body["time_doubt"]), (StatusCode::ACCEPTED, &doubt), "{time}");
        let value = service.records().pop().unwrap().value.unwrap();
        assert_eq!(Envelope::parse(&value).unwrap().occurred_at, Some(Timestamp::parse(time).unwrap()));
    }
}

/// What `navigator.sendBeacon(url, text)` sends.
fn beacon(url: &str) -> axum::http::request::Builder {
    Request::post(url).header(header::CONTENT_TYPE, "text/plain;charset=UTF-8").header("origin", "https://shop.example")
}

#[tokio::test]
async fn a_page_sends_a_beacon_with_its_key_in_the_url() {
    let service = Service::start().await;
    let send = async |url: &str, body: &str| service.send(beacon(url).body(Body::from(body.to_owned())).unwrap()).await;
    assert_eq!(send("/events?api_key=sample-key", CLICK).await.status, StatusCode::ACCEPTED);
    assert_eq!(send("/events/batch?api_key=sample-key", &format!("[{CLICK}]")).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.records().len(), 2);
    assert_eq!(send("/events?api_key=server-key", CLICK).await.problem(), (403, "api_key_in_url"));
    assert_eq!(send("/events?api_key=nonsense", CLICK).await.problem(), (401, "api_key_unknown"));
    assert_eq!(send("/events", CLICK).await.problem(), (401, "api_key_missing"));
    let of_server = beacon("/events").header("x-api-key", "server-key").body(Body::from(CLICK)).unwrap();
    assert_eq!(service.send(of_server).await.problem(), (415, "unsupported_media_type"), "a server says JSON");
}

#[tokio::test]
async fn pages_of_the_listed_origins_may_send() {
    let service = Service::with(&[("CORS_ORIGINS", "https://shop.example, http://localhost:3000")]).await;
    let ask = async |request: Request<Body>| service.router.clone().oneshot(request).await.unwrap();
    let preflight = |origin: &str| {
        Request::options("/events")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "x-api-key,content-type,ce-type")
            .body(Body::empty())
            .unwrap()
    };
    let answer = ask(preflight("https://shop.example")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let header = |answer: &Response<Body>, name: &str| {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header(&answer, "access-control-allow-origin").as_deref(), Some("https://shop.example"));
    assert_eq!(header(&answer, "access-control-allow-methods").as_deref(), Some("POST"));
    assert_eq!(header(&answer, "access-control-allow-headers").as_deref(), Some("x-api-key,content-type,ce-type"));
    assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    let stranger = ask(preflight("https://other.example")).await;
    assert_eq!(header(&stranger, "access-control-allow-origin"), None);
    assert!(service.records().is_empty());

    let post = |body| {
        request("/events", "sample-key").header("origin", "https://shop.example").body(Body::from(body)).unwrap()
    };
    for (body, status) in [(CLICK, StatusCode::ACCEPTED), ("{", StatusCode::BAD_REQUEST)] {
        let answer = ask(post(body)).await;
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "access-control-allow-origin").as_deref(), Some("https://shop.example"));
    }
    let without = Service::start().await;
    let refused = without.router.clone().oneshot(preflight("https://shop.example")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "no page may send unless it is set");
}

#[tokio::test]
async fn the_address_comes_from_trusted_proxies_only() {
    let service = Service::with(&[("TRUSTED_PROXIES", "203.0.113.7")]).await;
    let send = async |header: &'static str| {
        let request = request("/events", "sample-key").header("x-forwarded-for", header);
        service.send(request.body(Body::from(CLICK)).unwrap()).await
    };
    assert_eq!(send("10.9.9.9, 198.51.100.9").await.status, StatusCode::ACCEPTED);
    assert_eq!(Envelope::parse(&service.only_value()).unwrap().ip.unwrap().to_string(), "198.51.100.9");
    assert_eq!(send("198.51.100.9, nonsense").await.problem(), (400, "address_unverified"));
}

#[tokio::test]
async fn an_idempotency_key_is_the_id_of_an_event_without_one() {
    let service = Service::start().await;
    let send = async |body: &'static str| {
        let request = request("/event", "sample-key").header("idempotency-key", "\"retry-1\"");
        service.send(request.body(Body::from(body)).unwrap()).await
    };
    let with_key = send(r#"{"type":"page_view","path":"/"}"#).await.body;
    assert_eq!((&with_key["id"], &with_key["id_source"]), (&json!("retry-1"), &json!("idempotency-key")));
    let own = send(CLICK).await.body;
    assert_eq!((&own["id"], &own["id_source"]), (&json!("c-1"), &json!("client")), "the event's own id comes first");
    let hash = service.post("/events", r#"{"type":"page_view","path":"/"}"#).await.body;
    assert_eq!(hash["id_source"], "fingerprint");
    let batch = request("/events/batch", "sample-key").header("idempotency-key", "k");
    let refused = service.send(batch.body(format!("[{CLICK}]").into()).unwrap()).await;
    assert_eq!(
        (refused.problem(), &refused.body["errors"][0]["rule"]),
        ((400, "schema_violation"), &json!("singleEvent"))
    );
}

#[tokio::test]
async fn two_idempotency_keys_that_are_not_utf8_do_not_become_one_event() {
    let service = Service::start().await;
    for key in [&b"a\xff"[..], b"a\xfe", "a\u{fffd}".as_bytes()] {
        let request = request("/event", "sample-key").header("idempotency-key", key);
        let answer = service.send(request.body(r#"{"type":"page_view","path":"/"}"#.into()).unwrap()).await;
        assert_eq!(
            (answer.problem(), &answer.body["errors"][0]["field"]),
            ((400, "schema_violation"), &json!("Idempotency-Key"))
        );
    }
    assert!(service.records().is_empty());
}

#[tokio::test]
async fn a_header_with_two_values_is_refused() {
    let service = Service::start().await;
    for (name, one, other) in [
        ("content-type", "application/json", "application/cloudevents+json"),
        ("content-encoding", "gzip", "zstd"),
        ("idempotency-key", "a", "b"),
        ("user-agent", "a", "b"),
        ("x-api-key", "sample-key", "server-key"),
        ("authorization", "Bearer sample-key", "Bearer server-key"),
    ] {
        let mut request = Request::post("/events").body(Body::from(CLICK)).unwrap();
        if name != "authorization" {
            request.headers_mut().append("x-api-key", "sample-key".parse().unwrap());
        }
        request.headers_mut().append(name, one.parse().unwrap());
        request.headers_mut().append(name, other.parse().unwrap());
        let answer = service.send(request).await;
        let expected = if name.ends_with("key") && name != "idempotency-key" || name == "authorization" {
            "api_key_conflict"
        } else {
            "header_conflict"
        };
        assert_eq!(answer.problem(), (400, expected), "{name}");
    }
}

#[tokio::test]
async fn what_the_media_type_says_is_how_an_event_is_read() {
    let service = Service::start().await;
    let send = async |headers: &[(&'static str, &'static str)], body: &'static str| {
        let mut request = Request::post("/events").header("x-api-key", "sample-key").body(Body::from(body)).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        service.send(request).await
    };
    let structured = r#"{"specversion":"1.0","id":"c","source":"/s","type":"page_view","data":{"path":"/"}}"#;
    let cloud_event = ("content-type", "application/cloudevents+json");
    let json = ("content-type", "application/json");
    let fields = |answer: &Answer| -> Vec<String> {
        let errors = answer.body["errors"].as_array().unwrap().iter();
        errors
            .map(|error| format!("{} {}", error["field"].as_str().unwrap(), error["rule"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(send(&[cloud_event], structured).await.status, StatusCode::ACCEPTED);
    assert_eq!(fields(&send(&[json], structured).await), ["/specversion mediaType", "/path required"]);
    let plain = r#"{"type":"page_view","id":"c","path":"/"}"#;
    assert!(fields(&send(&[cloud_event], plain).await).contains(&"/specversion required".to_owned()));
    assert_eq!(send(&[cloud_event], "[]").await.problem(), (400, "not_an_object"));
    let binary = [json, ("ce-type", "page_view"), ("ce-id", "\"a%20b\""), ("ce-source", "/s")];
    assert_eq!(fields(&send(&binary, r#"{"path":"/"}"#).await), ["ce-specversion required"]);
    let binary = [binary.as_slice(), &[("ce-specversion", "1.0")]].concat();
    assert_eq!(send(&binary, r#"{"path":"/"}"#).await.body["id"], "/s|a b");
}

#[tokio::test]
async fn an_unknown_type_names_the_types_there_are() {
    let service = Service::start().await;
    let answer = service.post("/events", r#"{"type":"purchase"}"#).await;
    assert_eq!(answer.problem(), (400, "unknown_type"));
    let detail = "unknown event type \"purchase\"; the types are click, impression, page_view, sensor, transaction";
    assert_eq!(answer.body["detail"], detail);
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_path_changes_nothing() {
    let service = Service::start().await;
    for path in ["/events/", "/event/"] {
        assert_eq!(service.post(path, CLICK).await.status, StatusCode::ACCEPTED, "{path}");
    }
    assert_eq!(service.post("/events/batch/", format!("[{CLICK}]")).await.status, StatusCode::ACCEPTED);
    assert_eq!(service.post("/events//", CLICK).await.problem(), (404, "no_such_path"));
}

#[tokio::test]
async fn the_answer_to_a_large_batch_fits_a_load_balancer() {
    let service = Service::with(&[("MAX_BATCH_EVENTS", "20000"), ("API_KEY_RATE_LIMIT_PER_MIN", "1000000")]).await;
    let body = format!("[{}]", vec![r#"{"type":"page_view","path":"/"}"#; 20_000].join(","));
    for (mut event, most) in events_of_every_trigger(&json!({})).into_iter().zip([6_291_456, 1_000_000, 6_291_456]) {
        for (name, path) in [("path", "/events/batch"), ("rawPath", "/events/batch"), ("body", &*body)] {
            event[name] = json!(path);
        }
        let answer = http_trigger::answer(service.router.clone(), &event.to_string(), None).await.unwrap();
        assert!(answer.get().len() <= most, "{}", answer.get().len());
        let answer = Answer::of_trigger(&serde_json::from_str(answer.get()).unwrap());
        assert_eq!((answer.status, &answer.body["accepted"]), (StatusCode::ACCEPTED, &json!(20_000)));
        let listed = answer.body["items"].as_array().unwrap().len();
        let omitted = answer.body["items_omitted"].as_u64().unwrap_or_default();
        assert_eq!(listed as u64 + omitted, 20_000);
        assert_eq!(omitted > 0, most == 1_000_000);
    }
}
