//! Logs: one JSON object per line on standard output, as CloudWatch and container platforms expect.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use settings::{ProcessEnvironment, Variables as _};

/// Installs the process-wide subscriber. `LOG_LEVEL` takes a level or `tracing` directives; default `info`, with
/// the chatty libraries at `warn`.
pub fn init(service: &'static str) {
    let directives =
        ProcessEnvironment.get("LOG_LEVEL").unwrap_or_else(|| "info,krafka=warn,aws=warn,hyper=warn".to_owned());
    let filter = EnvFilter::try_new(&directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let json =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
    // A second call, for example from two tests in one process, changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(json).try_init();
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "process starting");
}
