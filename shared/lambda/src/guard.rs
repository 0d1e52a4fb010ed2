//! Guards that report what they do, as metrics and log lines.

use std::sync::Arc;
use std::time::Duration;

use pipeline::Dependency;
use pipeline::breaker::BreakerState;
use pipeline::guard::{Guard, Observer};
use telemetry::list::{BREAKER_OPENED, BREAKER_STATE, DEPENDENCY_DURATION, DEPENDENCY_FAILURES, DEPENDENCY_RETRIES};

/// A guard that reports its breaker and its attempts. Its series are there from now on.
pub fn guard(dependency: Dependency, open_for: Duration) -> Guard {
    let label = [dependency.as_str()];
    BREAKER_STATE.begin(label);
    for counter in [BREAKER_OPENED, DEPENDENCY_FAILURES, DEPENDENCY_RETRIES] {
        counter.begin(label);
    }
    Guard::new(dependency, open_for, Arc::new(Reporter))
}

struct Reporter;

impl Observer for Reporter {
    fn breaker_changed(&self, dependency: Dependency, state: BreakerState) {
        let dependency = dependency.as_str();
        BREAKER_STATE.set(f64::from(state.as_metric()), [dependency]);
        match state {
            BreakerState::Open => {
                BREAKER_OPENED.add(1, [dependency]);
                tracing::warn!(dependency, "breaker opened: calls are refused until a probe succeeds");
            }
            BreakerState::HalfOpen => tracing::info!(dependency, "breaker half-open: one call probes the dependency"),
            BreakerState::Closed => tracing::info!(dependency, "breaker closed: the dependency answers again"),
        }
    }

    fn attempted(&self, dependency: Dependency, took: Duration, failed: bool) {
        let label = [dependency.as_str()];
        DEPENDENCY_DURATION.record(took.as_secs_f64(), label);
        if failed {
            DEPENDENCY_FAILURES.add(1, label);
        }
    }

    fn repeats(&self, dependency: Dependency) {
        DEPENDENCY_RETRIES.add(1, [dependency.as_str()]);
    }
}
