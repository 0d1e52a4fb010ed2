//! What reaches a collector, with one thread for everything, as a small function has it: also of work that was given up or
//! panicked.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use pipeline::TraceContext;
use prost::Message as _;
use tokio::net::TcpListener;
use traces::batch::BatchTrace;
use traces::{Destination, TraceSettings, UserIdForm};

/// Name, number of links, and message of each span.
type Taken = Arc<Mutex<Vec<(String, usize, String)>>>;

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans);
    let span = |span: opentelemetry_proto::tonic::trace::v1::Span| {
        (span.name, span.links.len(), span.status.unwrap_or_default().message)
    };
    taken.lock().unwrap().extend(spans.map(span));
}

/// A process has one collector, so this is one test.
#[tokio::test(flavor = "current_thread")]
async fn a_batch_that_failed_is_told_of_however_it_ended() {
    let taken = Taken::default();
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&taken));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let records = || (0..500).map(|_| Some(TraceContext::root(0.0)));
    let off = BatchTrace::begin("off", records());
    assert!(off.context().is_none() && !off.is_noted(), "nothing is noted before the start");
    drop(off);
    let destination = Some(Destination::Collector(url));
    traces::start("test", TraceSettings { destination, share: 0.0, user_id: UserIdForm::None });

    let mut good = BatchTrace::begin("good", records());
    good.lap("claim");
    good.finish(None);
    let mut failed = BatchTrace::begin("failed", records());
    failed.lap("claim");
    failed.finish(Some("kafka: unavailable".into()));
    let given_up = async {
        let _trace = BatchTrace::begin("given-up", records());
        std::future::pending::<()>().await;
    };
    tokio::time::timeout(Duration::from_millis(20), given_up).await.unwrap_err();
    let panics = tokio::spawn(async move {
        let _trace = BatchTrace::begin("panics", records());
        panic!("a test");
    });
    assert!(panics.await.unwrap_err().is_panic());

    traces::flush(Duration::from_secs(10)).await;
    let mut taken = taken.lock().unwrap().clone();
    taken.sort();
    let ended = "the batch was given up before it ended";
    let expected =
        [("claim", 0, ""), ("failed", 500, "kafka: unavailable"), ("given-up", 500, ended), ("panics", 500, ended)];
    assert_eq!(taken, expected.map(|(name, links, message)| (name.to_owned(), links, message.to_owned())));
}
