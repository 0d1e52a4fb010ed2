//! Guards of dependencies whose breakers are seen from outside: as a metric, and as a log line for each change.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use pipeline::Dependency;
use pipeline::breaker::{BreakerState, OPEN_FOR};
use pipeline::guard::Guard;

use crate::metrics::Gauge;
use crate::settings::Settings;

/// Reads `BREAKER_OPEN_SEC` (60): how long a breaker refuses calls before it probes, in seconds, at least 1.
pub fn open_for(settings: &mut Settings<'_>) -> Duration {
    settings.optional("BREAKER_OPEN_SEC").map_or(OPEN_FOR, |seconds: NonZeroU64| Duration::from_secs(seconds.get()))
}

/// A guard that reports its breaker's changes.
pub fn guard(dependency: Dependency, open_for: Duration) -> Guard {
    Guard::new(dependency, open_for, Arc::new(report))
}

fn report(dependency: Dependency, state: BreakerState) {
    Gauge::CircuitBreakerState.set(f64::from(state.as_metric()), &[("dependency", dependency.to_string())]);
    let dependency = dependency.as_str();
    match state {
        BreakerState::Open => tracing::warn!(dependency, "breaker opened: calls are refused until a probe succeeds"),
        BreakerState::HalfOpen => tracing::info!(dependency, "breaker half-open: probing"),
        BreakerState::Closed => tracing::info!(dependency, "breaker closed: the dependency is back"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_breaker_stays_open_for_some_time() {
        let read = |text: &'static str| {
            let variables = BTreeMap::from([("BREAKER_OPEN_SEC", text)]);
            let mut settings = Settings::new(&variables);
            let open_for = open_for(&mut settings);
            settings.build(Some(open_for)).ok()
        };
        assert_eq!(read(""), Some(OPEN_FOR));
        assert_eq!(read("5"), Some(Duration::from_secs(5)));
        assert_eq!(read("0"), None);
    }
}
