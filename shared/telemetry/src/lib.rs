//! The metrics of every program: one list ([`list`]), and two ways out of a process.
//!
//! On Lambda nobody can ask an instance for its values, so each invocation ends with lines in CloudWatch's Embedded Metric
//! Format ([`emf`]). Everywhere else a Prometheus server asks for them on a port (`prometheus.rs`). A program chooses once, at its
//! start ([`Output`]). Until then, and in tests, values go nowhere and cost next to nothing.
//!
//! Does not own when an invocation ends, and which port is meant.

mod definition;
pub mod docs;
pub mod emf;
pub mod list;
mod output;
mod prometheus;

use std::net::SocketAddr;
use std::sync::OnceLock;

pub use self::definition::{Buckets, Counter, Definition, Gauge, Histogram, Kind, Unit};
pub use self::output::Output;
pub use self::prometheus::StartError;

/// The label that every series has: the program that wrote it, such as `processor`.
pub const SERVICE: &str = "service";

/// What [`flush`] writes.
static EMF: OnceLock<emf::EmfRecorder> = OnceLock::new();

/// From now on values are kept for [`flush`], which writes them in the Embedded Metric Format under `namespace`. Without
/// effect if the process has made its choice already.
fn start_emf(service: &'static str, namespace: &str, zeros: emf::Zeros) {
    let recorder = emf::EmfRecorder::new(service, namespace, zeros);
    if metrics::set_global_recorder(recorder.clone()).is_ok() {
        let _ = EMF.set(recorder);
    }
}

/// From now on values are served in Prometheus's text format, at any path of `address`, until the process ends. Must be
/// called within a tokio runtime.
///
/// # Errors
/// [`StartError`] if the address is taken, or the process has made its choice already.
pub fn start_prometheus(service: &'static str, address: SocketAddr) -> Result<(), StartError> {
    prometheus::start(service, address)
}

/// Writes what has changed since the last call to standard output, if the process writes for CloudWatch; `now_ms` is the
/// time in milliseconds since the epoch. A value that is recorded meanwhile is in this call or the next.
pub fn flush(now_ms: i64) {
    if let Some(recorder) = EMF.get() {
        emf::write(std::io::stdout(), &recorder.lines(now_ms));
    }
}
