//! Guards that report changes of their breaker as a metric and a log line.

use std::sync::Arc;
use std::time::Duration;

use pipeline::Dependency;
use pipeline::breaker::BreakerState;
use pipeline::guard::Guard;

use crate::metrics::Gauge;

/// A guard that reports its breaker's changes.
pub fn guard(dependency: Dependency, open_for: Duration) -> Guard {
    Guard::new(dependency, open_for, Arc::new(report))
}

fn report(dependency: Dependency, state: BreakerState) {
    Gauge::CircuitBreakerState.set(f64::from(state.as_metric()), &[("dependency", dependency.to_string())]);
    let dependency = dependency.as_str();
    match state {
        BreakerState::Open => tracing::warn!(dependency, "breaker opened: calls are refused until a probe succeeds"),
        BreakerState::HalfOpen => tracing::info!(dependency, "breaker half-open: one call probes the dependency"),
        BreakerState::Closed => tracing::info!(dependency, "breaker closed: the dependency answers again"),
    }
}
