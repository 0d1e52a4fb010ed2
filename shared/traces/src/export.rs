//! Spans on their way to the collector: kept until an invocation ends, and dropped rather than waited for.

use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws::signed::{HttpSender, Post, Signature};
use aws_config::SdkConfig;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use telemetry::list::{SPANS, TRACE_EXPORT_FAILURES};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::settings::{Destination, TraceSettings};
use crate::span::FinishedSpan;

/// The most spans that wait to be sent: about 8 MB.
const MAX_WAITING: usize = 10_000;
/// The most spans of one request. A collector refuses requests of more than 4 to 20 MB.
const MAX_SENT_AT_ONCE: usize = 2_000;
/// How long a collector that failed is left alone. Spans of that time are dropped.
const PAUSE: Duration = Duration::from_secs(30);

const SENT: [&str; 1] = ["sent"];
const DROPPED: [&str; 1] = ["dropped"];

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

pub(crate) fn start(service: &'static str, settings: TraceSettings) {
    if let Some(destination) = settings.destination.clone() {
        SPANS.begin(SENT);
        SPANS.begin(DROPPED);
        TRACE_EXPORT_FAILURES.begin([]);
        let _ = EXPORTER.set(Exporter::new(service, settings, destination));
    }
}

/// `None` if nothing is sent.
pub(crate) fn exporter() -> Option<&'static Exporter> {
    EXPORTER.get()
}

/// Sends the spans that were kept, and waits for that, at most `longest`. What cannot be sent is dropped and counted: an event
/// never waits for its span.
pub async fn flush(longest: Duration) {
    if let Some(exporter) = exporter() {
        exporter.flush(longest).await;
    }
}

pub(crate) struct Exporter {
    pub(crate) settings: TraceSettings,
    service: &'static str,
    destination: Destination,
    scope: InstrumentationScope,
    waiting: Mutex<Vec<FinishedSpan>>,
    paused_until: Mutex<Option<Instant>>,
    /// Made when the first spans are sent: the credentials are not needed before.
    client: OnceCell<SpanExporter>,
}

impl Exporter {
    fn new(service: &'static str, settings: TraceSettings, destination: Destination) -> Self {
        Exporter {
            settings,
            service,
            destination,
            scope: InstrumentationScope::builder("forebay").with_version(env!("CARGO_PKG_VERSION")).build(),
            waiting: Mutex::default(),
            paused_until: Mutex::default(),
            client: OnceCell::new(),
        }
    }

    pub(crate) fn keep(&self, mut spans: Vec<FinishedSpan>) {
        let mut waiting = lock(&self.waiting);
        let room = MAX_WAITING.saturating_sub(waiting.len());
        SPANS.add(spans.len().saturating_sub(room) as u64, DROPPED);
        spans.truncate(room);
        waiting.append(&mut spans);
    }

    async fn flush(&self, longest: Duration) {
        let mut spans = std::mem::take(&mut *lock(&self.waiting));
        let deadline = Instant::now() + longest;
        while !spans.is_empty() {
            let rest = spans.split_off(spans.len().min(MAX_SENT_AT_ONCE));
            let part = std::mem::replace(&mut spans, rest);
            let count = part.len() as u64;
            if lock(&self.paused_until).is_some_and(|until| Instant::now() < until) {
                SPANS.add(count, DROPPED);
                continue;
            }
            let sent = tokio::time::timeout_at(deadline, self.send(part)).await;
            match sent.unwrap_or(Err(OTelSdkError::Timeout(longest))) {
                Ok(()) => {
                    *lock(&self.paused_until) = None;
                    SPANS.add(count, SENT);
                }
                Err(error) => {
                    *lock(&self.paused_until) = Some(Instant::now() + PAUSE);
                    SPANS.add(count, DROPPED);
                    TRACE_EXPORT_FAILURES.add(1, []);
                    tracing::warn!(
                        error = %error,
                        spans = count,
                        pause_sec = PAUSE.as_secs(),
                        "spans could not be sent and are dropped, as are those of the next seconds"
                    );
                }
            }
        }
    }

    async fn send(&self, spans: Vec<FinishedSpan>) -> Result<(), OTelSdkError> {
        let spans: Vec<SpanData> = spans.into_iter().map(|span| span.into_data(&self.scope)).collect();
        let client = self.client.get_or_try_init(|| self.connect()).await?;
        client.export(spans).await
    }

    async fn connect(&self) -> Result<SpanExporter, OTelSdkError> {
        let failed = |problem: String| OTelSdkError::InternalFailure(problem);
        let (url, signed) = match &self.destination {
            Destination::Collector(url) => (url.clone(), None),
            Destination::XRay => {
                let sdk = aws::sdk_config().await;
                let region = sdk.region().ok_or_else(|| failed("AWS_REGION is not set".to_owned()))?.to_string();
                // Source: CloudWatch documentation, "OTLP endpoints".
                (format!("https://xray.{region}.amazonaws.com/v1/traces"), Some(Signed { sdk, region }))
            }
        };
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_http_client(Client { sender: HttpSender::new(), signed })
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", self.service),
                KeyValue::new("service.namespace", "forebay"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        exporter.set_resource(&resource);
        Ok(exporter)
    }
}

/// Nothing here panics while it holds the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The HTTP client of the crate `aws`, so that there is no second one in a function. It makes no spans itself.
struct Client {
    sender: HttpSender,
    signed: Option<Signed>,
}

struct Signed {
    sdk: SdkConfig,
    region: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("signed", &self.signed.is_some()).finish()
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string();
        let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers: Vec<(String, String)> = parts.headers.iter().map(text).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let post = Post { url: &url, headers: &headers, body: &body };
        let signature =
            self.signed.as_ref().map(|signed| Signature { sdk: &signed.sdk, service: "xray", region: &signed.region });
        let reply = self.sender.send(post, signature).await?;
        Ok(Response::builder().status(reply.status).body(Bytes::from(reply.body))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::UserIdForm;
    use crate::span::{SpanClock, SpanRole};
    use pipeline::TraceContext;

    fn span() -> FinishedSpan {
        let clock = SpanClock::start();
        FinishedSpan {
            context: TraceContext::root(1.0),
            parent: None,
            name: "event-ingestion",
            role: SpanRole::Server,
            start: clock.started(),
            end: clock.now(),
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    fn exporter(url: &str) -> Exporter {
        let destination = Destination::Collector(url.to_owned());
        let settings =
            TraceSettings { destination: Some(destination.clone()), share: 1.0, user_id: UserIdForm::default() };
        Exporter::new("test", settings, destination)
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let exporter = exporter("http://127.0.0.1:9/v1/traces");
        for _ in 0..3 {
            exporter.keep(vec![span(); MAX_WAITING / 2 + 1]);
        }
        assert_eq!(lock(&exporter.waiting).len(), MAX_WAITING);
    }

    #[tokio::test]
    async fn a_collector_that_is_down_is_left_alone_for_a_while() {
        let exporter = exporter("http://127.0.0.1:9/v1/traces");
        exporter.keep(vec![span(); MAX_SENT_AT_ONCE * 2]);
        exporter.flush(Duration::from_secs(5)).await;
        assert!(lock(&exporter.waiting).is_empty(), "dropped");
        assert!(lock(&exporter.paused_until).is_some());
        let began = Instant::now();
        exporter.keep(vec![span(); MAX_WAITING]);
        exporter.flush(Duration::from_secs(5)).await;
        assert!(began.elapsed() < Duration::from_millis(100), "nothing is encoded or sent in the pause");
    }
}
