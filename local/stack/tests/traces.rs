//! One trace from the client's request to the row, through a dead letter and a redrive, as a collector gets it from the real
//! binaries.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archive::{ArchiveReader, Filter};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use kafka::PublisherOptions;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AttributeValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use pipeline::ports::{KeyKind, NewRecord, RecordPublisher as _};
use pipeline::{Header, TraceContext, TraceId, header, topic};
use prost::Message as _;
use serde_json::{Value, json};
use settings::Variables as _;
use stack::functions::beside_this_program;
use stack::observe::RunningObserver;
use stack::options::Options;
use stack::stack::Stack;
use tokio::net::TcpListener;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(120);

/// A span with the name of the service that sent it.
#[derive(Clone, Debug)]
struct Sent {
    service: String,
    span: Span,
}

impl Sent {
    fn has_failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let attribute = self.span.attributes.iter().find(|attribute| attribute.key == name)?;
        match attribute.value.as_ref()?.value.as_ref()? {
            AttributeValue::StringValue(text) => Some(text),
            _ => None,
        }
    }
}

/// Keeps every span that it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Sent>>>);

impl Collector {
    /// Returns its URL.
    async fn start(&self) -> String {
        let router = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn of(&self, trace: TraceContext) -> Vec<Sent> {
        let is_its = |sent: &&Sent| sent.span.trace_id == trace.trace_id.to_bytes();
        let mut spans: Vec<Sent> = self.0.lock().unwrap().iter().filter(is_its).cloned().collect();
        spans.sort_by_key(|sent| sent.span.start_time_unix_nano);
        spans
    }

    /// The spans of a trace once there are as many as that.
    async fn wait_for(&self, trace: TraceContext, count: usize) -> Vec<Sent> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.of(trace);
            if spans.len() >= count || Instant::now() >= deadline {
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap();
        let attribute = resource.attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
        let Some(AttributeValue::StringValue(service)) = attribute.value.unwrap().value else { continue };
        let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        let sent = spans.map(|span| Sent { service: service.clone(), span });
        collector.0.lock().unwrap().extend(sent);
    }
}

struct World {
    stack: Stack,
    key: String,
    collector: Collector,
}

fn options() -> Options {
    Options::for_one_run(&settings::ProcessEnvironment, beside_this_program().unwrap()).unwrap()
}

impl World {
    async fn start() -> Self {
        let collector = Collector::default();
        let options = options()
            .with_setting("TRACES", "otlp")
            .with_setting("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.start().await)
            // Whatever is kept here is kept because of the client's flag, or because it failed.
            .with_setting("OTEL_TRACES_SAMPLER_ARG", "0")
            .with_setting("TRACE_USER_ID", "hashed");
        World::with(options, collector).await
    }

    async fn with(options: Options, collector: Collector) -> Self {
        let stack = Stack::start(options).await.unwrap();
        let key = stack.create_key("acme", "traces", KeyKind::Server, 100_000).await.unwrap();
        World { stack, key, collector }
    }

    async fn post(&self, id: &str, client: TraceContext) -> Value {
        let event = json!({"type": "click", "id": id, "user_id": "ada", "campaign_id": "c"}).to_string();
        let headers = [("x-api-key", self.key.as_str()), ("traceparent", &client.to_string())];
        let answer = self.stack.client.post(&self.stack.ingest_url(), &headers, event).await.unwrap();
        assert_eq!(answer.status, 202, "{:?}", answer.json());
        answer.json()
    }

    async fn timeline(&self, id: &str) -> Value {
        let url = format!("{}/{id}", self.stack.query_url());
        self.stack.client.get(&url, &[("x-api-key", &self.key)]).await.unwrap().json()
    }

    /// A record that becomes a dead letter, from a producer that does not go through ingest.
    async fn write_bad(&self, trace: TraceContext) {
        let publisher = self.stack.kafka.publisher(PublisherOptions::default()).await.unwrap();
        let headers = vec![Header::new(header::TRACEPARENT, trace.to_string())];
        let record = NewRecord { topic: topic::RAW_EVENTS, key: None, value: Some("not json".into()), headers };
        publisher.publish(vec![record], PATIENCE).await.remove(0).unwrap();
        publisher.close(PATIENCE).await.unwrap();
    }
}

fn client(is_sampled: bool) -> TraceContext {
    TraceContext { is_sampled, ..TraceContext::root(0.0) }
}

fn names(spans: &[Sent]) -> BTreeSet<String> {
    spans.iter().map(|sent| format!("{} {}", sent.service, sent.span.name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_request_to_the_row_and_through_a_redrive() {
    let world = World::start().await;
    let (kept, not_kept, failing) = (client(true), client(false), client(false));
    let receipt = world.post("order-1", kept).await;
    assert_eq!(receipt["trace_id"], kept.trace_id.to_string(), "the client's trace goes on");
    assert_eq!(world.post("order-2", not_kept).await["trace_id"], not_kept.trace_id.to_string());
    world.write_bad(failing).await;
    world.stack.wait_until_idle(PATIENCE).await.unwrap();

    let spans = world.collector.wait_for(kept, 4).await;
    let expected =
        ["ingest event-ingestion", "ingest event-publish", "processor event-processing", "processor state-store"];
    assert_eq!(names(&spans), expected.map(str::to_owned).into());
    let find = |name: &str| &spans.iter().find(|sent| sent.span.name == name).unwrap().span;
    let (request, publish, event, row) =
        (find("event-ingestion"), find("event-publish"), find("event-processing"), find("state-store"));
    let parents = [&request.parent_span_id, &publish.parent_span_id, &event.parent_span_id, &row.parent_span_id];
    let client_span = kept.span_id.to_bytes().to_vec();
    assert_eq!(parents, [&client_span, &request.span_id, &publish.span_id, &event.span_id], "each leads to the next");
    let of_event = spans.iter().find(|sent| sent.span.name == "event-processing").unwrap();
    assert_eq!((of_event.text("event.id"), of_event.text("event.type")), (Some("order-1"), Some("click")));
    assert_eq!(of_event.text("event.outcome"), Some("valid"));
    assert!(of_event.text("user.hash").is_some() && of_event.text("user.id").is_none());

    // The batch is a trace of its own, with the scorer's span in it.
    let batch = TraceContext::parse(
        format!("00-{}-{}-01", hexadecimal(&event.links[0].trace_id), hexadecimal(&event.links[0].span_id)).as_bytes(),
    );
    let of_batch = world.collector.wait_for(batch.unwrap(), 8).await;
    let services = names(&of_batch);
    for name in ["processor batch-processing", "processor claim", "processor limit", "processor score", "scorer score"]
    {
        assert!(services.contains(name), "{name} is not in {services:?}");
    }

    let timeline = world.timeline("order-1").await;
    let of_row = timeline["timeline"].as_array().unwrap().iter().find(|step| step["step"] == "stored").unwrap();
    assert_eq!(of_row["trace_id"], kept.trace_id.to_string());
    assert_eq!(names(&world.collector.of(not_kept)), BTreeSet::new(), "the client said so");
    let stored = world.timeline("order-2").await.to_string();
    assert!(stored.contains(&not_kept.trace_id.to_string()), "its id is kept all the same: {stored}");

    let before = world.collector.wait_for(failing, 1).await;
    assert_eq!(names(&before), ["processor event-processing".to_owned()].into(), "a failure is kept always");
    assert!(before[0].has_failed());
    world.stack.invoke("redriver", json!({"action": "redrive", "by": "a test"})).await.unwrap();
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    let after = world.collector.wait_for(failing, 3).await;
    let expected = ["processor event-processing", "redriver redrive", "processor event-processing"];
    let in_order: Vec<String> = after.iter().map(|sent| format!("{} {}", sent.service, sent.span.name)).collect();
    assert_eq!(in_order, expected);

    // The archive has it in the headers of the record.
    let archive = ArchiveReader::new(Arc::new(world.stack.archive().await));
    let traces = archived(&archive).await;
    assert!(traces.contains(&kept.trace_id) && traces.contains(&failing.trace_id), "{traces:?}");
    assert!(names(&world.collector.0.lock().unwrap()).contains("archiver archive"));
    world.stack.stop().await.unwrap();
}

/// The same in a real Jaeger, which `make traces-check` builds: its path is in `JAEGER`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Jaeger: make traces-check"]
async fn a_real_jaeger_shows_one_trace_through_a_redrive() {
    let program = settings::ProcessEnvironment.get("JAEGER").expect("JAEGER is the path of the program");
    // Its configuration is named from the project's folder.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    let (jaeger, options) = RunningObserver::jaeger(program.as_ref(), options()).await.unwrap();
    let world = World::with(options, Collector::default()).await;
    let trace = client(true);
    world.post("order-1", trace).await;
    // The trace goes on in another producer's record, as it would in a service behind the client.
    world.write_bad(trace.child()).await;
    world.stack.wait_until_idle(PATIENCE).await.unwrap();
    world.stack.invoke("redriver", json!({"action": "redrive", "by": "a test"})).await.unwrap();
    world.stack.wait_until_idle(PATIENCE).await.unwrap();

    let url = format!("{}/api/traces/{}", jaeger.url, trace.trace_id);
    let deadline = Instant::now() + PATIENCE;
    let shown = loop {
        let shown = operations(&world.stack.client.get(&url, &[]).await.unwrap().json());
        if shown.len() >= 7 || Instant::now() >= deadline {
            break shown;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let expected = [
        "ingest event-ingestion",
        "ingest event-publish",
        "processor event-processing",
        "processor event-processing",
        "processor event-processing",
        "processor state-store",
        "redriver redrive",
    ];
    assert_eq!(shown, expected);
    world.stack.stop().await.unwrap();
}

/// The spans of Jaeger's answer, as service and name, sorted.
fn operations(answer: &Value) -> Vec<String> {
    let trace = &answer["data"][0];
    let spans = trace["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |span: &Value| {
        let process = span["processID"].as_str().unwrap();
        let service = trace["processes"][process]["serviceName"].as_str().unwrap();
        format!("{service} {}", span["operationName"].as_str().unwrap())
    };
    let mut names: Vec<String> = spans.iter().map(name).collect();
    names.sort();
    names
}

/// The traces of the raw records in the archive.
async fn archived(archive: &ArchiveReader) -> Vec<TraceId> {
    let mut records = archive.records(&Filter::topic(topic::RAW_EVENTS)).await.unwrap();
    let mut traces = Vec::new();
    while let Some(record) = records.next().await.unwrap() {
        traces.extend(record.trace().map(|trace| trace.trace_id));
    }
    traces
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
