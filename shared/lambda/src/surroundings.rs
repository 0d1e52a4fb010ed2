//! What the platform says about a request besides the request itself. It is in the request's extensions.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Who sent the request, as far as the platform guarantees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The client itself, named by API Gateway or a function URL. Forwarding headers are ignored.
    Gateway(IpAddr),
    /// The TCP peer, which may be a proxy.
    Socket(IpAddr),
    /// A load balancer that does not name its own address. It added the client to `X-Forwarded-For`.
    LoadBalancer,
    /// The platform names no client.
    Unknown,
}

/// When the platform will stop the function. Only on Lambda.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// At most `wish`, shortened so that `reserve` is left before the deadline for sending an answer. Without a
    /// deadline, all of `wish`.
    pub fn at_most(deadline: Option<&Deadline>, wish: Duration, reserve: Duration) -> Duration {
        let left = |Deadline(at): &Deadline| at.saturating_duration_since(Instant::now()).saturating_sub(reserve);
        deadline.map(left).map_or(wish, |left| left.min(wish))
    }
}

/// Most bytes that the body of the answer may have, counted as they are inside a JSON string. Only on Lambda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerLimit(pub usize);

/// Becomes true when the process is asked to stop. An answer without an end must end then, or stopping waits for it. Not on
/// Lambda, where every answer has an end.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    pub(crate) fn new(stopping: watch::Receiver<bool>) -> Self {
        Stopping(stopping)
    }

    /// Returns when the process is asked to stop.
    pub async fn asked(&mut self) {
        // If the server is gone, so is the process.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for_past_the_deadline() {
        let (wish, reserve) = (Duration::from_secs(5), Duration::from_millis(500));
        let with = |left: Duration| Deadline::at_most(Some(&Deadline(Instant::now() + left)), wish, reserve);
        assert_eq!(Deadline::at_most(None, wish, reserve), wish);
        assert_eq!(with(Duration::from_secs(60)), wish);
        assert!(with(wish) <= wish - reserve);
        assert_eq!(with(reserve), Duration::ZERO);
        assert_eq!(with(Duration::ZERO), Duration::ZERO);
    }
}
