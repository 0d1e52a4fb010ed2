//! Logs: one JSON object per line on standard output, as CloudWatch and container platforms expect.

use settings::{ProcessEnvironment, Variables as _};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::log_filter::{DEFAULT, directives};

/// Installs the process-wide subscriber. `LOG_LEVEL` is a level, `info` by default, which is that of our own crates; libraries
/// write warnings and errors only, unless they are named, as in `info,krafka=debug`. A value that cannot be read counts as
/// the default, and a warning says so.
pub fn init(service: &'static str) {
    let level = ProcessEnvironment.get("LOG_LEVEL").unwrap_or_default();
    let (filter, problem) = match EnvFilter::try_new(directives(&level)) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(directives(DEFAULT)), Some(error)),
    };
    let mut json = json_subscriber::fmt::layer().flatten_event(true).with_current_span(false).with_span_list(false);
    json.inner_layer_mut().add_static_field("service", serde_json::Value::String(service.to_owned()));
    // A second call, for example from two tests in one process, changes nothing.
    let _ = tracing_subscriber::registry().with(filter).with(json).try_init();
    if let Some(error) = problem {
        tracing::warn!(%error, level, "LOG_LEVEL is neither a level nor tracing directives, using info");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
}
