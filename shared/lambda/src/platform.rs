//! The platform on which the process runs, and how much time its calls have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use event::Timestamp;
use settings::{Settings, SettingsError, Variables};

/// Why a function could not start or keep serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("cannot listen on {address} (settings HTTP_BIND and PORT)")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the settings HTTP_BIND and OPERATIONS_PORT cannot be used")]
    Metrics(#[from] telemetry::StartError),
    #[error("the Lambda runtime client failed")]
    Lambda(#[source] lambda_runtime::Error),
}

/// Where the process runs.
pub(crate) enum Platform {
    Lambda,
    Http { address: SocketAddr, timeout: Duration, limits: ServerLimits },
}

const DEFAULT_CONNECTIONS: NonZeroU16 = NonZeroU16::MIN.saturating_add(511);

/// What clients of the plain HTTP server may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerLimits {
    /// `HEADER_TIMEOUT_MS`: longest time for the head of a request, in milliseconds; 10000.
    pub(crate) header_timeout: Duration,
    /// `BODY_TIMEOUT_MS`: longest time for the body of an invocation, in milliseconds; 10000. An HTTP function reads
    /// its bodies by itself.
    pub(crate) body_timeout: Duration,
    /// `IDLE_TIMEOUT_SEC`: how long a connection may wait for its next request, and for its client to take an answer,
    /// in seconds; 75, which is longer than the 60 s for which load balancers keep an idle connection.
    pub(crate) idle_timeout: Duration,
    /// `MAX_CONNECTIONS`: open connections; 512, half of the file descriptors that a process usually may open.
    pub(crate) connections: u16,
    /// `MAX_BODY_BYTES_IN_FLIGHT`: bytes of bodies that all open requests hold together; 67108864.
    pub(crate) body_bytes: usize,
}

impl ServerLimits {
    fn from_settings(settings: &mut Settings<'_>) -> Self {
        ServerLimits {
            header_timeout: Duration::from_millis(settings.or("HEADER_TIMEOUT_MS", 10_000)),
            body_timeout: Duration::from_millis(settings.or("BODY_TIMEOUT_MS", 10_000)),
            idle_timeout: Duration::from_secs(settings.or("IDLE_TIMEOUT_SEC", 75)),
            connections: settings.or("MAX_CONNECTIONS", DEFAULT_CONNECTIONS).get(),
            body_bytes: settings.or("MAX_BODY_BYTES_IN_FLIGHT", 64 * 1024 * 1024),
        }
    }
}

impl Platform {
    /// Lambda if the address of its Runtime API is set, else HTTP on `HTTP_BIND`:`PORT`.
    pub(crate) fn detect(variables: &dyn Variables) -> Result<Self, SettingsError> {
        if variables.get("AWS_LAMBDA_RUNTIME_API").is_some() {
            return Ok(Platform::Lambda);
        }
        let mut settings = Settings::new(variables);
        let port = settings.required::<u16>("PORT");
        // Loopback by default, so that a laptop does not offer its pipeline to the network.
        let bind = settings.or("HTTP_BIND", IpAddr::V4(Ipv4Addr::LOCALHOST));
        let timeout = Duration::from_secs(settings.or("FUNCTION_TIMEOUT_SEC", 60));
        let limits = ServerLimits::from_settings(&mut settings);
        let address = port.map(|port| SocketAddr::new(bind, port));
        settings.build(address.map(|address| Platform::Http { address, timeout, limits }))
    }
}

/// Time assumed to be left when the platform's deadline cannot be true.
const FALLBACK_BUDGET: Duration = Duration::from_secs(30);
/// Time assumed to be left when a call's deadline has passed before the call began.
const OVERDUE_BUDGET: Duration = Duration::from_secs(5);
/// Lambda's longest timeout.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Turns Lambda's deadline (milliseconds since the epoch) into a monotonic instant.
///
/// cargo-lambda sends 600,000 ms, i.e. ten minutes after the epoch. A deadline that far off has no meaning, so a fixed
/// time is assumed. A deadline that has just passed means that our clock is ahead of the platform's, because a call
/// starts with its whole timeout left. If the function believed it, no call would do anything until the clock is
/// corrected. If the deadline is right after all, the platform ends the call, and every handler can recover from that.
pub(crate) fn deadline_instant(deadline_ms: u64, now: Timestamp, instant: Instant) -> Instant {
    let deadline = Timestamp::from_millis(i64::try_from(deadline_ms).unwrap_or(i64::MAX));
    let left = deadline.since(now);
    let overdue = now.since(deadline);
    if left > LONGEST_TIMEOUT || overdue > LONGEST_TIMEOUT {
        instant + FALLBACK_BUDGET
    } else if left.is_zero() {
        instant + OVERDUE_BUDGET
    } else {
        instant + left
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_server_without_settings_has_limits() {
        let variables = BTreeMap::from([("PORT", "8080")]);
        let Ok(Platform::Http { limits, .. }) = Platform::detect(&variables) else { panic!("HTTP") };
        let second = Duration::from_secs(1);
        assert_eq!(
            (limits.header_timeout, limits.body_timeout, limits.idle_timeout),
            (10 * second, 10 * second, 75 * second)
        );
        assert_eq!((limits.connections, limits.body_bytes), (512, 67_108_864));
        let none = BTreeMap::from([("PORT", "8080"), ("MAX_CONNECTIONS", "0")]);
        assert!(Platform::detect(&none).is_err(), "a server that takes no connection");
    }

    #[test]
    fn a_deadline_is_honoured_if_it_can_be_true() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let instant = Instant::now();
        let left = |deadline: u64| deadline_instant(deadline, now, instant) - instant;
        assert_eq!(left(1_700_000_005_000), Duration::from_secs(5));
        assert_eq!(left(1_699_999_999_000), OVERDUE_BUDGET, "just passed");
        assert_eq!(left(600_000), FALLBACK_BUDGET, "cargo-lambda");
        assert_eq!(left(u64::MAX), FALLBACK_BUDGET);
        assert_eq!(left(0), FALLBACK_BUDGET);
        assert_eq!(left(1_700_000_000_000), OVERDUE_BUDGET, "right now");
    }

    #[test]
    fn a_clock_that_jumps_neither_stops_the_function_nor_gives_it_hours() {
        let (hour, instant) = (Duration::from_secs(3600), Instant::now());
        let now = Timestamp::from_millis(1_700_000_000_000);
        let deadline = 1_700_000_060_000;
        assert_eq!(deadline_instant(deadline, now.plus(hour), instant) - instant, FALLBACK_BUDGET);
        let back = Timestamp::from_millis(now.as_millis() - 3_600_000);
        assert_eq!(deadline_instant(deadline, back, instant) - instant, FALLBACK_BUDGET);
    }
}
