//! How a function starts: its logs, its metrics, and how long it took until it could serve.

use std::sync::OnceLock;
use std::time::Instant;

use pipeline::clock::{Clock as _, SystemClock};
use settings::{ProcessEnvironment, Settings};
use telemetry::Output;
use telemetry::list::{COLD_START_DURATION, COLD_STARTS, WORKER_HEALTH};

use crate::platform::ServeError;

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Starts logs and metrics: the first thing that a function does.
///
/// # Errors
/// [`ServeError`] if the settings are bad or the port for metrics is taken.
pub fn start(service: &'static str) -> Result<(), ServeError> {
    let _ = STARTED.set(Instant::now());
    process::logs::init(service);
    let mut settings = Settings::new(&ProcessEnvironment);
    let output = Output::from_settings(&mut settings);
    Ok(settings.build(Some(output))?.start(service)?)
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

/// Writes what has been counted. On Lambda at the end of every invocation: the process may be frozen, or never get another.
pub(crate) fn flush_metrics() {
    telemetry::flush(SystemClock.now().as_millis());
}
