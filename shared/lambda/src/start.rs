//! How a function starts: its logs, its metrics, and how long it took until it could serve.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use pipeline::clock::{Clock as _, SystemClock};
use settings::{ProcessEnvironment, Settings};
use telemetry::Output;
use telemetry::list::{COLD_START_DURATION, COLD_STARTS, WORKER_HEALTH};
use traces::TraceSettings;

use crate::platform::ServeError;

/// How often spans are sent outside of Lambda, and the longest time for that.
const SPANS_EVERY: Duration = Duration::from_secs(1);
const SPANS_TIMEOUT: Duration = Duration::from_secs(5);

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Starts logs, metrics and traces: the first thing that a function does.
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port for metrics is taken.
pub fn start(service: &'static str) -> Result<(), ServeError> {
    let _ = STARTED.set(Instant::now());
    process::logs::init(service);
    let mut settings = Settings::new(&ProcessEnvironment);
    let output = Output::from_settings(&mut settings);
    let traces = TraceSettings::from_settings(&mut settings);
    let (output, traces) = settings.build(Some((output, traces)))?;
    output.start(service)?;
    traces::start(service, traces);
    Ok(())
}

/// From now on the function serves.
pub(crate) fn serving() {
    COLD_STARTS.add(1, []);
    if let Some(started) = STARTED.get() {
        COLD_START_DURATION.record(started.elapsed().as_secs_f64(), []);
    }
    worked(true);
}

/// Whether the last work ended without a fault of the service.
pub(crate) fn worked(well: bool) {
    WORKER_HEALTH.set(if well { 1.0 } else { 0.0 }, []);
}

/// Sends the spans and writes the metrics of an invocation. On Lambda at the end of each: the process may be frozen, or never get
/// another. The spans take at most half of the time that is left until `deadline`.
pub(crate) async fn end_invocation(deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    traces::flush(traces::FLUSH_TIMEOUT.min(left / 2)).await;
    telemetry::flush(SystemClock.now().as_millis());
}

/// Sends spans from time to time, for ever: where a process goes on between requests, no request has to wait for its spans.
/// Without traces it does nothing, for ever.
pub(crate) async fn send_spans() {
    if !traces::is_on() {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(SPANS_EVERY).await;
        traces::flush(SPANS_TIMEOUT).await;
    }
}
